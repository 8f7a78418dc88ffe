//! A subtree as it is now, and in the seconds before: what `edgescale top` and the page
//! of a node show.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bus::{Bus, Headers, TierClass, TierPath};
use futures::StreamExt;
use serde::Serialize;

use crate::node::client;
use crate::node::report::{Brief, Report};

/// How many sites are asked at once.
const SITES_AT_ONCE: usize = 64;
/// How long a site may take to answer.
pub const TIMEOUT: Duration = Duration::from_secs(2);
/// A site that was not heard for so long is not asked: all would wait for it.
const SILENT_MS_MIN: u64 = 10_000;

/// One site.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub site: TierPath,
    pub class: TierClass,
    pub version: String,
    /// False when it does not answer; what is unknown then is left out.
    pub up: bool,
    /// The way to its parent and back; nothing at the root, while the link is down, and of a site
    /// that does not answer.
    pub link_rtt_us: Option<u64>,
    #[serde(flatten)]
    pub now: Option<Now>,
}

/// What a site that answers says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Now {
    /// Invocations under way.
    pub in_flight: u64,
    /// Calls and HTTP requests that ended, per second.
    pub calls_per_s: f64,
    /// Events that were handed to handlers, per second.
    pub events_per_s: f64,
    /// Events that wait for handlers or for the way up.
    pub waiting: u64,
    pub dead_letters: u64,
    /// How long runs of handlers took, since the node started: of the busiest handler. Nothing
    /// where none ran.
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
    pub devices: Vec<String>,
    pub rss_bytes: u64,
}

/// The sites of a subtree at one moment.
pub struct Look {
    at: Instant,
    brief: Brief,
    /// Of each site that answered.
    pub reports: BTreeMap<TierPath, Report>,
}

/// Asks each site of a tree how it is, but those of which that is known.
pub async fn look(bus: &Bus, brief: Brief, known: BTreeMap<TierPath, Report>) -> Look {
    let at = Instant::now();
    let heard = std::iter::once(&brief).chain(brief.heard_below(SILENT_MS_MIN));
    let asked = heard.filter(|site| !known.contains_key(&site.path)).map(|site| async {
        let path = site.path.clone();
        let subject = format!("ctl.{path}._.status");
        let answer = bus.request(&subject, &Headers::new(), "", TIMEOUT).await.ok()?;
        Some((path, client::json(&answer).ok()?))
    });
    let asked: Vec<_> = asked.collect();
    let answers = futures::stream::iter(asked).buffer_unordered(SITES_AT_ONCE);
    let mut reports = known;
    reports.extend(answers.filter_map(std::future::ready).collect::<Vec<_>>().await);
    Look { at, brief, reports }
}

/// A site and those below it, parents first.
fn sites(brief: &Brief) -> impl Iterator<Item = &Brief> {
    std::iter::once(brief).chain(brief.below())
}

/// What changed between two looks, parents first.
pub fn rows(before: &Look, now: &Look) -> Vec<Row> {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64().max(1e-3);
    let row = |brief: &Brief| {
        let report = now.reports.get(&brief.path);
        // Of a site that does not answer, what was last heard is no news.
        let link = report.and(brief.link.as_ref()).filter(|link| link.up);
        Row {
            site: brief.path.clone(),
            class: brief.class,
            version: brief.version.clone(),
            up: report.is_some(),
            link_rtt_us: link.map(|link| link.rtt_us),
            now: report.map(|report| said(before.reports.get(&brief.path), report, seconds)),
        }
    };
    sites(&now.brief).map(row).collect()
}

fn said(before: Option<&Report>, now: &Report, seconds: f64) -> Now {
    let rate = |count: fn(&Report) -> u64| {
        let before = match before {
            Some(before) if before.pid == now.pid => count(before),
            // A node that was started again counts from 0.
            Some(_) => 0,
            // When it counted what it has, nobody saw.
            None => count(now),
        };
        count(now).saturating_sub(before) as f64 / seconds
    };
    let runs = now.metrics.times.iter().filter(|(name, _)| name.starts_with("run "));
    let busiest = runs.map(|(_, times)| *times).max_by_key(|times| times.count);
    let busiest = busiest.filter(|times| times.count > 0);
    Now {
        in_flight: now.brief.in_flight,
        calls_per_s: rate(calls),
        events_per_s: rate(|report| count(report, "events delivered")),
        waiting: now.events_waiting,
        dead_letters: now.dead_letters,
        p50_us: busiest.map(|times| times.p50_us),
        p99_us: busiest.map(|times| times.p99_us),
        devices: now.brief.devices.clone(),
        rss_bytes: now.rss_bytes,
    }
}

fn calls(report: &Report) -> u64 {
    ["call", "http"]
        .iter()
        .filter_map(|name| report.metrics.times.get(*name))
        .map(|t| t.count)
        .sum()
}

fn count(report: &Report, name: &str) -> u64 {
    report.metrics.counts.get(name).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
