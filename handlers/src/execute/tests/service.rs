//! Stock components of `wasi:http` 0.3, unchanged, and the engine that only such code makes.

use super::components::{SUCCEED, component, event_component, event_text};
use super::languages::{guest, shared_cache, shared_optimised};
use super::outside::server;
use super::stock::http;
use super::streamed::{ask as ask_for_parts, gate};
use super::*;
use crate::outbound::tests::{Told, grants};

const COMPONENTIZE_PY: &str = "componentize/bin/componentize-py";
const JCO: &str = "node/node_modules/@bytecodealliance/jco/package.json";

/// A component that wants WASI 0.3, and handles events as it is told.
fn event_component_03(body: &str) -> Vec<u8> {
    let wants = r#"(import "wasi:random/random@0.3.0" (instance))"#;
    component(&format!("{wants} {}", event_text(body)))
}

/// Names of the files of compiled code.
fn compiled(bench: &Bench) -> Vec<String> {
    let files = std::fs::read_dir(bench.dir.path().join("code/compiled")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_code_of_wasi_03_makes_the_engine_for_it() {
    let bench = Bench::new();
    let engines = || bench.execute.shared.installer.engines();
    bench.install(CodeKind::Component, &event_component(SUCCEED)).await;
    assert_eq!(engines(), 1);
    let latest = bench.install(CodeKind::Component, &event_component_03(SUCCEED)).await;
    assert_eq!(engines(), 2);
    bench.invoke(&latest, event("x", "{}")).await.unwrap();
    let of_it = |file: &&String| file.starts_with(latest.digest.as_str());
    let files = compiled(&bench);
    let files: Vec<_> = files.iter().filter(of_it).collect();
    assert!(files.len() == 2 && files.iter().all(|f| f.contains("-concurrent-")), "{files:?}");

    bench.execute.uninstall(&latest.digest).unwrap();
    assert_eq!(engines(), 1, "it goes with the last of its code");
    let again = bench.install(CodeKind::Component, &event_component_03(SUCCEED)).await;
    bench.invoke(&again, event("x", "{}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_it_is_found_for_its_own_engine() {
    let dir = tempfile::tempdir().unwrap();
    let host: Arc<dyn Host> = Arc::new(Memory::default());
    let start = || EdgeExecute::start(Config::new(dir.path(), tools()), Arc::clone(&host)).unwrap();
    let bytes = Bytes::from(event_component_03(SUCCEED));
    let digest = Digest::of(&bytes);
    let code = Code { digest: digest.clone(), kind: CodeKind::Component, bytes };
    assert!(start().install(code.clone()).await.unwrap().compiled);

    let execute = start();
    let again = execute.reinstall(&digest, CodeKind::Component).await.unwrap().unwrap();
    assert!(!again.compiled, "it was compiled before");
    assert_eq!(execute.shared.installer.engines(), 2);
    drop(execute);
    // Its source is gone: the compiled form is found when the source is brought again.
    std::fs::remove_file(dir.path().join("source").join(digest.as_str())).unwrap();
    let execute = start();
    assert_eq!(execute.reinstall(&digest, CodeKind::Component).await.unwrap(), None);
    assert!(!execute.install(code).await.unwrap().compiled);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_of_one_engine_is_nothing_to_the_other() {
    let bench = Bench::new();
    let shared = &bench.execute.shared;
    let serial = bench.install(CodeKind::Component, &event_component(SUCCEED)).await;
    let latest = bench.install(CodeKind::Component, &event_component_03(SUCCEED)).await;
    let engine = shared.installer.fingerprint().to_owned();
    let folder = bench.dir.path().join("code/compiled");
    let named = |digest: &Digest, engine: &str| folder.join(format!("{digest}-{engine}.cwasm"));
    let other = compiled(&bench);
    let other = other.iter().find(|f| f.contains("-concurrent-") && f.ends_with("cwasm")).unwrap();

    // Under the name of the other engine: its seal says whose it is.
    let into = named(&serial.digest, &engine);
    std::fs::remove_file(&into).unwrap();
    std::fs::copy(folder.join(other), &into).unwrap();
    std::fs::copy(folder.join(other).with_extension("seal"), into.with_extension("seal")).unwrap();
    let why = shared.cache.compiled(&serial.digest, &engine).unwrap_err();
    assert!(why.contains("concurrent-"), "{why}");
    // Even under a seal of the other engine it is refused, and made anew.
    shared.cache.seal_compiled(&serial.digest, &engine).unwrap();
    shared.wasm.uninstall(&serial.digest);
    let again = bench.execute.reinstall(&serial.digest, CodeKind::Component).await;
    assert!(again.unwrap().unwrap().compiled);
    bench.invoke(&serial, event("x", "{}")).await.unwrap();
    bench.invoke(&latest, event("x", "{}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_of_wasi_03_are_bounded_like_others() {
    for baseline_bytes_min in [usize::MAX, 0] {
        let bench = Bench::with(|config| config.baseline_bytes_min = baseline_bytes_min);
        let _held = bench.execute.shared.installer.hold_behind().await;
        let install = async |body: &str| {
            let target = bench.install(CodeKind::Component, &event_component_03(body)).await;
            let compiler = bench.execute.compiler(&target.digest).unwrap();
            assert_eq!(compiler == Compiler::Baseline, baseline_bytes_min == 0);
            target
        };
        let mut spinner = install("(loop $l (br $l)) unreachable").await;
        spinner.limits = Limits { timeout_ms: 100, ..Limits::default() };
        let error = bench.invoke(&spinner, event("x", "")).await.unwrap_err();
        assert_eq!(error, InvokeError::Timeout { limit_ms: 100 });

        let grow = "(loop $l (drop (memory.grow (i32.const 16))) (br $l)) unreachable";
        let mut grower = install(grow).await;
        grower.limits = Limits { memory_mb: 8, ..Limits::default() };
        let error = bench.invoke(&grower, event("x", "")).await.unwrap_err();
        assert_eq!(error, InvokeError::OutOfMemory { limit_mb: 8 });

        let bad = install("unreachable").await;
        match bench.invoke(&bad, event("x", "")).await.unwrap_err() {
            InvokeError::GuestTrap { message, .. } => assert!(message.contains("unreachable")),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_nobody_knows_is_refused_by_name() {
    let bench = Bench::new();
    let wants = r#"(import "wasi:random/nothing@0.3.0" (instance (export "f" (func))))"#;
    let code = component(&format!("{wants} {}", event_text(SUCCEED)));
    let digest = Digest::of(&code);
    let code = Code { digest, kind: CodeKind::Component, bytes: code.into() };
    let error = bench.execute.install(code).await.unwrap_err().to_string();
    assert!(error.contains("wasi:random/nothing@0.3.0"), "{error}");
}

async fn python() -> Option<(Bench, Target)> {
    let code = guest("service", COMPONENTIZE_PY)?;
    let bench = Bench::with(shared_cache);
    let target = bench.install(CodeKind::Component, &code).await;
    Some((bench, target))
}

pub(super) async fn fetch(bench: &Bench, target: &Target, path: &str, url: &str) -> (u16, String) {
    let reply = bench.invoke(target, asking(path, url)).await;
    let reply = reply.unwrap_or_else(|error| panic!("{path}: {error}"));
    (reply.http.unwrap().status, String::from_utf8(reply.body.to_vec()).unwrap())
}

/// A request that names another host.
pub(super) fn asking(path: &str, url: &str) -> Input {
    let Input::Http(mut request) = http("GET", path, "") else { unreachable!() };
    request.headers.push(("x-url".into(), url.into()));
    Input::Http(request)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_service_answers_requests_calls_and_events() {
    let Some((bench, stock)) = python().await else { return };
    bench.host.state().config.insert("greeting".into(), "hello".into());
    let reply = bench.invoke(&stock, http("POST", "/head", "hello")).await.unwrap();
    let seen: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let expected = serde_json::json!({
        "method": "Method_Post", "path": "/head?a=b", "authority": "shop.test:8080",
        "agent": "test", "body": "hello",
    });
    assert_eq!(seen, expected);
    let kind = ("content-type".to_owned(), "application/json".to_owned());
    assert!(reply.http.unwrap().headers.contains(&kind));
    let get = async |path: &str| fetch(&bench, &stock, path, "").await;
    assert_eq!(get("/teapot").await, (418, "\"short and stout\"".into()));
    assert_eq!(get("/settings").await, (200, "\"hello\"".into()));
    assert_eq!(get("/absent").await.0, 404);
    assert_eq!(get("/big").await.1.len(), (3 << 20) + 2);

    let sum = bench.invoke(&stock, request("sum", "[1,2,3]")).await.unwrap();
    assert_eq!((&sum.body[..], sum.content_type.as_str()), (&b"6"[..], "application/json"));
    let failed = bench.invoke(&stock, request("teapot", "")).await.unwrap_err();
    assert_eq!(failed, InvokeError::GuestError("status 418: \"short and stout\"".into()));
    bench.invoke(&stock, event("motion.front", "{}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_says_goes_to_the_log_and_nothing_else_is_there() {
    let Some((bench, stock)) = python().await else { return };
    fetch(&bench, &stock, "/say", "").await;
    let lines = [
        (Level::Info, "to stdout".to_owned()),
        (Level::Warn, "to stderr".to_owned()),
        (Level::Info, "by a stream".to_owned()),
    ];
    assert_eq!(bench.host.state().lines, lines);
    let (_, files) = fetch(&bench, &stock, "/files", "").await;
    assert!(files == "[]" || files.contains("Error"), "{files}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_goes_wrong_is_explained() {
    let Some((bench, mut stock)) = python().await else { return };
    stock.limits = Limits { memory_mb: 128, timeout_ms: 10_000, ..Limits::default() };
    let refused = bench.invoke(&stock, http("GET", "/refuse", "")).await.unwrap_err();
    let text = "it answered with ErrorCode::InternalError(Some(\"refused on purpose\"))";
    assert_eq!(refused, InvokeError::GuestError(text.into()));
    match bench.invoke(&stock, http("GET", "/trap", "")).await.unwrap_err() {
        InvokeError::GuestTrap { message, backtrace } => {
            assert!(message.contains("ValueError: raised on purpose"), "{message}");
            let of_python = backtrace.contains("service.py\", line ");
            assert!(of_python && backtrace.contains("wasm backtrace"), "{backtrace}");
        }
        other => panic!("{other}"),
    }
    let error = bench.invoke(&stock, http("GET", "/bomb", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::OutOfMemory { limit_mb: 128 });
    stock.limits.timeout_ms = 100;
    let stopped = bench.invoke(&stock, http("GET", "/loop", "")).await.unwrap_err();
    assert_eq!(stopped, InvokeError::Timeout { limit_ms: 100 });
    stock.limits.timeout_ms = 10_000;
    fetch(&bench, &stock, "/settings", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_gets_out_only_where_the_grants_say() {
    let Some((bench, stock)) = python().await else { return };
    let port = server(&[("/", "welcome")]).await;
    let told = Told::default()
        .answers("open.test", &[&["127.0.0.1"]])
        .answers("inside.test", &[&["10.0.0.1"]]);
    let _ = bench.host.resolver.set(told);
    let ask = async |path: &str, url: &str| {
        fetch(&bench, &stock, path, &format!("http://{url}:{port}/")).await.1
    };
    assert_eq!(ask("/fetch", "open.test").await, "\"HttpRequestDenied\"");
    let granted = [format!("*.test:{port}"), format!("127.0.0.1:{port}")];
    bench.host.state().hosts = grants(&[&granted[0]]);
    let inside = ask("/fetch", "open.test").await;
    assert_eq!(inside, "\"DestinationIpProhibited\"", "a granted name leads inside");
    bench.host.state().hosts = grants(&granted.each_ref().map(String::as_str));
    assert_eq!(ask("/fetch", "open.test").await, "[200, \"welcome\"]");
    assert_eq!(ask("/fetch", "inside.test").await, "\"DestinationIpProhibited\"");
    assert_eq!(ask("/fetch", "[::1]").await, "\"HttpRequestDenied\"");
    assert_eq!(ask("/many", "open.test").await, "[64, \"ConnectionLimitReached\"]");
    let refused = bench.host.state().refused.clone();
    let expected = ["not granted", "private address", "private address", "not granted", "too many"];
    assert_eq!(refused, expected, "each refusal is noted once, by its kind");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_out_when_its_service_waits() {
    let Some((bench, stock)) = python().await else { return };
    let (port, open) = gate().await;
    bench.host.state().hosts = vec![format!("127.0.0.1/32:{port}").parse().unwrap()];
    let input = asking("/slow", &format!("http://127.0.0.1:{port}/"));
    let came = ask_for_parts(&bench, &stock, input, move || open.send(()).unwrap()).await;
    assert_eq!((came.head.status, came.first.as_str()), (200, "one "));
    assert_eq!(came.rest, "two");
    assert!(came.result.unwrap().body.is_empty());

    // One that does not wait is given whole, however long it is.
    for (path, body) in [("/echo", "x".repeat(1 << 20)), ("/hand-on", "y".repeat(1 << 20))] {
        let (outlet, begun) = Outlet::new();
        let work =
            Invocation { outlet: Some(outlet), ..invocation(&stock, http("POST", path, &body)) };
        let reply = bench.execute.invoke(work).await.unwrap();
        assert!(reply.body == body.as_bytes(), "{path}: {} bytes", reply.body.len());
        assert!(begun.await.is_err(), "{path}: it was begun");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_after_an_answer_belongs_to_its_invocation() {
    let Some((bench, stock)) = python().await else { return };
    let (port, open) = gate().await;
    let url = format!("http://127.0.0.1:{port}/");
    bench.host.state().hosts = vec![format!("127.0.0.1/32:{port}").parse().unwrap()];
    let (outlet, begun) = Outlet::new();
    let work = Invocation { outlet: Some(outlet), ..invocation(&stock, asking("/after", &url)) };
    let mut running = Box::pin(bench.execute.invoke(work));
    let early = tokio::time::timeout(Duration::from_millis(300), &mut running).await;
    assert!(early.is_err(), "it has not ended: {early:?}");
    assert_eq!(bench.host.log_text(), "");
    open.send(()).unwrap();
    running.await.unwrap();
    assert_eq!(bench.host.log_text(), "after the answer");
    drop(begun);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_service() {
    let Some(code) = guest("service", COMPONENTIZE_PY) else { return };
    let bench = Bench::with(|config| {
        shared_cache(config);
        config.instances_max = 1;
    });
    let stock = bench.install(CodeKind::Component, &code).await;
    let (port, open) = gate().await;
    bench.host.state().hosts = vec![format!("127.0.0.1/32:{port}").parse().unwrap()];
    let (outlet, begun) = Outlet::new();
    let input = asking("/slow", &format!("http://127.0.0.1:{port}/"));
    let work = Invocation { outlet: Some(outlet), ..invocation(&stock, input) };
    let first = async { begun.await.unwrap().parts.recv().await.unwrap() };
    tokio::select! {
        first = first => assert_eq!(&first[..], b"one "),
        ended = bench.execute.invoke(work) => panic!("it ended by itself: {ended:?}"),
    }
    // There is one place, and it is free again.
    assert_eq!(fetch(&bench, &stock, "/count", "").await.1, "1");
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_may_serve_several_times() {
    let Some((bench, mut stock)) = python().await else { return };
    stock.limits.reuse = Some(3);
    for expected in ["1", "2", "3", "1"] {
        assert_eq!(fetch(&bench, &stock, "/count", "").await.1, expected);
    }
    let many = futures::future::join_all((0..8).map(|_| fetch(&bench, &stock, "/count", "")));
    assert!(many.await.iter().all(|(status, _)| *status == 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_javascript_service_of_a_later_version_is_served() {
    let Some(code) = guest("servicejs", JCO) else { return };
    // By each compiler: the baseline's knows code of 0.3, too.
    let hasty = Bench::with(|config| config.baseline_bytes_min = 0);
    let _held = hasty.execute.shared.installer.hold_behind().await;
    let wanted = [Compiler::Optimising, Compiler::Baseline];
    for (bench, compiler) in [Bench::with(shared_optimised), hasty].into_iter().zip(wanted) {
        let stock = bench.install(CodeKind::Component, &code).await;
        assert_eq!(bench.execute.compiler(&stock.digest), Some(compiler));
        let reply = bench.invoke(&stock, http("POST", "/things", "hello")).await.unwrap();
        assert_eq!(reply.body, "/things?a=b: hello");
        assert_eq!(reply.http.unwrap().status, 201);
        let failed = bench.invoke(&stock, http("GET", "/throw", "")).await.unwrap_err();
        assert!(failed.to_string().contains("thrown on purpose"), "{failed}");
    }
}
