//! Guests made from Rust with its standard library, where its target is installed.

use super::languages::shared_cache;
use super::stock::http;
use super::*;

/// A guest of `handlers/guests/rust`, or says aloud that its target is missing.
fn guest(name: &str) -> Option<Vec<u8>> {
    super::languages::built("rust", &format!("rust-{name}.wasm"), wasip2()?)
        .map(|file| std::fs::read(file).unwrap())
}

/// The folder of the target's libraries.
pub(super) fn wasip2() -> Option<&'static str> {
    let own = tools().join("rust/bin/rustc");
    let asked = std::process::Command::new(if own.exists() { own } else { "rustc".into() })
        .args(["--print", "target-libdir", "--target", "wasm32-wasip2"])
        .output();
    let libraries = asked.map(|asked| String::from_utf8_lossy(&asked.stdout).trim().to_owned());
    if !libraries.is_ok_and(|folder| std::path::Path::new(&folder).is_dir()) {
        aloud::skipped!("no wasm32-wasip2; run rustup target add, or ./tools.sh test");
        return None;
    }
    Some(".")
}

async fn web() -> Option<(Bench, Target)> {
    let code = guest("web")?;
    let bench = Bench::with(shared_cache);
    let target = bench.install(CodeKind::Component, &code).await;
    Some((bench, target))
}

async fn get(bench: &Bench, target: &Target, path: &str) -> String {
    let reply = bench.invoke(target, http("GET", path, "")).await.unwrap();
    assert_eq!(reply.http.unwrap().status, 200, "{path}");
    String::from_utf8(reply.body.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rust_component_of_wasi_http_has_its_standard_library() {
    let Some((bench, web)) = web().await else { return };
    bench.host.state().config.insert("greeting".into(), "hello".into());
    let reply = bench.invoke(&web, http("POST", "/echo", "body")).await.unwrap();
    assert_eq!(reply.body, "Method::Post /echo?a=b body");
    assert_eq!(get(&bench, &web, "/std").await, "3 true true hello");
    let said = bench.host.log_text();
    assert!(said.contains("to stdout") && said.contains("to stderr"), "{said}");
    let files = get(&bench, &web, "/files").await;
    assert!(files.starts_with("Err("), "{files}");
    assert_eq!(bench.invoke(&web, http("GET", "/no", "")).await.unwrap().http.unwrap().status, 404);
    assert_eq!(bench.invoke(&web, request("echo", "x")).await.unwrap().body.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_example_of_wasip2_runs_as_it_is() {
    let Some(code) = guest("http-proxy") else { return };
    let bench = Bench::with(shared_cache);
    let stock = bench.install(CodeKind::Component, &code).await;
    assert_eq!(get(&bench, &stock, "/").await, "Hello, WASI!");
    assert_eq!(bench.invoke(&stock, request("x", "")).await.unwrap().body, "Hello, WASI!");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rust_component_that_goes_wrong_is_explained_in_its_own_names() {
    let Some((bench, mut web)) = web().await else { return };
    let error = bench.invoke(&web, http("GET", "/panic", "")).await.unwrap_err();
    let InvokeError::GuestTrap { message, backtrace } = &error else { panic!("{error}") };
    assert!(message.contains("web.rs") && message.contains("gave up on purpose"), "{message}");
    assert!(backtrace.contains("give_up"), "{backtrace}");
    let source = include_str!("../../../guests/rust/examples/web.rs");
    for text in ["panic!(", "\"/panic\" =>"] {
        let line = 1 + source.lines().position(|line| line.contains(text)).unwrap();
        assert!(backtrace.contains(&format!("examples/web.rs:{line}:")), "{line}: {backtrace}");
    }

    let error = bench.invoke(&web, http("GET", "/exit", "")).await.unwrap_err();
    assert!(error.to_string().contains("exit"), "{error}");
    let error = bench.invoke(&web, http("GET", "/deep", "")).await.unwrap_err();
    assert!(matches!(error, InvokeError::GuestTrap { .. }), "{error}");
    web.limits.memory_mb = 16;
    let error = bench.invoke(&web, http("GET", "/grow", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::OutOfMemory { limit_mb: 16 });
    get(&bench, &web, "/std").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rust_component_of_wasi_messaging_answers_and_publishes() {
    let Some(code) = guest("topics") else { return };
    let bench = Bench::with(shared_cache);
    let topics = bench.install(CodeKind::Component, &code).await;
    for (topic, body) in [("echo", "abc"), ("relay", "[7]")] {
        let reply = bench.invoke(&topics, request(topic, body)).await.unwrap();
        assert_eq!(reply.body, body, "{topic}");
    }
    bench.invoke(&topics, event("publish", "{\"n\":1}")).await.unwrap();
    assert_eq!(bench.host.state().events[0].subject, "first");
    let failed = bench.invoke(&topics, event("other", "")).await.unwrap_err();
    assert_eq!(failed, InvokeError::GuestError("failed on purpose".into()));
}
