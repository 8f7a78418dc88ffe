//! The filter along edges of blocks (clause 8.7), of a picture with one quantiser: macroblock by
//! macroblock, row by row, edges down before edges across.

use super::picture::{SIDE, Size};
use super::search::Found;
use super::*;

/// Sixteen samples along an edge. For chroma they are Cb and Cr by turns.
type Line = [u8; 16];

/// The thresholds of one quantiser.
#[derive(Debug, Clone, Copy)]
struct Thresholds {
    alpha: i16,
    beta: i16,
    /// For strengths 1, 2 and 3.
    most: [i16; 3],
}

impl Thresholds {
    fn new(qp: u32) -> Self {
        let at = qp.min(51) as usize;
        let most = MOST[at].map(i16::from);
        Self { alpha: ALPHA[at].into(), beta: BETA[at].into(), most }
    }
}

/// Strengths along an edge, four samples each.
type Strengths = [u8; 4];

/// The whole picture.
#[inline(always)]
pub fn picture(picture: &mut [u8], levels: &[u8], field: &[u8], size: &Size, coding: Coding) {
    let luma = Thresholds::new(coding.qp);
    let chroma = Thresholds::new(chroma_qp(coding.qp));
    if luma.alpha == 0 && chroma.alpha == 0 {
        return;
    }
    for row in 0..size.rows {
        for column in 0..size.columns {
            macroblock(picture, levels, field, size, [column, row], [&luma, &chroma]);
        }
    }
}

/// One macroblock. Those before it, row by row, are done.
#[inline(always)]
fn macroblock(
    picture: &mut [u8],
    levels: &[u8],
    field: &[u8],
    size: &Size,
    [column, row]: [usize; 2],
    [luma, chroma]: [&Thresholds; 2],
) {
    let stride = size.stride();
    let at = SIDE * (row * stride + column);
    let chroma_at = size.chroma() + 8 * row * stride + SIDE * column;
    let own = row * size.columns + column;
    let sides = Sides { levels, field };
    for edge in (0..4).filter(|edge| *edge > 0 || column > 0) {
        let strengths = sides.strengths(own, own.wrapping_sub(1), edge, 1);
        if strengths != [0; 4] {
            down(picture, at + 4 * edge, stride, &strengths, luma);
            if edge % 2 == 0 {
                chroma_down(picture, chroma_at + 4 * edge, stride, &strengths, chroma);
            }
        }
    }
    for edge in (0..4).filter(|edge| *edge > 0 || row > 0) {
        let strengths = sides.strengths(own, own.wrapping_sub(size.columns), edge, 4);
        if strengths != [0; 4] {
            across(picture, at + 4 * edge * stride, stride, &strengths, luma);
            if edge % 2 == 0 {
                let chroma_at = chroma_at + 2 * edge * stride;
                chroma_across(picture, chroma_at, stride, &strengths, chroma);
            }
        }
    }
}

struct Sides<'a> {
    levels: &'a [u8],
    field: &'a [u8],
}

impl Sides<'_> {
    /// The blocks of luma that have levels, a bit each, row by row.
    #[inline(always)]
    fn used(&self, macroblock: usize) -> u32 {
        let at = RECORD_BYTES * macroblock + 2 * LUMA_MASK;
        let coded = u32::from(u16::from_le_bytes([self.levels[at], self.levels[at + 1]]));
        match coded {
            0 | 0xFFFF => coded,
            // Blocks two and three of each half change places with those after them.
            _ => (coded & 0xC3C3) | (coded & 0x0C0C) << 2 | (coded & 0x3030) >> 2,
        }
    }

    /// The strengths of an edge (clause 8.7.2.1). Blocks along it are `4 / across` apart, those
    /// to its other side `across`.
    #[inline(always)]
    fn strengths(&self, own: usize, other: usize, edge: usize, across: usize) -> Strengths {
        let here = Found::of(self.field, own);
        let there = if edge == 0 { Found::of(self.field, other) } else { here };
        if here.intra || there.intra {
            return [if edge == 0 { 4 } else { 3 }; 4];
        }
        let used = self.used(own);
        let (mine, theirs) = match edge {
            0 => (used, self.used(other) >> (3 * across)),
            _ => (used >> (edge * across), used >> ((edge - 1) * across)),
        };
        let (a, b) = (here.motion, there.motion);
        let moved = u8::from((a.x - b.x).abs() >= 4 || (a.y - b.y).abs() >= 4);
        let any = mine | theirs;
        let mut strengths = [moved; 4];
        for (i, strength) in strengths.iter_mut().enumerate() {
            if any >> (i * (4 / across)) & 1 == 1 {
                *strength = 2;
            }
        }
        strengths
    }
}

#[inline(always)]
fn across(picture: &mut [u8], at: usize, stride: usize, strengths: &Strengths, t: &Thresholds) {
    let mut lines: [Line; 8] = [[0; 16]; 8];
    for (i, line) in lines.iter_mut().enumerate() {
        line.copy_from_slice(&picture[at + i * stride - 4 * stride..][..16]);
    }
    luma(&mut lines, strengths, t);
    for (i, line) in lines.iter().enumerate().take(7).skip(1) {
        picture[at + i * stride - 4 * stride..][..16].copy_from_slice(line);
    }
}

#[inline(always)]
fn down(picture: &mut [u8], at: usize, stride: usize, strengths: &Strengths, t: &Thresholds) {
    let mut lines: [Line; 8] = [[0; 16]; 8];
    for y in 0..16 {
        let from: &[u8; 8] = picture[at + y * stride - 4..].first_chunk().expect("inside");
        for (line, v) in lines.iter_mut().zip(from) {
            line[y] = *v;
        }
    }
    luma(&mut lines, strengths, t);
    for y in 0..16 {
        for (to, line) in picture[at + y * stride - 4..][..8].iter_mut().zip(&lines) {
            *to = line[y];
        }
    }
}

#[inline(always)]
fn chroma_across(
    picture: &mut [u8],
    at: usize,
    stride: usize,
    strengths: &Strengths,
    t: &Thresholds,
) {
    let mut lines: [Line; 4] = [[0; 16]; 4];
    for (i, line) in lines.iter_mut().enumerate() {
        line.copy_from_slice(&picture[at + i * stride - 2 * stride..][..16]);
    }
    chroma(&mut lines, strengths, t);
    for i in 1..3 {
        picture[at + i * stride - 2 * stride..][..16].copy_from_slice(&lines[i]);
    }
}

#[inline(always)]
fn chroma_down(
    picture: &mut [u8],
    at: usize,
    stride: usize,
    strengths: &Strengths,
    t: &Thresholds,
) {
    let place = |i: usize, line: usize| at + i / 2 * stride + 2 * line + i % 2 - 4;
    let mut lines: [Line; 4] = [[0; 16]; 4];
    for (number, line) in lines.iter_mut().enumerate() {
        (0..16).for_each(|i| line[i] = picture[place(i, number)]);
    }
    chroma(&mut lines, strengths, t);
    for line in 1..3 {
        for (i, v) in lines[line].iter().enumerate() {
            picture[place(i, line)] = *v;
        }
    }
}

/// Lines p3, p2, p1, p0, q0, q1, q2, q3 of luma.
#[inline(always)]
fn luma(lines: &mut [Line; 8], strengths: &Strengths, t: &Thresholds) {
    if strengths[0] == 4 {
        for i in 0..16 {
            let v = luma_strong(at(lines, i), t);
            (0..8).for_each(|k| lines[k][i] = v[k] as u8);
        }
        return;
    }
    let mut most = [-1; 16];
    for (i, most) in most.iter_mut().enumerate() {
        if strengths[i / 4] > 0 {
            *most = t.most[usize::from(strengths[i / 4]) - 1];
        }
    }
    for i in 0..16 {
        let v = luma_normal(at(lines, i), most[i], t);
        for k in 2..6 {
            lines[k][i] = v[k - 2] as u8;
        }
    }
}

#[inline(always)]
fn at(lines: &[Line; 8], i: usize) -> [i16; 8] {
    let v = |k: usize| i16::from(lines[k][i]);
    [v(0), v(1), v(2), v(3), v(4), v(5), v(6), v(7)]
}

#[inline(always)]
fn is_edge(p1: i16, p0: i16, q0: i16, q1: i16, t: &Thresholds) -> bool {
    ((p0 - q0).abs() < t.alpha) & ((p1 - p0).abs() < t.beta) & ((q1 - q0).abs() < t.beta)
}

/// p1, p0, q0, q1 after the filter of strengths below 4; nothing where `most` is negative.
#[inline(always)]
fn luma_normal(v: [i16; 8], most: i16, t: &Thresholds) -> [i16; 4] {
    let [_, p2, p1, p0, q0, q1, q2, _] = v;
    let on = is_edge(p1, p0, q0, q1, t) & (most >= 0);
    let (ap, aq) = ((p2 - p0).abs() < t.beta, (q2 - q0).abs() < t.beta);
    let bound = most.max(0);
    let c = bound + i16::from(ap) + i16::from(aq);
    let step = ((4 * (q0 - p0) + (p1 - q1) + 4) >> 3).max(-c).min(c);
    let mean = (p0 + q0 + 1) >> 1;
    let side = |p2: i16, p1: i16| ((p2 + mean - 2 * p1) >> 1).max(-bound).min(bound);
    [
        if on & ap { p1 + side(p2, p1) } else { p1 },
        if on { (p0 + step).clamp(0, 255) } else { p0 },
        if on { (q0 - step).clamp(0, 255) } else { q0 },
        if on & aq { q1 + side(q2, q1) } else { q1 },
    ]
}

#[inline(always)]
fn luma_strong(v: [i16; 8], t: &Thresholds) -> [i16; 8] {
    let [p3, p2, p1, p0, q0, q1, q2, q3] = v;
    if !is_edge(p1, p0, q0, q1, t) {
        return v;
    }
    let near = (p0 - q0).abs() < (t.alpha >> 2) + 2;
    let side = |p3: i16, p2: i16, p1: i16, p0: i16, q0: i16, q1: i16| {
        if near && (p2 - p0).abs() < t.beta {
            [
                (2 * p3 + 3 * p2 + p1 + p0 + q0 + 4) >> 3,
                (p2 + p1 + p0 + q0 + 2) >> 2,
                (p2 + 2 * p1 + 2 * p0 + 2 * q0 + q1 + 4) >> 3,
            ]
        } else {
            [p2, p1, (2 * p1 + p0 + q1 + 2) >> 2]
        }
    };
    let [a2, a1, a0] = side(p3, p2, p1, p0, q0, q1);
    let [b2, b1, b0] = side(q3, q2, q1, q0, p0, p1);
    [p3, a2, a1, a0, b0, b1, b2, q3]
}

/// Lines p1, p0, q0, q1 of chroma.
#[inline(always)]
fn chroma(lines: &mut [Line; 4], strengths: &Strengths, t: &Thresholds) {
    let mut most = [-1; 16];
    for (i, most) in most.iter_mut().enumerate() {
        *most = match strengths[i / 4] {
            0 => -1,
            4 => 0,
            s => t.most[usize::from(s) - 1] + 1,
        };
    }
    let is_strong = strengths[0] == 4;
    for i in 0..16 {
        let v = |k: usize| i16::from(lines[k][i]);
        let (p1, p0, q0, q1) = (v(0), v(1), v(2), v(3));
        let on = is_edge(p1, p0, q0, q1, t) & (most[i] >= 0);
        let c = most[i].max(0);
        let step = ((4 * (q0 - p0) + (p1 - q1) + 4) >> 3).max(-c).min(c);
        let (p, q) = match is_strong {
            true => ((2 * p1 + p0 + q1 + 2) >> 2, (2 * q1 + q0 + p1 + 2) >> 2),
            false => ((p0 + step).clamp(0, 255), (q0 - step).clamp(0, 255)),
        };
        lines[1][i] = if on { p as u8 } else { p0 as u8 };
        lines[2][i] = if on { q as u8 } else { q0 as u8 };
    }
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
