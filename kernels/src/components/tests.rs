use super::*;
use crate::testing::{cases, check_launches, noise};

/// Labels of a mask by the references of all kernels.
fn labels(mask: &[u8], width: u32, height: u32, diagonal: bool) -> Vec<u32> {
    let sides = [width, height];
    let bytes = (4 * width * height) as usize;
    let join = [width, height, width, u32::from(diagonal)];
    let parents = made(join_reference, vec![mask], &join, bytes);
    let mut labels = made(roots_reference, vec![&parents], &sides, bytes);
    let counts = made(count_reference, vec![&labels], &sides, 4 * height as usize);
    let numbers = made(number_reference, vec![&labels, &counts], &sides, bytes);
    labels_reference(&mut CpuArgs {
        inputs: vec![&numbers],
        outputs: vec![&mut labels],
        scalars: sides.to_vec(),
        threads: 1,
    });
    (0..(width * height) as usize).map(|i| long(&labels, i)).collect()
}

/// A picture in text, `#` for samples that are set.
fn drawn(lines: &[&str]) -> (Vec<u8>, u32, u32) {
    let mask = lines.iter().flat_map(|line| line.bytes().map(|b| u8::from(b == b'#') * 255));
    (mask.collect(), lines[0].len() as u32, lines.len() as u32)
}

#[test]
fn labels_go_by_the_first_sample() {
    let (mask, width, height) = drawn(&["..#.#", "##..#", "....#", "#.##."]);
    let eight = [0, 0, 1, 0, 2, 1, 1, 0, 0, 2, 0, 0, 0, 0, 2, 3, 0, 2, 2, 0];
    let four = [0, 0, 1, 0, 2, 3, 3, 0, 0, 2, 0, 0, 0, 0, 2, 4, 0, 5, 5, 0];
    assert_eq!(labels(&mask, width, height, true), eight);
    assert_eq!(labels(&mask, width, height, false), four);
}

/// One turn after the other inwards, one sample wide, with one sample between turns.
fn spiral(width: usize, height: usize) -> Vec<u8> {
    let mut mask = vec![0; width * height];
    let (mut left, mut top) = (0isize, 0isize);
    let (mut right, mut bottom) = (width as isize - 1, height as isize - 1);
    let (mut x, mut y, mut turn) = (0isize, 0isize, 0);
    while left <= right && top <= bottom {
        let (to_x, to_y) = match turn % 4 {
            0 => (right, y),
            1 => (x, bottom),
            2 => (left, y),
            _ => (x, top),
        };
        loop {
            mask[y as usize * width + x as usize] = 9;
            if (x, y) == (to_x, to_y) {
                break;
            }
            (x, y) = (x + (to_x - x).signum(), y + (to_y - y).signum());
        }
        match turn % 4 {
            0 => top += 2,
            1 => right -= 2,
            2 => bottom -= 2,
            _ => left += 2,
        }
        turn += 1;
    }
    mask
}

/// The pair on all devices: no device may leave another root, whatever tree it made.
fn check_roots(mask: &[u8], width: u32, height: u32) {
    let bytes = (4 * width * height) as usize;
    let parents = made(runs_reference, vec![mask], &[width, height, width], bytes);
    for diagonal in [true, false] {
        let pair = |ids: &[BufferId]| {
            let buffers = [ids[0], ids[1], ids[2], BufferId(8), BufferId(9)];
            commands(buffers, [width, height], diagonal)[1].clone()
        };
        check_launches(pair, &[mask.to_vec(), parents.clone()], &[2]);
    }
}

#[test]
fn all_devices_find_the_same_roots() {
    cases((1..150u32, 1..40u32, 0..256u32, proptest::num::u64::ANY), |case| {
        let (width, height, level, seed) = case;
        let mut mask = noise(seed, (width * height) as usize);
        mask.iter_mut().for_each(|sample| *sample = u8::from(u32::from(*sample) < level));
        check_roots(&mask, width, height);
    });
}

#[test]
fn long_ways_and_many_components_are_found() {
    for (width, height) in [(1, 1), (1, 90), (90, 1), (61, 47), (131, 67), (200, 33)] {
        let (wide, high) = (width as usize, height as usize);
        let board = |x: usize, y: usize| u8::from((x + y).is_multiple_of(2));
        let comb = |x: usize, y: usize| u8::from(x.is_multiple_of(2) || y + 1 == high);
        let places = || (0..high).flat_map(|y| (0..wide).map(move |x| (x, y)));
        check_roots(&spiral(wide, high), width, height);
        check_roots(&vec![255; wide * high], width, height);
        check_roots(&vec![0; wide * high], width, height);
        check_roots(&places().map(|(x, y)| board(x, y)).collect::<Vec<_>>(), width, height);
        check_roots(&places().map(|(x, y)| comb(x, y)).collect::<Vec<_>>(), width, height);
    }
}

#[test]
fn a_spiral_is_one_component_and_a_board_is_one_or_many() {
    let spiral = spiral(61, 47);
    for diagonal in [true, false] {
        assert_eq!(labels(&spiral, 61, 47, diagonal).into_iter().max(), Some(1));
    }
    let board: Vec<u8> = (0..15 * 9).map(|i| u8::from(i % 2 == 0)).collect();
    assert_eq!(labels(&board, 15, 9, true).into_iter().max(), Some(1));
    assert_eq!(labels(&board, 15, 9, false).into_iter().max(), Some(68));
}

/// Trees that are none: nothing runs on for ever or looks outside.
#[test]
fn forests_of_noise_have_ends() {
    use crate::testing::check;
    cases((1..60u32, 1..20u32, proptest::num::u64::ANY), |(width, height, seed)| {
        let parents: Vec<u8> = noise(seed, (2 * width * height) as usize)
            .chunks_exact(2)
            .flat_map(|two| {
                let parent = u32::from(two[0]) * u32::from(two[1] % 8);
                (if parent > width * height { u32::MAX } else { parent }).to_le_bytes()
            })
            .collect();
        let rows = Grid::Rows(height as usize);
        check(|ids| launch(&ROOTS, &ids[..2], &[width, height], rows), &[parents]);
    });
}
