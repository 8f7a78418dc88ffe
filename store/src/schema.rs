//! A table's specification with what follows from it, found once: columns are positions from here
//! on, and names are looked at only where a caller's row comes in.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::key;
use crate::spec::{ColumnSpec, Merge, TableSpec};
use crate::value::{Names, Row, Value};

/// A specification, resolved.
#[derive(Debug)]
pub struct Schema {
    spec: TableSpec,
    /// The table's name, to share.
    pub table: Arc<str>,
    /// All columns' names, those of dropped ones included.
    pub names: Names,
    /// Positions of the columns that a reader sees, ascending.
    pub shown: Vec<u16>,
    /// Their names.
    pub shown_names: Names,
    /// Positions of the key columns, in the order of the key.
    pub key: Vec<u16>,
    /// Positions of the other columns that a reader sees, ascending.
    pub values: Vec<u16>,
    /// The key column with a row's time, and milliseconds that rows live.
    ttl: Option<(u16, u64)>,
    /// For each key column whether it is one of the partition's.
    in_partition: Vec<bool>,
    /// Positions of the partition columns, in their order.
    partition: Vec<u16>,
    /// True if the partition columns come in the order of the key.
    partition_follows_key: bool,
    numbers: HashMap<String, u16, ahash::RandomState>,
}

impl Deref for Schema {
    type Target = TableSpec;

    fn deref(&self) -> &TableSpec {
        &self.spec
    }
}

impl Schema {
    /// Resolves a specification that has been validated.
    pub fn new(spec: TableSpec) -> Self {
        let numbers: HashMap<String, u16, ahash::RandomState> =
            spec.columns.iter().zip(0..).map(|(c, number)| (c.name.clone(), number)).collect();
        let positions = |names: &[String]| -> Vec<u16> {
            names.iter().filter_map(|name| numbers.get(name).copied()).collect()
        };
        let (key, partition) = (positions(&spec.key), positions(&spec.partition));
        let in_partition: Vec<bool> = key.iter().map(|number| partition.contains(number)).collect();
        let shown: Vec<u16> = spec
            .columns
            .iter()
            .zip(0..)
            .filter_map(|(column, number)| (!spec.is_dropped(&column.name)).then_some(number))
            .collect();
        let ttl = spec
            .ttl
            .as_ref()
            .and_then(|ttl| Some((*numbers.get(&ttl.column)?, ttl.seconds.saturating_mul(1_000))));
        let in_key_order = key.iter().filter(|number| partition.contains(number));
        Schema {
            table: spec.name.as_str().into(),
            names: spec.columns.iter().map(|c| c.name.as_str()).collect(),
            values: shown.iter().copied().filter(|n| !key.contains(n)).collect(),
            shown_names: shown.iter().map(|n| spec.columns[*n as usize].name.as_str()).collect(),
            shown,
            ttl,
            partition_follows_key: in_key_order.eq(partition.iter()),
            key,
            in_partition,
            partition,
            numbers,
            spec,
        }
    }

    /// True if rows look the same in both: how long they live, and how much there may be, aside.
    pub fn is(&self, other: &Schema) -> bool {
        let (a, b) = (&self.spec, &other.spec);
        std::ptr::eq(self, other)
            || (&a.name, &a.key, &a.partition) == (&b.name, &b.key, &b.partition)
                && (&a.columns, &a.dropped) == (&b.columns, &b.dropped)
    }

    /// The position of a column that a reader sees, by which row states name it.
    pub fn number(&self, name: &str) -> Result<u16> {
        match self.numbers.get(name).copied() {
            _ if self.is_dropped(name) => Err(self.spec.dropped(name)),
            Some(number) => Ok(number),
            None => Err(Error::UnknownColumn { table: self.name.clone(), column: name.into() }),
        }
    }

    /// Where cells of a column go that come from elsewhere; nowhere if it was dropped.
    pub fn place_of(&self, name: &str) -> Result<Option<u16>> {
        match self.is_dropped(name) {
            true => Ok(None),
            false => self.number(name).map(Some),
        }
    }

    /// True if columns were dropped whose cells may still be about.
    pub fn has_dropped(&self) -> bool {
        self.shown.len() < self.spec.columns.len()
    }

    /// True if the column at a position was dropped.
    pub fn is_gone(&self, number: u16) -> bool {
        self.has_dropped() && !self.shown.contains(&number)
    }

    /// The key column with a row's time, and the first time (microseconds) of rows that live at
    /// `now_ms`.
    pub fn lives_from(&self, now_ms: u64) -> Option<(u16, i64)> {
        let (column, ttl_ms) = self.ttl?;
        let first_ms = i64::try_from(now_ms).ok()?.saturating_sub_unsigned(ttl_ms);
        Some((column, first_ms.saturating_mul(1_000)))
    }

    /// True if rows live for a time only.
    pub fn has_ttl(&self) -> bool {
        self.ttl.is_some()
    }

    /// True if all keys between these two have the same values before the time of the row.
    pub fn time_orders(&self, min_key: &[u8], max_key: &[u8]) -> bool {
        let Some((column, _)) = self.ttl else { return false };
        let (mut min, mut max) = (min_key, max_key);
        for number in self.key.iter().take_while(|number| **number != column) {
            let kind = self.column_at(*number).kind;
            if key::skip(kind, &mut min).is_err() || key::skip(kind, &mut max).is_err() {
                return false;
            }
        }
        let (from, to) = (min_key.len() - min.len(), max_key.len() - max.len());
        min_key[..from] == max_key[..to]
    }

    /// True if the row of this encoded key has lived its time.
    pub fn is_expired(&self, key: &[u8], now_ms: u64) -> bool {
        let Some((column, first_us)) = self.lives_from(now_ms) else { return false };
        let mut rest = key;
        for number in &self.key {
            let kind = self.column_at(*number).kind;
            if *number == column {
                return matches!(key::decode(kind, &mut rest), Ok(Value::Time(us)) if us < first_us);
            }
            if key::skip(kind, &mut rest).is_err() {
                return false;
            }
        }
        false
    }

    /// The column at a position.
    pub fn column_at(&self, number: u16) -> &ColumnSpec {
        &self.spec.columns[number as usize]
    }

    /// Positions of the columns that a reader sees, in the order in which segments have them:
    /// groups behind the key and the others.
    pub fn in_file_order(&self) -> Vec<u16> {
        let group_of = |number: &u16| {
            let name = &self.column_at(*number).name;
            self.groups.iter().position(|group| group.contains(name)).map(|group| group + 1)
        };
        let mut order = self.shown.clone();
        order.sort_by_key(|number| match self.key.contains(number) {
            true => None,
            false => Some(group_of(number)),
        });
        match self.groups.is_empty() {
            true => self.shown.clone(),
            false => order,
        }
    }

    /// Bytes of an encoded key, if every one has as many.
    pub fn key_bytes(&self) -> Option<usize> {
        self.key.iter().map(|number| key::bytes_of(self.column_at(*number).kind)).sum()
    }

    /// True if rows lie in partitions.
    pub fn is_partitioned(&self) -> bool {
        !self.partition.is_empty()
    }

    /// True if the key begins with the partition columns, so that partitions in order have their
    /// rows in order.
    pub fn partition_leads(&self) -> bool {
        self.key.starts_with(&self.partition)
    }

    /// True if any column merges by this rule.
    pub fn merges_by(&self, merge: Merge) -> bool {
        self.spec.columns.iter().any(|c| c.merge == merge)
    }

    /// The columns of a row with their positions, ascending.
    pub fn placed<'a>(&self, row: &'a Row) -> Result<Vec<(u16, &'a Value)>> {
        // Most rows have the columns in the order of the table.
        let number = |at: usize, name: &str| match self.spec.columns.get(at) {
            Some(column) if column.name == *name && !self.has_dropped() => Ok(at as u16),
            _ => self.number(name),
        };
        let placed = row.iter().enumerate().map(|(at, (name, v))| Ok((number(at, name)?, v)));
        let mut placed = placed.collect::<Result<Vec<_>>>()?;
        if !placed.is_sorted_by_key(|(number, _)| *number) {
            placed.sort_unstable_by_key(|(number, _)| *number);
        }
        Ok(placed)
    }

    /// The encoded primary key of a row; every key column must have a value.
    pub fn key_of(&self, row: &Row) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(32);
        self.key.iter().try_for_each(|number| self.encode_key_value(row, *number, &mut out))?;
        if out.len() > key::KEY_BYTES_MAX {
            return Err(Error::TooLarge {
                what: format!("key of a row of table {:?}", self.name),
                bytes: out.len() as u64,
                max: key::KEY_BYTES_MAX as u64,
            });
        }
        Ok(out)
    }

    /// The encoded values of as many leading key columns as `row` has.
    pub fn key_prefix_of(&self, row: &Row) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let given = self.key.iter().take_while(|n| row.contains_key(&self.column_at(**n).name));
        let given: Vec<u16> = given.copied().collect();
        given.iter().try_for_each(|number| self.encode_key_value(row, *number, &mut out))?;
        if given.len() < row.len() {
            return Err(Error::BadRequest(format!(
                "a range of table {:?} must use leading columns of the key {:?}",
                self.name, self.spec.key
            )));
        }
        Ok(out)
    }

    /// The encoded partition of a row, `None` if the row does not fix it.
    pub fn partition_of(&self, row: &Row) -> Result<Option<Vec<u8>>> {
        if !self.spec.partition.iter().all(|name| row.contains_key(name)) {
            return Ok(None);
        }
        let mut out = Vec::new();
        self.partition.iter().try_for_each(|n| self.encode_key_value(row, *n, &mut out))?;
        Ok(Some(out))
    }

    /// The encoded partition of an encoded key, which is checked to be one.
    pub fn partition_of_key(&self, encoded: &[u8]) -> Result<Vec<u8>> {
        if !self.partition_follows_key {
            let row = self.key_row(encoded)?;
            return Ok(self.partition_of(&row)?.unwrap_or_default());
        }
        let (mut rest, mut partition) = (encoded, Vec::new());
        for (number, in_partition) in self.key.iter().zip(&self.in_partition) {
            let before = rest;
            key::skip(self.column_at(*number).kind, &mut rest)?;
            if *in_partition {
                partition.extend(&before[..before.len() - rest.len()]);
            }
        }
        self.check_end(rest).map(|()| partition)
    }

    /// The values of the key columns, decoded from an encoded key, in the order of the key.
    pub fn key_values(&self, encoded: &[u8]) -> Result<Vec<Value>> {
        let mut rest = encoded;
        let values = self.key.iter().map(|n| key::decode(self.column_at(*n).kind, &mut rest));
        let values = values.collect::<Result<Vec<_>>>()?;
        self.check_end(rest).map(|()| values)
    }

    /// Sets the key columns among the values of all columns, decoded from an encoded key.
    pub fn key_values_into(&self, encoded: &[u8], values: &mut [Value]) -> Result<()> {
        let mut rest = encoded;
        for number in &self.key {
            let kind = self.column_at(*number).kind;
            values[*number as usize] = key::decode(kind, &mut rest)?;
        }
        self.check_end(rest)
    }

    /// Nothing if nothing is left of an encoded key.
    pub fn check_end(&self, rest: &[u8]) -> Result<()> {
        match rest.is_empty() {
            true => Ok(()),
            false => Err(self.too_long(rest)),
        }
    }

    /// The key columns of the row with this encoded key.
    pub fn key_row(&self, encoded: &[u8]) -> Result<Row> {
        let names = self.spec.key.iter().map(String::as_str).collect();
        Ok(Row::of(names, self.key_values(encoded)?))
    }

    fn encode_key_value(&self, row: &Row, number: u16, out: &mut Vec<u8>) -> Result<()> {
        let column = self.column_at(number);
        let missing =
            || Error::MissingKey { table: self.name.clone(), column: column.name.clone() };
        let value = row.get(&column.name).filter(|v| !v.is_null()).ok_or_else(missing)?;
        match value.is_of(column.kind) {
            true => key::encode(value, out),
            false => key::encode(&value.clone().fit(&column.name, column.kind)?, out),
        }
    }

    fn too_long(&self, rest: &[u8]) -> Error {
        let (table, more) = (&self.name, rest.len());
        Error::BadRequest(format!("key of table {table:?} has {more} bytes too many"))
    }
}

#[cfg(test)]
mod tests;
