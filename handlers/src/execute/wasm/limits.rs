//! How much memory one instance may have, all its memories and tables together.

use wasmtime::ResourceLimiter;

/// Bytes a table element is counted with.
const TABLE_ELEMENT_BYTES: usize = 16;

/// Counts what a guest asks for. Asking for more than the limit stops it: most guests cannot go
/// on without memory anyway, and so the reason is known for sure.
pub(super) struct MemoryLimit {
    left: usize,
    /// Whether the guest was refused memory.
    pub(super) was_hit: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("memory limit reached")]
struct Refused;

impl MemoryLimit {
    pub(super) fn new(limit_mb: u32) -> Self {
        Self { left: (limit_mb as usize) << 20, was_hit: false }
    }

    /// Counts bytes that the host keeps for the guest.
    pub(super) fn hold(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.take(bytes).map(drop)
    }

    /// They are kept no longer.
    pub(super) fn release(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(bytes);
    }

    fn take(&mut self, bytes: usize) -> wasmtime::Result<bool> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(true)
            }
            None => {
                self.was_hit = true;
                Err(wasmtime::Error::new(Refused))
            }
        }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.take(desired.saturating_sub(current))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = desired.saturating_sub(current);
        self.take(elements.saturating_mul(TABLE_ELEMENT_BYTES))
    }
}
