//! Tables to files and back.

use std::path::Path;

use crate::EdgeStore;
use crate::error::{Error, Result};
use crate::run::column::value_at;
use crate::scan::Scan;
use crate::segment;

/// Rows read at a time for an export.
const EXPORT_ROWS: usize = 50_000;

impl EdgeStore {
    /// Writes the visible rows of a table to a Parquet file; returns their number.
    pub async fn export_parquet(&self, table: &str, path: &Path) -> Result<u64> {
        self.know(table).await?;
        let schema = self.inner.engine.read().table(table)?.schema.clone();
        let io = |e: std::io::Error| Error::io(path.display().to_string(), e);
        let side = path.with_extension("unfinished");
        let file = std::fs::File::create(&side).map_err(io)?;
        let mut writer = segment::ParquetFile::begin(file, &schema).map_err(io)?;
        let columns = Some(schema.names.iter().map(str::to_owned).collect());
        let mut scan = Scan { limit: Some(EXPORT_ROWS), columns, ..Scan::default() };
        let mut written = 0;
        loop {
            let (batch, truncated) = self.scan_batch(table, &scan).await?;
            written += batch.num_rows() as u64;
            writer.write(&batch).map_err(io)?;
            if !truncated || batch.num_rows() == 0 {
                break;
            }
            let last = batch.num_rows() - 1;
            let value = |n: &u16| value_at(schema.column_at(*n), batch.column(*n as usize), last);
            let values = schema.key.iter().map(|n| (schema.column_at(*n).name.clone(), value(n)));
            scan.after = values.collect();
        }
        writer.finish().map_err(io)?;
        std::fs::rename(&side, path).map_err(io)?;
        Ok(written)
    }
}
