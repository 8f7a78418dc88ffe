//! Macroblocks predicted from their neighbours (clauses 8.3.3 and 8.3.4): the mode with the least
//! sum of absolute differences, the first of equal ones.

use super::block;
use super::inter::{Quantisers, add_luma, code_chroma, coefficients, levels_of};
use super::picture::{Macroblock, Size};
use super::vector::{Vector, Work, row_difference};
use super::*;

/// Modes of luma.
const DOWN: i16 = 0;
const ACROSS: i16 = 1;
const MEAN: i16 = 2;
const PLANE: i16 = 3;
/// Modes of chroma.
const CHROMA_MEAN: i16 = 0;
const CHROMA_ACROSS: i16 = 1;
const CHROMA_DOWN: i16 = 2;

/// The samples around a macroblock, where there are some.
struct Around {
    above: Option<[u8; 16]>,
    left: Option<[u8; 16]>,
    corner: u8,
    chroma_above: Option<[u8; 16]>,
    /// Cb and Cr by turns.
    chroma_left: Option<[u8; 16]>,
}

impl Around {
    #[inline(always)]
    fn new(picture: &[u8], size: &Size, column: usize, row: usize) -> Self {
        let stride = size.stride();
        let (luma, chroma) = (size.luma_at(column, row), size.chroma_at(column, row));
        let line = |at: usize| -> [u8; 16] { std::array::from_fn(|x| picture[at - stride + x]) };
        let is_corner = row > 0 && column > 0;
        let side = |plane: usize, i: usize| picture[chroma + i / 2 * stride - 2 + plane];
        Self {
            above: (row > 0).then(|| line(luma)),
            left: (column > 0).then(|| std::array::from_fn(|y| picture[luma + y * stride - 1])),
            corner: if is_corner { picture[luma - stride - 1] } else { 0 },
            chroma_above: (row > 0).then(|| line(chroma)),
            chroma_left: (column > 0).then(|| std::array::from_fn(|i| side(i % 2, i))),
        }
    }
}

/// Codes a macroblock of a picture whose neighbours before it are reconstructed; gives its own
/// reconstruction.
pub struct Code<'a> {
    pub given: &'a Macroblock,
    pub picture: &'a [u8],
    pub size: &'a Size,
    /// Column and row.
    pub at: [usize; 2],
    pub q: &'a Quantisers,
    pub record: &'a mut [i16; RECORD],
}

impl<V: Vector> Work<V> for Code<'_> {
    type Out = Macroblock;

    #[inline(always)]
    fn run(self, v: V) -> Macroblock {
        code(v, self.given, self.picture, self.size, self.at, self.q, self.record)
    }
}

#[inline(always)]
fn code(
    v: impl Vector,
    given: &Macroblock,
    picture: &[u8],
    size: &Size,
    [column, row]: [usize; 2],
    q: &Quantisers,
    record: &mut [i16; RECORD],
) -> Macroblock {
    let around = Around::new(picture, size, column, row);
    let (mode, luma) = predict(given, &around);
    let (chroma_mode, chroma) = predict_chroma(given, &around);
    record[KIND] = INTRA;
    record[LUMA_MODE] = mode;
    record[CHROMA_MODE] = chroma_mode;
    let mut out = Macroblock { luma, chroma };
    code_luma(v, given, &mut out, q, record);
    code_chroma(v, given, &mut out, q, record);
    out
}

#[inline(always)]
fn code_luma(
    v: impl Vector,
    given: &Macroblock,
    out: &mut Macroblock,
    q: &Quantisers,
    record: &mut [i16; RECORD],
) {
    let mut d = coefficients(v, &given.luma, &out.luma);
    let first = block::luma_first(&mut d, &q.luma);
    let mut used = 0;
    for (i, band) in d.iter_mut().enumerate() {
        used |= block::quantise(v, band, &q.luma) << (4 * i);
    }
    let mut mask = 0;
    for coded in 0..16 {
        let block = usize::from(block::BLOCKS[coded]);
        if used >> block & 1 == 1 {
            let levels = levels_of(record, LUMA + 16 * coded);
            v.zigzag(&d[block / 4], block % 4, levels);
            mask |= 1u32 << coded;
        }
    }
    record[LUMA_MASK] = mask as u16 as i16;
    for (to, from) in record[LUMA_FIRST..][..16].iter_mut().zip(block::ZIGZAG) {
        *to = first[usize::from(from)];
    }
    record[FIRST_MASK] = i16::from(first != [0; 16]);
    if mask != 0 || first != [0; 16] {
        d.iter_mut().for_each(|band| block::scale(v, band, &q.luma));
        block::scale_luma_first(&first, &mut d, &q.luma);
        add_luma(v, &d, &mut out.luma);
    }
}

#[inline(always)]
fn predict(given: &Macroblock, around: &Around) -> (i16, [[u8; 16]; 16]) {
    let mut best = (MEAN, [[mean(around); 16]; 16]);
    let mut least = difference(&given.luma, &best.1);
    let mut consider = |mode: i16, luma: [[u8; 16]; 16]| {
        let difference = difference(&given.luma, &luma);
        if difference < least {
            least = difference;
            best = (mode, luma);
        }
    };
    if let Some(above) = around.above {
        consider(DOWN, [above; 16]);
    }
    if let Some(left) = around.left {
        consider(ACROSS, left.map(|v| [v; 16]));
    }
    if let (Some(above), Some(left)) = (around.above, around.left) {
        consider(PLANE, plane(&above, &left, around.corner));
    }
    best
}

#[inline(always)]
fn difference(a: &[[u8; 16]; 16], b: &[[u8; 16]; 16]) -> u32 {
    a.iter().zip(b).map(|(a, b)| row_difference(a, b)).sum()
}

#[inline(always)]
fn mean(around: &Around) -> u8 {
    let sum = |line: &[u8; 16]| line.iter().map(|v| u32::from(*v)).sum::<u32>();
    match (&around.above, &around.left) {
        (Some(above), Some(left)) => ((sum(above) + sum(left) + 16) >> 5) as u8,
        (Some(line), None) | (None, Some(line)) => ((sum(line) + 8) >> 4) as u8,
        (None, None) => 128,
    }
}

#[inline(always)]
fn plane(above: &[u8; 16], left: &[u8; 16], corner: u8) -> [[u8; 16]; 16] {
    let slope = |line: &[u8; 16]| -> i32 {
        let at = |i: isize| if i < 0 { i32::from(corner) } else { i32::from(line[i as usize]) };
        (0..8).map(|i| (i as i32 + 1) * (at(8 + i) - at(6 - i))).sum()
    };
    let (b, c) = ((5 * slope(above) + 32) >> 6, (5 * slope(left) + 32) >> 6);
    let a = 16 * (i32::from(above[15]) + i32::from(left[15]));
    std::array::from_fn(|y| {
        std::array::from_fn(|x| {
            let v = a + b * (x as i32 - 7) + c * (y as i32 - 7) + 16;
            (v >> 5).clamp(0, 255) as u8
        })
    })
}

#[inline(always)]
fn predict_chroma(given: &Macroblock, around: &Around) -> (i16, [[u8; 16]; 8]) {
    let mut best = (CHROMA_MEAN, chroma_means(around));
    let difference = |chroma: &[[u8; 16]; 8]| -> u32 {
        given.chroma.iter().zip(chroma).map(|(a, b)| row_difference(a, b)).sum()
    };
    let mut least = difference(&best.1);
    let mut consider = |mode: i16, chroma: [[u8; 16]; 8]| {
        let difference = difference(&chroma);
        if difference < least {
            least = difference;
            best = (mode, chroma);
        }
    };
    if let Some(left) = around.chroma_left {
        let line = |y: usize| std::array::from_fn(|x| left[2 * y + x % 2]);
        consider(CHROMA_ACROSS, std::array::from_fn(line));
    }
    if let Some(above) = around.chroma_above {
        consider(CHROMA_DOWN, [above; 8]);
    }
    best
}

/// Means of the four corners (clause 8.3.4.1): those on the diagonal by both sides, the others by
/// the side that they touch.
#[inline(always)]
fn chroma_means(around: &Around) -> [[u8; 16]; 8] {
    let four = |line: &[u8; 16], half: usize, plane: usize| -> u32 {
        (0..4).map(|i| u32::from(line[8 * half + 2 * i + plane])).sum()
    };
    let mean = |right: usize, down: usize, plane: usize| -> u8 {
        let above = around.chroma_above.as_ref().map(|line| four(line, right, plane));
        let left = around.chroma_left.as_ref().map(|line| four(line, down, plane));
        let one = |sum: u32| ((sum + 2) >> 2) as u8;
        match (above, left) {
            (None, None) => 128,
            (Some(above), Some(_)) if (right, down) == (1, 0) => one(above),
            (Some(_), Some(left)) if (right, down) == (0, 1) => one(left),
            (Some(above), Some(left)) => ((above + left + 4) >> 3) as u8,
            (Some(sum), None) | (None, Some(sum)) => one(sum),
        }
    };
    let mut means = [[[0; 2]; 2]; 2];
    for (i, mean_of) in means.as_flattened_mut().as_flattened_mut().iter_mut().enumerate() {
        *mean_of = mean(i / 2 % 2, i / 4, i % 2);
    }
    std::array::from_fn(|y| std::array::from_fn(|x| means[y / 4][x / 8][x % 2]))
}
