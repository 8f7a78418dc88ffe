//! Tables to files and back.

use std::path::Path;

use crate::EdgeStore;
use crate::error::{Error, Result};
use crate::scan::Scan;
use crate::segment::{self, visible_batch};
use crate::spec::ColumnSpec;

/// Rows read at a time for an export.
const EXPORT_ROWS: usize = 50_000;

impl EdgeStore {
    /// Writes the visible rows of a table to a Parquet file; returns their number.
    pub async fn export_parquet(&self, table: &str, path: &Path) -> Result<u64> {
        let spec = self.table(table).await?;
        let columns: Vec<&ColumnSpec> = spec.columns.iter().collect();
        let io = |e: std::io::Error| Error::io(path.display().to_string(), e);
        let side = path.with_extension("unfinished");
        let file = std::fs::File::create(&side).map_err(io)?;
        let mut writer = segment::ParquetFile::begin(file, &spec).map_err(io)?;
        let mut scan = Scan { limit: Some(EXPORT_ROWS), ..Scan::default() };
        let mut written = 0;
        loop {
            let scanned = self.scan(table, scan.clone()).await?;
            written += scanned.rows.len() as u64;
            writer.write(&visible_batch(&spec, &columns, &scanned.rows)?).map_err(io)?;
            match scanned.rows.last() {
                Some(last) if scanned.truncated => scan.after = spec.key_part(last),
                _ => break,
            }
        }
        writer.finish().map_err(io)?;
        std::fs::rename(&side, path).map_err(io)?;
        Ok(written)
    }
}
