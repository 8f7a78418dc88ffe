use std::collections::BTreeMap;

use super::*;
use crate::row::Stamp;
use crate::run::{KeyedRow, Versioned, visible_row};
use crate::tests::{Dice, row, stats};
use crate::value::Value;

type Rows = BTreeMap<Arc<[u8]>, RowState>;

/// What some changes to some of twelve rows leave, of which those that have to know what was before
/// know `known`.
fn changed(schema: &Schema, dice: &mut Dice, hlc_max: u64, known: &Rows) -> Rows {
    let mut rows = Rows::new();
    for _ in 0..30 {
        let k = dice.below(12);
        let key = row! {"k": k};
        let encoded: Arc<[u8]> = schema.key_of(&key).unwrap().into();
        let put = row! {"k": k, "a": dice.below(9), "hi": dice.below(9), "tags": ["x", "y"]};
        let patch = row! {"k": k, "b": "b", "lo": dice.below(9)};
        let discard = row! {"k": k, "tags": "x"};
        let by = [("n".to_owned(), 1)];
        let change = match dice.below(9) {
            0..3 => Change::Delete(&key),
            3 => Change::Increment(&key, &by),
            4 => Change::Discard(&discard),
            5 => Change::Patch(&patch),
            _ => Change::Put(&put),
        };
        let stamp = Stamp { hlc: 1 + dice.below(hlc_max), origin: dice.below(3) };
        let mut before = known.get(&encoded).cloned().unwrap_or_default();
        let row = rows.entry(encoded).or_default();
        before.merge(row);
        row.merge(&change.build(schema, stamp, &before).unwrap());
    }
    rows
}

fn run(schema: &Arc<Schema>, rows: &Rows) -> Arc<Run> {
    let versioned = |state: &RowState| Versioned { seq: 1, state: state.clone() };
    let rows: Vec<_> = rows.iter().map(|(key, state)| (key, versioned(state))).collect();
    Arc::new(Run::of_rows(schema, rows.iter().map(|(key, row)| (&***key, row))).unwrap())
}

/// What is shown of each row that several layers have.
fn shown(schema: &Schema, layers: &[&Rows]) -> BTreeMap<Arc<[u8]>, Row> {
    let mut merged = Rows::new();
    for (key, state) in layers.iter().copied().flatten() {
        merged.entry(key.clone()).or_default().merge(state);
    }
    let living = merged.iter().filter(|(_, state)| state.is_live());
    living.map(|(key, state)| (key.clone(), visible_row(schema, key, state).unwrap())).collect()
}

#[test]
fn what_is_left_of_an_older_segment_shows_what_all_of_it_did() {
    let schema = Arc::new(Schema::new(stats()));
    let (mut gone, mut deleted) = (0, 0);
    for seed in 1..400u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let older = changed(&schema, &mut dice, 50, &Rows::new());
        let newest = changed(&schema, &mut dice, 100, &older);
        // What somebody else has written, who knew of neither.
        let others = changed(&schema, &mut dice, 100, &Rows::new());
        let left = left_of(&schema, run(&schema, &older), &run(&schema, &newest), 0).unwrap();
        let left: Vec<KeyedRow> =
            left.iter().flat_map(Slice::keyed_rows).collect::<Result<_>>().unwrap();
        let left: Rows = left.into_iter().map(|(key, row)| (key, row.state.clone())).collect();
        for others in [&Rows::new(), &others] {
            let whole = shown(&schema, &[&older, &newest, others]);
            assert_eq!(shown(&schema, &[&left, &newest, others]), whole, "seed {seed}");
        }
        gone += older.len() - left.len();
        deleted += newest.values().filter(|state| !state.is_live()).count();
    }
    assert!(gone * 2 > deleted, "{gone} rows of {deleted} that are deleted");
}

#[test]
fn rows_that_lived_their_time_are_left_out_as_well() {
    let spec = r#"{"name":"t","key":["at"],"ttl":{"seconds":1,"column":"at"},
        "columns":[{"name":"at","kind":"timestamp-us"}]}"#;
    let schema = Arc::new(Schema::new(crate::tests::spec(spec)));
    let rows = (0..10).map(|s| {
        let key = schema.key_of(&Row::from([("at".into(), Value::Time(s * 1_000_000))])).unwrap();
        let written = Stamp { hlc: 1, origin: 1 };
        (key.into(), RowState { written, ..RowState::default() })
    });
    let older = run(&schema, &rows.collect());
    let left = left_of(&schema, older, &run(&schema, &Rows::new()), 7_000).unwrap();
    assert_eq!(left.iter().map(Slice::len).sum::<usize>(), 4);
}
