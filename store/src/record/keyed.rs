//! Rows with their keys in one piece. What serde makes of a `Vec<u8>` is the same in postcard, but
//! goes byte by byte.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::row::RowState;

/// Encodes rows.
pub fn serialize<S: Serializer>(rows: &[(Vec<u8>, RowState)], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(rows.iter().map(|(key, state)| (Piece(key), state)))
}

/// Decodes rows.
pub fn deserialize<'a, D: Deserializer<'a>>(
    input: D,
) -> Result<Vec<(Vec<u8>, RowState)>, D::Error> {
    let rows = Vec::<(Key, RowState)>::deserialize(input)?;
    Ok(rows.into_iter().map(|(Key(key), state)| (key, state)).collect())
}

struct Piece<'a>(&'a [u8]);

impl Serialize for Piece<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_bytes(self.0)
    }
}

struct Key(Vec<u8>);

impl<'a> Deserialize<'a> for Key {
    fn deserialize<D: Deserializer<'a>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_bytes(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Key, E> {
        Ok(Key(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests;
