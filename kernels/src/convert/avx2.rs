//! RGB from Y'CbCr, by products of pairs of 16 bits.
//!
//! A factor of luma is `128 h + l`, one of chroma `256 h + l`: a sample and the same moved up by as
//! many bits are multiplied by both parts and summed, exactly. Luma at even and at odd places is
//! apart, as both have the same chroma.

use std::arch::x86_64::*;

use crate::avx2::{join3, join4, load16, load32, pairs, store32};

/// Samples of a piece of a row: whole blocks of them.
pub(super) struct Piece<'a> {
    pub luma: &'a [u8],
    pub chroma: Chroma<'a>,
}

pub(super) enum Chroma<'a> {
    /// Cb and Cr.
    Planes(&'a [u8], &'a [u8]),
    /// Cb before Cr.
    CbCr(&'a [u8]),
    CrCb(&'a [u8]),
}

/// Pixels that are converted at once.
pub(super) const BLOCK: usize = 32;

/// Fills as many pixels of three or four bytes as there is room for.
#[target_feature(enable = "avx2")]
pub(super) fn convert(
    piece: &Piece<'_>,
    black: u8,
    factors: [i32; 5],
    red_at: usize,
    step: usize,
    to: &mut [u8],
) {
    let factors = Factors::new(black, factors);
    let mut end = [0; 4 * BLOCK];
    for (number, to) in to.chunks_mut(BLOCK * step).enumerate() {
        let [red, green, blue] = colours(piece, number * BLOCK, &factors);
        let (a, c) = if red_at == 0 { (red, blue) } else { (blue, red) };
        let is_whole = to.len() == BLOCK * step;
        let whole = if is_whole { &mut *to } else { &mut end[..BLOCK * step] };
        if step == 3 {
            let parts = join3([a, green, c]);
            whole.chunks_exact_mut(32).zip(parts).for_each(|(to, part)| store32(to, part));
        } else {
            let parts = join4([a, green, c, _mm256_set1_epi8(-1)]);
            whole.chunks_exact_mut(32).zip(parts).for_each(|(to, part)| store32(to, part));
        }
        if !is_whole {
            to.copy_from_slice(&end[..to.len()]);
        }
    }
}

struct Factors {
    black: __m256i,
    luma: __m256i,
    cr_red: __m256i,
    cr_green: __m256i,
    cb_green: __m256i,
    cb_blue: __m256i,
}

impl Factors {
    #[target_feature(enable = "avx2")]
    fn new(black: u8, [cy, cvr, cvg, cug, cub]: [i32; 5]) -> Self {
        let chroma = |factor: i32| pairs(factor & 255, factor >> 8);
        Self {
            black: _mm256_set1_epi8(black as i8),
            luma: pairs(cy & 127, cy >> 7),
            cr_red: chroma(cvr),
            cr_green: chroma(cvg),
            cb_green: chroma(cug),
            cb_blue: chroma(cub),
        }
    }
}

/// Each of eight numbers of 16 bits in each half beside another: the first four, then the others.
#[inline]
#[target_feature(enable = "avx2")]
fn beside(words: __m256i, others: __m256i) -> [__m256i; 2] {
    [_mm256_unpacklo_epi16(words, others), _mm256_unpackhi_epi16(words, others)]
}

/// The parts of sums that luma of every other pixel has.
#[inline]
#[target_feature(enable = "avx2")]
fn luma(words: __m256i, factors: &Factors) -> [__m256i; 2] {
    let round = _mm256_set1_epi32(1 << 19);
    let [a, b] = beside(words, _mm256_slli_epi16(words, 7));
    let part = |pairs| _mm256_add_epi32(_mm256_madd_epi16(pairs, factors.luma), round);
    [part(a), part(b)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn chroma(words: __m256i) -> [__m256i; 2] {
    let words = _mm256_sub_epi16(words, _mm256_set1_epi16(128));
    beside(words, _mm256_slli_epi16(words, 8))
}

/// Red, green and blue of the pixels from `x` on.
#[inline]
#[target_feature(enable = "avx2")]
fn colours(piece: &Piece<'_>, x: usize, factors: &Factors) -> [__m256i; 3] {
    let samples = _mm256_subs_epu8(load32(&piece.luma[x..]), factors.black);
    let even = luma(_mm256_and_si256(samples, _mm256_set1_epi16(255)), factors);
    let odd = luma(_mm256_srli_epi16(samples, 8), factors);
    let plane = |samples: &[u8]| _mm256_cvtepu8_epi16(load16(&samples[x / 2..]));
    let pairs = |samples: &[u8]| {
        let both = load32(&samples[x..]);
        (_mm256_and_si256(both, _mm256_set1_epi16(255)), _mm256_srli_epi16(both, 8))
    };
    let (cb, cr) = match piece.chroma {
        Chroma::Planes(cb, cr) => (plane(cb), plane(cr)),
        Chroma::CbCr(samples) => pairs(samples),
        Chroma::CrCb(samples) => {
            let (cr, cb) = pairs(samples);
            (cb, cr)
        }
    };
    let (cb, cr) = (chroma(cb), chroma(cr));
    let red = |n: usize| _mm256_madd_epi16(cr[n], factors.cr_red);
    let green = |n: usize| {
        let from_cr = _mm256_madd_epi16(cr[n], factors.cr_green);
        _mm256_add_epi32(from_cr, _mm256_madd_epi16(cb[n], factors.cb_green))
    };
    let blue = |n: usize| _mm256_madd_epi16(cb[n], factors.cb_blue);
    // The upper halves of sums, even and odd in turn, still have four bits too many.
    let half = |n: usize, part: __m256i| {
        let first = _mm256_srli_epi32(_mm256_add_epi32(even[n], part), 16);
        let second = _mm256_add_epi32(odd[n], part);
        _mm256_srai_epi16(_mm256_blend_epi16(first, second, 0b1010_1010), 4)
    };
    let whole = |a: __m256i, b: __m256i| _mm256_packus_epi16(half(0, a), half(1, b));
    [whole(red(0), red(1)), whole(green(0), green(1)), whole(blue(0), blue(1))]
}
