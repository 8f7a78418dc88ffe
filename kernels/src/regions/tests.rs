use super::*;
use crate::boxes::RECTS_MAX;
use crate::testing::{cases, check, noise};

/// Rectangles inside, across the edges and outside, of which some reach past 32 bits.
#[test]
fn all_forms_give_the_same_bits() {
    let sides = (1..120u32, 1..60u32, 1..5u32, 0..9u32);
    let side = || (0..130u32, 0..140u32);
    let rects = proptest::collection::vec((side(), side(), 0..8u32), 0..6);
    cases((sides, rects, 1..20u32, 0..2u32, proptest::num::u64::ANY), |case| {
        let ((width, height, bytes, gap), rects, cell, halvings, seed) = case;
        let rect = |&((x, width), (y, height), kind): &_| match kind {
            0 => Rect { x, y, width: u32::MAX, height: u32::MAX - 1 },
            1 => Rect { x: u32::MAX - x, y, width, height },
            _ => Rect { x, y, width, height },
        };
        let list = encode_list(&rects.iter().map(rect).collect::<Vec<_>>());
        let part = Part { offset: 5, stride: width * bytes + gap, width, height, bytes };
        let [src, plane] = [seed, !seed].map(|seed| noise(seed, part.end().unwrap()));
        let inputs = [list, plane];
        check(|b| mosaic_command([b[0], b[1]], part, cell, halvings), &inputs);
        let [list, plane] = inputs;
        check(|b| cover_command([b[0], b[1], b[2]], part, halvings), &[list, src, plane]);
    });
}

/// A list that says it has more rectangles than fit, over more cells in a row than forms for cards
/// keep at once.
#[test]
fn long_rows_of_cells_and_full_lists() {
    let strip = |i: u32| Rect { x: 3 * i, y: i % 3, width: 2 + i % 2, height: 2 };
    let mut strips: Vec<Rect> = (0..RECTS_MAX as u32).map(strip).collect();
    strips[7].width = 600;
    let mut list = encode_list(&strips);
    list[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    for (bytes, cell) in [(1, 1), (3, 1), (2, 2), (4, 256)] {
        let part = Part { offset: 1, stride: 900 * bytes + 3, width: 900, height: 5, bytes };
        let inputs = [list.clone(), noise(cell.into(), part.end().unwrap())];
        check(|b| mosaic_command([b[0], b[1]], part, cell, 0), &inputs);
    }
}
