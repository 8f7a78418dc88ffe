//! How unlike the frame before it a frame is, and where a new scene begins.
//!
//! A record of two gray pictures has 4 x 4 regions, row by row; column `x` belongs to region
//! `4 x / width`, rows likewise. A region has 33 words of 32 bits: for each of 32 bins of eight
//! levels, how many samples of the picture are in it less how many of the one before (two's
//! complement), then the sum of absolute differences.
//!
//! The distance of the two, in thousandths, is the lesser of `1000 m / 32`, 1000 at most, with `m`
//! the mean absolute difference, and of `1000 h`, with `h` the share of samples that are in another
//! bin of their region than before (half the sum of all bins without their signs). Both are whole
//! numbers, rounded down. What moves changes many samples and few bins; a lamp that is
//! dimmed changes many bins and no sample by much; another scene changes both.
//!
//! A cut is a peak: a distance that is above each of its neighbours by the threshold. A fade, a
//! dissolve and a moving camera have many large distances in a row, and a flash of one frame has
//! two. So a cut is known one frame late, unless it is not waited for; then a flash counts as a cut
//! where it begins, and not where it ends.
//!
//! Not found: fades and dissolves, whatever their length beyond two frames; a second cut within
//! two frames; a cut between scenes that have alike levels in alike places; a cut into or out of
//! such motion that each frame is as new as the cut. Found though there is none: a flash of two
//! frames or more, at both of its ends; a lost stretch of a stream.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::{Rows, long, longs, row, rows, sizes};
use crate::plane::Part;
use crate::shape::Shape;
use crate::stem::{
    Entry, Given, Op, Picture, Reduce, Sample, Setting, SettingKind, Stage, Stem, Takes, Values,
    launch, params, portable,
};

const SIDE: usize = 4;
const BINS: usize = 32;
const WORDS: usize = BINS + 1;
const RECORD_BYTES: usize = SIDE * SIDE * WORDS * 4;
/// Records that are remembered, the newest first.
const RECORDS: usize = 3;

pub static STEM: Stem = Stem {
    entries: &[
        Entry { kernel: &KERNEL, reference, sample },
        Entry { kernel: &SHIFT, reference: shift, sample: shift_sample },
    ],
    ops: &[
        Op {
            name: "scene",
            about: "How unlike the frame before a frame is, 0 to 1",
            inputs: &[Takes::GRAY, Takes::GRAY],
            settings: &[],
            plan: Some(scene),
        },
        Op {
            name: "cut",
            about: "1 where a new scene began, else 0; one frame late, unless told not to wait",
            inputs: &[Takes::GRAY, Takes::GRAY],
            settings: &[
                Setting {
                    name: "threshold",
                    about: "How far the distance of the two must be above those beside it, 0 to 1",
                    kind: SettingKind::Decimal { default: 200, least: 1, most: 1000 },
                },
                Setting {
                    name: "wait",
                    about: "For the frame after, which tells a cut from a flash",
                    kind: SettingKind::Choice(&["yes", "no"]),
                },
            ],
            plan: Some(cut),
        },
    ],
};

/// Adds to a record what `now` and `before` have.
pub static KERNEL: Kernel = portable(
    "scene",
    params!(In now, In before, InOut counts; width, height, now_stride, before_stride),
    include_str!("scene.cl"),
    |args| {
        let [width, height, ..]: [usize; 4] = sizes(args);
        let bytes = RECORD_BYTES / SIDE;
        let weight = (width * height / RECORD_BYTES).max(1);
        rows(args, Rows::of(0, bytes, bytes, SIDE), weight, row!(4, region_row));
    },
    |scalars| {
        let &[width, height, now_stride, before_stride] = scalars else { return None };
        let end = |stride| {
            let fits = [width, height].iter().all(|side| *side <= crate::SIDE_MAX);
            fits.then(|| Part { offset: 0, stride, width, height, bytes: 1 }.end())?
        };
        Some(vec![end(now_stride)?, end(before_stride)?, RECORD_BYTES])
    },
);

/// Empties the first of three records and moves the others on.
pub static SHIFT: Kernel = portable(
    "scene_shift",
    params!(In before, Out after;),
    include_str!("scene.cl"),
    shift,
    |scalars| scalars.is_empty().then(|| vec![RECORDS * RECORD_BYTES; 2]),
);

static DISTANCE: Reduce = Reduce {
    name: "scene",
    run: |records, [pixels, _]| distance(records, 0, pixels) as f64 / 1000.0,
};

/// The second number is the threshold, twice, and one more where the frame after is waited for.
static CUT: Reduce =
    Reduce { name: "cut", run: |records, of| f64::from(u8::from(is_cut(records, of))) };

fn reference(args: &mut CpuArgs<'_>) {
    let [width, height, now_stride, before_stride] = sizes(args);
    let mut words: Vec<u32> = (0..RECORD_BYTES / 4).map(|i| long(args.outputs[0], i)).collect();
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let region = (y * SIDE / height * SIDE + x * SIDE / width) * WORDS;
        let now = args.inputs[0][y * now_stride + x];
        let before = args.inputs[1][y * before_stride + x];
        let mut add = |word: usize, what: u32| words[word] = words[word].wrapping_add(what);
        add(region + usize::from(now / 8), 1);
        add(region + usize::from(before / 8), u32::MAX);
        add(region + BINS, u32::from(now.abs_diff(before)));
    }
    let words = longs(words.into_iter().map(i64::from));
    args.outputs[0][..RECORD_BYTES].copy_from_slice(&words);
}

/// A row of regions.
#[inline(always)]
fn region_row(inputs: &[&[u8]], s: &[usize; 4], number: usize, to: &mut [u8]) {
    let [width, height, now_stride, before_stride] = *s;
    let edge = |number: usize, side: usize| (number * side).div_ceil(SIDE);
    for (region, to) in to.chunks_exact_mut(WORDS * 4).enumerate() {
        let (left, right) = (edge(region, width), edge(region + 1, width));
        let mut words: [u32; WORDS] = std::array::from_fn(|i| long(to, i));
        for y in edge(number, height)..edge(number + 1, height) {
            let now = &inputs[0][y * now_stride..][left..right];
            let before = &inputs[1][y * before_stride..][left..right];
            compare(now, before, &mut words);
        }
        to.copy_from_slice(&longs(words.map(i64::from)));
    }
}

/// Adds what two stretches of a row have. Most stretches have no sample in another bin.
#[inline(always)]
fn compare(now: &[u8], before: &[u8], words: &mut [u32; WORDS]) {
    for (now, before) in now.chunks(64).zip(before.chunks(64)) {
        let (mut sum, mut changed) = (0u32, 0u8);
        for (now, before) in now.iter().zip(before) {
            sum += u32::from(now.abs_diff(*before));
            changed |= now ^ before;
        }
        words[BINS] = words[BINS].wrapping_add(sum);
        if changed < 8 {
            continue;
        }
        for (now, before) in now.iter().zip(before) {
            let (to, from) = (usize::from(now / 8), usize::from(before / 8));
            words[to] = words[to].wrapping_add(1);
            words[from] = words[from].wrapping_sub(1);
        }
    }
}

fn shift(args: &mut CpuArgs<'_>) {
    let (new, old) = args.outputs[0][..RECORDS * RECORD_BYTES].split_at_mut(RECORD_BYTES);
    new.fill(0);
    old.copy_from_slice(&args.inputs[0][..(RECORDS - 1) * RECORD_BYTES]);
}

/// The distance that a record of pictures of so many samples tells, in thousandths.
fn distance(records: &[u8], number: usize, pixels: u64) -> u64 {
    let (mut moved, mut sum) = (0u64, 0u64);
    let words = records[number * RECORD_BYTES..][..RECORD_BYTES].chunks_exact(4);
    for (i, word) in words.enumerate() {
        let word = long(word, 0);
        match i % WORDS {
            BINS => sum += u64::from(word),
            _ => moved += u64::from((word as i32).unsigned_abs()),
        }
    }
    let pixels = pixels.max(1);
    (1000 * sum / (32 * pixels)).min(1000).min(1000 * moved / (2 * pixels))
}

fn is_cut(records: &[u8], [pixels, how]: [u64; 2]) -> bool {
    let [newest, middle, oldest] = [0, 1, 2].map(|number| distance(records, number, pixels));
    let (peak, beside) = match how & 1 {
        0 => (newest, middle),
        _ => (middle, newest.max(oldest)),
    };
    peak >= beside + how / 2
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (now_stride, before_stride) = (width + dice.below(9), width + dice.below(9));
    let now = dice.bytes((now_stride * height) as usize, width);
    let before = dice.bytes((before_stride * height) as usize, width + 1);
    let counts = dice.bytes(RECORD_BYTES, 16);
    let scalars = [width, height, now_stride, before_stride];
    let rows = Grid::Rows(height as usize);
    let command = launch(&KERNEL, &[0, 1, 2].map(BufferId), &scalars, rows);
    Sample { command, inputs: vec![now, before, counts] }
}

const SHIFT_ITEMS: Grid = Grid::Items(RECORDS * RECORD_BYTES / 4);

fn shift_sample(dice: &mut Dice, _: u32, _: u32) -> Sample {
    let command = launch(&SHIFT, &[0, 1].map(BufferId), &[], SHIFT_ITEMS);
    Sample { command, inputs: vec![dice.bytes(RECORDS * RECORD_BYTES, 16)] }
}

/// Two pictures of one size.
fn two(given: &[Given]) -> Result<[Picture; 2], String> {
    let (now, before) = (given[0].picture()?, given[1].picture()?);
    match now.shape == before.shape {
        true => Ok([now, before]),
        false => Err("the two pictures differ in size: give two of one size".to_string()),
    }
}

/// Adds to `counts` what the two have, and tells how many samples they have.
fn add(stage: &mut dyn Stage, [now, before]: [Picture; 2], counts: BufferId) -> u64 {
    let Shape { width, height, .. } = now.shape;
    let buffers = [now.buffer, before.buffer, counts];
    let rows = Grid::Rows(height as usize);
    stage.run(launch(&KERNEL, &buffers, &[width, height, width, width], rows));
    u64::from(width) * u64::from(height)
}

fn scene(stage: &mut dyn Stage, given: &[Given], _: &Values<'_>) -> Result<Given, String> {
    let two = two(given)?;
    let counts = stage.constant(vec![0; RECORD_BYTES])?;
    let pixels = add(stage, two, counts);
    Ok(stage.number(counts, &DISTANCE, [pixels, 0]))
}

fn cut(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let two = two(given)?;
    let [before, after] = stage.state(RECORDS * RECORD_BYTES)?;
    stage.run(launch(&SHIFT, &[before, after], &[], SHIFT_ITEMS));
    let pixels = add(stage, two, after);
    let waits = u64::from(values.text("wait") == "yes");
    let threshold = values.number("threshold") as u64;
    Ok(stage.number(after, &CUT, [pixels, 2 * threshold + waits]))
}
