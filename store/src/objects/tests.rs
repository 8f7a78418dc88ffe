use object_store::memory::InMemory;

use super::*;

async fn conforms(objects: Objects) {
    assert_eq!(objects.read("a/b").await.unwrap(), None);
    assert_eq!(objects.len("a/b").await.unwrap(), None);
    assert_eq!(objects.create("a/b", "one".into()).await.unwrap(), Created::New);
    assert_eq!(objects.create("a/b", "two".into()).await.unwrap(), Created::Existed);
    assert_eq!(objects.create("a/c/d", "three".into()).await.unwrap(), Created::New);
    assert_eq!(objects.read("a/b").await.unwrap().unwrap(), "one");
    assert_eq!(objects.len("a/c/d").await.unwrap(), Some(5));
    assert_eq!(objects.read_range("a/c/d", 1, 3).await.unwrap(), "hr");
    assert_eq!(objects.list("a").await.unwrap(), ["a/b", "a/c/d"]);
    assert!(objects.list("nothing").await.unwrap().is_empty());
    let names = ["a/c/d", "a/x", "a/b"].map(String::from).to_vec();
    let bytes = |text: &str| Some(Bytes::from(text.to_owned()));
    assert_eq!(objects.read_all(names).await.unwrap(), [bytes("three"), None, bytes("one")]);
    objects.remove("a/b").await.unwrap();
    objects.remove("a/b").await.unwrap();
    assert_eq!(objects.list("a").await.unwrap(), ["a/c/d"]);
}

#[tokio::test]
async fn a_folder_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conforms(Objects::folder(dir.path().join("o")).unwrap()).await;
}

#[tokio::test]
async fn memory_conforms() {
    conforms(Objects::shared(Arc::new(InMemory::new()))).await;
}

#[tokio::test]
async fn a_faulty_store_without_faults_conforms() {
    conforms(Objects::shared(Arc::new(faulty::Faulty::new(1)))).await;
}

#[tokio::test]
async fn one_of_many_creators_wins() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::folder(dir.path().to_owned()).unwrap();
    let tasks: Vec<_> = (0..8u8)
        .map(|i| {
            let objects = objects.clone();
            tokio::spawn(async move { objects.create("x/y", vec![i].into()).await.unwrap() })
        })
        .collect();
    let outcomes = futures::future::join_all(tasks).await;
    let new = outcomes.into_iter().filter(|o| *o.as_ref().unwrap() == Created::New);
    assert_eq!(new.count(), 1);
    assert!(objects.list("unfinished").await.unwrap().is_empty());
}
