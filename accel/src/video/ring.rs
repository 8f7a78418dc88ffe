//! Memory that a process shares with a child, for whole frames: a file without a name.
//!
//! The process that makes it only ever copies whole slots out and in, from one place to another:
//! it has no reference to what the child may write at any time, so that nothing the child does
//! meanwhile can do more than change the bytes that are copied. The size is sealed: no page
//! goes away under the mapping. The child works on it in place.

use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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
    file: File,
    mapping: Mapping,
}

impl Ring {
    /// New memory, whose size nobody can change any more.
    pub fn create() -> Result<Self> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a string that ends in zero.
        let fd = unsafe { libc::memfd_create(c"edgescale-frames".as_ptr(), flags) };
        if fd < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else has it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        file.set_len(RING_BYTES as u64)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: takes numbers and touches no memory.
        match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
            0 => Ok(Self { mapping: Mapping::of(&file)?, file }),
            _ => Err(Error::last_os_error()),
        }
    }

    /// What a child is given to map it.
    pub fn for_child(&self) -> Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// Copies a slot out; an error where there is none of this number.
    pub fn read(&self, slot: usize, to: &mut [u8]) -> Result<()> {
        let at = start(slot, to.len()).ok_or_else(|| no_slot(slot, to.len()))?;
        // SAFETY: the slot lies within the mapping, whose size is sealed, and apart from all other
        // memory of this program. What another process writes there meanwhile are bytes as well.
        unsafe { std::ptr::copy_nonoverlapping(self.mapping.at(at), to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// Copies into a slot; an error where there is none of this number.
    pub fn write(&self, slot: usize, from: &[u8]) -> Result<()> {
        let at = start(slot, from.len()).ok_or_else(|| no_slot(slot, from.len()))?;
        // SAFETY: as above, and nobody has a reference to it in this process.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.mapping.at(at), from.len()) };
        Ok(())
    }
}

fn no_slot(slot: usize, bytes: usize) -> Error {
    Error::other(format!("there is no slot {slot} of {bytes} bytes"))
}

/// All of the memory, where it lies in this process.
#[derive(Debug)]
struct Mapping {
    start: *mut u8,
}

// SAFETY: the mapping belongs to the value alone.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Of a file whose size is sealed at [`RING_BYTES`].
    fn of(file: &impl AsRawFd) -> Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let none = std::ptr::null_mut();
        // SAFETY: the kernel chooses the place, so nothing that is mapped already is replaced.
        let start =
            unsafe { libc::mmap(none, RING_BYTES, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        match start == libc::MAP_FAILED {
            true => Err(Error::last_os_error()),
            false => Ok(Self { start: start.cast() }),
        }
    }

    /// Where a byte lies that is one of them.
    fn at(&self, byte: usize) -> *mut u8 {
        self.start.wrapping_add(byte)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and the value was its only user.
        unsafe { libc::munmap(self.start.cast(), RING_BYTES) };
    }
}

/// The memory as a child has it.
pub(crate) struct Mapped {
    mapping: Mapping,
}

impl Mapped {
    /// Maps what a process made by [`Ring::create`]; an error where it is anything else.
    pub fn map(fd: BorrowedFd<'_>) -> Result<Self> {
        let number = fd.as_raw_fd();
        // SAFETY: takes numbers and touches no memory.
        let seals = unsafe { libc::fcntl(number, libc::F_GET_SEALS) };
        if seals < 0 {
            return Err(Error::last_os_error());
        }
        let size = File::from(fd.try_clone_to_owned()?).metadata()?.len();
        if seals & libc::F_SEAL_SHRINK == 0 || size != RING_BYTES as u64 {
            return Err(Error::other("its size may change, or is another"));
        }
        Ok(Self { mapping: Mapping::of(&fd)? })
    }

    /// The memory that a file of this process has, if it is such memory.
    pub fn of(file: impl AsFd) -> Option<Self> {
        Self::map(file.as_fd()).ok()
    }

    /// A slot, if there is one of this number. Its content is whatever was left there.
    pub fn slot(&mut self, slot: usize, bytes: usize) -> Option<&mut [u8]> {
        let at = start(slot, bytes)?;
        // SAFETY: the slot lies within the mapping, whose size is sealed, and the borrow of `self`
        // makes it the only one in this process. The process that made the memory reads what is
        // written here only when it is told to, and writes only while this one waits to be told.
        Some(unsafe { std::slice::from_raw_parts_mut(self.mapping.at(at), bytes) })
    }
}

#[cfg(test)]
pub(super) mod tests;
