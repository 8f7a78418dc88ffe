use super::*;
use crate::tests::{motion, row, stats};
use crate::{EdgeStore, Level};

async fn store() -> EdgeStore {
    let store = crate::tests::memory().await;
    store.create_table(&motion()).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    store
}

fn put_if(key: Row, expect: Expect, row: Row) -> Commit {
    Commit { conditions: vec![Condition { key, expect }], writes: vec![Write::Put(row)] }
}

async fn version_of(store: &EdgeStore, table: &str, key: &Row) -> Version {
    store.find(table, key, Default::default()).await.unwrap().0.unwrap().1
}

#[tokio::test]
async fn a_condition_that_fails_changes_nothing() {
    let store = store().await;
    let key = row! {"k": 1};
    let first = put_if(key.clone(), Expect::Absent, row! {"k": 1, "a": 1});
    assert_eq!(store.commit("stats", &first).await.unwrap().level, Level::Root);
    let error = store.commit("stats", &first).await.unwrap_err();
    assert_eq!(error.code(), "conflict");
    assert_eq!(
        error.to_string(),
        r#"row {"k":1} of table "stats" is there; read it again and decide anew"#
    );
    let old = version_of(&store, "stats", &key).await;
    let values = Expect::Values(row! {"a": 1});
    store
        .commit("stats", &put_if(key.clone(), values.clone(), row! {"k": 1, "a": 2}))
        .await
        .unwrap();
    for stale in [values, Expect::Version(old), Expect::Absent] {
        let commit = put_if(key.clone(), stale, row! {"k": 1, "a": 9});
        assert_eq!(store.commit("stats", &commit).await.unwrap_err().code(), "conflict");
    }
    for good in [Expect::Version(version_of(&store, "stats", &key).await), Expect::Present] {
        store.commit("stats", &put_if(key.clone(), good, row! {"k": 1, "a": 3})).await.unwrap();
    }
    store.delete("stats", std::slice::from_ref(&key)).await.unwrap();
    let gone = put_if(key.clone(), Expect::Present, row! {"k": 1, "a": 4});
    assert!(store.commit("stats", &gone).await.unwrap_err().to_string().contains("is absent"));
    store.commit("stats", &put_if(key, Expect::Absent, row! {"k": 1, "a": 4})).await.unwrap();
}

#[tokio::test]
async fn all_writes_of_a_commit_are_made_or_none() {
    let store = store().await;
    let commit = Commit {
        conditions: vec![Condition { key: row! {"k": 9}, expect: Expect::Absent }],
        writes: vec![
            Write::Put(row! {"k": 1, "a": 1}),
            Write::Increment(row! {"k": 1}, vec![("n".into(), 3)]),
            Write::Increment(row! {"k": 1}, vec![("n".into(), 4)]),
            Write::Patch(row! {"k": 1, "hi": 8, "tags": ["x", "y"]}),
            Write::Discard(row! {"k": 1, "tags": "x"}),
            Write::Put(row! {"k": 2}),
            Write::Delete(row! {"k": 2}),
        ],
    };
    store.commit("stats", &commit).await.unwrap();
    let got = store.get("stats", &row! {"k": 1}).await.unwrap().unwrap();
    assert_eq!((&got["n"], &got["hi"], &got["a"]), (&7.into(), &8.into(), &1.into()));
    assert_eq!(got["tags"], Value::List(vec!["y".into()]));
    assert_eq!(store.get("stats", &row! {"k": 2}).await.unwrap(), None);
    let mut broken = commit.clone();
    broken.writes.push(Write::Put(row! {"k": 3, "a": "text"}));
    assert_eq!(store.commit("stats", &broken).await.unwrap_err().code(), "wrong-type");
    let got = store.get("stats", &row! {"k": 1}).await.unwrap().unwrap();
    assert_eq!(got["n"], 7.into(), "nothing of the broken commit is there");
}

#[tokio::test]
async fn a_commit_stays_in_one_partition_and_in_bounds() {
    let store = store().await;
    let two = Commit {
        conditions: vec![],
        writes: ["a", "b"].map(|c| Write::Put(row! {"camera": c, "at": 1})).into(),
    };
    let error = store.commit("motion", &two).await.unwrap_err().to_string();
    assert!(error.contains(r#"partition columns are ["camera"]"#), "{error}");
    let text = "x".repeat(200_000);
    let large = Commit {
        conditions: vec![],
        writes: [1, 2].map(|at| Write::Put(row! {"camera": "a", "at": at, "jpeg": text})).into(),
    };
    assert_eq!(store.commit("motion", &large).await.unwrap_err().code(), "too-large");
    assert_eq!(store.scan("motion", Default::default()).await.unwrap().rows.len(), 0);
    let none = Commit::default();
    assert_eq!(store.commit("motion", &none).await.unwrap_err().code(), "bad-request");
    let odd = put_if(row! {"k": 1, "a": 2}, Expect::Absent, row! {"k": 1});
    let error = store.commit("stats", &odd).await.unwrap_err().to_string();
    assert!(error.contains("not part of the key"), "{error}");
}

#[tokio::test]
async fn versions_are_the_same_in_memory_in_segments_and_after_a_restart() {
    let machine = crate::tests::Machine::new(1);
    let store = machine.open(crate::Config::new("", "cloud")).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    let key = row! {"k": 1};
    store.put("stats", &[row! {"k": 1, "a": 1, "hi": 4, "tags": ["t"]}]).await.unwrap();
    store.increment("stats", &key, &[("n".into(), 2)]).await.unwrap();
    let version = version_of(&store, "stats", &key).await;
    store.flush().await.unwrap();
    assert_eq!(version_of(&store, "stats", &key).await, version);
    store.close().await;
    let store = machine.open(crate::Config::new("", "cloud")).await.unwrap();
    assert_eq!(version_of(&store, "stats", &key).await, version);
    let mut wider = stats();
    wider.columns.insert(0, serde_json::from_str(r#"{"name":"b2","kind":"utf8"}"#).unwrap());
    store.create_table(&wider).await.unwrap();
    assert_eq!(version_of(&store, "stats", &key).await, version, "a new column changes no row");
    store.patch("stats", &[row! {"k": 1, "a": 1}]).await.unwrap();
    assert_ne!(version_of(&store, "stats", &key).await, version, "a write does, even of the same");
    assert!("zz".parse::<Version>().is_err());
    assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
}
