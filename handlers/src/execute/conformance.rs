//! What every [`Host`] must do, as one suite that each implementation runs in its tests.
//!
//! The host knows an app with [`MANIFEST`]'s table and configuration, and starts without rows.
//! The suite panics at the first difference, naming it.

use bytes::Bytes;
use serde_json::json;

use super::{Caller, Host, HostError, Publication, Row, Scan};
use crate::outbound::Refusal;

/// The manifest of the app that the caller belongs to; `{code}` stands for a component's digest.
pub const MANIFEST: &str = r#"
[app]
name = "suite"
version = "1"

[[handler]]
name = "h"
component = "{code}"

[[handler.trigger]]
event = "never"

[handler.config]
greeting = "good morning"

[[table]]
name = "things"
key = ["id"]
columns = [
    { name = "id", type = "utf8" },
    { name = "count", type = "int64", merge = "counter" },
    { name = "note", type = "utf8" },
]
"#;

/// Runs the whole suite.
pub async fn check(host: &dyn Host, caller: &Caller) {
    keeps_rows(host, caller).await;
    adds_to_counters(host, caller).await;
    scans_in_key_order(host, caller).await;
    replaces_what_is_as_expected(host, caller).await;
    does_whatever_clients_may(host, caller).await;
    takes_rows_as_it_gives_them(host, caller).await;
    refuses_what_is_not_the_apps(host, caller).await;
    refuses_rows_without_a_key(host, caller).await;
    keeps_blobs_by_content(host, caller).await;
    keeps_private_blobs_apart(host, caller).await;
    publishes_within_the_app(host, caller).await;
    let settings = host.settings(&caller.target).expect("nothing is missing");
    assert_eq!(settings.get("greeting"), Some("good morning"));
    assert_eq!(settings.get("absent"), None);
    lets_nobody_out(host, caller).await;
}

fn row(value: serde_json::Value) -> Row {
    value.as_object().cloned().expect("the suite's rows are objects")
}

async fn get(host: &dyn Host, caller: &Caller, id: &str) -> Option<Row> {
    let found = host.store_get(caller, "things", row(json!({"id": id}))).await;
    found.unwrap_or_else(|e| panic!("get of {id:?}: {e}"))
}

async fn put(host: &dyn Host, caller: &Caller, rows: &[serde_json::Value]) {
    let rows = rows.iter().cloned().map(row).collect();
    host.store_put(caller, "things", rows).await.unwrap_or_else(|e| panic!("put: {e}"));
}

async fn keeps_rows(host: &dyn Host, caller: &Caller) {
    assert_eq!(get(host, caller, "a").await, None, "a row that nobody wrote");
    put(host, caller, &[json!({"id": "a", "note": "one"}), json!({"id": "b", "note": "two"})])
        .await;
    put(host, caller, &[json!({"id": "a", "note": "three"})]).await;
    let note = |row: Option<Row>| row.and_then(|row| row.get("note").cloned());
    assert_eq!(note(get(host, caller, "a").await), Some("three".into()), "the last write counts");
    assert_eq!(note(get(host, caller, "b").await), Some("two".into()));
}

async fn adds_to_counters(host: &dyn Host, caller: &Caller) {
    for by in [5, -2] {
        let (key, deltas) = (row(json!({"id": "n"})), row(json!({"count": by})));
        let added = host.store_increment(caller, "things", key, deltas).await;
        added.unwrap_or_else(|e| panic!("increment: {e}"));
    }
    let found = get(host, caller, "n").await.expect("an increment makes the row");
    assert_eq!(found.get("count"), Some(&json!(3)));
}

async fn scans_in_key_order(host: &dyn Host, caller: &Caller) {
    put(host, caller, &[json!({"id": "z", "note": "last"})]).await;
    let ids = async |scan: Scan| -> Vec<String> {
        let rows = host.store_scan(caller, "things", scan).await;
        let rows = rows.unwrap_or_else(|e| panic!("scan: {e}"));
        let id = |row: &Row| row.get("id").and_then(|id| id.as_str()).map(str::to_owned);
        rows.iter().map(|row| id(row).expect("every row has its key")).collect()
    };
    assert_eq!(ids(Scan::default()).await, ["a", "b", "n", "z"]);
    let two = Scan { limit: Some(2), reverse: true, ..Scan::default() };
    assert_eq!(ids(two).await, ["z", "n"]);
    let only_b = Scan { prefix: row(json!({"id": "b"})), ..Scan::default() };
    assert_eq!(ids(only_b).await, ["b"]);
    let after_b = Scan { after: row(json!({"id": "b"})), ..Scan::default() };
    assert_eq!(ids(after_b).await, ["n", "z"]);
}

async fn replaces_what_is_as_expected(host: &dyn Host, caller: &Caller) {
    let put_if = async |expected: Option<serde_json::Value>, note: &str| {
        let (key, new) = (json!({"id": "c"}), json!({"id": "c", "note": note}));
        let expected = expected.map(row);
        let put = host.store_put_if(caller, "things", row(key), expected, row(new)).await;
        put.unwrap_or_else(|e| panic!("put if: {e}"))
    };
    assert!(!put_if(Some(json!({"note": "x"})), "never").await, "there is no row yet");
    assert!(put_if(None, "first").await);
    assert!(!put_if(None, "never").await, "there is a row now");
    assert!(!put_if(Some(json!({"note": "x"})), "never").await, "it says something else");
    assert!(put_if(Some(json!({"note": "first"})), "second").await);
    let note = get(host, caller, "c").await.and_then(|row| row.get("note").cloned());
    assert_eq!(note, Some("second".into()));
    for _ in 0..2 {
        let deleted = host.store_delete(caller, "things", vec![row(json!({"id": "c"}))]).await;
        deleted.unwrap_or_else(|e| panic!("delete: {e}"));
        assert_eq!(get(host, caller, "c").await, None);
    }
    assert!(put_if(None, "third").await, "what was deleted is absent");
    let deleted = host.store_delete(caller, "things", vec![row(json!({"id": "c"}))]).await;
    assert_eq!(deleted, Ok(()));
}

async fn does_whatever_clients_may(host: &dyn Host, caller: &Caller) {
    let ask = async |operation: &str, request: serde_json::Value| {
        host.store_ask(caller, operation, row(request)).await
    };
    let note =
        async |id: &str| get(host, caller, id).await.and_then(|row| row.get("note").cloned());

    let patch = json!({"table": "things", "rows": [{"id": "n", "note": "patched"}]});
    ask("patch", patch).await.expect("a row is patched");
    assert_eq!(note("n").await, Some("patched".into()));
    let counted = get(host, caller, "n").await.and_then(|row| row.get("count").cloned());
    assert_eq!(counted, Some(json!(3)), "what a patch does not name stays");

    let keys = json!({"table": "things", "keys": [{"id": "z"}, {"id": "q"}, {"id": "a"}]});
    let many = ask("get-many", keys).await.expect("rows are found");
    let notes = [0, 1, 2].map(|at| &many["rows"][at]["note"]);
    assert_eq!(notes, [&json!("last"), &json!(null), &json!("three")]);

    let commit = |expected: &str| {
        json!({"table": "things", "if": [{"key": {"id": "z"}, "values": {"note": expected}}],
               "do": [{"put": {"id": "z", "note": "next"}}]})
    };
    let unmet = ask("commit", commit("first")).await.expect("a commit is decided");
    assert!(unmet["conflict"].is_string(), "{unmet}");
    assert_eq!(note("z").await, Some("last".into()), "nothing was changed");
    let made = ask("commit", commit("last")).await.expect("a commit is decided");
    assert_eq!(made.get("conflict"), None, "{made}");
    assert_eq!(note("z").await, Some("next".into()));

    let invalid = |answer| matches!(answer, Err(HostError::Invalid(_)));
    assert!(invalid(ask("drop", json!({"table": "things"})).await), "no operation on rows");
    assert!(invalid(ask("status", json!({"table": "things"})).await), "no operation on rows");
    assert!(invalid(ask("scan", json!({})).await), "no table");
    let foreign = ask("scan", json!({"table": "other/secret"})).await;
    assert!(matches!(foreign, Err(HostError::Denied(_))), "{foreign:?}");
}

async fn takes_rows_as_it_gives_them(host: &dyn Host, caller: &Caller) {
    let arrow = async |operation: &str, request: serde_json::Value, rows: Option<Bytes>| {
        host.store_arrow(caller, operation, row(request), rows).await
    };
    let before = get(host, caller, "z").await;
    let scan = async |columns: &[&str]| {
        let only_z = json!({"table": "things", "prefix": {"id": "z"}, "columns": columns});
        arrow("scan", only_z, None).await.expect("rows as Arrow")
    };
    // A counter's sum is read and not put.
    let (rows, keys) = (scan(&["id", "note"]).await, scan(&["id"]).await);
    let by_keys = json!({"table": "things", "keys": [{"id": "z"}]});
    let found = arrow("get-many", by_keys, None).await.expect("rows as Arrow");
    let to = || json!({"table": "things"});
    assert_eq!(arrow("get-many", to(), Some(keys.clone())).await, Ok(found));
    arrow("delete", to(), Some(keys)).await.expect("rows are deleted");
    assert_eq!(get(host, caller, "z").await, None);
    let at_level = json!({"table": "things", "level": "memory"});
    let answer = arrow("put", at_level, Some(rows)).await.expect("rows are put");
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!(answer["ack"]["level"], "memory");
    assert_eq!(get(host, caller, "z").await, before, "as it was");
    let invalid = |answer: &Result<Bytes, HostError>| matches!(answer, Err(HostError::Invalid(_)));
    for (operation, rows) in [
        ("put", None),
        ("put", Some(Bytes::from_static(b"no rows"))),
        ("scan", Some(Bytes::from_static(b"no rows"))),
        ("commit", None),
        ("create", None),
    ] {
        let answer = arrow(operation, json!({"table": "things"}), rows).await;
        assert!(invalid(&answer), "{operation}: {answer:?}");
    }
    let absent = arrow("sql", json!({}), None).await;
    assert!(invalid(&absent), "no question: {absent:?}");
    let foreign = arrow("scan", json!({"table": "other/secret"}), None).await;
    assert!(matches!(foreign, Err(HostError::Denied(_))), "{foreign:?}");
}

async fn lets_nobody_out(host: &dyn Host, caller: &Caller) {
    for name in ["example.org", "127.0.0.1", "[::1]"] {
        let refused = host.connect(caller, name, 80).await.map(drop);
        let expected = Refusal::NotGranted { host: name.to_owned(), port: 80 };
        assert_eq!(refused, Err(expected), "nothing is granted");
    }
}

async fn refuses_what_is_not_the_apps(host: &dyn Host, caller: &Caller) {
    let key = row(json!({"id": "a"}));
    let absent = host.store_get(caller, "absent", key.clone()).await;
    assert!(matches!(absent, Err(HostError::NotFound(_))), "{absent:?}");
    let foreign = host.store_put(caller, "other/secret", vec![key.clone()]).await;
    assert!(matches!(foreign, Err(HostError::Denied(_))), "{foreign:?}");
    let foreign = host.store_scan(caller, "other/secret", Scan::default()).await;
    assert!(matches!(foreign, Err(HostError::Denied(_))), "{foreign:?}");
}

async fn refuses_rows_without_a_key(host: &dyn Host, caller: &Caller) {
    let keyless = vec![row(json!({"id": "good"})), row(json!({"note": "no key"}))];
    let refused = host.store_put(caller, "things", keyless).await;
    assert!(matches!(refused, Err(HostError::Invalid(_))), "{refused:?}");
    assert_eq!(get(host, caller, "good").await, None, "a refused put writes nothing");
    let refused = host.store_get(caller, "things", Row::new()).await;
    assert!(matches!(refused, Err(HostError::Invalid(_))), "{refused:?}");
}

async fn keeps_blobs_by_content(host: &dyn Host, caller: &Caller) {
    let content = Bytes::from_static(b"some bytes");
    let put = async || host.put_blob(caller, content.clone()).await.expect("a blob is stored");
    let key = put().await;
    assert_eq!(put().await, key, "the same content has the same key");
    assert_eq!(host.get_blob(caller, &key).await, Ok(Some(content.clone())));
    let digit = if key.ends_with('0') { "1" } else { "0" };
    let other = format!("{}{digit}", &key[..key.len() - 1]);
    assert_eq!(host.get_blob(caller, &other).await, Ok(None), "nobody stored {other}");
    let refused = host.get_blob(caller, "no key at all").await;
    assert!(matches!(refused, Err(HostError::Invalid(_))), "{refused:?}");
}

async fn keeps_private_blobs_apart(host: &dyn Host, caller: &Caller) {
    let content = Bytes::from_static(b"some bytes");
    let put = async || host.put_private_blob(caller, content.clone()).await.expect("it is stored");
    let (first, second) = (put().await, put().await);
    assert_ne!(first, second, "the same bytes have another key each time");
    assert_eq!(host.let_go(caller, vec![first.clone(), "no key at all".into()]).await, Ok(()));
    for key in [first, second] {
        let found = host.get_blob(caller, &key).await;
        assert_eq!(found, Ok(Some(content.clone())), "who reads {key} may still do so");
    }
}

async fn publishes_within_the_app(host: &dyn Host, caller: &Caller) {
    let event = |subject: &str| Publication {
        id: "i.h.0".into(),
        subject: subject.into(),
        content_type: "application/json".into(),
        body: Bytes::from_static(b"{}"),
        metadata: vec![("colour".into(), "blue".into())],
    };
    assert_eq!(host.publish(caller, event("told")).await, Ok(()));
    for subject in ["", "a b", "a..b", "a.>", "*", "a\r\nb"] {
        let refused = host.publish(caller, event(subject)).await;
        assert!(matches!(refused, Err(HostError::Invalid(_))), "{subject:?}: {refused:?}");
    }
    let mut forged = event("told");
    forged.metadata.push(("Es-Only".into(), "another".into()));
    let refused = host.publish(caller, forged).await;
    assert!(matches!(refused, Err(HostError::Invalid(_))), "{refused:?}");
}
