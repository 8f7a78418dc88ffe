//! `edgescale top`: the sites of a subtree, as they are now and in the seconds before.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;
use bus::{Bus, Headers, TierClass, TierPath};
use clap::Args;
use futures::StreamExt;
use serde::Serialize;

use super::output::{Output, bytes, duration_us, table};
use crate::context::Site;
use crate::node::client;
use crate::node::report::{Brief, Report};
use crate::node::stop_signal;

/// How many sites are asked at once.
const SITES_AT_ONCE: usize = 64;
/// How long a site may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Clears the screen and goes to its upper left corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

#[derive(Args)]
pub struct Top {
    /// Look once, over one interval, and end
    #[arg(long)]
    once: bool,
    /// Seconds between two looks
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    every: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "a number from 0.1 to 3600".to_owned())
}

/// One site.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub site: TierPath,
    pub class: TierClass,
    /// False when it does not answer; what is unknown then is left out.
    pub up: bool,
    /// The way to its parent and back; nothing at the root and while the link is down.
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
struct Look {
    at: Instant,
    brief: Brief,
    reports: BTreeMap<TierPath, Report>,
}

/// Shows the subtree until Ctrl-C, or once.
pub async fn run(site: &Site, top: Top, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    let mut before = look(&bus).await?;
    let stop = stop_signal();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs_f64(top.every)) => {}
        }
        let now = look(&bus).await?;
        let rows = rows(&before, &now);
        if top.once {
            return out.show(&rows, |rows| text(rows));
        }
        let mut screen = std::io::stdout().lock();
        match (out.json, screen.is_terminal()) {
            (true, _) => writeln!(screen, "{}", serde_json::to_string(&rows)?)?,
            (false, true) => writeln!(screen, "{CLEAR}{}", text(&rows))?,
            (false, false) => writeln!(screen, "{}\n", text(&rows))?,
        }
        screen.flush()?;
        before = now;
    }
}

async fn look(bus: &Bus) -> Result<Look> {
    let brief = client::tree(bus).await?;
    let at = Instant::now();
    let asked = sites(&brief).map(|site| async {
        let path = site.path.clone();
        let subject = format!("ctl.{path}._.status");
        let answer = bus.request(&subject, &Headers::new(), "", TIMEOUT).await.ok()?;
        Some((path, client::json(&answer).ok()?))
    });
    let asked: Vec<_> = asked.collect();
    let answers = futures::stream::iter(asked).buffer_unordered(SITES_AT_ONCE);
    let reports = answers.filter_map(std::future::ready).collect().await;
    Ok(Look { at, brief, reports })
}

/// A site and those below it, parents first.
fn sites(brief: &Brief) -> impl Iterator<Item = &Brief> {
    std::iter::once(brief).chain(brief.below())
}

fn rows(before: &Look, now: &Look) -> Vec<Row> {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64().max(1e-3);
    let row = |brief: &Brief| {
        let report = now.reports.get(&brief.path);
        let link = brief.link.as_ref().filter(|link| link.up);
        Row {
            site: brief.path.clone(),
            class: brief.class,
            up: report.is_some(),
            link_rtt_us: link.map(|link| link.rtt_us),
            now: report.map(|report| said(before.reports.get(&brief.path), report, seconds)),
        }
    };
    sites(&now.brief).map(row).collect()
}

fn said(before: Option<&Report>, now: &Report, seconds: f64) -> Now {
    // A node that was started again counts from 0.
    let rate = |count: fn(&Report) -> u64| {
        let before = before.filter(|before| before.pid == now.pid).map_or(0, count);
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

const HEADING: [&str; 12] = [
    "SITE", "CLASS", "LINK", "LOAD", "CALLS/S", "EVENTS/S", "WAITING", "DEAD", "P50", "P99",
    "DEVICES", "MEMORY",
];

fn text(rows: &[Row]) -> String {
    let duration = |us: Option<u64>| us.map_or("-".to_owned(), duration_us);
    let line = |row: &Row| {
        let indent = "  ".repeat(row.site.depth() - rows[0].site.depth());
        let mut cells = vec![
            format!("{indent}{}", row.site),
            format!("{:?}", row.class).to_lowercase(),
            duration(row.link_rtt_us),
        ];
        let Some(now) = &row.now else {
            cells.push("no answer".into());
            cells.resize(HEADING.len(), String::new());
            return cells;
        };
        cells.extend([
            now.in_flight.to_string(),
            format!("{:.1}", now.calls_per_s),
            format!("{:.1}", now.events_per_s),
            now.waiting.to_string(),
            now.dead_letters.to_string(),
            duration(now.p50_us),
            duration(now.p99_us),
            now.devices.join(","),
            bytes(now.rss_bytes),
        ]);
        cells
    };
    table(&HEADING, rows.iter().map(line))
}

#[cfg(test)]
mod tests;
