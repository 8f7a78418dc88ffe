//! An affine map: turned, sheared, stretched, moved.
//!
//! Pixel `(x, y)` of the result comes from `(a x + b y + c, d x + e y + f) / 2^16` of the source.
//! The parts of a sum that depend on `x` and on `y` are rounded to 1/1024 each; their sum to 1/32,
//! half up. Between the four pixels around such a place, weights are whole 1/32 in each direction:
//!
//! ```text
//! dst = (sum of (32 - |dx|) (32 - |dy|) s + 512) >> 10
//! ```
//!
//! Pixels outside the source are the fill. OpenCV counts so too, but for the rounding of places.

use hw::{BufferId, Command, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::{Rows, Unit, long, longs, pixels, row, rows, sizes, unit};
use crate::plane::Part;
use crate::rearrange::{COLOUR, colour_of};
use crate::stem::{
    Entry, Given, Op, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch, params,
    portable,
};

/// Of the six numbers: sixteen pixels for one, and a whole side of the largest picture.
const FACTOR_MAX: i64 = 16 << 16;
const MOVE_MAX: i64 = (crate::SIDE_MAX as i64) << 16;

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[Op {
        name: "warp",
        about: "An affine map of a picture: turned, sheared, stretched, moved",
        inputs: &[Takes::PLANES],
        settings: &[
            Setting {
                name: "map",
                about: "a b c d e f: (x, y) comes from (a x + b y + c, d x + e y + f) / 65536",
                kind: SettingKind::Numbers {
                    default: &[65536, 0, 0, 0, 65536, 0],
                    least: -MOVE_MAX,
                    most: MOVE_MAX,
                    counts: &[6],
                },
            },
            COLOUR,
        ],
        plan: Some(warp),
    }],
};

pub static KERNEL: Kernel = portable(
    "warp",
    params!(In table, In src, Out dst; width, height, channels, src_width, src_height, src_offset,
        src_stride, dst_offset, dst_stride, fill),
    include_str!("warp.cl"),
    |args| rows(args, area(&sizes(args)), 12, row!(10, row)),
    |scalars| {
        let &[width, height, bytes, src_width, src_height, offset, stride, to, to_stride, _] =
            scalars
        else {
            return None;
        };
        let src = Part { offset, stride, width: src_width, height: src_height, bytes };
        let dst = Part { offset: to, stride: to_stride, width, height, bytes };
        let (src, dst) = (src.end()?, dst.end()?);
        (bytes <= 4).then(|| vec![8 * (width as usize + height as usize), src, dst])
    },
);

/// Where columns and rows come from, in 1/1024: x and y of each column, then of each row, with
/// what rounds their sum to 1/32.
fn table(from: [i64; 6], width: u32, height: u32) -> Vec<u8> {
    let [a, b, c, d, e, f] = from;
    let column = |x: i64| [(a * x + 32) >> 6, (d * x + 32) >> 6];
    let row = |y: i64| [((b * y + c + 32) >> 6) + 16, ((e * y + f + 32) >> 6) + 16];
    let columns = (0..i64::from(width)).flat_map(column);
    longs(columns.chain((0..i64::from(height)).flat_map(row)))
}

fn area(s: &[usize; 10]) -> Rows {
    let [width, height, channels, .., dst_offset, dst_stride, _] = *s;
    Rows::of(dst_offset, dst_stride, width * channels, height)
}

/// A pixel of the result.
#[inline(always)]
fn pixel(inputs: &[&[u8]], s: &[usize; 10], x: usize, y: usize, to: &mut [u8]) {
    let [width, _, channels, src_width, src_height, src_offset, src_stride, _, _, fill] = *s;
    let place = |i: usize| {
        let column = long(inputs[0], 2 * x + i) as i32;
        column.wrapping_add(long(inputs[0], 2 * (width + y) + i) as i32) >> 5
    };
    let (at_x, at_y) = (place(0), place(1));
    let (left, top, dx, dy) = (at_x >> 5, at_y >> 5, at_x & 31, at_y & 31);
    for (channel, to) in to.iter_mut().enumerate() {
        let sample = |x: i32, y: i32| {
            let inside = (0..src_width as i32).contains(&x) && (0..src_height as i32).contains(&y);
            match inside {
                true => {
                    let at = y as usize * src_stride + x as usize * channels + channel;
                    i32::from(inputs[1][src_offset + at])
                }
                false => (fill >> (8 * channel)) as i32 & 255,
            }
        };
        let upper = (32 - dx) * sample(left, top) + dx * sample(left.wrapping_add(1), top);
        let below = top.wrapping_add(1);
        let lower = (32 - dx) * sample(left, below) + dx * sample(left.wrapping_add(1), below);
        *to = (((32 - dy) * upper + dy * lower + 512) >> 10) as u8;
    }
}

fn reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 10] = sizes(args);
    pixels(args, area(&s), s[2], pixel);
}

#[inline(always)]
fn row(inputs: &[&[u8]], s: &[usize; 10], y: usize, to: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if unit() >= Unit::Avx2 && inputs[1].len() <= i32::MAX as usize {
        // SAFETY: the feature was just found on this machine.
        return unsafe {
            match s[2] {
                1 => avx2::row::<1>(inputs, s, y, to),
                2 => avx2::row::<2>(inputs, s, y, to),
                3 => avx2::row::<3>(inputs, s, y, to),
                _ => avx2::row::<4>(inputs, s, y, to),
            }
        };
    }
    match s[2] {
        1 => pixels_from::<1>(inputs, s, [0, y], to),
        2 => pixels_from::<2>(inputs, s, [0, y], to),
        3 => pixels_from::<3>(inputs, s, [0, y], to),
        _ => pixels_from::<4>(inputs, s, [0, y], to),
    }
}

/// Pixels of row `y` from `x` on. Where all four pixels are inside, they are read without a
/// question each, and where none is, there is nothing to weigh.
#[inline(always)]
fn pixels_from<const CHANNELS: usize>(
    inputs: &[&[u8]],
    s: &[usize; 10],
    [x, y]: [usize; 2],
    to: &mut [u8],
) {
    let [width, _, _, src_width, src_height, src_offset, src_stride, _, _, fill] = *s;
    let (columns, rest) = inputs[0].as_chunks::<8>().0.split_at(width);
    let [row_x, row_y] = [0, 1].map(|i| long(&rest[y], i) as i32);
    for (n, (to, column)) in to.chunks_exact_mut(CHANNELS).zip(&columns[x..]).enumerate() {
        let at_x = (long(column, 0) as i32).wrapping_add(row_x) >> 5;
        let at_y = (long(column, 1) as i32).wrapping_add(row_y) >> 5;
        let (left, top, dx, dy) = (at_x >> 5, at_y >> 5, at_x & 31, at_y & 31);
        let inside = left >= 0
            && top >= 0
            && (left as usize) + 1 < src_width
            && (top as usize) + 1 < src_height;
        if !inside {
            let beyond = left < -1 || top < -1;
            if beyond || left >= src_width as i32 || top >= src_height as i32 {
                to.copy_from_slice(&(fill as u32).to_le_bytes()[..CHANNELS]);
            } else {
                pixel(inputs, s, x + n, y, to);
            }
            continue;
        }
        let at = src_offset + top as usize * src_stride + left as usize * CHANNELS;
        let upper = &inputs[1][at..][..2 * CHANNELS];
        let lower = &inputs[1][at + src_stride..][..2 * CHANNELS];
        for (channel, to) in to.iter_mut().enumerate() {
            let across = |row: &[u8]| {
                let [a, b] = [row[channel], row[CHANNELS + channel]].map(i32::from);
                (32 - dx) * a + dx * b
            };
            *to = (((32 - dy) * across(upper) + dy * across(lower) + 512) >> 10) as u8;
        }
    }
}

fn command(buffers: [BufferId; 3], from: Part, to: Part, fill: u32) -> Command {
    let scalars = [
        to.width,
        to.height,
        to.bytes,
        from.width,
        from.height,
        from.offset,
        from.stride,
        to.offset,
        to.stride,
        fill,
    ];
    launch(&KERNEL, &buffers, &scalars, Grid::Rows(to.height as usize))
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let bytes = dice.pick(&[3, 1, 2, 4]);
    let mut part = |width: u32, height: u32| Part {
        offset: dice.below(70),
        stride: width * bytes + dice.below(9),
        width,
        height,
        bytes,
    };
    let (from, to) = (part(width, height), part(width, height));
    let mut factor = |usual: i64| usual + i64::from(dice.below(90_000)) - 30_000;
    let map = [factor(65_000), factor(9000), factor(0) * 8, factor(0), factor(65_000), factor(0)];
    // Some pictures shrink so far that a few pixels come from all over the source.
    let shrunk = dice.pick(&[1, 8]);
    let map = map.map(|number| number * shrunk);
    let fill = dice.below(u32::MAX);
    let source = dice.bytes((from.offset + from.stride * height) as usize, width);
    let command = command([0, 1, 2].map(BufferId), from, to, fill);
    Sample { command, inputs: vec![table(map, width, height), source] }
}

fn warp(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let from = given[0].picture()?;
    let map: [i64; 6] = std::array::from_fn(|i| values.numbers("map")[i]);
    for (i, factor) in map.iter().enumerate().filter(|(i, _)| i % 3 != 2) {
        if factor.abs() > FACTOR_MAX {
            return Err(format!("map: number {} is {factor}: give {FACTOR_MAX} at most", i + 1));
        }
    }
    let to = stage.picture(from.shape)?;
    for (number, part) in from.shape.planes().into_iter().enumerate() {
        let mut own = map;
        if number > 0 && from.shape.format.is_halved() {
            (own[2], own[5]) = (map[2] / 2, map[5] / 2);
        }
        let table = stage.constant(table(own, part.width, part.height))?;
        let fill = colour_of(from.shape.format, number, values.numbers("colour"));
        stage.run(command([table, from.buffer, to.buffer], part, part, fill));
    }
    Ok(Given::Picture(to))
}

#[cfg(target_arch = "x86_64")]
mod avx2;
