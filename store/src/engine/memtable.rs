//! Changes in memory: rows by key, and the keys in order.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::hash::{self, Hashed};
use crate::row::RowState;
use crate::run::{KeyedRow, Versioned};

/// Rows of one partition.
#[derive(Default)]
pub struct Memtable {
    rows: HashTable<KeyedRow>,
    order: BTreeSet<Arc<[u8]>>,
    /// No stamp in here is newer than this clock reading.
    pub newest_hlc: u64,
}

impl Memtable {
    /// What is known of a row.
    pub fn get(&self, wanted: Hashed<'_>) -> Option<&Arc<Versioned>> {
        let found = self.rows.find(wanted.hash, |(key, _)| **key == *wanted.key);
        found.map(|(_, row)| row)
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All rows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &KeyedRow> {
        self.rows.iter()
    }

    /// All rows in key order.
    pub fn sorted(&self) -> Vec<&KeyedRow> {
        self.range(&[], None).collect()
    }

    /// The rows in `[from, to)` in key order; no `to` is no end.
    pub fn range<'a>(
        &'a self,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = &'a KeyedRow> {
        let bounds = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        let keys = self.order.range::<[u8], _>(bounds);
        keys.filter_map(|key| self.rows.find(hash::of(key), |(k, _)| k == key))
    }

    /// Merges a change; returns its bytes, roughly. Overwrites count as well, because this bounds
    /// the log that a crash makes us read.
    pub fn merge(&mut self, key: Arc<[u8]>, state: RowState, seq: u64) -> usize {
        let added = key.len() + state.weight() + 96;
        self.newest_hlc = self.newest_hlc.max(state.newest_hlc());
        let is_key = |(k, _): &KeyedRow| *k == key;
        match self.rows.entry(hash::of(&key), is_key, |(k, _)| hash::of(k)) {
            Entry::Occupied(mut known) => {
                let row = Arc::make_mut(&mut known.get_mut().1);
                row.state.merge(&state);
                row.seq = seq;
            }
            Entry::Vacant(free) => {
                free.insert((key.clone(), Arc::new(Versioned { seq, state })));
                self.order.insert(key);
            }
        }
        added
    }
}
