//! Sides, places and macroblocks.

use crate::plane::Nv12;

/// Side of a macroblock.
pub const SIDE: usize = 16;
/// Samples around a reference.
pub const PAD: usize = 32;

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

    /// Bytes of a row of one plane of the reference.
    pub fn plane_stride(&self) -> usize {
        self.stride() + 2 * PAD
    }

    /// Bytes between two rows of luma of the reference: full samples, half ones to the right,
    /// below, and both; then, in even rows, chroma.
    pub fn reference_stride(&self) -> usize {
        5 * self.plane_stride()
    }

    pub fn reference_rows(&self) -> usize {
        SIDE * self.rows + 2 * PAD
    }

    pub fn reference_bytes(&self) -> usize {
        self.reference_stride() * self.reference_rows()
    }

    pub fn nv12(&self) -> Nv12 {
        Nv12::tight(self.width as u32, self.height as u32)
    }
}

/// Samples of a macroblock; chroma has Cb and Cr by turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Macroblock {
    pub luma: [[u8; 16]; 16],
    pub chroma: [[u8; 16]; 8],
}

impl Macroblock {
    pub const EMPTY: Self = Self { luma: [[0; 16]; 16], chroma: [[0; 16]; 8] };

    /// A macroblock of a tight NV12 frame, its last column and row repeated.
    #[inline(always)]
    pub fn of_frame(frame: &[u8], size: &Size, column: usize, row: usize) -> Self {
        Self {
            luma: luma_of_frame(frame, size, column, row),
            chroma: chroma_of_frame(frame, size, column, row),
        }
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
pub fn luma_of_frame(frame: &[u8], size: &Size, column: usize, row: usize) -> [[u8; 16]; 16] {
    let (left, top) = (SIDE * column, SIDE * row);
    let mut luma = [[0; 16]; 16];
    for (y, to) in luma.iter_mut().enumerate() {
        let line = &frame[(top + y).min(size.height - 1) * size.width..][..size.width];
        match line[left..].first_chunk() {
            Some(samples) => *to = *samples,
            None => (0..16).for_each(|x| to[x] = line[(left + x).min(size.width - 1)]),
        }
    }
    luma
}

#[inline(always)]
fn chroma_of_frame(frame: &[u8], size: &Size, column: usize, row: usize) -> [[u8; 16]; 8] {
    let chroma = &frame[size.width * size.height..];
    let (pairs, lines) = (size.width.div_ceil(2), size.height.div_ceil(2));
    let mut samples = [[0; 16]; 8];
    for (y, to) in samples.iter_mut().enumerate() {
        let line = &chroma[(8 * row + y).min(lines - 1) * 2 * pairs..][..2 * pairs];
        match line[SIDE * column..].first_chunk() {
            Some(samples) => *to = *samples,
            None => {
                (0..16).for_each(|x| to[x] = line[2 * (8 * column + x / 2).min(pairs - 1) + x % 2])
            }
        }
    }
    samples
}
