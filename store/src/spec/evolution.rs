//! How a table changes while it has rows. Pure.
//!
//! Sites hear of definitions in any order, and of old ones again, so two definitions join to the
//! same one whichever came first: columns are added, kinds widen, dropped columns stay dropped, and
//! `ttl`, `limits` and `groups` are those of the higher revision. No row is rewritten for it.

use super::{ColumnKind, ColumnSpec, TableSpec, Ttl};
use crate::error::Result;

impl TableSpec {
    /// This definition joined with another of the same table. What can never go together is
    /// refused with the reason.
    pub fn evolve(&self, newer: &TableSpec) -> Result<TableSpec> {
        if self.key != newer.key || self.partition != newer.partition {
            return Err(self.incompatible("the key or partition columns differ"));
        }
        let mut evolved = self.clone();
        for column in &newer.columns {
            match evolved.columns.iter_mut().find(|c| c.name == column.name) {
                Some(known) => {
                    *known = joined(known, column).ok_or_else(|| self.differs(known, column))?;
                }
                None if column.nullable => evolved.columns.push(column.clone()),
                None => {
                    let reason = format!("new column {:?} must be nullable", column.name);
                    return Err(self.incompatible(&reason));
                }
            }
        }
        evolved.dropped.extend(newer.dropped.iter().cloned());
        evolved.dropped.sort();
        evolved.dropped.dedup();
        if (newer.revision, lasts(&newer.ttl)) > (self.revision, lasts(&self.ttl)) {
            evolved.ttl = newer.ttl.clone();
        }
        if (newer.revision, newer.limits) > (self.revision, self.limits) {
            evolved.limits = newer.limits;
        }
        if (newer.revision, &newer.groups) > (self.revision, &self.groups) {
            evolved.groups = newer.groups.clone();
        }
        // Also where nothing else is new: else an old definition that comes late would count.
        evolved.revision = self.revision.max(newer.revision);
        evolved.validate()?;
        Ok(evolved)
    }

    /// Refuses what a new definition of this table asks for and would not get. One of an earlier
    /// revision asks for nothing.
    pub fn check_change(&self, newer: &TableSpec) -> Result<()> {
        let evolved = self.evolve(newer)?;
        if newer.revision < self.revision {
            return Ok(());
        }
        let news = newer.columns.iter().filter(|column| !newer.is_dropped(&column.name));
        for column in news {
            let name = &column.name;
            if self.is_dropped(name) {
                let reason = format!("column {name:?} was dropped; give the new one another name");
                return Err(self.incompatible(&reason));
            }
            let is = evolved.column(name)?;
            if is.kind != column.kind {
                let reason = format!(
                    "column {name:?} is {} already, and values are never cut to {}",
                    is.kind.in_words(),
                    column.kind.in_words()
                );
                return Err(self.incompatible(&reason));
            }
            if is.nullable != column.nullable {
                let reason =
                    format!("column {name:?} is nullable already, and rows may have nulls");
                return Err(self.incompatible(&reason));
            }
        }
        if evolved.ttl != newer.ttl {
            return Err(self.incompatible("ttl differs; change it with a higher revision"));
        }
        if evolved.limits != newer.limits {
            return Err(self.incompatible("limits differ; change them with a higher revision"));
        }
        if evolved.groups != newer.groups {
            return Err(self.incompatible("groups differ; change them with a higher revision"));
        }
        Ok(())
    }

    fn differs(&self, known: &ColumnSpec, column: &ColumnSpec) -> crate::error::Error {
        let name = &column.name;
        if known.merge != column.merge {
            let reason = format!("column {name:?} has another merge rule, which never changes");
            return self.incompatible(&reason);
        }
        if self.is_key(name) {
            return self
                .incompatible(&format!("column {name:?} is of the key and has another type"));
        }
        self.incompatible(&format!(
            "column {name:?} is {} and cannot become {}; only int32 widens to int64, and float32 \
             to float64: add a column of another name",
            known.kind.in_words(),
            column.kind.in_words()
        ))
    }
}

/// Two definitions of one column as one; none if they do not go together.
fn joined(a: &ColumnSpec, b: &ColumnSpec) -> Option<ColumnSpec> {
    let kind = wider(a.kind, b.kind)?;
    let fits = a.merge == b.merge;
    fits.then(|| ColumnSpec { kind, nullable: a.nullable || b.nullable, ..a.clone() })
}

/// The kind that holds all values of both without changing any.
fn wider(a: ColumnKind, b: ColumnKind) -> Option<ColumnKind> {
    use ColumnKind::{Float32, Float64, Int32, Int64};
    match (a, b) {
        (a, b) if a == b => Some(a),
        (Int32, Int64) | (Int64, Int32) => Some(Int64),
        (Float32, Float64) | (Float64, Float32) => Some(Float64),
        _ => None,
    }
}

/// Order of times to live; for ever is the longest.
fn lasts(ttl: &Option<Ttl>) -> (bool, u64, &str) {
    match ttl {
        None => (true, 0, ""),
        Some(ttl) => (false, ttl.seconds, &ttl.column),
    }
}
