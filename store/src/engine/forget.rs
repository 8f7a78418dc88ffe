//! Which deletes a store forgets: those that can have nothing left to cover, anywhere.
//!
//! A deleted row is kept as a state that says so, because an older state of the row may still come:
//! from another site, from an older segment, from the log, or as a change that was built on what
//! was known before. A merge leaves such a row out only where none of these can be
//! (`docs/decisions/0092-a-store-that-is-alone-forgets-deletes.md`).

use std::cell::Cell;
use std::sync::Arc;

use arrow::buffer::BooleanBuffer;

use crate::error::Result;
use crate::hlc;
use crate::record::Body;
use crate::run::{Run, Slice, kept};
use crate::schema::Schema;
use crate::segment::Segment;
use crate::spec::Merge;

use super::{Engine, State, Table};

/// Stands for a store below that has been given rows, before it has said who it is.
const SOMEBODY: u64 = 0;

impl Engine {
    /// Makes sure that this store remembers for good that another one has rows of it.
    pub async fn meet(&self, site: &str) -> Result<()> {
        if !self.read().children.is_empty() {
            return Ok(());
        }
        let met = Body::Child { store: SOMEBODY, site: site.into(), seq: 0 };
        let seq = self.note(met)?;
        self.wal.wait(seq).await
    }

    /// Deletes of a table up to this time (milliseconds since 1970) may be forgotten; none if none
    /// may be.
    pub(super) fn forgets_before_ms(&self, schema: &Schema) -> Option<u64> {
        let is_alone = self.is_root() && self.read().is_alone();
        let before_ms = self.now_ms().saturating_sub(self.config.deletes_kept_ms);
        (is_alone && stands_alone(schema)).then_some(before_ms)
    }
}

impl State {
    /// True if no other store has ever had rows of this one, or it of another.
    fn is_alone(&self) -> bool {
        let follows = |table: &Table| table.followed.is_some() || !table.extents.is_empty();
        self.children.is_empty() && self.acked == 0 && !self.tables.values().any(follows)
    }

    /// The sites below that have sent changes.
    pub fn children_known(&self) -> impl Iterator<Item = &String> {
        let known = self.children.iter().filter(|(store, _)| **store != SOMEBODY);
        known.map(|(_, (site, _))| site)
    }
}

impl Table {
    /// No delete of a later entry has been forgotten.
    pub fn forgotten(&self) -> u64 {
        self.partitions.values().map(|partition| partition.forgotten).max().unwrap_or(0)
    }
}

/// True if no change to a row is built on what is known of it: counters go on from their totals,
/// and the largest and smallest values name the delete that they follow.
fn stands_alone(schema: &Schema) -> bool {
    ![Merge::Counter, Merge::Max, Merge::Min].iter().any(|merge| schema.merges_by(*merge))
}

/// Leaves out the rows that are deleted, did not change after that time, and of which no `older`
/// segment can know anything. Also returns the last entry that changed any of them.
pub fn without_deletes(
    slices: Vec<Slice>,
    before_ms: u64,
    older: &[Arc<Segment>],
) -> Result<(Vec<Slice>, u64)> {
    let forgotten = Cell::new(0);
    let goes = |run: &Run, i: usize| {
        let goes = run.is_dead(i)
            && run.state(i).is_ok_and(|state| hlc::millis(state.newest_hlc()) <= before_ms)
            && !older.iter().any(|segment| segment.spans(run.key(i)));
        if goes {
            forgotten.set(run.seq(i).max(forgotten.get()));
        }
        goes
    };
    let left = kept(slices, |slice| {
        if slice.run.dead().true_count() == 0 {
            return None;
        }
        Some(BooleanBuffer::collect_bool(slice.len(), |at| !goes(&slice.run, slice.from + at)))
    })?;
    Ok((left, forgotten.get()))
}
