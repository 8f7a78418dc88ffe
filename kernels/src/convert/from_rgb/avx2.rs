//! Pixels of 32 bits from shuffles, and products of pairs of 16 bits.
//!
//! A factor of 20 bits is `1024 h + l`: the products of both parts are summed apart, exactly.

use std::arch::x86_64::*;

use super::{BLOCK, GRAY, Layout, Made, Strip, Weights, two_rows};
use crate::avx2::{NONE, bytes, mask, pairs, store32};

/// Four pixels in each half, of which the first byte is kept for each component.
struct Shuffles {
    /// Of each pixel, red and green in 16 bits each.
    red_green: __m256i,
    /// Of each pixel, blue in 16 bits, and nothing.
    blue: __m256i,
    /// Of each two pixels, both reds, both greens, both blues, and nothing.
    two: __m256i,
}

impl Shuffles {
    #[target_feature(enable = "avx2")]
    fn new(step: usize, red_at: usize) -> Self {
        let at = |pixel: usize, component: usize| {
            let byte = match component {
                0 => red_at,
                1 => 1,
                _ => 2 - red_at,
            };
            (pixel * step + byte) as i8
        };
        let (mut red_green, mut blue, mut two) = ([NONE; 16], [NONE; 16], [NONE; 16]);
        for pixel in 0..4 {
            red_green[4 * pixel] = at(pixel, 0);
            red_green[4 * pixel + 2] = at(pixel, 1);
            blue[4 * pixel] = at(pixel, 2);
            for component in 0..3 {
                two[pixel / 2 * 8 + 2 * component + pixel % 2] = at(pixel, component);
            }
        }
        Self { red_green: mask(&red_green), blue: mask(&blue), two: mask(&two) }
    }
}

/// Bytes that are read from the first pixel of a block on: those of the last four go further.
fn block_bytes(step: usize) -> usize {
    (BLOCK - 4) * step + 16
}

/// The bytes of a block's pixels, from `end` where they end too early to be read there.
#[inline(always)]
fn readable<'a>(
    from: &'a [u8],
    step: usize,
    count: usize,
    end: &'a mut [u8; 4 * BLOCK + 16],
) -> &'a [u8] {
    if count == BLOCK && from.len() >= block_bytes(step) {
        return from;
    }
    let len = (count * step).min(from.len());
    end[..len].copy_from_slice(&from[..len]);
    // Past an odd edge the last pixel counts twice.
    if count < BLOCK {
        end.copy_within((count - 1) * step..count * step, count * step);
    }
    end
}

/// Pixels 4 n and 16 + 4 n of a block, with the three that follow each.
#[inline]
#[target_feature(enable = "avx2")]
fn quads(from: &[u8], step: usize) -> [__m256i; 4] {
    assert!(from.len() >= block_bytes(step));
    // SAFETY: pixel 28 is the last one that sixteen bytes are read from, and they are there.
    let four = |pixel: usize| unsafe { _mm_loadu_si128(from.as_ptr().add(pixel * step).cast()) };
    let quad = |n: usize| {
        let low = _mm256_castsi128_si256(four(4 * n));
        _mm256_inserti128_si256(low, four(16 + 4 * n), 1)
    };
    [quad(0), quad(1), quad(2), quad(3)]
}

/// Numbers of 32 bits, in the order of [`quads`], as bytes in the order of pixels.
#[inline]
#[target_feature(enable = "avx2")]
fn narrow([a, b, c, d]: [__m256i; 4]) -> __m256i {
    _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d))
}

#[target_feature(enable = "avx2")]
pub(super) fn gray_row(from: &[u8], step: usize, red_at: usize, to: &mut [u8]) {
    let shuffles = Shuffles::new(step, red_at);
    let [red_green, blue] = [pairs(GRAY[0], GRAY[1]), pairs(GRAY[2], 0)];
    let round = _mm256_set1_epi32(1 << 14);
    let mut end = [0; 4 * BLOCK + 16];
    for (number, to) in to.chunks_mut(BLOCK).enumerate() {
        let from = readable(&from[number * BLOCK * step..], step, to.len(), &mut end);
        let mut sums = quads(from, step);
        for sum in &mut sums {
            let a = _mm256_madd_epi16(_mm256_shuffle_epi8(*sum, shuffles.red_green), red_green);
            let b = _mm256_madd_epi16(_mm256_shuffle_epi8(*sum, shuffles.blue), blue);
            *sum = _mm256_srai_epi32(_mm256_add_epi32(_mm256_add_epi32(a, b), round), 15);
        }
        if to.len() == BLOCK {
            store32(to, narrow(sums));
        } else {
            to.copy_from_slice(&bytes(narrow(sums))[..to.len()]);
        }
    }
}

/// Factors of one component in two parts, for red and green and for blue.
#[derive(Clone, Copy)]
struct Factors {
    high: [__m256i; 2],
    low: [__m256i; 2],
}

impl Factors {
    #[target_feature(enable = "avx2")]
    fn new([red, green, blue]: [i32; 3]) -> Self {
        let part = |of: fn(i32) -> i32| [pairs(of(red), of(green)), pairs(of(blue), 0)];
        Self { high: part(|factor| factor >> 10), low: part(|factor| factor & 1023) }
    }

    /// As samples in one register, red and green before blue.
    #[target_feature(enable = "avx2")]
    fn in_one(self) -> [__m256i; 2] {
        let one = |part: [__m256i; 2]| _mm256_unpacklo_epi32(part[0], part[1]);
        [one(self.high), one(self.low)]
    }
}

/// `1024 high + low`.
#[inline]
#[target_feature(enable = "avx2")]
fn join(high: __m256i, low: __m256i) -> __m256i {
    _mm256_add_epi32(_mm256_slli_epi32(high, 10), low)
}

struct Constants {
    shuffles: Shuffles,
    luma: Factors,
    luma_round: __m256i,
    chroma: [[__m256i; 2]; 2],
    chroma_round: __m256i,
    ones: __m256i,
    /// The order of chroma in each half: both components apart, or in pairs.
    order: __m256i,
    are_planes: bool,
}

/// Rows `y` and `y + 1` of a strip.
#[target_feature(enable = "avx2")]
pub(super) fn rows(strip: &mut Strip<'_>, weights: &Weights, layout: &Layout, y: usize) {
    let constants = Constants {
        shuffles: Shuffles::new(layout.step, layout.red_at),
        luma: Factors::new(weights.luma),
        luma_round: _mm256_set1_epi32((weights.black << 20) + (1 << 19)),
        chroma: [
            Factors::new(weights.chroma[0]).in_one(),
            Factors::new(weights.chroma[1]).in_one(),
        ],
        chroma_round: _mm256_set1_epi32((128 << 22) + (1 << 21)),
        ones: _mm256_set1_epi8(1),
        order: mask(match layout.chroma_step {
            1 => &[0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15],
            _ => &[0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15],
        }),
        are_planes: layout.chroma_step == 1,
    };
    let step = layout.step;
    let mut end = [0; 4 * BLOCK + 16];
    two_rows(strip, layout, y, |upper, lower, count| {
        let upper = quads(readable(upper, step, count, &mut end), step);
        let lower = quads(readable(lower, step, count, &mut end), step);
        block(&constants, upper, lower)
    });
}

#[inline]
#[target_feature(enable = "avx2")]
fn block(constants: &Constants, upper: [__m256i; 4], lower: [__m256i; 4]) -> Made {
    let luma = |[a, b, c, d]: [__m256i; 4]| {
        let one = |quad| luma(constants, quad);
        bytes(narrow([one(a), one(b), one(c), one(d)]))
    };
    let luma = [luma(upper), luma(lower)];
    let both = |n: usize| chroma(constants, upper[n], lower[n]);
    let both = narrow([both(0), both(1), both(2), both(3)]);
    let ordered = _mm256_shuffle_epi8(both, constants.order);
    let chroma = match constants.are_planes {
        true => _mm256_permute4x64_epi64(ordered, 0b11_01_10_00),
        false => ordered,
    };
    Made { luma, chroma: bytes(chroma) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn luma(constants: &Constants, quad: __m256i) -> __m256i {
    let red_green = _mm256_shuffle_epi8(quad, constants.shuffles.red_green);
    let blue = _mm256_shuffle_epi8(quad, constants.shuffles.blue);
    let weighed = |factors: [__m256i; 2]| {
        let sum = _mm256_madd_epi16(red_green, factors[0]);
        _mm256_add_epi32(sum, _mm256_madd_epi16(blue, factors[1]))
    };
    let low = _mm256_add_epi32(weighed(constants.luma.low), constants.luma_round);
    _mm256_srai_epi32(join(weighed(constants.luma.high), low), 20)
}

/// Both components of the two that four pixels above four have, in each half: first, first,
/// second, second.
#[inline]
#[target_feature(enable = "avx2")]
fn chroma(constants: &Constants, upper: __m256i, lower: __m256i) -> __m256i {
    let two = |quad: __m256i| {
        _mm256_maddubs_epi16(_mm256_shuffle_epi8(quad, constants.shuffles.two), constants.ones)
    };
    let sums = _mm256_add_epi16(two(upper), two(lower));
    let weighed = |[high, low]: [__m256i; 2]| {
        join(_mm256_madd_epi16(sums, high), _mm256_madd_epi16(sums, low))
    };
    let both = _mm256_hadd_epi32(weighed(constants.chroma[0]), weighed(constants.chroma[1]));
    let sums = _mm256_add_epi32(both, constants.chroma_round);
    _mm256_srai_epi32(sums, 22)
}
