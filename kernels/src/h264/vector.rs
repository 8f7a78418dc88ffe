//! Sixteen lanes of 16 bits: what macroblocks are worked on with. Each form gives the same bits;
//! one is chosen for a whole picture, so that all that is written over it is compiled for it.

use super::block::ZIGZAG;
use super::picture::Luma;

/// Sixteen samples side by side.
pub type Line = [u8; 16];

/// Samples of a plane: where they begin, and how far it is to the row below.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    pub from: &'a [u8],
    pub stride: usize,
}

impl<'a> Samples<'a> {
    /// Sixteen samples of row `y`.
    #[inline(always)]
    pub fn row(&self, y: usize) -> &'a Line {
        self.from[y * self.stride..].first_chunk().expect("a plane has all rows of a macroblock")
    }

    /// Those from row `y` on.
    #[inline(always)]
    pub fn below(&self, y: usize) -> Self {
        Self { from: &self.from[y * self.stride..], stride: self.stride }
    }
}

/// How far samples are from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Apart {
    /// The sum of absolute differences.
    pub each: u32,
    /// The absolute difference of the sums.
    pub sum: u32,
}

/// Work that is compiled once for a form and then called. Were all of it one function, it would not
/// fit the nearest memory for instructions. `run` is `#[inline(always)]`.
pub trait Work<V> {
    type Out;
    fn run(self, v: V) -> Self::Out;
}

/// A form. Words are sixteen signed ones, sums of which wrap unless told otherwise.
pub trait Vector: Copy {
    type Words: Copy;

    fn call<W: Work<Self>>(self, work: W) -> W::Out;
    /// Says that a byte will be looked at soon.
    fn prefetch(self, byte: &u8);

    fn all(self, value: i16) -> Self::Words;
    fn load(self, from: &[i16; 16]) -> Self::Words;
    fn store(self, words: Self::Words, to: &mut [i16; 16]);
    /// Samples as words, and back: what no sample can be becomes the nearest that can.
    fn widen(self, line: &Line) -> Self::Words;
    fn narrow(self, words: Self::Words) -> Line;

    fn add(self, a: Self::Words, b: Self::Words) -> Self::Words;
    fn sub(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// The low half of the product.
    fn mul(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// A sum that stops at the ends of the range.
    fn add_within(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Divided by a power of two and rounded down.
    fn half<const BITS: i32>(self, a: Self::Words) -> Self::Words;
    fn min(self, a: Self::Words, b: Self::Words) -> Self::Words;
    fn max(self, a: Self::Words, b: Self::Words) -> Self::Words;
    fn abs(self, a: Self::Words) -> Self::Words;
    /// All bits of a lane where `a < b`, none elsewhere.
    fn less(self, a: Self::Words, b: Self::Words) -> Self::Words;
    fn and(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// `a` where the lane of `mask` has all bits, `b` where it has none.
    fn select(self, mask: Self::Words, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Whether any lane has a bit.
    fn any(self, a: Self::Words) -> bool;

    /// `sign(c) * min(((|c| + bias) * factor) >> 16, most)`, without signs but for `c`.
    fn quantise(self, c: Self::Words, numbers: [Self::Words; 2], most: i16) -> Self::Words;
    /// Turns each block of four rows of four blocks about its diagonal.
    fn turn(self, rows: [Self::Words; 4]) -> [Self::Words; 4];
    /// Which of four blocks have a bit, a bit each.
    fn used(self, rows: [Self::Words; 4]) -> u32;

    /// Puts a block's levels, turned about its diagonal, into zigzag order; says which there are, a
    /// bit each, and which of them are beyond one.
    fn zigzag(self, rows: &[[i16; 16]; 4], block: usize, to: &mut [i16; 16]) -> [u32; 2];

    /// The sum of absolute differences.
    fn difference(self, luma: &Luma, to: Samples<'_>) -> u32;
    /// Those of eight rows: of the eight samples to the left, and of those to the right; and how
    /// far the sums of the samples are apart.
    fn differences(self, a: Samples<'_>, b: Samples<'_>) -> [Apart; 2];
    /// The same to the mean of two.
    fn difference_to_mean(self, luma: &Luma, a: Samples<'_>, b: Samples<'_>) -> u32;
    fn mean(self, a: &Line, b: &Line) -> Line;
    /// Cb and Cr by turns as eight of Cb and eight of Cr, and back.
    fn part(self, line: &Line) -> Line;
    fn join(self, line: &Line) -> Line;
    /// Eight samples of each of sixteen rows as eight lines down.
    fn columns(self, from: Samples<'_>) -> [Line; 8];
    /// Puts eight lines down back.
    fn put_columns(self, lines: &[Line; 8], to: &mut [u8], stride: usize);
}

/// The form for any machine.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

type Lanes = [i16; 16];

#[inline(always)]
fn each(a: Lanes, b: Lanes, of: impl Fn(i16, i16) -> i16) -> Lanes {
    let mut to = [0; 16];
    for i in 0..16 {
        to[i] = of(a[i], b[i]);
    }
    to
}

impl Vector for Plain {
    type Words = Lanes;

    #[inline(never)]
    fn call<W: Work<Self>>(self, work: W) -> W::Out {
        work.run(self)
    }

    #[inline(always)]
    fn prefetch(self, _: &u8) {}

    #[inline(always)]
    fn all(self, value: i16) -> Lanes {
        [value; 16]
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> Lanes {
        *from
    }

    #[inline(always)]
    fn store(self, words: Lanes, to: &mut Lanes) {
        *to = words;
    }

    #[inline(always)]
    fn widen(self, line: &Line) -> Lanes {
        line.map(i16::from)
    }

    #[inline(always)]
    fn narrow(self, words: Lanes) -> Line {
        words.map(|word| word.clamp(0, 255) as u8)
    }

    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        each(a, b, i16::wrapping_add)
    }

    #[inline(always)]
    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        each(a, b, i16::wrapping_sub)
    }

    #[inline(always)]
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        each(a, b, i16::wrapping_mul)
    }

    #[inline(always)]
    fn add_within(self, a: Lanes, b: Lanes) -> Lanes {
        each(a, b, i16::saturating_add)
    }

    #[inline(always)]
    fn half<const BITS: i32>(self, a: Lanes) -> Lanes {
        a.map(|word| word >> BITS)
    }

    #[inline(always)]
    fn min(self, a: Lanes, b: Lanes) -> Lanes {
        each(a, b, i16::min)
    }

    #[inline(always)]
    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        each(a, b, i16::max)
    }

    #[inline(always)]
    fn abs(self, a: Lanes) -> Lanes {
        a.map(i16::wrapping_abs)
    }

    #[inline(always)]
    fn less(self, a: Lanes, b: Lanes) -> Lanes {
        each(a, b, |a, b| -i16::from(a < b))
    }

    #[inline(always)]
    fn and(self, a: Lanes, b: Lanes) -> Lanes {
        each(a, b, |a, b| a & b)
    }

    #[inline(always)]
    fn select(self, mask: Lanes, a: Lanes, b: Lanes) -> Lanes {
        std::array::from_fn(|i| if mask[i] != 0 { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn any(self, a: Lanes) -> bool {
        a != [0; 16]
    }

    #[inline(always)]
    fn quantise(self, c: Lanes, [factor, bias]: [Lanes; 2], most: i16) -> Lanes {
        std::array::from_fn(|i| {
            let size = u32::from(c[i].unsigned_abs().saturating_add(bias[i] as u16));
            let level = ((size * u32::from(factor[i] as u16)) >> 16) as i32;
            (level.min(most.into()) * i32::from(c[i].signum())) as i16
        })
    }

    #[inline(always)]
    fn turn(self, rows: [Lanes; 4]) -> [Lanes; 4] {
        std::array::from_fn(|x| std::array::from_fn(|lane| rows[lane % 4][lane / 4 * 4 + x]))
    }

    #[inline(always)]
    fn used(self, rows: [Lanes; 4]) -> u32 {
        let lanes = (0..16).filter(|i| rows.iter().any(|row| row[*i] != 0));
        lanes.fold(0, |used, lane| used | 1 << (lane / 4))
    }

    #[inline(always)]
    fn zigzag(self, rows: &[Lanes; 4], block: usize, to: &mut Lanes) -> [u32; 2] {
        let mut sets = [0; 2];
        for (at, (to, from)) in to.iter_mut().zip(ZIGZAG).enumerate() {
            let (y, x) = (usize::from(from) / 4, usize::from(from) % 4);
            *to = rows[x][4 * block + y];
            sets[0] |= u32::from(*to != 0) << at;
            sets[1] |= u32::from(to.unsigned_abs() > 1) << at;
        }
        sets
    }

    #[inline(always)]
    fn difference(self, luma: &Luma, to: Samples<'_>) -> u32 {
        luma.iter().enumerate().map(|(y, line)| row_difference(line, to.row(y))).sum()
    }

    #[inline(always)]
    fn differences(self, a: Samples<'_>, b: Samples<'_>) -> [Apart; 2] {
        let (mut each, mut sums) = ([0; 2], [0i32; 2]);
        for y in 0..8 {
            for (x, (a, b)) in a.row(y).iter().zip(b.row(y)).enumerate() {
                each[x / 8] += u32::from(a.abs_diff(*b));
                sums[x / 8] += i32::from(*a) - i32::from(*b);
            }
        }
        [0, 1].map(|half| Apart { each: each[half], sum: sums[half].unsigned_abs() })
    }

    #[inline(always)]
    fn difference_to_mean(self, luma: &Luma, a: Samples<'_>, b: Samples<'_>) -> u32 {
        let lines = luma.iter().enumerate();
        lines.map(|(y, line)| row_difference(line, &self.mean(a.row(y), b.row(y)))).sum()
    }

    #[inline(always)]
    fn mean(self, a: &Line, b: &Line) -> Line {
        std::array::from_fn(|x| ((u16::from(a[x]) + u16::from(b[x]) + 1) >> 1) as u8)
    }

    #[inline(always)]
    fn part(self, line: &Line) -> Line {
        std::array::from_fn(|i| line[i % 8 * 2 + i / 8])
    }

    #[inline(always)]
    fn join(self, line: &Line) -> Line {
        std::array::from_fn(|i| line[i % 2 * 8 + i / 2])
    }

    #[inline(always)]
    fn columns(self, from: Samples<'_>) -> [Line; 8] {
        let mut lines = [[0; 16]; 8];
        for y in 0..16 {
            for (line, v) in lines.iter_mut().zip(&from.from[y * from.stride..][..8]) {
                line[y] = *v;
            }
        }
        lines
    }

    #[inline(always)]
    fn put_columns(self, lines: &[Line; 8], to: &mut [u8], stride: usize) {
        for y in 0..16 {
            for (to, line) in to[y * stride..][..8].iter_mut().zip(lines) {
                *to = line[y];
            }
        }
    }
}

#[inline(always)]
pub fn row_difference(a: &Line, b: &Line) -> u32 {
    let mut sum = 0;
    for x in 0..16 {
        sum += u32::from(a[x].abs_diff(b[x]));
    }
    sum
}

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "aarch64")]
pub mod neon;
