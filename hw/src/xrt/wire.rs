//! What host and worker say to each other: JSON in frames of bounded length, one answer to each
//! request. Contents of buffers do not travel here but through memory that both share.

use std::io::{Error, ErrorKind, Read, Result, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longer frames are refused by both sides.
pub(crate) const FRAME_BYTES_MAX: usize = 4 << 20;
/// Commands of one request.
pub(crate) const STEPS_MAX: usize = 256;

/// What the host asks for. Slots number buffers; who asks chooses them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Opens a card and loads a file. Comes first, and once.
    Open {
        card: u32,
        xclbin: String,
        bank: u32,
    },
    Alloc {
        slot: u64,
        bytes: usize,
    },
    Free {
        slots: Vec<u64>,
    },
    /// From the start of the window into a buffer.
    Write {
        slot: u64,
        offset: usize,
        bytes: usize,
    },
    /// From a buffer to the start of the window.
    Read {
        slot: u64,
        offset: usize,
        bytes: usize,
    },
    Prepare {
        kernels: Vec<String>,
    },
    /// Runs commands in order; a kernel that runs longer has hung.
    Run {
        steps: Vec<Step>,
        timeout_ms: u32,
    },
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    Launch {
        kernel: String,
        args: Vec<Word>,
    },
    Copy {
        from: u64,
        to: u64,
        bytes: usize,
    },
    /// From this place in the window to the start of a buffer.
    Write {
        slot: u64,
        at: usize,
        bytes: usize,
    },
    /// From the start of a buffer to this place in the window.
    Read {
        slot: u64,
        at: usize,
        bytes: usize,
    },
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    Buffer(u64),
    Number(u32),
}

/// What the worker answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The driver's version, empty where it is unknown.
    Opened {
        driver: String,
    },
    Done,
    /// Nanoseconds of each command.
    Times(Vec<u64>),
    Failed(Failure),
}

/// Why the worker did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub fault: Fault,
    pub detail: String,
}

/// A failure by what the host can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// There is no such card, or no driver at all.
    Absent,
    /// The driver is not one that can be used.
    Driver,
    NoMemory,
    /// This call failed; later ones may not.
    Failed,
    /// The card is in no state to go on.
    Lost,
}

impl Failure {
    pub(crate) fn new(fault: Fault, detail: impl Into<String>) -> Self {
        Self { fault, detail: detail.into() }
    }
}

/// Sends a frame: its length in 4 bytes, little-endian, and the message.
pub(crate) fn send(to: &mut impl Write, message: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > FRAME_BYTES_MAX {
        return Err(Error::new(ErrorKind::InvalidData, format!("a frame of {} bytes", text.len())));
    }
    let mut frame = (text.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(&text);
    to.write_all(&frame)?;
    to.flush()
}

/// Takes the next frame.
pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(Error::new(ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
