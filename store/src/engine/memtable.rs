//! Changes in memory: rows by key, and the keys in order.
//!
//! Keys and rows lie one behind the other in a few stretches of bytes ([`chunks`]). A row that is
//! plain values of one write is there as it is ([`pack`]); only one that is more has a state of its
//! own. So a change costs no allocation, and a flush reads memory from front to back.

mod chunks;
mod order;
mod seen;

use std::sync::Arc;

use hashbrown::HashTable;

use crate::columns::Columns;
use crate::error::Result;
use crate::hash::{self, Hashed};
use crate::key::is_same;
use crate::record::plain::PlainRow;
use crate::row::{RowState, Stamp};
use crate::run::pack::{Packed, pack};
use crate::run::{Run, RunBuilder, Versioned, is_plain, visible_packed, visible_row};
use crate::schema::Schema;
use crate::value::Row;
use chunks::{Bytes, List, Span};
use order::Order;
use seen::Seen;

use super::End;

/// Rows of one partition.
#[derive(Default)]
pub struct Memtable {
    /// Places in `slots`.
    index: HashTable<Entry>,
    slots: List<Slot>,
    /// Keys and packed rows.
    bytes: Bytes,
    order: Order,
    seen: Seen,
    /// Bytes of all changes that were merged in, roughly.
    pub weight: usize,
    /// No stamp in here is newer than this clock reading.
    pub newest_hlc: u64,
}

/// Where a row is, with part of its key's hash: slots are not looked at when the index grows.
#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    at: u32,
}

/// One row.
struct Slot {
    key: Span,
    /// Last entry that changed the row here.
    seq: u64,
    held: Held,
}

enum Held {
    /// Plain values of one write.
    Packed { written: Stamp, at: Span },
    /// Anything else.
    Whole(Box<RowState>),
}

/// A row in memory.
#[derive(Clone, Copy)]
pub struct Remembered<'a> {
    table: &'a Memtable,
    slot: &'a Slot,
}

impl Memtable {
    /// What is known of a row.
    pub fn get(&self, wanted: Hashed<'_>) -> Option<Remembered<'_>> {
        self.find(wanted).map(|at| self.row(at))
    }

    /// Where a row is.
    fn find(&self, Hashed { key, hash }: Hashed<'_>) -> Option<u32> {
        let part = hash as u32;
        let is_it = |entry: &Entry| entry.hash == part && is_same(self.key_at(entry.at), key);
        self.index.find(spread(part), is_it).map(|entry| entry.at)
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True if nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// All rows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Remembered<'_>> {
        self.slots.iter().map(|slot| Remembered { table: self, slot })
    }

    /// The places of the rows in `[from, to)` in key order, up to `max` at one end of the range; no
    /// `to` is no end.
    pub fn range(&self, from: &[u8], to: Option<&[u8]>, end: End, max: usize) -> Vec<u32> {
        self.order.range(self.slots.len(), |at| self.key_at(at), (from, to), end, max)
    }

    /// The row at a place.
    pub fn row(&self, at: u32) -> Remembered<'_> {
        Remembered { table: self, slot: self.slots.get(at as usize) }
    }

    /// The rows at these places, which are in key order; only these of their columns are sure.
    pub fn run(&self, schema: &Arc<Schema>, columns: &Columns, places: &[u32]) -> Result<Run> {
        let mut run = RunBuilder::new(schema, columns, places.len());
        for at in places {
            let row = self.row(*at);
            match &row.slot.held {
                Held::Packed { written, at } => {
                    let packed = Packed::of(self.span(*at));
                    run.push_packed(row.key(), row.slot.seq, *written, packed)?;
                }
                Held::Whole(state) => run.push(row.key(), row.slot.seq, state)?,
            }
        }
        Ok(run.finish())
    }

    /// Merges a change; returns its bytes, roughly. Overwrites count as well, because this bounds
    /// the log that a crash makes us read.
    pub fn merge(&mut self, key: &[u8], state: RowState, seq: u64) -> usize {
        self.newest_hlc = self.newest_hlc.max(state.newest_hlc());
        let hash = hash::of(key);
        let known = self.find(Hashed { key, hash });
        let before = self.bytes.len();
        let weight = match known {
            Some(at) => self.change(at as usize, state, seq),
            None => self.add(hash, key, state, seq),
        };
        let weight = size_of::<Slot>() + size_of::<u64>() + weight.max(self.bytes.len() - before);
        self.weight += weight;
        weight
    }

    /// Merges a row of plain values of one write, as [`Memtable::merge`] does.
    pub fn merge_plain(&mut self, row: PlainRow<'_>, seq: u64) -> usize {
        let PlainRow { key: Hashed { key, hash }, written, packed } = row;
        if self.find(row.key).is_some() {
            return self.merge(key, Packed::of(packed).state(written), seq);
        }
        self.newest_hlc = self.newest_hlc.max(written.hlc);
        let before = self.bytes.len();
        let key = self.bytes.keep(key);
        let held = Held::Packed { written, at: self.bytes.keep(packed) };
        self.insert(hash, Slot { key, seq, held });
        let weight = size_of::<Slot>() + size_of::<u64>() + self.bytes.len() - before;
        self.weight += weight;
        weight
    }

    /// Adds a row; returns the bytes of what it is.
    fn add(&mut self, hash: u64, key: &[u8], state: RowState, seq: u64) -> usize {
        let key = self.bytes.keep(key);
        let held = self.hold(state);
        let weight = held.weight();
        self.insert(hash, Slot { key, seq, held });
        weight
    }

    fn insert(&mut self, hash: u64, slot: Slot) {
        let entry = Entry { hash: hash as u32, at: self.slots.len() as u32 };
        self.seen.note(entry.at);
        self.slots.push(slot);
        self.index.insert_unique(spread(entry.hash), entry, |entry| spread(entry.hash));
    }

    /// Merges a change into a row; returns the bytes of what it is now.
    fn change(&mut self, place: usize, state: RowState, seq: u64) -> usize {
        let held = match &self.slots.get(place).held {
            // A newer write of the same columns replaces the row, where it is if it has the room.
            Held::Packed { written, at } if self.replaces(&state, *written, *at) => {
                let old = *at;
                match self.pack(&state) {
                    Some(at) if at.len() == old.len() => {
                        self.bytes.replace(old, at);
                        Held::Packed { written: state.written, at: old }
                    }
                    Some(at) => Held::Packed { written: state.written, at },
                    None => Held::Whole(Box::new(state)),
                }
            }
            Held::Packed { written, at } => {
                let mut known = Packed::of(self.span(*at)).state(*written);
                known.merge(&state);
                self.hold(known)
            }
            Held::Whole(known) => {
                let mut known = RowState::clone(known);
                known.merge(&state);
                self.hold(known)
            }
        };
        let weight = held.weight();
        self.seen.note(place as u32);
        let slot = self.slots.get_mut(place);
        (slot.seq, slot.held) = (seq, held);
        weight
    }

    /// True if a change is newer than a packed row and has a plain value for each of its columns.
    fn replaces(&self, change: &RowState, written: Stamp, at: Span) -> bool {
        let mut cells = change.cells.iter();
        change.written > written
            && change.deleted == Stamp::default()
            && Packed::of(self.span(at)).all(|(number, _)| cells.any(|(n, _)| *n == number))
            && change.cells.iter().all(|(_, cell)| matches!(cell, crate::row::Cell::Fresh(_)))
    }

    fn hold(&mut self, state: RowState) -> Held {
        match self.pack(&state) {
            Some(at) => Held::Packed { written: state.written, at },
            None => Held::Whole(Box::new(state)),
        }
    }

    /// A state as bytes, unless it is more than plain values of one write.
    fn pack(&mut self, state: &RowState) -> Option<Span> {
        self.bytes.write(state.weight(), |out| pack(state, out))
    }

    fn key_at(&self, place: u32) -> &[u8] {
        self.span(self.slots.get(place as usize).key)
    }

    fn span(&self, span: Span) -> &[u8] {
        self.bytes.get(span)
    }
}

/// What the index goes by: both ends of it tell keys apart.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl Held {
    /// Bytes of the row.
    fn weight(&self) -> usize {
        match self {
            Held::Packed { at, .. } => at.len(),
            Held::Whole(state) => state.weight(),
        }
    }
}

impl<'a> Remembered<'a> {
    /// Its key.
    pub fn key(self) -> &'a [u8] {
        self.table.span(self.slot.key)
    }

    /// Last entry that changed it here.
    pub fn seq(self) -> u64 {
        self.slot.seq
    }

    /// Its newest write.
    pub fn written(self) -> Stamp {
        match &self.slot.held {
            Held::Packed { written, .. } => *written,
            Held::Whole(state) => state.written,
        }
    }

    /// True if the visible columns and the row's stamp say everything.
    pub fn is_plain(self, schema: &Schema) -> bool {
        match &self.slot.held {
            Held::Packed { at, .. } => {
                Packed::of(self.table.span(*at)).cells() == schema.values.len()
            }
            Held::Whole(state) => is_plain(schema, state),
        }
    }

    /// What a reader sees of it.
    pub fn visible(self, schema: &Schema) -> Result<Row> {
        match &self.slot.held {
            Held::Packed { at, .. } => {
                visible_packed(schema, self.key(), Packed::of(self.table.span(*at)))
            }
            Held::Whole(state) => visible_row(schema, self.key(), state),
        }
    }

    /// Its state.
    pub fn state(self) -> RowState {
        match &self.slot.held {
            Held::Packed { written, at } => Packed::of(self.table.span(*at)).state(*written),
            Held::Whole(state) => RowState::clone(state),
        }
    }

    /// Its state and last entry.
    pub fn versioned(self) -> Versioned {
        Versioned { seq: self.seq(), state: self.state() }
    }
}

#[cfg(test)]
mod tests;
