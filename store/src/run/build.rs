//! Making runs of rows.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{BinaryBuilder, BooleanBuilder, UInt64Array, new_null_array};

use crate::columns::Columns;
use crate::error::Result;
use crate::record;
use crate::row::{RowState, Stamp};
use crate::schema::Schema;
use crate::spec::ColumnSpec;

use super::column::{Builder, data_type};
use super::pack::Packed;
use super::{Hidden, Run, is_plain};

/// Takes rows in key order and makes a run of them.
pub struct RunBuilder<'a> {
    schema: &'a Arc<Schema>,
    keys: BinaryBuilder,
    /// None for columns that nobody wants.
    columns: Vec<Option<Builder>>,
    hlc: Vec<u64>,
    origin: Vec<u64>,
    seq: Vec<u64>,
    dead: BooleanBuilder,
    states: BinaryBuilder,
    newest_hlc: u64,
}

impl<'a> RunBuilder<'a> {
    /// A builder with room for so many rows; columns that are not among these will be nulls.
    pub fn new(schema: &'a Arc<Schema>, columns: &Columns, rows: usize) -> Self {
        let builder = |(number, column): (u16, &ColumnSpec)| {
            let wanted = columns.has(number) || schema.key.contains(&number);
            wanted.then(|| Builder::new(column, rows))
        };
        RunBuilder {
            schema,
            keys: BinaryBuilder::with_capacity(rows, rows * 16),
            columns: (0..).zip(&schema.columns).map(builder).collect(),
            hlc: Vec::with_capacity(rows),
            origin: Vec::with_capacity(rows),
            seq: Vec::with_capacity(rows),
            dead: BooleanBuilder::with_capacity(rows),
            states: BinaryBuilder::with_capacity(rows, 0),
            newest_hlc: 0,
        }
    }

    /// Adds a row.
    pub fn push(&mut self, key: &[u8], seq: u64, state: &RowState) -> Result<()> {
        let live = live_cells(self.schema, state);
        self.push_key(key)?;
        let mut cells = live.cells.iter().peekable();
        for number in &self.schema.values {
            while cells.next_if(|(n, _)| n < number).is_some() {}
            let cell = cells.next_if(|(n, _)| n == number).map(|(_, cell)| cell);
            if let Some(builder) = &mut self.columns[*number as usize] {
                builder.push_cell(cell, self.schema.column_at(*number).merge);
            }
        }
        self.push_stamp(state.written, seq, !state.is_live());
        self.newest_hlc = self.newest_hlc.max(state.newest_hlc());
        match is_plain(self.schema, &live) {
            true => self.states.append_null(),
            false => self.states.append_value(record::encode(&*live)),
        }
        Ok(())
    }

    /// Adds a row of plain values of one write.
    pub fn push_packed(
        &mut self,
        key: &[u8],
        seq: u64,
        written: Stamp,
        packed: Packed<'_>,
    ) -> Result<()> {
        if !packed.is_all_of(self.schema) {
            return self.push(key, seq, &packed.state(written));
        }
        self.push_key(key)?;
        for (number, value) in packed {
            if let Some(builder) = &mut self.columns[number as usize] {
                builder.push_plain(value)?;
            }
        }
        self.push_stamp(written, seq, written == Stamp::default());
        self.newest_hlc = self.newest_hlc.max(written.hlc);
        self.states.append_null();
        Ok(())
    }

    /// The run.
    pub fn finish(mut self) -> Run {
        let count = self.seq.len();
        let hidden = Hidden {
            hlc: UInt64Array::from(self.hlc),
            origin: UInt64Array::from(self.origin),
            seq: UInt64Array::from(self.seq),
            dead: self.dead.finish(),
            states: self.states.finish(),
        };
        let columns =
            self.columns.into_iter().zip(&self.schema.columns).map(|(builder, column)| {
                let array = builder.map(Builder::finish).filter(|array| array.len() == count);
                // A column that was dropped, or that nobody wants.
                array.unwrap_or_else(|| new_null_array(&data_type(column), count))
            });
        let columns = columns.collect();
        Run::of_columns(self.schema, self.keys.finish(), columns, hidden, self.newest_hlc)
    }

    fn push_key(&mut self, key: &[u8]) -> Result<()> {
        let mut rest = key;
        for number in &self.schema.key {
            let kind = self.schema.column_at(*number).kind;
            if let Some(builder) = &mut self.columns[*number as usize] {
                builder.push_key(kind, &mut rest)?;
            }
        }
        self.schema.check_end(rest)?;
        self.keys.append_value(key);
        Ok(())
    }

    fn push_stamp(&mut self, written: Stamp, seq: u64, dead: bool) {
        self.hlc.push(written.hlc);
        self.origin.push(written.origin);
        self.seq.push(seq);
        self.dead.append_value(dead);
    }
}

/// The state without cells of columns that were dropped.
fn live_cells<'a>(schema: &Schema, state: &'a RowState) -> Cow<'a, RowState> {
    if !schema.has_dropped() || !state.cells.iter().any(|(n, _)| schema.is_gone(*n)) {
        return Cow::Borrowed(state);
    }
    let mut live = state.clone();
    live.cells.retain(|(n, _)| !schema.is_gone(*n));
    Cow::Owned(live)
}
