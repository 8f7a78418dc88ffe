//! The memory of the software FPGA: blocks at the addresses that the host gives them.

use std::cell::UnsafeCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Blocks are this much longer than asked for, and whole pages: circuits read and write words.
const PAGE_BYTES: u64 = 4096;
/// Larger blocks are refused.
const BLOCK_BYTES_MAX: u64 = 1 << 30;

#[derive(Default)]
pub(super) struct Memory {
    blocks: BTreeMap<u64, Arc<Block>>,
}

/// Bytes that kernels on threads and copies of the host reach at once, as on a card: who does not
/// wait for a kernel sees anything.
pub(super) struct Block {
    words: Box<[UnsafeCell<u64>]>,
}

// SAFETY: the words are only reached through raw pointers, by copies and by kernels, and bytes have
// no invariant that a race could break.
unsafe impl Sync for Block {}
// SAFETY: as above; the block owns its words.
unsafe impl Send for Block {}

impl Block {
    fn new(bytes: u64) -> Self {
        let words = bytes.next_multiple_of(PAGE_BYTES) / 8;
        Self { words: (0..words).map(|_| UnsafeCell::new(0xDEAD_BEEF_DEAD_BEEF)).collect() }
    }

    fn bytes(&self) -> u64 {
        8 * self.words.len() as u64
    }

    fn start(&self) -> *mut u8 {
        self.words.as_ptr().cast_mut().cast()
    }
}

impl Memory {
    pub(super) fn alloc(&mut self, address: u64, bytes: u64) -> bool {
        if bytes > BLOCK_BYTES_MAX {
            return false;
        }
        self.blocks.insert(address, Arc::new(Block::new(bytes.max(1))));
        true
    }

    pub(super) fn free(&mut self, address: u64) -> bool {
        self.blocks.remove(&address).is_some()
    }

    /// The block of an address, and where in it that is.
    pub(super) fn find(&self, address: u64) -> Option<(Arc<Block>, u64)> {
        let (start, block) = self.blocks.range(..=address).next_back()?;
        let offset = address - start;
        (offset < block.bytes()).then(|| (block.clone(), offset))
    }

    /// Writes what fits into the block of the address.
    pub(super) fn write(&self, address: u64, data: &[u8]) {
        let Some((block, offset)) = self.find(address) else { return };
        let bytes = data.len().min((block.bytes() - offset) as usize);
        // SAFETY: the range is inside the block, and apart from the data of a message.
        unsafe {
            let to = block.start().add(offset as usize);
            std::ptr::copy_nonoverlapping(data.as_ptr(), to, bytes);
        }
    }

    /// Reads as much as the block of the address has; zeros where there is none.
    pub(super) fn read(&self, address: u64, bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        if let Some((block, offset)) = self.find(address) {
            let bytes = bytes.min((block.bytes() - offset) as usize);
            // SAFETY: the range is inside the block, and apart from the new data.
            unsafe {
                let from = block.start().add(offset as usize);
                std::ptr::copy_nonoverlapping(from, data.as_mut_ptr(), bytes);
            }
        }
        data
    }
}

/// Where a kernel finds a buffer, and the block that must live as long as it runs.
pub(super) fn pointer(found: &(Arc<Block>, u64)) -> u64 {
    // The offset is inside the block.
    found.0.start() as u64 + found.1
}

/// Bytes from the address to the end of its block.
pub(super) fn room(found: &(Arc<Block>, u64)) -> u64 {
    found.0.bytes() - found.1
}
