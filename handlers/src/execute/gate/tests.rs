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
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(20)
}

#[tokio::test]
async fn places_are_given_back_and_waiting_ends_at_the_deadline() {
    let gates = Gates::new(1);
    let first = gates.enter(&target(1, 1), soon()).await.unwrap();
    let late = gates.enter(&target(1, 1), soon()).await;
    assert!(matches!(late, Err(InvokeError::Overloaded { retry_after_ms: 501 })));
    drop(first);
    gates.enter(&target(1, 1), soon()).await.unwrap();
}

#[tokio::test]
async fn the_queue_has_an_end() {
    let gates = Gates::new(0);
    let _first = gates.enter(&target(1, 1), soon()).await.unwrap();
    let began = Instant::now() + Duration::from_secs(3600);
    let refused = gates.enter(&target(1, 1), began).await;
    assert!(matches!(refused, Err(InvokeError::Overloaded { .. })), "refused at once");
}

#[tokio::test]
async fn revisions_have_gates_of_their_own() {
    let gates = Gates::new(0);
    let _old = gates.enter(&target(1, 1), soon()).await.unwrap();
    gates.enter(&target(1, 2), soon()).await.unwrap();
}

#[tokio::test]
async fn idle_gates_are_forgotten() {
    let gates = Gates::new(0);
    let _kept = gates.enter(&target(1, 0), soon()).await.unwrap();
    for revision in 0..GATES_MAX as u64 + 10 {
        let _ = gates.enter(&target(1, revision), soon()).await;
    }
    assert!(gates.gates.lock().unwrap().len() <= GATES_MAX);
    assert!(gates.enter(&target(1, 0), soon()).await.is_err(), "a gate in use stays");
}
