//! Readers and writers of rows while a flush puts segments in the place of what was in memory, and
//! of other segments, in the orders of their requests: in every one where they are not too many.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::orders::requests::Stepped;
use super::orders::{Choices, each_order, some_orders};
use super::*;
use crate::runtime::seeded::{in_order, request};

/// A store with rows in two segments and in memory, and no segment decoded.
async fn store(objects: &Stepped, segments_max: usize) -> EdgeStore {
    let objects = Objects::shared(Arc::new(objects.clone()));
    let machine = Machine { objects, ..Machine::new(1) };
    let config = Config { segments_max, cache_bytes: 1, ..Config::new("", "cloud") };
    let store = machine.open(config).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    for by in [1, 10, 100] {
        if by > 1 {
            store.flush().await.unwrap();
        }
        for k in [0, by] {
            let key = row! {"k": k};
            store.increment("stats", &key, &[("n".to_owned(), by)]).await.unwrap();
        }
    }
    let state = store.inner.engine.read();
    for partition in state.table("stats").unwrap().partitions.values() {
        partition.segments.iter().for_each(|segment| segment.forget());
    }
    drop(state);
    store
}

async fn counts(store: &EdgeStore) -> BTreeMap<i64, i64> {
    let found = store.scan("stats", Scan::default()).await.unwrap();
    let int = |value: &Value| match value {
        Value::Int(i) => *i,
        other => panic!("{other:?}"),
    };
    found.rows.iter().map(|row| (int(&row["k"]), int(&row["n"]))).collect()
}

/// Orders that are tried where there are too many.
const SOME: u64 = 200;

/// Carries out `beside` while the store flushes, in one order, and looks at the rows after.
fn check<'a>(
    choices: &mut Choices<'_>,
    segments_max: usize,
    beside: impl Fn(EdgeStore) -> BoxFuture<'a, ()>,
    after: i64,
) {
    in_order(choices, async {
        let objects = Stepped::default();
        let store = store(&objects, segments_max).await;
        let flushing = async { store.flush().await.unwrap() };
        objects.beside(vec![flushing.boxed(), beside(store.clone())]).await;
        let expected = BTreeMap::from([(0, after), (1, 1), (10, 10), (100, 100)]);
        assert_eq!(counts(&store).await, expected);
        store.flush().await.unwrap();
        assert_eq!(counts(&store).await, expected);
    });
}

/// Whatever a merge takes away, a reader sees each row as it is.
#[test]
fn readers_see_all_rows_while_segments_are_merged() {
    let reading = |store: EdgeStore| {
        let reading = async move {
            let expected = BTreeMap::from([(0, 111), (1, 1), (10, 10), (100, 100)]);
            assert_eq!(counts(&store).await, expected);
            let key = row! {"k": 10};
            assert_eq!(store.get("stats", &key).await.unwrap().unwrap()["n"], 10.into());
        };
        reading.boxed()
    };
    some_orders(SOME, |choices| check(choices, 2, reading, 111));
}

/// What is added to a row whose state was read from segments is not lost when a flush brings newer
/// ones in between.
#[test]
fn a_change_counts_on_what_a_flush_has_brought() {
    let adding = |store: EdgeStore| {
        let adding = async move {
            // It may begin at any time.
            request().await;
            let by = [("n".to_owned(), 1_000)];
            store.increment("stats", &row! {"k": 0}, &by).await.unwrap();
        };
        adding.boxed()
    };
    for segments_max in [9, 2] {
        let orders = each_order(|choices| check(choices, segments_max, adding, 1_111));
        println!("{orders} orders");
        assert!(orders >= 6, "only {orders} orders");
    }
}
