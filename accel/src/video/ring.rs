//! Memory that a process shares with a child, for whole frames, in slots.
//!
//! The process that makes it only ever copies whole slots out and in. The child works on it in
//! place.

use std::io::{Error, Result};
use std::os::fd::{AsFd, OwnedFd};

use hw::shared::{Part, SharedMemory};

/// All slots together. Only pages that were written take memory.
pub(crate) const RING_BYTES: usize = 64 << 20;
/// Frames under way: one that is written, one that waits, one that is read.
pub(crate) const SLOTS_MAX: usize = 3;
/// Slots begin where pages do.
const PAGE_BYTES: usize = 4096;

/// How many slots there are for frames of so many bytes; none for what is too large.
pub(crate) fn slots(bytes: usize) -> usize {
    (RING_BYTES / bytes.max(1).next_multiple_of(PAGE_BYTES)).min(SLOTS_MAX)
}

/// Where a slot begins, if there is one of this number.
fn start(slot: usize, bytes: usize) -> Option<usize> {
    (slot < slots(bytes)).then(|| slot * bytes.next_multiple_of(PAGE_BYTES))
}

/// The memory as the process has it that made it.
#[derive(Debug)]
pub(crate) struct Ring {
    memory: SharedMemory,
    file: OwnedFd,
}

impl Ring {
    /// New memory, whose size nobody can change any more.
    pub fn create() -> Result<Self> {
        let (memory, file) = SharedMemory::create(c"edgescale-frames", RING_BYTES)?;
        Ok(Self { memory, file })
    }

    /// What a child is given to map it.
    pub fn for_child(&self) -> Result<OwnedFd> {
        self.file.try_clone()
    }

    /// Copies a slot out; an error where there is none of this number.
    pub fn read(&self, slot: usize, to: &mut [u8]) -> Result<()> {
        self.slot(slot, to.len()).map(|part| part.take(to))
    }

    /// Copies into a slot; an error where there is none of this number.
    pub fn write(&self, slot: usize, from: &[u8]) -> Result<()> {
        self.slot(slot, from.len()).map(|part| part.put(from))
    }

    fn slot(&self, slot: usize, bytes: usize) -> Result<Part<'_>> {
        let none = || Error::other(format!("there is no slot {slot} of {bytes} bytes"));
        start(slot, bytes).map(|at| self.memory.part(at, bytes)).ok_or_else(none)
    }
}

/// The memory as a child has it.
pub(crate) struct Mapped {
    memory: SharedMemory,
}

impl Mapped {
    /// The memory that a file of this process has, if [`Ring::create`] made it.
    pub fn of(file: impl AsFd) -> Option<Self> {
        let memory = SharedMemory::map(file.as_fd(), RING_BYTES).ok()?;
        Some(Self { memory })
    }

    /// A slot, if there is one of this number. Its content is whatever was left there.
    pub fn slot(&mut self, slot: usize, bytes: usize) -> Option<&mut [u8]> {
        let part = self.memory.part(start(slot, bytes)?, bytes);
        // SAFETY: the slot lies within the mapping, whose size is sealed, and the borrow of `self`
        // makes it the only one in this process. The process that made the memory reads what is
        // written here only when it is told to, and writes only while this one waits to be told.
        Some(unsafe { std::slice::from_raw_parts_mut(part.start(), part.bytes()) })
    }
}

#[cfg(test)]
pub(super) mod tests;
