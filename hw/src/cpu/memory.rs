//! Host memory of buffers: the device's own, which waits to be used again once nobody looks at it,
//! or somebody else's, which is only read. Neither changes while others look at it: whoever writes
//! then writes a copy.

use std::mem::MaybeUninit;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// What a buffer holds.
pub(super) enum Memory {
    Own(Arc<Pooled>),
    Lent(Bytes),
}

impl Memory {
    /// For others to look at.
    pub fn share(&self) -> Bytes {
        match self {
            Memory::Own(own) => Bytes::from_owner(Seen(own.clone())),
            Memory::Lent(bytes) => bytes.clone(),
        }
    }

    /// Memory that may be written, with the same content; nothing where there is none left.
    pub fn writable(self, pool: &Arc<Pool>) -> Result<Self, Self> {
        if let Memory::Own(own) = &self
            && Arc::strong_count(own) == 1
        {
            return Ok(self);
        }
        let Some(mut copy) = pool.take(self.len()) else { return Err(self) };
        copy.bytes_mut().copy_from_slice(&self);
        Ok(copy)
    }

    /// The bytes of memory that is [`writable`](Self::writable).
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let own = match self {
            Memory::Own(own) => Arc::get_mut(own),
            Memory::Lent(_) => None,
        };
        own.expect("nobody else looks at memory that is written").lines.bytes_mut()
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Memory::Own(own) => own.lines.bytes(),
            Memory::Lent(bytes) => bytes,
        }
    }
}

/// Own memory as others see it.
struct Seen(Arc<Pooled>);

impl AsRef<[u8]> for Seen {
    fn as_ref(&self) -> &[u8] {
        self.0.lines.bytes()
    }
}

/// Memory that goes back to its pool.
pub(super) struct Pooled {
    lines: Lines,
    pool: Arc<Pool>,
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.lines));
    }
}

/// Freed memory for reuse: fresh pages cost more than most kernels.
pub(super) struct Pool {
    free: Mutex<Vec<Lines>>,
    bytes_max: usize,
}

impl Pool {
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::default(), bytes_max })
    }

    /// Memory of so many bytes, content unspecified; nothing where there is none left.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<Memory> {
        let mut free = self.free();
        let fits = free.iter().position(|lines| lines.bytes().len() == bytes);
        let lines = match fits {
            Some(at) => free.swap_remove(at),
            None => {
                drop(free);
                Lines::zeroed(bytes)?
            }
        };
        Some(Memory::Own(Arc::new(Pooled { lines, pool: self.clone() })))
    }

    fn give(&self, lines: Lines) {
        let mut free = self.free();
        let bytes = lines.bytes().len();
        if held(&free) + bytes > self.bytes_max {
            free.clear();
        }
        if bytes <= self.bytes_max {
            free.push(lines);
        }
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        held(&self.free())
    }

    fn free(&self) -> MutexGuard<'_, Vec<Lines>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn held(free: &[Lines]) -> usize {
    free.iter().map(|lines| lines.bytes().len()).sum()
}

/// Bytes that begin where a cache line does: vector registers are as long as one, and what lies
/// across two costs twice.
#[derive(Default)]
struct Lines {
    data: Vec<u8>,
    start: usize,
}

const LINE_BYTES: usize = 64;

impl Lines {
    fn zeroed(bytes: usize) -> Option<Self> {
        let mut data: Vec<u8> = Vec::new();
        data.try_reserve_exact(bytes + LINE_BYTES).ok()?;
        if bytes >= LARGE_BYTES {
            ask_for_large_pages(data.spare_capacity_mut());
        }
        let start = data.as_ptr().align_offset(LINE_BYTES).min(LINE_BYTES);
        data.resize(start + bytes, 0);
        Some(Self { data, start })
    }

    fn bytes(&self) -> &[u8] {
        &self.data[self.start..]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.start..]
    }
}

/// Buffers of so many bytes lie on large pages where the system gives any: frames of colour have
/// more small ones than a processor remembers the places of.
const LARGE_BYTES: usize = 4 << 20;

/// Says so for the whole pages within, before they are first touched. It is a wish: nothing
/// depends on its being heard.
fn ask_for_large_pages(memory: &mut [MaybeUninit<u8>]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE_BYTES: usize = 4096;
        let before = memory.as_ptr().align_offset(PAGE_BYTES).min(memory.len());
        let pages = &mut memory[before..];
        let bytes = pages.len() / PAGE_BYTES * PAGE_BYTES;
        // SAFETY: the pages are this buffer's own, and what they hold stays as it is.
        unsafe { libc::madvise(pages.as_mut_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}
