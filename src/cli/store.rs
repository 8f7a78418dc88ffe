//! `edgescale store`: rows and tables.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use bus::Kind;
use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{Output, table};
use crate::context::Site;
use crate::node::client;

#[derive(Subcommand)]
pub enum Store {
    /// Print one row
    Get {
        /// APP/TABLE
        table: String,
        /// The key as JSON: {"camera":"front","frame":7}
        key: String,
    },
    /// Print rows in key order
    Scan {
        /// APP/TABLE
        table: String,
        /// Leading key columns that must match, as JSON
        #[arg(long)]
        prefix: Option<String>,
        /// Most rows
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Last key first
        #[arg(long)]
        reverse: bool,
    },
    /// Write a whole table as a Parquet file
    Export {
        /// APP/TABLE
        table: String,
        /// The file
        out: PathBuf,
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
    },
}

/// Carries out a store command at a site.
pub async fn run(site: &Site, command: Store, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    match command {
        Store::Get { table, key } => {
            let body = json!({"table": stored_name(&table)?, "key": object(&key)?});
            let answer = client::ask(&bus, Kind::St, "get", body.to_string()).await?;
            let row: Value = client::json(&answer)?;
            out.show(&row, |row| row.get("row").unwrap_or(row).to_string())
        }
        Store::Scan { table, prefix, limit, reverse } => {
            let prefix = prefix.as_deref().map_or(Ok(json!({})), object)?;
            let body = json!({"table": stored_name(&table)?, "prefix": prefix, "limit": limit,
                              "reverse": reverse});
            let answer = client::ask(&bus, Kind::St, "scan", body.to_string()).await?;
            out.show(&client::json::<Value>(&answer)?, rows_text)
        }
        Store::Export { table, out: file } => {
            let rows = client::export(&bus, &stored_name(&table)?, &file).await?;
            let answer = json!({"table": table, "rows": rows, "file": file});
            out.show(&answer, |_| format!("{rows} rows of {table} are in {}", file.display()))
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
                    vec![status.spec.name.replacen('_', "/", 1), rows.to_string(), held]
                };
                table(&["TABLE", "ROWS AND VERSIONS", "HELD HERE"], tables.iter().map(row))
            })
        }
        Store::Blob { key, out: file } => {
            let blob = crate::node::client::blob(&bus, &key).await?;
            match file {
                Some(file) => std::fs::write(&file, &blob)
                    .with_context(|| format!("cannot write {}", file.display())),
                None => Ok(std::io::Write::write_all(&mut std::io::stdout(), &blob)?),
            }
        }
    }
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

/// Rows as a table: the columns of the first row, in their order.
fn rows_text(answer: &Value) -> String {
    let rows = answer.get("rows").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(Value::Object(first)) = rows.first() else { return "no rows".into() };
    let heading: Vec<&str> = first.keys().map(String::as_str).collect();
    let cell = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let line = |row: &Value| heading.iter().map(|name| cell(row.get(name))).collect();
    table(&heading, rows.iter().map(line))
}
