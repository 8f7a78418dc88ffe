//! Levels looked up in vector registers.

use std::arch::aarch64::*;

use crate::neon::{load16, store16};

/// Four tables of 64 levels: each leaves alone what is not among its own. Says how many samples it
/// did.
#[target_feature(enable = "neon")]
pub(super) fn lookup(table: &[u8; 256], from: &[u8], to: &mut [u8]) -> usize {
    let sixteens = table.as_chunks::<16>().0;
    let quarter = |n: usize| {
        let part = |i: usize| load16(&sixteens[4 * n + i]);
        uint8x16x4_t(part(0), part(1), part(2), part(3))
    };
    let [a, b, c, d] = [quarter(0), quarter(1), quarter(2), quarter(3)];
    let moved = |levels: uint8x16_t, by: u8| vsubq_u8(levels, vdupq_n_u8(by));
    for (from, to) in from.as_chunks::<16>().0.iter().zip(to.as_chunks_mut::<16>().0) {
        let levels = load16(from);
        let found = vqtbl4q_u8(a, levels);
        let found = vqtbx4q_u8(found, b, moved(levels, 64));
        let found = vqtbx4q_u8(found, c, moved(levels, 128));
        store16(to, vqtbx4q_u8(found, d, moved(levels, 192)));
    }
    from.len() / 16 * 16
}
