//! Files of ours in the hands of others: on random tables and rows, what pyarrow, DuckDB and Polars
//! find in segments and exports is what the store itself says.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::*;
use crate::FileFormat;

const ROUNDS: u64 = 6;
const ROWS: u64 = 300;

fn table(dice: &mut Dice) -> TableSpec {
    use ColumnKind::{Binary, Bool, Float32, Float64, Int32, Int64, Json, TimestampUs, Utf8};
    let column = |name: String, kind, merge| ColumnSpec { name, kind, merge, nullable: true };
    let mut columns = vec![column("k".into(), Int64, Merge::Lww)];
    for i in 0..1 + dice.below(8) {
        let kinds = [Binary, Bool, Float32, Float64, Int32, Int64, Json, TimestampUs, Utf8];
        columns.push(match dice.below(6) {
            0 => column(format!("c{i}"), dice.of(&[Int64, Utf8, Float64]), Merge::Set),
            _ => column(format!("c{i}"), dice.of(&kinds), Merge::Lww),
        });
    }
    let rest = spec(r#"{"name":"t","key":["k"],"columns":[{"name":"k","kind":"int64"}]}"#);
    TableSpec { columns, ..rest }
}

fn value(dice: &mut Dice, kind: ColumnKind) -> Value {
    let texts = ["", "a", "ä€😀", "\u{0}\"\n,", "NULL", " "];
    let floats = [0.0, -0.0, 1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.1];
    match kind {
        ColumnKind::Int64 => Value::Int(dice.of(&[0, -1, 7, i64::MAX, i64::MIN])),
        ColumnKind::Int32 => Value::Int(dice.of(&[0, -1, i32::MAX as i64, i32::MIN as i64])),
        ColumnKind::Float64 => Value::Float(dice.of(&[&floats[..], &[f64::MAX, 5e-324]].concat())),
        ColumnKind::Float32 => Value::Float(f64::from(dice.of(&floats) as f32)),
        ColumnKind::Bool => Value::Bool(dice.below(2) == 0),
        ColumnKind::Utf8 => dice.of(&texts).into(),
        ColumnKind::Json => Value::Json(dice.of(&["null", "{\"a\":[1]}", "\"\""]).into()),
        ColumnKind::Binary => Value::Bytes(dice.of(&[vec![], vec![0, 255], b"ab".to_vec()])),
        ColumnKind::TimestampUs => Value::Time(dice.of(&[0, -1, 1 << 50, -(1 << 55)])),
    }
}

fn row(dice: &mut Dice, spec: &TableSpec, k: i64) -> Row {
    let mut row = row! {"k": k};
    for column in &spec.columns[1..] {
        let value = match (dice.below(4), column.merge) {
            (0, _) => continue,
            (_, Merge::Set) => {
                Value::List((0..1 + dice.below(3)).map(|_| value(dice, column.kind)).collect())
            }
            _ => value(dice, column.kind),
        };
        row.insert(&column.name, value);
    }
    row
}

/// As `scripts/read_rows.py` writes values.
fn shown(value: &Value) -> String {
    let hex = |bytes: &[u8]| format!("x{}", crate::segment::hex(bytes));
    match value {
        Value::Null => "~".into(),
        Value::Float(f) if f.is_nan() => "nan".into(),
        Value::Float(f) => format!("{:016x}", f.to_bits()),
        Value::Text(text) | Value::Json(text) => hex(text.as_bytes()),
        Value::Bytes(bytes) => hex(bytes),
        Value::List(items) => {
            format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(","))
        }
        other => other.to_json().to_string(),
    }
}

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools")
}

/// What each reader finds in each file; readers that are missing are skipped aloud.
fn found(spec: &TableSpec, files: &[PathBuf]) -> BTreeMap<(String, String), Vec<String>> {
    let kind = |column: &ColumnSpec| {
        let kind = serde_json::to_value(column.kind).unwrap().as_str().unwrap().to_owned();
        if column.merge == Merge::Set { kind + "[]" } else { kind }
    };
    let columns: Vec<_> = spec.columns.iter().map(|c| (c.name.clone(), kind(c))).collect();
    let asked = serde_json::json!({"columns": columns, "files": files});
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/read_rows.py");
    let mut python = Command::new(tools().join("bin/python3"))
        .arg(script)
        .env("PYTHONPATH", tools().join("check"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["none", reader] => aloud::skipped!("no {reader} (./tools.sh test)"),
            [reader, file, row] => {
                found.entry((reader.into(), file.into())).or_default().push(row.into());
            }
            _ => panic!("{line:?}"),
        }
    }
    found
}

#[tokio::test]
async fn others_find_in_our_files_what_we_say() {
    if !tools().join("check/pyarrow").exists() {
        aloud::skipped!("no pyarrow (./tools.sh test)");
        return;
    }
    let seed = crate::entropy() >> 32;
    println!("seed {seed}");
    let mut dice = Dice(seed | 1);
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(folder.path().join("store"), "cloud");
        let store = EdgeStore::open(config).await.unwrap();
        let spec = table(&mut dice);
        store.create_table(&spec).await.unwrap();
        let rows: Vec<Row> = (0..ROWS).map(|k| row(&mut dice, &spec, k as i64 - 9)).collect();
        store.put("t", &rows).await.unwrap();
        let deleted = store.delete("t", &[row! {"k": dice.below(ROWS - 9) as i64}]).await;
        deleted.unwrap();
        store.flush().await.unwrap();
        let segments = folder.path().join("store/objects/t/t/all/s");
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(segments).unwrap().map(|entry| entry.unwrap().path()).collect();
        for name in ["t.parquet", "t.arrow"] {
            let file = folder.path().join(name);
            store.export("t", &file, FileFormat::of(&file)).await.unwrap();
            files.push(file);
        }
        let rows = store.scan("t", Scan::default()).await.unwrap().rows;
        let line = |row: &Row| row.iter().map(|(_, v)| shown(v)).collect::<Vec<_>>().join(" ");
        let expected: Vec<String> = rows.iter().map(line).collect();
        assert_eq!(expected.len() as u64, ROWS - 1);
        let found = found(&spec, &files);
        assert!(found.len() >= 5, "only {:?}", found.keys());
        for ((reader, file), lines) in found {
            assert_eq!(lines, expected, "seed {seed}: {reader} in {file}");
        }
        store.close().await;
    }
}
