use super::*;

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
async fn damage_is_reported_not_returned() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::folder(dir.path().to_owned()).unwrap();
    let key = BlobKey::of("cloud", b"frame");
    store(&objects, &key, Bytes::from_static(b"frame")).await.unwrap();
    store(&objects, &key, Bytes::from_static(b"frame")).await.unwrap();
    assert_eq!(load(&objects, &key).await.unwrap().unwrap(), "frame");
    assert_eq!(load_range(&objects, &key, 1, 99).await.unwrap(), "rame");
    assert_eq!(load_range(&objects, &key, 9, 99).await.unwrap(), "");
    std::fs::write(dir.path().join(key.object()), b"fraud").unwrap();
    assert!(matches!(load(&objects, &key).await, Err(Error::Corrupt { .. })));
    let absent = BlobKey::of("cloud", b"other");
    assert_eq!(load(&objects, &absent).await.unwrap(), None);
}
