//! Things laid over a picture: text, and other pictures.
//!
//! A sample under opacity `a` (0 to 255) becomes `(value a + sample (255 - a) + 127) / 255`.

mod alpha;
mod font;

use hw::{BufferId, CpuArgs, Grid, Kernel};

pub use self::alpha::OVERLAY_ALPHA;
use crate::convert;
use crate::dice::Dice;
use crate::native::{signed, sizes};
use crate::plane::Part;
use crate::pointwise::{Area, Assign, Operand, Pointwise, Track, Work};
use crate::rearrange::COLOUR;
use crate::shape::{PixelFormat, Shape};
use crate::stem::{
    Entry, Given, Op, Picture, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch,
    params, portable,
};

pub static STEM: Stem = Stem {
    entries: &[
        Entry { kernel: &STAMP, reference: stamp, sample: stamp_sample },
        Entry { kernel: &OVERLAY, reference: overlay_reference, sample: overlay_sample },
        Entry { kernel: &OVERLAY_ALPHA, reference: alpha::reference, sample: alpha::sample },
    ],
    ops: &[
        Op {
            name: "text",
            about: "A line of capitals, digits and signs",
            inputs: &[Takes::PLANES],
            settings: &[
                Setting {
                    name: "text",
                    about: "What to write",
                    kind: SettingKind::Text { default: "EDGESCALE", bytes_max: 120 },
                },
                place("x", "Columns from the left"),
                place("y", "Rows from the top"),
                Setting {
                    name: "scale",
                    about: "Samples to a dot; letters have 5 x 7 of them",
                    kind: SettingKind::Number { default: 2, least: 1, most: 32 },
                },
                COLOUR,
            ],
            plan: Some(text),
        },
        Op {
            name: "overlay",
            about: "A second picture over the first: of its format, or RGBA with its own opacity",
            inputs: &[Takes::PLANES, Takes::PLANES],
            settings: &[
                place("x", "Columns from the left; even where chroma is halved"),
                place("y", "Rows from the top; even where chroma is halved"),
                Setting {
                    name: "opacity",
                    about: "0 leaves the first, 1 shows only the second",
                    kind: SettingKind::Decimal { default: 1000, least: 0, most: 1000 },
                },
            ],
            plan: Some(overlay),
        },
    ],
};

const fn place(name: &'static str, about: &'static str) -> Setting {
    let kind = SettingKind::Number { default: 0, least: 0, most: crate::SIDE_MAX as i64 };
    Setting { name, about, kind }
}

/// One value through a mask of opacities whose corner is at `(x, y)`, in samples of full size.
pub static STAMP: Kernel = portable(
    "stamp",
    params!(In mask, InOut dst; mask_width, mask_height, offset, stride, step, width, height, x, y,
        halvings, value),
    include_str!("stamp.cl"),
    stamp,
    |scalars| {
        let &[mask_width, mask_height, offset, stride, bytes, width, height, .., halvings, _] =
            scalars
        else {
            return None;
        };
        let mask = Part::tight(0, mask_width, mask_height, 1).end()?;
        // One byte of each pixel is touched: the last pixel ends after it.
        let dst = Part { offset, stride, width, height, bytes }.end()? - (bytes as usize - 1);
        (bytes <= 4 && halvings <= 1).then_some(vec![mask, dst])
    },
);

/// Bytes of one plane over those of another.
pub static OVERLAY: Kernel = portable(
    "overlay",
    params!(In src, InOut dst; src_offset, src_stride, dst_offset, dst_stride, width, height,
        opacity),
    include_str!("stamp.cl"),
    overlay_native,
    |scalars| {
        let &[src_offset, src_stride, offset, stride, width, height, opacity] = scalars else {
            return None;
        };
        let src = Part { offset: src_offset, stride: src_stride, width, height, bytes: 1 };
        let dst = Part { offset, stride, width, height, bytes: 1 };
        (opacity <= 255).then_some(vec![src.end()?, dst.end()?])
    },
);

pub(crate) static POINTWISE: &[Pointwise] = &[Pointwise {
    kernel: &OVERLAY,
    of: |scalars| {
        let &[src_offset, src_stride, offset, stride, width, height, _] = scalars else {
            return None;
        };
        let own = Track::bytes(offset, stride);
        let value = Operand::Sample(0, Track::bytes(src_offset, src_stride));
        let given = [value, Operand::Sample(1, own), Operand::Scalar(6)];
        let assigns = vec![Assign::call((1, own), "overlay_of", given)];
        Some(Work { area: Area::rows(width, height), assigns })
    },
}];

#[inline(always)]
fn blended(value: u8, sample: u8, opacity: u16) -> u8 {
    let sum = u16::from(value) * opacity + u16::from(sample) * (255 - opacity) + 127;
    (sum / 255) as u8
}

/// Reference and native form in one: masks are small.
fn stamp(args: &mut CpuArgs<'_>) {
    let [mask_width, mask_height, offset, stride, step, width, height, x, y, halvings, value] =
        sizes(args);
    let (x, y) = (i64::from(signed(x)), i64::from(signed(y)));
    for (mask_x, mask_y) in (0..mask_height).flat_map(|y| (0..mask_width).map(move |x| (x, y))) {
        let (full_x, full_y) = (x + mask_x as i64, y + mask_y as i64);
        let own = full_x & ((1 << halvings) - 1) == 0 && full_y & ((1 << halvings) - 1) == 0;
        let (px, py) = (full_x >> halvings, full_y >> halvings);
        if own && (0..width as i64).contains(&px) && (0..height as i64).contains(&py) {
            let at = offset + py as usize * stride + px as usize * step;
            let opacity = args.inputs[0][mask_y * mask_width + mask_x];
            args.outputs[0][at] = blended(value as u8, args.outputs[0][at], opacity.into());
        }
    }
}

fn stamp_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (mask_width, mask_height) = (1 + dice.below(40), 1 + dice.below(20));
    let (step, halvings) = (1 + dice.below(3), dice.below(2));
    let (offset, stride) = (dice.below(70), width * step + dice.below(9));
    let place = |dice: &mut Dice, side: u32| dice.below(2 * side + 9).wrapping_sub(9);
    let (x, y) = (place(dice, width), place(dice, height));
    let scalars = [
        mask_width,
        mask_height,
        offset,
        stride,
        step,
        width,
        height,
        x,
        y,
        halvings,
        dice.below(256),
    ];
    let mask = dice.bytes((mask_width * mask_height) as usize, mask_width);
    let dst = dice.bytes((offset + stride * height) as usize, width);
    let rows = Grid::Rows(mask_height as usize);
    let command = launch(&STAMP, &[BufferId(0), BufferId(1)], &scalars, rows);
    Sample { command, inputs: vec![mask, dst] }
}

fn overlay_reference(args: &mut CpuArgs<'_>) {
    let [src_offset, src_stride, offset, stride, width, height, opacity] = sizes(args);
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let value = args.inputs[0][src_offset + y * src_stride + x];
        let sample = &mut args.outputs[0][offset + y * stride + x];
        *sample = blended(value, *sample, opacity as u16);
    }
}

fn overlay_native(args: &mut CpuArgs<'_>) {
    let [src_offset, src_stride, offset, stride, width, height, opacity] = sizes(args);
    for y in 0..height {
        let from = &args.inputs[0][src_offset + y * src_stride..][..width];
        let to = &mut args.outputs[0][offset + y * stride..][..width];
        for (to, from) in to.iter_mut().zip(from) {
            *to = blended(*from, *to, opacity as u16);
        }
    }
}

fn overlay_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (src_offset, offset) = (dice.below(70), dice.below(70));
    let (src_stride, stride) = (width + dice.below(9), width + dice.below(9));
    let opacity = dice.pick(&[128, 0, 255, 77]);
    let scalars = [src_offset, src_stride, offset, stride, width, height, opacity];
    let src = dice.bytes((src_offset + src_stride * height) as usize, width);
    let dst = dice.bytes((offset + stride * height) as usize, width);
    let rows = Grid::Rows(height as usize);
    let command = launch(&OVERLAY, &[BufferId(0), BufferId(1)], &scalars, rows);
    Sample { command, inputs: vec![src, dst] }
}

fn is_halved(picture: Picture, plane: usize) -> bool {
    plane > 0 && picture.shape.format.is_halved()
}

fn text(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let picture = stage.writable(0, given[0].picture()?)?;
    let scale = values.number("scale") as u32;
    let (mask, mask_width, mask_height) = font::mask(values.text("text"), scale)?;
    let mask = stage.constant(mask)?;
    let [x, y] = ["x", "y"].map(|name| values.number(name) as u32);
    for (number, part) in picture.shape.planes().into_iter().enumerate() {
        let halvings = u32::from(is_halved(picture, number));
        for byte in 0..part.bytes {
            let component = picture.shape.format.component(number, byte as usize);
            let value = values.numbers("colour").get(component).copied().unwrap_or(255) as u32;
            let scalars = [
                mask_width,
                mask_height,
                part.offset + byte,
                part.stride,
                part.bytes,
                part.width,
                part.height,
                x,
                y,
                halvings,
                value,
            ];
            let rows = Grid::Rows(mask_height as usize);
            stage.run(launch(&STAMP, &[mask, picture.buffer], &scalars, rows));
        }
    }
    Ok(Given::Picture(picture))
}

fn overlay(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let (first, second) = (given[0].picture()?, given[1].picture()?);
    let Shape { format, range, matrix, .. } = first.shape;
    let has_alpha = second.shape.format == PixelFormat::Rgba;
    if format != second.shape.format && !has_alpha {
        let [a, b] = [format, second.shape.format].map(PixelFormat::as_str);
        return Err(format!("{a} and {b}: give two of one format, or the second as rgba"));
    }
    let colours = convert::picture(stage, second, format, Some(matrix), range)?;
    let picture = stage.writable(0, first)?;
    let [x, y] = ["x", "y"].map(|name| values.number(name) as u32);
    let opacity = (values.number("opacity") * 255 + 500) as u32 / 1000;
    let pairs = colours.shape.planes().into_iter().zip(picture.shape.planes());
    for (number, (from, to)) in pairs.enumerate() {
        let smaller = if is_halved(picture, number) { 2 } else { 1 };
        if (x | y) % smaller != 0 {
            return Err(format!("x {x}, y {y}: give even numbers where chroma is halved"));
        }
        let (x, y) = (x / smaller, y / smaller);
        if x >= to.width || y >= to.height {
            return Err(format!("x {x}, y {y}: outside the first picture"));
        }
        let (width, height) = (from.width.min(to.width - x), from.height.min(to.height - y));
        let offset = to.offset + y * to.stride + x * to.bytes;
        if has_alpha {
            let buffers = [colours.buffer, second.buffer, picture.buffer];
            let parts = [from, Part { offset, width, height, ..to }];
            let alpha_width = second.shape.width;
            stage.run(alpha::command(buffers, alpha_width, parts, smaller - 1, opacity)?);
            continue;
        }
        let scalars =
            [from.offset, from.stride, offset, to.stride, width * to.bytes, height, opacity];
        let rows = Grid::Rows(height as usize);
        stage.run(launch(&OVERLAY, &[second.buffer, picture.buffer], &scalars, rows));
    }
    Ok(Given::Picture(picture))
}
