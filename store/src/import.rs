//! Rows of files: Parquet and Arrow IPC as anybody writes them, CSV, and JSON lines.

mod stream;

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::error::ArrowError;
use arrow::ipc;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use crate::csv;
use crate::error::{Error, Result};
use crate::ipc::check_lengths;
use crate::run::column::{Values, is_json};
use crate::spec::{ColumnKind, ColumnSpec, Merge, TableSpec};
use crate::value::{Names, Row, Value, row_from_json};

pub use stream::{RowStream, row_streams};

/// Rows that are handed on at a time.
const BATCH_ROWS: usize = 1_000;
/// Bytes of one line of JSON.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Bytes of the footer of an Arrow file, and of one batch in it.
const BLOCK_BYTES_MAX: u64 = 1 << 31;

/// What a file of rows is, by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// `*.parquet`
    Parquet,
    /// `*.arrow`, `*.feather`, `*.ipc`: the Arrow IPC file format.
    Arrow,
    /// `*.csv`
    Csv,
    /// Anything else: one JSON object per line.
    JsonLines,
}

impl FileFormat {
    /// The format of a file of this name.
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|end| end.to_str()) {
            Some("parquet") => FileFormat::Parquet,
            Some("arrow" | "feather" | "ipc") => FileFormat::Arrow,
            Some("csv") => FileFormat::Csv,
            _ => FileFormat::JsonLines,
        }
    }
}

/// The rows of a file, batch by batch. A broken file is an error at the place where it breaks.
pub struct RowFile {
    path: PathBuf,
    rows: Rows,
    done: Arc<AtomicU64>,
    total: u64,
}

enum Rows {
    Batches { batches: Batches, pending: Option<RecordBatch> },
    Csv { records: csv::Records<BufReader<Counted>>, columns: Vec<ColumnSpec> },
    Lines { lines: Lines<BufReader<Counted>>, read: u64 },
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

impl RowFile {
    /// Opens a file of rows for a table; its name says what it is.
    pub fn open(path: &Path, spec: &TableSpec) -> Result<Self> {
        let io = |e| Error::io(path.display().to_string(), e);
        let file = File::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let done = Arc::new(AtomicU64::new(0));
        let counted = |file| BufReader::new(Counted { file, done: done.clone() });
        let (rows, total) = match FileFormat::of(path) {
            FileFormat::Parquet => {
                let broken = |e: ParquetError| refuse(path, e.to_string());
                let opened = guarded(ParquetError::General, || {
                    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
                    let total = reader.metadata().file_metadata().num_rows().max(0) as u64;
                    Ok((reader.with_batch_size(BATCH_ROWS).build()?, total))
                });
                let (reader, total) = opened.map_err(broken)?;
                (Rows::Batches { batches: Box::new(reader), pending: None }, total)
            }
            FileFormat::Arrow => {
                let arrow = guarded(ArrowError::IpcError, || ArrowFile::open(file, bytes));
                let arrow = arrow.map_err(|e| refuse(path, e.to_string()))?;
                // How many rows the batches have is known when they are read.
                let total = arrow.blocks.len() as u64;
                (Rows::Batches { batches: Box::new(arrow), pending: None }, total)
            }
            FileFormat::Csv => {
                let mut records = csv::Records::new(counted(file));
                let columns = match records.next() {
                    Some(record) => record
                        .and_then(|(line, names)| {
                            let columns = csv::heading(spec, &names);
                            columns.map_err(|reason| format!("line {line}: {reason}"))
                        })
                        .map_err(|reason| refuse(path, reason))?,
                    None => return Err(refuse(path, "line 1: no heading".into())),
                };
                let columns = columns.into_iter().cloned().collect();
                (Rows::Csv { records, columns }, bytes)
            }
            FileFormat::JsonLines => (Rows::Lines { lines: counted(file).lines(), read: 0 }, bytes),
        };
        Ok(RowFile { path: path.to_owned(), rows, done, total })
    }

    /// How far reading has got, and where it ends, in a measure of the format's own.
    pub fn progress(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed).min(self.total), self.total)
    }

    /// Rows of the next part of a batch.
    fn part(&mut self) -> Option<Result<Vec<Row>>> {
        let Rows::Batches { batches, pending } = &mut self.rows else { return None };
        let batch = match pending.take() {
            Some(batch) => batch,
            None => match guarded(ArrowError::IpcError, || batches.next().transpose()) {
                Ok(batch) => batch?,
                Err(e) => return Some(Err(refuse(&self.path, e.to_string()))),
            },
        };
        let now = batch.num_rows().min(BATCH_ROWS);
        let left = batch.slice(now, batch.num_rows() - now);
        let is_parquet = FileFormat::of(&self.path) == FileFormat::Parquet;
        let is_last = left.num_rows() == 0;
        let step = if is_parquet { now as u64 } else { u64::from(is_last) };
        self.done.fetch_add(step, Ordering::Relaxed);
        *pending = (!is_last).then_some(left);
        Some(rows_of(&batch.slice(0, now)).map_err(|text| refuse(&self.path, text)))
    }
}

impl Iterator for RowFile {
    type Item = Result<Vec<Row>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rows = Vec::new();
        let failed = |path: &Path, reason| Some(Err(refuse(path, reason)));
        match &mut self.rows {
            Rows::Batches { .. } => return self.part(),
            Rows::Csv { records, columns } => {
                let names: Names = columns.iter().map(|column| column.name.as_str()).collect();
                while rows.len() < BATCH_ROWS {
                    match records.next().map(|r| r.and_then(|r| row_of_record(columns, &names, r)))
                    {
                        Some(Ok(row)) => rows.push(row),
                        Some(Err(reason)) => return failed(&self.path, reason),
                        None => break,
                    }
                }
            }
            Rows::Lines { lines, read } => {
                for line in lines.by_ref() {
                    *read += 1;
                    match row_of_line(line) {
                        Ok(Some(row)) => rows.push(row),
                        Ok(None) => {}
                        Err(text) => return failed(&self.path, format!("line {read}: {text}")),
                    }
                    if rows.len() == BATCH_ROWS {
                        break;
                    }
                }
            }
        }
        (!rows.is_empty()).then_some(Ok(rows))
    }
}

/// A file that says how much of it has been read.
struct Counted {
    file: File,
    done: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(into)?;
        self.done.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// An Arrow IPC file. The lengths in it are checked against the file before anything is read.
struct ArrowFile {
    file: File,
    bytes: u64,
    decoder: FileDecoder,
    blocks: std::vec::IntoIter<ipc::Block>,
}

impl ArrowFile {
    fn open(mut file: File, bytes: u64) -> Result<Self, ArrowError> {
        const TAIL_BYTES: usize = 10;
        let broken = |text: &str| ArrowError::IpcError(text.into());
        let tail = read_at(&mut file, bytes, bytes.saturating_sub(TAIL_BYTES as u64), 10)?;
        let tail: [u8; TAIL_BYTES] =
            (*tail).try_into().map_err(|_| broken("the file has no footer"))?;
        let footer_bytes = read_footer_length(tail).map_err(|_| {
            broken("this is no Arrow IPC file; streams have to be written as files first")
        })? as u64;
        let from = bytes.checked_sub(footer_bytes + TAIL_BYTES as u64);
        let from = from.ok_or_else(|| broken("the footer is larger than the file"))?;
        let footer = read_at(&mut file, bytes, from, footer_bytes)?;
        let footer = ipc::root_as_footer(&footer).map_err(|e| broken(&e.to_string()))?;
        let schema = footer.schema().ok_or_else(|| broken("the footer has no schema"))?;
        let schema = Arc::new(fb_to_schema(schema));
        let mut decoder = FileDecoder::new(schema, footer.version());
        for block in footer.dictionaries().iter().flatten() {
            decoder.read_dictionary(block, &read_block(&mut file, bytes, block)?)?;
        }
        let blocks: Vec<ipc::Block> = footer.recordBatches().iter().flatten().copied().collect();
        Ok(ArrowFile { file, bytes, decoder, blocks: blocks.into_iter() })
    }
}

impl Iterator for ArrowFile {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let block = self.blocks.next()?;
        let bytes = read_block(&mut self.file, self.bytes, &block);
        let decode = |bytes| self.decoder.read_record_batch(&block, &bytes);
        bytes.and_then(decode).transpose()
    }
}

/// Arrow's own decoder panics at some of what it finds in damaged files, and Parquet files hold a
/// schema for it.
pub(crate) fn guarded<T, E>(
    damage: fn(String) -> E,
    decode: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let decoded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode));
    decoded.unwrap_or_else(|_| Err(damage("the file is damaged".into())))
}

fn read_block(file: &mut File, bytes: u64, block: &ipc::Block) -> Result<Buffer, ArrowError> {
    let lengths = [i64::from(block.metaDataLength()), block.bodyLength(), block.offset()];
    let [meta, body, offset] = lengths.map(|length| u64::try_from(length).unwrap_or(u64::MAX));
    let read = read_at(file, bytes, offset, meta.saturating_add(body))?;
    check_lengths(&read, BLOCK_BYTES_MAX)?;
    Ok(read)
}

fn read_at(file: &mut File, bytes: u64, from: u64, length: u64) -> Result<Buffer, ArrowError> {
    let is_within = from.checked_add(length).is_some_and(|end| end <= bytes);
    if !is_within || length > BLOCK_BYTES_MAX {
        let text = format!("{length} bytes from byte {from} on are more than there are");
        return Err(ArrowError::IpcError(text));
    }
    let mut read = vec![0; length as usize];
    file.seek(SeekFrom::Start(from)).and_then(|_| file.read_exact(&mut read))?;
    Ok(Buffer::from_vec(read))
}

fn row_of_record(
    columns: &[ColumnSpec],
    names: &Names,
    (line, fields): (u64, Vec<csv::Field>),
) -> Result<Row, String> {
    if fields.len() != columns.len() {
        let (found, wanted) = (fields.len(), columns.len());
        return Err(format!("line {line}: {found} fields, and the heading has {wanted}"));
    }
    let values = columns.iter().zip(&fields).map(|(column, field)| csv::value(column, field));
    let values = values.collect::<Result<Vec<_>>>().map_err(|e| format!("line {line}: {e}"))?;
    Ok(Row::of(names.clone(), values))
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
pub(crate) fn rows_of(batch: &RecordBatch) -> Result<Vec<Row>, String> {
    let schema = batch.schema();
    let shown = schema.fields().iter().zip(batch.columns());
    let shown = shown.filter(|(field, _)| !field.name().starts_with('_'));
    let mut columns = Vec::new();
    for (field, array) in shown {
        let (column, array) = plain(field, array)?;
        columns.push((column, array, is_json(field)));
    }
    let names: Names = columns.iter().map(|(column, ..)| column.name.as_str()).collect();
    let values = columns.iter().map(|(column, array, json)| (Values::of(column, array), *json));
    let values: Vec<(Values<'_>, bool)> = values.collect();
    let value = |i| {
        move |(column, is_json): &(Values<'_>, bool)| match column.at(i) {
            Value::Text(text) if *is_json => Value::Json(text),
            value => value,
        }
    };
    let row = |i| Row::of(names.clone(), values.iter().map(value(i)).collect());
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
