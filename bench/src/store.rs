//! EdgeStore beside the disk it stands on and beside other stores, in one run.
//!
//! Writes are set beside `write` + `fdatasync` of the same bytes to the same file system, measured
//! first: no durable store is faster than that with one client. Others run in processes of their
//! own: SQLite through Python's standard library, with `synchronous=FULL` in WAL mode; DuckDB with
//! one thread, so that its rows a second are those of one core; RocksDB, redb and fjall with one
//! client, and SQLite with 64 and 256 that put durably. DataFusion, by which the store
//! answers SQL, is asked by itself as well.

mod loads;
pub mod open;
mod peers;
mod plain;
mod ycsb;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::store::{Config, EdgeStore, Filter, Row, Scan, Sql, TableSpec, Value};
use serde::{Deserialize, Serialize};

use crate::machine::own_cpu;

/// Rows of one call when the table is filled.
const FILL_ROWS: u64 = 1_000;
/// A condition on one column, groups by it.
const QUESTION: &str = "SELECT v, count(*), sum(n) FROM t WHERE v > 0.5 GROUP BY v";
/// Lines that are set beside those of a table with scattered changes.
const COLUMNS: &str = "scan of two columns with a condition, as Arrow, rows";
const GROUPS: &str = "filter and group, rows";
/// What the name of a line ends with that counts CPU time, of all threads.
const OF_CORE: &str = " a second of one core";
/// Where the segments of the table lie below the folder of its store.
const SEGMENTS: &str = "objects/t/t/all/s";
/// Where a table's key ends up when keys are walked in no order (an odd multiplier).
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Rows of the table
    #[arg(long, default_value_t = 200_000)]
    pub rows: u64,
    /// How long one measurement runs
    #[arg(long, default_value_t = 2_000)]
    pub budget_ms: u64,
    /// Folder to work in, on the disk to measure; a temporary one unless said
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Where `./tools.sh bench` puts the other stores
    #[arg(long, default_value = ".tools")]
    pub tools: PathBuf,
    /// Measure how soon a table of so many GB is open again, and nothing else
    #[arg(long)]
    pub open_gb: Option<f64>,
    /// Partitions of that table
    #[arg(long, default_value_t = 64)]
    pub open_partitions: u64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be used.
    #[error("folder {0}: {1}")]
    Folder(PathBuf, std::io::Error),
    /// Another store, or a part of one, refused.
    #[error("{0}: {1}")]
    Peer(&'static str, String),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] ::store::Error),
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What was done.
    pub what: String,
    /// How often per second.
    pub per_s: f64,
    /// Median and 99th percentile of one, microseconds; none where many are done at once.
    pub p50_us: Option<f64>,
    /// See `p50_us`.
    pub p99_us: Option<f64>,
    /// Beside what, and how many times as fast (above 1 is faster).
    pub beside: Option<(String, f64)>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Rows of the table.
    pub rows: u64,
    /// Threads of the machine.
    pub threads: usize,
    /// Memory that a row takes which can be looked up without its disk.
    pub cached_bytes_per_row: f64,
    /// Memory that a partition takes of which nothing is asked.
    pub idle_partition_bytes: f64,
    /// What was done, in order.
    pub lines: Vec<Line>,
    /// How a large table was opened, if that was asked for.
    pub opened: Option<open::Opened>,
}

/// Measures. `program` is this one, for what wants a process of its own.
pub async fn run(options: &Options, program: Option<&Path>) -> Result<Report, Error> {
    let folder = options.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = folder.join(format!("edgescale-bench-{}", std::process::id()));
    let io = |e| Error::Folder(folder.clone(), e);
    std::fs::create_dir_all(&folder).map_err(io)?;
    let report = match options.open_gb {
        Some(_) => open::measure(options, &folder, program).await.map(Report::of_opened),
        None => measure(options, &folder).await,
    };
    std::fs::remove_dir_all(&folder).map_err(io)?;
    report
}

async fn measure(options: &Options, folder: &Path) -> Result<Report, Error> {
    let budget = Duration::from_millis(options.budget_ms);
    let mut lines = Vec::new();
    let disk = disk_alone(folder, budget).map_err(|e| Error::Folder(folder.into(), e))?;
    let disk_per_s = disk.per_s;
    lines.push(disk);
    let mut others = peers::sqlite(folder, options);
    others.extend(peers::stores(folder, options));
    let home = folder.join("store");
    let store = EdgeStore::open(config(&home)).await?;
    store.create_table(&spec("t")).await?;
    // A table of their own, so that what comes later is asked of the same rows on any machine.
    store.create_table(&spec("puts")).await?;
    for clients in [1, 64, 256] {
        let line = durable_puts(&store, clients, budget).await?;
        lines.push(line.beside(Some(("write + fdatasync".to_owned(), disk_per_s))));
    }
    lines.push(fill(&store, "t", options.rows).await?);
    store.flush().await?;
    let line = gets("get, from a segment", &store, options.rows, budget).await?;
    lines.push(line.beside(found(&others, &["RocksDB get", "SQLite get"])));
    let line = scan(&store, options.rows, Scan::default(), "scan, rows").await?;
    lines.push(line.beside(found(&others, &["RocksDB scan, rows"])));
    let filter: Vec<Filter> = upper_half().into_iter().collect();
    let filtered = Scan { filter, ..Scan::default() };
    let line = scan(&store, options.rows, filtered, "scan with a condition, rows").await?;
    lines.push(line.beside(found(&others, &["SQLite scan with a condition, rows"])));
    lines.push(scan_columns(&store, "t", COLUMNS, options.rows, budget).await?);
    let status = store.tables().into_iter().find(|table| table.spec.name == "t");
    let cached_bytes = status.map_or(0, |table| table.cached_bytes);
    lines.extend(asked(&store, options, folder, &mut others, &home).await?);
    lines.extend(flushes(&folder.join("flushes"), options.rows, budget).await?);
    lines.extend(rewritten(&folder.join("rewritten"), options.rows, budget, &lines).await?);
    // The workloads write, so they come last.
    let start = Instant::now();
    let store = EdgeStore::open(config(&home)).await?;
    lines.push(Line::bulk("open", 1, start.elapsed()));
    for line in loads::ycsb(&store, options.rows, budget).await? {
        let peer = found(&others, &[&format!("RocksDB {}", line.what)]);
        lines.push(line.beside(peer));
    }
    store.close().await;
    let partitions = (options.rows / 400).clamp(16, 500);
    let idle_partition_bytes = loads::idle_partition(&folder.join("parts"), partitions).await?;
    let cached_bytes_per_row = cached_bytes as f64 / options.rows as f64;
    lines.splice(1..1, others);
    let (rows, threads, opened) = (options.rows, threads(), None);
    Ok(Report { rows, threads, cached_bytes_per_row, idle_partition_bytes, lines, opened })
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

impl Report {
    fn of_opened(opened: open::Opened) -> Self {
        Report {
            rows: opened.rows,
            threads: threads(),
            cached_bytes_per_row: 0.0,
            idle_partition_bytes: 0.0,
            lines: Vec::new(),
            opened: Some(opened),
        }
    }
}

/// The defaults, with memory for all rows.
fn config(home: &Path) -> Config {
    let bytes = 8 << 30;
    Config { cache_bytes: bytes, sql_memory_bytes: bytes, ..Config::new(home, "cloud") }
}

/// The first of these that another store has done, and how often per second.
fn found(others: &[Line], names: &[&str]) -> Option<(String, f64)> {
    let line = names.iter().find_map(|what| others.iter().find(|line| line.what == *what))?;
    Some((line.what.clone(), line.per_s))
}

/// The question in SQL, with the rows in memory and from the disk; closes the store. Others are
/// asked the same of the same rows on one thread; where ours uses several, what counts is the line
/// of one core.
async fn asked(
    store: &EdgeStore,
    options: &Options,
    folder: &Path,
    others: &mut Vec<Line>,
    home: &Path,
) -> Result<Vec<Line>, Error> {
    let file = folder.join("t.parquet");
    store.export("t", &file, ::store::FileFormat::Parquet).await?;
    others.extend(peers::duckdb(&file, &home.join(SEGMENTS), QUESTION, options));
    let budget = Duration::from_millis(options.budget_ms);
    others.extend(plain::ask(store, budget).await?);
    let beside = |[wall, core]: [Line; 2], other: &str| {
        let of_core = format!("{other}{OF_CORE}");
        [wall.beside(found(others, &[other])), core.beside(found(others, &[of_core.as_str()]))]
    };
    let hot = group(store, "t", GROUPS, options.rows, budget).await?;
    let hot = beside(hot, "DuckDB filter and group, Arrow, rows");
    store.close().await;
    let cold = cold(home, options.rows, budget).await?;
    let cold = beside(cold, "DuckDB filter and group, zstd Parquet, rows");
    Ok(hot.into_iter().chain(cold).collect())
}

/// The question in SQL of a table, again and again.
async fn group(
    store: &EdgeStore,
    table: &str,
    what: &str,
    rows: u64,
    budget: Duration,
) -> Result<[Line; 2], Error> {
    let question = question(table);
    let (start, cpu, mut asked) = (Instant::now(), own_cpu(), 0);
    while start.elapsed() < budget {
        std::hint::black_box(store.sql(question.clone()).await?);
        asked += rows;
    }
    let (took, cpu) = (start.elapsed(), own_cpu().saturating_sub(cpu));
    Ok([Line::bulk(what, asked, took), Line::bulk(&format!("{what}{OF_CORE}"), asked, cpu)])
}

/// The question in SQL of a store that was opened for it, again and again: its files are in the
/// page cache, and nothing of its rows is decoded.
async fn cold(home: &Path, rows: u64, budget: Duration) -> Result<[Line; 2], Error> {
    let (mut took, mut cpu, mut asked) = (Duration::ZERO, Duration::ZERO, 0);
    let begun = Instant::now();
    while begun.elapsed() < budget {
        let store = EdgeStore::open(config(home)).await?;
        let (start, before) = (Instant::now(), own_cpu());
        std::hint::black_box(store.sql(question("t")).await?);
        took += start.elapsed();
        cpu += own_cpu().saturating_sub(before);
        asked += rows;
        store.close().await;
    }
    let what = "filter and group from the disk, rows";
    Ok([Line::bulk(what, asked, took), Line::bulk(&format!("{what}{OF_CORE}"), asked, cpu)])
}

fn question(table: &str) -> Sql {
    let text = QUESTION.replace("FROM t ", &format!("FROM {table} "));
    let question = serde_json::json!({"sql": text});
    serde_json::from_value(question).expect("the question is a constant")
}

fn spec(name: &str) -> TableSpec {
    let spec = serde_json::json!({"name": name, "key": ["id"], "columns": [
        {"name": "id", "kind": "int64"}, {"name": "v", "kind": "float64"},
        {"name": "n", "kind": "int64"}, {"name": "name", "kind": "utf8"}]});
    serde_json::from_value(spec).expect("the specification is a constant")
}

fn row(id: u64) -> Row {
    Row::from([
        ("id".into(), Value::Int(id as i64)),
        ("v".into(), Value::Float(id as f64 % 1_000.0 / 1_000.0)),
        ("n".into(), Value::Int(id as i64 * 7)),
        ("name".into(), Value::Text(format!("row number {id:012}"))),
    ])
}

/// Makes a row that of another number, as a client does that keeps it.
fn renumber(row: &mut Row, id: u64) {
    row.insert("id", Value::Int(id as i64));
    row.insert("v", Value::Float(id as f64 % 1_000.0 / 1_000.0));
    row.insert("n", Value::Int(id as i64 * 7));
    row.insert("name", Value::Text(format!("row number {id:012}")));
}

fn key(id: u64) -> Row {
    Row::from([("id".into(), Value::Int(id as i64))])
}

/// What the disk does without a store: appends of the size of a small record.
fn disk_alone(folder: &Path, budget: Duration) -> std::io::Result<Line> {
    let mut file = File::create(folder.join("floor"))?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < budget {
        let before = Instant::now();
        file.write_all(&[7; 128])?;
        file.sync_data()?;
        times.push(before.elapsed());
    }
    Ok(Line::timed("write + fdatasync, 128 bytes", times, start.elapsed()))
}

async fn durable_puts(store: &EdgeStore, clients: u64, budget: Duration) -> Result<Line, Error> {
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (store, next) = (store.clone(), next.clone());
            tokio::spawn(async move {
                let (mut times, mut row) = (Vec::new(), row(0));
                while times.is_empty() || start.elapsed() < budget {
                    renumber(&mut row, next.fetch_add(1, Ordering::Relaxed));
                    let before = Instant::now();
                    store.put("puts", std::slice::from_ref(&row)).await?;
                    times.push(before.elapsed());
                }
                Ok::<_, ::store::Error>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a client does not panic")?);
    }
    Ok(Line::timed(&format!("durable put, {clients} at once"), times, start.elapsed()))
}

async fn fill(store: &EdgeStore, table: &str, rows: u64) -> Result<Line, Error> {
    let mut took = Duration::ZERO;
    for from in (0..rows).step_by(FILL_ROWS as usize) {
        let chunk: Vec<Row> = (from..rows.min(from + FILL_ROWS)).map(row).collect();
        let start = Instant::now();
        store.put(table, &chunk).await?;
        took += start.elapsed();
    }
    Ok(Line::bulk("durable put, 1,000 rows a call, rows", rows, took))
}

async fn gets(what: &str, store: &EdgeStore, rows: u64, budget: Duration) -> Result<Line, Error> {
    let (start, mut times, mut i) = (Instant::now(), Vec::new(), 0u64);
    while start.elapsed() < budget {
        let key = key(i.wrapping_mul(SCATTER) % rows);
        let before = Instant::now();
        let found = store.get("t", &key).await?;
        times.push(before.elapsed());
        std::hint::black_box(found);
        i += 1;
    }
    Ok(Line::timed(what, times, start.elapsed()))
}

async fn scan(store: &EdgeStore, rows: u64, scan: Scan, what: &str) -> Result<Line, Error> {
    let start = Instant::now();
    std::hint::black_box(store.scan("t", scan).await?);
    Ok(Line::bulk(what, rows, start.elapsed()))
}

/// A condition on one column and two others of the rows that meet it, as Arrow.
async fn scan_columns(
    store: &EdgeStore,
    table: &str,
    what: &str,
    rows: u64,
    budget: Duration,
) -> Result<Line, Error> {
    let filter: Vec<Filter> = upper_half().into_iter().collect();
    let columns = Some(vec!["n".into(), "v".into()]);
    let scan = Scan { filter, columns, ..Scan::default() };
    let (start, mut scanned) = (Instant::now(), 0);
    while start.elapsed() < budget {
        std::hint::black_box(store.scan_arrow(table, scan.clone()).await?);
        scanned += rows;
    }
    Ok(Line::bulk(what, scanned, start.elapsed()))
}

/// The scan as Arrow and the question in SQL of a table of which a twentieth was written again, one
/// row here and one there: the changes lie in memory, and then in a segment of their own. Beside
/// each what `lines` say of a table where nothing was.
async fn rewritten(
    home: &Path,
    rows: u64,
    budget: Duration,
    lines: &[Line],
) -> Result<Vec<Line>, Error> {
    let store = EdgeStore::open(unflushed(home)).await?;
    store.create_table(&spec("changed")).await?;
    fill(&store, "changed", rows).await?;
    store.flush().await?;
    let ids: Vec<u64> = (0..rows / 20).map(|i| i.wrapping_mul(SCATTER) % rows).collect();
    for ids in ids.chunks(FILL_ROWS as usize) {
        let changed: Vec<Row> = ids.iter().map(|id| row(*id)).collect();
        store.put("changed", &changed).await?;
    }
    let mut measured = Vec::new();
    for place in ["memory", "a segment"] {
        let what = |of: &str| format!("{of}, a twentieth changed in {place}");
        let scanned = scan_columns(&store, "changed", &what(COLUMNS), rows, budget).await?;
        measured.push(scanned.beside(found(lines, &[COLUMNS])));
        let [grouped, _] = group(&store, "changed", &what(GROUPS), rows, budget).await?;
        measured.push(grouped.beside(found(lines, &[GROUPS])));
        store.flush().await?;
    }
    store.close().await;
    Ok(measured)
}

/// A configuration that moves changes to segments when it is told to, and not before.
fn unflushed(home: &Path) -> Config {
    let (flush_bytes, memory_bytes) = (usize::MAX, usize::MAX);
    Config { flush_bytes, memory_bytes, ..config(home) }
}

/// Gets of rows that lie in memory, then these rows from memory to a segment, and as many newer
/// ones merged with them.
async fn flushes(home: &Path, rows: u64, budget: Duration) -> Result<Vec<Line>, Error> {
    let store = EdgeStore::open(Config { segments_max: 1, ..unflushed(home) }).await?;
    store.create_table(&spec("t")).await?;
    let mut lines = Vec::new();
    for (what, times) in [("flush, rows", 1), ("flush and merge, rows", 2)] {
        fill(&store, "t", rows).await?;
        if lines.is_empty() {
            lines.push(gets("get, from memory", &store, rows, budget).await?);
        }
        let (start, cpu) = (Instant::now(), own_cpu());
        store.flush().await?;
        lines.push(Line::bulk(what, rows * times, start.elapsed()));
        let cpu = own_cpu().saturating_sub(cpu);
        lines.push(Line::bulk(&format!("{what}{OF_CORE}"), rows * times, cpu));
    }
    store.close().await;
    Ok(lines)
}

fn upper_half() -> Option<Filter> {
    let filter = serde_json::json!({"column": "v", "op": ">", "value": 0.5});
    serde_json::from_value(filter).ok()
}

impl Line {
    fn timed(what: &str, mut times: Vec<Duration>, all: Duration) -> Self {
        times.sort_unstable();
        let us = |share: f64| {
            let at = (times.len() as f64 * share) as usize;
            times.get(at.min(times.len().saturating_sub(1))).map(|t| t.as_nanos() as f64 / 1e3)
        };
        let per_s = times.len() as f64 / all.as_secs_f64();
        let (p50_us, p99_us) = (us(0.5), us(0.99));
        Line { what: what.into(), per_s, p50_us, p99_us, beside: None }
    }

    fn bulk(what: &str, count: u64, took: Duration) -> Self {
        let per_s = count as f64 / took.as_secs_f64();
        Line { what: what.into(), per_s, p50_us: None, p99_us: None, beside: None }
    }

    /// Sets the line beside something done so often per second.
    fn beside(mut self, other: Option<(String, f64)>) -> Self {
        self.beside = other.map(|(what, per_s)| (what, self.per_s / per_s));
        self
    }
}

/// The report as a table.
pub fn table(report: &Report) -> String {
    if let Some(opened) = &report.opened {
        return open::table(opened);
    }
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["what", "per second", "p50 µs", "p99 µs", "times as fast as"]);
    let number = |n: Option<f64>| n.map_or(String::new(), |n| format!("{n:.2}"));
    for line in &report.lines {
        let beside = line.beside.as_ref();
        let beside = beside.map_or(String::new(), |(what, times)| format!("{times:.2} × {what}"));
        let per_s = format!("{:.0}", line.per_s);
        table.add_row([line.what.clone(), per_s, number(line.p50_us), number(line.p99_us), beside]);
    }
    format!(
        "{} rows, {} threads; memory: {:.0} MB per million rows that can be looked up, {:.0} bytes \
         per partition that is idle\n\n{table}",
        report.rows, report.threads, report.cached_bytes_per_row, report.idle_partition_bytes
    )
}

#[cfg(test)]
mod tests;
