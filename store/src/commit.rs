//! Commits: changes to rows of one partition that are made together or not at all, under
//! conditions on rows of that partition. Pure.
//!
//! Who may decide a condition, and how a commit gets there, is `tree/owner.rs`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::Change;
use crate::error::{Error, Result};
use crate::record;
use crate::row::RowState;
use crate::schema::Schema;
use crate::value::{Row, Value, row_to_json};

/// Conditions and writes of one commit, taken together.
pub const COMMIT_STEPS_MAX: usize = 1_000;

/// Changes to rows of one partition, all or none, if all conditions hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// What must hold.
    pub conditions: Vec<Condition>,
    /// What is then done, in this order.
    pub writes: Vec<Write>,
}

/// What must hold of one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// The row's key.
    pub key: Row,
    /// What is expected of it.
    pub expect: Expect,
}

/// What is expected of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Expect {
    /// There is no such row.
    Absent,
    /// There is one.
    Present,
    /// It is as it was when this version was read.
    Version(Version),
    /// It exists, and these columns have these values.
    Values(Row),
}

/// One change of a commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Write {
    /// See [`crate::EdgeStore::put`].
    Put(Row),
    /// See [`crate::EdgeStore::patch`].
    Patch(Row),
    /// See [`crate::EdgeStore::discard`].
    Discard(Row),
    /// See [`crate::EdgeStore::delete`].
    Delete(Row),
    /// See [`crate::EdgeStore::increment`].
    Increment(Row, Vec<(String, i64)>),
}

/// The state of a row, in 64 bits: sites that know the same of a row give it the same version,
/// and every change gives it another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version(u64);

impl Commit {
    /// Checks what can be checked without a table.
    pub fn check(&self) -> Result<()> {
        let steps = self.conditions.len() + self.writes.len();
        if self.writes.is_empty() {
            return Err(Error::BadRequest("a commit writes at least one row".into()));
        }
        if steps > COMMIT_STEPS_MAX {
            return Err(Error::BadRequest(format!(
                "a commit of {steps} conditions and writes; {COMMIT_STEPS_MAX} are the most, \
                 make several of it"
            )));
        }
        Ok(())
    }

    /// The writes as the engine takes them.
    pub fn changes(&self) -> Vec<Change<'_>> {
        self.writes.iter().map(Write::change).collect()
    }
}

impl Write {
    fn change(&self) -> Change<'_> {
        match self {
            Write::Put(row) => Change::Put(row),
            Write::Patch(row) => Change::Patch(row),
            Write::Discard(row) => Change::Discard(row),
            Write::Delete(key) => Change::Delete(key),
            Write::Increment(key, by) => Change::Increment(key, by),
        }
    }
}

impl Condition {
    /// Nothing if `state` is as expected, else [`Error::Conflict`].
    pub fn check(&self, spec: &Schema, state: &RowState) -> Result<()> {
        let reason = match (&self.expect, state.is_live()) {
            (Expect::Absent, false) | (Expect::Present, true) => None,
            (Expect::Absent, true) => Some("is there".into()),
            (_, false) => Some("is absent".into()),
            (Expect::Version(wanted), true) => {
                let found = Version::of(spec, state);
                (found != *wanted).then(|| format!("has version {found}, not {wanted}"))
            }
            (Expect::Values(wanted), true) => self.differing(spec, state, wanted)?,
        };
        match reason {
            None => Ok(()),
            Some(reason) => Err(Error::Conflict {
                table: spec.name.clone(),
                key: row_to_json(&self.key).to_string(),
                reason,
            }),
        }
    }

    fn differing(&self, spec: &Schema, state: &RowState, wanted: &Row) -> Result<Option<String>> {
        for (name, value) in wanted.iter() {
            let column = spec.column(name)?;
            let number = spec.number(name)?;
            let found = match spec.is_key(name) {
                true => self.key.get(name).cloned().unwrap_or_default(),
                false => state.value(number, column.merge),
            };
            let value = fit_as_shown(value, column)?;
            if found != value {
                return Ok(Some(format!("has {name:?} {}", found.to_json())));
            }
        }
        Ok(None)
    }
}

/// The value as a reader would see it in the column.
fn fit_as_shown(value: &Value, column: &crate::ColumnSpec) -> Result<Value> {
    match value {
        Value::List(items) if column.merge == crate::Merge::Set => {
            let items = items.iter().map(|item| item.clone().fit(&column.name, column.kind));
            let mut items = items.collect::<Result<Vec<_>>>()?;
            items.sort();
            items.dedup();
            Ok(Value::List(items))
        }
        value => value.clone().fit(&column.name, column.kind),
    }
}

impl Version {
    /// The version of a row's state.
    pub fn of(spec: &Schema, state: &RowState) -> Self {
        let canonical = state.canonical();
        // Sites number their columns each in their own order; names are the same everywhere.
        let mut cells: Vec<_> = canonical
            .cells
            .iter()
            .filter(|(number, _)| !spec.is_gone(*number))
            .filter_map(|(number, cell)| Some((&spec.columns.get(*number as usize)?.name, cell)))
            .collect();
        cells.sort_by_key(|(name, _)| *name);
        let bytes = record::encode(&(canonical.written, canonical.deleted, cells));
        let digest = Sha256::digest(&bytes);
        Version(u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes")))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.map(Version).ok_or_else(|| {
            Error::BadRequest(format!("{text:?} is no version; a row is read with its version"))
        })
    }
}

#[cfg(test)]
mod tests;
