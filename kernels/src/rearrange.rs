//! Pixels put elsewhere: crop, pad, flip, rotate, transpose, and taking planes apart.
//!
//! Pixel `(x, y)` of the result is pixel
//! `((x0 + ax x + bx y) >> shift, (y0 + ay x + by y) >> shift)` of the source (arithmetic shifts),
//! or the low bytes of `fill` where that lies outside.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pointwise;
mod turn;

use hw::{BufferId, Command, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::{Rows, Unit, bands, row, rows, signed, sizes, threads_for, unit};
use crate::plane::Part;
use crate::shape::{PixelFormat, Shape};
use crate::stem::{
    Entry, Given, Op, Picture, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch,
    params, portable,
};

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[
        Op {
            name: "crop",
            about: "A part of a picture; even x and y where chroma is halved",
            inputs: &[Takes::PLANES],
            settings: &[
                side("x", "Columns to leave out on the left"),
                side("y", "Rows to leave out at the top"),
                side("width", "Columns to keep; 0 for all that follow"),
                side("height", "Rows to keep; 0 for all that follow"),
            ],
            plan: Some(crop),
        },
        Op {
            name: "pad",
            about: "A border of one colour around a picture",
            inputs: &[Takes::PLANES],
            settings: &[
                side("left", "Columns to add; even where chroma is halved"),
                side("top", "Rows to add; even where chroma is halved"),
                side("right", "Columns to add"),
                side("bottom", "Rows to add"),
                COLOUR,
            ],
            plan: Some(pad),
        },
        Op {
            name: "flip",
            about: "A mirrored picture",
            inputs: &[Takes::PLANES],
            settings: &[Setting {
                name: "axis",
                about: "Which way",
                kind: SettingKind::Choice(&["horizontal", "vertical", "both"]),
            }],
            plan: Some(flip),
        },
        Op {
            name: "rotate",
            about: "A picture turned clockwise",
            inputs: &[Takes::PLANES],
            settings: &[Setting {
                name: "degrees",
                about: "How far",
                kind: SettingKind::Choice(&["90", "180", "270"]),
            }],
            plan: Some(rotate),
        },
        Op {
            name: "transpose",
            about: "Rows become columns",
            inputs: &[Takes::PLANES],
            settings: &[],
            plan: Some(transpose),
        },
    ],
};

pub(crate) use pointwise::POINTWISE;

/// A colour in the components of the picture's own format.
pub(crate) const COLOUR: Setting = Setting {
    name: "colour",
    about: "In the picture's own components: Y Cb Cr, R G B (and opacity), or gray first",
    kind: SettingKind::Numbers { default: &[16, 128, 128], least: 0, most: 255, counts: &[3, 4] },
};

const fn side(name: &'static str, about: &'static str) -> Setting {
    let kind = SettingKind::Number { default: 0, least: 0, most: crate::SIDE_MAX as i64 };
    Setting { name, about, kind }
}

pub static KERNEL: Kernel = portable(
    "rearrange",
    params!(In src, Out dst; src_offset, src_stride, src_width, src_height, src_step, dst_offset,
        dst_stride, width, height, dst_step, bytes, x0, ax, bx, y0, ay, by, shift, fill),
    include_str!("rearrange.cl"),
    native,
    bytes_needed,
);

/// Where pixels come from: see the formula above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Map {
    pub x: [i32; 3],
    pub y: [i32; 3],
    pub shift: u32,
}

impl Map {
    /// Every pixel from its own place.
    pub const SAME: Map = Map { x: [0, 1, 0], y: [0, 0, 1], shift: 0 };

    /// From a place moved by `(x, y)`.
    pub fn moved(x: i32, y: i32) -> Map {
        Map { x: [x, 1, 0], y: [y, 0, 1], shift: 0 }
    }
}

/// Bytes of pixels within a plane whose pixels may lie further apart than they are long.
#[derive(Debug, Clone, Copy)]
pub struct Lane {
    pub part: Part,
    /// Bytes from one pixel to the next.
    pub step: u32,
}

impl Lane {
    pub fn whole(part: Part) -> Self {
        Self { part, step: part.bytes }
    }

    /// One byte of each pixel.
    pub fn byte(part: Part, number: u32) -> Self {
        let one = Part { offset: part.offset + number, bytes: 1, ..part };
        Self { part: one, step: part.bytes }
    }
}

/// Fills `to` from `from`; both have pixels of the same length.
pub fn command(src: BufferId, from: Lane, dst: BufferId, to: Lane, map: Map, fill: u32) -> Command {
    let (a, b) = (from.part, to.part);
    let scalars = [
        a.offset,
        a.stride,
        a.width,
        a.height,
        from.step,
        b.offset,
        b.stride,
        b.width,
        b.height,
        to.step,
        b.bytes,
        map.x[0] as u32,
        map.x[1] as u32,
        map.x[2] as u32,
        map.y[0] as u32,
        map.y[1] as u32,
        map.y[2] as u32,
        map.shift,
        fill,
    ];
    launch(&KERNEL, &[src, dst], &scalars, Grid::Rows(b.height as usize))
}

fn shape_of(s: &[usize; 19]) -> Rows {
    let [.., dst_offset, dst_stride, width, height, step, bytes, _, _, _, _, _, _, _, _] = *s;
    Rows::of(dst_offset, dst_stride, (width - 1) * step + bytes, height)
}

/// Where in the source pixel `(x, y)` lies, if inside.
#[inline(always)]
fn source(s: &[usize; 19], x: usize, y: usize) -> Option<usize> {
    let [offset, stride, width, height, step, ..] = *s;
    let [x0, ax, bx, y0, ay, by] = std::array::from_fn(|i| i64::from(signed(s[11 + i])));
    let shift = s[17];
    let from_x = (x0 + ax * x as i64 + bx * y as i64) >> shift;
    let from_y = (y0 + ay * x as i64 + by * y as i64) >> shift;
    let inside = (0..width as i64).contains(&from_x) && (0..height as i64).contains(&from_y);
    inside.then(|| offset + from_y as usize * stride + from_x as usize * step)
}

pub fn reference(args: &mut CpuArgs<'_>) {
    let s = crate::native::sizes(args);
    let area = shape_of(&s);
    let (step, bytes) = (s[9], s[10]);
    for y in 0..area.count {
        for x in 0..s[7] {
            let to = area.offset + y * area.stride + x * step;
            for i in 0..bytes {
                args.outputs[0][to + i] = match source(&s, x, y) {
                    Some(at) => args.inputs[0][at + i],
                    None => (s[18] >> (8 * i)) as u8,
                };
            }
        }
    }
}

fn native(args: &mut CpuArgs<'_>) {
    let s = sizes(args);
    let area = shape_of(&s);
    if !turn::is_turn(&s) {
        return rows(args, area, 2, row!(19, row));
    }
    let threads = threads_for(args, 2 * area.count * area.bytes);
    let (src, dst) = (args.inputs[0], &mut args.outputs[0][area.range()]);
    bands(dst, area.stride, threads, turn::Turn { src, s });
}

#[inline(always)]
fn row(inputs: &[&[u8]], s: &[usize; 19], y: usize, to: &mut [u8]) {
    let (src_step, step, bytes, fill) = (s[4], s[9], s[10], s[18] as u32);
    let plain = s[12] == 1 && s[15] == 0 && s[17] == 0 && src_step == bytes && step == bytes;
    match bytes {
        _ if plain => copy_row(inputs[0], s, y, to),
        _ if is_flip(s, y) => {
            let from = &inputs[0][s[0] + row_of(s, y) * s[1]..][..to.len()];
            match bytes {
                1 => mirror::<1>(from, to),
                2 => mirror::<2>(from, to),
                3 => mirror::<3>(from, to),
                _ => mirror::<4>(from, to),
            }
        }
        1 => spread_row::<1>(inputs[0], s, y, to, step, fill),
        2 => spread_row::<2>(inputs[0], s, y, to, step, fill),
        3 => spread_row::<3>(inputs[0], s, y, to, step, fill),
        _ => spread_row::<4>(inputs[0], s, y, to, step, fill),
    }
}

/// Pixels from the last to the first.
#[inline(always)]
fn mirror<const BYTES: usize>(from: &[u8], to: &mut [u8]) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if unit() >= Unit::Avx2 {
        // SAFETY: the feature was just found on this machine.
        done = unsafe { avx2::mirror::<BYTES>(from, to) };
    }
    #[cfg(target_arch = "aarch64")]
    if unit() >= Unit::Neon {
        // SAFETY: the feature was just found on this machine.
        done = unsafe { neon::mirror::<BYTES>(from, to) };
    }
    let rest = from[..from.len() - done].rchunks_exact(BYTES);
    let to = to[done..].chunks_exact_mut(BYTES);
    to.zip(rest).for_each(|(to, from)| to.copy_from_slice(from));
}

/// Whether a row is one of the source, whole and from its end, without gaps between pixels.
#[inline(always)]
fn is_flip(s: &[usize; 19], y: usize) -> bool {
    let is_whole = s[2] == s[7] && s[4] == s[10] && s[9] == s[10] && s[17] == 0;
    let is_mirrored = signed(s[11]) == s[2] as i32 - 1 && signed(s[12]) == -1 && s[13] == 0;
    is_whole && is_mirrored && s[15] == 0 && row_of(s, y) < s[3]
}

/// The row of the source that row `y` comes from, where columns do not matter.
#[inline(always)]
fn row_of(s: &[usize; 19], y: usize) -> usize {
    (i64::from(signed(s[14])) + i64::from(signed(s[16])) * y as i64) as usize
}

/// A row that is a piece of one row of the source, with fill around it.
#[inline(always)]
fn copy_row(src: &[u8], s: &[usize; 19], y: usize, to: &mut [u8]) {
    let [offset, stride, src_width, src_height, bytes, _, _, width, ..] = *s;
    let from_x = i64::from(signed(s[11])) + i64::from(signed(s[13])) * y as i64;
    let from_y = i64::from(signed(s[14])) + i64::from(signed(s[16])) * y as i64;
    let outside = !(0..src_height as i64).contains(&from_y);
    let first = (-from_x).clamp(0, width as i64) as usize;
    let last = (src_width as i64 - from_x).clamp(first as i64, width as i64) as usize;
    let (first, last) = if outside { (0, 0) } else { (first, last) };
    let fill = (s[18] as u32).to_le_bytes();
    for pixel in to[..first * bytes].chunks_exact_mut(bytes) {
        pixel.copy_from_slice(&fill[..bytes]);
    }
    if first < last {
        let at = offset + from_y as usize * stride + (from_x + first as i64) as usize * bytes;
        to[first * bytes..last * bytes].copy_from_slice(&src[at..][..(last - first) * bytes]);
    }
    for pixel in to[last * bytes..].chunks_exact_mut(bytes) {
        pixel.copy_from_slice(&fill[..bytes]);
    }
}

#[inline(always)]
fn spread_row<const B: usize>(
    src: &[u8],
    s: &[usize; 19],
    y: usize,
    to: &mut [u8],
    step: usize,
    fill: u32,
) {
    let fill = fill.to_le_bytes();
    for (x, to) in to.chunks_mut(step).enumerate() {
        let from: &[u8] = match source(s, x, y) {
            Some(at) => &src[at..at + B],
            None => &fill[..B],
        };
        to[..B].copy_from_slice(from);
    }
}

fn bytes_needed(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[offset, stride, width, height, step, to_offset, to_stride, to_width, to_height, ..] =
        scalars
    else {
        return None;
    };
    let &[.., to_step, bytes, _, _, _, _, _, _, shift, _] = scalars else { return None };
    // Pixels may lie apart, but not over each other.
    if !(1..=4).contains(&bytes) || shift > 16 || step.min(to_step) < bytes {
        return None;
    }
    let end = |offset, stride, width, height, step| {
        let spread = Part { offset, stride, width, height, bytes: step };
        // The last pixel ends after its own bytes, not after a whole step.
        let loose = Part { stride: spread.stride.max(width * step), ..spread };
        loose.end()?;
        let last = (height as usize - 1) * stride as usize + (width as usize - 1) * step as usize;
        let row = (width as usize - 1) * step as usize + bytes as usize;
        (stride as usize >= row).then_some(offset as usize + last + bytes as usize)
    };
    Some(vec![
        end(offset, stride, width, height, step)?,
        end(to_offset, to_stride, to_width, to_height, to_step)?,
    ])
}

fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let bytes = dice.pick(&[1, 2, 3, 4]);
    let maps = [
        Map { x: [width as i32 - 1, -1, 0], y: [0, 0, 1], shift: 0 },
        Map { x: [0, 0, 1], y: [0, 1, 0], shift: 0 },
        Map { x: [0, 0, 1], y: [height as i32 - 1, -1, 0], shift: 0 },
        Map { x: [width as i32 - 1, 0, -1], y: [0, 1, 0], shift: 0 },
        Map::moved(dice.below(9) as i32 - 4, dice.below(9) as i32 - 4),
        Map { x: [3, 2, 0], y: [0, 0, 1], shift: 1 },
    ];
    let map = dice.pick(&maps);
    let (wide, high) = if map.x[1] == 0 { (height, width) } else { (width, height) };
    let (gap, to_gap) = (dice.below(9), dice.below(9));
    let (step, to_step) = (bytes + dice.below(2), bytes + dice.below(2));
    let (offset, to_offset) = (dice.below(70), dice.below(70));
    let part = |offset, step, gap, width, height| Part {
        offset,
        stride: width * step + gap,
        width,
        height,
        bytes,
    };
    let from = Lane { part: part(offset, step, gap, width, height), step };
    let to = Lane { part: part(to_offset, to_step, to_gap, wide, high), step: to_step };
    let fill = dice.below(u32::MAX);
    let command = command(BufferId(0), from, BufferId(1), to, map, fill);
    let len = (from.part.offset + from.part.stride * height) as usize;
    Sample { command, inputs: vec![dice.bytes(len, width)] }
}

/// Fills a picture of `shape` from one of the same format, plane by plane. `map` is given the
/// plane of the source and of the result, and by how much chroma is smaller there.
pub(crate) fn planes(
    stage: &mut dyn Stage,
    from: Picture,
    shape: Shape,
    colour: &[i64],
    map: impl Fn(Part, Part, i32) -> Map,
) -> Result<Given, String> {
    let to = stage.picture(shape)?;
    let halved = shape.format.is_halved();
    let pairs = from.shape.planes().into_iter().zip(to.shape.planes());
    for (number, (a, b)) in pairs.enumerate() {
        let smaller = if halved && number > 0 { 2 } else { 1 };
        let fill = colour_of(shape.format, number, colour);
        let map = map(a, b, smaller);
        stage.run(command(from.buffer, Lane::whole(a), to.buffer, Lane::whole(b), map, fill));
    }
    Ok(Given::Picture(to))
}

/// The bytes of a colour in a plane, lowest first.
pub(crate) fn colour_of(format: PixelFormat, plane: usize, colour: &[i64]) -> u32 {
    let byte = |i: usize| {
        let component = colour.get(format.component(plane, i));
        component.copied().unwrap_or(255) as u32 & 255
    };
    byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24
}

fn even(shape: Shape, values: &[(&str, i64)]) -> Result<(), String> {
    let halved = shape.format.is_halved();
    match values.iter().find(|(_, value)| halved && value % 2 == 1) {
        Some((name, value)) => Err(format!(
            "{name} {value}: give an even number for a picture of {}",
            shape.format.as_str()
        )),
        None => Ok(()),
    }
}

fn crop(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let from = given[0].picture()?;
    let [x, y, width, height] = ["x", "y", "width", "height"].map(|name| values.number(name));
    even(from.shape, &[("x", x), ("y", y)])?;
    let kept = |start: i64, wanted: i64, side: u32, name: &str| {
        let left = i64::from(side) - start;
        let kept = if wanted == 0 { left } else { wanted };
        match (1..=left).contains(&kept) {
            true => Ok(kept as u32),
            false => Err(format!("{name} {kept} from {start}: the picture has {side}")),
        }
    };
    let width = kept(x, width, from.shape.width, "width")?;
    let height = kept(y, height, from.shape.height, "height")?;
    let shape = Shape { width, height, ..from.shape };
    planes(stage, from, shape, &[], |_, _, n| Map::moved(x as i32 / n, y as i32 / n))
}

fn pad(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let from = given[0].picture()?;
    let [left, top, right, bottom] =
        ["left", "top", "right", "bottom"].map(|name| values.number(name));
    even(from.shape, &[("left", left), ("top", top)])?;
    let width = from.shape.width + (left + right) as u32;
    let height = from.shape.height + (top + bottom) as u32;
    let shape = Shape { width, height, ..from.shape };
    planes(stage, from, shape, values.numbers("colour"), |_, _, n| {
        Map::moved(-left as i32 / n, -top as i32 / n)
    })
}

fn flip(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let from = given[0].picture()?;
    let axis = values.text("axis");
    planes(stage, from, from.shape, &[], |a, _, _| {
        turned(a, axis != "vertical", axis != "horizontal")
    })
}

/// Each axis counted from the other end where asked for.
fn turned(part: Part, x: bool, y: bool) -> Map {
    let line = |turn: bool, side: u32| if turn { (side as i32 - 1, -1) } else { (0, 1) };
    let ((x0, ax), (y0, by)) = (line(x, part.width), line(y, part.height));
    Map { x: [x0, ax, 0], y: [y0, 0, by], shift: 0 }
}

fn rotate(stage: &mut dyn Stage, given: &[Given], values: &Values<'_>) -> Result<Given, String> {
    let from = given[0].picture()?;
    let sides = Shape { width: from.shape.height, height: from.shape.width, ..from.shape };
    match values.text("degrees") {
        "90" => planes(stage, from, sides, &[], |a, _, _| Map {
            x: [0, 0, 1],
            y: [a.height as i32 - 1, -1, 0],
            shift: 0,
        }),
        "180" => planes(stage, from, from.shape, &[], |a, _, _| turned(a, true, true)),
        _ => planes(stage, from, sides, &[], |a, _, _| Map {
            x: [a.width as i32 - 1, 0, -1],
            y: [0, 1, 0],
            shift: 0,
        }),
    }
}

fn transpose(stage: &mut dyn Stage, given: &[Given], _: &Values<'_>) -> Result<Given, String> {
    let from = given[0].picture()?;
    let sides = Shape { width: from.shape.height, height: from.shape.width, ..from.shape };
    planes(stage, from, sides, &[], |_, _, _| Map { x: [0, 0, 1], y: [0, 1, 0], shift: 0 })
}

#[cfg(test)]
mod tests;
