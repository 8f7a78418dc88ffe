use super::*;
use crate::testing::{cases, check, noise, patches};

#[test]
fn all_forms_give_the_same_bits() {
    let sides = (1..20u32, 1..14u32, proptest::array::uniform3(0..9u32));
    cases((sides, proptest::num::u64::ANY), |((columns, rows, gaps), seed)| {
        let blocks = Blocks { columns, rows, strides: gaps.map(|gap| 4 * columns + gap) };
        let [bytes, around, _] = blocks.planes().map(|plane| plane.end().unwrap());
        let content = if seed % 2 == 0 { noise } else { patches };
        let around = content(seed, around);
        // Mostly what lies around, moved by one: all modes win somewhere.
        let mut given = if seed % 3 == 0 { noise(seed ^ 1, bytes) } else { around[1..].to_vec() };
        given.resize(bytes, 9);
        check(|b| command([b[0], b[1], b[2], b[3]], blocks), &[given, around]);
    });
}

/// Slopes in all directions: each mode is the nearest to what it predicts itself.
#[test]
fn every_mode_is_found_again() {
    let around = noise(5, 16 * 16);
    let edge = Edge::new(&around, 16, 1, 1, 4);
    for mode in 0..MODES {
        let block = edge.predicted(mode);
        let mut given = [0; 16];
        given.iter_mut().zip(block.as_flattened()).for_each(|(to, from)| *to = *from as u8);
        assert_eq!(nearest(&given, 4, &edge), (mode, block));
    }
}

/// Figure 6-10: a block that comes later, or lies outside, is not looked at.
#[test]
fn what_is_coded_later_is_not_above_to_the_right() {
    let order = |x: usize, y: usize| {
        // Quarters of a macroblock, then blocks in each; macroblocks row by row.
        let of_macroblock = x / 2 % 2 * 4 + y / 2 % 2 * 8 + x % 2 + y % 2 * 2;
        (y / 4, x / 4, of_macroblock)
    };
    for (x, y) in (0..9).flat_map(|y| (0..8).map(move |x| (x, y))) {
        let is_before = y > 0 && x < 7 && order(x + 1, y - 1) < order(x, y);
        assert_eq!(has_right_above(x, y, 8), is_before, "block {x}, {y}");
    }
}

#[test]
fn without_neighbours_all_is_gray() {
    let edge = Edge::new(&[9; 16], 4, 0, 0, 1);
    assert_eq!((0..MODES).filter(|mode| edge.allows(*mode)).collect::<Vec<_>>(), [MEAN]);
    assert_eq!(nearest(&[9; 16], 4, &edge), (MEAN, [[128; 4]; 4]));
}
