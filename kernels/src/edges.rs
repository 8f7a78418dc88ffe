//! Edges and other 3 x 3 to 7 x 7 filters with whole factors, edges mirrored without repeating the
//! last sample.
//!
//! `sobel` gives `min(|gx| + |gy|, 255)` of the 3 x 3 Sobel operators. `filter2d` gives
//! `clamp(((sum of k s + 2^shift / 2) >> shift) + bias)`, of the absolute value where asked for.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::lanes::{Weighed, fold, padded};
use crate::native::{Rows, long, longs, mirrored, pixels, row, rows, signed, sizes};
use crate::plane::Part;
use crate::pointwise::{Area, Reader, Reading, Track};
use crate::stem::{
    Entry, Given, Op, Picture, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch,
    params, portable,
};

const SIDE_MAX: usize = 7;

pub static STEM: Stem = Stem {
    entries: &[
        Entry { kernel: &SOBEL, reference: sobel_reference, sample: sobel_sample },
        Entry { kernel: &FILTER, reference: filter_reference, sample: filter_sample },
    ],
    ops: &[
        Op {
            name: "sobel",
            about: "Strength of edges: |gx| + |gy| of the Sobel operators",
            inputs: &[Takes::GRAY],
            settings: &[],
            plan: Some(sobel),
        },
        Op {
            name: "laplacian",
            about: "Strength of edges: |4 s - the four around|",
            inputs: &[Takes::GRAY],
            settings: &[],
            plan: Some(laplacian),
        },
        Op {
            name: "filter2d",
            about: "A filter of 3 x 3, 5 x 5 or 7 x 7 whole factors, row by row",
            inputs: &[Takes::PLANES],
            settings: &[
                Setting {
                    name: "factors",
                    about: "9, 25 or 49 of them",
                    kind: SettingKind::Numbers {
                        default: &[0, -1, 0, -1, 5, -1, 0, -1, 0],
                        least: -1024,
                        most: 1024,
                        counts: &[9, 25, 49],
                    },
                },
                Setting {
                    name: "shift",
                    about: "The sum is divided by two to the power of this",
                    kind: SettingKind::Number { default: 0, least: 0, most: 16 },
                },
                Setting {
                    name: "bias",
                    about: "Added at the end",
                    kind: SettingKind::Number { default: 0, least: -255, most: 255 },
                },
            ],
            plan: Some(filter2d),
        },
    ],
};

pub static SOBEL: Kernel = portable(
    "sobel",
    params!(In src, Out dst; width, height, src_stride, dst_stride),
    include_str!("edges.cl"),
    sobel_native,
    |scalars| {
        let &[width, height, src_stride, dst_stride] = scalars else { return None };
        let end = |stride| Part { offset: 0, stride, width, height, bytes: 1 }.end();
        Some(vec![end(src_stride)?, end(dst_stride)?])
    },
);

pub static FILTER: Kernel = portable(
    "filter2d",
    params!(In factors, In src, Out dst; width, height, channels, offset, src_stride, dst_stride,
        side, shift, bias, absolute),
    include_str!("edges.cl"),
    filter_native,
    |scalars| {
        let &[width, height, bytes, offset, src_stride, dst_stride, side, shift, ..] = scalars
        else {
            return None;
        };
        let possible = bytes <= 4 && [1, 3, 5, 7].contains(&side) && shift <= 16;
        let end = |stride| Part { offset, stride, width, height, bytes }.end();
        possible.then_some(vec![4 * (side * side) as usize, end(src_stride)?, end(dst_stride)?])
    },
);

pub(crate) static READERS: &[Reader] = &[
    Reader {
        kernel: &SOBEL,
        of: |scalars| {
            let &[width, height, src_stride, _] = scalars else { return None };
            let track = Track::bytes(0, src_stride);
            Some(Reading { buffer: 0, track, area: Area::rows(width, height), times: 8 })
        },
    },
    Reader {
        kernel: &FILTER,
        of: |scalars| {
            let &[width, height, 1, 0, src_stride, _, side, ..] = scalars else { return None };
            let track = Track::bytes(0, src_stride);
            Some(Reading { buffer: 1, track, area: Area::rows(width, height), times: side * side })
        },
    },
];

fn sobel_reference(args: &mut CpuArgs<'_>) {
    let [width, height, _, dst_stride] = sizes(args);
    let area = Rows::of(0, dst_stride, width, height);
    pixels(args, area, 1, |inputs, s: &[usize; 4], x, y, to| {
        let [width, height, stride, _] = *s;
        let at = |dx: isize, dy: isize| {
            let (x, y) = (mirrored(x as isize + dx, width), mirrored(y as isize + dy, height));
            i32::from(inputs[0][y * stride + x])
        };
        let gx = at(1, -1) + 2 * at(1, 0) + at(1, 1) - at(-1, -1) - 2 * at(-1, 0) - at(-1, 1);
        let gy = at(-1, 1) + 2 * at(0, 1) + at(1, 1) - at(-1, -1) - 2 * at(0, -1) - at(1, -1);
        to[0] = (gx.abs() + gy.abs()).min(255) as u8;
    });
}

fn sobel_native(args: &mut CpuArgs<'_>) {
    let [width, height, _, dst_stride] = sizes(args);
    rows(args, Rows::of(0, dst_stride, width, height), 4, row!(4, sobel_row));
}

#[inline(always)]
fn sobel_row(inputs: &[&[u8]], s: &[usize; 4], y: usize, to: &mut [u8]) {
    let [width, height, stride, _] = *s;
    let row = |dy: isize| {
        let y = mirrored(y as isize + dy, height);
        &inputs[0][y * stride..][..width]
    };
    let (above, here, below) = (row(-1), row(0), row(1));
    let mut sums = vec![0i16; width + 2];
    let mut differences = vec![0i16; width + 2];
    let columns = sums[1..].iter_mut().zip(&mut differences[1..]);
    for ((sum, difference), ((a, b), c)) in columns.zip(above.iter().zip(here).zip(below)) {
        *sum = i16::from(*a) + 2 * i16::from(*b) + i16::from(*c);
        *difference = i16::from(*c) - i16::from(*a);
    }
    for (at, from) in [(0, mirrored(-1, width)), (width + 1, mirrored(width as isize, width))] {
        sums[at] = sums[from + 1];
        differences[at] = differences[from + 1];
    }
    let (left, right) = (&sums[..width], &sums[2..]);
    let (d0, d1, d2) = (&differences[..width], &differences[1..], &differences[2..]);
    for i in 0..width {
        let gx = right[i] - left[i];
        let gy = d0[i] + 2 * d1[i] + d2[i];
        to[i] = (gx.abs() + gy.abs()).min(255) as u8;
    }
}

fn sobel_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (stride, dst_stride) = (width + dice.below(9), width + dice.below(9));
    let scalars = [width, height, stride, dst_stride];
    let rows = Grid::Rows(height as usize);
    let command = launch(&SOBEL, &[BufferId(0), BufferId(1)], &scalars, rows);
    Sample { command, inputs: vec![dice.bytes((stride * height) as usize, width)] }
}

fn filter_rows(s: &[usize; 10]) -> Rows {
    let [width, height, channels, offset, _, dst_stride, ..] = *s;
    Rows::of(offset, dst_stride, width * channels, height)
}

/// The result for a sum.
#[inline(always)]
fn filtered(sum: i32, shift: u32, bias: i32, absolute: bool) -> u8 {
    let value = (sum.wrapping_add((1 << shift) >> 1) >> shift).wrapping_add(bias);
    (if absolute { value.wrapping_abs() } else { value }).clamp(0, 255) as u8
}

fn filter_reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 10] = sizes(args);
    pixels(args, filter_rows(&s), 1, |inputs, s: &[usize; 10], x, y, to| {
        let [width, height, channels, offset, stride, _, side, shift, bias, absolute] = *s;
        let radius = (side / 2) as isize;
        let mut sum = 0i32;
        for i in 0..side * side {
            let (dx, dy) = ((i % side) as isize - radius, (i / side) as isize - radius);
            let from_x = mirrored((x / channels) as isize + dx, width) * channels + x % channels;
            let from_y = mirrored(y as isize + dy, height);
            let sample = i32::from(inputs[1][offset + from_y * stride + from_x]);
            sum = sum.wrapping_add((long(inputs[0], i) as i32).wrapping_mul(sample));
        }
        to[0] = filtered(sum, shift as u32, signed(bias), absolute != 0);
    });
}

fn filter_native(args: &mut CpuArgs<'_>) {
    let s: [usize; 10] = sizes(args);
    rows(args, filter_rows(&s), 2 * s[6], row!(10, filter_row));
}

#[inline(always)]
fn filter_row(inputs: &[&[u8]], s: &[usize; 10], y: usize, to: &mut [u8]) {
    let [width, height, channels, offset, stride, _, side, shift, bias, absolute] = *s;
    let (len, radius, shift, bias) = (width * channels, side / 2, shift as u32, signed(bias));
    let mut rows: [Vec<u8>; SIDE_MAX] = Default::default();
    for (n, row) in rows[..side].iter_mut().enumerate() {
        let from = mirrored((y + n) as isize - radius as isize, height);
        *row = padded(&inputs[1][offset + from * stride..][..len], channels, radius, mirrored);
    }
    let mut taps = [(&[][..], 0i32); SIDE_MAX * SIDE_MAX];
    let (mut count, mut most) = (0, 0i64);
    for i in 0..side * side {
        let factor = long(inputs[0], i) as i32;
        if factor != 0 {
            taps[count] = (&rows[i / side][i % side * channels..][..len], factor);
            most += 255 * i64::from(factor.unsigned_abs());
            count += 1;
        }
    }
    let wide = |n: usize| taps[n];
    let narrow = |n: usize| (taps[n].0, taps[n].1 as i16);
    let fits = shift < 15 && most + (1 << shift) / 2 + i64::from(bias.unsigned_abs()) < 1 << 15;
    match (fits, absolute != 0) {
        (true, true) => fold::<Weighed, u8, i16, u8>(count, narrow, 0, to, |sum| {
            narrow_result(sum, shift, bias as i16).abs().min(255) as u8
        }),
        (true, false) => fold::<Weighed, u8, i16, u8>(count, narrow, 0, to, |sum| {
            narrow_result(sum, shift, bias as i16).clamp(0, 255) as u8
        }),
        (false, _) => fold::<Weighed, u8, i32, u8>(count, wide, 0, to, |sum| {
            filtered(sum, shift, bias, absolute != 0)
        }),
    }
}

/// The result for a sum of which everything fits 16 bits.
#[inline(always)]
fn narrow_result(sum: i16, shift: u32, bias: i16) -> i16 {
    (sum.wrapping_add((1i16 << shift) >> 1) >> shift).wrapping_add(bias)
}

fn filter_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let side = dice.pick(&[3, 5, 7, 1]);
    let bytes = dice.pick(&[1, 3, 2]);
    let factors: Vec<i64> =
        (0..side * side).map(|i| i64::from(dice.below(41)) - 20 + i64::from(i == side)).collect();
    let (gap, dst_gap) = (dice.below(9), dice.below(9));
    let stride = width * bytes + gap;
    let offset = dice.below(70);
    let scalars = [
        width,
        height,
        bytes,
        offset,
        stride,
        width * bytes + dst_gap,
        side,
        dice.below(9),
        dice.below(99).wrapping_sub(40),
        dice.below(2),
    ];
    let rows = Grid::Rows(height as usize);
    let command = launch(&FILTER, &[0, 1, 2].map(BufferId), &scalars, rows);
    let src = dice.bytes((offset + stride * height) as usize, width);
    Sample { command, inputs: vec![longs(factors), src] }
}

fn sobel(stage: &mut dyn Stage, given: &[Given], _: &Values<'_>) -> Result<Given, String> {
    let from = given[0].picture()?;
    let to = stage.picture(from.shape)?;
    let (width, height) = (from.shape.width, from.shape.height);
    let rows = Grid::Rows(height as usize);
    stage.run(launch(&SOBEL, &[from.buffer, to.buffer], &[width, height, width, width], rows));
    Ok(Given::Picture(to))
}

/// Filters every plane of a picture.
fn filter(
    stage: &mut dyn Stage,
    from: Picture,
    factors: &[i64],
    [shift, bias, absolute]: [u32; 3],
) -> Result<Given, String> {
    let side = (1..=SIDE_MAX).find(|side| side * side == factors.len()).unwrap_or(1);
    let table = stage.constant(longs(factors.iter().copied()))?;
    let to = stage.picture(from.shape)?;
    for Part { offset, stride, width, height, bytes } in from.shape.planes() {
        let scalars =
            [width, height, bytes, offset, stride, stride, side as u32, shift, bias, absolute];
        let rows = Grid::Rows(height as usize);
        stage.run(launch(&FILTER, &[table, from.buffer, to.buffer], &scalars, rows));
    }
    Ok(Given::Picture(to))
}

fn laplacian(stage: &mut dyn Stage, given: &[Given], _: &Values<'_>) -> Result<Given, String> {
    filter(stage, given[0].picture()?, &[0, 1, 0, 1, -4, 1, 0, 1, 0], [0, 0, 1])
}

fn filter2d(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let [shift, bias] = ["shift", "bias"].map(|name| values.number(name) as u32);
    filter(stage, given[0].picture()?, values.numbers("factors"), [shift, bias, 0])
}
