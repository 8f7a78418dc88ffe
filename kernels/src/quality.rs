//! How much two gray pictures differ: PSNR, and SSIM over windows of 8 x 8 samples every 4, as
//! FFmpeg's `ssim` filter has it (Wang et al. 2004, k1 = 0.01, k2 = 0.03).
//!
//! The device adds up whole numbers; the host makes one number of them.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::{Rows, long, row, rows, sizes};
use crate::plane::Part;
use crate::shape::Shape;
use crate::stem::{
    Entry, Given, Op, Picture, Reduce, Sample, Stage, Stem, Takes, Values, launch, params, portable,
};

/// What identical pictures are said to have, in dB.
pub const PSNR_MAX: f64 = 100.0;

pub static STEM: Stem = Stem {
    entries: &[
        Entry { kernel: &SQUARES, reference: squares_reference, sample: squares_sample },
        Entry { kernel: &WINDOWS, reference: windows_reference, sample: windows_sample },
    ],
    ops: &[
        Op {
            name: "psnr",
            about: "Likeness of two gray pictures in dB; 100 for equal ones",
            inputs: &[Takes::GRAY, Takes::GRAY],
            settings: &[],
            plan: Some(psnr),
        },
        Op {
            name: "ssim",
            about: "Structural likeness of two gray pictures, 1 for equal ones",
            inputs: &[Takes::GRAY, Takes::GRAY],
            settings: &[],
            plan: Some(ssim),
        },
    ],
};

/// Sum of the squared differences of each row.
pub static SQUARES: Kernel = portable(
    "square_sums",
    params!(In a, In b, Out sums; width, height, a_stride, b_stride),
    include_str!("quality.cl"),
    |args| {
        let [_, height, ..]: [usize; 4] = sizes(args);
        rows(args, Rows::of(0, 4, 4, height), sizes::<4>(args)[0] / 2, row!(4, squares_row));
    },
    |scalars| {
        let &[width, height, a_stride, b_stride] = scalars else { return None };
        let end = |stride| Part { offset: 0, stride, width, height, bytes: 1 }.end();
        Some(vec![end(a_stride)?, end(b_stride)?, 4 * height as usize])
    },
);

/// Sums of a, of b, of the squares of both, and of the products, of each block of 4 x 4.
pub static WINDOWS: Kernel = portable(
    "ssim_blocks",
    params!(In a, In b, Out sums; width, height, a_stride, b_stride),
    include_str!("quality.cl"),
    |args| {
        let [width, height, ..]: [usize; 4] = sizes(args);
        let bytes = 16 * (width / 4);
        rows(args, Rows::of(0, bytes, bytes, height / 4), 2, row!(4, windows_row));
    },
    |scalars| {
        let &[width, height, a_stride, b_stride] = scalars else { return None };
        let end = |stride| Part { offset: 0, stride, width, height, bytes: 1 }.end();
        (width >= 4 && height >= 4).then_some(())?;
        let blocks = (width / 4) as usize * (height / 4) as usize;
        Some(vec![end(a_stride)?, end(b_stride)?, 16 * blocks])
    },
);

static PSNR: Reduce = Reduce { name: "psnr", run: psnr_of };
static SSIM: Reduce = Reduce { name: "ssim", run: ssim_of };

fn squares_reference(args: &mut CpuArgs<'_>) {
    let [width, height, a_stride, b_stride] = sizes(args);
    for y in 0..height {
        let square = |x: usize| {
            let (a, b) = (args.inputs[0][y * a_stride + x], args.inputs[1][y * b_stride + x]);
            u32::from(a.abs_diff(b)).pow(2)
        };
        let sum: u32 = (0..width).map(square).sum();
        args.outputs[0][4 * y..4 * y + 4].copy_from_slice(&sum.to_le_bytes());
    }
}

#[inline(always)]
fn squares_row(inputs: &[&[u8]], s: &[usize; 4], y: usize, to: &mut [u8]) {
    let [width, _, a_stride, b_stride] = *s;
    let (a, b) = (&inputs[0][y * a_stride..][..width], &inputs[1][y * b_stride..][..width]);
    let mut sum = 0i32;
    for (a, b) in a.iter().zip(b) {
        let d = i16::from(*a) - i16::from(*b);
        sum = sum.wrapping_add(i32::from(d) * i32::from(d));
    }
    to.copy_from_slice(&sum.to_le_bytes());
}

/// The four sums of the block whose first samples are given.
#[inline(always)]
fn block(a: &[u8], a_stride: usize, b: &[u8], b_stride: usize) -> [u32; 4] {
    let mut sums = [0u32; 4];
    for y in 0..4 {
        let (a, b) = (&a[y * a_stride..][..4], &b[y * b_stride..][..4]);
        for (a, b) in a.iter().zip(b) {
            let (a, b) = (u32::from(*a), u32::from(*b));
            sums[0] += a;
            sums[1] += b;
            sums[2] += a * a + b * b;
            sums[3] += a * b;
        }
    }
    sums
}

fn windows_reference(args: &mut CpuArgs<'_>) {
    let [width, height, a_stride, b_stride] = sizes(args);
    let columns = width / 4;
    for number in 0..columns * (height / 4) {
        let (x, y) = (4 * (number % columns), 4 * (number / columns));
        let (a, b) = (&args.inputs[0][y * a_stride + x..], &args.inputs[1][y * b_stride + x..]);
        for (i, sum) in block(a, a_stride, b, b_stride).into_iter().enumerate() {
            let at = 16 * number + 4 * i;
            args.outputs[0][at..at + 4].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

#[inline(always)]
fn windows_row(inputs: &[&[u8]], s: &[usize; 4], y: usize, to: &mut [u8]) {
    let [_, _, a_stride, b_stride] = *s;
    let (a, b) = (&inputs[0][4 * y * a_stride..], &inputs[1][4 * y * b_stride..]);
    for (x, to) in to.chunks_exact_mut(16).enumerate() {
        let sums = block(&a[4 * x..], a_stride, &b[4 * x..], b_stride);
        for (to, sum) in to.chunks_exact_mut(4).zip(sums) {
            to.copy_from_slice(&sum.to_le_bytes());
        }
    }
}

fn two(dice: &mut Dice, width: u32, height: u32) -> ([u32; 4], Vec<Vec<u8>>) {
    let (a_stride, b_stride) = (width + dice.below(9), width + dice.below(9));
    let a = dice.bytes((a_stride * height) as usize, width);
    let b = dice.bytes((b_stride * height) as usize, width);
    ([width, height, a_stride, b_stride], vec![a, b])
}

fn squares_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (scalars, inputs) = two(dice, width, height);
    let rows = Grid::Rows(height as usize);
    Sample { command: launch(&SQUARES, &[0, 1, 2].map(BufferId), &scalars, rows), inputs }
}

fn windows_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (scalars, inputs) = two(dice, width.max(4), height.max(4));
    let rows = Grid::Rows(height.max(4) as usize / 4);
    Sample { command: launch(&WINDOWS, &[0, 1, 2].map(BufferId), &scalars, rows), inputs }
}

fn same_size(given: &[Given]) -> Result<[Picture; 2], String> {
    let both = [given[0].picture()?, given[1].picture()?];
    let [a, b] = both.map(|picture| (picture.shape.width, picture.shape.height));
    match a == b {
        true => Ok(both),
        false => Err(format!("{} x {} and {} x {}: give two of one size", a.0, a.1, b.0, b.1)),
    }
}

fn psnr(stage: &mut dyn Stage, given: &[Given], _: &Values<'_>) -> Result<Given, String> {
    let [a, b] = same_size(given)?;
    let Shape { width, height, .. } = a.shape;
    let sums = stage.buffer(4 * height as usize)?;
    let rows = Grid::Rows(height as usize);
    let scalars = [width, height, width, width];
    stage.run(launch(&SQUARES, &[a.buffer, b.buffer, sums], &scalars, rows));
    Ok(stage.number(sums, &PSNR, [u64::from(width) * u64::from(height), 0]))
}

fn psnr_of(sums: &[u8], [pixels, _]: [u64; 2]) -> f64 {
    let sum: u64 = (0..sums.len() / 4).map(|i| u64::from(long(sums, i))).sum();
    match sum {
        0 => PSNR_MAX,
        sum => (10.0 * (255.0 * 255.0 * pixels as f64 / sum as f64).log10()).min(PSNR_MAX),
    }
}

fn ssim(stage: &mut dyn Stage, given: &[Given], _: &Values<'_>) -> Result<Given, String> {
    let [a, b] = same_size(given)?;
    let Shape { width, height, .. } = a.shape;
    if width < 8 || height < 8 {
        return Err(format!("{width} x {height}: give pictures of at least 8 x 8"));
    }
    let (columns, rows) = (width / 4, height / 4);
    let sums = stage.buffer(16 * (columns * rows) as usize)?;
    let scalars = [width, height, width, width];
    let grid = Grid::Rows(rows as usize);
    stage.run(launch(&WINDOWS, &[a.buffer, b.buffer, sums], &scalars, grid));
    Ok(stage.number(sums, &SSIM, [u64::from(columns), u64::from(rows)]))
}

fn ssim_of(sums: &[u8], [columns, rows]: [u64; 2]) -> f64 {
    let (columns, rows) = (columns as usize, rows as usize);
    let mut total = 0.0;
    for (x, y) in (1..rows).flat_map(|y| (1..columns).map(move |x| (x, y))) {
        let mut window = [0i64; 4];
        for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            for (i, sum) in window.iter_mut().enumerate() {
                *sum += i64::from(long(sums, 4 * ((y - dy) * columns + x - dx) + i));
            }
        }
        total += likeness(window);
    }
    total / ((columns - 1) * (rows - 1)).max(1) as f64
}

/// SSIM of one window of 64 samples.
fn likeness([a, b, squares, products]: [i64; 4]) -> f64 {
    const C1: i64 = (0.01 * 0.01 * 255.0 * 255.0 * 64.0 + 0.5) as i64;
    const C2: i64 = (0.03 * 0.03 * 255.0 * 255.0 * 64.0 * 63.0 + 0.5) as i64;
    let variances = squares * 64 - a * a - b * b;
    let covariance = products * 64 - a * b;
    let above = (2 * a * b + C1) as f64 * (2 * covariance + C2) as f64;
    let below = (a * a + b * b + C1) as f64 * (variances + C2) as f64;
    above / below
}
