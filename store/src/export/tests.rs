use super::*;
use crate::RowFile;
use crate::tests::{Dice, memory, row, spec};

fn floats() -> TableSpec {
    spec(
        r#"{"name":"floats","key":["x","at"],"columns":[{"name":"x","kind":"float64"},
        {"name":"at","kind":"timestamp-us"},{"name":"y","kind":"float32"},
        {"name":"j","kind":"json"},{"name":"b","kind":"binary"},{"name":"i","kind":"int32"},
        {"name":"s","kind":"float64","merge":"set"}]}"#,
    )
}

/// Rows whose keys and values JSON has no numbers for.
async fn filled() -> EdgeStore {
    let store = memory().await;
    store.create_table(&floats()).await.unwrap();
    let strange = ["-inf", "-1.5", "-0.0", "0.0", "7.25", "inf"];
    let mut rows = Vec::new();
    for (x, at) in strange.iter().flat_map(|x| (0..5).map(move |at| (x, at))) {
        let mut row = row! {"at": at, "j": {"n": at}, "b": "AAE=", "i": at - 2};
        row.insert("x", crate::Value::Float(x.parse().unwrap()));
        let y = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.5, -0.0][at as usize];
        row.insert("y", crate::Value::Float(y));
        row.insert("s", crate::Value::List(vec![crate::Value::Float(y)]));
        rows.push(row);
    }
    store.put("floats", &rows).await.unwrap();
    store
}

fn asked(columns: &[String], after: &Json, limit: usize) -> serde_json::Map<String, Json> {
    let asked = serde_json::json!({"table": "floats", "columns": columns, "after": after,
                                   "limit": limit, "format": "arrow"});
    asked.as_object().unwrap().clone()
}

#[tokio::test]
async fn pages_of_a_scan_make_the_same_file_as_an_export() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled().await;
    let before = store.scan("floats", Scan::default()).await.unwrap().rows;
    for name in ["whole.parquet", "whole.arrow", "whole.csv"] {
        let whole = folder.path().join(name);
        let exported = store.export("floats", &whole, FileFormat::of(&whole)).await.unwrap();
        assert_eq!(exported, 30, "{name}");
        for limit in [1, 7, 30, 31] {
            let path = folder.path().join(format!("{limit}-{name}"));
            let mut out = TableFile::begin(&path, &floats()).unwrap();
            let (mut after, mut pages) = (serde_json::json!({}), 0);
            loop {
                let fields = asked(&out.columns(), &after, limit);
                let answer = store.request_up_to(1 << 20, "scan", fields, None).await.unwrap();
                let page = out.page(answer).unwrap();
                out.add(&page).unwrap();
                pages += 1;
                assert!(page.complete && page.rows <= limit);
                assert_eq!(out.rows().min(30), (pages * limit as u64).min(30), "{name} {limit}");
                assert!(!path.exists(), "it has its name when it is whole");
                match page.next {
                    Some(next) => after = next,
                    None => break,
                }
            }
            assert_eq!(out.finish().unwrap(), 30);
            let rows = RowFile::open(&path, &floats()).unwrap().map(Result::unwrap);
            assert_eq!(rows.collect::<Vec<_>>().concat(), before, "{name} {limit}");
        }
    }
    let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut left = left.filter(|name| name.to_string_lossy().contains("unfinished"));
    assert_eq!(left.next(), None);
}

#[tokio::test]
async fn an_answer_that_is_none_is_refused_and_no_file_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.arrow");
    let store = filled().await;
    let mut out = TableFile::begin(&path, &floats()).unwrap();
    let fields = asked(&out.columns(), &serde_json::json!({}), 10);
    let answer = store.request_up_to(1 << 20, "scan", fields, None).await.unwrap();
    let mut dice = Dice(7);
    for _ in 0..2_000 {
        let mut bent = answer.to_vec();
        for _ in 0..=dice.below(3) {
            let at = dice.below(bent.len() as u64) as usize;
            bent[at] ^= 1 << dice.below(8);
        }
        bent.truncate(bent.len() - dice.below(3) as usize * 40);
        if let Ok(page) = out.page(bent.into()) {
            let _ = out.add(&page);
        }
    }
    let fields = asked(&["x".into(), "at".into()], &serde_json::json!({}), 10);
    let narrow = store.request_up_to(1 << 20, "scan", fields, None).await.unwrap();
    let error = out.page(narrow).unwrap_err().to_string();
    assert!(error.contains("answer to a scan of table \"floats\""), "{error}");
    assert!(out.page(Bytes::new()).is_err());
    drop(out);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Their names differ in what they are alone.
#[test]
fn files_of_several_kinds_are_written_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = ["csv", "jsonl", "parquet", "arrow"];
    let files = kinds.map(|kind| folder.path().join(format!("all.{kind}")));
    let begun = files.each_ref().map(|file| TableFile::begin(file, &floats()).unwrap());
    begun.into_iter().for_each(|file| assert_eq!(file.finish().unwrap(), 0));
    assert!(files.iter().all(|file| file.exists()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), kinds.len());
}
