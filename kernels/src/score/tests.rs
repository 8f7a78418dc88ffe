use super::*;
use crate::testing::{cases, check, noise, patches};

#[test]
fn all_forms_give_the_same_bits() {
    cases((1..400u32, 1..80u32, 0..9u32, proptest::num::u64::ANY), |case| {
        let (width, height, gap, seed) = case;
        let shape = Plane { width, height, stride: width + gap };
        check(|b| command(b[0], shape, b[1]), &[patches(seed, shape.bytes().unwrap())]);
    });
}

#[test]
fn large_frames_are_split_over_threads() {
    let shape = Plane { width: 1281, height: 721, stride: 1300 };
    check(|b| command(b[0], shape, b[1]), &[noise(1, shape.bytes().unwrap())]);
}

#[test]
fn full_blocks_and_edges_are_counted() {
    let (width, height) = (33, 17);
    let mut grid = vec![0; grid_bytes(width, height)];
    native(&mut CpuArgs {
        inputs: vec![&[255; 33 * 17]],
        outputs: vec![&mut grid],
        scalars: vec![width, height, width],
        threads: 1,
    });
    let counts: Vec<u8> = grid.chunks_exact(4).map(|c| c[0]).collect();
    assert_eq!(counts, [0, 0, 16, 16, 16, 1], "256 has no low byte");
    assert_eq!(grid[1], 1);
}
