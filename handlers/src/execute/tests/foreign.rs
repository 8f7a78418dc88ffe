//! Code that one node compiles for another: for another machine, run there by an emulator, and for
//! the same one, taken in its place.

use std::process::Command;

use bus::pki::UserKey;

use super::components::{MEMORY, SUCCEED, component, echo_component, event_component};
use super::languages::{built, guest};
use super::*;

/// Where the loader and the libraries of the other machine lie.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";

fn code(bytes: Vec<u8>) -> Code {
    Code { digest: Digest::of(&bytes), kind: CodeKind::Component, bytes: bytes.into() }
}

/// Sums the squares below a number, through memory.
fn squares(prelude: &str) -> Vec<u8> {
    component(&format!(
        r#"{prelude}
        (core module $m {MEMORY}
          (func (export "sum") (param $n i32) (result i32) (local $at i32) (local $sum i32)
            (loop $next
              (if (i32.lt_u (local.get $at) (local.get $n)) (then
                (i32.store (i32.shl (local.get $at) (i32.const 2))
                  (i32.mul (local.get $at) (local.get $at)))
                (local.set $sum (i32.add (local.get $sum)
                  (i32.load (i32.shl (local.get $at) (i32.const 2)))))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br $next))))
            (local.get $sum))
          (func (export "out") (param i32) (result i32) (i32.load (i32.const -4))))
        (core instance $i (instantiate $m))
        (func (export "sum") (param "n" u32) (result u32) (canon lift (core func $i "sum")))
        (func (export "out") (param "n" u32) (result u32) (canon lift (core func $i "out")))"#
    ))
}

fn has_emulator() -> bool {
    let found = Command::new("qemu-aarch64").arg("--version").output().is_ok()
        && std::path::Path::new(SYSROOT).join("lib/libgcc_s.so.1").exists();
    if !found {
        aloud::skipped!("no qemu-aarch64 or no {SYSROOT}; run ./tools.sh test");
    }
    found && has_tool("wasmtimearm/libwasmtime.so") && has_tool("zig/ziglang/zig")
}

#[tokio::test(flavor = "multi_thread")]
async fn code_for_aarch64_runs_on_aarch64() {
    let bench = Bench::new();
    let key = UserKey::generate().unwrap();
    let compile = async |bytes: Vec<u8>| {
        bench.execute.compile_for(code(bytes), Machine::Aarch64, &key).await.unwrap()
    };
    let (label, serial) = compile(squares("")).await;
    assert_eq!((label.machine, label.concurrent), (Machine::Aarch64, false));
    let wants = r#"(import "wasi:random/random@0.3.0" (instance))"#;
    let (label, concurrent) = compile(squares(wants)).await;
    assert!(label.concurrent);
    for compiled in [&serial, &concurrent] {
        // An ELF file of 64 bits for machine 183, EM_AARCH64.
        assert_eq!((&compiled[..5], &compiled[18..20]), (&b"\x7fELF\x02"[..], &[183, 0][..]));
    }
    if !has_emulator() {
        return;
    }
    let Some(program) = built("arm", "run-aarch64", "zig/ziglang/zig") else { return };
    let run = |compiled: &[u8], words: &[&str]| {
        let file = bench.dir.path().join("code.cwasm");
        std::fs::write(&file, compiled).unwrap();
        let library = format!("LD_LIBRARY_PATH={}", tools().join("wasmtimearm").display());
        let mut emulator = Command::new("qemu-aarch64");
        emulator.args(["-L", SYSROOT, "-E", &library]).arg(&program).arg(&file).args(words);
        let output = emulator.output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    for (compiled, model) in [(&serial, "serial"), (&concurrent, "concurrent")] {
        assert_eq!(run(compiled, &["sum", "10", model]), "285");
        let many = (0u32..10_000).fold(0, |sum: u32, n| sum.wrapping_add(n.wrapping_mul(n)));
        assert_eq!(run(compiled, &["sum", "10000", model]), many.to_string());
        let out = run(compiled, &["out", "0", model]);
        assert!(out.contains("out of bounds memory access"), "{out}");
    }
    // The other engine says what differs.
    let refused = run(&serial, &["sum", "10", "concurrent"]);
    assert!(refused.contains("concurrency support"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_for_this_machine_is_taken_from_another_node() {
    let (maker, taker) = (Bench::new(), Bench::new());
    let key = UserKey::generate().unwrap();
    let here = Machine::here().expect("tests run on one of them");
    let echo = code(echo_component());
    let (label, compiled) = maker.execute.compile_for(echo.clone(), here, &key).await.unwrap();
    let tables = b".eh_frame";
    assert!(!compiled.windows(tables.len()).any(|part| part == tables), "for nobody's unwinder");
    let trusted = [key.public.clone()];
    let take = async |label: &Label, compiled: &Bytes, trusted: &[String]| {
        taker.execute.install_compiled(label, compiled.clone(), trusted).await
    };

    let why = take(&label, &compiled, &[]).await.unwrap_err().to_string();
    assert!(why.contains("[code] trust"), "{why}");
    let mut bent = compiled.to_vec();
    bent[1_000] ^= 1;
    let why = take(&label, &bent.into(), &trusted).await.unwrap_err().to_string();
    assert!(why.contains("its label says"), "{why}");
    assert!(!taker.execute.is_installed(&echo.digest));

    let taken = take(&label, &compiled, &trusted).await.unwrap();
    assert!(!taken.compiled && taken.exports == ["handle-call"], "{taken:?}");
    let handler = target(echo.digest.clone(), CodeKind::Component);
    let reply = taker.invoke(&handler, request("any", "[1]")).await.unwrap();
    assert_eq!(&reply.body[..], b"[1]");
    // It is sealed like what is compiled here, and needs no source after a restart.
    taker.execute.shared.wasm.uninstall(&echo.digest);
    let again = taker.execute.reinstall(&echo.digest, CodeKind::Component).await.unwrap().unwrap();
    assert!(!again.compiled);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_for_another_machine_is_refused_even_under_a_wrong_label() {
    let (maker, taker) = (Bench::new(), Bench::new());
    let key = UserKey::generate().unwrap();
    let (here, trusted) = (Machine::here().unwrap(), [key.public.clone()]);
    let other = Machine::ALL.into_iter().find(|machine| *machine != here).unwrap();
    let handler = code(event_component(SUCCEED));
    let (label, compiled) = maker.execute.compile_for(handler.clone(), other, &key).await.unwrap();
    let take = async |label: &Label| {
        let taken = taker.execute.install_compiled(label, compiled.clone(), &trusted).await;
        taken.unwrap_err().to_string()
    };
    let why = take(&label).await;
    let expected =
        format!("it was compiled for {}, and this node is {}", other.name(), here.name());
    assert!(why.contains(&expected) && why.contains("[code] targets"), "{why}");
    let wrong = Label::of(handler.digest.clone(), here, false, &compiled, &key).unwrap();
    let why = take(&wrong).await;
    assert!(why.contains("does not run here"), "{why}");
    let expected = format!("Module was compiled for architecture '{}'", other.name());
    assert!(why.contains(&expected), "{why}");
    let folder = taker.dir.path().join("code/compiled");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "nothing is left of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_compiles_nothing_runs_what_another_compiled() {
    let (maker, taker) = (Bench::new(), Bench::with(|config| config.compile = false));
    let key = UserKey::generate().unwrap();
    let echo = code(echo_component());
    let why = taker.execute.install(echo.clone()).await.unwrap_err();
    assert!(why.is_retryable() && why.to_string().contains("compiles nothing itself"), "{why}");
    assert!(!taker.execute.is_installed(&echo.digest) && !taker.execute.compiles());

    let here = Machine::here().expect("tests run on one of them");
    let (label, compiled) = maker.execute.compile_for(echo.clone(), here, &key).await.unwrap();
    taker.execute.install_compiled(&label, compiled, &[key.public]).await.unwrap();
    let handler = target(echo.digest.clone(), CodeKind::Component);
    let reply = taker.invoke(&handler, request("any", "[1]")).await.unwrap();
    assert_eq!(&reply.body[..], b"[1]");
    // Its source beside it is no reason to compile.
    taker.execute.shared.wasm.uninstall(&echo.digest);
    assert!(!taker.execute.install(echo).await.unwrap().compiled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_component_of_wasi_03_is_compiled_for_aarch64() {
    let Some(bytes) = guest("servicejs", "node/node_modules/@bytecodealliance/jco/package.json")
    else {
        return;
    };
    let bench = Bench::new();
    let key = UserKey::generate().unwrap();
    let made = bench.execute.compile_for(code(bytes), Machine::Aarch64, &key).await;
    let (label, compiled) = made.unwrap();
    assert!(label.concurrent && compiled.len() > 1 << 20, "{} bytes", compiled.len());
}
