//! Tables and partitions that are full.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const MB: u64 = 1 << 20;

fn limited(limits: &str, ttl: &str) -> TableSpec {
    spec(&format!(
        r#"{{"name":"motion","key":["camera","at"],"partition":["camera"],"limits":{limits},
        "ttl":{ttl},"columns":[{{"name":"camera","kind":"utf8"}},
        {{"name":"at","kind":"timestamp-us"}},{{"name":"seen","kind":"int64","merge":"counter"}},
        {{"name":"jpeg","kind":"utf8"}}]}}"#
    ))
}

/// Rows of 20 kB that nothing makes smaller, and which a segment has twice: as its columns and,
/// because of the counter, as a state.
fn rows(camera: &str, keys: std::ops::Range<i64>) -> Vec<Row> {
    let mut dice = Dice(keys.start as u64 * 77 + 5);
    let mut text = || -> String {
        let letter = |n: u64| char::from(b' ' + n as u8);
        (0..20_000).map(|_| letter(dice.below(95))).collect()
    };
    keys.map(|at| row! {"camera": camera, "at": at, "jpeg": text()}).collect()
}

fn keys(camera: &str, keys: std::ops::Range<i64>) -> Vec<Row> {
    keys.map(|at| row! {"camera": camera, "at": at}).collect()
}

#[track_caller]
fn full<T: std::fmt::Debug>(refused: Result<T>, what: &str, limit: &str) {
    let error = refused.unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("full", true));
    let text = error.to_string();
    assert!(text.starts_with(what) && text.contains(limit), "{text}");
}

async fn count(store: &EdgeStore) -> usize {
    store.scan("motion", Scan::default()).await.unwrap().rows.len()
}

#[tokio::test]
async fn a_full_partition_takes_deletes_and_then_rows_again() {
    let machine = Machine::new(1);
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    store.create_table(&limited(r#"{"partition_bytes_max":1048576}"#, "null")).await.unwrap();
    store.put("motion", &rows("front", 0..80)).await.unwrap();
    store.flush().await.unwrap();
    let status = &store.tables()[0];
    assert!(status.partition_bytes > MB && status.partition_bytes_max == MB);
    let (what, limit) =
        ("partition {\"camera\":\"front\"} of table \"motion\" has ", "partition_bytes_max");
    let new = rows("front", 80..81);
    full(store.put("motion", &new).await, what, limit);
    full(store.patch("motion", &new).await, what, limit);
    let by = [("seen".to_owned(), 1)];
    full(store.increment("motion", &keys("front", 0..1)[0], &by).await, what, limit);
    let both = vec![Write::Delete(keys("front", 1..2).remove(0)), Write::Put(new[0].clone())];
    let commit = Commit { conditions: Vec::new(), writes: both };
    full(store.commit("motion", &commit).await, what, limit);
    assert_eq!(count(&store).await, 80, "reads go on, and nothing was changed");
    let key = &keys("front", 7..8)[0];
    assert!(store.get("motion", key).await.unwrap().is_some());
    store.put("motion", &rows("back", 0..1)).await.unwrap();
    store.close().await;
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    full(store.put("motion", &new).await, what, limit);
    store.delete("motion", &keys("front", 0..60)).await.unwrap();
    // Who asks again has the flush that makes room made, and is taken when it is.
    eventually("there is room", || async { store.put("motion", &new).await.is_ok() }).await;
    assert!(store.tables()[0].partition_bytes < MB);
    assert_eq!(count(&store).await, 22);
}

#[tokio::test]
async fn a_full_table_refuses_in_all_its_partitions_until_it_may_be_larger() {
    let store = memory().await;
    let small = limited(r#"{"table_bytes_max":4194304}"#, "null");
    store.create_table(&small).await.unwrap();
    for camera in ["front", "back"] {
        store.put("motion", &rows(camera, 0..60)).await.unwrap();
    }
    store.flush().await.unwrap();
    let (what, limit) = ("table \"motion\" has ", "table_bytes_max");
    for camera in ["front", "back", "side"] {
        full(store.put("motion", &rows(camera, 60..61)).await, what, limit);
    }
    store.delete("motion", &keys("front", 0..1)).await.unwrap();
    let larger = limited(r#"{"table_bytes_max":5242880}"#, "null");
    store.create_table(&larger).await.unwrap();
    let unnumbered = store.create_table(&small).await.unwrap_err().to_string();
    assert!(unnumbered.contains("limits differ"), "{unnumbered}");
    store.put("motion", &rows("side", 0..1)).await.unwrap();
    assert_eq!(store.tables()[0].table_bytes_max, 5 * MB);
}

#[tokio::test]
async fn rows_that_lived_their_time_make_room_though_nothing_is_taken() {
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let now = clock.clone();
    let wall_clock: crate::WallClock = Arc::new(move || now.load(Ordering::Relaxed));
    let config = Config { wall_clock, ..Config::new("", "cloud") };
    let store = Machine::new(1).open(config).await.unwrap();
    let ttl = r#"{"seconds":3600,"column":"at"}"#;
    store.create_table(&limited(r#"{"partition_bytes_max":1048576}"#, ttl)).await.unwrap();
    let at = |us: i64| {
        move |row: Row| -> Row {
            row.iter()
                .map(|(name, value)| match name {
                    "at" => (name.to_owned(), Value::Time(us)),
                    _ => (name.to_owned(), value.clone()),
                })
                .collect()
        }
    };
    for n in 0..80 {
        let row = rows("front", n..n + 1).remove(0);
        store.put("motion", &[at(1_000_000_000 + n)(row)]).await.unwrap();
    }
    store.flush().await.unwrap();
    let new = at(5_000_000_000)(rows("front", 80..81).remove(0));
    full(store.put("motion", std::slice::from_ref(&new)).await, "partition", "partition_bytes_max");
    clock.fetch_add(2 * 3_600_000, Ordering::Relaxed);
    let new = at(8_000_000_000)(new);
    eventually("there is room", || async {
        store.put("motion", std::slice::from_ref(&new)).await.is_ok()
    })
    .await;
    assert_eq!(count(&store).await, 1);
}

/// Segments that are too large for another merge are rewritten for what is deleted in them.
#[tokio::test]
async fn deletes_make_room_in_segments_that_no_merge_takes_in() {
    let machine = Machine::new(1);
    let config = Config { merge_bytes_max: 500_000, ..Config::new("", "cloud") };
    let store = machine.open(config.clone()).await.unwrap();
    store.create_table(&limited(r#"{"partition_bytes_max":3145728}"#, "null")).await.unwrap();
    for part in [0..40, 40..80] {
        store.put("motion", &rows("front", part)).await.unwrap();
        store.flush().await.unwrap();
    }
    full(store.put("motion", &rows("front", 80..81)).await, "partition", "partition_bytes_max");
    // At once: with some of them gone there would be room, and no need to look for more.
    let gone = [keys("front", 10..38), keys("front", 40..80)].concat();
    store.delete("motion", &gone).await.unwrap();
    store.flush().await.unwrap();
    let status = &store.tables()[0];
    assert!(status.partition_bytes < MB / 2, "{status:?}");
    let objects = machine.objects.list("t/motion").await.unwrap();
    let segments = objects.iter().filter(|name| name.contains("/s/"));
    assert_eq!(segments.count(), status.segments, "and no others are left");
    store.put("motion", &rows("front", 80..81)).await.unwrap();
    let mut wanted: Vec<i64> = (0..10).chain(38..40).chain(80..81).collect();
    store.close().await;
    let store = machine.open(config).await.unwrap();
    for row in store.scan("motion", Scan::default()).await.unwrap().rows {
        assert_eq!(row["at"], Value::Time(wanted.remove(0)));
    }
    assert!(wanted.is_empty());
}
