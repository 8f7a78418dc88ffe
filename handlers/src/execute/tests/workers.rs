//! Components in worker processes: the tests' own program becomes one.

use std::path::Path;

use super::components::{MEMORY, SUCCEED, component, echo_component, event_component};
use super::languages::{guest, javascript, reaches_every_import, shared_cache};
use super::outside::gets_out_where_granted;
use super::ready::keep;
use super::stock::http;
use super::streamed::gate;
use super::*;

/// What makes this program a worker.
const AS_WORKER: &str = "as-a-worker";
const ENDLESS: &str = "(loop $l (br $l)) unreachable";

/// No test: the program that the others start.
#[test]
fn worker() {
    if std::env::args().any(|argument| argument == AS_WORKER) {
        serve_worker().unwrap();
    }
}

pub(super) fn worker_program() -> WorkerProgram {
    let test = "execute::tests::workers::worker";
    let arguments = ["--exact", "--nocapture", test, AS_WORKER].map(str::to_owned).to_vec();
    WorkerProgram { program: std::env::current_exe().unwrap(), arguments }
}

fn bench_with(change: impl FnOnce(&mut Config)) -> Bench {
    Bench::with(|config| {
        config.worker = Some(worker_program());
        change(config);
    })
}

/// A handler in processes of its own.
async fn install(bench: &Bench, code: &[u8]) -> Target {
    let mut target = bench.install(CodeKind::Component, code).await;
    target.limits.own_process = true;
    target.limits.timeout_ms = 60_000;
    target
}

/// A handler of this code in the node's own process.
fn beside(target: &Target, handler: &str) -> Target {
    Target { handler: handler.into(), limits: Limits::default(), ..target.clone() }
}

fn pids(bench: &Bench) -> Vec<u32> {
    bench.execute.shared.workers.pids()
}

/// Waits until a handler's only worker runs.
async fn pid(bench: &Bench) -> u32 {
    until("a worker runs", || !pids(bench).is_empty()).await;
    pids(bench)[0]
}

fn signal(pid: u32, signal: libc::c_int) {
    let name = format!("-{signal}");
    let sent = std::process::Command::new("kill").args([&name, &pid.to_string()]).status();
    assert!(sent.unwrap().success());
}

/// The letter that the system has for what a process does; none when it has gone.
fn state(pid: u32) -> Option<char> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    status.ok()?.split_once("State:\t")?.1.chars().next()
}

fn is_gone(pid: u32) -> bool {
    matches!(state(pid), None | Some('Z'))
}

/// A component that says by an event when it starts, and has taken so many pages of memory then.
fn starter(pages: u32) -> Vec<u8> {
    let fields = ["id", "source", "subject", "time", "content-type"]
        .map(|name| format!("(field \"{name}\" string)"))
        .join(" ");
    let cases = ["denied", "not-found", "invalid", "unavailable", "failed"]
        .map(|name| format!("(case \"{name}\" string)"))
        .join(" ");
    component(&format!(
        r#"(import "edgescale:app/types@0.1.0" (instance $types
             (type $e (variant {cases})) (export "error" (type (eq $e)))))
           (alias export $types "error" (type $error))
           (import "edgescale:app/bus@0.1.0" (instance $bus
             (alias outer 1 $error (type $e))
             (export "error" (type $error (eq $e)))
             (export "publish" (func (param "subject" string) (param "content-type" string)
               (param "body" (list u8)) (result (result (error $error)))))))
           (import "edgescale:app/inputs@0.1.0" (instance $inputs
             (type $e (record {fields} (field "body" (list u8)) (field "attempt" u32)))
             (export "event" (type (eq $e)))))
           (alias export $inputs "event" (type $event))
           (core module $memory {MEMORY})
           (core instance $mem (instantiate $memory))
           (core func $publish (canon lower (func $bus "publish")
             (memory (core memory $mem "memory")) (realloc (core func $mem "realloc"))))
           (core module $m
             (import "mem" "memory" (memory 4))
             (import "bus" "publish" (func $publish (param i32 i32 i32 i32 i32 i32 i32)))
             (data (i32.const 256) "started")
             (func $s
               (drop (memory.grow (i32.const {pages})))
               (memory.fill (i32.const 262144) (i32.const 1)
                 (i32.mul (i32.const 65536) (i32.const {pages})))
               (call $publish (i32.const 256) (i32.const 7) (i32.const 256) (i32.const 0)
                 (i32.const 256) (i32.const 0) (i32.const 512)))
             (start $s)
             (func (export "handle") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)
               (result i32) {SUCCEED}))
           (core instance $i (instantiate $m
             (with "mem" (instance $mem))
             (with "bus" (instance (export "publish" (func $publish))))))
           (func (export "handle-event") (param "event" $event) (result (result (error string)))
             (canon lift (core func $i "handle") (memory (core memory $mem "memory"))
               (realloc (core func $mem "realloc"))))"#
    ))
}

/// How many instances of a [`starter`] were made on the way of an event, or for nobody yet.
fn made(bench: &Bench, for_event: bool) -> usize {
    let start = if for_event { "e1.probe." } else { ".probe." };
    bench.host.state().events.iter().filter(|event| event.id.starts_with(start)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_are_ready_in_a_worker_and_each_serves_one() {
    let bench = bench_with(|config| (config.workers, config.idle_ms) = (1, 500));
    let mut handler = install(&bench, &starter(1)).await;
    handler.limits.ready = 2;
    keep(&bench, &[&handler]);
    until("two are ready", || made(&bench, false) == 2).await;
    let first = pid(&bench).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    for count in 3..13 {
        bench.invoke(&handler, event("x", "")).await.unwrap();
        until("another is made", || made(&bench, false) == count).await;
    }
    assert_eq!(made(&bench, true), 0, "no event had to wait for its instance");
    assert_eq!(pids(&bench), [first], "who is ready does not idle");

    signal(first, libc::SIGKILL);
    until("two are ready again", || made(&bench, false) == 14).await;
    let second = pid(&bench).await;
    let next = Target { revision: 2, ..handler.clone() };
    keep(&bench, &[&next]);
    until("two are ready of the new revision", || made(&bench, false) == 16).await;
    until("the worker of the old one is gone", || is_gone(second)).await;
    bench.invoke(&next, event("x", "")).await.unwrap();
    assert_eq!(made(&bench, true), 0);
    keep(&bench, &[]);
    until("none is left", || pids(&bench).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_are_ready_are_shared_out_among_workers() {
    let bench = bench_with(|config| config.workers = 2);
    let mut handler = install(&bench, &starter(1)).await;
    handler.limits.ready = 3;
    keep(&bench, &[&handler]);
    until("three are ready", || made(&bench, false) == 3).await;
    let workers = pids(&bench);
    assert_eq!(workers.len(), 2);
    for count in 4..10 {
        bench.invoke(&handler, event("x", "")).await.unwrap();
        until("another is made", || made(&bench, false) == count).await;
    }
    assert_eq!((made(&bench, true), pids(&bench)), (0, workers));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_run_at_once_may_have_all_of_their_memory() {
    let bench = bench_with(|config| config.workers = 1);
    // 60 of 64 MiB, and four times as much is there at once.
    let mut handler = install(&bench, &starter(960)).await;
    (handler.limits.memory_mb, handler.limits.concurrency, handler.limits.ready) = (64, 4, 4);
    keep(&bench, &[&handler]);
    until("four are ready", || made(&bench, false) == 4).await;
    let first = pid(&bench).await;
    for _ in 0..8 {
        bench.invoke(&handler, event("x", "")).await.unwrap();
    }
    assert_eq!(pids(&bench), [first]);
}

/// Goes on for ever if the event holds anything.
const WHILE_FULL: &str = "(loop $l (br_if $l (local.get 11))) (i32.const 16)";

/// Fills a worker in which another event is handled, until the worker is ended: both say so, may be
/// tried again, and the next one finds another worker.
async fn ends_when_filled(bench: &Arc<Bench>, handler: &Target, much: Input, limit_mb: u32) {
    let (ours, theirs) = (Arc::clone(bench), handler.clone());
    let beside = tokio::spawn(async move { ours.invoke(&theirs, event("x", "go on")).await });
    let full = pid(bench).await;
    let error = bench.invoke(handler, much).await.unwrap_err();
    assert_eq!(error, InvokeError::OutOfMemory { limit_mb });
    assert_eq!(beside.await.unwrap().unwrap_err(), error);
    assert!(error.is_retryable());
    until("it is gone", || is_gone(full)).await;
    bench.invoke(handler, event("x", "")).await.unwrap();
    assert_ne!(pid(bench).await, full);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_takes_more_memory_than_it_may_ends_and_is_replaced() {
    let bench = Arc::new(bench_with(|config| config.workers = 1));
    let mut handler = install(&bench, &event_component(WHILE_FULL)).await;
    (handler.limits.memory_mb, handler.limits.concurrency) = (1, 2);
    for _ in 0..2 {
        let Input::Event(mut much) = event("x", "") else { unreachable!() };
        // Some 400 MiB, of 256 and 1 + 48 for each of the two.
        much.metadata = vec![("a".into(), "b".into()); 4_000_000];
        ends_when_filled(&bench, &handler, Input::Event(much), 354).await;
    }
}

/// Where the memory of a process' control group is counted; none where it has no group of its own.
fn memory_of(pid: u32) -> Option<[PathBuf; 2]> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = groups.lines().filter(|line| line.contains("/edgescale-")).find_map(|line| {
        let (kind, path) = line.split_once(':')?.1.split_once(':')?;
        let files = match kind {
            "" => ["memory.max", "memory.current"],
            "memory" => ["memory.limit_in_bytes", "memory.usage_in_bytes"],
            _ => return None,
        };
        let folder = format!("/sys/fs/cgroup/{kind}{path}");
        Some(files.map(|file| PathBuf::from(&folder).join(file)))
    });
    own.filter(|files| files.iter().all(|file| file.exists()))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_the_kernel_kills_for_its_memory_is_replaced() {
    let bench = Arc::new(bench_with(|config| config.workers = 1));
    let handler = install(&bench, &event_component(WHILE_FULL)).await;
    bench.invoke(&handler, event("x", "")).await.unwrap();
    let Some([limit, usage]) = memory_of(pid(&bench).await) else {
        aloud::skipped!("no control groups for memory here");
        return;
    };
    // Less than its process may have by itself, so that the group is what ends it.
    let usage: u64 = std::fs::read_to_string(usage).unwrap().trim().parse().unwrap();
    std::fs::write(limit, (usage + (16 << 20)).to_string()).unwrap();
    let much = event("x", &"x".repeat(100 << 20));
    ends_when_filled(&bench, &handler, much, 256 + 16 * (128 + 48)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_calls_are_handled_in_one_warm_process() {
    let bench = bench_with(|_| {});
    let echo = install(&bench, &echo_component()).await;
    for body in ["[1,2]", "", &"x".repeat(100 << 10)] {
        let reply = bench.invoke(&echo, request("any", body)).await.unwrap();
        assert_eq!(reply.content_type, "application/json");
        assert!(reply.body == body, "{} bytes", reply.body.len());
    }
    let first = pids(&bench);
    assert_eq!(first.len(), 1, "one after the other: one process");
    assert_ne!(first[0], std::process::id());
    bench.invoke(&echo, request("any", "[3]")).await.unwrap();
    assert_eq!(pids(&bench), first);

    let error = bench.invoke(&echo, event("x", "")).await.unwrap_err();
    assert!(matches!(error, InvokeError::NoExport { .. }), "{error}");
    let trap = install(&bench, &event_component("unreachable")).await;
    match bench.invoke(&trap, event("x", "")).await.unwrap_err() {
        InvokeError::GuestTrap { message, backtrace } => {
            assert!(message.contains("unreachable"), "{message}");
            assert!(!backtrace.is_empty());
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reaches_all_of_its_node_from_there() {
    let Some(code) = javascript() else { return };
    let bench = bench_with(shared_cache);
    let probe = install(&bench, &code).await;
    reaches_every_import(&bench, &probe).await;
    for _delivery in 0..2 {
        bench.invoke(&probe, event("publish", "{\"a\":1}")).await.unwrap();
    }
    let state = bench.host.state();
    let ids: Vec<&str> = state.events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, ["e1.probe.0", "e1.probe.1", "e1.probe.0", "e1.probe.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_and_bodies_in_parts_go_there_and_back() {
    let Some(code) = guest("web", "componentize/bin/componentize-py") else { return };
    let bench = bench_with(shared_cache);
    let web = install(&bench, &code).await;
    gets_out_where_granted(&bench, &web).await;

    let parts = ["one ", "two ", "three"].map(|part| Ok(Bytes::from(part)));
    let (got, result) = super::arriving::converse(&bench, &web, "/back", &parts).await;
    assert_eq!(got, "one two three", "{result:?}");
    let lost = Broken::Lost("the client has gone".into());
    let parts: [super::arriving::Part; 2] = [Ok(Bytes::from("one ")), Err(lost)];
    let (got, result) = super::arriving::converse(&bench, &web, "/back", &parts).await;
    assert_eq!(got, "one ");
    assert!(result.is_err(), "half a body: {result:?}");

    let (port, open) = gate().await;
    bench.host.state().hosts = vec![format!("127.0.0.1/32:{port}").parse().unwrap()];
    let Input::Http(mut request) = http("GET", "/slow", "") else { unreachable!() };
    request.headers.push(("x-url".into(), format!("http://127.0.0.1:{port}/")));
    let release = move || open.send(()).unwrap();
    let came = super::streamed::ask(&bench, &web, Input::Http(request), release).await;
    assert_eq!((came.head.status, came.first.as_str(), came.rest.as_str()), (200, "one ", "two"));
    assert!(came.result.unwrap().body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_killed_fails_what_ran_in_it_and_nothing_else() {
    let bench = Arc::new(bench_with(|_| {}));
    let endless = install(&bench, &event_component(ENDLESS)).await;
    let good = install(&bench, &event_component(SUCCEED)).await;
    let neighbour = beside(&good, "neighbour");
    let (ours, theirs) = (Arc::clone(&bench), endless.clone());
    let running = tokio::spawn(async move { ours.invoke(&theirs, event("x", "")).await });
    let killed = pid(&bench).await;
    // It may be killed before it has come up, while it starts, or at work.
    bench.invoke(&good, event("x", "")).await.unwrap();
    let other = *pids(&bench).iter().find(|other| **other != killed).unwrap();
    signal(killed, libc::SIGKILL);
    bench.invoke(&neighbour, event("x", "")).await.unwrap();
    let error = running.await.unwrap().unwrap_err();
    let is_said = matches!(&error, InvokeError::GuestTrap { message, .. }
        if message.contains("the process that it ran in ended with signal: 9"));
    assert!(is_said, "{error}");
    assert!(error.is_retryable());
    bench.invoke(&good, event("x", "")).await.unwrap();
    assert_eq!(pids(&bench), [other], "the other handler's process was not touched");

    signal(other, libc::SIGABRT);
    until("its node knows", || pids(&bench).is_empty()).await;
    bench.invoke(&good, event("x", "")).await.unwrap();
    assert_ne!(pids(&bench), [other], "another has taken its place");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runaway_ends_at_its_limit_and_its_process_goes_on() {
    let bench = bench_with(|_| {});
    let mut endless = install(&bench, &event_component(ENDLESS)).await;
    // What takes long here is to start, which is within the time as well.
    let first = bench.invoke(&endless, event("x", ""));
    let _ = tokio::time::timeout(Duration::from_millis(500), first).await;
    let before = pid(&bench).await;
    endless.limits.timeout_ms = 300;
    for _ in 0..3 {
        let error = bench.invoke(&endless, event("x", "")).await.unwrap_err();
        assert_eq!(error, InvokeError::Timeout { limit_ms: 300 });
    }
    assert!(pids(&bench).contains(&before), "nobody had to be killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_answer_is_killed_after_the_deadline() {
    let bench = bench_with(|_| {});
    let mut good = install(&bench, &event_component(SUCCEED)).await;
    bench.invoke(&good, event("x", "")).await.unwrap();
    let stopped = pid(&bench).await;
    signal(stopped, libc::SIGSTOP);
    until("it stands still", || state(stopped) == Some('T')).await;
    good.limits.timeout_ms = 200;
    let error = bench.invoke(&good, event("x", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::Timeout { limit_ms: 200 });
    until("it is gone", || is_gone(stopped)).await;
    good.limits.timeout_ms = 30_000;
    bench.invoke(&good, event("x", "")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_stops_the_guest() {
    let bench = bench_with(|config| config.workers = 1);
    let mut handler = install(&bench, &event_component(WHILE_FULL)).await;
    handler.limits.concurrency = 1;
    bench.invoke(&handler, event("x", "")).await.unwrap();
    let process = pid(&bench).await;
    let cpu = |pid: u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(11).unwrap().parse().unwrap()
    };
    // In ticks of a hundredth of a second.
    for _ in 0..3 {
        let before = cpu(process);
        tokio::select! {
            ended = bench.invoke(&handler, event("x", "go on")) => panic!("{ended:?}"),
            () = until("it is at work", || cpu(process) > before + 10) => {}
        }
    }
    // A guest at work takes them all.
    let mut before = cpu(process);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = cpu(process);
        if now.saturating_sub(before) <= 2 {
            return;
        }
        before = now;
    }
    panic!("a guest goes on for nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_go_with_their_node_when_idle_and_with_their_code() {
    let bench = bench_with(|_| {});
    let good = install(&bench, &event_component(SUCCEED)).await;
    let echo = install(&bench, &echo_component()).await;
    bench.invoke(&good, event("x", "")).await.unwrap();
    let first = pid(&bench).await;
    bench.execute.uninstall(&good.digest).unwrap();
    until("code's worker is gone", || is_gone(first)).await;
    bench.invoke(&echo, request("x", "1")).await.unwrap();
    let second = pid(&bench).await;
    drop(bench);
    until("the node's worker is gone", || is_gone(second)).await;

    let bench = bench_with(|config| config.idle_ms = 100);
    let good = install(&bench, &event_component(SUCCEED)).await;
    bench.invoke(&good, event("x", "")).await.unwrap();
    until("an idle worker is gone", || pids(&bench).is_empty()).await;
    bench.invoke(&good, event("x", "")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_has_as_many_workers_as_cores_and_a_new_revision_its_own() {
    let bench = Arc::new(bench_with(|config| config.workers = 2));
    let endless = install(&bench, &event_component(ENDLESS)).await;
    let mut running = Vec::new();
    for _ in 0..4 {
        let (bench, endless) = (Arc::clone(&bench), endless.clone());
        let work = async move { bench.invoke(&endless, event("x", "")).await };
        running.push(AbortOnDrop(tokio::spawn(work)));
    }
    until("two workers run", || pids(&bench).len() == 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let of_first = pids(&bench);
    assert_eq!(of_first.len(), 2, "four at once share two");

    let next = Target { revision: 2, ..endless.clone() };
    let work = bench.invoke(&next, event("x", ""));
    assert!(tokio::time::timeout(Duration::from_millis(300), work).await.is_err());
    assert!(of_first.iter().all(|pid| !is_gone(*pid)), "what runs there may end");
    drop(running);
    until("they end with what ran in them", || of_first.iter().all(|pid| is_gone(*pid))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_program_says_so() {
    let bench = Bench::new();
    let good = install(&bench, &event_component(SUCCEED)).await;
    let error = bench.invoke(&good, event("x", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::Node("worker for probe: this program has none".into()));

    let compiled = bench.dir.path().join("code");
    let bench = Bench::with(|config| {
        let arguments = vec!["not-a-worker".to_owned()];
        config.worker = Some(WorkerProgram { program: "/bin/false".into(), arguments });
        config.cache_dir = compiled;
    });
    let other = event_component("unreachable");
    let code = Code { digest: Digest::of(&other), kind: CodeKind::Component, bytes: other.into() };
    let error = bench.execute.install(code).await.unwrap_err();
    assert!(matches!(error, InvokeError::Node(_)), "that is no fault of the code: {error}");
    let good = install(&bench, &event_component(SUCCEED)).await;
    for _ in 0..2 {
        let error = bench.invoke(&good, event("x", "")).await.unwrap_err().to_string();
        assert!(error.contains("worker did not come up") && error.contains("status: 1"), "{error}");
    }
    // Two died; the next one waits, and is not waited for longer than there is time.
    let hasty = Invocation {
        deadline: Instant::now() + Duration::from_millis(20),
        ..invocation(&good, event("x", ""))
    };
    let error = bench.execute.invoke(hasty).await.unwrap_err();
    assert!(matches!(error, InvokeError::Overloaded { .. }), "{error}");
}
