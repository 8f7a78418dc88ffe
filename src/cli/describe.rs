//! `edgescale describe`: an app as its manifest has it, and what a site makes of it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use handlers::Manifest;
use handlers::deploy::Registered;
use handlers::manifest::{Grants, Handler, Placement, TableSpec, TierClass, Trigger};
use serde::Serialize;
use serde_json::{Value, json};

use super::output::{Output, plain, table};
use crate::context::Site;
use crate::node::client;

/// What the handlers of an app are to a site, by their names.
type States = BTreeMap<String, String>;

/// Asks and prints.
pub async fn describe(site: &Site, app: &str, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    let answer = client::control(&bus, "apps.get", app.to_owned()).await?;
    let Registered { revision, manifest, .. } = client::json(&answer)?;
    let manifest = Manifest::parse(&manifest).with_context(|| format!("manifest of {app}"))?;
    let known = client::report(&bus).await?.apps.into_iter().find(|known| known.name == app);
    let handlers = known.into_iter().flat_map(|known| known.handlers);
    let states: States = handlers.map(|handler| (handler.name, handler.state)).collect();
    let document = json!({"app": app, "revision": revision, "site": site.path,
                          "manifest": manifest, "states": states});
    out.show(&document, |_| {
        let version = &manifest.app.version;
        format!("{app} {version}, revision {revision}\n\n{}", text(&manifest, &states))
    })
}

fn text(manifest: &Manifest, states: &States) -> String {
    let handler = |of: &Handler| {
        let state = states.get(&of.name).map_or("absent", String::as_str);
        let started: Vec<String> = of.triggers.iter().map(trigger).collect();
        let limits = &of.limits;
        let limits = format!(
            "{} MiB, {} ms, {} at once",
            limits.memory_mb, limits.timeout_ms, limits.concurrency
        );
        let words = [of.kind.name(), state].map(str::to_owned);
        let rest = [started.join(", "), placement(&of.placement), limits];
        [&[of.name.clone()][..], &words, &rest].concat()
    };
    let heading = ["HANDLER", "KIND", "STATE", "STARTED BY", "RUNS AT", "LIMITS"];
    let mut text = table(&heading, manifest.handlers.iter().map(handler));
    if !manifest.tables.is_empty() {
        let row = |of: &TableSpec| vec![of.name.clone(), of.key.join(", "), columns(of)];
        text += "\n\n";
        text += &table(&["TABLE", "KEY", "COLUMNS"], manifest.tables.iter().map(row));
    }
    let granted = grants(&manifest.grants);
    if !granted.is_empty() {
        text += &format!("\n\ngranted: {}", plain(&granted.join(", ")));
    }
    text
}

fn trigger(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Event(pattern) => format!("event {pattern}"),
        Trigger::Call(name) => format!("call {name}"),
        Trigger::Cron(cron) => format!("cron {} {}", cron.line, cron.zone),
        Trigger::Table { table, .. } => format!("table {table}"),
        Trigger::Http(route) => format!("http {route}"),
        Trigger::Stream { name, .. } => format!("stream {name}"),
    }
}

fn placement(of: &Placement) -> String {
    let range = match (of.min_tier, of.max_tier) {
        (TierClass::Device, TierClass::Cloud) => "any site".to_owned(),
        (min, max) if min == max => word(&min),
        (min, max) => format!("{} to {}", word(&min), word(&max)),
    };
    let prefer = of.prefer.map(|tier| format!("{} first", word(&tier)));
    let near = of.near.as_ref().map(|table| format!("near {table}"));
    let needs = of.needs.iter().map(|device| format!("with {}", word(device)));
    let words = std::iter::once(range).chain(prefer).chain(near).chain(needs);
    words.collect::<Vec<_>>().join(", ")
}

/// Those that are no part of the key.
fn columns(table: &TableSpec) -> String {
    let others = table.columns.iter().filter(|column| !table.key.contains(&column.name));
    let one = |column: &store::ColumnSpec| {
        let (name, kind) = (&column.name, word(&column.kind).replace('-', "_"));
        match word(&column.merge).as_str() {
            "lww" => format!("{name} {kind}"),
            merge => format!("{name} {kind} {merge}"),
        }
    };
    others.map(one).collect::<Vec<_>>().join(", ")
}

fn grants(of: &Grants) -> Vec<String> {
    let tables = of.tables.iter().map(|table| format!("table {table}"));
    let subjects = of.subjects.iter().map(|subject| format!("subject {subject}"));
    let devices = of.devices.iter().map(|device| format!("device {}", word(device)));
    let hosts = of.hosts.iter().map(|host| format!("host {host}"));
    tables.chain(subjects).chain(devices).chain(hosts).collect()
}

/// A word of the manifest.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
