//! Separable blurs: gaussian and box, and pyramids made of them.
//!
//! Whole weights `w` of sum `T` (at most 256) apply across, then down, with mirrored edges that do
//! not repeat the last sample; one division at the end, rounded half up:
//!
//! ```text
//! t[y][x]   = sum over i of w[i] s[y][x + i - r]                      fits 16 bits
//! dst[y][x] = (sum over i of w[i] t[y + i - r][x] + T^2 / 2) / T^2
//! ```
//!
//! A gaussian has `T = 256`, with weights rounded so that the error is carried outwards. For three
//! and five taps and a sigma of 0 these are OpenCV's, and so are the results.

use hw::{BufferId, Command, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::{Rows, long, longs, mirrored, pixels, row, rows, sizes, word};
use crate::plane::Part;
use crate::rearrange::{self, Map};
use crate::shape::Shape;
use crate::stem::{
    Entry, Given, Op, Picture, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch,
    params, portable,
};

/// Most weights of a blur.
pub const TAPS_MAX: usize = 63;

pub static STEM: Stem = Stem {
    entries: &[
        Entry { kernel: &ACROSS, reference: across_reference, sample: across_sample },
        Entry { kernel: &DOWN, reference: down_reference, sample: down_sample },
    ],
    ops: &[
        Op {
            name: "gaussian",
            about: "A blur with gaussian weights",
            inputs: &[Takes::PLANES],
            settings: &[
                SIZE,
                Setting {
                    name: "sigma",
                    about: "Width of the bell in samples; 0 for one that suits the size",
                    kind: SettingKind::Decimal { default: 0, least: 0, most: 20_000 },
                },
            ],
            plan: Some(gaussian_op),
        },
        Op {
            name: "box",
            about: "The mean of a square around each sample",
            inputs: &[Takes::PLANES],
            settings: &[SIZE],
            plan: Some(box_op),
        },
        Op {
            name: "pyramid_down",
            about: "Half the width and height after a gaussian of five taps",
            inputs: &[Takes::PLANES],
            settings: &[],
            plan: Some(pyramid_down),
        },
    ],
};

const SIZE: Setting = Setting {
    name: "size",
    about: "Samples of a side, odd",
    kind: SettingKind::Number { default: 5, least: 1, most: TAPS_MAX as i64 },
};

pub static ACROSS: Kernel = portable(
    "blur_across",
    params!(In weights, In src, Out dst; width, height, channels, offset, stride, taps),
    include_str!("blur.cl"),
    across_native,
    across_bytes,
);

pub static DOWN: Kernel = portable(
    "blur_down",
    params!(In weights, In src, Out dst; width, height, channels, offset, stride, taps),
    include_str!("blur.cl"),
    down_native,
    down_bytes,
);

/// Weights of sum 256 for a bell of this width.
pub fn gaussian(taps: usize, sigma: f64) -> Vec<u16> {
    match (taps, sigma == 0.0) {
        (1, _) => return vec![256],
        (3, true) => return vec![64, 128, 64],
        (5, true) => return vec![16, 64, 96, 64, 16],
        (7, true) => return vec![8, 28, 56, 72, 56, 28, 8],
        _ => {}
    }
    let radius = taps / 2;
    let sigma = if sigma > 0.0 { sigma } else { 0.3 * ((taps - 1) as f64 * 0.5 - 1.0) + 0.8 };
    let bell = |i: usize| (-((i * i) as f64) / (2.0 * sigma * sigma)).exp();
    let sum = bell(0) + 2.0 * (1..=radius).map(bell).sum::<f64>();
    let mut weights = vec![0u16; taps];
    let (mut carried, mut left) = (0.0, 256i32);
    for i in (1..=radius).rev() {
        let exact = bell(i) / sum * 256.0 + carried;
        let whole = exact.round();
        carried = exact - whole;
        weights[radius - i] = whole as u16;
        weights[radius + i] = whole as u16;
        left -= 2 * whole as i32;
    }
    weights[radius] = left.max(0) as u16;
    weights
}

/// Blurs one plane. `between` holds 16 bits for each byte of a plane without gaps.
pub fn commands(
    weights: BufferId,
    taps: usize,
    [src, between, dst]: [BufferId; 3],
    from: Part,
    to: Part,
) -> [Command; 2] {
    let scalars =
        |part: Part| [from.width, from.height, from.bytes, part.offset, part.stride, taps as u32];
    let rows = Grid::Rows(from.height as usize);
    [
        launch(&ACROSS, &[weights, src, between], &scalars(from), rows),
        launch(&DOWN, &[weights, between, dst], &scalars(to), rows),
    ]
}

fn weights_of(data: &[u8], taps: usize) -> [u32; TAPS_MAX] {
    std::array::from_fn(|i| if i < taps { long(data, i) & 0xFFFF } else { 0 })
}

fn across_rows(s: &[usize; 6]) -> Rows {
    let [width, height, channels, ..] = *s;
    let bytes = 2 * width * channels;
    Rows::of(0, bytes, bytes, height)
}

fn across_reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 6] = sizes(args);
    pixels(args, across_rows(&s), 2, |inputs, s: &[usize; 6], x, y, to| {
        let [width, _, channels, offset, stride, taps] = *s;
        let weights = weights_of(inputs[0], taps);
        let sum: u32 = (0..taps)
            .map(|i| {
                let from = (x / channels + i) as isize - (taps / 2) as isize;
                let at = mirrored(from, width) * channels + x % channels;
                weights[i] * u32::from(inputs[1][offset + y * stride + at])
            })
            .sum();
        to.copy_from_slice(&(sum as u16).to_le_bytes());
    });
}

fn across_native(args: &mut CpuArgs<'_>) {
    let s: [usize; 6] = sizes(args);
    rows(args, across_rows(&s), 2, row!(6, across_row));
}

/// Samples that are summed up at once.
const CHUNK: usize = 128;

#[inline(always)]
fn across_row(inputs: &[&[u8]], s: &[usize; 6], y: usize, to: &mut [u8]) {
    let [width, _, channels, offset, stride, taps] = *s;
    let weights = weights_of(inputs[0], taps);
    let (len, radius) = (width * channels, taps / 2);
    let from = &inputs[1][offset + y * stride..][..len];
    let mut padded = vec![0u8; len + 2 * radius * channels + CHUNK];
    padded[radius * channels..][..len].copy_from_slice(from);
    for i in 1..=radius {
        for (pixel, at) in
            [(-(i as isize), radius - i), ((width + i - 1) as isize, radius + width + i - 1)]
        {
            let source = mirrored(pixel, width) * channels;
            padded[at * channels..][..channels].copy_from_slice(&from[source..][..channels]);
        }
    }
    for (number, to) in to.chunks_mut(2 * CHUNK).enumerate() {
        let mut sums = [0u16; CHUNK];
        for (i, weight) in weights[..taps].iter().enumerate() {
            let samples = &padded[number * CHUNK + i * channels..][..CHUNK];
            for (sum, sample) in sums.iter_mut().zip(samples) {
                *sum = sum.wrapping_add(*weight as u16 * u16::from(*sample));
            }
        }
        for (to, sum) in to.chunks_exact_mut(2).zip(&sums) {
            to.copy_from_slice(&sum.to_le_bytes());
        }
    }
}

fn across_bytes(scalars: &[u32]) -> Option<Vec<usize>> {
    let [part, taps] = shape(scalars)?;
    let samples = scalars[0] as usize * scalars[1] as usize * scalars[2] as usize;
    Some(vec![4 * taps, part, 2 * samples])
}

/// Bytes of the plane with a stride, and the number of weights.
fn shape(scalars: &[u32]) -> Option<[usize; 2]> {
    let &[width, height, channels, offset, stride, taps] = scalars else { return None };
    let possible = (1..=4).contains(&channels) && taps as usize <= TAPS_MAX && taps % 2 == 1;
    let part = Part { offset, stride, width, height, bytes: channels };
    possible.then_some([part.end()?, taps as usize])
}

fn down_rows(s: &[usize; 6]) -> Rows {
    let [width, height, channels, offset, stride, _] = *s;
    Rows::of(offset, stride, width * channels, height)
}

fn down_reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 6] = sizes(args);
    pixels(args, down_rows(&s), 1, |inputs, s: &[usize; 6], x, y, to| {
        let [width, height, channels, _, _, taps] = *s;
        let weights = weights_of(inputs[0], taps);
        let total: u32 = weights.iter().sum();
        let sum: u32 = (0..taps)
            .map(|i| {
                let from = mirrored((y + i) as isize - (taps / 2) as isize, height);
                weights[i] * u32::from(word(inputs[1], from * width * channels + x))
            })
            .fold(0, u32::wrapping_add);
        let whole = (total * total).max(1);
        to[0] = (sum.wrapping_add(whole / 2) / whole).min(255) as u8;
    });
}

fn down_native(args: &mut CpuArgs<'_>) {
    let s: [usize; 6] = sizes(args);
    rows(args, down_rows(&s), 4, row!(6, down_row));
}

#[inline(always)]
fn down_row(inputs: &[&[u8]], s: &[usize; 6], y: usize, to: &mut [u8]) {
    let [width, height, channels, _, _, taps] = *s;
    let weights = weights_of(inputs[0], taps);
    let total: u32 = weights.iter().sum();
    let whole = (total * total).max(1);
    let len = width * channels;
    for (number, to) in to.chunks_mut(CHUNK).enumerate() {
        let mut sums = [whole / 2; CHUNK];
        for (i, weight) in weights[..taps].iter().enumerate() {
            let from = mirrored((y + i) as isize - (taps / 2) as isize, height);
            let row = &inputs[1][2 * (from * len + number * CHUNK)..][..2 * to.len()];
            for (sum, bytes) in sums.iter_mut().zip(row.chunks_exact(2)) {
                let value = u16::from_le_bytes([bytes[0], bytes[1]]);
                *sum = sum.wrapping_add(*weight as u16 as u32 * u32::from(value));
            }
        }
        if whole == 1 << 16 {
            to.iter_mut().zip(&sums).for_each(|(to, sum)| *to = (*sum >> 16).min(255) as u8);
        } else {
            // Sums and the divisor are below 2^24, so that single precision is off by one at most.
            let inverse = 1.0 / whole as f32;
            for (to, sum) in to.iter_mut().zip(&sums) {
                let near = (*sum as f32 * inverse) as i32;
                let left = *sum as i32 - near * whole as i32;
                let exact = near + i32::from(left >= whole as i32) - i32::from(left < 0);
                *to = exact.min(255) as u8;
            }
        }
    }
}

fn down_bytes(scalars: &[u32]) -> Option<Vec<usize>> {
    let [part, taps] = shape(scalars)?;
    let samples = scalars[0] as usize * scalars[1] as usize * scalars[2] as usize;
    Some(vec![4 * taps, 2 * samples, part])
}

fn across_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (weights, part) = parts(dice, width, height);
    let [command, _] = commands(BufferId(0), weights.len(), [1, 2, 3].map(BufferId), part, part);
    let src = dice.bytes((part.offset + part.stride * height) as usize, width);
    Sample { command, inputs: vec![longs(weights.iter().map(|w| i64::from(*w))), src] }
}

fn down_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (weights, part) = parts(dice, width, height);
    let [_, command] = commands(BufferId(0), weights.len(), [9, 1, 2].map(BufferId), part, part);
    let total: u16 = weights.iter().sum();
    let samples = dice.bytes((width * height * part.bytes) as usize, width);
    let between = samples.iter().flat_map(|s| (u16::from(*s) * total).to_le_bytes()).collect();
    Sample { command, inputs: vec![longs(weights.iter().map(|w| i64::from(*w))), between] }
}

fn parts(dice: &mut Dice, width: u32, height: u32) -> (Vec<u16>, Part) {
    let taps = dice.pick(&[5, 3, 1, 7, 31]);
    let weights = if dice.below(2) == 0 { gaussian(taps, 0.0) } else { vec![1; taps] };
    let bytes = dice.pick(&[1, 3, 2]);
    let part = Part {
        offset: dice.below(70),
        stride: width * bytes + dice.below(9),
        width,
        height,
        bytes,
    };
    (weights, part)
}

/// Blurs a picture plane by plane.
pub(crate) fn picture(
    stage: &mut dyn Stage,
    from: Picture,
    weights: &[u16],
) -> Result<Picture, String> {
    let table = stage.constant(longs(weights.iter().map(|w| i64::from(*w))))?;
    let to = stage.picture(from.shape)?;
    for part in from.shape.planes() {
        let between = stage.buffer(2 * (part.width * part.height * part.bytes) as usize)?;
        let buffers = [from.buffer, between, to.buffer];
        commands(table, weights.len(), buffers, part, part).into_iter().for_each(|c| stage.run(c));
    }
    Ok(to)
}

/// The size, which is odd.
pub(crate) fn odd(values: &Values<'_>) -> Result<usize, String> {
    match values.number("size") {
        even if even % 2 == 0 => Err(format!("size {even}: give an odd number")),
        odd => Ok(odd as usize),
    }
}

fn gaussian_op(
    stage: &mut dyn Stage,
    given: &[Given],
    values: &Values<'_>,
) -> Result<Given, String> {
    let weights = gaussian(odd(values)?, values.number("sigma") as f64 / 1000.0);
    picture(stage, given[0].picture()?, &weights).map(Given::Picture)
}

fn box_op(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    picture(stage, given[0].picture()?, &vec![1; odd(values)?]).map(Given::Picture)
}

fn pyramid_down(stage: &mut dyn Stage, given: &[Given], _: &Values<'_>) -> Result<Given, String> {
    let blurred = picture(stage, given[0].picture()?, &gaussian(5, 0.0))?;
    let Shape { width, height, .. } = blurred.shape;
    let shape = Shape { width: width.div_ceil(2), height: height.div_ceil(2), ..blurred.shape };
    rearrange::planes(stage, blurred, shape, &[], |_, _, _| Map {
        x: [0, 2, 0],
        y: [0, 0, 2],
        shift: 0,
    })
}

#[cfg(test)]
mod tests;
