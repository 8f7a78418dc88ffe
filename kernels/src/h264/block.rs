//! Transform, quantisation and their inverses (clause 8.5), for four blocks side by side at once.
//! Samples stay in rows; coefficients and levels are turned about the diagonal of their block,
//! which saves turning them twice.
//!
//! Quantisation is ours: `level = sign(c) * (((|c| + bias) * factor) >> 16)`, at most 2063, where
//! `factor` is the standard's usual multiplier `2^(16 - qp / 6) * ...` and `bias` rounds a third of
//! a step up in intra macroblocks, a sixth in others.

use super::vector::{Line, Vector};

/// Four rows of four blocks side by side.
pub type Band = [[i16; 16]; 4];

/// Largest level: what a code of the longest kind holds in this profile.
pub const LEVEL_MAX: i32 = 2063;

/// Where in a block the levels in zigzag order lie.
pub const ZIGZAG: [u8; 16] = [0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15];

/// The place in rows of blocks of the blocks in coding order.
pub const BLOCKS: [u8; 16] = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15];

/// A bit for each block in coding order as a bit for each in rows.
#[inline(always)]
pub fn by_rows(coded: u16) -> u16 {
    // Blocks two and three of each half change places with those after them.
    (coded & 0xC3C3) | (coded & 0x0C0C) << 2 | (coded & 0x3030) >> 2
}

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
    /// Of 16 bits, without a sign.
    factor: [[i16; 16]; 4],
    bias: [[i16; 16]; 4],
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
        let rows = |number: &dyn Fn(usize, usize) -> u32| -> Band {
            std::array::from_fn(|y| std::array::from_fn(|x| number(y, x) as u16 as i16))
        };
        let step = |y, x| STEPS[(qp % 6) as usize][kind(y, x)] << (qp / 6);
        Self {
            factor: rows(&|y, x| of(y, x).0),
            bias: rows(&|y, x| of(y, x).1),
            step: rows(&step),
            qp,
        }
    }

    /// Levels of first coefficients that went through a second transform, twice as large.
    #[inline(always)]
    fn first(&self, c: i32) -> i32 {
        let (factor, bias) =
            (i64::from(self.factor[0][0] as u16), i64::from(self.bias[0][0] as u16));
        let level = ((i64::from(c.abs()) + 2 * bias) * factor) >> 17;
        c.signum() * (level as i32).min(LEVEL_MAX)
    }

    /// Multipliers, biases and steps of the three kinds of places, and the step of first levels.
    pub fn numbers(&self) -> [i32; 10] {
        // A place of each kind.
        let of = |rows: &Band| [(0, 0), (1, 1), (0, 1)].map(|(y, x)| i32::from(rows[y][x] as u16));
        let ([a, b, c], [d, e, f], [g, h, i]) = (of(&self.factor), of(&self.bias), of(&self.step));
        [a, b, c, d, e, f, g, h, i, self.first_step()]
    }

    fn first_step(&self) -> i32 {
        STEPS[(self.qp % 6) as usize][0] as i32
    }
}

/// Words of all four rows.
type Rows<V> = [<V as Vector>::Words; 4];

#[inline(always)]
fn load<V: Vector>(v: V, d: &Band) -> Rows<V> {
    [v.load(&d[0]), v.load(&d[1]), v.load(&d[2]), v.load(&d[3])]
}

#[inline(always)]
fn store<V: Vector>(v: V, rows: Rows<V>, d: &mut Band) {
    for (row, to) in rows.into_iter().zip(d) {
        v.store(row, to);
    }
}

#[inline(always)]
fn forward_down<V: Vector>(v: V, [a, b, c, e]: Rows<V>) -> Rows<V> {
    let (s03, d03, s12, d12) = (v.add(a, e), v.sub(a, e), v.add(b, c), v.sub(b, c));
    [v.add(s03, s12), v.add(v.add(d03, d03), d12), v.sub(s03, s12), v.sub(d03, v.add(d12, d12))]
}

/// The coefficients of what differs.
#[inline(always)]
pub fn forward(v: impl Vector, given: &[Line; 4], predicted: &[Line; 4]) -> Band {
    let row = |y: usize| v.sub(v.widen(&given[y]), v.widen(&predicted[y]));
    let down = forward_down(v, [row(0), row(1), row(2), row(3)]);
    let mut d = [[0; 16]; 4];
    store(v, forward_down(v, v.turn(down)), &mut d);
    d
}

#[inline(always)]
fn inverse_down<V: Vector>(v: V, [a, b, c, e]: Rows<V>) -> Rows<V> {
    let (e0, e1) = (v.add(a, c), v.sub(a, c));
    let (e2, e3) = (v.sub(v.half::<1>(b), e), v.add(b, v.half::<1>(e)));
    [v.add(e0, e3), v.add(e1, e2), v.sub(e1, e2), v.sub(e0, e3)]
}

/// Adds the inverse to the prediction.
#[inline(always)]
pub fn restore(v: impl Vector, d: &Band, to: &mut [Line; 4]) {
    let down = v.turn(inverse_down(v, load(v, d)));
    for (row, to) in inverse_down(v, down).into_iter().zip(to) {
        let row = v.half::<6>(v.add(row, v.all(32)));
        *to = v.narrow(v.add(v.widen(to), row));
    }
}

/// Coefficients to levels, in place; says which blocks have some, a bit each.
#[inline(always)]
pub fn quantise(v: impl Vector, d: &mut Band, q: &Quantiser) -> u32 {
    let row = |y: usize| {
        let numbers = [v.load(&q.factor[y]), v.load(&q.bias[y])];
        v.quantise(v.load(&d[y]), numbers, LEVEL_MAX as i16)
    };
    let rows = [row(0), row(1), row(2), row(3)];
    store(v, rows, d);
    v.used(rows)
}

/// Levels to coefficients, in place.
#[inline(always)]
pub fn scale(v: impl Vector, d: &mut Band, q: &Quantiser) {
    for (row, step) in d.iter_mut().zip(&q.step) {
        let scaled = v.mul(v.load(row), v.load(step));
        v.store(scaled, row);
    }
}

/// The levels of a band's block in zigzag order, and what they are worth: little when they are
/// single ones far apart. Levels above one are worth more than all that is left out, and those
/// before `first` are worth nothing.
#[inline(always)]
pub fn zigzag(v: impl Vector, d: &Band, block: usize, to: &mut [i16; 16], first: usize) -> u32 {
    const BY_RUN: [u8; 16] = [3, 2, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let [set, beyond] = v.zigzag(d, block, to).map(|set| set >> first);
    if beyond != 0 {
        return 9;
    }
    let (mut worth, mut left) = (0, set);
    while left != 0 {
        let run = left.trailing_zeros();
        worth += u32::from(BY_RUN[(run & 15) as usize]);
        left = left >> run >> 1;
    }
    worth
}

/// Takes a block's levels away.
#[inline(always)]
pub fn clear(d: &mut Band, block: usize) {
    for row in d {
        row[4 * block..][..4].fill(0);
    }
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
pub fn luma_first(d: &mut [Band; 4], q: &Quantiser) -> [i16; 16] {
    let mut first = [0; 16];
    for (i, first) in first.iter_mut().enumerate() {
        *first = i32::from(std::mem::take(&mut d[i / 4][0][i % 4 * 4]));
    }
    hadamard(first).map(|c| q.first(c >> 1) as i16)
}

/// Puts the first coefficients back.
#[inline(always)]
pub fn scale_luma_first(levels: &[i16; 16], d: &mut [Band; 4], q: &Quantiser) {
    let step = q.first_step();
    for (i, f) in hadamard(levels.map(i32::from)).into_iter().enumerate() {
        d[i / 4][0][i % 4 * 4] = match q.qp / 6 {
            0 => (f * step + 2) >> 2,
            1 => (f * step + 1) >> 1,
            up => (f * step) << (up - 2),
        } as i16;
    }
}

/// The band and the block in it of a block of chroma, in coding order: Cb is on the left.
#[inline(always)]
pub fn chroma_at(coded: usize) -> (usize, usize) {
    (coded / 2 % 2, coded / 4 * 2 + coded % 2)
}

fn pairs([a, b, c, e]: [i32; 4]) -> [i32; 4] {
    [a + b + c + e, a - b + c - e, a + b - c - e, a - b - c + e]
}

/// Takes the first coefficients of Cb and Cr out of `d`; their levels.
#[inline(always)]
pub fn chroma_first(d: &mut [Band; 2], q: &Quantiser) -> [i16; 8] {
    let mut levels = [0; 8];
    for plane in 0..2 {
        let mut first = [0; 4];
        for (i, first) in first.iter_mut().enumerate() {
            let (band, block) = chroma_at(4 * plane + i);
            *first = i32::from(std::mem::take(&mut d[band][0][4 * block]));
        }
        let coded = pairs(first).map(|c| q.first(c) as i16);
        levels[4 * plane..][..4].copy_from_slice(&coded);
    }
    levels
}

/// Puts the first coefficients of Cb and Cr back.
#[inline(always)]
pub fn scale_chroma_first(levels: &[i16; 8], d: &mut [Band; 2], q: &Quantiser) {
    for plane in 0..2 {
        let first = std::array::from_fn(|i| i32::from(levels[4 * plane + i]));
        for (i, f) in pairs(first).into_iter().enumerate() {
            let c = ((f * q.first_step()) << (q.qp / 6)) >> 1;
            let (band, block) = chroma_at(4 * plane + i);
            d[band][0][4 * block] = c as i16;
        }
    }
}
