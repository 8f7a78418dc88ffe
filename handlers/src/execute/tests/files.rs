//! `wasi:blobstore`, by a component that componentize-py made: what it writes, reads and lists,
//! and what is refused.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::languages::{guest, shared_optimised};
use super::*;

async fn files() -> Option<(Bench, Target)> {
    let code = guest("files", "componentize/bin/componentize-py")?;
    let bench = Bench::with(shared_optimised);
    bench.host.state().id_column = Some("key");
    let mut target = bench.install(CodeKind::Component, &code).await;
    target.limits.timeout_ms = 60_000;
    Some((bench, target))
}

async fn ask(bench: &Bench, target: &Target, name: &str, body: &str) -> Value {
    let reply = bench.invoke(target, request(name, body)).await;
    let reply = reply.unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_streamed_in_parts() {
    let Some((bench, files)) = files().await else { return };
    for size in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20] {
        bench.host.state().blobs.clear();
        let found = ask(&bench, &files, "put", &size.to_string()).await;
        assert_eq!(found, json!([[size, size, found[1]], found[1], size]));
        let state = bench.host.state();
        assert_eq!(state.blobs.len(), usize::div_ceil(size, 1 << 20), "of {size} bytes");
        assert!(state.blobs.values().all(|part| part.len() <= 1 << 20));
    }
}

/// Each part is of one object, and let go as soon as it is of none.
fn check_parts(bench: &Bench) {
    let state = bench.host.state();
    let rows = state.tables.values().flat_map(|table| table.values());
    let parts = rows.filter_map(|row| row["blob"].as_str()).flat_map(str::split_whitespace);
    let mut of_none: BTreeSet<String> = state.blobs.keys().cloned().collect();
    for part in parts {
        assert!(of_none.remove(part), "{part} is of two objects, or was never put");
    }
    assert_eq!(of_none, state.let_go);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_an_object_are_its_own_bytes() {
    let Some((bench, files)) = files().await else { return };
    let mut expected = vec![json!(true); 7];
    expected.push(json!("object \"r\": bytes 2 to 1 are none"));
    assert_eq!(ask(&bench, &files, "ranges", "").await, Value::Array(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_appear_whole_and_are_kept_by_who_reads_them() {
    let Some((bench, files)) = files().await else { return };
    assert_eq!(ask(&bench, &files, "kept", "").await, json!(["first", "second"]));
    check_parts(&bench);
    assert_eq!(ask(&bench, &files, "half", "").await, json!([false, null, ""]));
    let moved = json!(["content", false, "content", "files", "files", ["files", "c", 7]]);
    assert_eq!(ask(&bench, &files, "moved", "").await, moved);
    check_parts(&bench);
    assert_eq!(ask(&bench, &files, "twice", "").await, json!([false, "both"]));
    check_parts(&bench);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_come_by_the_page() {
    let Some((bench, files)) = files().await else { return };
    let expected = json!([
        [256, 256, 88],
        [597, false],
        [["n597", "n598", "n599"], true],
        [false, true],
        [[], true],
    ]);
    assert_eq!(ask(&bench, &files, "names", "").await, expected);
    check_parts(&bench);
    assert_eq!(bench.host.state().let_go.len(), 600, "the container is empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_granted_is_told() {
    let Some((bench, files)) = files().await else { return };
    let expected = json!([
        true,
        false,
        "container \"absent\": not found: no table \"absent\"",
        "container \"secret\": denied: table \"secret\" is not granted",
        "container \"files\" is a table of the manifest, and stays",
        "container \"files\" has no object \"absent\"",
        "container \"files\" has no object \"absent\"",
        "container \"files\" has no object \"absent\"",
        "1001 objects at once; at most 1000 go",
    ]);
    assert_eq!(ask(&bench, &files, "refused", "").await, expected);
    assert_eq!(ask(&bench, &files, "many", "").await, json!(16));
    assert!(bench.host.log_text().contains("16 bodies of objects are open"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_no_objects_are_explained() {
    let Some((bench, files)) = files().await else { return };
    let content = Bytes::from(vec![b'x'; (1 << 20) + 5]);
    let key = Digest::of(&content).to_string();
    let rows = [
        ("own", json!({"key": "own", "blob": key, "size": content.len()})),
        ("long", json!({"key": "long", "blob": key, "size": 2 << 20})),
        ("gone", json!({"key": "gone", "blob": Digest::of(b"gone").to_string(), "size": 4})),
        ("other", json!({"key": "other", "size": 4})),
        ("parts", json!({"key": "parts", "blob": format!("{key} {key} {key}"), "size": 4})),
        ("large", json!({"key": "large", "blob": key, "size": 200 << 20})),
    ];
    {
        let mut state = bench.host.state();
        state.blobs.insert(key, content);
        let table = state.tables.entry("files".into()).or_default();
        for (name, row) in rows {
            table.insert(format!("\"{name}\""), row.as_object().cloned().unwrap());
        }
    }
    // A blob that the app put itself, in one piece.
    let whole = ask(&bench, &files, "read", "\"own\"").await;
    assert_eq!(whole.as_str().map(str::len), Some((1 << 20) + 5));
    for (name, expected) in [
        ("long", "has 5 of 1048576 bytes"),
        ("gone", "is gone"),
        ("other", "wants the columns \"blob\" (utf8) and \"size\" (int64)"),
        ("parts", "3 blobs for its 4 bytes"),
        ("large", "more than the handler's 128 MiB of memory"),
    ] {
        let said = ask(&bench, &files, "whole", &json!(name).to_string()).await;
        assert!(said.as_str().unwrap().contains(expected), "{name}: {said}");
    }
}
