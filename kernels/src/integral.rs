//! Integral images: each place has the sum of all samples above and to the left, modulo 2^32, with
//! a row and a column of zeros in front, as OpenCV has it.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::{Unit, long, sizes, unit};
use crate::plane::Part;
use crate::shape::{PixelFormat, Shape};
use crate::stem::{
    Entry, Given, Op, Sample, Stage, Stem, Takes, Values, after, launch, pair, params, portable,
};

pub static STEM: Stem = Stem {
    entries: &[
        Entry { kernel: &ROWS, reference: rows_reference, sample: rows_sample },
        Entry { kernel: &COLUMNS, reference: columns_reference, sample: columns_sample },
    ],
    ops: &[Op {
        name: "integral",
        about: "Sums of all samples above and to the left, as 32-bit numbers",
        inputs: &[Takes::GRAY],
        settings: &[],
        plan: Some(integral),
    }],
};

pub static ROWS: Kernel = portable(
    "integral_rows",
    params!(In src, Out dst; width, height, stride),
    include_str!("integral.cl"),
    rows_native,
    |scalars| {
        let &[width, height, stride] = scalars else { return None };
        let src = Part { offset: 0, stride, width, height, bytes: 1 }.end()?;
        Some(vec![src, sums_bytes(width, height)?])
    },
);

pub static COLUMNS: Kernel = after(
    portable(
        "integral_columns",
        params!(InOut sums; width, height),
        include_str!("integral.cl"),
        columns_native,
        |scalars| {
            let &[width, height] = scalars else { return None };
            Some(vec![sums_bytes(width, height)?])
        },
    ),
    "integral_rows",
    both_native,
);

fn sums_bytes(width: u32, height: u32) -> Option<usize> {
    Part::tight(0, width, height, 1).end()?;
    Part::tight(0, width + 1, height + 1, 4).end()
}

fn rows_reference(args: &mut CpuArgs<'_>) {
    let [width, height, stride] = sizes(args);
    for y in 0..=height {
        for x in 0..=width {
            let row = if y == 0 { &[][..] } else { &args.inputs[0][(y - 1) * stride..][..x] };
            let sum: u32 = row.iter().map(|sample| u32::from(*sample)).sum();
            let at = 4 * (y * (width + 1) + x);
            args.outputs[0][at..at + 4].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

fn rows_native(args: &mut CpuArgs<'_>) {
    let [width, height, stride] = sizes(args);
    let (first, rest) = args.outputs[0].split_at_mut(4 * (width + 1));
    first.fill(0);
    let rows = rest.chunks_exact_mut(4 * (width + 1)).take(height);
    for (y, row) in rows.enumerate() {
        let mut sum = 0u32;
        let (zero, row) = row.split_at_mut(4);
        zero.fill(0);
        let from = &args.inputs[0][y * stride..][..width];
        for (to, sample) in row.chunks_exact_mut(4).zip(from) {
            sum += u32::from(*sample);
            to.copy_from_slice(&sum.to_le_bytes());
        }
    }
}

fn columns_reference(args: &mut CpuArgs<'_>) {
    let [width, height] = sizes(args);
    for x in 0..=width {
        let mut sum = 0u32;
        for y in 0..=height {
            let at = 4 * (y * (width + 1) + x);
            sum = sum.wrapping_add(long(&args.outputs[0][at..], 0));
            args.outputs[0][at..at + 4].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

fn columns_native(args: &mut CpuArgs<'_>) {
    let [width, height] = sizes(args);
    let row_bytes = 4 * (width + 1);
    for y in 1..=height {
        let (before, row) = args.outputs[0][(y - 1) * row_bytes..].split_at_mut(row_bytes);
        let pairs = row[..row_bytes].as_chunks_mut::<4>().0.iter_mut().zip(before.as_chunks().0);
        for (to, above) in pairs {
            *to = u32::from_le_bytes(*to).wrapping_add(u32::from_le_bytes(*above)).to_le_bytes();
        }
    }
}

/// Each row on top of the one above it.
fn both_native(first: &CpuArgs<'_>, second: &mut CpuArgs<'_>) -> bool {
    let ([width, height, stride], sides): ([usize; 3], [usize; 2]) = (sizes(first), sizes(second));
    if [width, height] != sides {
        return false;
    }
    let row_bytes = 4 * (width + 1);
    second.outputs[0][..row_bytes].fill(0);
    for y in 0..height {
        let (above, row) = second.outputs[0][y * row_bytes..].split_at_mut(row_bytes);
        add_row(&first.inputs[0][y * stride..][..width], above, &mut row[..row_bytes]);
    }
    true
}

/// The sums of a row of samples on top of those above it.
fn add_row(from: &[u8], above: &[u8], to: &mut [u8]) {
    let (above, to) = (above.as_chunks::<4>().0, to.as_chunks_mut::<4>().0);
    to[0] = [0; 4];
    let (mut done, mut sum) = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if unit() >= Unit::Avx2 {
        // SAFETY: the feature was just found on this machine.
        (done, sum) = unsafe { avx2::add(from, &above[1..], &mut to[1..]) };
    }
    let rest = from[done..].iter().zip(&above[1 + done..]);
    for (to, (sample, above)) in to[1 + done..].iter_mut().zip(rest) {
        sum += u32::from(*sample);
        *to = u32::from_le_bytes(*above).wrapping_add(sum).to_le_bytes();
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2;

fn rows_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let stride = width + dice.below(9);
    let src = dice.bytes((stride * height) as usize, width);
    let rows = Grid::Items(height as usize + 1);
    let buffers = [BufferId(0), BufferId(1)];
    let command = launch(&ROWS, &buffers, &[width, height, stride], rows);
    Sample { command, inputs: vec![src] }
}

fn columns_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let sums = dice.bytes(4 * ((width + 1) * (height + 1)) as usize, width);
    let columns = Grid::Items(width as usize + 1);
    let command = launch(&COLUMNS, &[BufferId(0)], &[width, height], columns);
    Sample { command, inputs: vec![sums] }
}

fn integral(stage: &mut dyn Stage, given: &[Given], _: &Values<'_>) -> Result<Given, String> {
    let from = given[0].picture()?;
    let Shape { width, height, .. } = from.shape;
    let to = stage.picture(Shape::full(width + 1, height + 1, PixelFormat::Gray32))?;
    let buffers = [from.buffer, to.buffer];
    let rows = Grid::Items(height as usize + 1);
    let rows = launch(&ROWS, &buffers, &[width, height, width], rows);
    let columns = Grid::Items(width as usize + 1);
    stage.run(pair(rows, launch(&COLUMNS, &[to.buffer], &[width, height], columns)));
    Ok(Given::Picture(to))
}

#[cfg(test)]
mod tests;
