//! Segments: immutable sorted runs of rows of one partition, as Parquet.
//!
//! The columns of the table come first, as a reader sees them, so that any Parquet tool can use
//! a segment. Hidden columns follow: `_hlc` and `_origin` (stamp of the newest write), `_seq`
//! (position in this store's history), `_dead` (the row is deleted), and `_state`, the whole
//! encoded row state where the columns and stamp alone do not give it back.

use std::sync::{Arc, Mutex, Weak};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array, ListArray,
    RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
    UInt64Type,
};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::objects::Objects;
use crate::record;
use crate::row::{Cell, RowState, Stamp};
use crate::spec::{ColumnKind, ColumnSpec, Merge, TableSpec};
use crate::value::{Row, Value};

const ROW_GROUP_ROWS: usize = 64 * 1024;
const PAGE_ROWS: usize = 1024;
/// Metadata of a field whose type alone does not tell the column's kind.
const KIND: &str = "edgescale.kind";
const JSON: &str = "json";

/// A row state and the last entry of this store's history that changed it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Versioned {
    /// Last entry that changed the row here.
    pub seq: u64,
    /// What is known of the row.
    pub state: RowState,
}

/// An encoded key and its row.
pub type KeyedRow = (Arc<[u8]>, Arc<Versioned>);

/// A segment as the manifest lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentMeta {
    /// Object name.
    pub name: String,
    /// Rows, deleted ones included.
    pub rows: u64,
    /// Bytes of the object.
    pub bytes: u64,
    /// CRC32C of the object.
    pub crc32c: u32,
    /// Smallest encoded key, hexadecimal.
    pub min_key: String,
    /// Largest encoded key, hexadecimal.
    pub max_key: String,
    /// Largest `_seq`.
    pub max_seq: u64,
}

/// A segment that can be read.
#[derive(Debug)]
pub struct Segment {
    /// As listed.
    pub meta: SegmentMeta,
    min_key: Vec<u8>,
    max_key: Vec<u8>,
    decoded: Mutex<Weak<Decoded>>,
    /// Lets one reader decode while the others wait.
    decoding: tokio::sync::Mutex<()>,
}

/// The rows of a segment, sorted by key.
#[derive(Debug)]
pub struct Decoded {
    /// Rows.
    pub rows: Vec<KeyedRow>,
    /// Bytes in memory, roughly.
    pub weight: usize,
}

impl Segment {
    /// A segment from its listing.
    pub fn listed(meta: SegmentMeta) -> Result<Self> {
        let unhex = |text: &str| {
            unhex(text).ok_or_else(|| Error::corrupt(&meta.name, "key range is not hexadecimal"))
        };
        let (min_key, max_key) = (unhex(&meta.min_key)?, unhex(&meta.max_key)?);
        Ok(Segment {
            meta,
            min_key,
            max_key,
            decoded: Mutex::default(),
            decoding: Default::default(),
        })
    }

    /// True if keys in `[from, to)` may be in the segment; no `to` is no upper end.
    pub fn overlaps(&self, from: &[u8], to: Option<&[u8]>) -> bool {
        *self.max_key >= *from && to.is_none_or(|to| *self.min_key < *to)
    }

    /// The rows, from memory or decoded now; `None` if the object is gone because a merge has
    /// replaced the segment. `fresh` is told of rows that were not in memory.
    pub async fn rows(
        &self,
        spec: &TableSpec,
        objects: &Objects,
        fresh: impl FnOnce(&Arc<Decoded>),
    ) -> Result<Option<Arc<Decoded>>> {
        if let Some(decoded) = self.in_memory() {
            return Ok(Some(decoded));
        }
        let _turn = self.decoding.lock().await;
        if let Some(decoded) = self.in_memory() {
            return Ok(Some(decoded));
        }
        let Some(bytes) = objects.read(&self.meta.name).await? else { return Ok(None) };
        if bytes.len() as u64 != self.meta.bytes || crc32c::crc32c(&bytes) != self.meta.crc32c {
            return Err(Error::corrupt(&self.meta.name, "checksum differs"));
        }
        let (name, spec) = (self.meta.name.clone(), spec.clone());
        let decoding = tokio::task::spawn_blocking(move || decode(&name, &spec, bytes));
        let rows = decoding.await.map_err(|e| Error::corrupt(&self.meta.name, e.to_string()))??;
        let weight = rows.iter().map(|(k, r)| k.len() + r.state.weight() + 64).sum();
        let decoded = Arc::new(Decoded { rows, weight });
        *crate::lock(&self.decoded) = Arc::downgrade(&decoded);
        fresh(&decoded);
        Ok(Some(decoded))
    }

    fn in_memory(&self) -> Option<Arc<Decoded>> {
        crate::lock(&self.decoded).upgrade()
    }
}

impl Decoded {
    /// The rows in `[from, to)`.
    pub fn range(&self, from: &[u8], to: Option<&[u8]>) -> &[KeyedRow] {
        let start = self.rows.partition_point(|(k, _)| **k < *from);
        let end = to.map_or(self.rows.len(), |to| self.rows.partition_point(|(k, _)| **k < *to));
        &self.rows[start..end.max(start)]
    }
}

/// Encodes sorted rows (at least one) as a segment object of that name.
pub fn encode(name: String, spec: &TableSpec, rows: &[KeyedRow]) -> Result<(SegmentMeta, Bytes)> {
    let batch = hidden_batch(spec, rows)?;
    let bytes = to_parquet(&batch).map_err(|e| arrow_error(&name, e))?;
    let meta = SegmentMeta {
        rows: rows.len() as u64,
        bytes: bytes.len() as u64,
        crc32c: crc32c::crc32c(&bytes),
        min_key: rows.first().map(|(k, _)| hex(k)).unwrap_or_default(),
        max_key: rows.last().map(|(k, _)| hex(k)).unwrap_or_default(),
        max_seq: rows.iter().map(|(_, r)| r.seq).max().unwrap_or(0),
        name,
    };
    Ok((meta, bytes))
}

/// Visible rows as an Arrow batch with the named columns.
pub fn visible_batch(
    spec: &TableSpec,
    columns: &[&ColumnSpec],
    rows: &[Row],
) -> Result<RecordBatch> {
    let null = Value::Null;
    let fields: Vec<Field> = columns.iter().map(|c| field(spec, c)).collect();
    let arrays = columns.iter().map(|column| {
        let values: Vec<&Value> =
            rows.iter().map(|row| row.get(&column.name).unwrap_or(&null)).collect();
        column_array(column, &values)
    });
    let arrays = arrays.collect::<Vec<_>>();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .map_err(|e| arrow_error(&spec.name, e))
}

/// A Parquet file of visible rows, written batch by batch.
pub struct ParquetFile {
    writer: ArrowWriter<std::fs::File>,
}

impl ParquetFile {
    /// Begins a file with the columns of a table.
    pub fn begin(file: std::fs::File, spec: &TableSpec) -> std::io::Result<Self> {
        let fields: Vec<Field> = spec.columns.iter().map(|c| field(spec, c)).collect();
        let schema = Arc::new(Schema::new(fields));
        let writer = ArrowWriter::try_new(file, schema, Some(properties()));
        Ok(ParquetFile { writer: writer.map_err(std::io::Error::other)? })
    }

    /// Adds rows.
    pub fn write(&mut self, batch: &RecordBatch) -> std::io::Result<()> {
        self.writer.write(batch).map_err(std::io::Error::other)
    }

    /// Completes and syncs the file.
    pub fn finish(self) -> std::io::Result<()> {
        self.writer.into_inner().map_err(std::io::Error::other)?.sync_all()
    }
}

fn to_parquet(batch: &RecordBatch) -> Result<Bytes, parquet::errors::ParquetError> {
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, batch.schema(), Some(properties()))?;
    writer.write(batch)?;
    writer.close()?;
    Ok(out.into())
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .set_dictionary_enabled(false)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_created_by("edgescale store 1".into())
        .build()
}

fn hidden_batch(spec: &TableSpec, rows: &[KeyedRow]) -> Result<RecordBatch> {
    let visible = rows.iter().map(|(key, row)| visible_row(spec, key, &row.state));
    let visible = visible.collect::<Result<Vec<Row>>>()?;
    let columns: Vec<&ColumnSpec> = spec.columns.iter().collect();
    let shown = visible_batch(spec, &columns, &visible)?;
    let states = rows.iter().map(|(_, row)| &row.state);
    let encoded: Vec<Option<Vec<u8>>> =
        states.clone().map(|s| (!is_plain(spec, s)).then(|| record::encode(s))).collect();
    let hidden: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(states.clone().map(|s| s.written.hlc))),
        Arc::new(UInt64Array::from_iter_values(states.clone().map(|s| s.written.origin))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(_, row)| row.seq))),
        Arc::new(BooleanArray::from_iter(states.clone().map(|s| Some(!s.is_live())))),
        Arc::new(BinaryArray::from_iter(encoded.iter().map(|e| e.as_deref()))),
    ];
    let shown_schema = shown.schema();
    let fields = shown_schema.fields().iter().map(|f| (**f).clone()).chain(hidden_fields());
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let arrays = shown.columns().iter().cloned().chain(hidden).collect();
    RecordBatch::try_new(schema, arrays).map_err(|e| arrow_error(&spec.name, e))
}

fn hidden_fields() -> [Field; 5] {
    [
        Field::new("_hlc", DataType::UInt64, false),
        Field::new("_origin", DataType::UInt64, false),
        Field::new("_seq", DataType::UInt64, false),
        Field::new("_dead", DataType::Boolean, false),
        Field::new("_state", DataType::Binary, true),
    ]
}

/// The row as a reader sees it (also if it is deleted: then all but the key is null).
pub fn visible_row(spec: &TableSpec, key: &[u8], state: &RowState) -> Result<Row> {
    let mut row = spec.key_row(key)?;
    for (number, column) in spec.columns.iter().enumerate() {
        if !spec.is_key(&column.name) {
            row.insert(column.name.clone(), state.value(number as u16, column.merge));
        }
    }
    Ok(row)
}

/// True if the visible columns and the row's stamp say everything.
fn is_plain(spec: &TableSpec, state: &RowState) -> bool {
    state.deleted == Stamp::default()
        && state.cells.len() == spec.columns.len() - spec.key.len()
        && state.cells.iter().all(|(_, cell)| matches!(cell, Cell::Fresh(_)))
}

fn decode(name: &str, spec: &TableSpec, bytes: Bytes) -> Result<Vec<KeyedRow>> {
    let broken = |e: parquet::errors::ParquetError| Error::corrupt(name, e.to_string());
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(broken)?;
    let reader = reader.with_batch_size(ROW_GROUP_ROWS).build().map_err(broken)?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| Error::corrupt(name, e.to_string()))?;
        decode_batch(name, spec, &batch, &mut rows)?;
    }
    Ok(rows)
}

fn decode_batch(
    name: &str,
    spec: &TableSpec,
    batch: &RecordBatch,
    rows: &mut Vec<KeyedRow>,
) -> Result<()> {
    let hidden = |column: &str, kind: &DataType| match batch.column_by_name(column) {
        Some(array) if array.data_type() == kind => Ok(array),
        _ => Err(Error::corrupt(name, format!("column {column} is missing or of another type"))),
    };
    let hlcs = hidden("_hlc", &DataType::UInt64)?.as_primitive::<UInt64Type>();
    let origins = hidden("_origin", &DataType::UInt64)?.as_primitive::<UInt64Type>();
    let seqs = hidden("_seq", &DataType::UInt64)?.as_primitive::<UInt64Type>();
    let states = hidden("_state", &DataType::Binary)?.as_binary::<i32>();
    let columns = present_columns(name, spec, batch)?;
    for i in 0..batch.num_rows() {
        let row = columns.iter().filter(|(_, c, _)| spec.is_key(&c.name));
        let row = row.map(|(_, c, array)| (c.name.clone(), value_at(c, array, i))).collect();
        let state = if states.is_valid(i) {
            record::decode(name, states.value(i))?
        } else {
            let written = Stamp { hlc: hlcs.value(i), origin: origins.value(i) };
            plain_state(spec, written, &columns, i)
        };
        let versioned = Versioned { seq: seqs.value(i), state };
        rows.push((spec.key_of(&row)?.into(), Arc::new(versioned)));
    }
    Ok(())
}

type Present<'a> = Vec<(u16, &'a ColumnSpec, &'a ArrayRef)>;

/// The table's columns that the file has: it may be older than some of them.
fn present_columns<'a>(
    name: &str,
    spec: &'a TableSpec,
    batch: &'a RecordBatch,
) -> Result<Present<'a>> {
    let mut present = Vec::new();
    for (number, column) in spec.columns.iter().enumerate() {
        let Some(array) = batch.column_by_name(&column.name) else { continue };
        if *array.data_type() != data_type(column) {
            let reason = format!("column {:?} is of another type", column.name);
            return Err(Error::corrupt(name, reason));
        }
        present.push((number as u16, column, array));
    }
    Ok(present)
}

fn plain_state(spec: &TableSpec, written: Stamp, columns: &Present<'_>, i: usize) -> RowState {
    let values = columns.iter().filter(|(_, c, _)| !spec.is_key(&c.name));
    let cells = values.map(|(number, c, array)| (*number, Cell::Fresh(value_at(c, array, i))));
    RowState { written, deleted: Stamp::default(), cells: cells.collect() }
}

fn field(spec: &TableSpec, column: &ColumnSpec) -> Field {
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

fn data_type(column: &ColumnSpec) -> DataType {
    match column.merge {
        Merge::Set => DataType::List(Arc::new(element_field(column.kind))),
        _ => element_type(column.kind),
    }
}

fn element_field(kind: ColumnKind) -> Field {
    Field::new("item", element_type(kind), true)
}

fn element_type(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Int64 => DataType::Int64,
        ColumnKind::Float64 => DataType::Float64,
        ColumnKind::Utf8 | ColumnKind::Json => DataType::Utf8,
        ColumnKind::Bool => DataType::Boolean,
        ColumnKind::Binary => DataType::Binary,
        ColumnKind::TimestampUs => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

fn column_array(column: &ColumnSpec, values: &[&Value]) -> ArrayRef {
    if column.merge != Merge::Set {
        return plain_array(column.kind, values);
    }
    let elements = |v: &'_ Value| match v {
        Value::List(items) => items.len(),
        _ => 0,
    };
    let offsets = OffsetBuffer::from_lengths(values.iter().map(|v| elements(v)));
    let flat: Vec<&Value> = values
        .iter()
        .flat_map(|v| match v {
            Value::List(items) => items.as_slice(),
            _ => &[],
        })
        .collect();
    let items = plain_array(column.kind, &flat);
    Arc::new(ListArray::new(Arc::new(element_field(column.kind)), offsets, items, None))
}

fn plain_array(kind: ColumnKind, values: &[&Value]) -> ArrayRef {
    macro_rules! collect {
        ($array:ty, $pattern:pat => $out:expr) => {
            <$array>::from_iter(values.iter().map(|v| match v {
                $pattern => Some($out),
                _ => None,
            }))
        };
    }
    match kind {
        ColumnKind::Int64 => Arc::new(collect!(Int64Array, Value::Int(i) => *i)),
        ColumnKind::Float64 => Arc::new(collect!(Float64Array, Value::Float(f) => *f)),
        ColumnKind::Bool => Arc::new(collect!(BooleanArray, Value::Bool(b) => *b)),
        ColumnKind::Utf8 => Arc::new(collect!(StringArray, Value::Text(s) => s.as_str())),
        ColumnKind::Json => Arc::new(collect!(StringArray, Value::Json(s) => s.as_str())),
        ColumnKind::Binary => Arc::new(collect!(BinaryArray, Value::Bytes(b) => b.as_slice())),
        ColumnKind::TimestampUs => {
            let times = collect!(TimestampMicrosecondArray, Value::Time(us) => *us);
            Arc::new(times.with_timezone("UTC"))
        }
    }
}

/// The value of a column whose type has been checked.
pub fn value_at(column: &ColumnSpec, array: &ArrayRef, i: usize) -> Value {
    if array.is_null(i) {
        return Value::Null;
    }
    if column.merge == Merge::Set {
        let items = array.as_list::<i32>().value(i);
        let plain = ColumnSpec { merge: Merge::Lww, ..column.clone() };
        return Value::List((0..items.len()).map(|i| value_at(&plain, &items, i)).collect());
    }
    match column.kind {
        ColumnKind::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(i)),
        ColumnKind::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(i)),
        ColumnKind::Bool => Value::Bool(array.as_boolean().value(i)),
        ColumnKind::Utf8 => Value::Text(array.as_string::<i32>().value(i).into()),
        ColumnKind::Json => Value::Json(array.as_string::<i32>().value(i).into()),
        ColumnKind::Binary => Value::Bytes(array.as_binary::<i32>().value(i).into()),
        ColumnKind::TimestampUs => {
            Value::Time(array.as_primitive::<TimestampMicrosecondType>().value(i))
        }
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes of lower-case hexadecimal text.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

fn arrow_error(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::io(what, std::io::Error::other(error))
}

#[cfg(test)]
mod tests;
