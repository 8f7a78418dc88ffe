//! Checksums of the parts of a blob, so that a range of it is proved without reading all of it.
//!
//! They are in memory only, and are made when the blob's digest was proved: for the first range
//! that is read after a start, or when the bytes come in as a stream.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use crate::lock;
use crate::segment::hex;

/// Bytes that one checksum stands for.
pub const PART_BYTES: u64 = 64 * 1024;
/// Parts whose checksums are kept, of all blobs together: those of 64 GiB, in 4 MiB.
const PARTS_MAX: usize = 1 << 20;
/// What is kept of a blob beside them, in the room of so many.
const PARTS_BESIDE: usize = 96;

/// The checksums of one blob.
#[derive(Debug)]
pub struct Sums {
    pub len: u64,
    parts: Vec<u32>,
}

impl Sums {
    /// The whole parts that a range lies in.
    pub fn around(&self, range: &Range<u64>) -> Range<u64> {
        let from = range.start - range.start % PART_BYTES;
        from..range.end.next_multiple_of(PART_BYTES).min(self.len)
    }

    fn room(&self) -> usize {
        PARTS_BESIDE + self.parts.len()
    }

    /// True if these are the bytes of the whole parts from `from` on.
    pub fn are_of(&self, from: u64, bytes: &[u8]) -> bool {
        let sums = bytes.chunks(PART_BYTES as usize).map(crc32c::crc32c);
        let first = usize::try_from(from / PART_BYTES).unwrap_or(usize::MAX);
        let known = self.parts.iter().skip(first).copied();
        sums.eq(known.take(bytes.len().div_ceil(PART_BYTES as usize)))
    }
}

/// Bytes on their way: their digest, and the checksums of their parts.
#[derive(Default)]
pub struct Summing {
    digest: Sha256,
    len: u64,
    parts: Vec<u32>,
}

impl Summing {
    /// What comes next.
    pub fn add(&mut self, mut bytes: &[u8]) {
        self.digest.update(bytes);
        while !bytes.is_empty() {
            let into = self.len % PART_BYTES;
            if into == 0 {
                self.parts.push(0);
            }
            let room = usize::try_from(PART_BYTES - into).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if let Some(sum) = self.parts.last_mut() {
                *sum = crc32c::crc32c_append(*sum, now);
            }
            self.len += now.len() as u64;
            bytes = later;
        }
    }

    /// How many bytes there were.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The SHA-256 in hexadecimal, and the checksums.
    pub fn finish(self) -> (String, Sums) {
        (hex(&self.digest.finalize()), Sums { len: self.len, parts: self.parts })
    }
}

/// Checksums of blobs by their digest; what was known first is forgotten first.
#[derive(Default)]
pub struct Proved(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_digest: HashMap<String, Arc<Sums>>,
    order: VecDeque<String>,
    parts: usize,
}

impl Proved {
    pub fn get(&self, digest: &str) -> Option<Arc<Sums>> {
        lock(&self.0).by_digest.get(digest).cloned()
    }

    pub fn keep(&self, digest: &str, sums: Sums) -> Arc<Sums> {
        let sums = Arc::new(sums);
        let mut known = lock(&self.0);
        if known.by_digest.insert(digest.to_owned(), sums.clone()).is_none() {
            known.order.push_back(digest.to_owned());
            known.parts += sums.room();
        }
        while known.parts > PARTS_MAX
            && let Some(oldest) = known.order.pop_front()
        {
            let gone = known.by_digest.remove(&oldest);
            known.parts -= gone.map_or(0, |sums| sums.room());
        }
        sums
    }
}

#[cfg(test)]
mod tests;
