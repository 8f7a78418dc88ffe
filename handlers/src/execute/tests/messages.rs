//! `wasi:messaging`, by a component that jco made.

use super::languages::{guest, shared_cache};
use super::*;

async fn topics() -> Option<(Bench, Target)> {
    let code = guest("topics", "node/node_modules/@bytecodealliance/jco/package.json")?;
    let bench = Bench::with(shared_cache);
    let target = bench.install(CodeKind::Component, &code).await;
    Some((bench, target))
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_reach_every_import() {
    let Some((bench, topics)) = topics().await else { return };
    let check = async |topic: &str, body: &str, expected: &str| {
        let reply = bench.invoke(&topics, request(topic, body)).await;
        let reply = reply.unwrap_or_else(|error| panic!("{topic}: {error}"));
        assert_eq!(reply.body, expected, "{topic}");
        assert_eq!(reply.content_type, "application/json", "{topic}");
    };
    check("echo", "abc", r#""abc""#).await;
    check("told", "{}", r#"["told","application/json",null]"#).await;
    check("relay", "abc", r#"[["abc","application/octet-stream"]]"#).await;
    check("late", "", r#"{"tag":"timeout"}"#).await;
    let reply = bench.invoke(&topics, request("metadata", "")).await.unwrap();
    let [before, refused, after]: [serde_json::Value; 3] =
        serde_json::from_slice(&reply.body).unwrap();
    assert!(before.is_null() && refused["tag"] == "invalid", "{before} {refused}");
    let why = refused["val"].as_str().unwrap();
    assert!(why.contains("metadata \"a b\": a name has letters"), "{why}");
    assert_eq!(after, serde_json::json!([["a", "e"], ["c", "d"]]));
    // Of two replies the last counts.
    check("twice", "", "2").await;
    // Messages that are gone count no longer.
    check("many", "", r#""done""#).await;
    let reply = bench.invoke(&topics, request("refused", "")).await.unwrap();
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    assert!(text.contains(r#"{"tag":"other","val":"name \"no such\""#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_a_message_that_nobody_waits_for() {
    let Some((bench, topics)) = topics().await else { return };
    let mut first = event("publish", "{\"n\":1}");
    if let Input::Event(event) = &mut first {
        event.metadata = vec![("ce-partitionkey".into(), "7".into())];
    }
    bench.invoke(&topics, first).await.unwrap();
    bench.invoke(&topics, event("silent", "")).await.unwrap();
    // Its reply goes nowhere.
    bench.invoke(&topics, event("told", "")).await.unwrap();
    let state = bench.host.state();
    let told = |event: &Publication| {
        let body = String::from_utf8(event.body.to_vec()).unwrap();
        (event.id.clone(), event.subject.clone(), event.content_type.clone(), body)
    };
    let events: Vec<_> = state.events.iter().map(told).collect();
    let of = |parts: [&str; 4]| {
        let [id, subject, kind, body] = parts.map(str::to_owned);
        (id, subject, kind, body)
    };
    let expected = [
        of(["e1.probe.0", "first", "application/json", "{\"n\":1}"]),
        of(["e1.probe.1", "second", "text/x-test", "y"]),
    ];
    assert_eq!(events, expected);
    // What the event came with is passed on where the guest does that, without what made it that
    // event.
    let metadata: Vec<_> = state.events.iter().map(|event| event.metadata.clone()).collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let passed_on = vec![pair("ce-partitionkey", "7"), pair("colour", "blue")];
    assert_eq!(metadata, [vec![], passed_on]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_handler_that_goes_wrong_is_explained() {
    let Some((bench, topics)) = topics().await else { return };
    let failed = bench.invoke(&topics, event("fail", "")).await.unwrap_err();
    assert_eq!(failed, InvokeError::GuestError("failed on purpose".into()));
    let silent = bench.invoke(&topics, request("silent", "")).await.unwrap_err();
    assert_eq!(silent, InvokeError::GuestError("it sent no reply".into()));
    // What the host keeps for a guest is the guest's memory.
    let hoard = bench.invoke(&topics, event("hoard", "")).await.unwrap_err();
    assert_eq!(hoard, InvokeError::OutOfMemory { limit_mb: 128 });
}
