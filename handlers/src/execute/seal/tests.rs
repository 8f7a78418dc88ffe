use super::*;

#[test]
fn only_what_this_node_made_for_this_engine_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Sealer::open(&dir.path().join("ours")).unwrap();
    let theirs = Sealer::open(&dir.path().join("theirs")).unwrap();
    let code = Digest::of(b"source");
    let seal = ours.seal(&code, "e1", b"machine code");
    let check = |sealer: &Sealer, code: &Digest, engine: &str, bytes: &[u8], seal: &str| {
        sealer.check(code, engine, bytes, seal).err().unwrap_or_default()
    };
    assert_eq!(check(&ours, &code, "e1", b"machine code", &seal), "");
    let again = Sealer::open(&dir.path().join("ours")).unwrap();
    assert_eq!(check(&again, &code, "e1", b"machine code", &seal), "");

    let foreign = check(&theirs, &code, "e1", b"machine code", &seal);
    assert_eq!(foreign, "it was not sealed by this node");
    let engine = check(&ours, &code, "e2", b"machine code", &seal);
    assert_eq!(engine, "its seal says \"engine e1\", and \"engine e2\" is wanted");
    assert!(check(&ours, &code, "e1", b"machine codE", &seal).contains("\"bytes sha256-"));
    let machine = seal.replace(std::env::consts::ARCH, "pdp11");
    assert!(check(&ours, &code, "e1", b"machine code", &machine).contains("machine pdp11"));
    let other = check(&ours, &Digest::of(b"other"), "e1", b"machine code", &seal);
    assert_eq!(other, "it was not sealed by this node");
    for broken in ["", "x", "engine e1\n", &seal[..seal.len() / 2]] {
        assert_ne!(check(&ours, &code, "e1", b"machine code", broken), "", "{broken:?}");
    }
}

#[test]
fn a_key_is_made_once_and_is_the_owners() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    Sealer::open(&file).unwrap();
    let first = fs::read(&file).unwrap();
    Sealer::open(&file).unwrap();
    assert_eq!(fs::read(&file).unwrap(), first);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&file, b"short").unwrap();
    assert!(Sealer::open(&file).is_err());
}
