//! Background by a mixture of gaussians for each sample, after Zivkovic (2004), in whole numbers.
//!
//! A sample has up to three modes, heaviest first: a weight `w` (2^15 for all of it), a mean `m`
//! (7 fractional bits) and a variance `v` (4). With `a = 2^15 / history` and `p = a / 20`:
//!
//! - each mode first loses: `w -= (w a >> 15) + p`;
//! - `d = 128 s - m`, `q = d^2 >> 10`; the first mode with `q < 9 v` takes the sample: `w += a`,
//!   `r = min(2^15 a / w, 2^15)`, `m += d r >> 15`, `v = clamp(v + ((q - v) r >> 15), 64, 1200)`;
//! - the sample is background if, up to that mode, one has `q < limit v` while the weights before
//!   it sum up to less than nine tenths;
//! - a mode whose weight falls below `p` goes; where none took the sample, a new one (`w = a`, or
//!   all of it when it is alone, `v = 240`) takes the place of the lightest;
//! - weights are scaled to a sum of 2^15, and the mode that took the sample moves up past lighter
//!   ones.
//!
//! OpenCV's `createBackgroundSubtractorMOG2` does the same with five modes in single precision, and
//! learns faster at first: `a = 1 / (2 n)` in frame `n`, until that is less than `1 / history`.
//! Given three modes and a learning rate of `1 / history`, its masks differ in 1 to 2 % of a film's
//! samples.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::{Rows, even_piece, pixels, row, rows, sizes, word};
use crate::plane::Part;
use crate::rearrange::{self, Lane, Map};
use crate::stem::{
    Entry, Given, Op, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch, params,
    portable,
};

const MODES: usize = 3;
/// Three numbers for each mode, then the mask.
const RECORD_BYTES: usize = 2 * (3 * MODES + 1);
const ALL: u32 = 1 << 15;
const BACKGROUND: u32 = ALL * 9 / 10;

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[Op {
        name: "mog2",
        about: "A mask of what is not background, by mixtures of gaussians; needs a history",
        inputs: &[Takes::GRAY],
        settings: &[
            Setting {
                name: "history",
                about: "Pictures after which the past is forgotten",
                kind: SettingKind::Number { default: 500, least: 1, most: 10_000 },
            },
            Setting {
                name: "threshold",
                about: "Squared distance, in variances, up to which a sample is background",
                kind: SettingKind::Number { default: 16, least: 1, most: 256 },
            },
        ],
        plan: Some(mog2),
    }],
};

pub static KERNEL: Kernel = portable(
    "mog2",
    params!(In before, In src, Out after; samples, rate, limit),
    include_str!("mog2.cl"),
    |args| {
        let [samples, ..]: [usize; 3] = sizes(args);
        let piece = even_piece(samples);
        let bytes = RECORD_BYTES * piece;
        rows(args, Rows::of(0, bytes, bytes, samples / piece), 8, row!(3, row));
    },
    |scalars| {
        let &[samples, rate, limit] = scalars else { return None };
        let state = RECORD_BYTES * samples as usize;
        let possible = (1..=1 << 28).contains(&samples) && (1..=ALL).contains(&rate);
        (possible && (1..=256).contains(&limit)).then(|| vec![state, samples as usize, state])
    },
);

/// A mode: weight, mean, variance.
type Mode = [u32; 3];

fn reference(args: &mut CpuArgs<'_>) {
    let [samples, ..]: [usize; 3] = sizes(args);
    let area = Rows::of(0, RECORD_BYTES * samples, RECORD_BYTES * samples, 1);
    pixels(args, area, RECORD_BYTES, |inputs, s: &[usize; 3], x, _, to| {
        follow(&inputs[0][RECORD_BYTES * x..], inputs[1][x], s[1] as u32, s[2] as u32, to);
    });
}

#[inline(always)]
fn row(inputs: &[&[u8]], s: &[usize; 3], y: usize, to: &mut [u8]) {
    let count = to.len() / RECORD_BYTES;
    let before = inputs[0][y * to.len()..].chunks_exact(RECORD_BYTES);
    let samples = &inputs[1][y * count..][..count];
    for ((to, before), sample) in to.chunks_exact_mut(RECORD_BYTES).zip(before).zip(samples) {
        follow(before, *sample, s[1] as u32, s[2] as u32, to);
    }
}

#[inline(always)]
fn follow(before: &[u8], sample: u8, rate: u32, limit: u32, to: &mut [u8]) {
    let mut modes: [Mode; MODES] =
        std::array::from_fn(|k| std::array::from_fn(|i| u32::from(word(before, 3 * k + i))));
    let (taken, is_background) = take(&mut modes, sample, rate, limit);
    let taken = taken.unwrap_or_else(|| begin(&mut modes, sample, rate));
    scale(&mut modes);
    for k in (1..=taken).rev() {
        if modes[k][0] > modes[k - 1][0] {
            modes.swap(k, k - 1);
        }
    }
    let numbers = to.chunks_exact_mut(2).zip(modes.iter().flatten());
    numbers.for_each(|(to, number)| to.copy_from_slice(&(*number as u16).to_le_bytes()));
    let mask: u16 = if is_background { 0 } else { 255 };
    to[RECORD_BYTES - 2..].copy_from_slice(&mask.to_le_bytes());
}

/// Ages the modes; which one took the sample, and whether it is background.
#[inline(always)]
fn take(modes: &mut [Mode; MODES], sample: u8, rate: u32, limit: u32) -> (Option<usize>, bool) {
    let (prune, target) = (rate / 20, i32::from(sample) * 128);
    let (mut taken, mut is_background, mut before) = (None, false, 0);
    for (k, mode) in modes.iter_mut().enumerate() {
        let [weight, mean, variance] = *mode;
        let mut aged = weight.saturating_sub(((weight * rate) >> 15) + prune);
        let d = target - mean as i32;
        let q = ((d * d) as u32) >> 10;
        if weight > 0 && taken.is_none() {
            is_background |= before < BACKGROUND && q < limit * variance;
            if q < 9 * variance {
                taken = Some(k);
                aged += rate;
                let share = ((rate << 15) / aged).min(ALL) as i32;
                mode[1] = (mean as i32 + ((d * share) >> 15)) as u32;
                let change = ((q as i32 - variance as i32) * share) >> 15;
                mode[2] = (variance as i32 + change).clamp(64, 1200) as u32;
            }
        }
        mode[0] = if aged < prune.max(1) { 0 } else { aged };
        before += mode[0];
    }
    (taken, is_background)
}

/// Puts a new mode in the place of the lightest.
#[inline(always)]
fn begin(modes: &mut [Mode; MODES], sample: u8, rate: u32) -> usize {
    let free = (0..MODES - 1).find(|k| modes[*k][0] == 0).unwrap_or(MODES - 1);
    let alone = modes.iter().all(|mode| mode[0] == 0);
    modes[free] = [if alone { ALL } else { rate }, u32::from(sample) * 128, 240];
    free
}

#[inline(always)]
fn scale(modes: &mut [Mode; MODES]) {
    let total: u32 = modes.iter().map(|mode| mode[0]).sum();
    for mode in modes {
        // Weights stay below 2^17, so the product fits.
        mode[0] = (u64::from(mode[0]) * u64::from(ALL) / u64::from(total.max(1))) as u32;
    }
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let samples = width * height;
    let mut before = vec![0; RECORD_BYTES * samples as usize];
    let src = dice.bytes(samples as usize, width);
    let (rate, limit) = dice.pick(&[(65, 16), (ALL, 1), (3000, 25), (3, 256)]);
    // States as they come about: a few pictures are followed.
    for _ in 0..dice.below(5) + 1 {
        let picture = dice.bytes(samples as usize, width);
        let mut after = vec![0; before.len()];
        for (i, to) in after.chunks_exact_mut(RECORD_BYTES).enumerate() {
            follow(&before[RECORD_BYTES * i..], picture[i], rate, limit, to);
        }
        before = after;
    }
    let items = Grid::Items(samples as usize);
    let command = launch(&KERNEL, &[0, 1, 2].map(BufferId), &[samples, rate, limit], items);
    Sample { command, inputs: vec![before, src] }
}

fn mog2(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let from = given[0].picture()?;
    let to = stage.picture(from.shape)?;
    let (width, height) = (from.shape.width, from.shape.height);
    let [before, after] = stage.state(RECORD_BYTES * (width * height) as usize)?;
    let rate = (i64::from(ALL) / values.number("history")).max(1) as u32;
    let scalars = [width * height, rate, values.number("threshold") as u32];
    let items = Grid::Items((width * height) as usize);
    stage.run(launch(&KERNEL, &[before, from.buffer, after], &scalars, items));
    let record = RECORD_BYTES as u32;
    let mask = Part { offset: record - 2, stride: width * record, width, height, bytes: 1 };
    let (from, to_lane) = (Lane { part: mask, step: record }, Lane::whole(to.shape.planes()[0]));
    stage.run(rearrange::command(after, from, to.buffer, to_lane, Map::SAME, 0));
    Ok(Given::Picture(to))
}

#[cfg(test)]
mod tests;
