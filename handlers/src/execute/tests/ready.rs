//! What is made before anything wants it.

use super::components::event_component;
use super::lambda::{ask, wait_until_gone};
use super::next::serve;
use super::*;

/// Breaks down where another event was before.
pub(super) const ONCE: &str = r#"
    (if (i32.load (i32.const 8)) (then unreachable))
    (i32.store (i32.const 8) (i32.const 1))
    (i32.const 16)"#;

fn ready(target: &Target, ready: u32) -> Target {
    Target { limits: Limits { ready, ..target.limits.clone() }, ..target.clone() }
}

pub(super) fn keep(bench: &Bench, targets: &[&Target]) {
    bench.execute.keep_ready(targets.iter().map(|target| Arc::new((*target).clone())).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_wait_for_events_and_each_serves_one() {
    let bench = Bench::new();
    let waiting = || bench.execute.waiting();
    let code = event_component(ONCE);
    let handler = ready(&bench.install(CodeKind::Component, &code).await, 2);
    keep(&bench, &[&handler]);
    until("two are ready", || waiting() == 2).await;
    for _ in 0..50 {
        bench.invoke(&handler, event("x", "")).await.unwrap();
    }
    until("two are ready again", || waiting() == 2).await;

    // Those of an older revision, of other secrets, and those that nobody wants any more, end.
    let second = Target { revision: 2, ..ready(&handler, 3) };
    keep(&bench, &[&second]);
    until("three are ready", || waiting() == 3).await;
    bench.host.state().secrets.insert("KEY".into(), "another".into());
    bench.invoke(&second, event("x", "")).await.unwrap();
    until("three are ready with the new secret", || waiting() == 3).await;
    keep(&bench, &[]);
    until("none is ready", || waiting() == 0).await;
}

/// Who looks after all of them makes one a little later, on another thread.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_served_is_replaced_when_its_answer_is_out() {
    let bench = Bench::new();
    let waiting = || bench.execute.waiting();
    let code = event_component(ONCE);
    let handler = ready(&bench.install(CodeKind::Component, &code).await, 1);
    keep(&bench, &[&handler]);
    until("one is ready", || waiting() == 1).await;
    let target = Arc::new(handler);
    for _ in 0..50 {
        serve(&bench, &target).await;
        assert!(waiting() > 0);
    }
    // Not one that nobody wants any more.
    keep(&bench, &[]);
    until("none is ready", || waiting() == 0).await;
    serve(&bench, &target).await;
    assert_eq!(waiting(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ready_takes_no_place_that_is_needed() {
    let bench = Bench::with(|config| config.instances_max = 2);
    let waiting = || bench.execute.waiting();
    let code = event_component(ONCE);
    let other = bench.install(CodeKind::Component, &code).await;
    let greedy = Target { handler: "greedy".into(), ..ready(&other, 5) };
    keep(&bench, &[&greedy]);
    until("all places are taken", || waiting() == 2).await;
    for _ in 0..20 {
        bench.invoke(&other, event("x", "")).await.unwrap();
    }
    bench.invoke(&greedy, event("x", "")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_up_before_the_first_call_and_do_not_idle_away() {
    if !has_tool("py/awslambdaric") {
        return;
    }
    let bench = Bench::with(|config| config.idle_ms = 500);
    let function = br#"
import os
print("up", flush=True)
def handler(event, context):
    return [os.getpid(), os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]]
"#;
    let mut target = bench.install(CodeKind::Python, function).await;
    target.entry = Some("main.handler".into());
    let target = ready(&target, 1);
    keep(&bench, &[&target]);
    until("one is up", || bench.host.log_text().matches("up").count() == 1).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let told = ask(&bench, &target, "x", "").await;
    assert_eq!(told[1], "provisioned-concurrency");
    assert_eq!(bench.host.log_text().matches("up").count(), 1, "no other was started");

    // One that dies is replaced; one that is not wanted any more ends.
    let pid = told[0].as_i64().unwrap();
    let killed = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
    until("another is up", || bench.host.log_text().matches("up").count() == 2).await;
    let second = ask(&bench, &target, "x", "").await[0].as_i64().unwrap();
    assert_ne!(second, pid);
    keep(&bench, &[]);
    wait_until_gone(second).await;
}

/// Whoever looks after them may be late.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wanted_ready_stays_though_others_end_at_once() {
    if !has_tool("py/awslambdaric") {
        return;
    }
    let bench = Bench::with(|config| config.idle_ms = 1);
    let function = b"print('up', flush=True)\ndef handler(event, context):\n    return []\n";
    let mut target = bench.install(CodeKind::Python, function).await;
    target.entry = Some("main.handler".into());
    keep(&bench, &[&ready(&target, 1)]);
    let ups = || bench.host.log_text().matches("up").count();
    until("it is up", || ups() == 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(ups(), 1, "no other was started");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_come_up_is_tried_more_and_more_seldom() {
    if !has_tool("py/awslambdaric") {
        return;
    }
    let bench = Bench::with(|config| config.idle_ms = 100);
    let function = b"print('coming up', flush=True)\nraise SystemExit(3)\n";
    let mut target = bench.install(CodeKind::Python, function).await;
    target.entry = Some("main.handler".into());
    keep(&bench, &[&ready(&target, 1)]);
    let tries = || bench.host.log_text().matches("coming up").count();
    until("it was tried twice", || tries() >= 2).await;
    let said = "not made ready, tried again in";
    assert!(bench.host.log_text().contains(said), "{}", bench.host.log_text());
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    // Every 0.05 s it would be some 15 times, as it takes that long to fail.
    assert!(tries() <= 8, "{} times", tries());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_tried_without_an_invocation() {
    if !has_tool("py/awslambdaric") {
        return;
    }
    let bench = Bench::new();
    let cases = [
        ("def handler(event, context): raise ValueError('not called')", ""),
        ("import no_such_module", "no_such_module"),
        ("raise SystemExit(3)", "exit status: 3"),
        ("import os\nos._exit(4)", "exit status: 4"),
    ];
    for (function, wanted) in cases {
        let mut target = bench.install(CodeKind::Python, function.as_bytes()).await;
        target.entry = Some("main.handler".into());
        let tried = bench.execute.try_start(&Arc::new(target)).await;
        match (tried, wanted) {
            (Ok(()), "") => {}
            (Err(error @ InvokeError::GuestTrap { .. }), _) if !wanted.is_empty() => {
                assert!(error.to_string().contains(wanted), "{error}");
            }
            (other, _) => panic!("{function}: {other:?}"),
        }
    }
}
