//! Rectangle outlines drawn into a frame, plane by plane.
//!
//! Each rectangle is first clipped to the frame; then the samples less than `thickness` from one
//! of its edges, on the inside, take the colour. A sample of halved chroma covers 2 x 2 of the
//! frame and takes the colour when any of them, inside the frame, does. All rectangles have one
//! colour, so their order does not matter.

use hw::{BufferId, Command, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::native::sizes;
use crate::plane::Part;
use crate::rearrange::{self, colour_of};
use crate::regions::{parts, slot_of};
use crate::shape::Shape;
use crate::stem::{
    Entry, Given, Op, Sample, Setting, SettingKind, Stage, Stem, Takes, Values, launch, params,
    portable,
};

/// Most rectangles in one list; more are not drawn.
pub const RECTS_MAX: usize = 256;

const HEADER_BYTES: usize = 4;
const RECT_BYTES: usize = 16;

/// Bytes of a list of rectangles in a buffer.
pub const LIST_BYTES: usize = HEADER_BYTES + RECTS_MAX * RECT_BYTES;

pub static STEM: Stem = Stem {
    entries: &[Entry { kernel: &KERNEL, reference, sample }],
    ops: &[
        Op {
            name: "boxes",
            about: "Rectangles around connected blocks of 16 x 16 of a mask",
            inputs: &[Takes::Mask],
            settings: &[Setting {
                name: "min_count",
                about: "Samples of a block that must be set",
                kind: SettingKind::Number { default: 16, least: 0, most: 256 },
            }],
            plan: None,
        },
        Op {
            name: "draw_boxes",
            about: "A picture with the outlines of rectangles",
            inputs: &[Takes::PLANES, Takes::Boxes],
            settings: &[
                Setting {
                    name: "thickness",
                    about: "Samples of an outline",
                    kind: SettingKind::Number { default: 3, least: 0, most: 16384 },
                },
                Setting {
                    name: "colour",
                    about: rearrange::COLOUR.about,
                    kind: SettingKind::Numbers {
                        default: &[255, 0, 148],
                        least: 0,
                        most: 255,
                        counts: &[3, 4],
                    },
                },
            ],
            plan: Some(draw_boxes),
        },
    ],
};

/// `rects`: see [`encode_list`]; `plane`: one of a frame of these sides, halved so often; `colour`:
/// the bytes of a pixel, the first one lowest.
pub static KERNEL: Kernel = portable(
    "boxes",
    params!(In rects, InOut plane; width, height, offset, stride, bytes, halvings, thickness,
        colour),
    include_str!("boxes.cl"),
    native,
    bytes_needed,
);

/// A rectangle in samples of the frame: left, top, width, height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// Draws outlines of so many samples into one plane of a frame of these sides.
fn command(
    [rects, plane]: [BufferId; 2],
    sides: [u32; 2],
    (part, halvings): (Part, u32),
    thickness: u32,
    colour: u32,
) -> Command {
    let [width, height] = sides;
    let Part { offset, stride, bytes, .. } = part;
    let scalars = [width, height, offset, stride, bytes, halvings, thickness, colour];
    launch(&KERNEL, &[rects, plane], &scalars, Grid::Items(part.height as usize))
}

fn draw_boxes(
    stage: &mut dyn Stage,
    given: &[Given],
    values: &Values<'_>,
) -> Result<Given, String> {
    let picture = stage.writable(0, given[0].picture()?)?;
    let rects = stage.rects(slot_of(&given[1])?)?;
    let (thickness, colour) = (values.number("thickness") as u32, values.numbers("colour"));
    let Shape { width, height, format, .. } = picture.shape;
    for (number, (part, halvings)) in parts(picture).enumerate() {
        let colour = colour_of(format, number, colour);
        let buffers = [rects, picture.buffer];
        stage.run(command(buffers, [width, height], (part, halvings), thickness, colour));
    }
    Ok(Given::Picture(picture))
}

/// The first [`RECTS_MAX`] rectangles as the kernel reads them: their number, then x, y, width and
/// height of each, all little-endian 32-bit.
pub fn encode_list(rects: &[Rect]) -> Vec<u8> {
    let rects = &rects[..rects.len().min(RECTS_MAX)];
    let sides = rects.iter().flat_map(|r| [r.x, r.y, r.width, r.height]);
    let mut bytes: Vec<u8> =
        std::iter::once(rects.len() as u32).chain(sides).flat_map(u32::to_le_bytes).collect();
    bytes.resize(LIST_BYTES, 0);
    bytes
}

pub(crate) fn decode_list(bytes: &[u8]) -> Vec<Rect> {
    let word = |i: usize| {
        let at = 4 * i;
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let count = (word(0) as usize).min(RECTS_MAX);
    let rect = |i: usize| Rect {
        x: word(1 + 4 * i),
        y: word(2 + 4 * i),
        width: word(3 + 4 * i),
        height: word(4 + 4 * i),
    };
    (0..count).map(rect).collect()
}

/// A clipped rectangle by its first and last-plus-one samples.
#[derive(Clone, Copy)]
struct Edges {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

fn clip(rect: &Rect, width: usize, height: usize) -> Option<Edges> {
    let (left, top) = (rect.x as usize, rect.y as usize);
    if left >= width || top >= height || rect.width == 0 || rect.height == 0 {
        return None;
    }
    let right = left + (rect.width as usize).min(width - left);
    let bottom = top + (rect.height as usize).min(height - top);
    Some(Edges { left, top, right, bottom })
}

/// A side of a plane.
fn halved(side: usize, halvings: usize) -> usize {
    side.div_ceil(1 << halvings)
}

fn reference(args: &mut CpuArgs<'_>) {
    let [width, height, offset, stride, bytes, halvings, thickness, colour] = sizes(args);
    let rects = decode_list(args.inputs[0]);
    let edges: Vec<Edges> = rects.iter().filter_map(|r| clip(r, width, height)).collect();
    let in_outline = |x: usize, y: usize| {
        x < width && y < height && edges.iter().any(|e| is_edge(e, x, y, thickness))
    };
    let cell = || (0..1 << halvings).flat_map(|y| (0..1 << halvings).map(move |x| (x, y)));
    let colour = &(colour as u32).to_le_bytes()[..bytes];
    for y in 0..halved(height, halvings) {
        for x in 0..halved(width, halvings) {
            if cell().any(|(dx, dy)| in_outline((x << halvings) + dx, (y << halvings) + dy)) {
                let at = offset + y * stride + x * bytes;
                args.outputs[0][at..at + bytes].copy_from_slice(colour);
            }
        }
    }
}

fn is_edge(e: &Edges, x: usize, y: usize, thickness: usize) -> bool {
    let inside = (e.left..e.right).contains(&x) && (e.top..e.bottom).contains(&y);
    inside
        && [x - e.left, e.right - 1 - x, y - e.top, e.bottom - 1 - y]
            .iter()
            .any(|distance| *distance < thickness)
}

/// The parts of row `y` that lie on the outline: one span, or a left and a right one.
fn spans(e: &Edges, y: usize, thickness: usize) -> [(usize, usize); 2] {
    if y < e.top || y >= e.bottom || thickness == 0 {
        return [(0, 0); 2];
    }
    if y - e.top < thickness || e.bottom - 1 - y < thickness {
        return [(e.left, e.right), (0, 0)];
    }
    let side = thickness.min(e.right - e.left);
    [(e.left, e.left + side), (e.right - side, e.right)]
}

fn native(args: &mut CpuArgs<'_>) {
    let [width, height, offset, stride, bytes, halvings, thickness, colour] = sizes(args);
    let colour = &(colour as u32).to_le_bytes()[..bytes];
    let plane = &mut args.outputs[0][offset..];
    for rect in decode_list(args.inputs[0]) {
        let Some(edges) = clip(&rect, width, height) else { continue };
        for row in edges.top..edges.bottom {
            for (from, to) in spans(&edges, row, thickness) {
                let (from, to) = (from >> halvings, halved(to, halvings));
                let row = &mut plane[(row >> halvings) * stride..];
                match (&mut row[from * bytes..to * bytes], colour) {
                    (span, [value]) => span.fill(*value),
                    (span, _) => {
                        span.chunks_exact_mut(bytes).for_each(|pixel| pixel.copy_from_slice(colour))
                    }
                }
            }
        }
    }
}

fn bytes_needed(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[width, height, offset, stride, bytes, halvings, ..] = scalars else { return None };
    (halvings <= 1 && (1..=4).contains(&bytes)).then_some(())?;
    let side = |side: u32| halved(side as usize, halvings as usize) as u32;
    let part = Part { offset, stride, width: side(width), height: side(height), bytes };
    Some(vec![LIST_BYTES, part.end()?])
}

/// Eight boxes of a ninth of the sides, in a plane of any kind.
fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (w, h) = (width.div_ceil(9), height.div_ceil(9));
    let rects: Vec<Rect> =
        (0..8).map(|i| Rect { x: i * w + dice.below(9), y: i * h, width: w, height: h }).collect();
    let (bytes, halvings) = (dice.pick(&[1, 2, 3, 4]), dice.below(2));
    let (half_width, half_height) = (width.div_ceil(1 << halvings), height.div_ceil(1 << halvings));
    let part = Part {
        offset: dice.below(70),
        stride: half_width * bytes + dice.below(9),
        width: half_width,
        height: half_height,
        bytes,
    };
    let (thickness, buffers) = (3 + dice.below(5), [0, 1].map(BufferId));
    let command = command(buffers, [width, height], (part, halvings), thickness, 0x80_94_00_ff);
    let plane = dice.bytes((part.offset + part.stride * part.height) as usize, width);
    Sample { command, inputs: vec![encode_list(&rects), plane] }
}

#[cfg(test)]
mod tests;
