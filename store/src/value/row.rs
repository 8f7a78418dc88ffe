//! Rows as callers see them: values by position, with names that many rows share.

use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Value;

/// Names of columns in their order. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Arc<[Arc<str>]>);

/// A row: values by column name. Absent columns are null. Rows of one answer share their names.
#[derive(Clone, Default)]
pub struct Row {
    names: Names,
    values: Vec<Value>,
}

impl Names {
    /// The names in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if these are the very same names in memory.
    pub(crate) fn is(&self, other: &Names) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|n| **n == *name)
    }
}

impl<'a> FromIterator<&'a str> for Names {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        Names(names.into_iter().map(Arc::from).collect())
    }
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(self.iter())
    }
}

impl<'a> Deserialize<'a> for Names {
    fn deserialize<D: Deserializer<'a>>(input: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(input)?;
        Ok(names.iter().map(String::as_str).collect())
    }
}

impl Row {
    /// A row without columns.
    pub fn new() -> Self {
        Row::default()
    }

    /// A row of one value for each of `names`.
    pub(crate) fn of(names: Names, values: Vec<Value>) -> Self {
        debug_assert_eq!(names.len(), values.len());
        Row { names, values }
    }

    /// The value of a column that the row has.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.names.position(name).map(|at| &self.values[at])
    }

    /// True if the row has the column.
    pub fn contains_key(&self, name: &str) -> bool {
        self.names.position(name).is_some()
    }

    /// Sets a column; returns the value that it had.
    pub fn insert(&mut self, name: &str, value: Value) -> Option<Value> {
        if let Some(at) = self.names.position(name) {
            return Some(std::mem::replace(&mut self.values[at], value));
        }
        let names = self.names.0.iter().cloned().chain([Arc::from(name)]);
        self.names = Names(names.collect());
        self.values.push(value);
        None
    }

    /// Columns and values in the row's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.names.iter().zip(&self.values)
    }

    /// Columns in the row's order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter()
    }

    /// How many columns the row has.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True if the row has no column.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl Index<&str> for Row {
    type Output = Value;

    fn index(&self, name: &str) -> &Value {
        self.get(name).unwrap_or_else(|| panic!("the row has no column {name:?}"))
    }
}

/// Of several values for one column the last one counts.
impl FromIterator<(String, Value)> for Row {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(fields: I) -> Self {
        let mut fields: Vec<(String, Value)> = fields.into_iter().collect();
        if !fields.is_sorted_by(|a, b| a.0 < b.0) {
            fields.reverse();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            fields.dedup_by(|a, b| a.0 == b.0);
        }
        let names = fields.iter().map(|(name, _)| name.as_str()).collect();
        Row { names, values: fields.into_iter().map(|(_, value)| value).collect() }
    }
}

impl<const N: usize> From<[(String, Value); N]> for Row {
    fn from(fields: [(String, Value); N]) -> Self {
        fields.into_iter().collect()
    }
}

/// Rows are equal if they have the same columns with the same values, in whatever order.
impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        if self.names == other.names {
            return self.values == other.values;
        }
        self.len() == other.len() && self.iter().all(|(name, v)| other.get(name) == Some(v))
    }
}

impl Eq for Row {}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(Some(self.len()))?;
        self.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

impl<'a> Deserialize<'a> for Row {
    fn deserialize<D: Deserializer<'a>>(input: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'a> Visitor<'a> for Fields {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row")
            }

            fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Row, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry::<String, Value>()? {
                    fields.push(field);
                }
                Ok(fields.into_iter().collect())
            }
        }

        input.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests;
