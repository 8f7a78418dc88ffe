//! Tables to files.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::ipc::writer::FileWriter;

use crate::csv;
use crate::error::{Error, Result};
use crate::import::FileFormat;
use crate::run::column::Values;
use crate::scan::{Scan, key_at};
use crate::segment::{self, ParquetFile};
use crate::spec::TableSpec;
use crate::value::{Names, Row, row_to_json};
use crate::{EdgeStore, ReadOptions};

/// Rows read at a time for an export.
const EXPORT_ROWS: usize = 50_000;

impl EdgeStore {
    /// Writes the visible rows of a table to a file; returns their number.
    pub async fn export(&self, table: &str, path: &Path, format: FileFormat) -> Result<u64> {
        self.know(table).await?;
        let schema = self.inner.engine.read().table(table)?.schema.clone();
        let io = |e: io::Error| Error::io(path.display().to_string(), e);
        let side = path.with_extension("unfinished");
        let file = File::create(&side).map_err(io)?;
        let mut writer = Writer::begin(file, &schema, format).map_err(io)?;
        let columns = Some(schema.shown_names.iter().map(str::to_owned).collect());
        let mut scan = Scan { limit: Some(EXPORT_ROWS), columns, ..Scan::default() };
        let mut written = 0;
        loop {
            let options = ReadOptions::default();
            let (batch, _, truncated) = self.scan_arrow_with(table, scan.clone(), options).await?;
            written += batch.num_rows() as u64;
            writer.write(&schema, &batch).map_err(io)?;
            if !truncated || batch.num_rows() == 0 {
                break;
            }
            scan.after = key_at(&schema, &batch, batch.num_rows() - 1);
        }
        writer.finish().map_err(io)?;
        std::fs::rename(&side, path).map_err(io)?;
        Ok(written)
    }
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
