//! Reading rows from all layers of the engine.

use std::collections::HashMap;
use std::sync::Arc;

use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::hash::Hashed;
use crate::key::{is_less, is_same};
use crate::row::RowState;
use crate::run::{KeyedRow, Run, Slice, Versioned, kept, merge, visible_row};
use crate::schema::Schema;
use crate::segment::{Few, Found, Segment};
use crate::value::Row;

use super::memtable::{Memtable, Remembered};
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
    /// Only rows that changed here after this entry; for [`Engine::keyed_page`].
    pub since: u64,
}

impl KeyRange {
    /// The range of one key.
    pub fn of_key(key: &[u8], partition: Vec<u8>) -> Self {
        let mut to = key.to_vec();
        to.push(0);
        KeyRange { from: key.to_vec(), to: Some(to), partition: Some(partition), since: 0 }
    }

    /// True if no key of a segment is outside.
    fn covers(&self, segment: &Segment) -> bool {
        !is_less(segment.min_key(), &self.from)
            && self.to.as_deref().is_none_or(|to| is_less(segment.max_key(), to))
    }

    /// The rows of a segment in the range; `run` has some of its rows, or all.
    fn of_segment(&self, segment: &Segment, run: Arc<Run>) -> Slice {
        match self.covers(segment) {
            true => Slice::whole(run),
            false => Slice::range(run, &self.from, self.to.as_deref()),
        }
    }

    /// What a segment is asked for, if that is a few rows: those of one key, or those at one end
    /// that are needed at most and one more, which tells that there are more.
    fn few(&self, end: End, rows_max: usize) -> Option<Few> {
        let is_key = self.to.as_deref().is_some_and(|to| match to.split_last() {
            Some((0, key)) => *key == *self.from,
            _ => false,
        });
        if !is_key && rows_max == usize::MAX {
            return None;
        }
        let rows_max = if is_key { 1 } else { rows_max.saturating_add(1) };
        Some(Few { from: self.from.clone(), to: self.to.clone(), rows_max, end })
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
    pub fn known(&self, table: &Table, key: &[u8], row: &Row, now_ms: u64) -> Result<RowState> {
        if table.schema.is_expired(key, now_ms) {
            return Ok(RowState::default());
        }
        let partition = table.schema.partition_of(row)?.unwrap_or_default();
        let memory = table.partitions.get(&partition).and_then(|p| p.in_memory(key));
        let mut known = memory.map(|row| row.state).unwrap_or_default();
        if let Some(stored) = self.rows.get(key) {
            known.merge(&stored.state);
        }
        Ok(known)
    }
}

/// Rows of a range in key order that have not lived their time, deleted ones included, each once.
pub struct Page {
    pub schema: Arc<Schema>,
    pub slices: Vec<Slice>,
    /// The range that is left.
    pub left: Option<KeyRange>,
}

impl Page {
    /// The rows with their states.
    pub fn keyed_rows(&self) -> Result<Vec<KeyedRow>> {
        self.slices.iter().flat_map(Slice::keyed_rows).collect()
    }
}

/// One consistent look at the layers of a range.
struct Look {
    schema: Arc<Schema>,
    columns: Columns,
    /// Changes being flushed; nothing changes them any more.
    frozen: Vec<Arc<Memtable>>,
    /// What is in memory.
    memory: Vec<Slice>,
    /// Segments of the range, with their rows in it where they are in memory.
    segments: Vec<(Arc<Segment>, Option<Slice>)>,
    end: End,
    /// Rows of each layer that are needed at most.
    rows_max: usize,
    /// The key nearest to the end which was left out.
    left_out: Option<Arc<[u8]>>,
    /// True if a key may be in more than one layer.
    meets: bool,
}

/// An end of a key range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The smallest key.
    First,
    /// The largest key.
    Last,
}

/// A row in one of the layers.
enum Hit<'a> {
    Memory(Remembered<'a>),
    Segment(Arc<Run>, usize),
}

impl Engine {
    /// What a reader sees of a row, if memory has all that it takes to tell.
    pub fn row_now(&self, table: &str, key: &Row) -> Result<Option<Option<Row>>> {
        let state = self.read();
        let table = state.table(table)?;
        let schema = &table.schema;
        let encoded = schema.key_of(key)?;
        if schema.has_ttl() && schema.is_expired(&encoded, self.now_ms()) {
            return Ok(Some(None));
        }
        let partition = schema.partition_of(key)?.unwrap_or_default();
        if !self.is_root() && !table.holds_partition(&partition) {
            return Ok(None);
        }
        match table.partitions.get(&partition) {
            Some(partition) => partition.row_now(schema, Hashed::of(&encoded)),
            None => Ok(Some(None)),
        }
    }

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
        Ok(self.keyed_page(table, range, End::First, usize::MAX).await?.0)
    }

    /// The rows at one end of a range with their states, and the range that is left, if any.
    pub async fn keyed_page(
        &self,
        table: &str,
        range: &KeyRange,
        end: End,
        rows_max: usize,
    ) -> Result<(Vec<KeyedRow>, Option<KeyRange>)> {
        let page = self.page(table, range, &Columns::All, end, rows_max).await?;
        let mut rows = page.keyed_rows()?;
        rows.retain(|(_, row)| row.seq > range.since);
        Ok((rows, page.left))
    }

    /// The rows at one end of a range, about `rows_max`; only these of their columns are sure.
    pub async fn page(
        &self,
        table: &str,
        range: &KeyRange,
        columns: &Columns,
        end: End,
        rows_max: usize,
    ) -> Result<Page> {
        for _ in 0..RESTARTS_MAX {
            let mut look = self.look(table, range, columns, end, rows_max.max(1))?;
            look.meets = look.merges();
            let columns = match look.meets {
                true => columns.clone(),
                false if look.is_all_of(range) => columns.unmerged().unkeyed(),
                false => columns.unmerged(),
            };
            if let Some(slices) = self.slices(&mut look, range, &columns).await? {
                return look.page(range, slices, self.now_ms());
            }
        }
        Err(Error::Busy(format!("table {table:?}")))
    }

    /// What segments have of the range, from its end on and no further than needed; `None` if one
    /// has been merged away.
    async fn slices(
        &self,
        look: &mut Look,
        range: &KeyRange,
        columns: &Columns,
    ) -> Result<Option<Vec<Slice>>> {
        let mut slices = Vec::with_capacity(look.segments.len() + look.memory.len() + 1);
        for (segment, slice) in look.nearest_first() {
            if look.is_beyond(&segment) {
                continue;
            }
            if let Some(slice) = slice {
                slices.push(slice);
                continue;
            }
            let found = match range.few(look.end, look.rows_max) {
                Some(few) => self.few_of(&look.schema, columns, &segment, &few).await?,
                None => Found::Whole,
            };
            let runs = match found {
                Found::Few(run) => Some(vec![run]),
                Found::Nothing => Some(Vec::new()),
                Found::Whole => {
                    let one = std::slice::from_ref(&segment);
                    self.runs(&look.schema, columns, one).await?
                }
                Found::Gone => None,
            };
            let Some(runs) = runs else { return Ok(None) };
            for run in runs {
                let mut slice = range.of_segment(&segment, run);
                look.cut(&mut slice);
                slices.push(slice);
            }
        }
        Ok(Some(slices))
    }

    /// What segments know of the rows that a piece of work must know.
    pub(super) async fn prior(&self, work: &Work<'_>) -> Result<Prior> {
        let schema = self.read().table(work.table)?.schema.clone();
        let mut prior = Prior::default();
        for row in work.rows_to_read(&schema) {
            let key = schema.key_of(row)?;
            let partition = schema.partition_of(row)?.unwrap_or_default();
            // Seen first, read second: a merge in between makes the read start over later.
            let seen = {
                let state = self.read();
                let partitions = &state.table(work.table)?.partitions;
                partitions.get(&partition).map(|p| p.segments.clone())
            };
            if seen.as_ref().is_some_and(|segments| segments.iter().any(|s| s.spans(&key)))
                && let Some(stored) = self.row(work.table, &partition, &key).await?
            {
                prior.rows.insert(key, stored);
            }
            if !prior.seen.iter().any(|(p, _)| is_same(p, &partition)) {
                prior.seen.push((partition, seen));
            }
        }
        Ok(prior)
    }

    /// The rows of segments, with these columns; `None` if one has been merged away.
    pub async fn runs(
        &self,
        schema: &Arc<Schema>,
        columns: &Columns,
        segments: &[Arc<Segment>],
    ) -> Result<Option<Vec<Arc<Run>>>> {
        let mut runs = Vec::with_capacity(segments.len());
        for segment in segments {
            match self.run_of(schema, columns, segment).await? {
                Some(run) => runs.push(run),
                None => return Ok(None),
            }
        }
        Ok(Some(runs))
    }

    fn look(
        &self,
        table: &str,
        range: &KeyRange,
        columns: &Columns,
        end: End,
        rows_max: usize,
    ) -> Result<Look> {
        let state = self.read();
        let table = state.table(table)?;
        let mut look = Look {
            schema: table.schema.clone(),
            columns: columns.clone(),
            frozen: Vec::new(),
            memory: Vec::new(),
            segments: Vec::new(),
            end,
            rows_max,
            left_out: None,
            meets: true,
        };
        if range.to.as_deref().is_some_and(|to| *to <= *range.from) {
            return Ok(look);
        }
        let partitions: Vec<&Partition> = match &range.partition {
            Some(one) => table.partitions.get(one).into_iter().collect(),
            None => table.partitions.values().collect(),
        };
        partitions.iter().for_each(|partition| look.add_segments(partition, range, columns));
        // Only then it is known how far memory has to be looked at.
        partitions.iter().try_for_each(|partition| look.add_changes(partition, range))?;
        Ok(look)
    }
}

impl Partition {
    /// What a reader sees of a row, if memory has all that it takes to tell. Layers are asked from
    /// the newest on, up to a row that says everything and is newer than all older layers.
    fn row_now(&self, schema: &Schema, key: Hashed<'_>) -> Result<Option<Option<Row>>> {
        let mut hits: Vec<Hit<'_>> = Vec::new();
        let memory = [Some(&self.active), self.frozen.as_deref()];
        for (i, layer) in memory.iter().enumerate() {
            let Some(row) = layer.and_then(|layer| layer.get(key)) else { continue };
            let older = memory[i + 1..].iter().flatten().map(|layer| layer.newest_hlc);
            let segments = self.segments.iter().filter(|s| s.spans(key.key));
            let older = older.chain(segments.map(|s| s.newest_hlc()));
            if hits.is_empty() && row.is_plain(schema) && covers(row, older) {
                return row.visible(schema).map(|row| Some(Some(row)));
            }
            hits.push(Hit::Memory(row));
        }
        for (i, segment) in self.segments.iter().enumerate().rev() {
            if !segment.spans(key.key) {
                continue;
            }
            let Some(run) = segment.in_memory(schema, &Columns::All) else { return Ok(None) };
            let Some(hit) = run.find(key) else { continue };
            let older = self.segments[..i].iter().filter(|s| s.spans(key.key));
            let mut older = older.map(|s| s.newest_hlc());
            if hits.is_empty()
                && run.says_all(hit)
                && older.all(|hlc| run.written(hit.at).hlc > hlc)
            {
                return run.row_found(key.key, hit).map(|row| Some(Some(row)));
            }
            let at = hit.at;
            hits.push(Hit::Segment(run, at));
        }
        Ok(Some(shown(schema, key.key, &hits)?))
    }
}

/// What a reader sees of a row that is in these layers.
fn shown(schema: &Schema, key: &[u8], hits: &[Hit<'_>]) -> Result<Option<Row>> {
    if let [Hit::Segment(run, at)] = hits {
        return Ok((!run.is_dead(*at)).then(|| run.row(*at)));
    }
    let mut known = RowState::default();
    for hit in hits {
        match hit {
            Hit::Memory(row) => known.merge(&row.state()),
            Hit::Segment(run, at) => known.merge(&run.state(*at)?),
        };
    }
    match known.is_live() {
        true => visible_row(schema, key, &known).map(Some),
        false => Ok(None),
    }
}

fn covers(row: Remembered<'_>, mut older: impl Iterator<Item = u64>) -> bool {
    older.all(|hlc| row.written().hlc > hlc)
}

impl Look {
    /// True if a key may be in more than one layer.
    fn merges(&self) -> bool {
        if !self.memory.is_empty() || !self.frozen.is_empty() {
            return true;
        }
        let mut segments: Vec<&Segment> = self.segments.iter().map(|(s, _)| &**s).collect();
        segments.sort_by(|a, b| a.min_key().cmp(b.min_key()));
        !segments.is_sorted_by(|a, b| a.precedes(b))
    }

    /// True if everything in the segments is wanted, whatever its key.
    fn is_all_of(&self, range: &KeyRange) -> bool {
        self.rows_max == usize::MAX
            && !self.schema.has_ttl()
            && self.segments.iter().all(|(segment, _)| range.covers(segment))
    }

    fn add_segments(&mut self, partition: &Partition, range: &KeyRange, columns: &Columns) {
        // Segments with nothing new are read as well: a new change may be part of an old row.
        let overlaps = |s: &&Arc<Segment>| s.overlaps(&range.from, range.to.as_deref());
        for segment in partition.segments.iter().filter(overlaps) {
            let slice = segment.in_memory(&self.schema, columns).map(|run| {
                let mut slice = range.of_segment(segment, run);
                self.cut(&mut slice);
                slice
            });
            self.segments.push((segment.clone(), slice));
        }
    }

    fn add_changes(&mut self, partition: &Partition, range: &KeyRange) -> Result<()> {
        self.frozen.extend(partition.frozen.clone());
        self.add_memory(&partition.active, range)
    }

    fn add_memory(&mut self, table: &Memtable, range: &KeyRange) -> Result<()> {
        let one_more = self.rows_max.saturating_add(1);
        let (mut from, mut to) = (range.from.clone(), range.to.clone());
        match (&self.left_out, self.end) {
            (None, _) => {}
            (Some(left_out), End::First) => to = Some(left_out.to_vec()),
            (Some(left_out), End::Last) => from = [&left_out[..], &[0]].concat(),
        }
        if self.rows_max == usize::MAX {
            let slices = table.slices(&self.schema, &self.columns, &from, to.as_deref())?;
            self.memory.extend(slices.into_iter().filter(|slice| slice.len() > 0));
            return Ok(());
        }
        let mut places = table.range(&from, to.as_deref(), self.end, one_more);
        if places.len() > self.rows_max {
            let left_out = match self.end {
                End::First => places.pop(),
                End::Last => Some(places.remove(0)),
            };
            left_out.into_iter().for_each(|at| self.leave_out(table.row(at).key().into()));
        }
        if !places.is_empty() {
            let run = table.run(&self.schema, &self.columns, &places)?;
            self.memory.push(Slice::whole(Arc::new(run)));
        }
        Ok(())
    }

    /// Cuts off what is beyond the rows that are needed at most.
    fn cut(&mut self, slice: &mut Slice) {
        if slice.len() <= self.rows_max {
            return;
        }
        let left_out = match self.end {
            End::First => slice.from + self.rows_max,
            End::Last => slice.to - self.rows_max - 1,
        };
        self.leave_out(slice.run.key(left_out).into());
        match self.end {
            End::First => slice.to = left_out,
            End::Last => slice.from = left_out + 1,
        }
    }

    fn leave_out(&mut self, key: Arc<[u8]>) {
        let nearer = self.left_out.as_ref().is_none_or(|left_out| match self.end {
            End::First => key < *left_out,
            End::Last => key > *left_out,
        });
        if nearer {
            self.left_out = Some(key);
        }
    }

    /// The segments, those nearest to the end of the range first: with a few rows of them it may be
    /// known that nobody needs the others, which then are not read. If all are wanted and no two
    /// meet, they are in order.
    fn nearest_first(&mut self) -> Vec<(Arc<Segment>, Option<Slice>)> {
        let mut segments = std::mem::take(&mut self.segments);
        match self.end {
            _ if self.rows_max == usize::MAX && self.meets => {}
            _ if self.rows_max == usize::MAX => {
                segments.sort_by(|a, b| a.0.min_key().cmp(b.0.min_key()));
            }
            End::First => segments.sort_by(|a, b| a.0.min_key().cmp(b.0.min_key())),
            End::Last => segments.sort_by(|a, b| b.0.max_key().cmp(a.0.max_key())),
        }
        segments
    }

    /// True if all rows of a segment lie beyond those that are needed at most.
    fn is_beyond(&self, segment: &Segment) -> bool {
        self.left_out.as_ref().is_some_and(|left_out| match self.end {
            End::First => *segment.min_key() >= **left_out,
            End::Last => *segment.max_key() <= **left_out,
        })
    }

    /// The merged rows as far as every layer goes, and the range beyond; `slices` are those of the
    /// segments.
    fn page(mut self, range: &KeyRange, mut slices: Vec<Slice>, now_ms: u64) -> Result<Page> {
        for frozen in std::mem::take(&mut self.frozen) {
            self.add_memory(&frozen, range)?;
        }
        slices.append(&mut self.memory);
        let left = self.left_out.map(|left_out| {
            for slice in &mut slices {
                let at = slice.lower_bound(&left_out);
                match self.end {
                    End::First => slice.to = at,
                    End::Last if at < slice.to && *slice.run.key(at) == *left_out => {
                        slice.from = at + 1;
                    }
                    End::Last => slice.from = at,
                }
            }
            let mut left = range.clone();
            match self.end {
                End::First => left.from = left_out.to_vec(),
                End::Last => left.to = Some([&left_out[..], &[0]].concat()),
            }
            left
        });
        let merged = match self.meets || self.rows_max < usize::MAX {
            true => merge(&self.schema, slices)?,
            // They are in order, and may lack their keys.
            false => slices,
        };
        let slices = kept(merged, |slice| slice.living(&self.schema, now_ms))?;
        Ok(Page { slices, schema: self.schema, left })
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
