//! Reading rows from all layers of the engine.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::row::RowState;
use crate::segment::{Decoded, KeyedRow, Segment, Versioned};
use crate::spec::TableSpec;
use crate::value::Row;

use super::state::{Partition, Segments, Table, merge_versions};
use super::{Engine, Work};

/// Times a read starts over because segments were merged under it.
const RESTARTS_MAX: usize = 10;

/// A range of encoded keys.
#[derive(Clone, Debug, Default)]
pub struct KeyRange {
    /// First key.
    pub from: Vec<u8>,
    /// First key behind the range; none is no end.
    pub to: Option<Vec<u8>>,
    /// Only this partition.
    pub partition: Option<Vec<u8>>,
    /// Only rows that changed here after this entry.
    pub since: u64,
}

impl KeyRange {
    /// The range of one key.
    pub fn of_key(key: &[u8], partition: Vec<u8>) -> Self {
        let mut to = key.to_vec();
        to.push(0);
        KeyRange { from: key.to_vec(), to: Some(to), partition: Some(partition), since: 0 }
    }
}

/// What segments know of the rows that changes are about.
#[derive(Default)]
pub struct Prior {
    rows: HashMap<Vec<u8>, Versioned>,
    /// The partitions' segments as they were read.
    seen: Vec<(Vec<u8>, Option<Segments>)>,
}

impl Prior {
    /// True if the segments are still those that were read.
    pub fn is_current(&self, table: &Table) -> bool {
        self.seen.iter().all(|(partition, seen)| {
            match (table.partitions.get(partition).map(|p| &p.segments), seen) {
                (Some(now), Some(seen)) => Arc::ptr_eq(now, seen),
                (now, seen) => now.is_none_or(|s| s.is_empty()) && seen.is_none(),
            }
        })
    }

    /// The row as it is now: what was read and what memory has.
    pub fn known(&self, table: &Table, key: &[u8], row: &Row) -> Result<RowState> {
        let partition = table.spec.partition_of(row)?.unwrap_or_default();
        let memory = table.partitions.get(&partition).and_then(|p| p.in_memory(key));
        let mut known = memory.map(|row| row.state).unwrap_or_default();
        if let Some(stored) = self.rows.get(key) {
            known.merge(&stored.state);
        }
        Ok(known)
    }
}

/// One consistent look at the layers of a range.
struct Look {
    spec: Arc<TableSpec>,
    layers: Layers,
    segments: Vec<Arc<Segment>>,
}

/// Rows of all layers of a range, in which each layer may stop early.
struct Layers {
    rows: Vec<KeyedRow>,
    /// From which end of the range, and how many rows of a layer at most.
    end: End,
    rows_max: usize,
    /// The key nearest to that end which was left out.
    left_out: Option<Arc<[u8]>>,
}

/// An end of a key range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The smallest key.
    First,
    /// The largest key.
    Last,
}

impl Engine {
    /// One row, deleted or not.
    pub async fn row(
        &self,
        table: &str,
        partition: &[u8],
        key: &[u8],
    ) -> Result<Option<Versioned>> {
        let range = KeyRange::of_key(key, partition.to_vec());
        Ok(self.range(table, &range).await?.pop().map(|(_, row)| (*row).clone()))
    }

    /// The rows of a range in key order, deleted ones included.
    pub async fn range(&self, table: &str, range: &KeyRange) -> Result<Vec<KeyedRow>> {
        Ok(self.page(table, range, End::First, usize::MAX).await?.0)
    }

    /// The rows at one end of a range in key order, deleted ones included, about `rows_max`; and
    /// the range that is left, if any.
    pub async fn page(
        &self,
        table: &str,
        range: &KeyRange,
        end: End,
        rows_max: usize,
    ) -> Result<(Vec<KeyedRow>, Option<KeyRange>)> {
        for _ in 0..RESTARTS_MAX {
            let look = self.look(table, range, end, rows_max.max(1))?;
            if let Some(layers) = self.read_segments(look, range).await? {
                let (rows, left) = layers.merge(range);
                let mut rows = rows;
                rows.retain(|(_, row)| row.seq > range.since);
                return Ok((rows, left));
            }
        }
        Err(Error::Busy(format!("table {table:?}")))
    }

    /// What segments know of the rows that a piece of work must know.
    pub(super) async fn prior(&self, work: &Work<'_>) -> Result<Prior> {
        let spec = self.read().table(work.table)?.spec.clone();
        let mut prior = Prior::default();
        for row in work.rows_to_read(&spec) {
            let key = spec.key_of(row)?;
            let partition = spec.partition_of(row)?.unwrap_or_default();
            // Seen first, read second: a merge in between makes the read start over later.
            let seen = {
                let state = self.read();
                let partitions = &state.table(work.table)?.partitions;
                partitions.get(&partition).map(|p| p.segments.clone())
            };
            if let Some(stored) = self.row(work.table, &partition, &key).await? {
                prior.rows.insert(key, stored);
            }
            if !prior.seen.iter().any(|(p, _)| *p == partition) {
                prior.seen.push((partition, seen));
            }
        }
        Ok(prior)
    }

    /// The decoded rows of a segment; `None` if it has been merged away.
    pub async fn decoded(
        &self,
        spec: &TableSpec,
        segment: &Segment,
    ) -> Result<Option<Arc<Decoded>>> {
        segment.rows(spec, &self.objects, |fresh| self.keep_in_memory(fresh.clone())).await
    }

    fn look(&self, table: &str, range: &KeyRange, end: End, rows_max: usize) -> Result<Look> {
        let state = self.read();
        let table = state.table(table)?;
        let layers = Layers { rows: Vec::new(), end, rows_max, left_out: None };
        let mut look = Look { spec: table.spec.clone(), layers, segments: Vec::new() };
        match &range.partition {
            Some(one) => table.partitions.get(one).into_iter().for_each(|p| look.add(p, range)),
            None => table.partitions.values().for_each(|p| look.add(p, range)),
        }
        Ok(look)
    }

    async fn read_segments(&self, look: Look, range: &KeyRange) -> Result<Option<Layers>> {
        let mut layers = look.layers;
        for segment in &look.segments {
            let Some(decoded) = self.decoded(&look.spec, segment).await? else { return Ok(None) };
            let rows = decoded.range(&range.from, range.to.as_deref());
            layers.add(rows.iter().map(|(key, row)| (key, row)));
        }
        Ok(Some(layers))
    }

    /// Keeps decoded segments alive, the latest ones, within the configured bytes.
    fn keep_in_memory(&self, decoded: Arc<Decoded>) {
        let mut cache = crate::lock(&self.cache);
        cache.push_back(decoded);
        let mut weight: usize = cache.iter().map(|d| d.weight).sum();
        while weight > self.config.cache_bytes && cache.len() > 1 {
            weight -= cache.pop_front().map_or(0, |d| d.weight);
        }
    }
}

impl Look {
    fn add(&mut self, partition: &Partition, range: &KeyRange) {
        let to = range.to.as_deref();
        if to.is_some_and(|to| *to <= *range.from) {
            return;
        }
        let bounds = (Bound::Included(&*range.from), to.map_or(Bound::Unbounded, Bound::Excluded));
        for table in partition.frozen.as_deref().into_iter().chain([&partition.active]) {
            self.layers.add(table.range::<[u8], _>(bounds));
        }
        // Segments with nothing new are read as well: a new change may be part of an old row.
        let segments = partition.segments.iter();
        self.segments.extend(segments.filter(|s| s.overlaps(&range.from, to)).cloned());
    }
}

impl Layers {
    fn add<'a>(
        &mut self,
        rows: impl DoubleEndedIterator<Item = (&'a Arc<[u8]>, &'a Arc<Versioned>)>,
    ) {
        let start = self.rows.len();
        match self.end {
            End::First => self.take(rows),
            End::Last => {
                self.take(rows.rev());
                self.rows[start..].reverse();
            }
        }
    }

    fn take<'a>(&mut self, mut rows: impl Iterator<Item = (&'a Arc<[u8]>, &'a Arc<Versioned>)>) {
        let taken = rows.by_ref().take(self.rows_max);
        self.rows.extend(taken.map(|(key, row)| (key.clone(), row.clone())));
        if let Some((key, _)) = rows.next() {
            let nearer = self.left_out.as_ref().is_none_or(|left_out| match self.end {
                End::First => key < left_out,
                End::Last => key > left_out,
            });
            if nearer {
                self.left_out = Some(key.clone());
            }
        }
    }

    /// The merged rows as far as every layer goes, and the range beyond.
    fn merge(mut self, range: &KeyRange) -> (Vec<KeyedRow>, Option<KeyRange>) {
        let Some(left_out) = self.left_out else { return (merge_layers(self.rows), None) };
        let mut left = range.clone();
        match self.end {
            End::First => {
                self.rows.retain(|(key, _)| *key < left_out);
                left.from = left_out.to_vec();
            }
            End::Last => {
                self.rows.retain(|(key, _)| *key > left_out);
                left.to = Some([&left_out[..], &[0]].concat());
            }
        }
        (merge_layers(self.rows), Some(left))
    }
}

/// Sorts rows of several layers by key and merges those of one key.
pub fn merge_layers(mut rows: Vec<KeyedRow>) -> Vec<KeyedRow> {
    // The layers are sorted runs already, which the standard stable sort merges in linear time.
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let mut merged: Vec<KeyedRow> = Vec::with_capacity(rows.len());
    for group in rows.chunk_by(|a, b| a.0 == b.0) {
        let row = match group {
            [one] => one.1.clone(),
            several => match merge_versions(several.iter().map(|(_, row)| row)) {
                Some(row) => Arc::new(row),
                None => continue,
            },
        };
        merged.push((group[0].0.clone(), row));
    }
    merged
}
