use super::*;
use crate::testing::{cases, check, noise, patches};

/// Bells of all widths, of which the narrow ones have a form of their own, over noise, flat areas
/// and slopes.
#[test]
fn all_forms_give_the_same_bits_for_all_bells() {
    let sides = (1..90u32, 1..24u32, 1..4u32, 0..5u32);
    cases((sides, 1..70u32, 1..40u32, 0..3u32, proptest::num::u64::ANY), |case| {
        let ((width, height, bytes, half), alike, near, kind, seed) = case;
        let side = 2 * half.min(4) + 1;
        let part = Part { offset: 3, stride: width * bytes + 5, width, height, bytes };
        let len = part.end().unwrap();
        let src = match kind {
            0 => noise(seed, len),
            1 => patches(seed, len),
            _ => noise(seed, len).iter().zip(0..).map(|(n, i)| n % 23 + (i / 7) as u8).collect(),
        };
        let weights = weights(side as usize, f64::from(alike), f64::from(near) / 8.0);
        check(|b| command([b[0], b[1], b[2]], part, width * bytes + 2, side), &[weights, src]);
    });
}

/// Any weights, as another program may give them.
#[test]
fn all_forms_give_the_same_bits_for_any_weights() {
    cases((1..80u32, 1..9u32, 0..4u32, 0..2u32, proptest::num::u64::ANY), |case| {
        let (width, height, half, kind, seed) = case;
        let side = 2 * half + 1;
        let mut weights: Vec<u8> = noise(seed, 4 * (256 + (side * side) as usize));
        if kind == 0 {
            weights[..4 * 40].fill(0);
            weights[4 * 120..4 * 256].fill(0);
        }
        let part = Part::tight(0, width, height, 1);
        let src = noise(seed ^ 1, part.end().unwrap());
        check(|b| command([b[0], b[1], b[2]], part, width, side), &[weights, src]);
    });
}
