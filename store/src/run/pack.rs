//! Rows that are nothing but plain values of one write, as bytes: what memory holds of most rows.
//!
//! ```text
//! row  = cell*
//! cell = column u16 | tag u8 | 8 bytes of a number, or len u32 | bytes[len], or nothing
//! ```
//! Little endian. These bytes never leave the process.

use crate::row::{Cell, RowState, Stamp};
use crate::schema::Schema;
use crate::value::Value;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 4;
const TIME: u8 = 5;
const TEXT: u8 = 6;
const BYTES: u8 = 7;
const JSON: u8 = 8;

/// A value that lies in somebody else's memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plain<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Time(i64),
    /// UTF-8.
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    /// UTF-8.
    Json(&'a [u8]),
}

/// Appends a state as bytes. False, with `out` as before, if it is more than plain values of one
/// write.
pub fn pack(state: &RowState, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    let Ok(cells) = u16::try_from(state.cells.len()) else { return false };
    out.extend_from_slice(&cells.to_le_bytes());
    let packed = state.deleted == Stamp::default()
        && state.cells.iter().all(|(number, cell)| match cell {
            Cell::Fresh(value) => Plain::of(value).is_some_and(|value| push(*number, value, out)),
            _ => false,
        });
    if !packed {
        out.truncate(before);
    }
    packed
}

/// Appends a row as bytes, up to `bytes_max` of them. False, with `out` as before, if it has more,
/// or a value is none of these.
pub fn pack_plain<'a>(
    row: impl ExactSizeIterator<Item = Option<(u16, Plain<'a>)>>,
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> bool {
    let before = out.len();
    let Ok(cells) = u16::try_from(row.len()) else { return false };
    out.extend_from_slice(&cells.to_le_bytes());
    for cell in row {
        let left = bytes_max.saturating_sub(out.len() - before);
        let fits = cell
            .is_some_and(|(number, value)| value.bytes().len() <= left && push(number, value, out));
        if !fits || out.len() - before > bytes_max {
            out.truncate(before);
            return false;
        }
    }
    true
}

/// Appends one cell of a row, whose number of cells comes first; false if it is too long.
pub fn push(number: u16, value: Plain<'_>, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(&number.to_le_bytes());
    match value {
        Plain::Null => out.push(NULL),
        Plain::Bool(b) => out.push(if b { TRUE } else { FALSE }),
        Plain::Int(i) => push_number(INT, i.to_le_bytes(), out),
        Plain::Float(f) => push_number(FLOAT, f.to_le_bytes(), out),
        Plain::Time(us) => push_number(TIME, us.to_le_bytes(), out),
        Plain::Text(text) => return push_bytes(TEXT, text, out),
        Plain::Bytes(bytes) => return push_bytes(BYTES, bytes, out),
        Plain::Json(text) => return push_bytes(JSON, text, out),
    }
    true
}

fn push_number(tag: u8, bytes: [u8; 8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&bytes);
}

fn push_bytes(tag: u8, bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let Ok(len) = u32::try_from(bytes.len()) else { return false };
    out.push(tag);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
    true
}

/// A packed row: its columns and values in the order of the columns.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    cells: u16,
    rest: &'a [u8],
}

impl<'a> Iterator for Packed<'a> {
    type Item = (u16, Plain<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (number, rest) = self.rest.split_first_chunk::<2>()?;
        let (tag, rest) = rest.split_first()?;
        let (value, rest) = match *tag {
            NULL => (Plain::Null, rest),
            FALSE | TRUE => (Plain::Bool(*tag == TRUE), rest),
            INT | FLOAT | TIME => {
                let (bytes, rest) = rest.split_first_chunk::<8>()?;
                let value = match *tag {
                    INT => Plain::Int(i64::from_le_bytes(*bytes)),
                    FLOAT => Plain::Float(f64::from_le_bytes(*bytes)),
                    _ => Plain::Time(i64::from_le_bytes(*bytes)),
                };
                (value, rest)
            }
            tag => {
                let (len, rest) = rest.split_first_chunk::<4>()?;
                let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
                let value = match tag {
                    TEXT => Plain::Text(bytes),
                    BYTES => Plain::Bytes(bytes),
                    _ => Plain::Json(bytes),
                };
                (value, rest)
            }
        };
        self.rest = rest;
        Some((u16::from_le_bytes(*number), value))
    }
}

impl<'a> Packed<'a> {
    /// A row that [`pack`] has written.
    pub fn of(bytes: &'a [u8]) -> Self {
        match bytes.split_first_chunk::<2>() {
            Some((cells, rest)) => Packed { cells: u16::from_le_bytes(*cells), rest },
            None => Packed { cells: 0, rest: &[] },
        }
    }

    /// True if these are values for all the columns that a reader sees beside the key.
    pub fn is_all_of(self, schema: &Schema) -> bool {
        self.cells as usize == schema.values.len()
            && (!schema.has_dropped() || self.map(|(n, _)| n).eq(schema.values.iter().copied()))
    }

    /// How many columns it has.
    pub fn cells(self) -> usize {
        self.cells as usize
    }

    /// The state that was packed.
    pub fn state(self, written: Stamp) -> RowState {
        let cells = self.map(|(number, value)| (number, Cell::Fresh(value.to_value()))).collect();
        RowState { written, deleted: Stamp::default(), cells }
    }
}

impl<'a> Plain<'a> {
    /// Those of a text, a document or bytes; a value of a fixed size has none.
    fn bytes(self) -> &'a [u8] {
        match self {
            Plain::Text(bytes) | Plain::Bytes(bytes) | Plain::Json(bytes) => bytes,
            _ => &[],
        }
    }

    /// A value where it lies; none of a list.
    pub fn of(value: &'a Value) -> Option<Self> {
        Some(match value {
            Value::Null => Plain::Null,
            Value::Bool(b) => Plain::Bool(*b),
            Value::Int(i) => Plain::Int(*i),
            Value::Float(f) => Plain::Float(*f),
            Value::Time(us) => Plain::Time(*us),
            Value::Text(s) => Plain::Text(s.as_bytes()),
            Value::Bytes(b) => Plain::Bytes(b),
            Value::Json(s) => Plain::Json(s.as_bytes()),
            Value::List(_) => return None,
        })
    }

    /// The value on its own.
    pub fn to_value(self) -> Value {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        match self {
            Plain::Null => Value::Null,
            Plain::Bool(b) => Value::Bool(b),
            Plain::Int(i) => Value::Int(i),
            Plain::Float(f) => Value::Float(f),
            Plain::Time(us) => Value::Time(us),
            Plain::Text(bytes) => Value::Text(text(bytes)),
            Plain::Bytes(bytes) => Value::Bytes(bytes.into()),
            Plain::Json(bytes) => Value::Json(text(bytes)),
        }
    }
}

#[cfg(test)]
mod tests;
