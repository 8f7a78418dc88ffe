//! Reading rows from all layers of the engine.

use std::collections::HashMap;
use std::sync::Arc;

use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::hash::Hashed;
use crate::key::{is_less, is_same};
use crate::row::RowState;
use crate::run::{KeyedRow, Run, Slice, Versioned, visible_row};
use crate::schema::Schema;
use crate::segment::{Few, Found, Segment};
use crate::value::Row;

use super::look::Look;
use super::memtable::Remembered;
use super::state::{Partition, Segments, Table, merge_versions};
use super::turns::Turn;
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
    pub(super) fn covers(&self, segment: &Segment) -> bool {
        !is_less(segment.min_key(), &self.from)
            && self.to.as_deref().is_none_or(|to| is_less(segment.max_key(), to))
    }

    /// The rows of a segment in the range; `run` has some of its rows, or all.
    pub(super) fn of_segment(&self, segment: &Segment, run: Arc<Run>) -> Slice {
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

/// How far a page goes, roughly.
#[derive(Clone, Copy, Debug)]
pub struct PageMax {
    /// Rows.
    pub rows: usize,
    /// Bytes in memory, beside what memory has of changes anyway, a segment that is decoded, and
    /// the cache of segments.
    pub bytes: usize,
}

impl PageMax {
    /// To the end of the range.
    pub const NONE: PageMax = PageMax { rows: usize::MAX, bytes: usize::MAX };
}

impl Page {
    /// The rows with their states.
    pub fn keyed_rows(&self) -> Result<Vec<KeyedRow>> {
        self.slices.iter().flat_map(Slice::keyed_rows).collect()
    }
}

/// An end of a key range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The smallest key.
    First,
    /// The largest key.
    Last,
}

/// What the segments of a look have.
enum Layers {
    Read(Vec<Slice>),
    /// One has been merged away.
    Gone,
    /// All that is wanted has too many bytes: so many rows already, of which nobody may know the
    /// keys.
    TooMuch {
        rows: usize,
    },
}

/// What a slice keeps in memory.
enum Held {
    /// All of its run.
    Run,
    /// Its rows.
    Rows,
}

impl Held {
    fn bytes(&self, slice: &Slice) -> usize {
        let run = slice.run.weight();
        match self {
            Held::Run => run,
            Held::Rows => run / slice.run.len().max(1) * slice.len(),
        }
    }
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
        Ok(self.keyed_page(table, range, End::First, PageMax::NONE).await?.0)
    }

    /// The rows at one end of a range with their states, and the range that is left, if any.
    pub async fn keyed_page(
        &self,
        table: &str,
        range: &KeyRange,
        end: End,
        max: PageMax,
    ) -> Result<(Vec<KeyedRow>, Option<KeyRange>)> {
        let page = self.page(table, range, &Columns::All, end, max, None).await?;
        let mut rows = page.keyed_rows()?;
        rows.retain(|(_, row)| row.seq > range.since);
        Ok((rows, page.left))
    }

    /// The rows at one end of a range, about `max`; only these of their columns are sure. Whoever
    /// has a `turn` takes it before much is in memory.
    pub async fn page(
        &self,
        table: &str,
        range: &KeyRange,
        columns: &Columns,
        end: End,
        max: PageMax,
        mut turn: Option<&mut Turn>,
    ) -> Result<Page> {
        let mut max = PageMax { rows: max.rows.max(1), ..max };
        for _ in 0..RESTARTS_MAX {
            let mut look = self.look(table, range, columns, end, max)?;
            look.meets = look.merges();
            let columns = match look.meets {
                true => columns.clone(),
                false if look.is_all_of(range) => columns.unmerged().unkeyed(),
                false => columns.unmerged(),
            };
            match self.slices(&mut look, range, &columns, turn.as_deref_mut()).await? {
                Layers::Read(slices) => return look.page(range, slices, self.now_ms()),
                Layers::Gone => {}
                Layers::TooMuch { rows } => max.rows = rows.max(1),
            }
        }
        Err(Error::Busy(format!("table {table:?}")))
    }

    /// What segments have of the range, from its end on and no further than needed.
    async fn slices(
        &self,
        look: &mut Look,
        range: &KeyRange,
        columns: &Columns,
        mut turn: Option<&mut Turn>,
    ) -> Result<Layers> {
        let mut slices = Vec::with_capacity(look.segments.len() + look.memory.len() + 1);
        let mut bytes = 0;
        for (segment, slice) in look.nearest_first() {
            if look.is_beyond(&segment) {
                continue;
            }
            let (added, held) = match slice {
                // The rest of it is the cache's.
                Some(slice) => (vec![slice], Held::Rows),
                None => match self.decoded(look, &segment, range, columns).await? {
                    Some(decoded) => (decoded, Held::Run),
                    None => return Ok(Layers::Gone),
                },
            };
            if look.max.bytes < usize::MAX {
                bytes += added.iter().map(|slice| held.bytes(slice)).sum::<usize>();
            }
            slices.extend(added);
            if let Some(turn) = &mut turn {
                turn.take_for(bytes).await?;
            }
            if bytes > look.max.bytes {
                if look.max.rows == usize::MAX {
                    return Ok(Layers::TooMuch { rows: slices.iter().map(Slice::len).sum() });
                }
                look.narrow(&mut slices);
                bytes = slices.iter().map(|slice| Held::Run.bytes(slice)).sum();
            }
        }
        Ok(Layers::Read(slices))
    }

    /// What a segment that is not in memory has of the range, up to what is needed at most; `None`
    /// if it has been merged away.
    async fn decoded(
        &self,
        look: &mut Look,
        segment: &Arc<Segment>,
        range: &KeyRange,
        columns: &Columns,
    ) -> Result<Option<Vec<Slice>>> {
        let found = match range.few(look.end, look.max.rows) {
            Some(few) => self.few_of(&look.schema, columns, segment, &few).await?,
            None => Found::Whole,
        };
        let runs = match found {
            Found::Few(run) => Some(vec![run]),
            Found::Nothing => Some(Vec::new()),
            Found::Whole => {
                let one = std::slice::from_ref(segment);
                self.runs(&look.schema, columns, one).await?
            }
            Found::Gone => None,
        };
        let slice = |run| {
            let mut slice = range.of_segment(segment, run);
            look.cut(&mut slice);
            slice
        };
        Ok(runs.map(|runs| runs.into_iter().map(slice).collect()))
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
        max: PageMax,
    ) -> Result<Look> {
        let state = self.read();
        let table = state.table(table)?;
        let mut look = Look::new(&table.schema, columns, end, max);
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
