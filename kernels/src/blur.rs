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
//! A pyramid keeps every other place of both.
//!
//! A gaussian has `T = 256`, with weights rounded so that the error is carried inwards. These are
//! OpenCV's for bytes, and so are the results, to the bit, of any size and sigma. A factor that all
//! weights have in common changes no result and is left out: small sums need narrow lanes.

mod both;

use hw::{BufferId, Command, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::lanes::{Plain, Weighed, fold, padded};
use crate::native::{Rows, long, longs, mirrored, pixels, row, rows, sizes, word};
use crate::plane::Part;
use crate::shape::Shape;
use crate::stem::{
    Entry, Given, Op, Picture, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, after,
    launch, pair, params, portable,
};

/// Most weights of a blur.
pub const TAPS_MAX: usize = 255;

/// The widest bell, in thousandths: six of them and one are the most weights.
const SIGMA_MAX: i64 = 42_000;

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
                Setting {
                    name: "size",
                    about: "Samples of a side, odd; 0 for three sigmas to each side, or 5",
                    kind: SettingKind::Number { default: 0, least: 0, most: TAPS_MAX as i64 },
                },
                Setting {
                    name: "sigma",
                    about: "Width of the bell in samples; 0 for one that suits the size",
                    kind: SettingKind::Decimal { default: 0, least: 0, most: SIGMA_MAX },
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
    params!(In weights, In src, Out dst; width, height, channels, offset, stride, taps, step),
    include_str!("blur.cl"),
    across_native,
    across_bytes,
);

pub static DOWN: Kernel = after(
    portable(
        "blur_down",
        params!(In weights, In src, Out dst; width, height, channels, offset, stride, taps, step),
        include_str!("blur.cl"),
        down_native,
        down_bytes,
    ),
    "blur_across",
    both::native,
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

/// Blurs one plane, and keeps the places of every `step`th column and row. `between` holds 16 bits
/// for each byte of a plane without gaps, as wide as the result and as high as the source.
pub fn commands(
    weights: BufferId,
    taps: usize,
    [src, between, dst]: [BufferId; 3],
    from: Part,
    to: Part,
    step: u32,
) -> [Command; 2] {
    let scalars = |width: u32, part: Part| {
        [width, from.height, from.bytes, part.offset, part.stride, taps as u32, step]
    };
    let (all, kept) = (Grid::Rows(from.height as usize), Grid::Rows(to.height as usize));
    [
        launch(&ACROSS, &[weights, src, between], &scalars(from.width, from), all),
        launch(&DOWN, &[weights, between, dst], &scalars(to.width, to), kept),
    ]
}

fn weights_of(data: &[u8], taps: usize) -> [u32; TAPS_MAX] {
    let mut weights = [0; TAPS_MAX];
    let given = weights.iter_mut().take(taps).enumerate();
    given.for_each(|(i, weight)| *weight = long(data, i) & 0xFFFF);
    weights
}

/// Bytes of the plane with a stride, and the number of weights.
fn shape(part: Part, taps: u32, step: u32) -> Option<[usize; 2]> {
    let possible = (1..=4).contains(&part.bytes) && taps as usize <= TAPS_MAX && taps % 2 == 1;
    (possible && (1..=2).contains(&step)).then_some([part.end()?, taps as usize])
}

fn across_rows(s: &[usize; 7]) -> Rows {
    let [width, height, channels, _, _, _, step] = *s;
    let bytes = 2 * width.div_ceil(step) * channels;
    Rows::of(0, bytes, bytes, height)
}

fn across_reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 7] = sizes(args);
    pixels(args, across_rows(&s), 2, |inputs, s: &[usize; 7], x, y, to| {
        let [width, _, channels, offset, stride, taps, step] = *s;
        let weights = weights_of(inputs[0], taps);
        let sum: u32 = (0..taps)
            .map(|i| {
                let from = (x / channels * step + i) as isize - (taps / 2) as isize;
                let at = mirrored(from, width) * channels + x % channels;
                weights[i] * u32::from(inputs[1][offset + y * stride + at])
            })
            .sum();
        to.copy_from_slice(&(sum as u16).to_le_bytes());
    });
}

fn across_native(args: &mut CpuArgs<'_>) {
    let s: [usize; 7] = sizes(args);
    rows(args, across_rows(&s), 2, row!(7, across_row));
}

#[inline(always)]
fn across_row(inputs: &[&[u8]], s: &[usize; 7], y: usize, to: &mut [u8]) {
    let [width, _, channels, offset, stride, taps, step] = *s;
    let weights = weights_of(inputs[0], taps);
    let len = width * channels;
    let row = padded(&inputs[1][offset + y * stride..][..len], channels, taps / 2, mirrored);
    let tap = |n: usize| (&row[n * channels..][..len], weights[n] as u16);
    let to = to.as_chunks_mut::<2>().0;
    if step == 1 {
        return across(&weights[..taps], tap, to);
    }
    let mut all = vec![[0u8; 2]; len];
    across(&weights[..taps], tap, &mut all);
    if channels == 1 {
        to.iter_mut().zip(all.chunks(2)).for_each(|(to, pair)| *to = pair[0]);
    } else {
        let pixels = all.chunks(step * channels);
        to.chunks_exact_mut(channels).zip(pixels).for_each(|(to, pixels)| {
            to.copy_from_slice(&pixels[..channels]);
        });
    }
}

#[inline(always)]
fn across<'a>(weights: &[u32], tap: impl Fn(usize) -> (&'a [u8], u16), to: &mut [[u8; 2]]) {
    if weights.iter().all(|weight| *weight == 1) {
        fold::<Plain, u8, u16, _>(weights.len(), tap, 0, to, u16::to_le_bytes);
    } else {
        fold::<Weighed, u8, u16, _>(weights.len(), tap, 0, to, u16::to_le_bytes);
    }
}

fn across_bytes(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[width, height, bytes, offset, stride, taps, step] = scalars else { return None };
    let [part, taps] = shape(Part { offset, stride, width, height, bytes }, taps, step)?;
    let samples = width.div_ceil(step) as usize * height as usize * bytes as usize;
    Some(vec![4 * taps, part, 2 * samples])
}

fn down_rows(s: &[usize; 7]) -> Rows {
    let [width, height, channels, offset, stride, _, step] = *s;
    Rows::of(offset, stride, width * channels, height.div_ceil(step))
}

fn down_reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 7] = sizes(args);
    pixels(args, down_rows(&s), 1, |inputs, s: &[usize; 7], x, y, to| {
        let [width, height, channels, _, _, taps, step] = *s;
        let weights = weights_of(inputs[0], taps);
        let total: u32 = weights.iter().sum();
        let sum: u32 = (0..taps)
            .map(|i| {
                let from = mirrored((y * step + i) as isize - (taps / 2) as isize, height);
                weights[i] * u32::from(word(inputs[1], from * width * channels + x))
            })
            .fold(0, u32::wrapping_add);
        let whole = (total * total).max(1);
        to[0] = (sum.wrapping_add(whole / 2) / whole).min(255) as u8;
    });
}

fn down_native(args: &mut CpuArgs<'_>) {
    let s: [usize; 7] = sizes(args);
    rows(args, down_rows(&s), 4, row!(7, down_row));
}

#[inline(always)]
fn down_row(inputs: &[&[u8]], s: &[usize; 7], y: usize, to: &mut [u8]) {
    let [width, height, channels, _, _, taps, step] = *s;
    let weights = weights_of(inputs[0], taps);
    let total: u32 = weights.iter().sum();
    let whole = (total * total).max(1);
    let len = width * channels;
    let all = inputs[1].as_chunks::<2>().0;
    let row = |n: usize| {
        let from = mirrored((y * step + n) as isize - (taps / 2) as isize, height);
        &all[from * len..][..len]
    };
    if let Some((factor, shift)) = narrow_inverse(whole) {
        let divided = |sum: u16| ((u32::from(sum) * u32::from(factor)) >> 16) as u16 >> shift;
        let (start, finish) = ((whole / 2) as u16, |sum: u16| divided(sum) as u8);
        if weights[..taps].iter().all(|weight| *weight == 1) {
            fold::<Plain, [u8; 2], u16, u8>(taps, |n| (row(n), 1), start, to, finish);
        } else {
            let tap = |n: usize| (row(n), weights[n] as u16);
            fold::<Weighed, [u8; 2], u16, u8>(taps, tap, start, to, finish);
        }
        return;
    }
    let tap = |n: usize| (row(n), weights[n]);
    if whole == 1 << 16 {
        let finish = |sum: u32| (sum >> 16).min(255) as u8;
        return fold::<Weighed, [u8; 2], u32, u8>(taps, tap, whole / 2, to, finish);
    }
    // Sums and the divisor are below 2^24, so that single precision is off by one at most.
    let inverse = 1.0 / whole as f32;
    fold::<Weighed, [u8; 2], u32, u8>(taps, tap, whole / 2, to, |sum| {
        let near = (sum as f32 * inverse) as i32;
        let left = sum as i32 - near * whole as i32;
        let exact = near + i32::from(left >= whole as i32) - i32::from(left < 0);
        exact.min(255) as u8
    });
}

/// `m` and `k`, such that `((n m) >> 16) >> k` is `n / whole` for all sums that a blur has, where
/// these fit 16 bits (Granlund and Montgomery 1994).
fn narrow_inverse(whole: u32) -> Option<(u16, u32)> {
    (2..=256).contains(&whole).then_some(())?;
    let shift = (whole - 1).ilog2();
    let factor = (1u32 << (16 + shift)).div_ceil(whole);
    let excess = u64::from(factor * whole - (1 << (16 + shift)));
    (excess * u64::from(256 * whole) < 1 << (16 + shift)).then_some((factor as u16, shift))
}

fn down_bytes(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[width, height, bytes, offset, stride, taps, step] = scalars else { return None };
    Part::tight(0, width, height, bytes).end()?;
    let part = Part { offset, stride, width, height: height.div_ceil(step.max(1)), bytes };
    let [part, taps] = shape(part, taps, step)?;
    let samples = width as usize * height as usize * bytes as usize;
    Some(vec![4 * taps, 2 * samples, part])
}

fn across_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (weights, from, to, step) = parts(dice, width, height);
    let [command, _] =
        commands(BufferId(0), weights.len(), [1, 2, 3].map(BufferId), from, to, step);
    let src = dice.bytes((from.offset + from.stride * height) as usize, width);
    Sample { command, inputs: vec![longs(weights.iter().map(|w| i64::from(*w))), src] }
}

fn down_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (weights, from, to, step) = parts(dice, width, height);
    let [_, command] =
        commands(BufferId(0), weights.len(), [9, 1, 2].map(BufferId), from, to, step);
    let total: u16 = weights.iter().sum();
    let samples = dice.bytes((to.width * height * to.bytes) as usize, width);
    let between = samples.iter().flat_map(|s| (u16::from(*s) * total).to_le_bytes()).collect();
    Sample { command, inputs: vec![longs(weights.iter().map(|w| i64::from(*w))), between] }
}

fn parts(dice: &mut Dice, width: u32, height: u32) -> (Vec<u16>, Part, Part, u32) {
    let taps = dice.pick(&[5, 3, 1, 7, 15, 31, 63, 255]);
    let weights = match dice.below(3) {
        0 => reduced(&gaussian(taps, 0.0)),
        1 => gaussian(taps, 0.0),
        _ => vec![1; taps],
    };
    let (bytes, step) = (dice.pick(&[1, 3, 2]), 1 + dice.below(2));
    let mut part = |width: u32, height: u32| Part {
        offset: dice.below(70),
        stride: width * bytes + dice.below(9),
        width,
        height,
        bytes,
    };
    let from = part(width, height);
    (weights, from, part(width.div_ceil(step), height.div_ceil(step)), step)
}

/// The weights without the factor that all have in common.
fn reduced(weights: &[u16]) -> Vec<u16> {
    let common = weights.iter().fold(0, |mut a, b| {
        let mut b = *b;
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    });
    weights.iter().map(|weight| weight / common.max(1)).collect()
}

/// Blurs a picture plane by plane.
pub(crate) fn picture(
    stage: &mut dyn Stage,
    from: Picture,
    weights: &[u16],
) -> Result<Picture, String> {
    stepped(stage, from, weights, 1)
}

/// Blurs a picture, and keeps every `step`th column and row.
fn stepped(
    stage: &mut dyn Stage,
    from: Picture,
    weights: &[u16],
    step: u32,
) -> Result<Picture, String> {
    let weights = reduced(weights);
    let table = stage.constant(longs(weights.iter().map(|w| i64::from(*w))))?;
    let Shape { width, height, .. } = from.shape;
    let (width, height) = (width.div_ceil(step), height.div_ceil(step));
    let to = stage.picture(Shape { width, height, ..from.shape })?;
    for (a, b) in from.shape.planes().into_iter().zip(to.shape.planes()) {
        let between = stage.buffer(2 * (b.width * a.height * a.bytes) as usize)?;
        let buffers = [from.buffer, between, to.buffer];
        let [across, down] = commands(table, weights.len(), buffers, a, b, step);
        stage.run(pair(across, down));
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

/// As many weights as OpenCV has for a bell of so many thousandths over bytes; five for none.
fn suited(sigma: i64) -> usize {
    match sigma {
        0 => 5,
        // Half a sample more, so that it is rounded.
        _ => ((6 * sigma + 1000 + 500) as usize / 1000) | 1,
    }
}

fn gaussian_op(
    stage: &mut dyn Stage,
    given: &[Given],
    values: &Values<'_>,
) -> Result<Given, String> {
    let sigma = values.number("sigma");
    let size = match values.number("size") {
        0 => suited(sigma),
        _ => odd(values)?,
    };
    let weights = gaussian(size, sigma as f64 / 1000.0);
    picture(stage, given[0].picture()?, &weights).map(Given::Picture)
}

fn box_op(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    picture(stage, given[0].picture()?, &vec![1; odd(values)?]).map(Given::Picture)
}

fn pyramid_down(stage: &mut dyn Stage, given: &[Given], _: &Values<'_>) -> Result<Given, String> {
    stepped(stage, given[0].picture()?, &gaussian(5, 0.0), 2).map(Given::Picture)
}

#[cfg(test)]
mod tests;
