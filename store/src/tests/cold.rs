//! A store that has just been opened: what its log still holds, and what is decoded for a few rows.

use super::*;

const ROWS: i64 = 70_000;

/// A table in one segment of several row groups, of which nothing is decoded.
async fn cold() -> EdgeStore {
    let machine = Machine::new(1);
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    for from in (0..ROWS).step_by(5_000) {
        let rows: Vec<Row> = (from..from + 5_000).map(frame).collect();
        store.put_at("motion", &rows, Level::Memory).await.unwrap();
    }
    store.flush().await.unwrap();
    store.close().await;
    machine.open(Config::new("", "cloud")).await.unwrap()
}

fn frame(at: i64) -> Row {
    row! {"camera": "front", "at": at * 2, "score": at as f64, "jpeg": format!("picture {at}")}
}

fn decoded_bytes(store: &EdgeStore) -> usize {
    store.tables()[0].cached_bytes
}

async fn got(store: &EdgeStore, at: i64) -> Option<Row> {
    store.get("motion", &row! {"camera": "front", "at": at}).await.unwrap()
}

#[tokio::test]
async fn a_few_rows_of_a_segment_are_decoded_alone_until_more_are_asked_for() {
    let mut dice = Dice(7);
    for round in 0..4 {
        let store = cold().await;
        let at = [0, ROWS - 1, 65_536, dice.below(ROWS as u64) as i64][round];
        assert_eq!(got(&store, at * 2).await.unwrap()["jpeg"], format!("picture {at}").into());
        assert_eq!(got(&store, (at * 2 - 1).max(1)).await, None);
        assert_eq!(decoded_bytes(&store), 0, "a row is not the whole segment");
        assert_eq!(got(&store, at * 2).await.unwrap()["score"], Value::Float(at as f64));
        assert!(decoded_bytes(&store) > 0, "who comes again finds it decoded");
    }
}

#[tokio::test]
async fn a_limit_from_either_end_says_what_the_whole_says() {
    let mut dice = Dice(9);
    for _ in 0..3 {
        let store = cold().await;
        let from = dice.below(ROWS as u64 - 100) as i64;
        for reverse in [false, true] {
            let asked = serde_json::json!({"prefix": {"camera": "front"}, "limit": 3,
                "from": {"camera": "front", "at": from * 2 - 1}, "reverse": reverse});
            let first = if reverse { ROWS - 1 } else { from.max(0) };
            let step = if reverse { -1 } else { 1 };
            let found = store.scan("motion", scan(asked)).await.unwrap();
            let rows: Vec<Value> = found.rows.iter().map(|row| row["jpeg"].clone()).collect();
            let wanted = (0..3).map(|i| format!("picture {}", first + i * step).into());
            assert_eq!(rows, wanted.collect::<Vec<Value>>());
            assert!(found.truncated);
        }
        assert_eq!(decoded_bytes(&store), 0);
        assert_eq!(store.scan("motion", Scan::default()).await.unwrap().rows.len(), ROWS as usize);
    }
}

#[tokio::test]
async fn a_change_over_a_row_that_was_decoded_alone_is_seen() {
    let store = cold().await;
    store.patch("motion", &[row! {"camera": "front", "at": 20, "score": 0.5}]).await.unwrap();
    let row = got(&store, 20).await.unwrap();
    assert_eq!((&row["score"], &row["jpeg"]), (&Value::Float(0.5), &"picture 10".into()));
    assert_eq!(decoded_bytes(&store), 0);
}

/// Rows in memory after a store with so much in it was closed and opened again.
async fn in_log(machine: &Machine, close_bytes: usize) -> (usize, usize) {
    let config = || Config { close_bytes, ..Config::new("", "cloud") };
    let store = machine.open(config()).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    let rows: Vec<Row> = (0..1_000).map(frame).collect();
    store.put("motion", &rows).await.unwrap();
    store.close().await;
    let store = machine.open(config()).await.unwrap();
    let all = store.scan("motion", Scan::default()).await.unwrap().rows.len();
    (store.tables()[0].memory_rows, all)
}

#[tokio::test]
async fn who_closes_a_store_leaves_little_to_read() {
    assert_eq!(in_log(&Machine::new(1), 10_000).await, (0, 1_000));
    assert_eq!(in_log(&Machine::new(1), 10_000_000).await, (1_000, 1_000), "little stays");
    let faulty = Arc::new(Faulty::new(1));
    let machine = Machine { objects: Objects::shared(faulty.clone()), ..Machine::new(1) };
    let closing = async {
        let config = || Config { close_bytes: 10_000, ..Config::new("", "cloud") };
        let store = machine.open(config()).await.unwrap();
        store.create_table(&motion()).await.unwrap();
        store.put("motion", &(0..1_000).map(frame).collect::<Vec<_>>()).await.unwrap();
        faulty.fail(100);
        store.close().await;
        faulty.fail(0);
        let store = machine.open(config()).await.unwrap();
        assert_eq!(store.scan("motion", Scan::default()).await.unwrap().rows.len(), 1_000);
        assert_eq!(store.tables()[0].memory_rows, 1_000, "the log kept everything");
    };
    tokio::time::timeout(Duration::from_secs(20), closing).await.unwrap();
}
