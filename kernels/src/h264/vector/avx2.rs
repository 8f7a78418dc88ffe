//! The form for AVX2.

use std::arch::x86_64::*;

use super::{Apart, Line, Samples, Vector, Work};
use crate::avx2::{NONE, load16, load32, store16};
use crate::h264::block::ZIGZAG;
use crate::h264::picture::Luma;
use crate::native::{Unit, unit};

/// There is one only where the machine has AVX2.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    pub fn new() -> Option<Self> {
        (unit() >= Unit::Avx2).then_some(Self(()))
    }
}

const PARTED: Line = [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15];
const JOINED: Line = [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15];

impl Vector for Avx2 {
    type Words = __m256i;

    #[inline(always)]
    fn call<W: Work<Self>>(self, work: W) -> W::Out {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { called(self, work) }
    }

    #[inline(always)]
    fn prefetch(self, byte: &u8) {
        // SAFETY: every machine of this kind has it, and it reads nothing that counts.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) }
    }

    #[inline(always)]
    fn all(self, value: i16) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { _mm256_set1_epi16(value) }
    }

    #[inline(always)]
    fn load(self, from: &[i16; 16]) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`; 32 bytes are there.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, words: __m256i, to: &mut [i16; 16]) {
        // SAFETY: this machine has AVX2, or there would be no `self`; 32 bytes are there.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), words) }
    }

    #[inline(always)]
    fn widen(self, line: &Line) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { _mm256_cvtepu8_epi16(load16(line)) }
    }

    #[inline(always)]
    fn narrow(self, words: __m256i) -> Line {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { narrow(words) }
    }

    #[inline(always)]
    fn add(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { _mm256_add_epi16(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { _mm256_sub_epi16(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { _mm256_mullo_epi16(a, b) }
    }

    #[inline(always)]
    fn add_within(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { _mm256_adds_epi16(a, b) }
    }

    #[inline(always)]
    fn half<const BITS: i32>(self, a: __m256i) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { _mm256_srai_epi16::<BITS>(a) }
    }

    #[inline(always)]
    fn min(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { _mm256_min_epi16(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { _mm256_max_epi16(a, b) }
    }

    #[inline(always)]
    fn abs(self, a: __m256i) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { _mm256_abs_epi16(a) }
    }

    #[inline(always)]
    fn less(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { _mm256_cmpgt_epi16(b, a) }
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { _mm256_and_si256(a, b) }
    }

    #[inline(always)]
    fn select(self, mask: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { _mm256_blendv_epi8(b, a, mask) }
    }

    #[inline(always)]
    fn any(self, a: __m256i) -> bool {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { _mm256_testz_si256(a, a) == 0 }
    }

    #[inline(always)]
    fn quantise(self, c: __m256i, numbers: [__m256i; 2], most: i16) -> __m256i {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { quantise(c, numbers, most) }
    }

    #[inline(always)]
    fn turn(self, rows: [__m256i; 4]) -> [__m256i; 4] {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { turn(rows) }
    }

    #[inline(always)]
    fn used(self, rows: [__m256i; 4]) -> u32 {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { used(rows) }
    }

    #[inline(always)]
    fn zigzag(self, rows: &[[i16; 16]; 4], block: usize, to: &mut [i16; 16]) -> [u32; 2] {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { zigzag(rows, block, to) }
    }

    #[inline(always)]
    fn difference(self, luma: &Luma, to: Samples<'_>) -> u32 {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { difference(luma, to) }
    }

    #[inline(always)]
    fn differences(self, a: Samples<'_>, b: Samples<'_>) -> [Apart; 2] {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { differences(a, b) }
    }

    #[inline(always)]
    fn difference_to_mean(self, luma: &Luma, a: Samples<'_>, b: Samples<'_>) -> u32 {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { difference_to_mean(luma, a, b) }
    }

    #[inline(always)]
    fn mean(self, a: &Line, b: &Line) -> Line {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { mean(a, b) }
    }

    #[inline(always)]
    fn part(self, line: &Line) -> Line {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { shuffled(line, &PARTED) }
    }

    #[inline(always)]
    fn join(self, line: &Line) -> Line {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { shuffled(line, &JOINED) }
    }

    #[inline(always)]
    fn columns(self, from: Samples<'_>) -> [Line; 8] {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { columns(from) }
    }

    #[inline(always)]
    fn put_columns(self, lines: &[Line; 8], to: &mut [u8], stride: usize) {
        // SAFETY: this machine has AVX2, or there would be no `self`.
        unsafe { put_columns(lines, to, stride) }
    }
}

#[inline(never)]
#[target_feature(enable = "avx2")]
fn called<W: Work<Avx2>>(v: Avx2, work: W) -> W::Out {
    work.run(v)
}

#[inline]
#[target_feature(enable = "avx2")]
fn narrow(words: __m256i) -> Line {
    let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    let mut line = [0; 16];
    store16(&mut line, _mm_packus_epi16(low, high));
    line
}

#[inline]
#[target_feature(enable = "avx2")]
fn quantise(c: __m256i, [factor, bias]: [__m256i; 2], most: i16) -> __m256i {
    let size = _mm256_adds_epu16(_mm256_abs_epi16(c), bias);
    let level = _mm256_min_epu16(_mm256_mulhi_epu16(size, factor), _mm256_set1_epi16(most));
    _mm256_sign_epi16(level, c)
}

#[inline]
#[target_feature(enable = "avx2")]
fn turn([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    // Blocks 0 and 2 in the lower registers, 1 and 3 in the upper ones.
    let (ab0, ab1) = (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
    let (cd0, cd1) = (_mm256_unpacklo_epi16(c, d), _mm256_unpackhi_epi16(c, d));
    let (p0, q0) = (_mm256_unpacklo_epi32(ab0, cd0), _mm256_unpackhi_epi32(ab0, cd0));
    let (p1, q1) = (_mm256_unpacklo_epi32(ab1, cd1), _mm256_unpackhi_epi32(ab1, cd1));
    [
        _mm256_unpacklo_epi64(p0, p1),
        _mm256_unpackhi_epi64(p0, p1),
        _mm256_unpacklo_epi64(q0, q1),
        _mm256_unpackhi_epi64(q0, q1),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn used([a, b, c, d]: [__m256i; 4]) -> u32 {
    let any = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
    let empty = _mm256_cmpeq_epi64(any, _mm256_setzero_si256());
    !_mm256_movemask_pd(_mm256_castsi256_pd(empty)) as u32 & 15
}

/// For each half of the order and each half of a block: where the bytes come from.
const ORDERS: [[[i8; 16]; 2]; 2] = orders();

const fn orders() -> [[[i8; 16]; 2]; 2] {
    let (mut orders, mut at) = ([[[NONE; 16]; 2]; 2], 0);
    while at < 16 {
        let natural = ZIGZAG[at] as usize;
        // Columns come one after the other.
        let from = natural % 4 * 4 + natural / 4;
        let order = &mut orders[at / 8][from / 8];
        order[2 * (at % 8)] = (2 * (from % 8)) as i8;
        order[2 * (at % 8) + 1] = (2 * (from % 8) + 1) as i8;
        at += 1;
    }
    orders
}

#[inline]
#[target_feature(enable = "avx2")]
fn zigzag(rows: &[[i16; 16]; 4], block: usize, to: &mut [i16; 16]) -> [u32; 2] {
    let four = |row: &[i16; 16]| {
        let four: &[i16; 4] = row[4 * block..].first_chunk().expect("a row has four blocks");
        // SAFETY: eight bytes are there, and an unaligned load may read them.
        unsafe { _mm_loadl_epi64(four.as_ptr().cast()) }
    };
    let [a, b] = [(&rows[0], &rows[1]), (&rows[2], &rows[3])];
    let pair = |(a, b)| _mm_unpacklo_epi64(four(a), four(b));
    let halves = [pair(a), pair(b)];
    let half = |n: usize| {
        let part = |from: usize| {
            // SAFETY: sixteen bytes are there, and an unaligned load may read them.
            let order = unsafe { _mm_loadu_si128(ORDERS[n][from].as_ptr().cast()) };
            _mm_shuffle_epi8(halves[from], order)
        };
        _mm_or_si128(part(0), part(1))
    };
    let ordered = [half(0), half(1)];
    // SAFETY: there is room for 32 bytes, and an unaligned store may write them.
    unsafe {
        _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm256_set_m128i(ordered[1], ordered[0]))
    };
    let sizes = _mm_packs_epi16(_mm_abs_epi16(ordered[0]), _mm_abs_epi16(ordered[1]));
    let beyond = |least: i8| _mm_movemask_epi8(_mm_cmpgt_epi8(sizes, _mm_set1_epi8(least))) as u32;
    [beyond(0), beyond(1)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn mean(a: &Line, b: &Line) -> Line {
    let mut to = [0; 16];
    store16(&mut to, _mm_avg_epu8(load16(a), load16(b)));
    to
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum(parts: [__m256i; 2]) -> u32 {
    let both = _mm256_add_epi64(parts[0], parts[1]);
    let both = _mm_add_epi64(_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both));
    (_mm_cvtsi128_si64(both) + _mm_extract_epi64::<1>(both)) as u32
}

/// Rows of a macroblock, two at a time, the second in the upper half.
#[derive(Clone, Copy)]
struct Rows<'a, const PAIRS: usize> {
    /// As much as there is from the first sample to the last.
    samples: &'a [u8],
    stride: usize,
}

impl<'a, const PAIRS: usize> Rows<'a, PAIRS> {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(Samples { from, stride }: Samples<'a>) -> Self {
        Self { samples: &from[..(2 * PAIRS - 1) * stride + 16], stride }
    }

    /// Rows `2 * pair` and the next.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn pair(&self, pair: usize) -> __m256i {
        assert!(pair < PAIRS, "there are so many pairs of rows");
        let upper = self.samples.as_ptr().wrapping_add(2 * pair * self.stride);
        let lower = upper.wrapping_add(self.stride);
        // SAFETY: the last of the rows ends where the samples do, and these are among them.
        let [upper, lower] =
            unsafe { [_mm_loadu_si128(upper.cast()), _mm_loadu_si128(lower.cast())] };
        _mm256_inserti128_si256(_mm256_castsi128_si256(upper), lower, 1)
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn difference(luma: &Luma, to: Samples<'_>) -> u32 {
    let (given, there) = (luma.as_flattened(), Rows::<8>::new(to));
    let mut parts = [_mm256_setzero_si256(); 2];
    for y in 0..8 {
        let sums = _mm256_sad_epu8(load32(&given[32 * y..]), there.pair(y));
        parts[y % 2] = _mm256_add_epi64(parts[y % 2], sums);
    }
    sum(parts)
}

#[inline]
#[target_feature(enable = "avx2")]
fn differences(a: Samples<'_>, b: Samples<'_>) -> [Apart; 2] {
    let (a, b, zero) = (Rows::<4>::new(a), Rows::<4>::new(b), _mm256_setzero_si256());
    let (mut each, mut sums) = (zero, zero);
    for y in 0..4 {
        let (a, b) = (a.pair(y), b.pair(y));
        each = _mm256_add_epi64(each, _mm256_sad_epu8(a, b));
        let apart = _mm256_sub_epi64(_mm256_sad_epu8(a, zero), _mm256_sad_epu8(b, zero));
        sums = _mm256_add_epi64(sums, apart);
    }
    let halves = |both: __m256i| {
        let (upper, lower) = (_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both));
        let both = _mm_add_epi64(upper, lower);
        [_mm_cvtsi128_si64(both), _mm_extract_epi64::<1>(both)]
    };
    let ([left, right], [left_sum, right_sum]) = (halves(each), halves(sums));
    let apart = |each: i64, sum: i64| Apart { each: each as u32, sum: sum.unsigned_abs() as u32 };
    [apart(left, left_sum), apart(right, right_sum)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn difference_to_mean(luma: &Luma, a: Samples<'_>, b: Samples<'_>) -> u32 {
    let (given, a, b) = (luma.as_flattened(), Rows::<8>::new(a), Rows::<8>::new(b));
    let mut parts = [_mm256_setzero_si256(); 2];
    for y in 0..8 {
        let mean = _mm256_avg_epu8(a.pair(y), b.pair(y));
        let sums = _mm256_sad_epu8(load32(&given[32 * y..]), mean);
        parts[y % 2] = _mm256_add_epi64(parts[y % 2], sums);
    }
    sum(parts)
}

#[inline]
#[target_feature(enable = "avx2")]
fn shuffled(line: &Line, places: &Line) -> Line {
    let mut to = [0; 16];
    store16(&mut to, _mm_shuffle_epi8(load16(line), load16(places)));
    to
}

#[inline]
#[target_feature(enable = "avx2")]
fn eight(from: &[u8]) -> __m128i {
    let bytes: &[u8; 8] = from.first_chunk().expect("eight samples are left");
    _mm_cvtsi64_si128(i64::from_le_bytes(*bytes))
}

#[inline]
#[target_feature(enable = "avx2")]
fn columns(from: Samples<'_>) -> [Line; 8] {
    let (samples, stride) = (&from.from[..15 * from.stride + 8], from.stride);
    let mut lines = [[0; 16]; 8];
    let mut pairs = [_mm_setzero_si128(); 8];
    for (y, pair) in pairs.iter_mut().enumerate() {
        // Rows y and y + 8: bytes of both by turns.
        *pair =
            _mm_unpacklo_epi8(eight(&samples[y * stride..]), eight(&samples[(y + 8) * stride..]));
    }
    // Each step brings the rows together whose numbers differ in the next lower bit.
    let mut fours = [_mm_setzero_si128(); 8];
    for i in 0..4 {
        fours[2 * i] = _mm_unpacklo_epi8(pairs[i], pairs[i + 4]);
        fours[2 * i + 1] = _mm_unpackhi_epi8(pairs[i], pairs[i + 4]);
    }
    let mut eights = [_mm_setzero_si128(); 8];
    for half in 0..2 {
        for i in 0..2 {
            let (a, b) = (fours[2 * i + half], fours[2 * (i + 2) + half]);
            eights[4 * half + i] = _mm_unpacklo_epi8(a, b);
            eights[4 * half + 2 + i] = _mm_unpackhi_epi8(a, b);
        }
    }
    for quarter in 0..4 {
        let (a, b) = (eights[2 * quarter], eights[2 * quarter + 1]);
        store16(&mut lines[2 * quarter], _mm_unpacklo_epi8(a, b));
        store16(&mut lines[2 * quarter + 1], _mm_unpackhi_epi8(a, b));
    }
    lines
}

#[inline]
#[target_feature(enable = "avx2")]
fn put_columns(lines: &[Line; 8], to: &mut [u8], stride: usize) {
    let to = &mut to[..15 * stride + 8];
    let line = |i: usize| load16(&lines[i]);
    let (mut twos, mut fours) = ([_mm_setzero_si128(); 8], [_mm_setzero_si128(); 8]);
    for i in 0..4 {
        let (a, b) = (line(2 * i), line(2 * i + 1));
        twos[i] = _mm_unpacklo_epi8(a, b);
        twos[4 + i] = _mm_unpackhi_epi8(a, b);
    }
    for half in 0..2 {
        for i in 0..2 {
            let (a, b) = (twos[4 * half + 2 * i], twos[4 * half + 2 * i + 1]);
            fours[4 * half + i] = _mm_unpacklo_epi16(a, b);
            fours[4 * half + 2 + i] = _mm_unpackhi_epi16(a, b);
        }
    }
    for quarter in 0..4 {
        let (a, b) = (fours[2 * quarter], fours[2 * quarter + 1]);
        let rows = [_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)];
        for (i, two) in rows.into_iter().enumerate() {
            let y = 4 * quarter + 2 * i;
            let upper = _mm_cvtsi128_si64(two).to_le_bytes();
            let lower = _mm_extract_epi64::<1>(two).to_le_bytes();
            to[y * stride..][..8].copy_from_slice(&upper);
            to[(y + 1) * stride..][..8].copy_from_slice(&lower);
        }
    }
}
