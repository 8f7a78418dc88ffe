//! What a picture of labels has of each label: a table of ten 32-bit numbers a row.
//!
//! Row `i` is about label `i`, 0 (what belongs to no component) included, as in OpenCV's
//! `connectedComponentsWithStats`: area in samples, left, top, width and height of the rectangle
//! around it, the sum of its columns and that of its rows (64 bits each, lower half first), which
//! divided by the area are the centroid, and its label. In row 0 the last number is the largest
//! label of the picture, which tells whether the table has all. A label that does not occur has
//! zeros. Sums wrap beyond their bits; pictures made by `components` have none such.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::boxes::{RECTS_MAX, Rect};
use crate::dice::Dice;
use crate::native::{long, sizes};
use crate::plane::{Plane, SIDE_MAX};
use crate::shape::{PixelFormat, Shape};
use crate::stem::{
    Entry, Given, Op, Picture, Sample, Setting, SettingKind, Stage, Stem, Takes, launch, params,
    portable,
};

/// Numbers of a row.
pub const WORDS: usize = 10;
/// Most rows beside that of label 0.
pub const LABELS_MAX: u32 = 16384;

const MOST: Setting = Setting {
    name: "most",
    about: "The largest label that has a row",
    kind: SettingKind::Number { default: 1024, least: 1, most: LABELS_MAX as i64 - 1 },
};

const _: () = assert!(RECTS_MAX <= LABELS_MAX as usize);

pub static STEM: Stem = Stem {
    entries: &[
        Entry { kernel: &SUMS, reference: sums_reference, sample: sums_sample },
        Entry { kernel: &TABLE, reference: table_native, sample: table_sample },
    ],
    ops: &[
        Op {
            name: "component_table",
            about: "Area, rectangle and centroid sums of each label: a row of ten 32-bit numbers",
            inputs: &[Takes::LABELS],
            settings: &[MOST],
            plan: Some(|stage, given, values| {
                let most = values.number("most") as u32;
                Ok(Given::Picture(table(stage, given[0].picture()?, most)?))
            }),
        },
        Op {
            name: "component_boxes",
            about: "Rectangles around components, the largest first",
            inputs: &[Takes::LABELS],
            settings: &[
                Setting {
                    name: "min_area",
                    about: "Samples that a component must have",
                    kind: SettingKind::Number { default: 16, least: 1, most: 1 << 28 },
                },
                MOST,
            ],
            plan: None,
        },
    ],
};

/// Adds to `sums` what the labels below `rows` have; its rows hold the left and the upper edge as
/// 16384 less them, and the right and the lower one in place of width and height.
pub static SUMS: Kernel = portable(
    "component_sums",
    params!(In labels, InOut sums; width, height, rows),
    include_str!("component_table.cl"),
    sums_native,
    |scalars| {
        let &[width, height, rows] = scalars else { return None };
        Some(vec![4 * Plane::tight(width, height).bytes()?, bytes(rows)?])
    },
);

pub static TABLE: Kernel = portable(
    "component_table",
    params!(In sums, Out table; rows),
    include_str!("component_table.cl"),
    table_native,
    |scalars| Some(vec![bytes(*scalars.first()?)?; 2]),
);

/// Bytes of a table of so many rows.
fn bytes(rows: u32) -> Option<usize> {
    (1..=LABELS_MAX).contains(&rows).then_some(4 * WORDS * rows as usize)
}

/// A row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub area: u32,
    pub rect: Rect,
    /// Sum of the columns, and of the rows, of all its samples.
    pub sums: [u64; 2],
    pub label: u32,
}

/// The rows of a table; bytes that are no whole row are left out.
pub fn decode(table: &[u8]) -> Vec<Row> {
    let row = |row: &[u8]| {
        let word = |i: usize| long(row, i);
        let sum = |i: usize| u64::from(word(i)) | u64::from(word(i + 1)) << 32;
        let rect = Rect { x: word(1), y: word(2), width: word(3), height: word(4) };
        Row { area: word(0), rect, sums: [sum(5), sum(7)], label: word(9) }
    };
    table.chunks_exact(4 * WORDS).map(row).collect()
}

type Sums = [u32; WORDS];

fn add_run(to: &mut Sums, first: usize, end: usize, y: usize) {
    let count = end - first;
    to[0] = to[0].wrapping_add(count as u32);
    to[1] = to[1].max(SIDE_MAX - first as u32);
    to[2] = to[2].max(SIDE_MAX - y as u32);
    to[3] = to[3].max(end as u32);
    to[4] = to[4].max(y as u32 + 1);
    for (at, value) in [(5, (first + end - 1) * count / 2), (7, y * count)] {
        let sum = u64::from(to[at]) | u64::from(to[at + 1]) << 32;
        let sum = sum.wrapping_add(value as u64);
        [to[at], to[at + 1]] = [sum as u32, (sum >> 32) as u32];
    }
}

/// Adds what `add` does with the sums, the width, the height and the rows.
fn with_sums(args: &mut CpuArgs<'_>, add: impl Fn(&[u8], [usize; 2], &mut [Sums])) {
    let [width, height, rows] = sizes(args);
    let to = &mut args.outputs[0][..4 * WORDS * rows];
    let read = |row: &[u8]| std::array::from_fn(|i| long(row, i));
    let mut sums: Vec<Sums> = to.chunks_exact(4 * WORDS).map(read).collect();
    add(args.inputs[0], [width, height], &mut sums);
    for (to, word) in to.chunks_exact_mut(4).zip(sums.as_flattened()) {
        to.copy_from_slice(&word.to_le_bytes());
    }
}

fn sums_reference(args: &mut CpuArgs<'_>) {
    with_sums(args, |labels, [width, height], sums| {
        for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
            let label = long(labels, y * width + x);
            if let Some(to) = sums.get_mut(label as usize) {
                add_run(to, x, x + 1, y);
            }
            sums[0][WORDS - 1] = sums[0][WORDS - 1].max(label);
        }
    });
}

fn sums_native(args: &mut CpuArgs<'_>) {
    with_sums(args, |labels, [width, height], sums| {
        let mut largest = sums[0][WORDS - 1];
        for y in 0..height {
            let row = labels[4 * y * width..][..4 * width].as_chunks::<4>().0;
            let mut first = 0;
            for run in row.chunk_by(|a, b| a == b) {
                let label = u32::from_le_bytes(run[0]);
                if let Some(to) = sums.get_mut(label as usize) {
                    add_run(to, first, first + run.len(), y);
                }
                largest = largest.max(label);
                first += run.len();
            }
        }
        sums[0][WORDS - 1] = largest;
    });
}

fn table_native(args: &mut CpuArgs<'_>) {
    let rows = args.scalars[0] as usize;
    let both = args.inputs[0].chunks_exact(4 * WORDS).zip(args.outputs[0].chunks_exact_mut(40));
    for (label, (from, to)) in both.take(rows).enumerate() {
        let from: Sums = std::array::from_fn(|i| long(from, i));
        let mut row = [0; WORDS];
        row[5..9].copy_from_slice(&from[5..9]);
        if from[0] != 0 {
            let [left, top] = [from[1], from[2]].map(|edge| SIDE_MAX.wrapping_sub(edge));
            let (width, height) = (from[3].wrapping_sub(left), from[4].wrapping_sub(top));
            row[..5].copy_from_slice(&[from[0], left, top, width, height]);
            row[9] = label as u32;
        }
        if label == 0 {
            row[9] = from[9];
        }
        for (to, word) in to.chunks_exact_mut(4).zip(row) {
            to.copy_from_slice(&word.to_le_bytes());
        }
    }
}

fn sums_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let rows = 1 + dice.pick(&[200, 0, 7, 4000]);
    let mut labels: Vec<u8> = Vec::new();
    for level in dice.bytes((width * height) as usize, width) {
        labels.extend([level.saturating_sub(60), level / 250, 0, 0]);
    }
    // What was added before may be anything.
    let sums = dice.bytes(4 * WORDS * rows as usize, 40);
    let grid = Grid::Rows(height as usize);
    let command = launch(&SUMS, &[0, 1].map(BufferId), &[width, height, rows], grid);
    Sample { command, inputs: vec![labels, sums] }
}

fn table_sample(dice: &mut Dice, width: u32, _: u32) -> Sample {
    let rows = width.min(LABELS_MAX);
    let mut sums = dice.bytes(4 * WORDS * rows as usize, 40);
    // Some labels have no samples, 0 among them.
    sums.chunks_exact_mut(4 * WORDS)
        .filter(|_| dice.below(3) == 0)
        .for_each(|row| row[..4].fill(0));
    let items = Grid::Items(rows as usize);
    let command = launch(&TABLE, &[0, 1].map(BufferId), &[rows], items);
    Sample { command, inputs: vec![sums] }
}

/// Makes the table of a picture of labels, for labels up to `most`.
pub fn table(stage: &mut dyn Stage, labels: Picture, most: u32) -> Result<Picture, String> {
    let Shape { width, height, .. } = labels.shape;
    if width.max(height) > SIDE_MAX {
        return Err(format!("{width} x {height}: give labels of at most {SIDE_MAX} a side"));
    }
    let rows = most.min(LABELS_MAX - 1) + 1;
    let sums = stage.constant(vec![0; 4 * WORDS * rows as usize])?;
    let table = stage.picture(Shape::full(WORDS as u32, rows, PixelFormat::Gray32))?;
    let scalars = [width, height, rows];
    stage.run(launch(&SUMS, &[labels.buffer, sums], &scalars, Grid::Rows(height as usize)));
    let items = Grid::Items(rows as usize);
    stage.run(launch(&TABLE, &[sums, table.buffer], &[rows], items));
    Ok(table)
}
