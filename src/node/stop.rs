//! How a node ends: it is told to, takes no more in, and lets what it has begun come to its end.

use std::time::Duration;

use bus::Subscription;
use futures::future::join_all;

use super::Node;

/// How long that may take: the usual time limit of a handler.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Resolves when the process is asked to end.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate()).expect("a handler for SIGTERM can be set");
    let mut int = signal(SignalKind::interrupt()).expect("a handler for SIGINT can be set");
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Answers the requests that have come, handles the events in hand, and takes no others.
pub(super) async fn drain(node: &Node, subscriptions: Vec<Subscription>) {
    let answered = join_all(subscriptions.into_iter().map(Subscription::drain));
    let done = async { tokio::join!(answered, node.triggers.drain()) };
    if tokio::time::timeout(DRAIN_TIMEOUT, done).await.is_err() {
        let count = node.triggers.load.in_flight();
        tracing::warn!("{count} invocations under way were dropped");
    }
}
