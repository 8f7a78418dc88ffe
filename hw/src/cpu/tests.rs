use super::*;
use crate::Grid;
use crate::conformance;

#[test]
fn conforms() {
    conformance::check(&CpuDevice::new(&Config::default()));
}

#[test]
fn describes_this_machine() {
    let info = cpu_info();
    assert!(info.memory_bytes > 1 << 20, "{info:?}");
    assert!(info.compute_units > 0, "{info:?}");
    assert!(!info.name.is_empty(), "{info:?}");
}

#[test]
fn a_full_pool_is_let_go() {
    let device = CpuDevice::new(&Config { pool_bytes_max: 100, ..Config::default() });
    for _ in 0..3 {
        let id = device.alloc(60).unwrap();
        let other = device.alloc(60).unwrap();
        device.free(id).unwrap();
        device.free(other).unwrap();
        let held = device.pool.held();
        assert!((60..=100).contains(&held), "{held}");
    }
}

/// What is lent is worked on where it lies, and so is what is looked at.
#[test]
fn nothing_is_copied_that_is_only_read() {
    let device = CpuDevice::new(&Config::default());
    let data = Bytes::from(vec![3; 4096]);
    let lent = device.lend(&data).unwrap().unwrap();
    assert_eq!(device.share(lent).unwrap().unwrap().as_ptr(), data.as_ptr());
    let own = device.alloc(4096).unwrap();
    device.write(own, 0, &[1; 4096]).unwrap();
    let seen = device.share(own).unwrap().unwrap();
    let place = seen.as_ptr();
    drop(seen);
    device.write(own, 0, &[2]).unwrap();
    assert_eq!(device.share(own).unwrap().unwrap().as_ptr(), place, "nobody looked any more");
}

#[test]
fn memory_that_others_look_at_is_used_again_when_they_are_done() {
    let device = CpuDevice::new(&Config::default());
    let id = device.alloc(100).unwrap();
    let seen = device.share(id).unwrap().unwrap();
    device.free(id).unwrap();
    assert_eq!(device.pool.held(), 0);
    drop(seen);
    assert_eq!(device.pool.held(), 100);
}

#[test]
fn a_panic_in_a_kernel_is_an_error_and_loses_nothing() {
    static PANICS: Kernel = Kernel {
        stem: "panics",
        params: &[Param::Out("dst")],
        opencl: "",
        cuda: "",
        cpu: |_| panic!("as the test wants"),
        bytes_needed: |_| Some(vec![1]),
        joined: None,
    };
    let device = CpuDevice::new(&Config::default());
    let dst = device.alloc(4).unwrap();
    device.write(dst, 0, &[1, 2, 3, 4]).unwrap();
    let launch = Launch { kernel: &PANICS, args: vec![Arg::Buffer(dst)], grid: Grid::Items(1) };
    let error = device.run(&[Command::Launch(launch)]).unwrap_err();
    assert!(matches!(error, Error::BadLaunch { .. }), "{error}");
    let mut back = [0; 4];
    device.read(dst, 0, &mut back).unwrap();
    assert_eq!(back, [1, 2, 3, 4]);
}
