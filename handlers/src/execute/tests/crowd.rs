//! Instances of WASI 0.3 that serve several requests at once.

use futures::future::join_all;
use tokio::sync::oneshot;

use super::languages::{guest, shared_cache};
use super::service::{asking, fetch};
use super::stock::http;
use super::streamed::gate_that_tells;
use super::*;

/// A service of which an instance serves so many at once, and in all.
async fn service(at_once: u32, reuse: u32, instances_max: u32) -> Option<(Bench, Target)> {
    let code = guest("service", "componentize/bin/componentize-py")?;
    let bench = Bench::with(|config| {
        shared_cache(config);
        config.instances_max = instances_max;
    });
    let mut stock = bench.install(CodeKind::Component, &code).await;
    stock.limits =
        Limits { memory_mb: 128, timeout_ms: 20_000, at_once, reuse: Some(reuse), ..stock.limits };
    Some((bench, stock))
}

/// A request that waits for another host until the gate is opened.
struct Waiting {
    running: tokio::task::JoinHandle<Result<Reply, InvokeError>>,
    open: oneshot::Sender<()>,
}

async fn waiting(bench: &Arc<Bench>, target: &Target) -> Waiting {
    let (port, open, asked) = gate_that_tells().await;
    bench.host.state().hosts.push(format!("127.0.0.1/32:{port}").parse().unwrap());
    let input = asking("/fetch", &format!("http://127.0.0.1:{port}/"));
    let (bench, target) = (Arc::clone(bench), target.clone());
    let running = tokio::spawn(async move { bench.invoke(&target, input).await });
    asked.await.unwrap();
    Waiting { running, open }
}

impl Waiting {
    async fn end(self) -> Reply {
        self.open.send(()).unwrap();
        self.running.await.unwrap().unwrap()
    }
}

/// How many requests the instance had that answers, with this one.
async fn count(bench: &Bench, target: &Target) -> u32 {
    fetch(bench, target, "/count", "").await.1.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_share_an_instance() {
    let Some((bench, stock)) = service(4, 1_000, 16).await else { return };
    let bench = Arc::new(bench);
    let three = [
        waiting(&bench, &stock).await,
        waiting(&bench, &stock).await,
        waiting(&bench, &stock).await,
    ];
    assert_eq!(count(&bench, &stock).await, 4, "the fourth is in the same");
    let fourth = waiting(&bench, &stock).await;
    assert_eq!(count(&bench, &stock).await, 1, "the fifth is not");
    for request in three.into_iter().rev().chain([fourth]) {
        assert_eq!(request.end().await.body, "[200, \"ok\"]");
    }
    // Whatever the mixture, each gets its own answer.
    let numbers = 0..40;
    let answers = join_all(numbers.clone().map(async |n| {
        let reply = bench.invoke(&stock, http("POST", "/echo", &format!("body {n}"))).await;
        reply.unwrap().body
    }));
    let expected: Vec<_> = numbers.map(|n| Bytes::from(format!("body {n}"))).collect();
    assert_eq!(answers.await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_serves_so_many_in_all() {
    let Some((bench, stock)) = service(4, 3, 1).await else { return };
    // There is one place: an instance that had its share has left it.
    for expected in [1, 2, 3, 1, 2, 3, 1] {
        assert_eq!(count(&bench, &stock).await, expected);
    }
    let other = Target { handler: "other".into(), ..stock.clone() };
    assert_eq!(count(&bench, &other).await, 1, "one with nothing to do made room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_ends_all_in_its_instance_and_nobody_else() {
    let Some((bench, stock)) = service(4, 1_000, 16).await else { return };
    let bench = Arc::new(bench);
    let beside = waiting(&bench, &stock).await;
    let other = Target { handler: "other".into(), ..stock.clone() };
    let elsewhere = waiting(&bench, &other).await;
    for result in
        [bench.invoke(&stock, http("GET", "/trap", "")).await, beside.running.await.unwrap()]
    {
        match result.unwrap_err() {
            InvokeError::GuestTrap { message, .. } => {
                assert!(message.contains("raised on purpose"), "{message}");
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(count(&bench, &stock).await, 1, "another instance");
    elsewhere.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_late_or_leaves_ends_the_instance_with_the_last_in_it() {
    let Some((bench, stock)) = service(4, 1_000, 2).await else { return };
    let bench = Arc::new(bench);
    let hasty =
        Target { limits: Limits { timeout_ms: 300, ..stock.limits.clone() }, ..stock.clone() };
    let patient = waiting(&bench, &stock).await;
    let late = waiting(&bench, &hasty).await;
    assert_eq!(late.running.await.unwrap().unwrap_err(), InvokeError::Timeout { limit_ms: 300 });
    assert_eq!(count(&bench, &stock).await, 1, "the first takes no more");
    assert_eq!(patient.end().await.body, "[200, \"ok\"]");

    let leaver = waiting(&bench, &stock).await;
    leaver.running.abort();
    let _ = leaver.running.await;
    let mut counts = vec![];
    while counts.last() != Some(&1) {
        counts.push(count(&bench, &stock).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(counts.len() < 500, "{counts:?}");
    }
    // Both places are free again, but for the one with the counter.
    let other = Target { handler: "other".into(), ..stock.clone() };
    assert_eq!(count(&bench, &other).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_computes_without_end_is_stopped_though_its_client_left() {
    let Some((bench, mut stock)) = service(4, 1_000, 1).await else { return };
    stock.limits.timeout_ms = 1_000;
    let looping = bench.invoke(&stock, http("GET", "/loop", ""));
    assert!(tokio::time::timeout(Duration::from_millis(200), looping).await.is_err());
    // There is one place; it is given back after the deadline.
    stock.limits.timeout_ms = 20_000;
    let other = Target { handler: "other".into(), ..stock };
    assert_eq!(count(&bench, &other).await, 1);
}
