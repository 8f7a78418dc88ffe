//! Text with expressions in braces: `alarm.{subject.1}`, `{data/user/id}`. There are names, a
//! number, and JSON pointers (RFC 6901); there is no arithmetic, no condition and no escape.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Given;

/// Longest text.
const BYTES_MAX: usize = 256;

/// A text with expressions in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Source),
}

/// Where the value of an expression comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `{id}` of the event, call or request.
    Id,
    /// `{source}` of the event.
    Origin,
    /// `{time}` of the event.
    Time,
    /// `{subject}` of the event or name of the call, or one of its tokens, from 0: `{subject.1}`.
    Subject(Option<usize>),
    /// `{header.NAME}` of the request.
    Header(String),
    /// `{path.NAME}`: a parameter of the route.
    Path(String),
    /// `{query.NAME}`
    Query(String),
    /// `{data/…}`: the body, or what a JSON pointer leads to in it.
    Data(String),
    /// `{result/…}`: likewise in the handler's result.
    Result(String),
    /// `{blob.NAME}`: the key of a blob that another output stored.
    Blob(String),
}

const FORMS: &str = "id, source, time, subject, subject.N, header.NAME, path.NAME, query.NAME, \
                     data/POINTER, result/POINTER, blob.NAME";

impl Template {
    /// Reads a text; an error is the mistake and its mend.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > BYTES_MAX {
            return Err(format!("{} bytes; at most {BYTES_MAX} go", text.len()));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, open) = rest.split_at(at);
            let inside = open.strip_prefix('{').and_then(|open| open.split_once('}'));
            let Some((inside, after)) = inside else {
                return Err(format!("\"{text}\" has a brace without the other"));
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Value(Source::parse(inside)?));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// What it reads.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.0.iter().filter_map(|part| match part {
            Part::Value(source) => Some(source),
            Part::Text(_) => None,
        })
    }

    /// The text with one word in the place of every expression.
    pub fn with_word(&self, word: &str) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Value(_) => word.to_owned(),
        };
        self.0.iter().map(part).collect()
    }

    /// Its value. One expression alone keeps the type that it has in JSON; nothing, where an
    /// expression leads to nothing.
    pub(super) fn value(&self, given: &Given) -> Option<Value> {
        if let [Part::Value(source)] = self.0.as_slice() {
            return source.value(given);
        }
        let text = |part: &Part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Value(source) => plain(source.value(given)?),
        };
        let text: Option<String> = self.0.iter().map(text).collect();
        text.map(Value::String)
    }

    /// Its value as the name of an event: what an expression stands for is one token.
    pub(super) fn name(&self, given: &Given) -> Result<String, String> {
        let mut name = String::new();
        for part in &self.0 {
            let source = match part {
                Part::Text(text) => {
                    name.push_str(text);
                    continue;
                }
                Part::Value(source) => source,
            };
            let token = source.value(given).and_then(plain);
            let token = token.ok_or_else(|| format!("{{{source}}} is not there"))?;
            if !is_word(&token) {
                return Err(format!(
                    "{{{source}}} is {token:?}, no word of an event's name; letters, digits, - \
                     and _ are"
                ));
            }
            name.push_str(&token);
        }
        Ok(name)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => write!(f, "{text}"),
            Part::Value(source) => write!(f, "{{{source}}}"),
        })
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.to_string()
    }
}

impl Source {
    fn parse(text: &str) -> Result<Self, String> {
        let unknown = || format!("\"{{{text}}}\" is no expression; use one of {FORMS}");
        let named = |name: &str| is_word(name).then(|| name.to_owned()).ok_or_else(unknown);
        match text {
            "id" => return Ok(Self::Id),
            "source" => return Ok(Self::Origin),
            "time" => return Ok(Self::Time),
            "subject" => return Ok(Self::Subject(None)),
            "data" => return Ok(Self::Data(String::new())),
            "result" => return Ok(Self::Result(String::new())),
            _ => {}
        }
        if let Some(pointer) = text.strip_prefix("data").filter(|rest| rest.starts_with('/')) {
            return Ok(Self::Data(pointer.to_owned()));
        }
        if let Some(pointer) = text.strip_prefix("result").filter(|rest| rest.starts_with('/')) {
            return Ok(Self::Result(pointer.to_owned()));
        }
        match text.split_once('.').ok_or_else(unknown)? {
            ("subject", number) => {
                number.parse().map(|at| Self::Subject(Some(at))).map_err(|_| unknown())
            }
            ("header", name) => named(name).map(|name| Self::Header(name.to_ascii_lowercase())),
            ("path", name) => named(name).map(Self::Path),
            ("query", name) => named(name).map(Self::Query),
            ("blob", name) => named(name).map(Self::Blob),
            _ => Err(unknown()),
        }
    }

    fn value(&self, given: &Given) -> Option<Value> {
        let text = |text: &str| Some(Value::String(text.to_owned()));
        match self {
            Self::Id => text(&given.id),
            Self::Origin => text(&given.source),
            Self::Time => text(&given.time),
            Self::Subject(None) => text(&given.subject),
            Self::Subject(Some(at)) => text(given.subject.split('.').nth(*at)?),
            Self::Header(name) => text(given.header(name)?),
            Self::Path(name) => text(given.parameter(name)?),
            Self::Query(name) => text(&given.query(name)?),
            Self::Data(pointer) => there(&given.data, pointer),
            Self::Result(pointer) => there(&given.result, pointer),
            Self::Blob(name) => text(given.blobs.get(name)?),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => write!(f, "id"),
            Self::Origin => write!(f, "source"),
            Self::Time => write!(f, "time"),
            Self::Subject(None) => write!(f, "subject"),
            Self::Subject(Some(at)) => write!(f, "subject.{at}"),
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Path(name) => write!(f, "path.{name}"),
            Self::Query(name) => write!(f, "query.{name}"),
            Self::Data(pointer) => write!(f, "data{pointer}"),
            Self::Result(pointer) => write!(f, "result{pointer}"),
            Self::Blob(name) => write!(f, "blob.{name}"),
        }
    }
}

fn is_word(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !text.is_empty() && text.chars().all(is_part)
}

fn there(value: &Value, pointer: &str) -> Option<Value> {
    value.pointer(pointer).filter(|found| !found.is_null()).cloned()
}

/// Text, numbers and truth values as text.
fn plain(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}
