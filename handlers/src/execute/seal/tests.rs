use super::*;

#[test]
fn only_what_this_node_made_for_this_engine_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Sealer::open(&dir.path().join("ours")).unwrap();
    let theirs = Sealer::open(&dir.path().join("theirs")).unwrap();
    let code = Digest::of(b"source");
    let file = fs::metadata(dir.path().join("ours")).unwrap();
    let sealed = Sealed { bytes: Digest::of(b"machine code"), file: FileId::of(&file) };
    let seal = ours.seal(&code, "e1", &sealed);
    assert_eq!(ours.open_seal(&code, "e1", &seal), Ok(sealed.clone()));
    let again = Sealer::open(&dir.path().join("ours")).unwrap();
    assert_eq!(again.open_seal(&code, "e1", &seal), Ok(sealed));

    let check = |sealer: &Sealer, code: &Digest, engine: &str, seal: &str| {
        sealer.open_seal(code, engine, seal).expect_err("it is refused")
    };
    let unsealed = "it was not sealed by this node";
    assert_eq!(check(&theirs, &code, "e1", &seal), unsealed);
    let engine = check(&ours, &code, "e2", &seal);
    assert_eq!(engine, "its seal says \"engine e1\", and \"engine e2\" is wanted");
    let machine = seal.replace(std::env::consts::ARCH, "pdp11");
    assert!(check(&ours, &code, "e1", &machine).contains("machine pdp11"));
    assert_eq!(check(&ours, &Digest::of(b"other"), "e1", &seal), unsealed);
    let bytes = seal.replace(Digest::of(b"machine code").as_str(), Digest::of(b"x").as_str());
    assert_eq!(check(&ours, &code, "e1", &bytes), unsealed);
    assert_eq!(check(&ours, &code, "e1", &seal.replace("file ", "file 1")), unsealed);
    for broken in ["", "x", "engine e1\n", &seal[..seal.len() / 2]] {
        check(&ours, &code, "e1", broken);
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
