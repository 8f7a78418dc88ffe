//! H.264 streams (ITU-T H.264, constrained baseline, Annex B) from the records that
//! [`kernels::h264`] makes: parameter sets, slices and the coding of levels.
//!
//! Each picture is one slice, each refers to the one before it, and intra pictures begin anew. The
//! order of output is the order of coding.

mod bits;
mod control;
mod residual;
mod slice;

use bytes::Bytes;
pub use kernels::h264::Preset;
use kernels::h264::{Coding, Passes, Size, wide};
use kernels::{PixelFormat, Shape};
use serde::{Deserialize, Serialize};

use crate::{Error, Frame, Matrix, Range, Result};
use bits::BitWriter;
use control::Control;

/// How a stream is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// The quantiser, 0 to 51, where no rate is asked for.
    pub qp: u32,
    /// Pictures from one intra picture to the next.
    pub gop: u32,
    /// Bits a second that are aimed at; 0 for one quantiser all the way.
    pub bitrate: u32,
    /// Edges of blocks are filtered.
    pub deblock: bool,
    /// How much time is spent on few bits.
    pub preset: Preset,
}

impl Default for Settings {
    fn default() -> Self {
        Self { qp: 24, gop: 250, bitrate: 0, deblock: true, preset: Preset::default() }
    }
}

/// A picture of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub pts_us: i64,
    /// Decoding may begin here.
    pub is_key: bool,
    /// Annex B: start codes and units; a key brings the parameter sets.
    pub data: Bytes,
}

impl Unit {
    /// A picture as an [`Encoder`] gives it.
    pub fn new(pts_us: i64, data: Bytes) -> Self {
        Self { pts_us, is_key: data.starts_with(&[0, 0, 0, 1, SEQUENCE]), data }
    }
}

/// Codes frames of one shape, one after the other: on the CPU, or what a device made of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoder {
    settings: Settings,
    shape: Shape,
    /// There from the first frame on that is coded here; a device has pictures of its own.
    passes: Option<Passes>,
    control: Control,
}

impl Encoder {
    /// For NV12 frames of this shape.
    pub fn new(shape: Shape, settings: Settings) -> Result<Self> {
        if shape.format != PixelFormat::Nv12 || shape.bytes().is_none() {
            return Err(Error::Invalid("an encoder takes frames of nv12".to_string()));
        }
        Ok(Self::begin(shape, settings))
    }

    /// For NV12 frames of a shape that is possible.
    pub(crate) fn begin(shape: Shape, settings: Settings) -> Self {
        let control = Control::new(&settings, (shape.width * shape.height) as usize);
        Self { settings, shape, passes: None, control }
    }

    /// Codes the next frame.
    pub fn encode(&mut self, frame: &Frame) -> Result<Unit> {
        if frame.shape() != self.shape {
            return Err(Error::Invalid(format!(
                "frame {}: {} x {} in a stream of {} x {}: give frames of one shape",
                frame.index, frame.width, frame.height, self.shape.width, self.shape.height
            )));
        }
        Ok(Unit::new(frame.pts_us, self.code(&frame.data, frame.pts_us).into()))
    }

    /// Whether the next picture tells only how it differs from the last.
    pub(crate) fn is_midway(&self) -> bool {
        self.control.since_intra > 0
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.passes.as_ref().map_or(0, Passes::bytes)
    }

    /// Codes the samples of the next frame, which must be as many as the shape has.
    pub(crate) fn code(&mut self, samples: &[u8], pts_us: i64) -> Vec<u8> {
        let (placed, Shape { width, height, .. }) = (self.placed(), self.shape);
        let passes = self.passes.get_or_insert_with(|| Passes::new(width, height));
        let data = picture(passes, samples, &placed);
        self.control = self.control.after(&self.settings, 8 * data.len(), pts_us);
        data
    }

    /// What a device is told of the next frame, which it codes by the wide preset.
    pub(crate) fn numbers(&self) -> Vec<u8> {
        wide::control(self.control.coding(&self.settings))
    }

    /// Writes what a device made of the next frame: its level and motion records.
    pub(crate) fn write(&mut self, levels: &[u8], field: &[u8], pts_us: i64) -> Vec<u8> {
        let placed = self.placed();
        let data = parts(&placed, |on_row| wide::rows(levels, field, &placed.size, on_row));
        self.control = self.control.after(&self.settings, 8 * data.len(), pts_us);
        data
    }

    /// Where the next frame stands.
    fn placed(&self) -> Placed {
        Placed {
            size: Size::new(self.shape.width, self.shape.height),
            range: self.shape.range,
            matrix: self.shape.matrix,
            coding: self.control.coding(&self.settings),
            since_intra: self.control.since_intra,
            intra_count: self.control.intra_count,
        }
    }
}

/// A picture and where it stands in its stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub size: Size,
    pub range: Range,
    pub matrix: Matrix,
    pub coding: Coding,
    /// Pictures since the last intra one.
    pub since_intra: u32,
    /// Intra pictures so far.
    pub intra_count: u32,
}

/// Codes a picture as the parts of a stream: an intra one brings the parameter sets with it.
pub(crate) fn picture(passes: &mut Passes, samples: &[u8], placed: &Placed) -> Vec<u8> {
    parts(placed, |on_row| passes.run(samples, placed.coding, on_row))
}

/// The parts of a stream for a picture whose rows of records `run` gives one after the other.
fn parts(placed: &Placed, run: impl FnOnce(&mut dyn FnMut(&[i16]))) -> Vec<u8> {
    let mut slice = slice::Slice::new(placed);
    run(&mut |records| slice.row(records));
    let content = slice.close();
    let mut out = Vec::with_capacity(content.len() + content.len() / 64 + 64);
    if placed.coding.intra {
        out.extend(parameters(placed));
    }
    let kind = if placed.coding.intra { SLICE_INTRA } else { SLICE };
    unit(&mut out, kind, &content);
    out
}

/// Kinds of units, with the importance that all of ours have.
const SLICE: u8 = 0x61;
const SLICE_INTRA: u8 = 0x65;
const SEQUENCE: u8 = 0x67;
const PICTURES: u8 = 0x68;

/// Bits of a picture's number.
const NUMBER_BITS: u32 = 8;
/// The quantiser that slices tell their difference to.
const QP_BASE: i32 = 26;

/// The parameter sets of a stream.
pub(crate) fn parameters(placed: &Placed) -> Vec<u8> {
    let mut out = Vec::new();
    unit(&mut out, SEQUENCE, &sequence(placed));
    unit(&mut out, PICTURES, &pictures());
    out
}

/// The parameter sets that a key begins with.
pub(crate) fn sets(key: &[u8]) -> &[u8] {
    let start = [0, 0, 0, 1, SLICE_INTRA];
    let at = key.windows(start.len()).position(|window| window == start);
    &key[..at.unwrap_or(key.len())]
}

/// The sequence parameter set (clause 7.3.2.1.1).
fn sequence(placed: &Placed) -> Vec<u8> {
    let size = &placed.size;
    let mut bits = BitWriter::default();
    // Baseline, without what constrained baseline leaves out.
    bits.put(66, 8);
    bits.put(0xC0, 8);
    bits.put(level(size), 8);
    bits.unsigned(0);
    bits.unsigned(NUMBER_BITS - 4);
    // Output in the order of coding.
    bits.unsigned(2);
    // One reference, no gaps in numbers.
    bits.unsigned(1);
    bits.put(0, 1);
    bits.unsigned(size.columns as u32 - 1);
    bits.unsigned(size.rows as u32 - 1);
    // Whole frames; direct_8x8_inference.
    bits.put(0b11, 2);
    crop(&mut bits, size);
    usability(&mut bits, placed);
    bits.close()
}

/// Samples at the right and the lower edge that are not shown, by twos: of an odd side one remains.
fn crop(bits: &mut BitWriter, size: &Size) {
    let across = (16 * size.columns - size.width) as u32 / 2;
    let down = (16 * size.rows - size.height) as u32 / 2;
    let is_cropped = across > 0 || down > 0;
    bits.put(is_cropped.into(), 1);
    if is_cropped {
        [0, across, 0, down].into_iter().for_each(|samples| bits.unsigned(samples));
    }
}

/// The range and the matrix of samples, and that no picture waits for another (annex E).
fn usability(bits: &mut BitWriter, placed: &Placed) {
    // There is such a part; it has no shape of samples and no overscan.
    bits.put(0b100, 3);
    // A kind of signal: unspecified, its range, its colours where they are known.
    bits.put(1, 1);
    bits.put(5, 3);
    bits.put(u32::from(placed.range == Range::Full), 1);
    match matrix_number(placed.matrix) {
        UNSPECIFIED => bits.put(0, 1),
        matrix => {
            bits.put(1, 1);
            // Which colours are meant, and how bright: both unspecified.
            [UNSPECIFIED, UNSPECIFIED, matrix].into_iter().for_each(|number| bits.put(number, 8));
        }
    }
    // No places of chroma, no timing, no buffer models (two), no structure of pictures.
    bits.put(0, 5);
    // Bounds: motion over edges, no bound on bytes and bits, lengths of motion.
    bits.put(0b11, 2);
    [0, 0, 13, 9].into_iter().for_each(|bound| bits.unsigned(bound));
    // No picture is held back, one is kept.
    bits.unsigned(0);
    bits.unsigned(1);
}

const UNSPECIFIED: u32 = 2;

/// By table E-5.
fn matrix_number(matrix: Matrix) -> u32 {
    match matrix {
        Matrix::Unspecified => UNSPECIFIED,
        Matrix::Bt601 => 6,
        Matrix::Bt709 => 1,
    }
}

/// The picture parameter set (clause 7.3.2.2).
fn pictures() -> Vec<u8> {
    let mut bits = BitWriter::default();
    bits.unsigned(0);
    bits.unsigned(0);
    // CAVLC, no order of fields, one group, one reference each.
    bits.put(0, 2);
    [0, 0, 0].into_iter().for_each(|number| bits.unsigned(number));
    // No weights.
    bits.put(0, 3);
    bits.signed(0);
    bits.signed(0);
    bits.signed(0);
    // Slices say how edges are filtered; intra macroblocks may look at all; no repeated pictures.
    bits.put(0b100, 3);
    bits.close()
}

/// The least level whose pictures are as large, at 60 a second (table A-1).
fn level(size: &Size) -> u32 {
    const LEVELS: [(u32, usize); 12] = [
        (10, 99),
        (11, 396),
        (21, 792),
        (30, 1620),
        (31, 3600),
        (32, 5120),
        (40, 8192),
        (42, 8704),
        (50, 22_080),
        (51, 36_864),
        (60, 139_264),
        (62, usize::MAX),
    ];
    let longest = size.columns.max(size.rows);
    // No side is longer than the root of eight times the largest picture.
    let fits = |most: usize| size.count() <= most && longest * longest <= most.saturating_mul(8);
    LEVELS.iter().find(|(_, most)| fits(*most)).map_or(62, |(level, _)| *level)
}

/// A unit with its start code; three bytes that look like one are broken by a 3.
fn unit(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    out.extend([0, 0, 0, 1, kind]);
    // What is not yet written begins at `from`; only behind two zeros is a byte in question.
    let (mut from, mut at) = (0, 2);
    while at < content.len() {
        if content[at] > 3 {
            at += 3;
        } else if content[at - 1] != 0 {
            at += 1 + usize::from(content[at] != 0);
        } else if content[at - 2] != 0 {
            at += 1;
        } else {
            out.extend_from_slice(&content[from..at]);
            out.push(3);
            from = at;
            at += 2;
        }
    }
    out.extend_from_slice(&content[from..]);
}

#[cfg(test)]
pub(crate) mod tests;
