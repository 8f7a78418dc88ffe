//! `edgescale store`: rows and tables.

pub mod salvage;
mod scan;
mod sql;

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use bus::{Bus, Kind};
use clap::Subcommand;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::output::{Output, bytes, causes, table};
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
        #[command(flatten)]
        read: Read,
    },
    /// Write whole rows: columns that a row leaves out become null
    Put(Write),
    /// Write the named columns of rows and leave the others
    Patch(Write),
    /// Delete rows by key
    Delete(Write),
    /// Take elements out of set columns: {"camera":"front","tags":["old"]}
    Discard(Write),
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
    Scan(scan::Scan),
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
    /// Mend the store of a site whose node does not start because its log or a manifest is damaged:
    /// set what is damaged aside and keep what is sound
    Salvage {
        /// The node's configuration file; that of the site of --dir, or --at, unless said
        #[arg(long)]
        config: Option<PathBuf>,
        /// Take this damaged segment out of its table, for good, as `doctor` names it; the range of
        /// keys is printed of which rows are lost. May be repeated
        #[arg(long, value_name = "OBJECT")]
        give_up: Vec<String>,
    },
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

/// How a read may be answered.
#[derive(clap::Args)]
pub struct Read {
    /// Answer from what is at this site, even if it is not complete
    #[arg(long)]
    local: bool,
    /// Wait so many milliseconds for the sites above at most, then answer from what is at this one
    #[arg(long, value_name = "MS")]
    deadline_ms: Option<u64>,
}

impl Read {
    fn options(&self) -> store::ReadOptions {
        store::ReadOptions { local_only: self.local, deadline_ms: self.deadline_ms }
    }
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
            Self::Put(write) | Self::Patch(write) | Self::Delete(write) | Self::Discard(write) => {
                Some(&write.table)
            }
            Self::Get { table, .. }
            | Self::Increment { table, .. }
            | Self::PutIf { table, .. }
            | Self::Commit { table, .. }
            | Self::Changes { table, .. }
            | Self::Scan(scan::Scan { table, .. })
            | Self::Export { table, .. }
            | Self::Import { table, .. } => Some(table),
            Self::Sql(_)
            | Self::Tables
            | Self::Salvage { .. }
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
            let text = causes(&error);
            anyhow!(text.replace(&format!("{stored:?}"), &format!("{table:?}")))
        }
        Err(_) => error,
    }
}

async fn carry_out(site: &Site, command: Store, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    match command {
        Store::Get { table, keys, read } => {
            get(&bus, &stored_name(&table)?, &keys, &read, out).await
        }
        Store::Put(write) => write_rows(&bus, "put", write, out).await,
        Store::Patch(write) => write_rows(&bus, "patch", write, out).await,
        Store::Delete(write) => write_rows(&bus, "delete", write, out).await,
        Store::Discard(write) => write_rows(&bus, "discard", write, out).await,
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
        Store::Scan(scan) => scan.run(&bus, out).await,
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
        // Done without a site that runs.
        Store::Salvage { .. } => Ok(()),
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

async fn get(bus: &Bus, table: &str, keys: &[String], read: &Read, out: Output) -> Result<()> {
    let options = read.options();
    if let [key] = keys {
        let body = json!({"table": table, "key": object(key)?, "options": options});
        let answer = client::ask(bus, Kind::St, "get", body.to_string()).await?;
        let row: Value = client::json(&answer)?;
        tell_of_gaps(&row["coverage"]);
        return out.show(&row, |row| row.get("row").unwrap_or(row).to_string());
    }
    let keys = keys.iter().map(|key| object(key)).collect::<Result<Vec<_>>>()?;
    let body = json!({"table": table, "keys": keys, "options": options});
    let answer = client::ask(bus, Kind::St, "get-many", body.to_string()).await?;
    let answer: Value = client::json(&answer)?;
    tell_of_gaps(&answer);
    out.show(&answer, |answer| {
        let rows = answer["rows"].as_array().map_or(&[][..], Vec::as_slice);
        rows.iter().map(|row| format!("{row}\n")).collect()
    })
}

/// Says so where the answer may lack rows.
fn tell_of_gaps(coverage: &Value) {
    if coverage["complete"] == false {
        let source = coverage["source"].as_str().unwrap_or("this site");
        eprintln!("rows may be lacking: this is what {source} knows");
    }
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

/// The store's name of `APP/TABLE`.
fn stored_name(table: &str) -> Result<String> {
    let (app, name) = table.split_once('/').with_context(|| {
        format!("{table:?} names no table of an app; write APP/TABLE, as in doorcam/motion")
    })?;
    Ok(handlers::deploy::table_name(app, name))
}

/// How keys and rows are written.
const FORM: &str = r#"write columns and values, as in '{"name": "Ada"}'"#;

fn object(text: &str) -> Result<Value> {
    let value: Value =
        serde_json::from_str(text).with_context(|| format!("{text:?} is no JSON; {FORM}"))?;
    anyhow::ensure!(value.is_object(), "{text:?} is no JSON object; {FORM}");
    Ok(value)
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

#[cfg(test)]
mod tests;
