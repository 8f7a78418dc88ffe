//! The native form: one MCU row at a time through a padded copy of full range.
//!
//! With AVX2 the sums are made two products at a time (`vpmaddwd`) straight from the definition:
//! the matrices are small enough that no factorisation of the DCT is faster. AVX-512 makes two rows
//! of frequencies at a time, of sums and differences of rows that lie opposite. All sums are exact,
//! so their order does not show.

use hw::CpuArgs;

use super::{COSINES, MCU_BYTES, ZIGZAG, decode_quantiser, expand_chroma, mcu_sides};
use crate::gray::expand_luma;
use crate::native::{Band, Unit, bands, sizes, threads_for, unit};

pub(super) fn run(args: &mut CpuArgs<'_>) {
    let [width, height, stride, chroma_offset, chroma_stride, limited] = sizes(args);
    let threads = threads_for(args, width * height * 3 / 2);
    let (columns, rows) = mcu_sides(width as u32, height as u32);
    let row_bytes = columns as usize * MCU_BYTES;
    let levels = &mut args.outputs[0][..rows as usize * row_bytes];
    let source = Source {
        quantiser: decode_quantiser(args.inputs[0]),
        frame: args.inputs[1],
        width,
        height,
        stride,
        chroma_offset,
        chroma_stride,
        limited: limited != 0,
        columns: columns as usize,
    };
    bands(levels, row_bytes, threads, source);
}

struct Source<'a> {
    quantiser: [[i32; 64]; 2],
    frame: &'a [u8],
    width: usize,
    height: usize,
    stride: usize,
    chroma_offset: usize,
    chroma_stride: usize,
    limited: bool,
    /// MCUs of a row.
    columns: usize,
}

impl Band for Source<'_> {
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        let mut samples = McuRow::new(self.columns);
        for (i, to) in band.chunks_exact_mut(self.columns * MCU_BYTES).enumerate() {
            samples.fill(self, first + i);
            #[cfg(target_arch = "x86_64")]
            if unit() >= Unit::Vbmi {
                // SAFETY: the features were just found on this machine.
                unsafe { avx512::transform_row(&samples, &self.quantiser, to) };
                continue;
            }
            #[cfg(target_arch = "x86_64")]
            if unit() >= Unit::Avx2 {
                // SAFETY: the feature was just found on this machine.
                unsafe { avx2::transform_row(&samples, &self.quantiser, to) };
                continue;
            }
            #[cfg(target_arch = "aarch64")]
            if unit() >= Unit::Neon {
                // SAFETY: the feature was just found on this machine.
                unsafe { neon::transform_row(&samples, &self.quantiser, to) };
                continue;
            }
            transform_row(&samples, &self.quantiser, to, transform);
        }
    }
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
fn transform_row(
    samples: &McuRow,
    quantiser: &[[i32; 64]; 2],
    to: &mut [u8],
    transform: impl Fn(&[u8], usize, usize, &[i32; 64], &mut [u8]),
) {
    let width = samples.width;
    for (mx, to) in to.chunks_exact_mut(MCU_BYTES).enumerate() {
        for (block, to) in to.chunks_exact_mut(128).enumerate() {
            let (plane, stride, x) = match block {
                0 | 1 => (&samples.luma[..], width, 16 * mx + 8 * block),
                2 | 3 => (&samples.luma[8 * width..], width, 16 * mx + 8 * (block - 2)),
                _ => (&samples.chroma[block - 4][..], width / 2, 8 * mx),
            };
            transform(plane, stride, x, &quantiser[usize::from(block > 3)], to);
        }
    }
}

/// One block whose first row begins at `x`. Lanes are the columns, then the frequencies `v`.
#[inline(always)]
pub(super) fn transform(
    plane: &[u8],
    stride: usize,
    x: usize,
    quantiser: &[i32; 64],
    to: &mut [u8],
) {
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

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{COSINES, McuRow, ZIGZAG};

    #[target_feature(enable = "avx2")]
    pub(super) fn transform_row(samples: &McuRow, quantiser: &[[i32; 64]; 2], to: &mut [u8]) {
        let matrix = Matrix::new();
        super::transform_row(samples, quantiser, to, |plane, stride, x, quantiser, to| {
            transform(&matrix, plane, stride, x, quantiser, to);
        });
    }

    /// `C` in pairs of neighbours, for `vpmaddwd`.
    struct Matrix {
        /// `[u][k]`: C[u][2k] and C[u][2k + 1] in each lane.
        down: [[__m256i; 4]; 8],
        /// `[k]`: in lane v, C[v][2k] and C[v][2k + 1].
        across: [__m256i; 4],
    }

    impl Matrix {
        #[target_feature(enable = "avx2")]
        fn new() -> Self {
            let pair = |row: usize, k: usize| {
                let [low, high] = [COSINES[row][2 * k], COSINES[row][2 * k + 1]];
                (i32::from(low) & 0xFFFF) | (i32::from(high) << 16)
            };
            let mut down = [[_mm256_setzero_si256(); 4]; 8];
            let mut across = [_mm256_setzero_si256(); 4];
            for k in 0..4 {
                for (u, row) in down.iter_mut().enumerate() {
                    row[k] = _mm256_set1_epi32(pair(u, k));
                }
                let [a, b, c, d, e, f, g, h] = std::array::from_fn(|v| pair(v, k));
                across[k] = _mm256_setr_epi32(a, b, c, d, e, f, g, h);
            }
            Self { down, across }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn transform(
        matrix: &Matrix,
        plane: &[u8],
        stride: usize,
        x: usize,
        quantiser: &[i32; 64],
        to: &mut [u8],
    ) {
        let mut pairs = [_mm256_setzero_si256(); 4];
        for (k, pair) in pairs.iter_mut().enumerate() {
            let upper = load(&plane[2 * k * stride + x..]);
            let lower = load(&plane[(2 * k + 1) * stride + x..]);
            let (left, right) =
                (_mm_unpacklo_epi16(upper, lower), _mm_unpackhi_epi16(upper, lower));
            *pair = _mm256_set_m128i(right, left);
        }
        let mut levels = [0u8; 128];
        let rows = levels.chunks_exact_mut(16).zip(quantiser.chunks_exact(8));
        for (down, (levels, factors)) in matrix.down.iter().zip(rows) {
            let t = products(_mm256_set1_epi32(1 << 6), &pairs, down);
            let t = narrow(_mm256_srai_epi32::<7>(t));
            let t = _mm256_broadcastsi128_si256(t);
            let t = [
                _mm256_shuffle_epi32::<0x00>(t),
                _mm256_shuffle_epi32::<0x55>(t),
                _mm256_shuffle_epi32::<0xAA>(t),
                _mm256_shuffle_epi32::<0xFF>(t),
            ];
            let c = products(_mm256_set1_epi32(1 << 15), &t, &matrix.across);
            let level = narrow(quantise(_mm256_srai_epi32::<16>(c), factors));
            levels[..8].copy_from_slice(&_mm_cvtsi128_si64(level).to_le_bytes());
            levels[8..].copy_from_slice(&_mm_extract_epi64::<1>(level).to_le_bytes());
        }
        for (to, natural) in to.chunks_exact_mut(2).zip(ZIGZAG) {
            let at = 2 * usize::from(natural);
            to.copy_from_slice(&levels[at..at + 2]);
        }
    }

    /// Eight samples less 128, as 16 bits.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(samples: &[u8]) -> __m128i {
        let bytes = samples.first_chunk::<8>().expect("rows are padded to whole blocks");
        let samples = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(i64::from_le_bytes(*bytes)));
        _mm_sub_epi16(samples, _mm_set1_epi16(128))
    }

    /// `start` and the products of all pairs.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn products(start: __m256i, a: &[__m256i; 4], b: &[__m256i; 4]) -> __m256i {
        let first = _mm256_add_epi32(_mm256_madd_epi16(a[0], b[0]), _mm256_madd_epi16(a[1], b[1]));
        let second = _mm256_add_epi32(_mm256_madd_epi16(a[2], b[2]), _mm256_madd_epi16(a[3], b[3]));
        _mm256_add_epi32(start, _mm256_add_epi32(first, second))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn quantise(c: __m256i, factors: &[i32]) -> __m256i {
        let [a, b, c1, d, e, f, g, h] = *factors else { unreachable!("chunks of eight") };
        let factors = _mm256_setr_epi32(a, b, c1, d, e, f, g, h);
        let scaled = _mm256_mullo_epi32(_mm256_abs_epi32(c), factors);
        let level = _mm256_srai_epi32::<20>(_mm256_add_epi32(scaled, _mm256_set1_epi32(1 << 19)));
        _mm256_sign_epi32(_mm256_min_epi32(level, _mm256_set1_epi32(1023)), c)
    }

    /// Eight lanes of 32 bits as 16 bits, which they fit.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn narrow(wide: __m256i) -> __m128i {
        _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide))
    }
}
