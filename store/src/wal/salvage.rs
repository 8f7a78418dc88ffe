//! Log files that are damaged: they are kept under another name, and what is sound in them stays.

use std::io;

use bytes::Bytes;

use super::disk::Disk;
use super::format::{self, FILE_HEADER_BYTES};
use super::spares::{begin, spare_name};
use super::{LogFile, file_name};
use crate::error::{Error, Result};

/// How the names of files end that were set aside.
const ROTTEN: &str = ".rotten";

/// Names of the damaged files that were set aside and are still there, without that ending.
pub fn set_aside_names(disk: &dyn Disk) -> Result<Vec<String>> {
    let names = disk.list().map_err(|e| Error::io("log folder", e))?;
    let mut names: Vec<String> =
        names.iter().filter_map(|name| name.strip_suffix(ROTTEN)).map(str::to_owned).collect();
    names.sort_unstable();
    Ok(names)
}

/// Copies a damaged file and puts one of its sound entries in its place; `None` if no entry is
/// sound. Until the last step the damaged file is there.
pub fn salvage(
    disk: &dyn Disk,
    number: u64,
    bytes: &Bytes,
) -> Result<Option<(LogFile, Vec<Bytes>)>> {
    set_aside(disk, number, bytes)?;
    let mended = with_sound_header(number, bytes);
    let first_seq = first_seq(number, &mended);
    let entries = format::salvage(&mended);
    let file = replace(disk, number, first_seq, &entries)?;
    Ok(file.map(|file| (file, entries)))
}

/// Leaves those entries of a sound file out that are not wanted, and sets the file aside unless
/// that was done. Returns how many are kept, and how many are not.
pub fn keep_only(
    disk: &dyn Disk,
    file: &LogFile,
    is_set_aside: bool,
    mut is_wanted: impl FnMut(&Bytes) -> bool,
) -> Result<(usize, usize)> {
    let name = file_name(file.number);
    let mut bytes = disk.read(&name).map_err(|e| Error::io(format!("log file {name}"), e))?;
    bytes.truncate(file.bytes as usize);
    let bytes = Bytes::from(bytes);
    let mut entries = format::parse(file.number, &bytes).entries;
    let all = entries.len();
    entries.retain(|entry| is_wanted(entry));
    let left_out = all - entries.len();
    if left_out > 0 {
        if !is_set_aside {
            set_aside(disk, file.number, &bytes)?;
        }
        replace(disk, file.number, file.first_seq, &entries)?;
    }
    Ok((entries.len(), left_out))
}

/// Copies a file under a name that no other copy has.
fn set_aside(disk: &dyn Disk, number: u64, bytes: &Bytes) -> Result<()> {
    let (name, taken) = (file_name(number), set_aside_names(disk)?);
    let (mut free, mut copies) = (name.clone(), 1);
    while taken.contains(&free) {
        copies += 1;
        free = format!("{name}.{copies}");
    }
    let copying = || -> io::Result<()> {
        let mut copy = disk.create(&spare_name(number))?;
        copy.write(0, bytes)?;
        copy.cut(bytes.len() as u64)?;
        disk.rename(&spare_name(number), &format!("{free}{ROTTEN}"))
    };
    copying().map_err(|e| Error::io(format!("copy of log file {name}"), e))
}

/// Puts a file of these entries in the place of another; without any, there is none.
fn replace(
    disk: &dyn Disk,
    number: u64,
    first_seq: u64,
    entries: &[Bytes],
) -> Result<Option<LogFile>> {
    let io = |e| Error::io(format!("log file {}", file_name(number)), e);
    if entries.is_empty() {
        disk.remove(&file_name(number)).map_err(io)?;
        return Ok(None);
    }
    let slices: Vec<&[u8]> = entries.iter().map(|entry| &**entry).collect();
    let begun = begin(disk, None, number, first_seq, &slices).map_err(io)?;
    Ok(Some(begun.listed(number, first_seq)))
}

/// The same bytes with a sound header, where one flipped bit is all that keeps it from being one:
/// without its salt no group is known for one.
fn with_sound_header(number: u64, bytes: &Bytes) -> Bytes {
    let Some(header) = bytes.get(..FILE_HEADER_BYTES) else { return bytes.clone() };
    if is_header(number, header) {
        return bytes.clone();
    }
    let mut tried = header.to_vec();
    for bit in 0..FILE_HEADER_BYTES * 8 {
        let flipped = 1 << (bit % 8);
        tried[bit / 8] ^= flipped;
        if is_header(number, &tried) {
            return [&tried, &bytes[FILE_HEADER_BYTES..]].concat().into();
        }
        tried[bit / 8] ^= flipped;
    }
    bytes.clone()
}

fn is_header(number: u64, header: &[u8]) -> bool {
    format::parse(number, &Bytes::copy_from_slice(header)).sound_bytes > 0
}

fn first_seq(number: u64, bytes: &Bytes) -> u64 {
    format::parse(number, &bytes.slice(..bytes.len().min(FILE_HEADER_BYTES))).first_seq
}
