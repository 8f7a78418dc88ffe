//! The filter along edges of blocks (clause 8.7), of a picture with one quantiser: macroblock by
//! macroblock, row by row, edges down before edges across.

use super::picture::Size;
use super::search::Found;
use super::vector::{Line, Samples, Vector, Work};
use super::*;

/// The thresholds of one quantiser.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thresholds {
    alpha: i16,
    beta: i16,
    /// For strengths 1, 2 and 3.
    most: [i16; 3],
}

impl Thresholds {
    pub fn new(qp: u32) -> Self {
        let at = qp.min(51) as usize;
        let most = MOST[at].map(i16::from);
        Self { alpha: ALPHA[at].into(), beta: BETA[at].into(), most }
    }

    /// Both thresholds and the bounds.
    pub fn numbers(&self) -> [i32; 5] {
        let [one, two, three] = self.most;
        [self.alpha, self.beta, one, two, three].map(i32::from)
    }
}

/// The strengths of an edge (clause 8.7.2.1), for four samples each.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Edge {
    /// Where it is 2, a bit each.
    two: u32,
    /// What it is elsewhere: 0 or 1 between macroblocks that moved, 3 or 4 everywhere at others.
    other: usize,
}

impl Edge {
    const NONE: Self = Self { two: 0, other: 0 };

    /// Between two macroblocks; in the bits of `two` one of them has levels.
    #[inline(always)]
    fn between(own: &Found, there: &Found, two: u32) -> Self {
        if own.intra || there.intra {
            return Self { two: 0, other: 4 };
        }
        let (a, b) = (own.motion, there.motion);
        let is_apart = (a.x - b.x).abs() >= 4 || (a.y - b.y).abs() >= 4;
        Self { two, other: usize::from(is_apart) }
    }

    /// Within a macroblock.
    #[inline(always)]
    fn within(own: &Found, two: u32) -> Self {
        if own.intra { Self { two: 0, other: 3 } } else { Self { two, other: 0 } }
    }
}

/// The bits of one column of blocks.
#[inline(always)]
fn column_of(blocks: u32, column: usize) -> u32 {
    let bits = blocks >> column & 0x1111;
    (bits | bits >> 3 | bits >> 6 | bits >> 9) & 15
}

/// A row of macroblocks. Those above it are done, and those below it are not predicted from it any
/// more.
#[inline(always)]
pub fn row(
    v: impl Vector,
    picture: &mut [u8],
    field: &[u8],
    size: &Size,
    row: usize,
    coding: Coding,
) {
    let luma = Thresholds::new(coding.qp);
    let chroma = Thresholds::new(chroma_qp(coding.qp));
    if luma.alpha == 0 && chroma.alpha == 0 {
        return;
    }
    for column in 0..size.columns {
        macroblock(v, picture, field, size, [column, row], [&luma, &chroma]);
    }
}

/// One macroblock. Those before it, row by row, are done, or at least those to the left, above and
/// at the right of that.
#[inline(always)]
pub(super) fn macroblock(
    v: impl Vector,
    picture: &mut [u8],
    field: &[u8],
    size: &Size,
    [column, row]: [usize; 2],
    [luma, chroma]: [&Thresholds; 2],
) {
    let stride = size.stride();
    let (at, chroma_at) = (size.luma_at(column, row), size.chroma_at(column, row));
    let place = row * size.columns + column;
    let own = Found::of(field, place);
    let used = u32::from(own.used);
    // Without levels there is nothing to filter inside.
    let inner = if used == 0 && !own.intra { 1 } else { 4 };
    let beside = used | used << 1;
    for number in 0..inner {
        let edge = match number {
            0 if column == 0 => Edge::NONE,
            0 => {
                let left = Found::of(field, place - 1);
                Edge::between(&own, &left, column_of(used | u32::from(left.used) >> 3, 0))
            }
            _ => Edge::within(&own, column_of(beside, number)),
        };
        if edge != Edge::NONE {
            let at = at + 4 * number;
            v.call(Filter::<true, true> { picture, at, stride, edge, t: luma });
            if number % 2 == 0 {
                let at = chroma_at + 4 * number;
                v.call(Filter::<true, false> { picture, at, stride, edge, t: chroma });
            }
        }
    }
    let beside = used | used << 4;
    for number in 0..inner {
        let edge = match number {
            0 if row == 0 => Edge::NONE,
            0 => {
                let above = Found::of(field, place - size.columns);
                Edge::between(&own, &above, (used | u32::from(above.used) >> 12) & 15)
            }
            _ => Edge::within(&own, beside >> (4 * number) & 15),
        };
        if edge != Edge::NONE {
            let at = at + 4 * number * stride;
            v.call(Filter::<false, true> { picture, at, stride, edge, t: luma });
            if number % 2 == 0 {
                let at = chroma_at + 2 * number * stride;
                v.call(Filter::<false, false> { picture, at, stride, edge, t: chroma });
            }
        }
    }
}

/// One edge, down or across, of luma or chroma; `at` is the first sample behind it.
struct Filter<'a, const IS_DOWN: bool, const IS_LUMA: bool> {
    picture: &'a mut [u8],
    at: usize,
    stride: usize,
    edge: Edge,
    t: &'a Thresholds,
}

impl<V: Vector, const IS_DOWN: bool, const IS_LUMA: bool> Work<V> for Filter<'_, IS_DOWN, IS_LUMA> {
    type Out = ();

    #[inline(always)]
    fn run(self, v: V) {
        let Self { picture, at, stride, edge, t } = self;
        match (IS_DOWN, IS_LUMA) {
            (true, true) => down(v, &mut picture[at - 4..], stride, edge, t),
            (true, false) => chroma_down(v, &mut picture[at - 4..], stride, edge, t),
            (false, true) => across(v, picture, at, stride, edge, t),
            (false, false) => chroma_across(v, picture, at, stride, edge, t),
        }
    }
}

#[inline(always)]
fn across(
    v: impl Vector,
    picture: &mut [u8],
    at: usize,
    stride: usize,
    edge: Edge,
    t: &Thresholds,
) {
    let mut lines: [Line; 8] = [[0; 16]; 8];
    for (i, line) in lines.iter_mut().enumerate() {
        line.copy_from_slice(&picture[at + i * stride - 4 * stride..][..16]);
    }
    if !luma(v, &mut lines, edge, t) {
        return;
    }
    for (i, line) in lines.iter().enumerate().take(7).skip(1) {
        picture[at + i * stride - 4 * stride..][..16].copy_from_slice(line);
    }
}

/// `from` begins four samples before the edge.
#[inline(always)]
fn down(v: impl Vector, from: &mut [u8], stride: usize, edge: Edge, t: &Thresholds) {
    let mut lines = v.columns(Samples { from, stride });
    if luma(v, &mut lines, edge, t) {
        v.put_columns(&lines, from, stride);
    }
}

#[inline(always)]
fn chroma_across(
    v: impl Vector,
    picture: &mut [u8],
    at: usize,
    stride: usize,
    edge: Edge,
    t: &Thresholds,
) {
    let mut lines: [Line; 4] = [[0; 16]; 4];
    for (i, line) in lines.iter_mut().enumerate() {
        line.copy_from_slice(&picture[at + i * stride - 2 * stride..][..16]);
    }
    if !chroma(v, &mut lines, edge, t) {
        return;
    }
    for i in 1..3 {
        picture[at + i * stride - 2 * stride..][..16].copy_from_slice(&lines[i]);
    }
}

/// `from` begins two pairs before the edge. Lines down are p1 of Cb and of Cr, then p0, q0, q1,
/// eight samples each.
#[inline(always)]
fn chroma_down(v: impl Vector, from: &mut [u8], stride: usize, edge: Edge, t: &Thresholds) {
    // Eight rows are all that is needed; the others are read twice and not put back.
    let mut rows = [0; 16 * 8];
    for (y, row) in rows.as_chunks_mut::<8>().0.iter_mut().enumerate().take(8) {
        row.copy_from_slice(&from[y * stride..][..8]);
    }
    let mut down = v.columns(Samples { from: &rows, stride: 8 });
    let mut lines: [Line; 4] = [[0; 16]; 4];
    for (line, pair) in lines.iter_mut().zip(down.as_chunks::<2>().0) {
        line[..8].copy_from_slice(&pair[0][..8]);
        line[8..].copy_from_slice(&pair[1][..8]);
        *line = v.join(line);
    }
    if !chroma(v, &mut lines, edge, t) {
        return;
    }
    for (line, pair) in lines.iter().zip(down.as_chunks_mut::<2>().0) {
        let parted = v.part(line);
        pair[0][..8].copy_from_slice(&parted[..8]);
        pair[1][..8].copy_from_slice(&parted[8..]);
    }
    v.put_columns(&down, &mut rows, 8);
    for (y, row) in rows.as_chunks::<8>().0.iter().enumerate().take(8) {
        from[y * stride..][..8].copy_from_slice(row);
    }
}

/// Thresholds in all lanes.
struct Wide<V: Vector> {
    alpha: V::Words,
    beta: V::Words,
}

impl<V: Vector> Wide<V> {
    #[inline(always)]
    fn new(v: V, t: &Thresholds) -> Self {
        Self { alpha: v.all(t.alpha), beta: v.all(t.beta) }
    }

    #[inline(always)]
    fn is_near(&self, v: V, a: V::Words, b: V::Words) -> V::Words {
        v.less(v.abs(v.sub(a, b)), self.beta)
    }

    #[inline(always)]
    fn is_edge(&self, v: V, [p1, p0, q0, q1]: [V::Words; 4]) -> V::Words {
        let is_step = v.less(v.abs(v.sub(p0, q0)), self.alpha);
        v.and(is_step, v.and(self.is_near(v, p1, p0), self.is_near(v, q1, q0)))
    }
}

/// The bounds of a filter of strengths below 4, by four samples; -1 where there is none.
#[inline(always)]
fn bounds<V: Vector>(v: V, edge: Edge, t: &Thresholds, more: i16) -> V::Words {
    const BITS: [i16; 16] = [1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8];
    let other = match edge.other {
        0 => -1,
        strength => t.most[strength - 1] + more,
    };
    let is_two = v.less(v.all(0), v.and(v.all(edge.two as i16), v.load(&BITS)));
    v.select(is_two, v.all(t.most[1] + more), v.all(other))
}

/// By how much the samples at an edge move towards each other.
#[inline(always)]
fn step<V: Vector>(v: V, [p1, p0, q0, q1]: [V::Words; 4], bound: V::Words) -> V::Words {
    let apart = v.sub(q0, p0);
    let four = v.add(v.add(apart, apart), v.add(apart, apart));
    let step = v.half::<3>(v.add(v.add(four, v.sub(p1, q1)), v.all(4)));
    v.min(v.max(step, v.sub(v.all(0), bound)), bound)
}

/// Lines p3, p2, p1, p0, q0, q1, q2, q3 of luma. Says whether any sample changed.
#[inline(always)]
fn luma(v: impl Vector, lines: &mut [Line; 8], edge: Edge, t: &Thresholds) -> bool {
    let wide = Wide::new(v, t);
    let at = |k: usize| v.widen(&lines[k]);
    let [p3, p2, p1, p0] = [at(0), at(1), at(2), at(3)];
    let [q0, q1, q2, q3] = [at(4), at(5), at(6), at(7)];
    let mut on = wide.is_edge(v, [p1, p0, q0, q1]);
    if edge.other == 4 {
        if !v.any(on) {
            return false;
        }
        let quarter = v.all((t.alpha >> 2) + 2);
        let near = v.and(on, v.less(v.abs(v.sub(p0, q0)), quarter));
        let left = strong(v, &wide, near, [p3, p2, p1, p0, q0, q1]);
        let right = strong(v, &wide, near, [q3, q2, q1, q0, p0, p1]);
        for (k, (new, old)) in left.into_iter().zip([p2, p1, p0]).enumerate() {
            lines[k + 1] = v.narrow(v.select(on, new, old));
        }
        for (k, (new, old)) in right.into_iter().zip([q2, q1, q0]).enumerate() {
            lines[6 - k] = v.narrow(v.select(on, new, old));
        }
        return true;
    }
    let most = bounds(v, edge, t, 0);
    on = v.and(on, v.less(v.all(-1), most));
    if !v.any(on) {
        return false;
    }
    let bound = v.max(most, v.all(0));
    let (near_p, near_q) = (wide.is_near(v, p2, p0), wide.is_near(v, q2, q0));
    // A mask is -1.
    let step = v.and(on, step(v, [p1, p0, q0, q1], v.sub(v.sub(bound, near_p), near_q)));
    let mean = v.half::<1>(v.add(v.add(p0, q0), v.all(1)));
    let side = |two, one| {
        let way = v.half::<1>(v.sub(v.add(two, mean), v.add(one, one)));
        v.min(v.max(way, v.sub(v.all(0), bound)), bound)
    };
    lines[2] = v.narrow(v.add(p1, v.and(v.and(on, near_p), side(p2, p1))));
    lines[3] = v.narrow(v.add(p0, step));
    lines[4] = v.narrow(v.sub(q0, step));
    lines[5] = v.narrow(v.add(q1, v.and(v.and(on, near_q), side(q2, q1))));
    true
}

/// p2, p1, p0 after the strongest filter: of three samples, or where it is smooth of more.
#[inline(always)]
fn strong<V: Vector>(
    v: V,
    wide: &Wide<V>,
    near: V::Words,
    [p3, p2, p1, p0, q0, q1]: [V::Words; 6],
) -> [V::Words; 3] {
    let smooth = v.and(near, wide.is_near(v, p2, p0));
    let (two, four) = (v.all(2), v.all(4));
    let inner = v.add(p0, q0);
    let three = v.add(p1, inner);
    let outer = v.add(v.add(v.add(p3, p3), v.add(v.add(p2, p2), p2)), v.add(three, four));
    let middle = v.add(v.add(p2, three), two);
    let edge = v.add(v.add(p2, v.add(three, three)), v.add(q1, four));
    let short = v.add(v.add(v.add(p1, p1), v.add(p0, q1)), two);
    [
        v.select(smooth, v.half::<3>(outer), p2),
        v.select(smooth, v.half::<2>(middle), p1),
        v.select(smooth, v.half::<3>(edge), v.half::<2>(short)),
    ]
}

/// Lines p1, p0, q0, q1 of chroma. Says whether any sample changed.
#[inline(always)]
fn chroma(v: impl Vector, lines: &mut [Line; 4], edge: Edge, t: &Thresholds) -> bool {
    let wide = Wide::new(v, t);
    let at = |k: usize| v.widen(&lines[k]);
    let [p1, p0, q0, q1] = [at(0), at(1), at(2), at(3)];
    let mut on = wide.is_edge(v, [p1, p0, q0, q1]);
    let (p, q) = if edge.other == 4 {
        let short = |one, zero, other| {
            v.half::<2>(v.add(v.add(v.add(one, one), v.add(zero, other)), v.all(2)))
        };
        (short(p1, p0, q1), short(q1, q0, p1))
    } else {
        let most = bounds(v, edge, t, 1);
        on = v.and(on, v.less(v.all(-1), most));
        let step = step(v, [p1, p0, q0, q1], v.max(most, v.all(0)));
        (v.add(p0, step), v.sub(q0, step))
    };
    if !v.any(on) {
        return false;
    }
    lines[1] = v.narrow(v.select(on, p, p0));
    lines[2] = v.narrow(v.select(on, q, q0));
    true
}

/// Tables 8-16 and 8-17.
const ALPHA: [u8; 52] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 5, 6, 7, 8, 9, 10, 12, 13, 15, 17, 20,
    22, 25, 28, 32, 36, 40, 45, 50, 56, 63, 71, 80, 90, 101, 113, 127, 144, 162, 182, 203, 226,
    255, 255,
];
const BETA: [u8; 52] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 6, 6, 7, 7, 8, 8,
    9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 16, 16, 17, 17, 18, 18,
];
const MOST: [[u8; 3]; 52] = most();

const fn most() -> [[u8; 3]; 52] {
    // The index before which each holds.
    const STEPS: [(usize, [u8; 3]); 23] = [
        (17, [0, 0, 0]),
        (21, [0, 0, 1]),
        (23, [0, 1, 1]),
        (27, [1, 1, 1]),
        (31, [1, 1, 2]),
        (33, [1, 2, 3]),
        (34, [2, 2, 3]),
        (35, [2, 2, 4]),
        (37, [2, 3, 4]),
        (38, [3, 3, 5]),
        (40, [3, 4, 6]),
        (41, [4, 5, 7]),
        (42, [4, 5, 8]),
        (43, [4, 6, 9]),
        (44, [5, 7, 10]),
        (45, [6, 8, 11]),
        (46, [6, 8, 13]),
        (47, [7, 10, 14]),
        (48, [8, 11, 16]),
        (49, [9, 12, 18]),
        (50, [10, 13, 20]),
        (51, [11, 15, 23]),
        (52, [13, 17, 25]),
    ];
    let (mut most, mut step, mut at) = ([[0; 3]; 52], 0, 0);
    while at < 52 {
        while at >= STEPS[step].0 {
            step += 1;
        }
        most[at] = STEPS[step].1;
        at += 1;
    }
    most
}
