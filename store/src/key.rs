//! Order-preserving encoding of key values: comparing encoded bytes compares the values.
//!
//! The encoding is composite: the encodings of the key columns follow one another, and none is
//! a prefix of another of the same kind.

use crate::error::{Error, Result};
use crate::spec::ColumnKind;
use crate::value::Value;

/// Bytes of an encoded key.
pub const KEY_BYTES_MAX: usize = 4096;

const SIGN: u64 = 1 << 63;

/// Appends the encoding of one value. Null, NaN, JSON and lists have none.
pub fn encode(value: &Value, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Value::Bool(b) => out.push(u8::from(*b)),
        Value::Int(i) | Value::Time(i) => out.extend(int_bytes(*i)),
        Value::Float(f) if !f.is_nan() => out.extend(float_bytes(*f)),
        Value::Text(s) => escape(s.as_bytes(), out),
        Value::Bytes(b) => escape(b, out),
        other => {
            return Err(Error::BadRequest(format!("{} cannot be a key", other.kind_name())));
        }
    }
    Ok(())
}

/// Takes one value of `kind` off the front of `bytes`.
pub fn decode(kind: ColumnKind, bytes: &mut &[u8]) -> Result<Value> {
    Ok(match kind {
        ColumnKind::Bool => match take::<1>(bytes)? {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            _ => return Err(broken()),
        },
        ColumnKind::Int64 | ColumnKind::Int32 => Value::Int(take_int(bytes)?),
        ColumnKind::TimestampUs => Value::Time(take_int(bytes)?),
        ColumnKind::Float64 | ColumnKind::Float32 => {
            Value::Float(float_from_bits(u64::from_be_bytes(take(bytes)?)))
        }
        ColumnKind::Utf8 => Value::Text(String::from_utf8(unescape(bytes)?).map_err(|_| broken())?),
        ColumnKind::Binary => Value::Bytes(unescape(bytes)?),
        ColumnKind::Json => return Err(broken()),
    })
}

/// Bytes of a value of `kind`, if every one has as many.
pub fn bytes_of(kind: ColumnKind) -> Option<usize> {
    match kind {
        ColumnKind::Bool => Some(1),
        ColumnKind::Int64
        | ColumnKind::Int32
        | ColumnKind::TimestampUs
        | ColumnKind::Float64
        | ColumnKind::Float32 => Some(8),
        ColumnKind::Utf8 | ColumnKind::Binary | ColumnKind::Json => None,
    }
}

/// Takes one value of `kind` off the front of `bytes` without building it; it is checked all the
/// same.
pub fn skip(kind: ColumnKind, bytes: &mut &[u8]) -> Result<()> {
    match kind {
        ColumnKind::Int64
        | ColumnKind::Int32
        | ColumnKind::TimestampUs
        | ColumnKind::Float64
        | ColumnKind::Float32 => take::<8>(bytes).map(|_| ()),
        ColumnKind::Utf8 if !bytes.contains(&0xff) => {
            let end = bytes.iter().position(|b| *b == 0).ok_or_else(broken)?;
            let (text, rest) = bytes.split_at(end);
            std::str::from_utf8(text).map_err(|_| broken())?;
            *bytes = rest.strip_prefix(&[0, 0]).ok_or_else(broken)?;
            Ok(())
        }
        _ => decode(kind, bytes).map(|_| ()),
    }
}

/// Takes a text or bytes off the front, if they are there as they are.
pub fn take_unescaped<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = bytes.iter().position(|b| *b == 0)?;
    let (text, rest) = bytes.split_at(end);
    *bytes = rest.strip_prefix(&[0, 0])?;
    Some(text)
}

/// The smallest byte string greater than every string that starts with `prefix`; `None` if
/// there is no such string.
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

/// True if two keys are the same. Eight bytes at once: keys are short, and many were written just
/// now, which a comparison by wider steps would wait for.
pub fn is_same(a: &[u8], b: &[u8]) -> bool {
    match (a.split_first_chunk::<8>(), b.split_first_chunk::<8>()) {
        (Some((a, more)), Some((b, other))) => {
            a == b && more.len() == other.len() && (more.is_empty() || more == other)
        }
        // Comparing nothing with nothing is slow: see `Partitions`.
        _ => a.len() == b.len() && (a.is_empty() || a == b),
    }
}

/// True if a key is before another. Most keys differ in their first eight bytes.
pub fn is_less(a: &[u8], b: &[u8]) -> bool {
    match (a.first_chunk::<8>(), b.first_chunk::<8>()) {
        (Some(x), Some(y)) if x != y => u64::from_be_bytes(*x) < u64::from_be_bytes(*y),
        _ if a.is_empty() || b.is_empty() => a.len() < b.len(),
        _ => a < b,
    }
}

/// An integer or time as bytes that order as it does.
pub fn int_bytes(i: i64) -> [u8; 8] {
    (i as u64 ^ SIGN).to_be_bytes()
}

/// A float as bytes that order as it does.
pub fn float_bytes(f: f64) -> [u8; 8] {
    let bits = f.to_bits();
    (if bits & SIGN == 0 { bits | SIGN } else { !bits }).to_be_bytes()
}

fn float_from_bits(bits: u64) -> f64 {
    f64::from_bits(if bits & SIGN == 0 { !bits } else { bits & !SIGN })
}

/// Zero bytes become `00 ff`; the end is `00 00`. So a shorter text sorts before a longer one.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for &b in bytes {
        out.push(b);
        if b == 0 {
            out.push(0xff);
        }
    }
    out.extend([0, 0]);
}

fn unescape(bytes: &mut &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let zero = bytes.iter().position(|b| *b == 0).ok_or_else(broken)?;
        out.extend(&bytes[..zero]);
        *bytes = &bytes[zero + 1..];
        match take::<1>(bytes)? {
            [0] => return Ok(out),
            [0xff] => out.push(0),
            _ => return Err(broken()),
        }
    }
}

fn take_int(bytes: &mut &[u8]) -> Result<i64> {
    Ok((u64::from_be_bytes(take(bytes)?) ^ SIGN) as i64)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or_else(broken)?;
    *bytes = rest;
    Ok(*head)
}

fn broken() -> Error {
    Error::BadRequest("encoded key is broken".into())
}

#[cfg(test)]
mod tests;
