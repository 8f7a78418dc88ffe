//! The bilateral filter (Tomasi and Manduchi 1998): a mean of the samples around, in which those
//! that are near and alike count most. Edges stay.
//!
//! Weights are whole: `near[i]` (0 to 255) of the place in a square, nothing outside its inscribed
//! circle, times `alike[d]` (0 to 255) of the difference to the sample in the middle. Edges of the
//! picture are mirrored without repeating the last sample.
//!
//! ```text
//! dst = (sum of w s + (sum of w) / 2) / (sum of w)
//! ```
//!
//! Each component of a pixel is filtered by itself; for gray, OpenCV's result differs by rounding.

use hw::{BufferId, Command, CpuArgs, Grid, Kernel};

use crate::blur::odd;
use crate::dice::Dice;
use crate::native::{
    Band, Rows, Unit, bands, long, longs, mirrored, pixels, sizes, threads_for, unit,
};
use crate::plane::Part;
use crate::stem::{
    Entry, Given, Op, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch, params,
    portable,
};

/// Samples of a side, at most: sums of products fit 32 bits.
const SIDE_MAX: u32 = 9;

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[Op {
        name: "bilateral",
        about: "A blur that keeps edges: samples unlike the middle one hardly count",
        inputs: &[Takes::PLANES],
        settings: &[
            Setting {
                name: "size",
                about: "Samples of a side, odd",
                kind: SettingKind::Number { default: 5, least: 1, most: SIDE_MAX as i64 },
            },
            Setting {
                name: "alike",
                about: "Width of the bell over differences, in levels",
                kind: SettingKind::Decimal { default: 30_000, least: 100, most: 500_000 },
            },
            Setting {
                name: "near",
                about: "Width of the bell over distances, in samples",
                kind: SettingKind::Decimal { default: 2_000, least: 100, most: 50_000 },
            },
        ],
        plan: Some(bilateral),
    }],
};

pub static KERNEL: Kernel = portable(
    "bilateral",
    params!(In weights, In src, Out dst; width, height, channels, offset, src_stride, dst_stride,
        side),
    include_str!("bilateral.cl"),
    native,
    |scalars| {
        let &[width, height, bytes, offset, src_stride, dst_stride, side] = scalars else {
            return None;
        };
        let end = |stride| Part { offset, stride, width, height, bytes }.end();
        let (src, dst) = (end(src_stride)?, end(dst_stride)?);
        let possible = side % 2 == 1 && side <= SIDE_MAX && bytes <= 4;
        possible.then(|| vec![4 * (256 + side as usize * side as usize), src, dst])
    },
);

/// The weights of 256 differences, then those of the places of the square, row by row.
fn weights(side: usize, alike: f64, near: f64) -> Vec<u8> {
    let bell = |d2: f64, width: f64| (255.0 * (-d2 / (2.0 * width * width)).exp()).round() as i64;
    let radius = (side / 2) as i64;
    let alike = (0..256i64).map(|d| bell((d * d) as f64, alike));
    let place = |i: i64| {
        let (x, y) = (i % side as i64 - radius, i / side as i64 - radius);
        let d2 = x * x + y * y;
        if d2 > radius * radius { 0 } else { bell(d2 as f64, near) }
    };
    longs(alike.chain((0..(side * side) as i64).map(place)))
}

fn area(s: &[usize; 7]) -> Rows {
    let [width, height, channels, offset, _, dst_stride, _] = *s;
    Rows::of(offset, dst_stride, width * channels, height)
}

fn reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 7] = sizes(args);
    pixels(args, area(&s), 1, |inputs, s: &[usize; 7], x, y, to| {
        let [width, height, channels, offset, stride, _, side] = *s;
        let at = |x: usize, y: usize| inputs[1][offset + y * stride + x];
        let (middle, mut sum, mut total) = (at(x, y), 0u32, 0u32);
        for i in 0..side * side {
            let moved = |place: usize, by: usize, n: usize| {
                mirrored((place + by) as isize - (side / 2) as isize, n)
            };
            let column = moved(x / channels, i % side, width) * channels + x % channels;
            let sample = at(column, moved(y, i / side, height));
            let alike = long(inputs[0], usize::from(sample.abs_diff(middle))) & 255;
            let weight = alike * (long(inputs[0], 256 + i) & 255);
            (sum, total) = (sum + weight * u32::from(sample), total + weight);
        }
        to[0] = ((sum + total / 2) / total.max(1)) as u8;
    });
}

fn native(args: &mut CpuArgs<'_>) {
    let s: [usize; 7] = sizes(args);
    let area = area(&s);
    let threads = threads_for(args, 4 * s[6] * s[6] * area.count * area.bytes);
    let [weights, src] = [args.inputs[0], args.inputs[1]];
    let filter = Filter {
        weights,
        src,
        s,
        #[cfg(target_arch = "x86_64")]
        narrow: avx2::Weights::new(weights, s[6]).filter(|_| unit() >= Unit::Avx2),
    };
    bands(&mut args.outputs[0][area.range()], area.stride, threads, filter);
}

struct Filter<'a> {
    weights: &'a [u8],
    src: &'a [u8],
    s: [usize; 7],
    /// Weights that fit the form for AVX2, where there is that unit.
    #[cfg(target_arch = "x86_64")]
    narrow: Option<avx2::Weights>,
}

impl Band for Filter<'_> {
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        let [width, height, channels, offset, stride, dst_stride, side] = self.s;
        let (radius, len) = (side / 2, width * channels);
        // Source rows with their edges, each in the place of its number's remainder.
        let mut held: Vec<(usize, Vec<u8>)> = vec![(usize::MAX, Vec::new()); side];
        for (y, to) in band.chunks_mut(dst_stride).enumerate() {
            let around = |n: usize| mirrored((first + y + n) as isize - radius as isize, height);
            for from in (0..side).map(around) {
                let (number, row) = &mut held[from % side];
                if *number != from {
                    let samples = &self.src[offset + from * stride..][..len];
                    (*number, *row) = (from, self.edged(samples, channels, radius));
                }
            }
            let rows: Vec<&[u8]> = (0..side).map(|n| &held[around(n) % side].1[..]).collect();
            self.row(&rows, channels, &mut to[..len]);
        }
    }
}

impl Filter<'_> {
    /// A row with its edges, as the form for this machine wants it.
    #[inline(always)]
    fn edged(&self, samples: &[u8], channels: usize, radius: usize) -> Vec<u8> {
        let mut row = crate::lanes::padded(samples, channels, radius, mirrored);
        #[cfg(target_arch = "x86_64")]
        if self.narrow.is_some() {
            avx2::prepare(&mut row);
        }
        row
    }

    #[inline(always)]
    fn row(&self, rows: &[&[u8]], channels: usize, to: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(weights) = &self.narrow {
            // SAFETY: there are such weights only where there is the feature.
            return unsafe { avx2::row(weights, rows, channels, to) };
        }
        row(self.weights, rows, channels, to);
    }
}

/// Samples that are summed at once.
const BLOCK: usize = 64;

/// A row of the result from those around it, with their edges.
#[inline(always)]
fn row(weights: &[u8], rows: &[&[u8]], channels: usize, to: &mut [u8]) {
    let (side, radius) = (rows.len(), rows.len() / 2);
    let alike: [u16; 256] = std::array::from_fn(|d| (long(weights, d) & 255) as u16);
    for (number, to) in to.chunks_mut(BLOCK).enumerate() {
        let first = number * BLOCK;
        let middle = &rows[radius][first + radius * channels..][..to.len()];
        let (mut sums, mut totals) = ([0u32; BLOCK], [0u32; BLOCK]);
        for (n, column) in (0..side).flat_map(|n| (0..side).map(move |column| (n, column))) {
            let near = long(weights, 256 + n * side + column) & 255;
            if near == 0 {
                continue;
            }
            let samples = &rows[n][first + column * channels..][..to.len()];
            let both = sums.iter_mut().zip(&mut totals);
            for ((sum, total), (sample, middle)) in both.zip(samples.iter().zip(middle)) {
                let weight = near * u32::from(alike[usize::from(sample.abs_diff(*middle))]);
                *sum += weight * u32::from(*sample);
                *total += weight;
            }
        }
        for (to, (sum, total)) in to.iter_mut().zip(sums.iter().zip(totals)) {
            *to = ((sum + total / 2) / total.max(1)) as u8;
        }
    }
}

fn command(buffers: [BufferId; 3], part: Part, dst_stride: u32, side: u32) -> Command {
    let Part { offset, stride, width, height, bytes } = part;
    let scalars = [width, height, bytes, offset, stride, dst_stride, side];
    launch(&KERNEL, &buffers, &scalars, Grid::Rows(height as usize))
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (bytes, side) = (dice.pick(&[1, 3, 2]), dice.pick(&[5, 1, 3, 9]));
    let stride = width * bytes + dice.below(9);
    let part = Part { offset: dice.below(70), stride, width, height, bytes };
    let dst_stride = width * bytes + dice.below(9);
    let weights = weights(side as usize, f64::from(30 + dice.below(90)), 2.0);
    let source = dice.bytes((part.offset + stride * height) as usize, width);
    let command = command([0, 1, 2].map(BufferId), part, dst_stride, side);
    Sample { command, inputs: vec![weights, source] }
}

fn bilateral(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let (from, side) = (given[0].picture()?, odd(values)?);
    let [alike, near] = ["alike", "near"].map(|name| values.number(name) as f64 / 1000.0);
    let weights = stage.constant(weights(side, alike, near))?;
    let to = stage.picture(from.shape)?;
    for part in from.shape.planes() {
        stage.run(command([weights, from.buffer, to.buffer], part, part.stride, side as u32));
    }
    Ok(Given::Picture(to))
}

#[cfg(target_arch = "x86_64")]
mod avx2;

#[cfg(test)]
mod tests;
