//! The way back: levels of a baseline JPEG (ITU-T T.81) as an NV12 frame of full range.
//!
//! Levels come as [`super`] makes them, with steps of any kind. With `C` of there, `q` for the
//! quantiser steps, and arithmetic shifts; all sums fit 32 bits whatever the levels are:
//!
//! ```text
//! c[u][v] = level * q, within -2048..=2047
//! t[u][x] = (sum over v of C[v][x] * c[u][v] + 2^8)  >> 9      4 fractional bits
//! s[y][x] = (sum over u of C[u][y] * t[u][x] + 2^16) >> 17     + 128, within a byte
//! ```
//!
//! Entropy decoding is the host's: no operation of pipelines is made of this yet.

use hw::{BufferId, Command, CpuArgs, Grid, Kernel};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::{COSINES, MCU_BYTES, Steps, ZIGZAG, levels_bytes, mcu_sides};
use crate::dice::Dice;
use crate::native::{Job, long, longs, sizes, threads_for, wide};
use crate::plane::Nv12;
use crate::stem::{Entry, Sample, Stem, launch, params, portable};

/// Bytes of the steps that [`encode_steps`] makes.
pub const STEPS_BYTES: usize = 2 * 64 * 4;

pub static STEM: Stem = Stem { entries: &[Entry { kernel: &KERNEL, reference, sample }], ops: &[] };

/// `steps`: see [`encode_steps`]; `levels`: those of [`super::KERNEL`]; `frame`: NV12.
pub static KERNEL: Kernel = portable(
    "jpeg_inverse",
    params!(In steps, In levels, Out frame; width, height, stride, chroma_offset, chroma_stride),
    include_str!("inverse.cl"),
    native,
    |scalars| {
        let shape = Nv12::of(scalars)?;
        let frame = shape.bytes()?;
        Some(vec![STEPS_BYTES, levels_bytes(shape.width, shape.height), frame])
    },
);

/// Makes a frame of levels.
pub fn command(steps: BufferId, levels: BufferId, frame: BufferId, shape: Nv12) -> Command {
    let Nv12 { width, height, stride, chroma_offset, chroma_stride } = shape;
    let (columns, rows) = mcu_sides(width, height);
    let scalars = [width, height, stride, chroma_offset, chroma_stride];
    let grid = Grid::Items(columns as usize * rows as usize);
    launch(&KERNEL, &[steps, levels, frame], &scalars, grid)
}

/// The steps as the kernel reads them: luma then chroma, row by row, 32-bit little-endian.
pub fn encode_steps(steps: &Steps) -> Vec<u8> {
    longs(steps.luma.iter().chain(&steps.chroma).map(|step| i64::from(*step)))
}

/// Of luma and of chroma.
fn decode_steps(bytes: &[u8]) -> [[i32; 64]; 2] {
    let step = |i: usize| (long(bytes, i) & 255) as i32;
    [std::array::from_fn(step), std::array::from_fn(|i| step(64 + i))]
}

fn coefficient(level: &[u8], step: i32) -> i32 {
    (i32::from(i16::from_le_bytes([level[0], level[1]])) * step).clamp(-2048, 2047)
}

fn reference(args: &mut CpuArgs<'_>) {
    let [width, height, stride, chroma_offset, chroma_stride] = sizes(args);
    let steps = decode_steps(args.inputs[0]);
    let columns = width.div_ceil(16);
    let frame = &mut *args.outputs[0];
    for (block, levels) in args.inputs[1].chunks_exact(128).enumerate() {
        let (mcu, block) = (block / 6, block % 6);
        let (mx, my) = (mcu % columns, mcu / columns);
        let samples = samples(levels, &steps[usize::from(block > 3)]);
        for (x, y) in (0..8).flat_map(|y| (0..8).map(move |x| (x, y))) {
            let sample = samples(x, y);
            if block < 4 {
                let (x, y) = (mx * 16 + block % 2 * 8 + x, my * 16 + block / 2 * 8 + y);
                if x < width && y < height {
                    frame[y * stride + x] = sample;
                }
            } else {
                let (x, y) = (mx * 8 + x, my * 8 + y);
                if x < width.div_ceil(2) && y < height.div_ceil(2) {
                    frame[chroma_offset + y * chroma_stride + 2 * x + block - 4] = sample;
                }
            }
        }
    }
}

/// The samples of a block by their column and row, by the formulas above.
fn samples(levels: &[u8], steps: &[i32; 64]) -> impl Fn(usize, usize) -> u8 {
    let mut c = [[0; 8]; 8];
    for (level, natural) in levels.chunks_exact(2).zip(ZIGZAG.map(usize::from)) {
        c[natural / 8][natural % 8] = coefficient(level, steps[natural]);
    }
    let t: [[i32; 8]; 8] = std::array::from_fn(|u| {
        std::array::from_fn(|x| {
            let sum: i32 = (0..8).map(|v| i32::from(COSINES[v][x]) * c[u][v]).sum();
            (sum + (1 << 8)) >> 9
        })
    });
    move |x, y| {
        let sum: i32 = (0..8).map(|u| i32::from(COSINES[u][y]) * t[u][x]).sum();
        (((sum + (1 << 16)) >> 17) + 128).clamp(0, 255) as u8
    }
}

/// Rows of MCUs, of which each thread makes some.
fn native(args: &mut CpuArgs<'_>) {
    let [width, height, stride, chroma_offset, chroma_stride] = sizes(args);
    let threads = threads_for(args, 6 * width * height);
    let steps = decode_steps(args.inputs[0]);
    let (columns, rows) = (width.div_ceil(16), height.div_ceil(16));
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let band = rows.div_ceil(threads);
    let (luma, chroma) = args.outputs[0].split_at_mut(chroma_offset);
    let lumas = luma[..(height - 1) * stride + width].chunks_mut(16 * band * stride);
    let chroma = &mut chroma[..(half_height - 1) * chroma_stride + 2 * half_width];
    let chromas = chroma.chunks_mut(8 * band * chroma_stride);
    let levels = args.inputs[1].chunks(band * columns * MCU_BYTES);
    let strips: Vec<Strip<'_>> = lumas
        .zip(chromas)
        .zip(levels)
        .map(|((luma, chroma), levels)| {
            let (luma, chroma) = (
                Plane { to: luma, stride, width },
                Plane { to: chroma, stride: chroma_stride, width: half_width },
            );
            Strip { luma, chroma, levels, columns, steps: &steps }
        })
        .collect();
    match threads {
        1 => strips.into_iter().for_each(wide),
        _ => strips.into_par_iter().for_each(wide),
    }
}

/// Rows of a plane.
struct Plane<'a> {
    to: &'a mut [u8],
    stride: usize,
    width: usize,
}

impl Plane<'_> {
    /// What is inside of a block at a place; its samples are `step` bytes apart.
    #[inline(always)]
    fn put(&mut self, block: &[[u8; 8]; 8], x: usize, y: usize, [step, which]: [usize; 2]) {
        let count = self.width.saturating_sub(x).min(8);
        for (row, from) in block.iter().enumerate().filter(|_| count > 0) {
            let at = (y + row) * self.stride + step * x + which;
            let Some(to) = self.to.get_mut(at..) else { return };
            for (to, from) in to.iter_mut().step_by(step).zip(&from[..count]) {
                *to = *from;
            }
        }
    }
}

struct Strip<'a> {
    luma: Plane<'a>,
    /// In pairs.
    chroma: Plane<'a>,
    levels: &'a [u8],
    /// MCUs of a row.
    columns: usize,
    steps: &'a [[i32; 64]; 2],
}

impl Job for Strip<'_> {
    #[inline(always)]
    fn run(mut self) {
        for (mcu, levels) in self.levels.chunks_exact(MCU_BYTES).enumerate() {
            let (mx, my) = (mcu % self.columns, mcu / self.columns);
            for (number, levels) in levels.chunks_exact(128).enumerate() {
                let made = block(levels, &self.steps[usize::from(number > 3)]);
                match number {
                    0..4 => {
                        let (x, y) = (mx * 16 + number % 2 * 8, my * 16 + number / 2 * 8);
                        self.luma.put(&made, x, y, [1, 0]);
                    }
                    _ => self.chroma.put(&made, mx * 8, my * 8, [2, number - 4]),
                }
            }
        }
    }
}

/// Lanes are the columns.
#[inline(always)]
fn block(levels: &[u8], steps: &[i32; 64]) -> [[u8; 8]; 8] {
    let mut c = [0; 64];
    for (level, natural) in levels.chunks_exact(2).zip(ZIGZAG.map(usize::from)) {
        c[natural] = coefficient(level, steps[natural]);
    }
    let mut t = [[1 << 8; 8]; 8];
    for (row, c) in t.iter_mut().zip(c.chunks_exact(8)) {
        for (c, cosines) in c.iter().zip(&COSINES) {
            for (t, cosine) in row.iter_mut().zip(cosines) {
                *t += i32::from(*cosine) * c;
            }
        }
        row.iter_mut().for_each(|t| *t >>= 9);
    }
    std::array::from_fn(|y| {
        let mut sums = [1 << 16; 8];
        for (row, cosines) in t.iter().zip(&COSINES) {
            for (sum, t) in sums.iter_mut().zip(row) {
                *sum += i32::from(cosines[y]) * t;
            }
        }
        sums.map(|sum: i32| ((sum >> 17) + 128).clamp(0, 255) as u8)
    })
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let tight = Nv12::tight(width, height);
    let (gap, chroma_gap, between) = (dice.below(9), dice.below(9), dice.below(9));
    let shape = Nv12 {
        stride: width + gap,
        chroma_offset: (width + gap) * height + between,
        chroma_stride: tight.chroma_stride + chroma_gap,
        ..tight
    };
    let steps = super::steps(dice.pick(&[80, 1, 50, 100]));
    let command = command(BufferId(0), BufferId(1), BufferId(2), shape);
    // Few and small ones, as there are in files; or anything.
    let mut levels = dice.bytes(levels_bytes(width, height), width);
    if dice.below(3) < 2 {
        for (i, level) in levels.chunks_exact_mut(2).enumerate() {
            let value = if i % 64 < 12 { i16::from(level[0] as i8) >> (i % 64 / 3) } else { 0 };
            level.copy_from_slice(&value.to_le_bytes());
        }
    }
    Sample { command, inputs: vec![encode_steps(&steps), levels] }
}

#[cfg(test)]
mod tests;
