//! Macroblocks predicted from the picture before: motion compensation (clause 8.4.2.2), levels and
//! reconstruction.

use super::block::{self, Quantiser};
use super::picture::{Macroblock, PAD, SIDE, Size};
use super::search::{Motion, mean, places};
use super::*;

/// What single levels of a macroblock must be worth together, and those of a quarter of it.
const MACROBLOCK_WORTH: u32 = 6;
const QUARTER_WORTH: u32 = 4;
/// The same of a plane of chroma.
const CHROMA_WORTH: u32 = 7;

/// The quantisers of a picture.
#[derive(Debug, Clone, Copy)]
pub struct Quantisers {
    pub luma: Quantiser,
    pub chroma: Quantiser,
}

impl Quantisers {
    pub fn new(qp: u32, intra: bool) -> Self {
        Self { luma: Quantiser::new(qp, intra), chroma: Quantiser::new(chroma_qp(qp), intra) }
    }
}

/// The prediction of a macroblock.
#[inline(always)]
pub fn predict(
    reference: &[u8],
    size: &Size,
    column: usize,
    row: usize,
    motion: Motion,
) -> Macroblock {
    let stride = size.reference_stride();
    let [a, b] = places(size, column, row, motion);
    let at =
        |at: usize| -> &[u8; 16] { reference[at..].first_chunk().expect("a reference is padded") };
    let mut luma = [[0; 16]; 16];
    for (y, line) in luma.iter_mut().enumerate() {
        *line = match a == b {
            true => *at(a + y * stride),
            false => mean(at(a + y * stride), at(b + y * stride)),
        };
    }
    Macroblock { luma, chroma: predict_chroma(reference, size, column, row, motion) }
}

#[inline(always)]
fn predict_chroma(
    reference: &[u8],
    size: &Size,
    column: usize,
    row: usize,
    motion: Motion,
) -> [[u8; 16]; 8] {
    let stride = 2 * size.reference_stride();
    let x = (SIDE * column + PAD) as i32 + 2 * (motion.x >> 3);
    let y = (SIDE / 2 * row + PAD / 2) as i32 + (motion.y >> 3);
    let at = y as usize * stride + 4 * size.plane_stride() + x as usize;
    let (right, down) = ((motion.x & 7) as u16, (motion.y & 7) as u16);
    let line = |y: usize| -> &[u8; 18] {
        reference[at + y * stride..].first_chunk().expect("a reference is padded")
    };
    let mut chroma = [[0; 16]; 8];
    if right == 0 && down == 0 {
        for (y, to) in chroma.iter_mut().enumerate() {
            to.copy_from_slice(&line(y)[..16]);
        }
        return chroma;
    }
    let weights = [(8 - right) * (8 - down), right * (8 - down), (8 - right) * down, right * down];
    for (y, to) in chroma.iter_mut().enumerate() {
        let (a, b) = (line(y), line(y + 1));
        for x in 0..16 {
            let above = weights[0] * u16::from(a[x]) + weights[1] * u16::from(a[x + 2]);
            let below = weights[2] * u16::from(b[x]) + weights[3] * u16::from(b[x + 2]);
            to[x] = ((above + below + 32) >> 6) as u8;
        }
    }
    chroma
}

/// Codes a macroblock: its record is filled, its reconstruction given.
#[inline(always)]
pub fn code(
    given: &Macroblock,
    predicted: &Macroblock,
    q: &Quantisers,
    record: &mut [i16; RECORD],
) -> Macroblock {
    let mut out = *predicted;
    let mut d = difference_luma(&given.luma, &predicted.luma);
    block::forward::<16>(&mut d);
    block::quantise::<16>(&mut d, &q.luma);
    let mask = keep_luma(&mut d, record);
    if mask != 0 {
        block::scale::<16>(&mut d, &q.luma);
        add_luma(&mut d, &mut out.luma);
    }
    record[LUMA_MASK] = mask as u16 as i16;
    code_chroma(given, &mut out, q, record);
    out
}

#[inline(always)]
pub fn difference_luma(given: &[[u8; 16]; 16], predicted: &[[u8; 16]; 16]) -> [i16; 256] {
    let (given, predicted) = (given.as_flattened(), predicted.as_flattened());
    let mut d = [0; 256];
    for i in 0..256 {
        d[i] = i16::from(given[i]) - i16::from(predicted[i]);
    }
    d
}

#[inline(always)]
pub fn add_luma(d: &mut [i16; 256], to: &mut [[u8; 16]; 16]) {
    block::inverse::<16>(d);
    let to = to.as_flattened_mut();
    for i in 0..256 {
        to[i] = (i16::from(to[i]) + d[i]).clamp(0, 255) as u8;
    }
}

/// Writes the levels that are worth it, takes the others away, and gives a bit for each block in
/// coding order.
#[inline(always)]
fn keep_luma(d: &mut [i16; 256], record: &mut [i16; RECORD]) -> u32 {
    let used = block::used::<16>(&d[..]);
    if used == 0 {
        return 0;
    }
    let (mut mask, mut worth) = (0, [0; 4]);
    for (coded, block) in block::BLOCKS.map(usize::from).into_iter().enumerate() {
        if used >> block & 1 == 1 {
            let levels = &mut record[LUMA + 16 * coded..][..16];
            block::zigzag::<16>(&d[..], block, levels);
            worth[coded / 4] += block::worth(levels, 0);
            mask |= 1 << coded;
        }
    }
    let is_little = worth.iter().sum::<u32>() < MACROBLOCK_WORTH;
    for (quarter, worth) in worth.into_iter().enumerate() {
        if is_little || worth < QUARTER_WORTH {
            for coded in 4 * quarter..4 * quarter + 4 {
                if mask >> coded & 1 == 1 {
                    record[LUMA + 16 * coded..][..16].fill(0);
                    block::clear::<16>(&mut d[..], usize::from(block::BLOCKS[coded]));
                }
            }
            mask &= !(15 << (4 * quarter));
        }
    }
    mask
}

/// Codes chroma; `out` holds its prediction before and its reconstruction after.
#[inline(always)]
pub fn code_chroma(
    given: &Macroblock,
    out: &mut Macroblock,
    q: &Quantisers,
    record: &mut [i16; RECORD],
) {
    let mut d = [0i16; 128];
    for y in 0..8 {
        for x in 0..8 {
            for plane in 0..2 {
                let at = 2 * x + plane;
                d[64 * plane + 8 * y + x] =
                    i16::from(given.chroma[y][at]) - i16::from(out.chroma[y][at]);
            }
        }
    }
    block::forward::<8>(&mut d);
    let first = block::chroma_first(&mut d, &q.chroma);
    block::quantise::<8>(&mut d, &q.chroma);
    let mask = keep_chroma(&mut d, record);
    record[CHROMA_FIRST..][..8].copy_from_slice(&first);
    record[CHROMA_MASK] = mask as i16;
    for plane in 0..2 {
        let any = first[4 * plane..][..4].iter().any(|level| *level != 0);
        record[FIRST_MASK] |= i16::from(any) << (1 + plane);
    }
    if mask == 0 && first == [0; 8] {
        return;
    }
    block::scale::<8>(&mut d, &q.chroma);
    block::scale_chroma_first(&first, &mut d, &q.chroma);
    block::inverse::<8>(&mut d);
    for y in 0..8 {
        for x in 0..8 {
            for plane in 0..2 {
                let to = &mut out.chroma[y][2 * x + plane];
                *to = (i16::from(*to) + d[64 * plane + 8 * y + x]).clamp(0, 255) as u8;
            }
        }
    }
}

#[inline(always)]
fn keep_chroma(d: &mut [i16; 128], record: &mut [i16; RECORD]) -> u32 {
    let mut mask = block::used::<8>(&d[..]);
    for plane in 0..2 {
        let mut worth = 0;
        for coded in 4 * plane..4 * plane + 4 {
            if mask >> coded & 1 == 1 {
                let levels = &mut record[CHROMA + 16 * coded..][..16];
                block::zigzag::<8>(&d[..], coded, levels);
                worth += block::worth(levels, 1);
            }
        }
        if worth < CHROMA_WORTH {
            for coded in 4 * plane..4 * plane + 4 {
                if mask >> coded & 1 == 1 {
                    record[CHROMA + 16 * coded..][..16].fill(0);
                    block::clear::<8>(&mut d[..], coded);
                }
            }
            mask &= !(15 << (4 * plane));
        }
    }
    mask
}
