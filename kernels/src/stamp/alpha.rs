//! A picture laid over another by its own opacity, that of the pixels of an RGBA picture.
//!
//! The opacity of a pixel is `(alpha opacity + 127) / 255`, and a sample under it becomes what it
//! does under any ([`super::blended`]). Halved chroma takes the opacity of the upper left of the
//! pixels that it stands for. The opacity of an RGBA picture below, which is taken for opaque, goes
//! towards 255.

use hw::{BufferId, Command, CpuArgs, Grid, Kernel};

use super::blended;
use crate::dice::Dice;
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
        let laid = Laid::of(scalars)?;
        Some(vec![laid.from.end()?, laid.alpha.end()?, laid.to.end()?])
    },
);

/// What a launch is told: which pixels go over which, and by whose opacity.
#[derive(Clone, Copy)]
struct Laid {
    from: Part,
    /// Of the same sides.
    to: Part,
    /// The pixels of the RGBA picture that the corners of these stand for.
    alpha: Part,
    halvings: u32,
    opacity: u32,
}

impl Laid {
    fn new([from, to]: [Part; 2], alpha_stride: u32, halvings: u32, opacity: u32) -> Option<Self> {
        ((1..=4).contains(&to.bytes) && halvings <= 1 && opacity <= 255).then_some(())?;
        let whole = |side: u32| side.checked_sub(1)?.checked_mul(1 << halvings)?.checked_add(1);
        let (width, height) = (whole(to.width)?, whole(to.height)?);
        let alpha = Part { offset: 0, stride: alpha_stride, width, height, bytes: 4 };
        Some(Self { from, to, alpha, halvings, opacity })
    }

    fn of(scalars: &[u32]) -> Option<Self> {
        let &[src_offset, src_stride, alpha_stride, offset, stride, width, height, bytes, ..] =
            scalars
        else {
            return None;
        };
        let &[halvings, opacity] = scalars.last_chunk()?;
        let part = |offset, stride| Part { offset, stride, width, height, bytes };
        let parts = [part(src_offset, src_stride), part(offset, stride)];
        Self::new(parts, alpha_stride, halvings, opacity)
    }

    fn command(&self, buffers: [BufferId; 3]) -> Command {
        let Self { from, to, alpha, halvings, opacity } = *self;
        let planes = [from.offset, from.stride, alpha.stride, to.offset, to.stride];
        let scalars = [&planes[..], &[to.width, to.height, to.bytes, halvings, opacity]].concat();
        launch(&OVERLAY_ALPHA, &buffers, &scalars, Grid::Rows(to.height as usize))
    }
}

/// What a byte of a pixel is laid over with: all of its opacity.
fn value_of(byte: usize, value: u8) -> u8 {
    if byte == 3 { 255 } else { value }
}

fn opacity_of(alpha: u8, opacity: u32) -> u16 {
    ((u32::from(alpha) * opacity + 127) / 255) as u16
}

pub(super) fn reference(args: &mut CpuArgs<'_>) {
    let Some(Laid { from, to, alpha, halvings, opacity }) = Laid::of(&args.scalars) else { return };
    for (x, y) in (0..to.height).flat_map(|y| (0..to.width).map(move |x| (x, y))) {
        let seen = args.inputs[1][alpha.at(x << halvings, y << halvings) + 3];
        for byte in 0..to.bytes as usize {
            let value = args.inputs[0][from.at(x, y) + byte];
            let sample = &mut args.outputs[0][to.at(x, y) + byte];
            *sample = blended(value_of(byte, value), *sample, opacity_of(seen, opacity));
        }
    }
}

fn native(args: &mut CpuArgs<'_>) {
    let Some(Laid { from, to, alpha, halvings, opacity }) = Laid::of(&args.scalars) else { return };
    let (bytes, row) = (to.bytes as usize, (to.width * to.bytes) as usize);
    for y in 0..to.height {
        let values = args.inputs[0][from.at(0, y)..][..row].chunks_exact(bytes);
        let alphas = args.inputs[1][alpha.at(0, y << halvings)..].iter().skip(3);
        let samples = args.outputs[0][to.at(0, y)..][..row].chunks_exact_mut(bytes);
        for ((to, from), alpha) in samples.zip(values).zip(alphas.step_by(4 << halvings)) {
            let opacity = opacity_of(*alpha, opacity);
            for (byte, (to, from)) in to.iter_mut().zip(from).enumerate() {
                *to = blended(value_of(byte, *from), *to, opacity);
            }
        }
    }
}

pub(super) fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (bytes, halvings) = (dice.pick(&[1, 2, 3, 4]), dice.below(2));
    let mut part = || Part {
        offset: dice.below(70),
        stride: width * bytes + dice.below(9),
        width,
        height,
        bytes,
    };
    let parts = [part(), part()];
    let alpha_stride = 4 * (((width - 1) << halvings) + 1) + dice.below(9);
    let opacity = dice.pick(&[255, 0, 128, 77]);
    let laid = Laid::new(parts, alpha_stride, halvings, opacity).expect("possible sizes");
    let planes = [laid.from, laid.alpha, laid.to];
    let inputs =
        planes.map(|part| dice.bytes((part.offset + part.stride * part.height) as usize, width));
    Sample { command: laid.command([0, 1, 2].map(BufferId)), inputs: inputs.into() }
}

/// Lays pixels of `from` over those at an offset of `to`, by the opacity of an RGBA picture in
/// `alpha` of so many pixels a row. Both planes are cut to the same sides.
pub(super) fn command(
    buffers: [BufferId; 3],
    alpha_width: u32,
    parts: [Part; 2],
    halvings: u32,
    opacity: u32,
) -> Result<Command, String> {
    let laid = Laid::new(parts, 4 * alpha_width, halvings, opacity);
    laid.map(|laid| laid.command(buffers)).ok_or_else(|| "an impossible overlay".to_string())
}
