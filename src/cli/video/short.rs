//! The short form of pipelines: `gray | gaussian size=9 | sobel`.
//!
//! Each operation takes what the one before it gave, the first the frame. Of two inputs, the second
//! is boxes where it must be, else what was given in the frame before; `from=NAME` and `with=NAME`
//! name others, and `as=NAME` names an output. The last output is what is returned.

use accel::{Op, Pipeline, Step};
use anyhow::{Result, bail, ensure};
use kernels::stem::{SettingKind, Takes};
use serde_json::{Map, Value};

/// A pipeline from its short form.
pub fn parse(text: &str) -> Result<Pipeline> {
    let mut steps: Vec<Step> = Vec::new();
    for part in text.split('|') {
        let step = step(part.trim(), &steps)?;
        steps.push(step);
    }
    let returns = steps.last().map(|step| step.output.clone()).into_iter().collect();
    let pipeline = Pipeline { steps, returns };
    pipeline.check()?;
    Ok(pipeline)
}

fn step(text: &str, before: &[Step]) -> Result<Step> {
    let mut words = words(text)?.into_iter();
    let Some(name) = words.next() else { bail!("an operation is missing around |") };
    let mut settings = Map::new();
    let (mut from, mut with, mut output) = (None, None, None);
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            bail!("{name}: \"{word}\": give parameters as NAME=VALUE");
        };
        match key {
            "from" => from = Some(value.to_string()),
            "with" => with = Some(value.to_string()),
            "as" => output = Some(value.to_string()),
            _ => drop(settings.insert(key.to_string(), setting(&name, key, value))),
        }
    }
    let op = Op::new(&name, &settings)?;
    let last = before.last().map_or("frame", |step| &step.output);
    let first = from.unwrap_or_else(|| last.to_string());
    let second = match op.spec().inputs.get(1) {
        None => None,
        Some(Takes::Boxes) => Some(with.map_or_else(|| boxes(&name, before), Ok)?),
        Some(_) => Some(with.unwrap_or_else(|| format!("{first}@-1"))),
    };
    let output = output.unwrap_or_else(|| format!("{name}{}", before.len() + 1));
    let input = std::iter::once(first).chain(second).collect();
    Ok(Step { op, input, output })
}

/// Words between spaces; quotes keep spaces inside.
fn words(text: &str) -> Result<Vec<String>> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.extend(some(&mut word)),
            c => word.push(c),
        }
    }
    ensure!(!quoted, "{text}: a quote is not closed");
    words.extend(some(&mut word));
    Ok(words)
}

fn some(word: &mut String) -> Option<String> {
    (!word.is_empty()).then(|| std::mem::take(word))
}

/// A value as JSON: texts stay texts, lists are joined by commas.
fn setting(op: &str, name: &str, value: &str) -> Value {
    let spec = kernels::ops().find(|spec| spec.name == op);
    let setting = spec.and_then(|spec| spec.settings.iter().find(|s| s.name == name));
    let number = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    match setting.map(|setting| setting.kind) {
        Some(SettingKind::Text { .. } | SettingKind::Choice(_)) => Value::from(value),
        Some(SettingKind::Numbers { .. }) => value.split(',').map(number).collect(),
        _ => number(value),
    }
}

/// The boxes made last.
fn boxes(op: &str, before: &[Step]) -> Result<String> {
    let last = before.iter().rev().find(|step| step.op.name() == "boxes");
    match last {
        Some(step) => Ok(step.output.clone()),
        None => bail!("{op}: it takes boxes: put boxes before it"),
    }
}

#[cfg(test)]
mod tests;
