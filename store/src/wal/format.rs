//! Bytes of a log file. Pure: bytes in, entries or a verdict out.
//!
//! ```text
//! file   = "ESWAL002" | salt u64 | number u64 | first u64 | crc u32    36 bytes, little endian
//! group* = "ESGR" | len u32 | chain u32 | crc u32 | payload[len]
//! payload = ( len u32 | entry[len] )*
//! ```
//! Any number of zeros may follow.
//! `first` is the number of the first entry that the file can hold.
//! A group is what one write and one sync make durable, whole or not at all. `chain` is the
//! `crc` of the group before (of the file header for the first), `crc` is CRC32C over salt,
//! `len`, `chain` and the payload. The salt keeps stored bytes that look like a group from being
//! taken for one.

/// Bytes of a file header.
pub const FILE_HEADER_BYTES: usize = 36;
/// Bytes of a group header.
pub const GROUP_HEADER_BYTES: usize = 16;
/// Bytes of a group's payload; a larger length is damage.
pub const GROUP_BYTES_MAX: usize = 1 << 30;

const FILE_MAGIC: &[u8; 8] = b"ESWAL002";
const GROUP_MAGIC: &[u8; 4] = b"ESGR";

/// Where in a file the next group goes and what it chains to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    salt: u64,
    chain: u32,
}

/// What the bytes of a log file hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Number of the first entry that the file can hold.
    pub first_seq: u64,
    /// Encoded entries in order.
    pub entries: Vec<Vec<u8>>,
    /// Bytes from the start that are sound.
    pub sound_bytes: usize,
    /// Bytes from the start up to the zeros at the end, if they are more.
    pub used_bytes: usize,
    /// What follows the sound bytes.
    pub end: End,
}

/// How a log file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last group.
    Whole,
    /// With bytes of a write that was never completed: nothing behind them is sound.
    Torn,
    /// Sound groups follow damaged bytes: what was acknowledged has changed on the disk.
    Rotten,
}

/// The header of a file, and the tip behind it.
pub fn file_header(number: u64, first_seq: u64, salt: u64) -> (Vec<u8>, Tip) {
    let mut header = FILE_MAGIC.to_vec();
    header.extend(salt.to_le_bytes());
    header.extend(number.to_le_bytes());
    header.extend(first_seq.to_le_bytes());
    let crc = crc32c::crc32c(&header);
    header.extend(crc.to_le_bytes());
    (header, Tip { salt, chain: crc })
}

/// Frames entries as one group behind `tip`, which moves on.
pub fn group<'a>(tip: &mut Tip, entries: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    let payload_bytes = entries.clone().map(|entry| 4 + entry.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(GROUP_HEADER_BYTES + payload_bytes);
    bytes.resize(GROUP_HEADER_BYTES, 0);
    for entry in entries {
        bytes.extend((entry.len() as u32).to_le_bytes());
        bytes.extend(entry);
    }
    let len = (bytes.len() - GROUP_HEADER_BYTES) as u32;
    let crc = checksum(*tip, len, &bytes[GROUP_HEADER_BYTES..]);
    bytes[..4].copy_from_slice(GROUP_MAGIC);
    bytes[4..8].copy_from_slice(&len.to_le_bytes());
    bytes[8..12].copy_from_slice(&tip.chain.to_le_bytes());
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    tip.chain = crc;
    bytes
}

/// True if an older program wrote the file, in a format of its own.
pub fn is_older(bytes: &[u8]) -> bool {
    bytes.starts_with(b"ESWAL001")
}

/// Reads a file. Never fails: the verdict is in [`Parsed::end`].
pub fn parse(bytes: &[u8]) -> Parsed {
    // Files are written ahead with zeros; a group begins with none.
    let used_bytes = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    let Some((mut tip, first_seq)) = parse_file_header(bytes) else {
        let end = match used_bytes {
            0 => End::Whole,
            n if n <= FILE_HEADER_BYTES => End::Torn,
            _ => End::Rotten,
        };
        return Parsed { first_seq: 0, entries: Vec::new(), sound_bytes: 0, used_bytes, end };
    };
    let mut entries = Vec::new();
    let mut at = FILE_HEADER_BYTES;
    while at < used_bytes {
        let sound = group_at(bytes, at, tip.salt).filter(|g| g.chain == tip.chain);
        let Some(group) = sound.filter(|g| push_entries(g.payload, &mut entries)) else {
            let rotten = (at..bytes.len()).any(|later| group_at(bytes, later, tip.salt).is_some());
            let end = if rotten { End::Rotten } else { End::Torn };
            return Parsed { first_seq, entries, sound_bytes: at, used_bytes, end };
        };
        tip.chain = group.crc;
        at += GROUP_HEADER_BYTES + group.payload.len();
    }
    let used_bytes = used_bytes.max(at);
    Parsed { first_seq, entries, sound_bytes: at, used_bytes, end: End::Whole }
}

/// Reads the sound groups on both sides of damage, for a store told to salvage.
pub fn salvage(bytes: &[u8]) -> Vec<Vec<u8>> {
    let salt = bytes.get(8..16).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let mut entries = Vec::new();
    let mut at = FILE_HEADER_BYTES;
    while let Some(salt) = salt.filter(|_| at < bytes.len()) {
        match group_at(bytes, at, salt).filter(|g| push_entries(g.payload, &mut entries)) {
            Some(group) => at += GROUP_HEADER_BYTES + group.payload.len(),
            None => at += 1,
        }
    }
    entries
}

struct Group<'a> {
    chain: u32,
    crc: u32,
    payload: &'a [u8],
}

fn group_at(bytes: &[u8], at: usize, salt: u64) -> Option<Group<'_>> {
    let header = bytes.get(at..at + GROUP_HEADER_BYTES)?;
    if &header[..4] != GROUP_MAGIC {
        return None;
    }
    let field =
        |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
    let (len, chain, crc) = (field(4), field(8), field(12));
    if len as usize > GROUP_BYTES_MAX {
        return None;
    }
    let start = at + GROUP_HEADER_BYTES;
    let payload = bytes.get(start..start + len as usize)?;
    (checksum(Tip { salt, chain }, len, payload) == crc).then_some(Group { chain, crc, payload })
}

/// Cuts a payload into entries. False, with `entries` as before, if the lengths do not add up.
fn push_entries(mut payload: &[u8], entries: &mut Vec<Vec<u8>>) -> bool {
    let before = entries.len();
    while !payload.is_empty() {
        let cut = payload
            .split_first_chunk::<4>()
            .and_then(|(len, rest)| rest.split_at_checked(u32::from_le_bytes(*len) as usize));
        let Some((entry, rest)) = cut else {
            entries.truncate(before);
            return false;
        };
        entries.push(entry.to_vec());
        payload = rest;
    }
    true
}

fn parse_file_header(bytes: &[u8]) -> Option<(Tip, u64)> {
    let header = bytes.get(..FILE_HEADER_BYTES)?;
    let (body, crc) = header.split_at(FILE_HEADER_BYTES - 4);
    let crc = u32::from_le_bytes(crc.try_into().ok()?);
    if &body[..8] != FILE_MAGIC || crc32c::crc32c(body) != crc {
        return None;
    }
    let salt = u64::from_le_bytes(body[8..16].try_into().ok()?);
    let first_seq = u64::from_le_bytes(body[24..32].try_into().ok()?);
    Some((Tip { salt, chain: crc }, first_seq))
}

fn checksum(tip: Tip, len: u32, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&tip.salt.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &len.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &tip.chain.to_le_bytes());
    crc32c::crc32c_append(crc, payload)
}
