//! Memory of frames, used again once the last who looks at a frame is done: fresh pages cost as
//! much as filling them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Frames whose memory waits to be used again.
const WAITING_MAX: usize = 8;
/// Bytes of them.
const WAITING_BYTES_MAX: usize = 128 << 20;

/// Memory for the frames of one stream.
#[derive(Debug, Default)]
pub(crate) struct FrameMemory {
    waiting: Mutex<Vec<Vec<u8>>>,
}

impl FrameMemory {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// So many bytes, which `fill` must fill: what they hold is left from a frame before.
    pub fn filled<E>(
        self: &Arc<Self>,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Bytes, E> {
        let mut data = self.take(bytes);
        fill(&mut data)?;
        Ok(self.lend(data))
    }

    /// So many bytes of any content.
    pub fn take(&self, bytes: usize) -> Vec<u8> {
        let mut waiting = self.waiting();
        // Those of another size were of a stream that has changed.
        waiting.retain(|data| data.len() == bytes);
        let found = waiting.pop();
        drop(waiting);
        found.unwrap_or_else(|| vec![0; bytes])
    }

    /// Bytes for others to look at, whose memory comes back here.
    pub fn lend(self: &Arc<Self>, data: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { data, home: self.clone() })
    }

    fn give(&self, data: Vec<u8>) {
        let mut waiting = self.waiting();
        let bytes: usize = waiting.iter().map(Vec::len).sum();
        if waiting.len() < WAITING_MAX && bytes + data.len() <= WAITING_BYTES_MAX {
            waiting.push(data);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Lent {
    data: Vec<u8>,
    home: Arc<FrameMemory>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give(std::mem::take(&mut self.data));
    }
}

#[cfg(test)]
mod tests;
