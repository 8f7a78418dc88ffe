//! Rows of clients as Arrow IPC streams (`application/vnd.apache.arrow.stream`). What else there is
//! to say stands in the metadata of a stream's schema, as text.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use serde_json::Value as Json;

use crate::engine::CALL_ROWS_MAX;
use crate::error::{Error, Result};
use crate::import::{guarded, rows_of};
use crate::ipc::check_lengths;
use crate::run::column::{Builder, field};
use crate::spec::{ColumnSpec, TableSpec};
use crate::value::{Row, Value};

/// Values of one request: a few bytes can say many, and each becomes one in memory.
const VALUES_MAX: usize = 1 << 20;
/// Bytes that the compressed values of one request may take.
const HOLDS_BYTES_MAX: u64 = 64 << 20;

/// What the metadata of a schema may say of its rows; anything else there is of other programs.
const SAID: [&str; 2] = ["table", "level"];

/// Names and values of a schema's metadata.
pub type Said = Vec<(String, String)>;

/// True of the beginning of a stream, which no JSON has.
pub fn is_stream(payload: &[u8]) -> bool {
    payload.starts_with(&[0xff; 4])
}

/// What the schema's metadata says of the rows of a request, and the rows.
pub fn read(op: &str, payload: &Bytes) -> Result<(Said, Vec<Row>)> {
    let wrong = |text: &dyn std::fmt::Display| Error::BadRequest(format!("{op}: {text}"));
    let decoded = guarded(ArrowError::IpcError, || decode(payload));
    let (schema, batches) = decoded.map_err(|e| wrong(&e))?;
    let mut rows = Vec::new();
    for batch in &batches {
        rows.extend(rows_of(batch).map_err(|text| wrong(&text))?);
    }
    let said = schema.metadata.into_iter().filter(|(name, _)| SAID.contains(&name.as_str()));
    Ok((said.collect(), rows))
}

/// All batches; the numbers of rows and values are within their limits.
fn decode(payload: &Bytes) -> Result<(ArrowSchema, Vec<RecordBatch>), ArrowError> {
    let broken = |text: String| Err(ArrowError::IpcError(text));
    check_lengths(payload, HOLDS_BYTES_MAX)?;
    let mut decoder = StreamDecoder::new();
    let mut buffer = Buffer::from(payload.clone());
    let (mut batches, mut rows, mut values) = (Vec::new(), 0, 0);
    while !buffer.is_empty() {
        let Some(batch) = decoder.decode(&mut buffer)? else { continue };
        if let Some(field) = batch.schema().fields().iter().find(|f| !is_spelt_out(f.data_type())) {
            let (name, kind) = (field.name(), field.data_type());
            return broken(format!("column {name:?} is of type {kind}; write its values out"));
        }
        rows += batch.num_rows();
        values += batch.columns().iter().map(values_in).sum::<usize>();
        if rows > CALL_ROWS_MAX || values > VALUES_MAX {
            return broken(format!(
                "more than {CALL_ROWS_MAX} rows or {VALUES_MAX} values; send several requests"
            ));
        }
        batches.push(batch);
    }
    decoder.finish()?;
    match decoder.schema() {
        Some(schema) => Ok((schema.as_ref().clone(), batches)),
        None => broken("the stream has no schema".into()),
    }
}

/// True if a few bytes cannot stand for many long values.
fn is_spelt_out(kind: &DataType) -> bool {
    match kind {
        DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 => true,
        DataType::Binary | DataType::LargeBinary | DataType::Timestamp(..) => true,
        DataType::Date32 | DataType::Date64 => true,
        DataType::List(item) => is_spelt_out(item.data_type()) && !item.data_type().is_nested(),
        other => other.is_integer() || other.is_floating(),
    }
}

fn values_in(array: &ArrayRef) -> usize {
    array.len() + array.as_list_opt::<i32>().map_or(0, |list| list.values().len())
}

/// As many of the rows as fit so many bytes, and what `metadata` says of that many.
pub fn write(
    batch: &RecordBatch,
    bytes_max: usize,
    metadata: impl Fn(usize) -> HashMap<String, String>,
) -> Result<Bytes> {
    let failed = |e| Error::io("answer as Arrow", std::io::Error::other(e));
    let share = |rows: usize, bytes: usize| {
        (rows as u64 * bytes_max as u64 * 9 / 10 / bytes.max(1) as u64) as usize
    };
    // What is far too much is not even tried.
    let held = bytes_of(batch)?;
    let mut rows = match held / 2 > bytes_max {
        true => share(batch.num_rows(), held / 2),
        false => batch.num_rows(),
    };
    loop {
        let bytes = stream(&batch.slice(0, rows), metadata(rows)).map_err(failed)?;
        if bytes.len() <= bytes_max || rows == 0 {
            return Ok(bytes);
        }
        rows = share(rows, bytes.len());
    }
}

/// Bytes that the rows of a batch take.
pub fn bytes_of(batch: &RecordBatch) -> Result<usize> {
    let held = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size());
    let held = held.sum::<Result<usize, _>>();
    held.map_err(|e| Error::io("answer as Arrow", std::io::Error::other(e)))
}

/// All columns of rows that were read, with their fields.
pub fn columns(spec: &TableSpec, rows: &[Row]) -> (Vec<Field>, Vec<ArrayRef>) {
    let column = |column: &ColumnSpec| {
        let mut builder = Builder::new(column, rows.len());
        rows.iter().for_each(|row| builder.push(row.get(&column.name).unwrap_or(&Value::Null)));
        (field(spec, column), builder.finish())
    };
    spec.shown().map(column).unzip()
}

/// Rows that were read.
pub fn of_rows(spec: &TableSpec, rows: &[Row], metadata: HashMap<String, String>) -> Result<Bytes> {
    let (fields, columns) = columns(spec, rows);
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)
        .and_then(|batch| stream(&batch, metadata))
        .map_err(|e| Error::io("answer as Arrow", std::io::Error::other(e)))
}

/// Metadata of a schema: values in JSON.
pub fn metadata<const N: usize>(said: [(&str, Json); N]) -> HashMap<String, String> {
    said.map(|(name, value)| (name.to_owned(), value.to_string())).into()
}

/// All of the rows.
pub fn stream(batch: &RecordBatch, metadata: HashMap<String, String>) -> Result<Bytes, ArrowError> {
    let schema = batch.schema().as_ref().clone().with_metadata(metadata);
    let mut out = StreamWriter::try_new(Vec::new(), &schema)?;
    out.write(batch)?;
    out.finish()?;
    Ok(out.into_inner()?.into())
}

#[cfg(test)]
mod tests;
