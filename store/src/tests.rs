//! The store of one site, through its public interface, on files and on a disk that forgets.

pub mod bent;
mod bounds;
mod bucket;
mod clients;
mod cold;
mod damage;
mod evolution;
mod forget;
mod full;
mod idle;
mod interop;
mod levels;
mod life;
mod limits;
mod manifests;
pub mod orders;
mod part;
mod power;
mod swap;
mod writers;

use object_store::memory::InMemory;
use proptest::prelude::*;

use super::*;
use crate::engine::Ground;
use crate::objects::Objects;
use crate::objects::faulty::Faulty;
use crate::tree::tests::eventually;
use crate::wal::tests::{Fate, MemDisk, Trouble};

/// What a site's store stands on; survives the store.
#[derive(Clone)]
pub struct Machine {
    pub disk: MemDisk,
    pub objects: Objects,
    pub id: u64,
}

impl Machine {
    pub fn new(id: u64) -> Self {
        let objects = Objects::shared(Arc::new(InMemory::new()));
        Machine { disk: MemDisk::default(), objects, id }
    }

    pub async fn open(&self, config: Config) -> Result<EdgeStore> {
        let disk = Arc::new(self.disk.clone());
        let ground = Ground { disk, objects: self.objects.clone(), id: self.id, lock: None };
        EdgeStore::open_on(config, ground).await
    }
}

/// Where `./tools.sh` puts programs.
pub fn tools() -> std::path::PathBuf {
    let tools = std::env::var_os("EDGESCALE_TOOLS").map(Into::into);
    tools.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools").into())
}

/// Random numbers (xorshift64).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    pub fn of<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize].clone()
    }
}

pub fn spec(text: &str) -> TableSpec {
    let spec: TableSpec = serde_json::from_str(text).unwrap();
    spec.validate().unwrap();
    spec
}

pub fn motion() -> TableSpec {
    spec(
        r#"{"name":"motion","key":["camera","at"],"partition":["camera"],"columns":[
        {"name":"camera","kind":"utf8"},{"name":"at","kind":"timestamp-us"},
        {"name":"score","kind":"float64"},{"name":"boxes","kind":"json"},
        {"name":"jpeg","kind":"utf8"}]}"#,
    )
}

pub fn stats() -> TableSpec {
    spec(
        r#"{"name":"stats","key":["k"],"columns":[{"name":"k","kind":"int64"},
        {"name":"n","kind":"int64","merge":"counter"},{"name":"hi","kind":"int64","merge":"max"},
        {"name":"lo","kind":"int64","merge":"min"},{"name":"tags","kind":"utf8","merge":"set"},
        {"name":"a","kind":"int64"},{"name":"b","kind":"utf8"}]}"#,
    )
}

pub fn row_of(json: serde_json::Value) -> Row {
    row_from_json(&json).unwrap()
}

macro_rules! row {
    ($($json:tt)*) => { crate::tests::row_of(serde_json::json!({$($json)*})) };
}
pub(crate) use row;

pub async fn memory() -> EdgeStore {
    Machine::new(1).open(Config::new("", "cloud")).await.unwrap()
}

async fn json_of(store: &EdgeStore, table: &str, scan: Scan) -> String {
    let scanned = store.scan(table, scan).await.unwrap();
    serde_json::Value::from_iter(scanned.rows.iter().map(row_to_json)).to_string()
}

fn scan(json: serde_json::Value) -> Scan {
    serde_json::from_value(json).unwrap()
}

#[tokio::test]
async fn rows_go_in_and_come_out() {
    let store = memory().await;
    store.create_table(&motion()).await.unwrap();
    let first = row! {"camera": "front", "at": 1, "score": 0.5, "boxes": [[1, 2]], "jpeg": "x"};
    let ack = store.put("motion", std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(ack.level, Level::LocalSync);
    let key = row! {"camera": "front", "at": 1};
    let got = store.get("motion", &key).await.unwrap().unwrap();
    assert_eq!(row_to_json(&got), row_to_json(&first));
    store.patch("motion", &[row! {"camera": "front", "at": 1, "score": 2}]).await.unwrap();
    let got = store.get("motion", &key).await.unwrap().unwrap();
    assert_eq!((&got["score"], &got["jpeg"]), (&Value::Float(2.0), &Value::from("x")));
    store.put("motion", &[row! {"camera": "front", "at": 1, "score": 3}]).await.unwrap();
    assert_eq!(store.get("motion", &key).await.unwrap().unwrap()["jpeg"], Value::Null);
    store.delete("motion", std::slice::from_ref(&key)).await.unwrap();
    assert_eq!(store.get("motion", &key).await.unwrap(), None);
}

#[tokio::test]
async fn merged_columns_follow_their_rules() {
    let store = memory().await;
    store.create_table(&stats()).await.unwrap();
    let key = row! {"k": 1};
    for (hi, tag) in [(3, "a"), (9, "b"), (5, "a")] {
        store.put("stats", &[row! {"k": 1, "hi": hi, "lo": hi, "tags": [tag]}]).await.unwrap();
        store.increment("stats", &key, &[("n".into(), 2)]).await.unwrap();
    }
    store.discard("stats", &[row! {"k": 1, "tags": "b"}]).await.unwrap();
    let got = store.get("stats", &key).await.unwrap().unwrap();
    assert_eq!((&got["n"], &got["hi"], &got["lo"]), (&6.into(), &9.into(), &3.into()));
    assert_eq!(got["tags"], Value::List(vec!["a".into()]));
    store.flush().await.unwrap();
    store.delete("stats", std::slice::from_ref(&key)).await.unwrap();
    assert_eq!(store.get("stats", &key).await.unwrap(), None);
    store.increment("stats", &key, &[("n".into(), 1)]).await.unwrap();
    store.patch("stats", &[row! {"k": 1, "hi": 4}]).await.unwrap();
    let got = store.get("stats", &key).await.unwrap().unwrap();
    assert_eq!((&got["n"], &got["hi"], &got["lo"]), (&1.into(), &4.into(), &Value::Null));
}

#[tokio::test]
async fn a_call_changes_all_rows_or_none() {
    let store = memory().await;
    store.create_table(&motion()).await.unwrap();
    let good = row! {"camera": "front", "at": 1};
    let refused = [
        (row! {"camera": "front"}, "missing-key"),
        (row! {"camera": "front", "at": 2, "colour": 1}, "unknown-column"),
        (row! {"camera": "front", "at": 2, "score": "high"}, "wrong-type"),
        (row! {"camera": null, "at": 2}, "missing-key"),
        (row! {"camera": "front", "at": 2, "jpeg": "x".repeat(300_000)}, "too-large"),
    ];
    for (bad, code) in refused {
        let error = store.put("motion", &[good.clone(), bad]).await.unwrap_err();
        assert_eq!(error.code(), code);
        assert_eq!(store.get("motion", &good).await.unwrap(), None);
    }
    let error = store.put("motoin", &[good]).await.unwrap_err();
    assert_eq!(error.to_string(), r#"unknown table "motoin""#);
}

#[tokio::test]
async fn counters_are_only_incremented() {
    let store = memory().await;
    store.create_table(&stats()).await.unwrap();
    assert!(store.put("stats", &[row! {"k": 1, "n": 1}]).await.is_err());
    for (column, delta) in [("hi", 1), ("x", 1)] {
        assert!(store.increment("stats", &row! {"k": 1}, &[(column.into(), delta)]).await.is_err());
    }
    store.increment("stats", &row! {"k": 1}, &[("n".into(), i64::MAX)]).await.unwrap();
    assert!(store.increment("stats", &row! {"k": 1}, &[("n".into(), 1)]).await.is_err());
}

#[tokio::test]
async fn scans_restrict_order_and_cut() {
    let store = memory().await;
    store.create_table(&motion()).await.unwrap();
    for (half, camera) in ["back", "front"].iter().enumerate() {
        for at in 0..4 {
            let row = row! {"camera": camera, "at": at, "score": (half as f64) + at as f64};
            store.put("motion", &[row]).await.unwrap();
        }
        if half == 0 {
            store.flush().await.unwrap();
        }
    }
    store.delete("motion", &[row! {"camera": "front", "at": 2}]).await.unwrap();
    let cases = [
        (r#"{"columns":["at"],"prefix":{"camera":"front"}}"#, "0 1 3"),
        (r#"{"columns":["at"],"prefix":{"camera":"front"},"from":{"at":1}}"#, "1 3"),
        (r#"{"columns":["at"],"prefix":{"camera":"front"},"to":{"at":1}}"#, "0"),
        (r#"{"columns":["at"],"limit":5}"#, "0 1 2 3 0"),
        (r#"{"columns":["at"],"limit":5,"reverse":true}"#, "3 1 0 3 2"),
        (r#"{"columns":["at"],"after":{"camera":"back","at":2}}"#, "3 0 1 3"),
        (r#"{"columns":["at"],"after":{"camera":"back","at":2},"reverse":true}"#, "1 0"),
        (r#"{"columns":["at"],"filter":[{"column":"score","op":">=","value":3}]}"#, "3 3"),
        (r#"{"columns":["at"],"filter":[{"column":"jpeg","op":"<","value":"x"}]}"#, ""),
        (r#"{"columns":["at"],"prefix":{"camera":"side"}}"#, ""),
    ];
    for (request, expected) in cases {
        let scanned = store.scan("motion", serde_json::from_str(request).unwrap()).await.unwrap();
        let at = scanned.rows.iter().map(|r| r["at"].to_json().to_string());
        assert_eq!(at.collect::<Vec<_>>().join(" "), expected, "{request}");
    }
    let wrong = [
        r#"{"prefix":{"at":1}}"#,
        r#"{"columns":["x"]}"#,
        r#"{"filter":[{"column":"score","op":"<","value":"x"}]}"#,
        r#"{"limit":100000000}"#,
    ];
    for request in wrong {
        let scan = serde_json::from_str(request).unwrap();
        assert!(store.scan("motion", scan).await.is_err(), "{request}");
    }
    let (batch, coverage) = store
        .scan_arrow("motion", scan(serde_json::json!({"columns": ["score"], "limit": 3})))
        .await
        .unwrap();
    assert_eq!((batch.num_rows(), batch.num_columns()), (3, 1));
    assert_eq!(coverage, Coverage { complete: true, source: "cloud".into(), age_ms: 0 });
}

#[tokio::test]
async fn pages_join_to_the_whole_from_either_end() {
    // With segments in memory, and with hardly any: then those nearest to an end are read first.
    for cache_bytes in [Config::new("", "cloud").cache_bytes, 1] {
        check_pages(Config { segments_max: 3, cache_bytes, ..Config::new("", "cloud") }).await;
    }
}

async fn check_pages(config: Config) {
    let store = Machine::new(1).open(config).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    let mut random = 7u64;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % n
    };
    for step in 0..400 {
        let camera = format!("c{}", below(3));
        let row = row! {"camera": camera, "at": below(100), "score": step};
        match below(4) {
            0 => store.delete("motion", &[motion().key_part(&row)]).await.unwrap(),
            _ => store.put("motion", &[row]).await.unwrap(),
        };
        if below(60) == 0 {
            store.flush().await.unwrap();
        }
    }
    let mut whole = store.scan("motion", Scan::default()).await.unwrap().rows;
    for reverse in [false, true] {
        for limit in [1, 7, 64, 100] {
            let mut scan = Scan { limit: Some(limit), reverse, ..Scan::default() };
            let mut joined = Vec::new();
            loop {
                let page = store.scan("motion", scan.clone()).await.unwrap();
                scan.after = page.rows.last().map(|r| motion().key_part(r)).unwrap_or_default();
                joined.extend(page.rows);
                if !page.truncated {
                    break;
                }
            }
            assert_eq!(joined, whole, "limit {limit}, reverse {reverse}");
        }
        whole.reverse();
    }
    assert!(whole.len() > 100);
}

#[tokio::test]
async fn a_limit_reads_no_more_segments_than_it_takes() {
    let machine = Machine::new(1);
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    for camera in 0..20 {
        for round in 0..2 {
            let rows: Vec<Row> = (0..100)
                .map(|at| row! {"camera": format!("c{camera:02}"), "at": round * 100 + at})
                .collect();
            store.put("motion", &rows).await.unwrap();
            store.flush().await.unwrap();
        }
    }
    store.close().await;
    for (reverse, first) in [(false, ("c00", 0)), (true, ("c19", 199))] {
        let store = machine.open(Config::new("", "cloud")).await.unwrap();
        let scan = Scan { limit: Some(1), reverse, ..Scan::default() };
        let rows = store.scan("motion", scan).await.unwrap().rows;
        let (camera, at) = (Value::from(first.0), Value::Time(first.1));
        assert_eq!((&rows[0]["camera"], &rows[0]["at"]), (&camera, &at));
        let state = store.inner.engine.read();
        let partitions = state.table("motion").unwrap().partitions.values();
        let segments = partitions.flat_map(|p| p.segments.iter());
        let read = segments.clone().filter(|s| s.weight() > 0).count();
        assert_eq!((segments.count(), read), (40, 1), "reverse {reverse}");
    }
}

#[tokio::test]
async fn a_folder_is_recovered_flushed_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config::new(dir.path().join("store"), "cloud.east");
    let mut expected = String::new();
    for round in 0..4 {
        let store = EdgeStore::open(config()).await.unwrap();
        store.create_table(&motion()).await.unwrap();
        if round > 0 {
            assert_eq!(json_of(&store, "motion", Scan::default()).await, expected);
        }
        let rows: Vec<Row> =
            (0..50).map(|at| row! {"camera": round % 2, "at": at, "score": round}).collect();
        assert!(store.put("motion", &rows).await.is_err(), "a camera is text");
        let rows: Vec<Row> = (0..50)
            .map(|at| row! {"camera": format!("c{}", round % 2), "at": at + round, "score": round})
            .collect();
        store.put("motion", &rows).await.unwrap();
        if round % 2 == 1 {
            store.flush().await.unwrap();
        }
        expected = json_of(&store, "motion", Scan::default()).await;
        let second = EdgeStore::open(config()).await;
        assert!(matches!(second.err(), Some(Error::Locked(_))));
        store.close().await;
        assert!(store.put("motion", &rows).await.is_err(), "a closed store takes no writes");
    }
    let other = EdgeStore::open(Config::new(dir.path().join("store"), "cloud.west")).await;
    assert!(matches!(other.err(), Some(Error::BadRequest(_))));
}

#[tokio::test]
async fn segments_are_merged_and_the_log_let_go() {
    let machine = Machine::new(1);
    let config = Config { segments_max: 3, ..Config::new("", "cloud") };
    let store = machine.open(config.clone()).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    for round in 0..10i64 {
        for k in 0..5i64 {
            store.patch("stats", &[row! {"k": k + round % 3, "a": round}]).await.unwrap();
            let by = [("n".to_string(), 1)];
            store.increment("stats", &row! {"k": k}, &by).await.unwrap();
        }
        store.flush().await.unwrap();
        let status = &store.tables()[0];
        assert!(status.segments <= 3, "{} segments", status.segments);
        assert_eq!(status.memory_rows, 0);
        assert_eq!(store.inner.engine.wal.files_after(0).len(), 1);
    }
    let before = json_of(&store, "stats", Scan::default()).await;
    assert_eq!(store.get("stats", &row! {"k": 2}).await.unwrap().unwrap()["n"], Value::Int(10));
    store.close().await;
    let store = machine.open(config).await.unwrap();
    assert_eq!(json_of(&store, "stats", Scan::default()).await, before);
    let objects = machine.objects.list("t/stats/all/s").await.unwrap();
    assert_eq!(objects.len(), store.tables()[0].segments, "no segment is left over");
}

#[tokio::test]
async fn readers_and_writers_go_on_during_flushes() {
    let machine = Machine::new(1);
    let config = Config { segments_max: 2, ..Config::new("", "cloud") };
    let store = machine.open(config).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..300 {
                let by = [("n".to_string(), 1)];
                store.increment("stats", &row! {"k": 0}, &by).await.unwrap();
            }
        })
    };
    let mut last = 0;
    while !writer.is_finished() {
        store.flush().await.unwrap();
        if let Some(row) = store.get("stats", &row! {"k": 0}).await.unwrap() {
            let Value::Int(n) = row["n"] else { panic!("{row:?}") };
            assert!(n >= last, "{n} after {last}");
            last = n;
        }
    }
    writer.await.unwrap();
    let row = store.get("stats", &row! {"k": 0}).await.unwrap().unwrap();
    assert_eq!(row["n"], Value::Int(300));
}

#[tokio::test]
async fn a_full_disk_takes_no_writes_and_recovers_by_itself() {
    let machine = Machine::new(1);
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    store.put("stats", &[row! {"k": 1, "a": 1}]).await.unwrap();
    for trouble in [Trouble::Append, Trouble::Sync, Trouble::Everything] {
        machine.disk.trouble(trouble);
        let error = store.put("stats", &[row! {"k": 2, "a": 2}]).await.unwrap_err();
        assert_eq!(error.code(), "unknown-outcome", "{error}");
        let error = store.put("stats", &[row! {"k": 3, "a": 3}]).await.unwrap_err();
        assert!(error.code() == "read-only" && error.retryable(), "{error}");
        assert!(store.status().refusing.is_some());
        assert!(store.get("stats", &row! {"k": 1}).await.unwrap().is_some(), "reads go on");
        machine.disk.trouble(Trouble::None);
        eventually("writes are taken again", || async {
            store.put("stats", &[row! {"k": 1, "a": 4}]).await.is_ok()
        })
        .await;
        assert_eq!(store.status().refusing, None);
    }
    let disk = machine.disk.crash(|| Fate::Lost);
    let store = Machine { disk, ..machine }.open(Config::new("", "cloud")).await.unwrap();
    assert_eq!(store.get("stats", &row! {"k": 1}).await.unwrap().unwrap()["a"], 4.into());
    assert_eq!(store.get("stats", &row! {"k": 3}).await.unwrap(), None, "it was refused");
}

#[tokio::test]
async fn writers_wait_when_memory_is_full_and_flushes_catch_up() {
    let faulty = Arc::new(Faulty::new(7));
    let machine = Machine { objects: Objects::shared(faulty.clone()), ..Machine::new(1) };
    let config = Config {
        flush_bytes: 4_000,
        memory_bytes: 16_000,
        request_timeout_ms: 50,
        segments_max: 3,
        ..Config::new("", "cloud")
    };
    let store = machine.open(config.clone()).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    let text = "x".repeat(400);
    let used = |store: &EdgeStore| {
        let state = store.inner.engine.read();
        state.active_bytes + state.frozen_bytes
    };
    faulty.fail(100);
    let mut taken = 0;
    let error = loop {
        match store.put("stats", &[row! {"k": taken, "b": text}]).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(used(&store) < 18_000);
    };
    assert!(error.code() == "busy" && error.to_string().contains("16000 bytes"), "{error}");
    assert!(store.get("stats", &row! {"k": 0}).await.unwrap().is_some(), "reads go on");
    faulty.fail(20);
    for k in taken..taken + 50 {
        eventually("a bucket that fails at times is no obstacle", || async {
            store.put("stats", &[row! {"k": k, "b": text}]).await.is_ok()
        })
        .await;
    }
    faulty.fail(0);
    store.flush().await.unwrap();
    store.close().await;
    let store = machine.open(config).await.unwrap();
    let rows = store.scan("stats", Scan::default()).await.unwrap().rows;
    assert_eq!(rows.len() as i64, taken + 50);
}

/// More partitions than are flushed at a time, of which some fail.
#[tokio::test]
async fn partitions_are_flushed_side_by_side_and_make_room_one_by_one() {
    let faulty = Arc::new(Faulty::new(7));
    let machine = Machine { objects: Objects::shared(faulty.clone()), ..Machine::new(1) };
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    let row = |i| row! {"camera": format!("c{i}"), "at": 1, "score": 1};
    let rows: Vec<Row> = (0..100).map(row).collect();
    store.put("motion", &rows).await.unwrap();
    let waiting = || {
        let state = store.inner.engine.read();
        let partitions = state.tables["motion"].partitions.values();
        assert_eq!(state.active_bytes, 0);
        (partitions.filter(|p| p.frozen.is_some()).count(), state.frozen_bytes)
    };
    faulty.fail(10);
    let all_bytes = store.inner.engine.read().active_bytes;
    let (mut left, mut made_room) = ((100, all_bytes), 0);
    while store.flush().await.is_err() {
        let (partitions, bytes) = waiting();
        assert!((partitions < left.0) == (bytes < left.1), "{partitions}, {bytes} after {left:?}");
        made_room += usize::from(bytes < left.1);
        left = (partitions, bytes);
    }
    assert!(made_room > 0, "no flush failed that made room");
    assert_eq!(waiting(), (0, 0));
    faulty.fail(0);
    let found = store.scan("motion", Scan::default()).await.unwrap().rows;
    assert_eq!(found.len(), 100);
    store.close().await;
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    assert_eq!(store.scan("motion", Scan::default()).await.unwrap().rows, found);
}

#[tokio::test]
async fn a_damaged_segment_is_reported_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = EdgeStore::open(Config::new(dir.path(), "cloud")).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    store.put("stats", &[row! {"k": 1, "a": 1}]).await.unwrap();
    store.flush().await.unwrap();
    let segments = dir.path().join("objects/t/stats/all/s");
    let segment = std::fs::read_dir(&segments).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    assert!(store.get("stats", &row! {"k": 1}).await.unwrap().is_some(), "it is in memory still");
    store.close().await;
    let store = EdgeStore::open(Config::new(dir.path(), "cloud")).await.unwrap();
    let error = store.get("stats", &row! {"k": 1}).await.unwrap_err();
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(error.to_string().contains(name) && error.code() == "corrupt", "{error}");
}

#[tokio::test]
async fn tables_gain_columns_but_keep_the_others() {
    let store = memory().await;
    store.create_table(&stats()).await.unwrap();
    store.put("stats", &[row! {"k": 1, "a": 1}]).await.unwrap();
    store.flush().await.unwrap();
    let mut wider = stats();
    let note = r#"{"name":"note","kind":"utf8"}"#;
    wider.columns.insert(0, serde_json::from_str(note).unwrap());
    store.create_table(&wider).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    store.patch("stats", &[row! {"k": 1, "note": "x"}]).await.unwrap();
    store.flush().await.unwrap();
    let row = store.get("stats", &row! {"k": 1}).await.unwrap().unwrap();
    assert_eq!((&row["note"], &row["a"]), (&"x".into(), &1.into()));
    let mut other = stats();
    other.columns[5].kind = ColumnKind::Utf8;
    let error = store.create_table(&other).await.unwrap_err();
    assert!(
        error.to_string().contains(r#"column "a" is an integer and cannot become text"#),
        "{error}"
    );
}

#[tokio::test]
async fn exports_open_as_parquet() {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let dir = tempfile::tempdir().unwrap();
    let store = memory().await;
    store.create_table(&motion()).await.unwrap();
    let rows: Vec<Row> = (0..10).map(|at| row! {"camera": "front", "at": at, "score": 1}).collect();
    store.put("motion", &rows).await.unwrap();
    store.delete("motion", &[row! {"camera": "front", "at": 3}]).await.unwrap();
    let path = dir.path().join("motion.parquet");
    assert_eq!(store.export("motion", &path, crate::FileFormat::Parquet).await.unwrap(), 9);
    let file = std::fs::File::open(&path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let names: Vec<_> = reader.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["camera", "at", "score", "boxes", "jpeg"]);
    let batches = reader.build().unwrap().map(|b| b.unwrap().num_rows());
    assert_eq!(batches.sum::<usize>(), 9);
}

#[tokio::test]
async fn clients_speak_json() {
    let store = memory().await;
    async fn ask(store: &EdgeStore, op: &str, body: &str) -> String {
        match store.serve(op, "", Bytes::from(body.to_owned())).await {
            Ok(answer) => String::from_utf8(answer.to_vec()).unwrap(),
            Err(error) => error.to_json().to_string(),
        }
    }
    let spec = serde_json::to_string(&motion()).unwrap();
    assert_eq!(ask(&store, "create", &spec).await, r#"{"table":"motion"}"#);
    let put = r#"{"table":"motion","rows":[{"camera":"a","at":1,"score":1},
        {"camera":"a","at":2,"score":2}]}"#;
    assert!(ask(&store, "put", put).await.starts_with(r#"{"ack":{"hlc":"#));
    let get = r#"{"table":"motion","key":{"camera":"a","at":1}}"#;
    let got = ask(&store, "get", get).await;
    let expected = concat!(
        r#"{"coverage":{"age_ms":0,"complete":true,"source":"cloud"},"#,
        r#""row":{"at":1,"boxes":null,"camera":"a","jpeg":null,"score":1.0},"version":""#,
    );
    assert!(got.starts_with(expected), "{got}");
    let many = r#"{"table":"motion","keys":[{"camera":"a","at":2},{"camera":"z","at":1}]}"#;
    assert_eq!(
        ask(&store, "get-many", many).await,
        concat!(
            r#"{"complete":true,"rows":[{"at":2,"boxes":null,"camera":"a","jpeg":null,"#,
            r#""score":2.0},null]}"#,
        )
    );
    let commit = r#"{"table":"motion","if":[{"key":{"camera":"b","at":1},"absent":true}],
        "do":[{"put":{"camera":"b","at":1}},{"delete":{"camera":"b","at":2}}]}"#;
    assert!(ask(&store, "commit", commit).await.contains(r#""level":"root""#));
    assert!(ask(&store, "commit", commit).await.contains(r#""code":"conflict""#));
    let changes = r#"{"table":"motion","limit":1}"#;
    assert!(ask(&store, "changes", changes).await.contains(r#""key":{"at":1,"camera":"a"}"#));
    let scan = r#"{"table":"motion","columns":["score"],"limit":1}"#;
    assert_eq!(
        ask(&store, "scan", scan).await,
        concat!(
            r#"{"columns":["score"],"coverage":{"age_ms":0,"complete":true,"source":"cloud"},"#,
            r#""next":{"at":1,"camera":"a"},"rows":[{"score":1.0}],"truncated":true}"#,
        )
    );
    let unknown =
        r#"{"error":{"code":"unknown-table","message":"unknown table \"x\"","retryable":false}}"#;
    assert_eq!(ask(&store, "get", r#"{"table":"x","key":{}}"#).await, unknown);
    for (op, body) in [("get", "{"), ("put", "{}"), ("scan", "[]"), ("fly", "{}"), ("get", "\u{0}")]
    {
        let answer = ask(&store, op, body).await;
        assert!(answer.contains(r#""code":"bad-request""#), "{op} {body}: {answer}");
    }
    assert!(ask(&store, "tables", "").await.contains(r#""memory_rows":4"#));
    assert!(ask(&store, "status", "").await.contains(r#""site":"cloud""#));
}

/// One step of a life with crashes.
#[derive(Clone, Debug)]
enum Step {
    Put(i64, i64),
    Increment(i64, i64),
    Delete(i64),
    Flush,
    Crash(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0i64..6, any::<i64>()).prop_map(|(k, v)| Step::Put(k, v)),
        4 => (0i64..6, -9i64..9).prop_map(|(k, d)| Step::Increment(k, d)),
        1 => (0i64..6).prop_map(Step::Delete),
        1 => Just(Step::Flush),
        1 => (1..u64::MAX).prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 1..40)
}

/// Key to plain value and count; what the table must show.
type Model = std::collections::BTreeMap<i64, (Option<i64>, i64)>;

async fn live(steps: Vec<Step>) {
    let mut machine = Machine::new(1);
    let config = Config { segments_max: 2, ..Config::new("", "cloud") };
    let mut store = machine.open(config.clone()).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Put(k, v) => {
                store.put("stats", &[row! {"k": k, "a": v}]).await.unwrap();
                model.entry(k).or_default().0 = Some(v);
            }
            Step::Increment(k, d) => {
                store.increment("stats", &row! {"k": k}, &[("n".into(), d)]).await.unwrap();
                model.entry(k).or_default().1 += d;
            }
            Step::Delete(k) => {
                store.delete("stats", &[row! {"k": k}]).await.unwrap();
                model.remove(&k);
            }
            Step::Flush => store.flush().await.unwrap(),
            Step::Crash(seed) => {
                let mut dice = Dice(seed);
                machine.disk = machine.disk.crash_by(|n| dice.below(n));
                store = machine.open(config.clone()).await.unwrap();
            }
        }
        let rows = store.scan("stats", Scan::default()).await.unwrap().rows;
        let shown: Model = rows
            .iter()
            .map(|r| match (&r["k"], &r["a"], &r["n"]) {
                (Value::Int(k), Value::Int(a), Value::Int(n)) => (*k, (Some(*a), *n)),
                (Value::Int(k), Value::Null, Value::Int(n)) => (*k, (None, *n)),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(shown, model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn no_acknowledged_write_is_lost_by_a_crash(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(live(steps));
    }
}
