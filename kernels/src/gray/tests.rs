use super::*;
use crate::testing::{cases, check, noise};

#[test]
fn all_forms_give_the_same_bits() {
    cases((1..400u32, 1..60u32, 0..9u32, 0..9u32, any_bool(), proptest::num::u64::ANY), |case| {
        let (width, height, src_gap, dst_gap, limited, seed) = case;
        let from = Plane { width, height, stride: width + src_gap };
        let src = noise(seed, from.bytes().unwrap());
        check(|b| command(b[0], from, b[1], width + dst_gap, limited), &[src]);
    });
}

#[test]
fn large_frames_are_split_over_threads() {
    let from = Plane { width: 1281, height: 721, stride: 1300 };
    check(|b| command(b[0], from, b[1], 1281, true), &[noise(1, from.bytes().unwrap())]);
}

#[test]
fn every_level_of_limited_range() {
    for (luma, gray) in [(0, 0), (16, 0), (17, 1), (126, 128), (234, 254), (235, 255), (255, 255)] {
        assert_eq!(expand_luma(luma), gray, "luma {luma}");
    }
    let levels: Vec<u8> = (0..=255).collect();
    check(|b| command(b[0], Plane::tight(256, 1), b[1], 256, true), &[levels]);
}

fn any_bool() -> proptest::bool::Any {
    proptest::bool::ANY
}
