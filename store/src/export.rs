//! Tables to files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::FileWriter;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::csv;
use crate::error::{Error, Result};
use crate::import::{FileFormat, guarded};
use crate::ipc::check_lengths;
use crate::run::column::Values;
use crate::scan::{Coverage, Scan, key_at};
use crate::segment::{self, ParquetFile};
use crate::spec::TableSpec;
use crate::value::{Names, Row, row_to_json};
use crate::{EdgeStore, ReadOptions};

/// Rows read at a time for an export.
const EXPORT_ROWS: usize = 50_000;
/// Bytes that the compressed values of one answer may take.
const HOLDS_BYTES_MAX: u64 = 64 << 20;

impl EdgeStore {
    /// Writes the visible rows of a table to a file; returns their number. They are read in pages:
    /// each is the table at one moment, and a row is in the file once at most.
    pub async fn export(&self, table: &str, path: &Path, format: FileFormat) -> Result<u64> {
        self.know(table).await?;
        let schema = self.inner.engine.read().table(table)?.schema.clone();
        let mut out = TableFile::begin_as(path, &schema, format)?;
        let mut scan =
            Scan { limit: Some(EXPORT_ROWS), columns: Some(out.columns()), ..Scan::default() };
        loop {
            let options = ReadOptions::default();
            let (batch, _, truncated) = self.scan_arrow_with(table, scan.clone(), options).await?;
            out.write(&batch)?;
            if !truncated || batch.num_rows() == 0 {
                return out.finish();
            }
            scan.after = key_at(&schema, &batch, batch.num_rows() - 1);
        }
    }
}

/// A file that takes the rows of a table, page by page. It has its name when it is complete.
pub struct TableFile {
    path: PathBuf,
    side: Side,
    spec: TableSpec,
    writer: Writer,
    rows: u64,
}

/// What the answer to a scan, as an Arrow IPC stream, said of its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// How many there were.
    pub rows: usize,
    /// `after` of the scan that goes on, if there is more.
    pub next: Option<Json>,
    /// False if the site could not ask all who may have rows.
    pub complete: bool,
    batches: Vec<RecordBatch>,
}

impl TableFile {
    /// Begins a file; its name says what it is.
    pub fn begin(path: &Path, spec: &TableSpec) -> Result<Self> {
        TableFile::begin_as(path, spec, FileFormat::of(path))
    }

    fn begin_as(path: &Path, spec: &TableSpec, format: FileFormat) -> Result<Self> {
        let io = |e: io::Error| Error::io(path.display().to_string(), e);
        let mut side = path.as_os_str().to_owned();
        side.push(".unfinished");
        let side = Side(side.into());
        let file = File::create(&side.0).map_err(io)?;
        let writer = Writer::begin(file, spec, format).map_err(io)?;
        Ok(TableFile { path: path.to_owned(), side, spec: spec.clone(), writer, rows: 0 })
    }

    /// The columns that scans have to name, in this order.
    pub fn columns(&self) -> Vec<String> {
        self.spec.shown().map(|column| column.name.clone()).collect()
    }

    /// How many rows are in it.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is none, or has rows that the file cannot hold.
    pub fn page(&self, answer: Bytes) -> Result<Page> {
        let wrong = |e: &dyn std::fmt::Display| {
            Error::corrupt(format!("answer to a scan of table {:?}", self.spec.name), e.to_string())
        };
        let decoded = guarded(ArrowError::IpcError, || decode(answer));
        let (said, batches) = decoded.map_err(|e| wrong(&e))?;
        let schema = segment::file_schema(&self.spec);
        let fitted = batches.iter().map(|batch| {
            let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec());
            batch.map_err(|e| wrong(&e))
        });
        Ok(Page {
            rows: batches.iter().map(RecordBatch::num_rows).sum(),
            next: said_of(&said, "next").filter(|_| said_of(&said, "truncated") != Some(false)),
            complete: said_of(&said, "coverage").is_some_and(|found: Coverage| found.complete),
            batches: fitted.collect::<Result<_>>()?,
        })
    }

    /// Adds the rows of an answer.
    pub fn add(&mut self, page: &Page) -> Result<()> {
        page.batches.iter().try_for_each(|batch| self.write(batch))
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let written = self.writer.write(&self.spec, batch);
        written.map_err(|e| Error::io(self.path.display().to_string(), e))?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Syncs the file and gives it its name; returns the number of its rows.
    pub fn finish(self) -> Result<u64> {
        let TableFile { path, side, writer, rows, .. } = self;
        let named = writer.finish().and_then(|()| std::fs::rename(&side.0, &path));
        named.map_err(|e| Error::io(path.display().to_string(), e))?;
        Ok(rows)
    }
}

/// The name of a file until it is complete; what is not is removed.
struct Side(PathBuf);

impl Drop for Side {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

type Answered = (HashMap<String, String>, Vec<RecordBatch>);

/// What the metadata of an answer says, and its rows.
fn decode(answer: Bytes) -> Result<Answered, ArrowError> {
    check_lengths(&answer, HOLDS_BYTES_MAX)?;
    let mut decoder = StreamDecoder::new();
    let mut buffer = Buffer::from(answer);
    let mut batches = Vec::new();
    while !buffer.is_empty() {
        batches.extend(decoder.decode(&mut buffer)?);
    }
    decoder.finish()?;
    let schema = decoder.schema();
    let schema = schema.ok_or_else(|| ArrowError::IpcError("there is no schema".into()))?;
    Ok((schema.metadata.clone(), batches))
}

fn said_of<T: DeserializeOwned>(said: &HashMap<String, String>, name: &str) -> Option<T> {
    serde_json::from_str::<Option<T>>(said.get(name)?).ok().flatten()
}

enum Writer {
    Parquet(Box<ParquetFile>),
    Arrow(Box<FileWriter<BufWriter<File>>>),
    Csv(BufWriter<File>),
    JsonLines(BufWriter<File>),
}

impl Writer {
    fn begin(file: File, spec: &TableSpec, format: FileFormat) -> io::Result<Self> {
        Ok(match format {
            FileFormat::Parquet => Writer::Parquet(Box::new(ParquetFile::begin(file, spec)?)),
            FileFormat::Arrow => {
                let schema = segment::file_schema(spec);
                let writer = FileWriter::try_new(BufWriter::new(file), &schema);
                Writer::Arrow(Box::new(writer.map_err(io::Error::other)?))
            }
            FileFormat::Csv => {
                let mut out = BufWriter::new(file);
                csv::write(&mut out, spec.shown().map(|column| Some(column.name.clone())))?;
                Writer::Csv(out)
            }
            FileFormat::JsonLines => Writer::JsonLines(BufWriter::new(file)),
        })
    }

    fn write(&mut self, spec: &TableSpec, batch: &RecordBatch) -> io::Result<()> {
        match self {
            Writer::Parquet(file) => file.write(batch),
            Writer::Arrow(file) => file.write(batch).map_err(io::Error::other),
            Writer::Csv(out) => {
                let columns = values_of(spec, batch);
                (0..batch.num_rows()).try_for_each(|i| {
                    let values = columns.iter().map(|column| column.at(i));
                    csv::write(out, values.map(|value| csv::text(&value)))
                })
            }
            Writer::JsonLines(out) => {
                let names: Names = spec.shown().map(|column| column.name.as_str()).collect();
                let columns = values_of(spec, batch);
                (0..batch.num_rows()).try_for_each(|i| {
                    let values = columns.iter().map(|column| column.at(i));
                    writeln!(out, "{}", row_to_json(&Row::of(names.clone(), values.collect())))
                })
            }
        }
    }

    /// Completes and syncs the file.
    fn finish(self) -> io::Result<()> {
        let out = match self {
            Writer::Parquet(file) => return file.finish(),
            Writer::Arrow(file) => {
                let mut file = *file;
                file.finish().map_err(io::Error::other)?;
                file.into_inner().map_err(io::Error::other)?
            }
            Writer::Csv(out) | Writer::JsonLines(out) => out,
        };
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

fn values_of<'a>(spec: &TableSpec, batch: &'a RecordBatch) -> Vec<Values<'a>> {
    spec.shown().zip(batch.columns()).map(|(column, array)| Values::of(column, array)).collect()
}

#[cfg(test)]
mod tests;
