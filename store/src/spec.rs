//! Table specifications: what the `[[table]]` section of a manifest says.

mod evolution;
mod packed;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::value::Row;

/// Columns a table may have.
pub const COLUMNS_MAX: usize = 256;
/// Bytes of a table or column name.
pub const NAME_BYTES_MAX: usize = 64;
/// Seconds that rows may live: a thousand years.
pub const TTL_SECONDS_MAX: u64 = 31_557_600_000;
/// Bytes of a partition at a site, unless its table says otherwise.
pub const PARTITION_BYTES_MAX: u64 = 64 << 30;
/// Bytes of a table at a site, unless it says otherwise.
pub const TABLE_BYTES_MAX: u64 = 1 << 40;
/// The least and the most that a limit of either may be.
pub const LIMIT_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=16 << 40;

/// A table: its columns, its primary key and how it is cut into partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct TableSpec {
    /// Name, `[A-Za-z0-9_-]`, unique in the tree.
    pub name: String,
    /// All columns, those of the key included.
    pub columns: Vec<ColumnSpec>,
    /// Names of the key columns; rows are ordered by them.
    pub key: Vec<String>,
    /// Key columns whose values choose the partition, the unit of migration. Empty: one partition.
    #[serde(default)]
    pub partition: Vec<String>,
    /// How long rows live; none is for ever.
    #[serde(default)]
    pub ttl: Option<Ttl>,
    /// Names of columns that were dropped, ascending. They are not used again. The definition of
    /// one stays among `columns` where it was known before.
    #[serde(default)]
    pub dropped: Vec<String>,
    /// Where two definitions have different `ttl`s, `limits` or `groups`, those of the higher
    /// revision count.
    #[serde(default)]
    pub revision: u64,
    /// How large the table may become.
    #[serde(default)]
    pub limits: Limits,
    /// Columns that are read together: those of a group lie side by side in segments, behind the
    /// key and the columns of no group. Nobody sees it but by the reads that it saves.
    #[serde(default)]
    pub groups: Vec<Vec<String>>,
}

/// How much of a table a site may have in segments. A site that has as much refuses what would add
/// to it; reads and deletes go on, and what other sites have acknowledged is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of each partition; none is [`PARTITION_BYTES_MAX`].
    pub partition_bytes_max: Option<u64>,
    /// Bytes of all of them; none is [`TABLE_BYTES_MAX`].
    pub table_bytes_max: Option<u64>,
}

impl Limits {
    /// Bytes that a partition may have.
    pub fn partition_bytes_max(&self) -> u64 {
        self.partition_bytes_max.unwrap_or(PARTITION_BYTES_MAX)
    }

    /// Bytes that the table may have.
    pub fn table_bytes_max(&self) -> u64 {
        self.table_bytes_max.unwrap_or(TABLE_BYTES_MAX)
    }
}

/// How long rows live: nobody sees a row whose time lies further back, and merges remove it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ttl {
    /// Seconds.
    pub seconds: u64,
    /// The `timestamp-us` column of the key that has a row's time.
    pub column: String,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnSpec {
    /// Name: a letter, then `[A-Za-z0-9_]`.
    pub name: String,
    /// Kind of its values.
    pub kind: ColumnKind,
    /// How concurrent writes meet.
    #[serde(default)]
    pub merge: Merge,
    /// False refuses rows whose put leaves the column without a value. Key columns never are null.
    #[serde(default = "yes")]
    pub nullable: bool,
}

fn yes() -> bool {
    true
}

/// Kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnKind {
    /// 64-bit signed integer.
    Int64,
    /// 64-bit float.
    Float64,
    /// UTF-8 text.
    Utf8,
    /// True or false.
    Bool,
    /// Bytes.
    Binary,
    /// Microseconds since 1970 UTC.
    TimestampUs,
    /// A JSON document, kept as text.
    Json,
    /// 32-bit signed integer; may become `Int64`.
    Int32,
    /// 32-bit float; may become `Float64`.
    Float32,
}

impl ColumnKind {
    /// The kind in words, for messages.
    pub fn in_words(self) -> &'static str {
        match self {
            ColumnKind::Int64 => "an integer",
            ColumnKind::Float64 => "a float",
            ColumnKind::Utf8 => "text",
            ColumnKind::Bool => "a boolean",
            ColumnKind::Binary => "bytes",
            ColumnKind::TimestampUs => "a time",
            ColumnKind::Json => "json",
            ColumnKind::Int32 => "an integer of 32 bits",
            ColumnKind::Float32 => "a float of 32 bits",
        }
    }
}

/// What happens when sites write one cell without having seen each other's write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Merge {
    /// The write with the later hybrid logical clock stays.
    #[default]
    Lww,
    /// Increments of all sites add up. Integers only; changed by `increment`, not by `put`.
    Counter,
    /// The largest value stays.
    Max,
    /// The smallest value stays.
    Min,
    /// A set of values; `put` and `patch` add elements.
    Set,
}

impl TableSpec {
    /// Checks the whole specification; the error names the column and says what is wrong.
    pub fn validate(&self) -> Result<()> {
        self.check_names()?;
        self.check_dropped()?;
        self.check_key()?;
        self.check_ttl()?;
        self.check_limits()?;
        self.check_groups()?;
        self.columns.iter().try_for_each(|c| self.check_column(c))
    }

    /// Names of all columns: those of the key first, then the others as they were declared.
    pub fn in_reading_order(&self) -> Vec<String> {
        let others = self.shown().map(|column| &column.name);
        let others = others.filter(|name| !self.key.contains(name));
        self.key.iter().chain(others).cloned().collect()
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Result<&ColumnSpec> {
        match self.columns.iter().find(|c| c.name == name) {
            _ if self.is_dropped(name) => Err(self.dropped(name)),
            Some(column) => Ok(column),
            None => Err(Error::UnknownColumn { table: self.name.clone(), column: name.into() }),
        }
    }

    /// True if a column of that name was dropped.
    pub fn is_dropped(&self, name: &str) -> bool {
        self.dropped.iter().any(|dropped| dropped == name)
    }

    /// The columns that a reader sees.
    pub fn shown(&self) -> impl Iterator<Item = &ColumnSpec> {
        self.columns.iter().filter(|column| !self.is_dropped(&column.name))
    }

    /// True if the column is part of the primary key.
    pub fn is_key(&self, column: &str) -> bool {
        self.key.iter().any(|k| k == column)
    }

    /// The key columns of a row.
    pub fn key_part(&self, row: &Row) -> Row {
        let key = row.iter().filter(|(name, _)| self.is_key(name));
        key.map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }

    fn check_names(&self) -> Result<()> {
        if !valid_name(&self.name, |c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            return Err(self.invalid("the name must be 1 to 64 of [A-Za-z0-9_-]"));
        }
        if self.columns.is_empty() || self.columns.len() > COLUMNS_MAX {
            return Err(self.invalid("a table has 1 to 256 columns"));
        }
        for (i, column) in self.columns.iter().enumerate() {
            let name = &column.name;
            if !valid_name(name, |c| c.is_ascii_alphanumeric() || c == '_')
                || !name.starts_with(|c: char| c.is_ascii_alphabetic())
            {
                let reason = format!("column name {name:?} must be a letter, then [A-Za-z0-9_]");
                return Err(self.invalid(&reason));
            }
            if self.columns[..i].iter().any(|c| c.name == *name) {
                return Err(self.invalid(&format!("column {name:?} is defined twice")));
            }
        }
        Ok(())
    }

    fn check_key(&self) -> Result<()> {
        if self.key.is_empty() {
            return Err(self.invalid("the key names no column"));
        }
        for (i, name) in self.key.iter().enumerate() {
            let Ok(column) = self.column(name) else {
                return Err(self.invalid(&format!("key column {name:?} is not defined")));
            };
            if self.key[..i].contains(name) {
                return Err(self.invalid(&format!("key column {name:?} is named twice")));
            }
            if column.kind == ColumnKind::Json || column.merge != Merge::Lww {
                let reason = format!("key column {name:?} may be neither json nor merged");
                return Err(self.invalid(&reason));
            }
        }
        match self.partition.iter().find(|p| !self.key.contains(p)) {
            Some(p) => Err(self.invalid(&format!("partition column {p:?} is not in the key"))),
            None => Ok(()),
        }
    }

    fn check_dropped(&self) -> Result<()> {
        for (i, name) in self.dropped.iter().enumerate() {
            if self.is_key(name) {
                return Err(self.invalid(&format!("column {name:?} is of the key, so it stays")));
            }
            if self.dropped[..i].last().is_some_and(|before| before >= name) {
                let reason = format!("dropped columns must ascend, {name:?} does not");
                return Err(self.invalid(&reason));
            }
        }
        match self.dropped.len() > COLUMNS_MAX {
            true => Err(self.invalid("at most 256 columns are dropped")),
            false => Ok(()),
        }
    }

    fn check_ttl(&self) -> Result<()> {
        let Some(Ttl { seconds, column: name }) = &self.ttl else { return Ok(()) };
        let is_time = self.column(name).is_ok_and(|c| c.kind == ColumnKind::TimestampUs);
        if !is_time || !self.is_key(name) {
            let reason = format!("ttl counts from {name:?}, which is no timestamp-us of the key");
            return Err(self.invalid(&reason));
        }
        match (1..=TTL_SECONDS_MAX).contains(seconds) {
            true => Ok(()),
            false => Err(self.invalid("ttl must be 1 second to 1000 years")),
        }
    }

    fn check_limits(&self) -> Result<()> {
        let Limits { partition_bytes_max, table_bytes_max } = self.limits;
        let mut given = [partition_bytes_max, table_bytes_max].into_iter().flatten();
        match given.all(|bytes| LIMIT_BYTES.contains(&bytes)) {
            true => Ok(()),
            false => Err(self.invalid("a limit must be 1 KiB to 16 TiB")),
        }
    }

    fn check_groups(&self) -> Result<()> {
        let mut seen: Vec<&String> = Vec::new();
        for name in self.groups.iter().flatten() {
            if !self.columns.iter().any(|column| column.name == *name) && !self.is_dropped(name) {
                return Err(self.invalid(&format!("column {name:?} of a group is not defined")));
            }
            if self.is_key(name) {
                let reason = format!("column {name:?} is of the key, which is read with any group");
                return Err(self.invalid(&reason));
            }
            if seen.contains(&name) {
                return Err(self.invalid(&format!("column {name:?} is in two groups")));
            }
            seen.push(name);
        }
        Ok(())
    }

    fn check_column(&self, column: &ColumnSpec) -> Result<()> {
        let name = &column.name;
        match (column.merge, column.kind) {
            (Merge::Counter, kind) if kind != ColumnKind::Int64 => {
                Err(self.invalid(&format!("counter column {name:?} must be int64")))
            }
            (Merge::Set, ColumnKind::Json) => {
                Err(self.invalid(&format!("set column {name:?} may not be json")))
            }
            _ => Ok(()),
        }
    }

    /// The error for the use of a column that was dropped.
    pub(crate) fn dropped(&self, column: &str) -> Error {
        Error::BadRequest(format!(
            "column {column:?} of table {:?} was dropped; leave it out",
            self.name
        ))
    }

    fn invalid(&self, reason: &str) -> Error {
        Error::InvalidSpec { table: self.name.clone(), reason: reason.into() }
    }

    fn incompatible(&self, reason: &str) -> Error {
        Error::IncompatibleSpec { table: self.name.clone(), reason: reason.into() }
    }
}

fn valid_name(name: &str, allowed: impl Fn(char) -> bool) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(allowed)
}

#[cfg(test)]
mod tests;
