//! Prediction of blocks of 4 x 4 from the samples around them (clause 8.3.1.2), which the encoder
//! here does without: which of the nine modes is nearest to what is given, and what it predicts.
//!
//! What lies around is a plane of its own. Where it is what was given, the modes are a guess, good
//! for all blocks at once; where it is rebuilt up to a block, they are right for that one. Samples
//! above to the right that come later in coding order, or are outside, are the last one above. The
//! nearest mode is that with the least sum of absolute differences, the first of equal ones.

use hw::{BufferId, Command, CpuArgs, Grid, Kernel};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use crate::dice::Dice;
use crate::native::threads_for;
use crate::plane::Part;
use crate::stem::{Entry, Sample, Stem, launch, params, portable};

/// Modes, by their numbers in the standard.
pub const MODES: u8 = 9;
const MEAN: u8 = 2;

pub static STEM: Stem = Stem { entries: &[Entry { kernel: &KERNEL, reference, sample }], ops: &[] };

/// `given` and `around`: planes of so many blocks; `modes`: a byte for each, row by row;
/// `predicted`: another plane.
pub static KERNEL: Kernel = portable(
    "h264_four",
    params!(In given, In around, Out modes, Out predicted; columns, rows, given_stride,
        around_stride, predicted_stride),
    include_str!("four.cl"),
    native,
    |scalars| {
        let blocks = Blocks::of(scalars)?;
        let [given, around, predicted] = blocks.planes().map(|plane| plane.end());
        let modes = blocks.columns as usize * blocks.rows as usize;
        Some(vec![given?, around?, modes, predicted?])
    },
);

/// What a launch is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    pub columns: u32,
    pub rows: u32,
    /// Bytes from one row of samples to the next, in what is given, around and predicted.
    pub strides: [u32; 3],
}

impl Blocks {
    fn of(scalars: &[u32]) -> Option<Self> {
        let &[columns, rows, ref strides @ ..] = scalars else { return None };
        let strides = strides.try_into().ok()?;
        (columns.max(rows) <= crate::SIDE_MAX / 4).then_some(Self { columns, rows, strides })
    }

    fn planes(&self) -> [Part; 3] {
        let (width, height) = (4 * self.columns, 4 * self.rows);
        self.strides.map(|stride| Part { offset: 0, stride, width, height, bytes: 1 })
    }
}

/// Looks for modes.
pub fn command(buffers: [BufferId; 4], blocks: Blocks) -> Command {
    let Blocks { columns, rows, strides: [given, around, predicted] } = blocks;
    let scalars = [columns, rows, given, around, predicted];
    launch(&KERNEL, &buffers, &scalars, Grid::Items(columns as usize * rows as usize))
}

/// Whether the samples above to the right of a block are there before it is coded: a bit for each
/// block of a macroblock, row by row.
const RIGHT_ABOVE: u32 = 0x575F;

fn has_right_above(x: usize, y: usize, columns: usize) -> bool {
    y > 0 && x + 1 < columns && RIGHT_ABOVE >> (y % 4 * 4 + x % 4) & 1 == 1
}

/// The samples around a block, as far as they are there: up the left side, the corner, then along
/// above.
struct Edge {
    samples: [i32; 13],
    above: bool,
    left: bool,
}

impl Edge {
    #[inline(always)]
    fn new(around: &[u8], stride: usize, x: usize, y: usize, columns: usize) -> Self {
        let (above, left) = (y > 0, x > 0);
        let has_right = has_right_above(x, y, columns);
        let at = |row: usize, column: usize| i32::from(around[row * stride + column]);
        let (row, column) = (4 * y, 4 * x);
        let samples = std::array::from_fn(|i| match i {
            0..4 if left => at(row + 3 - i, column - 1),
            4 if left && above => at(row - 1, column - 1),
            5.. if above => at(row - 1, column + if has_right { i - 5 } else { (i - 5).min(3) }),
            _ => 0,
        });
        Self { samples, above, left }
    }

    /// Whether a mode has all that it looks at.
    #[inline(always)]
    fn allows(&self, mode: u8) -> bool {
        match mode {
            MEAN => true,
            0 | 3 | 7 => self.above,
            1 | 8 => self.left,
            _ => self.above && self.left,
        }
    }

    #[inline(always)]
    fn mean(&self) -> i32 {
        let sum = |from: usize| self.samples[from..from + 4].iter().sum::<i32>();
        match (self.above, self.left) {
            (true, true) => (sum(0) + sum(5) + 4) >> 3,
            (true, false) => (sum(5) + 2) >> 2,
            (false, true) => (sum(0) + 2) >> 2,
            (false, false) => 128,
        }
    }

    #[inline(always)]
    fn predicted(&self, mode: u8) -> [[i32; 4]; 4] {
        let e = |i: usize| self.samples[i];
        let two = |i: usize| (e(i) + e(i + 1) + 1) >> 1;
        // Around the middle one.
        let three = |i: usize| (e(i - 1) + 2 * e(i) + e(i + 1) + 2) >> 2;
        let mean = self.mean();
        std::array::from_fn(|y| {
            std::array::from_fn(|x| match mode {
                0 => e(5 + x),
                1 => e(3 - y),
                MEAN => mean,
                3 if x + y == 6 => (e(11) + 3 * e(12) + 2) >> 2,
                3 => three(6 + x + y),
                4 => three(4 + x - y),
                5 if 2 * x + 1 < y => three(5 - y),
                5 if 2 * x + 1 == y => three(4),
                5 if y % 2 == 0 => two(4 + x - y / 2),
                5 => three(4 + x - y / 2),
                6 if 2 * y + 1 < x => three(3 + x),
                6 if 2 * y + 1 == x => three(4),
                6 if x % 2 == 0 => two(3 + x / 2 - y),
                6 => three(4 + x / 2 - y),
                7 if y % 2 == 0 => two(5 + x + y / 2),
                7 => three(6 + x + y / 2),
                _ if x + 2 * y > 5 => e(0),
                _ if x + 2 * y == 5 => (e(1) + 3 * e(0) + 2) >> 2,
                _ if x % 2 == 0 => two(2 - y - x / 2),
                _ => three(2 - y - x / 2),
            })
        })
    }
}

/// The nearest mode to a block of `given` at its start, and what it predicts.
#[inline(always)]
fn nearest(given: &[u8], stride: usize, edge: &Edge) -> (u8, [[i32; 4]; 4]) {
    let difference = |block: &[[i32; 4]; 4]| {
        let rows = block.iter().enumerate();
        let row = |(y, row): (usize, &[i32; 4])| -> u32 {
            let given = &given[y * stride..][..4];
            row.iter().zip(given).map(|(a, b)| a.abs_diff(i32::from(*b))).sum()
        };
        rows.map(row).sum::<u32>()
    };
    let mut best = (MEAN, edge.predicted(MEAN));
    let mut least = difference(&best.1);
    for mode in (0..MODES).filter(|mode| edge.allows(*mode)) {
        let block = edge.predicted(mode);
        let difference = difference(&block);
        if difference < least || (difference == least && mode < best.0) {
            (best, least) = ((mode, block), difference);
        }
    }
    best
}

/// Each thread has some rows of blocks.
fn native(args: &mut CpuArgs<'_>) {
    let Some(blocks) = Blocks::of(&args.scalars) else { return };
    let (columns, rows) = (blocks.columns as usize, blocks.rows as usize);
    let threads = threads_for(args, 16 * 16 * columns * rows);
    let band = rows.div_ceil(threads);
    let [given_stride, around_stride, stride] = blocks.strides.map(|stride| stride as usize);
    let (given, around) = (args.inputs[0], args.inputs[1]);
    let [modes, predicted] = &mut args.outputs[..] else { return };
    let modes = modes[..columns * rows].chunks_mut(band * columns);
    let strips: Vec<_> = modes.zip(predicted.chunks_mut(4 * band * stride)).collect();
    strips.into_par_iter().enumerate().for_each(|(number, (modes, predicted))| {
        for (i, to) in modes.iter_mut().enumerate() {
            let (x, row) = (i % columns, i / columns);
            let y = number * band + row;
            let edge = Edge::new(around, around_stride, x, y, columns);
            let from = &given[4 * (y * given_stride + x)..];
            let (mode, block) = nearest(from, given_stride, &edge);
            *to = mode;
            for (line, block) in block.iter().enumerate() {
                let to = &mut predicted[(4 * row + line) * stride + 4 * x..][..4];
                to.iter_mut().zip(block).for_each(|(to, sample)| *to = *sample as u8);
            }
        }
    });
}

/// By the words of the standard: `p` of a place is the sample there, from the block on.
fn reference(args: &mut CpuArgs<'_>) {
    let Some(blocks) = Blocks::of(&args.scalars) else { return };
    let (columns, rows) = (blocks.columns as isize, blocks.rows as isize);
    let [given_stride, around_stride, stride] = blocks.strides.map(|stride| stride as isize);
    for (bx, by) in (0..rows).flat_map(|y| (0..columns).map(move |x| (x, y))) {
        let has_right = has_right_above(bx as usize, by as usize, columns as usize);
        let p = |x: isize, y: isize| {
            let x = if y < 0 && !has_right { x.min(3) } else { x };
            i32::from(args.inputs[1][((4 * by + y) * around_stride + 4 * bx + x) as usize])
        };
        let (above, left) = (by > 0, bx > 0);
        let given = |x: isize, y: isize| {
            i32::from(args.inputs[0][((4 * by + y) * given_stride + 4 * bx + x) as usize])
        };
        let places = || (0..4).flat_map(|y| (0..4).map(move |x| (x, y)));
        let is_possible = |mode: u8| match mode {
            2 => true,
            0 | 3 | 7 => above,
            1 | 8 => left,
            _ => above && left,
        };
        let difference = |mode: u8| -> i32 {
            let one = |(x, y)| (given(x, y) - standard(&p, mode, above, left, x, y)).abs();
            places().map(one).sum()
        };
        let mode =
            (0..MODES).filter(|mode| is_possible(*mode)).min_by_key(|mode| difference(*mode));
        let mode = mode.unwrap_or(MEAN);
        let made: Vec<i32> = places().map(|(x, y)| standard(&p, mode, above, left, x, y)).collect();
        args.outputs[0][(by * columns + bx) as usize] = mode;
        for ((x, y), sample) in places().zip(made) {
            args.outputs[1][((4 * by + y) * stride + 4 * bx + x) as usize] = sample as u8;
        }
    }
}

/// Clauses 8.3.1.2.1 to 8.3.1.2.9.
fn standard(
    p: &impl Fn(isize, isize) -> i32,
    mode: u8,
    above: bool,
    left: bool,
    x: isize,
    y: isize,
) -> i32 {
    let two = |a: i32, b: i32| (a + b + 1) >> 1;
    let three = |a: i32, b: i32, c: i32| (a + 2 * b + c + 2) >> 2;
    match mode {
        0 => p(x, -1),
        1 => p(-1, y),
        2 => {
            let over = || (0..4).map(|i| p(i, -1)).sum::<i32>();
            let side = || (0..4).map(|i| p(-1, i)).sum::<i32>();
            match (above, left) {
                (true, true) => (over() + side() + 4) >> 3,
                (true, false) => (over() + 2) >> 2,
                (false, true) => (side() + 2) >> 2,
                (false, false) => 128,
            }
        }
        3 if x == 3 && y == 3 => (p(6, -1) + 3 * p(7, -1) + 2) >> 2,
        3 => three(p(x + y, -1), p(x + y + 1, -1), p(x + y + 2, -1)),
        4 if x > y => three(p(x - y - 2, -1), p(x - y - 1, -1), p(x - y, -1)),
        4 if x < y => three(p(-1, y - x - 2), p(-1, y - x - 1), p(-1, y - x)),
        4 => three(p(0, -1), p(-1, -1), p(-1, 0)),
        5 => match 2 * x - y {
            0 | 2 | 4 | 6 => two(p(x - (y >> 1) - 1, -1), p(x - (y >> 1), -1)),
            1 | 3 | 5 => {
                three(p(x - (y >> 1) - 2, -1), p(x - (y >> 1) - 1, -1), p(x - (y >> 1), -1))
            }
            -1 => three(p(-1, 0), p(-1, -1), p(0, -1)),
            _ => three(p(-1, y - 1), p(-1, y - 2), p(-1, y - 3)),
        },
        6 => match 2 * y - x {
            0 | 2 | 4 | 6 => two(p(-1, y - (x >> 1) - 1), p(-1, y - (x >> 1))),
            1 | 3 | 5 => {
                three(p(-1, y - (x >> 1) - 2), p(-1, y - (x >> 1) - 1), p(-1, y - (x >> 1)))
            }
            -1 => three(p(-1, 0), p(-1, -1), p(0, -1)),
            _ => three(p(x - 1, -1), p(x - 2, -1), p(x - 3, -1)),
        },
        7 if y % 2 == 0 => two(p(x + (y >> 1), -1), p(x + (y >> 1) + 1, -1)),
        7 => three(p(x + (y >> 1), -1), p(x + (y >> 1) + 1, -1), p(x + (y >> 1) + 2, -1)),
        _ => match x + 2 * y {
            0 | 2 | 4 => two(p(-1, y + (x >> 1)), p(-1, y + (x >> 1) + 1)),
            1 | 3 => three(p(-1, y + (x >> 1)), p(-1, y + (x >> 1) + 1), p(-1, y + (x >> 1) + 2)),
            5 => (p(-1, 2) + 3 * p(-1, 3) + 2) >> 2,
            _ => p(-1, 3),
        },
    }
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (columns, rows) = (width.div_ceil(4), height.div_ceil(4));
    let blocks = Blocks { columns, rows, strides: [0; 3].map(|_| 4 * columns + dice.below(9)) };
    let [given, around] =
        [0, 1].map(|i| dice.bytes((blocks.strides[i] * 4 * rows) as usize, 4 * columns));
    Sample { command: command([0, 1, 2, 3].map(BufferId), blocks), inputs: vec![given, around] }
}

#[cfg(test)]
mod tests;
