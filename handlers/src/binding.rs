//! Bindings: rows that a handler is given with its input, and what becomes of its result, so that
//! a small handler needs no API. All of it is decided here, as data: which rows to fetch, and
//! which rows, events and blobs to write. `execute/bound.rs` does it.

mod template;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::ColumnKind;

pub use self::template::{Source, Template};
use crate::manifest::http::decode;

/// Most inputs, and most outputs, of a handler.
pub const BINDINGS_MAX: usize = 16;
/// Most rows or events that one output makes of one result.
pub const ELEMENTS_MAX: usize = 256;

type Row = Map<String, Value>;

/// `[[handler.input]]` and `[[handler.output]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bindings {
    #[serde(default)]
    pub inputs: Vec<Input>,
    #[serde(default)]
    pub outputs: Vec<Output>,
}

/// A row that comes with the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What the handler finds it by.
    pub name: String,
    /// A table of the app, or `app/table` of another one.
    pub table: String,
    /// Each column of the table's key.
    pub key: Vec<Column>,
    /// Line of `table` in the manifest, from 1.
    pub line: usize,
}

/// What becomes of the result, or of a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    pub to: Sink,
    /// JSON pointer (RFC 6901) to the part; the whole when nothing is said.
    #[serde(default)]
    pub from: String,
    /// Line of the sink in the manifest, from 1.
    pub line: usize,
}

/// Where a part of the result goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sink {
    /// An object is a row, a list of them several.
    Table {
        table: String,
        /// Columns that every row gets.
        set: Vec<Column>,
    },
    /// An event by this name; a list is several.
    Event(Template),
    /// A blob, whose key is `{blob.NAME}` in the other outputs.
    Blob { name: String, encoding: Encoding },
}

/// A column and where its value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub value: Template,
    /// Unknown in tables of other apps.
    pub kind: Option<ColumnKind>,
}

/// What the text of a blob stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    #[default]
    Utf8,
    Base64,
}

/// What expressions read.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub id: String,
    pub source: String,
    pub time: String,
    /// Of an event, or the name of a call.
    pub subject: String,
    pub headers: Vec<(String, String)>,
    pub query: String,
    /// Parameters of the route.
    pub path: Vec<(String, String)>,
    pub data: Value,
    /// Nothing, until the handler has answered.
    pub result: Value,
    /// Keys of blobs that were stored, by name.
    pub blobs: BTreeMap<String, String>,
}

/// A thing to write.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Put {
        table: String,
        rows: Vec<Row>,
    },
    Publish {
        subject: String,
        data: Value,
        /// Told apart by this from the other events of the same invocation.
        number: String,
    },
}

impl Bindings {
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.outputs.is_empty()
    }

    /// The blobs to store before everything else: name and content.
    pub fn blobs(&self, given: &Given, answer: &Bytes) -> Result<Vec<(String, Bytes)>, String> {
        let mut blobs = Vec::new();
        for (at, output) in self.outputs.iter().enumerate() {
            let Sink::Blob { name, encoding } = &output.to else { continue };
            let content = output.content(given, answer, *encoding);
            let content = content.map_err(|problem| format!("output[{at}]: {problem}"))?;
            blobs.extend(content.map(|content| (name.clone(), content)));
        }
        Ok(blobs)
    }

    /// What else the result comes to; all of it is known before any of it is done.
    pub fn effects(&self, given: &Given) -> Result<Vec<Effect>, String> {
        let mut effects = Vec::new();
        for (at, output) in self.outputs.iter().enumerate() {
            let added = output.effects(at, given, &mut effects);
            added.map_err(|problem| format!("output[{at}]: {problem}"))?;
        }
        Ok(effects)
    }
}

impl Input {
    /// The key of the row, when everything it is made of is there.
    pub fn key(&self, given: &Given) -> Option<Row> {
        let column = |column: &Column| Some((column.name.clone(), column.value(given)?));
        self.key.iter().map(column).collect()
    }
}

impl Output {
    fn part<'a>(&self, given: &'a Given) -> Option<&'a Value> {
        given.result.pointer(&self.from).filter(|part| !part.is_null())
    }

    fn content(
        &self,
        given: &Given,
        answer: &Bytes,
        encoding: Encoding,
    ) -> Result<Option<Bytes>, String> {
        use base64::Engine as _;
        // What is no JSON has no parts, and is stored as it is.
        if self.from.is_empty() && given.result.is_null() {
            return Ok((!answer.is_empty() && &answer[..] != b"null").then(|| answer.clone()));
        }
        let Some(part) = self.part(given) else { return Ok(None) };
        let text = match part {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match encoding {
            Encoding::Utf8 => Ok(Some(text.into())),
            Encoding::Base64 => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                bytes.map(|bytes| Some(bytes.into())).map_err(|e| format!("no base64: {e}"))
            }
        }
    }

    fn effects(&self, at: usize, given: &Given, effects: &mut Vec<Effect>) -> Result<(), String> {
        let Some(part) = self.part(given) else { return Ok(()) };
        let one = std::slice::from_ref(part);
        let elements = part.as_array().map_or(one, Vec::as_slice);
        if elements.len() > ELEMENTS_MAX {
            return Err(format!("a list of {}; at most {ELEMENTS_MAX} go", elements.len()));
        }
        match &self.to {
            Sink::Table { table, set } => {
                let rows = elements.iter().map(|element| row(element, set, given));
                let rows = rows.collect::<Result<Vec<_>, _>>()?;
                if !rows.is_empty() {
                    effects.push(Effect::Put { table: table.clone(), rows });
                }
            }
            Sink::Event(name) => {
                let subject = name.name(given)?;
                effects.extend(elements.iter().enumerate().map(|(number, data)| {
                    let number = format!("output{at}-{number}");
                    Effect::Publish { subject: subject.clone(), data: data.clone(), number }
                }));
            }
            Sink::Blob { .. } => {}
        }
        Ok(())
    }
}

fn row(element: &Value, set: &[Column], given: &Given) -> Result<Row, String> {
    let Value::Object(row) = element else {
        return Err("a row is a JSON object; the result has something else there".into());
    };
    let mut row = row.clone();
    for column in set {
        let value = column.value(given).ok_or_else(|| {
            let (name, text) = (&column.name, column.value.to_string());
            format!("column \"{name}\": \"{text}\" is not there, or does not fit the column")
        })?;
        row.insert(column.name.clone(), value);
    }
    Ok(row)
}

impl Column {
    /// The value, as the column wants it: what stands in a subject or a path is text.
    fn value(&self, given: &Given) -> Option<Value> {
        let value = self.value.value(given)?;
        match (&value, self.kind) {
            (Value::String(text), Some(ColumnKind::Int64 | ColumnKind::Int32)) => {
                text.parse::<i64>().ok().map(Value::from)
            }
            (Value::String(text), Some(ColumnKind::Float64 | ColumnKind::Float32)) => {
                text.parse::<f64>().ok().map(Value::from)
            }
            (Value::String(text), Some(ColumnKind::Bool)) => text.parse().ok().map(Value::Bool),
            (Value::Number(_) | Value::Bool(_), Some(ColumnKind::Utf8)) => {
                Some(Value::String(value.to_string()))
            }
            (Value::Array(_) | Value::Object(_), Some(kind)) if kind != ColumnKind::Json => None,
            _ => Some(value),
        }
    }
}

impl Given {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.path.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a name in the query, decoded.
    fn query(&self, name: &str) -> Option<String> {
        let plain = |text: &str| decode(&text.replace('+', " "));
        let pairs = self.query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(|(n, _)| plain(n).as_deref() == Some(name)).find_map(|(_, v)| plain(v))
    }
}

#[cfg(test)]
mod tests;
