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

/// Any map, also such that neighbours come from far apart, over pixels with gaps between.
#[test]
fn any_map_is_the_same_in_all_forms() {
    let sides = (1..200u32, 1..200u32, 1..150u32, 1..100u32);
    let line = || (-90..90i32, -9..10i32, -9..10i32);
    let pixels = (1..5u32, 0..9u32, 0..3u32);
    cases((sides, line(), line(), 0..4u32, pixels, proptest::num::u64::ANY), |case| {
        let ((width, height, wide, high), x, y, shift, (bytes, gap, to_gap), seed) = case;
        let lane = |offset, width, height, gap| Lane {
            part: Part { offset, stride: width * (bytes + gap) + gap, width, height, bytes },
            step: bytes + gap,
        };
        let (from, to) = (lane(3, width, height, gap), lane(5, wide, high, to_gap));
        let map = Map { x: [x.0, x.1, x.2], y: [y.0, y.1, y.2], shift };
        let source = noise(seed, 3 + (from.part.stride * height) as usize);
        check(|b| command(b[0], from, b[1], to, map, seed as u32), &[source]);
    });
}
