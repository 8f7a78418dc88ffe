use arrow::array::{Int32Array, LargeStringArray, TimestampSecondArray, UInt64Array};
use arrow::datatypes::Schema;
use proptest::prelude::*;

use super::*;
use crate::tests::{memory, motion, row};
use crate::{Scan, row_to_json};

fn read(path: &Path) -> Result<Vec<Row>> {
    let batches = RowFile::open(path)?.collect::<Result<Vec<_>>>()?;
    Ok(batches.concat())
}

#[tokio::test]
async fn what_was_exported_can_be_imported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("motion.parquet");
    let store = memory().await;
    store.create_table(&motion()).await.unwrap();
    let rows: Vec<Row> = (0..2_500)
        .map(|at| row! {"camera": format!("c{}", at % 3), "at": at, "score": at, "boxes": [at]})
        .collect();
    store.put("motion", &rows).await.unwrap();
    store.export_parquet("motion", &path).await.unwrap();
    let before = store.scan("motion", Scan::default()).await.unwrap().rows;
    let other = memory().await;
    other.create_table(&motion()).await.unwrap();
    for batch in RowFile::open(&path).unwrap().map(Result::unwrap) {
        other.put("motion", &batch).await.unwrap();
    }
    assert_eq!(other.scan("motion", Scan::default()).await.unwrap().rows, before);
}

#[test]
fn foreign_types_come_in_where_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, array: ArrayRef| {
        let field = Field::new("x", array.data_type().clone(), true);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap();
        let path = folder.path().join(name);
        let file = File::create(&path).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    };
    let one = |path: &Path| read(path).unwrap()[0]["x"].clone();
    assert_eq!(one(&write("a.parquet", Arc::new(Int32Array::from(vec![7])))), Value::Int(7));
    let text = Arc::new(LargeStringArray::from(vec!["t"]));
    assert_eq!(one(&write("b.parquet", text)), Value::Text("t".into()));
    let time = Arc::new(TimestampSecondArray::from(vec![2]));
    assert_eq!(one(&write("c.parquet", time)), Value::Time(2_000_000));
    let large = write("d.parquet", Arc::new(UInt64Array::from(vec![u64::MAX])));
    assert!(read(&large).unwrap_err().to_string().contains(r#"column "x""#));
}

#[test]
fn broken_lines_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, "{\"k\":1}\n\n{\"k\":2,\"t\":[\"x\"]}\n").unwrap();
    let rows: Vec<_> = read(&path).unwrap().iter().map(row_to_json).collect();
    assert_eq!(rows, [serde_json::json!({"k": 1}), serde_json::json!({"k": 2, "t": ["x"]})]);
    for (text, complaint) in [("{\"k\":1}\n{\"k\"", "line 2: "), ("[1]\n", "line 1: a row must")] {
        std::fs::write(&path, text).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
    assert!(RowFile::open(&folder.path().join("none.parquet")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        for (name, head) in [("a.parquet", &b"PAR1"[..]), ("b.jsonl", b"")] {
            let path = folder.path().join(name);
            let tail = if head.is_empty() { &b""[..] } else { b"\x10\0\0\0PAR1" };
            std::fs::write(&path, [head, &bytes, tail].concat()).unwrap();
            let _ = read(&path);
        }
    }
}
