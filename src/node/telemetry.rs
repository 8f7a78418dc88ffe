//! What a node says of itself on `tel.` for whoever listens: its numbers, every
//! [`METRICS_EVERY`], and what becomes of it, its apps, its link and its children. Log lines,
//! devices and dead letters have their own ways there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Headers, TierPath};
use handlers::metrics::Snapshot;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Node;
use super::report::{LinkReport, rss_bytes};

/// How often the numbers are told.
pub const METRICS_EVERY: Duration = Duration::from_secs(10);
/// How many bytes of counts and durations are told at once; further ones are left out.
const METRICS_BYTES_MAX: usize = 256 << 10;
/// How often it is looked what has changed: what comes and goes in between is not told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many changes are told of one look.
const CHANGES_MAX: usize = 64;
/// A child that was silent for longer is away.
const AWAY_MS: u64 = 5_000;
/// How long the last word of a node may take.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(1);
/// What a count and a duration take as JSON, beside their names.
const COUNT_BYTES: usize = 24;
const TIMES_BYTES: usize = 160;

/// `tel.<site>._.metrics`: a node at one moment; counts and durations are since its start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Numbers {
    /// RFC 3339.
    pub time: String,
    pub site: TierPath,
    pub version: String,
    pub uptime_s: u64,
    pub rss_bytes: u64,
    /// Invocations under way, and so far.
    pub in_flight: u64,
    pub invocations: u64,
    pub apps: usize,
    pub sites_below: usize,
    /// The link to the parent; none at the root.
    pub link: Option<LinkReport>,
    /// Changes of the store that the parent does not have yet.
    pub changes_waiting: u64,
    pub metrics: Snapshot,
    /// How many counts and durations did not fit.
    pub left_out: usize,
}

/// `tel.<site>._.life.<what>.<change>`: something that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Life {
    /// RFC 3339.
    pub time: String,
    pub site: TierPath,
    #[serde(flatten)]
    pub change: Change,
}

/// What happened to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `node`, `app`, `link` or `site`.
    pub what: String,
    /// `started`, `stopping`; `added`, `revised`, `removed`; `up`, `down`; `up`, `away`, `gone`.
    pub change: String,
    /// The node's version, the app, the parent, the child.
    pub name: String,
    /// Of an app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

impl Change {
    fn of(what: &str, change: &str, name: &str) -> Self {
        let [what, change, name] = [what, change, name].map(str::to_owned);
        Self { what, change, name, revision: None }
    }
}

/// What was found at one look.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Apps and their revisions.
    apps: BTreeMap<String, u64>,
    /// The parent, and whether it answers.
    link: Option<(String, bool)>,
    /// The children, and whether they were heard lately.
    children: BTreeMap<String, bool>,
}

/// Tells the numbers as long as the node runs.
pub async fn tell_metrics(node: Arc<Node>) {
    let subject = format!("tel.{}._.metrics", node.bus.site());
    loop {
        tokio::time::sleep(METRICS_EVERY).await;
        let Ok(body) = serde_json::to_vec(&numbers(&node).await) else { continue };
        // Nobody may be listening, or the server may be away: the next ones count as well.
        let _ = node.bus.publish(&subject, &Headers::new(), body).await;
    }
}

async fn numbers(node: &Node) -> Numbers {
    let brief = node.brief().await;
    let status = node.store.status();
    let waiting = status.seq.saturating_sub(status.parent_seq);
    let mut metrics = node.metrics.snapshot();
    let left_out = cut(&mut metrics, METRICS_BYTES_MAX);
    Numbers {
        time: now(),
        site: brief.path.clone(),
        version: brief.version.clone(),
        uptime_s: brief.uptime_s,
        rss_bytes: rss_bytes(),
        in_flight: brief.in_flight,
        invocations: brief.invocations,
        apps: brief.apps.len(),
        sites_below: brief.size() - 1,
        changes_waiting: if brief.link.is_some() { waiting } else { 0 },
        link: brief.link,
        metrics,
        left_out,
    }
}

/// Leaves out what does not fit, durations before counts; how many that were.
fn cut(metrics: &mut Snapshot, bytes_max: usize) -> usize {
    let (mut left, mut left_out) = (bytes_max, 0);
    let mut fits = |name: &str, bytes: usize| {
        let bytes = bytes + serde_json::to_string(name).map_or(name.len(), |name| name.len());
        let fitting = left.checked_sub(bytes);
        left = fitting.unwrap_or(0);
        left_out += usize::from(fitting.is_none());
        fitting.is_some()
    };
    metrics.counts.retain(|name, _| fits(name, COUNT_BYTES));
    metrics.times.retain(|name, _| fits(name, TIMES_BYTES));
    left_out
}

/// Tells what happens as long as the node runs, and first that it does.
pub async fn tell_life(node: Arc<Node>) {
    say(&node, Change::of("node", "started", env!("CARGO_PKG_VERSION"))).await;
    // What the site remembers is not new.
    let mut before = Seen { apps: look(&node).await.apps, ..Seen::default() };
    loop {
        let now = look(&node).await;
        let mut changes = changes(&before, &now);
        let left_out = changes.len().saturating_sub(CHANGES_MAX);
        if left_out > 0 {
            changes.truncate(CHANGES_MAX);
            node.logs.add("warn", "tel", &format!("{left_out} changes at once are not told"));
        }
        for change in changes {
            say(&node, change).await;
        }
        before = now;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The last word of a node.
pub async fn say_stopping(node: &Node) {
    let word = say(node, Change::of("node", "stopping", env!("CARGO_PKG_VERSION")));
    let _ = tokio::time::timeout(LAST_WORD_TIMEOUT, word).await;
}

async fn look(node: &Node) -> Seen {
    let apps = node.deploy.apps();
    let parent = node.bus.site().parent();
    let children = node.children.briefs().await.into_iter();
    Seen {
        apps: apps.iter().map(|app| (app.name().to_owned(), app.revision)).collect(),
        link: parent.map(|parent| (parent.to_string(), node.parent_up())),
        children: children.map(|c| (c.path.to_string(), c.heard_ms_ago <= AWAY_MS)).collect(),
    }
}

/// What happened between two looks.
fn changes(before: &Seen, now: &Seen) -> Vec<Change> {
    let mut changes = vec![];
    for (name, revision) in &now.apps {
        let word = match before.apps.get(name) {
            None => "added",
            Some(known) if known != revision => "revised",
            Some(_) => continue,
        };
        changes.push(Change { revision: Some(*revision), ..Change::of("app", word, name) });
    }
    let removed = before.apps.keys().filter(|name| !now.apps.contains_key(*name));
    changes.extend(removed.map(|name| Change::of("app", "removed", name)));
    if let Some((parent, is_up)) = &now.link {
        let was_up = before.link.as_ref().is_some_and(|(_, was_up)| *was_up);
        if *is_up != was_up {
            changes.push(Change::of("link", if *is_up { "up" } else { "down" }, parent));
        }
    }
    for (child, is_up) in &now.children {
        if before.children.get(child) != Some(is_up) {
            changes.push(Change::of("site", if *is_up { "up" } else { "away" }, child));
        }
    }
    let gone = before.children.keys().filter(|child| !now.children.contains_key(*child));
    changes.extend(gone.map(|child| Change::of("site", "gone", child)));
    changes
}

async fn say(node: &Node, change: Change) {
    let site = node.bus.site().clone();
    let subject = format!("tel.{site}._.life.{}.{}", change.what, change.change);
    let Ok(body) = serde_json::to_vec(&Life { time: now(), site, change }) else { return };
    let _ = node.bus.publish(&subject, &Headers::new(), body).await;
}

fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests;
