//! Absolute difference of two gray planes: `|a - b|` for each sample.

use hw::{Arg, BufferId, Command, CpuArgs, Grid, Kernel, Launch, Param};

use crate::dice::Dice;
use crate::native::{Band, bands, sizes, threads_for};
use crate::plane::Plane;
use crate::pointwise::{Area, Assign, Operand, Pointwise, Track, Work};
use crate::shape::Shape;
use crate::stem::{Entry, Given, Op, Sample, Stem, Takes};

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[Op {
        name: "absdiff",
        about: "Difference of two gray pictures of one size",
        inputs: &[Takes::GRAY, Takes::GRAY],
        settings: &[],
        plan: Some(|stage, given, _| {
            let (a, b) = (given[0].picture()?, given[1].picture()?);
            let Shape { width, height, .. } = a.shape;
            if (b.shape.width, b.shape.height) != (width, height) {
                let (other_width, other_height) = (b.shape.width, b.shape.height);
                return Err(format!(
                    "{width} x {height} and {other_width} x {other_height}: give two of one size"
                ));
            }
            let to = stage.picture(a.shape)?;
            let plane = Plane::tight(width, height);
            stage.run(command(a.buffer, b.buffer, plane, to.buffer, width));
            Ok(Given::Picture(to))
        }),
    }],
};

/// `a`, `b`, `dst`: gray planes of the same sides.
pub static KERNEL: Kernel = Kernel {
    stem: "absdiff",
    params: &[
        Param::In("a"),
        Param::In("b"),
        Param::Out("dst"),
        Param::U32("width"),
        Param::U32("height"),
        Param::U32("a_stride"),
        Param::U32("b_stride"),
        Param::U32("dst_stride"),
    ],
    opencl: include_str!("absdiff.cl"),
    cuda: include_str!("absdiff.cl"),
    cpu: native,
    bytes_needed,
    joined: None,
};

pub(crate) static POINTWISE: &[Pointwise] = &[Pointwise {
    kernel: &KERNEL,
    of: |scalars| {
        let &[width, height, a_stride, b_stride, dst_stride] = scalars else { return None };
        let from = |buffer, stride| Operand::Sample(buffer, Track::bytes(0, stride));
        let both = [from(0, a_stride), from(1, b_stride)];
        let assigns = vec![Assign::call((2, Track::bytes(0, dst_stride)), "absdiff_of", both)];
        Some(Work { area: Area::rows(width, height), assigns })
    },
}];

/// Compares two planes of one shape.
pub fn command(a: BufferId, b: BufferId, shape: Plane, dst: BufferId, dst_stride: u32) -> Command {
    let sizes = [shape.width, shape.height, shape.stride, shape.stride, dst_stride];
    let args = [a, b, dst].map(Arg::Buffer).into_iter().chain(sizes.map(Arg::U32));
    let grid = Grid::Rows(shape.height as usize);
    Command::Launch(Launch { kernel: &KERNEL, args: args.collect(), grid })
}

pub fn reference(args: &mut CpuArgs<'_>) {
    let [width, height, a_stride, b_stride, dst_stride] = sizes(args);
    for y in 0..height {
        for x in 0..width {
            let a = i32::from(args.inputs[0][y * a_stride + x]);
            let b = i32::from(args.inputs[1][y * b_stride + x]);
            args.outputs[0][y * dst_stride + x] = (a - b).unsigned_abs() as u8;
        }
    }
}

fn native(args: &mut CpuArgs<'_>) {
    let [width, height, a_stride, b_stride, dst_stride] = sizes(args);
    let threads = threads_for(args, width * height);
    let dst = &mut args.outputs[0][..(height - 1) * dst_stride + width];
    let (a, b) = (args.inputs[0], args.inputs[1]);
    bands(dst, dst_stride, threads, Rows { a, b, width, a_stride, b_stride, dst_stride });
}

struct Rows<'a> {
    a: &'a [u8],
    b: &'a [u8],
    width: usize,
    a_stride: usize,
    b_stride: usize,
    dst_stride: usize,
}

impl Band for Rows<'_> {
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        for (y, row) in band.chunks_mut(self.dst_stride).enumerate() {
            let a = &self.a[(first + y) * self.a_stride..][..self.width];
            let b = &self.b[(first + y) * self.b_stride..][..self.width];
            for (to, (a, b)) in row[..self.width].iter_mut().zip(a.iter().zip(b)) {
                *to = a.abs_diff(*b);
            }
        }
    }
}

fn bytes_needed(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[width, height, a_stride, b_stride, dst_stride] = scalars else { return None };
    [a_stride, b_stride, dst_stride]
        .map(|stride| Plane { width, height, stride }.bytes())
        .into_iter()
        .collect()
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let shape = Plane { width, height, stride: width + dice.below(9) };
    let command = command(BufferId(0), BufferId(1), shape, BufferId(2), width + dice.below(9));
    let bytes = (shape.stride * height) as usize;
    Sample { command, inputs: vec![dice.bytes(bytes, width), dice.bytes(bytes, width)] }
}

#[cfg(test)]
mod tests;
