//! `edgescale top`: the sites of a subtree, as they are now and in the seconds before.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use anyhow::Result;
use bus::Bus;
use clap::Args;

use super::output::{Output, bytes, duration_us, table};
use crate::context::Site;
use crate::node::{client, stop_signal};
use crate::watch::{self, Look, Row, rows};

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
    let tree = client::tree(bus).await?;
    Ok(watch::look(bus, tree, BTreeMap::new()).await)
}

const HEADING: [&str; 12] = [
    "SITE", "CLASS", "LINK", "LOAD", "CALLS/S", "EVENTS/S", "WAITING", "DEAD", "P50", "P99",
    "DEVICES", "MEMORY",
];

pub(crate) fn text(rows: &[Row]) -> String {
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
