//! The newest entries in memory, for those who pass them on.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::record::Source;

/// Bytes of recent entries kept in memory for the tree; older ones are read from the log.
const RECENT_BYTES_MAX: usize = 16 << 20;

/// A logged entry, as the tree needs it.
#[derive(Clone, Debug)]
pub struct Logged {
    pub seq: u64,
    pub source: Source,
    /// The table it touches and the entry that touched that table before.
    pub table: Option<(Arc<str>, u64)>,
    pub bytes: Arc<[u8]>,
}

/// The newest entries, bounded by bytes.
#[derive(Default)]
pub struct Recent {
    entries: VecDeque<Logged>,
    bytes: usize,
}

impl Recent {
    /// Adds an entry; the oldest go when it gets too much.
    pub fn push(&mut self, logged: Logged) {
        self.bytes += logged.bytes.len();
        self.entries.push_back(logged);
        while self.bytes > RECENT_BYTES_MAX && self.entries.len() > 1 {
            self.bytes -= self.entries.pop_front().map_or(0, |e| e.bytes.len());
        }
    }

    /// Entries in `(seq, durable]`; `None` if older ones would have to be among them.
    pub fn after(&self, seq: u64, durable: u64, bytes_max: usize) -> Option<Vec<Logged>> {
        if durable <= seq {
            return Some(Vec::new());
        }
        if self.entries.front().is_none_or(|first| first.seq > seq + 1) {
            return None;
        }
        let start = self.entries.partition_point(|e| e.seq <= seq);
        let mut bytes = 0;
        let wanted = self.entries.range(start..).take_while(|e| {
            let room = bytes <= bytes_max;
            bytes += e.bytes.len();
            room && e.seq <= durable
        });
        Some(wanted.cloned().collect())
    }
}
