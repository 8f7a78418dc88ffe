//! `edgescale store`: rows and tables.

mod sql;

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use bus::{Bus, Kind};
use clap::Subcommand;
use indicatif::ProgressBar;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::output::{Output, bytes, table};
use crate::context::Site;
use crate::node::client::{self, Exported};

/// How long one question for changes waits at the site.
const FOLLOW_WAIT_MS: u64 = 3_000;

#[derive(Subcommand)]
pub enum Store {
    /// Print rows by key; one key prints its row's version as well with --json
    Get {
        /// APP/TABLE
        table: String,
        /// Keys as JSON: {"camera":"front","frame":7}
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Write whole rows: columns that a row leaves out become null
    Put(Write),
    /// Write the named columns of rows and leave the others
    Patch(Write),
    /// Delete rows by key
    Delete(Write),
    /// Add to counter columns of a row
    Increment {
        /// APP/TABLE
        table: String,
        /// The key as JSON
        key: String,
        /// Counter column to number, as JSON: {"count":1}
        by: String,
        #[command(flatten)]
        until: Until,
    },
    /// Write a row if its present state is as expected; the root decides
    PutIf {
        /// APP/TABLE
        table: String,
        /// The row as JSON
        row: String,
        #[command(flatten)]
        expect: Expect,
    },
    /// Make several changes to one partition, all or none: {"if":[…],"do":[…]}
    Commit {
        /// APP/TABLE
        table: String,
        /// Conditions and writes as JSON, as in docs/guides/store.md
        commit: String,
    },
    /// Print rows as they change, each as it is now
    Changes {
        /// APP/TABLE
        table: String,
        /// Position to go on from, printed by an earlier call
        #[arg(long, default_value = "")]
        after: String,
        /// Most rows of one answer
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Wait for more until Ctrl-C
        #[arg(short, long)]
        follow: bool,
    },
    /// Print rows in key order
    Scan {
        /// APP/TABLE
        table: String,
        /// Leading key columns that must match, as JSON
        #[arg(long)]
        prefix: Option<String>,
        /// Leading key columns of the first row, as JSON
        #[arg(long)]
        from: Option<String>,
        /// Leading key columns of the end, which is not printed, as JSON
        #[arg(long)]
        to: Option<String>,
        /// Columns to print, with commas between
        #[arg(long, value_delimiter = ',')]
        columns: Option<Vec<String>>,
        /// Condition that rows must meet, such as 'score>=0.5'; may be repeated
        #[arg(long = "where", value_name = "CONDITION")]
        conditions: Vec<String>,
        /// Most rows
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Last key first
        #[arg(long)]
        reverse: bool,
    },
    /// Answer a question in SQL over the tables of the site
    Sql(sql::Sql),
    /// Write a whole table as a file: *.parquet, *.arrow (Arrow IPC), *.csv, else JSON lines
    Export {
        /// APP/TABLE
        table: String,
        /// The file
        out: PathBuf,
    },
    /// Write the rows of a file: *.parquet, *.arrow (Arrow IPC), *.csv, else JSON lines
    Import {
        /// APP/TABLE
        table: String,
        /// The file
        file: PathBuf,
    },
    /// List the tables of a site
    Tables,
    /// Print a blob, or write it to a file
    Blob {
        /// Its key, as a row holds it
        key: String,
        /// Write it here
        #[arg(short, long)]
        out: Option<PathBuf>,
        /// First byte
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// Most bytes
        #[arg(long)]
        length: Option<u64>,
    },
    /// Store a file of at most 256 MiB as a blob and print its key
    PutBlob {
        /// The file
        file: PathBuf,
    },
    /// Remove blobs for good: at the site that took them, and the copies on the way there
    RmBlob {
        /// Their keys, as rows hold them
        #[arg(required = true)]
        keys: Vec<String>,
    },
}

/// Rows or keys to write.
#[derive(clap::Args)]
pub struct Write {
    /// APP/TABLE
    table: String,
    /// Rows (to delete: keys) as JSON objects
    #[arg(required = true)]
    rows: Vec<String>,
    #[command(flatten)]
    until: Until,
}

/// When a write is done.
#[derive(clap::Args)]
pub struct Until {
    /// How far the write must have got before this returns
    #[arg(long, default_value = "local-sync", value_parser = ["memory", "local-sync", "parent"])]
    level: String,
}

/// What a row must be like.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct Expect {
    /// There is no such row
    #[arg(long)]
    absent: bool,
    /// It still has this version, as `get --json` printed it
    #[arg(long)]
    version: Option<String>,
    /// These columns have these values, as JSON
    #[arg(long)]
    values: Option<String>,
}

/// Carries out a store command at a site.
pub async fn run(site: &Site, command: Store, out: Output) -> Result<()> {
    let table = command.table().map(str::to_owned);
    carry_out(site, command, out).await.map_err(|e| match table {
        Some(table) => as_typed(e, &table),
        None => e,
    })
}

impl Store {
    /// The table as it was typed.
    fn table(&self) -> Option<&str> {
        match self {
            Self::Put(write) | Self::Patch(write) | Self::Delete(write) => Some(&write.table),
            Self::Get { table, .. }
            | Self::Increment { table, .. }
            | Self::PutIf { table, .. }
            | Self::Commit { table, .. }
            | Self::Changes { table, .. }
            | Self::Scan { table, .. }
            | Self::Export { table, .. }
            | Self::Import { table, .. } => Some(table),
            Self::Sql(_)
            | Self::Tables
            | Self::Blob { .. }
            | Self::PutBlob { .. }
            | Self::RmBlob { .. } => None,
        }
    }
}

/// The store's own name of a table means nothing to whoever typed `APP/TABLE`.
fn as_typed(error: anyhow::Error, table: &str) -> anyhow::Error {
    match stored_name(table) {
        Ok(stored) => {
            let text = format!("{error:#}");
            anyhow!(text.replace(&format!("{stored:?}"), &format!("{table:?}")))
        }
        Err(_) => error,
    }
}

async fn carry_out(site: &Site, command: Store, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    match command {
        Store::Get { table, keys } => get(&bus, &stored_name(&table)?, &keys, out).await,
        Store::Put(write) => write_rows(&bus, "put", write, out).await,
        Store::Patch(write) => write_rows(&bus, "patch", write, out).await,
        Store::Delete(write) => write_rows(&bus, "delete", write, out).await,
        Store::Increment { table, key, by, until } => {
            let body = json!({"table": stored_name(&table)?, "key": object(&key)?,
                              "by": object(&by)?, "level": until.level});
            acknowledge(&bus, "increment", body, out).await
        }
        Store::PutIf { table, row, expect } => {
            let body = put_if(&bus, &stored_name(&table)?, object(&row)?, expect).await?;
            acknowledge(&bus, "commit", body, out).await
        }
        Store::Commit { table, commit } => {
            let mut body = object(&commit)?;
            body["table"] = stored_name(&table)?.into();
            acknowledge(&bus, "commit", body, out).await
        }
        Store::Changes { table, after, limit, follow } => {
            changes(&bus, &stored_name(&table)?, after, limit, follow, out).await
        }
        Store::Scan { table, prefix, from, to, columns, conditions, limit, reverse } => {
            let or_empty = |text: Option<&str>| text.map_or(Ok(json!({})), object);
            let filter = conditions.iter().map(|c| condition(c)).collect::<Result<Vec<_>>>()?;
            let mut body = json!({"table": stored_name(&table)?, "filter": filter,
                              "prefix": or_empty(prefix.as_deref())?,
                              "from": or_empty(from.as_deref())?, "to": or_empty(to.as_deref())?,
                              "limit": limit, "reverse": reverse});
            if let Some(columns) = columns {
                body["columns"] = columns.into();
            }
            let answer = client::ask(&bus, Kind::St, "scan", body.to_string()).await?;
            out.show(&client::json::<Scanned>(&answer)?, rows_text)
        }
        Store::Sql(query) => sql::run(&bus, query, out).await,
        Store::Export { table, out: file } => {
            let bar = out.bar("{wide_bar} {pos} rows {eta}");
            let told = |done, total| tell(&bar, done, total);
            let found = client::export(&bus, &stored_name(&table)?, &file, &told).await?;
            bar.finish_and_clear();
            let Exported { rows, complete } = found;
            let answer = json!({"table": table, "rows": rows, "complete": complete, "file": file});
            let lacks = if complete { "" } else { "; the site could not ask for those above it" };
            out.show(&answer, |_| {
                format!("{rows} rows of {table} are in {}{lacks}", file.display())
            })
        }
        Store::Import { table, file } => {
            let bar = out.bar("{wide_bar} {percent}% {eta}");
            let told = |done, total| tell(&bar, done, total);
            let rows = client::import(&bus, &stored_name(&table)?, &file, &told).await?;
            bar.finish_and_clear();
            let answer = json!({"table": table, "rows": rows, "file": file});
            out.show(&answer, |_| format!("{rows} rows of {} are in {table}", file.display()))
        }
        Store::Tables => {
            let report = client::report(&bus).await?;
            out.show(&report.tables, |tables| {
                let row = |status: &store::TableStatus| {
                    let held = match (status.complete, status.replicated_partitions) {
                        (true, _) => "whole".into(),
                        (false, count) => format!("{count} partitions and its own writes"),
                    };
                    let rows = status.segment_rows + status.memory_rows as u64;
                    let of = |has, most| format!("{} of {}", bytes(has), bytes(most));
                    let stored = of(status.segment_bytes, status.table_bytes_max);
                    let largest = of(status.partition_bytes, status.partition_bytes_max);
                    let name = status.spec.name.replacen('_', "/", 1);
                    vec![name, rows.to_string(), stored, largest, held]
                };
                let heading =
                    ["TABLE", "ROWS AND VERSIONS", "STORED", "LARGEST PARTITION", "HELD HERE"];
                table(&heading, tables.iter().map(row))
            })
        }
        Store::Blob { key, out: file, offset, length } => {
            let end = length.map_or(u64::MAX, |length| offset.saturating_add(length));
            let blob = client::blob_range(&bus, &key, offset..end).await?;
            match file {
                Some(file) => std::fs::write(&file, &blob)
                    .with_context(|| format!("cannot write {}", file.display())),
                None => Ok(std::io::Write::write_all(&mut std::io::stdout(), &blob)?),
            }
        }
        Store::PutBlob { file } => {
            let bar = out.bar("{wide_bar} {percent}% {eta}");
            let told = |done, total| tell(&bar, done, total);
            let key = client::put_blob(&bus, &file, &told).await?;
            bar.finish_and_clear();
            out.show(&json!({ "key": key }), |_| format!("{key}\n"))
        }
        Store::RmBlob { keys } => {
            let mut removed: Vec<RemovedBlob> = vec![];
            for key in keys {
                let answer =
                    client::ask(&bus, Kind::St, "rm-blob", json!({"key": key}).to_string());
                removed.push(client::json(&answer.await?)?);
            }
            out.show(&removed, |removed| removed.iter().map(RemovedBlob::line).collect())
        }
    }
}

fn tell(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}

async fn get(bus: &Bus, table: &str, keys: &[String], out: Output) -> Result<()> {
    if let [key] = keys {
        let body = json!({"table": table, "key": object(key)?});
        let answer = client::ask(bus, Kind::St, "get", body.to_string()).await?;
        let row: Value = client::json(&answer)?;
        return out.show(&row, |row| row.get("row").unwrap_or(row).to_string());
    }
    let keys = keys.iter().map(|key| object(key)).collect::<Result<Vec<_>>>()?;
    let body = json!({"table": table, "keys": keys});
    let answer = client::ask(bus, Kind::St, "get-many", body.to_string()).await?;
    out.show(&client::json::<Value>(&answer)?, |answer| {
        let rows = answer["rows"].as_array().map_or(&[][..], Vec::as_slice);
        rows.iter().map(|row| format!("{row}\n")).collect()
    })
}

async fn write_rows(bus: &Bus, op: &str, write: Write, out: Output) -> Result<()> {
    let rows = write.rows.iter().map(|row| object(row)).collect::<Result<Vec<_>>>()?;
    let body = json!({"table": stored_name(&write.table)?, "rows": rows,
                      "level": write.until.level});
    acknowledge(bus, op, body, out).await
}

/// Sends a write and prints how far it got.
async fn acknowledge(bus: &Bus, op: &str, body: Value, out: Output) -> Result<()> {
    let answer = client::ask(bus, Kind::St, op, body.to_string()).await?;
    out.show(&client::json::<Value>(&answer)?, |answer| {
        let level = answer["ack"]["level"].as_str().unwrap_or("?");
        format!("done, acknowledged at level {level}")
    })
}

/// A commit that puts a row under one condition; the table says which columns are its key.
async fn put_if(bus: &Bus, table: &str, row: Value, expect: Expect) -> Result<Value> {
    let answer = client::ask(bus, Kind::St, "table", json!({"table": table}).to_string()).await?;
    let spec: Value = client::json(&answer)?;
    let columns = spec["table"]["key"].as_array().context("the table's key is not known")?;
    let mut condition = json!({"key": {}});
    for name in columns.iter().filter_map(Value::as_str) {
        let value = row.get(name).with_context(|| format!("the row lacks key column {name:?}"))?;
        condition["key"][name] = value.clone();
    }
    match expect {
        Expect { absent: true, .. } => condition["absent"] = true.into(),
        Expect { version: Some(version), .. } => condition["version"] = version.into(),
        Expect { values, .. } => condition["values"] = object(values.as_deref().unwrap_or("{}"))?,
    }
    Ok(json!({"table": table, "if": [condition], "do": [{"put": row}]}))
}

/// Prints one answer of the change feed, or one after the other.
async fn changes(
    bus: &Bus,
    table: &str,
    mut after: String,
    limit: usize,
    follow: bool,
    out: Output,
) -> Result<()> {
    loop {
        let wait_ms = if follow { FOLLOW_WAIT_MS } else { 0 };
        let body = json!({"table": table, "after": after, "limit": limit, "wait_ms": wait_ms});
        let answer = client::ask(bus, Kind::St, "changes", body.to_string()).await?;
        let feed: Value = client::json(&answer)?;
        let changes = feed["changes"].as_array().map_or(&[][..], Vec::as_slice);
        if !follow {
            return out.show(&feed, |feed| {
                let next = feed["next"].as_str().unwrap_or_default();
                format!("{}next: {next}", changes.iter().map(change_line).collect::<String>())
            });
        }
        for change in changes {
            match out.json {
                true => println!("{change}"),
                false => print!("{}", change_line(change)),
            }
        }
        after = feed["next"].as_str().context("the answer has no next position")?.to_owned();
    }
}

fn change_line(change: &Value) -> String {
    match &change["row"] {
        Value::Null => format!("deleted {}\n", change["key"]),
        row => format!("{row}\n"),
    }
}

/// `column OP value` as the scan takes it; a value that is no JSON is text.
fn condition(text: &str) -> Result<Value> {
    let found = ["<=", ">=", "!=", "==", "=", "<", ">"].iter().filter_map(|op| {
        let (column, value) = text.split_once(op)?;
        Some((column.len(), column.trim(), *op, value.trim()))
    });
    // The operator that stands first, the longer one where two do.
    let first = found.min_by_key(|(at, _, op, _)| (*at, 2 - op.len()));
    let (_, column, op, value) = first.with_context(|| {
        format!("{text:?} is no condition; write one as in 'score>=0.5' (=, !=, <, <=, >, >=)")
    })?;
    let value: Value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok(json!({"column": column, "op": op, "value": value}))
}

/// The store's name of `APP/TABLE`.
fn stored_name(table: &str) -> Result<String> {
    let (app, name) = table.split_once('/').with_context(|| {
        format!("{table:?} names no table of an app; write APP/TABLE, as in doorcam/motion")
    })?;
    Ok(handlers::deploy::table_name(app, name))
}

fn object(text: &str) -> Result<Value> {
    let value: Value =
        serde_json::from_str(text).with_context(|| format!("{text:?} is no JSON"))?;
    anyhow::ensure!(value.is_object(), "{text:?} is no JSON object");
    Ok(value)
}

type Columns = serde_json::Map<String, Value>;

/// What a scan answers with; its rows are printed in the order of `columns`.
#[derive(Deserialize)]
struct Scanned {
    columns: Vec<String>,
    rows: Vec<Columns>,
    #[serde(flatten)]
    rest: Columns,
}

impl Serialize for Scanned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = |row| OrderedRow { row, columns: &self.columns };
        let rows: Vec<OrderedRow<'_>> = self.rows.iter().map(row).collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("columns", &self.columns)?;
        map.serialize_entry("rows", &rows)?;
        for (name, value) in &self.rest {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

struct OrderedRow<'a> {
    row: &'a Columns,
    columns: &'a [String],
}

impl Serialize for OrderedRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.columns.iter().filter_map(|name| self.row.get_key_value(name)))
    }
}

/// What became of a blob that was to be removed.
#[derive(Serialize, Deserialize)]
struct RemovedBlob {
    blob: store::BlobKey,
    removed: store::Removed,
}

impl RemovedBlob {
    fn line(&self) -> String {
        let blob = &self.blob;
        match self.removed {
            store::Removed::Blob => format!("{blob} is removed\n"),
            store::Removed::Copy => {
                format!("the copy of {blob} here is removed; {} keeps the blob\n", blob.site())
            }
        }
    }
}

/// Rows as a table.
fn rows_text(scanned: &Scanned) -> String {
    if scanned.rows.is_empty() {
        return "no rows".into();
    }
    let heading: Vec<&str> = scanned.columns.iter().map(String::as_str).collect();
    let cell = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let line = |row: &Columns| heading.iter().map(|name| cell(row.get(*name))).collect();
    table(&heading, scanned.rows.iter().map(line))
}

#[cfg(test)]
mod tests;
