use std::time::Duration;

use super::*;
use crate::Digest;
use crate::manifest::{CodeKind, Limits};

fn target(concurrency: u32, revision: u64) -> Target {
    Target {
        app: "shop".into(),
        handler: "probe".into(),
        revision,
        digest: Digest::of(b""),
        kind: CodeKind::Component,
        entry: None,
        limits: Limits { concurrency, timeout_ms: 1_000, ..Limits::default() },
        app_concurrency: None,
        bindings: Default::default(),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(20)
}

#[tokio::test]
async fn places_are_given_back_and_waiting_ends_at_the_deadline() {
    let gates = Gates::new(1);
    let first = gates.gate(&target(1, 1)).enter(soon()).await.unwrap();
    let late = gates.gate(&target(1, 1)).enter(soon()).await;
    assert!(matches!(late, Err(InvokeError::Overloaded { retry_after_ms: 501 })));
    drop(first);
    gates.gate(&target(1, 1)).enter(soon()).await.unwrap();
}

#[tokio::test]
async fn the_queue_has_an_end() {
    let gates = Gates::new(0);
    let _first = gates.gate(&target(1, 1)).enter(soon()).await.unwrap();
    let began = Instant::now() + Duration::from_secs(3600);
    let refused = gates.gate(&target(1, 1)).enter(began).await;
    assert!(matches!(refused, Err(InvokeError::Overloaded { .. })), "refused at once");
}

#[tokio::test]
async fn handlers_of_an_app_share_its_places() {
    let gates = Gates::new(1);
    let of = |handler: &str, app_concurrency| Target {
        handler: handler.into(),
        app_concurrency,
        ..target(4, 1)
    };
    let first = gates.gate(&of("a", Some(2))).enter(soon()).await.unwrap();
    let _second = gates.gate(&of("b", Some(2))).enter(soon()).await.unwrap();
    let third = gates.gate(&of("c", Some(2))).enter(soon()).await;
    assert!(matches!(third, Err(InvokeError::Overloaded { .. })));
    let other = Target { app: "other".into(), ..of("c", Some(2)) };
    gates.gate(&other).enter(soon()).await.unwrap();
    drop(first);
    gates.gate(&of("c", Some(2))).enter(soon()).await.unwrap();
    gates.gate(&of("d", None)).enter(soon()).await.unwrap();
}

#[tokio::test]
async fn revisions_have_gates_of_their_own() {
    let gates = Gates::new(0);
    let _old = gates.gate(&target(1, 1)).enter(soon()).await.unwrap();
    gates.gate(&target(1, 2)).enter(soon()).await.unwrap();
}

#[tokio::test]
async fn idle_gates_are_forgotten() {
    let gates = Gates::new(0);
    let _kept = gates.gate(&target(1, 0)).enter(soon()).await.unwrap();
    for revision in 0..GATES_MAX as u64 + 10 {
        let _ = gates.gate(&target(1, revision)).enter(soon()).await;
    }
    assert!(gates.gates.lock().unwrap().len() <= GATES_MAX);
    assert!(gates.gate(&target(1, 0)).enter(soon()).await.is_err(), "a gate in use stays");
}
