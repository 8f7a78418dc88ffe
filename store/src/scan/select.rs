//! What a scan takes of merged rows: conditions are met column by column.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, Scalar, UInt32Array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp;
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};

use crate::columns::Columns;
use crate::error::Result;
use crate::run::column::{Builder, Values, field};
use crate::run::{Slice, copied};
use crate::schema::Schema;
use crate::segment::arrow_error;
use crate::spec::{ColumnSpec, Merge};
use crate::value::{Names, Row, Value};

use super::{Compare, Filter, Scan};

impl Scan {
    /// True if there are more rows in `slices` than the scan returns at most.
    pub fn is_exceeded(&self, schema: &Schema, slices: &[Slice]) -> Result<bool> {
        let Some(limit) = self.limit else { return Ok(false) };
        Ok(self.count(schema, slices)? > limit)
    }

    /// How many rows of slices the scan asks for, whatever its limit.
    pub fn count(&self, schema: &Schema, slices: &[Slice]) -> Result<usize> {
        let mut rows = 0;
        for slice in slices {
            rows += self.admitted(schema, slice)?.map_or(slice.len(), |mask| mask.count_set_bits());
        }
        Ok(rows)
    }

    /// The rows of slices that the scan asks for, whatever its limit, with these of their columns
    /// alone, and on their own: what the slices are of can go.
    pub fn picked(
        &self,
        schema: &Schema,
        slices: &[Slice],
        columns: &Columns,
    ) -> Result<Option<Slice>> {
        let masks = slices.iter().map(|slice| self.admitted(schema, slice));
        let masks = masks.collect::<Result<Vec<_>>>()?;
        Ok(copied(slices, &masks, columns)?.map(Slice::whole))
    }

    /// The rows that the scan asks for, and whether the limit cut in.
    pub fn rows(&self, schema: &Schema, slices: &[Slice]) -> Result<(Vec<Row>, bool)> {
        let wanted = self.wanted(schema)?;
        let names: Names = match &self.columns {
            None => schema.shown_names.clone(),
            Some(names) => names.iter().map(String::as_str).collect(),
        };
        let limit = self.limit.unwrap_or(usize::MAX);
        let mut rows = Vec::new();
        for slice in self.in_order(slices) {
            let mut places: Vec<usize> = match self.admitted(schema, slice)? {
                None => (slice.from..slice.to).collect(),
                Some(mask) => mask.set_indices().map(|i| slice.from + i).collect(),
            };
            if self.reverse {
                places.reverse();
            }
            let exceeded = places.len() > limit - rows.len();
            places.truncate(limit - rows.len());
            let values = |n: &u16| Values::of(schema.column_at(*n), slice.run.column(*n));
            let columns: Vec<Values<'_>> = wanted.iter().map(values).collect();
            rows.extend(places.into_iter().map(|at| {
                Row::of(names.clone(), columns.iter().map(|column| column.at(at)).collect())
            }));
            if exceeded {
                return Ok((rows, true));
            }
        }
        Ok((rows, false))
    }

    /// The rows that the scan asks for as an Arrow batch, and whether the limit cut in. Rows that
    /// lie in one piece are not copied.
    pub fn batch(&self, schema: &Schema, slices: &[Slice]) -> Result<(RecordBatch, bool)> {
        let failed = |e| arrow_error(&schema.name, e);
        let wanted = self.wanted(schema)?;
        let fields: Vec<_> = wanted.iter().map(|n| field(schema, schema.column_at(*n))).collect();
        let arrow_schema: SchemaRef = Arc::new(ArrowSchema::new(fields));
        let limit = self.limit.unwrap_or(usize::MAX);
        let (mut parts, mut rows) = (Vec::new(), 0);
        for slice in self.in_order(slices) {
            if rows > limit {
                break;
            }
            let part = self.part(schema, slice, &wanted, &arrow_schema)?;
            rows += part.num_rows();
            parts.push(part);
        }
        if self.reverse {
            parts.reverse();
        }
        let mut batch = match parts.len() {
            1 => parts.remove(0),
            _ => concat_batches(&arrow_schema, &parts).map_err(failed)?,
        };
        if self.reverse {
            let backwards = UInt32Array::from_iter_values((0..rows as u32).rev());
            batch = take_record_batch(&batch, &backwards).map_err(failed)?;
        }
        Ok((batch.slice(0, rows.min(limit)), rows > limit))
    }

    /// The columns of those rows of a slice that a reader sees and that meet all conditions.
    pub(crate) fn part(
        &self,
        schema: &Schema,
        slice: &Slice,
        wanted: &[u16],
        arrow_schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let failed = |e| arrow_error(&schema.name, e);
        let columns = wanted.iter().map(|n| column(slice, *n)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(slice.len()));
        let part = RecordBatch::try_new_with_options(arrow_schema.clone(), columns, &options);
        let part = part.map_err(failed)?;
        match self.admitted(schema, slice)? {
            Some(mask) => filter_record_batch(&part, &mask.into()).map_err(failed),
            None => Ok(part),
        }
    }

    fn in_order<'a>(&self, slices: &'a [Slice]) -> Vec<&'a Slice> {
        match self.reverse {
            true => slices.iter().rev().collect(),
            false => slices.iter().collect(),
        }
    }

    /// The rows of a slice that a reader sees and that meet all conditions; none means all.
    fn admitted(&self, schema: &Schema, slice: &Slice) -> Result<Option<BooleanBuffer>> {
        let dead = slice.run.dead().slice(slice.from, slice.len());
        let mut mask = (dead.true_count() > 0).then(|| !dead.values());
        for filter in &self.filter {
            let number = schema.number(&filter.column)?;
            let met = filter.met(schema.column_at(number), &column(slice, number));
            let met = met.map_err(|e| arrow_error(&schema.name, e))?;
            mask = Some(mask.map_or(met.clone(), |mask| &mask & &met));
        }
        Ok(mask)
    }
}

impl Filter {
    /// Where an array of a column meets the condition.
    fn met(
        &self,
        column: &ColumnSpec,
        array: &ArrayRef,
    ) -> Result<BooleanBuffer, arrow::error::ArrowError> {
        if column.merge == Merge::Set || self.value.is_null() {
            let values = Values::of(column, array);
            let admits = |i| self.admits(&values.at(i));
            return Ok(BooleanBuffer::collect_bool(array.len(), admits));
        }
        let mut one = Builder::new(column, 1);
        one.push(&self.value);
        let value = Scalar::new(one.finish());
        let met: BooleanArray = match self.op {
            Compare::Eq => cmp::eq(array, &value)?,
            Compare::Ne => cmp::neq(array, &value)?,
            Compare::Lt => cmp::lt(array, &value)?,
            Compare::Le => cmp::lt_eq(array, &value)?,
            Compare::Gt => cmp::gt(array, &value)?,
            Compare::Ge => cmp::gt_eq(array, &value)?,
        };
        Ok(match (met.nulls(), self.op) {
            (None, _) => met.values().clone(),
            (Some(valid), Compare::Ne) => met.values() | &!valid.inner(),
            (Some(valid), _) => met.values() & valid.inner(),
        })
    }

    /// True if one value meets the condition.
    fn admits(&self, value: &Value) -> bool {
        let order = value.cmp(&self.value);
        match self.op {
            Compare::Ne => order.is_ne(),
            Compare::Eq => order.is_eq(),
            _ if value.is_null() || self.value.is_null() => false,
            Compare::Lt => order.is_lt(),
            Compare::Le => order.is_le(),
            Compare::Gt => order.is_gt(),
            Compare::Ge => order.is_ge(),
        }
    }
}

fn column(slice: &Slice, number: u16) -> ArrayRef {
    slice.run.column(number).slice(slice.from, slice.len())
}

#[cfg(test)]
mod tests;
