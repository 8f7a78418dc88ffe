//! Frames over a pipe: a child process decodes, its parent reads. When a stream crashes the
//! decoder, only the child goes.
//!
//! Each message begins with 36 bytes, little-endian, then `bytes` bytes of content:
//!
//! ```text
//! 0  magic "ESF1"      4  kind u8 (1 frame, 2 end, 3 error)   5  range u8 (0 limited, 1 full)
//! 6  zero u16          8  width u32                          12  height u32
//! 16 pts_us i64       24  index u64                          32  bytes u32
//! ```
//!
//! A frame's content is NV12; an error's is its text in UTF-8. After end or error nothing follows.

use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::frame::bytes_of;
use crate::{Error, Frame, PixelFormat, Range, Result, Shape};

const MAGIC: [u8; 4] = *b"ESF1";
const HEADER_BYTES: usize = 36;
const KIND_FRAME: u8 = 1;
const KIND_END: u8 = 2;
const KIND_ERROR: u8 = 3;
/// Longest error text that is passed on.
const ERROR_BYTES_MAX: usize = 4096;
/// How long a source may be silent: a camera that is gone does not always say so.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Decodes `input` and writes its frames to `out`, then how it ended. Returns when the stream
/// ends, when it fails (the reader is told too), or when nobody reads any more.
pub fn serve(input: &str, mut out: impl Write) -> Result<()> {
    let mut written = Ok(());
    let decoded = super::decode(input, |frame| {
        written = write_frame(&mut out, &frame);
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if written.is_err() {
        // The reader has gone, and with it whoever could be told.
        return Ok(());
    }
    let last = match &decoded {
        Ok(_) => write_message(&mut out, Header::of_kind(KIND_END), &[]),
        Err(error) => {
            let text = error.to_string();
            let text = &text.as_bytes()[..text.len().min(ERROR_BYTES_MAX)];
            write_message(&mut out, Header::of_kind(KIND_ERROR), text)
        }
    };
    let _ = last.and_then(|()| out.flush());
    decoded.map(drop)
}

/// Writes one frame as a message. The frame must be NV12.
pub fn write_frame(out: &mut impl Write, frame: &Frame) -> std::io::Result<()> {
    let header = Header {
        kind: KIND_FRAME,
        range: frame.range,
        width: frame.width,
        height: frame.height,
        pts_us: frame.pts_us,
        index: frame.index,
        bytes: 0,
    };
    write_message(out, header, &frame.data)
}

fn write_message(out: &mut impl Write, header: Header, content: &[u8]) -> std::io::Result<()> {
    let header = Header { bytes: content.len() as u32, ..header };
    out.write_all(&header.encode())?;
    out.write_all(content)
}

/// The parent's end of the pipe.
pub struct Reader<R> {
    source: R,
    /// What errors call the stream.
    name: String,
    silence_max: Duration,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads what [`serve`] writes; `name` is for errors.
    pub fn new(source: R, name: impl Into<String>) -> Self {
        Self { source, name: name.into(), silence_max: SILENCE_MAX, ended: false }
    }

    /// The next frame; `None` at the proper end. Anything else is an error, after which the
    /// stream is over: the child's own, a message that makes no sense, a pipe that just ends, or
    /// none of these for [`SILENCE_MAX`].
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        if self.ended {
            return Ok(None);
        }
        let limit = self.silence_max;
        let next = match tokio::time::timeout(limit, self.read()).await {
            Ok(next) => next,
            Err(_) => Err(self.broken(format!("no frame for {} s", limit.as_secs_f32()))),
        };
        self.ended = !matches!(next, Ok(Some(_)));
        next
    }

    async fn read(&mut self) -> Result<Option<Frame>> {
        let mut header = [0; HEADER_BYTES];
        let read = self.source.read_exact(&mut header).await;
        read.map_err(|_| self.broken("the decoder ended without a word"))?;
        let header = Header::decode(&header).map_err(|detail| self.broken(detail))?;
        match header.kind {
            KIND_FRAME => self.frame(header).await.map(Some),
            KIND_END => Ok(None),
            _ => {
                let text = self.content(header.bytes as usize).await?;
                Err(self.broken(String::from_utf8_lossy(&text)))
            }
        }
    }

    async fn frame(&mut self, header: Header) -> Result<Frame> {
        let shape = Shape {
            width: header.width,
            height: header.height,
            format: PixelFormat::Nv12,
            range: header.range,
        };
        let data = self.content(header.bytes as usize).await?;
        Frame::new(shape, header.pts_us, header.index, data)
    }

    /// Reads content whose length the header's check has bounded.
    async fn content(&mut self, bytes: usize) -> Result<Bytes> {
        let mut content = Vec::with_capacity(bytes);
        let mut source = (&mut self.source).take(bytes as u64);
        let read = source.read_to_end(&mut content).await;
        match read {
            Ok(read) if read == bytes => Ok(Bytes::from(content)),
            _ => Err(self.broken("the decoder ended in the middle of a message")),
        }
    }

    fn broken(&self, detail: impl ToString) -> Error {
        // The child's text names the stream already.
        let detail = detail.to_string();
        let prefix = format!("video {}: ", self.name);
        Error::media(&self.name, detail.strip_prefix(&prefix).unwrap_or(&detail))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Header {
    kind: u8,
    range: Range,
    width: u32,
    height: u32,
    pts_us: i64,
    index: u64,
    bytes: u32,
}

impl Header {
    fn of_kind(kind: u8) -> Self {
        Self { kind, range: Range::Limited, width: 0, height: 0, pts_us: 0, index: 0, bytes: 0 }
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..4].copy_from_slice(&MAGIC);
        out[4] = self.kind;
        out[5] = u8::from(self.range == Range::Full);
        out[8..12].copy_from_slice(&self.width.to_le_bytes());
        out[12..16].copy_from_slice(&self.height.to_le_bytes());
        out[16..24].copy_from_slice(&self.pts_us.to_le_bytes());
        out[24..32].copy_from_slice(&self.index.to_le_bytes());
        out[32..36].copy_from_slice(&self.bytes.to_le_bytes());
        out
    }

    /// Reads a header and checks that its content has the length it must have.
    fn decode(from: &[u8; HEADER_BYTES]) -> std::result::Result<Self, String> {
        let word =
            |at: usize| u32::from_le_bytes([from[at], from[at + 1], from[at + 2], from[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if from[0..4] != MAGIC || from[6..8] != [0, 0] {
            return Err("what the decoder sent is no frame".to_string());
        }
        let range = match from[5] {
            0 => Range::Limited,
            1 => Range::Full,
            other => return Err(format!("the decoder sent an unknown range {other}")),
        };
        let header = Self {
            kind: from[4],
            range,
            width: word(8),
            height: word(12),
            pts_us: long(16) as i64,
            index: long(24),
            bytes: word(32),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let bytes = self.bytes as usize;
        match self.kind {
            KIND_FRAME => {
                let (width, height) = (self.width, self.height);
                let (format, range) = (PixelFormat::Nv12, self.range);
                let expected = bytes_of(Shape { width, height, format, range })
                    .map_err(|error| format!("the decoder sent a {error}"))?;
                if bytes != expected {
                    return Err(format!(
                        "the decoder sent a frame of {width} x {height} with {bytes} bytes, \
                         not {expected}"
                    ));
                }
                Ok(())
            }
            KIND_END if bytes == 0 => Ok(()),
            KIND_ERROR if bytes <= ERROR_BYTES_MAX => Ok(()),
            kind => Err(format!("the decoder sent a message of kind {kind} with {bytes} bytes")),
        }
    }
}

#[cfg(test)]
mod tests;
