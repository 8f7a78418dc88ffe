use proptest::prelude::*;

use super::*;
use crate::run::Run;
use crate::run::column::value_at;
use crate::segment::tests::{rows, spec};

fn filters() -> impl Strategy<Value = Filter> {
    let op = prop::sample::select(vec![
        Compare::Eq,
        Compare::Ne,
        Compare::Lt,
        Compare::Le,
        Compare::Gt,
        Compare::Ge,
    ]);
    let value = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_map(Value::Float),
        "[a-c]{0,2}".prop_map(Value::Text),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Time),
    ];
    let column = prop::sample::select(vec!["k", "at", "i", "f", "s", "b", "t"]);
    (column, op, value).prop_map(|(column, op, value)| Filter { column: column.into(), op, value })
}

proptest! {
    #[test]
    fn columns_meet_conditions_as_their_values_do(
        rows in rows(), filters in prop::collection::vec(filters(), 0..3), limit in 0usize..12,
        reverse in any::<bool>(),
    ) {
        let schema = spec();
        let run = Run::of_rows(&schema, rows.iter().map(|(k, r)| (&**k, &**r))).unwrap();
        let run = Arc::new(run);
        let (half, to) = (run.len() / 2, run.len());
        let slice = |from, to| Slice { run: run.clone(), from, to };
        let slices = [slice(0, half), slice(half, to)];
        let mut scan = Scan { filter: filters, limit: Some(limit), reverse, ..Scan::default() };
        prop_assume!(scan.check(&schema).is_ok());
        let admits = |row: &Row| scan.filter.iter().all(|f| f.admits(&row[&*f.column]));
        let live = (0..run.len()).filter(|i| !run.is_dead(*i)).map(|i| run.row(i));
        let mut wanted: Vec<Row> = live.filter(admits).collect();
        if reverse {
            wanted.reverse();
        }
        let cut = wanted.len() > limit;
        wanted.truncate(limit);
        prop_assert_eq!(scan.is_exceeded(&schema, &slices).unwrap(), cut);
        prop_assert_eq!(scan.rows(&schema, &slices).unwrap(), (wanted.clone(), cut));
        let (batch, cut_too) = scan.batch(&schema, &slices).unwrap();
        prop_assert_eq!(cut_too, cut);
        let value = |n: u16, i| value_at(schema.column_at(n), batch.column(n as usize), i);
        let columns = 0..schema.columns.len() as u16;
        let row = |i| Row::of(schema.names.clone(), columns.clone().map(|n| value(n, i)).collect());
        prop_assert_eq!((0..batch.num_rows()).map(row).collect::<Vec<_>>(), wanted);
    }
}

#[test]
fn rows_in_one_piece_are_handed_on_as_they_are() {
    let schema = spec();
    let row = |at: i64| -> Row {
        Row::from([("k".into(), Value::from("a")), ("at".into(), Value::Time(at))])
    };
    let state = crate::row::RowState {
        written: crate::row::Stamp { hlc: 1, origin: 1 },
        ..Default::default()
    };
    let row = |at| {
        (schema.key_of(&row(at)).unwrap(), crate::run::Versioned { seq: 1, state: state.clone() })
    };
    let rows: Vec<_> = (0..1_000).map(row).collect();
    let run = Arc::new(Run::of_rows(&schema, rows.iter().map(|(k, r)| (&**k, r))).unwrap());
    let (batch, _) = Scan::default().batch(&schema, &[Slice::whole(run.clone())]).unwrap();
    let places = [run.column(1), batch.column(1)].map(|a| a.to_data().buffers()[0].as_ptr());
    assert_eq!(places[0], places[1]);
}
