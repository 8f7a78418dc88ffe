//! Rows weighed by two weights at once.

use std::arch::x86_64::*;

use super::{Across, Both, EDGE, TAPS_MAX, near};
use crate::avx2::{NONE, load16, mask, narrows, pairs, store16};
use crate::lanes::Between;

/// A row of the result.
#[target_feature(enable = "avx2")]
pub(super) fn row(both: &Both<'_>, y: usize, between: &mut Between<i16>, to: &mut [u8]) {
    let (taps, mut rows, mut weights) = (both.rows.taps, [&[][..]; TAPS_MAX], [0; TAPS_MAX]);
    for (i, weight) in both.rows.weights(y).enumerate() {
        rows[i] = both.source(near(both.rows.first(y), i, both.height));
        weights[i] = weight;
    }
    down(&rows[..taps], &weights[..taps], between.row());
    let (channels, len) = (both.across.channels, both.len as isize);
    for at in 0..(both.across.edge * channels) as isize {
        let channel = at as usize % channels;
        let (first, last) = {
            let row = between.row();
            (row[channel], row[row.len() - channels + channel])
        };
        between.set(at - (both.across.edge * channels) as isize, first);
        between.set(len + at, last);
    }
    let from = between.from(-(EDGE as isize), both.len + 2 * EDGE);
    match channels {
        1 => across_one(&both.across, from, to),
        2 => across::<2>(&both.across, from, to),
        3 => across::<3>(&both.across, from, to),
        _ => across::<4>(&both.across, from, to),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn widened(row: &[u8], x: usize) -> __m256i {
    _mm256_cvtepu8_epi16(load16(&row[x..]))
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_samples(to: &mut [i16], x: usize, value: __m256i) {
    let to: &mut [i16; 16] = to[x..].first_chunk_mut().expect("sixteen are left");
    // SAFETY: there is room for sixteen samples, and an unaligned store may write them.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), value) };
}

/// Rows weighed and summed, with six fractional bits.
#[inline]
#[target_feature(enable = "avx2")]
fn down(rows: &[&[u8]], weights: &[i32], to: &mut [i16]) {
    let mut whole = 0;
    if let ([a, b], [first, second]) = (rows, weights)
        && first + second == 1 << 14
    {
        whole = to.len() / 16 * 16;
        down_two(a, b, *second as i16, &mut to[..whole]);
    } else if to.len() >= 32 {
        whole = to.len();
        down_many(rows, weights, to);
    }
    for x in whole..to.len() {
        let pairs = rows.iter().zip(weights);
        let sum = pairs.fold(1i32 << 7, |sum, (row, weight)| sum + weight * i32::from(row[x]));
        to[x] = (sum >> 8) as i16;
    }
}

/// `(2^14 a + w (b - a) + 2^7) >> 8`: the multiplication rounds so itself.
#[inline]
#[target_feature(enable = "avx2")]
fn down_two(a: &[u8], b: &[u8], weight: i16, to: &mut [i16]) {
    let weight = _mm256_set1_epi16(weight);
    for x in (0..to.len()).step_by(16) {
        let (a, b) = (widened(a, x), widened(b, x));
        let change = _mm256_slli_epi16(_mm256_sub_epi16(b, a), 7);
        let change = _mm256_mulhrs_epi16(change, weight);
        store_samples(to, x, _mm256_add_epi16(_mm256_slli_epi16(a, 6), change));
    }
}

/// Two rows, and their weights side by side.
#[derive(Clone, Copy)]
struct Two {
    rows: [*const u8; 2],
    weights: __m256i,
}

#[inline]
#[target_feature(enable = "avx2")]
fn down_many(rows: &[&[u8]], weights: &[i32], to: &mut [i16]) {
    assert!(rows.iter().all(|row| row.len() >= to.len()));
    let mut all = [Two { rows: [rows[0].as_ptr(); 2], weights: pairs(0, 0) }; TAPS_MAX / 2];
    let count = rows.len().div_ceil(2);
    for (n, two) in all[..count].iter_mut().enumerate() {
        // The weight of a row that is not there is nothing.
        let second = (2 * n + 1).min(rows.len() - 1);
        two.rows = [rows[2 * n].as_ptr(), rows[second].as_ptr()];
        two.weights = pairs(weights[2 * n], weights.get(2 * n + 1).copied().unwrap_or(0));
    }
    // SAFETY: all rows are as long as the result at least.
    unsafe {
        match &all[..count] {
            [a, b] => down_pairs(&[*a, *b], to),
            [a, b, c] => down_pairs(&[*a, *b, *c], to),
            all => down_pairs(all, to),
        }
    }
}

/// The last 32 samples end where the row does.
///
/// # Safety
///
/// From each address on there must be as many bytes as `to` has samples, 32 or more.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn down_pairs(all: &[Two], to: &mut [i16]) {
    let zero = _mm256_setzero_si256();
    for x in (0..to.len()).step_by(32) {
        let x = x.min(to.len() - 32);
        let mut sums = [_mm256_set1_epi32(1 << 7); 4];
        for two in all {
            // SAFETY: 32 bytes follow, as the caller promises.
            let a = unsafe { _mm256_loadu_si256(two.rows[0].add(x).cast()) };
            // SAFETY: the same.
            let b = unsafe { _mm256_loadu_si256(two.rows[1].add(x).cast()) };
            let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
            let samples = [
                _mm256_unpacklo_epi8(low, zero),
                _mm256_unpackhi_epi8(low, zero),
                _mm256_unpacklo_epi8(high, zero),
                _mm256_unpackhi_epi8(high, zero),
            ];
            for (sum, samples) in sums.iter_mut().zip(samples) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(samples, two.weights));
            }
        }
        let sum = |n: usize| _mm256_srai_epi32(sums[n], 8);
        let low = _mm256_packs_epi32(sum(0), sum(1));
        let high = _mm256_packs_epi32(sum(2), sum(3));
        store_samples(to, x, _mm256_permute2x128_si256(low, high, 0x20));
        store_samples(to, x + 16, _mm256_permute2x128_si256(low, high, 0x31));
    }
}

/// Brings the samples of two pixels of so many channels together, channel by channel.
const fn joins(channels: usize) -> [i8; 16] {
    let mut mask = [NONE; 16];
    let mut at = 0;
    while at < 4 * channels {
        let (channel, pixel, byte) = (at / 4, at / 2 % 2, at % 2);
        mask[at] = (2 * (pixel * channels + channel) + byte) as i8;
        at += 1;
    }
    mask
}

/// Samples from `at` on, in the lower half, and from `other` on.
///
/// # Safety
///
/// Eight samples must follow each of the two places.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn two_pixels(from: &[i16], at: usize, other: usize) -> __m256i {
    debug_assert!(at.max(other) + 8 <= from.len());
    // SAFETY: eight samples follow, as the caller promises.
    let low = unsafe { _mm_loadu_si128(from.as_ptr().add(at).cast()) };
    // SAFETY: the same.
    let high = unsafe { _mm_loadu_si128(from.as_ptr().add(other).cast()) };
    _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1)
}

/// Eight places at a time; in each vector one of the first four and one of the last four.
#[inline]
#[target_feature(enable = "avx2")]
fn across<const CHANNELS: usize>(across: &Across, from: &[i16], to: &mut [u8]) {
    let (join, narrow) = (mask(const { &joins(CHANNELS) }), mask(const { &narrows(CHANNELS) }));
    // Each store writes sixteen bytes, of which the last ones may be the next pixels'.
    let room = 16usize.div_ceil(CHANNELS);
    let count = across.at.len().saturating_sub(room + 4) / 8 * 8;
    for x in (0..count).step_by(8) {
        let mut sums = [_mm256_set1_epi32(1 << 19); 4];
        let places: &[u32; 8] = across.at[x..].first_chunk().expect("eight are left");
        for (k, weights) in across.pairs.iter().enumerate() {
            let weights: &[i32; 8] = weights[x..].first_chunk().expect("eight are left");
            // SAFETY: eight numbers are there, and an unaligned load may read them.
            let weights = unsafe { _mm256_loadu_si256(weights.as_ptr().cast()) };
            let of_two = [
                _mm256_shuffle_epi32(weights, 0x00),
                _mm256_shuffle_epi32(weights, 0x55),
                _mm256_shuffle_epi32(weights, 0xAA),
                _mm256_shuffle_epi32(weights, 0xFF),
            ];
            for (n, (sum, weights)) in sums.iter_mut().zip(of_two).enumerate() {
                let [a, b] = [n, n + 4].map(|n| places[n] as usize + 2 * k * CHANNELS);
                // SAFETY: `Across` says that all weighed samples and eight more are there.
                let samples = unsafe { two_pixels(from, a, b) };
                let products = _mm256_madd_epi16(_mm256_shuffle_epi8(samples, join), weights);
                *sum = _mm256_add_epi32(*sum, products);
            }
        }
        let [a, b, c, d] = sums.map(|sum| _mm256_srai_epi32(sum, 20));
        let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let bytes = _mm256_shuffle_epi8(bytes, narrow);
        store16(&mut to[x * CHANNELS..], _mm256_castsi256_si128(bytes));
        store16(&mut to[(x + 4) * CHANNELS..], _mm256_extracti128_si256(bytes, 1));
    }
    one_by_one(across, from, to, count);
}

/// Pixels of one sample: two of them are gathered at once.
#[inline]
#[target_feature(enable = "avx2")]
fn across_one(across: &Across, from: &[i16], to: &mut [u8]) {
    let count = across.at.len() / 16 * 16;
    for x in (0..count).step_by(16) {
        let mut sums = [_mm256_set1_epi32(1 << 19); 2];
        for (k, weights) in across.pairs.iter().enumerate() {
            for (n, sum) in sums.iter_mut().enumerate() {
                let places: &[u32; 8] = across.at[x + 8 * n..].first_chunk().expect("eight");
                let weights: &[i32; 8] = weights[x + 8 * n..].first_chunk().expect("eight");
                // SAFETY: eight numbers are there, and an unaligned load may read them.
                let places = unsafe { _mm256_loadu_si256(places.as_ptr().cast()) };
                // SAFETY: the same.
                let weights = unsafe { _mm256_loadu_si256(weights.as_ptr().cast()) };
                let base = from[2 * k..].as_ptr().cast();
                // SAFETY: `Across` says that all weighed samples and eight more are there.
                let samples = unsafe { _mm256_i32gather_epi32::<2>(base, places) };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(samples, weights));
            }
        }
        let [a, b] = sums.map(|sum| _mm256_srai_epi32(sum, 20));
        let words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0b11_01_10_00);
        let high = _mm256_extracti128_si256(words, 1);
        store16(&mut to[x..], _mm_packus_epi16(_mm256_castsi256_si128(words), high));
    }
    one_by_one(across, from, to, count);
}

/// The places from `first` on.
fn one_by_one(across: &Across, from: &[i16], to: &mut [u8], first: usize) {
    let channels = across.channels;
    for x in first..across.at.len() {
        for channel in 0..channels {
            let mut sum = 1i32 << 19;
            for (k, weights) in across.pairs.iter().enumerate() {
                let at = across.at[x] as usize + 2 * k * channels + channel;
                let [low, high] = [weights[x] as i16, (weights[x] >> 16) as i16].map(i32::from);
                sum += low * i32::from(from[at]) + high * i32::from(from[at + channels]);
            }
            to[x * channels + channel] = (sum >> 20).clamp(0, 255) as u8;
        }
    }
}
