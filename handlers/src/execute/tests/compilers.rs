//! Two compilers, one after the other: what each makes serves, and changing over loses nothing.

use super::components::{SUCCEED, component, echo_component, event_component, with_ballast};
use super::workers::worker_program;
use super::*;

/// Everything is compiled in haste first.
fn hasty() -> Bench {
    Bench::with(|config| config.baseline_bytes_min = 0)
}

async fn until_optimised(execute: &EdgeExecute, digest: &Digest) {
    let started = Instant::now();
    while execute.compiler(digest) != Some(Compiler::Optimising) {
        assert!(started.elapsed() < Duration::from_secs(60), "it was never optimised");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Names of the files of compiled code.
fn compiled(dir: &std::path::Path) -> Vec<String> {
    let files = std::fs::read_dir(dir.join("compiled")).unwrap();
    let mut names: Vec<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn optimised_code_takes_over_and_no_invocation_is_lost() {
    let bench = hasty();
    // Slow to compile, so that some of the calls surely find the baseline's code.
    let filler: String = (0..4_000)
        .map(|n| format!("(func (param i32) (result i32) (i32.mul (local.get 0) (i32.const {n})))"))
        .collect();
    let body = format!("{SUCCEED}) {filler} (func {SUCCEED} drop");
    let bytes = event_component(&body);
    let mut kept = bench.install(CodeKind::Component, &bytes).await;
    assert_eq!(bench.execute.compiler(&kept.digest), Some(Compiler::Baseline));
    kept.limits.reuse = Some(100);
    let fresh = Target { handler: "fresh".into(), ..kept.clone() };
    let fresh = Target { limits: Limits::default(), ..fresh };
    let (mut early, mut late) = (0, 0);
    while late < 50 {
        match bench.execute.compiler(&kept.digest) {
            Some(Compiler::Baseline) => early += 1,
            _ => late += 1,
        }
        for target in [&kept, &fresh] {
            bench.invoke(target, event("x", "{}")).await.unwrap();
        }
    }
    assert!(early > 0, "no call found the baseline's code");
    let counts = bench.execute.compiled_by();
    assert_eq!(counts, [(Compiler::Baseline, 0), (Compiler::Optimising, 1)]);
    let files = compiled(&bench.dir.path().join("code"));
    let engine = bench.execute.shared.installer.fingerprint();
    assert_eq!(files.len(), 2, "code and seal of the optimising compiler: {files:?}");
    assert!(files.iter().all(|file| file.contains(engine)), "{files:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_form_is_sealed_and_used_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let host: Arc<dyn Host> = Arc::new(Memory::default());
    let start = |baseline_bytes_min: usize| {
        let mut config = Config::new(dir.path(), tools());
        (config.instances_max, config.baseline_bytes_min) = (4, baseline_bytes_min);
        EdgeExecute::start(config, Arc::clone(&host)).unwrap()
    };
    let bytes = Bytes::from(echo_component());
    let digest = Digest::of(&bytes);
    let code = Code { digest: digest.clone(), kind: CodeKind::Component, bytes };
    let echo = target(digest.clone(), CodeKind::Component);
    let hold = |execute: &EdgeExecute| execute.shared.installer.hold_behind();

    // Stopped before it was optimised.
    let execute = start(0);
    let held = hold(&execute).await;
    assert!(execute.install(code.clone()).await.unwrap().compiled);
    drop((execute, held));
    let baseline = compiled(dir.path());
    assert_eq!(baseline.len(), 2, "{baseline:?}");

    let execute = start(0);
    let held = hold(&execute).await;
    let again = execute.reinstall(&digest, CodeKind::Component).await.unwrap().unwrap();
    assert!(!again.compiled, "the baseline's code was there");
    assert_eq!(execute.compiler(&digest), Some(Compiler::Baseline));
    let reply = execute.invoke(invocation(&echo, request("any", "[1]"))).await.unwrap();
    assert_eq!(&reply.body[..], b"[1]");
    drop(held);
    until_optimised(&execute, &digest).await;
    let optimised = compiled(dir.path());
    assert!(optimised.iter().all(|file| !baseline.contains(file)), "{optimised:?}");
    drop(execute);

    // The baseline's form, under the key of the other engine, is no code of that engine.
    let execute = start(0);
    execute.reinstall(&digest, CodeKind::Component).await.unwrap().unwrap();
    assert_eq!(execute.compiler(&digest), Some(Compiler::Optimising));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_baseline_compiler_cannot_do_is_optimised_at_once() {
    let bench = hasty();
    // A tail call, and bytes that are nothing to either.
    let body = format!("(return_call $self)) (func $self (result i32) {SUCCEED}");
    let handler = bench.install(CodeKind::Component, &event_component(&body)).await;
    assert_eq!(bench.execute.compiler(&handler.digest), Some(Compiler::Optimising));
    bench.invoke(&handler, event("x", "{}")).await.unwrap();

    let nothing = component("");
    let digest = Digest::of(&nothing);
    let code = Code { digest, kind: CodeKind::Component, bytes: nothing.into() };
    let error = bench.execute.install(code).await.unwrap_err();
    assert!(error.to_string().contains("exports none"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn baseline_guests_are_bounded_like_others() {
    let bench = hasty();
    let _held = bench.execute.shared.installer.hold_behind().await;
    let spin = event_component("(loop $l (br $l)) unreachable");
    let mut spinner = bench.install(CodeKind::Component, &spin).await;
    spinner.limits = Limits { timeout_ms: 100, ..Limits::default() };
    let error = bench.invoke(&spinner, event("x", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::Timeout { limit_ms: 100 });

    let grow = "(loop $l (drop (memory.grow (i32.const 16))) (br $l)) unreachable";
    let mut grower = bench.install(CodeKind::Component, &event_component(grow)).await;
    grower.limits = Limits { memory_mb: 8, ..Limits::default() };
    let error = bench.invoke(&grower, event("x", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::OutOfMemory { limit_mb: 8 });

    let bad = bench.install(CodeKind::Component, &event_component("unreachable")).await;
    match bench.invoke(&bad, event("x", "")).await.unwrap_err() {
        InvokeError::GuestTrap { message, .. } => assert!(message.contains("unreachable")),
        other => panic!("{other}"),
    }
    let all = [&spinner, &grower, &bad].map(|target| bench.execute.compiler(&target.digest));
    assert_eq!(all, [Some(Compiler::Baseline); 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_goes_while_it_is_optimised_stays_gone() {
    let bench = hasty();
    let held = bench.execute.shared.installer.hold_behind().await;
    let echo = bench.install(CodeKind::Component, &echo_component()).await;
    bench.execute.uninstall(&echo.digest).unwrap();
    drop(held);
    // Its turn comes and ends before this one.
    drop(bench.execute.shared.installer.hold_behind().await);
    assert!(!bench.execute.is_installed(&echo.digest));
    assert_eq!(compiled(&bench.dir.path().join("code")), Vec::<String>::new());
}

fn component_code(bytes: Vec<u8>) -> Code {
    Code { digest: Digest::of(&bytes), kind: CodeKind::Component, bytes: bytes.into() }
}

/// Compiles in processes of their own, all of it by the optimising compiler.
fn apart(change: impl FnOnce(&mut Config)) -> Bench {
    Bench::with(|config| {
        (config.worker, config.baseline_bytes_min) = (Some(worker_program()), usize::MAX);
        change(config);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn code_is_compiled_in_a_process_of_its_own() {
    let bench = Bench::with(|config| {
        (config.worker, config.baseline_bytes_min) = (Some(worker_program()), 0);
    });
    let echo = bench.install(CodeKind::Component, &echo_component()).await;
    assert_eq!(&bench.invoke(&echo, request("any", "[1]")).await.unwrap().body[..], b"[1]");
    until_optimised(&bench.execute, &echo.digest).await;
    assert_eq!(&bench.invoke(&echo, request("any", "[2]")).await.unwrap().body[..], b"[2]");
    for (bytes, wanted) in [(b"nothing".to_vec(), "not a component"), (component(""), "none")] {
        let error = bench.execute.install(component_code(bytes)).await.unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_a_compiler_too_long_or_too_much_is_refused() {
    // Many functions, and one that is nearly as long as one may be.
    let long = component_code(with_ballast(event_component(SUCCEED), 2_000, 500));
    let large = component_code(with_ballast(event_component(SUCCEED), 1, 800_000));
    let short = apart(|config| config.compile_cpu_s = 1);
    let small = apart(|config| config.compile_memory_mb = 128);
    let hasty = Bench::with(|config| {
        (config.worker, config.compile_memory_mb) = (Some(worker_program()), 96);
    });
    let (cpu, memory) = ("more than 1 s of computing", "MiB of memory");
    for (bench, bomb, wanted) in
        [(short, &long, cpu), (small, &large, memory), (hasty, &large, memory)]
    {
        let started = Instant::now();
        let error = bench.execute.install(bomb.clone()).await.unwrap_err();
        let is_refused = matches!(error, InvokeError::BadCode { .. });
        assert!(is_refused && error.to_string().contains(wanted), "{error}");
        println!("refused after {:?}: {error}", started.elapsed());
        let echo = bench.install(CodeKind::Component, &echo_component()).await;
        bench.invoke(&echo, request("any", "[1]")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_compiled_already_waits_for_no_compiler() {
    let bench = apart(|_| {});
    let echo = bench.install(CodeKind::Component, &echo_component()).await;
    let execute = Arc::new(bench.execute);
    let large = component_code(with_ballast(event_component(SUCCEED), 8_000, 500));
    let compiling = tokio::spawn({
        let execute = Arc::clone(&execute);
        async move { execute.install(large).await }
    });
    let is_taken = || execute.shared.installer.is_compiling();
    until("it is being compiled", is_taken).await;
    let started = Instant::now();
    for _ in 0..2 {
        execute.shared.wasm.uninstall(&echo.digest);
        let again = execute.reinstall(&echo.digest, CodeKind::Component).await.unwrap();
        assert!(again.is_some_and(|again| !again.compiled));
        execute.shared.wasm.uninstall(&echo.digest);
        let again = execute.install(component_code(echo_component())).await.unwrap();
        assert!(!again.compiled);
    }
    println!("loaded four times in {:?}", started.elapsed());
    assert!(is_taken() && !compiling.is_finished(), "it was loaded meanwhile");
    compiling.abort();
    until("nothing is compiled any more", || !execute.shared.installer.is_compiling()).await;
}
