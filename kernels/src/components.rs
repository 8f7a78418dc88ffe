//! Connected components: which samples of a mask hang together.
//!
//! Samples that are not zero touch those beside, above and below them; with a connectivity of 8
//! those at their corners too. A component is what can be reached from one of its samples.
//! Components are numbered from 1 on by their first sample, row by row; its number is the label of
//! each sample, and samples that are zero have the label 0. These are the labels of OpenCV's
//! `connectedComponents`, up to their order.
//!
//! On the way, the samples of a component form a tree. `component_runs` makes a tree of each run
//! within 64 samples of a row, and `component_join` joins the trees of samples that touch, all at
//! once (union-find, after Playne and Hawick 2018). It ends, whatever the order of threads: a
//! parent is never larger than its child and only ever gets smaller, so that the way to a root goes
//! down, and each further turn of a join starts with a smaller sum of its two samples. No thread
//! waits for another. Which tree comes out depends on the order, its root does not: the least
//! sample of the component, because that alone can be its own parent. `component_roots` is what
//! makes of any such tree the same picture; the two are a pair.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::{Rows, long, pixels, row, rows, sizes};
use crate::plane::Plane;
use crate::shape::{PixelFormat, Shape};
use crate::stem::{
    Entry, Given, Op, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, after, launch,
    pair, params, portable,
};

mod runs;

/// Samples of a row that one thread makes runs of.
const CHUNK: usize = 64;

pub static STEM: Stem = Stem {
    entries: &[
        Entry { kernel: &RUNS, reference: runs_reference, sample: runs_sample },
        Entry { kernel: &JOIN, reference: join_reference, sample: join_sample },
        Entry { kernel: &ROOTS, reference: roots_reference, sample: roots_sample },
        Entry { kernel: &COUNT, reference: count_reference, sample: count_sample },
        Entry { kernel: &NUMBER, reference: number_reference, sample: number_sample },
        Entry { kernel: &LABELS, reference: labels_reference, sample: labels_sample },
    ],
    ops: &[Op {
        name: "components",
        about: "Labels of the connected parts of a mask: 1, 2, … in order of their first sample",
        inputs: &[Takes::Mask],
        settings: &[Setting {
            name: "connectivity",
            about: "Samples around one that touch it",
            kind: SettingKind::Choice(&["8", "4"]),
        }],
        plan: Some(components),
    }],
};

/// Parents of samples, one more than their numbers: that of the first of the run, within 64.
pub static RUNS: Kernel = portable(
    "component_runs",
    params!(In mask, Out parents; width, height, stride),
    include_str!("components.cl"),
    |args| {
        let area = area(&sizes::<3>(args));
        rows(args, area, 1, row!(3, runs_row));
    },
    |scalars| {
        let &[width, height, stride] = scalars else { return None };
        Some(vec![Plane { width, height, stride }.bytes()?, words(width, height)?])
    },
);

/// Joins the trees of samples that touch. What `parents` holds after it is not laid down.
pub static JOIN: Kernel = portable(
    "component_join",
    params!(In mask, InOut parents; width, height, stride, diagonal),
    include_str!("components.cl"),
    join_reference,
    |scalars| {
        let &[width, height, stride, diagonal] = scalars else { return None };
        let mask = Plane { width, height, stride }.bytes()?;
        (diagonal <= 1).then_some(vec![mask, words(width, height)?])
    },
);

/// The root of each sample.
pub static ROOTS: Kernel = after(
    portable(
        "component_roots",
        params!(In parents, Out roots; width, height),
        include_str!("components.cl"),
        roots_native,
        two_words,
    ),
    "component_join",
    runs::native,
);

/// How many roots each row has.
pub static COUNT: Kernel = portable(
    "component_count",
    params!(In roots, Out counts; width, height),
    include_str!("components.cl"),
    |args| {
        let [width, height]: [usize; 2] = sizes(args);
        rows(args, Rows::of(0, 4, 4, height), width, row!(2, count_row));
    },
    |scalars| {
        let &[width, height] = scalars else { return None };
        Some(vec![words(width, height)?, 4 * height as usize])
    },
);

/// Writes, at each root, its place among all roots, and nothing elsewhere.
pub static NUMBER: Kernel = portable(
    "component_number",
    params!(In roots, In counts, InOut numbers; width, height),
    include_str!("components.cl"),
    number_native,
    |scalars| {
        let &[width, height] = scalars else { return None };
        let words = words(width, height)?;
        Some(vec![words, 4 * height as usize, words])
    },
);

/// Roots become the numbers that are written at them.
pub static LABELS: Kernel = portable(
    "component_labels",
    params!(In numbers, InOut labels; width, height),
    include_str!("components.cl"),
    |args| {
        let [width, height]: [usize; 2] = sizes(args);
        rows(args, Rows::of(0, 4 * width, 4 * width, height), 1, row!(2, labels_row));
    },
    two_words,
);

/// Bytes of a number for each sample.
fn words(width: u32, height: u32) -> Option<usize> {
    Plane::tight(width, height).bytes().map(|bytes| 4 * bytes)
}

fn two_words(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[width, height] = scalars else { return None };
    Some(vec![words(width, height)?; 2])
}

fn area(s: &[usize; 3]) -> Rows {
    Rows::of(0, 4 * s[0], 4 * s[0], s[1])
}

fn runs_reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 3] = sizes(args);
    pixels(args, area(&s), 4, |inputs, s: &[usize; 3], x, y, to| {
        let row = &inputs[0][y * s[2]..][..s[0]];
        let chunk = x / CHUNK * CHUNK;
        let first = (chunk..x).rev().take_while(|at| row[*at] != 0).last().unwrap_or(x);
        let parent = if row[x] == 0 { 0 } else { y * s[0] + first + 1 };
        to.copy_from_slice(&(parent as u32).to_le_bytes());
    });
}

#[inline(always)]
fn runs_row(inputs: &[&[u8]], s: &[usize; 3], y: usize, to: &mut [u8]) {
    let row = &inputs[0][y * s[2]..][..s[0]];
    for (number, (row, to)) in row.chunks(CHUNK).zip(to.chunks_mut(4 * CHUNK)).enumerate() {
        let at = (y * s[0] + number * CHUNK) as u32;
        let mut first = at;
        for (x, (sample, to)) in row.iter().zip(to.chunks_exact_mut(4)).enumerate() {
            let is_set = *sample != 0;
            first = if is_set { first } else { at + x as u32 + 1 };
            let parent = if is_set { first + 1 } else { 0 };
            to.copy_from_slice(&parent.to_le_bytes());
        }
    }
}

/// Goes from sample to sample, one component after the other.
fn join_reference(args: &mut CpuArgs<'_>) {
    let [width, height, stride, diagonal] = sizes(args);
    let mask = args.inputs[0];
    let mut parents = vec![0u32; width * height];
    for first in 0..width * height {
        let is_set = |at: usize| mask[at / width * stride + at % width] != 0;
        if !is_set(first) || parents[first] != 0 {
            continue;
        }
        parents[first] = first as u32 + 1;
        let mut to_visit = vec![first];
        while let Some(at) = to_visit.pop() {
            let (x, y) = (at % width, at / width);
            for near_y in y.saturating_sub(1)..(y + 2).min(height) {
                for near_x in x.saturating_sub(1)..(x + 2).min(width) {
                    let near = near_y * width + near_x;
                    let touches = diagonal == 1 || near_x == x || near_y == y;
                    if touches && is_set(near) && parents[near] == 0 {
                        parents[near] = first as u32 + 1;
                        to_visit.push(near);
                    }
                }
            }
        }
    }
    put(args.outputs[0], &parents);
}

fn put(to: &mut [u8], values: &[u32]) {
    for (to, value) in to.chunks_exact_mut(4).zip(values) {
        to.copy_from_slice(&value.to_le_bytes());
    }
}

fn roots_reference(args: &mut CpuArgs<'_>) {
    let [width, height] = sizes(args);
    let root = |at: usize| {
        let mut at = at as u32;
        loop {
            let parent = long(args.inputs[0], at as usize);
            match parent.wrapping_sub(1) {
                next if next < at => at = next,
                _ => return at + 1,
            }
        }
    };
    let roots = (0..width * height).map(|at| match long(args.inputs[0], at) {
        0 => 0,
        _ => root(at),
    });
    let roots: Vec<u32> = roots.collect();
    put(args.outputs[0], &roots);
}

/// Parents come before their children, so that their roots are known.
fn roots_native(args: &mut CpuArgs<'_>) {
    let [width, height] = sizes(args);
    for at in 0..width * height {
        let root = match long(args.inputs[0], at) {
            0 => 0,
            parent if parent as usize > at => at as u32 + 1,
            parent => match long(args.outputs[0], parent as usize - 1) {
                0 => parent,
                root => root,
            },
        };
        args.outputs[0][4 * at..4 * at + 4].copy_from_slice(&root.to_le_bytes());
    }
}

fn count_reference(args: &mut CpuArgs<'_>) {
    let [width, height] = sizes(args);
    for y in 0..height {
        let is_root = |at: &usize| long(args.inputs[0], *at) == *at as u32 + 1;
        let count = (y * width..(y + 1) * width).filter(is_root).count() as u32;
        args.outputs[0][4 * y..4 * y + 4].copy_from_slice(&count.to_le_bytes());
    }
}

#[inline(always)]
fn count_row(inputs: &[&[u8]], s: &[usize; 2], y: usize, to: &mut [u8]) {
    let row = &inputs[0][4 * y * s[0]..][..4 * s[0]];
    let (mut count, mut own) = (0u32, (y * s[0]) as u32);
    for root in row.as_chunks().0 {
        own += 1;
        count += u32::from(u32::from_le_bytes(*root) == own);
    }
    to.copy_from_slice(&count.to_le_bytes());
}

fn number_reference(args: &mut CpuArgs<'_>) {
    let [width, height] = sizes(args);
    for y in 0..height {
        let above = (0..y).map(|above| long(args.inputs[1], above));
        let mut number = above.fold(0u32, u32::wrapping_add);
        for at in y * width..(y + 1) * width {
            if long(args.inputs[0], at) == at as u32 + 1 {
                number = number.wrapping_add(1);
                args.outputs[0][4 * at..4 * at + 4].copy_from_slice(&number.to_le_bytes());
            }
        }
    }
}

fn number_native(args: &mut CpuArgs<'_>) {
    let [width, height] = sizes(args);
    let mut above = 0u32;
    for y in 0..height {
        let mut number = above;
        let row = &args.inputs[0][4 * y * width..][..4 * width];
        let to = &mut args.outputs[0][4 * y * width..][..4 * width];
        for (x, root) in row.as_chunks().0.iter().enumerate() {
            if u32::from_le_bytes(*root) as usize == y * width + x + 1 {
                number = number.wrapping_add(1);
                to[4 * x..4 * x + 4].copy_from_slice(&number.to_le_bytes());
            }
        }
        above = above.wrapping_add(long(args.inputs[1], y));
    }
}

fn labels_reference(args: &mut CpuArgs<'_>) {
    let [width, height] = sizes(args);
    for at in 0..width * height {
        let root = long(args.outputs[0], at) as usize;
        if root != 0 && root <= at + 1 {
            let number = long(args.inputs[0], root - 1);
            args.outputs[0][4 * at..4 * at + 4].copy_from_slice(&number.to_le_bytes());
        }
    }
}

/// Neighbours mostly have one root.
#[inline(always)]
fn labels_row(inputs: &[&[u8]], s: &[usize; 2], y: usize, to: &mut [u8]) {
    let (mut known, mut label) = (0, 0);
    for (x, to) in to.as_chunks_mut().0.iter_mut().enumerate() {
        let root = u32::from_le_bytes(*to);
        if root == 0 || root as usize > y * s[0] + x + 1 {
            continue;
        }
        if root != known {
            (known, label) = (root, long(inputs[0], root as usize - 1));
        }
        *to = label.to_le_bytes();
    }
}

/// A mask with few and many samples set, and its stride.
fn mask(dice: &mut Dice, width: u32, height: u32) -> (u32, Vec<u8>) {
    let stride = width + dice.below(9);
    let level = dice.pick(&[128, 90, 30, 200, 250]);
    let mut mask = dice.bytes((stride * height) as usize, width);
    mask.iter_mut().for_each(|sample| *sample = if *sample > level { *sample } else { 0 });
    (stride, mask)
}

fn runs_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (stride, mask) = mask(dice, width, height);
    let rows = Grid::Rows(height as usize);
    let scalars = [width, height, stride];
    let command = launch(&RUNS, &[0, 1].map(BufferId), &scalars, rows);
    Sample { command, inputs: vec![mask] }
}

/// What a reference makes of such buffers, `bytes` long.
fn made(
    reference: fn(&mut CpuArgs<'_>),
    inputs: Vec<&[u8]>,
    scalars: &[u32],
    bytes: usize,
) -> Vec<u8> {
    let mut to = vec![0; bytes];
    let scalars = scalars.to_vec();
    reference(&mut CpuArgs { inputs, outputs: vec![&mut to], scalars, threads: 1 });
    to
}

fn join_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (stride, mask) = mask(dice, width, height);
    let bytes = (4 * width * height) as usize;
    let parents = made(runs_reference, vec![&mask], &[width, height, stride], bytes);
    let rows = Grid::Rows(height as usize);
    let scalars = [width, height, stride, dice.pick(&[1, 0])];
    let command = launch(&JOIN, &[0, 1].map(BufferId), &scalars, rows);
    Sample { command, inputs: vec![mask, parents] }
}

fn roots_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (stride, mask) = mask(dice, width, height);
    let bytes = (4 * width * height) as usize;
    let scalars = [width, height, stride, dice.pick(&[1, 0])];
    let parents = made(join_reference, vec![&mask], &scalars, bytes);
    let rows = Grid::Rows(height as usize);
    let command = launch(&ROOTS, &[0, 1].map(BufferId), &[width, height], rows);
    Sample { command, inputs: vec![parents] }
}

fn count_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let inputs = roots_sample(dice, width, height).inputs;
    let items = Grid::Items(height as usize);
    Sample { command: launch(&COUNT, &[0, 1].map(BufferId), &[width, height], items), inputs }
}

fn number_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let mut inputs = roots_sample(dice, width, height).inputs;
    let bytes = 4 * height as usize;
    inputs.push(made(count_reference, vec![&inputs[0]], &[width, height], bytes));
    inputs.push(dice.bytes((4 * width * height) as usize, width));
    let items = Grid::Items(height as usize);
    let buffers = [0, 1, 2].map(BufferId);
    Sample { command: launch(&NUMBER, &buffers, &[width, height], items), inputs }
}

fn labels_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let numbers = dice.bytes((4 * width * height) as usize, width);
    let roots = roots_sample(dice, width, height).inputs.swap_remove(0);
    let rows = Grid::Rows(height as usize);
    let command = launch(&LABELS, &[0, 1].map(BufferId), &[width, height], rows);
    Sample { command, inputs: vec![numbers, roots] }
}

/// The commands that make labels of a mask without gaps. `numbers` has as many bytes as `labels`.
fn commands(
    [mask, parents, labels, counts, numbers]: [BufferId; 5],
    [width, height]: [u32; 2],
    diagonal: bool,
) -> [hw::Command; 5] {
    let (rows, items) = (Grid::Rows(height as usize), Grid::Items(height as usize));
    let sides = [width, height];
    let join = [width, height, width, u32::from(diagonal)];
    let join = launch(&JOIN, &[mask, parents], &join, rows);
    [
        launch(&RUNS, &[mask, parents], &[width, height, width], rows),
        pair(join, launch(&ROOTS, &[parents, labels], &sides, rows)),
        launch(&COUNT, &[labels, counts], &sides, items),
        launch(&NUMBER, &[labels, counts, numbers], &sides, items),
        launch(&LABELS, &[numbers, labels], &sides, rows),
    ]
}

fn components(
    stage: &mut dyn Stage,
    given: &[Given],
    values: &Values<'_>,
) -> Result<Given, String> {
    let from = given[0].picture()?;
    let Shape { width, height, .. } = from.shape;
    let labels = stage.picture(Shape::full(width, height, PixelFormat::Gray32))?;
    let bytes = 4 * width as usize * height as usize;
    let (parents, numbers) = (stage.buffer(bytes)?, stage.buffer(bytes)?);
    let counts = stage.buffer(4 * height as usize)?;
    let buffers = [from.buffer, parents, labels.buffer, counts, numbers];
    let diagonal = values.text("connectivity") == "8";
    commands(buffers, [width, height], diagonal).into_iter().for_each(|c| stage.run(c));
    Ok(Given::Picture(labels))
}

#[cfg(test)]
mod tests;
