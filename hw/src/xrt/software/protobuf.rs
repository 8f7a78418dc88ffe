//! As much of the protobuf encoding as the calls of XRT's emulation need: fields by number, of
//! varints, fixed widths and bytes. Messages that make no sense have fewer fields.

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// A message that came.
pub(super) struct Message<'a> {
    fields: Vec<(u64, Field<'a>)>,
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Message<'a> {
    pub(super) fn new(mut bytes: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        while let Some(field) = next(&mut bytes) {
            fields.push(field);
        }
        Self { fields }
    }

    pub(super) fn number(&self, field: u64) -> Option<u64> {
        self.fields.iter().find_map(|(number, value)| match value {
            Field::Number(value) if *number == field => Some(*value),
            _ => None,
        })
    }

    pub(super) fn bytes(&self, field: u64) -> Option<&'a [u8]> {
        self.fields.iter().find_map(|(number, value)| match value {
            Field::Bytes(value) if *number == field => Some(*value),
            _ => None,
        })
    }
}

fn next<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let key = varint(bytes)?;
    let value = match key & 7 {
        VARINT => Field::Number(varint(bytes)?),
        FIXED64 => Field::Number(u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?)),
        FIXED32 => Field::Number(u64::from(u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?))),
        BYTES => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            Field::Bytes(take(bytes, length)?)
        }
        _ => return None,
    };
    Some((key >> 3, value))
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A message that goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reply(Vec<u8>);

impl Reply {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3 | VARINT);
        self.varint(value);
        self
    }

    pub(super) fn field(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
