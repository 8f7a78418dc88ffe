use std::collections::BTreeMap;

use proptest::prelude::*;

use super::pick::Piece;
use super::*;
use crate::engine::merge_layers;
use crate::segment::tests::{rows, spec};

fn run_of(rows: &[KeyedRow]) -> Arc<Run> {
    Arc::new(Run::of_rows(&spec(), rows.iter().map(|(key, row)| (&**key, &**row))).unwrap())
}

fn rows_of(slices: &[Slice]) -> Vec<KeyedRow> {
    slices.iter().flat_map(|slice| slice.keyed_rows()).collect::<Result<_>>().unwrap()
}

proptest! {
    #[test]
    fn merged_runs_are_merged_rows(layers in prop::collection::vec(rows(), 0..5)) {
        let slices = layers.iter().map(|rows| Slice::whole(run_of(rows))).collect();
        let merged = merge(&spec(), slices).unwrap();
        let wanted = merge_layers(layers.concat());
        prop_assert_eq!(rows_of(&merged), wanted.clone());
        let joined = Slice::joined(&spec(), &merged).unwrap();
        prop_assert_eq!(rows_of(&[Slice::whole(joined)]), wanted);
    }

    #[test]
    fn tables_that_are_written_again_in_stretches_are_merged_rows(
        layers in prop::collection::vec(
            prop::collection::vec((0..60i64, 1..30i64, 1..6u64), 0..5),
            2..5,
        )
    ) {
        let layer = |stretches: &Vec<(i64, i64, u64)>| -> Vec<KeyedRow> {
            let rows = stretches.iter();
            let rows = rows.flat_map(|(from, rows, hlc)| numbered(*from..from + rows, *hlc));
            rows.collect::<BTreeMap<_, _>>().into_iter().collect()
        };
        let layers: Vec<Vec<KeyedRow>> = layers.iter().map(layer).collect();
        let slices = layers.iter().map(|rows| Slice::whole(run_of(rows))).collect();
        prop_assert_eq!(rows_of(&merge(&spec(), slices).unwrap()), merge_layers(layers.concat()));
    }
}

/// A table with a column of every kind of array. Its keys are all of one length, or not; it has
/// columns that take states of their own, or rows that say everything in their columns.
fn every(alike: bool, states: bool) -> Arc<Schema> {
    let spec = r#"{"name":"every","key":KEY,"columns":[
        {"name":"k","kind":"utf8"},{"name":"at","kind":"timestamp-us"},
        {"name":"i","kind":"int64"},{"name":"f","kind":"float64"},{"name":"s","kind":"utf8"},
        {"name":"b","kind":"bool"},{"name":"y","kind":"binary"},{"name":"j","kind":"json"}
        STATES]}"#;
    let of_states = r#",{"name":"n","kind":"int64","merge":"counter"},
        {"name":"tags","kind":"utf8","merge":"set"}"#;
    let spec = spec.replace("KEY", if alike { r#"["at"]"# } else { r#"["k","at"]"# });
    let spec = spec.replace("STATES", if states { of_states } else { "" });
    let spec: crate::spec::TableSpec = serde_json::from_str(&spec).unwrap();
    spec.validate().unwrap();
    Arc::new(Schema::new(spec))
}

/// A row of that table, whatever the dice say: whole, some of it, deleted, or with a state.
fn diced(schema: &Schema, (k, dice): (u8, u64)) -> KeyedRow {
    let text = "lorem ipsum"[..(dice % 12) as usize].to_owned();
    let written = Stamp { hlc: dice % 7 + 1, origin: dice / 7 % 2 };
    let values = [
        Value::Int(dice as i64),
        Value::Float(dice as f64),
        Value::Text(text.clone()),
        Value::Bool(dice % 3 == 0),
        Value::Bytes(text.as_bytes().into()),
        Value::Json(format!("[{dice}]")),
    ];
    let null = |n: u16| dice >> n & 3 == 0;
    let fresh = |(n, value)| (n, Cell::Fresh(if null(n) { Value::Null } else { value }));
    let mut cells: Vec<(u16, Cell)> = (2..).zip(values).map(fresh).collect();
    if dice.is_multiple_of(4) {
        cells.remove((dice / 4 % 6) as usize);
    }
    if schema.columns.len() > 8 && dice.is_multiple_of(3) {
        let tags = [("a".into(), (written, true)), (Value::Text(text), (written, dice & 64 > 0))];
        cells.push((9, Cell::Set(BTreeMap::from(tags))));
    }
    let deleted = match dice.is_multiple_of(11) {
        true => Stamp { hlc: written.hlc + 1, origin: 0 },
        false => Stamp::default(),
    };
    let text = "k".repeat(k as usize % 3);
    let row = Row::from([("k".into(), text.clone().into()), ("at".into(), Value::Time(k.into()))]);
    if !schema.key.contains(&0) {
        cells.insert(0, (0, Cell::Fresh(text.into())));
    }
    let row = schema.key_part(&row);
    let mut state = RowState { written, deleted, cells };
    state.normalize();
    (schema.key_of(&row).unwrap().into(), Arc::new(Versioned { seq: dice % 5, state }))
}

fn is_odd(run: &Run, i: usize) -> bool {
    run.key(i).last().is_some_and(|byte| byte & 1 > 0)
}

fn check_same(found: &Run, wanted: &[(&Run, usize)], asked: &[u16]) {
    assert_eq!(found.len(), wanted.len());
    // Columns are made in the order in which they are asked for.
    for n in asked {
        let values: Vec<Value> = wanted.iter().map(|(run, i)| run.value(*n, *i)).collect();
        let there: Vec<Value> = (0..found.len()).map(|i| found.value(*n, i)).collect();
        assert_eq!(there, values, "column {n}");
    }
    for (at, (run, i)) in wanted.iter().enumerate() {
        assert_eq!(found.keyed(at).unwrap(), run.keyed(*i).unwrap());
        assert_eq!(found.row(at), run.row(*i));
        assert_eq!((found.is_dead(at), found.is_plain(at)), (run.is_dead(*i), run.is_plain(*i)));
    }
}

proptest! {
    #[test]
    fn what_is_picked_is_what_lies_there(
        runs in prop::collection::vec(prop::collection::vec(any::<(u8, u64)>(), 1..20), 1..4),
        (alike, states) in any::<(bool, bool)>(),
        picks in prop::collection::vec(any::<[prop::sample::Index; 3]>(), 0..20),
        again in prop::collection::vec(any::<[prop::sample::Index; 3]>(), 0..6),
        asked in prop::collection::vec(0..10u16, 0..12),
    ) {
        let schema = every(alike, states);
        let asked: Vec<u16> = asked.into_iter().filter(|n| states || *n < 8).collect();
        let run = |rows: &Vec<(u8, u64)>| {
            let rows: BTreeMap<_, _> = rows.iter().map(|row| diced(&schema, *row)).collect();
            let rows = rows.iter().map(|(key, row)| (&**key, &**row));
            Arc::new(Run::of_rows(&schema, rows).unwrap())
        };
        let runs: Vec<Arc<Run>> = runs.iter().map(run).collect();
        let pick = |runs: &[Arc<Run>], [run, a, b]: &[prop::sample::Index; 3]| {
            let run = run.index(runs.len());
            let ends = [a, b].map(|end| end.index(runs[run].len() + 1) as u32);
            Piece { run: run as u32, from: ends[0].min(ends[1]), to: ends[0].max(ends[1]) }
        };
        let rows = |pieces: &[Piece]| -> Vec<(usize, usize)> {
            let rows = |p: Piece| (p.from..p.to).map(move |at| (p.run as usize, at as usize));
            pieces.iter().copied().flat_map(rows).collect()
        };
        let pieces: Vec<Piece> = picks.iter().map(|indices| pick(&runs, indices)).collect();
        let places = rows(&pieces);
        let picked = Arc::new(Run::of_picked(Picked::new(runs.clone(), pieces)).unwrap());
        let wanted: Vec<(&Run, usize)> = places.iter().map(|(r, i)| (&*runs[*r], *i)).collect();

        // Picked from what was picked, of which nothing is made yet.
        let both = [picked.clone(), runs[0].clone()];
        let pieces: Vec<Piece> = again.iter().map(|indices| pick(&both, indices)).collect();
        let of_both = |(run, at): (usize, usize)| match run {
            0 => wanted[at],
            _ => (&*runs[0], at),
        };
        let twice: Vec<(&Run, usize)> = rows(&pieces).into_iter().map(of_both).collect();
        let picked_twice = Run::of_picked(Picked::new(both.to_vec(), pieces)).unwrap();
        check_same(&picked_twice, &twice, &asked);
        check_same(&picked, &wanted, &asked);
        check_same(&picked.settled(), &wanted, &asked);
    }

    #[test]
    fn changes_here_and_there_are_merged_rows(
        layers in prop::collection::vec(prop::collection::vec(any::<(u8, u64)>(), 0..120), 2..4),
        (alike, states) in any::<(bool, bool)>(),
        asked in prop::collection::vec(0..10u16, 0..12),
    ) {
        let schema = every(alike, states);
        let asked: Vec<u16> = asked.into_iter().filter(|n| states || *n < 8).collect();
        let layer = |rows: &Vec<(u8, u64)>| -> Vec<KeyedRow> {
            let rows = rows.iter().map(|row| diced(&schema, *row));
            rows.collect::<BTreeMap<_, _>>().into_iter().collect()
        };
        let layers: Vec<Vec<KeyedRow>> = layers.iter().map(layer).collect();
        let run = |rows: &Vec<KeyedRow>| {
            let rows = rows.iter().map(|(key, row)| (&**key, &**row));
            Slice::whole(Arc::new(Run::of_rows(&schema, rows).unwrap()))
        };
        let merged = merge(&schema, layers.iter().map(run).collect()).unwrap();
        let wanted = run(&merge_layers(layers.concat())).run;
        let wanted: Vec<(&Run, usize)> = (0..wanted.len()).map(|i| (&*wanted, i)).collect();
        let odd = |slice: &Slice| -> Option<BooleanBuffer> {
            Some(BooleanBuffer::collect_bool(slice.len(), |i| is_odd(&slice.run, slice.from + i)))
        };
        let some = wanted.iter().copied().filter(|(run, i)| is_odd(run, *i));
        let some: Vec<(&Run, usize)> = some.collect();
        let kept = kept(merged.clone(), odd).unwrap();
        check_same(&Slice::joined(&schema, &kept).unwrap(), &some, &asked);
        check_same(&Slice::joined(&schema, &merged).unwrap(), &wanted, &asked);
    }
}

fn numbered(numbers: impl Iterator<Item = i64>, hlc: u64) -> Vec<KeyedRow> {
    let row = |at: i64| {
        let key = Row::from([("k".into(), "c".into()), ("at".into(), Value::Time(at))]);
        let fresh = spec().values.iter().map(|n| (*n, Cell::Fresh(Value::Null))).collect();
        let written = Stamp { hlc, origin: 1 };
        let state = RowState { written, deleted: Stamp::default(), cells: fresh };
        (spec().key_of(&key).unwrap().into(), Arc::new(Versioned { seq: hlc, state }))
    };
    numbers.map(row).collect()
}

#[test]
fn long_pieces_are_not_copied_and_overwritten_rows_not_built() {
    let old = run_of(&numbered(0..10_000, 1));
    let new = run_of(&numbered((2_000..3_000).chain([5_000]), 2));
    let slices =
        merge(&spec(), vec![Slice::whole(old.clone()), Slice::whole(new.clone())]).unwrap();
    let of = |run: &Arc<Run>, s: &Slice| Arc::ptr_eq(run, &s.run);
    let shape: Vec<(bool, usize)> = slices.iter().map(|s| (of(&old, s), s.len())).collect();
    assert_eq!(shape, [(true, 2_000), (false, 1_000), (true, 2_000), (false, 1), (true, 4_999)]);
    assert!(of(&new, &slices[1]));
    let stamps = rows_of(&slices).into_iter().map(|(_, row)| row.state.written.hlc);
    assert_eq!(stamps.sum::<u64>(), 10_000 + 1_001);
}

#[test]
fn ranges_of_a_run_are_those_of_a_map() {
    let rows = numbered((0..100).map(|i| i * 2), 1);
    let (run, map) = (run_of(&rows), rows.iter().cloned().collect::<BTreeMap<_, _>>());
    let probes: Vec<Arc<[u8]>> = numbered(-1..201, 1).into_iter().map(|(key, _)| key).collect();
    for from in &probes {
        for to in probes.iter().filter(|to| *to >= from) {
            let slice = Slice::range(run.clone(), from, Some(to));
            let wanted = map.range(from.clone()..to.clone());
            assert_eq!(rows_of(&[slice]).len(), wanted.count());
        }
    }
    for (key, _) in &rows {
        assert_eq!(run.key(run.lower_bound(key, 0, run.len())), &**key);
    }
    assert!(run.find(Hashed::of(&probes[0])).is_none());
}
