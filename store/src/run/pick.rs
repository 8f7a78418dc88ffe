//! Rows picked from several runs, in stretches. A column of them is copied stretch by stretch, and
//! only when somebody asks for it: a reader of two columns pays for two, and for no stamps.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder,
    Capacities, MutableArrayData, PrimitiveArray, make_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use arrow::error::ArrowError;

use crate::error::{Error, Result};
use crate::schema::Schema;

use super::Run;

/// What the offsets of an array reach.
const OFFSETS_REACH: usize = i32::MAX as usize;

/// Rows of one run that follow one another.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Which of the runs.
    pub run: u32,
    /// The first row.
    pub from: u32,
    /// The row behind the last one.
    pub to: u32,
}

/// Pieces of runs of one schema, one behind the other.
#[derive(Debug)]
pub struct Picked {
    runs: Vec<Arc<Run>>,
    pieces: Vec<Piece>,
    rows: usize,
}

impl Piece {
    /// Rows.
    pub fn len(self) -> usize {
        (self.to - self.from) as usize
    }
}

impl Picked {
    /// These pieces of these runs, of which there is at least one.
    pub fn new(runs: Vec<Arc<Run>>, pieces: Vec<Piece>) -> Self {
        let rows = pieces.iter().map(|piece| piece.len()).sum();
        Picked { runs, pieces, rows }
    }

    /// The table that all runs are of.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.runs[0].schema
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// No stamp in the runs is newer than this clock reading.
    pub fn newest_hlc(&self) -> u64 {
        self.runs.iter().map(|run| run.newest_hlc).max().unwrap_or(0)
    }

    /// What comes to so many bytes in each of the runs.
    pub fn bytes(&self, of: impl Fn(&Run) -> usize) -> usize {
        self.runs.iter().map(|run| of(run)).sum()
    }

    /// A column whose offsets may not reach all that is picked: made now, if they do.
    pub fn checked<A: Array + Clone + 'static>(
        &self,
        bytes: usize,
        part: impl Fn(&Run) -> &A,
    ) -> Result<Option<A>> {
        if bytes <= OFFSETS_REACH {
            return Ok(None);
        }
        let array = self.copied(&self.parts(part)).map_err(|e| {
            Error::BadRequest(format!("rows of table {:?} at once: {e}", self.schema().name))
        })?;
        Ok(array.as_any().downcast_ref::<A>().cloned())
    }

    /// A column of the rows.
    pub fn array(&self, part: impl Fn(&Run) -> &ArrayRef) -> ArrayRef {
        self.copied(&self.parts(part)).expect("what offsets do not reach was made before")
    }

    /// A column beside the table's.
    pub fn hidden<A: Array + Clone + 'static>(&self, part: impl Fn(&Run) -> &A) -> A {
        let array = self.copied(&self.parts(part));
        let array = array.expect("what offsets do not reach was made before");
        array.as_any().downcast_ref::<A>().expect("a copy has the type of what it is of").clone()
    }

    /// The same column of all runs.
    fn parts<'a, A: Array + 'static>(
        &'a self,
        part: impl Fn(&'a Run) -> &'a A,
    ) -> Vec<&'a dyn Array> {
        self.runs.iter().map(|run| part(run) as &dyn Array).collect()
    }

    fn copied(&self, parts: &[&dyn Array]) -> Result<ArrayRef, ArrowError> {
        Ok(match parts[0].data_type() {
            DataType::Int64 => Arc::new(self.values::<Int64Type>(parts)),
            DataType::UInt64 => Arc::new(self.values::<UInt64Type>(parts)),
            DataType::Float64 => Arc::new(self.values::<Float64Type>(parts)),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let times = self.values::<TimestampMicrosecondType>(parts);
                Arc::new(times.with_timezone_opt(zone.clone()))
            }
            DataType::Boolean if parts.iter().all(|part| is_false(*part)) => {
                Arc::new(BooleanArray::new(BooleanBuffer::new_unset(self.rows), None))
            }
            _ => return self.extended(parts),
        })
    }

    fn values<T: ArrowPrimitiveType>(&self, parts: &[&dyn Array]) -> PrimitiveArray<T> {
        let values: Vec<&[T::Native]> =
            parts.iter().map(|part| &**part.as_primitive::<T>().values()).collect();
        let mut copy: Vec<T::Native> = Vec::with_capacity(self.rows);
        for Piece { run, from, to } in &self.pieces {
            let piece = &values[*run as usize][*from as usize..*to as usize];
            match piece {
                // Most pieces are a single row that was changed: no call for eight bytes.
                [one] => copy.push(*one),
                several => copy.extend_from_slice(several),
            }
        }
        PrimitiveArray::new(ScalarBuffer::from(copy), self.nulls(parts))
    }

    fn nulls(&self, parts: &[&dyn Array]) -> Option<NullBuffer> {
        let nulls: Vec<Option<&NullBuffer>> =
            parts.iter().map(|part| part.nulls().filter(|nulls| nulls.null_count() > 0)).collect();
        if nulls.iter().all(Option::is_none) {
            return None;
        }
        let mut valid = BooleanBufferBuilder::new(self.rows);
        for Piece { run, from, to } in &self.pieces {
            match nulls[*run as usize] {
                Some(nulls) => {
                    let bits = nulls.inner();
                    let (from, to) = (*from as usize, *to as usize);
                    let at = bits.offset();
                    valid.append_packed_range(at + from..at + to, bits.values());
                }
                None => valid.append_n((to - from) as usize, true),
            }
        }
        Some(NullBuffer::new(valid.finish()))
    }

    fn extended(&self, parts: &[&dyn Array]) -> Result<ArrayRef, ArrowError> {
        let data: Vec<ArrayData> = parts.iter().map(|part| part.to_data()).collect();
        let capacities = match parts[0].data_type() {
            DataType::Utf8 | DataType::Binary => {
                Capacities::Binary(self.rows, Some(self.share_of(&data)))
            }
            _ => Capacities::Array(self.rows),
        };
        let mut copy = MutableArrayData::with_capacities(data.iter().collect(), false, capacities);
        for Piece { run, from, to } in &self.pieces {
            copy.try_extend(*run as usize, *from as usize, *to as usize)?;
        }
        Ok(make_array(copy.freeze()))
    }

    /// About how many bytes the picked texts have.
    fn share_of(&self, data: &[ArrayData]) -> usize {
        let bytes = data.iter().filter_map(|data| {
            let offsets = data.buffers().first()?.typed_data::<i32>();
            let ends = offsets.get(data.offset()..=data.offset() + data.len())?;
            Some((ends.last()? - ends.first()?) as usize)
        });
        let rows = data.iter().map(ArrayData::len).sum::<usize>().max(1);
        (bytes.sum::<usize>() as f64 * (self.rows as f64 / rows as f64)) as usize
    }
}

/// True if there is neither true nor null among these, as with most tables' deleted rows.
fn is_false(part: &dyn Array) -> bool {
    part.null_count() == 0 && part.as_boolean().true_count() == 0
}
