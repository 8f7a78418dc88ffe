//! Entries of the log and of the replication messages, and their bytes (postcard).

mod keyed;
pub mod plain;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::row::RowState;
use crate::spec::TableSpec;
use crate::value::Names;

/// Encoded bytes of one entry: it must travel in one message.
pub const ENTRY_BYTES_MAX: usize = 256 * 1024;

/// One step in the history of a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Position in the history of the store that logged it; strictly rising.
    pub seq: u64,
    /// Where the change came from.
    pub source: Source,
    /// What changes.
    pub body: Body,
}

/// Where an entry came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// Written at this site.
    Own,
    /// Received from the child with this store identity, as its entry number `seq`.
    Child { store: u64, seq: u64 },
    /// Received from the parent, whose history stands at `seq`.
    Parent { store: u64, seq: u64 },
    /// Bookkeeping that concerns this store alone.
    Local,
}

impl Source {
    /// True if the parent must hear of the entry.
    pub fn climbs(self) -> bool {
        matches!(self, Source::Own | Source::Child { .. })
    }
}

/// What an entry changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// A table is created or gains columns.
    Table(TableSpec),
    /// Rows change.
    Rows(Batch),
    /// A replica of (part of) a table is complete up to the parent's entry `seq`.
    Hold { table: String, extent: Extent, parent: u64, seq: u64 },
    /// Everything up to `seq` has been looked at for the parent; it has what climbs, the last of
    /// which is `climbed`.
    Acked { seq: u64, climbed: u64 },
    /// Everything of a child up to its entry `seq` is dealt with.
    Child { store: u64, site: String, seq: u64 },
    /// The bookkeeping at the start of a log file: files before it are not needed for it.
    Snapshot(Snapshot),
}

/// Changed rows of one table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The table.
    pub table: String,
    /// Names for the column numbers in `rows`.
    pub columns: Names,
    /// Encoded key and partial state of each row.
    #[serde(with = "keyed")]
    pub rows: Vec<(Vec<u8>, RowState)>,
}

/// How much of a table a replica covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Extent {
    /// All of it.
    Whole,
    /// One partition, by its encoded columns.
    Partition(Vec<u8>),
}

/// Everything the log knows besides rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Last entry before the snapshot.
    pub seq: u64,
    /// Last clock reading.
    pub hlc: u64,
    /// Tables with the last entry that touched each.
    pub tables: Vec<TableState>,
    /// Children: store identity, site path, last entry received.
    pub children: Vec<(u64, String, u64)>,
    /// See [`Body::Acked`].
    pub acked: (u64, u64),
}

/// A table in a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableState {
    /// The specification.
    pub spec: TableSpec,
    /// Last entry that touched the table.
    pub last_seq: u64,
    /// The parent's store and entry up to which the replicas in `extents` are complete.
    pub followed: Option<(u64, u64)>,
    /// What is replicated from the parent.
    pub extents: Vec<Extent>,
}

/// Encodes any message or entry.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Most are a row or two; growing to that step by step costs more than the encoding.
    postcard::to_extend(value, Vec::with_capacity(256))
        .expect("encoding to memory of plain data cannot fail")
}

/// Decodes bytes from outside; `what` names them in the error.
pub fn decode<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T> {
    postcard::from_bytes(bytes).map_err(|e| Error::BadRequest(format!("{what} is broken: {e}")))
}
