//! The form for NEON: two registers of eight words.

use std::arch::aarch64::*;

use super::{Apart, Line, Samples, Vector, Work};
use crate::h264::block::ZIGZAG;
use crate::h264::picture::Luma;
use crate::native::{Unit, unit};
use crate::neon::{load16, store16};

/// There is one only where the machine has NEON.
#[derive(Debug, Clone, Copy)]
pub struct Neon(());

impl Neon {
    pub fn new() -> Option<Self> {
        (unit() >= Unit::Neon).then_some(Self(()))
    }
}

type Words = int16x8x2_t;

const PARTED: Line = [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15];
const JOINED: Line = [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15];

/// What an instruction makes of each register of one argument, or of two.
macro_rules! each {
    ($of:expr, $a:expr) => {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { int16x8x2_t($of($a.0), $of($a.1)) }
    };
    ($of:expr, $a:expr, $b:expr) => {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { int16x8x2_t($of($a.0, $b.0), $of($a.1, $b.1)) }
    };
}

impl Vector for Neon {
    type Words = Words;

    #[inline(always)]
    fn call<W: Work<Self>>(self, work: W) -> W::Out {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { called(self, work) }
    }

    /// There is no stable name for the instruction.
    #[inline(always)]
    fn prefetch(self, _: &u8) {}

    #[inline(always)]
    fn all(self, value: i16) -> Words {
        // SAFETY: this machine has NEON, or there would be no `self`.
        let one = unsafe { vdupq_n_s16(value) };
        int16x8x2_t(one, one)
    }

    #[inline(always)]
    fn load(self, from: &[i16; 16]) -> Words {
        // SAFETY: this machine has NEON, or there would be no `self`; 32 bytes are there.
        unsafe { int16x8x2_t(vld1q_s16(from.as_ptr()), vld1q_s16(from[8..].as_ptr())) }
    }

    #[inline(always)]
    fn store(self, words: Words, to: &mut [i16; 16]) {
        let (low, high) = to.split_at_mut(8);
        // SAFETY: this machine has NEON, or there would be no `self`; there is room for sixteen
        // bytes in each half.
        unsafe {
            vst1q_s16(low.as_mut_ptr(), words.0);
            vst1q_s16(high.as_mut_ptr(), words.1);
        }
    }

    #[inline(always)]
    fn widen(self, line: &Line) -> Words {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { widen(line) }
    }

    #[inline(always)]
    fn narrow(self, words: Words) -> Line {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { stored(vqmovun_high_s16(vqmovun_s16(words.0), words.1)) }
    }

    #[inline(always)]
    fn add(self, a: Words, b: Words) -> Words {
        each!(vaddq_s16, a, b)
    }

    #[inline(always)]
    fn sub(self, a: Words, b: Words) -> Words {
        each!(vsubq_s16, a, b)
    }

    #[inline(always)]
    fn mul(self, a: Words, b: Words) -> Words {
        each!(vmulq_s16, a, b)
    }

    #[inline(always)]
    fn add_within(self, a: Words, b: Words) -> Words {
        each!(vqaddq_s16, a, b)
    }

    #[inline(always)]
    fn half<const BITS: i32>(self, a: Words) -> Words {
        each!(vshrq_n_s16::<BITS>, a)
    }

    #[inline(always)]
    fn min(self, a: Words, b: Words) -> Words {
        each!(vminq_s16, a, b)
    }

    #[inline(always)]
    fn max(self, a: Words, b: Words) -> Words {
        each!(vmaxq_s16, a, b)
    }

    #[inline(always)]
    fn abs(self, a: Words) -> Words {
        each!(vabsq_s16, a)
    }

    #[inline(always)]
    fn less(self, a: Words, b: Words) -> Words {
        each!(|a, b| vreinterpretq_s16_u16(vcltq_s16(a, b)), a, b)
    }

    #[inline(always)]
    fn and(self, a: Words, b: Words) -> Words {
        each!(vandq_s16, a, b)
    }

    #[inline(always)]
    fn select(self, mask: Words, a: Words, b: Words) -> Words {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe {
            let [low, high] = [mask.0, mask.1].map(|mask| vreinterpretq_u16_s16(mask));
            int16x8x2_t(vbslq_s16(low, a.0, b.0), vbslq_s16(high, a.1, b.1))
        }
    }

    #[inline(always)]
    fn any(self, a: Words) -> bool {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { vmaxvq_u16(vreinterpretq_u16_s16(vorrq_s16(a.0, a.1))) != 0 }
    }

    #[inline(always)]
    fn quantise(self, c: Words, [factor, bias]: [Words; 2], most: i16) -> Words {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe {
            int16x8x2_t(
                quantise(c.0, factor.0, bias.0, most),
                quantise(c.1, factor.1, bias.1, most),
            )
        }
    }

    #[inline(always)]
    fn turn(self, [a, b, c, d]: [Words; 4]) -> [Words; 4] {
        // SAFETY: this machine has NEON, or there would be no `self`.
        let [low, high] = unsafe { [turn([a.0, b.0, c.0, d.0]), turn([a.1, b.1, c.1, d.1])] };
        std::array::from_fn(|row| int16x8x2_t(low[row], high[row]))
    }

    #[inline(always)]
    fn used(self, rows: [Words; 4]) -> u32 {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { used(rows) }
    }

    #[inline(always)]
    fn zigzag(self, rows: &[[i16; 16]; 4], block: usize, to: &mut [i16; 16]) -> [u32; 2] {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { zigzag(rows, block, to) }
    }

    #[inline(always)]
    fn difference(self, luma: &Luma, to: Samples<'_>) -> u32 {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { difference(luma, |y| load16(to.row(y))) }
    }

    #[inline(always)]
    fn differences(self, a: Samples<'_>, b: Samples<'_>) -> [Apart; 2] {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { differences(a, b) }
    }

    #[inline(always)]
    fn difference_to_mean(self, luma: &Luma, a: Samples<'_>, b: Samples<'_>) -> u32 {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { difference(luma, |y| vrhaddq_u8(load16(a.row(y)), load16(b.row(y)))) }
    }

    #[inline(always)]
    fn mean(self, a: &Line, b: &Line) -> Line {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { stored(vrhaddq_u8(load16(a), load16(b))) }
    }

    #[inline(always)]
    fn part(self, line: &Line) -> Line {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { stored(vqtbl1q_u8(load16(line), load16(&PARTED))) }
    }

    #[inline(always)]
    fn join(self, line: &Line) -> Line {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { stored(vqtbl1q_u8(load16(line), load16(&JOINED))) }
    }

    #[inline(always)]
    fn columns(self, from: Samples<'_>) -> [Line; 8] {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { columns(from) }
    }

    #[inline(always)]
    fn put_columns(self, lines: &[Line; 8], to: &mut [u8], stride: usize) {
        // SAFETY: this machine has NEON, or there would be no `self`.
        unsafe { put_columns(lines, to, stride) }
    }
}

#[inline(never)]
#[target_feature(enable = "neon")]
fn called<W: Work<Neon>>(v: Neon, work: W) -> W::Out {
    work.run(v)
}

#[inline]
#[target_feature(enable = "neon")]
fn stored(samples: uint8x16_t) -> Line {
    let mut line = [0; 16];
    store16(&mut line, samples);
    line
}

#[inline]
#[target_feature(enable = "neon")]
fn widen(line: &Line) -> Words {
    let line = load16(line);
    let (low, high) = (vmovl_u8(vget_low_u8(line)), vmovl_high_u8(line));
    int16x8x2_t(vreinterpretq_s16_u16(low), vreinterpretq_s16_u16(high))
}

#[inline]
#[target_feature(enable = "neon")]
fn quantise(c: int16x8_t, factor: int16x8_t, bias: int16x8_t, most: i16) -> int16x8_t {
    let [factor, bias] = [vreinterpretq_u16_s16(factor), vreinterpretq_u16_s16(bias)];
    let size = vqaddq_u16(vreinterpretq_u16_s16(vabsq_s16(c)), bias);
    let low = vshrn_n_u32::<16>(vmull_u16(vget_low_u16(size), vget_low_u16(factor)));
    let level = vshrn_high_n_u32::<16>(low, vmull_high_u16(size, factor));
    let level = vreinterpretq_s16_u16(vminq_u16(level, vdupq_n_u16(most as u16)));
    // All bits where `c` is negative, by which a level is turned about; and none where it is 0.
    let sign = vshrq_n_s16::<15>(c);
    let turned = vsubq_s16(veorq_s16(level, sign), sign);
    vandq_s16(turned, vreinterpretq_s16_u16(vtstq_s16(c, c)))
}

/// Two blocks side by side.
#[inline]
#[target_feature(enable = "neon")]
fn turn([a, b, c, d]: [int16x8_t; 4]) -> [int16x8_t; 4] {
    let pair = |low: int16x8_t, high: int16x8_t| {
        let (low, high) = (vreinterpretq_s32_s16(low), vreinterpretq_s32_s16(high));
        [vtrn1q_s32(low, high), vtrn2q_s32(low, high)]
    };
    let [first, third] = pair(vtrn1q_s16(a, b), vtrn1q_s16(c, d));
    let [second, fourth] = pair(vtrn2q_s16(a, b), vtrn2q_s16(c, d));
    [
        vreinterpretq_s16_s32(first),
        vreinterpretq_s16_s32(second),
        vreinterpretq_s16_s32(third),
        vreinterpretq_s16_s32(fourth),
    ]
}

#[inline]
#[target_feature(enable = "neon")]
fn used([a, b, c, d]: [Words; 4]) -> u32 {
    let any = |parts: [int16x8_t; 4]| {
        let [a, b, c, d] = parts;
        let any = vreinterpretq_u64_s16(vorrq_s16(vorrq_s16(a, b), vorrq_s16(c, d)));
        u32::from(vgetq_lane_u64::<0>(any) != 0) | u32::from(vgetq_lane_u64::<1>(any) != 0) << 1
    };
    any([a.0, b.0, c.0, d.0]) | any([a.1, b.1, c.1, d.1]) << 2
}

/// For each half of the order: where in a block, column after column, the bytes come from.
static ORDERS: [Line; 2] = orders();

const fn orders() -> [Line; 2] {
    let (mut orders, mut at) = ([[0; 16]; 2], 0);
    while at < 16 {
        let natural = ZIGZAG[at];
        let from = natural % 4 * 4 + natural / 4;
        orders[at / 8][2 * (at % 8)] = 2 * from;
        orders[at / 8][2 * (at % 8) + 1] = 2 * from + 1;
        at += 1;
    }
    orders
}

#[inline]
#[target_feature(enable = "neon")]
fn zigzag(rows: &[[i16; 16]; 4], block: usize, to: &mut [i16; 16]) -> [u32; 2] {
    let four = |row: &[i16; 16]| {
        let four: &[i16; 4] = row[4 * block..].first_chunk().expect("a row has four blocks");
        // SAFETY: eight bytes are there, and an unaligned load may read them.
        unsafe { vld1_s16(four.as_ptr()) }
    };
    let pair = |a, b| vreinterpretq_u8_s16(vcombine_s16(four(a), four(b)));
    let block = uint8x16x2_t(pair(&rows[0], &rows[1]), pair(&rows[2], &rows[3]));
    let half = |n: usize| vreinterpretq_s16_u8(vqtbl2q_u8(block, load16(&ORDERS[n])));
    let ordered = [half(0), half(1)];
    let (low, high) = to.split_at_mut(8);
    // SAFETY: there is room for sixteen bytes in each half.
    unsafe {
        vst1q_s16(low.as_mut_ptr(), ordered[0]);
        vst1q_s16(high.as_mut_ptr(), ordered[1]);
    }
    let beyond = |least: u16| {
        let bits = |n: usize| {
            let size = vreinterpretq_u16_s16(vabsq_s16(ordered[n]));
            lanes(vcgtq_u16(size, vdupq_n_u16(least)))
        };
        bits(0) | bits(1) << 8
    };
    [beyond(0), beyond(1)]
}

/// A bit for each lane that has all of them.
#[inline]
#[target_feature(enable = "neon")]
fn lanes(mask: uint16x8_t) -> u32 {
    static BITS: [u16; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: sixteen bytes are there, and an unaligned load may read them.
    let bits = unsafe { vld1q_u16(BITS.as_ptr()) };
    u32::from(vaddvq_u16(vandq_u16(mask, bits)))
}

/// From a macroblock to the lines that `there` gives. Sums of sixteen pairs fit their lanes.
#[inline]
#[target_feature(enable = "neon")]
fn difference(luma: &Luma, there: impl Fn(usize) -> uint8x16_t) -> u32 {
    let mut sums = vdupq_n_u16(0);
    for (y, line) in luma.iter().enumerate() {
        sums = vpadalq_u8(sums, vabdq_u8(load16(line), there(y)));
    }
    vaddlvq_u16(sums)
}

#[inline]
#[target_feature(enable = "neon")]
fn differences(a: Samples<'_>, b: Samples<'_>) -> [Apart; 2] {
    let (mut each, mut sums) = ([vdupq_n_u16(0); 2], [vdupq_n_s16(0); 2]);
    for y in 0..8 {
        let (a, b) = (load16(a.row(y)), load16(b.row(y)));
        let (low_a, low_b) = (vget_low_u8(a), vget_low_u8(b));
        each = [vabal_u8(each[0], low_a, low_b), vabal_high_u8(each[1], a, b)];
        let [low, high] = [vsubl_u8(low_a, low_b), vsubl_high_u8(a, b)];
        sums[0] = vaddq_s16(sums[0], vreinterpretq_s16_u16(low));
        sums[1] = vaddq_s16(sums[1], vreinterpretq_s16_u16(high));
    }
    let apart = |each, sum| Apart { each: vaddlvq_u16(each), sum: vaddlvq_s16(sum).unsigned_abs() };
    [apart(each[0], sums[0]), apart(each[1], sums[1])]
}

/// Turns a square of eight rows of eight bytes about its diagonal, and one in the upper halves.
#[inline]
#[target_feature(enable = "neon")]
fn turn8(rows: [uint8x16_t; 8]) -> [uint8x16_t; 8] {
    let (mut twos, mut fours, mut to) = ([vdupq_n_u16(0); 8], [vdupq_n_u32(0); 8], rows);
    for i in [0, 2, 4, 6] {
        twos[i] = vreinterpretq_u16_u8(vtrn1q_u8(rows[i], rows[i + 1]));
        twos[i + 1] = vreinterpretq_u16_u8(vtrn2q_u8(rows[i], rows[i + 1]));
    }
    for i in [0, 1, 4, 5] {
        fours[i] = vreinterpretq_u32_u16(vtrn1q_u16(twos[i], twos[i + 2]));
        fours[i + 2] = vreinterpretq_u32_u16(vtrn2q_u16(twos[i], twos[i + 2]));
    }
    for i in 0..4 {
        to[i] = vreinterpretq_u8_u32(vtrn1q_u32(fours[i], fours[i + 4]));
        to[i + 4] = vreinterpretq_u8_u32(vtrn2q_u32(fours[i], fours[i + 4]));
    }
    to
}

#[inline]
#[target_feature(enable = "neon")]
fn columns(from: Samples<'_>) -> [Line; 8] {
    let eight = |y: usize| {
        let eight: &[u8; 8] = from.from[y * from.stride..].first_chunk().expect("eight are left");
        // SAFETY: eight bytes are there, and an unaligned load may read them.
        unsafe { vld1_u8(eight.as_ptr()) }
    };
    let mut rows = [vdupq_n_u8(0); 8];
    for (y, row) in rows.iter_mut().enumerate() {
        *row = vcombine_u8(eight(y), eight(y + 8));
    }
    let mut lines = [[0; 16]; 8];
    for (line, column) in lines.iter_mut().zip(turn8(rows)) {
        store16(line, column);
    }
    lines
}

#[inline]
#[target_feature(enable = "neon")]
fn put_columns(lines: &[Line; 8], to: &mut [u8], stride: usize) {
    let mut columns = [vdupq_n_u8(0); 8];
    for (column, line) in columns.iter_mut().zip(lines) {
        *column = load16(line);
    }
    let mut put = |y: usize, row: uint8x8_t| {
        let to: &mut [u8; 8] = to[y * stride..].first_chunk_mut().expect("eight are left");
        // SAFETY: there is room for eight bytes, and an unaligned store may write them.
        unsafe { vst1_u8(to.as_mut_ptr(), row) };
    };
    for (y, rows) in turn8(columns).into_iter().enumerate() {
        put(y, vget_low_u8(rows));
        put(y + 8, vget_high_u8(rows));
    }
}
