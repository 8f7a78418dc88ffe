//! Absolute difference of two gray planes: `|a - b|` for each sample.

use hw::{Arg, BufferId, Command, CpuArgs, Kernel, Launch, Param};

use crate::native::{Band, bands, sizes, threads_for};
use crate::plane::Plane;

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
    cpu: native,
    bytes_needed,
};

/// Compares two planes of one shape.
pub fn command(a: BufferId, b: BufferId, shape: Plane, dst: BufferId, dst_stride: u32) -> Command {
    let sizes = [shape.width, shape.height, shape.stride, shape.stride, dst_stride];
    let args = [a, b, dst].map(Arg::Buffer).into_iter().chain(sizes.map(Arg::U32));
    let grid = [shape.height as usize, 1];
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

#[cfg(test)]
mod tests;
