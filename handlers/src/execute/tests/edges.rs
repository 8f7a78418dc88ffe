//! Where one EdgeExecute begins and ends: what it leaves behind, and what stands around it.

use std::fs::File;

use super::components::event_component;
use super::*;

/// Code that is ready at once is loaded on the caller's thread; nothing of it stays with the
/// caller, who may have another one soon.
#[tokio::test]
async fn what_is_loaded_ends_with_the_guests_threads() {
    let bench = Bench::new();
    let code = event_component("(i32.const 16)");
    let handler = bench.install(CodeKind::Component, &code).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let config = || Config::new(bench.dir.path().join("code"), tools());
    let again = EdgeExecute::start(config(), Arc::new(Memory::default())).unwrap();
    let loaded = again.reinstall(&handler.digest, CodeKind::Component).await.unwrap().unwrap();
    assert!(!loaded.compiled);
    assert_eq!(tasks(), before, "the caller has no task of it");
}

/// A task may start one: its threads are not waited for.
#[tokio::test]
async fn a_start_that_fails_is_an_error_for_a_task() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { instances_max: u32::MAX, ..Config::new(folder.path(), tools()) };
    let refused = EdgeExecute::start(config, Arc::new(Memory::default()));
    assert!(matches!(refused, Err(InvokeError::Node(_))));
}

/// The code of each handler is a file that stays open.
#[test]
#[allow(unsafe_code)]
fn as_many_files_may_be_open_as_the_system_grants() {
    let now = || {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` outlives the call, which writes to it.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
        limit
    };
    let lower = libc::rlimit { rlim_cur: now().rlim_max - 1, ..now() };
    // SAFETY: `lower` outlives the call, which only reads it.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &lower) }, 0);
    let _bench = Bench::new();
    assert_eq!(now().rlim_cur, now().rlim_max);
}

/// A process may open few files, and the node that starts it has many.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_starts_where_the_node_has_many_files_open() {
    if !has_tool("py/awslambdaric") {
        return;
    }
    let bench = Bench::new();
    let many: Vec<File> = (0..600).map(|_| File::open("/dev/null").unwrap()).collect();
    let mut handler = bench.install(CodeKind::Python, b"def handler(e, c): return 1").await;
    handler.entry = Some("app.handler".into());
    let reply = bench.invoke(&handler, request("one", "")).await.unwrap();
    assert_eq!(&reply.body[..], b"1");
    drop(many);
}
