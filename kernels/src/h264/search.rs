//! Motion search in three rounds, each over all macroblocks at once: none waits for a neighbour.
//!
//! Places cost the sum of absolute differences, and what their way from the expected place takes
//! as bits. The first round walks from the motion that the picture before had near here, by whole
//! samples. The second walks on from what the first found near here, then by halves and quarters.
//! The third takes a neighbour's motion where that is cheaper, expects what the decoder will, and
//! decides for prediction from neighbours where that looks better in the frame itself.

use super::picture::{PAD, SIDE, Size, luma_of_frame};
use super::{MOTION_BYTES, bit_cost};

/// Samples that a block may lie outside the picture.
const OUTSIDE: i32 = 24;
/// Longest motion, in quarter samples: what every level allows, but for the smallest width.
const ACROSS_MAX: i32 = 2000;
const DOWN_MAX: i32 = 240;
/// Steps of a walk.
const WALK_MAX: u32 = 16;
/// Bits that an intra macroblock seems to cost more than another.
const INTRA_BITS: u32 = 12;
/// Bits that a macroblock with the motion that is expected saves.
const SKIP_BITS: u32 = 2;
/// Differences up to which nothing better is looked for.
const ENOUGH: u32 = 256;

/// A motion, in quarter samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Motion {
    pub x: i32,
    pub y: i32,
}

impl Motion {
    #[inline(always)]
    fn plus(self, x: i32, y: i32) -> Self {
        Self { x: self.x + x, y: self.y + y }
    }

    /// By whole samples.
    #[inline(always)]
    fn rounded(self) -> Self {
        Self { x: (self.x + 2) >> 2 << 2, y: (self.y + 2) >> 2 << 2 }
    }
}

/// What a motion record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub motion: Motion,
    pub cost: u32,
    pub intra: bool,
}

impl Found {
    #[inline(always)]
    pub fn of(field: &[u8], at: usize) -> Self {
        let word = |i: usize| {
            let at = MOTION_BYTES * at + 2 * i;
            u16::from_le_bytes([field[at], field[at + 1]])
        };
        let motion = Motion { x: i32::from(word(0) as i16), y: i32::from(word(1) as i16) };
        Self { motion, cost: u32::from(word(2)), intra: word(3) != 0 }
    }

    #[inline(always)]
    pub fn encode(&self) -> [u8; MOTION_BYTES] {
        let [x0, x1] = (self.motion.x as i16).to_le_bytes();
        let [y0, y1] = (self.motion.y as i16).to_le_bytes();
        let [c0, c1] = (self.cost.min(0xFFFF) as u16).to_le_bytes();
        [x0, x1, y0, y1, c0, c1, u8::from(self.intra), 0]
    }
}

/// What a round sees.
#[derive(Clone, Copy)]
pub struct Round<'a> {
    pub frame: &'a [u8],
    pub reference: &'a [u8],
    /// What the round before found; for the first, what the picture before had.
    pub field: &'a [u8],
    pub size: &'a Size,
    pub qp: u32,
}

/// Which planes a prediction is the mean of, by quarters down and across: plane, one to the right,
/// one down, of each. Planes are as in the reference: full, right, below, both.
pub const MEANS: [[u8; 6]; 16] = [
    [0, 0, 0, 0, 0, 0],
    [0, 0, 0, 1, 0, 0],
    [1, 0, 0, 1, 0, 0],
    [1, 0, 0, 0, 1, 0],
    [0, 0, 0, 2, 0, 0],
    [1, 0, 0, 2, 0, 0],
    [1, 0, 0, 3, 0, 0],
    [1, 0, 0, 2, 1, 0],
    [2, 0, 0, 2, 0, 0],
    [2, 0, 0, 3, 0, 0],
    [3, 0, 0, 3, 0, 0],
    [3, 0, 0, 2, 1, 0],
    [2, 0, 0, 0, 0, 1],
    [2, 0, 0, 1, 0, 1],
    [3, 0, 0, 1, 0, 1],
    [2, 1, 0, 1, 0, 1],
];

/// Where in the reference the two halves of a prediction begin.
#[inline(always)]
pub fn places(size: &Size, column: usize, row: usize, motion: Motion) -> [usize; 2] {
    let x = (SIDE * column + PAD) as i32 + (motion.x >> 2);
    let y = (SIDE * row + PAD) as i32 + (motion.y >> 2);
    let means = &MEANS[(4 * (motion.y & 3) + (motion.x & 3)) as usize];
    let (stride, wide) = (size.reference_stride(), size.plane_stride());
    let at = y as usize * stride + x as usize;
    let [a, right_a, down_a, b, right_b, down_b] = *means;
    let place = |plane: u8, right: u8, down: u8| {
        at + usize::from(plane) * wide + usize::from(right) + usize::from(down) * stride
    };
    [place(a, right_a, down_a), place(b, right_b, down_b)]
}

#[inline(always)]
fn sixteen(from: &[u8], at: usize) -> &[u8; 16] {
    from[at..].first_chunk().expect("a reference is padded")
}

/// One macroblock of a round.
struct Search<'a> {
    round: Round<'a>,
    column: usize,
    row: usize,
    luma: [[u8; 16]; 16],
    least: Motion,
    most: Motion,
    expected: Motion,
    bit: u32,
}

impl<'a> Search<'a> {
    #[inline(always)]
    fn new(round: Round<'a>, column: usize, row: usize, expected: Motion) -> Self {
        let size = round.size;
        let outside = |at: usize, side: usize, most: i32| {
            let (at, side) = ((SIDE * at) as i32, (SIDE * side) as i32);
            let least = (-4 * (at + OUTSIDE)).max(-most);
            (least, (4 * (side - at - SIDE as i32 + OUTSIDE)).min(most))
        };
        let across = outside(column, size.columns, ACROSS_MAX);
        let down = outside(row, size.rows, DOWN_MAX);
        Self {
            luma: luma_of_frame(round.frame, size, column, row),
            least: Motion { x: across.0, y: down.0 },
            most: Motion { x: across.1, y: down.1 },
            bit: bit_cost(round.qp),
            round,
            column,
            row,
            expected,
        }
    }

    /// Begins at what the round before found here; expects what the decoder will.
    #[inline(always)]
    fn from_own(round: Round<'a>, column: usize, row: usize) -> (Self, (u32, Motion)) {
        let mut search = Self::new(round, column, row, Motion::default());
        search.expected = search.median();
        let own = search.own();
        let mut best = (u32::MAX, own);
        search.weigh(own, 0, &mut best);
        (search, best)
    }

    #[inline(always)]
    fn is_inside(&self, m: Motion) -> bool {
        let (least, most) = (self.least, self.most);
        m.x >= least.x && m.x <= most.x && m.y >= least.y && m.y <= most.y
    }

    #[inline(always)]
    fn difference(&self, motion: Motion) -> u32 {
        let size = self.round.size;
        let [a, b] = places(size, self.column, self.row, motion);
        let stride = size.reference_stride();
        let reference = self.round.reference;
        let mut sum = 0;
        if a == b {
            for (y, line) in self.luma.iter().enumerate() {
                sum += row_difference(line, sixteen(reference, a + y * stride));
            }
            return sum;
        }
        for (y, line) in self.luma.iter().enumerate() {
            let (a, b) = (sixteen(reference, a + y * stride), sixteen(reference, b + y * stride));
            sum += row_difference(line, &mean(a, b));
        }
        sum
    }

    /// Replaces `best` by `motion` where that is possible and cheaper.
    #[inline(always)]
    fn consider(&self, motion: Motion, best: &mut (u32, Motion)) {
        if motion != best.1 && self.is_inside(motion) {
            self.weigh(motion, 0, best);
        }
    }

    #[inline(always)]
    fn weigh(&self, motion: Motion, saved_bits: u32, best: &mut (u32, Motion)) {
        let bits = bits(motion.x - self.expected.x) + bits(motion.y - self.expected.y);
        let cost = self.difference(motion) + self.bit * (bits - saved_bits);
        if cost < best.0 {
            *best = (cost, motion);
        }
    }

    #[inline(always)]
    fn walk(&self, step: i32, steps_max: u32, best: &mut (u32, Motion)) {
        for _ in 0..steps_max {
            let from = best.1;
            for (x, y) in [(0, -step), (-step, 0), (step, 0), (0, step)] {
                self.consider(from.plus(x, y), best);
            }
            if best.1 == from {
                return;
            }
        }
    }

    /// A neighbour's motion, as far as there is one.
    #[inline(always)]
    fn near(&self, x: isize, y: isize) -> Option<Motion> {
        let size = self.round.size;
        let column = self.column.checked_add_signed(x).filter(|x| *x < size.columns)?;
        let row = self.row.checked_add_signed(y).filter(|y| *y < size.rows)?;
        Some(Found::of(self.round.field, row * size.columns + column).motion)
    }

    #[inline(always)]
    fn own(&self) -> Motion {
        Found::of(self.round.field, self.row * self.round.size.columns + self.column).motion
    }

    /// What a decoder expects (clause 8.4.1.3), if all neighbours look at the picture before.
    #[inline(always)]
    fn median(&self) -> Motion {
        let (left, above) = (self.near(-1, 0), self.near(0, -1));
        let corner = self.near(1, -1).or(self.near(-1, -1));
        match (left, above, corner) {
            (Some(left), None, None) => left,
            _ => {
                let [a, b, c] = [left, above, corner].map(Option::unwrap_or_default);
                Motion { x: middle(a.x, b.x, c.x), y: middle(a.y, b.y, c.y) }
            }
        }
    }

    /// The motion of a macroblock that is skipped (clause 8.4.1.1).
    #[inline(always)]
    fn skipped(&self) -> Motion {
        match (self.near(-1, 0), self.near(0, -1)) {
            (Some(left), Some(above))
                if left != Motion::default() && above != Motion::default() =>
            {
                self.expected
            }
            _ => Motion::default(),
        }
    }

    /// The least sum of differences to a prediction from the frame's own neighbours.
    #[inline(always)]
    fn intra_difference(&self) -> u32 {
        let size = self.round.size;
        let flat = |value: u8| -> u32 {
            self.luma.iter().map(|line| row_difference(line, &[value; 16])).sum()
        };
        if self.column == 0 || self.row == 0 {
            return flat(128);
        }
        let above = luma_of_frame(self.round.frame, size, self.column, self.row - 1)[15];
        let left = luma_of_frame(self.round.frame, size, self.column - 1, self.row);
        let left: [u8; 16] = left.map(|line| line[15]);
        let sum: u32 = above.iter().chain(&left).map(|v| u32::from(*v)).sum();
        let down: u32 = self.luma.iter().map(|line| row_difference(line, &above)).sum();
        let lines = self.luma.iter().zip(left);
        let across: u32 = lines.map(|(line, v)| row_difference(line, &[v; 16])).sum();
        flat(((sum + 16) >> 5) as u8).min(down).min(across)
    }
}

#[inline(always)]
pub fn middle(a: i32, b: i32, c: i32) -> i32 {
    a.max(b).min(a.min(b).max(c))
}

/// Bits of a signed number as the bitstream writes it.
#[inline(always)]
fn bits(v: i32) -> u32 {
    let code = 2 * v.unsigned_abs() - u32::from(v > 0);
    2 * (code + 1).ilog2() + 1
}

#[inline(always)]
pub fn mean(a: &[u8; 16], b: &[u8; 16]) -> [u8; 16] {
    let mut mean = [0; 16];
    for x in 0..16 {
        mean[x] = ((u16::from(a[x]) + u16::from(b[x]) + 1) >> 1) as u8;
    }
    mean
}

#[inline(always)]
pub fn row_difference(a: &[u8; 16], b: &[u8; 16]) -> u32 {
    let mut sum = 0;
    for x in 0..16 {
        sum += u32::from(a[x].abs_diff(b[x]));
    }
    sum
}

const AROUND: [(isize, isize); 6] = [(-1, 0), (0, -1), (1, 0), (0, 1), (1, -1), (-1, -1)];

/// The first round.
#[inline(always)]
pub fn first(round: Round<'_>, column: usize, row: usize) -> Found {
    let mut search = Search::new(round, column, row, Motion::default());
    search.expected = search.own();
    let mut best = (u32::MAX, Motion::default());
    search.weigh(Motion::default(), 0, &mut best);
    if best.0 > ENOUGH {
        search.consider(search.expected.rounded(), &mut best);
        for (x, y) in &AROUND[..4] {
            if let Some(near) = search.near(*x, *y) {
                search.consider(near.rounded(), &mut best);
            }
        }
        search.walk(4, WALK_MAX, &mut best);
    }
    Found { motion: best.1, cost: best.0, intra: false }
}

/// The second round.
#[inline(always)]
pub fn second(round: Round<'_>, column: usize, row: usize) -> Found {
    let (search, mut best) = Search::from_own(round, column, row);
    if best.0 > ENOUGH {
        search.consider(search.expected, &mut best);
        for (x, y) in AROUND {
            if let Some(near) = search.near(x, y) {
                search.consider(near, &mut best);
            }
        }
        search.walk(4, WALK_MAX, &mut best);
        search.walk(2, 2, &mut best);
        search.walk(1, 2, &mut best);
    }
    Found { motion: best.1, cost: best.0, intra: false }
}

/// The third round.
#[inline(always)]
pub fn third(round: Round<'_>, column: usize, row: usize) -> Found {
    let (search, mut best) = Search::from_own(round, column, row);
    search.consider(search.expected, &mut best);
    for (x, y) in &AROUND[..2] {
        if let Some(near) = search.near(*x, *y) {
            search.consider(near, &mut best);
        }
    }
    let skipped = search.skipped();
    if search.is_inside(skipped) {
        search.weigh(skipped, SKIP_BITS, &mut best);
    }
    let intra_cost = search.bit * INTRA_BITS;
    let intra = best.0 > 4 * ENOUGH && search.intra_difference() + intra_cost < best.0;
    Found { motion: best.1, cost: best.0, intra }
}
