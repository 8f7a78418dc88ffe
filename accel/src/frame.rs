//! Frames of video in host memory, shared and never copied.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A picture and when it was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub width: u32,
    pub height: u32,
    pub format: PixelFormat,
    pub range: Range,
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
        let Shape { width, height, format, range } = shape;
        let frame = Self { width, height, format, range, pts_us, index, data };
        frame.check()?;
        Ok(frame)
    }

    /// What the frame looks like apart from its samples and time.
    pub fn shape(&self) -> Shape {
        let Frame { width, height, format, range, .. } = *self;
        Shape { width, height, format, range }
    }

    /// Whether sides and number of bytes agree.
    pub fn check(&self) -> Result<()> {
        let expected = self.shape().bytes()?;
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

/// Sides and sample layout of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    pub width: u32,
    pub height: u32,
    pub format: PixelFormat,
    pub range: Range,
}

impl Shape {
    /// Longest side of a frame, in samples.
    pub const SIDE_MAX: u32 = kernels::SIDE_MAX;

    /// Bytes of a frame of this shape.
    pub fn bytes(&self) -> Result<usize> {
        let sides = [self.width, self.height];
        if !sides.iter().all(|side| (1..=Self::SIDE_MAX).contains(side)) {
            let [width, height] = sides;
            return Err(Error::Invalid(format!(
                "frame of {width} x {height}: each side must be 1 to {}",
                Self::SIDE_MAX
            )));
        }
        let luma = self.width as usize * self.height as usize;
        Ok(match self.format {
            PixelFormat::Gray8 => luma,
            PixelFormat::Nv12 => {
                luma + 2 * self.width.div_ceil(2) as usize * self.height.div_ceil(2) as usize
            }
        })
    }
}

/// How samples are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelFormat {
    /// A luma plane, then a plane of Cb and Cr pairs of half the width and height, rounded up.
    Nv12,
    /// One byte of gray to a pixel.
    Gray8,
}

impl PixelFormat {
    pub fn as_str(self) -> &'static str {
        match self {
            PixelFormat::Nv12 => "nv12",
            PixelFormat::Gray8 => "gray8",
        }
    }
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

#[cfg(test)]
mod tests;
