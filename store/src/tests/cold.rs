//! A store that has just been opened: what its log still holds.

use super::*;

fn frame(at: i64) -> Row {
    row! {"camera": "front", "at": at * 2, "score": at as f64, "jpeg": format!("picture {at}")}
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
