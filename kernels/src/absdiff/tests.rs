use super::*;
use crate::testing::{cases, check, noise, patches};

#[test]
fn all_forms_give_the_same_bits() {
    cases((1..400u32, 1..60u32, 0..9u32, 0..9u32, proptest::num::u64::ANY), |case| {
        let (width, height, src_gap, dst_gap, seed) = case;
        let shape = Plane { width, height, stride: width + src_gap };
        let bytes = shape.bytes().unwrap();
        let inputs = [noise(seed, bytes), patches(seed, bytes)];
        check(|b| command(b[0], b[1], shape, b[2], width + dst_gap), &inputs);
    });
}

#[test]
fn large_frames_are_split_over_threads() {
    let shape = Plane { width: 1281, height: 721, stride: 1300 };
    let inputs = [1, 2].map(|seed| noise(seed, shape.bytes().unwrap()));
    check(|b| command(b[0], b[1], shape, b[2], 1281), &inputs);
}

#[test]
fn every_pair_of_levels() {
    let pairs = |f: fn(usize) -> usize| (0..65536).map(|i| f(i) as u8).collect::<Vec<u8>>();
    let inputs = [pairs(|i| i % 256), pairs(|i| i / 256)];
    check(|b| command(b[0], b[1], Plane::tight(256, 256), b[2], 256), &inputs);
}
