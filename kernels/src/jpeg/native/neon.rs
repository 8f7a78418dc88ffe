//! The form for NEON: products of 16 bits summed in 32, straight from the definition.

use std::arch::aarch64::*;

use super::{COSINES, McuRow, ZIGZAG};

#[target_feature(enable = "neon")]
pub(super) fn transform_row(samples: &McuRow, quantiser: &[[i32; 64]; 2], to: &mut [u8]) {
    let mut across = [vdupq_n_s16(0); 8];
    for (x, across) in across.iter_mut().enumerate() {
        let column: [i16; 8] = std::array::from_fn(|v| COSINES[v][x]);
        // SAFETY: sixteen bytes are there, and an unaligned load may read them.
        *across = unsafe { vld1q_s16(column.as_ptr()) };
    }
    super::transform_row(samples, quantiser, to, |plane, stride, x, quantiser, to| {
        transform(&across, plane, stride, x, quantiser, to);
    });
}

/// `across[x]`: C[v][x] in lane v.
#[inline]
#[target_feature(enable = "neon")]
fn transform(
    across: &[int16x8_t; 8],
    plane: &[u8],
    stride: usize,
    x: usize,
    quantiser: &[i32; 64],
    to: &mut [u8],
) {
    let mut s = [vdupq_n_s16(0); 8];
    for (y, s) in s.iter_mut().enumerate() {
        let samples = plane[y * stride + x..].first_chunk::<8>().expect("rows are padded");
        // SAFETY: eight bytes are there, and an unaligned load may read them.
        let samples = unsafe { vld1_u8(samples.as_ptr()) };
        *s = vreinterpretq_s16_u16(vsubl_u8(samples, vdup_n_u8(128)));
    }
    let mut levels = [0i16; 64];
    let rows = levels.as_chunks_mut::<8>().0.iter_mut().zip(quantiser.as_chunks::<8>().0);
    for (cosines, (levels, factors)) in COSINES.iter().zip(rows) {
        let mut t = [vdupq_n_s32(1 << 6); 2];
        for (s, c) in s.iter().zip(cosines) {
            t = [vmlal_n_s16(t[0], vget_low_s16(*s), *c), vmlal_high_n_s16(t[1], *s, *c)];
        }
        // Lanes of 16 bits hold what is left.
        let t = vshrn_high_n_s32::<7>(vshrn_n_s32::<7>(t[0]), t[1]);
        let mut sums = [vdupq_n_s32(1 << 15); 2];
        macro_rules! add {
            ($($x:literal)+) => {$(
                sums[0] = vmlal_laneq_s16::<$x>(sums[0], vget_low_s16(across[$x]), t);
                sums[1] = vmlal_high_laneq_s16::<$x>(sums[1], across[$x], t);
            )+};
        }
        add!(0 1 2 3 4 5 6 7);
        let [low, high] = [&factors[..4], &factors[4..]];
        let level = vmovn_s32(quantise(vshrq_n_s32::<16>(sums[0]), low));
        let level = vmovn_high_s32(level, quantise(vshrq_n_s32::<16>(sums[1]), high));
        // SAFETY: there is room for sixteen bytes, and an unaligned store may write them.
        unsafe { vst1q_s16(levels.as_mut_ptr(), level) };
    }
    for (to, natural) in to.as_chunks_mut().0.iter_mut().zip(ZIGZAG) {
        *to = levels[usize::from(natural)].to_le_bytes();
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn quantise(c: int32x4_t, factors: &[i32]) -> int32x4_t {
    let factors: &[i32; 4] = factors.first_chunk().expect("halves of eight");
    // SAFETY: sixteen bytes are there, and an unaligned load may read them.
    let factors = unsafe { vld1q_s32(factors.as_ptr()) };
    let scaled = vmlaq_s32(vdupq_n_s32(1 << 19), vabsq_s32(c), factors);
    let level = vminq_s32(vshrq_n_s32::<20>(scaled), vdupq_n_s32(1023));
    let sign = vshrq_n_s32::<31>(c);
    vsubq_s32(veorq_s32(level, sign), sign)
}
