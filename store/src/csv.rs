//! CSV as RFC 4180 has it: records of fields, and the values of a table's columns in them. Pure.
//!
//! A field with nothing in it is null, and `""` is the empty text. Times are RFC 3339 (or whole
//! microseconds since 1970), bytes are base64, sets and JSON columns are JSON.

use std::io::{self, BufRead, Read, Write};

use serde_json::Value as Json;

use crate::error::Result;
use crate::spec::{ColumnKind, ColumnSpec, Merge, TableSpec};
use crate::value::{Value, time_text};

/// Bytes of one record.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// One field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub text: String,
    /// True if it stood in quotes.
    pub quoted: bool,
}

/// The records of a text, with the line on which each begins. Mistakes come with their line.
pub struct Records<R> {
    input: R,
    line: u64,
}

impl<R: BufRead> Records<R> {
    pub fn new(input: R) -> Self {
        Records { input, line: 1 }
    }

    /// The next record that is not an empty line.
    pub fn next(&mut self) -> Option<Result<(u64, Vec<Field>), String>> {
        loop {
            let line = self.line;
            let mut bytes = Vec::new();
            match self.read(&mut bytes) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(reason) => return Some(Err(format!("line {line}: {reason}"))),
            }
            if line == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
                bytes.drain(..3);
            }
            while bytes.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
                bytes.pop();
            }
            if !bytes.is_empty() {
                let fields = fields(bytes).map_err(|reason| format!("line {line}: {reason}"));
                return Some(fields.map(|fields| (line, fields)));
            }
        }
    }

    /// Reads lines until no quote is open; returns how many bytes.
    fn read(&mut self, bytes: &mut Vec<u8>) -> Result<usize, String> {
        let mut open = false;
        loop {
            let room = (RECORD_BYTES_MAX + 1).saturating_sub(bytes.len() as u64);
            let before = bytes.len();
            let read = (&mut self.input).take(room).read_until(b'\n', bytes);
            let read = read.map_err(|e| e.to_string())?;
            if bytes.len() as u64 > RECORD_BYTES_MAX {
                return Err(format!("a record of more than {RECORD_BYTES_MAX} bytes"));
            }
            let quotes = bytes[before..].iter().filter(|b| **b == b'"').count();
            open ^= quotes % 2 == 1;
            self.line += u64::from(bytes[before..].ends_with(b"\n"));
            match (read, open) {
                (0, true) => return Err("a quote is opened and not closed".into()),
                (0, false) | (_, false) => return Ok(bytes.len()),
                (_, true) => {}
            }
        }
    }
}

fn fields(bytes: Vec<u8>) -> Result<Vec<Field>, String> {
    let record = String::from_utf8(bytes).map_err(|_| "this is no UTF-8 text".to_owned())?;
    let mut fields = Vec::new();
    let mut rest = record.as_str();
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(rest) => quoted(rest)?,
            None => {
                let (text, behind) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if text.contains('"') {
                    return Err(format!("a quote within {text:?}; put all of the field in quotes"));
                }
                (Field { text: text.into(), quoted: false }, behind)
            }
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None if behind.is_empty() => return Ok(fields),
            None => return Err(format!("{behind:?} behind a closing quote")),
        }
    }
}

/// A field behind its opening quote, and what follows its closing one.
fn quoted(mut rest: &str) -> Result<(Field, &str), String> {
    let mut text = String::new();
    loop {
        let (part, behind) = rest.split_once('"').ok_or("a quote is opened and not closed")?;
        text.push_str(part);
        match behind.strip_prefix('"') {
            Some(behind) => {
                text.push('"');
                rest = behind;
            }
            None => return Ok((Field { text, quoted: true }, behind)),
        }
    }
}

/// The columns that a heading names, in its order.
pub fn heading<'a>(spec: &'a TableSpec, names: &[Field]) -> Result<Vec<&'a ColumnSpec>, String> {
    let mut columns: Vec<&ColumnSpec> = Vec::new();
    for Field { text: name, .. } in names {
        let column = spec.column(name.trim()).map_err(|e| e.to_string())?;
        if columns.iter().any(|other| other.name == column.name) {
            return Err(format!("column {:?} is named twice", column.name));
        }
        columns.push(column);
    }
    Ok(columns)
}

/// The value that a field has in a column.
pub fn value(column: &ColumnSpec, field: &Field) -> Result<Value> {
    let text = &field.text;
    let no = |what: &str| {
        crate::Error::BadRequest(format!("column {:?}: {text:?} is no {what}", column.name))
    };
    let json = || serde_json::from_str::<Json>(text).map_err(|_| no("JSON"));
    if text.is_empty() && !field.quoted {
        return Ok(Value::Null);
    }
    if column.merge == Merge::Set {
        let elements = json()?;
        let elements = elements.as_array().ok_or_else(|| no("JSON list"))?.iter();
        let fitted = elements.map(|e| Value::from_json(e).fit(&column.name, column.kind));
        return Ok(Value::List(fitted.collect::<Result<_>>()?));
    }
    let number = text.trim();
    let value = match column.kind {
        ColumnKind::Int64 | ColumnKind::Int32 => {
            Value::Int(number.parse().map_err(|_| no("integer"))?)
        }
        ColumnKind::Float64 | ColumnKind::Float32 => {
            Value::Float(number.parse().map_err(|_| no("number"))?)
        }
        ColumnKind::Bool => match number {
            "true" | "True" | "TRUE" | "1" => Value::Bool(true),
            "false" | "False" | "FALSE" | "0" => Value::Bool(false),
            _ => return Err(no("boolean")),
        },
        ColumnKind::TimestampUs => match number.parse() {
            Ok(us) => Value::Time(us),
            Err(_) => Value::Text(number.replacen(' ', "T", 1)),
        },
        ColumnKind::Json => Value::Json(json()?.to_string()),
        ColumnKind::Utf8 | ColumnKind::Binary => Value::Text(text.clone()),
    };
    value.fit(&column.name, column.kind)
}

/// Writes one record.
pub fn write(out: &mut impl Write, texts: impl Iterator<Item = Option<String>>) -> io::Result<()> {
    for (i, text) in texts.enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        match text {
            None => {}
            Some(text) if needs_quotes(&text) => {
                write!(out, "\"{}\"", text.replace('"', "\"\""))?;
            }
            Some(text) => out.write_all(text.as_bytes())?,
        }
    }
    out.write_all(b"\n")
}

/// The text of a value; none for null.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Text(text) | Value::Json(text) => Some(text.clone()),
        // Debug is the shortest text that is read as the same float again.
        Value::Float(float) => Some(format!("{float:?}")),
        Value::Time(us) => Some(time_text(*us)),
        Value::Bytes(_) => value.to_json().as_str().map(str::to_owned),
        Value::Bool(_) | Value::Int(_) | Value::List(_) => Some(value.to_exact_json().to_string()),
    }
}

fn needs_quotes(text: &str) -> bool {
    text.is_empty()
        || text.contains(['"', ',', '\n', '\r'])
        || text.starts_with(char::is_whitespace)
        || text.ends_with(char::is_whitespace)
        || text.starts_with('\u{feff}')
}

#[cfg(test)]
mod tests;
