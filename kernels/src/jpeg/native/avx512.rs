//! Two rows of frequencies at a time, an even one and the odd one after it. Cosines of even
//! frequencies are the same in rows that lie opposite, those of odd ones change their sign: half of
//! the products down are enough, of sums and of differences.

use std::arch::x86_64::*;

use super::{COSINES, McuRow, ZIGZAG};

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
pub(super) fn transform_row(samples: &McuRow, quantiser: &[[i32; 64]; 2], to: &mut [u8]) {
    let tables = Tables::new(quantiser);
    super::transform_row(samples, quantiser, to, |plane, stride, x, factors, to| {
        let factors = &tables.factors[usize::from(std::ptr::eq(factors, &quantiser[1]))];
        transform(&tables, plane, stride, x, factors, to);
    });
}

/// Lanes of the lower half belong to the even frequency, those of the upper half to the odd one.
struct Tables {
    /// `[u / 2][k]`: C[u][2k] and C[u][2k + 1] in each lane.
    down: [[__m512i; 2]; 4],
    /// `[k]`: in lane v of each half, C[v][2k] and C[v][2k + 1].
    across: [__m512i; 4],
    /// `[k]`: pair k of each half, in all of its lanes.
    spread: [__m512i; 4],
    /// Where the levels in zigzag order lie.
    zigzag: [__m512i; 2],
    factors: [[__m512i; 4]; 2],
    /// What the sums down of the first two frequencies begin with: a half, and the 128 that is
    /// taken off each sample, of which the means alone know.
    first_start: __m512i,
}

impl Tables {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
    fn new(quantiser: &[[i32; 64]; 2]) -> Self {
        let pair = |row: usize, k: usize| {
            let [low, high] = [COSINES[row][2 * k], COSINES[row][2 * k + 1]];
            (i32::from(low) & 0xFFFF) | (i32::from(high) << 16)
        };
        let mut tables = Self {
            down: [[_mm512_setzero_si512(); 2]; 4],
            across: [_mm512_setzero_si512(); 4],
            spread: [_mm512_setzero_si512(); 4],
            zigzag: [_mm512_setzero_si512(); 2],
            factors: [[_mm512_setzero_si512(); 4]; 2],
            first_start: _mm512_mask_sub_epi32(
                _mm512_set1_epi32(1 << 6),
                0x00FF,
                _mm512_set1_epi32(1 << 6),
                _mm512_set1_epi32(128 * 8 * i32::from(COSINES[0][0])),
            ),
        };
        for k in 0..4 {
            let (mut across, mut spread) = ([0; 16], [0; 16]);
            for lane in 0..16 {
                across[lane] = pair(lane % 8, k);
                // Packing leaves the pairs of a half in the first two lanes of each quarter.
                spread[lane] = [0, 1, 4, 5][k] + if lane < 8 { 0 } else { 8 };
            }
            tables.across[k] = longs(&across);
            tables.spread[k] = longs(&spread);
            for j in 0..2 {
                let mut down = [0; 16];
                for (lane, down) in down.iter_mut().enumerate() {
                    *down = pair(2 * k + lane / 8, j);
                }
                tables.down[k][j] = longs(&down);
            }
            for (factors, quantiser) in tables.factors.iter_mut().zip(quantiser) {
                let mut rows = [0; 16];
                rows.copy_from_slice(&quantiser[16 * k..][..16]);
                factors[k] = longs(&rows);
            }
        }
        for (half, zigzag) in tables.zigzag.iter_mut().enumerate() {
            let mut places = [0u32; 32];
            for (place, natural) in places.iter_mut().zip(&ZIGZAG[32 * half..]) {
                *place = packed_at(usize::from(*natural)) as u32;
            }
            let mut pairs = [0; 16];
            for (pair, places) in pairs.iter_mut().zip(places.as_chunks::<2>().0) {
                *pair = (places[0] | places[1] << 16) as i32;
            }
            *zigzag = longs(&pairs);
        }
        tables
    }
}

/// Where the level of row `u` and column `v` lies in the two registers that rows are packed into:
/// quarters of a register hold half a row of `u`, then of `u + 2`; the upper half that of the rows
/// after them.
fn packed_at(natural: usize) -> usize {
    let (u, v) = (natural / 8, natural % 8);
    u / 4 * 32 + u % 2 * 16 + v / 4 * 8 + u / 2 % 2 * 4 + v % 4
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
fn longs(values: &[i32; 16]) -> __m512i {
    // SAFETY: 64 bytes are there, and an unaligned load may read them.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
fn transform(
    tables: &Tables,
    plane: &[u8],
    stride: usize,
    x: usize,
    factors: &[__m512i; 4],
    to: &mut [u8],
) {
    let mut rows = [_mm_setzero_si128(); 8];
    for (y, row) in rows.iter_mut().enumerate() {
        let samples = plane[y * stride + x..].first_chunk::<8>();
        let samples = samples.expect("rows are padded to whole blocks");
        *row = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(i64::from_le_bytes(*samples)));
    }
    let mut opposite = [_mm512_setzero_si512(); 2];
    for (j, pairs) in opposite.iter_mut().enumerate() {
        let (a, b) = (2 * j, 2 * j + 1);
        let sums = [_mm_add_epi16(rows[a], rows[7 - a]), _mm_add_epi16(rows[b], rows[7 - b])];
        let less = [_mm_sub_epi16(rows[a], rows[7 - a]), _mm_sub_epi16(rows[b], rows[7 - b])];
        *pairs = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(pair_up(sums)), pair_up(less));
    }
    let mut levels = [_mm512_setzero_si512(); 4];
    for (k, level) in levels.iter_mut().enumerate() {
        let [a, b] = tables.down[k];
        let start = if k == 0 { tables.first_start } else { _mm512_set1_epi32(1 << 6) };
        let t = _mm512_add_epi32(_mm512_madd_epi16(opposite[0], a), start);
        let t = _mm512_add_epi32(t, _mm512_madd_epi16(opposite[1], b));
        let t = _mm512_srai_epi32::<7>(t);
        let t = _mm512_packs_epi32(t, t);
        let mut c = _mm512_set1_epi32(1 << 15);
        for (spread, across) in tables.spread.iter().zip(&tables.across) {
            let pair = _mm512_permutexvar_epi32(*spread, t);
            c = _mm512_add_epi32(c, _mm512_madd_epi16(pair, *across));
        }
        *level = quantise(_mm512_srai_epi32::<16>(c), factors[k]);
    }
    let upper = _mm512_packs_epi32(levels[0], levels[1]);
    let lower = _mm512_packs_epi32(levels[2], levels[3]);
    for (to, zigzag) in to.chunks_exact_mut(64).zip(&tables.zigzag) {
        let levels = _mm512_permutex2var_epi16(upper, *zigzag, lower);
        // SAFETY: the chunk has 64 bytes, and an unaligned store may write them.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), levels) };
    }
}

/// Two rows of eight as pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
fn pair_up([a, b]: [__m128i; 2]) -> __m256i {
    _mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
fn quantise(c: __m512i, factors: __m512i) -> __m512i {
    let scaled = _mm512_mullo_epi32(_mm512_abs_epi32(c), factors);
    let level = _mm512_srai_epi32::<20>(_mm512_add_epi32(scaled, _mm512_set1_epi32(1 << 19)));
    let level = _mm512_min_epi32(level, _mm512_set1_epi32(1023));
    let negative = _mm512_cmplt_epi32_mask(c, _mm512_setzero_si512());
    _mm512_mask_sub_epi32(level, negative, _mm512_setzero_si512(), level)
}
