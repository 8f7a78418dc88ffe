//! Frames of video in host memory, shared and never copied.

mod layout;
mod memory;

use bytes::Bytes;
pub use kernels::{Matrix, PixelFormat, Range, Shape};

pub use self::layout::Layout;
pub(crate) use self::memory::FrameMemory;
use crate::{Error, Result};

/// A picture and when it was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub width: u32,
    pub height: u32,
    pub format: PixelFormat,
    pub range: Range,
    pub matrix: Matrix,
    /// Presentation time in microseconds.
    pub pts_us: i64,
    /// Number within its stream, from zero.
    pub index: u64,
    /// The samples without gaps, as `format` orders them.
    pub data: Bytes,
}

impl Frame {
    /// A frame of `shape`; refuses impossible sides and any other number of bytes than it takes.
    pub fn new(shape: Shape, pts_us: i64, index: u64, data: Bytes) -> Result<Self> {
        let Shape { width, height, format, range, matrix } = shape;
        let frame = Self { width, height, format, range, matrix, pts_us, index, data };
        frame.check()?;
        Ok(frame)
    }

    /// What the frame looks like apart from its samples and time.
    pub fn shape(&self) -> Shape {
        let Frame { width, height, format, range, matrix, .. } = *self;
        Shape { width, height, format, range, matrix }
    }

    /// Whether sides and number of bytes agree.
    pub fn check(&self) -> Result<()> {
        let expected = bytes_of(self.shape())?;
        if self.data.len() == expected {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "frame {}: {} x {} of {} takes {expected} bytes, {} given",
            self.index,
            self.width,
            self.height,
            self.format.as_str(),
            self.data.len(),
        )))
    }
}

/// Bytes of a frame of this shape, or why there is none.
pub(crate) fn bytes_of(shape: Shape) -> Result<usize> {
    shape.bytes().ok_or_else(|| {
        Error::Invalid(format!(
            "frame of {} x {}: each side must be 1 to {}",
            shape.width,
            shape.height,
            Shape::SIDE_MAX
        ))
    })
}

#[cfg(test)]
mod tests;
