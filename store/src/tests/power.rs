//! A store in a folder when the power goes, at every sync of its objects: its log is let go of on
//! the strength of them.

use std::path::Path;

use super::*;
use crate::blob::BlobKey;
use crate::objects::power::Medium;
use crate::runtime::seeded::by_seed;

/// What a store was told, and must still be so.
#[derive(Default)]
struct Known {
    rows: i64,
    blobs: Vec<BlobKey>,
    removed: Vec<BlobKey>,
}

fn picture(i: i64) -> Vec<u8> {
    format!("picture {i}").repeat(50).into_bytes()
}

/// Whole, and one of them bit by bit.
async fn put_picture(store: &EdgeStore, i: i64) -> Result<BlobKey> {
    let bytes = picture(i);
    if i != 1 {
        return store.put_blob(bytes.into()).await;
    }
    let mut blob = store.begin_blob().await?;
    for part in bytes.chunks(200) {
        blob.write(part.to_vec().into()).await?;
    }
    blob.finish().await
}

async fn open(disk: &MemDisk, folder: &Path) -> Result<EdgeStore> {
    let objects = Objects::folder(folder.to_owned())?;
    let config = Config { segments_max: 2, ..Config::new("", "cloud") };
    Machine { disk: disk.clone(), objects, id: 5 }.open(config).await
}

/// Lives until the power goes.
async fn live(store: &EdgeStore, medium: &Medium) -> Known {
    let mut known = Known::default();
    store.create_table(&motion()).await.unwrap();
    for i in 0..6 {
        for camera in ["back", "front"] {
            let row = row! {"camera": camera, "at": i, "score": i, "jpeg": "x"};
            store.put("motion", &[row]).await.unwrap();
        }
        known.rows = i + 1;
        if let Ok(key) = put_picture(store, i).await {
            known.blobs.push(key);
        }
        // Nothing that is not there any more is read: it fails, or it does not.
        let _ = store.flush().await;
        if i % 3 == 2 && !medium.is_off() {
            let key = known.blobs.remove(0);
            // Without an answer it may be there or not.
            if store.remove_blob(&key).await.is_ok() {
                known.removed.push(key);
            }
        }
        if medium.is_off() {
            break;
        }
    }
    known
}

async fn check(store: &EdgeStore, known: &Known) {
    for camera in ["back", "front"] {
        for at in 0..known.rows {
            let row = store.get("motion", &row! {"camera": camera, "at": at}).await.unwrap();
            let row = row.unwrap_or_else(|| panic!("row {at} of {camera} is lost"));
            assert_eq!(row["score"], Value::Float(at as f64));
        }
    }
    for key in &known.blobs {
        assert!(store.get_blob(key).await.unwrap().is_some(), "blob {key} is lost");
    }
    for key in &known.removed {
        assert_eq!(store.get_blob(key).await.unwrap(), None, "blob {key} is there again");
    }
}

#[test]
fn objects_survive_a_loss_of_power_at_any_sync() {
    let mut dice = Dice(crate::entropy() | 1);
    println!("seed {}", dice.0);
    by_seed(dice.0, async {
        for moment in 0.. {
            let mut was_off = false;
            for fate in 0..4 {
                let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
                let (medium, disk) = (Medium::under(before.path()), MemDisk::default());
                let store = open(&disk, before.path()).await.unwrap();
                medium.power_for(moment);
                let known = live(&store, &medium).await;
                was_off |= medium.is_off();
                let disk = disk.crash_by(|n| dice.below(n));
                medium.crash(after.path(), || match fate {
                    0 => false,
                    1 => true,
                    _ => dice.below(2) == 0,
                });
                drop(store);
                let store = open(&disk, after.path()).await.unwrap();
                check(&store, &known).await;
                // And it goes on.
                store.put_blob("more".into()).await.unwrap();
                store.flush().await.unwrap();
            }
            if !was_off {
                assert!(moment > 30, "a life of {moment} syncs is none");
                return;
            }
        }
    });
}

/// Who made an object may be killed before its name is synced. Whoever is told later that it is
/// there, finds it there after that.
#[tokio::test]
async fn an_object_of_somebody_killed_is_synced_by_the_next() {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let medium = Medium::under(before.path());
    let objects = Objects::folder(before.path().to_owned()).unwrap();
    medium.power_for(1);
    let killed = objects.create_synced("b/00/a-blob", "bytes".into()).await;
    assert!(killed.is_err() && before.path().join("b/00/a-blob").exists(), "{killed:?}");
    medium.power_for(u64::MAX);
    objects.create_synced("b/00/a-blob", "bytes".into()).await.unwrap();
    medium.crash(after.path(), || false);
    let objects = Objects::folder(after.path().to_owned()).unwrap();
    assert_eq!(objects.read("b/00/a-blob").await.unwrap().unwrap(), "bytes");
}

/// The same of folders that somebody made.
#[tokio::test]
async fn folders_of_somebody_killed_are_synced_by_the_next() {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let medium = Medium::under(before.path());
    let objects = Objects::folder(before.path().to_owned()).unwrap();
    medium.power_for(1);
    let killed = objects.create("t/motion/all/m/1", "first".into()).await;
    assert!(killed.is_err() && before.path().join("t/motion/all/m/1").exists(), "{killed:?}");
    medium.power_for(u64::MAX);
    let objects = Objects::folder(before.path().to_owned()).unwrap();
    for number in [2, 3] {
        let name = format!("t/motion/all/m/{number}");
        objects.create(&name, "later".into()).await.unwrap();
    }
    medium.crash(after.path(), || false);
    let objects = Objects::folder(after.path().to_owned()).unwrap();
    for number in [2, 3] {
        let name = format!("t/motion/all/m/{number}");
        assert_eq!(objects.read(&name).await.unwrap().expect("it was synced"), "later");
    }
}
