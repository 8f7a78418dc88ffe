use super::*;

#[test]
fn weights_sum_up_and_equal_sizes_change_nothing() {
    for filter in FILTERS {
        for (from, to) in [(1, 1), (1, 9), (9, 1), (7, 7), (640, 427), (427, 640), (1000, 20)] {
            let table = Table::new(from, to, filter);
            for entry in table.entries.chunks_exact(table.taps + 1) {
                assert_eq!(entry[1..].iter().sum::<i32>(), 1 << 14, "{filter:?} {from} to {to}");
            }
        }
        let same = Table::new(9, 9, filter);
        for (place, entry) in same.entries.chunks_exact(same.taps + 1).enumerate() {
            let at = entry[1..].iter().position(|w| *w == 1 << 14).unwrap() as i32 + entry[0];
            assert_eq!(at, place as i32, "{filter:?}");
        }
    }
}
