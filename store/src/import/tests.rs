use arrow::array::{Int32Array, LargeStringArray, TimestampSecondArray, UInt64Array};
use arrow::datatypes::Schema;
use proptest::prelude::*;

use super::*;
use crate::tests::{Machine, memory, motion, row, spec, stats};
use crate::{Config, EdgeStore, Scan, row_to_json};

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

/// The same rows in another store, and again: what was counted is counted once.
#[tokio::test]
async fn a_table_with_counters_and_sets_is_restored_from_its_export() {
    let folder = tempfile::tempdir().unwrap();
    let store = memory().await;
    store.create_table(&stats()).await.unwrap();
    let rows = [
        row! {"k": 1, "hi": 3, "lo": -2, "tags": ["a", "b"], "a": 1, "b": "x"},
        row! {"k": 2, "tags": ["gone", "kept"]},
        row! {"k": 3, "a": 9},
    ];
    store.put("stats", &rows).await.unwrap();
    store.discard("stats", &[row! {"k": 2, "tags": ["gone"]}]).await.unwrap();
    let count = async |store: &EdgeStore, k: i64, n: i64| {
        store.increment("stats", &row! {"k": k}, &[("n".into(), n)]).await.unwrap();
    };
    for (k, n) in [(1, 5), (1, -7), (3, i64::MAX), (4, 2), (5, 8)] {
        count(&store, k, n).await;
    }
    store.delete("stats", &[row! {"k": 5}]).await.unwrap();
    count(&store, 5, 1).await;
    let before = store.scan("stats", Scan::default()).await.unwrap().rows;
    assert_eq!(
        before.iter().map(|row| row["n"].clone()).collect::<Vec<_>>(),
        [Value::Int(-2), Value::Int(0), Value::Int(i64::MAX), Value::Int(2), Value::Int(1)]
    );
    for (id, name) in (2..).zip(["s.parquet", "s.arrow", "s.csv", "s.jsonl"]) {
        let path = folder.path().join(name);
        store.export("stats", &path, FileFormat::of(&path)).await.unwrap();
        let other = Machine::new(id).open(Config::new("", "cloud")).await.unwrap();
        other.create_table(&stats()).await.unwrap();
        let import = async || {
            for batch in RowFile::open(&path, &stats()).unwrap() {
                for stream in row_streams(&stats(), &batch.unwrap(), 2_000).unwrap() {
                    other.serve("restore", "", stream.bytes).await.unwrap();
                }
            }
        };
        for _ in 0..2 {
            import().await;
            assert_eq!(other.scan("stats", Scan::default()).await.unwrap().rows, before, "{name}");
            other.flush().await.unwrap();
        }
        // What has been counted since, here or before a delete, gives way to the file.
        count(&other, 1, 100).await;
        other.delete("stats", &[row! {"k": 3}]).await.unwrap();
        import().await;
        assert_eq!(other.scan("stats", Scan::default()).await.unwrap().rows, before, "{name}");
    }
    let error = store.put("stats", &[row! {"k": 1, "n": 1}]).await.unwrap_err().to_string();
    assert!(error.contains("use increment"), "a put has no part in counters: {error}");
    let error = store.restore("stats", &[row! {"k": 1, "n": "x"}]).await.unwrap_err();
    assert!(matches!(error, Error::WrongType { .. }), "{error}");
}

#[tokio::test]
async fn streams_of_rows_keep_what_json_cannot_write_and_fit_a_message() {
    let spec = spec(
        r#"{"name":"t","key":["k"],"columns":[{"name":"k","kind":"int64"},
        {"name":"f","kind":"float64"},{"name":"e","kind":"float32"},
        {"name":"s","kind":"float64","merge":"set"},{"name":"t","kind":"timestamp-us"},
        {"name":"b","kind":"binary"},{"name":"j","kind":"json"},{"name":"x","kind":"utf8"}]}"#,
    );
    let store = memory().await;
    store.create_table(&spec).await.unwrap();
    let strange = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e300];
    let rows: Vec<Row> = (0..500)
        .map(|k| {
            let mut row = row! {"k": k, "t": "1970-01-01T00:00:01Z", "b": "AAE=",
            "j": {"k": k}, "x": "x".repeat(k as usize % 90)};
            row.insert("f", Value::Float(strange[k as usize % 5]));
            row.insert("e", Value::Float(strange[k as usize % 4]));
            row.insert("s", Value::List(vec![Value::Float(f64::INFINITY), Value::Int(1)]));
            row
        })
        .collect();
    let streams = row_streams(&spec, &rows, 10_000).unwrap();
    assert!(streams.len() > 3 && streams.iter().all(|stream| stream.bytes.len() <= 10_000));
    assert_eq!(streams.iter().map(|stream| stream.rows).sum::<usize>(), 500);
    for stream in streams {
        store.serve("put", "", stream.bytes).await.unwrap();
    }
    let found = store.scan("t", Scan::default()).await.unwrap().rows;
    let other = memory().await;
    other.create_table(&spec).await.unwrap();
    other.put("t", &rows).await.unwrap();
    assert_eq!(found, other.scan("t", Scan::default()).await.unwrap().rows);
    assert!(matches!(found[0]["f"], Value::Float(f) if f.is_nan()), "{:?}", found[0]);
    assert_eq!(
        (&found[0]["t"], &found[1]["e"]),
        (&Value::Time(1_000_000), &Value::Float(f64::INFINITY))
    );
    let refused = |row: Row| row_streams(&spec, &[row], 10_000).unwrap_err();
    assert!(matches!(refused(row! {"k": 1, "f": "high"}), Error::WrongType { .. }));
    assert!(matches!(refused(row! {"k": 1, "ghost": 1}), Error::UnknownColumn { .. }));
    let keyless = row_streams(&spec, &[row! {"x": "y"}], 10_000).unwrap().remove(0);
    assert!(store.serve("put", "", keyless.bytes).await.is_err());
    let whole = row_streams(&spec, &rows[..1], 1).unwrap();
    assert_eq!(whole.len(), 1, "a row is never cut");
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
