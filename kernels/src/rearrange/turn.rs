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
/// Rows of the result that are filled together: two squares.
const TOGETHER: usize = 32;

impl Band for Turn<'_> {
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        let [_, _, _, _, _, _, stride, width, ..] = self.s;
        let height = band.len().div_ceil(stride);
        if width < SIDE {
            return self.one_by_one([0, first], [width, height], band);
        }
        for y in (0..height).step_by(TOGETHER) {
            let left = TOGETHER.min(height - y);
            let to = &mut band[y * stride..];
            for x in (0..width).step_by(SIDE) {
                // The last square ends where the rows do.
                self.squares([x.min(width - SIDE), first + y], left, to);
            }
        }
    }
}

impl Turn<'_> {
    /// So many rows of the result, as many as two squares have at most, from its row `y` on.
    #[inline(always)]
    fn squares(&self, [x, y]: [usize; 2], rows: usize, to: &mut [u8]) {
        if rows == TOGETHER && turn32(self, [x, y], to) {
            return;
        }
        let whole = rows / SIDE * SIDE;
        for next in (0..whole).step_by(SIDE) {
            self.turn16([x, y + next], &mut to[next * self.s[6]..]);
        }
        if whole < rows {
            let to = &mut to[whole * self.s[6]..];
            self.one_by_one([x, y + whole], [SIDE, rows - whole], to);
        }
    }

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

/// Bytes of a cache line.
const LINE: usize = 64;

type Square = [[u8; SIDE]; SIDE];

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{LINE, SIDE, Turn, source};
    use crate::native::signed;

    /// As [`super::turned_square`] does, for one square in each half of the registers.
    #[target_feature(enable = "avx2")]
    pub(super) fn turn(turn: &Turn<'_>, [x, y]: [usize; 2], to: &mut [u8]) {
        let last = if turn.is_backward() { y + 2 * SIDE - 1 } else { y };
        let step = turn.s[1] as isize * signed(turn.s[15]) as isize;
        let from = source(&turn.s, x, last).expect("turned whole");
        let end = from.wrapping_add_signed((SIDE as isize - 1) * step);
        assert!(from.max(end) + 2 * SIDE <= turn.src.len());
        let mut rows = [_mm256_setzero_si256(); SIDE];
        for (n, row) in rows.iter_mut().enumerate() {
            // SAFETY: the first and the last row are within the source, and so are those between.
            *row = unsafe {
                let from = turn.src.as_ptr().add(from).offset(n as isize * step);
                _mm256_loadu_si256(from.cast())
            };
        }
        for _ in 0..4 {
            let before = rows;
            for n in 0..SIDE / 2 {
                rows[2 * n] = _mm256_unpacklo_epi8(before[n], before[n + SIDE / 2]);
                rows[2 * n + 1] = _mm256_unpackhi_epi8(before[n], before[n + SIDE / 2]);
            }
        }
        let stride = turn.s[6];
        assert!(x + (2 * SIDE - 1) * stride + SIDE <= to.len());
        let to = to.as_mut_ptr();
        for (n, row) in rows.into_iter().enumerate() {
            let number = |n: usize| if turn.is_backward() { 2 * SIDE - 1 - n } else { n };
            // SAFETY: the last row is within the result, and so are those before it.
            let [upper, lower] = [n, n + SIDE].map(|n| unsafe { to.add(x + number(n) * stride) });
            // SAFETY: the same.
            unsafe {
                _mm_storeu_si128(upper.cast(), _mm256_castsi256_si128(row));
                _mm_storeu_si128(lower.cast(), _mm256_extracti128_si256(row, 1));
            }
            if x % LINE == 0 {
                // Rows are far apart: no cache sees by itself where they go on.
                _mm_prefetch::<_MM_HINT_ET0>(upper.wrapping_add(LINE).cast());
                _mm_prefetch::<_MM_HINT_ET0>(lower.wrapping_add(LINE).cast());
            }
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

/// As on x86-64.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn turned_by_neon(square: &Square) -> Square {
    use std::arch::aarch64::{vdupq_n_u8, vzip1q_u8, vzip2q_u8};

    use crate::neon::{load16, store16};
    let (mut rows, mut turned) = ([vdupq_n_u8(0); SIDE], [[0; SIDE]; SIDE]);
    rows.iter_mut().zip(square).for_each(|(row, from)| *row = load16(from));
    for _ in 0..4 {
        let before = rows;
        for n in 0..SIDE / 2 {
            rows[2 * n] = vzip1q_u8(before[n], before[n + SIDE / 2]);
            rows[2 * n + 1] = vzip2q_u8(before[n], before[n + SIDE / 2]);
        }
    }
    turned.iter_mut().zip(rows).for_each(|(to, row)| store16(to, row));
    turned
}

#[cfg(not(target_arch = "x86_64"))]
fn turned_square(square: Square) -> Square {
    #[cfg(target_arch = "aarch64")]
    if unit() >= Unit::Neon {
        // SAFETY: the feature was just found on this machine.
        return unsafe { turned_by_neon(&square) };
    }
    std::array::from_fn(|x| std::array::from_fn(|y| square[y][x]))
}
