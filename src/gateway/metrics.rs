//! `/metrics`: what a node counts and times, in the Prometheus text format 0.0.4.
//!
//! The node's own names (`run shop/echo`) become families with labels. How many names there are is
//! bounded where they are kept; tables are bounded here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use bus::event::Reader;
use handlers::metrics::{BOUNDS_US, Distribution};

use super::Door;
use crate::monitor::link_bytes;
use crate::node::report::Report;

/// Tables whose size is told; further ones are left out.
const TABLES_MAX: usize = 256;
/// How long the server may take to say what waits.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// A family's name, and the labels of one of its series.
type Series = (&'static str, Vec<(&'static str, String)>);

/// Families by name: kind, help, and the lines.
#[derive(Default)]
struct Exposition {
    families: BTreeMap<&'static str, (&'static str, String)>,
}

impl Door {
    pub(super) async fn metrics(&self) -> Response<Body> {
        let node = &self.node;
        let mut out = Exposition::default();
        for (name, count) in node.metrics.snapshot().counts {
            let (family, labels) = count_series(&name);
            out.add("counter", family, &labels, count as f64);
        }
        for (name, times) in node.metrics.distributions() {
            let (family, labels) = time_series(&name);
            out.histogram(family, &labels, &times);
        }
        out.report(&node.report().await);
        for (compiler, count) in node.execute.compiled_by() {
            let labels = [("compiler", compiler.name().to_owned())];
            out.add("gauge", "edgescale_components", &labels, count as f64);
        }
        let status = node.store.status();
        let waiting = status.seq.saturating_sub(status.parent_seq);
        let climbing = if node.bus.site().parent().is_some() { waiting } else { 0 };
        out.add("gauge", "edgescale_store_changes_waiting", &[], climbing as f64);
        self.add_queues(&mut out).await;
        let mut response = Response::new(Body::from(out.text()));
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    /// What only the server knows; left out while it does not say.
    async fn add_queues(&self, out: &mut Exposition) {
        for (reader, name) in [(Reader::Run, "run"), (Reader::Climb, "climb")] {
            let asked = self.node.events.waiting(reader);
            if let Ok(Ok(waiting)) = tokio::time::timeout(SERVER_TIMEOUT, asked).await {
                let labels = [("reader", name.to_owned())];
                out.add("gauge", "edgescale_events_waiting", &labels, waiting as f64);
            }
        }
        let Some(monitor) = self.node.monitor.clone() else { return };
        let asked = tokio::task::spawn_blocking(move || link_bytes(&monitor));
        if let Ok(Ok(Some(bytes))) = asked.await.map_err(anyhow::Error::from) {
            for (direction, bytes) in [("up", bytes.up), ("down", bytes.down)] {
                let labels = [("direction", direction.to_owned())];
                out.add("counter", "edgescale_link_bytes_total", &labels, bytes as f64);
            }
        }
    }
}

impl Exposition {
    fn report(&mut self, report: &Report) {
        let brief = &report.brief;
        let info = [
            ("site", brief.path.to_string()),
            ("class", format!("{:?}", brief.class).to_lowercase()),
            ("version", brief.version.clone()),
        ];
        self.add("gauge", "edgescale_node_info", &info, 1.0);
        self.add("gauge", "edgescale_uptime_seconds", &[], brief.uptime_s as f64);
        self.add("gauge", "process_resident_memory_bytes", &[], report.rss_bytes as f64);
        self.add("gauge", "edgescale_invocations_in_flight", &[], brief.in_flight as f64);
        self.add("gauge", "edgescale_dead_letters", &[], report.dead_letters as f64);
        self.add("gauge", "edgescale_apps", &[], report.apps.len() as f64);
        self.add("gauge", "edgescale_streams", &[], report.streams.len() as f64);
        if let Some(link) = &brief.link {
            self.add("gauge", "edgescale_link_up", &[], f64::from(u8::from(link.up)));
            if link.up {
                self.add("gauge", "edgescale_link_rtt_seconds", &[], link.rtt_us as f64 / 1e6);
            }
        }
        for device in &report.devices {
            let labels = [("device", device.id.clone())];
            self.add("gauge", "edgescale_device_queue_length", &labels, device.queue_len as f64);
            self.add("counter", "edgescale_device_jobs_total", &labels, device.jobs_done as f64);
            let batches = device.batches as f64;
            self.add("counter", "edgescale_device_batches_total", &labels, batches);
            let failed = device.jobs_failed as f64;
            self.add("counter", "edgescale_device_job_failures_total", &labels, failed);
            let busy = device.busy_us as f64 / 1e6;
            self.add("counter", "edgescale_device_busy_seconds_total", &labels, busy);
        }
        for table in report.tables.iter().take(TABLES_MAX) {
            let labels = [("table", table.spec.name.clone())];
            let (bytes, rows) = (table.segment_bytes as f64, table.memory_rows as f64);
            self.add("gauge", "edgescale_table_segment_bytes", &labels, bytes);
            self.add("gauge", "edgescale_table_memory_rows", &labels, rows);
        }
    }

    fn add(&mut self, kind: &'static str, family: &'static str, labels: &[Label], value: f64) {
        let (_, lines) = self.families.entry(family).or_insert((kind, String::new()));
        let _ = writeln!(lines, "{family}{} {value}", braces(labels));
    }

    fn histogram(&mut self, family: &'static str, labels: &[Label], times: &Distribution) {
        let (_, lines) = self.families.entry(family).or_insert(("histogram", String::new()));
        let bounds = BOUNDS_US.iter().map(|us| (*us as f64 / 1e6).to_string());
        let within = times.within.iter().copied().chain([times.count]);
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(within) {
            let mut labels = labels.to_vec();
            labels.push(("le", bound));
            let _ = writeln!(lines, "{family}_bucket{} {count}", braces(&labels));
        }
        let (sum, count, labels) = (times.sum_us as f64 / 1e6, times.count, braces(labels));
        let _ = writeln!(lines, "{family}_sum{labels} {sum}");
        let _ = writeln!(lines, "{family}_count{labels} {count}");
    }

    fn text(self) -> String {
        let mut text = String::new();
        for (family, (kind, lines)) in self.families {
            let _ = writeln!(text, "# TYPE {family} {kind}");
            text += &lines;
        }
        text
    }
}

type Label = (&'static str, String);

fn braces(labels: &[Label]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn of_handler(name: &str) -> Vec<Label> {
    let (app, handler) = name.split_once('/').unwrap_or((name, ""));
    vec![("app", app.to_owned()), ("handler", handler.to_owned())]
}

/// The family of one of the node's counts.
fn count_series(name: &str) -> Series {
    let one = |label, value: &str| vec![(label, value.to_owned())];
    match name.split_once(' ') {
        Some(("invocations", handler)) => ("edgescale_invocations_total", of_handler(handler)),
        Some(("failures", handler)) => ("edgescale_invocation_failures_total", of_handler(handler)),
        Some(("ended", rest)) => {
            let (reason, handler) = rest.split_once(' ').unwrap_or((rest, ""));
            let mut labels = of_handler(handler);
            labels.push(("reason", reason.to_owned()));
            ("edgescale_invocation_failures_by_reason_total", labels)
        }
        Some(("spans", what)) => ("edgescale_spans_total", one("what", what)),
        Some(("events", what)) => ("edgescale_events_total", one("what", what)),
        Some(("calls", "sent up")) => ("edgescale_calls_sent_up_total", vec![]),
        Some(("calls", refused)) if refused.starts_with("refused ") => {
            ("edgescale_calls_refused_total", one("code", refused.trim_start_matches("refused ")))
        }
        Some(("limited", what)) => ("edgescale_handler_limited_total", one("what", what)),
        Some(("logs", "cut short")) => ("edgescale_logs_cut_short_total", vec![]),
        Some(("outside", why)) => {
            ("edgescale_outside_refused_total", one("reason", why.trim_start_matches("refused, ")))
        }
        Some(("dead", "letters")) => ("edgescale_dead_letters_total", vec![]),
        Some(("frames", device)) => {
            ("edgescale_device_frames_total", one("device", device.trim_start_matches("on ")))
        }
        Some(("http", refused)) => {
            ("edgescale_http_refused_total", one("code", refused.trim_start_matches("refused ")))
        }
        _ => ("edgescale_other_total", one("name", name)),
    }
}

/// The family of one of the node's durations.
fn time_series(name: &str) -> Series {
    let one = |label, value: &str| vec![(label, value.to_owned())];
    match name.split_once(' ') {
        Some(("queue", handler)) => ("edgescale_invocation_queue_seconds", of_handler(handler)),
        Some(("run", handler)) => ("edgescale_invocation_run_seconds", of_handler(handler)),
        Some(("store", operation)) => ("edgescale_store_seconds", one("operation", operation)),
        Some(("blob", operation)) => {
            ("edgescale_store_seconds", one("operation", &format!("blob_{operation}")))
        }
        Some(("op", kernel)) => ("edgescale_kernel_seconds", one("kernel", kernel)),
        Some(("accelerate", rest)) => {
            let (stage, device) = rest.split_once(' ').unwrap_or((rest, ""));
            let labels = vec![("device", device.to_owned()), ("stage", stage.to_owned())];
            ("edgescale_device_stage_seconds", labels)
        }
        None if name == "http" => ("edgescale_http_request_seconds", vec![]),
        None if name == "call" => ("edgescale_call_seconds", vec![]),
        None if name == "publish" => ("edgescale_publish_seconds", vec![]),
        None if name == "decode" => ("edgescale_stream_decode_seconds", vec![]),
        None if name == "frame" => ("edgescale_stream_frame_seconds", vec![]),
        _ => ("edgescale_other_seconds", one("name", name)),
    }
}

#[cfg(test)]
mod tests;
