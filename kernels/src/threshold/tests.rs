use super::*;
use crate::testing::{cases, check, noise};

#[test]
fn all_forms_give_the_same_bits() {
    let level = proptest::num::u8::ANY;
    cases((1..400u32, 1..60u32, 0..9u32, 0..9u32, level, proptest::num::u64::ANY), |case| {
        let (width, height, src_gap, dst_gap, level, seed) = case;
        let from = Plane { width, height, stride: width + src_gap };
        let src = noise(seed, from.bytes().unwrap());
        check(|b| command(b[0], from, b[1], width + dst_gap, level), &[src]);
    });
}

#[test]
fn every_sample_with_levels_at_the_ends() {
    let samples: Vec<u8> = (0..=255).collect();
    for level in [0, 1, 127, 128, 254, 255] {
        let from = Plane::tight(256, 1);
        check(|b| command(b[0], from, b[1], 256, level), std::slice::from_ref(&samples));
    }
}
