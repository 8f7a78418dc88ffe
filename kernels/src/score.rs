//! How many samples of a mask are not zero, in each block of 16 x 16.
//!
//! The grid has ceil(width/16) x ceil(height/16) counts of 32 bits, row by row; blocks at the
//! right and lower edge count only what lies in the mask. The motion score and the moving areas
//! are found in this grid on the host.

use hw::{Arg, BufferId, Command, CpuArgs, Kernel, Launch, Param};

use crate::native::{bands, sizes, threads_for};
use crate::plane::Plane;

/// Side of a block, in samples.
pub const BLOCK: u32 = 16;

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
    cpu: native,
    bytes_needed,
};

/// Counts in the plane at the start of `mask`.
pub fn command(mask: BufferId, shape: Plane, grid: BufferId) -> Command {
    let sizes = [shape.width, shape.height, shape.stride];
    let args = [mask, grid].map(Arg::Buffer).into_iter().chain(sizes.map(Arg::U32));
    let rows = grid_sides(shape.width, shape.height).1;
    Command::Launch(Launch { kernel: &KERNEL, args: args.collect(), grid: [rows as usize, 1] })
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
    let mask = args.inputs[0];
    let grid = &mut args.outputs[0][..grid_bytes(width as u32, height as u32)];
    let row_bytes = width.div_ceil(BLOCK as usize) * 4;
    bands(grid, row_bytes, threads, |first, band| {
        for (block_y, counts) in band.chunks_exact_mut(row_bytes).enumerate() {
            let top = (first + block_y) * BLOCK as usize;
            let rows = top..height.min(top + BLOCK as usize);
            count_block_row(rows.map(|y| &mask[y * stride..][..width]), counts);
        }
    });
}

/// Adds up the blocks of up to 16 rows.
#[inline(always)]
fn count_block_row<'a>(rows: impl Iterator<Item = &'a [u8]>, counts: &mut [u8]) {
    counts.fill(0);
    for row in rows {
        for (count, samples) in counts.chunks_exact_mut(4).zip(row.chunks(BLOCK as usize)) {
            let [a, b, c, d] = count else { unreachable!("chunks of four") };
            let sum = u32::from_le_bytes([*a, *b, *c, *d]) + count_set(samples);
            count.copy_from_slice(&sum.to_le_bytes());
        }
    }
}

#[inline(always)]
fn count_set(samples: &[u8]) -> u32 {
    match <&[u8; BLOCK as usize]>::try_from(samples) {
        Ok(block) => u32::from(block.iter().map(|s| u8::from(*s != 0)).sum::<u8>()),
        Err(_) => samples.iter().map(|s| u32::from(*s != 0)).sum(),
    }
}

fn bytes_needed(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[width, height, stride] = scalars else { return None };
    Some(vec![Plane { width, height, stride }.bytes()?, grid_bytes(width, height)])
}

#[cfg(test)]
mod tests;
