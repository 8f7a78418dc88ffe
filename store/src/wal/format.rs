//! Bytes of a log file. Pure: bytes in, entries or a verdict out.
//!
//! ```text
//! file   = "ESWAL004" | salt u64 | number u64 | first u64 | crc u32    36 bytes, little endian
//! group* = mark u32 | len u32 | chain u32 | crc u32 | payload[len]
//! payload = ( len u32 | entry[len] )*
//! ```
//! Each group follows the one before, or begins on a page (4096 bytes) behind it; pages may be
//! there twice, the one with the first groups of the other (see [`super::pages`]). Zeros may lie
//! between, and behind the last one what the file held before, when it was another file. `first` is
//! the number of the first entry that the file can hold. A group is what one write and one sync
//! make durable, whole or not at all. `mark` is CRC32C of the salt, `chain` is the `crc` of the
//! group before (of the file header for the first), `crc` is CRC32C over salt, `len`, `chain` and
//! the payload. The salt keeps what is no group of this file from being taken for one: groups of
//! another file, and stored bytes that look like a group. Those are told by the mark, which nobody
//! who stores bytes can know, so that looking for groups takes time in proportion to the bytes,
//! whatever they are. Files of `ESWAL003`, which are read as well, have no gaps between groups and
//! nothing twice, and so do those of `ESWAL002`, in which each mark is "ESGR".

use std::collections::HashSet;

use bytes::Bytes;

/// Bytes of a file header.
pub const FILE_HEADER_BYTES: usize = 36;
/// Bytes of a group header.
pub const GROUP_HEADER_BYTES: usize = 16;
/// Bytes of a page: what a disk writes together at most.
pub const PAGE_BYTES: usize = 4096;
/// Bytes of a group's payload; a larger length is damage.
pub const GROUP_BYTES_MAX: usize = 1 << 30;

const FILE_MAGIC: &[u8; 8] = b"ESWAL004";
/// How earlier programs began a file.
const EARLIER_MAGIC: &[u8; 8] = b"ESWAL003";
/// How those before them did, and each group in it.
const OLDEST_MAGIC: &[u8; 8] = b"ESWAL002";
const OLDEST_MARK: [u8; 4] = *b"ESGR";

/// Where in a file the next group goes and what it chains to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    salt: u64,
    mark: [u8; 4],
    chain: u32,
}

/// What the bytes of a log file hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Number of the first entry that the file can hold.
    pub first_seq: u64,
    /// Encoded entries in order, which are parts of the file's bytes.
    pub entries: Vec<Bytes>,
    /// Groups in which they are.
    pub groups: u64,
    /// Where the last of these ends; what is missing before is there twice.
    pub sound_bytes: usize,
    /// Bytes behind of a write that was begun.
    pub begun_bytes: usize,
    /// What follows the sound bytes.
    pub end: End,
}

/// How a log file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last group, and zeros perhaps.
    Whole,
    /// With bytes of which none are sound: of a write that was never completed, or what the file
    /// held before.
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
    (header, Tip { salt, mark: mark(salt), chain: crc })
}

/// Frames entries as one group behind `tip`, which moves on.
pub fn group<'a>(tip: &mut Tip, entries: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    let payload_bytes = entries.clone().map(|entry| 4 + entry.len()).sum::<usize>();
    let bytes_max = (GROUP_HEADER_BYTES + payload_bytes).next_multiple_of(PAGE_BYTES);
    let mut bytes = Vec::with_capacity(bytes_max);
    bytes.resize(GROUP_HEADER_BYTES, 0);
    for entry in entries {
        bytes.extend((entry.len() as u32).to_le_bytes());
        bytes.extend(entry);
    }
    let len = (bytes.len() - GROUP_HEADER_BYTES) as u32;
    let crc = checksum(tip.salt, tip.chain, len, &bytes[GROUP_HEADER_BYTES..]);
    bytes[..4].copy_from_slice(&tip.mark);
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

/// Reads the file of that number. Never fails: the verdict is in [`Parsed::end`].
pub fn parse(number: u64, bytes: &Bytes) -> Parsed {
    let is_used = |from: usize| bytes[from..].iter().any(|b| *b != 0);
    let Some((mut tip, first_seq)) = parse_file_header(number, bytes) else {
        let end = match (is_used(0), is_used(bytes.len().min(FILE_HEADER_BYTES))) {
            (false, _) => End::Whole,
            (true, false) => End::Torn,
            (true, true) => End::Rotten,
        };
        let (entries, groups) = (Vec::new(), 0);
        return Parsed { first_seq: 0, entries, groups, sound_bytes: 0, begun_bytes: 0, end };
    };
    let mut read = Read::default();
    let at = read.follow(bytes, &mut tip, FILE_HEADER_BYTES);
    let end = read.end.max(at);
    let is_new = |group: &Group<'_>| !read.names.contains(&group.name());
    let mut later = (end..bytes.len()).filter_map(|later| group_at(bytes, later, tip));
    let how = match is_used(end) {
        false => End::Whole,
        true if later.any(|group| is_new(&group)) => End::Rotten,
        true => End::Torn,
    };
    let is_begun = |place: &usize| group_at(bytes, *place, tip).is_none_or(|group| is_new(&group));
    let begun = places(at).filter(|place| (end..bytes.len()).contains(place)).filter(is_begun);
    let begun_bytes = begun.map(|place| begun_bytes(bytes, place, tip)).find(|bytes| *bytes > 0);
    Parsed {
        first_seq,
        groups: read.names.len() as u64,
        entries: read.entries,
        sound_bytes: end,
        begun_bytes: begun_bytes.unwrap_or(0),
        end: how,
    }
}

/// Reads the sound groups on both sides of damage, for a store told to salvage.
pub fn salvage(bytes: &Bytes) -> Vec<Bytes> {
    let field = |at: usize| bytes.get(at..at + 8)?.try_into().map(u64::from_le_bytes).ok();
    let (salt, number) = (field(8), field(16));
    let mut read = Read::default();
    if let Some((mut tip, _)) = number.and_then(|number| parse_file_header(number, bytes)) {
        read.follow(bytes, &mut tip, FILE_HEADER_BYTES);
    }
    let tip = salt.map(|salt| Tip { salt, mark: mark_in(bytes, salt), chain: 0 });
    let mut at = FILE_HEADER_BYTES;
    while let Some(mut tip) = tip.filter(|_| at < bytes.len()) {
        let Some(group) = group_at(bytes, at, tip) else {
            at += 1;
            continue;
        };
        tip.chain = group.chain;
        read.follow(bytes, &mut tip, at);
        let is_read = read.names.contains(&group.name());
        at += if is_read { GROUP_HEADER_BYTES + group.payload.len() } else { 1 };
    }
    read.entries
}

/// What was read of a file.
#[derive(Default)]
struct Read {
    entries: Vec<Bytes>,
    /// The groups, each once.
    names: HashSet<u64>,
    /// Where the last of them ends.
    end: usize,
}

impl Read {
    /// Reads the groups that follow one another behind `tip`, as far as they are not known; returns
    /// where the last one ends.
    fn follow(&mut self, bytes: &Bytes, tip: &mut Tip, mut at: usize) -> usize {
        loop {
            let sound = places(at).find_map(|place| {
                let group = group_at(bytes, place, *tip)?;
                let is_next = group.chain == tip.chain && !self.names.contains(&group.name());
                let is_cut = is_next && push_entries(bytes, group.payload, &mut self.entries);
                is_cut.then_some((place, group))
            });
            let Some((place, group)) = sound else { return at };
            self.names.insert(group.name());
            tip.chain = group.crc;
            at = place + GROUP_HEADER_BYTES + group.payload.len();
            self.end = self.end.max(at);
        }
    }
}

/// Where the group can be that follows one which ends at that byte: right behind it, on the other
/// of two pages, or at the start of a later page. (One of three, where one is lost that is there
/// twice.)
fn places(at: usize) -> impl Iterator<Item = usize> {
    let next = at.next_multiple_of(PAGE_BYTES);
    let near = [Some(at), Some(at + PAGE_BYTES), at.checked_sub(PAGE_BYTES)];
    let later = (0..3).map(move |page| next + page * PAGE_BYTES);
    near.into_iter().flatten().chain(later)
}

struct Group<'a> {
    chain: u32,
    crc: u32,
    payload: &'a [u8],
}

impl Group<'_> {
    /// Of two groups of a file only one that is there twice has the same.
    fn name(&self) -> u64 {
        u64::from(self.chain) << 32 | u64::from(self.crc)
    }
}

/// The group there, if it is sound; what it chains to is not looked at.
fn group_at(bytes: &[u8], at: usize, tip: Tip) -> Option<Group<'_>> {
    let header = bytes.get(at..at + GROUP_HEADER_BYTES)?;
    if header[..4] != tip.mark {
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
    (checksum(tip.salt, chain, len, payload) == crc).then_some(Group { chain, crc, payload })
}

/// Bytes of a group that was begun there, as far as that can be told.
fn begun_bytes(bytes: &[u8], at: usize, tip: Tip) -> usize {
    let rest = &bytes[at..];
    let Some(behind) = rest.strip_prefix(&tip.mark) else { return 0 };
    let len = behind.first_chunk::<4>().map_or(0, |len| u32::from_le_bytes(*len) as usize);
    rest.len().min(GROUP_HEADER_BYTES + len)
}

/// Cuts a payload of `file` into entries. False, with `entries` as before, if the lengths do not
/// add up.
fn push_entries(file: &Bytes, mut payload: &[u8], entries: &mut Vec<Bytes>) -> bool {
    let before = entries.len();
    while !payload.is_empty() {
        let cut = payload
            .split_first_chunk::<4>()
            .and_then(|(len, rest)| rest.split_at_checked(u32::from_le_bytes(*len) as usize));
        let Some((entry, rest)) = cut else {
            entries.truncate(before);
            return false;
        };
        entries.push(file.slice_ref(entry));
        payload = rest;
    }
    true
}

fn parse_file_header(number: u64, bytes: &[u8]) -> Option<(Tip, u64)> {
    let header = bytes.get(..FILE_HEADER_BYTES)?;
    let (body, crc) = header.split_at(FILE_HEADER_BYTES - 4);
    let crc = u32::from_le_bytes(crc.try_into().ok()?);
    let is_known = [FILE_MAGIC, EARLIER_MAGIC, OLDEST_MAGIC].iter().any(|m| body.starts_with(*m));
    let field = |at: usize| body[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let (salt, found, first_seq) = (field(8)?, field(16)?, field(24)?);
    let is_sound = is_known && crc32c::crc32c(body) == crc && found == number;
    is_sound.then(|| (Tip { salt, mark: mark_in(bytes, salt), chain: crc }, first_seq))
}

/// What groups of a file begin with, by how the file begins.
fn mark_in(bytes: &[u8], salt: u64) -> [u8; 4] {
    if bytes.starts_with(OLDEST_MAGIC) { OLDEST_MARK } else { mark(salt) }
}

fn mark(salt: u64) -> [u8; 4] {
    crc32c::crc32c(&salt.to_le_bytes()).to_le_bytes()
}

fn checksum(salt: u64, chain: u32, len: u32, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&salt.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &len.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &chain.to_le_bytes());
    crc32c::crc32c_append(crc, payload)
}
