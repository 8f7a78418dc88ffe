//! What frames look like: sides, sample layout, range and matrix, and where their planes lie in a
//! buffer.

use serde::{Deserialize, Serialize};

use crate::plane::{Part, SIDE_MAX};

/// Sides and sample layout of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    pub width: u32,
    pub height: u32,
    pub format: PixelFormat,
    pub range: Range,
    pub matrix: Matrix,
}

/// How samples are laid out. Chroma of half the width (or height) is rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelFormat {
    /// A luma plane, then a plane of Cb and Cr pairs of half the width and height.
    Nv12,
    /// The same with Cr before Cb.
    Nv21,
    /// One byte of gray to a pixel.
    Gray8,
    /// Planes of luma, Cb and Cr; chroma of half the width and height.
    I420,
    /// Y, Cb, Y, Cr for two pixels of a row; chroma of half the width.
    Yuyv,
    /// Cb, Y, Cr, Y for two pixels of a row.
    Uyvy,
    /// Red, green, blue.
    Rgb24,
    /// Blue, green, red.
    Bgr24,
    /// Red, green, blue, opacity.
    Rgba,
    /// One 32-bit number, little-endian, to a pixel: sums, not a picture to look at.
    Gray32,
    /// A block of 16 x 16: x and y of its motion (signed bytes), then the difference (16 bits).
    Motion,
}

/// Which sample values mean black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Range {
    /// Luma 16 to 235, chroma 16 to 240, as television has it.
    Limited,
    /// 0 to 255.
    Full,
}

/// By which matrix colours became luma and chroma; of a picture of RGB, by which they did before it
/// was one, or are to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matrix {
    /// Nobody has said: taken for BT.601, and coded without a word of it.
    #[default]
    Unspecified,
    /// ITU-R BT.601, as television of standard resolution and JPEG files have it.
    Bt601,
    /// ITU-R BT.709, as television of high resolution has it.
    Bt709,
}

impl Shape {
    /// Longest side of a frame, in samples.
    pub const SIDE_MAX: u32 = SIDE_MAX;

    /// A shape of full range.
    pub fn full(width: u32, height: u32, format: PixelFormat) -> Self {
        Self { width, height, format, range: Range::Full, matrix: Matrix::Unspecified }
    }

    /// A shape of limited range.
    pub fn limited(width: u32, height: u32, format: PixelFormat) -> Self {
        Self { range: Range::Limited, ..Self::full(width, height, format) }
    }

    /// Bytes of a frame of this shape, or `None` for impossible sides.
    pub fn bytes(&self) -> Option<usize> {
        // Sums have a row and a column of zeros in front.
        let side_max = SIDE_MAX + u32::from(self.format == PixelFormat::Gray32);
        let possible = [self.width, self.height].iter().all(|s| (1..=side_max).contains(s));
        possible.then(|| self.planes().last()?.end())?
    }

    /// Where the planes lie in a buffer without gaps; pixels of interleaved formats stay whole.
    pub fn planes(&self) -> Vec<Part> {
        let (width, height) = (self.width, self.height);
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let luma = Part::tight(0, width, height, 1);
        let after = luma.end().unwrap_or(0) as u32;
        match self.format {
            PixelFormat::Gray8 => vec![luma],
            PixelFormat::Nv12 | PixelFormat::Nv21 => {
                vec![luma, Part::tight(after, half_width, half_height, 2)]
            }
            PixelFormat::I420 => {
                let cb = Part::tight(after, half_width, half_height, 1);
                let cr = Part { offset: after + half_width * half_height, ..cb };
                vec![luma, cb, cr]
            }
            PixelFormat::Yuyv | PixelFormat::Uyvy => vec![Part::tight(0, half_width, height, 4)],
            PixelFormat::Rgb24 | PixelFormat::Bgr24 => vec![Part::tight(0, width, height, 3)],
            PixelFormat::Rgba | PixelFormat::Gray32 | PixelFormat::Motion => {
                vec![Part::tight(0, width, height, 4)]
            }
        }
    }
}

impl PixelFormat {
    /// Formats that hold pictures.
    pub const PICTURES: [PixelFormat; 9] = [
        PixelFormat::Gray8,
        PixelFormat::Nv12,
        PixelFormat::Nv21,
        PixelFormat::I420,
        PixelFormat::Yuyv,
        PixelFormat::Uyvy,
        PixelFormat::Rgb24,
        PixelFormat::Bgr24,
        PixelFormat::Rgba,
    ];

    /// Whether colours are luma and chroma, so that a matrix made them.
    pub fn has_chroma(self) -> bool {
        self.is_halved() || matches!(self, PixelFormat::Yuyv | PixelFormat::Uyvy)
    }

    /// Whether chroma has planes of half the width and height.
    pub fn is_halved(self) -> bool {
        matches!(self, PixelFormat::Nv12 | PixelFormat::Nv21 | PixelFormat::I420)
    }

    /// Which component of a colour, in the order Y Cb Cr or as the bytes of a pixel lie, a byte of
    /// a plane's pixel is.
    pub fn component(self, plane: usize, byte: usize) -> usize {
        match (self, plane) {
            (PixelFormat::Nv12, 1) => 1 + byte,
            (PixelFormat::Nv21, 1) => 2 - byte.min(1),
            (PixelFormat::I420, plane) => plane,
            _ => byte,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            PixelFormat::Nv12 => "nv12",
            PixelFormat::Nv21 => "nv21",
            PixelFormat::Gray8 => "gray8",
            PixelFormat::I420 => "i420",
            PixelFormat::Yuyv => "yuyv",
            PixelFormat::Uyvy => "uyvy",
            PixelFormat::Rgb24 => "rgb24",
            PixelFormat::Bgr24 => "bgr24",
            PixelFormat::Rgba => "rgba",
            PixelFormat::Gray32 => "gray32",
            PixelFormat::Motion => "motion",
        }
    }
}
