//! Rows of files: Parquet as anybody writes it, and JSON lines.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, TimeUnit};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::error::{Error, Result};
use crate::run::column::{is_json, value_at};
use crate::spec::{ColumnKind, ColumnSpec, Merge};
use crate::value::{Names, Row, Value, row_from_json};

/// Rows that are read at a time.
const BATCH_ROWS: usize = 1_000;
/// Bytes of one line of JSON.
const LINE_BYTES_MAX: usize = 1 << 20;

/// The rows of a file, batch by batch. A broken file is an error at the place where it breaks.
pub struct RowFile {
    path: PathBuf,
    rows: Rows,
}

enum Rows {
    Parquet(Box<ParquetRecordBatchReader>),
    Lines { lines: Lines<BufReader<File>>, read: u64 },
}

impl RowFile {
    /// Opens a file: Parquet if it is named `*.parquet`, else JSON lines.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |e| Error::io(path.display().to_string(), e);
        let file = File::open(path).map_err(io)?;
        let rows = if path.extension().is_some_and(|end| end == "parquet") {
            let broken = |e: parquet::errors::ParquetError| refuse(path, e.to_string());
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(broken)?;
            let reader = reader.with_batch_size(BATCH_ROWS).build().map_err(broken)?;
            Rows::Parquet(Box::new(reader))
        } else {
            Rows::Lines { lines: BufReader::new(file).lines(), read: 0 }
        };
        Ok(RowFile { path: path.to_owned(), rows })
    }
}

impl Iterator for RowFile {
    type Item = Result<Vec<Row>>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.rows {
            Rows::Parquet(reader) => {
                let batch = reader.next()?.map_err(|e| refuse(&self.path, e.to_string()));
                Some(batch.and_then(|batch| rows_of(&self.path, &batch)))
            }
            Rows::Lines { lines, read } => {
                let mut rows = Vec::new();
                for line in lines.by_ref() {
                    *read += 1;
                    match row_of_line(line) {
                        Ok(Some(row)) => rows.push(row),
                        Ok(None) => {}
                        Err(text) => {
                            return Some(Err(refuse(&self.path, format!("line {read}: {text}"))));
                        }
                    }
                    if rows.len() == BATCH_ROWS {
                        break;
                    }
                }
                (!rows.is_empty()).then_some(Ok(rows))
            }
        }
    }
}

fn row_of_line(line: std::io::Result<String>) -> Result<Option<Row>, String> {
    let line = line.map_err(|e| e.to_string())?;
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("{} bytes; {LINE_BYTES_MAX} are the most", line.len()));
    }
    if line.trim().is_empty() {
        return Ok(None);
    }
    let json = serde_json::from_str(&line).map_err(|e| e.to_string())?;
    row_from_json(&json).map(Some).map_err(|e| e.to_string())
}

/// The rows of an Arrow batch. Columns that a segment hides are left out.
fn rows_of(path: &Path, batch: &RecordBatch) -> Result<Vec<Row>> {
    let schema = batch.schema();
    let shown = schema.fields().iter().zip(batch.columns());
    let shown = shown.filter(|(field, _)| !field.name().starts_with('_'));
    let mut columns = Vec::new();
    for (field, array) in shown {
        let (column, array) = plain(field, array).map_err(|text| refuse(path, text))?;
        columns.push((column, array, is_json(field)));
    }
    let names: Names = columns.iter().map(|(column, ..)| column.name.as_str()).collect();
    let value = |i| {
        move |(column, array, json): &(ColumnSpec, ArrayRef, bool)| match value_at(column, array, i)
        {
            Value::Text(text) if *json => Value::Json(text),
            value => value,
        }
    };
    let row = |i| Row::of(names.clone(), columns.iter().map(value(i)).collect());
    Ok((0..batch.num_rows()).map(row).collect())
}

/// An Arrow column as one of the store's kinds, where nothing is lost by that.
fn plain(field: &Field, array: &ArrayRef) -> Result<(ColumnSpec, ArrayRef), String> {
    let (element, merge) = match field.data_type() {
        DataType::List(item) | DataType::LargeList(item) => (item.data_type(), Merge::Set),
        other => (other, Merge::Lww),
    };
    let (kind, target) = match element {
        DataType::Dictionary(_, values) if **values == DataType::Utf8 => {
            (ColumnKind::Utf8, DataType::Utf8)
        }
        t if t.is_integer() => (ColumnKind::Int64, DataType::Int64),
        t if t.is_floating() => (ColumnKind::Float64, DataType::Float64),
        DataType::Boolean => (ColumnKind::Bool, DataType::Boolean),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            (ColumnKind::Utf8, DataType::Utf8)
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            (ColumnKind::Binary, DataType::Binary)
        }
        // With a zone or without, the number counts from 1970 UTC.
        DataType::Timestamp(_, zone) => {
            (ColumnKind::TimestampUs, DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
        }
        DataType::Date32 | DataType::Date64 => {
            (ColumnKind::TimestampUs, DataType::Timestamp(TimeUnit::Microsecond, None))
        }
        other => {
            return Err(format!(
                "column {:?} is of type {other}, which no table has; cast it to an integer, a \
                 float, text, bytes, a boolean or a time first",
                field.name()
            ));
        }
    };
    let target = match merge {
        Merge::Set => DataType::List(Arc::new(Field::new("item", target, true))),
        _ => target,
    };
    // Not safe means: a value that does not fit is an error, and not a null.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let array = cast_with_options(array, &target, &options)
        .map_err(|e| format!("column {:?}: {e}", field.name()))?;
    let name = field.name().clone();
    Ok((ColumnSpec { name, kind, merge, nullable: true }, array))
}

fn refuse(path: &Path, text: String) -> Error {
    Error::BadRequest(format!("{}: {text}", path.display()))
}

#[cfg(test)]
mod tests;
