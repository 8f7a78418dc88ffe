//! Loads and stores of the forms that are written for AVX2, and shuffles they share. Slices are
//! checked to have the bytes; where that costs too much, forms check once and use addresses.
//!
//! Functions that take closures, such as `array::map`, are not compiled for the vector unit, and
//! what they call is then not inlined: forms have loops instead, or name what they do.

use std::arch::x86_64::*;

/// Leaves a byte out of a shuffle.
pub(crate) const NONE: i8 = -1;

#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load16(from: &[u8]) -> __m128i {
    let from: &[u8; 16] = from.first_chunk().expect("sixteen bytes are left");
    // SAFETY: sixteen bytes are there, and an unaligned load may read them.
    unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load32(from: &[u8]) -> __m256i {
    let from: &[u8; 32] = from.first_chunk().expect("32 bytes are left");
    // SAFETY: 32 bytes are there, and an unaligned load may read them.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

/// Sixteen bytes in each half.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load_halves(low: &[u8], high: &[u8]) -> __m256i {
    _mm256_inserti128_si256(_mm256_castsi128_si256(load16(low)), load16(high), 1)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store16(to: &mut [u8], value: __m128i) {
    let to: &mut [u8; 16] = to.first_chunk_mut().expect("sixteen bytes are left");
    // SAFETY: there is room for sixteen bytes, and an unaligned store may write them.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), value) };
}

#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store32(to: &mut [u8], value: __m256i) {
    let to: &mut [u8; 32] = to.first_chunk_mut().expect("32 bytes are left");
    // SAFETY: there is room for 32 bytes, and an unaligned store may write them.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), value) };
}

/// The bytes of a register.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn bytes(value: __m256i) -> [u8; 32] {
    let mut bytes = [0; 32];
    store32(&mut bytes, value);
    bytes
}

/// A shuffle of sixteen bytes, for both halves of a register.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn mask(bytes: &[i8; 16]) -> __m256i {
    // SAFETY: sixteen bytes are there, and an unaligned load may read them.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Two factors side by side, for products of pairs.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn pairs(low: i32, high: i32) -> __m256i {
    _mm256_set1_epi32((low & 0xFFFF) | high << 16)
}

/// Which byte of three planes goes where when sixteen pixels are joined: for each third of the
/// 48 bytes and each plane.
pub(crate) const fn joins() -> [[[i8; 16]; 3]; 3] {
    let mut masks = [[[NONE; 16]; 3]; 3];
    let mut at = 0;
    while at < 48 {
        masks[at / 16][at % 3][at % 16] = (at / 3) as i8;
        at += 1;
    }
    masks
}

static JOINS: [[[i8; 16]; 3]; 3] = joins();

/// 32 pixels of three bytes, from a register of each.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn join3(planes: [__m256i; 3]) -> [__m256i; 3] {
    let third = |n: usize| {
        let part = |i: usize| _mm256_shuffle_epi8(planes[i], mask(&JOINS[n][i]));
        _mm256_or_si256(_mm256_or_si256(part(0), part(1)), part(2))
    };
    let [a, b, c] = [third(0), third(1), third(2)];
    [
        _mm256_permute2x128_si256(a, b, 0x20),
        _mm256_blend_epi32(c, a, 0xF0),
        _mm256_permute2x128_si256(b, c, 0x31),
    ]
}

/// 32 pixels of four bytes, from a register of each.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn join4([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab, cd) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
    let (p, q) = (_mm256_unpacklo_epi16(ab, cd), _mm256_unpackhi_epi16(ab, cd));
    let (ab, cd) = (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d));
    let (r, s) = (_mm256_unpacklo_epi16(ab, cd), _mm256_unpackhi_epi16(ab, cd));
    [
        _mm256_permute2x128_si256(p, q, 0x20),
        _mm256_permute2x128_si256(r, s, 0x20),
        _mm256_permute2x128_si256(p, q, 0x31),
        _mm256_permute2x128_si256(r, s, 0x31),
    ]
}

/// Of four pixels of four bytes, the first `channels` bytes each.
pub(crate) const fn narrows(channels: usize) -> [i8; 16] {
    let mut shuffle = [NONE; 16];
    let mut at = 0;
    while at < 4 * channels {
        shuffle[at] = (at / channels * 4 + at % channels) as i8;
        at += 1;
    }
    shuffle
}
