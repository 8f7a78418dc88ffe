//! What a store says of itself.

use serde::{Deserialize, Serialize};

use crate::spec::TableSpec;

/// A table as [`crate::EdgeStore::tables`] shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableStatus {
    /// The specification.
    pub spec: TableSpec,
    /// Partitions with rows here.
    pub partitions: usize,
    /// Segments of all partitions.
    pub segments: usize,
    /// Rows and bytes in segments, rows counted once per segment.
    pub segment_rows: u64,
    /// See `segment_rows`.
    pub segment_bytes: u64,
    /// Changed rows not yet in segments.
    pub memory_rows: usize,
    /// Memory of the segments that are kept decoded.
    #[serde(default)]
    pub cached_bytes: usize,
    /// Bytes in segments of the largest partition.
    #[serde(default)]
    pub partition_bytes: u64,
    /// Bytes that a partition may have; see [`crate::Limits`].
    #[serde(default)]
    pub partition_bytes_max: u64,
    /// Bytes that the table may have.
    #[serde(default)]
    pub table_bytes_max: u64,
    /// True if this site has all of the table: it is the root or replicates it whole.
    pub complete: bool,
    /// Partitions replicated singly.
    pub replicated_partitions: usize,
    /// Upper bound of the replicas' age in milliseconds.
    pub age_ms: u64,
}

/// The store as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Path of the site.
    pub site: String,
    /// Last entry of the history, and the last that is synced.
    pub seq: u64,
    /// See `seq`.
    pub durable_seq: u64,
    /// Last entry that the parent has; entries beyond it wait here.
    pub parent_seq: u64,
    /// Bytes of unfinished writes that the last opening cut off the log.
    pub torn_bytes: u64,
    /// Damaged log files that [`crate::salvage`] has set aside and that are still there.
    pub rotten_files: Vec<String>,
    /// Segments that did not read when that was last tried.
    #[serde(default)]
    pub damaged_segments: Vec<DamagedSegment>,
    /// Flushes that failed since then.
    pub flush_failures: u64,
    /// Why the disk refuses writes at the moment, if it does.
    pub refusing: Option<String>,
    /// Children that have sent changes.
    pub children: Vec<String>,
}

/// A segment that does not read. Reads of what lies in it fail, all else goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DamagedSegment {
    /// Its table.
    pub table: String,
    /// Its object.
    pub object: String,
    /// Its rows, deleted ones and those of older versions included.
    pub rows: u64,
    /// Why it does not read.
    pub reason: String,
}
