//! Stock components of other platforms' worlds, unchanged: `wasi:http` as componentize-py and
//! componentize-js make them, and wit-bindgen in C; `wasmcloud:messaging` with `wasi:keyvalue`,
//! `wasi:config` and `wasi:logging` around it.

use super::components::{MEMORY, component};
use super::languages::{guest, shared_cache};
use super::outside::server;
use super::*;

async fn stock(name: &str, tool: &str) -> Option<(Bench, Target)> {
    let code = guest(name, tool)?;
    let bench = Bench::with(shared_cache);
    let target = bench.install(CodeKind::Component, &code).await;
    Some((bench, target))
}

const JCO: &str = "node/node_modules/@bytecodealliance/jco/package.json";
const COMPONENTIZE_PY: &str = "componentize/bin/componentize-py";

async fn ask(bench: &Bench, target: &Target, name: &str, body: &str) -> String {
    let reply = bench.invoke(target, request(name, body)).await;
    let reply = reply.unwrap_or_else(|error| panic!("{name}: {error}"));
    String::from_utf8(reply.body.to_vec()).unwrap()
}

pub(super) fn http(method: &str, path: &str, body: &str) -> Input {
    Input::Http(Box::new(HttpRequest {
        id: "h1".into(),
        method: method.into(),
        path: path.into(),
        query: "a=b".into(),
        authority: "shop.test:8080".into(),
        headers: vec![("x-agent".into(), "test".into())],
        body: body.to_owned().into(),
        ..HttpRequest::default()
    }))
}

async fn fetch(bench: &Bench, target: &Target, path: &str) -> (u16, String) {
    let reply = bench.invoke(target, http("POST", path, "hello")).await;
    let reply = reply.unwrap_or_else(|error| panic!("{path}: {error}"));
    let body = String::from_utf8(reply.body.to_vec()).unwrap();
    (reply.http.unwrap().status, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_reach_every_import() {
    let Some((bench, stock)) = stock("messages", JCO).await else { return };
    bench.host.state().config.insert("greeting".into(), "hello".into());
    bench.host.state().id_column = Some("key");

    assert_eq!(ask(&bench, &stock, "echo", "abc").await, "\"abc\"");
    assert_eq!(ask(&bench, &stock, "relay", "abc").await, "\"abc\"");
    let settings = r#"["hello",null,[["greeting","hello"]]]"#;
    assert_eq!(ask(&bench, &stock, "settings", "").await, settings);
    let seen = r#"["one",null,true,["three",null],["c"],[5,3],"3"]"#;
    assert_eq!(ask(&bench, &stock, "store", "").await, seen);
    assert_eq!(ask(&bench, &stock, "swap", "").await, r#"["cas-failed","won","third"]"#);
    assert_eq!(ask(&bench, &stock, "missing", "").await, r#"["no-such-store","access-denied"]"#);

    bench.invoke(&stock, event("publish", "{\"n\":1}")).await.unwrap();
    bench.invoke(&stock, event("log", "")).await.unwrap();
    let state = bench.host.state();
    let told = |event: &Publication| (event.subject.clone(), event.content_type.clone());
    let events: Vec<_> = state.events.iter().map(told).collect();
    let of = |subject: &str, kind: &str| (subject.to_owned(), kind.to_owned());
    let expected = [of("first", "application/json"), of("second", "application/octet-stream")];
    assert_eq!(events, expected);
    assert_eq!(state.events[0].id, "e1.probe.0");
    assert_eq!(state.lines[0], (Level::Warn, "web: to the log".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_by_the_page() {
    let Some((bench, stock)) = stock("messages", JCO).await else { return };
    bench.host.state().id_column = Some("key");
    assert_eq!(ask(&bench, &stock, "pages", "").await, "[1000,1000,1000,0]");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_message_handler_throws_is_its_error() {
    let Some((bench, stock)) = stock("messages", JCO).await else { return };
    let failed = bench.invoke(&stock, event("fail", "")).await.unwrap_err();
    assert_eq!(failed, InvokeError::GuestError("failed on purpose".into()));
    let silent = bench.invoke(&stock, request("log", "")).await.unwrap_err();
    assert_eq!(silent, InvokeError::GuestError("it published nothing to reply-to".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drafts_before_are_served_too() {
    let Some((bench, stock)) = stock("older", JCO).await else { return };
    bench.host.state().config.insert("greeting".into(), "hello".into());
    bench.host.state().id_column = Some("key");
    assert_eq!(ask(&bench, &stock, "any", "x").await, "[7,2]");
    assert_eq!(bench.host.log_text(), "greeting is hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_component_of_wasi_http_serves_requests_calls_and_events() {
    let Some((bench, stock)) = stock("web", COMPONENTIZE_PY).await else { return };
    bench.host.state().config.insert("greeting".into(), "hello".into());
    let (status, echoed) = fetch(&bench, &stock, "/echo").await;
    let echoed: serde_json::Value = serde_json::from_str(&echoed).unwrap();
    let expected = serde_json::json!({
        "method": "Method_Post", "query": "/echo?a=b", "authority": "shop.test:8080",
        "agent": "test", "body": "hello",
    });
    assert_eq!((status, echoed), (200, expected));
    assert_eq!(fetch(&bench, &stock, "/teapot").await, (418, "\"short and stout\"".into()));
    assert_eq!(fetch(&bench, &stock, "/settings").await.1, "\"hello\"");
    let big = bench.invoke(&stock, http("GET", "/big", "")).await.unwrap();
    assert_eq!(big.body.len(), (3 << 20) + 2);

    assert_eq!(ask(&bench, &stock, "sum", "[1,2,3]").await, "6");
    let failed = bench.invoke(&stock, request("teapot", "")).await.unwrap_err();
    assert_eq!(failed, InvokeError::GuestError("status 418: \"short and stout\"".into()));
    bench.invoke(&stock, event("motion.front", "{}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_component_waits_for_several_answers_at_once() {
    let Some((bench, stock)) = stock("web", COMPONENTIZE_PY).await else { return };
    let port = server(&[("/", "welcome"), ("/two", "again")]).await;
    bench.host.state().hosts = vec![format!("127.0.0.1/32:{port}").parse().unwrap()];
    let asked = [("", "welcome"), ("two", "again")];
    let asked = asked.map(|(path, answer)| (format!("http://127.0.0.1:{port}/{path}"), answer));
    let Input::Http(mut request) = http("GET", "/hash-all", "") else { unreachable!() };
    request.headers.extend(asked.each_ref().map(|(url, _)| ("x-url".into(), url.clone())));
    let reply = bench.invoke(&stock, Input::Http(request)).await.unwrap();
    let mut told: Vec<&str> = std::str::from_utf8(&reply.body).unwrap().lines().collect();
    told.sort();
    let hash = |answer: &str| Digest::of(answer.as_bytes()).as_str().replace("sha256-", "");
    assert_eq!(told, asked.map(|(url, answer)| format!("{url} {}", hash(answer))));
    assert_eq!(fetch(&bench, &stock, "/hand-back").await, (200, "hello".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_component_that_goes_wrong_is_explained() {
    let Some((bench, mut stock)) = stock("web", COMPONENTIZE_PY).await else { return };
    for (path, word) in [("/silent", "no answer"), ("/unfinished", "without")] {
        match bench.invoke(&stock, http("GET", path, "")).await.unwrap_err() {
            InvokeError::GuestError(text) => assert!(text.contains(word), "{path}: {text}"),
            other => panic!("{path}: {other}"),
        }
    }
    stock.limits.timeout_ms = 100;
    let stopped = bench.invoke(&stock, http("GET", "/loop", "")).await.unwrap_err();
    assert_eq!(stopped, InvokeError::Timeout { limit_ms: 100 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_worker_of_componentize_js_serves_requests() {
    let Some((bench, stock)) = stock("fetch", JCO).await else { return };
    let reply = bench.invoke(&stock, http("POST", "/things/1", "hello")).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let expected = serde_json::json!({"method": "POST", "path": "/things/1?a=b", "body": "hello"});
    assert_eq!(body, expected);
    let head = reply.http.unwrap();
    assert_eq!(head.status, 201);
    assert!(head.headers.contains(&("x-agent".into(), "test".into())), "{:?}", head.headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_componentize_js_serves_by_the_interfaces_themselves() {
    let Some((bench, stock)) = stock("incoming", JCO).await else { return };
    let hello = (200, "Hello from JavaScript\n".to_owned());
    assert_eq!(fetch(&bench, &stock, "/hello").await, hello);
    let long = "0123456789".repeat(2_000);
    let reply = bench.invoke(&stock, http("POST", "/echo", &long)).await.unwrap();
    assert!(reply.body == long, "{} bytes", reply.body.len());
    let head = reply.http.unwrap();
    assert_eq!(head.status, 201);
    assert!(head.headers.contains(&("x-agent".into(), "test".into())), "{:?}", head.headers);
    let error = bench.invoke(&stock, http("GET", "/throw", "")).await.unwrap_err();
    // The engine says nothing of what was thrown.
    assert!(matches!(error, InvokeError::GuestTrap { .. }), "{error}");
}

/// The component in C that is built beside those in Rust, whose tools make its bindings.
async fn c_web() -> Option<(Bench, Target)> {
    let folder = super::rust::wasip2()?;
    if !has_tool("zig/ziglang/zig") || !has_tool(JCO) {
        return None;
    }
    let file = super::languages::built("rust", "c-web.wasm", folder)?;
    let bench = Bench::with(shared_cache);
    let code = std::fs::read(file).unwrap();
    let target = bench.install(CodeKind::Component, &code).await;
    Some((bench, target))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_c_component_by_wit_bindgen_serves_requests_and_keeps_values() {
    let Some((bench, stock)) = c_web().await else { return };
    bench.host.state().id_column = Some("key");
    assert_eq!(fetch(&bench, &stock, "/keep").await, (200, "hello".into()));
    assert_eq!(fetch(&bench, &stock, "/no").await, (404, "who?".into()));
    let long = "0123456789".repeat(2_000);
    let reply = bench.invoke(&stock, http("POST", "/echo", &long)).await.unwrap();
    assert!(reply.body == long, "{} bytes", reply.body.len());
    assert_eq!(ask(&bench, &stock, "echo", "abc").await, "abc");
    let failed = bench.invoke(&stock, event("other", "")).await.unwrap_err();
    assert_eq!(failed, InvokeError::GuestError("status 404: who?".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_c_component_that_breaks_down_is_explained_by_its_lines() {
    let Some((bench, stock)) = c_web().await else { return };
    let error = bench.invoke(&stock, http("GET", "/trap", "")).await.unwrap_err();
    let InvokeError::GuestTrap { message, backtrace } = error else { panic!("{error:?}") };
    assert!(message.ends_with("about to give up"), "{message}");
    let source = include_str!("../../../guests/stock/web.c");
    for text in ["__builtin_trap()", "    give_up(0);"] {
        let line = 1 + source.lines().position(|line| line.contains(text)).unwrap();
        assert!(backtrace.contains(&format!("/web.c:{line}:")), "{line}: {backtrace}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_export_of_another_type_is_refused_when_it_comes() {
    let bench = Bench::new();
    let code = component(&format!(
        r#"(core module $m {MEMORY} (func (export "handle") (param i32)))
           (core instance $i (instantiate $m))
           (func $f (param "n" u32) (canon lift (core func $i "handle")))
           (instance $h (export "handle" (func $f)))
           (export "wasi:http/incoming-handler@0.2.3" (instance $h))"#
    ));
    let digest = Digest::of(&code);
    let code = Code { digest, kind: CodeKind::Component, bytes: code.into() };
    match bench.execute.install(code).await.unwrap_err() {
        InvokeError::BadCode { problem, .. } => {
            assert!(problem.contains("does not start"), "{problem}");
        }
        other => panic!("{other}"),
    }
}
