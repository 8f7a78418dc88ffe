//! How many samples of a mask are not zero, in each block of 16 x 16.
//!
//! The grid has ceil(width/16) x ceil(height/16) counts of 32 bits, row by row; blocks at the
//! right and lower edge count only what lies in the mask. The motion score and the moving areas
//! are found in this grid on the host.

use hw::{Arg, BufferId, Command, CpuArgs, Grid, Kernel, Launch, Param};

use crate::dice::Dice;
use crate::native::{Band, bands, sizes, threads_for};
use crate::plane::Plane;
use crate::stem::{Entry, Op, Sample, Stem, Takes};

/// Side of a block, in samples.
pub const BLOCK: u32 = 16;

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[Op {
        name: "score",
        about: "The share of a mask that is set, 0 to 1",
        inputs: &[Takes::Mask],
        settings: &[],
        plan: None,
    }],
};

/// `mask`: gray plane; `grid`: counts.
pub static KERNEL: Kernel = Kernel {
    stem: "score",
    params: &[
        Param::In("mask"),
        Param::Out("grid"),
        Param::U32("width"),
        Param::U32("height"),
        Param::U32("stride"),
    ],
    opencl: include_str!("score.cl"),
    cuda: include_str!("score.cl"),
    cpu: native,
    bytes_needed,
    joined: None,
};

/// Counts in the plane at the start of `mask`.
pub fn command(mask: BufferId, shape: Plane, grid: BufferId) -> Command {
    let sizes = [shape.width, shape.height, shape.stride];
    let args = [mask, grid].map(Arg::Buffer).into_iter().chain(sizes.map(Arg::U32));
    let rows = grid_sides(shape.width, shape.height).1;
    Command::Launch(Launch {
        kernel: &KERNEL,
        args: args.collect(),
        grid: Grid::Items(rows as usize),
    })
}

/// Columns and rows of the grid for a mask of these sides.
pub fn grid_sides(width: u32, height: u32) -> (u32, u32) {
    (width.div_ceil(BLOCK), height.div_ceil(BLOCK))
}

/// Bytes of the grid for a mask of these sides.
pub fn grid_bytes(width: u32, height: u32) -> usize {
    let (columns, rows) = grid_sides(width, height);
    columns as usize * rows as usize * 4
}

pub fn reference(args: &mut CpuArgs<'_>) {
    let [width, height, stride] = sizes(args);
    let (columns, rows) = grid_sides(width as u32, height as u32);
    let mut counts = vec![0u32; columns as usize * rows as usize];
    for y in 0..height {
        for x in 0..width {
            let block = y / BLOCK as usize * columns as usize + x / BLOCK as usize;
            counts[block] += u32::from(args.inputs[0][y * stride + x] != 0);
        }
    }
    for (to, count) in args.outputs[0].chunks_exact_mut(4).zip(counts) {
        to.copy_from_slice(&count.to_le_bytes());
    }
}

fn native(args: &mut CpuArgs<'_>) {
    let [width, height, stride] = sizes(args);
    let threads = threads_for(args, width * height);
    let grid = &mut args.outputs[0][..grid_bytes(width as u32, height as u32)];
    let row_bytes = width.div_ceil(BLOCK as usize) * 4;
    let rows = BlockRows { mask: args.inputs[0], width, height, stride, row_bytes };
    bands(grid, row_bytes, threads, rows);
}

struct BlockRows<'a> {
    mask: &'a [u8],
    width: usize,
    height: usize,
    stride: usize,
    row_bytes: usize,
}

impl Band for BlockRows<'_> {
    /// Counts down the columns first, which fits a byte, then adds up each block's columns.
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        let mut columns = vec![0u8; self.width.next_multiple_of(BLOCK as usize)];
        for (block_y, counts) in band.chunks_exact_mut(self.row_bytes).enumerate() {
            let top = (first + block_y) * BLOCK as usize;
            columns.fill(0);
            for y in top..self.height.min(top + BLOCK as usize) {
                let row = &self.mask[y * self.stride..][..self.width];
                for (column, sample) in columns.iter_mut().zip(row) {
                    *column += u8::from(*sample != 0);
                }
            }
            let blocks = columns.chunks_exact(BLOCK as usize);
            for (count, block) in counts.chunks_exact_mut(4).zip(blocks) {
                let sum: u32 = block.iter().map(|column| u32::from(*column)).sum();
                count.copy_from_slice(&sum.to_le_bytes());
            }
        }
    }
}

fn bytes_needed(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[width, height, stride] = scalars else { return None };
    Some(vec![Plane { width, height, stride }.bytes()?, grid_bytes(width, height)])
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let shape = Plane { width, height, stride: width + dice.below(9) };
    let command = command(BufferId(0), shape, BufferId(1));
    Sample { command, inputs: vec![dice.bytes((shape.stride * height) as usize, width)] }
}

#[cfg(test)]
mod tests;
