use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use object_store::memory::InMemory;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::row::{Cell, RowState, Stamp, Totals};
use crate::run::{KeyedRow, Versioned, visible_row};
use crate::spec::{ColumnKind, ColumnSpec, Merge};
use crate::tests::bent::bend;
use crate::value::{Row, Value};

pub fn spec() -> Arc<Schema> {
    let spec: TableSpec = serde_json::from_str(
        r#"{"name":"all","key":["k","at"],"columns":[
        {"name":"k","kind":"utf8"},{"name":"at","kind":"timestamp-us"},
        {"name":"i","kind":"int64"},{"name":"f","kind":"float64"},{"name":"s","kind":"utf8"},
        {"name":"b","kind":"bool"},{"name":"y","kind":"binary"},{"name":"t","kind":"timestamp-us"},
        {"name":"j","kind":"json"}]}"#,
    )
    .unwrap();
    spec.validate().unwrap();
    Arc::new(Schema::new(spec))
}

/// Encodes rows, and decodes what that gave.
fn encoded(schema: &Arc<Schema>, rows: &[KeyedRow]) -> (SegmentMeta, Bytes) {
    let run = Run::of_rows(schema, rows.iter().map(|(key, row)| (&**key, &**row))).unwrap();
    encode("segment".into(), &run).unwrap()
}

/// Decodes all rows of an object that is there as a whole.
fn decoded(
    meta: &SegmentMeta,
    schema: &Arc<Schema>,
    columns: &Columns,
    bytes: Bytes,
) -> Result<Run> {
    decode_all(meta, schema, columns, File::whole(meta, bytes, Pages::All)?)
}

/// A folder with an object of that name.
async fn stored(name: &str, bytes: Bytes) -> (tempfile::TempDir, Objects) {
    let folder = tempfile::tempdir().unwrap();
    let objects = Objects::folder(folder.path().into()).unwrap();
    objects.create(name, bytes).await.unwrap();
    (folder, objects)
}

fn rows_of(run: Run) -> Vec<KeyedRow> {
    (0..run.len()).map(|i| run.keyed(i).unwrap()).collect()
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

pub fn rows() -> impl Strategy<Value = Vec<KeyedRow>> {
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
    fn rows_survive_parquet(rows in rows(), some in prop::collection::vec(2u16..9, 0..4)) {
        let (meta, bytes) = encoded(&spec(), &rows);
        let run = decoded(&meta, &spec(), &Columns::All, bytes.clone()).unwrap();
        for (i, (key, row)) in rows.iter().enumerate() {
            let hit = run.find(crate::hash::Hashed::of(key)).unwrap();
            let visible = visible_row(&spec(), key, &row.state).unwrap();
            prop_assert_eq!((hit.at, run.says_all(hit)), (i, run.is_plain(i)));
            prop_assert_eq!(&run.row_found(key, hit).unwrap(), &visible);
            prop_assert_eq!(run.row(i), visible);
        }
        prop_assert_eq!(rows_of(run), rows.clone());
        let some = Columns::only(some);
        let part = decoded(&meta, &spec(), &some, bytes.clone()).unwrap();
        for (i, (key, row)) in rows.iter().enumerate() {
            prop_assert_eq!(part.key(i), &**key);
            prop_assert_eq!((part.seq(i), part.written(i)), (row.seq, row.state.written));
            prop_assert_eq!(part.is_dead(i), !row.state.is_live());
            let whole = visible_row(&spec(), key, &row.state).unwrap();
            for number in spec().shown.iter().copied() {
                let value = &whole[&*spec().column_at(number).name];
                let sure = number < 2 || some.has(number);
                prop_assert_eq!(&part.value(number, i), if sure { value } else { &Value::Null });
            }
        }
        for (from, to) in [(0, rows.len()), (rows.len() / 2, rows.len()), (0, rows.len() / 3)] {
            for (rows_max, end) in [(1, End::First), (2, End::Last), (99, End::First)] {
                let to_key = rows.get(to).map(|(key, _)| key.to_vec());
                let few = Few { from: rows[from].0.to_vec(), to: to_key, rows_max, end };
                let file = File::whole(&meta, bytes.clone(), Pages::Some).unwrap();
                let found = find_few(&meta, &spec(), file, &few).unwrap().map(|(file, rows)| {
                    decode_some(&meta, &spec(), &Columns::All, file, rows).unwrap()
                });
                let wanted = &rows[from..to];
                let wanted = match end {
                    End::First => &wanted[..rows_max.min(wanted.len())],
                    End::Last => &wanted[wanted.len().saturating_sub(rows_max)..],
                };
                prop_assert_eq!(found.map(rows_of).unwrap_or_default(), wanted);
            }
        }
        let old = SegmentMeta { newest_hlc: None, tail: None, plain: false, ..meta.clone() };
        let from_old = decoded(&old, &spec(), &Columns::All, bytes).unwrap();
        prop_assert_eq!(rows_of(from_old), rows.clone());
        prop_assert_eq!(meta.rows, rows.len() as u64);
        let newest = rows.iter().map(|(_, row)| row.state.newest_hlc()).max();
        prop_assert_eq!(meta.newest_hlc, newest);
        let segment = Segment::listed(meta, None).unwrap();
        for (key, _) in &rows {
            prop_assert!(segment.overlaps(key, Some(&[&**key, &[0]].concat())));
            prop_assert!(segment.spans(key));
        }
    }

    #[test]
    fn damaged_parquet_is_refused(rows in rows(), at in any::<usize>(), bit in 0u8..8) {
        let (meta, bytes) = encoded(&spec(), &rows);
        let mut bytes = bytes.to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let read = decoded(&meta, &spec(), &Columns::All, bytes.into());
        prop_assert!(matches!(read, Err(Error::Corrupt { .. })), "byte {}", at);
    }
}

/// Behind a checksum that is right: a segment is read, or refused as damaged, and the process goes
/// on.
#[test]
fn whatever_parquet_holds_takes_nobody_down() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut some = || encoded(&spec(), &rows().new_tree(&mut runner).unwrap().current());
    let all: Vec<(SegmentMeta, Bytes)> = (0..8).map(|_| some()).collect();
    let corpus: Vec<Vec<u8>> = all.iter().map(|(_, bytes)| bytes.to_vec()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut read, mut refused) = (0, 0);
    bend(&corpus, |bytes| {
        let (meta, bytes) = (all[0].0.clone(), Bytes::copy_from_slice(bytes));
        let crc32c = crc32c::crc32c(&bytes);
        let meta = SegmentMeta { bytes: bytes.len() as u64, crc32c, tail: None, ..meta };
        let objects = Objects::shared(Arc::new(InMemory::new()));
        let outcome = runtime.block_on(async {
            objects.create(&meta.name, bytes).await.unwrap();
            let segment = Segment::listed(meta.clone(), None)?;
            segment.run(&spec(), &Columns::All, &objects, || ()).await
        });
        match outcome {
            Ok(Some(run)) => {
                read += 1;
                (0..run.len()).for_each(|at| drop((run.row(at), run.keyed(at))));
            }
            Err(Error::Corrupt { .. }) => refused += 1,
            other => panic!("{other:?}"),
        }
    });
    println!("{read} read, {refused} refused");
    assert!(read > 0 && refused > 0);
}

#[test]
fn merged_columns_survive_and_show_their_values() {
    let spec = Arc::new(Schema::new(merged_spec()));
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
    let (meta, bytes) = encoded(&spec, &rows);
    assert_eq!(rows_of(decoded(&meta, &spec, &Columns::All, bytes.clone()).unwrap()), rows);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let batch = reader.into_iter().next().unwrap().unwrap();
    let column = |name: &str| batch.column_by_name(name).unwrap().clone();
    assert_eq!(column("n").as_primitive::<Int64Type>().value(0), 5);
    assert_eq!(column("hi").as_primitive::<Float64Type>().value(0), 2.5);
    let tags = column("tags").as_list::<i32>().value(0);
    assert_eq!(tags.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a")]);
}

#[test]
fn a_column_that_was_dropped_is_not_read() {
    let mut dropped = merged_spec();
    dropped.dropped = vec!["hi".into()];
    let schema = Schema::new(dropped);
    let row = numbered(1).remove(0);
    let plain = encoded(&spec(), &[row]).0;
    assert!(plain.plain);
    let meta = SegmentMeta { plain: false, ..plain.clone() };
    let read = |name: &str| is_read(&meta, &schema, &Columns::All, name);
    let names = ["k", "n", "hi", "tags", "_hlc", "_state"];
    assert_eq!(names.map(read), [true, true, false, true, true, true]);
    let only_tags = Columns::only([3]).unmerged();
    let read = |name: &str| is_read(&meta, &schema, &only_tags, name);
    assert_eq!(names.map(read), [true, false, false, true, false, true]);
    let read = |name: &str| is_read(&plain, &schema, &only_tags.unkeyed(), name);
    assert_eq!(names.map(read), [false, false, false, true, false, false]);
}

#[test]
fn an_older_segment_lacks_the_newer_columns() {
    let (old, whole) = (Arc::new(Schema::new(merged_spec())), spec());
    let mut wider = merged_spec();
    let column =
        |name: &str, kind, merge| ColumnSpec { name: name.into(), kind, merge, nullable: true };
    wider.columns.push(column("note", ColumnKind::Utf8, Merge::Lww));
    wider.columns.push(column("count", ColumnKind::Int64, Merge::Counter));
    let new = Arc::new(Schema::new(wider));
    let state = RowState { written: Stamp { hlc: 1, origin: 1 }, ..RowState::default() };
    let key: Arc<[u8]> = old.key_of(&Row::from([("k".into(), Value::Int(1))])).unwrap().into();
    let rows = vec![(key.clone(), Arc::new(Versioned { seq: 1, state: state.clone() }))];
    let (meta, bytes) = encoded(&old, &rows);
    let run = decoded(&meta, &new, &Columns::All, bytes).unwrap();
    assert_eq!(run.row(0), visible_row(&new, &key, &state).unwrap());
    assert_eq!((&run.row(0)["note"], &run.row(0)["count"]), (&Value::Null, &Value::Int(0)));
    assert_eq!(run.row(0)["tags"], Value::Null, "no set is not an empty one");
    assert_eq!(rows_of(run), rows);
    let (meta, bytes) = encoded(&new, &rows);
    let damaged = decoded(&meta, &whole, &Columns::All, bytes).unwrap_err();
    assert!(damaged.to_string().contains("a key column is missing"), "{damaged}");
}

/// So many rows of plain values with keys in order.
fn numbered(count: i64) -> Vec<KeyedRow> {
    let row = |at: i64| {
        let key = Row::from([("k".into(), "c".into()), ("at".into(), Value::Time(at))]);
        let text = format!("text {}", at * 31);
        let values = [
            Value::Int(at * 7),
            Value::Float((at % 100) as f64),
            text.as_str().into(),
            Value::Bool(at % 3 == 0),
            text.clone().into_bytes().into(),
            Value::Time(-at),
            Value::Json(format!("[{at}]")),
        ];
        let cells = (2..).zip(values).map(|(n, value)| (n, Cell::Fresh(value))).collect();
        let written = Stamp { hlc: 9 + at as u64, origin: 1 };
        let state = RowState { written, deleted: Stamp::default(), cells };
        (spec().key_of(&key).unwrap().into(), Arc::new(Versioned { seq: at as u64, state }))
    };
    (0..count).map(row).collect()
}

/// What a segment of several row groups says when only some of its bytes are read.
#[tokio::test]
async fn some_columns_are_read_alone_and_proved() {
    let rows = numbered(70_000);
    let (meta, bytes) = encoded(&spec(), &rows);
    let (_folder, objects) = stored(&meta.name, bytes.clone()).await;
    let some = Columns::only([2, 4]).unmerged();
    for columns in [some.unkeyed(), some, Columns::only([3]), Columns::All] {
        let segment = Segment::listed(meta.clone(), None).unwrap();
        let run = segment.run(&spec(), &columns, &objects, || ()).await.unwrap().unwrap();
        assert_eq!(run.len(), rows.len());
        for at in [0, 1, 65_535, 65_536, 69_999] {
            let whole = visible_row(&spec(), &rows[at].0, &rows[at].1.state).unwrap();
            for number in (2..9).filter(|number| columns.has(*number)) {
                let value = &whole[&*spec().column_at(number).name];
                assert_eq!(&run.value(number, at), value, "{columns:?}");
            }
            assert!(!run.is_dead(at) && run.is_plain(at));
            if columns.has_keys() {
                assert_eq!(run.key(at), &*rows[at].0);
            }
        }
    }
    // Of the columns that are asked for, and no others, every bit counts.
    let mut file = File::open(&meta, &objects, Pages::All).await.unwrap().unwrap();
    let is_wanted = |name: &str| name == "i";
    assert!(file.fetch(&objects, is_wanted, Some(&(65_600..65_700))).await.unwrap());
    let wanted = file.ranges(is_wanted, Some(&(65_600..65_700)));
    let [(_, wanted)] = &wanted[..] else { panic!("{wanted:?}") };
    assert!(wanted.end - wanted.start < meta.bytes / 20, "{wanted:?} of {}", meta.bytes);
    let tail = meta.tail.unwrap().at;
    for at in [wanted.start, wanted.end - 1, wanted.end, tail, meta.bytes - 9] {
        let mut damaged = bytes.to_vec();
        damaged[at as usize] ^= 4;
        let (_folder, objects) = stored(&meta.name, damaged.into()).await;
        let read = async {
            let mut file = File::open(&meta, &objects, Pages::All).await?.unwrap();
            file.fetch(&objects, is_wanted, Some(&(65_600..65_700))).await?;
            file.rows(is_wanted, Some(65_600..65_700))
        };
        let read = read.await;
        assert_eq!(read.is_err(), at != wanted.end, "byte {at}: {read:?}");
    }
    // Also where columns are decoded side by side.
    let is_wanted = |name: &str| is_read(&meta, &spec(), &Columns::All, name);
    for (_, chunk) in file.ranges(is_wanted, None).iter().step_by(5) {
        let mut damaged = bytes.to_vec();
        damaged[chunk.start as usize + 5] ^= 1;
        let (_folder, objects) = stored(&meta.name, damaged.into()).await;
        let segment = Segment::listed(meta.clone(), None).unwrap();
        let read = segment.run(&spec(), &Columns::All, &objects, || ()).await;
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{chunk:?}");
    }
    let (_folder, objects) = stored(&meta.name, bytes.slice(..bytes.len() - 1)).await;
    let cut = File::open(&meta, &objects, Pages::All).await.unwrap_err();
    assert!(matches!(cut, Error::Corrupt { .. }), "{cut}");
    let beyond = Some(Tail { at: meta.bytes + 1, ..meta.tail.unwrap() });
    let (_folder, objects) = stored(&meta.name, bytes).await;
    let senseless = SegmentMeta { tail: beyond, ..meta.clone() };
    File::open(&senseless, &objects, Pages::All).await.unwrap().expect("it is read whole");
    assert!(
        File::open(&SegmentMeta { name: "gone".into(), ..meta }, &objects, Pages::All)
            .await
            .unwrap()
            .is_none()
    );
}
