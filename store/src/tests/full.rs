//! Disks that are full or take no writes, from before the store is opened on. Real ones are small
//! file systems in memory, which a process of its own mounts where nobody else sees them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// Set for a process of its own, to the folder where its small disk is.
const DISK: &str = "EDGESCALE_TEST_SMALL_DISK";
const DISK_BYTES: u64 = 4 << 20;

/// The small disk, in the process that has one; elsewhere none, and the test is run in such a
/// process.
fn small_disk(test: &str) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os(DISK) {
        return Some(dir.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={DISK_BYTES} tmpfs \"$0\"");
    let within = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(dir.path());
        command
    };
    if !within(&mount).output().is_ok_and(|tried| tried.status.success()) {
        aloud::skipped!("file systems cannot be mounted here");
        return None;
    }
    let run = within(&format!("{mount} && exec \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("tests::full::{test}"), "--nocapture"])
        .env(DISK, dir.path())
        .output()
        .unwrap();
    let said = [run.stdout, run.stderr].concat();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&said));
    None
}

fn mount_again(dir: &Path, how: &str) {
    let mounted = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(dir).output();
    let mounted = mounted.unwrap();
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
}

/// Leaves no room on the disk.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    for bytes in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![1; bytes]).is_ok() {}
    }
}

/// A store with rows in a segment and in the log, which ends as the log of a node that was killed
/// does: with bytes that were written ahead, and a write that was not finished.
async fn left_behind(dir: &Path) {
    let store = EdgeStore::open(Config::new(dir, "cloud")).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    store.put("stats", &[row! {"k": 1, "a": 1}]).await.unwrap();
    store.flush().await.unwrap();
    store.put("stats", &[row! {"k": 2, "a": 2}]).await.unwrap();
    store.close().await;
    let mut logs: Vec<PathBuf> = wal_files(dir, "wal");
    logs.sort();
    let last = logs.pop().unwrap();
    let mut bytes = std::fs::read(&last).unwrap();
    bytes.extend(std::iter::repeat_n(7, 30));
    bytes.extend(std::iter::repeat_n(0, 5_000));
    std::fs::write(&last, bytes).unwrap();
    // With one, the log would begin on a full disk as well.
    wal_files(dir, "spare").iter().for_each(|spare| std::fs::remove_file(spare).unwrap());
}

fn wal_files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("wal")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|e| e == extension)).collect()
}

/// Reads go on and writes are refused, until the disk takes them; then they are taken.
async fn reads_then_writes(store: &EdgeStore, relieve: impl FnOnce()) {
    let read = async || {
        let rows = store.scan("stats", Scan::default()).await.unwrap().rows;
        rows.iter().map(|row| row["a"].clone()).collect::<Vec<Value>>()
    };
    assert_eq!(read().await, [1.into(), 2.into()]);
    assert!(store.get("stats", &row! {"k": 2}).await.unwrap().is_some());
    store.create_table(&stats()).await.expect("it is there, so nothing is written");
    assert!(store.status().refusing.is_some());
    for _ in 0..3 {
        let error = store.put("stats", &[row! {"k": 3, "a": 3}]).await.unwrap_err();
        assert!(error.code() == "read-only" && error.retryable(), "{error}");
        assert!(error.to_string().contains("reads go on"), "{error}");
    }
    assert_eq!(read().await, [1.into(), 2.into()], "what was refused is not there");
    relieve();
    eventually("writes are taken again", || async {
        store.put("stats", &[row! {"k": 3, "a": 3}]).await.is_ok()
    })
    .await;
    assert_eq!(store.status().refusing, None);
    store.flush().await.unwrap();
    assert_eq!(read().await, [1.into(), 2.into(), 3.into()]);
}

/// The same, and after another opening.
async fn opens_and_recovers(dir: &Path, relieve: impl FnOnce()) {
    let store = EdgeStore::open(Config::new(dir, "cloud")).await.unwrap();
    reads_then_writes(&store, relieve).await;
    store.close().await;
    let store = EdgeStore::open(Config::new(dir, "cloud")).await.unwrap();
    assert_eq!(store.scan("stats", Scan::default()).await.unwrap().rows.len(), 3);
    assert_eq!(store.status().torn_bytes, 0, "what was torn was cut off");
    store.close().await;
}

#[tokio::test]
async fn a_store_opens_on_a_full_disk_and_takes_writes_when_there_is_room() {
    let Some(dir) = small_disk("a_store_opens_on_a_full_disk_and_takes_writes_when_there_is_room")
    else {
        return;
    };
    let store = dir.join("store");
    left_behind(&store).await;
    let ballast = dir.join("ballast");
    fill(&ballast);
    opens_and_recovers(&store, || {
        // What the attempts to begin the log left took no room that it needs.
        std::fs::remove_file(&ballast).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_store_opens_on_a_read_only_disk_and_takes_writes_when_that_does() {
    let Some(dir) = small_disk("a_store_opens_on_a_read_only_disk_and_takes_writes_when_that_does")
    else {
        return;
    };
    let store = dir.join("store");
    left_behind(&store).await;
    std::fs::write(store.join("objects/unfinished/0"), b"left by a crash").unwrap();
    mount_again(&dir, "ro");
    opens_and_recovers(&store, || mount_again(&dir, "rw")).await;
    assert!(!store.join("objects/unfinished/0").exists());
}

#[tokio::test]
async fn a_store_opens_in_a_read_only_folder() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    left_behind(dir.path()).await;
    let allow = |mode| {
        let files = wal_files(dir.path(), "wal").into_iter().map(|file| (file, mode & 0o666));
        let folders =
            ["objects/unfinished", "objects", "wal", ""].map(|f| (dir.path().join(f), mode));
        for (path, mode) in files.chain(folders).chain([(dir.path().join("lock"), mode & 0o666)]) {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    allow(0o555);
    if std::fs::write(dir.path().join("probe"), b"").is_ok() {
        aloud::skipped!("this user writes to read-only folders");
        return;
    }
    opens_and_recovers(dir.path(), || allow(0o755)).await;
}

/// Whatever the disk refuses, and whatever is left of an unfinished write.
#[tokio::test]
async fn a_store_opens_on_a_disk_that_refuses_and_loses_nothing() {
    for seed in 1..30 {
        let mut dice = Dice(seed);
        let mut machine = Machine::new(1);
        let store = machine.open(Config::new("", "cloud")).await.unwrap();
        store.create_table(&stats()).await.unwrap();
        store.put("stats", &[row! {"k": 1, "a": 1}]).await.unwrap();
        store.flush().await.unwrap();
        store.put("stats", &[row! {"k": 2, "a": 2}]).await.unwrap();
        machine.disk = machine.disk.crash_by(|n| dice.below(n));
        machine.disk.trouble(dice.of(&[Trouble::Append, Trouble::Sync, Trouble::Everything]));
        let store = machine.open(Config::new("", "cloud")).await.unwrap();
        let disk = machine.disk.clone();
        reads_then_writes(&store, || disk.trouble(Trouble::None)).await;
        machine.disk = machine.disk.crash_by(|n| dice.below(n));
        let store = machine.open(Config::new("", "cloud")).await.unwrap();
        let rows = store.scan("stats", Scan::default()).await.unwrap().rows;
        assert_eq!(rows.len(), 3, "seed {seed}");
    }
}

#[tokio::test]
async fn what_could_not_be_written_takes_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::folder(dir.path().join("objects")).unwrap();
    let unfinished =
        |dir: &Path| std::fs::read_dir(dir.join("objects/unfinished")).unwrap().count();
    objects.create("a", Bytes::from_static(b"a")).await.unwrap();
    // There is a file where its folder is to be.
    objects.create("a/b", Bytes::from_static(b"b")).await.unwrap_err();
    assert_eq!(unfinished(dir.path()), 0);

    let Some(dir) = small_disk("what_could_not_be_written_takes_no_room") else { return };
    let objects = Objects::folder(dir.join("objects")).unwrap();
    let bytes = |part: u64| Bytes::from(vec![1; (DISK_BYTES / part) as usize]);
    for attempt in 0..5 {
        objects.create(&format!("large{attempt}"), bytes(1)).await.unwrap_err();
        assert_eq!(unfinished(&dir), 0, "attempt {attempt}");
    }
    objects.create("small", bytes(2)).await.unwrap();
    assert_eq!(objects.read("small").await.unwrap(), Some(bytes(2)));
}
