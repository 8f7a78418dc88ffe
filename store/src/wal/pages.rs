//! Which pages of a file the next group is written to. Pure.
//!
//! A disk writes whole sectors, and one that loses its power may spoil all of a sector that it was
//! writing. So no write touches a page that alone holds what a sync has made durable. Yet a small
//! group does not cost a page of the file: groups that fit one page together make a run, which is
//! written to two pages by turns, each time with one group more. Whatever becomes of one of them,
//! the other has all groups but the last.

use super::format::PAGE_BYTES;

const PAGE: u64 = PAGE_BYTES as u64;

/// The last groups of a file, as far as the next one can be written together with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first of its two pages.
    first: u64,
    /// The page that it was last written to.
    at: u64,
    /// Its groups.
    bytes: Vec<u8>,
}

impl Run {
    /// A run that begins on the next page behind `end`.
    pub fn behind(end: u64) -> Self {
        let at = end.next_multiple_of(PAGE);
        Run { first: at, at, bytes: Vec::new() }
    }

    /// How a group is added: to these, or as a run of its own. It is not written where they are.
    pub fn add(&self, group: Vec<u8>) -> Addition {
        let is_alone = self.bytes.is_empty() || self.bytes.len() + group.len() > PAGE_BYTES;
        let (first, at, bytes) = match (is_alone, self.at == self.first) {
            (true, _) => {
                let Run { first, at, .. } = Run::behind(self.end());
                (first, at, group)
            }
            (false, true) => (self.first, self.first + PAGE, [&*self.bytes, &group].concat()),
            (false, false) => (self.first, self.first, [&*self.bytes, &group].concat()),
        };
        let end = at + bytes.len() as u64;
        let run = match bytes.len() <= PAGE_BYTES {
            true => Run { first, at, bytes: bytes.clone() },
            false => Run::behind(end),
        };
        Addition { at, bytes: padded(bytes), run }
    }

    /// Where these groups end, or the page that they end on.
    pub fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }

    /// Where the page ends that they end on. To cut it would be to write it, and so would be to
    /// make the file longer again.
    pub fn page_end(&self) -> u64 {
        self.end().next_multiple_of(PAGE)
    }
}

/// How many bytes of a file to leave that is sound up to there: the whole page, if the rest of it
/// are zeros. If not, the page was being written, and what is sound on it is on another as well.
pub fn left_of(bytes: &[u8], sound_bytes: usize) -> usize {
    let page_end = sound_bytes.next_multiple_of(PAGE_BYTES).min(bytes.len());
    match bytes[sound_bytes..page_end].iter().all(|byte| *byte == 0) {
        true => page_end,
        false => sound_bytes,
    }
}

/// A group that is to be written.
pub struct Addition {
    pub at: u64,
    /// Whole pages.
    pub bytes: Vec<u8>,
    /// What there is when they are synced.
    pub run: Run,
}

/// Bytes with zeros behind them up to the end of the page.
pub fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
    bytes
}

#[cfg(test)]
mod tests;
