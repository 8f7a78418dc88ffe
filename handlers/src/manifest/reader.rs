//! Walks a TOML document and remembers where it is, so that every mistake has a line and a path.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ManifestError;

type Result<T> = std::result::Result<T, ManifestError>;

/// Parses text to a document; the document must outlive the walk.
pub(super) fn document(text: &str) -> Result<Spanned<DeTable<'_>>> {
    DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(text.len(), |span| span.start);
        let problem = format!("no valid TOML: {}", error.message().trim().replace('\n', ", "));
        ManifestError { line: line(text, at), field: String::new(), problem }
    })
}

/// A table within a document.
#[derive(Clone)]
pub(super) struct Node<'a> {
    text: &'a str,
    path: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
}

/// A value within a table.
#[derive(Clone)]
pub(super) struct Field<'a> {
    text: &'a str,
    path: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> Node<'a> {
    pub(super) fn root(text: &'a str, document: &'a Spanned<DeTable<'a>>) -> Self {
        Self { text, path: String::new(), span: 0..0, table: document.get_ref() }
    }

    /// Refuses fields that are not among `known`, and says which was probably meant.
    pub(super) fn only(&self, known: &[&str]) -> Result<()> {
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let mend = match nearest(name, known) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("use one of {}", known.join(", ")),
            };
            let problem = format!("unknown field; {mend}");
            return Err(error_at(self.text, &key.span(), self.path_of(name), problem));
        }
        Ok(())
    }

    /// The value of a field, if it is there.
    pub(super) fn field(&self, name: &str) -> Option<Field<'a>> {
        self.table.get(name).map(|value| Field {
            text: self.text,
            path: self.path_of(name),
            span: value.span(),
            value: value.get_ref(),
        })
    }

    /// The value of a field that must be there.
    pub(super) fn need(&self, name: &str, mend: &str) -> Result<Field<'a>> {
        self.field(name).ok_or_else(|| {
            let problem = format!("missing; {mend}");
            error_at(self.text, &self.span, self.path_of(name), problem)
        })
    }

    /// The tables under `[name]`: none or one.
    pub(super) fn table(&self, name: &str) -> Result<Option<Node<'a>>> {
        self.field(name).map(|field| field.table()).transpose()
    }

    /// The tables under `[[name]]`.
    pub(super) fn tables(&self, name: &str, count_max: usize) -> Result<Vec<Node<'a>>> {
        let Some(field) = self.field(name) else { return Ok(Vec::new()) };
        let DeValue::Array(array) = field.value else {
            return Err(field.wrong(format!("must be a list; write [[{}]]", field.plain_path())));
        };
        if array.len() > count_max {
            return Err(field.wrong(format!("{} entries; at most {count_max} go", array.len())));
        }
        field.elements().into_iter().map(|element| element.table()).collect()
    }

    /// Every name and value of the table.
    pub(super) fn fields(&self) -> Vec<(String, Field<'a>)> {
        let names = self.table.iter().map(|(key, _)| key.get_ref().to_string());
        names.filter_map(|name| self.field(&name).map(|field| (name, field))).collect()
    }

    /// A mistake of the whole table.
    pub(super) fn wrong(&self, problem: impl Into<String>) -> ManifestError {
        error_at(self.text, &self.span, self.path.clone(), problem.into())
    }

    fn path_of(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }
}

impl<'a> Field<'a> {
    /// A mistake of this value.
    pub(super) fn wrong(&self, problem: impl Into<String>) -> ManifestError {
        error_at(self.text, &self.span, self.path.clone(), problem.into())
    }

    /// Line of the value, from 1.
    pub(super) fn line(&self) -> usize {
        line(self.text, self.span.start)
    }

    pub(super) fn text(&self) -> Result<&'a str> {
        match self.value {
            DeValue::String(text) => Ok(text.as_ref()),
            other => Err(self.wrong(format!("must be text in quotes, not {}", kind(other)))),
        }
    }

    /// A whole number within `range`; `unit` is for the message.
    pub(super) fn number(&self, range: Range<u32>, unit: &str) -> Result<u32> {
        let value = self.whole(u64::from(range.start)..=u64::from(range.end - 1), unit)?;
        Ok(u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// The same of one that may be large.
    pub(super) fn whole(&self, range: RangeInclusive<u64>, unit: &str) -> Result<u64> {
        let DeValue::Integer(integer) = self.value else {
            let found = kind(self.value);
            return Err(self.wrong(format!("must be a whole number of {unit}, not {found}")));
        };
        let digits = integer.as_str().replace('_', "");
        let value = u64::from_str_radix(digits.trim_start_matches('+'), integer.radix()).ok();
        value.filter(|value| range.contains(value)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.wrong(format!("{integer} is out of range; use {least} to {most} {unit}"))
        })
    }

    pub(super) fn truth(&self) -> Result<bool> {
        match self.value {
            DeValue::Boolean(value) => Ok(*value),
            other => Err(self.wrong(format!("must be true or false, not {}", kind(other)))),
        }
    }

    /// Text, number or truth value, as text.
    pub(super) fn plain(&self) -> Result<String> {
        match self.value {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(value) => Ok(value.to_string()),
            DeValue::Float(value) => Ok(value.to_string()),
            DeValue::Boolean(value) => Ok(value.to_string()),
            other => {
                Err(self
                    .wrong(format!("must be text, a number or a truth value, not {}", kind(other))))
            }
        }
    }

    /// The value that `choices` has for the text.
    pub(super) fn choice<T: Copy>(&self, what: &str, choices: &[(&str, T)]) -> Result<T> {
        let text = self.text()?;
        let found = choices.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.wrong(format!("unknown {what} \"{text}\"; use one of {}", names.join(", ")))
        })
    }

    /// The values of a list.
    pub(super) fn list(&self) -> Result<Vec<Field<'a>>> {
        match self.value {
            DeValue::Array(_) => Ok(self.elements()),
            other => Err(self.wrong(format!("must be a list in [ ], not {}", kind(other)))),
        }
    }

    pub(super) fn table(&self) -> Result<Node<'a>> {
        match self.value {
            DeValue::Table(table) => Ok(Node {
                text: self.text,
                path: self.path.clone(),
                span: self.span.clone(),
                table,
            }),
            other => Err(self.wrong(format!("must be a table, not {}", kind(other)))),
        }
    }

    fn elements(&self) -> Vec<Field<'a>> {
        let DeValue::Array(array) = self.value else { return Vec::new() };
        let field = |(at, value): (usize, &'a Spanned<DeValue<'a>>)| Field {
            text: self.text,
            path: format!("{}[{at}]", self.path),
            span: value.span(),
            value: value.get_ref(),
        };
        array.iter().enumerate().map(field).collect()
    }

    /// The path as it is written in a header: without positions.
    fn plain_path(&self) -> String {
        let mut plain = String::new();
        let mut inside = false;
        for c in self.path.chars() {
            inside = (inside || c == '[') && c != ']';
            if !inside && c != ']' {
                plain.push(c);
            }
        }
        plain
    }
}

fn error_at(text: &str, span: &Range<usize>, field: String, problem: String) -> ManifestError {
    let (field, problem) = (one_line(field), one_line(problem));
    ManifestError { line: line(text, span.start), field, problem }
}

/// Words of the manifest are quoted in answers; a line break in one must not break the answer's.
fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(escaped).collect()
}

fn line(text: &str, offset: usize) -> usize {
    let end = offset.min(text.len());
    text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The known name closest to `name`, when it is close enough to have been meant.
fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let near = known.iter().map(|known| (distance(name, known), *known)).min()?;
    let close_enough = near.0 <= 1 + near.1.len() / 4;
    close_enough.then_some(near.1)
}

/// Edits (insert, delete, replace) between two short texts (Levenshtein 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
