//! Parts of a picture made unreadable: a mosaic, or a strong blur, inside rectangles.
//!
//! A mosaic has cells of `cell` samples a side, counted from the upper left corner of the picture;
//! each that touches a rectangle takes its own mean, rounded half up. `cover` takes the samples
//! inside rectangles from another picture; a chroma sample counts as the upper left of its four.

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::blur;
use crate::boxes::{LIST_BYTES, Rect, decode_list, encode_list};
use crate::dice::Dice;
use crate::native::sizes;
use crate::plane::Part;
use crate::stem::{
    Entry, Given, Op, Picture, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch,
    params, portable,
};

pub static STEM: Stem = Stem {
    entries: &[
        Entry { kernel: &MOSAIC, reference: mosaic_reference, sample: mosaic_sample },
        Entry { kernel: &COVER, reference: cover_reference, sample: cover_sample },
    ],
    ops: &[
        Op {
            name: "mosaic",
            about: "Coarse squares inside boxes",
            inputs: &[Takes::PLANES, Takes::Boxes],
            settings: &[Setting {
                name: "cell",
                about: "Samples of a side, even",
                kind: SettingKind::Number { default: 16, least: 2, most: 256 },
            }],
            plan: Some(mosaic),
        },
        Op {
            name: "blur_boxes",
            about: "A strong blur inside boxes",
            inputs: &[Takes::PLANES, Takes::Boxes],
            settings: &[Setting {
                name: "size",
                about: "Samples of a side of the mean, odd",
                kind: SettingKind::Number { default: 31, least: 3, most: blur::TAPS_MAX as i64 },
            }],
            plan: Some(blur_boxes),
        },
    ],
};

pub static MOSAIC: Kernel = portable(
    "mosaic",
    params!(In rects, InOut plane; width, height, channels, offset, stride, cell, halvings),
    include_str!("regions.cl"),
    mosaic_native,
    |scalars| {
        let &[width, height, bytes, offset, stride, cell, halvings] = scalars else { return None };
        let plane = Part { offset, stride, width, height, bytes }.end()?;
        let possible = bytes <= 4 && halvings <= 1 && (1..=256).contains(&cell);
        possible.then_some(vec![LIST_BYTES, plane])
    },
);

pub static COVER: Kernel = portable(
    "cover",
    params!(In rects, In src, InOut plane; width, height, channels, offset, stride, halvings),
    include_str!("regions.cl"),
    cover_native,
    |scalars| {
        let &[width, height, bytes, offset, stride, halvings] = scalars else { return None };
        let plane = Part { offset, stride, width, height, bytes }.end()?;
        (bytes <= 4 && halvings <= 1).then_some(vec![LIST_BYTES, plane, plane])
    },
);

/// A rectangle in samples of a plane, cut at its edges: first and last-plus-one columns and rows.
type Area = [usize; 4];

/// What a rectangle of the full picture covers of a plane, by the samples that lie inside.
fn covered(rect: &Rect, width: usize, height: usize, halvings: usize) -> Area {
    let first = |v: u32| (v as usize).div_ceil(1 << halvings);
    let end = |v: u32, len: u32| (v as usize + len as usize).div_ceil(1 << halvings);
    [
        first(rect.x).min(width),
        first(rect.y).min(height),
        end(rect.x, rect.width).min(width),
        end(rect.y, rect.height).min(height),
    ]
}

fn touches(rects: &[Rect], width: usize, height: usize, halvings: usize, cell: Area) -> bool {
    rects.iter().any(|rect| {
        let area = covered(rect, width, height, halvings);
        let is_empty = area[0] >= area[2] || area[1] >= area[3];
        let beside = area[0] >= cell[2] || cell[0] >= area[2];
        let above = area[1] >= cell[3] || cell[1] >= area[3];
        !is_empty && !beside && !above
    })
}

fn mosaic_reference(args: &mut CpuArgs<'_>) {
    let [width, height, channels, offset, stride, cell, halvings] = sizes(args);
    let rects = decode_list(args.inputs[0]);
    for (x, y) in (0..height.div_ceil(cell))
        .flat_map(|y| (0..width.div_ceil(cell)).map(move |x| (x * cell, y * cell)))
    {
        let area = [x, y, (x + cell).min(width), (y + cell).min(height)];
        if touches(&rects, width, height, halvings, area) {
            average(args.outputs[0], offset, stride, channels, area);
        }
    }
}

fn average(plane: &mut [u8], offset: usize, stride: usize, channels: usize, area: Area) {
    let [left, top, right, bottom] = area;
    let count = ((right - left) * (bottom - top)) as u32;
    for channel in 0..channels {
        let at = |x: usize, y: usize| offset + y * stride + x * channels + channel;
        let places = || (top..bottom).flat_map(|y| (left..right).map(move |x| (x, y)));
        let sum: u32 = places().map(|(x, y)| u32::from(plane[at(x, y)])).sum();
        let mean = ((sum + count / 2) / count) as u8;
        places().for_each(|(x, y)| plane[at(x, y)] = mean);
    }
}

/// Only the cells that rectangles touch are visited, each once.
fn mosaic_native(args: &mut CpuArgs<'_>) {
    let [width, height, channels, offset, stride, cell, halvings] = sizes(args);
    let rects = decode_list(args.inputs[0]);
    let columns = width.div_ceil(cell);
    let mut done = vec![false; columns * height.div_ceil(cell)];
    for rect in &rects {
        let [left, top, right, bottom] = covered(rect, width, height, halvings);
        if left >= right || top >= bottom {
            continue;
        }
        for row in top / cell..bottom.div_ceil(cell) {
            for column in left / cell..right.div_ceil(cell) {
                if std::mem::replace(&mut done[row * columns + column], true) {
                    continue;
                }
                let (x, y) = (column * cell, row * cell);
                let area = [x, y, (x + cell).min(width), (y + cell).min(height)];
                average(args.outputs[0], offset, stride, channels, area);
            }
        }
    }
}

fn cover_reference(args: &mut CpuArgs<'_>) {
    let [width, height, channels, offset, stride, halvings] = sizes(args);
    let rects = decode_list(args.inputs[0]);
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        if touches(&rects, width, height, halvings, [x, y, x + 1, y + 1]) {
            let at = offset + y * stride + x * channels;
            args.outputs[0][at..at + channels].copy_from_slice(&args.inputs[1][at..at + channels]);
        }
    }
}

fn cover_native(args: &mut CpuArgs<'_>) {
    let [width, height, channels, offset, stride, halvings] = sizes(args);
    for rect in decode_list(args.inputs[0]) {
        let [left, top, right, bottom] = covered(&rect, width, height, halvings);
        for y in top..bottom {
            if left < right {
                let at = offset + y * stride + left * channels;
                let len = (right - left) * channels;
                args.outputs[0][at..][..len].copy_from_slice(&args.inputs[1][at..][..len]);
            }
        }
    }
}

fn rects(dice: &mut Dice, width: u32, height: u32) -> Vec<u8> {
    let rect = |dice: &mut Dice| Rect {
        x: dice.below(width + 20),
        y: dice.below(height + 20),
        width: dice.below(width) + width / 4,
        height: dice.below(height) + height / 4,
    };
    let count = dice.below(4) + 1;
    encode_list(&(0..count).map(|_| rect(dice)).collect::<Vec<_>>())
}

fn part(dice: &mut Dice, width: u32, height: u32) -> Part {
    let bytes = dice.pick(&[1, 2, 3]);
    let stride = width * bytes + dice.below(9);
    Part { offset: dice.below(70), stride, width, height, bytes }
}

fn mosaic_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let part = part(dice, width, height);
    let (list, cell, halvings) =
        (rects(dice, width, height), dice.pick(&[16, 1, 2, 7]), dice.below(2));
    let plane = dice.bytes((part.offset + part.stride * height) as usize, width);
    let command = mosaic_command([BufferId(0), BufferId(1)], part, cell, halvings);
    Sample { command, inputs: vec![list, plane] }
}

fn cover_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let part = part(dice, width, height);
    let (list, halvings) = (rects(dice, width, height), dice.below(2));
    let bytes = (part.offset + part.stride * height) as usize;
    let (src, plane) = (dice.bytes(bytes, width), dice.bytes(bytes, width));
    let command = cover_command([0, 1, 2].map(BufferId), part, halvings);
    Sample { command, inputs: vec![list, src, plane] }
}

fn mosaic_command(buffers: [BufferId; 2], part: Part, cell: u32, halvings: u32) -> hw::Command {
    let Part { offset, stride, width, height, bytes } = part;
    let scalars = [width, height, bytes, offset, stride, cell, halvings];
    let cells = width.div_ceil(cell) as usize * height.div_ceil(cell) as usize;
    launch(&MOSAIC, &buffers, &scalars, Grid::Items(cells))
}

fn cover_command(buffers: [BufferId; 3], part: Part, halvings: u32) -> hw::Command {
    let Part { offset, stride, width, height, bytes } = part;
    let scalars = [width, height, bytes, offset, stride, halvings];
    launch(&COVER, &buffers, &scalars, Grid::Rows(height as usize))
}

/// The planes of a picture, and by how often their sides are halved.
pub(crate) fn parts(picture: Picture) -> impl Iterator<Item = (Part, u32)> {
    let is_halved = picture.shape.format.is_halved();
    let planes = picture.shape.planes().into_iter().enumerate();
    planes.map(move |(number, part)| (part, u32::from(is_halved && number > 0)))
}

pub(crate) fn slot_of(given: &Given) -> Result<usize, String> {
    match given {
        Given::Boxes { slot } => Ok(*slot),
        _ => Err("give boxes".to_string()),
    }
}

fn mosaic(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let picture = stage.writable(0, given[0].picture()?)?;
    let rects = stage.rects(slot_of(&given[1])?)?;
    let cell = values.number("cell") as u32;
    if cell % 2 == 1 {
        return Err(format!("cell {cell}: give an even number"));
    }
    for (part, halvings) in parts(picture) {
        stage.run(mosaic_command([rects, picture.buffer], part, cell >> halvings, halvings));
    }
    Ok(Given::Picture(picture))
}

fn blur_boxes(
    stage: &mut dyn Stage,
    given: &[Given],
    values: &Values<'_>,
) -> Result<Given, String> {
    let from = given[0].picture()?;
    let blurred = blur::picture(stage, from, &vec![1; blur::odd(values)?])?;
    let picture = stage.writable(0, from)?;
    let rects = stage.rects(slot_of(&given[1])?)?;
    for (part, halvings) in parts(picture) {
        stage.run(cover_command([rects, blurred.buffer, picture.buffer], part, halvings));
    }
    Ok(Given::Picture(picture))
}

#[cfg(test)]
mod tests;
