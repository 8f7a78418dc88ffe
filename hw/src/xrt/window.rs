//! Memory that host and worker share: a file without a name, mapped by both. Who has the turn, by
//! the requests and answers, is alone in it.

use std::fs::File;
use std::io::{Error, Result};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Contents of buffers cross in parts of this many bytes.
pub(crate) const WINDOW_BYTES: usize = 8 << 20;

/// The mapped window.
pub(crate) struct Window {
    start: *mut u8,
}

// SAFETY: the mapping belongs to the value alone, and no reference into it is ever given out.
unsafe impl Send for Window {}

impl Window {
    /// A new window, and the file by which another process maps it.
    pub(crate) fn create() -> Result<(Self, OwnedFd)> {
        // SAFETY: the name is a string that ends in zero.
        let fd = unsafe { libc::memfd_create(c"edgescale-window".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let file = File::from(fd);
        file.set_len(WINDOW_BYTES as u64)?;
        let fd = OwnedFd::from(file);
        Ok((Self::map(&fd)?, fd))
    }

    /// Maps the window of another process.
    pub(crate) fn map(fd: &impl AsRawFd) -> Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let none = std::ptr::null_mut();
        // SAFETY: the kernel chooses the place, so nothing that is mapped already is replaced.
        let start =
            unsafe { libc::mmap(none, WINDOW_BYTES, access, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        match start == libc::MAP_FAILED {
            true => Err(Error::last_os_error()),
            false => Ok(Self { start: start.cast() }),
        }
    }

    /// So many bytes from a place on, or as many as there are.
    pub(crate) fn part(&self, at: usize, bytes: usize) -> Part<'_> {
        let at = at.min(WINDOW_BYTES);
        let bytes = bytes.min(WINDOW_BYTES - at);
        Part { start: self.start.wrapping_add(at), bytes, window: PhantomData }
    }

    /// Puts bytes at a place; more than fit are left out.
    pub(crate) fn put(&mut self, at: usize, data: &[u8]) {
        self.part(at, data.len()).put(data);
    }

    /// Takes bytes from a place; more than there are are left as they are.
    pub(crate) fn take(&self, at: usize, data: &mut [u8]) {
        self.part(at, data.len()).take(data);
    }
}

/// A part of the window.
pub(crate) struct Part<'a> {
    start: *mut u8,
    bytes: usize,
    window: PhantomData<&'a Window>,
}

impl Part<'_> {
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// Where it begins, for a driver that copies by itself: at most [`Part::len`] bytes.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start
    }

    pub(crate) fn put(&self, data: &[u8]) {
        let bytes = data.len().min(self.bytes);
        // SAFETY: the window has as many bytes there, and lies apart from all memory of this
        // program.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.start, bytes) };
    }

    pub(crate) fn take(&self, data: &mut [u8]) {
        let bytes = data.len().min(self.bytes);
        // SAFETY: the window has as many bytes there, and lies apart from all memory of this
        // program.
        unsafe { std::ptr::copy_nonoverlapping(self.start, data.as_mut_ptr(), bytes) };
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and the value was its only user.
        unsafe { libc::munmap(self.start.cast(), WINDOW_BYTES) };
    }
}
