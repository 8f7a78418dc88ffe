//! Entries of which all rows are plain values of one write, as most are: read from the log straight
//! into the form in which memory keeps rows ([`pack`](crate::run::pack)), with no allocation for a
//! row. Whatever else there may be in an entry is left to [`super::decode`].

use std::ops::Range;

use crate::hash;
use crate::row::Stamp;
use crate::run::pack::{Plain, push};
use crate::value::Names;

/// Rows of one table, all of this store's own making.
#[derive(Debug)]
pub struct PlainRows {
    /// The entry's number.
    pub seq: u64,
    /// The table.
    pub table: String,
    /// Names for the column numbers in the rows.
    pub columns: Names,
    /// Keys and packed rows.
    bytes: Vec<u8>,
    rows: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    hash: u64,
    written: Stamp,
    key: Range<usize>,
    row: Range<usize>,
}

/// One of the rows.
#[derive(Clone, Copy, Debug)]
pub struct PlainRow<'a> {
    /// Its encoded key, and the hash of that.
    pub key: hash::Hashed<'a>,
    /// When and where it was written.
    pub written: Stamp,
    /// Its values, packed.
    pub packed: &'a [u8],
}

impl PlainRows {
    /// The rows of an encoded entry; `None` if it is another, or has other rows.
    pub fn read(entry: &[u8]) -> Option<Self> {
        let mut rest = entry;
        let seq = varint(&mut rest)?;
        // `Source::Own` and `Body::Rows`.
        if varint(&mut rest)? != 0 || varint(&mut rest)? != 1 {
            return None;
        }
        let table = text(&mut rest)?.to_owned();
        let names = (0..varint(&mut rest)?).map(|_| text(&mut rest));
        let columns: Names = names.collect::<Option<Vec<&str>>>()?.into_iter().collect();
        let count = usize::try_from(varint(&mut rest)?).ok().filter(|n| *n <= rest.len())?;
        let (bytes, rows) = (Vec::with_capacity(rest.len() * 2), Vec::with_capacity(count));
        let mut read = PlainRows { seq, table, columns, bytes, rows };
        for _ in 0..count {
            read.add(&mut rest)?;
        }
        rest.is_empty().then_some(read)
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = PlainRow<'_>> {
        self.rows.iter().map(|Place { hash, written, key, row }| PlainRow {
            key: hash::Hashed { key: &self.bytes[key.clone()], hash: *hash },
            written: *written,
            packed: &self.bytes[row.clone()],
        })
    }

    /// Takes a row off the front.
    fn add(&mut self, rest: &mut &[u8]) -> Option<()> {
        let key = bytes(rest)?;
        let written = stamp(rest)?;
        if stamp(rest)? != Stamp::default() {
            return None;
        }
        let from = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let behind_key = self.bytes.len();
        let cells = u16::try_from(varint(rest)?).ok()?;
        self.bytes.extend_from_slice(&cells.to_le_bytes());
        for _ in 0..cells {
            let number = u16::try_from(varint(rest)?).ok()?;
            // `Cell::Fresh`.
            if varint(rest)? != 0 || !push(number, value(rest)?, &mut self.bytes) {
                return None;
            }
        }
        let (key, row) = (from..behind_key, behind_key..self.bytes.len());
        let hash = hash::of(&self.bytes[key.clone()]);
        self.rows.push(Place { hash, written, key, row });
        Some(())
    }
}

/// A value, by the order of the kinds in [`crate::Value`].
fn value<'a>(rest: &mut &'a [u8]) -> Option<Plain<'a>> {
    Some(match varint(rest)? {
        0 => Plain::Null,
        1 => match take::<1>(rest)? {
            [0] => Plain::Bool(false),
            [1] => Plain::Bool(true),
            _ => return None,
        },
        2 => Plain::Int(signed(rest)?),
        3 => Plain::Float(f64::from_le_bytes(take(rest)?)),
        4 => Plain::Text(text(rest)?.as_bytes()),
        5 => Plain::Bytes(bytes(rest)?),
        6 => Plain::Time(signed(rest)?),
        7 => Plain::Json(text(rest)?.as_bytes()),
        _ => return None,
    })
}

fn stamp(rest: &mut &[u8]) -> Option<Stamp> {
    Some(Stamp { hlc: varint(rest)?, origin: varint(rest)? })
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(bytes(rest)?).ok()
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(varint(rest)?).ok()?;
    let (bytes, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(bytes)
}

fn signed(rest: &mut &[u8]) -> Option<i64> {
    let zigzag = varint(rest)?;
    Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

/// Whoever opens a store waits for millions of these, so there is nothing in it to be inlined.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let all = *rest;
    let (mut found, mut at) = (0, 0);
    while at < all.len() && at < 10 {
        let byte = all[at];
        let bits = u64::from(byte & 0x7f);
        if at == 9 && bits > 1 {
            return None;
        }
        found |= bits << (7 * at);
        at += 1;
        if byte & 0x80 == 0 {
            *rest = &all[at..];
            return Some(found);
        }
    }
    None
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*head)
}

#[cfg(test)]
mod tests;
