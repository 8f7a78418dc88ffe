//! Scene cuts in a clip that is made up: which are found, and what is taken for one.

use super::*;
use crate::{PixelFormat, Shape};

const WIDTH: u32 = 160;
const HEIGHT: u32 = 96;

/// A scene of soft shapes, seen from `at` samples further to the right.
fn scene(seed: u64, at: u32) -> Vec<f64> {
    let dice = |n: u64| (seed.wrapping_mul(2_654_435_761) >> (7 * n) & 63) as f64 / 63.0;
    let sample = |i: u32| {
        let (x, y) = (f64::from(i % WIDTH + at), f64::from(i / WIDTH));
        let waves = 50.0 * (x / (9.0 + 20.0 * dice(0)) + 6.0 * dice(1)).sin()
            + 30.0 * (y / (7.0 + 15.0 * dice(2)) + 6.0 * dice(3)).sin();
        60.0 + 120.0 * dice(4) + waves
    };
    (0..WIDTH * HEIGHT).map(sample).collect()
}

fn mixed(a: &[f64], b: &[f64], share: f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a * (1.0 - share) + b * share).collect()
}

/// Gray frames with grain, from levels.
fn frame(levels: &[f64], index: usize) -> Frame {
    let mut state = index as u64 * 977 + 1;
    let mut grain = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as f64 / f64::from(1u32 << 31) * 8.0 - 4.0
    };
    let data: Vec<u8> =
        levels.iter().map(|level| (level + grain()).clamp(0.0, 255.0) as u8).collect();
    let format = PixelFormat::Gray8;
    let shape = Shape::full(WIDTH, HEIGHT, format);
    Frame::new(shape, index as i64 * 40_000, index as u64, data.into()).unwrap()
}

/// Which frames begin a scene, by a `cut` with these settings.
fn cuts(clip: &[Vec<f64>], settings: &str) -> Vec<usize> {
    let step = Step::new(op("cut", settings), &["frame", "frame@-1"], "cut");
    let pipeline = Pipeline { steps: vec![step], returns: vec!["cut".to_string()] };
    let engine = engine(vec![cpu()]);
    let late = usize::from(!settings.contains("no"));
    let found = |(index, levels): (usize, &Vec<f64>)| {
        let history = Some("clip".to_string());
        let job = Job { history, ..Job::new(pipeline.clone(), frame(levels, index)) };
        let cut = number(&block_on(engine.run(job)).unwrap().values["cut"]);
        (cut == 1.0).then(|| index - late)
    };
    clip.iter().enumerate().filter_map(found).collect()
}

#[test]
fn cuts_are_found_and_motion_fades_and_flashes_are_not() {
    let black = vec![16.0; (WIDTH * HEIGHT) as usize];
    let mut clip: Vec<Vec<f64>> = (0..10).map(|n| scene(1, 4 * n)).collect();
    // A cut at 10; a flash of one frame at 15; a lamp is dimmed from 16 on.
    clip.extend((0..10).map(|n| scene(2, n)));
    clip[15].iter_mut().for_each(|level| *level += 90.0);
    (0..4).for_each(|n| clip[16 + n].iter_mut().for_each(|level| *level -= 7.0 * n as f64));
    // Out to black until 28, in again until 36.
    let (last, next) = (clip[19].clone(), scene(3, 0));
    clip.extend((1..=8).map(|n| mixed(&last, &black, f64::from(n) / 8.0)));
    clip.extend((1..=8).map(|n| mixed(&black, &next, f64::from(n) / 8.0)));
    // A cut at 36, a dissolve over ten frames, and cuts from there every five.
    clip.extend((0..5).map(|n| scene(4, 8 * n)));
    clip.extend((0..10).map(|n| mixed(&scene(4, 40), &scene(5, n), f64::from(n) / 9.0)));
    let first = clip.len();
    let seeds = 6..30;
    clip.extend(seeds.clone().flat_map(|seed| (0..5).map(move |n| scene(seed, 3 * n))));
    let mut expected = vec![10, 36];
    expected.extend(seeds.map(|seed| first + 5 * (seed as usize - 6)));
    assert_eq!(cuts(&clip, "{}"), expected);

    expected.insert(1, 15);
    assert_eq!(cuts(&clip, r#"{ "wait": "no" }"#), expected, "a flash begins as a cut does");
}

/// What the operation says of itself: these are its limits.
#[test]
fn long_flashes_count_as_cuts_and_cuts_side_by_side_are_lost() {
    let mut clip: Vec<Vec<f64>> = (0..12).map(|n| scene(1, n)).collect();
    (5..8).for_each(|n| clip[n].iter_mut().for_each(|level| *level += 90.0));
    assert_eq!(cuts(&clip, "{}"), [5, 8]);
    let mut clip = vec![scene(2, 0); 5];
    clip.push(scene(8, 0));
    clip.extend(vec![scene(13, 0); 5]);
    assert_eq!(cuts(&clip, "{}"), [0; 0]);
}
