//! Components made to break the host: bombs, depths, sizes, damage. Whatever they do, they are
//! refused or stopped, and the next handler runs.

use super::components::{SUCCEED, component, echo_component, event_component};
use super::*;

/// A component whose start function has the given body.
fn at_start(fields: &str, body: &str) -> Vec<u8> {
    component(&format!(
        r#"(core module $m {fields} (func $s {body}) (start $s) (func (export "handle")))
           (core instance $i (instantiate $m))
           (func (export "handle-event") (canon lift (core func $i "handle")))"#
    ))
}

async fn refused(bench: &Bench, what: &str, bytes: &[u8]) {
    let code =
        Code { digest: Digest::of(bytes), kind: CodeKind::Component, bytes: bytes.to_vec().into() };
    let error = bench.execute.install(code).await.expect_err(what);
    assert!(matches!(error, InvokeError::BadCode { .. }), "{what}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_refused_when_they_come() {
    let bench = Bench::new();
    let cases = [
        ("endless recursion", at_start("(func $f (call $f))", "(call $f)")),
        ("recursion with many locals", {
            let locals = "(local i64)".repeat(1_000);
            at_start(&format!("(func $f {locals} (call $f))"), "(call $f)")
        }),
        ("a memory of 4 GiB", at_start("(memory 65536)", "")),
        ("a memory that grows", {
            at_start("(memory 1)", "(loop $l (drop (memory.grow (i32.const 64))) (br $l))")
        }),
        ("a table of 10 million", at_start("(table 10000000 funcref)", "")),
        ("a table that grows", {
            let grow = "(drop (table.grow $t (ref.null func) (i32.const 100000)))";
            at_start("(table $t 1 funcref)", &format!("(loop $l {grow} (br $l))"))
        }),
        ("many memories", at_start(&"(memory 1)".repeat(50), "")),
        ("many instances", {
            let many = "(core instance (instantiate $m))".repeat(500);
            component(&format!("(core module $m) {many}"))
        }),
        ("components within components", {
            let depth = 60;
            component(&format!("{}{}", "(component ".repeat(depth), ")".repeat(depth)))
        }),
        ("data out of bounds", at_start("(memory 1) (data (i32.const 65535) \"ab\")", "")),
    ];
    let good = bench.install(CodeKind::Component, &event_component(SUCCEED)).await;
    for (what, bytes) in cases {
        refused(&bench, what, &bytes).await;
        bench.invoke(&good, event("x", "")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_explodes_later_is_stopped() {
    let bench = Bench::new();
    let good = bench.install(CodeKind::Component, &event_component(SUCCEED)).await;
    let cases = [
        "(loop $l (drop (memory.grow (i32.const 1))) (br $l)) unreachable",
        // A string of 2 GiB for an answer, one that ends outside, and one of no memory at all.
        r#"(i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 0))
           (i32.store (i32.const 24) (i32.const 0x7fffffff)) (i32.const 16)"#,
        r#"(i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const -8))
           (i32.store (i32.const 24) (i32.const 64)) (i32.const 16)"#,
        "(i32.const -1)",
    ];
    for body in cases {
        let handler = bench.install(CodeKind::Component, &event_component(body)).await;
        let error = bench.invoke(&handler, event("x", "")).await.unwrap_err();
        let stopped =
            matches!(error, InvokeError::GuestTrap { .. } | InvokeError::OutOfMemory { .. });
        assert!(stopped, "{body}: {error}");
        bench.invoke(&good, event("x", "")).await.unwrap();
    }
}

/// Bytes of good components, changed, cut and doubled at random: refused or run, never a crash.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_components_crash_nothing() {
    const ROUNDS: u64 = 300;
    let bench = Bench::new();
    let good = [echo_component(), event_component(SUCCEED)];
    let mut accepted = 0;
    for seed in 0..ROUNDS {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below.max(1) as u64) as usize
        };
        let mut bytes = good[random(2)].clone();
        for _ in 0..=random(4) {
            let (at, len) = (random(bytes.len()), random(24));
            let end = (at + len).min(bytes.len());
            match random(5) {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random(5)],
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => bytes.truncate(at.max(8)),
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        let digest = Digest::of(&bytes);
        let kind = CodeKind::Component;
        let code = Code { digest: digest.clone(), kind, bytes: bytes.into() };
        match bench.execute.install(code).await {
            Ok(_) => {
                accepted += 1;
                let mut handler = target(digest, kind);
                handler.limits.timeout_ms = 200;
                let _ = bench.invoke(&handler, event("x", "body")).await;
                let _ = bench.invoke(&handler, request("x", "body")).await;
            }
            Err(error) => {
                assert!(matches!(error, InvokeError::BadCode { .. }), "seed {seed}: {error}");
            }
        }
    }
    println!("{accepted} of {ROUNDS} damaged components still ran");
    let handler = bench.install(CodeKind::Component, &event_component(SUCCEED)).await;
    bench.invoke(&handler, event("x", "")).await.unwrap();
}
