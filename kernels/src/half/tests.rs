use super::*;
use crate::testing::{cases, check, noise};

#[test]
fn all_forms_give_the_same_bits() {
    cases((1..400u32, 1..60u32, 0..9u32, 0..9u32, proptest::num::u64::ANY), |case| {
        let (width, height, src_gap, dst_gap, seed) = case;
        let from = Plane { width, height, stride: width + src_gap };
        let src = noise(seed, from.bytes().unwrap());
        check(|b| command(b[0], from, b[1], width.div_ceil(2) + dst_gap), &[src]);
    });
}

#[test]
fn large_frames_are_split_over_threads() {
    let from = Plane { width: 1281, height: 721, stride: 1300 };
    check(|b| command(b[0], from, b[1], 641), &[noise(1, from.bytes().unwrap())]);
}

#[test]
fn means_are_rounded_up_from_the_middle() {
    let mean = |samples: &[u8], width, height| {
        let mut out = [0];
        reference(&mut CpuArgs {
            inputs: vec![samples],
            outputs: vec![&mut out],
            scalars: vec![width, height, width, 1],
            threads: 1,
        });
        out[0]
    };
    assert_eq!(mean(&[0, 0, 0, 1], 2, 2), 0);
    assert_eq!(mean(&[0, 0, 1, 1], 2, 2), 1);
    assert_eq!(mean(&[255; 4], 2, 2), 255);
    assert_eq!(mean(&[9], 1, 1), 9);
    assert_eq!(mean(&[10, 13], 2, 1), 12);
}
