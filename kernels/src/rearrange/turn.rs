//! Bytes whose rows become columns: a transposed picture, or one turned by a quarter.

use super::source;
use crate::native::{Band, signed};

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

/// Columns of bytes become rows, a square of 16 x 16 at a time.
pub(super) struct Turn<'a> {
    pub src: &'a [u8],
    pub s: [usize; 19],
}

const SIDE: usize = 16;
type Square = [[u8; SIDE]; SIDE];

impl Band for Turn<'_> {
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        let [_, _, _, _, _, _, stride, width, ..] = self.s;
        let height = band.len().div_ceil(stride);
        for y in (0..height).step_by(SIDE) {
            for x in (0..width).step_by(SIDE) {
                let (wide, high) = (SIDE.min(width - x), SIDE.min(height - y));
                if (wide, high) == (SIDE, SIDE) {
                    let square = self.square(x, first + y);
                    for (n, row) in square.iter().enumerate() {
                        band[(y + n) * stride + x..][..SIDE].copy_from_slice(row);
                    }
                    continue;
                }
                for (dx, dy) in (0..high).flat_map(|dy| (0..wide).map(move |dx| (dx, dy))) {
                    let at = source(&self.s, x + dx, first + y + dy).expect("turned whole");
                    band[(y + dy) * stride + x + dx] = self.src[at];
                }
            }
        }
    }
}

impl Turn<'_> {
    /// The rows of the result whose first sample is `(x, y)`.
    #[inline(always)]
    fn square(&self, x: usize, y: usize) -> Square {
        let is_backward = signed(self.s[13]) < 0;
        let left = if is_backward { y + SIDE - 1 } else { y };
        let rows = std::array::from_fn(|n| {
            let at = source(&self.s, x + n, left).expect("turned whole");
            *self.src[at..].first_chunk().expect("a square lies within the source")
        });
        let mut turned = turned_square(rows);
        if is_backward {
            turned.reverse();
        }
        turned
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
