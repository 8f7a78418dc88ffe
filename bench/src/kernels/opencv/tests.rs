use super::*;

#[test]
fn every_pair_has_a_plan_that_runs() {
    let device = CpuDevice::new(&hw::Config { cpu_threads: 1, ..hw::Config::default() });
    for pair in PAIRS {
        let us = ours_us(&device, pair, 64, 48, Duration::ZERO).unwrap();
        assert!(us > 0.0, "{}", pair.name);
    }
    assert_eq!(device.buffer_count(), 0);
}

#[test]
fn without_opencv_the_reason_is_told() {
    let nowhere = tempfile::tempdir().unwrap();
    std::fs::write(nowhere.path().join("cv2.py"), "raise ImportError('none here')").unwrap();
    let error = compare(nowhere.path(), (64, 48), Duration::ZERO).unwrap_err();
    assert!(error.contains("none here"), "{error}");
}
