//! Frames of bytes from outside, which are checked before anything is done with them.

use bytes::{Bytes, BytesMut};

use super::bytes_of;
use crate::{Error, Frame, PixelFormat, Result, Shape};

/// How the samples of a frame lie in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub shape: Shape,
    /// Bytes from one row to the next, of each plane; none where rows follow without gaps. A plane
    /// takes its stride for each of its rows, the last one too, and the next plane follows.
    pub strides: Vec<u32>,
}

/// The rows of one plane.
struct Rows {
    count: usize,
    bytes: usize,
    stride: usize,
}

impl Layout {
    /// How many bytes such a frame takes; an error where there is none of this layout.
    pub fn bytes(&self) -> Result<usize> {
        Ok(self.rows()?.iter().map(|rows| rows.count * rows.stride).sum())
    }

    /// The frame that these bytes are. Without gaps they are not copied.
    pub fn frame(&self, pts_us: i64, index: u64, data: Bytes) -> Result<Frame> {
        let (planes, bytes) = (self.rows()?, self.bytes()?);
        if data.len() != bytes {
            let text = format!("takes {bytes} bytes, {} given", data.len());
            return Err(self.refused(&text));
        }
        if planes.iter().all(|rows| rows.stride == rows.bytes) {
            return Frame::new(self.shape, pts_us, index, data);
        }
        let mut tight = BytesMut::with_capacity(bytes_of(self.shape)?);
        let mut left = &data[..];
        for Rows { count, bytes, stride } in planes {
            let (plane, after) = left.split_at(count * stride);
            plane.chunks_exact(stride).for_each(|row| tight.extend_from_slice(&row[..bytes]));
            left = after;
        }
        Frame::new(self.shape, pts_us, index, tight.freeze())
    }

    fn rows(&self) -> Result<Vec<Rows>> {
        if !PixelFormat::PICTURES.contains(&self.shape.format) {
            return Err(self.refused("is no picture"));
        }
        // Sides are possible from here on, so that no product below is too large.
        bytes_of(self.shape)?;
        let planes = self.shape.planes();
        if !self.strides.is_empty() && self.strides.len() != planes.len() {
            let (wanted, given) = (planes.len(), self.strides.len());
            return Err(self.refused(&format!("has {wanted} planes, {given} strides are given")));
        }
        let rows = planes.iter().enumerate().map(|(number, plane)| {
            let bytes = (plane.width * plane.bytes) as usize;
            let stride = self.strides.get(number).map_or(bytes, |stride| *stride as usize);
            if stride < bytes {
                let text = format!("has rows of {bytes} bytes in plane {number}, stride {stride}");
                return Err(self.refused(&text));
            }
            Ok(Rows { count: plane.height as usize, bytes, stride })
        });
        rows.collect()
    }

    fn refused(&self, what: &str) -> Error {
        let Shape { width, height, format, .. } = self.shape;
        Error::Invalid(format!("a frame of {width} x {height} of {} {what}", format.as_str()))
    }
}
