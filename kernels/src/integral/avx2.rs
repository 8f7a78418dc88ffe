//! Sums of a row, sixteen samples at a time.

use std::arch::x86_64::*;

/// How many samples were done, and their sum. Within eight samples, sums are made by moving them
/// on by one, two and four; the sum of all before is known without waiting for that.
#[target_feature(enable = "avx2")]
pub(super) fn add(from: &[u8], above: &[[u8; 4]], to: &mut [[u8; 4]]) -> (usize, u32) {
    let (pieces, _) = from.as_chunks::<16>();
    let (above, to) = (above.as_chunks::<8>().0, to.as_chunks_mut::<8>().0);
    let (zero, mut before) = (_mm_setzero_si128(), _mm256_setzero_si256());
    for (n, piece) in pieces.iter().enumerate() {
        // SAFETY: sixteen bytes are there, and an unaligned load may read them.
        let bytes = unsafe { _mm_loadu_si128(piece.as_ptr().cast()) };
        let sums = within_eight(_mm256_cvtepu8_epi16(bytes));
        let halves = _mm_sad_epu8(bytes, zero);
        let between = _mm256_add_epi32(before, _mm256_broadcastd_epi32(halves));
        let low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(sums));
        let high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(sums, 1));
        store(&mut to[2 * n], &above[2 * n], _mm256_add_epi32(low, before));
        store(&mut to[2 * n + 1], &above[2 * n + 1], _mm256_add_epi32(high, between));
        let second = _mm256_broadcastd_epi32(_mm_unpackhi_epi64(halves, halves));
        before = _mm256_add_epi32(between, second);
    }
    (16 * pieces.len(), _mm256_extract_epi32(before, 0) as u32)
}

#[inline]
#[target_feature(enable = "avx2")]
fn within_eight(samples: __m256i) -> __m256i {
    let sums = _mm256_add_epi16(samples, _mm256_slli_si256(samples, 2));
    let sums = _mm256_add_epi16(sums, _mm256_slli_si256(sums, 4));
    _mm256_add_epi16(sums, _mm256_slli_si256(sums, 8))
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [[u8; 4]; 8], above: &[[u8; 4]; 8], sums: __m256i) {
    // SAFETY: 32 bytes are there, and an unaligned load may read them.
    let above = unsafe { _mm256_loadu_si256(above.as_ptr().cast()) };
    let sums = _mm256_add_epi32(sums, above);
    // SAFETY: there is room for 32 bytes, and an unaligned store may write them.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), sums) };
}
