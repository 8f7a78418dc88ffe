//! How far a write has got: what is said is what has been waited for.

use super::*;

async fn one_row(store: &EdgeStore, level: Level) -> Ack {
    store.put_at("stats", &[row! {"k": 1, "a": 1}], level).await.unwrap()
}

#[tokio::test]
async fn nobody_is_told_of_a_level_that_was_not_reached() {
    let machine = Machine::new(1);
    let store = machine.open(Config::new("", "cloud.east")).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    let ack = one_row(&store, Level::Memory).await;
    assert_eq!(ack.level, Level::Memory);
    assert_eq!(store.wait(&ack, Level::Memory).await.unwrap().level, Level::Memory);
    let synced = store.wait(&ack, Level::LocalSync).await.unwrap();
    assert_eq!(synced, Ack { level: Level::LocalSync, ..ack });
    assert_eq!(store.wait(&synced, Level::Memory).await.unwrap().level, Level::LocalSync);
    let refused = store.wait(&synced, Level::Root).await.unwrap_err();
    assert!(refused.code() == "bad-request" && refused.to_string().contains("the root"));
    let parent = tokio::time::timeout(Duration::from_millis(50), store.wait(&ack, Level::Parent));
    assert!(parent.await.is_err(), "there is no parent that has it");
    // What was decided at the root has a number of the root's, which says nothing here.
    let decided = Ack { level: Level::Root, hlc: ack.hlc, seq: u64::MAX };
    for level in [Level::LocalSync, Level::Parent, Level::Root] {
        assert_eq!(store.wait(&decided, level).await.unwrap(), decided);
    }
}

#[tokio::test]
async fn the_root_is_its_own_parent() {
    let store = memory().await;
    store.create_table(&stats()).await.unwrap();
    for level in [Level::Memory, Level::LocalSync, Level::Parent, Level::Root] {
        let ack = one_row(&store, level).await;
        assert_eq!(ack.level, level);
        assert_eq!(store.wait(&ack, Level::Root).await.unwrap().level, Level::Root);
    }
}

/// `memory` promises nothing against a crash; what is synced after it takes it along.
#[tokio::test]
async fn a_write_in_memory_may_be_lost_and_one_that_is_synced_after_it_is_not_alone() {
    let machine = Machine::new(1);
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    // Nothing gets to a disk that refuses, and who asked for no disk does not hear of it.
    machine.disk.trouble(Trouble::Everything);
    one_row(&store, Level::Memory).await;
    assert!(store.get("stats", &row! {"k": 1}).await.unwrap().is_some());
    let crashed = machine.disk.crash(|| Fate::Kept);
    crashed.trouble(Trouble::None);
    let after = Machine { disk: crashed, ..machine.clone() };
    let lost = after.open(Config::new("", "cloud")).await.unwrap();
    assert!(lost.get("stats", &row! {"k": 1}).await.unwrap().is_none());
    machine.disk.trouble(Trouble::None);
    let taken = || async { store.put("stats", &[row! {"k": 2}]).await.is_ok() };
    eventually("writes are taken again", taken).await;
    let after = Machine { disk: machine.disk.crash(|| Fate::Lost), ..machine.clone() };
    let kept = after.open(Config::new("", "cloud")).await.unwrap();
    assert_eq!(kept.scan("stats", Scan::default()).await.unwrap().rows.len(), 2);
}
