//! Columns as Arrow arrays: their types, their values, and how they are built.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder,
    Float64Builder, Int64Builder, ListArray, StringArray, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};

use crate::error::{Error, Result};
use crate::key;
use crate::row::Cell;
use crate::schema::Schema;
use crate::spec::{ColumnKind, ColumnSpec, Merge, TableSpec};
use crate::value::Value;

use super::pack::Plain;

/// Metadata of a field whose type alone does not tell the column's kind.
const KIND: &str = "edgescale.kind";
const JSON: &str = "json";

/// The Arrow field of a column.
pub fn field(spec: &TableSpec, column: &ColumnSpec) -> Field {
    let field = Field::new(&column.name, data_type(column), !spec.is_key(&column.name));
    match column.kind {
        ColumnKind::Json => field.with_metadata([(KIND.into(), JSON.into())].into()),
        _ => field,
    }
}

/// True if a field holds JSON documents as text.
pub fn is_json(field: &Field) -> bool {
    field.metadata().get(KIND).is_some_and(|kind| kind == JSON)
}

/// The Arrow type of a column in memory. Numbers of 32 bits have 64 there, so that widening a
/// column changes no array.
pub fn data_type(column: &ColumnSpec) -> DataType {
    match column.merge {
        Merge::Set => DataType::List(Arc::new(element_field(column.kind))),
        _ => element_type(column.kind),
    }
}

/// The array as files have it: of 32 bits where the column is, and all values fit.
pub fn narrowed(column: &ColumnSpec, array: &ArrayRef) -> ArrayRef {
    let narrow = match (column.kind, column.merge) {
        (_, Merge::Set) => return array.clone(),
        (ColumnKind::Int32, _) => DataType::Int32,
        (ColumnKind::Float32, _) => DataType::Float32,
        _ => return array.clone(),
    };
    // Wider values come from sites where the column was widened before it was here.
    let there = cast(array, &narrow);
    let back = there.as_ref().ok().and_then(|there| cast(there, array.data_type()).ok());
    match (there, back) {
        (Ok(there), Some(back)) if back.as_ref() == array.as_ref() => there,
        _ => array.clone(),
    }
}

/// The array of a file as memory has it; none if it is of another type.
pub fn widened(column: &ColumnSpec, array: &ArrayRef) -> Option<ArrayRef> {
    let wanted = data_type(column);
    match array.data_type() {
        found if *found == wanted => Some(array.clone()),
        DataType::Int32 if wanted == DataType::Int64 => cast(array, &wanted).ok(),
        DataType::Float32 if wanted == DataType::Float64 => cast(array, &wanted).ok(),
        _ => None,
    }
}

/// True if the values of a column lie one behind the other in one buffer, or are lists.
pub fn has_offsets(column: &ColumnSpec) -> bool {
    matches!(element_type(column.kind), DataType::Utf8 | DataType::Binary)
        || column.merge == Merge::Set
}

fn element_field(kind: ColumnKind) -> Field {
    Field::new("item", element_type(kind), true)
}

fn element_type(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Int64 | ColumnKind::Int32 => DataType::Int64,
        ColumnKind::Float64 | ColumnKind::Float32 => DataType::Float64,
        ColumnKind::Utf8 | ColumnKind::Json => DataType::Utf8,
        ColumnKind::Bool => DataType::Boolean,
        ColumnKind::Binary => DataType::Binary,
        ColumnKind::TimestampUs => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// The values of a column whose type has been checked, looked up once for many rows.
pub struct Values<'a> {
    nulls: Option<&'a NullBuffer>,
    of: Of<'a>,
}

enum Of<'a> {
    Int(&'a [i64]),
    Float(&'a [f64]),
    Bool(&'a BooleanArray),
    Text(&'a StringArray),
    Json(&'a StringArray),
    Bytes(&'a BinaryArray),
    Time(&'a [i64]),
    Set(&'a ListArray, ColumnKind),
}

impl<'a> Values<'a> {
    /// The values of an array of that column.
    pub fn of(column: &ColumnSpec, array: &'a ArrayRef) -> Self {
        match column.merge {
            Merge::Set => {
                Values { nulls: array.nulls(), of: Of::Set(array.as_list(), column.kind) }
            }
            _ => Values::of_kind(column.kind, array),
        }
    }

    fn of_kind(kind: ColumnKind, array: &'a ArrayRef) -> Self {
        let of = match kind {
            ColumnKind::Int64 | ColumnKind::Int32 => {
                Of::Int(array.as_primitive::<Int64Type>().values())
            }
            ColumnKind::Float64 | ColumnKind::Float32 => {
                Of::Float(array.as_primitive::<Float64Type>().values())
            }
            ColumnKind::Bool => Of::Bool(array.as_boolean()),
            ColumnKind::Utf8 => Of::Text(array.as_string()),
            ColumnKind::Json => Of::Json(array.as_string()),
            ColumnKind::Binary => Of::Bytes(array.as_binary()),
            ColumnKind::TimestampUs => {
                Of::Time(array.as_primitive::<TimestampMicrosecondType>().values())
            }
        };
        Values { nulls: array.nulls(), of }
    }

    /// One of them.
    pub fn at(&self, i: usize) -> Value {
        if self.nulls.is_some_and(|nulls| nulls.is_null(i)) {
            return Value::Null;
        }
        match &self.of {
            Of::Int(ints) => Value::Int(ints[i]),
            Of::Float(floats) => Value::Float(floats[i]),
            Of::Bool(bools) => Value::Bool(bools.value(i)),
            Of::Text(texts) => Value::Text(texts.value(i).into()),
            Of::Json(texts) => Value::Json(texts.value(i).into()),
            Of::Bytes(bytes) => Value::Bytes(bytes.value(i).into()),
            Of::Time(times) => Value::Time(times[i]),
            Of::Set(lists, kind) => {
                let items = lists.value(i);
                let values = Values::of_kind(*kind, &items);
                Value::List((0..items.len()).map(|i| values.at(i)).collect())
            }
        }
    }
}

impl<'a> Values<'a> {
    /// One of them where it lies; none of a set.
    pub fn plain_at(&self, i: usize) -> Option<Plain<'a>> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(i)) {
            return Some(Plain::Null);
        }
        Some(match &self.of {
            Of::Int(ints) => Plain::Int(ints[i]),
            Of::Float(floats) => Plain::Float(floats[i]),
            Of::Bool(bools) => Plain::Bool(bools.value(i)),
            Of::Text(texts) => Plain::Text(texts.value(i).as_bytes()),
            Of::Json(texts) => Plain::Json(texts.value(i).as_bytes()),
            Of::Bytes(bytes) => Plain::Bytes(bytes.value(i)),
            Of::Time(times) => Plain::Time(times[i]),
            Of::Set(..) => return None,
        })
    }
}

/// Bytes of the values in `[from, to)`, roughly.
pub fn bytes_between(array: &dyn Array, from: usize, to: usize) -> usize {
    match array.as_list_opt::<i32>() {
        Some(lists) => {
            let ends = lists.value_offsets();
            let items = bytes_between(lists.values(), ends[from] as usize, ends[to] as usize);
            size_of::<i32>() * (to - from) + items
        }
        None => array.slice(from, to - from).to_data().get_slice_memory_size().unwrap_or(0),
    }
}

/// One value of a column whose type has been checked.
pub fn value_at(column: &ColumnSpec, array: &ArrayRef, i: usize) -> Value {
    Values::of(column, array).at(i)
}

/// The encoded keys of rows whose columns have been checked; a null or NaN in a key has none.
pub fn encoded_keys(
    schema: &Schema,
    rows: usize,
    columns: &[Option<ArrayRef>],
) -> Result<BinaryArray> {
    let part = |number: &u16| match &columns[*number as usize] {
        Some(array) => {
            let kind = schema.column_at(*number).kind;
            Ok((kind, Values::of_kind(kind, array)))
        }
        None => Err(Error::BadRequest("a key column is missing".into())),
    };
    let parts = schema.key.iter().map(part).collect::<Result<Vec<_>>>()?;
    if parts.iter().any(|(_, part)| part.nulls.is_some_and(|nulls| nulls.null_count() > 0)) {
        return Err(Error::BadRequest("a key column holds a null".into()));
    }
    if let [(_, Values { of: Of::Int(ints) | Of::Time(ints), .. })] = &parts[..] {
        return keys_of_ints(ints);
    }
    let mut bytes = Vec::with_capacity(rows * 8 * parts.len());
    let mut offsets: Vec<i32> = Vec::with_capacity(rows + 1);
    offsets.push(0);
    for i in 0..rows {
        for (_, part) in &parts {
            match &part.of {
                Of::Int(ints) | Of::Time(ints) => bytes.extend(key::int_bytes(ints[i])),
                Of::Text(texts) => key::escape(texts.value(i).as_bytes(), &mut bytes),
                Of::Bytes(all) => key::escape(all.value(i), &mut bytes),
                _ => key::encode(&part.at(i), &mut bytes)?,
            }
        }
        let end = i32::try_from(bytes.len()).map_err(|_| too_much("keys"))?;
        offsets.push(end);
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(BinaryArray::new(offsets, bytes.into(), None))
}

/// Keys of one whole number each: all of the same length.
fn keys_of_ints(ints: &[i64]) -> Result<BinaryArray> {
    const LEN: usize = size_of::<i64>();
    let mut bytes = vec![0; ints.len() * LEN];
    for (key, int) in bytes.as_chunks_mut::<LEN>().0.iter_mut().zip(ints) {
        *key = key::int_bytes(*int);
    }
    i32::try_from(bytes.len()).map_err(|_| too_much("keys"))?;
    let offsets = OffsetBuffer::from_repeated_length(LEN, ints.len());
    Ok(BinaryArray::new(offsets, bytes.into(), None))
}

fn too_much(what: &str) -> Error {
    Error::BadRequest(format!("a run holds more than 2 GiB of {what}"))
}

/// Builds the array of one column.
pub enum Builder {
    Int(Int64Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Time(TimestampMicrosecondBuilder),
    Set { kind: ColumnKind, items: Box<Builder>, ends: Vec<i32>, valid: Vec<bool>, len: i32 },
}

impl Builder {
    /// A builder for a column, with room for `rows`.
    pub fn new(column: &ColumnSpec, rows: usize) -> Self {
        match column.merge {
            Merge::Set => Builder::Set {
                kind: column.kind,
                items: Box::new(Builder::of_kind(column.kind, rows)),
                ends: vec![0],
                valid: Vec::with_capacity(rows),
                len: 0,
            },
            _ => Builder::of_kind(column.kind, rows),
        }
    }

    fn of_kind(kind: ColumnKind, rows: usize) -> Self {
        match kind {
            ColumnKind::Int64 | ColumnKind::Int32 => {
                Builder::Int(Int64Builder::with_capacity(rows))
            }
            ColumnKind::Float64 | ColumnKind::Float32 => {
                Builder::Float(Float64Builder::with_capacity(rows))
            }
            ColumnKind::Bool => Builder::Bool(BooleanBuilder::with_capacity(rows)),
            ColumnKind::Utf8 | ColumnKind::Json => {
                Builder::Text(StringBuilder::with_capacity(rows, rows * 16))
            }
            ColumnKind::Binary => Builder::Bytes(BinaryBuilder::with_capacity(rows, rows * 16)),
            ColumnKind::TimestampUs => {
                let times = TimestampMicrosecondBuilder::with_capacity(rows);
                Builder::Time(times.with_timezone("UTC"))
            }
        }
    }

    /// Adds a value; one of another kind counts as null.
    pub fn push(&mut self, value: &Value) {
        match (self, value) {
            (Builder::Int(b), Value::Int(i)) => b.append_value(*i),
            (Builder::Int(b), _) => b.append_null(),
            (Builder::Float(b), Value::Float(f)) => b.append_value(*f),
            (Builder::Float(b), _) => b.append_null(),
            (Builder::Bool(b), Value::Bool(v)) => b.append_value(*v),
            (Builder::Bool(b), _) => b.append_null(),
            (Builder::Text(b), Value::Text(s) | Value::Json(s)) => b.append_value(s),
            (Builder::Text(b), _) => b.append_null(),
            (Builder::Bytes(b), Value::Bytes(v)) => b.append_value(v),
            (Builder::Bytes(b), _) => b.append_null(),
            (Builder::Time(b), Value::Time(us)) => b.append_value(*us),
            (Builder::Time(b), _) => b.append_null(),
            (set @ Builder::Set { .. }, Value::List(items)) => set.push_set(items.iter()),
            (Builder::Set { ends, valid, len, .. }, _) => {
                ends.push(*len);
                valid.push(false);
            }
        }
    }

    /// Adds a value that lies elsewhere.
    pub fn push_plain(&mut self, value: Plain<'_>) -> Result<()> {
        match (self, value) {
            (Builder::Int(b), Plain::Int(i)) => b.append_value(i),
            (Builder::Float(b), Plain::Float(f)) => b.append_value(f),
            (Builder::Bool(b), Plain::Bool(v)) => b.append_value(v),
            (Builder::Time(b), Plain::Time(us)) => b.append_value(us),
            (Builder::Bytes(b), Plain::Bytes(v)) => b.append_value(v),
            (Builder::Text(b), Plain::Text(s) | Plain::Json(s)) => {
                let text = std::str::from_utf8(s);
                b.append_value(text.map_err(|e| Error::BadRequest(format!("text: {e}")))?);
            }
            (builder, value) => builder.push(&value.to_value()),
        }
        Ok(())
    }

    /// Takes the value of a key column off the front of an encoded key.
    pub fn push_key(&mut self, kind: ColumnKind, key: &mut &[u8]) -> Result<()> {
        match (&mut *self, kind) {
            (Builder::Text(_), ColumnKind::Utf8) if let Some(text) = key::take_unescaped(key) => {
                self.push_plain(Plain::Text(text))
            }
            _ => {
                self.push(&key::decode(kind, key)?);
                Ok(())
            }
        }
    }

    /// Adds what a reader sees of a cell; of a column without one, what `merge` says.
    pub fn push_cell(&mut self, cell: Option<&Cell>, merge: Merge) {
        match cell {
            Some(Cell::Fresh(v) | Cell::Stamped(_, v) | Cell::Max(_, v) | Cell::Min(_, v)) => {
                self.push(v)
            }
            Some(Cell::Set(elements)) => {
                let present = elements.iter().filter(|(_, (_, present))| *present);
                self.push_set(present.map(|(value, _)| value));
            }
            Some(counter @ Cell::Counter { .. }) => self.push(&counter.value()),
            None if merge == Merge::Counter => self.push(&Value::Int(0)),
            None => self.push(&Value::Null),
        }
    }

    fn push_set<'a>(&mut self, elements: impl Iterator<Item = &'a Value>) {
        let Builder::Set { items, ends, valid, len, .. } = self else { return };
        for element in elements {
            items.push(element);
            *len += 1;
        }
        ends.push(*len);
        valid.push(true);
    }

    /// The array.
    pub fn finish(self) -> ArrayRef {
        match self {
            Builder::Int(mut b) => Arc::new(b.finish()),
            Builder::Float(mut b) => Arc::new(b.finish()),
            Builder::Bool(mut b) => Arc::new(b.finish()),
            Builder::Text(mut b) => Arc::new(b.finish()),
            Builder::Bytes(mut b) => Arc::new(b.finish()),
            Builder::Time(mut b) => Arc::new(b.finish()),
            Builder::Set { kind, items, ends, valid, .. } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
                let field = Arc::new(element_field(kind));
                Arc::new(ListArray::new(
                    field,
                    offsets,
                    items.finish(),
                    Some(NullBuffer::from(valid)),
                ))
            }
        }
    }
}
