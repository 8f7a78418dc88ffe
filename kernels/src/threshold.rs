//! A gray plane as a mask: 255 where a sample is above the level, else 0.

use hw::{Arg, BufferId, Command, CpuArgs, Grid, Kernel, Launch, Param};

use crate::dice::Dice;
use crate::native::{Band, bands, sizes, threads_for};
use crate::plane::Plane;
use crate::pointwise::{Area, Assign, Operand, Pointwise, Track, Work};
use crate::stem::{Entry, Given, Op, Sample, Setting, SettingKind, Stem, Takes};

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[Op {
        name: "threshold",
        about: "Gray as a mask: 255 above a level, else 0",
        inputs: &[Takes::GRAY],
        settings: &[Setting {
            name: "level",
            about: "The highest that becomes 0",
            kind: SettingKind::Number { default: 24, least: 0, most: 255 },
        }],
        plan: Some(|stage, given, values| {
            let from = given[0].picture()?;
            let to = stage.picture(from.shape)?;
            let (width, height) = (from.shape.width, from.shape.height);
            let level = values.number("level") as u8;
            let plane = Plane::tight(width, height);
            stage.run(command(from.buffer, plane, to.buffer, width, level));
            Ok(Given::Picture(to))
        }),
    }],
};

/// `src`, `dst`: gray planes of the same sides; `level`: 0 to 255, higher leaves nothing.
pub static KERNEL: Kernel = Kernel {
    stem: "threshold",
    params: &[
        Param::In("src"),
        Param::Out("dst"),
        Param::U32("width"),
        Param::U32("height"),
        Param::U32("src_stride"),
        Param::U32("dst_stride"),
        Param::U32("level"),
    ],
    opencl: include_str!("threshold.cl"),
    cuda: include_str!("threshold.cl"),
    cpu: native,
    bytes_needed,
    joined: None,
};

pub(crate) static POINTWISE: &[Pointwise] = &[Pointwise {
    kernel: &KERNEL,
    of: |scalars| {
        let &[width, height, src_stride, dst_stride, _] = scalars else { return None };
        let given = [Operand::Sample(0, Track::bytes(0, src_stride)), Operand::Scalar(4)];
        let assigns = vec![Assign::call((1, Track::bytes(0, dst_stride)), "threshold_of", given)];
        Some(Work { area: Area::rows(width, height), assigns })
    },
}];

/// Masks the plane at the start of `src`.
pub fn command(src: BufferId, from: Plane, dst: BufferId, dst_stride: u32, level: u8) -> Command {
    let sizes = [from.width, from.height, from.stride, dst_stride, u32::from(level)];
    let args = [src, dst].map(Arg::Buffer).into_iter().chain(sizes.map(Arg::U32));
    let grid = Grid::Rows(from.height as usize);
    Command::Launch(Launch { kernel: &KERNEL, args: args.collect(), grid })
}

pub fn reference(args: &mut CpuArgs<'_>) {
    let [width, height, src_stride, dst_stride, level] = sizes(args);
    for y in 0..height {
        for x in 0..width {
            let above = usize::from(args.inputs[0][y * src_stride + x]) > level;
            args.outputs[0][y * dst_stride + x] = if above { 255 } else { 0 };
        }
    }
}

fn native(args: &mut CpuArgs<'_>) {
    let [width, height, src_stride, dst_stride, level] = sizes(args);
    let threads = threads_for(args, width * height);
    let dst = &mut args.outputs[0][..(height - 1) * dst_stride + width];
    let level = level.min(255) as u8;
    let rows = Rows { src: args.inputs[0], width, src_stride, dst_stride, level };
    bands(dst, dst_stride, threads, rows);
}

struct Rows<'a> {
    src: &'a [u8],
    width: usize,
    src_stride: usize,
    dst_stride: usize,
    level: u8,
}

impl Band for Rows<'_> {
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        for (y, row) in band.chunks_mut(self.dst_stride).enumerate() {
            let from = &self.src[(first + y) * self.src_stride..][..self.width];
            for (to, from) in row[..self.width].iter_mut().zip(from) {
                *to = if *from > self.level { 255 } else { 0 };
            }
        }
    }
}

fn bytes_needed(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[width, height, src_stride, dst_stride, _] = scalars else { return None };
    let plane = |stride| Plane { width, height, stride }.bytes();
    Some(vec![plane(src_stride)?, plane(dst_stride)?])
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let from = Plane { width, height, stride: width + dice.below(9) };
    let level = dice.pick(&[24, 0, 255, 128]);
    let command = command(BufferId(0), from, BufferId(1), width + dice.below(9), level);
    Sample { command, inputs: vec![dice.bytes((from.stride * height) as usize, width)] }
}

#[cfg(test)]
mod tests;
