//! `edgescale dlq`: what could not be handled at a site.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{Output, plain, table};
use crate::context::Site;
use crate::node::client;
use crate::node::dlq::SHOWN_BYTES_MAX;

#[derive(Subcommand)]
pub enum Dlq {
    /// List the dead letters of a site, oldest first
    Ls {
        /// Only those with a higher number
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// How many at most
        #[arg(short = 'n', long, default_value_t = 50)]
        limit: usize,
    },
    /// Show one whole: error, stack, headers, body
    Show {
        /// Its number
        seq: u64,
    },
    /// Give some back, each to the handler that failed and to that one alone
    Redrive(Which),
    /// Remove some for good
    Drop(Which),
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Their numbers, as `ls` shows them
    seq: Vec<u64>,
    /// All that there are now
    #[arg(long)]
    all: bool,
}

/// Runs one of the commands.
pub async fn run(site: &Site, command: Dlq, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    let ask = async |verb: &str, body: Value| -> Result<Value> {
        client::json(&client::control(&bus, &format!("dlq.{verb}"), body.to_string()).await?)
    };
    match command {
        Dlq::Ls { mut after, limit } => {
            let mut shown = json!({"letters": [], "total": 0});
            loop {
                let have = letters_of(&shown).len();
                let more = ask("ls", json!({"after": after, "limit": limit - have})).await?;
                shown["total"] = more["total"].clone();
                let Some(last) = letters_of(&more).last() else { break };
                after = last["seq"].as_u64().unwrap_or(u64::MAX);
                let all = [letters_of(&shown), letters_of(&more)].concat();
                shown["letters"] = all.into();
                if letters_of(&shown).len() >= limit {
                    break;
                }
            }
            out.show(&shown, |shown| list(site, shown))
        }
        Dlq::Show { seq } => {
            let answer = ask("show", json!({"seq": [seq]})).await?;
            out.show(&answer, whole)
        }
        Dlq::Redrive(which) => several(&which.ask("redrive", ask).await?, "redriven", out),
        Dlq::Drop(which) => several(&which.ask("drop", ask).await?, "dropped", out),
    }
}

impl Which {
    /// Asks until all are done that were there at the first question.
    async fn ask(
        &self,
        verb: &str,
        ask: impl AsyncFn(&str, Value) -> Result<Value>,
    ) -> Result<Value> {
        if !self.all {
            return ask(verb, json!({"seq": self.seq})).await;
        }
        let mut answer = ask(verb, json!({"all": true})).await?;
        while answer["more"] == true {
            let (upto, before) = (answer["upto"].clone(), answer["done"].as_u64());
            answer = ask(verb, json!({"all": true, "upto": upto})).await?;
            answer["done"] = (before.unwrap_or(0) + answer["done"].as_u64().unwrap_or(0)).into();
        }
        Ok(answer)
    }
}

fn several(answer: &Value, done: &str, out: Output) -> Result<()> {
    out.show(answer, |answer| format!("{} {done}", answer["done"]))?;
    match answer["missing"].as_array().map(Vec::as_slice) {
        None | Some([]) => Ok(()),
        Some(missing) => {
            let missing: Vec<String> = missing.iter().map(Value::to_string).collect();
            bail!("no dead letter {}", missing.join(", "))
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn letters_of(answer: &Value) -> &[Value] {
    answer["letters"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn list(site: &Site, answer: &Value) -> String {
    let letters = letters_of(answer);
    if letters.is_empty() {
        return format!("no dead letters at {}", site.path);
    }
    let columns = ["seq", "time", "name", "handler", "attempts", "reason"];
    let rows = letters.iter().map(|letter| columns.map(|name| text(&letter[name])).to_vec());
    let shown = table(&["SEQ", "TIME", "EVENT", "HANDLER", "ATTEMPTS", "REASON"], rows);
    format!("{shown}\n{} of {}", letters.len(), answer["total"])
}

fn whole(letter: &Value) -> String {
    let mut lines: Vec<String> = ["seq", "time", "name", "handler", "attempts", "reason"]
        .iter()
        .map(|name| format!("{name:10} {}", text(&letter[*name])))
        .collect();
    if let Some(stack) = letter["stack"].as_str().filter(|stack| !stack.is_empty()) {
        lines.push(format!("stack\n{stack}"));
    }
    for (name, value) in letter["headers"].as_object().into_iter().flatten() {
        lines.push(format!("header     {name}: {}", text(value)));
    }
    match letter["body"].as_str() {
        Some(body) => lines.push(format!("\n{body}")),
        None => lines.push(format!("\nbase64: {}", text(&letter["body_base64"]))),
    }
    let bytes = letter["body_bytes"].as_u64().unwrap_or(0);
    if bytes > SHOWN_BYTES_MAX {
        lines.push(format!("\n({bytes} bytes in all)"));
    }
    plain(&lines.join("\n"))
}
