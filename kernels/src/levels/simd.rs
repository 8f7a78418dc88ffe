//! Levels looked up in vector registers. Each form says how many samples it did.

use std::arch::x86_64::*;

use crate::avx2::{load32, mask, store32};

/// Shuffles of sixteen levels, eight of them for the lower half of all levels.
///
/// A shuffle gives nothing where the highest bit is set: levels are moved up by 0x70, and down
/// again by sixteen for each table. A table gives its own for its levels, nothing for larger ones,
/// and for smaller ones what the tables before it took away.
#[target_feature(enable = "avx2")]
pub(super) fn lookup_avx2(table: &[u8; 256], from: &[u8], to: &mut [u8]) -> usize {
    let sixteens = table.as_chunks::<16>().0;
    let mut tables = [_mm256_setzero_si256(); 16];
    for (n, to) in tables.iter_mut().enumerate() {
        let next = if n % 8 == 7 { [0; 16] } else { sixteens[n + 1] };
        *to = mask(&std::array::from_fn(|i| (sixteens[n][i] ^ next[i]) as i8));
    }
    let (up, down) = (_mm256_set1_epi8(0x70), _mm256_set1_epi8(16));
    let half = _mm256_set1_epi8(i8::MIN);
    for (from, to) in from.as_chunks::<32>().0.iter().zip(to.as_chunks_mut::<32>().0) {
        let levels = load32(from);
        let mut low = _mm256_adds_epu8(levels, up);
        let mut high = _mm256_adds_epu8(_mm256_xor_si256(levels, half), up);
        let mut found = _mm256_setzero_si256();
        for n in 0..8 {
            found = _mm256_xor_si256(found, _mm256_shuffle_epi8(tables[n], low));
            found = _mm256_xor_si256(found, _mm256_shuffle_epi8(tables[8 + n], high));
            (low, high) = (_mm256_sub_epi8(low, down), _mm256_sub_epi8(high, down));
        }
        store32(to, found);
    }
    from.len() / 32 * 32
}

/// Two shuffles of 128 levels each.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn lookup_vbmi(table: &[u8; 256], from: &[u8], to: &mut [u8]) -> usize {
    let quarters = table.as_chunks::<64>().0;
    let [a, b, c, d] = [0, 1, 2, 3].map(|n| load64(&quarters[n]));
    for (from, to) in from.as_chunks().0.iter().zip(to.as_chunks_mut::<64>().0) {
        let levels = load64(from);
        let low = _mm512_permutex2var_epi8(a, levels, b);
        let high = _mm512_permutex2var_epi8(c, levels, d);
        let found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(levels), low, high);
        // SAFETY: there is room for 64 bytes, and an unaligned store may write them.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), found) };
    }
    from.len() / 64 * 64
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load64(from: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes are there, and an unaligned load may read them.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}
