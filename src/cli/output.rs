//! How answers are printed: tables for people, one JSON document for programs.

use anyhow::Result;
use bus::TierPath;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Where a command's answer goes.
#[derive(Clone, Copy)]
pub struct Output {
    pub json: bool,
}

impl Output {
    /// Prints the document, or what `text` makes of it.
    pub fn show<T: Serialize>(self, document: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(document)?),
            false => println!("{}", text(document).trim_end()),
        }
        Ok(())
    }
}

impl Output {
    /// A bar that shows how far something is; nowhere for programs.
    pub fn bar(self, template: &str) -> ProgressBar {
        if self.json {
            return ProgressBar::hidden();
        }
        // Drawn on standard error, and only where that is a terminal.
        let bar = ProgressBar::new(0);
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// An error and its causes, each said once: some say theirs by themselves.
pub fn causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| {
        match (text.is_empty(), text.ends_with(&cause)) {
            (true, _) => cause,
            (false, true) => text,
            (false, false) => format!("{text}: {cause}"),
        }
    })
}

/// What sites said that did not do as they were asked; those that say the same are named together.
pub fn by_reason(refused: &[(TierPath, String)]) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = vec![];
    for (site, reason) in refused {
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, sites)) => sites.push(site.as_str()),
            None => reasons.push((reason, vec![site.as_str()])),
        }
    }
    let reason = |(reason, sites): &(&str, Vec<&str>)| format!("{}: {reason}", sites.join(", "));
    reasons.iter().map(reason).collect::<Vec<_>>().join("; ")
}

/// Text of a handler or of another site, without what a terminal would take for commands.
pub fn plain(text: &str) -> String {
    let is_command = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.replace(is_command, "\u{fffd}")
}

/// A plain table with a heading.
pub fn table(heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading);
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A duration in the unit that reads best.
pub fn duration_us(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// A number of bytes in the unit that reads best.
pub fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests;
