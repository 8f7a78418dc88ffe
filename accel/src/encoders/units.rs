//! What an encoder gives, brought into the form of our own streams: only parameter sets and
//! slices, each with a start code of four bytes.

const START: [u8; 4] = [0, 0, 0, 1];
const SLICE: u8 = 1;
const SLICE_INTRA: u8 = 5;
const SEQUENCE: u8 = 7;
const PICTURES: u8 = 8;

/// The picture in Annex B without what decoders need not have; the error says what is wrong. One
/// that stands alone must begin with its parameter sets, another must have none.
pub(super) fn tidied(data: &[u8], is_key: bool) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(data.len() + 16);
    let mut kinds = Vec::new();
    for unit in units(data) {
        let kind = unit[0] & 31;
        if matches!(kind, SLICE | SLICE_INTRA | SEQUENCE | PICTURES) {
            kinds.push(kind);
            out.extend(START);
            out.extend(unit);
        }
    }
    let expected = match is_key {
        true => [SEQUENCE, PICTURES, SLICE_INTRA].as_slice(),
        false => &[SLICE],
    };
    kinds.dedup();
    match kinds == expected {
        true => Ok(out),
        false => Err(format!("it gave units of kinds {kinds:?} where {expected:?} are due")),
    }
}

/// The units of a stream, without start codes and the zeros before them; none is empty.
fn units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start(data).unwrap_or_default();
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let next = rest.windows(3).position(|bytes| bytes == &START[1..]);
            let unit = &rest[..next.unwrap_or(rest.len())];
            rest = next.map_or(&[][..], |at| &rest[at + 3..]);
            let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
            if unit.len() > zeros {
                return Some(&unit[..unit.len() - zeros]);
            }
        }
        None
    })
}

fn after_start(data: &[u8]) -> Option<&[u8]> {
    let at = data.windows(3).position(|bytes| bytes == &START[1..])?;
    Some(&data[at + 3..])
}

#[cfg(test)]
mod tests;
