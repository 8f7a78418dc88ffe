//! `edgescale store scan`: rows in key order.

use anyhow::{Context as _, Result};
use bus::{Bus, Kind};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::{Read, object, stored_name, tell_of_gaps};
use crate::cli::output::{Output, table};
use crate::node::client;

/// What rows, and how many.
#[derive(clap::Args)]
pub struct Scan {
    /// APP/TABLE
    pub(super) table: String,
    /// Leading key columns that must match, as JSON
    #[arg(long)]
    prefix: Option<String>,
    /// Leading key columns of the first row, as JSON
    #[arg(long)]
    from: Option<String>,
    /// Leading key columns of the end, which is not printed, as JSON
    #[arg(long)]
    to: Option<String>,
    /// Key to go on after, as JSON: the `next` of an earlier answer
    #[arg(long, value_name = "KEY")]
    after: Option<String>,
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
    #[command(flatten)]
    read: Read,
}

impl Scan {
    /// Asks and prints.
    pub(super) async fn run(self, bus: &Bus, out: Output) -> Result<()> {
        let answer = client::ask(bus, Kind::St, "scan", self.body()?.to_string()).await?;
        let scanned: Scanned = client::json(&answer)?;
        scanned.rest.get("coverage").into_iter().for_each(tell_of_gaps);
        if let (false, Some(next)) = (out.json, scanned.rest.get("next").filter(|n| !n.is_null())) {
            eprintln!("there are more; go on with --after '{next}'");
        }
        out.show(&scanned, rows_text)
    }

    fn body(&self) -> Result<Value> {
        let or_empty = |text: &Option<String>| text.as_deref().map_or(Ok(json!({})), object);
        let filter = self.conditions.iter().map(|c| condition(c)).collect::<Result<Vec<_>>>()?;
        let mut body = json!({"table": stored_name(&self.table)?, "filter": filter,
                          "prefix": or_empty(&self.prefix)?, "from": or_empty(&self.from)?,
                          "to": or_empty(&self.to)?, "after": or_empty(&self.after)?,
                          "limit": self.limit, "reverse": self.reverse,
                          "options": self.read.options()});
        if let Some(columns) = &self.columns {
            body["columns"] = columns.clone().into();
        }
        Ok(body)
    }
}

/// `column OP value` as the scan takes it; a value that is no JSON is text.
pub(super) fn condition(text: &str) -> Result<Value> {
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

type Columns = serde_json::Map<String, Value>;

/// What a scan answers with; its rows are printed in the order of `columns`.
#[derive(Deserialize)]
pub(super) struct Scanned {
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

/// Rows as a table.
pub(super) fn rows_text(scanned: &Scanned) -> String {
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
