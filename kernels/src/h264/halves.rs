//! Predictions between samples (clause 8.4.2.2.1): half ones to the right (`b`), below (`h`) and
//! both (`j`), and quarters as means of two. Only what is asked for is made, by macroblocks.

use super::picture::{Luma, Size};
use super::vector::{Line, Samples, Vector, Work};

/// A motion, in quarter samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Motion {
    pub x: i32,
    pub y: i32,
}

impl Motion {
    #[inline(always)]
    pub fn plus(self, x: i32, y: i32) -> Self {
        Self { x: self.x + x, y: self.y + y }
    }

    /// By whole samples.
    #[inline(always)]
    pub fn rounded(self) -> Self {
        Self { x: (self.x + 2) >> 2 << 2, y: (self.y + 2) >> 2 << 2 }
    }

    /// By whole samples, up and to the left.
    #[inline(always)]
    pub fn floor(self) -> Self {
        Self { x: self.x >> 2 << 2, y: self.y >> 2 << 2 }
    }

    #[inline(always)]
    pub fn is_whole(self) -> bool {
        (self.x | self.y) & 3 == 0
    }
}

/// Kinds of samples: full ones and the three halves.
const FULL: u8 = 0;
const RIGHT: u8 = 1;
const BELOW: u8 = 2;

/// Which samples a prediction is the mean of, by quarters down and across: kind, one to the right,
/// one down, of each.
const MEANS: [[u8; 6]; 16] = [
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

/// Rows of half samples: one above the macroblock, its own, one below.
const ROWS: usize = 18;
/// Columns that half samples begin at: of `b` two, of `h` three, of `j` two.
const KINDS: usize = 7;
/// Rows and columns that the filter reads before and behind.
const BEFORE: usize = 2;

/// What a half sample is made of: six with weights 1, -5, 20, 20, -5, 1.
#[inline(always)]
fn six<V: Vector>(v: V, [a, b, c, d, e, f]: [V::Words; 6]) -> V::Words {
    let (ends, near, inner) = (v.add(a, f), v.add(b, e), v.add(c, d));
    // ends + 5 * (4 * inner - near)
    let four = v.add(v.add(inner, inner), v.add(inner, inner));
    let less = v.sub(four, near);
    v.add(ends, v.add(less, v.add(v.add(less, less), v.add(less, less))))
}

#[inline(always)]
fn rounded<V: Vector>(v: V, sum: V::Words) -> Line {
    v.narrow(v.half::<5>(v.add(sum, v.all(16))))
}

/// Half samples around one place of the reference.
#[derive(Debug, Clone)]
pub struct Halves {
    kinds: [[Line; ROWS]; KINDS],
    /// Which of them are there, a bit each.
    made: u32,
    /// The whole motion around which they are.
    center: Motion,
}

impl Default for Halves {
    fn default() -> Self {
        Self { kinds: [[[0; 16]; ROWS]; KINDS], made: 0, center: Motion::default() }
    }
}

/// The reference of a macroblock.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub reference: &'a [u8],
    pub size: &'a Size,
    pub column: usize,
    pub row: usize,
}

impl<'a> Place<'a> {
    /// Full samples `x` to the right and `y` down of the macroblock.
    #[inline(always)]
    fn samples(&self, x: i32, y: i32) -> Samples<'a> {
        let stride = self.size.stride();
        let way = x as isize + y as isize * stride as isize;
        let at = self.size.luma_at(self.column, self.row).wrapping_add_signed(way);
        Samples { from: &self.reference[at..], stride }
    }

    /// Chroma at a motion by whole samples of it.
    #[inline(always)]
    pub fn chroma_at(&self, motion: Motion) -> Samples<'a> {
        let stride = self.size.stride();
        let way = 2 * (motion.x >> 3) as isize + (motion.y >> 3) as isize * stride as isize;
        let at = self.size.chroma_at(self.column, self.row).wrapping_add_signed(way);
        Samples { from: &self.reference[at..], stride }
    }

    /// The samples at a whole motion.
    #[inline(always)]
    pub fn at(&self, motion: Motion) -> Samples<'a> {
        self.samples(motion.x >> 2, motion.y >> 2)
    }
}

impl Halves {
    /// Begins anew around a whole motion.
    #[inline(always)]
    pub fn begin(&mut self, center: Motion) {
        (self.center, self.made) = (center, 0);
    }

    /// Whether a motion is less than a sample away.
    #[inline(always)]
    pub fn is_near(&self, motion: Motion) -> bool {
        (motion.x - self.center.x).abs() < 4 && (motion.y - self.center.y).abs() < 4
    }

    /// The two that a motion near by is the mean of; the same one twice where it needs no mean.
    #[inline(always)]
    fn parts<'a>(
        &'a mut self,
        v: impl Vector,
        place: &Place<'a>,
        motion: Motion,
    ) -> [Samples<'a>; 2] {
        let [kind_a, right_a, down_a, kind_b, right_b, down_b] =
            MEANS[(4 * (motion.y & 3) + (motion.x & 3)) as usize];
        let x = (motion.x >> 2) - (self.center.x >> 2);
        let y = (motion.y >> 2) - (self.center.y >> 2);
        let to = |right: u8, down: u8| (x + i32::from(right), y + i32::from(down));
        let (a, b) = (to(right_a, down_a), to(right_b, down_b));
        self.make(v, place, kind_a, a.0);
        self.make(v, place, kind_b, b.0);
        [self.samples(place, kind_a, a), self.samples(place, kind_b, b)]
    }

    #[inline(always)]
    fn number(kind: u8, x: i32) -> usize {
        let first = match kind {
            RIGHT => 1,
            BELOW => 3,
            _ => 6,
        };
        (first + x) as usize
    }

    #[inline(always)]
    fn samples<'a>(&'a self, place: &Place<'a>, kind: u8, (x, y): (i32, i32)) -> Samples<'a> {
        match kind {
            FULL => place.samples((self.center.x >> 2) + x, (self.center.y >> 2) + y),
            _ => {
                let rows = self.kinds[Self::number(kind, x)].as_flattened();
                Samples { from: &rows[16 * (y + 1) as usize..], stride: 16 }
            }
        }
    }

    #[inline(always)]
    fn make(&mut self, v: impl Vector, place: &Place<'_>, kind: u8, x: i32) {
        if kind == FULL || self.made >> Self::number(kind, x) & 1 == 1 {
            return;
        }
        let number = Self::number(kind, x);
        self.made |= 1 << number;
        let before = BEFORE as i32;
        let at =
            place.samples((self.center.x >> 2) + x - before, (self.center.y >> 2) - 1 - before);
        v.call(Make { kind, from: at, to: &mut self.kinds[number] });
    }

    /// What a motion near by differs from luma.
    #[inline(always)]
    pub fn difference(
        &mut self,
        v: impl Vector,
        place: &Place<'_>,
        luma: &Luma,
        motion: Motion,
    ) -> u32 {
        match motion.is_whole() {
            true => v.difference(luma, place.at(motion)),
            false => v.call(Difference { halves: self, place: *place, luma, motion }),
        }
    }

    /// Predicts at a motion near by.
    #[inline(always)]
    pub fn predict(&mut self, v: impl Vector, place: &Place<'_>, motion: Motion, to: &mut Luma) {
        let [a, b] = self.parts(v, place, motion);
        let is_one = std::ptr::eq(a.from, b.from);
        for (y, to) in to.iter_mut().enumerate() {
            *to = if is_one { *a.row(y) } else { v.mean(a.row(y), b.row(y)) };
        }
    }
}

/// What a motion near by, which is not whole, differs from luma.
struct Difference<'a> {
    halves: &'a mut Halves,
    place: Place<'a>,
    luma: &'a Luma,
    motion: Motion,
}

impl<V: Vector> Work<V> for Difference<'_> {
    type Out = u32;

    #[inline(always)]
    fn run(self, v: V) -> u32 {
        let [a, b] = self.halves.parts(v, &self.place, self.motion);
        if std::ptr::eq(a.from, b.from) {
            return v.difference(self.luma, a);
        }
        v.difference_to_mean(self.luma, a, b)
    }
}

/// Half samples of one kind.
struct Make<'a> {
    kind: u8,
    from: Samples<'a>,
    to: &'a mut [Line; ROWS],
}

impl<V: Vector> Work<V> for Make<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self, v: V) {
        match self.kind {
            RIGHT => right(v, self.from, self.to),
            BELOW => below(v, self.from, self.to),
            _ => both(v, self.from, self.to),
        }
    }
}

/// `from` begins two samples to the left of what is made, and three rows above the macroblock.
#[inline(always)]
fn right(v: impl Vector, from: Samples<'_>, to: &mut [Line; ROWS]) {
    for (y, to) in to.iter_mut().enumerate() {
        let line: &[u8; 21] =
            from.from[(y + BEFORE) * from.stride..].first_chunk().expect("a plane is padded");
        let at = |i: usize| v.widen(line[i..].first_chunk().expect("sixteen of 21"));
        *to = rounded(v, six(v, [at(0), at(1), at(2), at(3), at(4), at(5)]));
    }
}

#[inline(always)]
fn below(v: impl Vector, from: Samples<'_>, to: &mut [Line; ROWS]) {
    let from = Samples { from: &from.from[BEFORE..], ..from };
    let row = |y: usize| v.widen(from.row(y));
    let (mut a, mut b, mut c, mut d, mut e) = (row(0), row(1), row(2), row(3), row(4));
    for (y, to) in to.iter_mut().enumerate().take(ROWS - 1) {
        let f = row(y + 5);
        *to = rounded(v, six(v, [a, b, c, d, e, f]));
        (a, b, c, d, e) = (b, c, d, e, f);
    }
}

#[inline(always)]
fn both(v: impl Vector, from: Samples<'_>, to: &mut [Line; ROWS]) {
    let mut sums = [[0i16; 24]; ROWS - 1];
    for begin in [0, 8] {
        let from = Samples { from: &from.from[begin..], ..from };
        let row = |y: usize| v.widen(from.row(y));
        let (mut a, mut b, mut c, mut d, mut e) = (row(0), row(1), row(2), row(3), row(4));
        for (y, sums) in sums.iter_mut().enumerate() {
            let f = row(y + 5);
            let to = sums[begin..].first_chunk_mut().expect("sixteen of 24");
            v.store(six(v, [a, b, c, d, e, f]), to);
            (a, b, c, d, e) = (b, c, d, e, f);
        }
    }
    for (sums, to) in sums.iter().zip(to) {
        let at = |i: usize| v.load(sums[i..].first_chunk().expect("sixteen of 24"));
        let (a, b, c) = (v.add(at(0), at(5)), v.add(at(1), at(4)), v.add(at(2), at(3)));
        // A sixteenth of a - 5 b + 20 c, rounded down: no bit that is left out would carry into
        // those that count, and what is too large for 16 bits is white or black anyway.
        let part = v.half::<2>(v.add_within(v.sub(v.half::<2>(v.sub(a, b)), b), c));
        let part = v.add_within(v.add_within(part, c), v.all(32));
        *to = v.narrow(v.half::<6>(part));
    }
}
