use std::collections::BTreeMap;

use proptest::prelude::*;

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
        assert_eq!(run.key(run.lower_bound(key)), &**key);
    }
    assert_eq!(run.find(Hashed::of(&probes[0])), None);
}
