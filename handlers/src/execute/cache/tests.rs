use std::sync::atomic::AtomicBool;

use super::*;

fn put(cache: &Cache, digest: &Digest) -> PathBuf {
    let path = cache.put_compiled(digest, "e1", b"machine code").unwrap();
    cache.seal_compiled(digest, "e1").unwrap();
    path
}

#[test]
fn what_changed_on_disk_is_not_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    let digest = Digest::of(b"source");
    let source = cache.put_source(&digest, b"source").unwrap();
    let compiled = put(&cache, &digest);

    assert_eq!(cache.source(&digest).unwrap(), b"source");
    assert_eq!(cache.compiled(&digest, "e1"), Ok(Some(compiled.clone())));
    assert_eq!(cache.compiled(&digest, "e2"), Ok(None), "another engine's code");

    fs::write(&source, b"sourcE").unwrap();
    fs::write(&compiled, b"machine codE").unwrap();
    assert!(cache.source(&digest).is_none());
    assert!(cache.compiled(&digest, "e1").unwrap_err().contains("its seal says \"bytes"));
}

#[test]
fn a_compiled_file_without_its_seal_is_not_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    let digest = Digest::of(b"source");
    let compiled = cache.put_compiled(&digest, "e1", b"machine code").unwrap();
    assert_eq!(cache.compiled(&digest, "e1"), Err("it has no seal".into()), "nobody tried it");
    cache.seal_compiled(&digest, "e1").unwrap();
    assert_eq!(cache.compiled(&digest, "e1"), Ok(Some(compiled.clone())));
    fs::remove_file(seal_path(&compiled)).unwrap();
    assert_eq!(cache.compiled(&digest, "e1"), Err("it has no seal".into()));
}

#[test]
fn only_what_is_small_and_beyond_doubt_is_at_hand() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [cache, other] = dirs.each_ref().map(|dir| Cache::open(dir.path()).unwrap());
    let digest = Digest::of(b"source");
    let compiled = put(&cache, &digest);
    let seal = || {
        // A seal of the same step of the clock vouches for nothing.
        std::thread::sleep(std::time::Duration::from_millis(30));
        cache.seal_compiled(&digest, "e1").unwrap();
    };
    seal();
    assert_eq!(cache.at_hand(&digest, "e1"), Some(compiled.clone()));
    assert_eq!(cache.at_hand(&digest, "e2"), None, "another engine's code");
    assert_eq!(cache.at_hand(&Digest::of(b"another"), "e1"), None);

    let foreign = other.compiled_path(&digest, "e1");
    for [from, to] in [[&compiled, &foreign], [&seal_path(&compiled), &seal_path(&foreign)]] {
        fs::copy(from, to).unwrap();
    }
    assert_eq!(other.at_hand(&digest, "e1"), None, "another node's seal");
    fs::write(&compiled, b"machine codE").unwrap();
    assert_eq!(cache.at_hand(&digest, "e1"), None, "it has changed");
    let file = File::options().write(true).open(&compiled).unwrap();
    file.set_len(AT_HAND_BYTES_MAX + 1).unwrap();
    seal();
    assert_eq!(cache.at_hand(&digest, "e1"), None, "it is large");
    assert!(cache.compiled(&digest, "e1").unwrap().is_some());
    fs::remove_file(seal_path(&compiled)).unwrap();
    file.set_len(12).unwrap();
    assert_eq!(cache.at_hand(&digest, "e1"), None, "it has no seal");
}

#[test]
fn the_folder_is_its_owners_alone_and_removal_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(&dir.path().join("cache")).unwrap();
    let mode = fs::metadata(dir.path().join("cache/compiled")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let digest = Digest::of(b"source");
    cache.put_source(&digest, b"source").unwrap();
    put(&cache, &digest);
    cache.unpack(&digest, "main.py", b"pass").unwrap();
    cache.remove(&digest).unwrap();
    for folder in ["source", "compiled", "unpacked"] {
        let left = fs::read_dir(dir.path().join("cache").join(folder)).unwrap().count();
        assert_eq!(left, 0, "{folder}");
    }
}

/// A compiler that is not done yet, or gives up what it made, changes the folder meanwhile.
#[test]
fn files_may_come_and_go_while_code_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    let digest = Digest::of(b"source");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let _ = cache.put_compiled(&digest, "e1", b"machine code");
                let _ = cache.seal_compiled(&digest, "e1");
                cache.remove_compiled(&digest, "e1");
            }
        });
        let removed: Vec<_> = (0..2_000).map(|_| cache.remove(&digest)).collect();
        is_over.store(true, Ordering::Relaxed);
        removed.into_iter().for_each(|removed| removed.unwrap());
    });
}

#[test]
fn a_file_that_was_copied_is_read_and_sealed_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    let digest = Digest::of(b"source");
    let compiled = put(&cache, &digest);
    let seal = || fs::read_to_string(seal_path(&compiled)).unwrap();
    let before = seal();

    let replace = |bytes: &[u8]| {
        fs::write(dir.path().join("copy"), bytes).unwrap();
        fs::rename(dir.path().join("copy"), &compiled).unwrap();
    };
    replace(b"machine code");
    assert_eq!(cache.compiled(&digest, "e1"), Ok(Some(compiled.clone())));
    assert_ne!(seal(), before);
    replace(b"machine codE");
    assert!(cache.compiled(&digest, "e1").unwrap_err().contains("its seal says \"bytes"));
}

#[test]
fn what_changes_in_the_moment_of_sealing_is_found_out() {
    for _ in 0..50 {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let digest = Digest::of(b"source");
        let compiled = put(&cache, &digest);
        fs::write(&compiled, b"machine codE").unwrap();
        assert!(cache.compiled(&digest, "e1").is_err());
    }
}

#[test]
fn a_file_that_nobody_touched_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    let digest = Digest::of(b"source");
    let compiled = put(&cache, &digest);
    let file = File::open(&compiled).unwrap().metadata().unwrap();
    // The seal of other bytes: whoever reads the file notices.
    let lie = Sealed { bytes: Digest::of(b"else"), file: FileId::of(&file) };
    std::thread::sleep(std::time::Duration::from_millis(30));
    cache.seal(&digest, "e1", &lie).unwrap();
    assert_eq!(cache.compiled(&digest, "e1"), Ok(Some(compiled)));
    assert!(cache.check_compiled(&digest, "e1").is_err());
}

#[test]
fn of_all_code_only_what_is_used_stays_and_what_runtimes_need() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    let [used, unused, own] = [b"used".as_slice(), b"unused", b"own"].map(|bytes| {
        let digest = Digest::of(bytes);
        cache.unpack(&digest, "file", bytes).unwrap();
        if bytes != b"own" {
            cache.put_source(&digest, bytes).unwrap();
            put(&cache, &digest);
        }
        digest
    });
    cache.retain(|digest| *digest == used).unwrap();
    let kept = |digest| (cache.source(digest).is_some(), cache.compiled(digest, "e1").unwrap());
    assert!(matches!(kept(&used), (true, Some(_))));
    assert_eq!(kept(&unused), (false, None));
    let unpacked = [&used, &unused, &own].map(|digest| cache.unpacked(digest).exists());
    assert_eq!(unpacked, [true, false, true]);
}
