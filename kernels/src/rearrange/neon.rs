//! Pixels of a row in the opposite order.

use std::arch::aarch64::*;

use crate::neon::{load16, store16};

/// The whole pixels at the end of sixteen bytes, from the last to the first.
const fn backward(bytes: usize) -> [u8; 16] {
    let mut shuffle = [0; 16];
    let whole = 16 / bytes * bytes;
    let mut at = 0;
    while at < whole {
        shuffle[at] = (16 - bytes - at / bytes * bytes + at % bytes) as u8;
        at += 1;
    }
    shuffle
}

/// How many bytes of `to` were filled, from the end of `from`, which is as long.
#[target_feature(enable = "neon")]
pub(super) fn mirror<const BYTES: usize>(from: &[u8], to: &mut [u8]) -> usize {
    let shuffle = load16(const { &backward(BYTES) });
    let mut done = 0;
    // What is written past whole pixels is overwritten by the next ones.
    while done + 16 <= to.len() {
        let samples = load16(&from[from.len() - done - 16..]);
        store16(&mut to[done..], vqtbl1q_u8(samples, shuffle));
        done += 16 / BYTES * BYTES;
    }
    done
}
