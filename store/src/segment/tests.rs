use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::row::Totals;

fn spec() -> TableSpec {
    let spec: TableSpec = serde_json::from_str(
        r#"{"name":"all","key":["k","at"],"columns":[
        {"name":"k","kind":"utf8"},{"name":"at","kind":"timestamp-us"},
        {"name":"i","kind":"int64"},{"name":"f","kind":"float64"},{"name":"s","kind":"utf8"},
        {"name":"b","kind":"bool"},{"name":"y","kind":"binary"},{"name":"t","kind":"timestamp-us"},
        {"name":"j","kind":"json"}]}"#,
    )
    .unwrap();
    spec.validate().unwrap();
    spec
}

fn merged_spec() -> TableSpec {
    serde_json::from_str(
        r#"{"name":"merged","key":["k"],"columns":[{"name":"k","kind":"int64"},
        {"name":"n","kind":"int64","merge":"counter"},{"name":"hi","kind":"float64","merge":"max"},
        {"name":"tags","kind":"utf8","merge":"set"}]}"#,
    )
    .unwrap()
}

fn cells() -> impl Strategy<Value = Vec<(u16, Cell)>> {
    let fresh = |number: u16, value: Value| (number, Cell::Fresh(value));
    (any::<i64>(), any::<f64>(), ".{0,5}", any::<bool>(), any::<Vec<u8>>(), any::<i64>(), 0u8..3)
        .prop_map(move |(i, f, s, b, y, t, shape)| match shape {
            0 => (2..9).map(|n| fresh(n, Value::Null)).collect(),
            1 => vec![fresh(3, Value::Float(f))],
            _ => vec![
                fresh(2, Value::Int(i)),
                fresh(3, Value::Float(f)),
                fresh(4, Value::Text(s)),
                fresh(5, Value::Bool(b)),
                fresh(6, Value::Bytes(y)),
                fresh(7, Value::Time(t)),
                fresh(8, Value::Json(format!("[{i}]"))),
            ],
        })
}

fn rows() -> impl Strategy<Value = Vec<KeyedRow>> {
    let row = (cells(), any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>());
    prop::collection::btree_map(("[a-c]{0,2}", any::<i64>()), row, 1..20).prop_map(|rows| {
        let rows: BTreeMap<Arc<[u8]>, Arc<Versioned>> = rows
            .into_iter()
            .map(|((k, at), (cells, hlc, origin, seq, dead))| {
                let row = Row::from([("k".into(), k.into()), ("at".into(), Value::Time(at))]);
                let written = Stamp { hlc, origin };
                let deleted = Stamp { hlc: hlc.saturating_add(1), origin };
                let state = match dead {
                    true => RowState { written, deleted, cells: Vec::new() },
                    false => RowState { written, deleted: Stamp::default(), cells },
                };
                (spec().key_of(&row).unwrap().into(), Arc::new(Versioned { seq, state }))
            })
            .collect();
        rows.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn rows_survive_parquet(rows in rows()) {
        let (meta, bytes) = encode("segment".into(), &spec(), &rows).unwrap();
        prop_assert_eq!(decode("segment", &spec(), bytes).unwrap(), rows.clone());
        prop_assert_eq!(meta.rows, rows.len() as u64);
        let segment = Segment::listed(meta).unwrap();
        for (key, _) in &rows {
            prop_assert!(segment.overlaps(key, Some(&[&**key, &[0]].concat())));
        }
    }

    #[test]
    fn damaged_parquet_never_panics(rows in rows(), at in any::<usize>(), bit in 0u8..8) {
        let (_, bytes) = encode("segment".into(), &spec(), &rows).unwrap();
        let mut bytes = bytes.to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        // Damage is found by the checksum; here it only must not take the process down.
        let _ = std::panic::catch_unwind(|| decode("segment", &spec(), bytes.into()).map(|_| ()));
    }
}

#[test]
fn merged_columns_survive_and_show_their_values() {
    let spec = merged_spec();
    let stamp = Stamp { hlc: 9, origin: 1 };
    let tags = [("a", true), ("b", false)].map(|(t, on)| (Value::from(t), (stamp, on)));
    let state = RowState {
        written: stamp,
        deleted: Stamp::default(),
        cells: vec![
            (1, Cell::Counter { totals: Totals::from([(1, (9, 5))]), covered: Totals::new() }),
            (2, Cell::Max(Stamp::default(), Value::Float(2.5))),
            (3, Cell::Set(tags.into())),
        ],
    };
    let key: Arc<[u8]> = spec.key_of(&Row::from([("k".into(), Value::Int(1))])).unwrap().into();
    let rows = vec![(key, Arc::new(Versioned { seq: 1, state }))];
    let (_, bytes) = encode("segment".into(), &spec, &rows).unwrap();
    assert_eq!(decode("segment", &spec, bytes.clone()).unwrap(), rows);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let batch = reader.into_iter().next().unwrap().unwrap();
    let column = |name: &str| batch.column_by_name(name).unwrap().clone();
    assert_eq!(column("n").as_primitive::<Int64Type>().value(0), 5);
    assert_eq!(column("hi").as_primitive::<Float64Type>().value(0), 2.5);
    let tags = column("tags").as_list::<i32>().value(0);
    assert_eq!(tags.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a")]);
}

#[test]
fn an_older_segment_lacks_the_newer_columns() {
    let old = merged_spec();
    let state = RowState { written: Stamp { hlc: 1, origin: 1 }, ..RowState::default() };
    let key: Arc<[u8]> = old.key_of(&Row::from([("k".into(), Value::Int(1))])).unwrap().into();
    let rows = vec![(key, Arc::new(Versioned { seq: 1, state }))];
    let (_, bytes) = encode("segment".into(), &old, &rows).unwrap();
    let mut new = old.clone();
    new.columns.push(ColumnSpec {
        name: "note".into(),
        kind: ColumnKind::Utf8,
        merge: Merge::Lww,
        nullable: true,
    });
    let decoded = decode("segment", &new, bytes).unwrap();
    assert_eq!(decoded, rows);
    let row = visible_row(&new, &decoded[0].0, &decoded[0].1.state).unwrap();
    assert_eq!(row["note"], Value::Null);
}
