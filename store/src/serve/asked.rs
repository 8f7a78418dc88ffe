//! What a client's request says, and what is wrong with one that cannot be read: which of its
//! fields, and what belongs there.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::value::{Row, row_from_json};

/// Words of the decoder, and those of someone who writes JSON.
const WORDS: [(&str, &str); 9] = [
    ("a sequence", "a list"),
    ("a map", "an object"),
    ("sequence", "a list"),
    ("map", "an object"),
    ("usize", "a whole number from 0"),
    ("u64", "a whole number from 0"),
    ("i64", "a whole number"),
    ("unit value", "null"),
    ("null", "null"),
];

/// How rows are answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// In JSON.
    Rows,
    /// As an Arrow IPC stream.
    Arrow,
}

impl Format {
    /// What the request says; it says so in `format`, unless it wants JSON.
    pub fn take(op: &str, fields: &mut Map<String, Json>) -> Result<Self> {
        let Some(format) = fields.remove("format") else { return Ok(Format::Rows) };
        match format.as_str() {
            Some("rows") => Ok(Format::Rows),
            Some("arrow") => Ok(Format::Arrow),
            _ => {
                let text = format!("{op}: format {format}; there are rows and arrow");
                Err(Error::BadRequest(text))
            }
        }
    }

    /// Refuses what does not go where answers are in JSON.
    pub fn only_rows(op: &str, fields: &mut Map<String, Json>) -> Result<()> {
        match Self::take(op, fields)? {
            Format::Rows => Ok(()),
            Format::Arrow => Err(Error::BadRequest(format!(
                "{op}: an answer in JSON has no format arrow; ask on the bus, over HTTP, or by \
                 ask-arrow"
            ))),
        }
    }
}

/// True unless it can be told without reading a request that it names no format.
pub fn may_name_format(payload: &[u8]) -> bool {
    const NAME: &[u8] = b"\"format\"";
    payload.windows(NAME.len()).any(|part| part == NAME)
}

/// The request.
pub fn parse<T: DeserializeOwned>(op: &str, payload: &[u8]) -> Result<T> {
    let payload = if payload.is_empty() { b"{}" } else { payload };
    // Where it went wrong is looked for only when it has: most requests are right.
    serde_json::from_slice(payload).map_err(|error| {
        let mut again = serde_json::Deserializer::from_slice(payload);
        match serde_path_to_error::deserialize::<_, T>(&mut again) {
            Err(placed) => wrong(op, &placed.path().to_string(), placed.inner()),
            Ok(_) => wrong(op, ".", &error),
        }
    })
}

/// The request, or a part of it that is a field of its own.
pub fn from_json<T: DeserializeOwned>(op: &str, field: &str, json: &Json) -> Result<T> {
    T::deserialize(json).map_err(|error| match serde_path_to_error::deserialize::<_, T>(json) {
        Err(placed) => {
            let path = placed.path().to_string();
            let path = match (field, path.as_str()) {
                ("", path) => path.to_owned(),
                (field, ".") => field.to_owned(),
                (field, path) if path.starts_with('[') => format!("{field}{path}"),
                (field, path) => format!("{field}.{path}"),
            };
            wrong(op, &path, placed.inner())
        }
        Ok(_) => wrong(op, field, &error),
    })
}

/// The rows or keys of a request.
pub fn rows_of(op: &str, field: &str, rows: &[Json]) -> Result<Vec<Row>> {
    let row = |(at, row): (usize, &Json)| {
        row_from_json(row)
            .map_err(|error| Error::BadRequest(format!("{op}: {field}[{at}]: {error}")))
    };
    rows.iter().enumerate().map(row).collect()
}

/// The error of a request that cannot be read: `path` is the field at which that shows.
fn wrong(op: &str, path: &str, error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let at_line = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&at_line).unwrap_or(&text);
    let is_whole = matches!(path, "" | "." | "?");
    let place = if is_whole { "the request" } else { path };
    let mended = match text.strip_prefix("invalid type: ").and_then(|t| t.split_once(", expected "))
    {
        Some((_, wanted)) if is_whole && wanted.starts_with("struct ") => {
            format!("{op}: the request must be a JSON object with the fields of {op}")
        }
        Some((found, wanted)) => {
            format!("{op}: {place} takes {}, not {}", in_words(wanted), in_words(found))
        }
        None if error.is_syntax() || error.is_eof() => {
            format!("{op}: the request is not JSON: {text}{at_line}")
        }
        None if is_whole => format!("{op}: {text}"),
        None => format!("{op}: {path}: {text}"),
    };
    Error::BadRequest(mended)
}

fn in_words(wanted: &str) -> String {
    if wanted.starts_with("struct ") {
        return "an object".into();
    }
    let word = WORDS.iter().find(|(word, _)| *word == wanted);
    word.map_or(wanted.to_owned(), |(_, plain)| (*plain).to_owned())
}

#[cfg(test)]
mod tests;
