//! Scans: which rows and columns a caller wants, and what the answer covers.

mod select;

use arrow::array::RecordBatch;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::columns::Columns;
use crate::engine::{KeyRange, extent_of};
use crate::error::{Error, Result};
use crate::key;
use crate::record::Extent;
use crate::run::column::value_at;
use crate::schema::Schema;
use crate::spec::TableSpec;
use crate::value::{Row, Value, row_from_json, row_to_json};

/// Rows read at first for a scan with a condition and a small limit.
const FILTERED_ROWS: usize = 4_096;

/// Rows read beyond a limit, beside an eighth of it: some of what is read may be deleted.
const SPARE_ROWS: usize = 16;

/// What to read of a table. Everything left out does not restrict.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scan {
    /// Values that leading key columns must have.
    #[serde(with = "as_json")]
    pub prefix: Row,
    /// Leading key columns of the first row, inclusive.
    #[serde(with = "as_json")]
    pub from: Row,
    /// Leading key columns of the end, exclusive.
    #[serde(with = "as_json")]
    pub to: Row,
    /// Key after which to go on (before which, in reverse): the last row of an earlier answer.
    #[serde(with = "as_json")]
    pub after: Row,
    /// Columns to return; none is all.
    pub columns: Option<Vec<String>>,
    /// Conditions, all of which a row must meet.
    pub filter: Vec<Filter>,
    /// Rows to return at most.
    pub limit: Option<usize>,
    /// From the largest key down.
    pub reverse: bool,
}

/// A condition on one column. Null meets no condition but [`Compare::Ne`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The column.
    pub column: String,
    /// How to compare.
    pub op: Compare,
    /// With what.
    #[serde(with = "value_as_json")]
    pub value: Value,
}

/// Comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compare {
    /// Equal.
    #[serde(rename = "=", alias = "==")]
    Eq,
    /// Not equal.
    #[serde(rename = "!=")]
    Ne,
    /// Less.
    #[serde(rename = "<")]
    Lt,
    /// Less or equal.
    #[serde(rename = "<=")]
    Le,
    /// Greater.
    #[serde(rename = ">")]
    Gt,
    /// Greater or equal.
    #[serde(rename = ">=")]
    Ge,
}

/// What an answer is based on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// True if the answer takes in what the root's side of the tree had; false if only what was
    /// written at or below this site could be asked, because the parent was out of reach.
    pub complete: bool,
    /// The site whose copy completed the answer.
    pub source: String,
    /// Milliseconds since the copy was last known to be equal to its parent's; 0 where it is the
    /// root's own.
    pub age_ms: u64,
}

/// Rows and what they are based on.
#[derive(Clone, Debug, Default)]
pub struct Scanned {
    /// The rows, in key order.
    pub rows: Vec<Row>,
    /// What they are based on.
    pub coverage: Coverage,
    /// True if `limit` cut the answer short, or the memory that a scan may have: the scan goes on
    /// `after` the last row, of which there is one then.
    pub truncated: bool,
}

impl Scan {
    /// The encoded key range, and the extent of the table that it lies in.
    pub fn range(&self, spec: &Schema) -> Result<(KeyRange, Extent)> {
        let prefix = spec.key_prefix_of(&self.prefix)?;
        let mut from = prefix.clone();
        let mut to = key::successor(&prefix);
        if !self.from.is_empty() {
            from = from.max(spec.key_prefix_of(&self.within_prefix(&self.from))?);
        }
        if !self.to.is_empty() {
            to = lower_end(to, spec.key_prefix_of(&self.within_prefix(&self.to))?);
        }
        if !self.after.is_empty() {
            let mut after = spec.key_of(&self.after)?;
            if self.reverse {
                to = lower_end(to, after);
            } else {
                after.push(0);
                from = from.max(after);
            }
        }
        let extent = extent_of(spec, &self.prefix)?;
        let partition = match &extent {
            Extent::Partition(partition) => Some(partition.clone()),
            Extent::Whole => None,
        };
        Ok((KeyRange { from, to, partition, since: 0 }, extent))
    }

    /// Rows to read at first: about what the limit needs, if that can be told.
    pub(crate) fn page_rows(&self) -> usize {
        match self.limit {
            Some(limit) if self.filter.is_empty() => limit.saturating_add(limit / 8 + SPARE_ROWS),
            Some(limit) if limit < FILTERED_ROWS => FILTERED_ROWS,
            _ => usize::MAX,
        }
    }

    /// Checks column names and fits the filter's values.
    pub fn check(&mut self, spec: &Schema) -> Result<()> {
        self.wanted(spec)?;
        for filter in &mut self.filter {
            let kind = spec.column(&filter.column)?.kind;
            filter.value = std::mem::take(&mut filter.value).fit(&filter.column, kind)?;
        }
        Ok(())
    }

    /// Positions of the columns to return.
    fn wanted(&self, schema: &Schema) -> Result<Vec<u16>> {
        match &self.columns {
            None => Ok(schema.shown.clone()),
            Some(names) => names.iter().map(|name| schema.number(name)).collect(),
        }
    }

    /// The columns that it takes to answer.
    pub(crate) fn columns_read(&self, schema: &Schema) -> Result<Columns> {
        if self.columns.is_none() {
            return Ok(Columns::All);
        }
        let met = self.filter.iter().map(|filter| schema.number(&filter.column));
        let met = met.collect::<Result<Vec<_>>>()?;
        Ok(Columns::only(self.wanted(schema)?.into_iter().chain(met)))
    }

    /// Bounds may leave out the columns that the prefix fixes.
    fn within_prefix(&self, bound: &Row) -> Row {
        self.prefix.iter().chain(bound.iter()).map(|(k, v)| (k.to_owned(), v.clone())).collect()
    }
}

/// The error for a scan that asks for more rows than one answer may have.
pub(crate) fn check_limit(limit: usize, max: usize) -> Result<()> {
    match limit > max {
        true => Err(Error::BadRequest(format!("limit {limit} exceeds {max} rows per answer"))),
        false => Ok(()),
    }
}

/// The key of a row of a batch that has all columns of the key.
pub(crate) fn key_at(spec: &TableSpec, batch: &RecordBatch, at: usize) -> Row {
    let value = |name: &String| {
        let (column, array) = (spec.column(name).ok()?, batch.column_by_name(name)?);
        Some((name.clone(), value_at(column, array, at)))
    };
    spec.key.iter().filter_map(value).collect()
}

/// A key as JSON from which the same key is read again.
pub(crate) fn key_to_json(key: &Row) -> serde_json::Value {
    let exact = |(name, value): (&str, &Value)| (name.to_owned(), value.to_exact_json());
    serde_json::Value::Object(key.iter().map(exact).collect())
}

fn lower_end(end: Option<Vec<u8>>, other: Vec<u8>) -> Option<Vec<u8>> {
    Some(end.map_or(other.clone(), |end| end.min(other)))
}

pub(crate) mod as_json {
    //! Rows as JSON objects.
    use super::*;

    pub fn serialize<S: Serializer>(row: &Row, out: S) -> Result<S::Ok, S::Error> {
        row_to_json(row).serialize(out)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(input: D) -> Result<Row, D::Error> {
        let json = serde_json::Value::deserialize(input)?;
        row_from_json(&json).map_err(serde::de::Error::custom)
    }
}

mod value_as_json {
    //! Values as JSON.
    use super::*;

    pub fn serialize<S: Serializer>(value: &Value, out: S) -> Result<S::Ok, S::Error> {
        value.to_json().serialize(out)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(input: D) -> Result<Value, D::Error> {
        Ok(Value::from_json(&serde_json::Value::deserialize(input)?))
    }
}
