//! The demo's results as tables.

use std::fmt::Write;

use super::Summary;
use crate::cli::output::{bytes, duration_us, table};

/// The whole report.
pub fn text(summary: &Summary) -> String {
    let mut text = String::new();
    let devices = summary.devices.iter().map(|(device, count)| format!("{count} on {device}"));
    let devices = devices.collect::<Vec<_>>().join(", ");
    let Summary { frames, handled, errors, events, rows_at_root, call, on_demand, .. } = summary;
    let _ = writeln!(text, "\n{}  {}x{}", summary.video, summary.width, summary.height);
    let facts = [
        ("frames", format!("{frames}, {handled} handled, {errors} errors")),
        ("device", devices),
        ("events", format!("{events} over the threshold")),
        ("rows at the root", rows_at_root.to_string()),
        ("tree up", format!("{} ms", summary.tree_up_ms)),
        ("first frame", format!("{} ms", summary.first_frame_ms)),
        ("registered by", summary.registered_by.clone()),
        ("a broken manifest", summary.broken_manifest.clone()),
        (
            "summary asked",
            format!(
                "at {}, answered by {} in {} (way: {})",
                call.asked_at,
                call.answered_by,
                duration_us(call.took_us),
                call.route
            ),
        ),
        (
            "read on demand",
            format!(
                "{} rows at {} in {}",
                on_demand.rows,
                on_demand.site,
                duration_us(on_demand.took_us)
            ),
        ),
    ];
    for (name, fact) in facts {
        let _ = writeln!(text, "  {name:<18} {fact}");
    }
    let _ = writeln!(text, "\n{}\n\n{}", sites(summary), stages(summary));
    let _ = writeln!(text, "\nresults:");
    for output in &summary.outputs {
        let _ = writeln!(text, "  {}", output.display());
    }
    text
}

fn sites(summary: &Summary) -> String {
    let rows = summary.sites.iter().map(|site| {
        let runs = site.invocations.iter().map(|(name, count)| format!("{count} {name}"));
        let (up, down) = match site.link {
            Some(link) => (bytes(link.up), bytes(link.down)),
            None => ("-".into(), "-".into()),
        };
        vec![
            site.site.clone(),
            site.class.clone(),
            runs.collect::<Vec<_>>().join(", "),
            site.code.join(", "),
            up,
            down,
            bytes(site.rss_bytes),
        ]
    });
    table(&["SITE", "CLASS", "INVOCATIONS", "CODE HERE", "LINK UP", "LINK DOWN", "RSS"], rows)
}

fn stages(summary: &Summary) -> String {
    let rows = summary.stages.iter().map(|(stage, times)| {
        vec![
            stage.clone(),
            times.count.to_string(),
            duration_us(times.p50_us),
            duration_us(times.p99_us),
        ]
    });
    table(&["STAGE AT THE STREAM'S SITE", "COUNT", "P50", "P99"], rows)
}
