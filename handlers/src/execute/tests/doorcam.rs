//! The handlers of `examples/doorcam`, built as a user builds them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::languages::{picture, shared_cache};
use super::*;
use crate::manifest::Manifest;

/// The folder with the built app, or `None` said aloud.
fn built() -> Option<PathBuf> {
    static BUILD: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = BUILD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !has_tool("node/node_modules/@bytecodealliance/jco/package.json") {
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let out = root.join("target/guests/doorcam");
    let mut build = Command::new(root.join("examples/doorcam/build.sh"));
    let built = build.arg(&out).env("EDGESCALE_TOOLS", tools()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(out)
}

/// A bench whose host keeps the app's tables in a real store.
async fn bench(folder: &Path) -> Bench {
    let manifest = std::fs::read_to_string(folder.join("app.toml")).unwrap();
    let manifest = Manifest::parse(&manifest).unwrap();
    let bench = Bench::with(shared_cache);
    let dir = bench.dir.path().join("store");
    let store = store::EdgeStore::open(store::Config::new(dir, "cloud")).await.unwrap();
    for table in &manifest.tables {
        store.create_table(table).await.unwrap();
    }
    bench.host.state().config = manifest.handlers[0].config.clone();
    bench.host.store.set(store).ok().expect("the host is new");
    bench
}

async fn rows(bench: &Bench, table: &str) -> Vec<serde_json::Value> {
    let store = bench.host.store.get().unwrap();
    let scanned = store.scan(table, store::Scan::default()).await.unwrap();
    scanned.rows.iter().map(store::row_to_json).collect()
}

/// Three frames, the last of which differs by half of its pixels.
async fn watch(bench: &Bench, motion: &Target) {
    let connection = Connection { id: "c1".into(), stream: "front".into(), tier: "cloud".into() };
    for (index, luma) in [(0, 40), (1, 40), (2, 200)] {
        let input = Input::Frame(connection.clone(), picture(index, luma));
        bench.invoke(motion, input).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn motion_is_written_down_and_told_by_both_twins() {
    let Some(folder) = built() else { return };
    let mut seen = Vec::new();
    for twin in ["motion.wasm", "motion-rs.wasm"] {
        let Ok(code) = std::fs::read(folder.join(twin)) else {
            aloud::skipped!("{twin} was not built");
            continue;
        };
        let bench = bench(&folder).await;
        let motion = bench.install(CodeKind::Component, &code).await;
        watch(&bench, &motion).await;

        let rows = rows(&bench, "motion").await;
        let state = bench.host.state();
        assert_eq!(rows.len(), 3, "{twin}");
        assert_eq!(rows[0]["score"], 0.0);
        assert!(rows[2]["score"].as_f64().unwrap() > 0.4, "{}", rows[2]);
        assert_eq!(rows[2]["camera"], "front");
        for row in &rows {
            let jpeg = &state.blobs[row["jpeg"].as_str().unwrap()];
            assert!(jpeg.starts_with(&[0xff, 0xd8]), "{row}");
        }
        assert_eq!(state.events.len(), 1, "only the change is an event");
        assert_eq!((&*state.events[0].id, &*state.events[0].subject), ("c1.2.probe.0", "motion"));
        let told: serde_json::Value = serde_json::from_slice(&state.events[0].body).unwrap();
        assert_eq!(told, rows[2]);
        seen.push(rows);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "the twins differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_event_is_counted_once() {
    let Some(folder) = built() else { return };
    if !has_tool("py/awslambdaric") {
        return;
    }
    let bench = bench(&folder).await;
    let code = std::fs::read(folder.join("summary.py")).unwrap();
    let mut summary = bench.install(CodeKind::Python, &code).await;
    summary.entry = Some("summary.handler".into());

    let deliveries = [("e1", 1, 0.1), ("e2", 2, 0.5), ("e1", 1, 0.1), ("e3", 60_000_001, 0.3)];
    for (id, time_us, score) in deliveries {
        let body = format!("{{\"camera\":\"front\",\"time_us\":{time_us},\"score\":{score}}}");
        let Input::Event(mut told) = event("motion", &body) else { unreachable!() };
        told.id = id.into();
        bench.invoke(&summary, Input::Event(told)).await.unwrap();
    }
    let asked = bench.invoke(&summary, request("summary", "")).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
    let wanted = serde_json::json!({
        "minutes": [
            { "camera": "front", "minute": 0, "events": 2, "max_score": 0.5,
              "first_us": 1, "last_us": 2 },
            { "camera": "front", "minute": 1, "events": 1, "max_score": 0.3,
              "first_us": 60_000_001, "last_us": 60_000_001 },
        ],
        "events": 3,
        "max_score": 0.5,
    });
    assert_eq!(answer, wanted);
    let asked = bench.invoke(&summary, request("summary", "{\"camera\":\"back\"}")).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(answer["events"], 0);
}
