use proptest::prelude::any;

use super::*;
use crate::testing::{cases, check, check_pair, noise};

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

/// Tables of other programs: any first sample, in any order, and any weights.
#[test]
fn all_forms_give_the_same_bits_for_any_table() {
    let sides = (1..90u32, 1..40u32, 1..60u32, 1..5u32);
    cases((sides, 1..24usize, any::<bool>(), any::<u64>()), |case| {
        let ((width, height, to, bytes), taps, is_down, seed) = case;
        let mut dice = Dice::new(seed);
        let mut within = |bound: i32| dice.below(2 * bound as u32) as i32 - bound;
        let numbers = 0..to as usize * (taps + 1);
        let entries = numbers.map(|i| within(if i % (taps + 1) == 0 { 200 } else { 40_000 }));
        let table = Table { taps, entries: entries.collect() }.bytes();
        if is_down {
            let part = Part { offset: 3, stride: width * bytes + 1, width, height, bytes };
            let source = noise(seed, part.end().unwrap());
            check(|b| down([b[0], b[1], b[2]], part, to, taps), &[table, source]);
        } else {
            let part = Part { offset: 3, stride: to * bytes + 1, width: to, height, bytes };
            let between = noise(seed, (2 * width * height * bytes) as usize);
            check(|b| across([b[0], b[1], b[2]], part, width, taps), &[table, between]);
        }
    });
}

/// More weights, and more samples in a row, than forms for cards keep at once.
#[test]
fn much_smaller_pictures_are_the_same_in_all_forms() {
    let table = Table::new(8000, 100, Filter::Lanczos);
    assert!(table.taps * 100 > 1 << 15, "{} taps", table.taps);
    let (from, to) = (Part::tight(0, 1100, 8000, 1), Part::tight(0, 100, 2, 3));
    let source = noise(1, from.end().unwrap());
    check(|b| down([b[0], b[1], b[2]], from, 100, table.taps), &[table.bytes(), source]);
    let between = noise(2, 2 * 8000 * 2 * 3);
    check(|b| across([b[0], b[1], b[2]], to, 8000, table.taps), &[table.bytes(), between]);
}
