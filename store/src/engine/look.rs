//! One look at the layers of a range, and how far into it a page goes: no further than each layer
//! was read, and no more than may be in memory at a time.

use std::sync::Arc;

use crate::columns::Columns;
use crate::error::Result;
use crate::run::{Slice, kept, merge};
use crate::schema::Schema;
use crate::segment::Segment;

use super::memtable::Memtable;
use super::read::{End, KeyRange, Page, PageMax};
use super::state::Partition;

/// One consistent look at the layers of a range.
pub struct Look {
    pub schema: Arc<Schema>,
    columns: Columns,
    /// Changes being flushed; nothing changes them any more.
    frozen: Vec<Arc<Memtable>>,
    /// What is in memory.
    pub memory: Vec<Slice>,
    /// Segments of the range, with their rows in it where they are in memory.
    pub segments: Vec<(Arc<Segment>, Option<Slice>)>,
    pub end: End,
    /// What is needed at most: so many rows of each layer, so many bytes of the segments.
    pub max: PageMax,
    /// The key nearest to the end which was left out.
    left_out: Option<Arc<[u8]>>,
    /// True if a key may be in more than one layer.
    pub meets: bool,
}

impl Look {
    /// Of no layer yet.
    pub fn new(schema: &Arc<Schema>, columns: &Columns, end: End, max: PageMax) -> Self {
        Look {
            schema: schema.clone(),
            columns: columns.clone(),
            frozen: Vec::new(),
            memory: Vec::new(),
            segments: Vec::new(),
            end,
            max,
            left_out: None,
            meets: true,
        }
    }

    /// True if a key may be in more than one layer.
    pub fn merges(&self) -> bool {
        if !self.memory.is_empty() || !self.frozen.is_empty() {
            return true;
        }
        let mut segments: Vec<&Segment> = self.segments.iter().map(|(s, _)| &**s).collect();
        segments.sort_by(|a, b| a.min_key().cmp(b.min_key()));
        !segments.is_sorted_by(|a, b| a.precedes(b))
    }

    /// True if everything in the segments is wanted, whatever its key.
    pub fn is_all_of(&self, range: &KeyRange) -> bool {
        self.max.rows == usize::MAX
            && !self.schema.has_ttl()
            && self.segments.iter().all(|(segment, _)| range.covers(segment))
    }

    pub fn add_segments(&mut self, partition: &Partition, range: &KeyRange, columns: &Columns) {
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

    pub fn add_changes(&mut self, partition: &Partition, range: &KeyRange) -> Result<()> {
        self.frozen.extend(partition.frozen.clone());
        self.add_memory(&partition.active, range)
    }

    fn add_memory(&mut self, table: &Memtable, range: &KeyRange) -> Result<()> {
        let one_more = self.max.rows.saturating_add(1);
        let (mut from, mut to) = (range.from.clone(), range.to.clone());
        match (&self.left_out, self.end) {
            (None, _) => {}
            (Some(left_out), End::First) => to = Some(left_out.to_vec()),
            (Some(left_out), End::Last) => from = [&left_out[..], &[0]].concat(),
        }
        if self.max.rows == usize::MAX {
            let slices = table.slices(&self.schema, &self.columns, &from, to.as_deref())?;
            self.memory.extend(slices.into_iter().filter(|slice| slice.len() > 0));
            return Ok(());
        }
        let mut places = table.range(&from, to.as_deref(), self.end, one_more);
        if places.len() > self.max.rows {
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
    pub fn cut(&mut self, slice: &mut Slice) {
        self.cut_to(slice, self.max.rows);
    }

    fn cut_to(&mut self, slice: &mut Slice, rows: usize) {
        if slice.len() <= rows {
            return;
        }
        let left_out = match self.end {
            End::First => slice.from + rows,
            End::Last => slice.to - rows - 1,
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
    pub fn nearest_first(&mut self) -> Vec<(Arc<Segment>, Option<Slice>)> {
        let mut segments = std::mem::take(&mut self.segments);
        match self.end {
            _ if self.max.rows == usize::MAX && self.meets => {}
            _ if self.max.rows == usize::MAX => {
                segments.sort_by(|a, b| a.0.min_key().cmp(b.0.min_key()));
            }
            End::First => segments.sort_by(|a, b| a.0.min_key().cmp(b.0.min_key())),
            End::Last => segments.sort_by(|a, b| b.0.max_key().cmp(a.0.max_key())),
        }
        segments
    }

    /// True if all rows of a segment lie beyond those that are needed at most.
    pub fn is_beyond(&self, segment: &Segment) -> bool {
        self.left_out.as_ref().is_some_and(|left_out| match self.end {
            End::First => *segment.min_key() >= **left_out,
            End::Last => *segment.max_key() <= **left_out,
        })
    }

    /// The merged rows as far as every layer goes, and the range beyond; `slices` are those of the
    /// segments.
    pub fn page(mut self, range: &KeyRange, mut slices: Vec<Slice>, now_ms: u64) -> Result<Page> {
        for frozen in std::mem::take(&mut self.frozen) {
            self.add_memory(&frozen, range)?;
        }
        slices.append(&mut self.memory);
        self.trim(&mut slices);
        let left = self.left_out.map(|left_out| {
            let mut left = range.clone();
            match self.end {
                End::First => left.from = left_out.to_vec(),
                End::Last => left.to = Some([&left_out[..], &[0]].concat()),
            }
            left
        });
        let merged = match self.meets || self.max.rows < usize::MAX {
            true => merge(&self.schema, slices)?,
            // They are in order, and may lack their keys.
            false => slices,
        };
        let slices = kept(merged, |slice| slice.living(&self.schema, now_ms))?;
        Ok(Page { slices, schema: self.schema, left })
    }

    /// Cuts off what is not nearer than the key that was left out.
    fn trim(&self, slices: &mut [Slice]) {
        let Some(left_out) = &self.left_out else { return };
        for slice in slices {
            let at = slice.lower_bound(left_out);
            match self.end {
                End::First => slice.to = at,
                End::Last if at < slice.to && *slice.run.key(at) == **left_out => {
                    slice.from = at + 1;
                }
                End::Last => slice.from = at,
            }
        }
    }

    /// Copies the rows that are needed out of the runs that hold them, which can go, and needs
    /// fewer where these have too many bytes still: one of a layer at least, so that a page has
    /// one.
    pub fn narrow(&mut self, slices: &mut Vec<Slice>) {
        let mut bytes_each = self.max.bytes / 2;
        while slices.iter().map(bytes).sum::<usize>() > self.max.bytes
            && slices.iter().any(|slice| slice.len() > 1)
        {
            for slice in slices.iter_mut() {
                let rows = rows_within(slice, bytes_each, self.end);
                self.cut_to(slice, rows);
            }
            self.trim(slices);
            slices.retain(|slice| slice.len() > 0);
            bytes_each /= 2;
        }
        *slices = std::mem::take(slices).into_iter().map(Slice::alone).collect();
    }
}

fn bytes(slice: &Slice) -> usize {
    slice.run.bytes_between(slice.from, slice.to)
}

/// How many rows from an end on have so many bytes, roughly; one at least.
fn rows_within(slice: &Slice, bytes_max: usize, end: End) -> usize {
    let (mut fits, mut exceeds) = (1, slice.len() + 1);
    while fits + 1 < exceeds {
        let rows = fits + (exceeds - fits) / 2;
        let (from, to) = match end {
            End::First => (slice.from, slice.from + rows),
            End::Last => (slice.to - rows, slice.to),
        };
        match slice.run.bytes_between(from, to) <= bytes_max {
            true => fits = rows,
            false => exceeds = rows,
        }
    }
    fits
}
