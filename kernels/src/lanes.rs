//! What small filters are made of: several rows folded into one, sample by sample, in vector
//! registers.
//!
//! Down, the rows are those around a row of a picture; across, they are one row, padded at its
//! ends and moved by whole pixels. A filter works on pieces of a row that stay in the nearest
//! cache, and in the narrowest lanes that hold its sums.

/// Samples of a row that are folded without a question in between: a vector register of bytes.
const BLOCK: usize = 64;

/// A lane of a vector register. Arithmetic wraps, as that of kernels does.
pub(crate) trait Lane: Copy + Default {
    fn plus(self, sample: Self) -> Self;
    fn plus_product(self, sample: Self, weight: Self) -> Self;
    fn least(self, other: Self) -> Self;
    fn largest(self, other: Self) -> Self;
}

macro_rules! lane {
    ($($lane:ty),+) => {$(
        impl Lane for $lane {
            #[inline(always)]
            fn plus(self, sample: Self) -> Self {
                self.wrapping_add(sample)
            }
            #[inline(always)]
            fn plus_product(self, sample: Self, weight: Self) -> Self {
                self.wrapping_add(sample.wrapping_mul(weight))
            }
            #[inline(always)]
            fn least(self, other: Self) -> Self {
                self.min(other)
            }
            #[inline(always)]
            fn largest(self, other: Self) -> Self {
                self.max(other)
            }
        }
    )+};
}
lane!(u8, i16, u16, i32, u32);

/// A sample of a row, as it goes into a lane. Two bytes are one sample; the lane says whether it
/// has a sign.
pub(crate) trait Sample<L>: Copy {
    fn widen(self) -> L;
}

macro_rules! sample {
    ($($lane:ty: $from:pat => $widened:expr, $bytes:ty);+) => {$(
        impl Sample<$lane> for $bytes {
            #[inline(always)]
            fn widen(self) -> $lane {
                let $from = self;
                $widened
            }
        }
    )+};
}
sample! {
    u8: s => s, u8;
    u16: s => u16::from(s), u8;
    i16: s => i16::from(s), u8;
    u32: s => u32::from(s), u8;
    i32: s => i32::from(s), u8;
    u16: s => u16::from_le_bytes(s), [u8; 2];
    u32: s => u32::from(u16::from_le_bytes(s)), [u8; 2];
    i32: s => i32::from(i16::from_le_bytes(s)), [u8; 2];
    u16: s => s, u16
}

/// How a sample joins what was folded before.
pub(crate) trait Fold<L> {
    fn join(found: L, sample: L, weight: L) -> L;
}

/// The sum of products with weights.
pub(crate) struct Weighed;
/// The sum; weights do not count.
pub(crate) struct Plain;
/// The least sample; weights do not count.
pub(crate) struct Least;
/// The largest sample; weights do not count.
pub(crate) struct Largest;

impl<L: Lane> Fold<L> for Weighed {
    #[inline(always)]
    fn join(found: L, sample: L, weight: L) -> L {
        found.plus_product(sample, weight)
    }
}

impl<L: Lane> Fold<L> for Plain {
    #[inline(always)]
    fn join(found: L, sample: L, _: L) -> L {
        found.plus(sample)
    }
}

impl<L: Lane> Fold<L> for Least {
    #[inline(always)]
    fn join(found: L, sample: L, _: L) -> L {
        found.least(sample)
    }
}

impl<L: Lane> Fold<L> for Largest {
    #[inline(always)]
    fn join(found: L, sample: L, _: L) -> L {
        found.largest(sample)
    }
}

/// `to[i]` becomes what `finish` makes of the samples `i` of `count` rows, folded on top of
/// `start`. `tap` gives each row, and its weight where weights count.
#[inline(always)]
pub(crate) fn fold<'a, F: Fold<L>, S: Sample<L> + 'a, L: Lane, T: Copy + Default>(
    count: usize,
    tap: impl Fn(usize) -> (&'a [S], L),
    start: L,
    to: &mut [T],
    finish: impl Fn(L) -> T,
) {
    match count {
        1 => few::<F, S, L, T, 1>(tap, start, to, finish),
        2 => few::<F, S, L, T, 2>(tap, start, to, finish),
        3 => few::<F, S, L, T, 3>(tap, start, to, finish),
        4 => few::<F, S, L, T, 4>(tap, start, to, finish),
        5 => few::<F, S, L, T, 5>(tap, start, to, finish),
        7 => few::<F, S, L, T, 7>(tap, start, to, finish),
        9 => few::<F, S, L, T, 9>(tap, start, to, finish),
        _ => many::<F, S, L, T>(count, tap, start, to, finish),
    }
}

/// So few rows that their places are in registers.
#[inline(always)]
fn few<'a, F: Fold<L>, S: Sample<L> + 'a, L: Lane, T: Copy + Default, const N: usize>(
    tap: impl Fn(usize) -> (&'a [S], L),
    start: L,
    to: &mut [T],
    finish: impl Fn(L) -> T,
) {
    let rows: [&[S]; N] = std::array::from_fn(|n| &tap(n).0[..to.len()]);
    let weights: [L; N] = std::array::from_fn(|n| tap(n).1);
    let (blocks, tail) = to.as_chunks_mut::<BLOCK>();
    let done = blocks.len() * BLOCK;
    let row_blocks: [&[[S; BLOCK]]; N] =
        std::array::from_fn(|n| &rows[n].as_chunks().0[..blocks.len()]);
    for (number, to) in blocks.iter_mut().enumerate() {
        let now: [&[S; BLOCK]; N] = std::array::from_fn(|n| &row_blocks[n][number]);
        // Made apart, so that the compiler sees that no row changes meanwhile.
        let mut made = [T::default(); BLOCK];
        for (i, made) in made.iter_mut().enumerate() {
            let mut value = start;
            for n in 0..N {
                value = F::join(value, now[n][i].widen(), weights[n]);
            }
            *made = finish(value);
        }
        *to = made;
    }
    for (i, to) in tail.iter_mut().enumerate() {
        let join = |value, n: usize| F::join(value, rows[n][done + i].widen(), weights[n]);
        *to = finish((0..N).fold(start, join));
    }
}

#[inline(always)]
fn many<'a, F: Fold<L>, S: Sample<L> + 'a, L: Lane, T: Copy + Default>(
    count: usize,
    tap: impl Fn(usize) -> (&'a [S], L),
    start: L,
    to: &mut [T],
    finish: impl Fn(L) -> T,
) {
    for (number, to) in to.chunks_mut(BLOCK).enumerate() {
        let mut values = [start; BLOCK];
        for (row, weight) in (0..count).map(&tap) {
            let row = &row[number * BLOCK..][..to.len()];
            for (value, sample) in values.iter_mut().zip(row) {
                *value = F::join(*value, sample.widen(), weight);
            }
        }
        to.iter_mut().zip(values).for_each(|(to, value)| *to = finish(value));
    }
}

/// Room for a row between two passes, with room for edges before and after it. The row itself
/// begins where a cache line does.
pub(crate) struct Between<T> {
    data: Vec<T>,
    start: usize,
    len: usize,
}

/// Samples of an edge, at most.
pub(crate) const EDGE: usize = 128;

impl<T: Copy> Between<T> {
    pub fn new(len: usize, value: T) -> Self {
        let line = 64 / size_of::<T>();
        let data = vec![value; len + 2 * EDGE + 2 * line];
        let start = EDGE + data.as_ptr().align_offset(64).min(line);
        Self { data, start, len }
    }

    #[inline(always)]
    pub fn row(&mut self) -> &mut [T] {
        &mut self.data[self.start..][..self.len]
    }

    /// The row and the edge after it.
    #[inline(always)]
    pub fn room(&mut self) -> &mut [T] {
        &mut self.data[self.start..][..self.len + EDGE]
    }

    /// `len` samples from `at` on, which may lie before the row.
    #[inline(always)]
    pub fn from(&self, at: isize, len: usize) -> &[T] {
        &self.data[self.start.wrapping_add_signed(at)..][..len]
    }

    #[inline(always)]
    pub fn set(&mut self, at: isize, value: T) {
        self.data[self.start.wrapping_add_signed(at)] = value;
    }
}

/// A row with `radius` pixels more at either end: those that `near` finds for places past them.
#[inline(always)]
pub(crate) fn padded<T: Copy + Default>(
    row: &[T],
    channels: usize,
    radius: usize,
    near: impl Fn(isize, usize) -> usize,
) -> Vec<T> {
    let width = row.len() / channels;
    let mut all = Vec::with_capacity(row.len() + 2 * radius * channels);
    let pixel = |at: isize| &row[near(at, width) * channels..][..channels];
    (0..radius).for_each(|i| all.extend_from_slice(pixel(i as isize - radius as isize)));
    all.extend_from_slice(row);
    (0..radius).for_each(|i| all.extend_from_slice(pixel((width + i) as isize)));
    all
}
