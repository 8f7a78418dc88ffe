//! A report as one page that needs nothing else: plots of bars in SVG.

use std::fmt::Write as _;

use super::{Report, operations};

/// Pixels of a plot: names, bars, and a line of it.
const NAME_WIDTH: f64 = 260.0;
const BAR_WIDTH: f64 = 460.0;
const LINE_HEIGHT: f64 = 18.0;

const STYLE: &str = "body{font:14px sans-serif;margin:2em;max-width:60em}\
    svg text{font-size:12px}.good{fill:#2a7}.poor{fill:#c62}.line{stroke:#888}";

/// A line of a plot.
struct Bar {
    name: String,
    value: f64,
    label: String,
}

/// The page.
pub(super) fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>Kernels</title><style>{STYLE}</style>\
         <h1>Kernels</h1><ul>"
    );
    for (id, name) in &report.devices {
        let _ = write!(page, "<li>{}: {}", escaped(id), escaped(name));
    }
    let _ = write!(
        page,
        "</ul><p>A plain copy of 64 MiB moves {:.1} GB/s on {} threads. A kernel's share of that \
         is above 100 % where a cache holds the frame. Green bars reach the goal, which is the \
         line; bars end where the plot does.",
        report.memory_gb_per_s, report.cpu_threads
    );
    let mut sizes: Vec<(u32, u32)> =
        report.rows.iter().map(|row| (row.width, row.height)).collect();
    sizes.dedup();
    for (width, height) in sizes {
        for (id, _) in &report.devices {
            let rows = report
                .rows
                .iter()
                .filter(|row| (row.width, row.height) == (width, height) && row.device == *id);
            let bars = rows.map(|row| Bar {
                name: row.kernel.clone(),
                value: row.memory_share,
                label: format!("{:.0} % ({:.0} us)", 100.0 * row.memory_share, row.median_us),
            });
            let title = format!("Share of the memory's speed, {} at {width}x{height}", escaped(id));
            plot(&mut page, &title, 1.0, 0.6, &bars.collect::<Vec<_>>());
            let chains = report
                .chains
                .iter()
                .filter(|row| (row.width, row.height) == (width, height) && row.device == *id);
            let bars = chains.map(|row| Bar {
                name: row.pipeline.clone(),
                value: row.ratio,
                label: format!("{:.2} x ({:.0} us)", row.ratio, row.chained_us),
            });
            let title =
                format!("Times as fast as step by step, {} at {width}x{height}", escaped(id));
            plot(&mut page, &title, 4.0, 2.0, &bars.collect::<Vec<_>>());
        }
        for peer in operations::peers(&report.operations) {
            let rows =
                report.operations.iter().filter(|row| (row.width, row.height) == (width, height));
            let bars = rows.filter_map(|row| {
                let ratio = row.beside(peer)?.ratio;
                let label = format!("{ratio:.2} x ({:.0} us)", row.ours_us);
                Some(Bar { name: row.op.clone(), value: ratio, label })
            });
            let title = format!("Times as fast as {peer}, one thread, {width}x{height}");
            plot(&mut page, &title, 4.0, 1.0, &bars.collect::<Vec<_>>());
        }
    }
    page.push('\n');
    page
}

/// Bars up to `most`, with a line at the goal; nothing where there are none.
fn plot(page: &mut String, title: &str, most: f64, goal: f64, bars: &[Bar]) {
    if bars.is_empty() {
        return;
    }
    let height = LINE_HEIGHT * bars.len() as f64;
    let _ = write!(
        page,
        "<h2>{title}</h2><svg width=\"{}\" height=\"{height}\">",
        NAME_WIDTH + BAR_WIDTH + 140.0
    );
    for (number, bar) in bars.iter().enumerate() {
        let (top, long) = (LINE_HEIGHT * number as f64, (bar.value / most).min(1.0) * BAR_WIDTH);
        let class = if bar.value >= goal { "good" } else { "poor" };
        let _ = write!(
            page,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{NAME_WIDTH}\" y=\"{}\" width=\"{long:.1}\" \
             height=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            NAME_WIDTH - 6.0,
            top + LINE_HEIGHT - 5.0,
            escaped(&bar.name),
            top + 2.0,
            LINE_HEIGHT - 4.0,
            NAME_WIDTH + long + 6.0,
            top + LINE_HEIGHT - 5.0,
            escaped(&bar.label),
        );
    }
    let at = NAME_WIDTH + goal / most * BAR_WIDTH;
    let _ = write!(
        page,
        "<line class=\"line\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{height}\"/></svg>"
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
