//! Memory that two processes share: a file without a name, mapped by both, whose size is sealed, so
//! that no page goes away under either's mapping.
//!
//! Bytes are only copied in and out, from one place to another. No reference into the memory is
//! given out, so that nothing the other process does meanwhile can do more than change the bytes
//! that are copied.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Error, Result};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The memory as it lies in this process.
#[derive(Debug)]
pub struct SharedMemory {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: the mapping belongs to the value alone, and no reference into it is ever given out.
unsafe impl Send for SharedMemory {}

impl SharedMemory {
    /// New memory of so many bytes, all of them zero, and the file by which another process maps
    /// it. The name is what the system's lists of open files show. Only pages that were written
    /// take memory.
    pub fn create(name: &CStr, bytes: usize) -> Result<(Self, OwnedFd)> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a string that ends in zero.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        if fd < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else has it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        file.set_len(bytes as u64)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: takes numbers and touches no memory.
        match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
            0 => Ok((Self::mapped(file.as_fd(), bytes)?, file.into())),
            _ => Err(Error::last_os_error()),
        }
    }

    /// Maps what another process has created with as many bytes; an error where it is anything
    /// else.
    pub fn map(fd: BorrowedFd<'_>, bytes: usize) -> Result<Self> {
        // SAFETY: takes numbers and touches no memory.
        let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
        if seals < 0 {
            return Err(Error::last_os_error());
        }
        let size = File::from(fd.try_clone_to_owned()?).metadata()?.len();
        if seals & libc::F_SEAL_SHRINK == 0 || size != bytes as u64 {
            return Err(Error::other("its size may change, or is another"));
        }
        Self::mapped(fd, bytes)
    }

    /// Of a file whose size is sealed at so many bytes.
    fn mapped(fd: BorrowedFd<'_>, bytes: usize) -> Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let (none, fd) = (std::ptr::null_mut(), fd.as_raw_fd());
        // SAFETY: the kernel chooses the place, so nothing that is mapped already is replaced.
        let start = unsafe { libc::mmap(none, bytes, access, libc::MAP_SHARED, fd, 0) };
        match start == libc::MAP_FAILED {
            true => Err(Error::last_os_error()),
            false => Ok(Self { start: start.cast(), bytes }),
        }
    }

    /// So many bytes from a place on, or as many as there are.
    pub fn part(&self, at: usize, bytes: usize) -> Part<'_> {
        let at = at.min(self.bytes);
        let bytes = bytes.min(self.bytes - at);
        Part { start: self.start.wrapping_add(at), bytes, memory: PhantomData }
    }

    /// Puts bytes at a place; more than fit are left out.
    pub fn put(&self, at: usize, data: &[u8]) {
        self.part(at, data.len()).put(data);
    }

    /// Takes bytes from a place; what is asked for beyond the end stays as it is.
    pub fn take(&self, at: usize, data: &mut [u8]) {
        self.part(at, data.len()).take(data);
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and the value was its only user.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// A part of the memory.
#[derive(Debug)]
pub struct Part<'a> {
    start: *mut u8,
    bytes: usize,
    memory: PhantomData<&'a SharedMemory>,
}

impl Part<'_> {
    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where it begins, for who works on it in place: [`Part::bytes`] of them, as long as the
    /// memory is mapped.
    pub fn start(&self) -> *mut u8 {
        self.start
    }

    /// Copies bytes in; more than fit are left out.
    pub fn put(&self, data: &[u8]) {
        let bytes = data.len().min(self.bytes);
        // SAFETY: the memory has as many bytes there, and lies apart from all other memory of this
        // program. What another process does there meanwhile changes bytes and nothing else.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.start, bytes) };
    }

    /// Copies bytes out; what is asked for beyond the end stays as it is.
    pub fn take(&self, data: &mut [u8]) {
        let bytes = data.len().min(self.bytes);
        // SAFETY: as in `put`.
        unsafe { std::ptr::copy_nonoverlapping(self.start, data.as_mut_ptr(), bytes) };
    }
}
