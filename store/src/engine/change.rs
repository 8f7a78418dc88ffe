//! From what a caller wants of a row to the partial row state that says so. Pure.

use crate::error::{Error, Result};
use crate::row::{Cell, RowState, Stamp, Totals};
use crate::spec::{Merge, TableSpec};
use crate::value::{Row, Value};

/// What a caller wants to do to one row.
pub enum Change<'a> {
    /// Replace all plain columns, contribute to the merged ones.
    Put(&'a Row),
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
            Change::Put(row) | Change::Patch(row) | Change::Discard(row) => row,
            Change::Delete(key) | Change::Increment(key, _) => key,
        }
    }

    /// True if building the change needs to know the row's present state.
    pub fn needs_known(&self, spec: &TableSpec) -> bool {
        let extremes = |row: &Row| {
            spec.columns
                .iter()
                .any(|c| matches!(c.merge, Merge::Max | Merge::Min) && row.contains_key(&c.name))
        };
        match self {
            Change::Put(row) | Change::Patch(row) => extremes(row),
            Change::Discard(_) => false,
            Change::Delete(_) => spec.columns.iter().any(|c| c.merge == Merge::Counter),
            Change::Increment(..) => true,
        }
    }

    /// The change as a partial row state. `known` is the row as it is; it matters only where
    /// [`Change::needs_known`] says so.
    pub fn build(&self, spec: &TableSpec, stamp: Stamp, known: &RowState) -> Result<RowState> {
        let mut built = RowState { written: stamp, ..RowState::default() };
        match self {
            Change::Put(row) => {
                check_columns(spec, row)?;
                built.cells = write_cells(spec, row, stamp, known, Absent::IsNull)?;
            }
            Change::Patch(row) => {
                check_columns(spec, row)?;
                built.cells = write_cells(spec, row, stamp, known, Absent::Stays)?;
            }
            Change::Discard(row) => {
                check_columns(spec, row)?;
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

#[derive(Clone, Copy, PartialEq)]
enum Absent {
    IsNull,
    Stays,
}

fn write_cells(
    spec: &TableSpec,
    row: &Row,
    stamp: Stamp,
    known: &RowState,
    absent: Absent,
) -> Result<Vec<(u16, Cell)>> {
    let mut cells = Vec::new();
    for (number, column) in spec.columns.iter().enumerate() {
        if spec.is_key(&column.name) {
            continue;
        }
        let given = row.get(&column.name);
        if given.is_none() && absent == Absent::Stays {
            continue;
        }
        let value = given.cloned().unwrap_or_default();
        if value.is_null() && !column.nullable {
            return Err(Error::WrongType {
                column: column.name.clone(),
                expected: column.kind.in_words().into(),
                got: "null".into(),
            });
        }
        let cell = match column.merge {
            Merge::Lww => Cell::Fresh(value.fit(&column.name, column.kind)?),
            _ if value.is_null() => continue,
            Merge::Max => Cell::Max(known.deleted, value.fit(&column.name, column.kind)?),
            Merge::Min => Cell::Min(known.deleted, value.fit(&column.name, column.kind)?),
            Merge::Set => set_cell(spec, &column.name, value, (stamp, true))?,
            Merge::Counter => {
                return Err(Error::BadRequest(format!(
                    "column {:?} of table {:?} is a counter: use increment",
                    column.name, spec.name
                )));
            }
        };
        cells.push((number as u16, cell));
    }
    Ok(cells)
}

fn discard_cells(spec: &TableSpec, row: &Row, stamp: Stamp) -> Result<Vec<(u16, Cell)>> {
    let mut cells = Vec::new();
    for (number, column) in spec.columns.iter().enumerate() {
        let Some(value) = row.get(&column.name).filter(|_| !spec.is_key(&column.name)) else {
            continue;
        };
        if column.merge != Merge::Set {
            return Err(Error::BadRequest(format!("column {:?} is not a set", column.name)));
        }
        cells.push((number as u16, set_cell(spec, &column.name, value.clone(), (stamp, false))?));
    }
    Ok(cells)
}

fn set_cell(spec: &TableSpec, column: &str, value: Value, mark: (Stamp, bool)) -> Result<Cell> {
    let kind = spec.column(column)?.kind;
    let items = match value {
        Value::List(items) => items,
        one => vec![one],
    };
    let marked = items.into_iter().map(|item| Ok((item.fit(column, kind)?, mark)));
    Ok(Cell::Set(marked.collect::<Result<_>>()?))
}

fn count_cells(
    spec: &TableSpec,
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
        let number = spec.columns.iter().position(|c| c.name == *name).unwrap_or_default() as u16;
        if cells.iter().any(|(n, _)| *n == number) {
            return Err(Error::BadRequest(format!("counter {name:?} is named twice")));
        }
        let so_far = match known.cell(number) {
            Some(Cell::Counter { totals, .. }) => totals.get(&stamp.origin).map_or(0, |t| t.1),
            _ => 0,
        };
        let total = so_far
            .checked_add(*delta)
            .ok_or_else(|| Error::BadRequest(format!("counter {name:?} would exceed 64 bits")))?;
        let totals = Totals::from([(stamp.origin, (stamp.hlc, total))]);
        cells.push((number, Cell::Counter { totals, covered: Totals::new() }));
    }
    cells.sort_by_key(|(number, _)| *number);
    Ok(cells)
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

fn check_columns(spec: &TableSpec, row: &Row) -> Result<()> {
    row.keys().try_for_each(|name| spec.column(name).map(|_| ()))
}

pub(super) fn check_only_key(spec: &TableSpec, key: &Row) -> Result<()> {
    check_columns(spec, key)?;
    match key.keys().find(|name| !spec.is_key(name)) {
        Some(name) => Err(Error::BadRequest(format!("column {name:?} is not part of the key"))),
        None => Ok(()),
    }
}
