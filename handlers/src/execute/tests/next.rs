//! The instance that is made for whoever comes next.

use super::components::{component, event_text};
use super::ready::ONCE;
use super::*;

/// A component whose instances take a while to be made, and serve one event at most.
fn slow(body: &str) -> Vec<u8> {
    let start = r#"
        (func $slow (local $left i32)
          (local.set $left (i32.const 1000000))
          (loop $l (br_if $l (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
        (start $slow)
        (func (export "handle")"#;
    component(&event_text(body).replacen(r#"(func (export "handle")"#, start, 1))
}

/// Invokes a handler, and does what is left to do then.
pub(super) async fn serve(bench: &Bench, target: &Arc<Target>) {
    let invocation =
        Invocation { target: Arc::clone(target), ..invocation(target, event("x", "")) };
    bench.execute.invoke(invocation).await.unwrap().after.run().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_made_when_an_answer_is_out_and_serves_only_its_handler() {
    let bench = Bench::new();
    let waiting = || bench.execute.waiting();
    let target = Arc::new(bench.install(CodeKind::Component, &slow(ONCE)).await);
    bench.invoke(&target, event("x", "")).await.unwrap();
    assert_eq!(waiting(), 0, "what is left to do was not done");
    for _ in 0..50 {
        serve(&bench, &target).await;
        assert_eq!(waiting(), 1);
    }

    // Another handler with the same code has none, and leaves that one alone.
    let other = Target { handler: "other".into(), ..(*target).clone() };
    bench.invoke(&other, event("x", "")).await.unwrap();
    assert_eq!(waiting(), 1);
    // It is of no use with other secrets.
    bench.host.state().secrets.insert("KEY".into(), "another".into());
    bench.invoke(&target, event("x", "")).await.unwrap();
    serve(&bench, &target).await;
    let invocation =
        Invocation { target: Arc::clone(&target), ..invocation(&target, event("x", "")) };
    bench.execute.invoke(invocation).await.unwrap();
    assert_eq!(waiting(), 0, "it was taken");

    serve(&bench, &target).await;
    bench.execute.uninstall(&target.digest).unwrap();
    assert_eq!(waiting(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_no_place_that_is_needed() {
    let bench = Bench::with(|config| config.instances_max = 1);
    let once = Arc::new(bench.install(CodeKind::Component, &slow(ONCE)).await);
    let code = slow(&format!("(drop (i32.const 7)) {ONCE}"));
    let other = Arc::new(bench.install(CodeKind::Component, &code).await);
    for _ in 0..10 {
        serve(&bench, &once).await;
        serve(&bench, &other).await;
    }
    assert!(bench.execute.waiting() <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn none_is_made_for_handlers_that_keep_theirs_or_that_failed() {
    let bench = Bench::new();
    let mut target = bench.install(CodeKind::Component, &slow("unreachable")).await;
    let failed = bench.invoke(&target, event("x", "")).await;
    assert!(matches!(failed, Err(InvokeError::GuestTrap { .. })), "{failed:?}");
    assert_eq!(bench.execute.waiting(), 0);

    target = bench.install(CodeKind::Component, &slow(ONCE)).await;
    target.limits.ready = 1;
    serve(&bench, &Arc::new(target)).await;
    assert_eq!(bench.execute.waiting(), 0, "who wants some ready says so");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_nobody_takes_ends() {
    let bench = Bench::with(|config| config.idle_ms = 500);
    let target = Arc::new(bench.install(CodeKind::Component, &slow(ONCE)).await);
    serve(&bench, &target).await;
    assert_eq!(bench.execute.waiting(), 1);
    until("it ended", || bench.execute.waiting() == 0).await;
    // So does the next one.
    serve(&bench, &target).await;
    assert_eq!(bench.execute.waiting(), 1);
    until("it ended again", || bench.execute.waiting() == 0).await;
}
