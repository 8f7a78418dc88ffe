//! Macroblocks predicted from the picture before: motion compensation of chroma (clause 8.4.2.2),
//! levels and reconstruction.

use super::block::{self, Band, Quantiser};
use super::halves::{Halves, Motion, Place};
use super::picture::{Chroma, Luma, Macroblock};
use super::vector::{Line, Samples, Vector, Work};
use super::*;

/// What single levels of a macroblock must be worth together, and those of a quarter of it.
const MACROBLOCK_WORTH: u32 = 6;
const QUARTER_WORTH: u32 = 4;
/// The same of a plane of chroma.
const CHROMA_WORTH: u32 = 7;

/// The quantisers of a picture.
#[derive(Debug, Clone, Copy)]
pub struct Quantisers {
    pub luma: Quantiser,
    pub chroma: Quantiser,
}

impl Quantisers {
    pub fn new(qp: u32, intra: bool) -> Self {
        Self { luma: Quantiser::new(qp, intra), chroma: Quantiser::new(chroma_qp(qp), intra) }
    }
}

/// Predicts a macroblock at a motion.
pub struct Predict<'a> {
    pub halves: &'a mut Halves,
    pub place: Place<'a>,
    pub motion: Motion,
    pub to: &'a mut Macroblock,
}

impl<V: Vector> Work<V> for Predict<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self, v: V) {
        let Self { halves, place, motion, to } = self;
        if !halves.is_near(motion) {
            halves.begin(motion.floor());
        }
        halves.predict(v, &place, motion, &mut to.luma);
        to.chroma = predict_chroma(v, &place, motion);
    }
}

/// The prediction of chroma.
#[inline(always)]
fn predict_chroma(v: impl Vector, place: &Place<'_>, motion: Motion) -> Chroma {
    let Samples { from, stride } = place.chroma_at(motion);
    let (right, down) = ((motion.x & 7) as i16, (motion.y & 7) as i16);
    let line =
        |y: usize| -> &[u8; 18] { from[y * stride..].first_chunk().expect("a plane is padded") };
    let mut chroma = [[0; 16]; 8];
    if right == 0 && down == 0 {
        for (y, to) in chroma.iter_mut().enumerate() {
            *to = *parts(line(y)).0;
        }
        return chroma;
    }
    let (weights, down) = ([v.all(8 - right), v.all(right)], [v.all(8 - down), v.all(down)]);
    let mut above = between(v, parts(line(0)), weights);
    for (y, to) in chroma.iter_mut().enumerate() {
        let below = between(v, parts(line(y + 1)), weights);
        let sum = v.add(v.mul(above, down[0]), v.mul(below, down[1]));
        *to = v.narrow(v.half::<6>(v.add(sum, v.all(32))));
        above = below;
    }
    chroma
}

/// Sixteen samples, and those a pair further.
#[inline(always)]
fn parts(line: &[u8; 18]) -> (&Line, &Line) {
    let ([left @ .., _, _], [_, _, right @ ..]) = (line, line);
    (left, right)
}

#[inline(always)]
fn between<V: Vector>(v: V, (left, right): (&Line, &Line), weights: [V::Words; 2]) -> V::Words {
    v.add(v.mul(v.widen(left), weights[0]), v.mul(v.widen(right), weights[1]))
}

/// Codes a macroblock, `out` of which holds the prediction before and the reconstruction after.
/// Fills the masks of its record and the levels they tell of.
pub struct Code<'a> {
    pub given: &'a Macroblock,
    pub out: &'a mut Macroblock,
    pub q: &'a Quantisers,
    pub record: &'a mut [i16; RECORD],
}

impl<V: Vector> Work<V> for Code<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self, v: V) {
        code(v, self.given, self.out, self.q, self.record);
    }
}

#[inline(always)]
fn code(
    v: impl Vector,
    given: &Macroblock,
    out: &mut Macroblock,
    q: &Quantisers,
    record: &mut [i16; RECORD],
) {
    let mut d = coefficients(v, &given.luma, &out.luma);
    let mut used = 0;
    for (i, band) in d.iter_mut().enumerate() {
        used |= block::quantise(v, band, &q.luma) << (4 * i);
    }
    let mask = if used == 0 { 0 } else { keep_luma(v, &mut d, used, record) };
    if mask != 0 {
        d.iter_mut().for_each(|band| block::scale(v, band, &q.luma));
        add_luma(v, &d, &mut out.luma);
    }
    record[LUMA_MASK] = mask as u16 as i16;
    record[FIRST_MASK] = 0;
    code_chroma(v, given, out, q, record);
}

#[inline(always)]
pub fn coefficients(v: impl Vector, given: &Luma, predicted: &Luma) -> [Band; 4] {
    let (given, predicted) = (given.as_chunks().0, predicted.as_chunks().0);
    let mut d = [[[0; 16]; 4]; 4];
    for (band, (given, predicted)) in d.iter_mut().zip(given.iter().zip(predicted)) {
        *band = block::forward(v, given, predicted);
    }
    d
}

#[inline(always)]
pub fn add_luma(v: impl Vector, d: &[Band; 4], to: &mut Luma) {
    for (band, to) in d.iter().zip(to.as_chunks_mut().0) {
        block::restore(v, band, to);
    }
}

/// Room for the levels of a block, from a word of a record on.
#[inline(always)]
pub fn levels_of(record: &mut [i16; RECORD], at: usize) -> &mut [i16; 16] {
    record[at..].first_chunk_mut().expect("a record has all levels")
}

/// Writes the levels that are worth it, takes the others away, and gives a bit for each block in
/// coding order.
#[inline(always)]
fn keep_luma(v: impl Vector, d: &mut [Band; 4], used: u32, record: &mut [i16; RECORD]) -> u32 {
    let (mut mask, mut worth) = (0u32, [0; 4]);
    for coded in 0..16 {
        let block = usize::from(block::BLOCKS[coded]);
        if used >> block & 1 == 1 {
            let levels = levels_of(record, LUMA + 16 * coded);
            worth[coded / 4] += block::zigzag(v, &d[block / 4], block % 4, levels, 0);
            mask |= 1 << coded;
        }
    }
    for quarter in 0..4 {
        if !is_kept(&worth, quarter) {
            for coded in 4 * quarter..4 * quarter + 4 {
                if mask >> coded & 1 == 1 {
                    let block = usize::from(block::BLOCKS[coded]);
                    block::clear(&mut d[block / 4], block % 4);
                }
            }
            mask &= !(15 << (4 * quarter));
        }
    }
    mask
}

/// Whether the levels of a quarter are worth it.
#[inline(always)]
fn is_kept(worth: &[u32; 4], quarter: usize) -> bool {
    worth[quarter] >= QUARTER_WORTH && worth.iter().sum::<u32>() >= MACROBLOCK_WORTH
}

/// Whether [`Code`] would leave no levels.
pub struct IsNothing<'a> {
    pub given: &'a Macroblock,
    pub predicted: &'a Macroblock,
    pub q: &'a Quantisers,
}

impl<V: Vector> Work<V> for IsNothing<'_> {
    type Out = bool;

    #[inline(always)]
    fn run(self, v: V) -> bool {
        is_nothing(v, self.given, self.predicted, self.q)
    }
}

#[inline(always)]
fn is_nothing(v: impl Vector, given: &Macroblock, predicted: &Macroblock, q: &Quantisers) -> bool {
    let (mut worth, mut levels) = ([0; 4], [0; 16]);
    let bands = given.luma.as_chunks().0.iter().zip(predicted.luma.as_chunks().0);
    for (i, (given, predicted)) in bands.enumerate() {
        let mut d = block::forward(v, given, predicted);
        let mut used = block::quantise(v, &mut d, &q.luma);
        while used != 0 {
            let block = used.trailing_zeros() as usize & 3;
            used &= used - 1;
            worth[i / 2 * 2 + block / 2] += block::zigzag(v, &d, block, &mut levels, 0);
        }
        if (0..4).any(|quarter| is_kept(&worth, quarter)) {
            return false;
        }
    }
    is_nothing_of_chroma(v, given, predicted, q)
}

#[inline(always)]
fn is_nothing_of_chroma(
    v: impl Vector,
    given: &Macroblock,
    predicted: &Macroblock,
    q: &Quantisers,
) -> bool {
    let (theirs, ours) = (parted(v, &given.chroma), parted(v, &predicted.chroma));
    let ChromaLevels { d, first, used } = chroma_levels(v, &theirs, &ours, q);
    if first != [0; 8] {
        return false;
    }
    let mut levels = [0; 16];
    (0..2).all(|plane| {
        let worth = (4 * plane..4 * plane + 4).map(|coded| {
            let (band, block) = block::chroma_at(coded);
            match used >> (4 * band + block) & 1 {
                1 => block::zigzag(v, &d[band], block, &mut levels, 1),
                _ => 0,
            }
        });
        used == 0 || worth.sum::<u32>() < CHROMA_WORTH
    })
}

/// Lines of eight samples of Cb and eight of Cr.
#[inline(always)]
fn parted(v: impl Vector, chroma: &Chroma) -> Chroma {
    let mut lines = [[0; 16]; 8];
    for (to, line) in lines.iter_mut().zip(chroma) {
        *to = v.part(line);
    }
    lines
}

/// Levels of chroma.
struct ChromaLevels {
    d: [Band; 2],
    first: [i16; 8],
    /// The blocks that have some behind their first ones, a bit each.
    used: u32,
}

#[inline(always)]
fn chroma_levels(
    v: impl Vector,
    given: &Chroma,
    predicted: &Chroma,
    q: &Quantisers,
) -> ChromaLevels {
    let mut d = [[[0; 16]; 4]; 2];
    let lines = given.as_chunks().0.iter().zip(predicted.as_chunks().0);
    for (band, (given, predicted)) in d.iter_mut().zip(lines) {
        *band = block::forward(v, given, predicted);
    }
    let first = block::chroma_first(&mut d, &q.chroma);
    let mut used = 0;
    for (i, band) in d.iter_mut().enumerate() {
        used |= block::quantise(v, band, &q.chroma) << (4 * i);
    }
    ChromaLevels { d, first, used }
}

/// Codes chroma; `out` holds its prediction before and its reconstruction after.
#[inline(always)]
pub fn code_chroma(
    v: impl Vector,
    given: &Macroblock,
    out: &mut Macroblock,
    q: &Quantisers,
    record: &mut [i16; RECORD],
) {
    let mut predicted = parted(v, &out.chroma);
    let ChromaLevels { mut d, first, used } =
        chroma_levels(v, &parted(v, &given.chroma), &predicted, q);
    let mask = if used == 0 { 0 } else { keep_chroma(v, &mut d, used, record) };
    record[CHROMA_FIRST..][..8].copy_from_slice(&first);
    record[CHROMA_MASK] = mask as i16;
    for plane in 0..2 {
        let any = first[4 * plane..][..4].iter().any(|level| *level != 0);
        record[FIRST_MASK] |= i16::from(any) << (1 + plane);
    }
    if mask == 0 && first == [0; 8] {
        return;
    }
    d.iter_mut().for_each(|band| block::scale(v, band, &q.chroma));
    block::scale_chroma_first(&first, &mut d, &q.chroma);
    for (band, to) in d.iter().zip(predicted.as_chunks_mut().0) {
        block::restore(v, band, to);
    }
    for (to, row) in out.chroma.iter_mut().zip(&predicted) {
        *to = v.join(row);
    }
}

/// As for luma, of blocks without their first levels.
#[inline(always)]
fn keep_chroma(v: impl Vector, d: &mut [Band; 2], used: u32, record: &mut [i16; RECORD]) -> u32 {
    let mut mask = 0u32;
    for plane in 0..2 {
        let (mut worth, mut of_plane) = (0, 0);
        for coded in 4 * plane..4 * plane + 4 {
            let (band, block) = block::chroma_at(coded);
            if used >> (4 * band + block) & 1 == 1 {
                let levels = levels_of(record, CHROMA + 16 * coded);
                worth += block::zigzag(v, &d[band], block, levels, 1);
                of_plane |= 1 << coded;
            }
        }
        if worth >= CHROMA_WORTH {
            mask |= of_plane;
            continue;
        }
        for coded in 4 * plane..4 * plane + 4 {
            let (band, block) = block::chroma_at(coded);
            block::clear(&mut d[band], block);
        }
    }
    mask
}
