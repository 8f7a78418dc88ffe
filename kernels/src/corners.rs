//! Corners (Harris and Stephens 1988), in whole numbers.
//!
//! Around each sample, over 3 x 3 places, products of the 3 x 3 Sobel operators are summed; edges
//! of the picture are mirrored without repeating the last sample.
//!
//! ```text
//! A, B, C  = (sum of gx gx, gy gy, gx gy) >> 8
//! strength = clamp((A B - C C - ((A + B) >> 2)^2) >> shift)
//! ```
//!
//! All of it fits 32 bits. The factor 1/16 is within what the paper's successors use.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::{Rows, mirrored, pixels, row, rows, sizes};
use crate::plane::Part;
use crate::stem::{
    Entry, Given, Op, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch, params,
    portable,
};

const SHIFT_MAX: u32 = 30;

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[Op {
        name: "corners",
        about: "Strength of corners, as Harris has it",
        inputs: &[Takes::GRAY],
        settings: &[Setting {
            name: "shift",
            about: "The strength is divided by two to the power of this",
            kind: SettingKind::Number { default: 16, least: 0, most: SHIFT_MAX as i64 },
        }],
        plan: Some(corners),
    }],
};

pub static KERNEL: Kernel = portable(
    "corners",
    params!(In src, Out dst; width, height, src_stride, dst_stride, shift),
    include_str!("corners.cl"),
    |args| rows(args, area(&sizes(args)), 40, row!(5, row)),
    |scalars| {
        let &[width, height, src_stride, dst_stride, shift] = scalars else { return None };
        let end = |stride| Part { offset: 0, stride, width, height, bytes: 1 }.end();
        (shift <= SHIFT_MAX).then_some(vec![end(src_stride)?, end(dst_stride)?])
    },
);

fn area(s: &[usize; 5]) -> Rows {
    let [width, height, _, dst_stride, _] = *s;
    Rows::of(0, dst_stride, width, height)
}

#[inline(always)]
fn strength(a: i32, b: i32, c: i32, shift: usize) -> u8 {
    let (a, b, c) = (a >> 8, b >> 8, c >> 8);
    let trace = (a + b) >> 2;
    ((a * b - c * c - trace * trace) >> shift).clamp(0, 255) as u8
}

fn reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 5] = sizes(args);
    pixels(args, area(&s), 1, |inputs, s: &[usize; 5], x, y, to| {
        let [width, height, stride, _, shift] = *s;
        let near = |i: usize, d: isize, n: usize| mirrored(i as isize + d, n);
        let mut sums = [0i32; 3];
        for (dx, dy) in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dx, dy))) {
            let (px, py) = (near(x, dx, width), near(y, dy, height));
            let at = |dx: isize, dy: isize| {
                i32::from(inputs[0][near(py, dy, height) * stride + near(px, dx, width)])
            };
            let gx = at(1, -1) + 2 * at(1, 0) + at(1, 1) - at(-1, -1) - 2 * at(-1, 0) - at(-1, 1);
            let gy = at(-1, 1) + 2 * at(0, 1) + at(1, 1) - at(-1, -1) - 2 * at(0, -1) - at(1, -1);
            sums = [sums[0] + gx * gx, sums[1] + gy * gy, sums[2] + gx * gy];
        }
        to[0] = strength(sums[0], sums[1], sums[2], shift);
    });
}

/// Products of three rows are summed down first, then across.
#[inline(always)]
fn row(inputs: &[&[u8]], s: &[usize; 5], y: usize, to: &mut [u8]) {
    let [width, height, stride, _, shift] = *s;
    let mut sums = [vec![0i32; width], vec![0i32; width], vec![0i32; width]];
    for dy in -1..=1 {
        let middle = mirrored(y as isize + dy, height);
        let rows: [Vec<u8>; 3] = std::array::from_fn(|n| {
            let from = mirrored((middle + n) as isize - 1, height);
            crate::lanes::padded(&inputs[0][from * stride..][..width], 1, 1, mirrored)
        });
        let [above, own, below] = rows.each_ref().map(|row| &row[..width + 2]);
        let [xx, yy, xy] = sums.each_mut().map(|row| &mut row[..width]);
        for x in 0..width {
            let at = |row: &[u8], dx: usize| i32::from(row[x + dx]);
            let gx = at(above, 2) + 2 * at(own, 2) + at(below, 2)
                - at(above, 0)
                - 2 * at(own, 0)
                - at(below, 0);
            let gy = at(below, 0) + 2 * at(below, 1) + at(below, 2)
                - at(above, 0)
                - 2 * at(above, 1)
                - at(above, 2);
            xx[x] += gx * gx;
            yy[x] += gy * gy;
            xy[x] += gx * gy;
        }
    }
    let [a, b, c] = sums.map(|row| crate::lanes::padded(&row, 1, 1, mirrored));
    for (x, to) in to.iter_mut().enumerate() {
        let sum = |row: &[i32]| row[x] + row[x + 1] + row[x + 2];
        *to = strength(sum(&a), sum(&b), sum(&c), shift);
    }
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (stride, dst_stride) = (width + dice.below(9), width + dice.below(9));
    let scalars = [width, height, stride, dst_stride, dice.pick(&[16, 8, 22])];
    let rows = Grid::Rows(height as usize);
    let command = launch(&KERNEL, &[BufferId(0), BufferId(1)], &scalars, rows);
    Sample { command, inputs: vec![dice.bytes((stride * height) as usize, width)] }
}

fn corners(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let from = given[0].picture()?;
    let to = stage.picture(from.shape)?;
    let (width, height) = (from.shape.width, from.shape.height);
    let scalars = [width, height, width, width, values.number("shift") as u32];
    let rows = Grid::Rows(height as usize);
    stage.run(launch(&KERNEL, &[from.buffer, to.buffer], &scalars, rows));
    Ok(Given::Picture(to))
}
