//! Half the width and height by the rounded mean of 2 x 2 samples: `(a + b + c + d + 2) / 4`.
//!
//! The result has ceil(width/2) x ceil(height/2) samples; past an odd edge the last sample counts
//! twice.

use hw::{Arg, BufferId, Command, CpuArgs, Grid, Kernel, Launch, Param};

use crate::dice::Dice;
use crate::native::{Band, bands, sizes, threads_for};
use crate::plane::Plane;
use crate::pointwise::{Area, Reader, Reading, Track};
use crate::shape::Shape;
use crate::stem::{Entry, Given, Op, Sample, Stem, Takes};

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[Op {
        name: "half",
        about: "Gray of half the width and height",
        inputs: &[Takes::GRAY],
        settings: &[],
        plan: Some(|stage, given, _| {
            let from = given[0].picture()?;
            let (width, height) = (from.shape.width.div_ceil(2), from.shape.height.div_ceil(2));
            let to = stage.picture(Shape { width, height, ..from.shape })?;
            let plane = Plane::tight(from.shape.width, from.shape.height);
            stage.run(command(from.buffer, plane, to.buffer, width));
            Ok(Given::Picture(to))
        }),
    }],
};

/// `src`: gray plane; `dst`: gray plane of half the sides. The sizes are those of `src`.
pub static KERNEL: Kernel = Kernel {
    stem: "half_size",
    params: &[
        Param::In("src"),
        Param::Out("dst"),
        Param::U32("width"),
        Param::U32("height"),
        Param::U32("src_stride"),
        Param::U32("dst_stride"),
    ],
    opencl: include_str!("half.cl"),
    cuda: include_str!("half.cl"),
    cpu: native,
    bytes_needed,
    joined: None,
};

pub(crate) static READERS: &[Reader] = &[Reader {
    kernel: &KERNEL,
    of: |scalars| {
        let &[width, height, src_stride, _] = scalars else { return None };
        let track = Track::bytes(0, src_stride);
        Some(Reading { buffer: 0, track, area: Area::rows(width, height), times: 1 })
    },
}];

/// Halves the plane at the start of `src`.
pub fn command(src: BufferId, from: Plane, dst: BufferId, dst_stride: u32) -> Command {
    let sizes = [from.width, from.height, from.stride, dst_stride];
    let args = [src, dst].map(Arg::Buffer).into_iter().chain(sizes.map(Arg::U32));
    let grid = Grid::Rows(from.height.div_ceil(2) as usize);
    Command::Launch(Launch { kernel: &KERNEL, args: args.collect(), grid })
}

pub fn reference(args: &mut CpuArgs<'_>) {
    let [width, height, src_stride, dst_stride] = sizes(args);
    let src = args.inputs[0];
    let sample =
        |x: usize, y: usize| u32::from(src[y.min(height - 1) * src_stride + x.min(width - 1)]);
    for y in 0..height.div_ceil(2) {
        for x in 0..width.div_ceil(2) {
            let (x2, y2) = (2 * x, 2 * y);
            let sum =
                sample(x2, y2) + sample(x2 + 1, y2) + sample(x2, y2 + 1) + sample(x2 + 1, y2 + 1);
            args.outputs[0][y * dst_stride + x] = ((sum + 2) / 4) as u8;
        }
    }
}

fn native(args: &mut CpuArgs<'_>) {
    let [width, height, src_stride, dst_stride] = sizes(args);
    let threads = threads_for(args, width * height);
    let (out_width, out_height) = (width.div_ceil(2), height.div_ceil(2));
    let dst = &mut args.outputs[0][..(out_height - 1) * dst_stride + out_width];
    let rows = Rows { src: args.inputs[0], width, height, src_stride, dst_stride };
    bands(dst, dst_stride, threads, rows);
}

struct Rows<'a> {
    src: &'a [u8],
    width: usize,
    height: usize,
    src_stride: usize,
    dst_stride: usize,
}

impl Band for Rows<'_> {
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        for (y, row) in band.chunks_mut(self.dst_stride).enumerate() {
            let upper = 2 * (first + y);
            let lower = (upper + 1).min(self.height - 1);
            let from = |y: usize| &self.src[y * self.src_stride..][..self.width];
            half_row(from(upper), from(lower), &mut row[..self.width.div_ceil(2)]);
        }
    }
}

#[inline(always)]
fn half_row(upper: &[u8], lower: &[u8], to: &mut [u8]) {
    let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
    for (to, (a, b)) in to.iter_mut().zip(pairs) {
        let sum = u16::from(a[0]) + u16::from(a[1]) + u16::from(b[0]) + u16::from(b[1]);
        *to = ((sum + 2) >> 2) as u8;
    }
    if upper.len() % 2 == 1 {
        let last = upper.len() - 1;
        let sum = 2 * (u16::from(upper[last]) + u16::from(lower[last]));
        to[last / 2] = ((sum + 2) >> 2) as u8;
    }
}

fn bytes_needed(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[width, height, src_stride, dst_stride] = scalars else { return None };
    let src = Plane { width, height, stride: src_stride };
    let (width, height) = (width.div_ceil(2), height.div_ceil(2));
    let dst = Plane { width, height, stride: dst_stride };
    Some(vec![src.bytes()?, dst.bytes()?])
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let from = Plane { width, height, stride: width + dice.below(9) };
    let command = command(BufferId(0), from, BufferId(1), width.div_ceil(2) + dice.below(9));
    Sample { command, inputs: vec![dice.bytes((from.stride * height) as usize, width)] }
}

#[cfg(test)]
mod tests;
