//! NV12 luma to 8-bit gray of full range.
//!
//! For limited range (ITU-R BT.601 and BT.709: black 16, white 235) a sample `y`, first clamped
//! to 16..=235, becomes `((y - 16) * 255 + 109) / 219`; for full range it is copied.

use hw::{Arg, BufferId, Command, CpuArgs, Grid, Kernel, Launch, Param};

use crate::convert;
use crate::dice::Dice;
use crate::native::{Band, bands, sizes, threads_for};
use crate::plane::Plane;
use crate::pointwise::{Area, Assign, Operand, Pointwise, Track, Work};
use crate::shape::{PixelFormat, Range};
use crate::stem::{Entry, Given, Op, Sample, Stem, Takes};

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[Op {
        name: "gray",
        about: "A picture's brightness as 8-bit gray of full range",
        inputs: &[Takes::ANY],
        settings: &[],
        plan: Some(|stage, given, _| {
            let from = given[0].picture()?;
            let gray = convert::picture(stage, from, PixelFormat::Gray8, None, Range::Full)?;
            Ok(Given::Picture(gray))
        }),
    }],
};

/// `src`: luma plane; `dst`: gray plane of the same sides.
pub static KERNEL: Kernel = Kernel {
    stem: "gray",
    params: &[
        Param::In("src"),
        Param::Out("dst"),
        Param::U32("width"),
        Param::U32("height"),
        Param::U32("src_stride"),
        Param::U32("dst_stride"),
        Param::U32("limited"),
    ],
    opencl: include_str!("gray.cl"),
    cuda: include_str!("gray.cl"),
    cpu: native,
    bytes_needed,
    joined: None,
};

pub(crate) static POINTWISE: &[Pointwise] = &[Pointwise {
    kernel: &KERNEL,
    of: |scalars| {
        let &[width, height, src_stride, dst_stride, limited] = scalars else { return None };
        let luma = Operand::Sample(0, Track::bytes(0, src_stride));
        let to = (1, Track::bytes(0, dst_stride));
        let assign = match limited {
            0 => Assign::copy(to, luma),
            _ => Assign::call(to, "expanded_of", [luma]),
        };
        Some(Work { area: Area::rows(width, height), assigns: vec![assign] })
    },
}];

/// Converts the luma plane at the start of `src`; `limited` tells its range.
pub fn command(
    src: BufferId,
    from: Plane,
    dst: BufferId,
    dst_stride: u32,
    limited: bool,
) -> Command {
    let sizes = [from.width, from.height, from.stride, dst_stride, u32::from(limited)];
    let args = [src, dst].map(Arg::Buffer).into_iter().chain(sizes.map(Arg::U32));
    let grid = Grid::Rows(from.height as usize);
    Command::Launch(Launch { kernel: &KERNEL, args: args.collect(), grid })
}

/// One luma sample of limited range as gray of full range.
#[inline(always)]
pub fn expand_luma(y: u8) -> u8 {
    ((u16::from(y.clamp(16, 235)) - 16) * 255 + 109).wrapping_div(219) as u8
}

pub fn reference(args: &mut CpuArgs<'_>) {
    let [width, height, src_stride, dst_stride, limited] = sizes(args);
    for y in 0..height {
        for x in 0..width {
            let luma = args.inputs[0][y * src_stride + x];
            args.outputs[0][y * dst_stride + x] = if limited == 0 {
                luma
            } else {
                let above_black = (i32::from(luma) - 16).clamp(0, 219);
                ((above_black * 255 + 109) / 219) as u8
            };
        }
    }
}

fn native(args: &mut CpuArgs<'_>) {
    let [width, height, src_stride, dst_stride, limited] = sizes(args);
    let threads = threads_for(args, width * height);
    let dst = &mut args.outputs[0][..(height - 1) * dst_stride + width];
    let rows = Rows { src: args.inputs[0], width, src_stride, dst_stride, limited: limited != 0 };
    bands(dst, dst_stride, threads, rows);
}

struct Rows<'a> {
    src: &'a [u8],
    width: usize,
    src_stride: usize,
    dst_stride: usize,
    limited: bool,
}

impl Band for Rows<'_> {
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        for (y, row) in band.chunks_mut(self.dst_stride).enumerate() {
            let from = &self.src[(first + y) * self.src_stride..][..self.width];
            let row = &mut row[..self.width];
            if self.limited {
                row.iter_mut().zip(from).for_each(|(to, from)| *to = expand_luma(*from));
            } else {
                row.copy_from_slice(from);
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
    let dst_stride = width + dice.below(9);
    let limited = dice.below(2) == 0;
    let command = command(BufferId(0), from, BufferId(1), dst_stride, limited);
    Sample { command, inputs: vec![dice.bytes((from.stride * height) as usize, width)] }
}

#[cfg(test)]
mod tests;
