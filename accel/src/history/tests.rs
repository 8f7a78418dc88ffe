use super::*;

fn kept(device: usize, buffer: u64, bytes: usize) -> Remembered {
    Remembered { device, signature: 7, buffers: vec![(BufferId(buffer), bytes)], coders: vec![] }
}

#[test]
fn what_is_kept_is_taken_once() {
    let mut histories = Histories::default();
    assert_eq!(histories.take("cam"), None);
    assert_eq!(histories.sent("cam", 1), []);
    assert_eq!(histories.residence("cam"), (Some(1), true, 0));
    assert_eq!(histories.keep("cam", kept(1, 5, 100)), []);
    histories.done("cam");
    assert_eq!(histories.residence("cam"), (Some(1), false, 100));
    assert_eq!(histories.take("cam"), Some(kept(1, 5, 100)));
    assert_eq!(histories.take("cam"), None);
}

#[test]
fn a_closed_key_keeps_nothing() {
    let mut histories = Histories::default();
    histories.sent("cam", 0);
    histories.keep("cam", kept(0, 5, 100));
    assert_eq!(histories.close("cam"), Some(kept(0, 5, 100)));
    assert_eq!(
        histories.keep("cam", kept(0, 6, 100)),
        [kept(0, 6, 100)],
        "a job was still running"
    );
    assert_eq!(histories.close("cam"), None);
}

#[test]
fn the_oldest_key_goes_when_there_are_too_many() {
    let mut histories = Histories::default();
    let key = |n: u64| format!("cam-{n}");
    for n in 0..HISTORIES_MAX as u64 {
        assert_eq!(histories.sent(&key(n), 0), []);
        histories.keep(&key(n), kept(0, n, 1));
        histories.done(&key(n));
    }
    assert_eq!(histories.sent("new", 0), [kept(0, 0, 1)]);
    assert_eq!(histories.residence(&key(0)), (None, false, 0));
    assert_eq!(histories.by_key.len(), HISTORIES_MAX);
}

#[test]
fn bytes_are_bounded_but_running_jobs_are_spared() {
    let mut histories = Histories::default();
    let most = HISTORY_BYTES_MAX / 2;
    for (n, key) in ["idle", "busy", "new"].iter().enumerate() {
        histories.sent(key, 0);
        let freed = histories.keep(key, kept(0, n as u64, most));
        match *key {
            "new" => assert_eq!(freed, [kept(0, 0, most)]),
            _ => assert_eq!(freed, []),
        }
        if *key == "idle" {
            histories.done(key);
        }
    }
    assert!(histories.take("busy").is_some());
}

#[test]
fn a_lost_device_takes_its_histories_along() {
    let mut histories = Histories::default();
    for (key, device) in [("a", 0), ("b", 1)] {
        histories.sent(key, device);
        histories.keep(key, kept(device, 1, 1));
    }
    assert_eq!(histories.lose(1), [kept(1, 1, 1)]);
    assert!(histories.take("a").is_some());
    assert_eq!(histories.take("b"), None);
}

/// A coder is on the host: it moves for nothing, and is midway from its first picture on.
#[test]
fn coders_are_not_what_is_copied() {
    let frame = crate::testing::moving_square(64, 48, 0);
    let mut coder = Coder::begin(None, frame.shape(), crate::video::Settings::default());
    let mut histories = Histories::default();
    let of = |coder| Remembered { coders: vec![coder], ..kept(1, 5, 100) };
    histories.sent("cam", 1);
    for is_midway in [false, true] {
        histories.keep("cam", of(coder));
        assert_eq!(histories.residence("cam"), (Some(1), true, 100));
        assert_eq!(histories.coding_on("cam"), is_midway.then_some(1));
        let mut taken = histories.take("cam").unwrap();
        // An encoder has its pictures from the first one on.
        assert_eq!(taken.bytes() > 100, is_midway);
        coder = taken.coders.remove(0);
        coder.code(&frame.data, 0).unwrap();
    }
}
