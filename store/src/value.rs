//! Values and rows as callers see them, and their JSON form.

mod row;

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::spec::ColumnKind;

pub use row::{Names, Row};

/// One value. Values of one kind are totally ordered; floats by IEEE 754 `totalOrder`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// 64-bit signed integer.
    Int(i64),
    /// 64-bit float.
    Float(f64),
    /// UTF-8 text.
    Text(String),
    /// Raw bytes; base64 text in JSON.
    Bytes(Vec<u8>),
    /// Microseconds since 1970 UTC; an integer in JSON.
    Time(i64),
    /// The text of a JSON document.
    Json(String),
    /// The elements of a set column, sorted.
    List(Vec<Value>),
}

impl Value {
    /// The kind in words, for messages.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::Time(_) => "a time",
            Value::Json(_) => "json",
            Value::List(_) => "a list",
        }
    }

    /// True for [`Value::Null`].
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The value of a JSON document, before it is fitted to a column: objects become
    /// [`Value::Json`], arrays [`Value::List`].
    pub fn from_json(json: &Json) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => match n.as_i64() {
                Some(i) => Value::Int(i),
                None => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(s) => Value::Text(s.clone()),
            Json::Array(items) => Value::List(items.iter().map(Value::from_json).collect()),
            Json::Object(_) => Value::Json(json.to_string()),
        }
    }

    /// The value as JSON. Floats that JSON cannot write (NaN, infinities) become null.
    pub fn to_json(&self) -> Json {
        match self {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::from(*b),
            Value::Int(i) | Value::Time(i) => Json::from(*i),
            Value::Float(f) => Json::from(*f),
            Value::Text(s) => Json::from(s.as_str()),
            Value::Bytes(b) => Json::from(BASE64.encode(b)),
            Value::Json(s) => serde_json::from_str(s).unwrap_or(Json::Null),
            Value::List(items) => Json::Array(items.iter().map(Value::to_json).collect()),
        }
    }

    /// The value as JSON from which the same value is fitted again: floats that JSON has no numbers
    /// for are texts.
    pub(crate) fn to_exact_json(&self) -> Json {
        match self {
            Value::Float(f) if !f.is_finite() => Json::from(f.to_string()),
            Value::List(items) => Json::Array(items.iter().map(Value::to_exact_json).collect()),
            other => other.to_json(),
        }
    }

    /// Fits the value to a column kind, converting only where nothing is lost: integers become
    /// floats and times, RFC 3339 text becomes a time, base64 text becomes bytes, and anything
    /// becomes JSON. The texts `NaN`, `inf` and `-inf`, for which JSON has no numbers, become
    /// floats. Floats of 32 bits are rounded to that. Null fits every kind.
    pub fn fit(self, column: &str, kind: ColumnKind) -> Result<Value> {
        match (kind, self) {
            (_, Value::Null) => Ok(Value::Null),
            (ColumnKind::Int64, v @ Value::Int(_))
            | (ColumnKind::Float64, v @ Value::Float(_))
            | (ColumnKind::Utf8, v @ Value::Text(_))
            | (ColumnKind::Bool, v @ Value::Bool(_))
            | (ColumnKind::Binary, v @ Value::Bytes(_))
            | (ColumnKind::TimestampUs, v @ Value::Time(_)) => Ok(v),
            (ColumnKind::Float64, Value::Int(i)) => Ok(Value::Float(i as f64)),
            (ColumnKind::Int32, v @ Value::Int(i)) => match i32::try_from(i) {
                Ok(_) => Ok(v),
                Err(_) => Err(wrong_type(column, kind.in_words(), &i.to_string())),
            },
            (ColumnKind::Float32, Value::Int(i)) => single(column, i as f64),
            (ColumnKind::Float32, Value::Float(f)) => single(column, f),
            (ColumnKind::Float64 | ColumnKind::Float32, Value::Text(s)) => match &*s {
                "NaN" => Ok(Value::Float(f64::NAN)),
                "inf" => Ok(Value::Float(f64::INFINITY)),
                "-inf" => Ok(Value::Float(f64::NEG_INFINITY)),
                _ => Err(wrong_type(column, kind.in_words(), "text")),
            },
            (ColumnKind::TimestampUs, Value::Int(us)) => Ok(Value::Time(us)),
            (ColumnKind::TimestampUs, Value::Text(s)) => parse_time(&s)
                .map(Value::Time)
                .ok_or_else(|| wrong_type(column, "a time (µs or RFC 3339)", &format!("{s:?}"))),
            (ColumnKind::Binary, Value::Text(s)) => BASE64
                .decode(&s)
                .map(Value::Bytes)
                .map_err(|_| wrong_type(column, "base64 text", "other text")),
            (ColumnKind::Json, Value::Json(s)) => match serde_json::from_str::<Json>(&s) {
                Ok(json) => Ok(Value::Json(json.to_string())),
                Err(e) => Err(wrong_type(column, "json", &format!("broken json: {e}"))),
            },
            (ColumnKind::Json, v) => Ok(Value::Json(v.to_json().to_string())),
            (kind, v) => Err(wrong_type(column, kind.in_words(), v.kind_name())),
        }
    }

    /// True if the value is null or of exactly this kind. Whether JSON text is sound is not
    /// looked at, nor whether a number fits 32 bits: the column may have been widened elsewhere.
    pub fn is_of(&self, kind: ColumnKind) -> bool {
        matches!(
            (kind, self),
            (_, Value::Null)
                | (ColumnKind::Int64 | ColumnKind::Int32, Value::Int(_))
                | (ColumnKind::Float64 | ColumnKind::Float32, Value::Float(_))
                | (ColumnKind::Utf8, Value::Text(_))
                | (ColumnKind::Bool, Value::Bool(_))
                | (ColumnKind::Binary, Value::Bytes(_))
                | (ColumnKind::TimestampUs, Value::Time(_))
                | (ColumnKind::Json, Value::Json(_))
        )
    }

    /// Bytes that the value occupies in memory, roughly.
    pub(crate) fn weight(&self) -> usize {
        let heap = match self {
            Value::Text(s) | Value::Json(s) => s.len(),
            Value::Bytes(b) => b.len(),
            Value::List(items) => items.iter().map(Value::weight).sum(),
            _ => 0,
        };
        size_of::<Value>() + heap
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int(_) => 2,
            Value::Float(_) => 3,
            Value::Text(_) => 4,
            Value::Bytes(_) => 5,
            Value::Time(_) => 6,
            Value::Json(_) => 7,
            Value::List(_) => 8,
        }
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) | (Value::Time(a), Value::Time(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
            (Value::Text(a), Value::Text(b)) | (Value::Json(a), Value::Json(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::List(a), Value::List(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

macro_rules! value_from {
    ($($from:ty => $variant:ident),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from(v: $from) -> Value {
                Value::$variant(v.into())
            }
        }
    )*};
}
value_from!(bool => Bool, i64 => Int, i32 => Int, u32 => Int, f64 => Float, &str => Text,
    String => Text, Vec<u8> => Bytes);

/// A row from a JSON object. Values are fitted to their columns when the row is used.
pub fn row_from_json(json: &Json) -> Result<Row> {
    let Json::Object(fields) = json else {
        return Err(Error::BadRequest(format!("a row must be a json object, not {json}")));
    };
    Ok(fields.iter().map(|(name, v)| (name.clone(), Value::from_json(v))).collect())
}

/// A row as a JSON object.
pub fn row_to_json(row: &Row) -> Json {
    Json::Object(row.iter().map(|(name, v)| (name.to_owned(), v.to_json())).collect())
}

/// A float rounded to 32 bits, which must not make it infinite.
fn single(column: &str, float: f64) -> Result<Value> {
    let rounded = f64::from(float as f32);
    match rounded.is_finite() == float.is_finite() {
        true => Ok(Value::Float(rounded)),
        false => Err(wrong_type(column, ColumnKind::Float32.in_words(), &float.to_string())),
    }
}

fn parse_time(text: &str) -> Option<i64> {
    let format = &time::format_description::well_known::Rfc3339;
    let nanos = time::OffsetDateTime::parse(text, format).ok()?.unix_timestamp_nanos();
    i64::try_from(nanos.div_euclid(1_000)).ok()
}

/// A time as RFC 3339, in years that this can write; else as microseconds since 1970.
pub(crate) fn time_text(us: i64) -> String {
    let format = &time::format_description::well_known::Rfc3339;
    let time = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000);
    time.ok().and_then(|time| time.format(format).ok()).unwrap_or_else(|| us.to_string())
}

fn wrong_type(column: &str, expected: &str, got: &str) -> Error {
    Error::WrongType { column: column.into(), expected: expected.into(), got: got.into() }
}

#[cfg(test)]
mod tests;
