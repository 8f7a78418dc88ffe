//! Frames from a child process that decodes, so that a stream that crashes the decoder takes only
//! the child with it.
//!
//! Samples lie in memory that both share (`ring.rs`), in slots. Messages go over a socket; each
//! begins with 36 bytes, little-endian, then content where there is any:
//!
//! ```text
//! 0  magic "ESF1"      4  kind u8 (1 frame, 2 end, 3 error, 4 frame in a slot, 5 note)
//! 5  range u8 (0 limited, 1 full), and 16 where the matrix is BT.601, 32 where it is BT.709
//! 6  slot u16, else zero
//! 8  width u32        12  height u32        16  pts_us i64
//! 24 index u64        32  bytes u32
//! ```
//!
//! A frame is NV12: content of the message, or in the slot of that number. The content of an error,
//! and of a note for the log, is its text in UTF-8. After end or error nothing follows.
//!
//! The parent copies a slot out as soon as it hears of it, and answers with the slot's number, one
//! byte; then the child may use it again. A child without a free slot waits for one. Frames of
//! which not one fits into the memory, and all where there is none, are contents of messages.
//!
//! The parent believes nothing: a slot must exist and sizes must agree. Since it copies before it
//! looks, a child that writes while it does gets some other picture to be seen, and one that names
//! a slot twice the same twice.

use std::cell::RefCell;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::decode::Picture;
use super::ring::{Mapped, Ring, SLOTS_MAX, slots};
use crate::frame::{FrameMemory, bytes_of};
use crate::{Error, Frame, Matrix, PixelFormat, Range, Result, Shape};

const MAGIC: [u8; 4] = *b"ESF1";
const HEADER_BYTES: usize = 36;
const KIND_FRAME: u8 = 1;
const KIND_END: u8 = 2;
const KIND_ERROR: u8 = 3;
const KIND_SLOT: u8 = 4;
const KIND_NOTE: u8 = 5;
/// By their numbers.
const MATRICES: [Matrix; 3] = [Matrix::Unspecified, Matrix::Bt601, Matrix::Bt709];
/// Longest text that is passed on.
const TEXT_BYTES_MAX: usize = 4096;
/// Notes that are heard before a frame.
const NOTES_MAX: u32 = 16;
/// How long a source may be silent: a camera that is gone does not always say so.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What a parent keeps of the way between it and its child.
#[derive(Debug)]
pub struct Near {
    line: UnixStream,
    ring: Option<Ring>,
}

/// What a child is started with, and the parent then forgets.
#[derive(Debug)]
pub struct Far {
    line: OwnedFd,
    memory: Option<OwnedFd>,
}

/// A way between a parent and a child. Where the system has no memory to share, frames go over the
/// socket.
pub fn pair() -> std::io::Result<(Near, Far)> {
    let (line, theirs) = UnixStream::pair()?;
    line.set_nonblocking(true)?;
    let shared = Ring::create().and_then(|ring| Ok((ring.for_child()?, ring)));
    let (memory, ring) = match shared {
        Ok((memory, ring)) => (Some(memory), Some(ring)),
        Err(error) => {
            tracing::debug!(%error, "frames are not shared with a decoder");
            (None, None)
        }
    };
    Ok((Near { line, ring }, Far { line: theirs.into(), memory }))
}

impl Far {
    /// The standard input and the standard output of the child, which calls [`serve`].
    pub fn into_stdio(self) -> (Stdio, Stdio) {
        (self.memory.map_or_else(Stdio::null, Stdio::from), Stdio::from(self.line))
    }

    fn inherited() -> std::io::Result<Self> {
        let memory = std::io::stdin().as_fd().try_clone_to_owned().ok();
        Ok(Self { line: std::io::stdout().as_fd().try_clone_to_owned()?, memory })
    }
}

/// In the child: decodes `input` and hands its frames to the parent, then how it ended. Returns
/// when the stream ends, when it fails (the parent is told too), or when nobody listens any more.
pub fn serve(input: &str) -> Result<()> {
    let far = Far::inherited();
    serve_over(far.map_err(|error| Error::media(input, error.to_string()))?, input)
}

fn serve_over(far: Far, input: &str) -> Result<()> {
    let out = RefCell::new(Sender::new(far));
    let mut has_gone = false;
    let tell = &mut |by: &str| {
        let by = &by.as_bytes()[..by.len().min(TEXT_BYTES_MAX)];
        // Who does not hear it does not hear of the first frame either.
        let _ = out.borrow_mut().message(Header::of_kind(KIND_NOTE), by);
    };
    let on_picture = &mut |picture: Picture<'_>| match out.borrow_mut().frame(picture) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(Unsent::Picture(detail)) => Err(detail),
        Err(Unsent::Gone) => {
            has_gone = true;
            Ok(ControlFlow::Break(()))
        }
    };
    let decoded = super::decode::each_by(tell, input, on_picture);
    let mut out = out.into_inner();
    if has_gone {
        // With the parent has gone whoever could be told.
        return Ok(());
    }
    let _ = match &decoded {
        Ok(_) => out.message(Header::of_kind(KIND_END), &[]),
        Err(error) => {
            let text = error.to_string();
            let text = &text.as_bytes()[..text.len().min(TEXT_BYTES_MAX)];
            out.message(Header::of_kind(KIND_ERROR), text)
        }
    };
    decoded.map(drop)
}

/// The child's end.
struct Sender {
    line: File,
    memory: Option<Mapped>,
    /// Slots that the parent has not given back, and the bytes of each.
    taken: [bool; SLOTS_MAX],
    bytes: usize,
    /// Where a frame is made that goes over the socket.
    inline: Vec<u8>,
}

/// Why a frame was not sent.
enum Unsent {
    Picture(String),
    /// The parent does not listen any more.
    Gone,
}

impl From<std::io::Error> for Unsent {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

impl Sender {
    fn new(far: Far) -> Self {
        let memory = far.memory.and_then(Mapped::of);
        let (taken, bytes, inline) = Default::default();
        Self { line: File::from(far.line), memory, taken, bytes, inline }
    }

    fn frame(&mut self, picture: Picture<'_>) -> std::result::Result<(), Unsent> {
        let (shape, bytes) = (picture.shape, picture.bytes);
        let header = Header::of_frame(shape, picture.pts_us, picture.index, bytes);
        let slot = self.free_slot(bytes)?;
        let memory = self.memory.as_mut();
        match slot.and_then(|slot| Some((slot, memory?.slot(slot, bytes)?))) {
            Some((slot, memory)) => {
                picture.write(memory).map_err(Unsent::Picture)?;
                self.taken[slot] = true;
                self.message(Header { kind: KIND_SLOT, slot: slot as u16, ..header }, &[])?;
            }
            None => {
                let mut content = std::mem::take(&mut self.inline);
                content.resize(bytes, 0);
                picture.write(&mut content).map_err(Unsent::Picture)?;
                self.message(header, &content)?;
                self.inline = content;
            }
        }
        Ok(())
    }

    /// A slot for so many bytes, if there are any, once one is free. Slots of another size lie
    /// across them, so these must all be back first.
    fn free_slot(&mut self, bytes: usize) -> std::io::Result<Option<usize>> {
        let count = if self.memory.is_some() { slots(bytes) } else { 0 };
        if count == 0 {
            return Ok(None);
        }
        while bytes != self.bytes && self.taken.contains(&true) {
            self.take_back()?;
        }
        self.bytes = bytes;
        loop {
            if let Some(slot) = self.taken[..count].iter().position(|is_taken| !is_taken) {
                return Ok(Some(slot));
            }
            self.take_back()?;
        }
    }

    /// Waits until the parent gives slots back.
    fn take_back(&mut self) -> std::io::Result<()> {
        let mut numbers = [0; SLOTS_MAX];
        let read = self.line.read(&mut numbers)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        for number in &numbers[..read] {
            let slot = self.taken.get_mut(usize::from(*number));
            *slot.ok_or(ErrorKind::InvalidData)? = false;
        }
        Ok(())
    }

    fn message(&mut self, header: Header, content: &[u8]) -> std::io::Result<()> {
        let header = Header { bytes: header.bytes.max(content.len() as u32), ..header };
        self.line.write_all(&header.encode())?;
        self.line.write_all(content)
    }
}

/// The parent's end.
pub struct Reader<R = tokio::net::UnixStream> {
    source: R,
    shared: Option<Shared>,
    memory: Arc<FrameMemory>,
    /// What errors call the stream.
    name: String,
    silence_max: Duration,
    ended: bool,
}

/// The memory of slots, and where they are given back.
struct Shared {
    ring: Ring,
    line: UnixStream,
}

impl Reader {
    /// Reads what a child hands over; `name` is for errors.
    pub fn new(near: Near, name: impl Into<String>) -> std::io::Result<Self> {
        let back = near.ring.as_ref().map(|_| near.line.try_clone()).transpose()?;
        let shared = near.ring.zip(back).map(|(ring, line)| Shared { ring, line });
        let source = tokio::net::UnixStream::from_std(near.line)?;
        Ok(Self { shared, ..Self::over(source, name) })
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads messages without shared memory.
    fn over(source: R, name: impl Into<String>) -> Self {
        let (shared, memory) = (None, FrameMemory::new());
        Self { source, shared, memory, name: name.into(), silence_max: SILENCE_MAX, ended: false }
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
        let mut header = self.header().await?;
        for _ in 0..NOTES_MAX {
            if header.kind != KIND_NOTE {
                break;
            }
            let note = self.content(header.bytes as usize).await?;
            let note = String::from_utf8_lossy(&note);
            tracing::info!(stream = self.name, "decoder: {note}");
            header = self.header().await?;
        }
        match header.kind {
            KIND_NOTE => Err(self.broken("the decoder talks without end")),
            KIND_FRAME | KIND_SLOT => self.frame(header).await.map(Some),
            KIND_END => Ok(None),
            _ => {
                let text = self.content(header.bytes as usize).await?;
                Err(self.broken(String::from_utf8_lossy(&text)))
            }
        }
    }

    async fn header(&mut self) -> Result<Header> {
        let mut header = [0; HEADER_BYTES];
        let read = self.source.read_exact(&mut header).await;
        read.map_err(|_| self.broken("the decoder ended without a word"))?;
        Header::decode(&header).map_err(|detail| self.broken(detail))
    }

    async fn frame(&mut self, header: Header) -> Result<Frame> {
        let shape = header.shape();
        let mut data = self.memory.take(header.bytes as usize);
        if header.kind == KIND_SLOT {
            self.copy_out(header.slot, &mut data)?;
        } else if self.source.read_exact(&mut data).await.is_err() {
            return Err(self.cut_short());
        }
        Frame::new(shape, header.pts_us, header.index, self.memory.lend(data))
    }

    /// Takes a frame out of its slot and gives the slot back.
    fn copy_out(&self, slot: u16, to: &mut [u8]) -> Result<()> {
        let shared = self.shared.as_ref();
        let shared = shared.ok_or_else(|| self.broken("the decoder names a slot of no memory"))?;
        let read = shared.ring.read(usize::from(slot), to);
        read.map_err(|error| self.broken(format!("the decoder sent a frame, but {error}")))?;
        match (&shared.line).write(&[slot as u8]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(self.broken("the decoder takes none of its slots back"))
            }
            // One that has gone needs none.
            _ => Ok(()),
        }
    }

    /// Reads content whose length the header's check has bounded.
    async fn content(&mut self, bytes: usize) -> Result<Bytes> {
        let mut content = Vec::with_capacity(bytes);
        let mut source = (&mut self.source).take(bytes as u64);
        let read = source.read_to_end(&mut content).await;
        match read {
            Ok(read) if read == bytes => Ok(Bytes::from(content)),
            _ => Err(self.cut_short()),
        }
    }

    fn cut_short(&self) -> Error {
        self.broken("the decoder ended in the middle of a message")
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
    matrix: Matrix,
    slot: u16,
    width: u32,
    height: u32,
    pts_us: i64,
    index: u64,
    bytes: u32,
}

impl Header {
    fn of_kind(kind: u8) -> Self {
        let (matrix, slot, width, height, pts_us, index, bytes) = Default::default();
        Self { kind, range: Range::Limited, matrix, slot, width, height, pts_us, index, bytes }
    }

    fn of_frame(shape: Shape, pts_us: i64, index: u64, bytes: usize) -> Self {
        let Shape { width, height, range, matrix, .. } = shape;
        let (kind, slot, bytes) = (KIND_FRAME, 0, bytes as u32);
        Self { kind, range, matrix, slot, width, height, pts_us, index, bytes }
    }

    /// Of the frame that it tells of.
    fn shape(&self) -> Shape {
        let Self { width, height, range, matrix, .. } = *self;
        Shape { width, height, format: PixelFormat::Nv12, range, matrix }
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..4].copy_from_slice(&MAGIC);
        out[4] = self.kind;
        let matrix = MATRICES.iter().position(|matrix| *matrix == self.matrix).unwrap_or_default();
        out[5] = u8::from(self.range == Range::Full) | (matrix as u8) << 4;
        out[6..8].copy_from_slice(&self.slot.to_le_bytes());
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
        let slot = u16::from_le_bytes([from[6], from[7]]);
        if from[0..4] != MAGIC || (from[4] != KIND_SLOT && slot != 0) {
            return Err("what the decoder sent is no frame".to_string());
        }
        let range = match from[5] & 15 {
            0 => Range::Limited,
            1 => Range::Full,
            other => return Err(format!("the decoder sent an unknown range {other}")),
        };
        let matrix = MATRICES.get(usize::from(from[5] >> 4)).copied();
        let matrix = matrix.ok_or("the decoder sent an unknown matrix")?;
        let header = Self {
            kind: from[4],
            range,
            matrix,
            slot,
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
            KIND_FRAME | KIND_SLOT => {
                let (width, height) = (self.width, self.height);
                let expected = bytes_of(self.shape())
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
            KIND_ERROR | KIND_NOTE if bytes <= TEXT_BYTES_MAX => Ok(()),
            kind => Err(format!("the decoder sent a message of kind {kind} with {bytes} bytes")),
        }
    }
}

#[cfg(test)]
mod tests;
