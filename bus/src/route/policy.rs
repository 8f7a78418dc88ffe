//! Where a request goes: here, up, down to a site that has what it needs, or nowhere and why.
//! Pure: no clock, no I/O, no randomness.
//!
//! A request climbs towards the root until a site may run it; tiers that would only pass it on are
//! not asked. It leaves the path downwards only, towards its user where he is said to be below, or
//! to a device that no site on that path has; and what came from above never climbs again. So it
//! cannot go round in circles, whatever the sites believe of each other.
//!
//! How far a site is, is the time there and back and that of the body there, where it was measured.
//! A queue that was heard of is worked off while nothing new is heard of it, and one in which a
//! request would be late is not joined
//! ([decision 0145](../../../docs/decisions/0145-queues-are-judged-by-when-a-request-is-done.md)).
//! What has gone there since counts at once
//! ([decision 0150](../../../docs/decisions/0150-what-was-sent-counts-before-it-is-heard-of.md)).

mod placement;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::message::HOPS_MAX;
use crate::path::{TierClass, TierPath};
use crate::{Refusal, RefusalKind};
pub use placement::{Devices, Fit, Placement};
use placement::{class_word, words};

/// How much sooner a tier further up must be done before a request leaves this one for it.
pub const SPILL_MARGIN: Duration = Duration::from_millis(20);
/// What was heard of a site other than the parent counts for this long.
pub const STALE_AFTER: Duration = Duration::from_secs(10);
/// What it costs to bring a handler's code to a site that does not have it. Counts where sites are
/// compared, and keeps no request from one: the code comes because of requests.
pub const INSTALL: Duration = Duration::from_secs(1);
/// A run behind a queue counts so many times: it may take longer than usual, as may those before
/// it.
const RUNS: u32 = 2;
/// How many queues of one site are known at most, heard of or found full.
const WAITS_MAX: usize = 128;

/// What is known of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub path: TierPath,
    pub class: TierClass,
    pub devices: Devices,
    /// The tables, by their names in the store, of which it holds every row.
    pub tables: BTreeSet<String>,
    /// How long a new request would wait for its turn, by `app/handler`; what is not in it would
    /// not wait.
    pub waits: BTreeMap<String, Duration>,
    /// How requests lengthen that, by `app/handler`; of what is not in it that is not known.
    pub paces: BTreeMap<String, Pace>,
    /// The handlers, as `app/handler`, whose code it has; none where that is not known.
    pub installed: Option<BTreeSet<String>>,
    /// The way there and back.
    pub rtt: Duration,
    /// How fast a body comes there, as far as that was measured; at least 1.
    pub bytes_per_s: Option<u64>,
    /// When this was true.
    pub heard: Instant,
}

/// How a site works off the requests for a handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// How much longer each makes the next one wait, once no place is free.
    pub each_us: u64,
    /// How many places are free.
    #[serde(default)]
    pub free: u32,
}

impl Site {
    /// A site of which nothing is known but what it is.
    pub fn new(path: TierPath, class: TierClass, heard: Instant) -> Self {
        let (devices, tables, waits, paces, installed, rtt, bytes_per_s) = Default::default();
        Self { path, class, devices, tables, waits, paces, installed, rtt, bytes_per_s, heard }
    }

    /// How long a body of so many bytes takes to come there, beside the time there and back.
    fn transfer(&self, bytes: usize) -> Duration {
        let us = |rate| (bytes as u64).saturating_mul(1_000_000) / u64::max(rate, 1);
        Duration::from_micros(self.bytes_per_s.map_or(0, us))
    }

    /// What is left by now of a queue that was heard of: it is worked off since.
    fn queue(&self, key: &str, now: Instant) -> Duration {
        let heard = self.waits.get(key).copied().unwrap_or_default();
        heard.saturating_sub(now.saturating_duration_since(self.heard))
    }

    /// How long a new request would wait: behind that, and what has gone there since.
    fn wait(&self, wanted: &Wanted<'_>) -> Duration {
        let sent = wanted.sent.iter().find(|(to, _)| *to == self.path).map_or(0, |(_, sent)| *sent);
        let more = match self.paces.get(wanted.key) {
            Some(pace) if sent > 0 => {
                // A new one has to find a place too, where some are free.
                let behind = sent.saturating_add(u32::from(pace.free > 0));
                let each = Duration::from_micros(pace.each_us);
                each.saturating_mul(behind.saturating_sub(pace.free))
            }
            _ => Duration::ZERO,
        };
        self.queue(wanted.key, wanted.now) + more
    }

    /// How long an answer from there takes to begin, where the code is there.
    fn delay(&self, wanted: &Wanted<'_>) -> Duration {
        self.rtt + self.transfer(wanted.bytes) + self.wait(wanted)
    }

    /// How soon it would begin, for comparing sites.
    fn cost(&self, wanted: &Wanted<'_>) -> Duration {
        let lacks_code = self.installed.as_ref().is_some_and(|all| !all.contains(wanted.key));
        self.delay(wanted) + if lacks_code { INSTALL } else { Duration::ZERO }
    }

    /// True when it is not known that an answer from there would be late.
    fn is_in_time(&self, wanted: &Wanted<'_>) -> bool {
        let way = self.rtt + self.transfer(wanted.bytes);
        wanted.is_in_time(way, self.wait(wanted))
    }
}

/// What the router needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Tiers crossed so far.
    pub hops: u32,
    pub time_left: Duration,
    /// How large its body is.
    pub bytes: usize,
    /// It was sent down to this site.
    pub from_above: bool,
    /// It has an idempotency key: it climbs by every tier, because each remembers what it answered.
    pub keyed: bool,
    /// The site where its user is, when that is not this one.
    pub user_at: Option<&'a TierPath>,
    /// How many requests for its handler have gone to other sites, and are not back, since those
    /// were heard of.
    pub sent: &'a [(TierPath, u32)],
}

/// What this node knows of the handler that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandlerView<'a> {
    /// No app of that name is known here.
    AppUnknown { app: &'a str },
    /// The app has no such function.
    Missing { app: &'a str, name: &'a str },
    /// The handler is known.
    Known { key: &'a str, placement: &'a Placement, code: CodeView },
}

/// The handler's code at this site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeView {
    /// It is not here yet.
    Absent,
    /// It can run; a new request would wait this long, and then take this long, as far as that is
    /// known.
    Ready { wait: Duration, run: Duration },
}

/// The parent as last heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParentView {
    /// This is the root.
    None,
    /// It did not answer lately.
    Away { path: TierPath },
    /// It answers.
    Near { path: TierPath, rtt: Duration },
}

/// What a site believes of the tree.
#[derive(Clone, Debug)]
pub struct View {
    pub here: Site,
    pub parent: ParentView,
    /// The sites above, nearest first; the first is the parent.
    pub above: Vec<Site>,
    /// The sites below, in no order.
    pub below: Vec<Site>,
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Run it here.
    Run,
    /// Fetch the code, then run it here.
    InstallThenRun,
    /// Pass it on to a site above, and fetch the code behind it when `install` says so.
    Escalate { to: TierPath, install: bool },
    /// Send it down to a site that has what it needs.
    Send { to: TierPath },
    /// Say no, and why.
    Refuse(Refusal),
}

/// Decides.
pub fn decide(asked: &Asked<'_>, handler: &HandlerView<'_>, view: &View, now: Instant) -> Decision {
    if asked.time_left.is_zero() {
        return refuse(view, RefusalKind::DeadlineExceeded, "deadline exceeded".into());
    }
    if asked.hops > HOPS_MAX {
        let text = format!("{} hops: the request goes in circles", asked.hops);
        return refuse(view, RefusalKind::Internal, text);
    }
    let (wanted, code) = match *handler {
        HandlerView::AppUnknown { app } if view.is_end(asked) => {
            let text = format!("no app {app:?} is registered");
            return refuse(view, RefusalKind::NotFound, text);
        }
        HandlerView::AppUnknown { .. } => return up(asked, view, None, None),
        HandlerView::Missing { app, name } => {
            let text = format!("app {app:?} has no function {name:?}");
            return refuse(view, RefusalKind::NotFound, text);
        }
        HandlerView::Known { key, placement, code } => {
            (Wanted::of(asked, (key, placement, code), now), code)
        }
    };
    let placement = wanted.placement;
    if let Some(site) = view.towards_user(asked, &wanted) {
        return Decision::Send { to: site.path.clone() };
    }
    match placement.fit(&view.here) {
        Fit::Here => here_or_up(asked, view, &wanted, code),
        Fit::Rather => match view.delay_above(asked, &wanted, |fit| fit == Fit::Here) {
            Some(delay) if delay < asked.time_left => {
                let lets_go = |fit| matches!(fit, Fit::Above | Fit::Rather);
                Decision::Escalate { to: view.first_above(asked, &wanted, lets_go), install: false }
            }
            _ => here_or_up(asked, view, &wanted, code),
        },
        Fit::Above if !view.is_end(asked) => {
            up(asked, view, Some(&wanted), view.delay_above(asked, &wanted, may_run))
        }
        Fit::NoDevice => where_the_device_is(asked, view, &wanted),
        Fit::Above | Fit::Below => nowhere(view, placement),
    }
}

/// Where a request that is passed on will most likely run: of the sites that may run it, the one
/// that would begin soonest.
pub fn bound_for(
    decision: &Decision,
    asked: &Asked<'_>,
    handler: &HandlerView<'_>,
    view: &View,
    now: Instant,
) -> Option<TierPath> {
    let HandlerView::Known { key, placement, code } = *handler else { return None };
    match decision {
        Decision::Send { to } => Some(to.clone()),
        Decision::Escalate { .. } => {
            let wanted = Wanted::of(asked, (key, placement, code), now);
            let able = view.above(asked, &wanted, may_run);
            let rank = |site: &&Site| (placement.fit(site) != Fit::Here, site.cost(&wanted));
            able.min_by_key(rank).map(|site| site.path.clone())
        }
        _ => None,
    }
}

/// The handler that a place is sought for, and what its request brings.
struct Wanted<'a> {
    key: &'a str,
    placement: &'a Placement,
    bytes: usize,
    left: Duration,
    /// How long it runs.
    run: Duration,
    sent: &'a [(TierPath, u32)],
    now: Instant,
}

impl<'a> Wanted<'a> {
    fn of(
        asked: &Asked<'a>,
        (key, placement, code): (&'a str, &'a Placement, CodeView),
        now: Instant,
    ) -> Self {
        let run = match code {
            CodeView::Ready { run, .. } => run,
            CodeView::Absent => Duration::ZERO,
        };
        let Asked { bytes, time_left: left, sent, .. } = *asked;
        Self { key, placement, bytes, left, run, sent, now }
    }

    fn is_fresh(&self, site: &Site) -> bool {
        self.now.saturating_duration_since(site.heard) < STALE_AFTER
    }

    /// True when it is not known that the answer would be late. How long it runs counts behind a
    /// queue only: who has a free place tries, or a handler that was slow would never run again.
    fn is_in_time(&self, way: Duration, wait: Duration) -> bool {
        let run = if wait.is_zero() { Duration::ZERO } else { self.run };
        way + wait + RUNS * run < self.left
    }
}

fn may_run(fit: Fit) -> bool {
    matches!(fit, Fit::Here | Fit::Rather)
}

fn is_above(fit: Fit) -> bool {
    fit == Fit::Above
}

impl View {
    /// True where a request can climb no further, whatever the links do.
    fn is_end(&self, asked: &Asked<'_>) -> bool {
        asked.from_above || self.parent == ParentView::None
    }

    /// The sites further up that stand so to the handler; none when they cannot be reached.
    fn above<'a>(
        &'a self,
        asked: &Asked<'_>,
        wanted: &'a Wanted<'_>,
        good: fn(Fit) -> bool,
    ) -> impl Iterator<Item = &'a Site> {
        let can_climb = !asked.from_above && matches!(self.parent, ParentView::Near { .. });
        let above = if can_climb { self.above.as_slice() } else { &[] };
        // What the parent is does not age while it answers.
        let heard = |(at, site): &(usize, &Site)| *at == 0 || wanted.is_fresh(site);
        let sites = above.iter().enumerate().filter(heard).map(|(_, site)| site);
        sites.filter(move |site| good(wanted.placement.fit(site)))
    }

    /// How long an answer from further up takes to begin at best.
    fn delay_above(
        &self,
        asked: &Asked<'_>,
        wanted: &Wanted<'_>,
        good: fn(Fit) -> bool,
    ) -> Option<Duration> {
        self.above(asked, wanted, good).map(|site| site.delay(wanted)).min()
    }

    /// How soon one further up would begin with a request that it can answer in time.
    fn cost_above(&self, asked: &Asked<'_>, wanted: &Wanted<'_>) -> Option<Duration> {
        let above = self.above(asked, wanted, may_run).filter(|site| site.is_in_time(wanted));
        above.map(|site| site.cost(wanted)).min()
    }

    /// The nearest site above of which it is not known that it would only pass the request on; the
    /// parent where that is known of all, and for a request with a key.
    fn first_above(
        &self,
        asked: &Asked<'_>,
        wanted: &Wanted<'_>,
        passes_on: fn(Fit) -> bool,
    ) -> TierPath {
        if asked.keyed {
            return self.parent_path();
        }
        let heard = |(at, site): &(usize, &Site)| *at == 0 || wanted.is_fresh(site);
        let mut known = self.above.iter().enumerate().take_while(heard).map(|(_, site)| site);
        let serves = |site: &&Site| !passes_on(wanted.placement.fit(site));
        let first = known.find(serves).or(self.above.first());
        first.map_or_else(|| self.parent_path(), |site| site.path.clone())
    }

    /// How long a request's body takes to come to the parent.
    fn transfer_up(&self, asked: &Asked<'_>) -> Duration {
        self.above.first().map_or(Duration::ZERO, |parent| parent.transfer(asked.bytes))
    }

    fn parent_path(&self) -> TierPath {
        match &self.parent {
            ParentView::Near { path, .. } | ParentView::Away { path } => path.clone(),
            ParentView::None => self.here.path.clone(),
        }
    }

    /// The site below that is nearest to the user, of those on the way to him that may run the
    /// handler and are known to make it in time.
    fn towards_user(&self, asked: &Asked<'_>, wanted: &Wanted<'_>) -> Option<&Site> {
        let user_at = asked.user_at.filter(|_| !asked.from_above)?;
        let on_the_way = |site: &&Site| {
            site.path != self.here.path
                && self.here.path.contains(&site.path)
                && site.path.contains(user_at)
                && wanted.is_fresh(site)
                && may_run(wanted.placement.fit(site))
                && site.is_in_time(wanted)
        };
        self.below.iter().filter(on_the_way).max_by_key(|site| site.path.depth())
    }

    /// The sites below that may run it.
    fn below<'a>(&'a self, wanted: &'a Wanted<'_>) -> impl Iterator<Item = &'a Site> {
        let able = |site: &&Site| wanted.is_fresh(site) && may_run(wanted.placement.fit(site));
        self.below.iter().filter(able)
    }

    /// When a site was heard of.
    pub fn heard(&self, path: &TierPath) -> Option<Instant> {
        self.site(path).map(|site| site.heard)
    }

    fn site(&self, path: &TierPath) -> Option<&Site> {
        self.above.iter().chain(&self.below).find(|site| site.path == *path)
    }

    /// What another site is told of the time left: the way there and back is not its own to spend.
    pub fn budget(&self, to: &TierPath, left: Duration) -> Duration {
        left.saturating_sub(self.site(to).map_or(Duration::ZERO, |site| site.rtt))
    }

    /// What is to be noted of the queues of sites when one has refused a request that had `left`,
    /// and named the time after which to come back: it would have passed it on to one above that
    /// had room. Nothing of those of which as much is known.
    pub fn full(&self, refused: &Refused<'_>, now: Instant) -> Vec<(TierPath, Duration)> {
        let Refused { by, key, left, run, retry_after } = *refused;
        let above = self.above.iter().skip_while(|site| site.path != *by);
        let below = self.below.iter().filter(|site| site.path == *by);
        let noted = above.chain(below).filter_map(|site| {
            let has_room = site.waits.len() < WAITS_MAX || site.waits.contains_key(key);
            let wait = match site.path == *by {
                // Nobody comes back for one place: by then others have come.
                true => (left + retry_after).saturating_sub(RUNS * run) * 3 / 2,
                // When those above it have room, it does not say.
                false => left.saturating_sub(RUNS * run),
            };
            // It ages with the rest of what was heard of the site.
            let wait = wait + now.saturating_duration_since(site.heard);
            let known = site.waits.get(key).copied().unwrap_or_default();
            (has_room && known < wait).then(|| (site.path.clone(), wait))
        });
        noted.collect()
    }

    /// Notes it, until the sites are heard of again.
    pub fn note_full(&mut self, key: &str, full: &[(TierPath, Duration)]) {
        for site in self.above.iter_mut().chain(&mut self.below) {
            if let Some((_, wait)) = full.iter().find(|(path, _)| *path == site.path) {
                site.waits.insert(key.to_owned(), *wait);
            }
        }
    }
}

/// A request that another site was too busy for.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    pub by: &'a TierPath,
    pub key: &'a str,
    /// The time that it had left there.
    pub left: Duration,
    /// How long it runs, as far as that is known.
    pub run: Duration,
    pub retry_after: Duration,
}

/// Runs here, unless a tier further up is sooner done or the code is not here yet.
fn here_or_up(asked: &Asked<'_>, view: &View, wanted: &Wanted<'_>, code: CodeView) -> Decision {
    let above = view.cost_above(asked, wanted);
    let to = || view.first_above(asked, wanted, is_above);
    let go_up = |install| Decision::Escalate { to: to(), install };
    let fits = |wait| wanted.is_in_time(Duration::ZERO, wait);
    match (code, above) {
        (CodeView::Absent, Some(_)) => go_up(true),
        (CodeView::Absent, None) => Decision::InstallThenRun,
        (CodeView::Ready { wait, .. }, Some(cost)) if wait > cost + SPILL_MARGIN => go_up(false),
        (CodeView::Ready { wait, .. }, _) if fits(wait) => Decision::Run,
        (CodeView::Ready { .. }, Some(_)) => go_up(false),
        (CodeView::Ready { wait, run }, None) => overloaded(view, wait + RUNS * run - wanted.left),
    }
}

/// Goes to the nearest site that has the device: up while the path has one, down otherwise.
fn where_the_device_is(asked: &Asked<'_>, view: &View, wanted: &Wanted<'_>) -> Decision {
    if !asked.from_above {
        let above = view.cost_above(asked, wanted);
        let in_time = view.below(wanted).filter(|site| site.is_in_time(wanted));
        // The one that would begin soonest.
        let below = in_time.min_by_key(|site| site.cost(wanted));
        match (above, below) {
            (Some(above), Some(below)) if below.cost(wanted) >= above => {
                let to = view.first_above(asked, wanted, is_above);
                return Decision::Escalate { to, install: false };
            }
            (_, Some(below)) => return Decision::Send { to: below.path.clone() },
            // Who is further up may know of one elsewhere.
            (_, None) if view.parent != ParentView::None => {
                let delay = view.delay_above(asked, wanted, may_run);
                return up(asked, view, Some(wanted), delay);
            }
            (_, None) => {}
        }
        if let Some(delay) = view.below(wanted).map(|site| site.delay(wanted)).min() {
            return overloaded(view, (delay + RUNS * wanted.run).saturating_sub(wanted.left));
        }
    }
    let lacks = wanted.placement.needs.without(view.here.devices).words();
    let text = format!("no {lacks} within reach: the handler needs it and {}", view.here.path);
    refuse(view, RefusalKind::NoHandler, format!("{text} has none"))
}

fn overloaded(view: &View, short_of: Duration) -> Decision {
    let retry_after_ms = (short_of.as_millis() as u64).saturating_add(1);
    let text = format!("overloaded, retry after {retry_after_ms} ms");
    let mut refusal = Refusal::new(RefusalKind::Overloaded, text).at(view.here.path.as_str());
    refusal.retry_after_ms = Some(retry_after_ms);
    Decision::Refuse(refusal)
}

fn nowhere(view: &View, placement: &Placement) -> Decision {
    let text = format!(
        "no handler on the path to the root: it is placed at {}, and {} is a {}",
        words(placement),
        view.here.path,
        class_word(view.here.class)
    );
    refuse(view, RefusalKind::NoHandler, text)
}

/// Climbs, when the parent is there and what is known of the sites above leaves time enough.
fn up(
    asked: &Asked<'_>,
    view: &View,
    wanted: Option<&Wanted<'_>>,
    delay: Option<Duration>,
) -> Decision {
    let left = asked.time_left;
    match &view.parent {
        ParentView::Near { path, rtt } if *rtt + view.transfer_up(asked) >= left => {
            let (left, rtt) = (left.as_millis(), rtt.as_millis());
            let body = match view.transfer_up(asked).as_millis() {
                0 => String::new(),
                ms => format!(", and the body takes {ms} ms to come there"),
            };
            let text = format!("deadline exceeded: {left} ms left, {path} is {rtt} ms away{body}");
            refuse(view, RefusalKind::DeadlineExceeded, text)
        }
        ParentView::Near { .. } => match delay {
            Some(delay) if delay >= left => overloaded(view, delay - left),
            _ => {
                let to = match wanted {
                    Some(wanted) => view.first_above(asked, wanted, is_above),
                    None => view.parent_path(),
                };
                Decision::Escalate { to, install: false }
            }
        },
        ParentView::Away { path } => {
            let text = format!("parent {path} does not answer; retry when the link is back");
            refuse(view, RefusalKind::Unavailable, text)
        }
        ParentView::None => {
            refuse(view, RefusalKind::NoHandler, "no handler on the path to the root".into())
        }
    }
}

fn refuse(view: &View, kind: RefusalKind, text: String) -> Decision {
    let text = format!("{text} (at {})", view.here.path);
    Decision::Refuse(Refusal::new(kind, text).at(view.here.path.as_str()))
}

#[cfg(test)]
mod tests;
