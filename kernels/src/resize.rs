//! Other sizes: nearest, bilinear, bicubic, area and Lanczos-3.
//!
//! Both directions have a table: for each place of the result, the first source sample and whole
//! weights of sum 2^14. Samples before the first or after the last repeat the edge.
//!
//! ```text
//! t[y][x]   = (sum over i of wy[y][i] s[y0[y] + i][x] + 2^7)  >> 8      6 fractional bits
//! dst[y][x] = clamp((sum over i of wx[x][i] t[y][x0[x] + i] + 2^19) >> 20)
//! ```
//!
//! Down comes first: whole rows are weighed without looking for samples, and a picture that gets
//! smaller has fewer of them afterwards.
//!
//! Centres of samples fall on centres: place `x` of the result lies at `(x + 1/2) scale - 1/2`.
//! `bilinear` and `bicubic` (a = -3/4) take two and four samples whatever the scale, as OpenCV's
//! do; `area` and `lanczos` widen with the scale when a picture gets smaller.

mod both;

use hw::{BufferId, Command, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::{Rows, long, longs, pixels, row, rows, sizes, word};
use crate::plane::Part;
use crate::shape::Shape;
use crate::stem::{
    Entry, Given, Op, Picture, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, after,
    launch, pair, params, portable,
};

/// Most weights of one place.
const TAPS_MAX: usize = 512;
const ONE: i64 = 1 << 14;

pub static STEM: Stem = Stem {
    entries: &[
        Entry { kernel: &DOWN, reference: down_reference, sample: down_sample },
        Entry { kernel: &ACROSS, reference: across_reference, sample: across_sample },
    ],
    ops: &[Op {
        name: "resize",
        about: "Another size",
        inputs: &[Takes::PLANES],
        settings: &[
            Setting {
                name: "width",
                about: "Columns; 0 keeps the shape of the picture",
                kind: SettingKind::Number { default: 0, least: 0, most: crate::SIDE_MAX as i64 },
            },
            Setting {
                name: "height",
                about: "Rows; 0 keeps the shape of the picture",
                kind: SettingKind::Number { default: 0, least: 0, most: crate::SIDE_MAX as i64 },
            },
            Setting {
                name: "filter",
                about: "How samples are weighed",
                kind: SettingKind::Choice(&["bilinear", "nearest", "bicubic", "area", "lanczos"]),
            },
        ],
        plan: Some(resize),
    }],
};

pub static DOWN: Kernel = portable(
    "resize_down",
    params!(In table, In src, Out dst; width, height, channels, offset, stride, dst_height, taps),
    include_str!("resize.cl"),
    |args| rows(args, down_area(&sizes(args)), 6, row!(7, down_row)),
    down_bytes,
);

pub static ACROSS: Kernel = after(
    portable(
        "resize_across",
        params!(In table, In src, Out dst; width, height, channels, offset, stride, dst_width,
            taps),
        include_str!("resize.cl"),
        |args| rows(args, across_area(&sizes(args)), 6, row!(7, across_row)),
        across_bytes,
    ),
    "resize_down",
    both::native,
);

/// How samples are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    Nearest,
    Bilinear,
    Bicubic,
    Area,
    Lanczos,
}

/// For each place of the result, the first sample and the weights from there on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub taps: usize,
    /// First sample, then the weights, for each place.
    pub entries: Vec<i32>,
}

impl Table {
    pub fn new(from: u32, to: u32, filter: Filter) -> Self {
        let scale = f64::from(from) / f64::from(to);
        let wide = scale.max(1.0);
        let (reach, stretch) = match filter {
            Filter::Nearest => (0.5, 1.0),
            Filter::Bilinear => (1.0, 1.0),
            Filter::Bicubic => (2.0, 1.0),
            Filter::Area if scale <= 1.0 => (1.0, 1.0),
            Filter::Area => (0.5 + 0.5 / wide, wide),
            Filter::Lanczos => (3.0, wide),
        };
        // A sample at either end of the reach has no weight: as many as fit between.
        let taps = ((2.0 * reach * stretch - 1e-9).ceil() as usize).clamp(1, TAPS_MAX);
        let taps = if filter == Filter::Nearest { 1 } else { taps };
        let mut entries = Vec::with_capacity(to as usize * (taps + 1));
        for place in 0..to {
            let centre = (f64::from(place) + 0.5) * scale - 0.5;
            let first = match filter {
                Filter::Nearest => (f64::from(place) * scale).floor(),
                _ => (centre - reach * stretch).ceil(),
            };
            let raw: Vec<f64> = (0..taps)
                .map(|i| weight(filter, first + i as f64, centre, place, scale, stretch))
                .collect();
            entries.push(first as i32);
            entries.extend(whole(&raw));
        }
        Self { taps, entries }
    }

    pub fn bytes(&self) -> Vec<u8> {
        longs(self.entries.iter().map(|v| i64::from(*v)))
    }
}

fn weight(filter: Filter, sample: f64, centre: f64, place: u32, scale: f64, stretch: f64) -> f64 {
    let d = ((sample - centre) / stretch).abs();
    match filter {
        Filter::Nearest => 1.0,
        Filter::Bilinear => (1.0 - d).max(0.0),
        Filter::Area if scale <= 1.0 => (1.0 - d).max(0.0),
        // How much of the sample the place covers.
        Filter::Area => {
            let (start, end) = (f64::from(place) * scale, f64::from(place + 1) * scale);
            ((sample + 1.0).min(end) - sample.max(start)).max(0.0)
        }
        Filter::Bicubic => {
            let a = -0.75;
            match d {
                d if d < 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
                d if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
                _ => 0.0,
            }
        }
        Filter::Lanczos => match d {
            d if d < 1e-9 => 1.0,
            d if d < 3.0 => {
                let pi = std::f64::consts::PI;
                3.0 * (pi * d).sin() * (pi * d / 3.0).sin() / (pi * pi * d * d)
            }
            _ => 0.0,
        },
    }
}

/// Whole weights of sum 2^14; what rounding leaves goes to the largest.
fn whole(raw: &[f64]) -> Vec<i32> {
    let sum: f64 = raw.iter().sum();
    let mut weights: Vec<i32> = raw.iter().map(|w| (w / sum * ONE as f64).round() as i32).collect();
    let left = ONE as i32 - weights.iter().sum::<i32>();
    if let Some(largest) = weights.iter_mut().max_by_key(|w| **w) {
        *largest += left;
    }
    weights
}

#[inline(always)]
fn near(first: i32, i: usize, n: usize) -> usize {
    (i64::from(first) + i as i64).clamp(0, n as i64 - 1) as usize
}

fn possible(channels: u32, taps: u32) -> bool {
    (1..=4).contains(&channels) && (1..=TAPS_MAX as u32).contains(&taps)
}

fn table_bytes(places: u32, taps: u32) -> usize {
    4 * places as usize * (taps as usize + 1)
}

fn down_area(s: &[usize; 7]) -> Rows {
    let [width, _, channels, _, _, dst_height, _] = *s;
    let bytes = 2 * width * channels;
    Rows::of(0, bytes, bytes, dst_height)
}

fn down_reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 7] = sizes(args);
    pixels(args, down_area(&s), 2, |inputs, s: &[usize; 7], x, y, to| {
        let [_, height, _, offset, stride, _, taps] = *s;
        let entry = |i: usize| long(inputs[0], y * (taps + 1) + i) as i32;
        let sum = (0..taps).fold(1i32 << 7, |sum, i| {
            let at = offset + near(entry(0), i, height) * stride + x;
            sum.wrapping_add(entry(1 + i).wrapping_mul(i32::from(inputs[1][at])))
        });
        to.copy_from_slice(&((sum >> 8) as i16).to_le_bytes());
    });
}

const CHUNK: usize = 128;

#[inline(always)]
fn down_row(inputs: &[&[u8]], s: &[usize; 7], y: usize, to: &mut [u8]) {
    let [_, height, _, offset, stride, _, taps] = *s;
    let entry = |i: usize| long(inputs[0], y * (taps + 1) + i) as i32;
    for (number, to) in to.as_chunks_mut::<2>().0.chunks_mut(CHUNK).enumerate() {
        let mut sums = [1i32 << 7; CHUNK];
        for i in 0..taps {
            let (weight, from) = (entry(1 + i), near(entry(0), i, height));
            let row = &inputs[1][offset + from * stride + number * CHUNK..][..to.len()];
            for (sum, sample) in sums.iter_mut().zip(row) {
                *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(*sample)));
            }
        }
        to.iter_mut().zip(&sums).for_each(|(to, sum)| *to = ((*sum >> 8) as i16).to_le_bytes());
    }
}

fn down_bytes(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[width, height, bytes, offset, stride, dst_height, taps] = scalars else { return None };
    let src = Part { offset, stride, width, height, bytes }.end()?;
    let dst = Part::tight(0, width, dst_height, 2 * bytes).end()?;
    possible(bytes, taps).then(|| vec![table_bytes(dst_height, taps), src, dst])
}

fn across_area(s: &[usize; 7]) -> Rows {
    let [_, height, channels, offset, stride, dst_width, _] = *s;
    Rows::of(offset, stride, dst_width * channels, height)
}

fn across_reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 7] = sizes(args);
    pixels(args, across_area(&s), 1, |inputs, s: &[usize; 7], x, y, to| {
        let [width, _, channels, _, _, _, taps] = *s;
        let entry = |i: usize| long(inputs[0], x / channels * (taps + 1) + i) as i32;
        let sum = (0..taps).fold(1i32 << 19, |sum, i| {
            let at = near(entry(0), i, width) * channels + x % channels;
            let sample = i32::from(word(inputs[1], y * width * channels + at) as i16);
            sum.wrapping_add(entry(1 + i).wrapping_mul(sample))
        });
        to[0] = (sum >> 20).clamp(0, 255) as u8;
    });
}

#[inline(always)]
fn across_row(inputs: &[&[u8]], s: &[usize; 7], y: usize, to: &mut [u8]) {
    let [width, _, channels, _, _, _, taps] = *s;
    let row = &inputs[1].as_chunks::<2>().0[y * width * channels..][..width * channels];
    match channels {
        1 => weigh::<1>(inputs[0], row, width, taps, to),
        2 => weigh::<2>(inputs[0], row, width, taps, to),
        3 => weigh::<3>(inputs[0], row, width, taps, to),
        _ => weigh::<4>(inputs[0], row, width, taps, to),
    }
}

#[inline(always)]
fn weigh<const CHANNELS: usize>(
    table: &[u8],
    from: &[[u8; 2]],
    width: usize,
    taps: usize,
    to: &mut [u8],
) {
    let entries = table.chunks_exact(4 * (taps + 1));
    for (entry, to) in entries.zip(to.chunks_exact_mut(CHANNELS)) {
        let first = long(entry, 0) as i32;
        let mut sums = [1i32 << 19; CHANNELS];
        for i in 0..taps {
            let weight = long(entry, 1 + i) as i32;
            let pixel = &from[near(first, i, width) * CHANNELS..][..CHANNELS];
            for (sum, sample) in sums.iter_mut().zip(pixel) {
                let sample = i32::from(i16::from_le_bytes(*sample));
                *sum = sum.wrapping_add(weight.wrapping_mul(sample));
            }
        }
        to.iter_mut().zip(sums).for_each(|(to, sum)| *to = (sum >> 20).clamp(0, 255) as u8);
    }
}

fn across_bytes(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[width, height, bytes, offset, stride, dst_width, taps] = scalars else { return None };
    let src = Part::tight(0, width, height, 2 * bytes).end()?;
    let dst = Part { offset, stride, width: dst_width, height, bytes }.end()?;
    possible(bytes, taps).then(|| vec![table_bytes(dst_width, taps), src, dst])
}

const FILTERS: [Filter; 5] =
    [Filter::Bilinear, Filter::Nearest, Filter::Bicubic, Filter::Area, Filter::Lanczos];

fn down_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let to = height.div_ceil(2) + dice.below(2 * height);
    let table = Table::new(height, to, dice.pick(&FILTERS));
    let part = sample_part(dice, width, height);
    let command = down([0, 1, 2].map(BufferId), part, to, table.taps);
    let src = dice.bytes((part.offset + part.stride * height) as usize, width);
    Sample { command, inputs: vec![table.bytes(), src] }
}

fn across_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let to = width.div_ceil(2) + dice.below(2 * width);
    let table = Table::new(width, to, dice.pick(&FILTERS));
    let part = sample_part(dice, to, height);
    let command = across([0, 1, 2].map(BufferId), part, width, table.taps);
    let samples = dice.bytes((width * height * part.bytes) as usize, width);
    let between = samples.iter().flat_map(|s| (i16::from(*s) * 64 - 700).to_le_bytes()).collect();
    Sample { command, inputs: vec![table.bytes(), between] }
}

fn sample_part(dice: &mut Dice, width: u32, height: u32) -> Part {
    let bytes = dice.pick(&[3, 1, 2, 4]);
    let stride = width * bytes + dice.below(9);
    Part { offset: dice.below(70), stride, width, height, bytes }
}

/// Other rows: `from` becomes `dst_height` rows of 16 bits a sample.
fn down(buffers: [BufferId; 3], from: Part, dst_height: u32, taps: usize) -> Command {
    let Part { offset, stride, width, height, bytes } = from;
    let scalars = [width, height, bytes, offset, stride, dst_height, taps as u32];
    launch(&DOWN, &buffers, &scalars, Grid::Rows(dst_height as usize))
}

/// Other columns: rows of `src_width` pixels of 16 bits a sample become `to`.
fn across(buffers: [BufferId; 3], to: Part, src_width: u32, taps: usize) -> Command {
    let Part { offset, stride, width, height, bytes } = to;
    let scalars = [src_width, height, bytes, offset, stride, width, taps as u32];
    launch(&ACROSS, &buffers, &scalars, Grid::Rows(height as usize))
}

/// Brings a picture to another size, plane by plane.
pub(crate) fn picture(
    stage: &mut dyn Stage,
    from: Picture,
    width: u32,
    height: u32,
    filter: Filter,
) -> Result<Picture, String> {
    let to = stage.picture(Shape { width, height, ..from.shape })?;
    for (a, b) in from.shape.planes().into_iter().zip(to.shape.planes()) {
        let vertical = Table::new(a.height, b.height, filter);
        let horizontal = Table::new(a.width, b.width, filter);
        let between = stage.buffer(2 * (a.width * b.height * a.bytes) as usize)?;
        let tables = [stage.constant(vertical.bytes())?, stage.constant(horizontal.bytes())?];
        let down = down([tables[0], from.buffer, between], a, b.height, vertical.taps);
        let across = across([tables[1], between, to.buffer], b, a.width, horizontal.taps);
        stage.run(pair(down, across));
    }
    Ok(to)
}

fn resize(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let from = given[0].picture()?;
    let Shape { width: from_width, height: from_height, .. } = from.shape;
    let (width, height) = (values.number("width") as u32, values.number("height") as u32);
    let fitting = |other: u32, own: u32, others: u32| {
        ((u64::from(other) * u64::from(own) + u64::from(others) / 2) / u64::from(others)).max(1)
            as u32
    };
    let (width, height) = match (width, height) {
        (0, 0) => return Err("give a width, a height, or both".to_string()),
        (0, height) => (fitting(height, from_width, from_height), height),
        (width, 0) => (width, fitting(width, from_height, from_width)),
        both => both,
    };
    let filter = match values.text("filter") {
        "nearest" => Filter::Nearest,
        "bicubic" => Filter::Bicubic,
        "area" => Filter::Area,
        "lanczos" => Filter::Lanczos,
        _ => Filter::Bilinear,
    };
    let widest = (from_width / width).max(from_height / height);
    if 6 * widest as usize >= TAPS_MAX - 2 {
        return Err(format!("{width} x {height} from {from_width} x {from_height}: too small"));
    }
    picture(stage, from, width, height, filter).map(Given::Picture)
}

#[cfg(test)]
mod tests;
