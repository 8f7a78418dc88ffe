use hw::{BufferId, CpuArgs, Grid};

use super::*;
use crate::dice::Dice;
use crate::stem::launch;
use crate::testing::{check, noise};

/// What each block of two pictures without gaps is found to be: x, y, sum.
fn found(
    kernel: &Kernel,
    now: &[u8],
    before: &[u8],
    sides: (u32, u32),
    radius: u32,
) -> Vec<(i8, i8, u16)> {
    let scalars = vec![sides.0, sides.1, sides.0, sides.0, radius];
    let mut records = vec![0; (kernel.bytes_needed)(&scalars).unwrap()[2]];
    let (inputs, outputs) = (vec![now, before], vec![&mut records[..]]);
    (kernel.cpu)(&mut CpuArgs { inputs, outputs, scalars, threads: 1 });
    let record = |r: &[u8]| (r[0] as i8, r[1] as i8, u16::from_le_bytes([r[2], r[3]]));
    records.chunks_exact(4).map(record).collect()
}

/// A picture whose differences grow with the way from where it was.
fn hills(width: u32, height: u32, (x, y): (i32, i32)) -> Vec<u8> {
    let wave = |v: i32, long: f64| 60.0 * (f64::from(v) * std::f64::consts::TAU / long).sin();
    let sample = |i: u32| {
        let (column, row) = ((i % width) as i32 - x, (i / width) as i32 - y);
        (128.0 + wave(column, 28.0) + wave(row, 24.0)).round() as u8
    };
    (0..width * height).map(sample).collect()
}

#[test]
fn where_sums_fall_towards_the_place_it_is_found() {
    let sides = (160, 128);
    let before = hills(sides.0, sides.1, (0, 0));
    for to in [(0, 0), (1, 0), (0, -1), (3, 2), (-4, 1), (5, -5), (-7, -7), (7, 3)] {
        let now = hills(sides.0, sides.1, to);
        let found = found(&KERNEL, &now, &before, sides, 8);
        // Blocks at the edges may come from outside the picture.
        let inner = (1..7).flat_map(|row| (1..9).map(move |column| 10 * row + column));
        for block in inner {
            assert_eq!(found[block], (-to.0 as i8, -to.1 as i8, 0), "{to:?}, block {block}");
        }
    }
}

/// The full search is the bound below, no motion at all the bound above.
#[test]
fn it_is_never_better_than_the_full_search_nor_worse_than_none() {
    for seed in 0..40 {
        let mut dice = Dice::new(seed + 1);
        let sides = (1 + dice.below(70), 1 + dice.below(70));
        let radius = dice.pick(&[0, 1, 3, 8, 31]);
        let len = (sides.0 * sides.1) as usize;
        let (now, before) = (dice.bytes(len, sides.0), dice.bytes(len, sides.0));
        let [walked, full] =
            [&KERNEL, &super::super::KERNEL].map(|k| found(k, &now, &before, sides, radius));
        let still = found(&KERNEL, &now, &before, sides, 0);
        for ((walked, full), still) in walked.iter().zip(&full).zip(&still) {
            assert!(walked.2 >= full.2 && walked.2 <= still.2, "seed {seed}: {walked:?} {full:?}");
            let far = [walked.0, walked.1].map(|by| u32::from(by.unsigned_abs()));
            assert!(far.iter().all(|by| *by <= radius), "seed {seed}: {walked:?}");
            assert!((still.0, still.1) == (0, 0), "seed {seed}: {still:?}");
        }
    }
}

/// All places of a flat picture cost the same: the shortest way is none.
#[test]
fn of_equal_places_the_nearest_wins() {
    let flat = vec![77; 80 * 64];
    for radius in [0, 1, 8, 31] {
        let found = found(&KERNEL, &flat, &flat, (80, 64), radius);
        assert!(found.iter().all(|block| *block == (0, 0, 0)), "{found:?}");
    }
}

/// A slope falls without end: the walk goes as far as it may, and no step further.
#[test]
fn a_walk_ends_at_the_window() {
    let (width, height) = (160, 16);
    let slope = |by: u32| -> Vec<u8> {
        (0..width * height).map(|i| ((i % width + by).min(255)) as u8).collect()
    };
    let found = found(&KERNEL, &slope(60), &slope(0), (width, height), 31);
    assert_eq!(found[3].0, 31);
    let found = self::found(&KERNEL, &slope(60), &slope(0), (width, height), 5);
    assert_eq!(found[3].0, 5);
}

/// Blocks of few samples of two levels: many places have one sum and one way, so that only order
/// tells them apart.
#[test]
fn ties_fall_the_same_way_on_all_devices() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed + 1);
        let (width, height) = (17 + dice.below(3), 17 + dice.below(3));
        let inputs = [1, 2].map(|number| {
            let samples = noise(100 * seed + number, (width * height) as usize);
            samples.iter().map(|sample| sample & 1).collect::<Vec<u8>>()
        });
        let scalars = [width, height, width, width, dice.pick(&[1, 2, 5, 8])];
        let items = Grid::Items((width.div_ceil(16) * height.div_ceil(16)) as usize);
        for kernel in [&KERNEL, &super::super::KERNEL] {
            let args = |ids: &[BufferId]| [ids[0], ids[1], ids[2]];
            check(|ids| launch(kernel, &args(ids), &scalars, items), &inputs);
        }
    }
}
