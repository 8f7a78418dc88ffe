//! Rectangle outlines drawn into an NV12 frame.
//!
//! Each rectangle is first clipped to the frame; then the samples less than `thickness` from one
//! of its edges, on the inside, take the colour. A chroma pair covers 2 x 2 luma samples and takes
//! the colour when any of them, inside the frame, does. All rectangles have one colour, so their
//! order does not matter.

use hw::{Arg, BufferId, Command, CpuArgs, Grid, Kernel, Launch, Param};

use crate::dice::Dice;
use crate::native::sizes;
use crate::plane::Nv12;
use crate::stem::{Entry, Op, Sample, Setting, SettingKind, Stem, Takes};

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
            about: "NV12 with the outlines of rectangles",
            inputs: &[Takes::NV12, Takes::Boxes],
            settings: &[
                Setting {
                    name: "thickness",
                    about: "Samples of an outline",
                    kind: SettingKind::Number { default: 3, least: 0, most: 16384 },
                },
                Setting {
                    name: "colour",
                    about: "Y, Cb and Cr",
                    kind: SettingKind::Numbers {
                        default: &[255, 0, 148],
                        least: 0,
                        most: 255,
                        counts: &[3],
                    },
                },
            ],
            plan: None,
        },
    ],
};

/// `rects`: see [`encode_list`]; `frame`: NV12; `y`, `cb`, `cr`: the colour.
pub static KERNEL: Kernel = Kernel {
    stem: "boxes",
    params: &[
        Param::In("rects"),
        Param::InOut("frame"),
        Param::U32("width"),
        Param::U32("height"),
        Param::U32("stride"),
        Param::U32("chroma_offset"),
        Param::U32("chroma_stride"),
        Param::U32("thickness"),
        Param::U32("y"),
        Param::U32("cb"),
        Param::U32("cr"),
    ],
    opencl: include_str!("boxes.cl"),
    cuda: include_str!("boxes.cl"),
    cpu: native,
    bytes_needed,
    joined: None,
};

/// A rectangle in samples of the frame: left, top, width, height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// How outlines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pen {
    /// Samples from the edge inwards.
    pub thickness: u32,
    /// Y, Cb and Cr.
    pub colour: [u8; 3],
}

/// Draws the rectangles of the list in `rects` into `frame`.
pub fn command(rects: BufferId, frame: BufferId, shape: Nv12, pen: Pen) -> Command {
    let mut args = vec![Arg::Buffer(rects), Arg::Buffer(frame)];
    args.extend(shape.args());
    args.push(Arg::U32(pen.thickness));
    args.extend(pen.colour.map(|c| Arg::U32(u32::from(c))));
    let rows = shape.height + shape.height.div_ceil(2);
    Command::Launch(Launch { kernel: &KERNEL, args, grid: Grid::Items(rows as usize) })
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

pub fn reference(args: &mut CpuArgs<'_>) {
    let [width, height, stride, chroma_offset, chroma_stride, thickness, y, cb, cr] = sizes(args);
    let rects = decode_list(args.inputs[0]);
    let edges: Vec<Edges> = rects.iter().filter_map(|r| clip(r, width, height)).collect();
    let in_outline = |x: usize, y: usize| {
        x < width && y < height && edges.iter().any(|e| is_edge(e, x, y, thickness))
    };
    let frame = &mut *args.outputs[0];
    for row in 0..height {
        for x in (0..width).filter(|x| in_outline(*x, row)) {
            frame[row * stride + x] = y as u8;
        }
    }
    for row in 0..height.div_ceil(2) {
        for x in 0..width.div_ceil(2) {
            let cell = [(0, 0), (1, 0), (0, 1), (1, 1)];
            if cell.iter().any(|(dx, dy)| in_outline(2 * x + dx, 2 * row + dy)) {
                let at = chroma_offset + row * chroma_stride + 2 * x;
                frame[at..at + 2].copy_from_slice(&[cb as u8, cr as u8]);
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
    let [width, height, stride, chroma_offset, chroma_stride, thickness, y, cb, cr] = sizes(args);
    let frame = &mut *args.outputs[0];
    for rect in decode_list(args.inputs[0]) {
        let Some(edges) = clip(&rect, width, height) else { continue };
        for row in edges.top..edges.bottom {
            for (from, to) in spans(&edges, row, thickness) {
                frame[row * stride..][from..to].fill(y as u8);
                let pairs = &mut frame[chroma_offset + row / 2 * chroma_stride..];
                for pair in pairs[from / 2 * 2..to.div_ceil(2) * 2].chunks_exact_mut(2) {
                    pair.copy_from_slice(&[cb as u8, cr as u8]);
                }
            }
        }
    }
}

fn bytes_needed(scalars: &[u32]) -> Option<Vec<usize>> {
    Some(vec![LIST_BYTES, Nv12::of(scalars)?.bytes()?])
}

/// Eight boxes of a ninth of the sides.
fn sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let (w, h) = (width.div_ceil(9), height.div_ceil(9));
    let rects: Vec<Rect> =
        (0..8).map(|i| Rect { x: i * w + dice.below(9), y: i * h, width: w, height: h }).collect();
    let shape = Nv12::tight(width, height);
    let pen = Pen { thickness: 3 + dice.below(5), colour: [255, 0, 148] };
    let command = command(BufferId(0), BufferId(1), shape, pen);
    let frame = dice.bytes(shape.bytes().unwrap_or(0), width);
    Sample { command, inputs: vec![encode_list(&rects), frame] }
}

#[cfg(test)]
mod tests;
