use super::*;

#[test]
fn what_changed_on_disk_is_not_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    let digest = Digest::of(b"source");
    let source = cache.put_source(&digest, b"source").unwrap();
    let compiled = cache.put_compiled(&digest, "e1", b"machine code").unwrap();

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
    fs::remove_file(seal_path(&compiled)).unwrap();
    assert_eq!(cache.compiled(&digest, "e1"), Err("it has no seal".into()));
}

#[test]
fn the_folder_is_its_owners_alone_and_removal_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(&dir.path().join("cache")).unwrap();
    let mode = fs::metadata(dir.path().join("cache/compiled")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let digest = Digest::of(b"source");
    cache.put_source(&digest, b"source").unwrap();
    cache.put_compiled(&digest, "e1", b"machine code").unwrap();
    cache.unpack(&digest, "main.py", b"pass").unwrap();
    cache.remove(&digest).unwrap();
    for folder in ["source", "compiled", "unpacked"] {
        let left = fs::read_dir(dir.path().join("cache").join(folder)).unwrap().count();
        assert_eq!(left, 0, "{folder}");
    }
}
