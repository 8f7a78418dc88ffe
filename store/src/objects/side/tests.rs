use std::sync::Arc;

use object_store::memory::InMemory;

use super::*;

async fn side_of(objects: &Objects, parts: &[&'static str]) -> Side {
    let mut side = objects.side().await.unwrap();
    for part in parts {
        side.write(Bytes::from_static(part.as_bytes())).await.unwrap();
    }
    side
}

async fn comes_bit_by_bit(objects: &Objects) {
    let side = side_of(objects, &["a ", "", "frame"]).await;
    assert!(objects.list("b").await.unwrap().is_empty(), "it has no name yet");
    objects.create_of("b/c/d", side).await.unwrap();
    assert_eq!(objects.read("b/c/d").await.unwrap().unwrap(), "a frame");
    let again = side_of(objects, &["another"]).await;
    objects.create_of("b/c/d", again).await.unwrap();
    assert_eq!(objects.read("b/c/d").await.unwrap().unwrap(), "a frame", "what is there stays");
    objects.create_of("b/empty", side_of(objects, &[]).await).await.unwrap();
    assert_eq!(objects.read("b/empty").await.unwrap().unwrap(), "");
}

#[tokio::test]
async fn objects_come_bit_by_bit() {
    comes_bit_by_bit(&Objects::shared(Arc::new(InMemory::new()))).await;
    let spool = tempfile::tempdir().unwrap();
    let spooling = Objects::shared(Arc::new(InMemory::new())).spooling(spool.path().join("new"));
    comes_bit_by_bit(&spooling).await;
    assert!(side_of(&spooling, &["waits"]).await.into_bytes().is_none(), "not in memory");
    assert_eq!(std::fs::read_dir(spool.path().join("new")).unwrap().count(), 0);
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::folder(dir.path().to_owned()).unwrap();
    comes_bit_by_bit(&objects).await;
    drop(side_of(&objects, &["given up"]).await);
    let side = side_of(&objects, &["no such name"]).await;
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert!(objects.create_of("file/b", side).await.is_err());
    assert!(side_of(&objects, &["in memory"]).await.into_bytes().is_none());
    let left = std::fs::read_dir(dir.path().join(UNFINISHED)).unwrap().count();
    assert_eq!(left, 0, "nothing is left behind");
}
