//! Guests made from JavaScript and Python by the tools a user has.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::*;

/// Builds a guest of `handlers/guests`, or says aloud that the tools are missing.
pub(super) fn guest(kind: &str, tool: &str) -> Option<Vec<u8>> {
    let file = built(kind, &format!("{kind}.wasm"), tool)?;
    Some(std::fs::read(file).unwrap())
}

/// Builds what lies in a file of its own; where that is.
pub(super) fn built(kind: &str, file: &str, tool: &str) -> Option<PathBuf> {
    if !has_tool(tool) {
        return None;
    }
    // Tests run side by side; one of them builds each guest, and others may be built meanwhile.
    static BUILDS: Mutex<BTreeMap<String, Arc<Mutex<()>>>> = Mutex::new(BTreeMap::new());
    let build = {
        let mut builds = BUILDS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(builds.entry(kind.to_owned()).or_default())
    };
    let _turn = build.lock().unwrap_or_else(PoisonError::into_inner);
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = crate_dir.join("../target/guests");
    let mut build = Command::new(crate_dir.join("guests/build.sh"));
    let built = build.arg(&out).arg(kind).env("EDGESCALE_TOOLS", tools()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(out.join(file))
}

pub(super) fn javascript() -> Option<Vec<u8>> {
    guest("js", "node/node_modules/@bytecodealliance/jco/package.json")
}

/// One code folder for all tests of guests, so that each is compiled once: in haste, as a node
/// does it first. The optimising compiler takes four times as long.
pub(super) fn shared_cache(config: &mut Config) {
    config.cache_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/code");
}

/// The same, and code is what serves in the end.
pub(super) fn shared_optimised(config: &mut Config) {
    shared_cache(config);
    config.baseline_bytes_min = usize::MAX;
}

async fn probe() -> Option<(Bench, Target)> {
    let code = javascript()?;
    let bench = Bench::with(shared_optimised);
    let target = bench.install(CodeKind::Component, &code).await;
    Some((bench, target))
}

async fn ask(bench: &Bench, target: &Target, name: &str, body: &str) -> String {
    let reply = bench.invoke(target, request(name, body)).await.unwrap();
    String::from_utf8(reply.body.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_reaches_every_import() {
    let Some((bench, probe)) = probe().await else { return };
    reaches_every_import(&bench, &probe).await;
}

pub(super) async fn reaches_every_import(bench: &Bench, probe: &Target) {
    bench.host.state().config.insert("greeting".into(), "hello".into());

    assert_eq!(ask(bench, probe, "echo", "abc").await, "abc");
    assert_eq!(ask(bench, probe, "config", "").await, "hello");
    assert_eq!(ask(bench, probe, "relay", "[7]").await, "[7]");
    assert_eq!(ask(bench, probe, "blob", "12345").await, "5");

    assert_eq!(ask(bench, probe, "get", r#"{"id":1}"#).await, "null");
    for id in 1..=3 {
        bench.invoke(probe, event("put", &format!("{{\"id\":{id}}}"))).await.unwrap();
    }
    assert_eq!(ask(bench, probe, "get", r#"{"id":1}"#).await, r#"{"id":1}"#);
    assert_eq!(ask(bench, probe, "scan", "").await, r#"[{"id":3},{"id":2}]"#);
    for _ in 0..2 {
        bench.invoke(probe, event("count", "")).await.unwrap();
    }
    assert_eq!(ask(bench, probe, "get", r#"{"id":"n"}"#).await, r#"{"count":4,"id":"n"}"#);
    let asked =
        r#"[true,false,true,"last",true,"SELECT 1","invalid: unknown operation \"no-such\""]"#;
    assert_eq!(ask(bench, probe, "asked", "").await, asked);
    let levels = r#"memory,parent{"count":2,"id":"at"}"#;
    assert_eq!(ask(bench, probe, "levels", "").await, levels);
    let arrow = "null; local-sync; {\"count\":2,\"id\":\"at\"}; \
                 invalid: no such operation in Arrow";
    assert_eq!(ask(bench, probe, "arrow", "").await, arrow);
    let range = "2345invalid: a range from 2 to before 1";
    assert_eq!(ask(bench, probe, "range", "12345").await, range);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_refusals_reach_the_guest_as_what_they_are() {
    let Some((bench, probe)) = probe().await else { return };
    let refused = ask(&bench, &probe, "denied", "").await;
    assert_eq!(refused, "denied: table \"secret\" is not granted");
    assert_eq!(ask(&bench, &probe, "absent", "").await, "not-found: no table \"absent\"");
    let invalid = ask(&bench, &probe, "not-json", "").await;
    assert!(invalid.starts_with("invalid: key is no JSON object"), "{invalid}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_published_under_ids_that_a_redelivery_repeats() {
    let Some((bench, probe)) = probe().await else { return };
    for _delivery in 0..2 {
        bench.invoke(&probe, event("publish", "{\"a\":1}")).await.unwrap();
    }
    let state = bench.host.state();
    let ids: Vec<&str> = state.events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, ["e1.probe.0", "e1.probe.1", "e1.probe.0", "e1.probe.1"]);
    assert_eq!(state.events[0].body, "{\"a\":1}");
    assert_eq!(state.events[1].content_type, "text/plain");
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_that_goes_wrong_harms_nobody() {
    let Some((bench, mut probe)) = probe().await else { return };
    probe.limits = Limits { memory_mb: 32, timeout_ms: 60_000, ..Limits::default() };

    for (subject, word) in [("throw", "thrown on purpose"), ("throw-text", "thrown as text")] {
        match bench.invoke(&probe, event(subject, "")).await.unwrap_err() {
            InvokeError::GuestError(message) | InvokeError::GuestTrap { message, .. } => {
                assert!(message.contains(word), "{subject}: {message}");
            }
            other => panic!("{subject}: {other}"),
        }
    }
    let (message, stack) = raised(bench.invoke(&probe, event("traced", "")).await.unwrap_err());
    assert_eq!(message, "Error: thrown on purpose");
    assert!(stack.contains("at throw (") && stack.contains("probe.js:"), "{stack}");
    let error = bench.invoke(&probe, event("bomb", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::OutOfMemory { limit_mb: 32 });
    for subject in ["recurse", "no-such-subject"] {
        let error = bench.invoke(&probe, event(subject, "")).await.unwrap_err();
        let explained = matches!(error, InvokeError::GuestTrap { .. } | InvokeError::GuestError(_));
        assert!(explained, "{subject}: {error}");
    }
    probe.limits.timeout_ms = 100;
    for subject in ["loop", "wait"] {
        let error = bench.invoke(&probe, event(subject, "")).await.unwrap_err();
        assert_eq!(error, InvokeError::Timeout { limit_ms: 100 }, "{subject}");
    }
    probe.limits.timeout_ms = 5_000;
    bench.invoke(&probe, event("ok", "")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guests_log_has_a_limit() {
    let Some((bench, probe)) = probe().await else { return };
    bench.invoke(&probe, event("log", "")).await.unwrap();
    assert_eq!(bench.host.state().lines, [(Level::Debug, "to the log".to_owned())]);

    bench.host.state().lines.clear();
    bench.invoke(&probe, event("flood", "")).await.unwrap();
    let text = bench.host.log_text();
    assert!(text.len() < 80 << 10, "{} bytes", text.len());
    assert!(text.ends_with("further lines are dropped"));
}

/// A frame of NV12 whose left half is `luma`.
pub(super) fn picture(index: u64, luma: u8) -> accel::Frame {
    let (width, height) = (64u32, 48u32);
    let mut data = vec![128; (width * height * 3 / 2) as usize];
    for y in 0..height as usize {
        data[y * width as usize..][..width as usize / 2].fill(luma);
    }
    let shape = accel::Shape::limited(width, height, accel::PixelFormat::Nv12);
    accel::Frame::new(shape, index as i64 * 40_000, index, data.into()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_is_worked_on_without_coming_in() {
    let Some((bench, probe)) = probe().await else { return };
    let connection =
        Connection { id: "c1".into(), stream: "front".into(), tier: "cloud.east.cell1".into() };
    for (index, luma) in [(0, 40), (1, 40), (2, 200)] {
        let input = Input::Frame(connection.clone(), picture(index, luma));
        bench.invoke(&probe, input).await.unwrap();
    }
    let state = bench.host.state();
    let rows: Vec<&Row> = state.tables["things"].values().collect();
    let scores: Vec<f64> = rows.iter().map(|row| row["score"].as_f64().unwrap()).collect();
    assert_eq!(scores[..2], [0.0, 0.0], "the first frame and one like it");
    assert!((scores[2] - 0.5).abs() < 0.01, "half of the picture changed: {scores:?}");

    let last = rows[2];
    assert_eq!(last["size"].to_string(), "[64,48]");
    assert_eq!((last["format"].as_str(), last["bytes"].as_u64()), (Some("nv12"), Some(4608)));
    assert_eq!((last["id"].as_u64(), last["time_us"].as_i64()), (Some(2), Some(80_000)));
    assert_eq!(last["jpeg_starts"].to_string(), "[255,216]");
    let blob = &state.blobs[last["jpeg"].as_str().unwrap()];
    assert!(blob.starts_with(&[0xff, 0xd8]) && blob.ends_with(&[0xff, 0xd9]));
    assert!(!last["boxes"].as_array().unwrap().is_empty());
    for (field, wanted) in [
        ("missing", "not-found: the pipeline returned no \"nothing\""),
        ("not_a_number", "invalid: \"jpeg\" is no number"),
        ("bad_pipeline", "invalid: "),
    ] {
        let found = last[field].as_str().unwrap();
        assert!(found.starts_with(wanted), "{field}: {found}");
    }
    assert_eq!(state.histories, ["c1"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn python_as_a_component() {
    // In which the smallest guest is as well.
    let Some(code) = guest("files", "componentize/bin/componentize-py") else { return };
    let bench = Bench::with(shared_optimised);
    let probe = bench.install(CodeKind::Component, &code).await;
    let reply = bench.invoke(&probe, request("count", "12345")).await.unwrap();
    assert_eq!(reply.body, "{\"got\": 5}");
    let lines = [
        (Level::Info, "call count".to_owned()),
        (Level::Info, "to stdout".to_owned()),
        (Level::Warn, "to stderr".to_owned()),
    ];
    assert_eq!(bench.host.state().lines, lines);
    let error = bench.invoke(&probe, request("raise", "")).await.unwrap_err();
    assert_eq!(error, InvokeError::GuestError("raised on purpose".into()));
}
