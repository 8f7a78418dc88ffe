//! Tables to files and back, and files to blobs: piece by piece, so that neither memory nor the
//! time of one request bounds them.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use bus::{Bus, Headers, Kind, PAYLOAD_BYTES_MAX, Subject};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use store::{BLOB_BYTES_MAX, Page, TableFile, TableSpec};

use super::{RANGE_BYTES, ask, json, report};
use crate::node::uploads::UPLOAD_HEADER;

/// Rows of the first page of an export; those of the others are as many as have about
/// [`PAGE_BYTES`].
const PAGE_ROWS_FIRST: usize = 100;
const PAGE_ROWS_MAX: usize = 100_000;
const PAGE_BYTES: usize = 4 << 20;
/// How long a page may take, and a part of a blob: with the last one all of it is synced.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the site may wait for its parent, whose rows are those of the table. What is there by
/// then is its own; so fewer rows are asked for, unless it cannot be the number of rows.
const PAGE_DEADLINE: Duration = Duration::from_secs(20);

/// Is told how far something is, and where it ends.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// A table that is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// How many rows there are.
    pub rows: u64,
    /// False if the site could not ask all who may have more.
    pub complete: bool,
}

#[derive(Deserialize)]
struct Described {
    table: TableSpec,
}

async fn described(bus: &Bus, table: &str) -> Result<TableSpec> {
    let answer = ask(bus, Kind::St, "table", json!({"table": table}).to_string()).await?;
    Ok(json::<Described>(&answer)?.table)
}

/// Writes a table as a file, whose name says how, in pages in the order of the key. Each page is
/// the table at one moment; a row that is changed meanwhile is in the file as it was or as it
/// became, once.
pub async fn export(bus: &Bus, table: &str, file: &Path, told: Progress<'_>) -> Result<Exported> {
    let spec = described(bus, table).await?;
    // For the bar alone: versions count as rows, and what lies above is not counted.
    let about = report(bus).await.map_or(0, |report| {
        let of_table = report.tables.iter().find(|status| status.spec.name == table);
        of_table.map_or(0, |status| status.segment_rows + status.memory_rows as u64)
    });
    let mut out = TableFile::begin(file, &spec)?;
    let (columns, mut after) = (out.columns(), json!({}));
    let (mut limit, mut most, mut complete) = (PAGE_ROWS_FIRST, PAGE_ROWS_MAX, true);
    loop {
        let options = json!({"deadline_ms": PAGE_DEADLINE.as_millis() as u64});
        let body = json!({"table": table, "columns": columns, "after": after, "limit": limit,
                          "format": "arrow", "options": options});
        let subject = Subject::checked(Kind::St, bus.site(), "scan")?.to_string();
        let began = Instant::now();
        let asked = bus::body::ask(bus, bus.site(), &subject, body.to_string(), PATIENCE);
        let (page, bytes) = match asked.await {
            Err(bus::Error::TimedOut { .. }) if limit > 1 => (None, 0),
            answer => {
                let answer = answer?.payload;
                let bytes = answer.len();
                (Some(out.page(answer)?), bytes)
            }
        };
        let is_late = |page: &Page| !page.complete && began.elapsed() >= PAGE_DEADLINE && limit > 1;
        let Some(page) = page.filter(|page| !is_late(page)) else {
            most = limit.div_ceil(8);
            limit = most;
            continue;
        };
        out.add(&page)?;
        complete &= page.complete;
        told(out.rows(), about.max(out.rows()));
        let Some(next) = page.next else { break };
        ensure!(page.rows > 0, "the site gives no row behind {after}");
        (after, limit) = (next, rows_next(page.rows, bytes).min(most));
    }
    Ok(Exported { rows: out.finish()?, complete })
}

/// How many rows the next page may have, after one of so many rows and bytes.
fn rows_next(rows: usize, bytes: usize) -> usize {
    let rows = rows.saturating_mul(PAGE_BYTES) / bytes.max(1);
    rows.clamp(1, PAGE_ROWS_MAX)
}

/// Writes the rows of a file into a table; returns their number. Rows before a broken place are
/// written, and writing them again changes nothing.
pub async fn import(bus: &Bus, table: &str, file: &Path, told: Progress<'_>) -> Result<u64> {
    let (mut read, mut written) = (0, 0);
    let broken = |written| format!("{written} rows were written; mend the file and import again");
    let spec = described(bus, table).await?;
    let mut rows = store::RowFile::open(file, &spec)?;
    while let Some(batch) = rows.next() {
        let (done, total) = rows.progress();
        let batch = batch.with_context(|| broken(written))?;
        let streams = store::row_streams(&spec, &batch, RANGE_BYTES).map_err(|e| {
            let alone = |row| store::row_streams(&spec, std::slice::from_ref(row), RANGE_BYTES);
            let at = batch.iter().position(|row| alone(row).is_err()).unwrap_or(0);
            anyhow!("{}: row {}: {e}", file.display(), read + at + 1)
        });
        read += batch.len();
        for stream in streams.with_context(|| broken(written))? {
            let restored = ask(bus, Kind::St, "restore", stream.bytes).await;
            restored.with_context(|| broken(written))?;
            written += stream.rows as u64;
        }
        told(done, total);
    }
    Ok(written)
}

/// Stores a file as a blob, in parts where it is larger than a message; returns the blob's key.
pub async fn put_blob(bus: &Bus, file: &Path, told: Progress<'_>) -> Result<String> {
    let unread = || format!("cannot read {}", file.display());
    let mut opened = File::open(file).with_context(unread)?;
    let total = opened.metadata().with_context(unread)?.len();
    ensure!(
        total <= BLOB_BYTES_MAX,
        "{} has {total} bytes; a blob has at most {BLOB_BYTES_MAX}",
        file.display()
    );
    let subject = Subject::checked(Kind::St, bus.site(), "put-blob")?.to_string();
    let (id, mut offset) = (bus::event::unique_id(), 0);
    loop {
        let mut part = Vec::with_capacity(PAYLOAD_BYTES_MAX);
        let room = PAYLOAD_BYTES_MAX as u64;
        let read = (&mut opened).take(room).read_to_end(&mut part).with_context(unread)? as u64;
        // A part that is not full is the last one, whatever the file's length was at first.
        let is_last = read < room;
        let headers = match (offset, is_last) {
            (0, true) => Headers::new(),
            (_, true) => upload(&id, offset, " end"),
            (_, false) => upload(&id, offset, ""),
        };
        let answer = bus.request(&subject, &headers, Bytes::from(part), PATIENCE).await?;
        offset += read;
        told(offset, total.max(offset));
        if is_last {
            let answer: Value = json(&answer)?;
            return Ok(answer["key"].as_str().context("the answer has no key")?.to_owned());
        }
    }
}

fn upload(id: &str, offset: u64, end: &str) -> Headers {
    Headers::from([(UPLOAD_HEADER.to_owned(), format!("{id} {offset}{end}"))])
}

#[cfg(test)]
mod tests;
