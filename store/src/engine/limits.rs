//! What happens where a partition or a table has as many bytes in segments as it may have.
//!
//! Whoever would add to it here is refused. Deletes are taken, and so is what other sites have
//! acknowledged already. As long as it is refused, flushes merge and rewrite what deletes and the
//! `ttl` have left of segments, so that room is made by itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::buffer::BooleanBuffer;

use crate::error::{Error, Result};
use crate::row::RowState;
use crate::run::{Run, Slice, kept};
use crate::runtime;
use crate::schema::Schema;
use crate::segment::Segment;
use crate::value::{Row, row_to_json};

use super::write::Work;
use super::{Change, Engine, Partition, Table};

/// Milliseconds between two flushes that are made because a table is near its limits, and has
/// changes in memory.
const PRESSED_MS: u64 = 1_000;
/// Milliseconds after which rows of a partition may have lived their time, so that it is worth a
/// flush though nothing has changed.
const EXPIRED_MS: u64 = 60_000;
/// A segment is rewritten for what deletes have left of it when that is gone for such a part.
const REWRITE_OF: usize = 8;

impl Table {
    /// True if there would be too many bytes in segments, were all changes there as well.
    fn is_pressed(&self) -> bool {
        self.stored_bytes + self.memory_bytes as u64 >= self.schema.limits.table_bytes_max()
    }

    /// The same of one of its partitions, or of the whole table.
    pub(super) fn is_pressed_at(&self, partition: &Partition) -> bool {
        let bytes = partition.stored_bytes() + partition.memory_bytes() as u64;
        self.is_pressed() || bytes >= self.schema.limits.partition_bytes_max()
    }

    /// True if a partition without changes is to be flushed for the rows that lived their time.
    pub(super) fn may_shrink(&self, partition: &Partition, now_ms: u64) -> bool {
        self.schema.has_ttl()
            && !partition.segments.is_empty()
            && now_ms >= partition.flushed_ms.saturating_add(EXPIRED_MS)
            && self.is_pressed_at(partition)
    }
}

impl Engine {
    /// Refuses changes that would add to what is full; `keys` are the encoded keys of their rows.
    pub(super) fn check_limits<'a>(
        &self,
        table: &mut Table,
        work: &'a Work<'_>,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Result<()> {
        let (schema, limits) = (table.schema.clone(), table.schema.limits);
        let bytes = table.stored_bytes + table.memory_bytes as u64;
        if bytes < limits.table_bytes_max().min(limits.partition_bytes_max()) {
            return Ok(());
        }
        let adds = |change: &Change<'_>| !matches!(change, Change::Delete(_) | Change::Discard(_));
        let adding = work.changes.iter().zip(keys).filter(|(change, _)| adds(change));
        let (mut seen, mut pressed, mut full) = (BTreeSet::new(), table.is_pressed(), None);
        for (change, key) in adding {
            let place = schema.partition_of_key(key)?;
            let Some(partition) = table.partitions.get(&place) else { continue };
            if seen.contains(&place) {
                continue;
            }
            seen.insert(place);
            pressed |= table.is_pressed_at(partition);
            full = full.or_else(|| full_partition(&schema, partition, change.row()));
        }
        let is_full = table.stored_bytes >= limits.table_bytes_max();
        let adds_any = work.changes.iter().any(adds);
        let full = full.or((is_full && adds_any).then(|| full_table(table)));
        let now_ms = self.now_ms();
        let pause_ms = if table.memory_bytes > 0 { PRESSED_MS } else { EXPIRED_MS };
        let helps = table.memory_bytes > 0 || schema.has_ttl();
        if pressed && helps && now_ms >= table.pressed_ms.saturating_add(pause_ms) {
            table.pressed_ms = now_ms;
            self.flush_due.notify_one();
        }
        full.map_or(Ok(()), Err)
    }

    /// What a flush of a table that is near its limits leaves of an older segment, now that rows of
    /// it were deleted: the rows that `newest` does not cover and that live. `None` if it stays as
    /// it is, because that is most of them, or because it does not read.
    pub(super) async fn shrunk(
        &self,
        schema: &Arc<Schema>,
        segment: &Arc<Segment>,
        newest: &Arc<Run>,
    ) -> Result<Option<Vec<Slice>>> {
        let dead = newest.dead().values();
        let from = newest.lower_bound(segment.min_key(), 0, newest.len());
        let within = |i: &usize| newest.key(*i) <= segment.max_key();
        let dead = (from..newest.len()).take_while(within).filter(|i| dead.value(*i)).count();
        if dead * REWRITE_OF < segment.meta.rows as usize {
            return Ok(None);
        }
        let mut read = self.readable(schema, std::slice::from_ref(segment)).await;
        let Some((_, run)) = read.pop() else { return Ok(None) };
        let (schema, newest, now_ms) = (schema.clone(), newest.clone(), self.now_ms());
        let left = runtime::aside(move || left_of(&schema, run, &newest, now_ms));
        let left = left.await.map_err(|e| Error::io("segment", e))??;
        let rows: usize = left.iter().map(Slice::len).sum();
        let all = segment.meta.rows as usize;
        Ok(((all - rows.min(all)) * REWRITE_OF >= all).then_some(left))
    }
}

fn left_of(schema: &Schema, run: Arc<Run>, newest: &Run, now_ms: u64) -> Result<Vec<Slice>> {
    let mut stays = Vec::with_capacity(run.len());
    let mut at = 0;
    for i in 0..run.len() {
        at = newest.lower_bound(run.key(i), at, newest.len());
        let is_there = at < newest.len() && newest.key(at) == run.key(i) && newest.is_dead(at);
        stays.push(!is_there || !covers(&newest.state(at)?, &run.state(i)?));
    }
    let left = kept(vec![Slice::whole(run)], |_| Some(BooleanBuffer::from(stays.as_slice())))?;
    kept(left, |slice| slice.living(schema, now_ms))
}

/// True if a deleted row is the same whether the older state is known or not. When that was written
/// is nothing to anybody.
fn covers(deleted: &RowState, older: &RowState) -> bool {
    let mut both = deleted.clone();
    both.absorb(older.clone());
    both.written <= both.deleted
        && RowState { written: deleted.written, ..both }.canonical() == deleted.canonical()
}

fn full_partition(schema: &Schema, partition: &Partition, row: &Row) -> Option<Error> {
    let (bytes, max) = (partition.stored_bytes(), schema.limits.partition_bytes_max());
    if bytes < max {
        return None;
    }
    let is_of_it = |name: &str| schema.partition.iter().any(|column| column == name);
    let columns = row.iter().filter(|(name, _)| is_of_it(name));
    let place: Row = columns.map(|(name, value)| (name.to_owned(), value.clone())).collect();
    let what = match schema.is_partitioned() {
        true => format!("partition {} of table {:?}", row_to_json(&place), schema.name),
        false => format!("the one partition of table {:?}", schema.name),
    };
    Some(Error::Full { what, bytes, max, limit: "partition_bytes_max" })
}

fn full_table(table: &Table) -> Error {
    let (schema, bytes) = (&table.schema, table.stored_bytes);
    let what = format!("table {:?}", schema.name);
    let max = schema.limits.table_bytes_max();
    Error::Full { what, bytes, max, limit: "table_bytes_max" }
}

#[cfg(test)]
mod tests;
