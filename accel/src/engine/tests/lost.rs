//! A device that its driver loses, and that is opened anew.

use std::sync::atomic::{AtomicUsize, Ordering};

use hw::Sleeping;

use super::*;
use crate::status::DeviceChange;

/// A device that is lost in its third run, then in its first, and then works; and how often it was
/// opened.
fn lost_twice() -> (Arc<dyn Device>, Arc<AtomicUsize>) {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = opened.clone();
    let open = move || {
        let from = [2, 0, u64::MAX][count.fetch_add(1, Ordering::SeqCst).min(2)];
        Ok(faulty(Fault::LostFrom(from)) as Arc<dyn Device>)
    };
    let (id, kind) = ("opencl0".to_string(), hw::Kind::OpenCl);
    let info = hw::DeviceInfo { id, kind, ..cpu().info().clone() };
    (Arc::new(Sleeping::new(info, Box::new(open))), opened)
}

#[test]
fn a_lost_device_is_opened_anew_after_its_quarantine_and_told_of() {
    let (device, opened) = lost_twice();
    let engine = engine(vec![device, cpu()]);
    engine.wake();
    while engine.devices().iter().any(|device| device.state != DeviceState::Ready) {
        std::thread::yield_now();
    }
    let mut changes = engine.changes();
    let begun = Instant::now();
    let (mut devices, mut score) = (Vec::new(), 0.0);
    for index in 0.. {
        let output = block_on(engine.run(job(index % 3))).unwrap();
        score = number(&output.values["score"]);
        devices.push(output.device);
        let works = opened.load(Ordering::SeqCst) == 3;
        if works && devices.ends_with(&["opencl0".to_string(), "opencl0".to_string()]) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{devices:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(score > 0.0, "its history goes on");
    assert!(
        begun.elapsed() >= 3 * QUARANTINE_MIN,
        "it was left alone for a while, then for longer"
    );
    assert!(devices.iter().any(|device| device == "cpu0"), "jobs ran elsewhere: {devices:?}");
    let mut told = || changes.try_recv().map(|DeviceChange { device, lost }| (device, lost));
    let (device, lost) = told().unwrap();
    assert_eq!((device.as_str(), lost.is_some()), ("opencl0", true));
    assert_eq!(told().unwrap(), ("opencl0".to_string(), None), "it is told when it works again");
    assert!(told().is_err());
    assert_eq!(engine.devices()[0].state, DeviceState::Ready);
}
