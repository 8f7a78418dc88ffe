//! The transform of blocks of 8 x 8 (clause 8.5.13), which the High profiles have and the encoder
//! here, of the constrained baseline, does without: what differs from a prediction becomes levels,
//! and the levels what a decoder makes of them.
//!
//! The forward transform goes down columns, then along rows, with the butterflies of the inverse
//! turned round; the inverse is the standard's, with flat scaling lists. Quantisation is ours, with
//! the usual multipliers: `level = sign(c) * ((|c| * factor + bias) >> (16 + qp / 6))`; the bias is
//! a third of a step in intra blocks, a sixth in others.
//!
//! Levels are signed 16-bit, little-endian, 64 to a block in zigzag order (the frame scan, which is
//! that of JPEG); blocks go row by row.

use hw::{BufferId, Command, CpuArgs, Grid, Kernel};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use crate::dice::Dice;
use crate::jpeg::ZIGZAG;
use crate::native::threads_for;
use crate::plane::Part;
use crate::stem::{Entry, Sample, Stem, launch, params, portable};

/// Bytes of the levels of a block.
pub const LEVELS_BYTES: usize = 2 * 64;
/// The coarsest quantiser.
const QP_MAX: u32 = 51;

pub static STEM: Stem = Stem { entries: &[Entry { kernel: &KERNEL, reference, sample }], ops: &[] };

/// `given` and `predicted`: planes of so many blocks; `rebuilt`: another.
pub static KERNEL: Kernel = portable(
    "h264_eight",
    params!(In given, In predicted, Out levels, Out rebuilt; columns, rows, given_stride,
        predicted_stride, rebuilt_stride, qp, intra),
    include_str!("eight.cl"),
    native,
    |scalars| {
        let blocks = Blocks::of(scalars)?;
        let [given, predicted, rebuilt] = blocks.planes().map(|plane| plane.end());
        let levels = blocks.columns as usize * blocks.rows as usize * LEVELS_BYTES;
        Some(vec![given?, predicted?, levels, rebuilt?])
    },
);

/// What a launch is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    pub columns: u32,
    pub rows: u32,
    /// Bytes from one row of samples to the next, in what is given, predicted and rebuilt.
    pub strides: [u32; 3],
    pub qp: u32,
    pub intra: bool,
}

impl Blocks {
    fn of(scalars: &[u32]) -> Option<Self> {
        let &[columns, rows, given, predicted, rebuilt, qp, intra] = scalars else { return None };
        let strides = [given, predicted, rebuilt];
        (qp <= QP_MAX && intra <= 1).then_some(())?;
        (columns.max(rows) <= crate::SIDE_MAX / 8).then_some(())?;
        Some(Self { columns, rows, strides, qp, intra: intra == 1 })
    }

    fn planes(&self) -> [Part; 3] {
        let (width, height) = (8 * self.columns, 8 * self.rows);
        self.strides.map(|stride| Part { offset: 0, stride, width, height, bytes: 1 })
    }
}

/// Codes blocks.
pub fn command(buffers: [BufferId; 4], blocks: Blocks) -> Command {
    let Blocks { columns, rows, strides: [given, predicted, rebuilt], qp, intra } = blocks;
    let scalars = [columns, rows, given, predicted, rebuilt, qp, intra.into()];
    launch(&KERNEL, &buffers, &scalars, Grid::Items(columns as usize * rows as usize))
}

/// Multipliers and steps of the six kinds of places in a block, by `qp % 6`.
const FACTORS: [[i32; 6]; 6] = [
    [13107, 11428, 20972, 12222, 16777, 15481],
    [11916, 10826, 19174, 11058, 14980, 14290],
    [10082, 8943, 15978, 9675, 12710, 11985],
    [9362, 8228, 14913, 8931, 11984, 11259],
    [8192, 7346, 13159, 7740, 10486, 9777],
    [7282, 6428, 11570, 6830, 9118, 8640],
];
const STEPS: [[i32; 6]; 6] = [
    [20, 18, 32, 19, 25, 24],
    [22, 19, 35, 21, 28, 26],
    [26, 23, 42, 24, 33, 31],
    [28, 25, 45, 26, 35, 33],
    [32, 28, 51, 30, 40, 38],
    [36, 32, 58, 34, 46, 43],
];

/// The kind of a place.
fn kind(y: usize, x: usize) -> usize {
    match (y % 4, x % 4) {
        (0, 0) => 0,
        (1 | 3, 1 | 3) => 1,
        (2, 2) => 2,
        (0, 1 | 3) | (1 | 3, 0) => 3,
        (0, 2) | (2, 0) => 4,
        _ => 5,
    }
}

#[inline(always)]
fn forward([a, b, c, d, e, f, g, h]: [i32; 8]) -> [i32; 8] {
    let (s07, s16, s25, s34) = (a + h, b + g, c + f, d + e);
    let (d07, d16, d25, d34) = (a - h, b - g, c - f, d - e);
    let (a0, a1, a2, a3) = (s07 + s34, s16 + s25, s07 - s34, s16 - s25);
    let (a4, a5) = (d16 + d25 + d07 + (d07 >> 1), d07 - d34 - d25 - (d25 >> 1));
    let (a6, a7) = (d07 + d34 - d16 - (d16 >> 1), d16 - d25 + d34 + (d34 >> 1));
    let even = [a0 + a1, a2 + (a3 >> 1), a0 - a1, (a2 >> 1) - a3];
    let odd = [a4 + (a7 >> 2), a5 + (a6 >> 2), a6 - (a5 >> 2), (a4 >> 2) - a7];
    [even[0], odd[0], even[1], odd[1], even[2], odd[2], even[3], odd[3]]
}

#[inline(always)]
fn inverse([s0, s1, s2, s3, s4, s5, s6, s7]: [i32; 8]) -> [i32; 8] {
    let (a0, a2) = (s0 + s4, s0 - s4);
    let (a4, a6) = ((s2 >> 1) - s6, (s6 >> 1) + s2);
    let (b0, b2, b4, b6) = (a0 + a6, a2 + a4, a2 - a4, a0 - a6);
    let (a1, a3) = (s5 - s3 - s7 - (s7 >> 1), s1 + s7 - s3 - (s3 >> 1));
    let (a5, a7) = (s7 - s1 + s5 + (s5 >> 1), s3 + s5 + s1 + (s1 >> 1));
    let (b1, b3) = (a1 + (a7 >> 2), a3 + (a5 >> 2));
    let (b5, b7) = ((a3 >> 2) - a5, a7 - (a1 >> 2));
    [b0 + b7, b2 + b5, b4 + b3, b6 + b1, b6 - b1, b4 - b3, b2 - b5, b0 - b7]
}

type Square = [[i32; 8]; 8];

#[inline(always)]
fn turned(d: &Square) -> Square {
    std::array::from_fn(|y| std::array::from_fn(|x| d[x][y]))
}

#[inline(always)]
fn level(c: i32, y: usize, x: usize, qp: u32, intra: bool) -> i32 {
    let shift = 16 + qp / 6;
    let bias = (1 << shift) / if intra { 3 } else { 6 };
    c.signum() * ((c.abs() * FACTORS[(qp % 6) as usize][kind(y, x)] + bias) >> shift)
}

#[inline(always)]
fn scaled(level: i32, y: usize, x: usize, qp: u32) -> i32 {
    let product = level * 16 * STEPS[(qp % 6) as usize][kind(y, x)];
    match qp / 6 {
        up @ 6.. => product << (up - 6),
        up => (product + (1 << (5 - up))) >> (6 - up),
    }
}

/// Codes a block of `given` at a place; its rebuilt samples.
#[inline(always)]
fn block(
    [given, predicted]: [&[u8]; 2],
    strides: [usize; 2],
    (qp, intra): (u32, bool),
    levels: &mut [u8],
) -> [[u8; 8]; 8] {
    let at = |plane: &[u8], stride: usize, x: usize, y: usize| i32::from(plane[y * stride + x]);
    let differs: Square = std::array::from_fn(|y| {
        std::array::from_fn(|x| at(given, strides[0], x, y) - at(predicted, strides[1], x, y))
    });
    let down = turned(&turned(&differs).map(forward));
    let mut c = down.map(forward);
    for (y, row) in c.iter_mut().enumerate() {
        for (x, c) in row.iter_mut().enumerate() {
            *c = level(*c, y, x, qp, intra);
        }
    }
    for (to, natural) in levels.chunks_exact_mut(2).zip(ZIGZAG.map(usize::from)) {
        to.copy_from_slice(&(c[natural / 8][natural % 8] as i16).to_le_bytes());
    }
    for (y, row) in c.iter_mut().enumerate() {
        for (x, c) in row.iter_mut().enumerate() {
            *c = scaled(*c, y, x, qp);
        }
    }
    let across = c.map(inverse);
    let back = turned(&turned(&across).map(inverse));
    std::array::from_fn(|y| {
        std::array::from_fn(|x| {
            let sample = at(predicted, strides[1], x, y) + ((back[y][x] + 32) >> 6);
            sample.clamp(0, 255) as u8
        })
    })
}

/// Codes rows of blocks, from the first that is given on.
fn code([given, predicted]: [&[u8]; 2], levels: &mut [u8], rebuilt: &mut [u8], blocks: &Blocks) {
    let strides = blocks.strides.map(|stride| stride as usize);
    for (number, levels) in levels.chunks_exact_mut(LEVELS_BYTES).enumerate() {
        let (x, y) = (number % blocks.columns as usize, number / blocks.columns as usize);
        let at = |stride: usize| 8 * (y * stride + x);
        let planes = [&given[at(strides[0])..], &predicted[at(strides[1])..]];
        let made = block(planes, [strides[0], strides[1]], (blocks.qp, blocks.intra), levels);
        for (row, made) in made.iter().enumerate() {
            rebuilt[(8 * y + row) * strides[2] + 8 * x..][..8].copy_from_slice(made);
        }
    }
}

fn reference(args: &mut CpuArgs<'_>) {
    let Some(blocks) = Blocks::of(&args.scalars) else { return };
    let [levels, rebuilt] = &mut args.outputs[..] else { return };
    code([args.inputs[0], args.inputs[1]], levels, rebuilt, &blocks);
}

/// Each thread has some rows of blocks.
fn native(args: &mut CpuArgs<'_>) {
    let Some(blocks) = Blocks::of(&args.scalars) else { return };
    let (columns, rows) = (blocks.columns as usize, blocks.rows as usize);
    let threads = threads_for(args, 8 * 64 * columns * rows);
    let band = rows.div_ceil(threads);
    let strides = blocks.strides.map(|stride| 8 * band * stride as usize);
    let inputs = [args.inputs[0], args.inputs[1]];
    let [levels, rebuilt] = &mut args.outputs[..] else { return };
    let levels = levels[..columns * rows * LEVELS_BYTES].chunks_mut(band * columns * LEVELS_BYTES);
    let strips: Vec<_> = levels.zip(rebuilt.chunks_mut(strides[2])).collect();
    strips.into_par_iter().enumerate().for_each(|(number, (levels, rebuilt))| {
        let from = |i: usize| &inputs[i][number * strides[i]..];
        code([from(0), from(1)], levels, rebuilt, &blocks);
    });
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (columns, rows) = (width.div_ceil(8), height.div_ceil(8));
    let blocks = Blocks {
        columns,
        rows,
        strides: [0; 3].map(|_| 8 * columns + dice.below(9)),
        qp: dice.pick(&[24, 0, 51, 35, 36, 7]),
        intra: dice.below(2) == 0,
    };
    let [given, predicted] =
        [0, 1].map(|i| dice.bytes((blocks.strides[i] * 8 * rows) as usize, 8 * columns));
    Sample { command: command([0, 1, 2, 3].map(BufferId), blocks), inputs: vec![given, predicted] }
}

#[cfg(test)]
mod tests;
