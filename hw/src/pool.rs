//! The buffers of a device whose memory a driver gives: who has which, and freed ones that wait to
//! be used again, because drivers take long to give memory.

use std::collections::HashMap;

use crate::command::BufferId;
use crate::device::{DeviceInfo, Error, Result, check_alloc, unknown_buffer};

/// Buffers are made in multiples of this, so that freed ones fit again; as large as was asked for
/// where none wait.
const GRAIN_BYTES: usize = 4096;

/// Buffers with memory of a driver's kind.
pub(crate) struct Pool<M> {
    held: HashMap<BufferId, Held<M>>,
    /// Freed memory, with its size: at most `free_bytes_max` of it.
    free: Vec<(usize, M)>,
    free_bytes_max: usize,
}

/// Memory of a buffer.
pub(crate) struct Held<M> {
    pub memory: M,
    /// Size that was asked for.
    pub bytes: usize,
    /// Size of the memory, the same or more.
    pub capacity: usize,
}

impl<M> Pool<M> {
    pub fn new(free_bytes_max: usize) -> Self {
        Self { held: HashMap::new(), free: Vec::new(), free_bytes_max }
    }

    /// A buffer of memory that was freed, or of what `make` gives of the size it is told. Where
    /// that has none left, freed memory of other sizes goes back, and it is asked once more.
    pub fn alloc(
        &mut self,
        info: &DeviceInfo,
        bytes: usize,
        mut make: impl FnMut(usize) -> Result<M>,
    ) -> Result<BufferId> {
        check_alloc(info, bytes)?;
        let capacity = match self.free_bytes_max {
            0 => bytes,
            _ => bytes.next_multiple_of(GRAIN_BYTES),
        };
        let memory = match self.free.iter().position(|(size, _)| *size == capacity) {
            Some(at) => self.free.swap_remove(at).1,
            None => match make(capacity) {
                Err(Error::OutOfMemory { .. }) if !self.free.is_empty() => {
                    self.give_back();
                    make(capacity)?
                }
                made => made?,
            },
        };
        let id = BufferId::fresh();
        self.held.insert(id, Held { memory, bytes, capacity });
        Ok(id)
    }

    /// Takes a buffer back. What does not fit the limit goes, and all that waited before it.
    pub fn free(&mut self, info: &DeviceInfo, id: BufferId) -> Result<()> {
        let held = self.take(info, id)?;
        let waiting: usize = self.free.iter().map(|(size, _)| size).sum();
        if waiting + held.capacity > self.free_bytes_max {
            self.give_back();
        }
        if held.capacity <= self.free_bytes_max {
            self.free.push((held.capacity, held.memory));
        }
        Ok(())
    }

    /// Forgets all buffers, as their memory is gone; those made from now on have higher numbers
    /// than the one returned.
    pub fn clear(&mut self) -> BufferId {
        self.held.clear();
        self.give_back();
        BufferId::fresh()
    }

    /// What somebody has.
    pub fn all(&self) -> impl Iterator<Item = &Held<M>> {
        self.held.values()
    }

    /// Lets go of freed memory.
    pub fn give_back(&mut self) {
        self.free.clear();
    }

    pub fn bytes_of(&self, id: BufferId) -> Option<usize> {
        self.held.get(&id).map(|held| held.bytes)
    }

    pub fn held(&self, info: &DeviceInfo, id: BufferId) -> Result<&Held<M>> {
        self.held.get(&id).ok_or_else(|| unknown_buffer(info, id))
    }

    pub fn held_mut(&mut self, info: &DeviceInfo, id: BufferId) -> Result<&mut Held<M>> {
        self.held.get_mut(&id).ok_or_else(|| unknown_buffer(info, id))
    }

    /// Takes a buffer out, to be put back: two of them can be borrowed so.
    pub fn take(&mut self, info: &DeviceInfo, id: BufferId) -> Result<Held<M>> {
        self.held.remove(&id).ok_or_else(|| unknown_buffer(info, id))
    }

    pub fn put_back(&mut self, id: BufferId, held: Held<M>) {
        self.held.insert(id, held);
    }
}

#[cfg(test)]
mod tests;
