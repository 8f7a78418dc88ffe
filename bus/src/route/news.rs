//! What sites tell each other of themselves with each heartbeat, and what of it goes into a view:
//! bounded, and as old as it is. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::policy::{Devices, Pace, ParentView, Site};
use crate::path::{DEPTH_MAX, TierClass, TierPath};

/// How often a node speaks to its parent.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How many tables and how many queues a site speaks of.
pub const TABLES_MAX: usize = 64;
pub const QUEUES_MAX: usize = 32;
/// How many handlers it names whose code it has; of one with more that is not known.
pub const INSTALLED_MAX: usize = 64;
/// A rise of the round-trip time counts for this share, a fall for all: one late heartbeat does
/// not make the parent far.
const RISE_SHARE: u32 = 4;
/// A request is not believed to make others wait for longer.
const EACH_US_MAX: u64 = 3_600_000_000;

/// What a site has for requests, as the router weighs it; bounded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Offers {
    pub devices: Devices,
    /// Tables of which it holds every row.
    pub tables: BTreeSet<String>,
    /// How long a new request would wait, in ms, by `app/handler`; the longest waits only.
    pub waits_ms: BTreeMap<String, u64>,
    /// How requests lengthen those, by `app/handler`; the slowest handlers only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub paces: BTreeMap<String, Pace>,
    /// The handlers, as `app/handler`, whose code it has; nothing where there are too many to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<BTreeSet<String>>,
}

impl Offers {
    /// The longest of a site's queues, as it tells them.
    pub fn longest(mut waits: Vec<(String, Duration)>) -> BTreeMap<String, u64> {
        waits.sort_by_key(|(_, wait)| std::cmp::Reverse(*wait));
        waits.truncate(QUEUES_MAX);
        waits.into_iter().map(|(key, wait)| (key, wait.as_millis() as u64)).collect()
    }

    /// The slowest of a site's handlers, as it tells them.
    pub fn slowest(mut paces: Vec<(String, Pace)>) -> BTreeMap<String, Pace> {
        paces.sort_by_key(|(_, pace)| std::cmp::Reverse(pace.each_us));
        paces.truncate(QUEUES_MAX);
        paces.into_iter().collect()
    }

    /// The site that has this, as far as others take it in.
    pub fn site(self, path: TierPath, class: TierClass, rtt: Duration, heard: Instant) -> Site {
        let Self { devices, tables, waits_ms, paces, installed } = self;
        let waits = waits_ms.into_iter().take(QUEUES_MAX);
        let waits = waits.map(|(key, ms)| (key, Duration::from_millis(ms))).collect();
        let bounded = |pace: Pace| Pace { each_us: pace.each_us.min(EACH_US_MAX), ..pace };
        let paces = paces.into_iter().take(QUEUES_MAX);
        let paces = paces.map(|(key, pace)| (key, bounded(pace))).collect();
        let tables = tables.into_iter().take(TABLES_MAX).collect();
        let installed = installed.filter(|all| all.len() <= INSTALLED_MAX);
        let bytes_per_s = None;
        Site { path, class, devices, tables, waits, paces, installed, rtt, bytes_per_s, heard }
    }
}

/// The parent's answer to a heartbeat.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Welcome {
    /// The revision of the registry that the parent has.
    pub revision: u64,
    /// The parent and the sites above it, nearest first.
    #[serde(default)]
    pub above: Vec<News>,
    /// Where the parent's further servers take children's links, as far as its node knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<Vec<String>>,
}

/// What one site knows of another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct News {
    path: TierPath,
    class: TierClass,
    offers: Offers,
    /// The way there and back from who tells this.
    rtt_us: u64,
    /// How fast a body comes there from who tells this, as far as that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes_per_s: Option<u64>,
    /// How old this is.
    age_ms: u64,
}

/// What a child is told: of the site itself and of those above it.
pub fn tell(here: &Site, above: &[Site], now: Instant) -> Vec<News> {
    let sites = std::iter::once(here).chain(above).take(DEPTH_MAX - 1);
    sites.map(|site| News::of(site, now)).collect()
}

/// What a site below makes of it, `rtt` away from who told; bodies come there at `link`, and to the
/// sites above it as `own` says. What is not above this site is left out.
pub fn take(
    told: Vec<News>,
    here: &TierPath,
    (rtt, link): (Duration, Option<u64>),
    own: impl Fn(&TierPath) -> Option<u64>,
    now: Instant,
) -> Vec<Site> {
    let told = told.into_iter().zip(here.ancestors());
    let told = told.take_while(|(news, ancestor)| news.path == *ancestor);
    let above = told.map(|(news, _)| {
        let site = news.site(rtt, link, now);
        // What went there straight tells more than what is known of the links on the way.
        Site { bytes_per_s: own(&site.path).or(site.bytes_per_s), ..site }
    });
    above.collect()
}

/// The round-trip time after one more measurement.
pub fn smooth(before: &ParentView, measured: Duration) -> Duration {
    match before {
        ParentView::Near { rtt, .. } if measured > *rtt => *rtt + (measured - *rtt) / RISE_SHARE,
        _ => measured,
    }
}

impl News {
    fn of(site: &Site, now: Instant) -> Self {
        let waits = site.waits.iter().map(|(key, wait)| (key.clone(), wait.as_millis() as u64));
        Self {
            path: site.path.clone(),
            class: site.class,
            offers: Offers {
                devices: site.devices,
                tables: site.tables.clone(),
                waits_ms: waits.collect(),
                paces: site.paces.clone(),
                installed: site.installed.clone(),
            },
            rtt_us: site.rtt.as_micros() as u64,
            bytes_per_s: site.bytes_per_s,
            age_ms: now.saturating_duration_since(site.heard).as_millis() as u64,
        }
    }

    /// As this site sees it, `rtt` away from who told; bodies come to them at `link`.
    fn site(self, rtt: Duration, link: Option<u64>, now: Instant) -> Site {
        let Self { path, class, offers, rtt_us, bytes_per_s, age_ms } = self;
        let heard = now.checked_sub(Duration::from_millis(age_ms)).unwrap_or(now);
        let bytes_per_s = link.into_iter().chain(bytes_per_s).min();
        let rtt = rtt + Duration::from_micros(rtt_us);
        Site { bytes_per_s, ..offers.site(path, class, rtt, heard) }
    }
}
