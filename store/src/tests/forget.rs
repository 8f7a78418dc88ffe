//! Deletes that are forgotten, and those that must not be.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::changes::Position;

/// A machine, its configuration, and its clock in milliseconds.
fn alone(segments_max: usize) -> (Machine, Config, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let now = clock.clone();
    let wall_clock: crate::WallClock = Arc::new(move || now.load(Ordering::Relaxed));
    (Machine::new(1), Config { segments_max, wall_clock, ..Config::new("", "cloud") }, clock)
}

/// Rows that no encoding makes much smaller, so that many of them are a large segment.
fn rows(keys: std::ops::Range<i64>) -> Vec<Row> {
    keys.map(|at| row! {"camera": "front", "at": at, "score": (at as f64).sqrt()}).collect()
}

fn keys(of: std::ops::Range<i64>) -> Vec<Row> {
    rows(of).iter().map(|row| motion().key_part(row)).collect()
}

async fn shown(store: &EdgeStore) -> usize {
    store.scan("motion", Scan::default()).await.unwrap().rows.len()
}

/// Has the partition merged once more.
async fn touch(store: &EdgeStore) {
    store.put("motion", &rows(1_000..1_001)).await.unwrap();
    store.flush().await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_alone_forgets_deletes_after_their_time() {
    let (machine, config, clock) = alone(1);
    let store = machine.open(config.clone()).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    store.put("motion", &rows(0..100)).await.unwrap();
    store.flush().await.unwrap();
    store.delete("motion", &keys(0..90)).await.unwrap();
    for _ in 0..3 {
        touch(&store).await;
    }
    assert_eq!(store.tables()[0].segment_rows, 101, "they are too young");
    clock.fetch_add(config.deletes_kept_ms + 1, Ordering::Relaxed);
    touch(&store).await;
    assert_eq!((store.tables()[0].segment_rows, shown(&store).await), (11, 11));
    store.close().await;
    let store = machine.open(config).await.unwrap();
    assert_eq!(shown(&store).await, 11);
    store.put("motion", &rows(0..1)).await.unwrap();
    assert_eq!(shown(&store).await, 12, "a key that was forgotten is a key like any");
}

/// The row lies in an old segment that no merge takes in, its delete in a newer one that is merged
/// again and again.
#[tokio::test]
async fn a_delete_is_kept_over_an_older_segment_with_its_row() {
    let (machine, config, _) = alone(2);
    let store = machine.open(Config { deletes_kept_ms: 0, ..config }).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    store.put("motion", &rows(0..20_000)).await.unwrap();
    store.flush().await.unwrap();
    store.delete("motion", &keys(5..10)).await.unwrap();
    store.put("motion", &rows(20_000..20_001)).await.unwrap();
    store.delete("motion", &keys(30_000..30_010)).await.unwrap();
    for _ in 0..5 {
        store.flush().await.unwrap();
        store.put("motion", &rows(20_000..20_001)).await.unwrap();
    }
    let status = &store.tables()[0];
    assert_eq!((status.segments, status.segment_rows), (2, 20_006), "only what is below goes");
    assert_eq!(shown(&store).await, 19_996);
}

#[tokio::test]
async fn counters_and_extremes_keep_their_deletes() {
    let (machine, config, _) = alone(1);
    let store = machine.open(Config { deletes_kept_ms: 0, ..config }).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    store.increment("stats", &row! {"k": 1}, &[("n".into(), 5)]).await.unwrap();
    store.delete("stats", &[row! {"k": 1}]).await.unwrap();
    for k in 2..5 {
        store.put("stats", &[row! {"k": k, "a": 1}]).await.unwrap();
        store.flush().await.unwrap();
    }
    assert_eq!(store.tables()[0].segment_rows, 4);
}

/// The log of a copy from before the delete, over segments from after it.
#[tokio::test]
async fn a_log_older_than_the_segments_brings_nothing_back() {
    let (machine, config, _) = alone(1);
    let config = Config { deletes_kept_ms: 0, ..config };
    let store = machine.open(config.clone()).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    store.put("motion", &rows(0..10)).await.unwrap();
    let copy = machine.disk.crash(|| Fate::Lost);
    store.delete("motion", &keys(0..9)).await.unwrap();
    store.flush().await.unwrap();
    touch(&store).await;
    assert_eq!(store.tables()[0].segment_rows, 2);
    store.close().await;
    let restored = Machine { disk: copy, ..machine }.open(config).await.unwrap();
    assert_eq!(shown(&restored).await, 2);
    restored.put("motion", &rows(0..1)).await.unwrap();
    restored.flush().await.unwrap();
    assert_eq!(shown(&restored).await, 3, "what it writes now is new");
}

#[tokio::test]
async fn who_follows_changes_is_told_when_deletes_are_forgotten() {
    let (machine, config, _) = alone(1);
    let store = machine.open(Config { deletes_kept_ms: 0, ..config }).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    for at in 0..10 {
        store.put("motion", &rows(at..at + 1)).await.unwrap();
    }
    let changes = |after: Position, limit| {
        let store = store.clone();
        async move { store.changes("motion", after, limit, Duration::ZERO).await.unwrap() }
    };
    let before = changes(Position::default(), 100).await.next;
    store.delete("motion", &keys(4..8)).await.unwrap();
    let after = changes(before, 100).await;
    assert_eq!((after.changes.len(), after.anew), (4, false));
    touch(&store).await;
    touch(&store).await;
    assert_eq!(store.tables()[0].segment_rows, 7);
    let late = changes(before, 100).await;
    assert_eq!((late.changes.len(), late.anew), (7, true), "four went and nobody says which");
    let prompt = changes(after.next, 100).await;
    assert_eq!((prompt.changes.len(), prompt.anew), (1, false));
    // Who begins now goes on row by row, though the rows are older than what is forgotten.
    let (mut position, mut seen) = (Position::default(), 0);
    loop {
        let feed = changes(position, 1).await;
        assert!(!feed.anew);
        if feed.changes.is_empty() {
            break;
        }
        seen += feed.changes.len();
        position = feed.next.to_string().parse().unwrap();
    }
    assert_eq!(seen, 7);
}
