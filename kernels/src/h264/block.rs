//! Transform, quantisation and their inverses (clause 8.5), for all blocks of a macroblock at once:
//! samples stay in rows, blocks side by side.
//!
//! Quantisation is ours: `level = sign(c) * (((|c| + bias) * factor) >> 16)`, at most 2063, where
//! `factor` is the standard's usual multiplier `2^(16 - qp / 6) * ...` and `bias` rounds a third of
//! a step up in intra macroblocks, a sixth in others.

/// Largest level: what a code of the longest kind holds in this profile.
pub const LEVEL_MAX: i32 = 2063;

/// Where in a block the levels in zigzag order lie.
pub const ZIGZAG: [u8; 16] = [0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15];

/// The place in rows of blocks of the blocks in coding order.
pub const BLOCKS: [u8; 16] = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15];

/// Multipliers and steps of the three kinds of places in a block, by `qp % 6`.
const FACTORS: [[u32; 3]; 6] = [
    [13107, 5243, 8066],
    [11916, 4660, 7490],
    [10082, 4194, 6554],
    [9362, 3647, 5825],
    [8192, 3355, 5243],
    [7282, 2893, 4559],
];
const STEPS: [[u32; 3]; 6] =
    [[10, 16, 13], [11, 18, 14], [13, 20, 16], [14, 23, 18], [16, 25, 20], [18, 29, 23]];

/// The quantiser of a plane: its numbers for four rows of blocks side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiser {
    factor: [[u16; 16]; 4],
    bias: [[u16; 16]; 4],
    step: [[i16; 16]; 4],
    qp: u32,
}

impl Quantiser {
    pub fn new(qp: u32, intra: bool) -> Self {
        let part = if intra { 3 } else { 6 };
        let kind = |y: usize, x: usize| match (y % 2, x % 2) {
            (0, 0) => 0,
            (1, 1) => 1,
            _ => 2,
        };
        let of = |y: usize, x: usize| {
            let factor = (FACTORS[(qp % 6) as usize][kind(y, x)] << 1) >> (qp / 6);
            (factor, (65536 / part) / factor)
        };
        let rows = |number: &dyn Fn(usize, usize) -> u16| -> [[u16; 16]; 4] {
            std::array::from_fn(|y| std::array::from_fn(|x| number(y, x)))
        };
        let step = |y, x| STEPS[(qp % 6) as usize][kind(y, x)] << (qp / 6);
        Self {
            factor: rows(&|y, x| of(y, x).0 as u16),
            bias: rows(&|y, x| of(y, x).1 as u16),
            step: std::array::from_fn(|y| std::array::from_fn(|x| step(y, x) as i16)),
            qp,
        }
    }

    /// Levels of first coefficients that went through a second transform, twice as large.
    #[inline(always)]
    fn first(&self, c: i32) -> i32 {
        let (factor, bias) = (i64::from(self.factor[0][0]), i64::from(self.bias[0][0]));
        let level = ((i64::from(c.abs()) + 2 * bias) * factor) >> 17;
        c.signum() * (level as i32).min(LEVEL_MAX)
    }

    fn first_step(&self) -> i32 {
        STEPS[(self.qp % 6) as usize][0] as i32
    }
}

/// Transforms blocks in rows of `W` samples, in place.
#[inline(always)]
pub fn forward<const W: usize>(d: &mut [i16]) {
    for quad in d.chunks_exact_mut(4) {
        let (s03, d03) = (quad[0] + quad[3], quad[0] - quad[3]);
        let (s12, d12) = (quad[1] + quad[2], quad[1] - quad[2]);
        quad[0] = s03 + s12;
        quad[1] = 2 * d03 + d12;
        quad[2] = s03 - s12;
        quad[3] = d03 - 2 * d12;
    }
    for band in d.chunks_exact_mut(4 * W) {
        for x in 0..W {
            let [a, b, c, e] = [band[x], band[W + x], band[2 * W + x], band[3 * W + x]];
            let (s03, d03, s12, d12) = (a + e, a - e, b + c, b - c);
            band[x] = s03 + s12;
            band[W + x] = 2 * d03 + d12;
            band[2 * W + x] = s03 - s12;
            band[3 * W + x] = d03 - 2 * d12;
        }
    }
}

/// The inverse: what is to be added to the prediction.
#[inline(always)]
pub fn inverse<const W: usize>(d: &mut [i16]) {
    for quad in d.chunks_exact_mut(4) {
        let (e0, e1) = (quad[0].wrapping_add(quad[2]), quad[0].wrapping_sub(quad[2]));
        let e2 = (quad[1] >> 1).wrapping_sub(quad[3]);
        let e3 = quad[1].wrapping_add(quad[3] >> 1);
        quad[0] = e0.wrapping_add(e3);
        quad[1] = e1.wrapping_add(e2);
        quad[2] = e1.wrapping_sub(e2);
        quad[3] = e0.wrapping_sub(e3);
    }
    for band in d.chunks_exact_mut(4 * W) {
        for x in 0..W {
            let [a, b, c, e] = [band[x], band[W + x], band[2 * W + x], band[3 * W + x]];
            let (e0, e1) = (a.wrapping_add(c), a.wrapping_sub(c));
            let (e2, e3) = ((b >> 1).wrapping_sub(e), b.wrapping_add(e >> 1));
            band[x] = e0.wrapping_add(e3).wrapping_add(32) >> 6;
            band[W + x] = e1.wrapping_add(e2).wrapping_add(32) >> 6;
            band[2 * W + x] = e1.wrapping_sub(e2).wrapping_add(32) >> 6;
            band[3 * W + x] = e0.wrapping_sub(e3).wrapping_add(32) >> 6;
        }
    }
}

/// Coefficients to levels, in place.
#[inline(always)]
pub fn quantise<const W: usize>(d: &mut [i16], q: &Quantiser) {
    for (y, row) in d.chunks_exact_mut(W).enumerate() {
        let (factor, bias) = (&q.factor[y % 4], &q.bias[y % 4]);
        for x in 0..W {
            let c = row[x];
            let size = c.unsigned_abs().saturating_add(bias[x]);
            let level = ((u32::from(size) * u32::from(factor[x])) >> 16) as u16;
            let level = level.min(LEVEL_MAX as u16) as i16;
            row[x] = if c < 0 { -level } else { level };
        }
    }
}

/// Levels to coefficients, in place.
#[inline(always)]
pub fn scale<const W: usize>(d: &mut [i16], q: &Quantiser) {
    for (y, row) in d.chunks_exact_mut(W).enumerate() {
        for (level, step) in row.iter_mut().zip(&q.step[y % 4]) {
            *level = level.wrapping_mul(*step);
        }
    }
}

/// Which blocks, row by row, have a level.
#[inline(always)]
pub fn used<const W: usize>(d: &[i16]) -> u32 {
    let mut mask = 0;
    for (band, rows) in d.chunks_exact(4 * W).enumerate() {
        let mut any = [0; W];
        for x in 0..W {
            any[x] = rows[x] | rows[W + x] | rows[2 * W + x] | rows[3 * W + x];
        }
        for (block, lanes) in any.chunks_exact(4).enumerate() {
            let is_used = (lanes[0] | lanes[1] | lanes[2] | lanes[3]) != 0;
            mask |= u32::from(is_used) << (band * W / 4 + block);
        }
    }
    mask
}

/// A block's levels in zigzag order; `block` counts row by row.
#[inline(always)]
pub fn zigzag<const W: usize>(d: &[i16], block: usize, to: &mut [i16]) {
    let at = block / (W / 4) * 4 * W + block % (W / 4) * 4;
    for (to, from) in to.iter_mut().zip(ZIGZAG) {
        *to = d[at + usize::from(from) / 4 * W + usize::from(from) % 4];
    }
}

/// Takes a block's levels away.
#[inline(always)]
pub fn clear<const W: usize>(d: &mut [i16], block: usize) {
    let at = block / (W / 4) * 4 * W + block % (W / 4) * 4;
    for y in 0..4 {
        d[at + y * W..][..4].fill(0);
    }
}

/// How much a block's levels in zigzag order, from `first` on, are worth: few when they are single
/// ones far apart. Levels above one are worth more than all that is left out.
#[inline(always)]
pub fn worth(levels: &[i16], first: usize) -> u32 {
    const BY_RUN: [u8; 16] = [3, 2, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (mut worth, mut run) = (0, 0);
    for level in &levels[first..16] {
        match level.unsigned_abs() {
            0 => run += 1,
            1 => {
                worth += u32::from(BY_RUN[run]);
                run = 0;
            }
            _ => return 9,
        }
    }
    worth
}

/// The second transform, of first coefficients in rows of four; its own inverse but for scale.
#[inline(always)]
fn hadamard(d: [i32; 16]) -> [i32; 16] {
    let four =
        |[a, b, c, e]: [i32; 4]| [a + b + c + e, a + b - c - e, a - b - c + e, a - b + c - e];
    let mut t = [0; 16];
    for y in 0..4 {
        let row = four([d[4 * y], d[4 * y + 1], d[4 * y + 2], d[4 * y + 3]]);
        t[4 * y..][..4].copy_from_slice(&row);
    }
    let mut out = [0; 16];
    for x in 0..4 {
        let column = four([t[x], t[4 + x], t[8 + x], t[12 + x]]);
        (0..4).for_each(|y| out[4 * y + x] = column[y]);
    }
    out
}

/// Takes the first coefficients of an intra macroblock out of `d`; their levels, row by row.
#[inline(always)]
pub fn luma_first(d: &mut [i16], q: &Quantiser) -> [i16; 16] {
    let mut first = [0; 16];
    for (i, first) in first.iter_mut().enumerate() {
        *first = i32::from(std::mem::take(&mut d[first_at(i)]));
    }
    hadamard(first).map(|c| q.first(c >> 1) as i16)
}

fn first_at(block: usize) -> usize {
    block / 4 * 64 + block % 4 * 4
}

/// Puts the first coefficients back.
#[inline(always)]
pub fn scale_luma_first(levels: &[i16; 16], d: &mut [i16], q: &Quantiser) {
    let step = q.first_step();
    for (i, f) in hadamard(levels.map(i32::from)).into_iter().enumerate() {
        d[first_at(i)] = match q.qp / 6 {
            0 => (f * step + 2) >> 2,
            1 => (f * step + 1) >> 1,
            up => (f * step) << (up - 2),
        } as i16;
    }
}

fn chroma_first_at(i: usize) -> usize {
    i / 4 * 64 + i / 2 % 2 * 32 + i % 2 * 4
}

fn pairs([a, b, c, e]: [i32; 4]) -> [i32; 4] {
    [a + b + c + e, a - b + c - e, a + b - c - e, a - b - c + e]
}

/// Takes the first coefficients of Cb and Cr out of `d`; their levels.
#[inline(always)]
pub fn chroma_first(d: &mut [i16], q: &Quantiser) -> [i16; 8] {
    let mut levels = [0; 8];
    for plane in 0..2 {
        let mut first = [0; 4];
        for (i, first) in first.iter_mut().enumerate() {
            *first = i32::from(std::mem::take(&mut d[chroma_first_at(4 * plane + i)]));
        }
        let coded = pairs(first).map(|c| q.first(c) as i16);
        levels[4 * plane..][..4].copy_from_slice(&coded);
    }
    levels
}

/// Puts the first coefficients of Cb and Cr back.
#[inline(always)]
pub fn scale_chroma_first(levels: &[i16; 8], d: &mut [i16], q: &Quantiser) {
    for plane in 0..2 {
        let first = std::array::from_fn(|i| i32::from(levels[4 * plane + i]));
        for (i, f) in pairs(first).into_iter().enumerate() {
            let c = ((f * q.first_step()) << (q.qp / 6)) >> 1;
            d[chroma_first_at(4 * plane + i)] = c as i16;
        }
    }
}
