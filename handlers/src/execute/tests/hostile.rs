//! Components made to break the host: bombs, depths, sizes, damage. Whatever they do, they are
//! refused or stopped, and the next handler runs.

use super::components::{MEMORY, SUCCEED, component, echo_component, event_component, event_text};
use super::*;
use crate::execute::wasm::{SHARED, compile_here, joined};
use crate::execute::workers::{BROKE, Compile};

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

/// Ten memories and as many tables in each of two instances, and one more component: a pool has
/// room for as many instances as it says, whatever they are made of.
#[tokio::test(flavor = "multi_thread")]
async fn instances_of_many_memories_leave_room_for_others() {
    let bench = Bench::with(|config| config.instances_max = 3);
    let one = "(memory 1) (table 1 funcref) (table 1 funcref)";
    let more: String = (0..9)
        .map(|n| format!("(core module $m{n} {one}) (core instance (instantiate $m{n}))"))
        .collect();
    let endless = component(&(event_text("(loop $l (br $l)) unreachable") + &more));
    let mut large = bench.install(CodeKind::Component, &endless).await;
    large.limits.timeout_ms = 1_500;
    let echo = bench.install(CodeKind::Component, &echo_component()).await;
    let run = || bench.invoke(&large, event("x", ""));
    let others = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        for _ in 0..20 {
            bench.invoke(&echo, request("any", "[1]")).await.unwrap();
        }
    };
    let (first, second, ()) = tokio::join!(run(), run(), others);
    for ended in [first, second] {
        assert_eq!(ended.unwrap_err(), InvokeError::Timeout { limit_ms: 1_500 });
    }
}

/// A component of two modules that share a memory.
fn sharing() -> Vec<u8> {
    let whole = event_text("(global.set $n (i32.const 1)) (i32.const 16)");
    let apart =
        format!("(core module $memory {MEMORY}) (core instance $mem (instantiate $memory))");
    let import = "(import \"mem\" \"memory\" (memory 4)) (global $n (mut i32) (i32.const 0))";
    let whole = whole
        .replace(MEMORY, import)
        .replace("(core module $m\n", &format!("{apart} (core module $m\n"))
        .replace("(instantiate $m)", "(instantiate $m (with \"mem\" (instance $mem)))")
        .replace("(core memory $i", "(core memory $mem")
        .replace("(core func $i \"realloc\")", "(core func $mem \"realloc\")");
    component(&whole)
}

/// How many components are bent when nothing is said.
const ROUNDS: u64 = 200;

/// Numbers drawn from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    /// The bytes with one change.
    fn bend(&mut self, bytes: &mut Vec<u8>) {
        let (at, len) = (self.below(bytes.len()), self.below(24));
        let end = (at + len).min(bytes.len());
        match self.below(6) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            // Another instruction, mostly.
            4 => bytes[at] = self.below(256) as u8,
            _ => bytes.truncate(at.max(8)),
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
}

/// Both compilers take the bytes or refuse them; a panic of either, or of what joins modules
/// before, is a failure. Tells whether modules were joined.
fn compile_both(what: &str, bytes: &[u8]) -> bool {
    let compile = |compiler| {
        let (concurrent, machine, behind) = (false, None, false);
        compile_here(&Compile { compiler, concurrent, machine, behind, cpu_s: 0 }, bytes)
    };
    let both = || {
        let _ = (compile(Compiler::Baseline), compile(Compiler::Optimising));
        joined(bytes).is_some()
    };
    std::panic::catch_unwind(both).unwrap_or_else(|panic| {
        eprintln!("{what}: {bytes:?}");
        std::panic::resume_unwind(panic)
    })
}

/// Bytes of good components, changed, cut and doubled at random: refused or run, never a crash.
/// `EDGESCALE_FUZZ_SECONDS` says for how long, and `EDGESCALE_FUZZ_SEED` from which seed.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_components_crash_nothing() {
    let said = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = said("EDGESCALE_FUZZ_SECONDS").map(Duration::from_secs);
    let first = said("EDGESCALE_FUZZ_SEED").unwrap_or_else(bus::route::retry::draw);
    println!("from seed {first}");
    let benches = [0, usize::MAX].map(|min| Bench::with(|config| config.baseline_bytes_min = min));
    let good =
        [echo_component(), event_component(SUCCEED), sharing(), wat::parse_str(SHARED).unwrap()];
    let is_joined = good.each_ref().map(|bytes| compile_both("as it is", bytes));
    assert_eq!(is_joined, [false, false, true, true]);
    let (started, mut round, mut accepted, mut were_joined) = (Instant::now(), 0, 0, 0);
    while seconds.map_or(round < ROUNDS, |seconds| started.elapsed() < seconds) {
        let seed = first.wrapping_add(round);
        let what = format!("seed {seed}");
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut bytes = good[dice.below(good.len())].clone();
        // Mostly one change: what is bent twice is hardly ever valid.
        (0..=dice.below(4) / 3).for_each(|_| dice.bend(&mut bytes));
        were_joined += u32::from(compile_both(&what, &bytes));
        let digest = Digest::of(&bytes);
        let kind = CodeKind::Component;
        let code = Code { digest: digest.clone(), kind, bytes: bytes.into() };
        let bench = &benches[round as usize % 2];
        round += 1;
        match bench.execute.install(code).await {
            Ok(_) => {
                accepted += 1;
                let mut handler = target(digest.clone(), kind);
                handler.limits.timeout_ms = 200;
                let _ = bench.invoke(&handler, event("x", "body")).await;
                let _ = bench.invoke(&handler, request("x", "body")).await;
                bench.execute.uninstall(&digest).unwrap();
            }
            Err(error) => {
                assert!(matches!(error, InvokeError::BadCode { .. }), "{what}: {error}");
                assert!(!error.to_string().contains(BROKE), "{what}: {error}");
            }
        }
    }
    println!("{accepted} of {round} damaged components still ran; {were_joined} were joined");
    for bench in &benches {
        let handler = bench.install(CodeKind::Component, &event_component(SUCCEED)).await;
        bench.invoke(&handler, event("x", "")).await.unwrap();
    }
}
