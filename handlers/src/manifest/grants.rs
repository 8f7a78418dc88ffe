//! `[grants]`: what an app asks for beyond its own tables and subjects.

use std::collections::BTreeSet;

use super::parse::{bounded, is_name};
use super::reader::{Field, Node};
use super::*;
use crate::outbound::GRANTS_MAX;

type Result<T> = std::result::Result<T, ManifestError>;

/// Most entries of a list of names.
const NAMES_MAX: usize = 64;
/// The first three are what is granted; a handler may need the last one as well.
const DEVICES: &[(&str, DeviceClass)] = &[
    ("cpu", DeviceClass::Cpu),
    ("gpu", DeviceClass::Gpu),
    ("fpga", DeviceClass::Fpga),
    ("encode.h264", DeviceClass::EncodeH264),
];
const GRANTED: usize = 3;

pub(super) fn grants(root: &Node<'_>) -> Result<Grants> {
    let Some(node) = root.table("grants")? else { return Ok(Grants::default()) };
    node.only(&["tables", "subjects", "devices", "hosts"])?;
    Ok(Grants {
        tables: foreign_names(&node, "tables", '/', "app/table")?,
        subjects: foreign_names(&node, "subjects", '.', "app.subject")?,
        devices: classes(&node, "devices", &DEVICES[..GRANTED])?,
        hosts: hosts(&node)?,
    })
}

fn hosts(node: &Node<'_>) -> Result<Vec<HostGrant>> {
    let Some(field) = node.field("hosts") else { return Ok(Vec::new()) };
    let entries = field.list()?;
    if entries.len() > GRANTS_MAX {
        return Err(field.wrong(format!("{} entries; at most {GRANTS_MAX} go", entries.len())));
    }
    let host = |entry: &Field<'_>| entry.text()?.parse().map_err(|e: String| entry.wrong(e));
    entries.iter().map(host).collect()
}

/// Names in another app's namespace: the app, a separator, the rest.
fn foreign_names(node: &Node<'_>, field: &str, between: char, form: &str) -> Result<Vec<String>> {
    let Some(field) = node.field(field) else { return Ok(Vec::new()) };
    let entries = field.list()?;
    if entries.len() > NAMES_MAX {
        return Err(field.wrong(format!("{} entries; at most {NAMES_MAX} go", entries.len())));
    }
    let mut names = Vec::new();
    for entry in entries {
        let text = bounded(&entry, 256)?;
        let parts = text.split_once(between);
        if !parts.is_some_and(|(app, rest)| is_name(app) && !rest.is_empty()) {
            return Err(entry.wrong(format!("\"{text}\" names no other app's; write \"{form}\"")));
        }
        names.push(text);
    }
    Ok(names)
}

/// What a handler cannot do without.
pub(super) fn needs(node: &Node<'_>) -> Result<BTreeSet<DeviceClass>> {
    classes(node, "needs", DEVICES)
}

fn classes(
    node: &Node<'_>,
    field: &str,
    names: &[(&str, DeviceClass)],
) -> Result<BTreeSet<DeviceClass>> {
    let Some(field) = node.field(field) else { return Ok(BTreeSet::new()) };
    field.list()?.iter().map(|entry| entry.choice("device", names)).collect()
}
