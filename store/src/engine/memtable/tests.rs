use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::row::Cell;
use crate::segment::tests::{rows, spec};

type Model = BTreeMap<Arc<[u8]>, Versioned>;

fn check(table: &Memtable, model: &Model, from: &[u8], to: Option<&[u8]>, max: usize) {
    let inside = |key: &[u8]| *key >= *from && to.is_none_or(|to| *key < *to);
    let wanted: Vec<&Arc<[u8]>> = model.keys().filter(|key| inside(key)).collect();
    for end in [End::First, End::Last] {
        let places = table.range(from, to, end, max);
        let found: Vec<&[u8]> = places.iter().map(|at| table.row(*at).key()).collect();
        let wanted = match end {
            End::First => &wanted[..wanted.len().min(max)],
            End::Last => &wanted[wanted.len().saturating_sub(max)..],
        };
        assert_eq!(found, wanted.iter().map(|key| &***key).collect::<Vec<_>>());
    }
}

/// Whatever was read before, what is read now is what is there now.
fn check_slices(table: &Memtable, model: &Model, from: &[u8], some: usize) {
    for (from, columns) in [
        (&[][..], Columns::only([some as u16])),
        (&[], Columns::All),
        (from, Columns::only([2])),
        (from, Columns::All),
    ] {
        let slices = table.slices(&spec(), &columns, from, None).unwrap();
        let slices = crate::run::merge(&spec(), slices).unwrap();
        let run = crate::run::Slice::joined(&spec(), &slices).unwrap();
        let wanted = model.iter().filter(|(key, _)| ***key >= *from);
        let wanted = Run::of_rows(
            &spec(),
            wanted.collect::<Vec<_>>().into_iter().map(|(key, row)| (&**key, row)),
        )
        .unwrap();
        assert_eq!(run.len(), wanted.len());
        for i in 0..run.len() {
            for number in (0..9).filter(|n| *n < 2 || columns.has(*n)) {
                assert_eq!(run.value(number, i), wanted.value(number, i));
            }
            assert_eq!(
                (run.key(i), run.seq(i), run.is_dead(i)),
                (wanted.key(i), wanted.seq(i), wanted.is_dead(i))
            );
            if columns == Columns::All {
                assert_eq!(run.keyed(i).unwrap(), wanted.keyed(i).unwrap());
            }
        }
    }
}

proptest! {
    /// Rows come in batches, some of them again and again, and between batches ranges are read.
    #[test]
    fn memory_is_a_map_of_merged_states(
        batches in prop::collection::vec((rows(), any::<bool>(), 0usize..9), 1..12),
    ) {
        let (mut table, mut model) = (Memtable::default(), Model::new());
        for (at, (rows, read, max)) in batches.iter().enumerate() {
            for (key, row) in rows {
                let seq = at as u64;
                prop_assert!(table.merge(key, row.state.clone(), seq) > 0);
                let known = model.entry(key.clone());
                let known = known.and_modify(|known| {
                    known.state.merge(&row.state);
                });
                known.or_insert_with(|| (**row).clone()).seq = seq;
            }
            if *read {
                let keys: Vec<_> = model.keys().cloned().collect();
                let from = &keys[keys.len() / 3];
                check(&table, &model, from, Some(&keys[keys.len() * 2 / 3]), *max);
                check(&table, &model, &[], None, usize::MAX);
                check_slices(&table, &model, from, *max);
            }
        }
        prop_assert_eq!(table.len(), model.len());
        for (key, row) in &model {
            let found = table.get(Hashed::of(key)).unwrap();
            prop_assert_eq!(&found.versioned(), row);
            prop_assert_eq!(found.written(), row.state.written);
            prop_assert_eq!(found.is_plain(&spec()), is_plain(&spec(), &row.state));
            let visible = visible_row(&spec(), key, &row.state).unwrap();
            prop_assert_eq!(found.visible(&spec()).unwrap(), visible);
        }
        let range = table.range(&[], None, End::First, usize::MAX);
        let run = table.run(&spec(), &Columns::All, &range).unwrap();
        let wanted = Run::of_rows(&spec(), model.iter().map(|(key, row)| (&**key, row))).unwrap();
        prop_assert_eq!(run.len(), model.len());
        for i in 0..run.len() {
            prop_assert_eq!(run.keyed(i).unwrap(), wanted.keyed(i).unwrap());
            prop_assert_eq!(run.is_plain(i), wanted.is_plain(i));
        }
    }
}

/// What starts a flush bounds the log as well, to which an overwrite adds as much as a new row.
#[test]
fn overwrites_count_though_they_take_no_room() {
    let (mut table, schema) = (Memtable::default(), spec());
    let text = "x".repeat(1_000);
    let row = |hlc| {
        let cells = schema.values.iter().map(|n| (*n, Cell::Fresh(text.as_str().into())));
        let written = Stamp { hlc, origin: 1 };
        RowState { written, deleted: Stamp::default(), cells: cells.collect() }
    };
    let first = table.merge(b"key", row(1), 1);
    let room = table.bytes.len();
    let second = table.merge(b"key", row(2), 2);
    assert_eq!((table.bytes.len(), table.len()), (room, 1));
    assert!(first > 7_000 && second > 7_000, "{first} and {second} bytes");
    assert_eq!(table.get(Hashed::of(b"key")).unwrap().versioned().seq, 2);
}
