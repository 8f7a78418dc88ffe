//! `edgescale store sql`: a question, and its answer as a table, CSV or JSON.

use anyhow::Result;
use bus::{Bus, Kind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cli::output::{Output, table};
use crate::node::client;

/// A question in SQL.
#[derive(clap::Args)]
pub struct Sql {
    /// SELECT …, EXPLAIN SELECT …, DESCRIBE …, SHOW TABLES; tables are APP.TABLE
    query: String,
    /// The app whose tables need no APP. before their name
    #[arg(long)]
    app: Option<String>,
    /// Most rows
    #[arg(long, default_value_t = 1000)]
    limit: usize,
    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
    /// Answer from what is at this site, even if it is not complete
    #[arg(long)]
    local: bool,
}

#[derive(Deserialize, Serialize)]
struct Answer {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
    truncated: bool,
    coverage: store::Coverage,
}

#[derive(Deserialize, Serialize)]
struct Column {
    name: String,
    r#type: String,
}

/// Asks and prints.
pub async fn run(bus: &Bus, sql: Sql, out: Output) -> Result<()> {
    let body = json!({"sql": sql.query, "app": sql.app, "limit": sql.limit,
                      "options": {"local_only": sql.local}});
    let answer = client::ask(bus, Kind::St, "sql", body.to_string()).await?;
    let answer: Answer = client::json(&answer)?;
    if answer.truncated {
        eprintln!("these are the first {} rows; add a LIMIT or group them", answer.rows.len());
    }
    if !answer.coverage.complete {
        eprintln!("the parent is out of reach: this is what {} knows", answer.coverage.source);
    }
    if sql.csv {
        print!("{}", csv(&answer));
        return Ok(());
    }
    out.show(&answer, text)
}

fn text(answer: &Answer) -> String {
    let heading: Vec<&str> = answer.columns.iter().map(|c| c.name.as_str()).collect();
    if heading == ["plan_type", "plan"] {
        let plan = |row: &Vec<Value>| row.iter().map(cell).collect::<Vec<_>>().join(":\n");
        return answer.rows.iter().map(plan).collect::<Vec<_>>().join("\n");
    }
    match answer.rows.is_empty() {
        true => "no rows".into(),
        false => table(&heading, answer.rows.iter().map(|row| row.iter().map(cell).collect())),
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// As exports write it (RFC 4180): an empty field is null, and `""` the empty text.
fn csv(answer: &Answer) -> String {
    let quoted = |text: &str| match text.is_empty() || text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    let field = |value: &Value| match value {
        Value::Null => String::new(),
        value => quoted(&cell(value)),
    };
    let names = answer.columns.iter().map(|column| quoted(&column.name));
    let mut lines = names.collect::<Vec<_>>().join(",") + "\n";
    for row in &answer.rows {
        lines.extend([row.iter().map(field).collect::<Vec<_>>().join(","), "\n".into()]);
    }
    lines
}

#[cfg(test)]
mod tests;
