//! Medians of 32 samples at once, two rows of the result after each other: the rows of the source
//! that both have are sorted once.

use std::arch::x86_64::*;

use super::{Medians, Ordered, middle_of_9, middle_of_25, put3, put5, repeat_ends, sort2, sort4};
use crate::avx2::{bytes, store32};
use crate::lanes::Between;

const BLOCK: usize = 32;

#[derive(Clone, Copy)]
struct Bytes(__m256i);

impl Ordered for Bytes {
    #[inline(always)]
    fn least(self, other: Self) -> Self {
        // SAFETY: these are made in `fill` alone, which needs the feature.
        Self(unsafe { _mm256_min_epu8(self.0, other.0) })
    }
    #[inline(always)]
    fn largest(self, other: Self) -> Self {
        // SAFETY: the same.
        Self(unsafe { _mm256_max_epu8(self.0, other.0) })
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn fill(medians: &Medians<'_>, first: usize, band: &mut [u8]) {
    if medians.s[6] == 3 {
        let sort = |[a, b, c, d]: [Bytes; 4]| {
            let (b, c) = sort2(b, c);
            [put3(a, [b, c]), put3(d, [b, c])]
        };
        // SAFETY: this function has the feature.
        unsafe { rows(medians, first, band, sort, middle_of_9) }
    } else {
        let sort = |[a, rest @ .., f]: [Bytes; 6]| {
            let rest = sort4(rest);
            [put5(a, rest), put5(f, rest)]
        };
        // SAFETY: the same.
        unsafe { rows(medians, first, band, sort, middle_of_25) }
    }
}

/// `sort` sorts the columns of both rows of the result; `middle` finds the median of sorted
/// columns, given as rows.
///
/// # Safety
///
/// The caller must have AVX2.
#[inline(always)]
unsafe fn rows<const SIDE: usize, const ROWS: usize>(
    medians: &Medians<'_>,
    first: usize,
    band: &mut [u8],
    sort: impl Fn([Bytes; ROWS]) -> [[Bytes; SIDE]; 2],
    middle: impl Fn([[Bytes; SIDE]; SIDE]) -> Bytes,
) {
    let [width, _, channels, _, _, dst_stride, _] = medians.s;
    let (len, radius) = (width * channels, SIDE / 2);
    let mut sorted: [[Between<u8>; SIDE]; 2] =
        std::array::from_fn(|_| std::array::from_fn(|_| Between::new(len, 0)));
    for (number, band) in band.chunks_mut(2 * dst_stride).enumerate() {
        let y = first + 2 * number;
        let rows: [&[u8]; ROWS] =
            std::array::from_fn(|n| medians.near((y + n).saturating_sub(radius)));
        // SAFETY: the caller has AVX2.
        unsafe { sort_columns(rows, &mut sorted, &sort) };
        for (sorted, to) in sorted.iter_mut().zip(band.chunks_mut(dst_stride)) {
            sorted.iter_mut().for_each(|row| repeat_ends(row, len, channels, radius));
            // SAFETY: the same.
            unsafe { middles(sorted, channels, &mut to[..len], &middle) };
        }
    }
}

/// # Safety
///
/// The caller must have AVX2.
#[inline(always)]
unsafe fn sort_columns<const SIDE: usize, const ROWS: usize>(
    rows: [&[u8]; ROWS],
    sorted: &mut [[Between<u8>; SIDE]; 2],
    sort: &impl Fn([Bytes; ROWS]) -> [[Bytes; SIDE]; 2],
) {
    let len = rows[0].len();
    let mut ends = [[0; BLOCK]; ROWS];
    let mut ends = ends.iter_mut();
    let rows = rows.map(|row| {
        let end = ends.next().expect("one each");
        if row.len() < BLOCK {
            end[..row.len()].copy_from_slice(row);
            return &end[..];
        }
        row
    });
    let to = sorted.each_mut().map(|rows| rows.each_mut().map(|row| row.room().as_mut_ptr()));
    for x in (0..len).step_by(BLOCK) {
        // The last block ends where the row does.
        let x = x.min(rows[0].len() - BLOCK);
        // SAFETY: the caller has AVX2.
        let mut columns = [Bytes(unsafe { _mm256_setzero_si256() }); ROWS];
        for n in 0..ROWS {
            // SAFETY: all rows are as long as the first, in which a block follows.
            columns[n] = Bytes(unsafe { _mm256_loadu_si256(rows[n].as_ptr().add(x).cast()) });
        }
        let made = sort(columns);
        for which in 0..2 {
            for n in 0..SIDE {
                // SAFETY: these rows have room for a block more than they are long.
                unsafe { _mm256_storeu_si256(to[which][n].add(x).cast(), made[which][n].0) };
            }
        }
    }
}

/// # Safety
///
/// The caller must have AVX2.
#[inline(always)]
unsafe fn middles<const SIDE: usize>(
    sorted: &[Between<u8>; SIDE],
    channels: usize,
    to: &mut [u8],
    middle: &impl Fn([[Bytes; SIDE]; SIDE]) -> Bytes,
) {
    let edge = SIDE / 2 * channels;
    let room = to.len().next_multiple_of(BLOCK) + 2 * edge;
    let rows = sorted.each_ref().map(|row| row.from(-(edge as isize), room).as_ptr());
    for (number, to) in to.chunks_mut(BLOCK).enumerate() {
        // SAFETY: the caller has AVX2.
        let mut samples = [[Bytes(unsafe { _mm256_setzero_si256() }); SIDE]; SIDE];
        for (row, samples) in rows.iter().zip(&mut samples) {
            for (n, to) in samples.iter_mut().enumerate() {
                // SAFETY: rows have whole blocks, as many as there are of the result, and edges.
                let from = unsafe { row.add(number * BLOCK + n * channels) };
                // SAFETY: the same.
                *to = Bytes(unsafe { _mm256_loadu_si256(from.cast()) });
            }
        }
        let found = middle(samples);
        // SAFETY: the caller has AVX2.
        unsafe {
            if to.len() == BLOCK {
                store32(to, found.0);
            } else {
                to.copy_from_slice(&bytes(found.0)[..to.len()]);
            }
        }
    }
}
