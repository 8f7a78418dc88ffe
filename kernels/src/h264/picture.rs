//! Sides, places and macroblocks.

/// Side of a macroblock.
pub const SIDE: usize = 16;
/// Samples around a reference.
pub const PAD: usize = 32;
/// Bytes behind a reference that loads of sixteen may read.
const BEHIND: usize = 64;

/// Samples of a macroblock; chroma has Cb and Cr by turns.
pub type Luma = [[u8; 16]; 16];
pub type Chroma = [[u8; 16]; 8];

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

    /// Bytes of a row of the reconstruction, luma and chroma (Cb and Cr by turns) alike.
    pub fn stride(&self) -> usize {
        SIDE * self.columns
    }

    /// Where the reconstruction's chroma begins.
    pub fn chroma(&self) -> usize {
        self.stride() * SIDE * self.rows
    }

    pub fn picture_bytes(&self) -> usize {
        self.chroma() * 3 / 2
    }

    /// Bytes of a row of the reference, luma and chroma alike.
    pub fn reference_stride(&self) -> usize {
        self.stride() + 2 * PAD
    }

    /// Where the reference's chroma begins.
    pub fn reference_chroma(&self) -> usize {
        self.reference_stride() * (SIDE * self.rows + 2 * PAD)
    }

    pub fn reference_bytes(&self) -> usize {
        self.reference_chroma() * 3 / 2 + BEHIND
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

    /// Puts it into a reconstruction.
    #[inline(always)]
    pub fn store(&self, picture: &mut [u8], size: &Size, column: usize, row: usize) {
        let stride = size.stride();
        let at = SIDE * (row * stride + column);
        for (y, line) in self.luma.iter().enumerate() {
            picture[at + y * stride..][..16].copy_from_slice(line);
        }
        let at = size.chroma() + 8 * row * stride + SIDE * column;
        for (y, line) in self.chroma.iter().enumerate() {
            picture[at + y * stride..][..16].copy_from_slice(line);
        }
    }
}

#[inline(always)]
pub fn read_luma(frame: &[u8], size: &Size, column: usize, row: usize, to: &mut Luma) {
    let (left, top) = (SIDE * column, SIDE * row);
    if left + SIDE <= size.width && top + SIDE <= size.height {
        let from = &frame[top * size.width + left..];
        return read(from, size.width, to);
    }
    for (y, to) in to.iter_mut().enumerate() {
        let line = &frame[(top + y).min(size.height - 1) * size.width..][..size.width];
        for (x, to) in to.iter_mut().enumerate() {
            *to = line[(left + x).min(size.width - 1)];
        }
    }
}

#[inline(always)]
fn read_chroma(frame: &[u8], size: &Size, column: usize, row: usize, to: &mut Chroma) {
    let chroma = &frame[size.width * size.height..];
    let (pairs, lines) = (size.width.div_ceil(2), size.height.div_ceil(2));
    if 8 * (column + 1) <= pairs && 8 * (row + 1) <= lines {
        return read(&chroma[2 * (8 * row * pairs + 8 * column)..], 2 * pairs, to);
    }
    for (y, to) in to.iter_mut().enumerate() {
        let line = &chroma[(8 * row + y).min(lines - 1) * 2 * pairs..][..2 * pairs];
        for (x, to) in to.iter_mut().enumerate() {
            *to = line[2 * (8 * column + x / 2).min(pairs - 1) + x % 2];
        }
    }
}

#[inline(always)]
fn read(from: &[u8], stride: usize, to: &mut [[u8; 16]]) {
    for (y, to) in to.iter_mut().enumerate() {
        *to = *from[y * stride..].first_chunk().expect("the frame has the whole macroblock");
    }
}

/// Makes a picture the next one's reference: around it, its edge goes on.
#[inline(always)]
pub fn fill_reference(picture: &[u8], size: &Size, reference: &mut [u8]) {
    let (luma, chroma) = reference.split_at_mut(size.reference_chroma());
    let (from_luma, from_chroma) = picture.split_at(size.chroma());
    fill_plane::<1>(from_luma, size, PAD, luma);
    fill_plane::<2>(from_chroma, size, PAD / 2, chroma);
}

/// Of samples of `BYTES`, with so many rows above and below.
#[inline(always)]
fn fill_plane<const BYTES: usize>(picture: &[u8], size: &Size, above: usize, to: &mut [u8]) {
    let (stride, wide) = (size.stride(), size.reference_stride());
    let rows = picture.len() / stride;
    for (y, to) in to.chunks_exact_mut(wide).take(rows + 2 * above).enumerate() {
        let at = (y.max(above) - above).min(rows - 1);
        let row = &picture[at * stride..][..stride];
        let (left, rest) = to.split_at_mut(PAD);
        let (inner, right) = rest.split_at_mut(stride);
        inner.copy_from_slice(row);
        for i in 0..PAD {
            left[i] = row[i % BYTES];
            right[i] = row[stride - BYTES + i % BYTES];
        }
    }
}
