//! The messages between stores (postcard), and the frame around each answer.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::record::{self, Batch, Extent};
use crate::spec::TableSpec;

/// Operations between stores, beside those for clients.
pub mod op {
    /// Changes of a child.
    pub const UP: &str = "up";
    /// Rows for a reader further down.
    pub const RANGE: &str = "range";
    /// Rows for a replica further down.
    pub const FETCH: &str = "fetch";
    /// Where the table stands.
    pub const HEADS: &str = "heads";
    /// The specification of a table.
    pub const DESCRIBE: &str = "describe";
    /// Part of a blob.
    pub const BLOB: &str = "blob";
    /// The removal of a blob, from above; of a private one from below as well.
    pub const REMOVE_BLOB: &str = "remove-blob";
    /// A commit with conditions, for the owner of the table.
    pub const DECIDE: &str = "decide";
}

/// Bytes of rows or of a blob in one message: leaves room under the payload limit.
pub const CHUNK_BYTES: usize = 384 * 1024;
/// Bytes after which no further entry is put into a message: with one more entry of the largest
/// size it is still within [`CHUNK_BYTES`].
pub const BATCH_BYTES: usize = 128 * 1024;

/// A child's changes. Empty, it only asks where the parent stands.
#[derive(Debug, Serialize, Deserialize)]
pub struct Up {
    /// The child's store.
    pub store: u64,
    /// The child's path.
    pub site: String,
    /// The child's last entry that the parent is thought to have; none that climbs lies between
    /// it and the first of `entries`.
    pub prev: u64,
    /// Encoded entries.
    pub entries: Vec<Vec<u8>>,
}

/// The parent's answer: everything up to `cursor` is synced or refused there.
#[derive(Debug, Serialize, Deserialize)]
pub struct UpDone {
    /// The parent's store.
    pub store: u64,
    /// The child's last entry that is dealt with.
    pub cursor: u64,
    /// Entries that the parent cannot take, and why.
    pub refused: Vec<(u64, String)>,
}

/// Asks for one page of rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Range {
    /// The table.
    pub table: String,
    /// The extent that must be held to answer.
    pub extent: Extent,
    /// First key.
    pub from: Vec<u8>,
    /// First key behind.
    pub to: Option<Vec<u8>>,
    /// Start the page at the end.
    pub reverse: bool,
    /// Rows at most.
    pub rows_max: u64,
}

/// One page of rows.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    /// The site that answered.
    pub site: String,
    /// Age of its copy in milliseconds.
    pub age_ms: u64,
    /// The answering store, and the entry that its page is complete to.
    pub store: u64,
    /// See `store`.
    pub as_of: u64,
    /// Rows in key order.
    pub rows: Batch,
    /// Where the page ends if more follow: the first key not covered (forward), or the first key
    /// covered (in reverse).
    pub rest: Option<Vec<u8>>,
}

/// Asks for one page of a replica.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fetch {
    /// The table.
    pub table: String,
    /// What part of it.
    pub extent: Extent,
    /// First key.
    pub from: Vec<u8>,
    /// The store and its entry after which changes are wanted; another store sends all.
    pub after: (u64, u64),
}

/// Asks where tables stand, and keeps their feeds going.
#[derive(Debug, Serialize, Deserialize)]
pub struct Heads {
    /// The tables.
    pub tables: Vec<String>,
}

/// Where the tables stand.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeadsAre {
    /// The answering store.
    pub store: u64,
    /// Last entry and age in milliseconds per table.
    pub heads: Vec<(u64, u64)>,
}

/// Asks for the specification of a table.
#[derive(Debug, Serialize, Deserialize)]
pub struct Describe {
    /// Its name.
    pub table: String,
}

/// The specification.
#[derive(Debug, Serialize, Deserialize)]
pub struct Described {
    /// As the answering site has it.
    pub spec: TableSpec,
}

/// What the parent tells its followers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Changes {
    /// The parent's store.
    pub store: u64,
    /// The parent's entry that touched the table before these.
    pub prev: u64,
    /// Encoded entries.
    pub entries: Vec<Vec<u8>>,
}

/// Asks that a blob be removed where it was taken, and its copies on the way there.
#[derive(Debug, Serialize, Deserialize)]
pub struct RemoveBlob {
    pub key: String,
}

/// Asks for part of a blob.
#[derive(Debug, Serialize, Deserialize)]
pub struct Blob {
    /// Its key as text.
    pub key: String,
    /// First byte.
    pub start: u64,
    /// First byte behind.
    pub end: u64,
}

/// An error as it travels.
#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    code: String,
    text: String,
    number: u64,
}

/// Frames an answer: `00` and the answer, or `01` and the error.
pub fn seal(answer: Result<Bytes>) -> Bytes {
    let mut framed = BytesMut::new();
    match answer {
        Ok(bytes) => {
            framed.put_u8(0);
            framed.put(bytes);
        }
        Err(error) => {
            framed.put_u8(1);
            framed.put(&record::encode(&Failure::from(error))[..]);
        }
    }
    framed.freeze()
}

/// Takes an answer out of its frame.
pub fn open(mut framed: Bytes) -> Result<Bytes> {
    match framed.first() {
        Some(0) => Ok(framed.split_off(1)),
        Some(1) => Err(record::decode::<Failure>("error answer", &framed[1..])?.into()),
        _ => Err(Error::BadRequest("answer has no frame".into())),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.code().to_owned();
        let (text, number) = match error {
            Error::UnknownTable(table) => (table, 0),
            Error::Busy(what) | Error::Deadline(what) => (what, 0),
            Error::ClockAhead { site, ahead_ms } => (site, ahead_ms),
            Error::Unreachable { what, reason } => (format!("{what}: {reason}"), 0),
            Error::Unknown(what) => (what, 0),
            Error::Conflict { table, key, reason } => {
                (Json::from_iter([table, key, reason]).to_string(), 0)
            }
            other => (other.to_string(), 0),
        };
        Failure { code, text, number }
    }
}

impl From<Failure> for Error {
    fn from(Failure { code, text, number }: Failure) -> Error {
        match code.as_str() {
            "unknown-table" => Error::UnknownTable(text),
            "busy" => Error::Busy(text),
            "deadline" => Error::Deadline(text),
            "unknown-outcome" => Error::Unknown(text),
            "conflict" => match serde_json::from_str(&text) {
                Ok((table, key, reason)) => Error::Conflict { table, key, reason },
                Err(_) => Error::BadRequest(text),
            },
            "clock-ahead" => Error::ClockAhead { site: text, ahead_ms: number },
            "unreachable" | "io" | "stopped" | "read-only" => {
                Error::Unreachable { what: "site above".into(), reason: text }
            }
            _ => Error::BadRequest(text),
        }
    }
}
