//! Many sites in one process, joined by links that fail as told.

mod linear;
mod net;
mod pages;
mod simulation;

use std::time::Duration;

use bytes::Bytes;

use crate::link::conformance::{self, Ends};
use crate::tests::{Machine, motion, row, stats};
use crate::{
    BlobKey, Commit, Condition, Config, Coverage, EdgeStore, Error, Expect, Level, Link,
    ReadOptions, Removed, Result, Row, Scan, Value, Write,
};
use net::{Faults, Net};

/// Waits for something that must come true; fails after a time no working store needs.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut is_true: impl FnMut() -> F) {
    for _ in 0..6_000 {
        if is_true().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}

const LOCAL: ReadOptions = ReadOptions { local_only: true, deadline_ms: None };

async fn local_rows(store: &EdgeStore, table: &str) -> Vec<Row> {
    let scanned = store.scan_with(table, Scan::default(), LOCAL).await;
    scanned.map(|s| s.rows).unwrap_or_default()
}

/// cloud, cloud.east, cloud.east.cell1 and cell2, all in good order.
async fn tree() -> (Net, [EdgeStore; 4]) {
    let net = Net::new(Faults::none(), 1);
    let cloud = net.start("cloud").await;
    let east = net.start("cloud.east").await;
    let cell1 = net.start("cloud.east.cell1").await;
    let cell2 = net.start("cloud.east.cell2").await;
    (net, [cloud, east, cell1, cell2])
}

fn frame(at: i64) -> Row {
    row! {"camera": "front", "at": at, "score": at as f64}
}

#[tokio::test]
async fn virtual_links_are_links() {
    let (net, _stores) = tree().await;
    let (root, child) = (net.link("cloud"), net.link("cloud.east"));
    let ends = Ends { root: ("cloud", &root), child: ("cloud.east", &child) };
    conformance::check(&ends).await;
}

#[tokio::test]
async fn changes_and_tables_climb_to_the_root() {
    let (_net, [cloud, east, cell1, _]) = tree().await;
    cell1.create_table(&motion()).await.unwrap();
    let ack = cell1.put_at("motion", &[frame(1)], Level::Parent).await.unwrap();
    assert_eq!(ack.level, Level::Parent);
    assert_eq!(local_rows(&east, "motion").await.len(), 1, "the parent has it when it says so");
    eventually("the root has the row", || async { local_rows(&cloud, "motion").await.len() == 1 })
        .await;
    assert_eq!(
        cloud.get("motion", &row! {"camera": "front", "at": 1}).await.unwrap().unwrap()["score"],
        1.0.into()
    );
}

/// Wherever its definition is stuck on its way up.
#[tokio::test]
async fn a_table_is_served_where_it_was_made_before_it_has_climbed() {
    for stuck in ["cloud.east.cell1", "cloud.east"] {
        let (net, [cloud, east, cell1, _]) = tree().await;
        net.refuse(stuck, "up");
        cell1.create_table(&motion()).await.unwrap();
        let is_there = || async { stuck != east.site() || !east.tables().is_empty() };
        eventually("it is where it is stuck", is_there).await;
        let scanned = cell1.scan("motion", Scan::default()).await.unwrap();
        assert!(scanned.rows.is_empty() && scanned.coverage.complete, "{scanned:?}");
        assert_eq!(scanned.coverage.age_ms, 0);
        cell1.put("motion", &[frame(1)]).await.unwrap();
        let scanned = cell1.scan("motion", Scan::default()).await.unwrap();
        assert!(scanned.coverage.complete && scanned.rows[0]["at"] == Value::Time(1));
        let key = row! {"camera": "front", "at": 2};
        assert_eq!(cell1.get("motion", &key).await.unwrap(), None);
        let error = cell1.get("motoin", &key).await.unwrap_err();
        assert_eq!(error.code(), "unknown-table", "nobody made it");

        let commit = Commit {
            conditions: vec![Condition { key: key.clone(), expect: Expect::Absent }],
            writes: vec![Write::Put(frame(2))],
        };
        let climbs = async {
            eventually("the owner is asked", || async { net.asked(stuck, "decide") > 0 }).await;
            assert!(cloud.tables().is_empty());
            net.allow(stuck, "up");
        };
        let (committed, ()) = tokio::join!(cell1.commit("motion", &commit), climbs);
        assert_eq!(committed.unwrap().level, Level::Root);
        assert_eq!(local_rows(&cloud, "motion").await.last().unwrap()["at"], Value::Time(2));
        assert!(cell1.get("motion", &key).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn what_a_parent_acknowledges_survives_its_power_loss() {
    let net = Net::new(Faults::none(), 1);
    net.slow_disks(10);
    net.start("cloud").await;
    net.start("cloud.east").await;
    let cell = net.start("cloud.east.cell1").await;
    cell.create_table(&motion()).await.unwrap();
    for at in 1..5 {
        cell.put_at("motion", &[frame(at)], Level::Parent).await.unwrap();
        net.cut("cloud.east.cell1");
        let east = net.restart_bare("cloud.east").await;
        assert_eq!(local_rows(&east, "motion").await.len() as i64, at);
        net.mend("cloud.east.cell1");
    }
}

#[tokio::test]
async fn a_gap_in_what_climbs_is_not_filled_over() {
    let (_net, [_, east, ..]) = tree().await;
    let entry = crate::record::Entry {
        seq: 9,
        source: crate::record::Source::Own,
        body: crate::record::Body::Table(motion()),
    };
    let up = |prev| super::wire::Up {
        store: 7,
        site: "cloud.east.cell1".into(),
        prev,
        entries: vec![crate::record::encode(&entry)],
    };
    let tree = east.inner.tree.get().unwrap();
    assert_eq!(tree.take_up("cloud.east.cell1", up(8)).await.unwrap().cursor, 0);
    assert!(east.tables().is_empty(), "entries up to 8 are missing");
    for _ in 0..2 {
        assert_eq!(tree.take_up("cloud.east.cell1", up(0)).await.unwrap().cursor, 9);
    }
    assert_eq!(east.tables().len(), 1);
}

#[tokio::test]
async fn a_reader_elsewhere_gets_rows_on_demand_and_stays_fresh() {
    let (net, [_cloud, _east, cell1, cell2]) = tree().await;
    cell1.create_table(&motion()).await.unwrap();
    let rows: Vec<Row> = (0..100).map(frame).collect();
    cell1.put("motion", &rows).await.unwrap();
    eventually("the reader sees all", || async {
        matches!(cell2.scan("motion", Scan::default()).await, Ok(s) if s.rows.len() == 100)
    })
    .await;
    eventually("the replica is here", || async { cell2.tables().iter().any(|t| t.complete) }).await;
    cell1.put("motion", &[frame(100)]).await.unwrap();
    eventually("the change comes by itself", || async {
        local_rows(&cell2, "motion").await.len() == 101
    })
    .await;
    let asked = net.asked("cloud.east.cell2", "range");
    let scanned = cell2.scan("motion", Scan::default()).await.unwrap();
    assert_eq!((scanned.rows.len(), scanned.coverage.source.as_str()), (101, "cloud.east.cell2"));
    assert!(scanned.coverage.complete);
    assert_eq!(net.asked("cloud.east.cell2", "range"), asked, "a replica is read here");
}

#[tokio::test]
async fn one_partition_can_be_replicated_alone() {
    let (_net, [cloud, _, _, cell2]) = tree().await;
    cloud.create_table(&motion()).await.unwrap();
    for camera in ["back", "front"] {
        cloud.put("motion", &[row! {"camera": camera, "at": 1, "score": 1}]).await.unwrap();
    }
    let front = |store: &EdgeStore| {
        let scan = Scan { prefix: row! {"camera": "front"}, ..Scan::default() };
        let store = store.clone();
        async move { store.scan("motion", scan).await.unwrap() }
    };
    assert_eq!(front(&cell2).await.rows.len(), 1);
    eventually("the partition is here", || async { cell2.tables()[0].replicated_partitions == 1 })
        .await;
    for camera in ["back", "front"] {
        cloud.put("motion", &[row! {"camera": camera, "at": 2, "score": 1}]).await.unwrap();
    }
    eventually("the partition stays fresh", || async { front(&cell2).await.rows.len() == 2 }).await;
    assert_eq!(local_rows(&cell2, "motion").await.len(), 2, "the other partition is not here");
    assert_eq!(cell2.scan("motion", Scan::default()).await.unwrap().rows.len(), 4);
}

#[tokio::test]
async fn unknown_tables_are_named() {
    let (net, [.., cell2]) = tree().await;
    let error = cell2.get("motoin", &frame(1)).await.unwrap_err();
    assert_eq!(error.to_string(), r#"unknown table "motoin""#);
    net.cut("cloud.east.cell2");
    let error = cell2.get("motoin", &frame(1)).await.unwrap_err();
    assert!(error.retryable() && error.to_string().contains("motoin"), "{error}");
}

#[tokio::test]
async fn a_cut_off_site_goes_on_and_loses_nothing() {
    let (net, [cloud, _, cell1, _]) = tree().await;
    cloud.create_table(&motion()).await.unwrap();
    cloud.put("motion", &[frame(0)]).await.unwrap();
    assert!(cell1.get("motion", &row! {"camera": "front", "at": 0}).await.unwrap().is_some());
    net.cut("cloud.east.cell1");
    for at in 1..50 {
        cell1.put("motion", &[frame(at)]).await.unwrap();
        if at % 20 == 0 {
            cell1.flush().await.unwrap();
        }
    }
    let (row, coverage) = cell1
        .get_with("motion", &row! {"camera": "front", "at": 9}, ReadOptions::default())
        .await
        .unwrap();
    assert!(row.is_some());
    assert_eq!(coverage.source, "cloud.east.cell1");
    assert_eq!(local_rows(&cloud, "motion").await.len(), 1);
    net.mend("cloud.east.cell1");
    eventually("everything has climbed", || async {
        local_rows(&cloud, "motion").await.len() == 50
    })
    .await;
}

#[tokio::test]
async fn an_incomplete_answer_says_so() {
    let (net, [cloud, _, cell1, _]) = tree().await;
    cloud.create_table(&motion()).await.unwrap();
    cell1.put("motion", &[frame(1)]).await.unwrap();
    net.cut("cloud.east.cell1");
    let scanned = cell1.scan("motion", Scan::default()).await.unwrap();
    let here = Coverage { complete: false, source: "cloud.east.cell1".into(), age_ms: 0 };
    assert_eq!((scanned.rows.len(), scanned.coverage), (1, here));
    let error = cell1.get("motion", &row! {"camera": "back", "at": 1}).await.unwrap_err();
    assert_eq!(error.code(), "unreachable");
}

#[tokio::test]
async fn a_lost_message_of_the_feed_is_noticed_and_fetched() {
    let net = Net::new(Faults::none(), 1);
    net.compare_seldom();
    let cloud = net.start("cloud").await;
    let east = net.start("cloud.east").await;
    cloud.create_table(&motion()).await.unwrap();
    east.replicate("motion").await.unwrap();
    net.drop_changes(true);
    cloud.put("motion", &[frame(1)]).await.unwrap();
    cloud.put("motion", &[frame(2)]).await.unwrap();
    eventually("the messages are lost", || async { net.changes_dropped() > 0 }).await;
    let standing = cloud.status().seq;
    eventually("and their like", || async { cloud.status().durable_seq >= standing }).await;
    net.drop_changes(false);
    cloud.put("motion", &[frame(3)]).await.unwrap();
    eventually("the gap is mended", || async { local_rows(&east, "motion").await.len() == 3 })
        .await;
}

#[tokio::test]
async fn a_lost_last_message_is_noticed_by_comparing() {
    let (net, [cloud, east, _, _]) = tree().await;
    cloud.create_table(&motion()).await.unwrap();
    east.replicate("motion").await.unwrap();
    for at in 1..4 {
        cloud.put("motion", &[frame(at)]).await.unwrap();
    }
    eventually("the replica follows", || async { local_rows(&east, "motion").await.len() == 3 })
        .await;
    net.drop_changes(true);
    cloud.put("motion", &[frame(4)]).await.unwrap();
    eventually("the end is mended", || async { local_rows(&east, "motion").await.len() == 4 })
        .await;
}

#[tokio::test]
async fn replicas_survive_restarts_of_both_sides() {
    let (net, [cloud, _, _, cell2]) = tree().await;
    cloud.create_table(&motion()).await.unwrap();
    cloud.put("motion", &(0..10).map(frame).collect::<Vec<_>>()).await.unwrap();
    cell2.replicate("motion").await.unwrap();
    drop(cell2);
    let east = net.restart("cloud.east").await;
    cloud.put("motion", &[frame(10)]).await.unwrap();
    let cell2 = net.restart("cloud.east.cell2").await;
    assert!(cell2.tables()[0].complete, "what is held is remembered");
    assert!(local_rows(&cell2, "motion").await.len() >= 10);
    for store in [&east, &cell2] {
        eventually("the replica catches up", || async {
            local_rows(store, "motion").await.len() == 11
        })
        .await;
    }
}

#[tokio::test]
async fn a_parent_that_lost_its_disk_gets_everything_again() {
    let (net, [_, _, cell1, _]) = tree().await;
    cell1.create_table(&motion()).await.unwrap();
    for at in 0..20 {
        cell1.put_at("motion", &[frame(at)], Level::Parent).await.unwrap();
    }
    cell1.flush().await.unwrap();
    cell1.put_at("motion", &[frame(20)], Level::Parent).await.unwrap();
    eventually("the log has been let go", || async { cell1.inner.engine.wal.first_seq() > 20 })
        .await;
    let east = net.replace("cloud.east").await;
    eventually("the new parent has all", || async {
        local_rows(&east, "motion").await.len() == 21
    })
    .await;
    cell1.put("motion", &[frame(21)]).await.unwrap();
    eventually("and what follows", || async { local_rows(&east, "motion").await.len() == 22 })
        .await;
}

#[tokio::test]
async fn a_parent_restored_from_an_older_copy_leaves_no_replica_stale() {
    let net = Net::new(Faults::none(), 1);
    let cloud = net.start("cloud").await;
    let east = net.start("cloud.east").await;
    cloud.create_table(&motion()).await.unwrap();
    east.replicate("motion").await.unwrap();
    cloud.put("motion", &[frame(1)]).await.unwrap();
    let copy = net.copy_of_disk("cloud");
    for at in 2..5 {
        cloud.put("motion", &[frame(at)]).await.unwrap();
    }
    eventually("the replica follows", || async { local_rows(&east, "motion").await.len() == 4 })
        .await;
    let cloud = net.restore("cloud", copy).await;
    cloud.put("motion", &[frame(5)]).await.unwrap();
    eventually("the replica has what came after", || async {
        local_rows(&east, "motion").await.iter().any(|row| row["at"] == Value::Time(5))
    })
    .await;
}

#[tokio::test]
async fn a_child_restored_from_an_older_copy_is_heard() {
    let net = Net::new(Faults::none(), 1);
    net.start("cloud").await;
    let east = net.start("cloud.east").await;
    east.create_table(&motion()).await.unwrap();
    let copy = net.copy_of_disk("cloud.east");
    for at in 1..5 {
        east.put_at("motion", &[frame(at)], Level::Parent).await.unwrap();
    }
    let east = net.restore("cloud.east", copy).await;
    for at in 5..7 {
        east.put_at("motion", &[frame(at)], Level::Parent).await.unwrap();
    }
    let cloud = net.store("cloud");
    assert_eq!(local_rows(&cloud, "motion").await.len(), 6);
}

#[tokio::test]
async fn changes_from_a_fast_clock_wait_at_their_site() {
    let net = Net::new(Faults::none(), 1);
    let cloud = net.start("cloud").await;
    let east = net.start_skewed("cloud.east", 60_000).await;
    east.create_table(&motion()).await.unwrap();
    east.put("motion", &[frame(1)]).await.unwrap();
    eventually("the parent has refused", || async { net.asked("cloud.east", "up") > 3 }).await;
    assert_eq!(local_rows(&cloud, "motion").await.len(), 0);
    cloud.put("motion", &[frame(2)]).await.unwrap();
    net.advance_clock("cloud", 60_000);
    eventually("the clocks agree, the changes climb", || async {
        local_rows(&cloud, "motion").await.len() == 2
    })
    .await;
}

#[tokio::test]
async fn blobs_are_found_across_the_tree() {
    let (net, [cloud, _, cell1, cell2]) = tree().await;
    let bytes = Bytes::from((0..1_000_000u32).map(|i| (i * 7 % 251) as u8).collect::<Vec<_>>());
    let key = cell1.put_blob(bytes.clone()).await.unwrap();
    assert_eq!(key.site(), "cloud.east.cell1");
    assert!(!cell2.has_blob(&key).await.unwrap());
    assert_eq!(cell2.get_blob(&key).await.unwrap().unwrap(), bytes);
    assert!(cell2.has_blob(&key).await.unwrap(), "it is kept");
    assert!(!cloud.has_blob(&key).await.unwrap(), "it did not climb further than needed");
    let part = cloud.get_blob_range(&key, 500_000, 500_010).await.unwrap().unwrap();
    assert_eq!(part, bytes.slice(500_000..500_010));
    let absent = BlobKey::of("cloud.east.cell1", b"never stored");
    assert_eq!(cell2.get_blob(&absent).await.unwrap(), None);
    net.cut("cloud.east.cell1");
    let other = cell1.put_blob(Bytes::from_static(b"cut off")).await.unwrap();
    let error = cell2.get_blob(&other).await.unwrap_err();
    assert!(error.retryable(), "{error}");
    net.mend("cloud.east.cell1");
    assert_eq!(cell2.get_blob(&other).await.unwrap().unwrap(), "cut off");
}

#[tokio::test]
async fn blobs_of_a_site_that_was_moved_are_found_where_it_is_now() {
    let (net, [cloud, east, cell1, cell2]) = tree().await;
    let bytes = Bytes::from_static(b"taken before the move");
    cell1.put_blob(bytes.clone()).await.unwrap();
    let key = BlobKey::of("cloud.west.cell1", &bytes);
    let lost = BlobKey::of("cloud.west.cell1", b"never stored");
    for store in [&cloud, &cell2] {
        assert_eq!(store.get_blob(&key).await.ok().flatten(), None, "the way is known");
    }
    net.note_moved("cloud.west.cell1", "cloud.east.cell1");
    for store in [&cell2, &cloud, &east, &cell1] {
        assert_eq!(store.get_blob(&key).await.unwrap().unwrap(), bytes, "{}", store.site());
        assert_eq!(store.get_blob(&lost).await.ok().flatten(), None);
    }
}

#[tokio::test]
async fn blobs_are_removed_from_above_and_never_from_below() {
    let (net, [cloud, east, cell1, cell2]) = tree().await;
    let key = cell1.put_blob(Bytes::from_static(b"frame")).await.unwrap();
    let same = cell2.put_blob(Bytes::from_static(b"frame")).await.unwrap();
    let top = cloud.put_blob(Bytes::from_static(b"code")).await.unwrap();
    assert_eq!(east.get_blob(&key).await.unwrap().unwrap(), "frame");
    assert_eq!(cell1.get_blob(&top).await.unwrap().unwrap(), "code");
    // What is above is not theirs to remove, however they ask; copies are.
    let link = net.link("cloud.east.cell1");
    let ask = crate::record::encode(&super::wire::RemoveBlob { key: key.to_string() });
    let answer = link.request_parent("remove-blob", ask.into()).await.unwrap();
    let error = super::wire::open(answer).unwrap_err().to_string();
    assert_eq!(error, format!("cloud.east.cell1 may not remove blob {key} at cloud.east"));
    let ask = format!("{{\"key\":\"{key}\"}}");
    assert!(link.request_parent("rm-blob", ask.into()).await.is_err());
    assert_eq!(cell1.remove_blob(&top).await.unwrap(), Removed::Copy);
    assert!(!cell1.has_blob(&top).await.unwrap() && cloud.has_blob(&top).await.unwrap());
    assert_eq!(cell2.remove_blob(&key).await.unwrap(), Removed::Copy);
    assert!(cell1.has_blob(&key).await.unwrap() && east.has_blob(&key).await.unwrap());
    // Nothing happens by halves where the way down is cut.
    net.cut("cloud.east.cell1");
    let error = cloud.remove_blob(&key).await.unwrap_err();
    assert!(error.retryable(), "{error}");
    assert!(east.has_blob(&key).await.unwrap());
    net.mend("cloud.east.cell1");
    for _ in 0..2 {
        assert_eq!(cloud.remove_blob(&key).await.unwrap(), Removed::Blob);
        assert!(!east.has_blob(&key).await.unwrap(), "the copy on the way");
        for store in [&cloud, &east, &cell1] {
            assert_eq!(store.get_blob(&key).await.unwrap(), None, "{}", store.site());
        }
    }
    let kept = east.get_blob(&same).await.unwrap();
    assert_eq!(kept.unwrap(), "frame", "what another site took is that site's");
}

#[tokio::test]
async fn blobs_of_a_site_that_was_moved_are_removed_where_it_is_now() {
    let (net, [cloud, _, cell1, _]) = tree().await;
    let bytes = Bytes::from_static(b"taken before the move");
    cell1.put_blob(bytes.clone()).await.unwrap();
    let key = BlobKey::of("cloud.west.cell1", &bytes);
    assert!(cloud.remove_blob(&key).await.is_err(), "the way is known");
    net.note_moved("cloud.west.cell1", "cloud.east.cell1");
    assert_eq!(cloud.remove_blob(&key).await.unwrap(), Removed::Blob);
    assert!(!cell1.has_blob(&key).await.unwrap());
}

/// Whoever may remove the rows that name them may be anywhere, and ask while the way is cut.
#[tokio::test]
async fn private_blobs_are_removed_from_anywhere() {
    let (net, [cloud, east, cell1, cell2]) = tree().await;
    let frame = Bytes::from_static(b"frame");
    for remover in [&cell2, &cloud, &east, &cell1] {
        let key = cell1.put_private_blob("doorcam", frame.clone()).await.unwrap();
        let other = cell1.put_private_blob("doorcam", frame.clone()).await.unwrap();
        for reader in [&cloud, &cell2] {
            assert_eq!(reader.get_blob(&key).await.unwrap().unwrap(), "frame");
        }
        let nowhere = key.to_string().replace("cell1", "cell3").parse().unwrap();
        let keys = [nowhere, key.clone()];
        remover.remove_blobs_later(&keys, Duration::ZERO).await.unwrap();
        net.cut("cloud.east.cell1");
        remover.remove_due_blobs().await.unwrap();
        let is_own = remover.site() == cell1.site();
        assert_eq!(cell1.has_blob(&key).await.unwrap(), !is_own, "{}", remover.site());
        net.mend("cloud.east.cell1");
        remover.remove_due_blobs().await.unwrap();
        for store in [&cell1, remover] {
            assert!(!store.has_blob(&key).await.unwrap(), "{} {}", remover.site(), store.site());
        }
        assert_eq!(cell2.get_blob(&other).await.unwrap().unwrap(), "frame");
    }
}

#[tokio::test]
async fn large_tables_travel_in_pages() {
    let net = Net::new(Faults::none(), 1);
    let cloud = net.start("cloud").await;
    let east = net.start("cloud.east").await;
    cloud.create_table(&motion()).await.unwrap();
    let text = "x".repeat(5_000);
    for chunk in 0..4 {
        let rows: Vec<Row> = (0..100)
            .map(|i| row! {"camera": "front", "at": chunk * 100 + i, "jpeg": text})
            .collect();
        cloud.put("motion", &rows).await.unwrap();
    }
    let ask = |limit, reverse| Scan { limit, reverse, ..Scan::default() };
    let at = |s: crate::Scanned| s.rows.iter().map(|r| r["at"].clone()).collect::<Vec<_>>();
    net.refuse("cloud.east", "fetch");
    let last = at(east.scan("motion", ask(Some(150), true)).await.unwrap());
    assert_eq!(last, (250..400).rev().map(Value::Time).collect::<Vec<_>>());
    let first = at(east.scan("motion", ask(Some(150), false)).await.unwrap());
    assert_eq!(first, (0..150).map(Value::Time).collect::<Vec<_>>());
    let all = at(east.scan("motion", ask(None, false)).await.unwrap());
    assert_eq!(all, (0..400).map(Value::Time).collect::<Vec<_>>());
    assert!(net.asked("cloud.east", "range") > 8);
    net.allow("cloud.east", "fetch");
    east.replicate("motion").await.unwrap();
    assert_eq!(local_rows(&east, "motion").await.len(), 400);
    assert!(net.largest_payload() < crate::PAYLOAD_BYTES_MAX);
}

#[tokio::test]
async fn nobody_speaks_for_another_site() {
    let (_net, [cloud, east, cell1, _]) = tree().await;
    let up = |site: &str| {
        let up = super::wire::Up { store: 7, site: site.into(), prev: 0, entries: Vec::new() };
        Bytes::from(crate::record::encode(&up))
    };
    let answer = |store: &EdgeStore, from: &'static str, site: &str| {
        let (store, payload) = (store.clone(), up(site));
        async move { super::wire::open(store.serve("up", from, payload).await.unwrap()) }
    };
    assert!(answer(&east, "cloud.east.cell1", "cloud.east.cell1").await.is_ok());
    assert!(answer(&east, "cloud.east.cell2", "cloud.east.cell1").await.is_err());
    assert!(answer(&cloud, "cloud.east.cell1", "cloud.east.cell1").await.is_err());
    assert!(answer(&cell1, "cloud.east.cell1", "cloud.east.cell1").await.is_err());
}

#[tokio::test]
async fn a_conflicting_table_does_not_hold_up_the_rest() {
    let (net, [cloud, _, cell1, _]) = tree().await;
    net.cut("cloud.east.cell1");
    let mut other = stats();
    other.columns[5].kind = crate::ColumnKind::Utf8;
    cell1.create_table(&other).await.unwrap();
    cell1.put("stats", &[row! {"k": 1, "a": "text"}]).await.unwrap();
    cell1.create_table(&motion()).await.unwrap();
    cell1.put("motion", &[frame(1)]).await.unwrap();
    cloud.create_table(&stats()).await.unwrap();
    let key = row! {"camera": "front", "at": 1};
    net.restart("cloud.east").await.create_table(&stats()).await.unwrap();
    net.mend("cloud.east.cell1");
    eventually("the good table climbs", || async {
        matches!(cloud.get("motion", &key).await, Ok(Some(_)))
    })
    .await;
    assert_eq!(local_rows(&cloud, "stats").await.len(), 0);
    assert_eq!(local_rows(&cell1, "stats").await.len(), 1, "what is refused stays where it is");
}

#[tokio::test]
async fn a_new_column_reaches_readers_below() {
    let (_net, [cloud, _, _, cell2]) = tree().await;
    cloud.create_table(&stats()).await.unwrap();
    cloud.put("stats", &[row! {"k": 1, "a": 1}]).await.unwrap();
    cell2.replicate("stats").await.unwrap();
    let mut wider = stats();
    wider.columns.push(serde_json::from_str(r#"{"name":"note","kind":"utf8"}"#).unwrap());
    cloud.create_table(&wider).await.unwrap();
    cloud.patch("stats", &[row! {"k": 1, "note": "x"}]).await.unwrap();
    eventually("the column is here", || async {
        local_rows(&cell2, "stats")
            .await
            .first()
            .is_some_and(|r| r.get("note") == Some(&"x".into()))
    })
    .await;
}

/// Below, the old definition goes on for a while: what comes down is wider than it says, what goes
/// up has cells of a column that is gone.
#[tokio::test]
async fn a_table_that_changed_above_goes_on_below() {
    let (net, [cloud, east, _, cell2]) = tree().await;
    let old = crate::tests::spec(
        r#"{"name":"t","key":["k"],"columns":[{"name":"k","kind":"int64"},
        {"name":"n","kind":"int32"},{"name":"gone","kind":"utf8"}]}"#,
    );
    cloud.create_table(&old).await.unwrap();
    cell2.replicate("t").await.unwrap();
    cell2.put("t", &[row! {"k": 1, "n": 1, "gone": "x"}]).await.unwrap();
    net.cut("cloud.east");
    cell2.put("t", &[row! {"k": 2, "n": 2, "gone": "x"}]).await.unwrap();
    let mut newer = old.clone();
    newer.columns[1].kind = crate::ColumnKind::Int64;
    newer.columns.pop();
    newer.dropped.push("gone".into());
    cloud.create_table(&newer).await.unwrap();
    cloud.put("t", &[row! {"k": 3, "n": i64::MAX}]).await.unwrap();
    cloud.flush().await.unwrap();
    net.heal();
    let expected = [row! {"k": 1, "n": 1}, row! {"k": 2, "n": 2}, row! {"k": 3, "n": i64::MAX}];
    for store in [&cloud, &east, &cell2] {
        eventually("all rows are everywhere", || async {
            store.replicate("t").await.is_ok() && local_rows(store, "t").await == expected
        })
        .await;
        store.flush().await.unwrap();
        assert_eq!(local_rows(store, "t").await, expected);
    }
    assert!(cell2.put("t", &[row! {"k": 4, "gone": "x"}]).await.is_err());
}

/// A root alone forgets deletes. As soon as somebody below has a row, it does not any more,
/// whatever it knows of whom: a site that was away hears of each.
#[tokio::test]
async fn deletes_are_kept_for_sites_that_are_away() {
    for heard_of in ["all", "nothing but reads"] {
        let net = Net::new(Faults::none(), 1);
        let cloud = net.start("cloud").await;
        cloud.create_table(&motion()).await.unwrap();
        let rows: Vec<Row> = (0..20).map(frame).collect();
        let keys = |rows: &[Row]| rows.iter().map(|r| motion().key_part(r)).collect::<Vec<Row>>();
        cloud.put("motion", &rows[..10]).await.unwrap();
        cloud.flush().await.unwrap();
        cloud.delete("motion", &keys(&rows[..10])).await.unwrap();
        cloud.flush().await.unwrap();
        for _ in 0..2 {
            cloud.put("motion", &rows[10..11]).await.unwrap();
            cloud.flush().await.unwrap();
        }
        assert_eq!(cloud.tables()[0].segment_rows, 1, "ten are forgotten");
        cloud.put("motion", &rows[10..]).await.unwrap();
        let east = net.start("cloud.east").await;
        if heard_of != "all" {
            net.refuse("cloud.east", "up");
        }
        eventually("the replica is there", || async { east.replicate("motion").await.is_ok() })
            .await;
        assert_eq!(local_rows(&east, "motion").await.len(), 10);
        net.cut("cloud.east");
        // Whom it has met it remembers.
        let cloud = net.restart("cloud").await;
        cloud.delete("motion", &keys(&rows[10..19])).await.unwrap();
        for _ in 0..6 {
            cloud.put("motion", &rows[19..]).await.unwrap();
            cloud.flush().await.unwrap();
        }
        net.mend("cloud.east");
        eventually("the deletes have come", || async {
            local_rows(&east, "motion").await.len() == 1
        })
        .await;
        assert_eq!(local_rows(&cloud, "motion").await.len(), 1, "{heard_of}");
    }
}

#[tokio::test]
async fn arbitrary_requests_do_no_harm() {
    let (net, [cloud, ..]) = tree().await;
    cloud.create_table(&motion()).await.unwrap();
    let ops = ["up", "range", "fetch", "heads", "describe", "blob", "get", "scan", "put", "x"];
    for i in 0..4_000u64 {
        let bytes: Vec<u8> = (0..net.random(40)).map(|_| net.random(256) as u8).collect();
        let op = ops[i as usize % ops.len()];
        let _: Result<Bytes> = cloud.serve(op, "cloud.east", bytes.into()).await;
    }
    cloud.put("motion", &[frame(1)]).await.unwrap();
    assert_eq!(local_rows(&cloud, "motion").await.len(), 1);
}

#[tokio::test]
async fn a_store_outside_the_tree_keeps_what_has_to_climb() {
    let machine = Machine::new(9);
    let store = machine.open(Config::new("", "cloud.east")).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    store.put("motion", &[frame(1)]).await.unwrap();
    store.flush().await.unwrap();
    assert_eq!(store.inner.engine.wal.first_seq(), 1, "the log still has it");
    assert!(matches!(store.replicate("motion").await, Err(Error::Unreachable { .. })));
}
