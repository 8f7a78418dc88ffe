//! A picture laid over another by its own opacity, that of the pixels of an RGBA picture.
//!
//! The opacity of a pixel is `(alpha opacity + 127) / 255`, and a sample under it becomes what it
//! does under any ([`super::blended`]). Halved chroma takes the opacity of the upper left of the
//! pixels that it stands for. The opacity of an RGBA picture below, which is taken for opaque, goes
//! towards 255.

use hw::{BufferId, Command, CpuArgs, Grid, Kernel};

use super::blended;
use crate::dice::Dice;
use crate::native::sizes;
use crate::plane::Part;
use crate::stem::{Sample, launch, params, portable};

/// Pixels of one plane over those of another; `alpha` is an RGBA picture, whose sides are halved so
/// often to those of the plane.
pub static OVERLAY_ALPHA: Kernel = portable(
    "overlay_alpha",
    params!(In src, In alpha, InOut dst; src_offset, src_stride, alpha_stride, dst_offset,
        dst_stride, width, height, bytes, halvings, opacity),
    include_str!("../stamp.cl"),
    native,
    |scalars| {
        let &[src_offset, src_stride, alpha_stride, offset, stride, width, height, bytes, ..] =
            scalars
        else {
            return None;
        };
        let &[halvings, opacity] = scalars.last_chunk()?;
        (bytes <= 4 && halvings <= 1 && opacity <= 255).then_some(())?;
        let src = Part { offset: src_offset, stride: src_stride, width, height, bytes };
        let whole = |side: u32| (side.checked_sub(1)? << halvings).checked_add(1);
        let (whole_width, whole_height) = (whole(width)?, whole(height)?);
        let alpha = Part {
            offset: 0,
            stride: alpha_stride,
            width: whole_width,
            height: whole_height,
            bytes: 4,
        };
        let dst = Part { offset, stride, width, height, bytes };
        Some(vec![src.end()?, alpha.end()?, dst.end()?])
    },
);

/// What a byte of a pixel is laid over with: all of its opacity.
fn value_of(byte: usize, value: u8) -> u8 {
    if byte == 3 { 255 } else { value }
}

fn opacity_of(alpha: u8, opacity: usize) -> u16 {
    (u16::from(alpha) * opacity as u16 + 127) / 255
}

pub(super) fn reference(args: &mut CpuArgs<'_>) {
    let [
        src_offset,
        src_stride,
        alpha_stride,
        offset,
        stride,
        width,
        height,
        bytes,
        halvings,
        opacity,
    ] = sizes(args);
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let alpha = args.inputs[1][(y << halvings) * alpha_stride + 4 * (x << halvings) + 3];
        for byte in 0..bytes {
            let value = args.inputs[0][src_offset + y * src_stride + x * bytes + byte];
            let sample = &mut args.outputs[0][offset + y * stride + x * bytes + byte];
            *sample = blended(value_of(byte, value), *sample, opacity_of(alpha, opacity));
        }
    }
}

fn native(args: &mut CpuArgs<'_>) {
    let [
        src_offset,
        src_stride,
        alpha_stride,
        offset,
        stride,
        width,
        height,
        bytes,
        halvings,
        opacity,
    ] = sizes(args);
    for y in 0..height {
        let from =
            args.inputs[0][src_offset + y * src_stride..][..width * bytes].chunks_exact(bytes);
        let alphas = args.inputs[1][(y << halvings) * alpha_stride..].iter().skip(3);
        let to = args.outputs[0][offset + y * stride..][..width * bytes].chunks_exact_mut(bytes);
        for ((to, from), alpha) in to.zip(from).zip(alphas.step_by(4 << halvings)) {
            let opacity = opacity_of(*alpha, opacity);
            for (byte, (to, from)) in to.iter_mut().zip(from).enumerate() {
                *to = blended(value_of(byte, *from), *to, opacity);
            }
        }
    }
}

pub(super) fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (bytes, halvings) = (dice.pick(&[1, 2, 3, 4]), dice.below(2));
    let whole = |side: u32| ((side - 1) << halvings) + 1;
    let alpha_stride = 4 * whole(width) + dice.below(9);
    let mut stride = || width * bytes + dice.below(9);
    let (src_stride, dst_stride) = (stride(), stride());
    let (src_offset, dst_offset) = (dice.below(70), dice.below(70));
    let opacity = dice.pick(&[255, 0, 128, 77]);
    let scalars = [
        src_offset,
        src_stride,
        alpha_stride,
        dst_offset,
        dst_stride,
        width,
        height,
        bytes,
        halvings,
        opacity,
    ];
    let src = dice.bytes((src_offset + src_stride * height) as usize, width);
    let alpha = dice.bytes((alpha_stride * whole(height)) as usize, width);
    let dst = dice.bytes((dst_offset + dst_stride * height) as usize, width);
    let rows = Grid::Rows(height as usize);
    let command = launch(&OVERLAY_ALPHA, &[0, 1, 2].map(BufferId), &scalars, rows);
    Sample { command, inputs: vec![src, alpha, dst] }
}

/// Lays pixels of `from` over those at an offset of `to`, by the opacity of an RGBA picture in
/// `alpha` of so many pixels a row. Both planes are cut to the same sides.
pub(super) fn command(
    [src, alpha, dst]: [BufferId; 3],
    alpha_width: u32,
    [from, to]: [Part; 2],
    halvings: u32,
    opacity: u32,
) -> Command {
    let (alpha_stride, rows) = (4 * alpha_width, Grid::Rows(to.height as usize));
    let scalars = [
        from.offset,
        from.stride,
        alpha_stride,
        to.offset,
        to.stride,
        to.width,
        to.height,
        to.bytes,
        halvings,
        opacity,
    ];
    launch(&OVERLAY_ALPHA, &[src, alpha, dst], &scalars, rows)
}
