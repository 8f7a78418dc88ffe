use super::*;
use crate::testing::check_pair;

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

#[test]
fn both_passes_in_one_give_the_same() {
    for seed in 1..200 {
        let mut dice = Dice::new(seed);
        let (width, height) = (1 + dice.below(120), 1 + dice.below(40));
        let (wide, high) = match dice.below(3) {
            0 => (width.div_ceil(2), height.div_ceil(2)),
            _ => (1 + dice.below(2 * width), 1 + dice.below(2 * height)),
        };
        let filter = dice.pick(&FILTERS);
        let (rows, columns) = (Table::new(height, high, filter), Table::new(width, wide, filter));
        let from = sample_part(&mut dice, width, height);
        let to = Part { width: wide, height: high, stride: wide * from.bytes + 3, ..from };
        let source = dice.bytes((from.offset + from.stride * height) as usize, width);
        println!("seed {seed}: {from:?} to {to:?}, {filter:?}");
        check_pair(
            |ids| {
                let down = down([ids[0], ids[2], ids[3]], from, high, rows.taps);
                pair(down, across([ids[1], ids[3], ids[4]], to, width, columns.taps))
            },
            &[rows.bytes(), columns.bytes(), source],
        );
    }
}
