//! The arithmetic of a baseline JPEG (ITU-T T.81) of an NV12 frame: levels, without the coding.
//!
//! Samples are first brought to the full range that JFIF asks for (luma as in [`crate::gray`],
//! chroma `((clamp(c, 16, 240) - 16) * 255 + 112) / 224`), then 128 is taken off. The matrix
//! between RGB and Y'CbCr is left as it is. Frames are padded to whole MCUs of 16 x 16 by their
//! last column and row.
//!
//! Each block of 8 x 8 samples `s[y][x]` is transformed with `C[u][x]`, the orthonormal DCT-II
//! matrix times 2^13, rounded; shifts are arithmetic and all sums fit 32 bits:
//!
//! ```text
//! t[u][x]  = (sum over y of C[u][y] * s[y][x] + 2^6)  >> 7      6 fractional bits, fits 16 bits
//! c[u][v]  = (sum over x of C[v][x] * t[u][x] + 2^15) >> 16     3 fractional bits
//! level    = sign(c) * ((|c| * R + 2^19) >> 20), within -1023..=1023
//! ```
//!
//! where `R = (2^17 + q/2) / q` stands for the quantiser step `q`.
//!
//! Levels are signed 16-bit, little-endian, 64 to a block in zigzag order; blocks are in MCU
//! order: four of luma (upper left, upper right, lower left, lower right), Cb, Cr.

pub mod inverse;
mod native;

use hw::{Arg, BufferId, Command, CpuArgs, Grid, Kernel, Launch, Param};

use crate::dice::Dice;
use crate::gray::expand_luma;
use crate::native::sizes;
use crate::plane::Nv12;
use crate::stem::{Entry, Op, Sample, Setting, SettingKind, Stem, Takes};

/// Side of an MCU, in luma samples.
pub const MCU: u32 = 16;
/// Blocks of an MCU.
pub const MCU_BLOCKS: usize = 6;
/// Bytes of one MCU's levels.
pub const MCU_BYTES: usize = MCU_BLOCKS * 64 * 2;
/// Bytes of the quantiser that [`encode_quantiser`] makes.
pub const QUANTISER_BYTES: usize = 2 * 64 * 4;

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[Op {
        name: "jpeg",
        about: "A picture as a JPEG file",
        inputs: &[Takes::ANY],
        settings: &[Setting {
            name: "quality",
            about: "How exact, and how large",
            kind: SettingKind::Number { default: 80, least: 1, most: 100 },
        }],
        plan: None,
    }],
};

/// `quantiser`: see [`encode_quantiser`]; `frame`: NV12; `levels`: see above.
pub static KERNEL: Kernel = Kernel {
    stem: "jpeg",
    params: &[
        Param::In("quantiser"),
        Param::In("frame"),
        Param::Out("levels"),
        Param::U32("width"),
        Param::U32("height"),
        Param::U32("stride"),
        Param::U32("chroma_offset"),
        Param::U32("chroma_stride"),
        Param::U32("limited"),
    ],
    opencl: include_str!("jpeg.cl"),
    cuda: include_str!("jpeg.cu"),
    cpu: native::run,
    bytes_needed,
    joined: None,
};

/// Transforms and quantises `frame`; `limited` tells its range.
pub fn command(
    quantiser: BufferId,
    frame: BufferId,
    shape: Nv12,
    levels: BufferId,
    limited: bool,
) -> Command {
    let mut args = vec![Arg::Buffer(quantiser), Arg::Buffer(frame), Arg::Buffer(levels)];
    args.extend(shape.args());
    args.push(Arg::U32(u32::from(limited)));
    let (columns, rows) = mcu_sides(shape.width, shape.height);
    let grid = Grid::Items(columns as usize * rows as usize);
    Command::Launch(Launch { kernel: &KERNEL, args, grid })
}

/// Columns and rows of MCUs that cover a frame.
pub fn mcu_sides(width: u32, height: u32) -> (u32, u32) {
    (width.div_ceil(MCU), height.div_ceil(MCU))
}

/// Bytes of the levels of a frame.
pub fn levels_bytes(width: u32, height: u32) -> usize {
    let (columns, rows) = mcu_sides(width, height);
    columns as usize * rows as usize * MCU_BYTES
}

/// Quantiser steps for luma and chroma, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps {
    pub luma: [u8; 64],
    pub chroma: [u8; 64],
}

/// The example tables of T.81 annex K, scaled for a quality of 1 to 100 in the way that has become
/// usual: as they are at 50, all ones at 100.
pub fn steps(quality: u8) -> Steps {
    let quality = u32::from(quality.clamp(1, 100));
    let percent = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    let scaled = |step: &u8| ((u32::from(*step) * percent + 50) / 100).clamp(1, 255) as u8;
    Steps { luma: LUMA_STEPS.each_ref().map(scaled), chroma: CHROMA_STEPS.each_ref().map(scaled) }
}

/// The steps as the kernel reads them: their `R`, luma then chroma, 32-bit little-endian.
pub fn encode_quantiser(steps: &Steps) -> Vec<u8> {
    let factors = steps.luma.iter().chain(&steps.chroma).map(|step| {
        let step = u32::from(*step);
        ((1 << 17) + step / 2) / step
    });
    factors.flat_map(u32::to_le_bytes).collect()
}

fn decode_quantiser(bytes: &[u8]) -> [[i32; 64]; 2] {
    let factor = |i: usize| {
        let at = 4 * i;
        i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    [std::array::from_fn(factor), std::array::from_fn(|i| factor(64 + i))]
}

/// One chroma sample of limited range as one of full range.
#[inline(always)]
fn expand_chroma(c: u8) -> u8 {
    ((u16::from(c.clamp(16, 240)) - 16) * 255 + 112).wrapping_div(224) as u8
}

pub fn reference(args: &mut CpuArgs<'_>) {
    let [width, height, stride, chroma_offset, chroma_stride, limited] = sizes(args);
    let quantiser = decode_quantiser(args.inputs[0]);
    let frame = args.inputs[1];
    let luma = |x: usize, y: usize| {
        let y = frame[y.min(height - 1) * stride + x.min(width - 1)];
        if limited == 0 { y } else { expand_luma(y) }
    };
    let chroma = |x: usize, y: usize, which: usize| {
        let row = y.min(height.div_ceil(2) - 1) * chroma_stride;
        let c = frame[chroma_offset + row + 2 * x.min(width.div_ceil(2) - 1) + which];
        if limited == 0 { c } else { expand_chroma(c) }
    };
    let (columns, rows) = mcu_sides(width as u32, height as u32);
    let mut blocks = args.outputs[0].chunks_exact_mut(128);
    for mcu in 0..columns as usize * rows as usize {
        let (mx, my) = (mcu % columns as usize, mcu / columns as usize);
        for block in 0..MCU_BLOCKS {
            let sample = |x: usize, y: usize| match block {
                0..4 => luma(mx * 16 + block % 2 * 8 + x, my * 16 + block / 2 * 8 + y),
                _ => chroma(mx * 8 + x, my * 8 + y, block - 4),
            };
            let levels = transform(sample, &quantiser[usize::from(block >= 4)]);
            let Some(to) = blocks.next() else { return };
            for (to, natural) in to.chunks_exact_mut(2).zip(ZIGZAG) {
                to.copy_from_slice(&levels[usize::from(natural)].to_le_bytes());
            }
        }
    }
}

/// The levels of one block, row by row, by the formulas above.
fn transform(sample: impl Fn(usize, usize) -> u8, quantiser: &[i32; 64]) -> [i16; 64] {
    let s = |x, y| i32::from(sample(x, y)) - 128;
    let mut t = [[0i32; 8]; 8];
    for (u, row) in t.iter_mut().enumerate() {
        for (x, t) in row.iter_mut().enumerate() {
            let sum: i32 = (0..8).map(|y| i32::from(COSINES[u][y]) * s(x, y)).sum();
            *t = (sum + (1 << 6)) >> 7;
        }
    }
    std::array::from_fn(|i| {
        let (u, v) = (i / 8, i % 8);
        let sum: i32 = (0..8).map(|x| i32::from(COSINES[v][x]) * t[u][x]).sum();
        let c = (sum + (1 << 15)) >> 16;
        let level = ((c.abs() * quantiser[i] + (1 << 19)) >> 20).min(1023);
        (c.signum() * level) as i16
    })
}

fn bytes_needed(scalars: &[u32]) -> Option<Vec<usize>> {
    let shape = Nv12::of(scalars)?;
    let frame = shape.bytes()?;
    Some(vec![QUANTISER_BYTES, frame, levels_bytes(shape.width, shape.height)])
}

/// `C`: cosines of the orthonormal DCT-II, times 2^13.
const COSINES: [[i16; 8]; 8] = cosines();

const fn cosines() -> [[i16; 8]; 8] {
    // 2^12 * cos(n * pi / 16)
    const K: [i16; 9] = [0, 4017, 3784, 3406, 2896, 2276, 1567, 799, 0];
    let mut c = [[2896; 8]; 8];
    let mut u = 1;
    while u < 8 {
        let mut x = 0;
        while x < 8 {
            let turn = (2 * x + 1) * u % 32;
            let half = if turn > 16 { 32 - turn } else { turn };
            c[u][x] = if half > 8 { -K[16 - half] } else { K[half] };
            x += 1;
        }
        u += 1;
    }
    c
}

/// Where in a block, row by row, the levels in zigzag order lie (T.81 figure A.6).
pub const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// T.81 table K.1.
const LUMA_STEPS: [u8; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];

/// T.81 table K.2.
const CHROMA_STEPS: [u8; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let shape = Nv12::tight(width, height);
    let quality = dice.pick(&[80, 1, 50, 100]);
    let limited = dice.below(2) == 0;
    let [quantiser, frame, levels] = [0, 1, 2].map(BufferId);
    let command = command(quantiser, frame, shape, levels, limited);
    let frame = dice.bytes(shape.bytes().unwrap_or(0), width);
    Sample { command, inputs: vec![encode_quantiser(&steps(quality)), frame] }
}

#[cfg(test)]
mod tests;
