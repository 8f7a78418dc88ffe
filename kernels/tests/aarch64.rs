//! The kernels as they run on aarch64: this crate's tests, compiled for that machine and carried
//! out by an emulator, so that the forms written for NEON and those that the compiler makes of
//! plain Rust are held to the same references. It is a binary of its own because it builds, which
//! nothing else should be run beside.

use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Where the loader and the libraries of that machine lie.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

#[test]
fn all_forms_give_the_same_bits_on_aarch64() {
    if cfg!(target_arch = "aarch64") {
        aloud::skipped!("the tests of this crate ran on such a machine");
        return;
    }
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tools = std::env::var_os("EDGESCALE_TOOLS");
    let tools = tools.map_or_else(|| checkout.join(".tools"), PathBuf::from);
    if !can_run(&tools) {
        return;
    }
    let done = Command::new(env!("CARGO"))
        .args(["test", "--locked", "--lib", "--target", TARGET])
        // What is not tried here need not be fast, and nobody reads its lines.
        .args(["--config", "profile.dev.package.edgescale-hw.opt-level=0"])
        .args(["--config", "profile.dev.debug=false", "--target-dir"])
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("aarch64"))
        // An emulator takes long for as many samples. How frames are shared out among threads has
        // nothing to do with the machine; kernels that do it in a way of their own are tried.
        .args(["--", "--exact", "--skip", "tests::frames_of_8k_are_no_different"])
        .args(["--skip", "tests::large_frames_are_split_over_threads"])
        // Drivers of this machine, in a process that an emulator does not start.
        .args(["--skip", "testing::drivers::oclgrind_finds_no_fault"])
        .args(["--skip", "testing::drivers::rusticl_gives_the_same_bits"])
        .args(["--skip", "testing::drivers::a_driver_that_is_named_gives_the_same_bits"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTC", tools.join("rust/bin/rustc"))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", tools.join("rust/bin/aarch64-cc"))
        .env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
            format!("qemu-aarch64 -L {LIBRARIES}"),
        )
        .env("CARGO_INCREMENTAL", "0")
        // Compilers and drivers of this machine are of no use over there.
        .env("EDGESCALE_TOOLS", "/nonexistent")
        .envs(["RUSTC_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"].map(|name| (name, "")))
        .output()
        .expect("cargo starts");
    let said = String::from_utf8_lossy(&done.stdout);
    let complaint = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{complaint}\n{said}");
    assert!(said.contains("tests::all_forms_of_all_kernels_give_the_same_bits ... ok"), "{said}");
}

fn can_run(tools: &Path) -> bool {
    let has_emulator = Command::new("qemu-aarch64").arg("--version").output().is_ok();
    let files = [
        tools.join("rust/bin/aarch64-cc"),
        tools.join("zig/ziglang/zig"),
        Path::new(LIBRARIES).join("lib/libgcc_s.so.1"),
    ];
    let missing = files.iter().find(|file| !file.exists());
    if !has_emulator {
        aloud::skipped!("no qemu-aarch64; run ./tools.sh test");
    } else if let Some(file) = missing {
        aloud::skipped!("{} is not there; run ./tools.sh test", file.display());
    }
    has_emulator && missing.is_none()
}
