//! The replicated state of a row, and how two states of it meet.
//!
//! A state is an element of a join semilattice: [`RowState::merge`] is commutative, associative
//! and idempotent, so sites that saw the same changes hold the same row, whatever the order and
//! however often each change came. A change is itself a (partial) state.
//!
//! * A write is newer than another if its [`Stamp`] is greater.
//! * A delete covers every plain write and set element stamped before it. It covers the counter
//!   contributions that the deleting site had seen: increments it had not seen survive. It
//!   covers every `max`/`min` contribution made without knowledge of it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::spec::{ColumnSpec, Merge};
use crate::value::Value;

/// When and where a write happened. The origin is the store that took the write: the first
/// 64 bits of a hash of its site path and of a number drawn when its folder was created.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    /// Hybrid logical clock reading.
    pub hlc: u64,
    /// Identity of the store that took the write.
    pub origin: u64,
}

/// State of one row, key aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowState {
    /// The newest write that touched the row.
    pub written: Stamp,
    /// The newest delete; the default stamp if there was none.
    pub deleted: Stamp,
    /// Cells by column number, ascending.
    pub cells: Vec<(u16, Cell)>,
}

/// State of one cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    /// A plain value stamped like the row's newest write (the common case, kept short).
    Fresh(Value),
    /// A plain value with its own stamp.
    Stamped(Stamp, Value),
    /// A counter: the running total of each origin, and what deletes have covered of each.
    Counter { totals: Totals, covered: Totals },
    /// The largest value written since the delete `Stamp`.
    Max(Stamp, Value),
    /// The smallest value written since the delete `Stamp`.
    Min(Stamp, Value),
    /// Elements with the stamp of their last change and whether it put them in.
    Set(BTreeMap<Value, (Stamp, bool)>),
}

/// Per origin: the clock reading of its last increment and the sum of all of them. A newer
/// reading of the same origin replaces an older one, so redelivery counts nothing twice.
pub type Totals = BTreeMap<u64, (u64, i64)>;

impl RowState {
    /// A state that only says: deleted at `stamp`.
    pub fn tombstone(stamp: Stamp) -> Self {
        RowState { deleted: stamp, ..RowState::default() }
    }

    /// True if a reader sees the row.
    pub fn is_live(&self) -> bool {
        self.written > self.deleted || self.cells.iter().any(|(_, c)| c.has_uncovered_counts())
    }

    /// The cell of a column.
    pub fn cell(&self, column: u16) -> Option<&Cell> {
        let at = self.cells.binary_search_by_key(&column, |(c, _)| *c).ok()?;
        Some(&self.cells[at].1)
    }

    /// What a reader sees in a column.
    pub fn value(&self, column: u16, merge: Merge) -> Value {
        match self.cell(column) {
            Some(cell) => cell.value(),
            None if merge == Merge::Counter => Value::Int(0),
            None => Value::Null,
        }
    }

    /// Takes over everything `other` knows. True if that changed anything.
    pub fn merge(&mut self, other: &RowState) -> bool {
        if *self == *other {
            return false;
        }
        let before = self.clone();
        self.absorb(other.clone());
        *self != before
    }

    /// Takes over everything `other` knows.
    pub fn absorb(&mut self, mut other: RowState) {
        self.pin_stamps();
        other.pin_stamps();
        self.written = self.written.max(other.written);
        self.deleted = self.deleted.max(other.deleted);
        self.cells = join_cells(std::mem::take(&mut self.cells), other.cells);
        self.normalize();
    }

    /// Brings the state into the one form that equal knowledge has: covered cells dropped,
    /// stamps written short.
    pub fn normalize(&mut self) {
        let (written, deleted) = (self.written, self.deleted);
        self.cells.retain_mut(|(_, cell)| cell.keep_after(written, deleted));
        for (_, cell) in &mut self.cells {
            cell.shorten(written);
        }
    }

    /// Puts another stamp wherever this one stands, in a state that one change has made.
    pub(crate) fn restamp(&mut self, from: Stamp, to: Stamp) {
        let restamp = |stamp: &mut Stamp| {
            if *stamp == from {
                *stamp = to;
            }
        };
        restamp(&mut self.written);
        restamp(&mut self.deleted);
        for (_, cell) in &mut self.cells {
            if let Cell::Set(elements) = cell {
                elements.values_mut().for_each(|(stamp, _)| restamp(stamp));
            }
        }
    }

    /// The newest clock reading anywhere in the state.
    pub fn newest_hlc(&self) -> u64 {
        let cells = self.cells.iter().map(|(_, cell)| cell.newest_hlc());
        cells.fold(self.written.hlc.max(self.deleted.hlc), u64::max)
    }

    /// Bytes in memory, roughly.
    pub(crate) fn weight(&self) -> usize {
        size_of::<RowState>() + self.cells.iter().map(|(_, c)| c.weight()).sum::<usize>()
    }

    /// The one form that equal knowledge has, however it was come by.
    pub fn canonical(&self) -> RowState {
        let mut state = self.clone();
        state.pin_stamps();
        state.normalize();
        state
    }

    fn pin_stamps(&mut self) {
        for (_, cell) in &mut self.cells {
            if let Cell::Fresh(value) = cell {
                *cell = Cell::Stamped(self.written, std::mem::take(value));
            }
        }
    }
}

impl Cell {
    /// True if a column with this definition can hold the cell; asked of cells from elsewhere.
    pub fn fits(&self, column: &ColumnSpec) -> bool {
        let fits = |v: &Value| v.is_of(column.kind);
        match (column.merge, self) {
            (Merge::Lww, Cell::Fresh(v) | Cell::Stamped(_, v)) => fits(v),
            (Merge::Max, Cell::Max(_, v)) | (Merge::Min, Cell::Min(_, v)) => fits(v),
            (Merge::Set, Cell::Set(elements)) => elements.keys().all(fits),
            (Merge::Counter, Cell::Counter { .. }) => true,
            _ => false,
        }
    }

    /// What a reader sees.
    pub fn value(&self) -> Value {
        match self {
            Cell::Fresh(v) | Cell::Stamped(_, v) | Cell::Max(_, v) | Cell::Min(_, v) => v.clone(),
            Cell::Counter { totals, covered } => Value::Int(
                totals.iter().fold(0i64, |sum, (o, t)| sum.wrapping_add(uncovered(o, *t, covered))),
            ),
            Cell::Set(elements) => {
                let present = elements.iter().filter(|(_, (_, present))| *present);
                Value::List(present.map(|(v, _)| v.clone()).collect())
            }
        }
    }

    fn has_uncovered_counts(&self) -> bool {
        let Cell::Counter { totals, covered } = self else { return false };
        totals.iter().any(|(o, (hlc, _))| covered.get(o).is_none_or(|c| c.0 < *hlc))
    }

    /// Drops what the delete covers. False if nothing is left of the cell.
    fn keep_after(&mut self, written: Stamp, deleted: Stamp) -> bool {
        match self {
            Cell::Fresh(_) => written > deleted,
            Cell::Stamped(stamp, _) => *stamp > deleted,
            Cell::Max(since, _) | Cell::Min(since, _) => *since >= deleted,
            Cell::Set(elements) => {
                elements.retain(|_, (stamp, _)| *stamp > deleted);
                !elements.is_empty()
            }
            Cell::Counter { .. } => true,
        }
    }

    fn shorten(&mut self, written: Stamp) {
        if let Cell::Stamped(stamp, value) = self
            && *stamp == written
        {
            *self = Cell::Fresh(std::mem::take(value));
        }
    }

    fn newest_hlc(&self) -> u64 {
        match self {
            Cell::Fresh(_) => 0,
            Cell::Stamped(stamp, _) | Cell::Max(stamp, _) | Cell::Min(stamp, _) => stamp.hlc,
            Cell::Counter { totals, covered } => {
                totals.values().chain(covered.values()).map(|t| t.0).max().unwrap_or(0)
            }
            Cell::Set(elements) => elements.values().map(|(s, _)| s.hlc).max().unwrap_or(0),
        }
    }

    fn weight(&self) -> usize {
        let heap = match self {
            Cell::Fresh(v) | Cell::Stamped(_, v) | Cell::Max(_, v) | Cell::Min(_, v) => v.weight(),
            Cell::Counter { totals, covered } => 48 * (totals.len() + covered.len()),
            Cell::Set(elements) => elements.keys().map(|v| v.weight() + 32).sum(),
        };
        size_of::<(u16, Cell)>() + heap
    }
}

/// Joins two ascending lists of cells whose plain values all carry their own stamps.
fn join_cells(ours: Vec<(u16, Cell)>, theirs: Vec<(u16, Cell)>) -> Vec<(u16, Cell)> {
    let mut joined = Vec::with_capacity(ours.len().max(theirs.len()));
    let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
    loop {
        let order = match (ours.peek(), theirs.peek()) {
            (Some(a), Some(b)) => a.0.cmp(&b.0),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return joined,
        };
        match order {
            Ordering::Less => joined.extend(ours.next()),
            Ordering::Greater => joined.extend(theirs.next()),
            Ordering::Equal => {
                if let (Some((column, a)), Some((_, b))) = (ours.next(), theirs.next()) {
                    joined.push((column, join(a, b)));
                }
            }
        }
    }
}

/// Joins two cells of one column. Cells of different sorts never meet, because sorts are checked
/// on arrival; were it to happen, the choice below would still be the same on every site.
fn join(a: Cell, b: Cell) -> Cell {
    match (a, b) {
        (Cell::Stamped(s, v), Cell::Stamped(t, w)) => {
            let (stamp, value) = (s, v).max((t, w));
            Cell::Stamped(stamp, value)
        }
        (Cell::Max(s, v), Cell::Max(t, w)) => {
            let (since, value) = (s, v).max((t, w));
            Cell::Max(since, value)
        }
        (Cell::Min(s, v), Cell::Min(t, w)) => match s.cmp(&t) {
            Ordering::Less => Cell::Min(t, w),
            Ordering::Greater => Cell::Min(s, v),
            Ordering::Equal => Cell::Min(s, v.min(w)),
        },
        (Cell::Set(mut a), Cell::Set(b)) => {
            for (value, mark) in b {
                let ours = a.entry(value).or_insert(mark);
                *ours = (*ours).max(mark);
            }
            Cell::Set(a)
        }
        (
            Cell::Counter { mut totals, mut covered },
            Cell::Counter { totals: more_totals, covered: more_covered },
        ) => {
            join_totals(&mut totals, more_totals);
            join_totals(&mut covered, more_covered);
            Cell::Counter { totals, covered }
        }
        (a, b) => {
            if sort_of(&a) >= sort_of(&b) {
                a
            } else {
                b
            }
        }
    }
}

fn join_totals(ours: &mut Totals, theirs: Totals) {
    for (origin, total) in theirs {
        let known = ours.entry(origin).or_insert(total);
        *known = (*known).max(total);
    }
}

/// What an origin has contributed beyond what deletes cover.
fn uncovered(origin: &u64, (hlc, total): (u64, i64), covered: &Totals) -> i64 {
    match covered.get(origin) {
        Some((covered_hlc, _)) if *covered_hlc >= hlc => 0,
        Some((_, covered_total)) => total.wrapping_sub(*covered_total),
        None => total,
    }
}

fn sort_of(cell: &Cell) -> u8 {
    match cell {
        Cell::Fresh(_) => 0,
        Cell::Stamped(..) => 1,
        Cell::Counter { .. } => 2,
        Cell::Max(..) => 3,
        Cell::Min(..) => 4,
        Cell::Set(_) => 5,
    }
}

#[cfg(test)]
mod tests;
