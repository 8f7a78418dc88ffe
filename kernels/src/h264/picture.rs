//! Sides, places and macroblocks.

use super::vector::{Line, Samples, Vector};

/// Side of a macroblock.
pub const SIDE: usize = 16;
/// Samples around a picture that another may be predicted from.
pub const PAD: usize = 32;
/// Bytes behind it that loads of sixteen may read.
const BEHIND: usize = 64;

/// Samples of a macroblock; chroma has Cb and Cr by turns.
pub type Luma = [Line; 16];
pub type Chroma = [Line; 8];

/// A picture in macroblocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Samples of the frame.
    pub width: usize,
    pub height: usize,
    /// Macroblocks.
    pub columns: usize,
    pub rows: usize,
}

impl Size {
    pub fn new(width: u32, height: u32) -> Self {
        let (width, height) = (width as usize, height as usize);
        let (columns, rows) = (width.div_ceil(SIDE), height.div_ceil(SIDE));
        Self { width, height, columns, rows }
    }

    pub fn count(&self) -> usize {
        self.columns * self.rows
    }

    /// Bytes of a row of a padded picture, luma and chroma (Cb and Cr by turns) alike.
    pub fn stride(&self) -> usize {
        SIDE * self.columns + 2 * PAD
    }

    /// Its rows of luma.
    pub fn lines(&self) -> usize {
        SIDE * self.rows + 2 * PAD
    }

    /// Where its rows of chroma begin.
    fn chroma(&self) -> usize {
        self.stride() * self.lines()
    }

    pub fn picture_bytes(&self) -> usize {
        self.chroma() * 3 / 2 + BEHIND
    }

    /// The first sample of luma of a macroblock in a padded picture.
    pub fn luma_at(&self, column: usize, row: usize) -> usize {
        (SIDE * row + PAD) * self.stride() + SIDE * column + PAD
    }

    /// Its first pair of chroma.
    pub fn chroma_at(&self, column: usize, row: usize) -> usize {
        self.chroma() + (SIDE * row + PAD) / 2 * self.stride() + SIDE * column + PAD
    }
}

/// A macroblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Macroblock {
    pub luma: Luma,
    pub chroma: Chroma,
}

impl Macroblock {
    pub const EMPTY: Self = Self { luma: [[0; 16]; 16], chroma: [[0; 16]; 8] };

    /// Becomes a macroblock of a tight NV12 frame, its last column and row repeated.
    #[inline(always)]
    pub fn read(&mut self, frame: &[u8], size: &Size, column: usize, row: usize) {
        read_luma(frame, size, column, row, &mut self.luma);
        read_chroma(frame, size, column, row, &mut self.chroma);
    }

    /// Puts it into a padded picture.
    #[inline(always)]
    pub fn store(&self, picture: &mut [u8], size: &Size, column: usize, row: usize) {
        let stride = size.stride();
        put(tight(&self.luma), picture, size.luma_at(column, row), stride, SIDE);
        put(tight(&self.chroma), picture, size.chroma_at(column, row), stride, SIDE / 2);
    }
}

/// Luma of a macroblock where it lies in a tight frame; none where it ends outside.
#[inline(always)]
pub fn luma_in<'a>(frame: &'a [u8], size: &Size, column: usize, row: usize) -> Option<Samples<'a>> {
    let (left, top) = (SIDE * column, SIDE * row);
    let is_inside = left + SIDE <= size.width && top + SIDE <= size.height;
    let stride = size.width;
    is_inside.then(|| Samples { from: &frame[top * stride + left..], stride })
}

/// The same of chroma.
#[inline(always)]
pub fn chroma_in<'a>(
    frame: &'a [u8],
    size: &Size,
    column: usize,
    row: usize,
) -> Option<Samples<'a>> {
    let (stride, lines) = (2 * size.width.div_ceil(2), size.height.div_ceil(2));
    let is_inside = SIDE * (column + 1) <= stride && 8 * (row + 1) <= lines;
    let from = size.width * size.height + 8 * row * stride + SIDE * column;
    is_inside.then(|| Samples { from: &frame[from..], stride })
}

#[inline(always)]
pub fn read_luma(frame: &[u8], size: &Size, column: usize, row: usize, to: &mut Luma) {
    if let Some(from) = luma_in(frame, size, column, row) {
        return read(from, to);
    }
    let (left, top) = (SIDE * column, SIDE * row);
    for (y, to) in to.iter_mut().enumerate() {
        let line = &frame[(top + y).min(size.height - 1) * size.width..][..size.width];
        for (x, to) in to.iter_mut().enumerate() {
            *to = line[(left + x).min(size.width - 1)];
        }
    }
}

#[inline(always)]
fn read_chroma(frame: &[u8], size: &Size, column: usize, row: usize, to: &mut Chroma) {
    if let Some(from) = chroma_in(frame, size, column, row) {
        return read(from, to);
    }
    let chroma = &frame[size.width * size.height..];
    let (pairs, lines) = (size.width.div_ceil(2), size.height.div_ceil(2));
    for (y, to) in to.iter_mut().enumerate() {
        let line = &chroma[(8 * row + y).min(lines - 1) * 2 * pairs..][..2 * pairs];
        for (x, to) in to.iter_mut().enumerate() {
            *to = line[2 * (8 * column + x / 2).min(pairs - 1) + x % 2];
        }
    }
}

#[inline(always)]
fn read(from: Samples<'_>, to: &mut [Line]) {
    for (y, to) in to.iter_mut().enumerate() {
        *to = *from.row(y);
    }
}

/// The rows of a macroblock.
#[inline(always)]
pub fn tight(rows: &[Line]) -> Samples<'_> {
    Samples { from: rows.as_flattened(), stride: SIDE }
}

/// Puts so many rows of sixteen samples into a plane.
#[inline(always)]
pub fn put(from: Samples<'_>, plane: &mut [u8], at: usize, stride: usize, rows: usize) {
    for y in 0..rows {
        plane[at + y * stride..][..SIDE].copy_from_slice(from.row(y));
    }
}

/// Lets the edge of a picture go on around it.
#[inline(always)]
pub fn pad(picture: &mut [u8], size: &Size) {
    let (luma, chroma) = picture.split_at_mut(size.chroma());
    pad_plane::<1>(luma, size, PAD);
    pad_plane::<2>(chroma, size, PAD / 2);
}

/// Of samples of `BYTES`, with so many rows above and below.
#[inline(always)]
fn pad_plane<const BYTES: usize>(plane: &mut [u8], size: &Size, above: usize) {
    let stride = size.stride();
    let rows = above + SIDE * size.rows / BYTES;
    for row in plane.chunks_exact_mut(stride).take(rows).skip(above) {
        let (left, rest) = row.split_at_mut(PAD);
        let (inner, right) = rest.split_at_mut(SIDE * size.columns);
        let last = inner.len() - BYTES;
        for i in 0..PAD {
            left[i] = inner[i % BYTES];
            right[i] = inner[last + i % BYTES];
        }
    }
    for y in 0..above {
        plane.copy_within(above * stride..(above + 1) * stride, y * stride);
        plane.copy_within((rows - 1) * stride..rows * stride, (rows + y) * stride);
    }
}

/// Macroblocks in a line of memory.
const LINE: usize = 64 / SIDE;

/// Says that what lies behind a line of macroblocks will soon be looked at: rows of a picture are
/// too far apart for a processor to see it coming.
#[inline(always)]
pub fn prefetch(
    v: impl Vector,
    frame: &[u8],
    pictures: [&[u8]; 2],
    size: &Size,
    [column, row]: [usize; 2],
) {
    if !column.is_multiple_of(LINE) {
        return;
    }
    let next = column + LINE;
    let rows = |from: &[u8], at: usize, stride: usize, count: usize| {
        let bytes = (0..count).filter_map(|y| from.get(at + y * stride));
        bytes.for_each(|byte| v.prefetch(byte));
    };
    rows(frame, SIDE * (row * size.width + next), size.width, SIDE);
    let pairs = size.width.div_ceil(2);
    rows(frame, size.width * size.height + SIDE * (row * pairs + next), 2 * pairs, SIDE / 2);
    for picture in pictures {
        rows(picture, size.luma_at(next, row), size.stride(), SIDE);
        rows(picture, size.chroma_at(next, row), size.stride(), SIDE / 2);
    }
}
