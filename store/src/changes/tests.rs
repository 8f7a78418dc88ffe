use super::*;
use crate::tests::{Machine, motion, row, stats};
use crate::wal::tests::{Fate, Trouble};
use crate::{Config, EdgeStore, Value};

const NOW: Duration = Duration::ZERO;

/// Key and column `a` of the changes, none for a deleted row.
fn shown(feed: &Feed) -> Vec<(i64, Option<i64>)> {
    let int = |v: &Value| match v {
        Value::Int(i) => *i,
        other => panic!("{other:?}"),
    };
    let one = |c: &Changed| (int(&c.key["k"]), c.now.as_ref().map(|(row, _)| int(&row["a"])));
    feed.changes.iter().map(one).collect()
}

async fn put(store: &EdgeStore, k: i64, a: i64) {
    store.put("stats", &[row! {"k": k, "a": a}]).await.unwrap();
}

#[tokio::test]
async fn the_feed_goes_on_from_any_position() {
    let machine = Machine::new(1);
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    for k in 0..4 {
        put(&store, k, k).await;
    }
    let all = store.changes("stats", Position::default(), 100, NOW).await.unwrap();
    assert_eq!(shown(&all), [(0, Some(0)), (1, Some(1)), (2, Some(2)), (3, Some(3))]);
    assert!(all.complete && !all.anew);
    store.flush().await.unwrap();
    put(&store, 1, 10).await;
    store.delete("stats", &[row! {"k": 0}]).await.unwrap();
    let news = store.changes("stats", all.next, 100, NOW).await.unwrap();
    assert_eq!(shown(&news), [(1, Some(10)), (0, None)]);
    store.flush().await.unwrap();
    store.close().await;
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    let again = store.changes("stats", all.next, 100, NOW).await.unwrap();
    assert_eq!(shown(&again), [(1, Some(10)), (0, None)], "positions outlive a restart");
    let none = store.changes("stats", again.next, 100, NOW).await.unwrap();
    assert!(none.changes.is_empty());
    assert_eq!(again.next.to_string().parse::<Position>().unwrap(), again.next);
    assert!("x.y".parse::<Position>().is_err());
}

#[tokio::test]
async fn a_limit_cuts_between_entries_only() {
    let store = crate::tests::memory().await;
    store.create_table(&stats()).await.unwrap();
    let rows = |keys: std::ops::Range<i64>| keys.map(|k| row! {"k": k, "a": k}).collect::<Vec<_>>();
    store.put("stats", &rows(0..5)).await.unwrap();
    put(&store, 9, 9).await;
    let first = store.changes("stats", Position::default(), 2, NOW).await.unwrap();
    assert_eq!(shown(&first).len(), 5, "one call is one entry");
    let second = store.changes("stats", first.next, 2, NOW).await.unwrap();
    assert_eq!(shown(&second), [(9, Some(9))]);
    let mut seen = 0;
    let mut position = Position::default();
    for k in 20..40 {
        put(&store, k, k).await;
    }
    loop {
        let feed = store.changes("stats", position, 3, NOW).await.unwrap();
        if feed.changes.is_empty() {
            break;
        }
        seen += feed.changes.len();
        position = feed.next;
    }
    assert_eq!(seen, 26);
}

/// Memory has only the last change of a row, and a crash may undo that one: the one before, which
/// was acknowledged, is told then.
#[tokio::test]
async fn a_change_that_a_crash_undoes_hides_none_before_it() {
    let mut machine = Machine::new(1);
    let config = || Config::new("", "cloud");
    let store = machine.open(config()).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    put(&store, 1, 1).await;
    machine.disk.trouble(Trouble::Sync);
    let unknown = store.put("stats", &[row! {"k": 1, "a": 2}]).await.unwrap_err();
    assert_eq!(unknown.code(), "unknown-outcome");
    let refused = store.changes("stats", Position::default(), 100, NOW).await.unwrap_err();
    assert_eq!(refused.code(), "read-only", "nobody knows what the row will be");
    machine.disk = machine.disk.crash(|| Fate::Lost);
    machine.disk.trouble(Trouble::None);
    let store = machine.open(config()).await.unwrap();
    let told = store.changes("stats", Position::default(), 100, NOW).await.unwrap();
    assert_eq!(shown(&told), [(1, Some(1))]);
}

#[tokio::test]
async fn a_reader_may_wait_for_changes() {
    let store = crate::tests::memory().await;
    store.create_table(&stats()).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    let reader = {
        let store = store.clone();
        let wait = Duration::from_secs(600);
        tokio::spawn(async move { store.changes("stats", Position::default(), 9, wait).await })
    };
    store.put("motion", &[row! {"camera": "a", "at": 1}]).await.unwrap();
    put(&store, 1, 1).await;
    assert_eq!(shown(&reader.await.unwrap().unwrap()), [(1, Some(1))]);
}

#[tokio::test]
async fn a_position_of_a_replaced_store_begins_anew() {
    let old = crate::tests::memory().await;
    old.create_table(&stats()).await.unwrap();
    put(&old, 1, 1).await;
    let position = old.changes("stats", Position::default(), 9, NOW).await.unwrap().next;
    let machine = Machine::new(2);
    let new = machine.open(Config::new("", "cloud")).await.unwrap();
    new.create_table(&stats()).await.unwrap();
    put(&new, 7, 7).await;
    let feed = new.changes("stats", position, 9, NOW).await.unwrap();
    assert!(feed.anew);
    assert_eq!(shown(&feed), [(7, Some(7))]);
}
