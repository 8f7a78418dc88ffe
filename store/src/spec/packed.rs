//! The bytes of a definition in the log and in messages. Those of one without limits and groups are
//! the same as in programs that knew none: these ride where the `ttl` is, as a third case of it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ColumnSpec, Limits, TableSpec, Ttl};

#[derive(Serialize, Deserialize)]
struct Packed {
    name: String,
    columns: Vec<ColumnSpec>,
    key: Vec<String>,
    partition: Vec<String>,
    more: More,
    dropped: Vec<String>,
    revision: u64,
}

/// The first two are what an `Option` of a `ttl` is.
#[derive(Serialize, Deserialize)]
enum More {
    None,
    Ttl(Ttl),
    All(Option<Ttl>, Limits, Vec<Vec<String>>),
}

impl From<TableSpec> for Packed {
    fn from(spec: TableSpec) -> Self {
        let TableSpec { name, columns, key, partition, ttl, dropped, revision, limits, groups } =
            spec;
        let is_former = limits == Limits::default() && groups.is_empty();
        let more = match (ttl, is_former) {
            (None, true) => More::None,
            (Some(ttl), true) => More::Ttl(ttl),
            (ttl, false) => More::All(ttl, limits, groups),
        };
        Packed { name, columns, key, partition, more, dropped, revision }
    }
}

impl From<Packed> for TableSpec {
    fn from(packed: Packed) -> Self {
        let Packed { name, columns, key, partition, more, dropped, revision } = packed;
        let (ttl, limits, groups) = match more {
            More::None => Default::default(),
            More::Ttl(ttl) => (Some(ttl), Limits::default(), Vec::new()),
            More::All(ttl, limits, groups) => (ttl, limits, groups),
        };
        TableSpec { name, columns, key, partition, ttl, dropped, revision, limits, groups }
    }
}

impl Serialize for TableSpec {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match out.is_human_readable() {
            true => TableSpec::serialize(self, out),
            false => Packed::from(self.clone()).serialize(out),
        }
    }
}

impl<'a> Deserialize<'a> for TableSpec {
    fn deserialize<D: Deserializer<'a>>(input: D) -> Result<Self, D::Error> {
        match input.is_human_readable() {
            true => TableSpec::deserialize(input),
            false => Packed::deserialize(input).map(TableSpec::from),
        }
    }
}

#[cfg(test)]
mod tests;
