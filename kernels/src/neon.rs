//! Loads and stores of the forms that are written for NEON. Slices are checked to have the bytes.

use std::arch::aarch64::*;

#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn load16(from: &[u8]) -> uint8x16_t {
    let from: &[u8; 16] = from.first_chunk().expect("sixteen bytes are left");
    // SAFETY: sixteen bytes are there, and an unaligned load may read them.
    unsafe { vld1q_u8(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn store16(to: &mut [u8], value: uint8x16_t) {
    let to: &mut [u8; 16] = to.first_chunk_mut().expect("sixteen bytes are left");
    // SAFETY: there is room for sixteen bytes, and an unaligned store may write them.
    unsafe { vst1q_u8(to.as_mut_ptr(), value) };
}
