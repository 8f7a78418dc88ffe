//! Loads and stores of three registers take pixels of three bytes apart and join them. Each form
//! says how many pixels it did.

use std::arch::aarch64::*;

use crate::neon::{load16, store16};

type Sixteen = [[u8; 16]; 3];

#[inline]
#[target_feature(enable = "neon")]
fn load(from: &Sixteen) -> uint8x16x3_t {
    // SAFETY: 48 bytes are there, and an unaligned load may read them.
    unsafe { vld3q_u8(from.as_flattened().as_ptr()) }
}

#[target_feature(enable = "neon")]
pub(super) fn join3(a: &[u8], b: &[u8], c: &[u8], to: &mut [u8]) -> usize {
    let (a, b, c) = (a.as_chunks::<16>().0, b.as_chunks::<16>().0, c.as_chunks::<16>().0);
    let to = to.as_chunks_mut::<16>().0.as_chunks_mut::<3>().0;
    let count = a.len().min(to.len());
    for (to, ((a, b), c)) in to.iter_mut().zip(a.iter().zip(b).zip(c)) {
        let planes = uint8x16x3_t(load16(a), load16(b), load16(c));
        // SAFETY: there is room for 48 bytes, and an unaligned store may write them.
        unsafe { vst3q_u8(to.as_flattened_mut().as_mut_ptr(), planes) };
    }
    16 * count
}

#[target_feature(enable = "neon")]
pub(super) fn split3(from: &[u8], a: &mut [u8], b: &mut [u8], c: &mut [u8]) -> usize {
    let from = from.as_chunks::<16>().0.as_chunks::<3>().0;
    let planes = a.as_chunks_mut::<16>().0.iter_mut().zip(b.as_chunks_mut::<16>().0);
    let planes = planes.zip(c.as_chunks_mut::<16>().0);
    let mut done = 0;
    for (from, ((a, b), c)) in from.iter().zip(planes) {
        let planes = load(from);
        store16(a, planes.0);
        store16(b, planes.1);
        store16(c, planes.2);
        done += 16;
    }
    done
}

#[target_feature(enable = "neon")]
pub(super) fn every_other3(from: &[u8], to: &mut [u8]) -> usize {
    let from = from.as_chunks::<16>().0.as_chunks::<3>().0;
    let to = to.as_chunks_mut::<24>().0;
    let count = from.len().min(to.len());
    for (to, from) in to.iter_mut().zip(from) {
        let planes = load(from);
        let even = |plane: uint8x16_t| vget_low_u8(vuzp1q_u8(plane, plane));
        let even = uint8x8x3_t(even(planes.0), even(planes.1), even(planes.2));
        // SAFETY: there is room for 24 bytes, and an unaligned store may write them.
        unsafe { vst3_u8(to.as_mut_ptr(), even) };
    }
    8 * count
}
