use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Look, calls, rows};
use crate::cli::top::text;
use crate::node::report::Brief;

fn brief(path: &str, link: Value, children: &[Value]) -> Value {
    json!({"path": path, "class": "edge", "version": "1", "uptime_s": 5, "link": link,
           "devices": ["cpu0"], "apps": [], "in_flight": 3, "invocations": 9,
           "children": children})
}

fn times(count: u64, p50: u64, p99: u64) -> Value {
    json!({"count": count, "mean_us": p50, "p50_us": p50, "p99_us": p99, "max_us": p99})
}

fn report(path: &str, pid: u32, counts: Value, took: Value) -> Value {
    json!({"brief": brief(path, Value::Null, &[]), "pid": pid, "rss_bytes": 20_000_000,
           "ready": true, "http": {"url": "", "token": null}, "devices": [], "apps": [],
           "streams": [], "tables": [], "dead_letters": 1, "events_waiting": 4,
           "metrics": {"counts": counts, "times": took}})
}

fn look(at: Instant, reports: &[Value]) -> Look {
    let link = json!({"parent": "cloud", "up": true, "rtt_us": 250});
    let down = json!({"parent": "cloud", "up": false, "rtt_us": 0});
    let below = [brief("cloud.a", link, &[]), brief("cloud.b", down, &[])];
    let tree = brief("cloud", Value::Null, &below);
    let brief: Brief = serde_json::from_value(tree).expect("a brief");
    let read = |report: &Value| {
        let report: crate::node::report::Report =
            serde_json::from_value(report.clone()).expect("a report");
        (report.brief.path.clone(), report)
    };
    Look { at, brief, reports: reports.iter().map(read).collect::<BTreeMap<_, _>>() }
}

#[test]
fn rates_are_differences_and_the_silent_are_shown() {
    let start = Instant::now();
    let cloud = |calls: u64, events: u64, pid| {
        let took = json!({"call": times(calls, 1, 2), "http": times(calls, 1, 2),
                          "run a/slow": times(1, 9_000, 9_000),
                          "run a/often": times(50, 100, 4_000)});
        report("cloud", pid, json!({"events delivered": events}), took)
    };
    let a = report("cloud.a", 7, json!({}), json!({}));
    let before = look(start, &[cloud(10, 100, 1), a.clone()]);
    let now = look(start + Duration::from_secs(2), &[cloud(30, 101, 1), a.clone()]);
    assert_eq!(calls(&now.reports[&"cloud".parse().expect("a path")]), 60);
    let found = rows(&before, &now);
    let at = |row: usize| found[row].now.as_ref();
    let root = at(0).expect("it answered");
    assert_eq!((root.calls_per_s, root.events_per_s, root.waiting), (20.0, 0.5, 4));
    assert_eq!((root.p50_us, root.p99_us), (Some(100), Some(4_000)), "of the busiest handler");
    assert_eq!(found[0].link_rtt_us, None);
    assert_eq!(found[1].link_rtt_us, Some(250));
    assert_eq!(at(1).map(|now| (now.calls_per_s, now.p50_us)), Some((0.0, None)));
    assert_eq!((found[2].up, found[2].link_rtt_us, at(2)), (false, None, None));
    let shown = text(&found);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].contains(" 20.0 ") && lines[1].contains("100 µs"), "{shown}");
    let of_a: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(&of_a[9..11], ["-", "-"], "no handler ran there: {shown}");
    assert!(lines[3].contains("cloud.b") && lines[3].ends_with("no answer"), "{shown}");

    // Started again: it counts from 0, not backwards.
    let again = look(start + Duration::from_secs(1), &[cloud(5, 1, 2)]);
    let found = rows(&before, &again);
    assert_eq!(found[0].now.as_ref().map(|now| now.calls_per_s), Some(10.0));
    assert_eq!((found[1].up, found[1].link_rtt_us), (false, None), "it does not answer now");

    // It did not answer before: what it has counted is not of these seconds.
    let back = look(start + Duration::from_secs(3), &[cloud(5, 1, 2), a]);
    let found = rows(&look(start, &[]), &back);
    assert_eq!(found[0].now.as_ref().map(|now| (now.calls_per_s, now.waiting)), Some((0.0, 4)));
}
