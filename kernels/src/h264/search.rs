//! Motion search, macroblock by macroblock: each knows what the decoder will expect of it.
//!
//! Places cost the sum of absolute differences, and what their way from the expected place takes
//! as bits. First comes the motion of a macroblock that is skipped; where little is left of it, or
//! nothing after quantisation, nothing else is tried. Otherwise the search walks by whole samples,
//! from the best of what the neighbours and the picture before found, then by halves and quarters.

use super::halves::{Halves, Motion, Place};
use super::picture::{Luma, SIDE, read_luma};
use super::vector::{Samples, Vector};
use super::{Coding, MOTION_BYTES, Preset, bit_cost};

/// Samples that a block may lie outside the picture.
const OUTSIDE: i32 = 24;
/// Longest motion, in quarter samples: what every level allows, but for the smallest width.
const ACROSS_MAX: i32 = 2000;
const DOWN_MAX: i32 = 240;
/// Steps of a walk.
const WALK_MAX: u32 = 16;
/// Bits that an intra macroblock seems to cost more than another.
const INTRA_BITS: u32 = 12;
/// Differences up to which nothing better is looked for, and bits worth as much.
const ENOUGH: u32 = 256;
const ENOUGH_BITS: u32 = 64;
/// Bits worth as much as what quantisation often leaves nothing of.
const LITTLE_BITS: u32 = 160;
/// Differences from which on prediction from neighbours is tried.
const BAD: u32 = 1024;

/// What a motion record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub motion: Motion,
    pub intra: bool,
    /// The blocks of luma that have levels, a bit each, row by row; anything where it is intra.
    pub used: u16,
}

impl Found {
    #[inline(always)]
    pub fn of(field: &[u8], at: usize) -> Self {
        let record: &[u8; MOTION_BYTES] =
            field[MOTION_BYTES * at..].first_chunk().expect("a field has all macroblocks");
        let word = |low: usize| i32::from(i16::from_le_bytes([record[low], record[low + 1]]));
        let used = u16::from_le_bytes([record[4], record[5]]);
        Self { motion: Motion { x: word(0), y: word(2) }, intra: record[6] != 0, used }
    }

    #[inline(always)]
    pub fn store(&self, field: &mut [u8], at: usize) {
        let [x0, x1] = (self.motion.x as i16).to_le_bytes();
        let [y0, y1] = (self.motion.y as i16).to_le_bytes();
        let [used0, used1] = self.used.to_le_bytes();
        let record = [x0, x1, y0, y1, used0, used1, u8::from(self.intra), 0];
        field[MOTION_BYTES * at..][..MOTION_BYTES].copy_from_slice(&record);
    }
}

/// The motion of the macroblocks to the left, above, and at the corner (clause 6.4.11.7); those
/// that are there but look at their own picture have none.
#[derive(Debug, Clone, Copy)]
pub struct Around {
    left: Option<Option<Motion>>,
    above: Option<Option<Motion>>,
    corner: Option<Option<Motion>>,
}

impl Around {
    #[inline(always)]
    pub fn of(field: &[u8], columns: usize, column: usize, row: usize) -> Self {
        let at = row * columns + column;
        let there = |is_there: bool, back: usize| {
            if !is_there {
                return None;
            }
            let found = Found::of(field, at - back);
            Some(if found.intra { None } else { Some(found.motion) })
        };
        let (is_left, is_above) = (column > 0, row > 0);
        let corner = match is_above && column + 1 < columns {
            true => there(true, columns - 1),
            false => there(is_above && is_left, columns + 1),
        };
        Self { left: there(is_left, 1), above: there(is_above, columns), corner }
    }

    /// The motion that a decoder expects (clause 8.4.1.3).
    #[inline(always)]
    pub fn expected(&self) -> Motion {
        let Self { left, above, corner } = *self;
        if let (Some(left), None, None) = (left, above, corner) {
            return left.unwrap_or_default();
        }
        match (left.flatten(), above.flatten(), corner.flatten()) {
            (Some(only), None, None) | (None, Some(only), None) | (None, None, Some(only)) => only,
            (left, above, corner) => {
                let (a, b) = (left.unwrap_or_default(), above.unwrap_or_default());
                let c = corner.unwrap_or_default();
                Motion { x: middle(a.x, b.x, c.x), y: middle(a.y, b.y, c.y) }
            }
        }
    }

    /// The motion of a macroblock that is skipped (clause 8.4.1.1).
    #[inline(always)]
    pub fn skipped(&self, expected: Motion) -> Motion {
        let stands = Some(Motion::default());
        match (self.left, self.above) {
            (Some(left), Some(above)) if left != stands && above != stands => expected,
            _ => Motion::default(),
        }
    }
}

#[inline(always)]
fn middle(a: i32, b: i32, c: i32) -> i32 {
    a.max(b).min(a.min(b).max(c))
}

/// Bits of a signed number as the bitstream writes it.
#[inline(always)]
fn bits(v: i32) -> u32 {
    let code = 2 * v.unsigned_abs() - u32::from(v > 0);
    2 * (code + 1).ilog2() + 1
}

/// A motion, its cost, and how much of that are differences.
#[derive(Debug, Clone, Copy)]
pub struct Best {
    pub motion: Motion,
    pub cost: u32,
    pub difference: u32,
}

/// One macroblock.
pub struct Search<'a, V> {
    pub v: V,
    pub luma: &'a Luma,
    pub place: Place<'a>,
    pub around: Around,
    pub expected: Motion,
    /// What the picture before found here.
    pub before: Motion,
    least: Motion,
    most: Motion,
    bit: u32,
    preset: Preset,
}

impl<'a, V: Vector> Search<'a, V> {
    #[inline(always)]
    pub fn new(
        v: V,
        luma: &'a Luma,
        place: Place<'a>,
        around: Around,
        before: Motion,
        coding: Coding,
    ) -> Self {
        let (across, down) = (
            reach(place.column, place.size.columns, ACROSS_MAX),
            reach(place.row, place.size.rows, DOWN_MAX),
        );
        Self {
            v,
            luma,
            place,
            around,
            expected: around.expected(),
            before,
            least: Motion { x: across.0, y: down.0 },
            most: Motion { x: across.1, y: down.1 },
            bit: bit_cost(coding.qp),
            preset: coding.preset,
        }
    }

    #[inline(always)]
    pub fn is_inside(&self, m: Motion) -> bool {
        let (least, most) = (self.least, self.most);
        m.x >= least.x && m.x <= most.x && m.y >= least.y && m.y <= most.y
    }

    /// Whether so little is left that nothing better is looked for.
    #[inline(always)]
    pub fn is_enough(&self, difference: u32) -> bool {
        difference <= ENOUGH + ENOUGH_BITS * self.bit
    }

    /// Whether so little is left that quantisation may take it all, which the fast preset does not
    /// try: it has looked at what differs.
    #[inline(always)]
    pub fn is_little(&self, difference: u32) -> bool {
        self.preset == Preset::Quality && difference <= LITTLE_BITS * self.bit
    }

    #[inline(always)]
    fn best(&self, motion: Motion, difference: u32) -> Best {
        let bits = bits(motion.x - self.expected.x) + bits(motion.y - self.expected.y);
        Best { motion, cost: difference + self.bit * bits, difference }
    }

    /// What the prediction at any motion differs; `halves` are then those around it.
    #[inline(always)]
    pub fn weigh(&self, halves: &mut Halves, motion: Motion) -> Best {
        halves.begin(motion.floor());
        self.best(motion, halves.difference(self.v, &self.place, self.luma, motion))
    }

    /// Goes on from a first motion, which is not good enough; `halves` are then those around the
    /// last that was looked at.
    #[inline(always)]
    pub fn go_on(&self, halves: &mut Halves, first: Best) -> Best {
        let mut best = first;
        if self.expected != first.motion && self.is_inside(self.expected) {
            let other = self.weigh(halves, self.expected);
            best = if other.cost < best.cost { other } else { best };
        }
        if self.is_enough(best.difference) { best } else { self.improve(halves, best) }
    }

    /// Looks for something better than `best`; `halves` are then those around what is found.
    #[inline(always)]
    fn improve(&self, halves: &mut Halves, best: Best) -> Best {
        let (mut near, ways) = self.walk_whole();
        halves.begin(near.motion);
        if !self.is_enough(near.difference) {
            self.step_half(halves, ways, &mut near);
            if !self.is_enough(near.difference) {
                self.walk_quarters(halves, &mut near);
            }
        }
        if near.cost < best.cost { near } else { best }
    }

    /// What a motion differs, where it is possible.
    #[inline(always)]
    fn whole(&self, motion: Motion) -> Option<Best> {
        if !self.is_inside(motion) {
            return None;
        }
        Some(self.best(motion, self.v.difference(self.luma, self.place.at(motion))))
    }

    /// By whole samples, from the best of what is known around. Gives the way to the better of the
    /// neighbours across, and of those up and down, too.
    #[inline(always)]
    fn walk_whole(&self) -> (Best, [i32; 2]) {
        let stands = Motion::default();
        let mut best = self.best(stands, self.v.difference(self.luma, self.place.at(stands)));
        let Around { left, above, corner } = self.around;
        let (before, expected) = (Some(Some(self.before)), Some(Some(self.expected)));
        let all = [expected, left, above, corner, before];
        let fewer = [expected, left, before];
        let known = if self.preset == Preset::Quality { &all[..] } else { &fewer[..] };
        for near in known {
            let Some(Some(motion)) = near else { continue };
            let motion = motion.rounded();
            if motion != best.motion {
                best = match self.whole(motion) {
                    Some(found) if found.cost < best.cost => found,
                    _ => best,
                };
            }
        }
        // The place that the last step came from, and what it cost.
        let mut came = best;
        for _ in 0..WALK_MAX {
            let from = best;
            let mut costs = [u32::MAX; 4];
            for (cost, (x, y)) in costs.iter_mut().zip([(-4, 0), (4, 0), (0, -4), (0, 4)]) {
                let motion = from.motion.plus(x, y);
                let is_new = motion != came.motion;
                let Some(found) = (if is_new { self.whole(motion) } else { Some(came) }) else {
                    continue;
                };
                *cost = found.cost;
                if found.cost < best.cost {
                    best = found;
                }
            }
            if best.motion == from.motion {
                let way = |less: u32, more: u32| if less < more { -1 } else { 1 };
                return (best, [way(costs[0], costs[1]), way(costs[2], costs[3])]);
            }
            came = from;
        }
        (best, [1, 1])
    }

    #[inline(always)]
    fn consider(&self, halves: &mut Halves, motion: Motion, best: &mut Best) {
        if halves.is_near(motion) && self.is_inside(motion) {
            let difference = halves.difference(self.v, &self.place, self.luma, motion);
            let found = self.best(motion, difference);
            if found.cost < best.cost {
                *best = found;
            }
        }
    }

    /// Half a sample towards the better neighbours.
    #[inline(always)]
    fn step_half(&self, halves: &mut Halves, [x, y]: [i32; 2], best: &mut Best) {
        let from = best.motion;
        self.consider(halves, from.plus(2 * x, 0), best);
        self.consider(halves, from.plus(0, 2 * y), best);
        if best.motion != from {
            self.consider(halves, from.plus(2 * x, 2 * y), best);
        }
    }

    /// By quarters of a sample, two steps at most, or one.
    #[inline(always)]
    fn walk_quarters(&self, halves: &mut Halves, best: &mut Best) {
        let steps = if self.preset == Preset::Quality { 2 } else { 1 };
        let mut came = (0, 0);
        for _ in 0..steps {
            let from = best.motion;
            for (x, y) in [(0, -1), (-1, 0), (1, 0), (0, 1)] {
                if (-x, -y) != came {
                    self.consider(halves, from.plus(x, y), best);
                }
            }
            came = (best.motion.x - from.x, best.motion.y - from.y);
            if came == (0, 0) {
                return;
            }
        }
    }

    /// Whether a prediction from the frame's own neighbours looks better.
    #[inline(always)]
    pub fn is_intra_better(&self, frame: &[u8], best: &Best) -> bool {
        best.cost > BAD && self.intra_difference(frame) + self.bit * INTRA_BITS < best.cost
    }

    /// The least sum of differences to a prediction from the frame's own neighbours.
    #[inline(always)]
    fn intra_difference(&self, frame: &[u8]) -> u32 {
        let Place { size, column, row, .. } = self.place;
        let all = |line: [u8; 16]| self.v.difference(self.luma, Samples { from: &line, stride: 0 });
        if column == 0 || row == 0 {
            return all([128; 16]);
        }
        let mut near = [[0; 16]; 16];
        read_luma(frame, size, column, row - 1, &mut near);
        let above = near[15];
        read_luma(frame, size, column - 1, row, &mut near);
        let mut sum: u32 = above.iter().map(|v| u32::from(*v)).sum();
        for line in &mut near {
            sum += u32::from(line[15]);
            *line = [line[15]; 16];
        }
        let across = Samples { from: near.as_flattened(), stride: 16 };
        let across = self.v.difference(self.luma, across);
        all([((sum + 16) >> 5) as u8; 16]).min(all(above)).min(across)
    }
}

/// Whether a motion is possible, and stays near the picture.
#[inline(always)]
pub fn is_inside(place: &Place<'_>, m: Motion) -> bool {
    let (left, right) = reach(place.column, place.size.columns, ACROSS_MAX);
    let (top, bottom) = reach(place.row, place.size.rows, DOWN_MAX);
    m.x >= left && m.x <= right && m.y >= top && m.y <= bottom
}

/// The motion nearest to one that is possible and stays near the picture.
#[inline(always)]
pub fn clamped(place: &Place<'_>, m: Motion) -> Motion {
    let (left, right) = reach(place.column, place.size.columns, ACROSS_MAX);
    let (top, bottom) = reach(place.row, place.size.rows, DOWN_MAX);
    Motion { x: m.x.clamp(left, right), y: m.y.clamp(top, bottom) }
}

/// The least and the greatest motion that stays near the picture.
#[inline(always)]
fn reach(at: usize, side: usize, most: i32) -> (i32, i32) {
    let (at, side) = ((SIDE * at) as i32, (SIDE * side) as i32);
    let least = (-4 * (at + OUTSIDE)).max(-most);
    (least, (4 * (side - at - SIDE as i32 + OUTSIDE)).min(most))
}
