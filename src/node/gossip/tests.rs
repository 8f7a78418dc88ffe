use bus::TierClass;

use super::*;
use crate::node::report::LinkReport;

fn brief(path: &str, heard_ms_ago: u64, children: Vec<Brief>) -> Brief {
    let path: TierPath = path.parse().expect("a path");
    let parent = path.parent().expect("not the root");
    Brief {
        path,
        class: TierClass::Edge,
        version: String::new(),
        uptime_s: 0,
        link: Some(LinkReport { parent, up: true, rtt_us: 2_000, bytes_per_s: None }),
        devices: vec![],
        apps: vec![],
        in_flight: 0,
        invocations: 0,
        offers: Offers::default(),
        http: String::new(),
        former: vec![],
        servers: vec![],
        heard_ms_ago,
        children,
        left_out: 0,
    }
}

/// What a site told of those below it is as old as what it told, and what it had heard by then.
#[test]
fn who_is_below_a_silent_site_is_as_silent() {
    let now = Instant::now();
    let far = brief("cloud.east.cell1.cam", 300, vec![]);
    let cell = brief("cloud.east.cell1", 500, vec![far]);
    let east = brief("cloud.east", 9_500, vec![cell]);
    let mut found = vec![];
    collect(&east, (Duration::ZERO, now), &mut found);
    let ages = found.iter().map(|site| (now - site.heard).as_millis() as u64);
    assert_eq!(ages.collect::<Vec<_>>(), [9_500, 10_000, 10_300]);
    let ways = found.iter().map(|site| site.rtt.as_millis());
    assert_eq!(ways.collect::<Vec<_>>(), [2, 4, 6]);
}

#[test]
fn devices_that_are_set_aside_are_not_offered() {
    let device = |kind: &str, on_cpu: bool, quarantined_ms: u64| -> DeviceStatus {
        let state = if quarantined_ms > 0 { "quarantined" } else { "ready" };
        serde_json::from_value(serde_json::json!({
            "id": format!("{kind}0"), "kind": kind, "on_cpu": on_cpu, "name": "", "driver": "",
            "memory_bytes": 0, "compute_units": 1, "state": state, "queue_len": 0, "jobs_done": 0,
            "quarantined_ms": quarantined_ms, "jobs_failed": 0, "busy_us": 0, "last_error": null,
        }))
        .expect("a device")
    };
    let cpu = device("cpu", true, 0);
    let with = |other| offered(&[cpu.clone(), other]);
    assert_eq!(with(device("cuda", false, 0)), Devices::CPU.with(Devices::GPU));
    assert_eq!(with(device("cuda", false, 30_000)), Devices::CPU);
    assert_eq!(with(device("xrt", false, 1_600)), Devices::CPU);
    let soon = with(device("xrt", false, 100));
    assert_eq!(soon, Devices::CPU.with(Devices::FPGA), "it is back when a request comes");
    assert_eq!(with(device("opencl", true, 0)), Devices::CPU);
}
