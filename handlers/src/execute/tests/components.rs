//! Components written out in WebAssembly text: what a guest can do to its host at worst.

use super::*;
use crate::execute::seal::{FileId, Sealed};

/// A component whose `handle-event` has the given body and locals; memory starts with one page.
pub(crate) fn event_component(body: &str) -> Vec<u8> {
    component(&event_text(body))
}

/// What is in it.
pub(super) fn event_text(body: &str) -> String {
    let fields = ["id", "source", "subject", "time", "content-type"]
        .map(|name| format!("(field \"{name}\" string)"))
        .join(" ");
    format!(
        r#"(import "edgescale:app/inputs@0.1.0" (instance $inputs
             (type $e (record {fields} (field "body" (list u8)) (field "attempt" u32)))
             (export "event" (type (eq $e)))))
           (alias export $inputs "event" (type $event))
           (core module $m
             {MEMORY}
             (func (export "handle") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)
               (result i32) {body}))
           (core instance $i (instantiate $m))
           (func (export "handle-event") (param "event" $event) (result (result (error string)))
             (canon lift (core func $i "handle") (memory (core memory $i "memory"))
               (realloc (core func $i "realloc"))))"#
    )
}

/// A component that answers every call with the request's own body.
pub(super) fn echo_component() -> Vec<u8> {
    component(&format!(
        r#"(import "edgescale:app/inputs@0.1.0" (instance $inputs
             (type $q (record (field "id" string) (field "name" string)
               (field "content-type" string) (field "body" (list u8))))
             (export "request" (type (eq $q)))
             (type $p (record (field "content-type" string) (field "body" (list u8))))
             (export "response" (type (eq $p)))))
           (alias export $inputs "request" (type $request))
           (alias export $inputs "response" (type $response))
           (core module $m
             {MEMORY}
             (func (export "handle") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
               (i32.store (i32.const 20) (local.get 4))
               (i32.store (i32.const 24) (local.get 5))
               (i32.store (i32.const 28) (local.get 6))
               (i32.store (i32.const 32) (local.get 7))
               (i32.const 16)))
           (core instance $i (instantiate $m))
           (func (export "handle-call") (param "request" $request)
             (result (result $response (error string)))
             (canon lift (core func $i "handle") (memory (core memory $i "memory"))
               (realloc (core func $i "realloc"))))"#
    ))
}

/// One page of memory and an allocator that never frees.
pub(super) const MEMORY: &str = r#"
    (memory (export "memory") 4)
    (global $top (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      (local.get $at))"#;

pub(super) const SUCCEED: &str = "(i32.const 16)";

pub(super) fn component(text: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {text})")).unwrap()
}

/// The component with a module in it that nobody uses: so many functions of as many steps each,
/// for a compiler to work on.
pub(super) fn with_ballast(mut component: Vec<u8>, functions: u32, steps: u32) -> Vec<u8> {
    let mut function = vec![0, 0x20, 0];
    for step in 0..steps {
        // local.get 1, i32.xor, local.get 0, i32.mul, i32.const, i32.add
        function.extend([0x20, 1, 0x73, 0x20, 0, 0x6c, 0x41, (step % 64) as u8, 0x6a]);
    }
    function.push(0x0b);
    let sized = |bytes: &[u8]| [number(bytes.len() as u32), bytes.to_vec()].concat();
    let many = |one: &[u8]| [number(functions), one.repeat(functions as usize)].concat();
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    let types = vec![1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f];
    for (id, section) in [(1, types), (3, many(&[0])), (10, many(&sized(&function)))] {
        module.push(id);
        module.extend(sized(&section));
    }
    component.push(1);
    component.extend(sized(&module));
    component
}

/// A number in LEB128.
fn number(mut number: u32) -> Vec<u8> {
    let mut bytes = vec![];
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_handled_and_a_call_answered() {
    let bench = Bench::new();
    let handler = bench.install(CodeKind::Component, &event_component(SUCCEED)).await;
    assert!(bench.invoke(&handler, event("x", "{}")).await.unwrap().body.is_empty());

    let echo = bench.install(CodeKind::Component, &echo_component()).await;
    let reply = bench.invoke(&echo, request("any", "[1,2]")).await.unwrap();
    assert_eq!((reply.content_type.as_str(), &reply.body[..]), ("application/json", &b"[1,2]"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guests_own_error_is_its_text() {
    let bench = Bench::new();
    let body = r#"
        (i32.store8 (i32.const 16) (i32.const 1))
        (i32.store (i32.const 20) (i32.const 100))
        (i32.store (i32.const 24) (i32.const 3))
        (i32.store (i32.const 100) (i32.const 0x797274))
        (i32.const 16)"#;
    let handler = bench.install(CodeKind::Component, &event_component(body)).await;
    let error = bench.invoke(&handler, event("x", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::GuestError("try".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guests_words_are_bounded() {
    let bench = Bench::new();
    let body = r#"
        (i32.store8 (i32.const 16) (i32.const 1))
        (i32.store (i32.const 20) (i32.const 1024))
        (i32.store (i32.const 24) (i32.const 200000))
        (i32.const 16)"#;
    let handler = bench.install(CodeKind::Component, &event_component(body)).await;
    let error = bench.invoke(&handler, event("x", "")).await.unwrap_err();
    assert!((1..9_000).contains(&error.to_string().len()), "{}", error.to_string().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_ends_the_instance_alone() {
    let bench = Bench::new();
    let bad = bench.install(CodeKind::Component, &event_component("unreachable")).await;
    let good = bench.install(CodeKind::Component, &event_component(SUCCEED)).await;
    for _ in 0..20 {
        match bench.invoke(&bad, event("x", "")).await.unwrap_err() {
            InvokeError::GuestTrap { message, backtrace } => {
                assert!(message.contains("unreachable"), "{message}");
                assert!(!backtrace.is_empty());
            }
            other => panic!("{other}"),
        }
        bench.invoke(&good, event("x", "")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_has_the_names_of_its_functions() {
    let bench = Bench::new();
    let text = event_text("(call $deep) unreachable").replace(
        "(func (export \"handle\")",
        "(func $deep unreachable) (func $outer (export \"handle\")",
    );
    let bad = bench.install(CodeKind::Component, &component(&text)).await;
    let error = bench.invoke(&bad, event("x", "")).await.unwrap_err();
    let stack = error.backtrace();
    let deep = stack.find("!deep").unwrap_or_else(|| panic!("{stack}"));
    assert!(stack[deep..].contains("!outer"), "{stack}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_can_do_wrong_is_a_trap() {
    let bench = Bench::new();
    let cases = [
        ("(i32.div_u (i32.const 1) (i32.const 0))", "divide by zero"),
        ("(i32.load (i32.const 0x7fffffff))", "out of bounds"),
        ("(i32.const 0x7ffffff0)", "out of bounds"),
        ("(i32.store8 (i32.const 16) (i32.const 7)) (i32.const 16)", "discriminant"),
    ];
    for (body, expected) in cases {
        let handler = bench.install(CodeKind::Component, &event_component(body)).await;
        match bench.invoke(&handler, event("x", "")).await.unwrap_err() {
            InvokeError::GuestTrap { message, .. } => {
                assert!(message.contains(expected), "{body}: {message}");
            }
            other => panic!("{body}: {other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_loops_end_at_their_limit_and_hold_nobody_up() {
    let bench = Bench::new();
    let mut spinner =
        bench.install(CodeKind::Component, &event_component("(loop $l (br $l)) unreachable")).await;
    spinner.limits = Limits { timeout_ms: 1_000, ..Limits::default() };
    let quick = bench.install(CodeKind::Component, &event_component(SUCCEED)).await;

    // More spinners than guest threads, and still another handler is answered meanwhile.
    let spinning =
        futures::future::join_all((0..8).map(|_| bench.invoke(&spinner, event("x", ""))));
    let answered = async {
        let mut count = 0;
        for _ in 0..10 {
            bench.invoke(&quick, event("x", "")).await.unwrap();
            count += 1;
        }
        (count, Instant::now())
    };
    let (stopped, (count, quick_done)) =
        tokio::join!(async { (spinning.await, Instant::now()) }, answered);
    for result in stopped.0 {
        assert_eq!(result.unwrap_err(), InvokeError::Timeout { limit_ms: 1_000 });
    }
    assert_eq!(count, 10);
    assert!(quick_done < stopped.1, "the quick handler waited for the spinners");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_deadline_comes_before_the_handlers_limit() {
    let bench = Bench::new();
    let spinner =
        bench.install(CodeKind::Component, &event_component("(loop $l (br $l)) unreachable")).await;
    let mut invocation = invocation(&spinner, event("x", ""));
    invocation.deadline = Instant::now() + Duration::from_millis(50);
    match bench.execute.invoke(invocation).await.unwrap_err() {
        InvokeError::Timeout { limit_ms } => assert!(limit_ms <= 50, "{limit_ms}"),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_ends_at_its_limit() {
    let bench = Bench::new();
    let body = "(loop $l (drop (memory.grow (i32.const 16))) (br $l)) unreachable";
    let mut handler = bench.install(CodeKind::Component, &event_component(body)).await;
    handler.limits = Limits { memory_mb: 8, ..Limits::default() };
    let error = bench.invoke(&handler, event("x", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::OutOfMemory { limit_mb: 8 });

    let small = bench.install(CodeKind::Component, &event_component(SUCCEED)).await;
    bench.invoke(&small, event("x", "")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn computing_ends_at_its_limit() {
    let bench = Bench::new();
    let body = "(loop $l (br $l)) unreachable";
    let mut spinner = bench.install(CodeKind::Component, &event_component(body)).await;
    spinner.limits = Limits { timeout_ms: 60_000, cpu_ms: Some(50), ..Limits::default() };
    let error = bench.invoke(&spinner, event("x", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::CpuTime { limit_ms: 50 });

    let mut small = bench.install(CodeKind::Component, &event_component(SUCCEED)).await;
    small.limits.cpu_ms = Some(50);
    bench.invoke(&small, event("x", "")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_finds_a_fresh_instance() {
    let bench = Bench::new();
    let body = r#"
        (if (i32.load (i32.const 8)) (then unreachable))
        (i32.store (i32.const 8) (i32.const 1))
        (i32.const 16)"#;
    let handler = bench.install(CodeKind::Component, &event_component(body)).await;
    for _ in 0..50 {
        bench.invoke(&handler, event("x", "")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_serves_as_often_as_its_handler_says() {
    let bench = Bench::with(|config| config.instances_max = 2);
    // The first use is fine, the second says so, a third would break down.
    let body = r#"
        (if (i32.eq (i32.load (i32.const 8)) (i32.const 2)) (then unreachable))
        (i32.store8 (i32.const 16) (i32.load (i32.const 8)))
        (i32.store (i32.const 20) (i32.const 100))
        (i32.store (i32.const 24) (i32.const 0))
        (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
        (i32.const 16)"#;
    let mut handler = bench.install(CodeKind::Component, &event_component(body)).await;
    handler.limits.reuse = Some(2);
    for _ in 0..10 {
        bench.invoke(&handler, event("x", "")).await.unwrap();
        let error = bench.invoke(&handler, event("x", "")).await.unwrap_err();
        assert_eq!(error, InvokeError::GuestError(String::new()), "the same instance");
    }
    // Instances that wait make room for others, and take up no more than there is.
    handler.limits.reuse = Some(1_000);
    let others: Vec<Target> =
        (0..5).map(|n| Target { handler: format!("h{n}"), ..handler.clone() }).collect();
    for other in &others {
        bench.invoke(other, event("x", "")).await.unwrap();
    }
    // One that breaks down is not used again.
    bench.invoke(&others[4], event("x", "")).await.unwrap_err();
    let error = bench.invoke(&others[4], event("x", "")).await.unwrap_err();
    assert!(matches!(error, InvokeError::GuestTrap { .. }), "{error}");
    bench.invoke(&others[4], event("x", "")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_code_is_refused_when_it_comes() {
    let bench = Bench::new();
    let nothing = component("");
    let wrong_type = component(
        r#"(core module $m (func (export "handle")))
           (core instance $i (instantiate $m))
           (func (export "handle-event") (canon lift (core func $i "handle")))"#,
    );
    let wants_more = component(r#"(import "other:host/thing@1.0.0" (func))"#);
    let dies_at_start = component(
        r#"(core module $m (func $s unreachable) (start $s) (func (export "handle")))
           (core instance $i (instantiate $m))
           (func (export "handle-event") (canon lift (core func $i "handle")))"#,
    );
    let module = wat::parse_str("(module)").unwrap();
    let cases: [(&[u8], &str); 7] = [
        (b"", "not a component"),
        (b"\0asm\r\0\x01\0garbage", "not a component"),
        (&module, "not a component"),
        (
            &nothing,
            "exports none of handle-event, handle-call, handle-frame, handle-http, wasi:http",
        ),
        (&wrong_type, "does not start"),
        (&wants_more, "exports none"),
        (&dies_at_start, "does not start"),
    ];
    for (bytes, expected) in cases {
        let digest = Digest::of(bytes);
        let code = Code {
            digest: digest.clone(),
            kind: CodeKind::Component,
            bytes: bytes.to_vec().into(),
        };
        match bench.execute.install(code).await.unwrap_err() {
            InvokeError::BadCode { problem, .. } => {
                assert!(problem.contains(expected), "{expected}: {problem}");
            }
            other => panic!("{expected}: {other}"),
        }
        assert!(!bench.execute.is_installed(&digest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_must_be_those_of_the_digest() {
    let bench = Bench::new();
    let code = Code {
        digest: Digest::of(b"other"),
        kind: CodeKind::Component,
        bytes: echo_component().into(),
    };
    let error = bench.execute.install(code).await.unwrap_err();
    assert!(matches!(error, InvokeError::BadCode { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() {
    let bench = Bench::new();
    let unknown = target(Digest::of(b"unknown"), CodeKind::Component);
    let error = bench.invoke(&unknown, event("x", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::NotInstalled(Digest::of(b"unknown")));

    let handler = bench.install(CodeKind::Component, &event_component(SUCCEED)).await;
    let error = bench.invoke(&handler, request("x", "")).await.unwrap_err();
    let (handler_name, export) = ("probe".to_owned(), "handle-call".to_owned());
    assert_eq!(error, InvokeError::NoExport { handler: handler_name, export });

    bench.execute.uninstall(&handler.digest).unwrap();
    let error = bench.invoke(&handler, event("x", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::NotInstalled(handler.digest.clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_is_used_again_and_spoiled_code_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let host: Arc<dyn Host> = Arc::new(Memory::default());
    let start = || {
        let mut config = Config::new(dir.path(), tools());
        config.instances_max = 4;
        EdgeExecute::start(config, Arc::clone(&host)).unwrap()
    };
    let bytes = Bytes::from(echo_component());
    let digest = Digest::of(&bytes);
    let code = Code { digest: digest.clone(), kind: CodeKind::Component, bytes };

    let first = start().install(code.clone()).await.unwrap();
    assert!(first.compiled);
    assert_eq!(first.exports, ["handle-call"]);

    let execute = start();
    let again = execute.reinstall(&digest, CodeKind::Component).await.unwrap().unwrap();
    assert!(!again.compiled, "an earlier compilation was there");
    drop(execute);

    let compiled = std::fs::read_dir(dir.path().join("compiled")).unwrap();
    let files = compiled.map(|entry| entry.unwrap().path());
    let file = files.into_iter().find(|path| path.extension().is_some_and(|e| e == "cwasm"));
    let file = file.unwrap();
    let mut spoiled = std::fs::read(&file).unwrap();
    let middle = spoiled.len() / 2;
    spoiled[middle] ^= 1;
    // In the place of the file, not into it: what has it mapped may still be about to end.
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, spoiled).unwrap();
    let execute = start();
    assert!(execute.install(code).await.unwrap().compiled, "spoiled code was compiled anew");
    let unknown = Digest::of(b"unknown");
    assert_eq!(execute.reinstall(&unknown, CodeKind::Component).await.unwrap(), None);
}

/// A seal of the same step of the clock as its file says nothing of a change in that step.
#[tokio::test(flavor = "multi_thread")]
async fn code_is_soon_under_a_seal_that_vouches_for_its_file() {
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new();
    let handler = bench.install(CodeKind::Component, &event_component(SUCCEED)).await;
    let name = format!("{}-{}.cwasm", handler.digest, bench.execute.shared.installer.fingerprint());
    let file = bench.dir.path().join("code/compiled").join(name);
    let changed = |file: &std::path::Path| {
        let about = std::fs::metadata(file).unwrap();
        Duration::new(about.ctime() as u64, about.ctime_nsec() as u32)
    };
    let seal = file.with_extension("seal");
    let step = Duration::from_millis(10);
    until("it was sealed later", || changed(&seal) > changed(&file) + step).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_lost_bits_on_disk_is_given_up_beside_serving() {
    let bench = Bench::new();
    let handler = bench.install(CodeKind::Component, &event_component(SUCCEED)).await;
    let (shared, digest) = (&bench.execute.shared, &handler.digest);
    let engine = shared.installer.fingerprint();
    let path = shared.cache.compiled(digest, engine).unwrap().unwrap();
    // What is sealed in the moment of its change is soon sealed again.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let file = FileId::of(&std::fs::metadata(&path).unwrap());
    shared.cache.seal(digest, engine, &Sealed { bytes: Digest::of(b"as it was"), file }).unwrap();

    shared.wasm.uninstall(digest);
    let again = bench.execute.reinstall(digest, CodeKind::Component).await.unwrap();
    assert!(again.is_some(), "it serves at once");
    while bench.execute.is_installed(digest) || path.exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_at_once_are_refused_with_a_time_to_come_back() {
    let bench = Bench::with(|config| config.queue_len_max = 2);
    let body = "(loop $l (br $l)) unreachable";
    let mut spinner = bench.install(CodeKind::Component, &event_component(body)).await;
    spinner.limits = Limits { timeout_ms: 300, concurrency: 1, ..Limits::default() };
    let all =
        futures::future::join_all((0..6).map(|_| bench.invoke(&spinner, event("x", "")))).await;
    let refused = |result: &&Result<Reply, InvokeError>| {
        matches!(result, Err(InvokeError::Overloaded { retry_after_ms: 1.. }))
    };
    assert_eq!(all.iter().filter(refused).count(), 3, "one runs, two wait: {all:?}");
    let stopped = all.iter().filter(|result| matches!(result, Err(InvokeError::Timeout { .. })));
    assert_eq!(stopped.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_invocation_frees_its_place() {
    let bench = Bench::new();
    let body = "(loop $l (br $l)) unreachable";
    let mut spinner = bench.install(CodeKind::Component, &event_component(body)).await;
    spinner.limits = Limits { timeout_ms: 60_000, concurrency: 1, ..Limits::default() };
    let running = bench.invoke(&spinner, event("x", ""));
    assert!(tokio::time::timeout(Duration::from_millis(50), running).await.is_err());

    spinner.limits.timeout_ms = 20;
    let error = bench.invoke(&spinner, event("x", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::Timeout { limit_ms: 20 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_leaves_no_guest_behind() {
    let Bench { execute, dir: _dir, .. } = Bench::new();
    let bytes = Bytes::from(event_component("(loop $l (br $l)) unreachable"));
    let digest = Digest::of(&bytes);
    let kind = CodeKind::Component;
    execute.install(Code { digest: digest.clone(), kind, bytes }).await.unwrap();
    let execute = Arc::new(execute);
    let theirs = Arc::clone(&execute);
    let spinner = target(digest, kind);
    let running = tokio::spawn(async move {
        let spinning = theirs.invoke(invocation(&spinner, event("x", "")));
        tokio::time::timeout(Duration::from_millis(20), spinning).await
    });
    assert!(running.await.unwrap().is_err());
    let execute = Arc::into_inner(execute).expect("the task has ended");
    drop(execute);
}
