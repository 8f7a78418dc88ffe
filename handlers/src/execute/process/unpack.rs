//! Zip archives of code (PKWARE's APPNOTE 6.3), unpacked within bounds: stored and deflated
//! files below the top. Encryption, 64-bit archives and links are refused by name.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use crate::Digest;
use crate::execute::cache::Cache;

/// Files and folders of an archive.
const ENTRIES_MAX: usize = 20_000;
/// What an archive may unpack to.
const BYTES_MAX: u64 = 256 << 20;
/// Length of the record that ends an archive, and of a comment after it.
const END_LEN: usize = 22;
const COMMENT_LEN_MAX: usize = 0xffff;

/// Whether the archive can be unpacked; says why not. Nothing is written.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let mut total: u64 = 0;
    for entry in entries(bytes)? {
        total += u64::from(entry.size);
        if total > BYTES_MAX {
            return Err(format!("archive: unpacks to over {BYTES_MAX} bytes"));
        }
        entry.place()?;
    }
    Ok(())
}

/// The unpacked archive's folder; unpacked when it is not there yet.
pub(super) fn once(cache: &Cache, digest: &Digest, bytes: &[u8]) -> io::Result<PathBuf> {
    let folder = cache.unpacked(digest);
    if folder.is_dir() {
        return Ok(folder);
    }
    check(bytes).map_err(io::Error::other)?;
    let fresh = cache.fresh_folder()?;
    let done = unzip(bytes, &fresh).and_then(|()| fs::rename(&fresh, &folder));
    if let Err(error) = done {
        let _ = fs::remove_dir_all(&fresh);
        // Another unpacked the same meanwhile.
        return if folder.is_dir() { Ok(folder) } else { Err(error) };
    }
    Ok(folder)
}

fn unzip(bytes: &[u8], folder: &Path) -> io::Result<()> {
    for entry in entries(bytes).map_err(io::Error::other)? {
        let path = folder.join(entry.place().map_err(io::Error::other)?);
        if entry.is_folder() {
            fs::create_dir_all(&path)?;
            continue;
        }
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        fs::write(&path, entry.content(bytes).map_err(io::Error::other)?)?;
        let mode = 0o644 | entry.mode & 0o111;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// A file or folder as the central directory lists it.
struct Entry {
    name: String,
    method: u16,
    packed: u32,
    size: u32,
    mode: u32,
    /// Where its own header begins.
    at: usize,
}

fn entries(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let damaged = || "archive: its directory is damaged or missing".to_owned();
    let first = bytes.len().saturating_sub(END_LEN + COMMENT_LEN_MAX);
    let last = bytes.len().checked_sub(END_LEN).ok_or_else(damaged)?;
    let is_end = |at: &usize| bytes[*at..].starts_with(b"PK\x05\x06");
    let end = (first..=last).rev().find(is_end).ok_or_else(damaged)?;
    let count = usize::from(u16_at(bytes, end + 10).ok_or_else(damaged)?);
    let mut at = u32_at(bytes, end + 16).ok_or_else(damaged)? as usize;
    if count > ENTRIES_MAX {
        return Err(format!("archive: {count} entries; at most {ENTRIES_MAX} go"));
    }
    let mut entries = Vec::new();
    for _ in 0..count {
        let (entry, next) = entry(bytes, at).ok_or_else(damaged)?;
        entries.push(entry);
        at = next;
    }
    Ok(entries)
}

fn entry(bytes: &[u8], at: usize) -> Option<(Entry, usize)> {
    if !bytes.get(at..)?.starts_with(b"PK\x01\x02") {
        return None;
    }
    let [name, extra, comment] = [28, 30, 32].map(|field| u16_at(bytes, at + field));
    let name_end = at + 46 + usize::from(name?);
    let is_encrypted = u16_at(bytes, at + 8)? & 1 == 1;
    let entry = Entry {
        name: String::from_utf8_lossy(bytes.get(at + 46..name_end)?).into_owned(),
        // No archive has this method, so it is refused by name.
        method: if is_encrypted { u16::MAX } else { u16_at(bytes, at + 10)? },
        packed: u32_at(bytes, at + 20)?,
        size: u32_at(bytes, at + 24)?,
        mode: u32_at(bytes, at + 38)? >> 16,
        at: u32_at(bytes, at + 42)? as usize,
    };
    Some((entry, name_end + usize::from(extra?) + usize::from(comment?)))
}

impl Entry {
    fn is_folder(&self) -> bool {
        self.name.ends_with('/')
    }

    fn wrong(&self, problem: &str) -> String {
        let name: String = self.name.chars().take(80).collect();
        format!("archive: {name:?} {problem}")
    }

    /// Its path below the top.
    fn place(&self) -> Result<PathBuf, String> {
        const LINK: u32 = 0o120_000;
        let path = PathBuf::from(&self.name);
        let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_below || self.name.is_empty() || self.name.contains('\0') {
            return Err(self.wrong("is no file or folder below the top"));
        }
        if self.mode & 0o170_000 == LINK {
            return Err(self.wrong("is a link; put the file itself in"));
        }
        if !matches!(self.method, 0 | 8) {
            return Err(self.wrong("is encrypted or packed by another method than deflate"));
        }
        Ok(path)
    }

    fn content(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let damaged = || self.wrong("is damaged");
        let header = bytes.get(self.at..).filter(|rest| rest.starts_with(b"PK\x03\x04"));
        let header = header.ok_or_else(damaged)?;
        let lens = [26, 28].map(|field| u16_at(header, field).map_or(0, usize::from));
        let start = 30 + lens[0] + lens[1];
        let packed = header.get(start..start + self.packed as usize).ok_or_else(damaged)?;
        let content = match self.method {
            0 => packed.to_vec(),
            _ => {
                let most = self.size as usize;
                miniz_oxide::inflate::decompress_to_vec_with_limit(packed, most)
                    .map_err(|_| damaged())?
            }
        };
        if content.len() == self.size as usize { Ok(content) } else { Err(damaged()) }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
