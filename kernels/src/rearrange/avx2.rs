//! Pixels of a row in the opposite order.

use std::arch::x86_64::*;

use crate::avx2::{NONE, load_halves, load16, mask, store16, store32};

/// The whole pixels at the end of sixteen bytes, from the last to the first.
const fn backward(bytes: usize) -> [i8; 16] {
    let mut shuffle = [NONE; 16];
    let whole = 16 / bytes * bytes;
    let mut at = 0;
    while at < whole {
        shuffle[at] = (16 - bytes - at / bytes * bytes + at % bytes) as i8;
        at += 1;
    }
    shuffle
}

/// How many bytes of `to` were filled, from the end of `from`, which is as long.
#[target_feature(enable = "avx2")]
pub(super) fn mirror<const BYTES: usize>(from: &[u8], to: &mut [u8]) -> usize {
    let shuffle = mask(const { &backward(BYTES) });
    if 16 % BYTES == 0 {
        let (from, to) = (from.as_rchunks::<32>().1, to.as_chunks_mut::<32>().0);
        for (to, from) in to.iter_mut().zip(from.iter().rev()) {
            let swapped = load_halves(&from[16..], &from[..16]);
            store32(to, _mm256_shuffle_epi8(swapped, shuffle));
        }
        return 32 * to.len();
    }
    let whole = 16 / BYTES * BYTES;
    let mut done = 0;
    // What is written past whole pixels is overwritten by the next ones.
    while done + 16 <= to.len() {
        let samples = load16(&from[from.len() - done - 16..]);
        store16(&mut to[done..], _mm_shuffle_epi8(samples, _mm256_castsi256_si128(shuffle)));
        done += whole;
    }
    done
}
