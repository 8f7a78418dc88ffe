//! Reading rows from all layers of the engine.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::row::RowState;
use crate::segment::{Decoded, KeyedRow, Segment, Versioned};
use crate::spec::TableSpec;
use crate::value::Row;

use super::state::{Partition, Segments, Table, merge_versions};
use super::{Change, Engine};

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
    rows: Vec<KeyedRow>,
    segments: Vec<Arc<Segment>>,
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
        for _ in 0..RESTARTS_MAX {
            let look = self.look(table, range)?;
            if let Some(rows) = self.read_segments(look, range).await? {
                let mut rows = merge_layers(rows);
                rows.retain(|(_, row)| row.seq > range.since);
                return Ok(rows);
            }
        }
        Err(Error::Busy(format!("table {table:?}")))
    }

    /// What segments know of the rows that the changes need to know.
    pub(super) async fn prior(&self, table: &str, changes: &[Change<'_>]) -> Result<Prior> {
        let spec = self.read().table(table)?.spec.clone();
        let mut prior = Prior::default();
        for change in changes.iter().filter(|c| c.needs_known(&spec)) {
            let row = change.row();
            let key = spec.key_of(row)?;
            let partition = spec.partition_of(row)?.unwrap_or_default();
            // Seen first, read second: a merge in between makes the read start over later.
            let seen = {
                let state = self.read();
                let partitions = &state.table(table)?.partitions;
                partitions.get(&partition).map(|p| p.segments.clone())
            };
            if let Some(stored) = self.row(table, &partition, &key).await? {
                prior.rows.insert(key, stored);
            }
            if !prior.seen.iter().any(|(p, _)| *p == partition) {
                prior.seen.push((partition, seen));
            }
        }
        Ok(prior)
    }

    /// The decoded rows of a segment; `None` if it has been merged away.
    pub(super) async fn decoded(
        &self,
        spec: &TableSpec,
        segment: &Segment,
    ) -> Result<Option<Arc<Decoded>>> {
        segment.rows(spec, &self.objects, |fresh| self.keep_in_memory(fresh.clone())).await
    }

    fn look(&self, table: &str, range: &KeyRange) -> Result<Look> {
        let state = self.read();
        let table = state.table(table)?;
        let mut look = Look { spec: table.spec.clone(), rows: Vec::new(), segments: Vec::new() };
        match &range.partition {
            Some(one) => table.partitions.get(one).into_iter().for_each(|p| look.add(p, range)),
            None => table.partitions.values().for_each(|p| look.add(p, range)),
        }
        Ok(look)
    }

    async fn read_segments(&self, look: Look, range: &KeyRange) -> Result<Option<Vec<KeyedRow>>> {
        let mut rows = look.rows;
        for segment in &look.segments {
            let Some(decoded) = self.decoded(&look.spec, segment).await? else { return Ok(None) };
            rows.extend_from_slice(decoded.range(&range.from, range.to.as_deref()));
        }
        Ok(Some(rows))
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
        for table in partition.frozen.as_deref().into_iter().chain([&partition.active]) {
            let from = table.range::<[u8], _>((
                std::ops::Bound::Included(&*range.from),
                std::ops::Bound::Unbounded,
            ));
            let rows = from.take_while(|(key, _)| to.is_none_or(|to| &***key < to));
            self.rows.extend(rows.map(|(key, row)| (key.clone(), row.clone())));
        }
        let segments = partition.segments.iter();
        // Segments with nothing new are read as well: a new change may be part of an old row.
        self.segments.extend(segments.filter(|s| s.overlaps(&range.from, to)).cloned());
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
