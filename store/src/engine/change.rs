//! From what a caller wants of a row to the partial row state that says so. Pure.

use crate::error::{Error, Result};
use crate::row::{Cell, RowState, Stamp, Totals};
use crate::schema::Schema;
use crate::spec::{ColumnSpec, Merge};
use crate::value::{Row, Value};

/// What a caller wants to do to one row.
pub enum Change<'a> {
    /// Replace all plain columns, contribute to the merged ones.
    Put(&'a Row),
    /// Like a put, of a row as a reader saw it: counters become what it says, as far as known here.
    Restore(&'a Row),
    /// Replace or contribute to the named columns only.
    Patch(&'a Row),
    /// Remove elements from set columns.
    Discard(&'a Row),
    /// Delete the row with this key.
    Delete(&'a Row),
    /// Add to counter columns of the row with this key.
    Increment(&'a Row, &'a [(String, i64)]),
}

impl Change<'_> {
    /// The row or key that the change is about.
    pub fn row(&self) -> &Row {
        match self {
            Change::Put(row) | Change::Restore(row) => row,
            Change::Patch(row) | Change::Discard(row) => row,
            Change::Delete(key) | Change::Increment(key, _) => key,
        }
    }

    /// True if building the change needs to know the row's present state.
    pub fn needs_known(&self, spec: &Schema) -> bool {
        let has = |row: &Row, merges: &[Merge]| {
            spec.columns.iter().any(|c| merges.contains(&c.merge) && row.contains_key(&c.name))
        };
        match self {
            Change::Put(row) | Change::Patch(row) => has(row, &[Merge::Max, Merge::Min]),
            Change::Restore(row) => has(row, &[Merge::Max, Merge::Min, Merge::Counter]),
            Change::Discard(_) => false,
            Change::Delete(_) => spec.merges_by(Merge::Counter),
            Change::Increment(..) => true,
        }
    }

    /// The change as a partial row state. `known` is the row as it is; it matters only where
    /// [`Change::needs_known`] says so.
    pub fn build(&self, spec: &Schema, stamp: Stamp, known: &RowState) -> Result<RowState> {
        let mut built = RowState { written: stamp, ..RowState::default() };
        match self {
            Change::Put(row) => {
                built.cells = write_cells(spec, row, stamp, known, Way::Put)?;
            }
            Change::Restore(row) => {
                built.cells = write_cells(spec, row, stamp, known, Way::Restore)?;
            }
            Change::Patch(row) => {
                built.cells = write_cells(spec, row, stamp, known, Way::Patch)?;
            }
            Change::Discard(row) => {
                built.cells = discard_cells(spec, row, stamp)?;
            }
            Change::Delete(key) => {
                check_only_key(spec, key)?;
                built = RowState::tombstone(stamp);
                built.cells = cover_counters(known);
            }
            Change::Increment(key, deltas) => {
                check_only_key(spec, key)?;
                built.cells = count_cells(spec, deltas, stamp, known)?;
            }
        }
        Ok(built)
    }
}

/// What becomes of columns that a row leaves out, and of its counters.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Put,
    Patch,
    Restore,
}

fn write_cells(
    spec: &Schema,
    row: &Row,
    stamp: Stamp,
    known: &RowState,
    way: Way,
) -> Result<Vec<(u16, Cell)>> {
    let mut given = spec.placed(row)?.into_iter().peekable();
    let mut cells = Vec::with_capacity(spec.values.len());
    for number in &spec.values {
        while given.next_if(|(n, _)| n < number).is_some() {}
        let value = match (given.next_if(|(n, _)| n == number), way) {
            (Some((_, value)), _) => value,
            (None, Way::Patch) => continue,
            (None, _) => &Value::Null,
        };
        let column = spec.column_at(*number);
        if value.is_null() && !column.nullable {
            return Err(Error::WrongType {
                column: column.name.clone(),
                expected: column.kind.in_words().into(),
                got: "null".into(),
            });
        }
        let fitted = || value.clone().fit(&column.name, column.kind);
        let cell = match column.merge {
            Merge::Lww => Cell::Fresh(fitted()?),
            _ if value.is_null() => continue,
            Merge::Max => Cell::Max(known.deleted, fitted()?),
            Merge::Min => Cell::Min(known.deleted, fitted()?),
            Merge::Set => set_cell(column, value, (stamp, true))?,
            Merge::Counter if way == Way::Restore => count_to(&fitted()?, *number, stamp, known),
            Merge::Counter => {
                return Err(Error::BadRequest(format!(
                    "column {:?} of table {:?} is a counter: use increment",
                    column.name, spec.name
                )));
            }
        };
        cells.push((*number, cell));
    }
    Ok(cells)
}

fn discard_cells(spec: &Schema, row: &Row, stamp: Stamp) -> Result<Vec<(u16, Cell)>> {
    let mut cells = Vec::new();
    for (number, value) in spec.placed(row)? {
        let column = spec.column_at(number);
        if spec.key.contains(&number) {
            continue;
        }
        if column.merge != Merge::Set {
            return Err(Error::BadRequest(format!("column {:?} is not a set", column.name)));
        }
        cells.push((number, set_cell(column, value, (stamp, false))?));
    }
    Ok(cells)
}

fn set_cell(column: &ColumnSpec, value: &Value, mark: (Stamp, bool)) -> Result<Cell> {
    let items = match value {
        Value::List(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let fitted = |item: &Value| item.clone().fit(&column.name, column.kind);
    let marked = items.iter().map(|item| Ok((fitted(item)?, mark)));
    Ok(Cell::Set(marked.collect::<Result<_>>()?))
}

fn count_cells(
    spec: &Schema,
    deltas: &[(String, i64)],
    stamp: Stamp,
    known: &RowState,
) -> Result<Vec<(u16, Cell)>> {
    let mut cells = Vec::new();
    for (name, delta) in deltas {
        let column = spec.column(name)?;
        if column.merge != Merge::Counter {
            return Err(Error::BadRequest(format!("column {name:?} is not a counter")));
        }
        let number = spec.number(name)?;
        if cells.iter().any(|(n, _)| *n == number) {
            return Err(Error::BadRequest(format!("counter {name:?} is named twice")));
        }
        let total = own_total(number, stamp, known)
            .checked_add(*delta)
            .ok_or_else(|| Error::BadRequest(format!("counter {name:?} would exceed 64 bits")))?;
        cells.push((number, counted(total, stamp)));
    }
    cells.sort_by_key(|(number, _)| *number);
    Ok(cells)
}

/// A counter that reads as `wanted` with what is known of it. Sums wrap, as they do when read.
fn count_to(wanted: &Value, number: u16, stamp: Stamp, known: &RowState) -> Cell {
    let int = |value: &Value| if let Value::Int(i) = value { *i } else { 0 };
    let lacking = int(wanted).wrapping_sub(int(&known.value(number, Merge::Counter)));
    counted(own_total(number, stamp, known).wrapping_add(lacking), stamp)
}

/// What this store has counted so far.
fn own_total(number: u16, stamp: Stamp, known: &RowState) -> i64 {
    match known.cell(number) {
        Some(Cell::Counter { totals, .. }) => totals.get(&stamp.origin).map_or(0, |t| t.1),
        _ => 0,
    }
}

fn counted(total: i64, stamp: Stamp) -> Cell {
    let totals = Totals::from([(stamp.origin, (stamp.hlc, total))]);
    Cell::Counter { totals, covered: Totals::new() }
}

fn cover_counters(known: &RowState) -> Vec<(u16, Cell)> {
    let counters = known.cells.iter().filter_map(|(number, cell)| match cell {
        Cell::Counter { totals, .. } => Some((*number, totals.clone())),
        _ => None,
    });
    counters
        .map(|(number, covered)| (number, Cell::Counter { totals: Totals::new(), covered }))
        .collect()
}

pub(super) fn check_only_key(spec: &Schema, key: &Row) -> Result<()> {
    for name in key.keys() {
        let number = spec.number(name)?;
        if !spec.key.contains(&number) {
            return Err(Error::BadRequest(format!("column {name:?} is not part of the key")));
        }
    }
    Ok(())
}
