use store::{BlobKey, Config};

use super::*;

async fn open(dir: &std::path::Path) -> EdgeStore {
    EdgeStore::open(Config::new(dir, "cloud")).await.unwrap()
}

async fn take(
    uploads: &Arc<Uploads>,
    store: &EdgeStore,
    header: &str,
    part: &'static [u8],
) -> Result<String, String> {
    let answer = uploads.take(store, header, Bytes::from_static(part)).await;
    let text = |answer: Response| String::from_utf8(answer.payload.to_vec()).unwrap();
    answer.map(text).map_err(|refusal| refusal.message)
}

#[tokio::test]
async fn a_blob_comes_in_parts_and_wrong_ones_end_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, uploads) = (open(dir.path()).await, Arc::new(Uploads::default()));
    let take = async |header: &str, part: &'static [u8]| take(&uploads, &store, header, part).await;
    let key = BlobKey::of("cloud", b"a large frame");
    for _ in 0..2 {
        assert_eq!(take("one 0", b"a la").await.unwrap(), r#"{"bytes":4}"#);
        assert!(take("two 0 end", b"other").await.unwrap().contains("/sha256-"));
        assert_eq!(take("one 4", b"rge ").await.unwrap(), r#"{"bytes":8}"#);
        let answer = take("one 8 end", b"frame").await.unwrap();
        assert_eq!(answer, format!(r#"{{"key":"{key}"}}"#));
    }
    assert_eq!(store.get_blob(&key).await.unwrap().unwrap(), "a large frame");
    let gone = "upload one is not under way; begin it again";
    assert_eq!(take("one 13", b"more").await.unwrap_err(), gone);
    take("one 0", b"a la").await.unwrap();
    let error = take("one 5", b"ge").await.unwrap_err();
    assert_eq!(error, "upload one goes on at byte 4; begin it again");
    assert_eq!(take("one 4", b"rge ").await.unwrap_err(), gone, "a wrong part ends it");
    for header in ["", "one", "one x", "one 0 END", "one 0 end now", " 0", &"x".repeat(70)] {
        assert!(take(header, b"x").await.unwrap_err().contains("ID OFFSET"), "{header:?}");
    }
    let unfinished = dir.path().join("objects/unfinished");
    assert_eq!(std::fs::read_dir(unfinished).unwrap().count(), 0, "nothing is left behind");
}

#[tokio::test]
async fn no_more_are_taken_at_once_than_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let (store, uploads) = (open(dir.path()).await, Arc::new(Uploads::default()));
    for id in 0..UPLOADS_MAX {
        take(&uploads, &store, &format!("{id} 0"), b"x").await.unwrap();
    }
    let error = take(&uploads, &store, "more 0", b"x").await.unwrap_err();
    assert_eq!(error, "16 blobs are being uploaded");
    take(&uploads, &store, "3 1 end", b"y").await.unwrap();
    take(&uploads, &store, "more 0", b"x").await.unwrap();
}
