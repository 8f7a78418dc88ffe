use proptest::prelude::*;

use super::*;

fn stamp() -> impl Strategy<Value = Stamp> {
    (1u64..12, 1u64..4).prop_map(|(hlc, origin)| Stamp { hlc, origin })
}

/// The value that a stamped write carries: one stamp never stands for two values, because a
/// store uses each clock reading once.
fn value_of(stamp: Stamp) -> Value {
    Value::Int((stamp.hlc * 31 + stamp.origin) as i64)
}

fn totals() -> impl Strategy<Value = Totals> {
    prop::collection::btree_map(1u64..4, 1u64..12, 0..3)
        .prop_map(|m| m.into_iter().map(|(o, hlc)| (o, (hlc, (hlc * 7 + o) as i64))).collect())
}

fn cell() -> impl Strategy<Value = (u16, Cell)> {
    let set = prop::collection::btree_map(0i64..4, (stamp(), any::<bool>()), 1..4);
    prop_oneof![
        stamp().prop_map(|s| (0, Cell::Stamped(s, value_of(s)))),
        stamp().prop_map(|s| (1, Cell::Stamped(s, value_of(s)))),
        (totals(), totals()).prop_map(|(totals, covered)| (2, Cell::Counter { totals, covered })),
        (stamp(), 0i64..9).prop_map(|(s, v)| (3, Cell::Max(s, Value::Int(v)))),
        (stamp(), 0i64..9).prop_map(|(s, v)| (4, Cell::Min(s, Value::Int(v)))),
        set.prop_map(|m| (5, Cell::Set(m.into_iter().map(|(k, v)| (k.into(), v)).collect()))),
    ]
}

fn state() -> impl Strategy<Value = RowState> {
    let deleted = prop_oneof![Just(Stamp::default()), stamp()];
    (stamp(), deleted, prop::collection::vec(cell(), 0..5)).prop_map(|(written, deleted, cells)| {
        let mut cells: Vec<_> = cells.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect();
        // The row's write stamp is at least that of each plain cell.
        let newest = cells.iter().filter_map(|(_, c)| match c {
            Cell::Stamped(s, _) => Some(*s),
            _ => None,
        });
        let written = newest.fold(written, Stamp::max);
        cells.sort_by_key(|(column, _)| *column);
        let mut state = RowState { written, deleted, cells };
        state.normalize();
        state
    })
}

fn merged(a: &RowState, b: &RowState) -> RowState {
    let mut out = a.clone();
    out.merge(b);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn merge_commutes(a in state(), b in state()) {
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
    }

    #[test]
    fn merge_associates(a in state(), b in state(), c in state()) {
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
    }

    #[test]
    fn merge_is_idempotent_and_tells_of_change(a in state(), b in state()) {
        let both = merged(&a, &b);
        prop_assert!(!both.clone().merge(&a));
        prop_assert!(!both.clone().merge(&b));
        prop_assert_eq!(a.clone().merge(&b), both != a);
    }

    #[test]
    fn states_survive_the_codec(a in state()) {
        let bytes = postcard::to_allocvec(&a).unwrap();
        prop_assert_eq!(postcard::from_bytes::<RowState>(&bytes).unwrap(), a);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = postcard::from_bytes::<RowState>(&bytes);
    }
}

fn at(hlc: u64, origin: u64) -> Stamp {
    Stamp { hlc, origin }
}

fn write(stamp: Stamp, cells: &[(u16, i64)]) -> RowState {
    let cells = cells.iter().map(|(c, v)| (*c, Cell::Fresh(Value::Int(*v)))).collect();
    RowState { written: stamp, deleted: Stamp::default(), cells }
}

fn count(origin: u64, hlc: u64, total: i64) -> RowState {
    let totals = Totals::from([(origin, (hlc, total))]);
    let cells = vec![(0, Cell::Counter { totals, covered: Totals::new() })];
    RowState { written: at(hlc, origin), deleted: Stamp::default(), cells }
}

#[test]
fn the_later_write_wins_column_by_column() {
    let mut row = write(at(1, 1), &[(0, 10), (1, 11)]);
    row.merge(&write(at(3, 1), &[(0, 30)]));
    row.merge(&write(at(2, 2), &[(0, 20), (1, 21)]));
    assert_eq!(row.value(0, Merge::Lww), Value::Int(30));
    assert_eq!(row.value(1, Merge::Lww), Value::Int(21));
}

#[test]
fn equal_clocks_are_decided_by_origin() {
    let mut row = write(at(1, 2), &[(0, 2)]);
    assert!(!row.merge(&write(at(1, 1), &[(0, 1)])) || row.value(0, Merge::Lww) == Value::Int(2));
    assert_eq!(row.value(0, Merge::Lww), Value::Int(2));
}

#[test]
fn a_delete_covers_earlier_writes_only() {
    let mut row = write(at(1, 1), &[(0, 1)]);
    row.merge(&RowState::tombstone(at(2, 2)));
    assert!(!row.is_live());
    row.merge(&write(at(3, 1), &[(1, 5)]));
    assert!(row.is_live());
    assert_eq!(row.value(0, Merge::Lww), Value::Null, "what was deleted stays deleted");
}

#[test]
fn redelivered_increments_count_once() {
    let mut row = count(1, 5, 3);
    row.merge(&count(2, 4, 10));
    row.merge(&count(1, 6, 4));
    row.merge(&count(1, 5, 3));
    assert_eq!(row.value(0, Merge::Counter), Value::Int(14));
}

#[test]
fn an_increment_the_delete_had_not_seen_survives() {
    let mut row = count(1, 5, 3);
    row.merge(&count(2, 6, 10));
    let covered = Totals::from([(1, (5, 3))]);
    let mut delete = RowState::tombstone(at(9, 3));
    delete.cells.push((0, Cell::Counter { totals: Totals::new(), covered }));
    row.merge(&delete);
    assert!(row.is_live());
    assert_eq!(row.value(0, Merge::Counter), Value::Int(10));
    row.merge(&count(1, 7, 5));
    assert_eq!(row.value(0, Merge::Counter), Value::Int(12));
}
