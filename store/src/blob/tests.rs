use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;

use super::kept::{Blobs, object};
use super::*;
use crate::objects::Objects;
use crate::objects::faulty::Faulty;
use crate::{Config, lock};

#[test]
fn keys_come_back_from_text() {
    let key = BlobKey::of("cloud.east", b"abc");
    let text = key.to_string();
    // FIPS 180-2, appendix B.1.
    assert_eq!(
        text,
        "cloud.east/sha256-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(text.parse::<BlobKey>().unwrap(), key);
    for bad in ["", "cloud", "Cloud/sha256-00", &text[..80], &text.to_uppercase()] {
        assert!(bad.parse::<BlobKey>().is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn private_blobs_share_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = alone(dir.path()).await;
    let bytes = Bytes::from_static(b"frame");
    let shared = store.put_blob(bytes.clone()).await.unwrap();
    let first = store.put_private_blob("doorcam", bytes.clone()).await.unwrap();
    let second = store.put_private_blob("doorcam", bytes.clone()).await.unwrap();
    assert!(first != second && shared.owner().is_none());
    assert_eq!(first.owner(), Some("doorcam"));
    let text = first.to_string();
    assert_eq!(text.parse::<BlobKey>().unwrap(), first);
    let dot = text.rfind('.').unwrap();
    for bad in [
        &text[..dot],
        &text[..text.len() - 1],
        &format!("{text}.x"),
        &text.replace("doorcam", ""),
        &text.replace("doorcam", "Door/cam"),
    ] {
        assert!(bad.parse::<BlobKey>().is_err(), "{bad:?}");
    }
    assert!(store.put_private_blob("door.cam", bytes).await.is_err());
    let both = [first.clone(), shared.clone()];
    let error = store.remove_blobs_later(&both, Duration::ZERO).await.unwrap_err().to_string();
    assert_eq!(error, format!("blob {shared} may be others' as well"));
    assert_eq!(store.remove_blob(&first).await.unwrap(), Removed::Blob);
    assert_eq!(store.get_blob(&first).await.unwrap(), None);
    for key in [&shared, &second] {
        assert_eq!(store.get_blob(key).await.unwrap().unwrap(), "frame");
    }
}

#[tokio::test]
async fn private_blobs_are_removed_when_they_are_due_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let began_ms = 1_700_000_000_000;
    let clock = Arc::new(AtomicU64::new(began_ms));
    let open = async || {
        let clock = clock.clone();
        let wall_clock = Arc::new(move || clock.load(Ordering::Relaxed));
        let config = Config { wall_clock, ..Config::new(dir.path(), "cloud.east") };
        EdgeStore::open(config).await.unwrap()
    };
    let store = open().await;
    let mut keys = vec![];
    for _ in 0..3 {
        keys.push(store.put_private_blob("doorcam", Bytes::from_static(b"frame")).await.unwrap());
    }
    store.remove_blobs_later(&keys[..2], Duration::from_secs(60)).await.unwrap();
    store.remove_blobs_later(&[], Duration::ZERO).await.unwrap();
    store.close().await;
    drop(store);
    let store = open().await;
    for (now_ms, there) in [(59_999, [true; 3]), (60_000, [false, false, true])] {
        clock.store(began_ms + now_ms, Ordering::Relaxed);
        store.remove_due_blobs().await.unwrap();
        for (key, there) in keys.iter().zip(there) {
            assert_eq!(store.has_blob(key).await.unwrap(), there, "{key} after {now_ms} ms");
        }
    }
    assert!(store.inner.engine.objects.list("r").await.unwrap().is_empty());
    // After a time when nothing was due, too.
    store.remove_blobs_later(&keys[2..], Duration::from_secs(10)).await.unwrap();
    for (now_ms, there) in [(69_999, true), (70_000, false)] {
        clock.store(began_ms + now_ms, Ordering::Relaxed);
        store.remove_due_blobs().await.unwrap();
        assert_eq!(store.has_blob(&keys[2]).await.unwrap(), there, "after {now_ms} ms");
    }
}

fn in_folder(dir: &std::path::Path) -> Arc<Blobs> {
    Arc::new(Blobs::new(Objects::folder(dir.to_owned()).unwrap()))
}

#[tokio::test]
async fn damage_is_reported_not_returned() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = in_folder(dir.path());
    let key = BlobKey::of("cloud", b"frame");
    blobs.put(&key, Bytes::from_static(b"frame")).await.unwrap();
    blobs.put(&key, Bytes::from_static(b"frame")).await.unwrap();
    assert_eq!(blobs.load(&key).await.unwrap().unwrap(), "frame");
    assert_eq!(blobs.load_range(&key, 1, 99).await.unwrap(), "rame");
    assert_eq!(blobs.load_range(&key, 9, 99).await.unwrap(), "");
    std::fs::write(dir.path().join(object(&key, Kept::Own)), b"fraud").unwrap();
    assert!(matches!(blobs.load(&key).await, Err(Error::Corrupt { .. })));
    assert!(matches!(blobs.load_range(&key, 1, 2).await, Err(Error::Corrupt { .. })));
    let absent = BlobKey::of("cloud", b"other");
    assert_eq!(blobs.load(&absent).await.unwrap(), None);
}

/// Ranges of large blobs as well: before one was read, afterwards, and after a restart.
#[tokio::test]
async fn ranges_of_a_damaged_blob_are_reported_not_returned() {
    const LEN: usize = 3 << 20;
    let dir = tempfile::tempdir().unwrap();
    let bytes: Bytes = (0..LEN).map(|i| (i * 31 / 7) as u8).collect();
    let key = BlobKey::of("cloud", &bytes);
    let path = dir.path().join(object(&key, Kept::Own));
    let flip = |at: usize| {
        let mut stored = std::fs::read(&path).unwrap();
        stored[at] ^= 1;
        std::fs::write(&path, stored).unwrap();
    };
    let is_damaged = |read: Result<Bytes>| {
        let error = read.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(&key.to_string()), "{error}");
    };
    let blobs = in_folder(dir.path());
    blobs.put(&key, bytes.clone()).await.unwrap();
    flip(LEN - 1);
    is_damaged(blobs.load_range(&key, 0, 10).await);
    flip(LEN - 1);
    let ends = [0, 1, 65_535, 65_536, 65_537, 1_000_000, LEN - 1, LEN, LEN + 99];
    for (start, end) in ends.iter().flat_map(|start| ends.map(|end| (*start, end))) {
        let wanted = bytes.slice(start.min(LEN)..end.clamp(start.min(LEN), LEN));
        let read = blobs.load_range(&key, start as u64, end as u64).await.unwrap();
        assert!(read == wanted, "{start}..{end}");
    }
    // What is proved already is looked at again.
    flip(70_000);
    is_damaged(blobs.load_range(&key, 69_999, 70_002).await);
    is_damaged(blobs.load_range(&key, 131_000, 131_001).await);
    assert_eq!(blobs.load_range(&key, 0, 65_536).await.unwrap(), bytes.slice(..65_536));
    is_damaged(in_folder(dir.path()).load_range(&key, 0, 10).await);
    flip(70_000);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(LEN as u64 - 1).unwrap();
    is_damaged(blobs.load_range(&key, 0, 10).await);
    is_damaged(in_folder(dir.path()).load_range(&key, 0, 10).await);
    file.set_len(1).unwrap();
    is_damaged(in_folder(dir.path()).load_range(&key, 0, 1).await);
}

async fn alone(dir: &std::path::Path) -> EdgeStore {
    EdgeStore::open(Config::new(dir, "cloud.east")).await.unwrap()
}

async fn rm(store: &EdgeStore, from: &str, key: &str) -> Result<String> {
    let request = serde_json::json!({ "key": key }).to_string();
    let answer = store.serve("rm-blob", from, request.into()).await?;
    Ok(String::from_utf8(answer.to_vec()).unwrap())
}

#[tokio::test]
async fn a_blob_is_removed_once_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = alone(dir.path()).await;
    let key = store.put_blob(Bytes::from_static(b"frame")).await.unwrap();
    let other = store.put_blob(Bytes::from_static(b"other")).await.unwrap();
    for _ in 0..2 {
        let answer = rm(&store, "", &key.to_string()).await.unwrap();
        assert_eq!(answer, format!("{{\"blob\":\"{key}\",\"removed\":\"blob\"}}"));
        assert_eq!(store.get_blob(&key).await.unwrap(), None);
        assert!(!store.has_blob(&key).await.unwrap());
    }
    assert_eq!(store.put_blob(Bytes::from_static(b"frame")).await.unwrap(), key);
    store.close().await;
    drop(store);
    let store = alone(dir.path()).await;
    assert_eq!(store.get_blob(&key).await.unwrap().unwrap(), "frame", "put again");
    assert_eq!(store.get_blob(&other).await.unwrap().unwrap(), "other");
}

#[tokio::test]
async fn what_is_no_key_and_who_may_not_remove_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let store = alone(dir.path()).await;
    let key = store.put_blob(Bytes::from_static(b"frame")).await.unwrap();
    let short = &key.to_string()[..40];
    let error = rm(&store, "", short).await.unwrap_err().to_string();
    assert_eq!(error, format!("blob key {short:?} is not <site>/sha256-<hex>"));
    let error = store.serve("rm-blob", "", Bytes::new()).await.unwrap_err().to_string();
    assert!(error.contains("key"), "{error}");
    let error = rm(&store, "cloud.east.cell1", &key.to_string()).await.unwrap_err().to_string();
    assert_eq!(error, "cloud.east.cell1 may not remove blobs of cloud.east");
    assert!(store.has_blob(&key).await.unwrap());
}

/// Refuses while it is told to, and notes what it lets go.
#[derive(Default)]
struct Needs {
    it: AtomicBool,
    gone: Mutex<Vec<String>>,
}

#[async_trait]
impl BlobKeeper for Arc<Needs> {
    async fn let_go(&self, digest: &str) -> Result<Box<dyn Send>, String> {
        if self.it.load(Ordering::Relaxed) {
            return Err("app \"doorcam\" has this code".into());
        }
        lock(&self.gone).push(digest.into());
        Ok(Box::new(()))
    }
}

#[tokio::test]
async fn what_the_program_needs_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = alone(dir.path()).await;
    let needs = Arc::new(Needs { it: true.into(), ..Needs::default() });
    store.guard_blobs(Arc::new(needs.clone())).unwrap();
    assert!(store.guard_blobs(Arc::new(needs.clone())).is_err(), "once");
    let key = store.put_blob(Bytes::from_static(b"code")).await.unwrap();
    // The same bytes under any name.
    for key in [key.clone(), BlobKey::of("cloud", b"code")] {
        let error = store.remove_blob(&key).await.unwrap_err().to_string();
        let why = "stays, since it is needed: app \"doorcam\" has this code";
        assert_eq!(error, format!("blob {key} {why}"));
    }
    assert!(store.has_blob(&key).await.unwrap());
    needs.it.store(false, Ordering::Relaxed);
    assert_eq!(store.remove_blob(&key).await.unwrap(), Removed::Blob);
    assert!(!store.has_blob(&key).await.unwrap());
    let private = store.put_private_blob("doorcam", Bytes::from_static(b"code")).await.unwrap();
    assert_eq!(store.remove_blob(&private).await.unwrap(), Removed::Blob);
    assert_eq!(*lock(&needs.gone), [key.digest()], "nobody runs what is private");
}

/// Puts and removals of the same bytes at once, some of which nobody waits for: unless a removal
/// began after the last put was acknowledged, the bytes are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_put_is_there_unless_it_was_removed_later() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = in_folder(dir.path());
    for round in 0..400u64 {
        let bytes = Bytes::from(round.to_le_bytes().to_vec());
        let key = BlobKey::of("cloud", &bytes);
        if round % 2 == 0 {
            blobs.put(&key, bytes.clone()).await.unwrap();
        }
        let tick = Arc::new(AtomicU64::new(1));
        let (put, removed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let tasks = (0..6u64).map(|i| {
            let (blobs, key, bytes) = (blobs.clone(), key.clone(), bytes.clone());
            let (tick, put, removed) = (tick.clone(), put.clone(), removed.clone());
            tokio::spawn(async move {
                for _ in 0..(round / 3 + i) % 4 {
                    tokio::task::yield_now().await;
                }
                if i % 2 == 0 {
                    blobs.put(&key, bytes).await.unwrap();
                    put.fetch_max(tick.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                    return;
                }
                removed.fetch_max(tick.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                let removing = blobs.remove(&key, Kept::Own);
                match i {
                    5 => drop(tokio::time::timeout(Duration::ZERO, removing).await),
                    _ => removing.await.unwrap(),
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        // What nobody waited for has its turn.
        blobs.remove(&key, Kept::Copy).await.unwrap();
        let is_there = blobs.load(&key).await.unwrap().is_some();
        let later = put.load(Ordering::SeqCst) > removed.load(Ordering::SeqCst);
        assert!(is_there || !later, "round {round}: put last, and gone");
    }
}

/// Nothing else runs between two polls here, so the removal has begun and not had its turn.
#[tokio::test]
async fn what_is_put_before_a_removal_has_its_turn_stays() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = in_folder(dir.path());
    let key = BlobKey::of("cloud", b"frame");
    let mut putting = Box::pin(blobs.put(&key, Bytes::from_static(b"frame")));
    assert!(futures::poll!(&mut putting).is_pending());
    let mut removing = Box::pin(blobs.remove(&key, Kept::Own));
    assert!(futures::poll!(&mut removing).is_pending());
    while futures::poll!(&mut putting).is_pending() {
        std::thread::sleep(Duration::from_millis(1));
    }
    removing.await.unwrap();
    assert!(blobs.load(&key).await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_fetched_while_it_is_removed_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = in_folder(dir.path());
    let key = BlobKey::of("cloud.east", b"frame");
    for removed in [false, true] {
        let fetch = blobs.fetch(&key);
        if removed {
            blobs.remove(&key, Kept::Copy).await.unwrap();
        }
        fetch.keep(Bytes::from_static(b"frame")).await.unwrap();
        assert_eq!(blobs.len(&key).await.unwrap().is_some(), !removed);
    }
    let own = BlobKey::of("cloud", b"frame");
    blobs.put(&own, Bytes::from_static(b"frame")).await.unwrap();
    blobs.remove(&key, Kept::Copy).await.unwrap();
    assert!(blobs.len(&own).await.unwrap().is_some(), "another site's key is no right to it");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u8),
    Remove(u8),
    Fail(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3u8).prop_map(Step::Put),
        3 => (0..3u8).prop_map(Step::Remove),
        1 => any::<bool>().prop_map(Step::Fail),
    ]
}

/// In a bucket that fails before, after and long after the effect, what was acknowledged last is
/// so, and stays so.
async fn bucket_steps(seed: u64, steps: Vec<Step>) {
    let faulty = Arc::new(Faulty::new(seed));
    let blobs = Blobs::doubting(Objects::shared(faulty.clone()), Duration::from_millis(60));
    let blobs = Arc::new(blobs);
    // Whether each is there; none if nobody was told.
    let mut model = [Some(false); 3];
    for step in steps {
        match step {
            Step::Fail(fails) => faulty.fail(if fails { 50 } else { 0 }),
            Step::Put(i) => {
                let key = BlobKey::of("cloud", &[i]);
                match blobs.put(&key, Bytes::from(vec![i])).await {
                    Ok(()) => model[i as usize] = Some(true),
                    Err(error) => {
                        assert!(error.retryable(), "{error}");
                        model[i as usize] = model[i as usize].filter(|is_there| *is_there);
                    }
                }
            }
            Step::Remove(i) => {
                let removed = blobs.remove(&BlobKey::of("cloud", &[i]), Kept::Own).await;
                model[i as usize] = removed.is_ok().then_some(false);
            }
        }
    }
    faulty.fail(0);
    tokio::time::sleep(Duration::from_millis(30)).await;
    for i in 0..3 {
        let key = BlobKey::of("cloud", &[i]);
        let is_there = blobs.load(&key).await.unwrap().is_some();
        assert!(model[i as usize].is_none_or(|model| model == is_there), "{i}: {model:?}");
        while blobs.put(&key, Bytes::from(vec![i])).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(blobs.load(&key).await.unwrap().is_some(), "it is taken again");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_bucket_that_loses_answers_loses_no_blob(
        seed in any::<u64>(),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(bucket_steps(seed, steps));
    }
}
