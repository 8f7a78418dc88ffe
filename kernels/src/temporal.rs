//! Pictures over time: a running average as background, and noise reduction that spares what moves.
//!
//! A state of 16 bits a sample (8 fractional, rounding included) follows the picture:
//!
//! ```text
//! d     = 256 s + 128 - before
//! rate  = min(base + slope (|d| >> 8), 2^16)
//! after = before + (d (rate >> 1) >> 15)   (arithmetic shift); 256 s + 128 in the first frame
//! ```
//!
//! and its upper byte is the result. The state begins with the number of frames it has seen.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::{Rows, even_piece, long, pixels, row, rows, sizes, word};
use crate::plane::Part;
use crate::rearrange::{self, Lane, Map};
use crate::stem::{
    Entry, Given, Op, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch, params,
    portable,
};

/// Bytes in front of the samples.
const HEAD: usize = 4;

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[
        Op {
            name: "background",
            about: "The running average of a stream of pictures; needs a history",
            inputs: &[Takes::PLANES],
            settings: &[Setting {
                name: "rate",
                about: "The share of each new picture",
                kind: SettingKind::Decimal { default: 20, least: 1, most: 1000 },
            }],
            plan: Some(|stage, given, values| follow(stage, given, share(values, "rate"), 0)),
        },
        Op {
            name: "denoise",
            about: "Less noise from picture to picture, sparing what moves; needs a history",
            inputs: &[Takes::PLANES],
            settings: &[Setting {
                name: "strength",
                about: "Differences above this many levels are taken for motion",
                kind: SettingKind::Number { default: 12, least: 1, most: 255 },
            }],
            plan: Some(|stage, given, values| {
                let slope = 49_152 / values.number("strength") as u32;
                follow(stage, given, 16_384, slope)
            }),
        },
    ],
};

pub static KERNEL: Kernel = portable(
    "temporal",
    params!(In before, In src, Out after; bytes, base, slope),
    include_str!("temporal.cl"),
    native,
    |scalars| {
        let &[bytes, base, slope] = scalars else { return None };
        let state = HEAD + 2 * bytes as usize;
        let possible = (1..=1 << 29).contains(&bytes) && base <= 1 << 16 && slope <= 1 << 16;
        possible.then(|| vec![state, bytes as usize, state])
    },
);

fn share(values: &Values<'_>, name: &str) -> u32 {
    (values.number(name) * 65_536 / 1000) as u32
}

fn area(bytes: usize) -> Rows {
    let piece = even_piece(bytes);
    Rows::of(HEAD, 2 * piece, 2 * piece, bytes / piece)
}

#[inline(always)]
fn followed(before: u16, sample: u8, base: u32, slope: u32, first: bool) -> u16 {
    let target = i32::from(sample) * 256 + 128;
    let d = target - i32::from(before);
    let rate = (base + slope * (d.unsigned_abs() >> 8)).min(1 << 16);
    // Half the rate keeps the product within 32 bits.
    let after = i32::from(before) + ((d * (rate >> 1) as i32) >> 15);
    (if first { target } else { after }) as u16
}

fn reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 3] = sizes(args);
    let seen = long(args.inputs[0], 0);
    pixels(args, Rows::of(HEAD, 2 * s[0], 2 * s[0], 1), 2, |inputs, s: &[usize; 3], x, _, to| {
        let before = word(&inputs[0][HEAD..], x);
        let after = followed(before, inputs[1][x], s[1] as u32, s[2] as u32, seen == 0);
        to.copy_from_slice(&after.to_le_bytes());
    });
    args.outputs[0][..HEAD].copy_from_slice(&seen.saturating_add(1).to_le_bytes());
}

fn native(args: &mut CpuArgs<'_>) {
    let s: [usize; 3] = sizes(args);
    rows(args, area(s[0]), 2, row!(3, row));
    let seen = long(args.inputs[0], 0).saturating_add(1);
    args.outputs[0][..HEAD].copy_from_slice(&seen.to_le_bytes());
}

#[inline(always)]
fn row(inputs: &[&[u8]], s: &[usize; 3], y: usize, to: &mut [u8]) {
    let count = to.len() / 2;
    let first = long(inputs[0], 0) == 0;
    let before = &inputs[0][HEAD + y * to.len()..][..to.len()];
    let samples = &inputs[1][y * count..][..count];
    let (base, slope) = (s[1] as u32, s[2] as u32);
    for ((to, before), sample) in to.chunks_exact_mut(2).zip(before.chunks_exact(2)).zip(samples) {
        let before = u16::from_le_bytes([before[0], before[1]]);
        to.copy_from_slice(&followed(before, *sample, base, slope, first).to_le_bytes());
    }
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let bytes = width * height;
    let mut before = dice.bytes(HEAD + 2 * bytes as usize, width);
    before[..HEAD].copy_from_slice(&dice.pick(&[7, 0, u32::MAX]).to_le_bytes());
    let src = dice.bytes(bytes as usize, width);
    let (base, slope) = dice.pick(&[(16_384, 4096), (1311, 0), (65_536, 0), (1, 65_536)]);
    let items = Grid::Items(bytes as usize);
    let command = launch(&KERNEL, &[0, 1, 2].map(BufferId), &[bytes, base, slope], items);
    Sample { command, inputs: vec![before, src] }
}

fn follow(stage: &mut dyn Stage, given: &[Given], base: u32, slope: u32) -> Result<Given, String> {
    let from = given[0].picture()?;
    let to = stage.picture(from.shape)?;
    let bytes = from.shape.bytes().ok_or("impossible sides")?;
    let [before, after] = stage.state(HEAD + 2 * bytes)?;
    let items = Grid::Items(bytes);
    let scalars = [bytes as u32, base, slope];
    stage.run(launch(&KERNEL, &[before, from.buffer, after], &scalars, items));
    // The upper bytes of the state, plane by plane.
    for part in from.shape.planes() {
        let state = Part {
            offset: HEAD as u32 + 2 * part.offset + 1,
            stride: 2 * part.stride,
            width: part.width * part.bytes,
            height: part.height,
            bytes: 1,
        };
        let flat = Part { width: part.width * part.bytes, bytes: 1, ..part };
        let from = Lane { part: state, step: 2 };
        stage.run(rearrange::command(after, from, to.buffer, Lane::whole(flat), Map::SAME, 0));
    }
    Ok(Given::Picture(to))
}
