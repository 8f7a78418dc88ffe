//! Shapes of frames in buffers, and the checks that keep every access inside them.

use hw::Arg;

/// Largest width, height and stride of a frame, in samples.
pub const SIDE_MAX: u32 = 16384;

/// One plane of bytes that starts at its buffer's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plane {
    pub width: u32,
    pub height: u32,
    /// Bytes from one row to the next.
    pub stride: u32,
}

impl Plane {
    /// A plane without gaps between rows.
    pub fn tight(width: u32, height: u32) -> Self {
        Self { width, height, stride: width }
    }

    /// Bytes from the first sample to the last, or `None` for an impossible shape.
    pub fn bytes(&self) -> Option<usize> {
        let sides_fit = [self.width, self.height].iter().all(|s| (1..=SIDE_MAX).contains(s));
        if !sides_fit || self.stride < self.width || self.stride > 2 * SIDE_MAX {
            return None;
        }
        Some((self.height as usize - 1) * self.stride as usize + self.width as usize)
    }
}

/// An NV12 frame in one buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nv12 {
    pub width: u32,
    pub height: u32,
    /// Bytes from one luma row to the next.
    pub stride: u32,
    /// Bytes from the buffer's start to the first Cb.
    pub chroma_offset: u32,
    /// Bytes from one chroma row to the next.
    pub chroma_stride: u32,
}

impl Nv12 {
    /// A frame without gaps.
    pub fn tight(width: u32, height: u32) -> Self {
        let chroma_stride = width.div_ceil(2) * 2;
        Self { width, height, stride: width, chroma_offset: width * height, chroma_stride }
    }

    /// The luma plane.
    pub fn luma(&self) -> Plane {
        Plane { width: self.width, height: self.height, stride: self.stride }
    }

    /// The chroma plane, in bytes: two to a sample.
    pub fn chroma(&self) -> Plane {
        let (width, height) = (self.width.div_ceil(2) * 2, self.height.div_ceil(2));
        Plane { width, height, stride: self.chroma_stride }
    }

    /// Bytes from the first luma to the last chroma sample, or `None` for an impossible shape.
    pub fn bytes(&self) -> Option<usize> {
        let offset = self.chroma_offset as usize;
        (self.luma().bytes()? <= offset).then_some(offset + self.chroma_bytes()?)
    }

    fn chroma_bytes(&self) -> Option<usize> {
        let chroma = self.chroma();
        (chroma.stride >= chroma.width && chroma.stride <= 2 * SIDE_MAX)
            .then(|| (chroma.height as usize - 1) * chroma.stride as usize + chroma.width as usize)
    }

    /// The five integers by which kernels are told this shape.
    pub(crate) fn args(&self) -> [Arg; 5] {
        [self.width, self.height, self.stride, self.chroma_offset, self.chroma_stride].map(Arg::U32)
    }

    /// The shape in the first five integers of a launch.
    pub(crate) fn of(scalars: &[u32]) -> Option<Self> {
        let [width, height, stride, chroma_offset, chroma_stride, ..] = *scalars else {
            return None;
        };
        Some(Self { width, height, stride, chroma_offset, chroma_stride })
    }
}

/// A plane anywhere in a buffer, of pixels of a few bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Bytes from the buffer's start to the first pixel.
    pub offset: u32,
    /// Bytes from one row to the next.
    pub stride: u32,
    /// Pixels of a row.
    pub width: u32,
    pub height: u32,
    /// Bytes of a pixel.
    pub bytes: u32,
}

impl Part {
    /// Without gaps between rows.
    pub fn tight(offset: u32, width: u32, height: u32, bytes: u32) -> Self {
        Self { offset, stride: width.saturating_mul(bytes), width, height, bytes }
    }

    /// Where a pixel begins, in bytes from the buffer's start.
    pub(crate) fn at(&self, x: u32, y: u32) -> usize {
        self.offset as usize + y as usize * self.stride as usize + x as usize * self.bytes as usize
    }

    /// Bytes from the buffer's start to the end of the last pixel, or `None` for impossible shapes.
    pub fn end(&self) -> Option<usize> {
        let sides = [self.width, self.height];
        // One more than a frame has: integral images have a row and a column of zeros in front.
        let possible = sides.iter().all(|s| (1..=SIDE_MAX + 1).contains(s))
            && (1..=32).contains(&self.bytes)
            && (self.width * self.bytes..=32 * SIDE_MAX).contains(&self.stride)
            && self.offset <= 1 << 30;
        possible.then(|| {
            self.offset as usize
                + (self.height as usize - 1) * self.stride as usize
                + (self.width * self.bytes) as usize
        })
    }
}
