//! What others do with the same rows: SQLite and DuckDB through Python; RocksDB, redb and fjall in
//! a program of their own that only `./tools.sh bench` builds.

use std::path::Path;
use std::process::Command;

use super::{Line, Options};

/// What SQLite does with the rows.
const SQLITE: &str = include_str!("sqlite.py");
/// What DuckDB does with them.
const DUCKDB: &str = include_str!("duckdb.py");

/// SQLite's lines; none where there is no Python.
pub fn sqlite(folder: &Path, options: &Options) -> Vec<Line> {
    let mut python = Command::new("python3");
    python.args(["-c", SQLITE]).arg(folder);
    python.args([options.rows.to_string(), options.budget_ms.to_string()]);
    lines(python, "SQLite, because python3 with sqlite3 is not here")
}

/// DuckDB's answers to the same question, from a Parquet file of the rows and from a folder of
/// segments.
pub fn duckdb(file: &Path, segments: &Path, question: &str, options: &Options) -> Vec<Line> {
    let mut python = Command::new(options.tools.join("bin/python3"));
    python.env("PYTHONPATH", options.tools.join("check")).args(["-c", DUCKDB]);
    python.arg(file).arg(segments);
    python.args([options.budget_ms.to_string().as_str(), question]);
    lines(python, "DuckDB, because it is not in the tools (./tools.sh test brings it)")
}

/// The lines of the stores that a user might take instead.
pub fn stores(folder: &Path, options: &Options) -> Vec<Line> {
    let mut program = Command::new(options.tools.join("bin/edgescale-bench-peers"));
    program.arg(folder).args([options.rows.to_string(), options.budget_ms.to_string()]);
    // It tells by itself which of them is missing.
    program.stderr(std::process::Stdio::inherit());
    lines(program, "redb, fjall and RocksDB, which ./tools.sh bench brings")
}

fn lines(mut program: Command, skipped: &str) -> Vec<Line> {
    let lines = program.output().ok().and_then(|out| serde_json::from_slice(&out.stdout).ok());
    if lines.is_none() {
        eprintln!("skipped: {skipped}");
    }
    lines.unwrap_or_default()
}
