use super::*;
use crate::testing::{cases, check, noise};

/// Whole pictures mirrored and turned: what has forms of its own.
#[test]
fn mirrored_and_turned_pictures_are_the_same_in_all_forms() {
    let sides = (1..150u32, 1..90u32, 1..5u32);
    cases((sides, 0..6u32, 0..4u32, 0..4u32, proptest::num::u64::ANY), |case| {
        let ((width, height, bytes), kind, gap, to_gap, seed) = case;
        let (right, bottom) = (width as i32 - 1, height as i32 - 1);
        let map = match kind {
            0 => Map { x: [right, -1, 0], y: [0, 0, 1], shift: 0 },
            1 => Map { x: [right, -1, 0], y: [bottom, 0, -1], shift: 0 },
            2 => Map { x: [0, 0, 1], y: [0, 1, 0], shift: 0 },
            3 => Map { x: [0, 0, 1], y: [bottom, -1, 0], shift: 0 },
            4 => Map { x: [right, 0, -1], y: [0, 1, 0], shift: 0 },
            _ => Map { x: [right, 0, -1], y: [bottom, -1, 0], shift: 0 },
        };
        let (wide, high) = if kind < 2 { (width, height) } else { (height, width) };
        let part = |offset, gap, width, height| Part {
            offset,
            stride: width * bytes + gap,
            width,
            height,
            bytes,
        };
        let (from, to) = (part(3, gap, width, height), part(5, to_gap, wide, high));
        let source = noise(seed, from.end().unwrap());
        check(|b| command(b[0], Lane::whole(from), b[1], Lane::whole(to), map, 0), &[source]);
    });
}
