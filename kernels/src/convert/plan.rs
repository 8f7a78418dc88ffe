//! Which launches bring a picture from one format to another.

use super::from_rgb::{gray_command, yuv_command};
use super::{rgb, to_rgb, yuv, yuv_rgb_command};
use crate::plane::Part;
use crate::rearrange::{self, Lane, Map};
use crate::shape::{Matrix, PixelFormat, Range, Shape};
use crate::stem::{Given, Picture, Stage, Values};
use crate::{Plane, gray};

pub(super) fn convert(
    stage: &mut dyn Stage,
    given: &[Given],
    values: &Values<'_>,
) -> Result<Given, String> {
    let from = given[0].picture()?;
    let to = PixelFormat::PICTURES.into_iter().find(|f| f.as_str() == values.text("to"));
    let to = to.ok_or("unknown format")?;
    let range = if values.text("range") == "full" { Range::Full } else { Range::Limited };
    let matrix = match values.text("matrix") {
        "bt601" => Some(Matrix::Bt601),
        "bt709" => Some(Matrix::Bt709),
        _ => None,
    };
    picture(stage, from, to, matrix, range).map(Given::Picture)
}

/// A picture in another format; itself where it has that format. Between RGB and Y'CbCr goes the
/// matrix, the picture's own where none is given.
pub fn picture(
    stage: &mut dyn Stage,
    from: Picture,
    to: PixelFormat,
    matrix: Option<Matrix>,
    range: Range,
) -> Result<Picture, String> {
    let source = from.shape.format;
    if source == to {
        return Ok(from);
    }
    if to == PixelFormat::Gray8 {
        return gray(stage, from);
    }
    if is_packed(to) && yuv(from.shape).is_none() {
        let planar = picture(stage, from, PixelFormat::I420, matrix, range)?;
        return picture(stage, planar, to, matrix, range);
    }
    let matrix = matrix.unwrap_or(from.shape.matrix);
    match (yuv(from.shape).is_some(), rgb(to).is_some()) {
        (true, true) => {
            let range = Range::Full;
            let made = stage.picture(Shape { format: to, range, matrix, ..from.shape })?;
            let factors = to_rgb(matrix == Matrix::Bt709, from.shape.range);
            let buffers = [from.buffer, made.buffer];
            let command = yuv_rgb_command(buffers, from.shape, to, factors, 0);
            stage.run(command.ok_or("no such conversion")?);
            Ok(made)
        }
        (true, false) => yuv_to_yuv(stage, from, to),
        (false, true) => components(stage, from, to),
        (false, false) if source == PixelFormat::Gray8 => gray_to_yuv(stage, from, to),
        (false, false) => rgb_to_yuv(stage, from, to, matrix, range),
    }
}

fn gray(stage: &mut dyn Stage, from: Picture) -> Result<Picture, String> {
    let Shape { width, height, .. } = from.shape;
    let shape = Shape::full(width, height, PixelFormat::Gray8);
    if let Some(layout) = rgb(from.shape.format) {
        let made = stage.picture(shape)?;
        let buffers = [from.buffer, made.buffer];
        stage.run(gray_command(buffers, [width, height], layout, [0, 0]));
        return Ok(made);
    }
    let limited = from.shape.range == Range::Limited;
    let luma = match from.shape.format {
        format if is_packed(format) => {
            let luma = stage.picture(shape)?;
            let [lane, ..] = lanes(from.shape);
            let to = Lane::whole(luma.shape.planes()[0]);
            stage.run(rearrange::command(from.buffer, lane, luma.buffer, to, Map::SAME, 0));
            luma.buffer
        }
        _ => from.buffer,
    };
    let made = stage.picture(shape)?;
    stage.run(gray::command(luma, Plane::tight(width, height), made.buffer, width, limited));
    Ok(made)
}

fn rgb_to_yuv(
    stage: &mut dyn Stage,
    from: Picture,
    to: PixelFormat,
    matrix: Matrix,
    range: Range,
) -> Result<Picture, String> {
    let is_709 = matrix == Matrix::Bt709;
    // What was taken for BT.601 is that now.
    let matrix = if is_709 { matrix } else { Matrix::Bt601 };
    let layout = rgb(from.shape.format).ok_or("no such conversion")?;
    let made = stage.picture(Shape { format: to, range, matrix, ..from.shape })?;
    let layout_made = yuv(made.shape).ok_or("no such conversion")?;
    let buffers = [from.buffer, made.buffer];
    stage.run(yuv_command(buffers, made.shape, layout_made, layout, is_709, 0));
    Ok(made)
}

/// Whether luma lies between chroma of half the width.
fn is_packed(format: PixelFormat) -> bool {
    matches!(format, PixelFormat::Yuyv | PixelFormat::Uyvy)
}

/// Where luma, Cb and Cr lie, a byte to a sample.
fn lanes(shape: Shape) -> [Lane; 3] {
    let planes = shape.planes();
    match shape.format {
        PixelFormat::Nv12 => {
            [Lane::whole(planes[0]), Lane::byte(planes[1], 0), Lane::byte(planes[1], 1)]
        }
        PixelFormat::Nv21 => {
            [Lane::whole(planes[0]), Lane::byte(planes[1], 1), Lane::byte(planes[1], 0)]
        }
        PixelFormat::I420 => [0, 1, 2].map(|i| Lane::whole(planes[i])),
        _ => {
            let at = u32::from(shape.format == PixelFormat::Uyvy);
            let part = Part { offset: at, width: shape.width, bytes: 1, ..planes[0] };
            let chroma = |number: u32| Lane::byte(planes[0], 2 * number + 1 - at);
            [Lane { part, step: 2 }, chroma(0), chroma(1)]
        }
    }
}

/// Luma is copied; chroma rows are doubled, or every other one is left out.
fn yuv_to_yuv(stage: &mut dyn Stage, from: Picture, to: PixelFormat) -> Result<Picture, String> {
    let made = stage.picture(Shape { format: to, ..from.shape })?;
    let rows = |format| i32::from(is_packed(format));
    let chroma = match rows(from.shape.format) - rows(to) {
        0 => Map::SAME,
        1 => Map { x: [0, 1, 0], y: [0, 0, 2], shift: 0 },
        _ => Map { x: [0, 2, 0], y: [0, 0, 1], shift: 1 },
    };
    let pairs = lanes(from.shape).into_iter().zip(lanes(made.shape));
    for (number, (a, b)) in pairs.enumerate() {
        let map = if number == 0 { Map::SAME } else { chroma };
        stage.run(rearrange::command(from.buffer, a, made.buffer, b, map, 0));
    }
    if is_packed(to) && from.shape.width % 2 == 1 {
        // The second luma of the last pair has no pixel; it repeats the first.
        let (a, b) = (lanes(from.shape)[0], lanes(made.shape)[0]);
        let last = |lane: Lane, back: u32| Lane {
            part: Part {
                offset: lane.part.offset + (from.shape.width - back) * lane.step,
                width: 1,
                ..lane.part
            },
            ..lane
        };
        let to = last(b, 0);
        stage.run(rearrange::command(from.buffer, last(a, 1), made.buffer, to, Map::SAME, 0));
    }
    Ok(made)
}

fn gray_to_yuv(stage: &mut dyn Stage, from: Picture, to: PixelFormat) -> Result<Picture, String> {
    let made = stage.picture(Shape { format: to, ..from.shape })?;
    let gray = Lane::whole(from.shape.planes()[0]);
    for (number, lane) in lanes(made.shape).into_iter().enumerate() {
        // Chroma comes from outside the picture, where everything is the fill.
        let map = if number == 0 { Map::SAME } else { Map::moved(0, -(1 << 20)) };
        stage.run(rearrange::command(from.buffer, gray, made.buffer, lane, map, 128));
    }
    Ok(made)
}

/// RGB in another order, or gray as RGB.
fn components(stage: &mut dyn Stage, from: Picture, to: PixelFormat) -> Result<Picture, String> {
    let made = stage.picture(Shape { format: to, range: Range::Full, ..from.shape })?;
    let (part, made_part) = (from.shape.planes()[0], made.shape.planes()[0]);
    let (step, red_at) = rgb(to).ok_or("no such conversion")?;
    for number in 0..step {
        let own = match (rgb(from.shape.format), number) {
            (None, _) => 0,
            (Some((_, own_red)), 0 | 2) if own_red != red_at => 2 - number,
            _ => number,
        };
        let map = if number == 3 { Map::moved(0, -(1 << 20)) } else { Map::SAME };
        let lane = Lane::byte(part, own.min(part.bytes - 1));
        let to = Lane::byte(made_part, number);
        stage.run(rearrange::command(from.buffer, lane, made.buffer, to, map, 255));
    }
    Ok(made)
}
