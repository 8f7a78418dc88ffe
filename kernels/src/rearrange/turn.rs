//! Bytes whose rows become columns: a transposed picture, or one turned by a quarter.

use super::source;
use crate::native::{Band, Unit, signed, unit};

/// Whether rows of bytes are whole columns of the source, from either end.
pub(super) fn is_turn(s: &[usize; 19]) -> bool {
    let [_, _, src_width, src_height, src_step, _, _, width, height, step, bytes, ..] = *s;
    let [x0, ax, bx, y0, ay, by] = std::array::from_fn(|i| signed(s[11 + i]));
    let from_end = |start: i32, way: i32, side: usize| match way {
        1 => start == 0,
        -1 => start == side as i32 - 1,
        _ => false,
    };
    let is_whole = (src_width, src_height) == (height, width) && s[17] == 0;
    is_whole
        && (src_step, step, bytes) == (1, 1, 1)
        && (ax, by) == (0, 0)
        && from_end(x0, bx, src_width)
        && from_end(y0, ay, src_height)
}

/// Columns of bytes become rows, squares of 16 x 16 at a time.
pub(super) struct Turn<'a> {
    pub src: &'a [u8],
    pub s: [usize; 19],
}

const SIDE: usize = 16;
/// Rows of the result that are filled together: their columns of the source fill a cache line.
const TOGETHER: usize = 64;

impl Band for Turn<'_> {
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        let [_, _, _, _, _, _, stride, width, ..] = self.s;
        let height = band.len().div_ceil(stride);
        let (whole, wide) = (width / SIDE * SIDE, 2 * SIDE);
        for y in (0..height).step_by(TOGETHER) {
            let end = (y + TOGETHER).min(height);
            for x in (0..whole).step_by(SIDE) {
                let mut next = y;
                while next < end {
                    let left = end - next;
                    if left >= wide && turn32(self, [x, first + next], &mut band[next * stride..]) {
                        next += wide;
                    } else if left >= SIDE {
                        self.turn16([x, first + next], &mut band[next * stride..]);
                        next += SIDE;
                    } else {
                        let to = &mut band[next * stride..];
                        self.one_by_one([x, first + next], [SIDE, left], to);
                        next = end;
                    }
                }
            }
            let rest = [width - whole, end - y];
            self.one_by_one([whole, first + y], rest, &mut band[y * stride..]);
        }
    }
}

impl Turn<'_> {
    fn is_backward(&self) -> bool {
        signed(self.s[13]) < 0
    }

    /// The rows of the source, from its first byte on, that become columns `x`, `x + 1`, … of the
    /// result; `last` is the row of the result whose byte comes first.
    #[inline(always)]
    fn rows<const LEN: usize>(&self, x: usize, last: usize) -> [&[u8; LEN]; SIDE] {
        let at = source(&self.s, x, last).expect("turned whole");
        let step = self.s[1] as isize * signed(self.s[15]) as isize;
        std::array::from_fn(|n| {
            let row = &self.src[at.wrapping_add_signed(n as isize * step)..];
            row.first_chunk().expect("a square lies within the source")
        })
    }

    #[inline(always)]
    fn turn16(&self, [x, y]: [usize; 2], to: &mut [u8]) {
        let last = if self.is_backward() { y + SIDE - 1 } else { y };
        let turned = turned_square(self.rows(x, last).map(|row| *row));
        for (n, row) in turned.iter().enumerate() {
            let to_row = if self.is_backward() { SIDE - 1 - n } else { n };
            to[to_row * self.s[6] + x..][..SIDE].copy_from_slice(row);
        }
    }

    #[inline(always)]
    fn one_by_one(&self, [x, y]: [usize; 2], [wide, high]: [usize; 2], to: &mut [u8]) {
        if wide == 0 {
            return;
        }
        let step = self.s[1] as isize * signed(self.s[15]) as isize;
        for dy in 0..high {
            let at = source(&self.s, x, y + dy).expect("turned whole");
            for dx in 0..wide {
                to[dy * self.s[6] + x + dx] = self.src[at.wrapping_add_signed(dx as isize * step)];
            }
        }
    }
}

/// Two squares, one above the other; whether there is a vector unit for that.
#[inline(always)]
fn turn32(turn: &Turn<'_>, place: [usize; 2], to: &mut [u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if unit() >= Unit::Avx2 {
        // SAFETY: the feature was just found on this machine.
        unsafe { avx2::turn(turn, place, to) };
        return true;
    }
    false
}

type Square = [[u8; SIDE]; SIDE];

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{SIDE, Turn};
    use crate::avx2::{load32, store16};
    use crate::native::signed;

    /// As [`super::turned_square`] does, for one square in each half of the registers.
    #[target_feature(enable = "avx2")]
    pub(super) fn turn(turn: &Turn<'_>, [x, y]: [usize; 2], to: &mut [u8]) {
        let last = if turn.is_backward() { y + 2 * SIDE - 1 } else { y };
        let from: [&[u8; 2 * SIDE]; SIDE] = turn.rows(x, last);
        let step = turn.s[1] as isize * signed(turn.s[15]) as isize;
        let mut rows = [_mm256_setzero_si256(); SIDE];
        for (row, from) in rows.iter_mut().zip(from) {
            *row = load32(from);
            // The row that is read next in these columns, far away in memory.
            let next = from.as_ptr().wrapping_offset(SIDE as isize * step);
            _mm_prefetch::<_MM_HINT_T0>(next.cast());
        }
        for _ in 0..4 {
            let before = rows;
            for n in 0..SIDE / 2 {
                rows[2 * n] = _mm256_unpacklo_epi8(before[n], before[n + SIDE / 2]);
                rows[2 * n + 1] = _mm256_unpackhi_epi8(before[n], before[n + SIDE / 2]);
            }
        }
        let (first, step) = match turn.is_backward() {
            true => (x + (2 * SIDE - 1) * turn.s[6], turn.s[6].wrapping_neg()),
            false => (x, turn.s[6]),
        };
        for (n, row) in rows.into_iter().enumerate() {
            let at = first.wrapping_add(n.wrapping_mul(step));
            store16(&mut to[at..], _mm256_castsi256_si128(row));
            let below = at.wrapping_add(SIDE.wrapping_mul(step));
            store16(&mut to[below..], _mm256_extracti128_si256(row, 1));
        }
    }
}

/// Rows 0 and 8, 1 and 9, … are interleaved byte by byte, four times over: each time the bits of a
/// byte's place, those of its row before those of its column, rotate by one.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turned_square(square: Square) -> Square {
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm_storeu_si128, _mm_unpackhi_epi8, _mm_unpacklo_epi8,
    };
    // SAFETY: every x86-64 processor has SSE2, and each row has the sixteen bytes that are read.
    let mut rows = square.map(|row| unsafe { _mm_loadu_si128(row.as_ptr().cast()) });
    for _ in 0..4 {
        let before = rows;
        for n in 0..SIDE / 2 {
            // SAFETY: every x86-64 processor has SSE2.
            unsafe {
                rows[2 * n] = _mm_unpacklo_epi8(before[n], before[n + SIDE / 2]);
                rows[2 * n + 1] = _mm_unpackhi_epi8(before[n], before[n + SIDE / 2]);
            }
        }
    }
    rows.map(|row| {
        let mut bytes = [0; SIDE];
        // SAFETY: every x86-64 processor has SSE2, and there is room for sixteen bytes.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), row) };
        bytes
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn turned_square(square: Square) -> Square {
    std::array::from_fn(|x| std::array::from_fn(|y| square[y][x]))
}
