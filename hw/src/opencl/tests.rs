use super::*;
use crate::conformance::{self, SCALE_ADD};

/// Every device present, or none with a line that says so.
fn devices(config: &Config) -> Vec<OpenClDevice> {
    let found = discover(config);
    if found.is_empty() {
        aloud::skipped!("no OpenCL device");
    }
    found
}

#[test]
fn conforms() {
    for device in devices(&Config::default()) {
        conformance::check(&device);
    }
}

#[test]
fn binaries_are_kept_and_damage_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { cache_dir: Some(dir.path().join("kernels")), ..Config::default() };
    for device in devices(&config).into_iter().take(1) {
        device.prepare(&[&SCALE_ADD]).unwrap();
        let source = format!("{PREAMBLE}{}", SCALE_ADD.opencl);
        let options = build_options(device.state().tuner.first());
        let binary = device.cache.load(&source, &options).expect("a binary is kept");
        assert!(build_binary(&device.state().context, &binary, &options).is_ok());
        let path = std::fs::read_dir(dir.path().join("kernels")).unwrap().next().unwrap();
        let path = path.unwrap().path();
        conformance::check(&discover(&config).remove(0));
        let mut damaged = std::fs::read(&path).unwrap();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert!(device.cache.load(&source, &options).is_none());
        std::fs::write(&path, [1, 2, 3]).unwrap();
        assert!(device.cache.load(&source, &options).is_none());
        conformance::check(&discover(&config).remove(0));
        assert!(
            device.cache.load(&source, &options).is_some(),
            "a whole binary replaces the damaged one"
        );
    }
}

/// Set for the process whose device is told to have little memory.
const SMALL: &str = "EDGESCALE_OPENCL_SMALL";

/// Not a test: asks a device for more than it has, when the one below starts this program again.
#[test]
fn small_device() {
    if std::env::var_os(SMALL).is_none() {
        return;
    }
    for device in devices(&Config::default()).into_iter().take(1) {
        let bytes = crate::BUFFER_BYTES_MAX;
        let all: Vec<Result<BufferId>> = (0..3).map(|_| device.alloc(bytes)).collect();
        println!("asked for: {all:?}");
        all.into_iter().flatten().for_each(|id| device.free(id).unwrap());
        conformance::check(&device);
        println!("and it lives on");
    }
}

#[test]
fn a_device_that_is_full_says_so_and_lives_on() {
    let is_pocl = |device: &OpenClDevice| device.info().driver.starts_with("Portable Computing");
    let found = devices(&Config::default());
    let pocl = found.iter().find(|device| is_pocl(device));
    assert!(pocl.is_none_or(|device| device.info().on_cpu), "no GPU: {:?}", pocl.map(|d| d.info()));
    if pocl.is_none() {
        aloud::skipped!("only PoCL can be told how much memory it has");
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "opencl::tests::small_device", "--nocapture"])
        .envs([(SMALL, "1"), ("POCL_MEMORY_LIMIT", "1")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(said.contains("OutOfMemory") && said.contains("and it lives on"), "{said}");
}

#[test]
fn a_kernel_that_does_not_build_says_why() {
    static BROKEN: Kernel = Kernel {
        stem: "broken",
        params: &[],
        opencl: "KERNEL void broken() { undeclared_name = 1; }",
        cuda: "",
        cpu: |_| {},
        bytes_needed: |_| Some(Vec::new()),
        joined: None,
    };
    for device in devices(&Config::default()).into_iter().take(1) {
        let error = device.prepare(&[&BROKEN]).unwrap_err();
        let Error::Build { kernel, log, .. } = &error else { panic!("{error}") };
        assert_eq!(kernel, "broken");
        assert!(log.contains("undeclared_name"), "{log}");
    }
}

#[test]
fn a_chain_that_does_not_build_is_told_of_and_binaries_of_others_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { cache_dir: Some(dir.path().to_path_buf()), ..Config::default() };
    for device in devices(&config).into_iter().take(1) {
        conformance::check(&device);
        let refusals = device.refusals();
        assert!(matches!(&refusals[..], [Error::Build { .. }]), "{refusals:?}");
        let chain = conformance::chained([0, 1, 2].map(BufferId), [3, 2]);
        let source = format!("{PREAMBLE}{}", chain.kernel.source);
        let options = build_options(device.state().tuner.first());
        assert!(device.cache.load(&source, &options).is_some(), "the binary of a chain is kept");
    }
}

#[test]
fn groups_of_each_size_are_tried_and_what_suits_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { cache_dir: Some(dir.path().to_path_buf()), ..Config::default() };
    let trial = |device: &OpenClDevice| {
        let ids = [device.alloc(5000).unwrap(), device.alloc(5000).unwrap()];
        device.write(ids[0], 0, &[3; 5000]).unwrap();
        device.run(&[conformance::scale_add_launch(ids[0], ids[1], 5000, 2)]).unwrap();
        let is_trial = device.state().pending[0].ran[0].1.is_some();
        let mut got = vec![0; 5000];
        device.read(ids[1], 0, &mut got).unwrap();
        let expected: Vec<u8> = (0..5000).map(|i| (6 + i) as u8).collect();
        assert!(got == expected);
        device.finish().unwrap();
        ids.iter().for_each(|id| device.free(*id).unwrap());
        is_trial
    };
    for device in devices(&config).into_iter().take(1) {
        let tried = (0..2 * crate::LAUNCHES_UNTIL_TUNED).map(|_| trial(&device));
        let tried = tried.filter(|is_trial| *is_trial).count();
        assert!(tried >= 2 && tried <= crate::LAUNCHES_UNTIL_TUNED as usize, "{tried}");
        let again = discover(&config).remove(0);
        assert!(!trial(&again), "it is known from before");
    }
}

#[test]
fn codes_are_sorted_by_what_to_do() {
    let sorted = |code| failed("opencl0", "launch", ClError(code));
    for code in [errors::CL_DEVICE_NOT_AVAILABLE, -33, -34, -36, -9999] {
        assert!(matches!(sorted(code), Error::Lost { .. }), "{code}");
    }
    for code in [-4, -5, -6] {
        let full = sorted(code);
        assert_eq!(full.to_string(), "device opencl0: no memory", "{code}");
        assert!(!full.is_callers(), "another device may take it");
    }
    for code in [-3, -16, -2001] {
        assert!(matches!(sorted(code), Error::Driver { .. }), "{code}");
    }
    let failed = sorted(-54);
    assert!(matches!(failed, Error::Failed { .. }), "{failed}");
    assert!(!failed.is_callers(), "another device may take it");
    let info = crate::cpu::CpuDevice::new(&Config::default()).info().clone();
    for code in [-4, -61] {
        let full = no_memory(&info, 7, ClError(code));
        assert_eq!(full, Error::OutOfMemory { device: "cpu0".to_string(), bytes: 7 }, "{code}");
    }
    assert!(matches!(no_memory(&info, 7, ClError(-34)), Error::Lost { .. }));
}

#[test]
fn groups_are_no_larger_than_a_device_can_have() {
    assert_eq!(fitting(&GROUP_SIZES, 1024), GROUP_SIZES);
    assert_eq!(fitting(&GROUP_SIZES, 100), [64]);
    assert_eq!((fitting(&GROUP_SIZES, 32), fitting(&GROUP_SIZES, 0)), (vec![32], vec![1]));
}

#[test]
fn complaints_have_an_end() {
    assert_eq!(shortened("short".to_string()), "short");
    let long = shortened(format!("a{}", "\u{e4}".repeat(1 << 20)));
    assert_eq!(long.len(), (16 << 10) - 1, "no half of a letter");
}

#[test]
fn drivers_that_are_too_old_are_refused_by_their_version() {
    for version in ["OpenCL 1.2 CUDA", "OpenCL 3.0 ", "OpenCL 3.0 PoCL HSTR", "OpenCL 10.1"] {
        assert_eq!(check_version("opencl0", version), Ok(()), "{version}");
    }
    for version in ["OpenCL 1.1 x", "OpenCL 1.", "OpenCL", "", "3.0"] {
        let refused = check_version("opencl0", version);
        assert!(matches!(refused, Err(Error::Driver { .. })), "{version}");
    }
}
