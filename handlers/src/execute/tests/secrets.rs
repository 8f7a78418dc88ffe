//! Settings and secrets on their way into guests, and secrets kept out of everything else.

use super::lambda::ask;
use super::languages::{guest, shared_cache};
use super::stock::http;
use super::*;

const FUNCTION: &str = r#"
import os, sys
import edgescale

def handler(event, context):
    name, key = event["name"], os.environ["KEY"]
    if name == "tell":
        return {"pid": os.getpid(), "key": key, "mode": os.environ.get("mode"),
                "path": os.environ["PATH"], "preload": os.environ.get("LD_PRELOAD"),
                "config": edgescale.config("KEY")}
    if name == "print":
        print(f"the key is {key}")
        print(f"indeed {key}!", file=sys.stderr)
    if name == "raise":
        raise ValueError(f"bad key {key}")
    if name == "exit":
        print(f"dying with {key}", file=sys.stderr, flush=True)
        os._exit(3)
"#;

fn set(bench: &Bench, key: &str) {
    let mut state = bench.host.state();
    state.secrets.insert("KEY".into(), key.into());
    for (name, value) in [("mode", "fast"), ("PATH", "/nowhere"), ("LD_PRELOAD", "/x.so")] {
        state.config.insert(name.into(), value.into());
    }
}

/// What `ps` shows of every process.
fn command_lines() -> String {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_has_its_secrets_and_nobody_else_does() {
    if !has_tool("py/awslambdaric") {
        return;
    }
    let bench = Bench::new();
    let mut target = bench.install(CodeKind::Python, FUNCTION.as_bytes()).await;
    target.entry = Some("main.handler".into());
    let (first, second) = ("tiger-7f31c0", "zebra-99ab1e");
    set(&bench, first);

    let told = ask(&bench, &target, "tell", "").await;
    assert_eq!((&told["key"], &told["config"]), (&first.into(), &first.into()));
    assert_eq!(told["mode"], "fast");
    assert_ne!(told["path"], "/nowhere", "what the runtime needs stays");
    assert_eq!(told["preload"], serde_json::Value::Null);
    let again = ask(&bench, &target, "tell", "").await;
    assert_eq!(told["pid"], again["pid"], "warm while the secret is the same");
    let shown = command_lines();
    assert!(shown.contains("start.py") && !shown.contains(first));

    set(&bench, second);
    let rotated = ask(&bench, &target, "tell", "").await;
    assert_eq!(rotated["key"], second, "the next invocation has the new one");
    let old = format!("/proc/{}", told["pid"]);
    let own_pids = std::path::Path::new(&old).exists();
    assert_ne!((&told["pid"], own_pids), (&rotated["pid"], true), "the old process is gone");

    ask(&bench, &target, "print", "").await;
    let failed = bench.invoke(&target, request("raise", "")).await.unwrap_err().to_string();
    assert!(failed.contains("bad key [secret]"), "{failed}");
    let died = bench.invoke(&target, request("exit", "")).await.unwrap_err();
    assert!(format!("{died:?}").contains("dying with [secret]"), "{died:?}");
    let log = bench.host.log_text();
    assert!(log.contains("the key is [secret]") && log.contains("indeed [secret]!"), "{log}");
    let everything = format!("{log}{failed}{died:?}");
    assert!(!everything.contains(second), "{everything}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_has_them_by_wasi_config() {
    let jco = "node/node_modules/@bytecodealliance/jco/package.json";
    let Some(code) = guest("messages", jco) else { return };
    let bench = Bench::with(shared_cache);
    let target = bench.install(CodeKind::Component, &code).await;
    let first = "tiger-7f31c0";
    set(&bench, first);
    let settings = ask(&bench, &target, "settings", "").await;
    assert!(settings.to_string().contains(first), "{settings}");
    let failed = bench.invoke(&target, request("leak", "")).await.unwrap_err();
    assert_eq!(failed, InvokeError::GuestError("my key is [secret]".into()));
    bench.invoke(&target, event("log", "")).await.unwrap();
    assert!(bench.host.log_text().ends_with("key is [secret]"), "{}", bench.host.log_text());
}

/// Python reads its environment when it starts: an instance that serves several invocations must
/// not go on with a secret that was rotated.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_kept_has_a_rotated_secret_at_once() {
    let Some(code) = guest("web", "componentize/bin/componentize-py") else { return };
    let bench = Bench::with(shared_cache);
    let mut target = bench.install(CodeKind::Component, &code).await;
    target.limits.reuse = Some(100);
    for key in ["tiger-7f31c0", "tiger-7f31c0", "zebra-99ab1e"] {
        bench.host.state().secrets.insert("greeting".into(), key.into());
        let reply = bench.invoke(&target, http("GET", "/settings", "")).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&reply.body), format!("\"{key}\""));
    }
}
