//! The OpenCL forms of all kernels on drivers that the system's loader need not know: each in a
//! process of its own, because the loader reads its folder once, and what a driver breaks is then
//! not the process of the other tests.
//!
//! A driver is looked for where its package puts it, in the system and in the folder of tools.
//! `EDGESCALE_OPENCL_DRIVER` names the library of any other.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use hw::{Grid, conformance};

use super::*;
use crate::stem::{launch, params, portable};
use crate::{Dice, Entry};

/// Set for the process with the driver.
const ROLE: &str = "EDGESCALE_OPENCL_DRIVER_TESTED";
/// The library of one more driver.
const NAMED: &str = "EDGESCALE_OPENCL_DRIVER";
/// Oclgrind writes here what it finds.
const FOUND: &str = "OCLGRIND_LOG";

/// Sides for drivers that run what they compile; as in the tests of all devices, but fewer.
const SIDES: [(u32, u32); 6] = [(1, 1), (1, 37), (41, 1), (267, 5), (3, 261), (101, 67)];
/// For simulators, which take minutes for what others do in milliseconds: one sample; and rows of
/// more columns than a group has items, with more rows than that.
const SIDES_SIMULATED: [(u32, u32); 2] = [(1, 1), (19, 11)];
/// Items of a group, and how many neighbours each does at once in kernels that can.
const SIZES: [(usize, usize); 4] = [(1, 1), (64, 1), (1, 16), (64, 4)];
const SIZES_SIMULATED: [(usize, usize); 2] = [(8, 1), (8, 4)];

/// Kernels that the compiler of rusticl's CPU device takes minutes for.
const SLOW: [&str; 2] = ["h264_code", "h264_diagonal"];

/// Watches over every access: to memory that is none, not written yet, or used by two at once.
#[test]
fn oclgrind_finds_no_fault() {
    let found = library("oclgrind", &["usr/lib/oclgrind/liboclgrind-rt-icd.so"]);
    check_driver("oclgrind", found, "no Oclgrind; install it with ./tools.sh test");
}

#[test]
fn rusticl_gives_the_same_bits() {
    let places = [
        "usr/lib/x86_64-linux-gnu/libRusticlOpenCL.so.1",
        "usr/lib/aarch64-linux-gnu/libRusticlOpenCL.so.1",
        "usr/lib64/libRusticlOpenCL.so.1",
    ];
    let found = library("rusticl", &places);
    if found.is_some() {
        aloud::skipped!("{SLOW:?} on rusticl, which takes minutes to compile them");
    }
    check_driver("rusticl", found, "no rusticl (mesa-opencl-icd)");
}

#[test]
fn intels_runtime_gives_the_same_bits() {
    let found = library("intelocl", &["lib/libintelocl.so"]);
    check_driver(
        "intel",
        found,
        "no OpenCL of Intel (intel-opencl-rt of PyPI under .tools/intelocl)",
    );
}

#[test]
fn a_driver_that_is_named_gives_the_same_bits() {
    let named = std::env::var_os(NAMED).map(PathBuf::from);
    check_driver("named", named, &format!("no other driver; {NAMED} may name one"));
}

/// The first of these files that is there, below a folder of the tools or in the system.
fn library(folder: &str, files: &[&str]) -> Option<PathBuf> {
    let of_checkout = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools");
    let tools = std::env::var_os("EDGESCALE_TOOLS").map_or_else(of_checkout, PathBuf::from);
    let roots = [tools.join(folder), PathBuf::from("/")];
    let paths = roots.iter().flat_map(|root| files.iter().map(|file| root.join(file)));
    paths.into_iter().find(|path| path.exists())
}

fn check_driver(name: &str, library: Option<PathBuf>, otherwise: &str) {
    let Some(library) = library.and_then(|path| path.canonicalize().ok()) else {
        aloud::skipped!("{otherwise}");
        return;
    };
    // For the loader; beside the program, so that the next run uses it again.
    let vendors = std::env::current_exe().unwrap().with_extension(format!("{name}.vendors"));
    std::fs::create_dir_all(&vendors).unwrap();
    std::fs::write(vendors.join("one.icd"), library.to_str().unwrap()).unwrap();
    let found = vendors.join("found");
    std::fs::write(&found, "").unwrap();
    let beside = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let beside = [library.parent().unwrap().to_path_buf()]
        .into_iter()
        .chain(std::env::split_paths(&beside).filter(|path| !path.as_os_str().is_empty()));
    let child = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "testing::drivers::driver_process", "--nocapture"])
        .env("LD_LIBRARY_PATH", std::env::join_paths(beside).unwrap())
        .env("OCL_ICD_VENDORS", &vendors)
        .env(FOUND, &found)
        .envs([(ROLE, "1"), ("OCLGRIND_DATA_RACES", "1"), ("OCLGRIND_UNINITIALIZED", "1")])
        // Optimised code has instructions that it does not know.
        .env("OCLGRIND_BUILD_OPTIONS", "-cl-opt-disable")
        .env("RUSTICL_ENABLE", "llvmpipe,swrast")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    println!("{said}{}", String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success(), "{}: {}", library.display(), child.status);
    assert!(said.contains("checked "), "{}: no device", library.display());
}

/// Not a test: the process with the driver, when one of those above starts this program again.
#[test]
fn driver_process() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let found = |group, span| {
        let group_size = Some(group);
        let config = Config { group_size, span, pool_bytes_max: 0, ..Config::default() };
        hw::opencl::discover(&config)
    };
    let is_simulated = found(1, 1).iter().any(|device| device.info().driver.contains("Oclgrind"));
    let sizes = if is_simulated { &SIZES_SIMULATED[..] } else { &SIZES[..] };
    let mut faults = Vec::new();
    for (group, span) in sizes {
        for device in found(*group, *span) {
            // It sees itself where buffers end: no bytes stand behind them.
            let (sides, guard) = match is_simulated {
                true => (&SIDES_SIMULATED[..], 0),
                false => (&SIDES[..], GUARD_BYTES),
            };
            match is_simulated {
                true => faults_are_found(&device),
                false if *span == 1 => conformance::check(&device),
                false => {}
            }
            check_kernels(&device, *span, sides, guard, &mut faults);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Reads what is behind a buffer, and has all items write to one place.
static FAULTY: hw::Kernel = portable(
    "faulty",
    params!(In src, Out dst; count),
    "KERNEL void faulty(GLOBAL const uchar *src, GLOBAL uchar *dst, uint count)
    {
        if (ITEM >= count)
            return;
        dst[0] = (uchar)ITEM;
        dst[ITEM] = src[ITEM + 1];
    }",
    |_| {},
    |scalars| Some(vec![scalars[0] as usize; 2]),
);

/// A simulator that finds nothing where there is something finds nothing elsewhere either.
fn faults_are_found(device: &dyn Device) {
    let [src, dst] = [filled(device, &[1; 16]), filled(device, &[2; 16])];
    let before = told().len();
    device.run(&[launch(&FAULTY, &[src, dst], &[16], Grid::Items(16))]).expect("run");
    device.finish().expect("finish");
    let said = told()[before..].to_string();
    assert!(said.contains("Invalid read") && said.contains("data race"), "{said}");
    [src, dst].into_iter().for_each(|id| device.free(id).expect("free"));
}

fn check_kernels(
    device: &dyn Device,
    span: usize,
    sides: &[(u32, u32)],
    guard: usize,
    faults: &mut Vec<String>,
) {
    let (began, mut launches, mut heard) = (std::time::Instant::now(), 0, told().len());
    let is_slow = device.info().name.contains("llvmpipe");
    let fits = |entry: &&Entry| {
        (span == 1 || has_spans(entry.kernel)) && !(is_slow && SLOW.contains(&entry.kernel.stem))
    };
    for entry in crate::entries().filter(fits) {
        let began = std::time::Instant::now();
        for (seed, (width, height)) in sides.iter().enumerate() {
            let sample = (entry.sample)(&mut Dice::new(seed as u64 + 1), *width, *height);
            let command = |ids: &[BufferId]| sample.command.map_buffers(|id| ids[id.0 as usize]);
            let Command::Launch(launch) = command(&(0..8).map(BufferId).collect::<Vec<_>>()) else {
                panic!("a launch");
            };
            let got = run_device(device, &command, &launch, &sample.inputs, guard);
            launches += 1;
            let (stem, said) = (entry.kernel.stem, told());
            if said.len() > heard {
                faults.push(format!("{stem} of {width} x {height}:{}", &said[heard..]));
            }
            heard = said.len();
            // What this one leaves depends on the order of items.
            let is_free = stem == "component_join";
            if !is_free && got != run_reference(&launch, &sample.inputs, guard) {
                faults.push(format!("{stem} of {width} x {height}: other bits"));
            }
        }
        println!("{}: {} ms", entry.kernel.stem, began.elapsed().as_millis());
    }
    let info = device.info();
    let seconds = began.elapsed().as_secs();
    println!("checked {} ({}): {launches} launches in {seconds} s", info.name, info.driver);
}

/// All that a simulator has found.
fn told() -> String {
    std::env::var_os(FOUND).map(|path| std::fs::read_to_string(path).unwrap()).unwrap_or_default()
}
