use std::sync::Arc;

use super::*;
use crate::row::{Cell, RowState, Stamp};
use crate::run::Versioned;
use crate::schema::Schema;
use crate::value::{Row, Value};

fn schema() -> Arc<Schema> {
    let spec = r#"{"name":"t","key":["id"],"columns":[{"name":"id","kind":"int64"},
        {"name":"n","kind":"int64"},{"name":"text","kind":"utf8"}]}"#;
    Arc::new(Schema::new(serde_json::from_str(spec).unwrap()))
}

/// A run of rows with these keys, in order; every seventh text is long, every fifth row deleted.
fn run(schema: &Arc<Schema>, ids: &[i64]) -> Run {
    let row = |id: &i64| {
        let text = "x".repeat(if id % 7 == 0 { 200 } else { (id % 5) as usize });
        let mut state = RowState::tombstone(Stamp { hlc: 2, origin: 1 });
        if id % 5 > 0 {
            let cells = vec![(1, Cell::Fresh(Value::Int(-id))), (2, Cell::Fresh(text.into()))];
            let written = Stamp { hlc: 1, origin: 1 };
            state = RowState { written, deleted: Stamp::default(), cells };
        }
        (key(schema, *id), Versioned { seq: 1, state })
    };
    let rows: Vec<(Vec<u8>, Versioned)> = ids.iter().map(row).collect();
    Run::of_rows(schema, rows.iter().map(|(key, row)| (&**key, row))).unwrap()
}

fn key(schema: &Schema, id: i64) -> Vec<u8> {
    schema.key_of(&Row::from([("id".into(), Value::Int(id))])).unwrap()
}

#[test]
fn every_row_is_found_and_no_other() {
    let schema = schema();
    let scattered = |i: i64| (i * 7_919) % 1_000_003;
    let mut any: Vec<i64> = (1..3_000).map(scattered).collect();
    any.sort_unstable();
    any.dedup();
    for (ids, is_even, has_slots) in [
        ((0..3_000).collect::<Vec<i64>>(), true, true),
        ((10..500).map(|i| i * 33).collect(), true, true),
        // Rows of one length.
        ((0..500).map(|i| i * 35 + 1).collect(), true, false),
        (vec![1, 36], true, false),
        ((0..500).map(|i| i * 3 + i % 2).collect(), false, true),
        (any, false, true),
        (vec![4], false, true),
        (vec![], false, true),
    ] {
        let run = run(&schema, &ids);
        let index = Index::of(&run);
        assert_eq!(matches!(index.order, Order::Even { .. }), is_even, "{} keys", ids.len());
        assert_eq!(!index.slots.is_empty(), has_slots, "{} keys", ids.len());
        for (at, id) in ids.iter().enumerate() {
            let hit = index.find(Hashed::of(&key(&schema, *id))).unwrap();
            assert_eq!(hit.at, at);
            assert_eq!(hit.packed.is_some(), id % 7 > 0 && id % 5 > 0, "row {id}");
            assert_eq!(run.row_found(&key(&schema, *id), hit).unwrap(), run.row(at));
        }
        let last = ids.last().map_or(0, |id| id + 40);
        for id in (-5..last).step_by(3).filter(|id| ids.binary_search(id).is_err()) {
            assert!(index.find(Hashed::of(&key(&schema, id))).is_none(), "no row {id}");
        }
        assert!(index.find(Hashed::of(b"short")).is_none());
    }
}

#[test]
fn what_an_index_will_take_is_known_before() {
    let spec = r#"{"name":"t","key":["id"],"columns":[{"name":"id","kind":"utf8"},
        {"name":"n","kind":"int64"}]}"#;
    let schema = Arc::new(Schema::new(serde_json::from_str(spec).unwrap()));
    for key_bytes in [8, 400, 4_000] {
        let row = |id: u32| {
            let id = format!("{id:0key_bytes$}");
            let key = schema.key_of(&Row::from([("id".into(), id.as_str().into())])).unwrap();
            let cells = vec![(1, Cell::Fresh(Value::Int(1)))];
            let written = Stamp { hlc: 1, origin: 1 };
            let state = RowState { written, deleted: Stamp::default(), cells };
            (key, Versioned { seq: 1, state })
        };
        let rows: Vec<(Vec<u8>, Versioned)> = (0..1_000).map(row).collect();
        let run = Run::of_rows(&schema, rows.iter().map(|(key, row)| (&**key, row))).unwrap();
        let (told, takes) = (run.index_to_come(), Index::of(&run).weight());
        assert!(told * 2 > takes && told < takes * 2, "{told} and {takes} bytes of {key_bytes}");
    }
}
