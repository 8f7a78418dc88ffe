//! Frames, pipelines and numbers that several tests use.

use bytes::Bytes;

use crate::{Frame, Op, Pipeline, PixelFormat, Shape};

/// The pipeline of the road: motion score, boxes and a marked JPEG of each frame.
pub(crate) fn road() -> Pipeline {
    Pipeline::parse(
        r#"{ "steps": [
            { "op": "gray", "input": ["frame"], "output": "gray" },
            { "op": "half", "input": ["gray"], "output": "small" },
            { "op": "absdiff", "input": ["small", "small@-1"], "output": "diff" },
            { "op": "threshold", "level": 24, "input": ["diff"], "output": "mask" },
            { "op": "score", "input": ["mask"], "output": "score" },
            { "op": "boxes", "min_count": 8, "input": ["mask"], "output": "boxes" },
            { "op": "draw_boxes", "input": ["frame", "boxes"], "output": "marked" },
            { "op": "jpeg", "quality": 80, "input": ["marked"], "output": "jpeg" } ],
          "returns": ["score", "boxes", "jpeg", "mask", "marked"] }"#,
    )
    .expect("a good pipeline")
}

/// A picture of slopes with a bright square whose left upper corner is at `index * 8`.
pub(crate) fn moving_square(width: u32, height: u32, index: u64) -> Frame {
    let at = index as u32 * 8;
    let square = at..at + 32;
    let mut data = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let inside = square.contains(&x) && square.contains(&y);
            data.push(if inside { 220 } else { (40 + (x + y) % 100) as u8 });
        }
    }
    for y in 0..height.div_ceil(2) {
        for x in 0..width.div_ceil(2) {
            data.extend([(100 + x % 50) as u8, (110 + y % 40) as u8]);
        }
    }
    let shape = Shape::limited(width, height, PixelFormat::Nv12);
    Frame::new(shape, index as i64 * 40_000, index, Bytes::from(data)).expect("a whole frame")
}

/// An operation with parameters as JSON.
pub(crate) fn op(name: &str, settings: &str) -> Op {
    Op::new(name, &serde_json::from_str(settings).expect("JSON")).expect("a good operation")
}

/// Numbers that are as good as random, the same for the same seed, which is not 0.
pub(crate) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}
