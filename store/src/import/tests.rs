use arrow::array::{Int32Array, LargeStringArray, TimestampSecondArray, UInt64Array};
use arrow::datatypes::Schema;
use proptest::prelude::*;

use super::*;
use crate::tests::{memory, motion, row};
use crate::{Scan, row_to_json};

fn read(path: &Path) -> Result<Vec<Row>> {
    let batches = RowFile::open(path, &motion())?.collect::<Result<Vec<_>>>()?;
    Ok(batches.concat())
}

#[tokio::test]
async fn what_was_exported_can_be_imported() {
    let folder = tempfile::tempdir().unwrap();
    let store = memory().await;
    store.create_table(&motion()).await.unwrap();
    let rows: Vec<Row> = (0..2_500)
        .map(|at| row! {"camera": format!("c{}", at % 3), "at": at, "score": at, "boxes": [at]})
        .collect();
    store.put("motion", &rows).await.unwrap();
    let strange = row! {"camera": "a,\"\n\u{0}", "at": -5, "score": 1e300, "jpeg": ""};
    store.put("motion", &[strange, row! {"camera": "", "at": i64::MAX}]).await.unwrap();
    let before = store.scan("motion", Scan::default()).await.unwrap().rows;
    for name in ["motion.parquet", "motion.arrow", "motion.csv", "motion.jsonl"] {
        let path = folder.path().join(name);
        let rows = store.export("motion", &path, FileFormat::of(&path)).await.unwrap();
        assert_eq!(rows, 2_502);
        let other = memory().await;
        other.create_table(&motion()).await.unwrap();
        let mut file = RowFile::open(&path, &motion()).unwrap();
        for batch in file.by_ref().map(Result::unwrap) {
            assert!(batch.len() <= BATCH_ROWS);
            other.put("motion", &batch).await.unwrap();
        }
        let (done, total) = file.progress();
        assert!(done == total && total > 0, "{name}: {done} of {total}");
        assert_eq!(other.scan("motion", Scan::default()).await.unwrap().rows, before, "{name}");
    }
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

/// The schema within a Parquet file, for Arrow's decoder, with one bit of each byte flipped.
#[test]
fn a_damaged_schema_within_a_file_never_panics() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
    use parquet::file::metadata::KeyValue;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    let values: ArrayRef = Arc::new(TimestampSecondArray::from(vec![2]));
    let batch = RecordBatch::try_from_iter([("x", values)]).unwrap();
    let schema = STANDARD.decode(parquet::arrow::encode_arrow_schema(&batch.schema())).unwrap();
    let mut refused = 0;
    for at in 0..schema.len() {
        let mut damaged = schema.clone();
        damaged[at] ^= 0x40;
        let embedded = KeyValue::new("ARROW:schema".into(), STANDARD.encode(damaged));
        let settings = parquet::file::properties::WriterProperties::builder()
            .set_key_value_metadata(Some(vec![embedded]))
            .build();
        let options =
            ArrowWriterOptions::new().with_properties(settings).with_skip_arrow_metadata(true);
        let file = File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new_with_options(file, batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        refused += usize::from(read(&path).is_err());
    }
    assert!(refused > 0, "none of {} was refused", schema.len());
}

/// The usual compressions of those who write such files.
#[test]
fn compressed_files_of_others_are_read() {
    use parquet::basic::{Compression, GzipLevel, ZstdLevel};
    let folder = tempfile::tempdir().unwrap();
    let values: ArrayRef = Arc::new(Int32Array::from_iter_values(0..1_000));
    let batch = RecordBatch::try_from_iter([("x", values)]).unwrap();
    let path = folder.path().join("rows.parquet");
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::LZ4_RAW,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        let settings = parquet::file::properties::WriterProperties::builder();
        let settings = Some(settings.set_compression(compression).build());
        let file = File::create(&path).unwrap();
        let mut writer =
            parquet::arrow::ArrowWriter::try_new(file, batch.schema(), settings).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let rows = read(&path).unwrap();
        assert_eq!((rows.len(), &rows[999]["x"]), (1_000, &Value::Int(999)), "{compression:?}");
    }
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
    assert!(RowFile::open(&folder.path().join("none.parquet"), &motion()).is_err());
}

#[test]
fn broken_csv_is_named_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    let complaint = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read(&path).unwrap_err().to_string()
    };
    let cases = [
        ("", "rows.csv: line 1: no heading"),
        ("camera,colour\n", "line 1: table \"motion\" has no column \"colour\""),
        ("camera,at\na,1\nb,2,3\n", "line 3: 3 fields, and the heading has 2"),
        ("camera,at\n\"a\nb\",1\nb,x\n", "line 4: column \"at\" takes a time"),
        ("camera,at\na,1\n\"b,2\n", "line 3: a quote is opened and not closed"),
    ];
    for (text, expected) in cases {
        let found = complaint(text);
        assert!(found.contains(expected), "{found}");
    }
}

/// Whole files of each format with bytes flipped, cut out and doubled: read or refused.
#[tokio::test]
async fn damaged_files_of_rows_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let store = memory().await;
    store.create_table(&motion()).await.unwrap();
    let rows: Vec<Row> = (0..40).map(|at| row! {"camera": "c", "at": at, "score": at}).collect();
    store.put("motion", &rows).await.unwrap();
    let mut random = crate::entropy() | 1;
    println!("seed {random}");
    let mut below = move |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as usize % n.max(1)
    };
    let mut refused = 0;
    for name in ["motion.parquet", "motion.arrow", "motion.csv", "motion.jsonl"] {
        let path = folder.path().join(name);
        store.export("motion", &path, FileFormat::of(&path)).await.unwrap();
        let whole = std::fs::read(&path).unwrap();
        for _ in 0..150 {
            let mut bytes = whole.clone();
            for _ in 0..=below(4) {
                let at = below(bytes.len());
                match below(4) {
                    0 => bytes.truncate(at),
                    1 => drop(bytes.drain(at..(at + below(20)).min(bytes.len()))),
                    2 => bytes.insert(at, below(256) as u8),
                    _ if at < bytes.len() => bytes[at] ^= 1 << below(8),
                    _ => {}
                }
            }
            std::fs::write(&path, bytes).unwrap();
            refused += usize::from(read(&path).is_err());
        }
    }
    assert!(refused > 100, "only {refused} were refused");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        let arrow = (&b"ARROW1\0\0"[..], &b"\x40\0\0\0ARROW1"[..]);
        let parquet = (&b"PAR1"[..], &b"\x10\0\0\0PAR1"[..]);
        let (csv, lines) = ((&b"camera,at\n"[..], &b""[..]), (&b""[..], &b""[..]));
        let files =
            [("a.parquet", parquet), ("b.arrow", arrow), ("c.csv", csv), ("d.jsonl", lines)];
        for (name, (head, tail)) in files {
            let path = folder.path().join(name);
            std::fs::write(&path, [head, &bytes, tail].concat()).unwrap();
            let _ = read(&path);
        }
    }
}
