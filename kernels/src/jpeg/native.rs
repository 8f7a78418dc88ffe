//! The native form: one MCU row at a time through a padded copy of full range.

use hw::CpuArgs;

use super::{COSINES, MCU_BYTES, ZIGZAG, decode_quantiser, expand_chroma, mcu_sides};
use crate::gray::expand_luma;
use crate::native::{bands, sizes, threads_for};

pub(super) fn run(args: &mut CpuArgs<'_>) {
    let [width, height, stride, chroma_offset, chroma_stride, limited] = sizes(args);
    let threads = threads_for(args, width * height * 3 / 2);
    let quantiser = decode_quantiser(args.inputs[0]);
    let source = Source {
        frame: args.inputs[1],
        width,
        height,
        stride,
        chroma_offset,
        chroma_stride,
        limited: limited != 0,
    };
    let (columns, rows) = mcu_sides(width as u32, height as u32);
    let row_bytes = columns as usize * MCU_BYTES;
    let levels = &mut args.outputs[0][..rows as usize * row_bytes];
    bands(levels, row_bytes, threads, |first, band| {
        let mut samples = McuRow::new(columns as usize);
        for (i, to) in band.chunks_exact_mut(row_bytes).enumerate() {
            samples.fill(&source, first + i);
            for (mx, to) in to.chunks_exact_mut(MCU_BYTES).enumerate() {
                transform_mcu(&samples, mx, &quantiser, to);
            }
        }
    });
}

struct Source<'a> {
    frame: &'a [u8],
    width: usize,
    height: usize,
    stride: usize,
    chroma_offset: usize,
    chroma_stride: usize,
    limited: bool,
}

/// The samples of one row of MCUs, of full range and padded.
struct McuRow {
    /// Luma samples of a row; twice the chroma samples.
    width: usize,
    luma: Vec<u8>,
    chroma: [Vec<u8>; 2],
}

impl McuRow {
    fn new(columns: usize) -> Self {
        let width = columns * 16;
        Self { width, luma: vec![0; width * 16], chroma: [vec![0; width * 4], vec![0; width * 4]] }
    }

    #[inline(always)]
    fn fill(&mut self, source: &Source<'_>, mcu_y: usize) {
        for (i, row) in self.luma.chunks_exact_mut(self.width).enumerate() {
            let y = (mcu_y * 16 + i).min(source.height - 1);
            let from = &source.frame[y * source.stride..][..source.width];
            if source.limited {
                row.iter_mut().zip(from).for_each(|(to, from)| *to = expand_luma(*from));
            } else {
                row[..from.len()].copy_from_slice(from);
            }
            pad(row, from.len());
        }
        let [cb, cr] = &mut self.chroma;
        let half = self.width / 2;
        let rows = cb.chunks_exact_mut(half).zip(cr.chunks_exact_mut(half));
        for (i, (cb, cr)) in rows.enumerate() {
            let y = (mcu_y * 8 + i).min(source.height.div_ceil(2) - 1);
            let len = source.width.div_ceil(2);
            let at = source.chroma_offset + y * source.chroma_stride;
            let pairs = source.frame[at..][..2 * len].chunks_exact(2);
            for ((cb, cr), pair) in cb.iter_mut().zip(cr.iter_mut()).zip(pairs) {
                (*cb, *cr) = match source.limited {
                    true => (expand_chroma(pair[0]), expand_chroma(pair[1])),
                    false => (pair[0], pair[1]),
                };
            }
            pad(cb, len);
            pad(cr, len);
        }
    }
}

/// Repeats the last of the first `len` samples to the end of the row.
#[inline(always)]
fn pad(row: &mut [u8], len: usize) {
    let last = row[len - 1];
    row[len..].fill(last);
}

#[inline(always)]
fn transform_mcu(samples: &McuRow, mx: usize, quantiser: &[[i32; 64]; 2], to: &mut [u8]) {
    let mut blocks = to.chunks_exact_mut(128);
    let mut next = |plane: &[u8], stride, x, quantiser| {
        if let Some(to) = blocks.next() {
            transform(plane, stride, x, quantiser, to);
        }
    };
    let width = samples.width;
    let lower = &samples.luma[8 * width..];
    next(&samples.luma, width, 16 * mx, &quantiser[0]);
    next(&samples.luma, width, 16 * mx + 8, &quantiser[0]);
    next(lower, width, 16 * mx, &quantiser[0]);
    next(lower, width, 16 * mx + 8, &quantiser[0]);
    next(&samples.chroma[0], width / 2, 8 * mx, &quantiser[1]);
    next(&samples.chroma[1], width / 2, 8 * mx, &quantiser[1]);
}

/// One block whose first row begins at `x`. Lanes are the columns, then the frequencies `v`.
#[inline(always)]
fn transform(plane: &[u8], stride: usize, x: usize, quantiser: &[i32; 64], to: &mut [u8]) {
    let mut s = [[0i32; 8]; 8];
    for (y, row) in s.iter_mut().enumerate() {
        let from = &plane[y * stride + x..][..8];
        for (s, from) in row.iter_mut().zip(from) {
            *s = i32::from(*from) - 128;
        }
    }
    let mut levels = [0i16; 64];
    for u in 0..8 {
        let mut t = [1 << 6; 8];
        for (y, row) in s.iter().enumerate() {
            let c = i32::from(COSINES[u][y]);
            for (t, s) in t.iter_mut().zip(row) {
                *t += c * s;
            }
        }
        let mut sums = [1 << 15; 8];
        for (x, t) in t.iter().enumerate() {
            let t = t >> 7;
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum += t * i32::from(COSINES[v][x]);
            }
        }
        for (v, sum) in sums.iter().enumerate() {
            levels[8 * u + v] = quantise(sum >> 16, quantiser[8 * u + v]);
        }
    }
    for (to, natural) in to.chunks_exact_mut(2).zip(ZIGZAG) {
        to.copy_from_slice(&levels[usize::from(natural)].to_le_bytes());
    }
}

#[inline(always)]
fn quantise(c: i32, factor: i32) -> i16 {
    let level = ((c.abs() * factor + (1 << 19)) >> 20).min(1023);
    (if c < 0 { -level } else { level }) as i16
}
