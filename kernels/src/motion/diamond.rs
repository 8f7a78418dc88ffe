//! Diamond search (S. Zhu and K.-K. Ma, "A new diamond search algorithm for fast block-matching
//! motion estimation", IEEE Transactions on Image Processing 9, 2000).
//!
//! From no motion, the best of the eight places two steps away (`|x| + |y| = 2`) is gone to, as
//! long as one is better than the place it is seen from, and `radius` times at most: so many lead
//! to a corner of the window. Then the four places one step away are looked at, once. Better is
//! what it is in the full search: the least sum, then the shorter way, then the first, row by row.
//! Places outside the window or the picture do not count.

use hw::{CpuArgs, Kernel};

use super::{BLOCK, Place, area, needed};
use crate::native::{pixels, row, rows, sizes};
use crate::stem::{params, portable};

/// Steps away: far ones first.
const FAR: isize = 2;
const NEAR: isize = 1;
/// Places that are looked at for most blocks of real films, about.
const PLACES: usize = 24;

pub static KERNEL: Kernel = portable(
    "motion_diamond",
    params!(In now, In before, Out motion; width, height, now_stride, before_stride, radius),
    include_str!("diamond.cl"),
    |args| {
        let s: [usize; 5] = sizes(args);
        rows(args, area(&s), 16 * PLACES, row!(5, row));
    },
    needed,
);

/// The places of a diamond in the reference, row by row.
const FAR_PLACES: [(isize, isize); 8] =
    [(0, -2), (-1, -1), (1, -1), (-2, 0), (2, 0), (-1, 1), (1, 1), (0, 2)];
const NEAR_PLACES: [(isize, isize); 4] = [(0, -1), (-1, 0), (1, 0), (0, 1)];

pub(super) fn reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 5] = sizes(args);
    pixels(args, area(&s), 4, |inputs, s: &[usize; 5], column, row, to| {
        let [width, height, now_stride, before_stride, radius] = *s;
        let (left, top) = (column * BLOCK, row * BLOCK);
        let (wide, high) = (BLOCK.min(width - left), BLOCK.min(height - top));
        // The sum and the way at a place, none where it is outside.
        let cost = |(dx, dy): (isize, isize)| -> Option<(u32, usize)> {
            let inside = |at: usize, by: isize, len: usize, side: usize| {
                let first = at.checked_add_signed(by)?;
                (by.unsigned_abs() <= radius && first + len <= side).then_some(first)
            };
            let from_x = inside(left, dx, wide, width)?;
            let from_y = inside(top, dy, high, height)?;
            let difference = |i: usize| {
                let (x, y) = (i % wide, i / wide);
                let now = inputs[0][(top + y) * now_stride + left + x];
                u32::from(now.abs_diff(inputs[1][(from_y + y) * before_stride + from_x + x]))
            };
            let sum = (0..wide * high).map(difference).sum();
            Some((sum, dx.unsigned_abs() + dy.unsigned_abs()))
        };
        // The place itself comes first, so that it wins where nothing is better.
        let best_of = |at: (isize, isize), around: &[(isize, isize)]| {
            let places = around.iter().map(|(x, y)| (at.0 + x, at.1 + y));
            let places = std::iter::once(at).chain(places);
            places.filter(|at| cost(*at).is_some()).min_by_key(|at| cost(*at)).unwrap_or(at)
        };
        let mut at = (0, 0);
        for _ in 0..radius {
            let next = best_of(at, &FAR_PLACES);
            if next == at {
                break;
            }
            at = next;
        }
        let at = best_of(at, &NEAR_PLACES);
        let sum = cost(at).map_or(0, |(sum, _)| sum as u16).to_le_bytes();
        to.copy_from_slice(&[at.0 as i8 as u8, at.1 as i8 as u8, sum[0], sum[1]]);
    });
}

#[inline(always)]
fn row(inputs: &[&[u8]], s: &[usize; 5], row: usize, to: &mut [u8]) {
    for (column, to) in to.chunks_exact_mut(4).enumerate() {
        let walk = Walk::new(inputs, s, column, row);
        let mut best = (u32::MAX, 0, 0);
        walk.consider((0, 0), &mut best);
        for _ in 0..s[4] {
            let from = best;
            walk.around(FAR, &mut best);
            if best == from {
                break;
            }
        }
        walk.around(NEAR, &mut best);
        to.copy_from_slice(&super::record(best));
    }
}

/// The search for one block.
struct Walk<'a> {
    inputs: &'a [&'a [u8]],
    s: &'a [usize; 5],
    place: Place,
    across: std::ops::RangeInclusive<isize>,
    down: std::ops::RangeInclusive<isize>,
}

impl<'a> Walk<'a> {
    #[inline(always)]
    fn new(inputs: &'a [&'a [u8]], s: &'a [usize; 5], column: usize, row: usize) -> Self {
        let place = Place::new(s, column, row);
        let across = place.ways(place.left, place.wide, s[0]);
        let down = place.ways(place.top, place.high, s[1]);
        Self { inputs, s, place, across, down }
    }

    /// All places of a diamond around the best, row by row.
    #[inline(always)]
    fn around(&self, size: isize, best: &mut (u32, isize, isize)) {
        let (_, from_x, from_y) = *best;
        for y in -size..=size {
            let reach = size - y.abs();
            self.consider((from_x - reach, from_y + y), best);
            if reach > 0 {
                self.consider((from_x + reach, from_y + y), best);
            }
        }
    }

    #[inline(always)]
    fn consider(&self, (dx, dy): (isize, isize), best: &mut (u32, isize, isize)) {
        if self.across.contains(&dx) && self.down.contains(&dy) {
            self.place.consider(self.inputs, self.s, (dx, dy), best);
        }
    }
}

#[cfg(test)]
mod tests;
