//! On XRT itself, in software emulation, with the software FPGA; and on a card that is only a
//! table, for what goes wrong between host and worker.

mod fake;

use std::sync::LazyLock;
use std::time::Instant;

use tempfile::TempDir;

use super::emulation::{Program, Uncompiled};
use super::rehearsal::{Names, ROLE};
use super::xclbin::Xclbin;
use super::xclbin::metadata::{Described, image};
use super::*;
use crate::conformance::{self, SCALE_ADD, SCALE_ADD_KERNEL, scale_add_launch};

/// Not a test: the worker, when the host starts this program as one.
#[test]
fn worker_process() {
    rehearsal::worker();
    if std::env::var(ROLE).as_deref() == Ok("fake") {
        worker::serve(fake::open).unwrap();
    }
}

/// Not a test: the software FPGA, when XRT starts this program as one.
#[test]
fn card_process() {
    rehearsal::card();
}

const NAMES: Names =
    Names { worker: "xrt::tests::worker_process", card: "xrt::tests::card_process" };

/// How to reach the software FPGA with the suite's kernel, made ready once for all tests.
static EMULATED: LazyLock<Option<Setup>> = LazyLock::new(|| {
    let library = rehearsal::folder().unwrap().with_extension("so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/xrt/tests/scale_add.cpp");
    match emulation::compile(&[source.into()], &library) {
        Ok(()) => {}
        Err(Uncompiled::NoCompiler) => {
            aloud::skipped!("no g++; install it with ./tools.sh test");
            return None;
        }
        Err(error) => panic!("{error}"),
    }
    let kernels = [Described { name: "scale_add", params: SCALE_ADD.params }];
    rehearsal::setup(&image(&kernels, 4 << 30, std::fs::read(&library).unwrap()), NAMES)
});

/// A setup for the emulated card that behaves so.
fn emulated(behaviour: &str) -> Option<Setup> {
    let mut setup = EMULATED.clone()?;
    setup.environment.push(("EDGESCALE_SOFTWARE_FPGA".to_string(), behaviour.into()));
    Some(setup)
}

fn only(setup: &Setup) -> XrtDevice {
    let mut found = discover(setup);
    assert_eq!(found.len(), 1, "one card");
    found.remove(0)
}

#[test]
fn conforms_on_xrt_with_the_software_fpga() {
    let Some(setup) = emulated("") else { return };
    let device = only(&setup);
    assert!(device.info().driver.starts_with("XRT 2."), "{:?}", device.info());
    let circuits = &device.info().circuits;
    assert_eq!((circuits.len(), &circuits[0].kernels), (1, &vec!["scale_add".to_string()]));
    conformance::check(&device);
}

/// Runs the suite's kernel over 16 bytes.
fn scale(device: &XrtDevice, factor: u32) -> Result<Vec<u8>> {
    let [src, dst] = [device.alloc(16)?, device.alloc(16)?];
    device.write(src, 0, &[3; 16])?;
    device.run(&[scale_add_launch(src, dst, 16, factor)])?;
    device.finish()?;
    let mut data = vec![0; 16];
    device.read(dst, 0, &mut data)?;
    device.free(src)?;
    device.free(dst)?;
    Ok(data)
}

fn scaled(factor: u8) -> Vec<u8> {
    (0..16).map(|i| 3 * factor + i).collect()
}

fn detail(error: &Error) -> String {
    assert!(!error.is_callers(), "another device may do it: {error}");
    error.to_string()
}

#[test]
fn a_kernel_that_hangs_is_a_lost_device_in_time() {
    let Some(mut setup) = emulated("hang=scale_add") else { return };
    setup.kernel_timeout = Duration::from_millis(300);
    let device = only(&setup);
    for _ in 0..2 {
        let begun = Instant::now();
        let error = scale(&device, 2).unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "{error}");
        assert!(detail(&error).contains("scale_add has not ended after 300 ms"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

#[test]
fn a_device_process_that_dies_is_a_lost_device() {
    let Some(setup) = emulated("die=scale_add") else { return };
    let device = only(&setup);
    let error = scale(&device, 2).unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    assert!(detail(&error).contains("its worker has gone"), "{error}");
    let id = device.alloc(100).expect("a new worker was started");
    device.write(id, 0, &[1; 100]).unwrap();
    device.free(id).unwrap();
}

#[test]
fn a_circuit_may_take_long_to_load_and_kernels_take_their_time() {
    let Some(setup) = emulated("load_ms=700,mhz=1") else { return };
    let begun = Instant::now();
    let device = only(&setup);
    assert!(begun.elapsed() >= Duration::from_millis(700));
    let [src, dst] = [device.alloc(4096).unwrap(), device.alloc(4096).unwrap()];
    device.write(src, 0, &[3; 4096]).unwrap();
    device.run(&[scale_add_launch(src, dst, 16, 1)]).unwrap();
    let times = device.finish().unwrap();
    assert!(times[0] >= 512_000, "512 clocks of a microsecond: {times:?}");
}

#[test]
fn files_that_are_no_circuit_are_no_device() {
    let Some(setup) = emulated("") else { return };
    let folder = tempfile::tempdir().unwrap();
    let bent = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Setup { xclbins: vec![path], ..setup.clone() }
    };
    assert!(discover(&bent("empty", b"")).is_empty());
    assert!(discover(&bent("text", &[b'x'; 5000])).is_empty());
    assert!(discover(&Setup { xclbins: vec!["/nonexistent".into()], ..setup.clone() }).is_empty());
    // A circuit that is no library: the card says no, and XRT passes it on.
    let kernels = [Described { name: "scale_add", params: SCALE_ADD.params }];
    let wrong = bent("wrong", &image(&kernels, 4 << 30, vec![7; 4096]).write());
    assert!(discover(&wrong).is_empty());
    let info = only(&setup).info().clone();
    let error = open(&info, &wrong).err().unwrap();
    assert!(detail(&error).contains("wrong"), "{error}");
    assert!(open(&info, &setup).is_ok());
}

#[test]
fn a_circuit_without_the_kernel_says_so_and_lives_on() {
    let Some(setup) = emulated("") else { return };
    static OTHER: Kernel = Kernel { stem: "other", ..SCALE_ADD_KERNEL };
    static WIDER: Kernel = Kernel {
        params: &[crate::Param::In("src"), crate::Param::Out("dst"), crate::Param::U32("count")],
        ..SCALE_ADD_KERNEL
    };
    let device = only(&setup);
    assert!(device.info().runs(&SCALE_ADD) && !device.info().runs(&OTHER));
    let error = device.prepare(&[&OTHER]).unwrap_err();
    let kernel = "other".to_string();
    assert_eq!(error, Error::NoKernel { device: "xrt0".to_string(), kernel });
    let error = device.prepare(&[&WIDER]).unwrap_err();
    assert!(matches!(error, Error::Build { .. }), "{error}");
    device.prepare(&[&SCALE_ADD]).unwrap();
    assert_eq!(scale(&device, 2).unwrap(), scaled(2));
}

#[test]
fn in_noop_mode_the_calls_go_through_in_their_order() {
    let Some(mut setup) = emulated("") else { return };
    let ini = setup.xclbins[0].with_file_name("noop.ini");
    std::fs::write(&ini, "[Runtime]\nnoop_completion_delay_us = 2000\n").unwrap();
    setup.environment.push(("XCL_EMULATION_MODE".to_string(), "noop".into()));
    setup.environment.push(("XRT_INI_PATH".to_string(), ini.into()));
    let device = only(&setup);
    let [src, dst] = [device.alloc(5000).unwrap(), device.alloc(5000).unwrap()];
    device.write(src, 10, &[1; 4000]).unwrap();
    device.prepare(&[&SCALE_ADD]).unwrap();
    for _ in 0..3 {
        device.run(&[scale_add_launch(src, dst, 5000, 1)]).unwrap();
    }
    device.run(&[Command::Copy { from: src, to: dst, bytes: 5000 }]).unwrap();
    let times = device.finish().unwrap();
    assert_eq!(times.len(), 4);
    assert!(times[..3].iter().all(|ns| *ns >= 1_900_000), "runs are waited for: {times:?}");
    device.read(dst, 0, &mut [0; 5000]).unwrap();
    device.free(src).unwrap();
    device.free(dst).unwrap();
}

// ---- the worker without XRT: these run everywhere ----

/// A setup for the card that is a table, with an image that nobody loads.
fn fake(fault: &str) -> (TempDir, Setup) {
    let folder = tempfile::tempdir().unwrap();
    let xclbin = folder.path().join("fake.xclbin");
    let kernels = [Described { name: "scale_add", params: SCALE_ADD.params }];
    let mut file = image(&kernels, 1 << 30, Vec::new());
    file.mode = Mode::Hardware;
    std::fs::write(&xclbin, file.write()).unwrap();
    let Program { path, arguments } = rehearsal::this_program(NAMES.worker).unwrap();
    let environment = [(ROLE, "fake"), ("EDGESCALE_XRT_FAKE", fault)];
    let setup = Setup {
        program: path,
        arguments,
        xclbins: vec![xclbin],
        environment: environment.map(|(name, value)| (name.to_string(), value.into())).to_vec(),
        kernel_timeout: Duration::from_secs(20),
        answer_timeout: Duration::from_secs(60),
    };
    (folder, setup)
}

#[test]
fn a_device_in_a_process_of_its_own_conforms() {
    let (_folder, setup) = fake("");
    let found = discover(&setup);
    let ids: Vec<&str> = found.iter().map(|device| device.info().id.as_str()).collect();
    assert_eq!(ids, ["xrt0", "xrt1"], "until one is absent");
    found.iter().for_each(|device| conformance::check(device));
}

/// Two more circuits for a setup: one without the suite's kernel, and one that no card takes.
fn with_more(folder: &TempDir, mut setup: Setup) -> Setup {
    for (name, kernel) in [("second.xclbin", "other"), ("broken.xclbin", "scale_add")] {
        let kernels = [Described { name: kernel, params: SCALE_ADD.params }];
        let mut file = image(&kernels, 1 << 30, Vec::new());
        file.mode = Mode::Hardware;
        let path = folder.path().join(name);
        std::fs::write(&path, file.write()).unwrap();
        setup.xclbins.push(path);
    }
    setup
}

#[test]
fn buffers_live_through_a_change_of_the_circuit() {
    let (folder, setup) = fake("");
    let setup = with_more(&folder, setup);
    let device = discover(&setup).remove(0);
    let names: Vec<&str> = device.info().circuits.iter().map(|c| c.name.as_str()).collect();
    assert_eq!((names, device.circuit()), (vec!["fake", "second", "broken"], 0));
    assert!(device.info().runs(&SCALE_ADD) && !device.info().runs_with(1, [&SCALE_ADD]));
    let data: Vec<u8> = (0..WINDOW_BYTES + 77).map(|i| ((i * i) >> 5) as u8).collect();
    let (large, freed) = (device.alloc(data.len()).unwrap(), device.alloc(9).unwrap());
    device.write(large, 0, &data).unwrap();
    device.free(freed).unwrap();
    let holds = |id| {
        let mut got = vec![0; data.len()];
        device.read(id, 0, &mut got).map(|()| got == data)
    };
    for _ in 0..2 {
        device.load(1).unwrap();
        let error = scale(&device, 2).unwrap_err();
        assert!(matches!(error, Error::NoKernel { .. }), "{error}");
        assert!(device.circuit() == 1 && holds(large).unwrap());
        device.load(0).unwrap();
        assert_eq!(scale(&device, 2).unwrap(), scaled(2));
        assert!(device.circuit() == 0 && holds(large).unwrap());
    }

    let small = device.alloc(16).unwrap();
    device.run(&[scale_add_launch(large, small, 16, 1)]).unwrap();
    assert!(detail(&device.load(1).unwrap_err()).contains("work is pending"));
    device.finish().unwrap();
    assert!(detail(&device.load(3).unwrap_err()).contains("no circuit 3, there are 3"));
    assert!(device.circuit() == 0 && holds(large).unwrap());

    let error = device.load(2).unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "its buffers are gone: {error}");
    assert!(detail(&error).contains("broken.xclbin") && error.to_string().contains("not take"));
    assert!(matches!(holds(large).unwrap_err(), Error::Lost { .. }));
    assert_eq!((device.circuit(), scale(&device, 5).unwrap()), (0, scaled(5)), "as before");
}

/// On XRT, which has to give up one circuit for the other.
#[test]
fn the_emulated_card_changes_its_circuit() {
    let Some(mut setup) = emulated("") else { return };
    let other = setup.xclbins[0].with_file_name("other.xclbin");
    std::fs::copy(&setup.xclbins[0], &other).unwrap();
    setup.xclbins.push(other);
    let device = only(&setup);
    let kept = device.alloc(16).unwrap();
    device.write(kept, 0, &[7; 16]).unwrap();
    for (circuit, factor) in [(1, 2), (0, 3)] {
        device.load(circuit).unwrap();
        assert_eq!(scale(&device, factor).unwrap(), scaled(factor as u8));
        let mut got = [0; 16];
        device.read(kept, 0, &mut got).unwrap();
        assert_eq!((device.circuit(), got), (circuit, [7; 16]));
    }
}

/// Files that a card cannot have beside the first are not used; the others are.
#[test]
fn circuits_that_do_not_go_together_are_left_out() {
    let (folder, setup) = fake("");
    let mut setup = with_more(&folder, setup);
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let mut file = Xclbin::read(&std::fs::read(&setup.xclbins[0]).unwrap()).unwrap();
    let twin = elsewhere.join("fake.xclbin");
    std::fs::write(&twin, file.write()).unwrap();
    file.platform = "another_card_1".to_string();
    let foreign = elsewhere.join("foreign.xclbin");
    std::fs::write(&foreign, file.write()).unwrap();
    let text = elsewhere.join("text.xclbin");
    std::fs::write(&text, "no circuit").unwrap();
    setup.xclbins.splice(1..1, [twin, foreign, text, elsewhere.join("absent.xclbin")]);
    let circuits = discover(&setup).remove(0).info().circuits.clone();
    let names: Vec<&str> = circuits.iter().map(|circuit| circuit.name.as_str()).collect();
    assert_eq!(names, ["fake", "second", "broken"]);
}

#[test]
fn large_contents_cross_in_parts() {
    let (_folder, setup) = fake("");
    let device = discover(&setup).remove(0);
    let data: Vec<u8> = (0..2 * WINDOW_BYTES + 77).map(|i| ((i * i) >> 7) as u8).collect();
    let id = device.alloc(data.len() + 5).unwrap();
    device.write(id, 3, &data).unwrap();
    let mut got = vec![0; data.len()];
    device.read(id, 3, &mut got).unwrap();
    assert!(got == data);
}

#[test]
fn a_worker_that_dies_takes_its_buffers_and_is_followed_by_another() {
    let (_folder, setup) = fake("");
    let device = discover(&setup).remove(0);
    let old = device.alloc(16).unwrap();
    for fault in [fake::DIE, fake::LOST] {
        let error = scale(&device, fault).unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "{error}");
        detail(&error);
        for result in [
            device.read(old, 0, &mut [0]),
            device.write(old, 0, &[0]),
            device.run(&[scale_add_launch(old, old, 1, 1)]),
        ] {
            let error = result.expect_err("its buffers are gone");
            assert!(matches!(error, Error::Lost { .. }), "{error}");
        }
        device.free(old).unwrap();
        assert_eq!(scale(&device, 2).unwrap(), scaled(2), "by another worker");
    }
    let error = scale(&device, fake::FAIL).unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    assert_eq!(scale(&device, 5).unwrap(), scaled(5), "by the same worker");
}

#[test]
fn a_worker_that_does_not_answer_is_killed() {
    let (_folder, mut setup) = fake("sleeps");
    setup.kernel_timeout = Duration::from_millis(50);
    setup.answer_timeout = Duration::from_millis(300);
    let device = discover(&setup).remove(0);
    let error = device.prepare(&[&SCALE_ADD]).unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    assert!(detail(&error).contains("has not answered"), "{error}");
    let error = scale(&device, fake::HANG).unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    assert!(detail(&error).contains("scale_add has not ended after 50 ms"), "{error}");
    assert_eq!(scale(&device, 2).unwrap(), scaled(2));
}

#[test]
fn a_full_card_says_so_and_has_room_again_after() {
    let (_folder, setup) = fake("");
    let device = discover(&setup).remove(0);
    let half = fake::MEMORY_BYTES / 2;
    let first = device.alloc(half).unwrap();
    let error = device.alloc(half + 1).unwrap_err();
    let device_id = "xrt0".to_string();
    assert_eq!(error, Error::OutOfMemory { device: device_id, bytes: half + 1 });
    device.free(first).unwrap();
    assert_eq!(scale(&device, 2).unwrap(), scaled(2));
}

#[test]
fn workers_that_cannot_begin_are_no_devices() {
    for fault in ["old", "refuses", "dies"] {
        let (_folder, setup) = fake(fault);
        assert!(discover(&setup).is_empty(), "{fault}");
    }
    let (_folder, setup) = fake("");
    let info = discover(&setup)[0].info().clone();
    let with = |fault: &str| {
        let mut setup = setup.clone();
        setup.environment.push(("EDGESCALE_XRT_FAKE".to_string(), fault.into()));
        open(&info, &setup).err().unwrap()
    };
    assert!(matches!(with("old"), Error::Driver { .. }), "{}", with("old"));
    assert!(matches!(with("refuses"), Error::Failed { .. }));
    let dead = with("dies");
    assert!(matches!(dead, Error::Lost { .. }), "{dead}");
    assert!(detail(&dead).contains("it said: "), "what it printed is not lost: {dead}");
    let nowhere = Setup { program: "/nonexistent/worker".into(), ..setup.clone() };
    assert!(discover(&nowhere).is_empty());
    let away = DeviceInfo { id: "xrt7".to_string(), ..info.clone() };
    assert!(matches!(open(&away, &setup).err().unwrap(), Error::Lost { .. }));
    let other = DeviceInfo { name: "another".to_string(), ..info.clone() };
    assert!(matches!(open(&other, &setup).err().unwrap(), Error::Lost { .. }));
}

/// A process that a test looks for by a word in its environment.
fn processes_with(word: &str) -> usize {
    let is_there = |entry: std::io::Result<std::fs::DirEntry>| {
        let environment = std::fs::read(entry.ok()?.path().join("environ")).ok()?;
        let found = environment.windows(word.len()).any(|part| part == word.as_bytes());
        found.then_some(())
    };
    std::fs::read_dir("/proc").unwrap().filter_map(is_there).count()
}

#[test]
fn nothing_is_left_behind() {
    let word = format!("only-here-{}", std::process::id());
    let (_folder, mut setup) = fake("");
    setup.environment.push(("EDGESCALE_XRT_WORD".to_string(), word.clone().into()));
    let device = discover(&setup).remove(0);
    assert_eq!(processes_with(&word), 1);
    drop(device);
    assert_eq!(processes_with(&word), 0);
    let Some(mut setup) = emulated("hang=scale_add") else { return };
    setup.environment.push(("EDGESCALE_XRT_WORD".to_string(), word.clone().into()));
    setup.kernel_timeout = Duration::from_millis(50);
    let device = only(&setup);
    assert_eq!(processes_with(&word), 2, "the worker and the card");
    scale(&device, 2).unwrap_err();
    assert_eq!(processes_with(&word), 0, "all of the group are killed");
}
