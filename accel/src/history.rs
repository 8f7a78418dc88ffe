//! What pipelines remember from one job of a history to the next: buffers that stay on the device
//! they were made on, by key.
//!
//! Pure bookkeeping: it says which buffers are to be freed, and touches no device.

use std::collections::HashMap;

use hw::BufferId;

use crate::encoders::Coder;

/// Most histories at once; the one used longest ago goes first.
pub(crate) const HISTORIES_MAX: usize = 256;
/// Most bytes that histories keep on devices; the one used longest ago goes first.
pub(crate) const HISTORY_BYTES_MAX: usize = 512 << 20;

/// What is kept, buffers on one device, for the next job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub device: usize,
    /// Only jobs of the same plan can use it.
    pub signature: u64,
    /// In the order of the plan's `kept`, with their sizes.
    pub buffers: Vec<(BufferId, usize)>,
    /// On the host, by their numbers in the plan.
    pub coders: Vec<Coder>,
}

impl Remembered {
    pub fn bytes(&self) -> usize {
        self.coders.iter().map(Coder::bytes).sum::<usize>() + self.buffer_bytes()
    }

    /// What must be copied when it goes to another device: coders are on the host anyway.
    fn buffer_bytes(&self) -> usize {
        self.buffers.iter().map(|(_, bytes)| bytes).sum()
    }
}

#[derive(Debug, Default)]
struct History {
    kept: Option<Remembered>,
    /// Where the last job of it was sent.
    device: Option<usize>,
    /// Jobs that are queued or running.
    pending: usize,
    used: u64,
}

/// All histories of an engine.
#[derive(Debug, Default)]
pub(crate) struct Histories {
    by_key: HashMap<String, History>,
    clock: u64,
}

impl Histories {
    /// Where the history of a key is, whether jobs of it are pending, and how many bytes it has
    /// there.
    pub fn residence(&self, key: &str) -> (Option<usize>, bool, usize) {
        let Some(history) = self.by_key.get(key) else { return (None, false, 0) };
        let bytes = history.kept.as_ref().map_or(0, Remembered::buffer_bytes);
        (history.device, history.pending > 0, bytes)
    }

    /// The device of a key whose streams are under way: their next pictures tell only how they
    /// differ from the last.
    pub fn coding_on(&self, key: &str) -> Option<usize> {
        let kept = self.by_key.get(key)?.kept.as_ref()?;
        kept.coders.iter().any(Coder::is_midway).then_some(kept.device)
    }

    /// A job of a key was sent to a device. Gives back what must be freed to stay within the
    /// limit of keys.
    pub fn sent(&mut self, key: &str, device: usize) -> Vec<Remembered> {
        self.clock += 1;
        let history = self.by_key.entry(key.to_string()).or_default();
        history.pending += 1;
        history.device = Some(device);
        history.used = self.clock;
        self.shrink(key)
    }

    /// A job of a key is done with, well or not.
    pub fn done(&mut self, key: &str) {
        if let Some(history) = self.by_key.get_mut(key) {
            history.pending = history.pending.saturating_sub(1);
        }
    }

    /// Takes out what a key remembers, for a job that starts.
    pub fn take(&mut self, key: &str) -> Option<Remembered> {
        self.by_key.get_mut(key)?.kept.take()
    }

    /// Remembers for the next job; gives back what must be freed to stay within the limits, and
    /// `kept` itself when the key was closed in the meantime.
    pub fn keep(&mut self, key: &str, kept: Remembered) -> Vec<Remembered> {
        let Some(history) = self.by_key.get_mut(key) else { return vec![kept] };
        let mut freed: Vec<Remembered> = history.kept.replace(kept).into_iter().collect();
        freed.extend(self.shrink(key));
        freed
    }

    /// Forgets a key; gives back what is to be freed.
    pub fn close(&mut self, key: &str) -> Option<Remembered> {
        self.by_key.remove(key)?.kept
    }

    /// Forgets everything on a device that is lost; gives it back, as it is to be freed where the
    /// device has not done so.
    pub fn lose(&mut self, device: usize) -> Vec<Remembered> {
        let is_there = |kept: &mut Remembered| kept.device == device;
        let histories = self.by_key.values_mut();
        histories.filter_map(|history| history.kept.take_if(is_there)).collect()
    }

    fn bytes(&self) -> usize {
        self.by_key
            .values()
            .filter_map(|history| history.kept.as_ref())
            .map(Remembered::bytes)
            .sum()
    }

    /// Evicts until the limits are kept, or only `key` and pending ones are left.
    fn shrink(&mut self, key: &str) -> Vec<Remembered> {
        let mut freed = Vec::new();
        while self.by_key.len() > HISTORIES_MAX || self.bytes() > HISTORY_BYTES_MAX {
            match self.evict(key) {
                Some(evicted) => freed.extend(evicted.kept),
                None => break,
            }
        }
        freed
    }

    /// Removes the key used longest ago, other than `key` and those with jobs pending.
    fn evict(&mut self, key: &str) -> Option<History> {
        let idle = self.by_key.iter().filter(|(k, history)| *k != key && history.pending == 0);
        let oldest = idle.min_by_key(|(_, history)| history.used)?.0.clone();
        self.by_key.remove(&oldest)
    }
}

#[cfg(test)]
mod tests;
