//! Block motion search: for each block of 16 x 16 of a gray picture, where in the one before it
//! looks most alike.
//!
//! Every place within `radius` whose block lies inside the picture is tried; the least sum of
//! absolute differences wins, then the shorter `|x| + |y|`, then the first, row by row. Blocks at
//! the right and lower edge are as small as the picture leaves them. [`diamond`] tries few places,
//! and finds a best one only where the sums fall towards it.
//!
//! Four bytes a block: x and y of the motion (signed), then the sum (16 bits, little-endian).

pub mod diamond;

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::{Rows, pixels, row, rows, sizes};
use crate::plane::Part;
use crate::shape::{PixelFormat, Shape};
use crate::stem::{
    Entry, Given, Op, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch, params,
    portable,
};

const BLOCK: usize = 16;
const RADIUS_MAX: u32 = 31;
const FULL: &str = "full";
const DIAMOND: &str = "diamond";

pub static STEM: Stem = Stem {
    entries: &[
        Entry { kernel: &KERNEL, reference, sample: |dice, w, h| sample(&KERNEL, dice, w, h) },
        Entry {
            kernel: &diamond::KERNEL,
            reference: diamond::reference,
            sample: |dice, w, h| sample(&diamond::KERNEL, dice, w, h),
        },
    ],
    ops: &[Op {
        name: "motion",
        about: "Where each block of 16 x 16 came from: x, y and the remaining difference",
        inputs: &[Takes::GRAY, Takes::GRAY],
        settings: &[
            Setting {
                name: "radius",
                about: "Samples searched to each side",
                kind: SettingKind::Number { default: 8, least: 0, most: RADIUS_MAX as i64 },
            },
            Setting {
                name: "search",
                about: "Every place, or a walk to better ones: faster, and may miss the best",
                kind: SettingKind::Choice(&[FULL, DIAMOND]),
            },
        ],
        plan: Some(motion),
    }],
};

pub static KERNEL: Kernel = portable(
    "motion",
    params!(In now, In before, Out motion; width, height, now_stride, before_stride, radius),
    include_str!("motion.cl"),
    |args| {
        let s: [usize; 5] = sizes(args);
        rows(args, area(&s), 16 * (2 * s[4] + 1).pow(2), row!(5, row));
    },
    needed,
);

fn needed(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[width, height, now_stride, before_stride, radius] = scalars else { return None };
    let end = |stride| Part { offset: 0, stride, width, height, bytes: 1 }.end();
    let blocks = width.div_ceil(16) as usize * height.div_ceil(16) as usize;
    (radius <= RADIUS_MAX).then_some(vec![end(now_stride)?, end(before_stride)?, 4 * blocks])
}

fn area(s: &[usize; 5]) -> Rows {
    let bytes = 4 * s[0].div_ceil(BLOCK);
    Rows::of(0, bytes, bytes, s[1].div_ceil(BLOCK))
}

fn reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 5] = sizes(args);
    pixels(args, area(&s), 4, |inputs, s: &[usize; 5], column, row, to| {
        let [width, height, now_stride, before_stride, radius] = *s;
        let (left, top, radius) = (column * BLOCK, row * BLOCK, radius as isize);
        let (wide, high) = (BLOCK.min(width - left), BLOCK.min(height - top));
        let mut best = (u32::MAX, 0, 0, 0);
        for (dx, dy) in (-radius..=radius).flat_map(|dy| (-radius..=radius).map(move |dx| (dx, dy)))
        {
            let (from_x, from_y) = (left as isize + dx, top as isize + dy);
            let inside = from_x >= 0
                && from_y >= 0
                && from_x as usize + wide <= width
                && from_y as usize + high <= height;
            if !inside {
                continue;
            }
            let difference = |i: usize| {
                let (x, y) = (i % wide, i / wide);
                let now = inputs[0][(top + y) * now_stride + left + x];
                let at = (from_y as usize + y) * before_stride + from_x as usize + x;
                u32::from(now.abs_diff(inputs[1][at]))
            };
            let sum: u32 = (0..wide * high).map(difference).sum();
            let way = dx.unsigned_abs() + dy.unsigned_abs();
            if (sum, way) < (best.0, best.1) || best.0 == u32::MAX {
                best = (sum, way, dx, dy);
            }
        }
        let sum = (best.0 as u16).to_le_bytes();
        to.copy_from_slice(&[best.2 as i8 as u8, best.3 as i8 as u8, sum[0], sum[1]]);
    });
}

#[inline(always)]
fn row(inputs: &[&[u8]], s: &[usize; 5], row: usize, to: &mut [u8]) {
    for (column, to) in to.chunks_exact_mut(4).enumerate() {
        let place = Place::new(s, column, row);
        let mut best = (u32::MAX, 0, 0);
        for dy in place.ways(place.top, place.high, s[1]) {
            for dx in place.ways(place.left, place.wide, s[0]) {
                place.consider(inputs, s, (dx, dy), &mut best);
            }
        }
        to.copy_from_slice(&record(best));
    }
}

/// The bytes of a block: of its cost only the sum.
#[inline(always)]
fn record((cost, dx, dy): (u32, isize, isize)) -> [u8; 4] {
    let [low, high] = ((cost >> 8) as u16).to_le_bytes();
    [dx as i8 as u8, dy as i8 as u8, low, high]
}

/// A block of the picture.
struct Place {
    left: usize,
    top: usize,
    wide: usize,
    high: usize,
    radius: usize,
}

impl Place {
    #[inline(always)]
    fn new(s: &[usize; 5], column: usize, row: usize) -> Self {
        let (left, top) = (column * BLOCK, row * BLOCK);
        let (wide, high) = (BLOCK.min(s[0] - left), BLOCK.min(s[1] - top));
        Self { left, top, wide, high, radius: s[4] }
    }

    /// Steps along one side that stay inside the picture.
    #[inline(always)]
    fn ways(&self, at: usize, len: usize, side: usize) -> std::ops::RangeInclusive<isize> {
        -(self.radius.min(at) as isize)..=self.radius.min(side - at - len) as isize
    }

    /// Replaces `best` (cost and place) where this place, inside the picture, is better.
    #[inline(always)]
    fn consider(
        &self,
        inputs: &[&[u8]],
        s: &[usize; 5],
        (dx, dy): (isize, isize),
        best: &mut (u32, isize, isize),
    ) {
        let sum = self.difference(inputs, s, dx, dy, best.0 >> 8);
        let way = (dx.unsigned_abs() + dy.unsigned_abs()) as u32;
        // Sums have 16 bits, ways 6: one comparison for both.
        let cost = sum << 8 | way;
        if cost < best.0 {
            *best = (cost, dx, dy);
        }
    }

    /// The sum of absolute differences; not exact once it is above `enough`.
    #[inline(always)]
    fn difference(
        &self,
        inputs: &[&[u8]],
        s: &[usize; 5],
        dx: isize,
        dy: isize,
        enough: u32,
    ) -> u32 {
        let now = self.top * s[2] + self.left;
        let from_y = self.top.wrapping_add_signed(dy);
        let before = from_y * s[3] + self.left.wrapping_add_signed(dx);
        let mut sum = 0;
        for y in 0..self.high {
            let a = &inputs[0][now + y * s[2]..];
            let b = &inputs[1][before + y * s[3]..];
            sum += match self.wide {
                BLOCK => row_difference(&a[..BLOCK], &b[..BLOCK]),
                wide => row_difference(&a[..wide], &b[..wide]),
            };
            if y % 4 == 3 && sum > enough {
                break;
            }
        }
        sum
    }
}

#[inline(always)]
fn row_difference(a: &[u8], b: &[u8]) -> u32 {
    a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum()
}

fn sample(kernel: &'static Kernel, dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (now_stride, before_stride) = (width + dice.below(9), width + dice.below(9));
    let now = dice.bytes((now_stride * height) as usize, width);
    let before = dice.bytes((before_stride * height) as usize, width);
    let radius = dice.pick(&[8, 0, 3, 5]);
    let scalars = [width, height, now_stride, before_stride, radius];
    let blocks = width.div_ceil(16) as usize * height.div_ceil(16) as usize;
    let items = Grid::Items(blocks);
    let command = launch(kernel, &[0, 1, 2].map(BufferId), &scalars, items);
    Sample { command, inputs: vec![now, before] }
}

fn motion(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let (now, before) = (given[0].picture()?, given[1].picture()?);
    let Shape { width, height, .. } = now.shape;
    if before.shape != now.shape {
        return Err("the two pictures differ in size: give two of one size".to_string());
    }
    let (columns, rows) = (width.div_ceil(16), height.div_ceil(16));
    let to = stage.picture(Shape::full(columns, rows, PixelFormat::Motion))?;
    let scalars = [width, height, width, width, values.number("radius") as u32];
    let items = Grid::Items((columns * rows) as usize);
    let kernel = if values.text("search") == DIAMOND { &diamond::KERNEL } else { &KERNEL };
    stage.run(launch(kernel, &[now.buffer, before.buffer, to.buffer], &scalars, items));
    Ok(Given::Picture(to))
}
