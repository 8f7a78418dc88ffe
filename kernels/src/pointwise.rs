//! Kernels whose samples depend on nothing around them: what a launch of one does to each sample,
//! as data, so that several can be written as one kernel ([`crate::chain`]).
//!
//! The arithmetic stands once, as a function of the kernel's own source that its loop calls too.

use hw::Kernel;

/// A kernel of that kind. Its source is one text for OpenCL and CUDA.
pub struct Pointwise {
    pub kernel: &'static Kernel,
    /// What a launch with these integers does; `None` where that looks around, or elsewhere.
    pub of: fn(&[u32]) -> Option<Work>,
}

/// A kernel that reads a plane by `AT(x, y)`: what makes the plane may as well be a function.
pub struct Reader {
    pub kernel: &'static Kernel,
    /// What a launch with these integers reads so; `None` where it is not a plane of samples.
    pub of: fn(&[u32]) -> Option<Reading>,
}

/// A plane that is read from `(0, 0)` to the last place of an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// By its number among the kernel's.
    pub buffer: usize,
    pub track: Track,
    pub area: Area,
    /// How often each sample is read.
    pub times: u32,
}

/// What a launch does. All its samples are read before any is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    pub area: Area,
    pub assigns: Vec<Assign>,
}

/// The places that work is done at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    pub width: u32,
    pub height: u32,
    /// One row of bytes that means no row of a picture, and may be cut into rows anywhere.
    pub is_flat: bool,
}

/// The bytes of an area in a buffer: that of place `(x, y)` at `offset + y stride + x step`, with
/// `x` and `y` halved first (rounding down) where chroma is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Track {
    pub offset: u32,
    pub stride: i32,
    pub step: i32,
    /// `x`, `y`.
    pub halved: [bool; 2],
}

/// A sample for each place: a function of the source, or its one operand as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assign {
    /// A buffer, by its number among the kernel's.
    pub to: (usize, Track),
    pub function: Option<&'static str>,
    pub operands: Vec<Operand>,
}

/// What such a function is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    Sample(usize, Track),
    /// A buffer from its start, which no place is special to.
    Table(usize),
    /// An integer of the launch, by its number.
    Scalar(usize),
    Number(u32),
}

/// Bytes of a pixel, at most.
const PARTS_MAX: u32 = 4;

impl Area {
    pub(crate) fn rows(width: u32, height: u32) -> Area {
        Area { width, height, is_flat: false }
    }

    pub(crate) fn flat(bytes: u32) -> Area {
        Area { width: bytes, height: 1, is_flat: true }
    }
}

impl Track {
    /// Bytes side by side.
    pub(crate) fn bytes(offset: u32, stride: u32) -> Track {
        Track::spread(offset, stride, 1)
    }

    /// A byte of each pixel of `step` bytes.
    pub(crate) fn spread(offset: u32, stride: u32, step: u32) -> Track {
        Track { offset, stride: stride as i32, step: step as i32, halved: [false; 2] }
    }

    /// From the first byte to the last, in an area of these sides.
    pub(crate) fn range(&self, area: Area) -> std::ops::RangeInclusive<i64> {
        let last = |side: u32, halved: bool| i64::from((side - 1) >> u32::from(halved));
        let across = last(area.width, self.halved[0]) * i64::from(self.step);
        let down = last(area.height, self.halved[1]) * i64::from(self.stride);
        let first = i64::from(self.offset);
        first + across.min(0) + down.min(0)..=first + across.max(0) + down.max(0)
    }

    /// Whether no byte is in both.
    pub(crate) fn is_apart(&self, other: &Track, area: Area) -> bool {
        let (a, b) = (self.range(area), other.range(area));
        if a.end() < b.start() || b.end() < a.start() {
            return true;
        }
        // Bytes of the same pixels, such as red and green.
        let alike = self.stride == other.stride && self.step == other.step;
        let plain = self.halved == [false; 2] && other.halved == [false; 2];
        let row_bytes = i64::from(area.width) * i64::from(self.step);
        let whole_rows = area.height == 1 || row_bytes <= i64::from(self.stride);
        let between = self.offset.abs_diff(other.offset);
        alike && plain && whole_rows && between > 0 && i64::from(between) < i64::from(self.step)
    }

    /// Byte `part` of each `parts` of a row that has so many times as many bytes.
    fn part(&self, part: u32, parts: u32) -> Option<Track> {
        let offset = i64::from(self.offset) + i64::from(part) * i64::from(self.step);
        let step = self.step.checked_mul(parts as i32)?;
        let is_whole = parts == 1 || !self.halved[0];
        is_whole.then_some(Track { offset: u32::try_from(offset).ok()?, step, ..*self })
    }
}

impl Work {
    /// The same over an area of another description, where it has one: pixels for bytes of pixels,
    /// rows for what is flat.
    pub(crate) fn over(&self, area: Area) -> Option<Work> {
        if self.area == area {
            return Some(self.clone());
        }
        let own = u64::from(self.area.width) * u64::from(self.area.height);
        let wanted = u64::from(area.width) * u64::from(area.height);
        let parts = u32::try_from(own / wanted.max(1)).ok().filter(|n| *n <= PARTS_MAX)?;
        let fits = self.area.is_flat || self.area.height == area.height;
        if area.is_flat || !fits || wanted * u64::from(parts) != own {
            return None;
        }
        let track = |track: &Track, part: u32| {
            let track = track.part(part, parts)?;
            let stride = match self.area.is_flat {
                true => track.step.checked_mul(area.width as i32)?,
                false => track.stride,
            };
            Some(Track { stride, ..track })
        };
        let mut assigns = Vec::with_capacity(self.assigns.len() * parts as usize);
        for part in 0..parts {
            for assign in &self.assigns {
                assigns.push(assign.over(|from| track(from, part))?);
            }
        }
        Some(Work { area, assigns })
    }
}

impl Assign {
    /// A function of the source.
    pub(crate) fn call(
        to: (usize, Track),
        function: &'static str,
        operands: impl Into<Vec<Operand>>,
    ) -> Self {
        Self { to, function: Some(function), operands: operands.into() }
    }

    pub(crate) fn copy(to: (usize, Track), operand: Operand) -> Self {
        Self { to, function: None, operands: vec![operand] }
    }

    fn over(&self, track: impl Fn(&Track) -> Option<Track>) -> Option<Assign> {
        let operands = self.operands.iter().map(|operand| match operand {
            Operand::Sample(buffer, from) => Some(Operand::Sample(*buffer, track(from)?)),
            other => Some(*other),
        });
        let operands = operands.collect::<Option<Vec<_>>>()?;
        let to = (self.to.0, track(&self.to.1)?);
        Some(Assign { to, function: self.function, operands })
    }
}

/// The text of a function in a source, from `FN` or `KERNEL` to the brace at the start of a line.
pub(crate) fn function_text<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    let named = format!(" {name}(");
    let is_head = |line: &str| {
        (line.starts_with("FN ") || line.starts_with("KERNEL ")) && line.contains(&named)
    };
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        if is_head(line) {
            let end = source[start..].find("\n}\n")?;
            return Some(&source[start..start + end + 3]);
        }
        start += line.len();
    }
    None
}

#[cfg(test)]
mod tests;
