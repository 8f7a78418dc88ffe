//! What a worker and its child say to each other: a length, a head in JSON, and bytes where the
//! head says so. Each request has one reply.

use std::io::{Error, Read, Result, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Shape;
use crate::h264::Settings;

/// Longest head, in bytes.
const HEAD_BYTES_MAX: u32 = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    Open {
        stream: u32,
        shape: Shape,
        settings: Settings,
    },
    /// The samples of a picture lie in the memory that both share, from its start, or follow.
    Picture {
        stream: u32,
        pts_us: i64,
        is_key: bool,
        bytes: usize,
        is_shared: bool,
    },
    Close {
        stream: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    Done,
    /// The coded picture follows.
    Coded {
        bytes: usize,
    },
    Failed(String),
}

/// Says something, with the bytes that belong to it.
pub(super) fn send(to: &mut impl Write, head: &impl Serialize, content: &[u8]) -> Result<()> {
    let head = serde_json::to_vec(head)?;
    to.write_all(&(head.len() as u32).to_le_bytes())?;
    to.write_all(&head)?;
    to.write_all(content)?;
    to.flush()
}

/// Hears a head.
pub(super) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > HEAD_BYTES_MAX {
        return Err(Error::other(format!("a head of {length} bytes")));
    }
    Ok(serde_json::from_slice(&content(from, length as usize)?)?)
}

/// Hears so many bytes, a number that was checked.
pub(super) fn content(from: &mut impl Read, bytes: usize) -> Result<Vec<u8>> {
    let mut content = vec![0; bytes];
    from.read_exact(&mut content)?;
    Ok(content)
}
