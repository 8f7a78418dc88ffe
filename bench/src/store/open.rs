//! How soon a store with much on its disk is there again: opened, its first row got, its first row
//! scanned, with nothing of its files in the page cache.
//!
//! The table is made by the store's own puts, one partition after the other. Each opening is in a
//! process of its own where there is a program for it, so that memory is that of one opening. What
//! is left in caches is what takes root's rights to drop: names and sizes of files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ::store::{Config, EdgeStore, Level, Row, Scan, TableSpec, Value};
use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};

use super::{Error, Options, key, row, spec};

/// Openings of one kind.
const OPENINGS: u64 = 5;
/// Bytes of the text in a row of the large table, which no compression makes smaller.
const TEXT_BYTES: usize = 1_024;
/// Rows of one call.
const CALL_ROWS: u64 = 1_000;
/// Small rows that are in the log alone: about as many as a store keeps there at most.
const LOG_ROWS: u64 = 200_000;

/// What is opened, and how that went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// Rows of the table.
    pub rows: u64,
    /// Bytes of its segments on disk.
    pub segment_bytes: u64,
    /// Partitions and segments.
    pub partitions: usize,
    pub segments: usize,
    /// How long it took to make it.
    pub made_in: Duration,
    /// Bytes of the log that the first of `kinds` reads back.
    pub log_bytes: u64,
    /// How long a stop took that flushed what the log held.
    pub stopped_in: Duration,
    /// Openings with a log to read back, with none, and with none and all files in the page cache.
    pub kinds: [Vec<Opening>; 3],
}

/// One opening.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// Until the store was open.
    pub open_us: u64,
    /// Then until a row of some partition was got.
    pub get_us: u64,
    /// Then until a scan of the whole table with a limit had given its first row.
    pub scan_us: u64,
    /// Memory that is not of files: before, after the opening, and at the end.
    pub anonymous_bytes: [u64; 3],
}

/// Makes the table and opens it again and again.
pub async fn measure(
    options: &Options,
    folder: &Path,
    program: Option<&Path>,
) -> Result<Opened, Error> {
    let home = folder.join("large");
    let start = Instant::now();
    let rows = make(&home, options).await?;
    let made_in = start.elapsed();
    let log_bytes = bytes_below(&home, "wal").map_err(|e| Error::Folder(home.clone(), e))?;
    let with_log = openings(&home, Cached::No, rows, options, program).await?;
    let store = EdgeStore::open(Config::new(&home, "cloud")).await?;
    let start = Instant::now();
    store.close().await;
    let stopped_in = start.elapsed();
    // A small table leaves some in the log.
    let store = EdgeStore::open(Config::new(&home, "cloud")).await?;
    store.flush().await?;
    store.close().await;
    let kinds = [
        with_log,
        openings(&home, Cached::No, rows, options, program).await?,
        openings(&home, Cached::Yes, rows, options, program).await?,
    ];
    let store = EdgeStore::open(Config::new(&home, "cloud")).await?;
    let status = store.tables().into_iter().find(|table| table.spec.name == "large");
    store.close().await;
    let (partitions, segments) = status.map_or((0, 0), |t| (t.partitions, t.segments));
    let segment_bytes = bytes_below(&home.join("objects/t/large"), "parquet");
    let segment_bytes = segment_bytes.map_err(|e| Error::Folder(home.clone(), e))?;
    Ok(Opened { rows, segment_bytes, partitions, segments, made_in, log_bytes, stopped_in, kinds })
}

/// Opens the store once and asks for its first rows; `ask` says for which.
pub async fn open_once(home: &Path, ask: u64) -> Result<Opening, Error> {
    let memory = || crate::machine::held().anonymous_bytes;
    let before = memory();
    let start = Instant::now();
    // What the log holds is to be there for the next one, too.
    let config = Config { close_bytes: usize::MAX, ..Config::new(home, "cloud") };
    let store = EdgeStore::open(config).await?;
    let open = start.elapsed();
    let opened = memory();
    let key = Row::from([
        ("part".into(), Value::Int((ask >> 32) as i64)),
        ("id".into(), Value::Int((ask & 0xffff_ffff) as i64)),
    ]);
    let start = Instant::now();
    let got = store.get("large", &key).await?;
    let get = start.elapsed();
    let start = Instant::now();
    let first = store.scan("large", Scan { limit: Some(1), ..Scan::default() }).await?;
    let scan = start.elapsed();
    let end = memory();
    let is_there = got.is_some() && first.rows.len() == 1;
    let in_log = store.get("t", &self::key(0)).await?.is_some();
    store.close().await;
    assert!(is_there && in_log, "a row of the table is gone");
    let us = |time: Duration| time.as_micros() as u64;
    let anonymous_bytes = [before, opened, end];
    Ok(Opening { open_us: us(open), get_us: us(get), scan_us: us(scan), anonymous_bytes })
}

/// Whether the files may be in the page cache.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cached {
    Yes,
    No,
}

async fn openings(
    home: &Path,
    cached: Cached,
    rows: u64,
    options: &Options,
    program: Option<&Path>,
) -> Result<Vec<Opening>, Error> {
    let partitions = options.open_partitions.max(1);
    let mut openings = Vec::new();
    for i in 1..=OPENINGS {
        if cached == Cached::No {
            forget(home).map_err(|e| Error::Folder(home.into(), e))?;
        }
        let (part, id) = (i * partitions / (OPENINGS + 1), rows / partitions / 2);
        let ask = part << 32 | id;
        openings.push(match program {
            Some(program) => elsewhere(program, home, ask)?,
            None => open_once(home, ask).await?,
        });
    }
    Ok(openings)
}

/// The same in another process: `program bench open FOLDER ROW`.
fn elsewhere(program: &Path, home: &Path, ask: u64) -> Result<Opening, Error> {
    let mut command = Command::new(program);
    command.args(["bench", "open"]).arg(home).arg(ask.to_string());
    let failed = |e| Error::Folder(home.into(), e);
    let output = command.stderr(std::process::Stdio::inherit()).output().map_err(failed)?;
    serde_json::from_slice(&output.stdout).map_err(|e| failed(io::Error::other(e)))
}

/// Fills the table until it has so many bytes; returns its rows. What comes behind that is in the
/// log alone.
async fn make(home: &Path, options: &Options) -> Result<u64, Error> {
    // Flushes of many partitions take their time, and whoever fills a table waits for them.
    // A stop leaves the log as a crash does.
    let config = Config {
        request_timeout_ms: 600_000,
        close_bytes: usize::MAX,
        ..Config::new(home, "cloud")
    };
    let store = EdgeStore::open(config).await?;
    let large = serde_json::json!({"name": "large", "key": ["part", "id"], "partition": ["part"],
        "columns": [{"name": "part", "kind": "int64"}, {"name": "id", "kind": "int64"},
        {"name": "v", "kind": "float64"}, {"name": "text", "kind": "utf8"}]});
    let large: TableSpec = serde_json::from_value(large).expect("the specification is a constant");
    store.create_table(&large).await?;
    store.create_table(&spec("t")).await?;
    let partitions = options.open_partitions.max(1);
    let wanted = (options.open_gb.unwrap_or(0.0) * 1e9) as u64;
    // Numbers and stamps take some bytes as well.
    let each = (wanted / partitions / (TEXT_BYTES as u64 + 8)).max(1);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for part in 0..partitions {
        for from in (0..each).step_by(CALL_ROWS as usize) {
            let ids = from..each.min(from + CALL_ROWS);
            let rows: Vec<Row> = ids.map(|id| large_row(part, id, &mut random)).collect();
            store.put_at("large", &rows, Level::Memory).await?;
        }
    }
    store.flush().await?;
    for from in (0..LOG_ROWS.min(partitions * each)).step_by(CALL_ROWS as usize) {
        let rows: Vec<Row> = (from..from + CALL_ROWS).map(row).collect();
        store.put("t", &rows).await?;
    }
    store.close().await;
    Ok(partitions * each)
}

fn large_row(part: u64, id: u64, random: &mut u64) -> Row {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let mut text = String::with_capacity(TEXT_BYTES);
    while text.len() < TEXT_BYTES {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        text.extend((0..8).map(|i| LETTERS[(*random >> (i * 7 + 8)) as usize % 64] as char));
    }
    Row::from([
        ("part".into(), Value::Int(part as i64)),
        ("id".into(), Value::Int(id as i64)),
        ("v".into(), Value::Float(id as f64)),
        ("text".into(), Value::Text(text)),
    ])
}

/// Has the page cache forget all files below a folder.
fn forget(folder: &Path) -> io::Result<()> {
    files_below(folder)?.iter().try_for_each(|path| {
        let file = File::open(path)?;
        // What is not written yet stays.
        file.sync_all()?;
        Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
    })
}

/// Bytes of the files below a folder whose names end so.
fn bytes_below(folder: &Path, end: &str) -> io::Result<u64> {
    let mut files = files_below(folder)?;
    files.retain(|path| path.extension().is_some_and(|found| found == end));
    files.iter().map(|path| Ok(fs::metadata(path)?.len())).sum()
}

fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    Ok(files)
}

/// What was measured, as text.
pub fn table(opened: &Opened) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    let head = ["opened with", "open ms", "first get ms", "first row scanned ms", "MB taken"];
    table.set_header(head);
    let log = format!("a log of {:.0} MB", opened.log_bytes as f64 / 1e6);
    let names = [log.as_str(), "no log", "no log, in the page cache"];
    for (name, openings) in names.iter().zip(&opened.kinds) {
        let ms = |of: fn(&Opening) -> u64| {
            let mut us: Vec<u64> = openings.iter().map(of).collect();
            us.sort_unstable();
            let at = |i: usize| us.get(i).map_or(0.0, |us| *us as f64 / 1e3);
            format!("{:.1} ({:.1} to {:.1})", at(us.len() / 2), at(0), at(us.len() - 1))
        };
        let grown = |to: usize| {
            let bytes = openings.iter().map(|o| {
                let [before, ..] = o.anonymous_bytes;
                o.anonymous_bytes[to].saturating_sub(before)
            });
            bytes.max().unwrap_or(0) as f64 / 1e6
        };
        let memory = format!("{:.1}, then {:.1}", grown(1), grown(2));
        table.add_row([
            name.to_string(),
            ms(|o| o.open_us),
            ms(|o| o.get_us),
            ms(|o| o.scan_us),
            memory,
        ]);
    }
    format!(
        "{:.2} GB on disk: {} rows in {} segments of {} partitions, made in {:.0} s; median and \
         range of {OPENINGS} openings each; a stop with that log flushed it in {:.0} ms\n\n{table}",
        opened.segment_bytes as f64 / 1e9,
        opened.rows,
        opened.segments,
        opened.partitions,
        opened.made_in.as_secs_f64(),
        opened.stopped_in.as_secs_f64() * 1e3
    )
}
