//! The jobs waiting for one device, and which of them is next.
//!
//! Higher priority first; among equals the tenant that has had the least device time, so that
//! one with many jobs does not starve the others; within a tenant the earliest deadline, then the
//! order of arrival. Pure: no clock, no thread.

use std::collections::HashMap;

/// Most jobs that wait for one device.
pub(crate) const QUEUE_LEN_MAX: usize = 64;
/// Most tenants whose device time is remembered; then all start equal again.
const TENANTS_MAX: usize = 1024;

/// By what a waiting job is ranked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rank {
    pub priority: u8,
    pub tenant: String,
    /// Microseconds on any one clock; `u64::MAX` for none.
    pub deadline_us: u64,
}

/// Waiting entries of any kind.
pub(crate) struct Queue<T> {
    waiting: Vec<(Rank, u64, T)>,
    arrivals: u64,
    served_us: HashMap<String, u64>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), arrivals: 0, served_us: HashMap::new() }
    }
}

impl<T> Queue<T> {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Places left.
    pub fn room(&self) -> usize {
        QUEUE_LEN_MAX.saturating_sub(self.waiting.len())
    }

    /// Adds an entry, or gives it back where there is no room.
    pub fn push(&mut self, rank: Rank, entry: T) -> Result<(), T> {
        if self.room() == 0 {
            return Err(entry);
        }
        self.welcome(&rank.tenant);
        self.push_again(rank, entry)
    }

    /// The same for a tenant that was not away: it has just been served, and keeps its place among
    /// the others.
    pub fn push_again(&mut self, rank: Rank, entry: T) -> Result<(), T> {
        if self.room() == 0 {
            return Err(entry);
        }
        self.arrivals += 1;
        self.waiting.push((rank, self.arrivals, entry));
        Ok(())
    }

    /// The next entry.
    pub fn pop(&mut self) -> Option<T> {
        let next = (0..self.waiting.len()).min_by_key(|at| self.turn(*at))?;
        Some(self.waiting.swap_remove(next).2)
    }

    /// What waits, each with the place where it is kept, in the order in which it is next as things
    /// stand. Places hold until something comes or goes.
    pub fn ordered(&self) -> Vec<(usize, &T)> {
        let mut order: Vec<usize> = (0..self.waiting.len()).collect();
        order.sort_by_cached_key(|at| self.turn(*at));
        order.into_iter().map(|at| (at, &self.waiting[at].2)).collect()
    }

    /// Takes what is kept at these places.
    pub fn take(&mut self, places: &[usize]) -> Vec<T> {
        let mut waiting: Vec<_> = self.waiting.drain(..).map(Some).collect();
        let entry = |place: &usize| waiting.get_mut(*place)?.take();
        let taken = places.iter().filter_map(entry).map(|(_, _, entry)| entry).collect();
        self.waiting.extend(waiting.into_iter().flatten());
        taken
    }

    /// By what those who wait are ordered.
    fn turn(&self, at: usize) -> (u8, u64, u64, u64) {
        let (rank, arrival, _) = &self.waiting[at];
        let served_us = self.served_us(&rank.tenant);
        (u8::MAX - rank.priority, served_us, rank.deadline_us, *arrival)
    }

    /// What waits, in no order.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().map(|(_, _, entry)| entry)
    }

    /// All that waits, taken out in no order.
    pub fn drain(&mut self) -> Vec<T> {
        self.waiting.drain(..).map(|(_, _, entry)| entry).collect()
    }

    /// Drops what is not to wait any longer.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.waiting.retain(|(_, _, entry)| keep(entry));
    }

    /// Device time that a tenant has had, as far as it is remembered.
    pub fn served_us(&self, tenant: &str) -> u64 {
        self.served_us.get(tenant).copied().unwrap_or(0)
    }

    /// Books device time that a tenant has had.
    pub fn charge(&mut self, tenant: &str, took_us: u64) {
        if let Some(served) = self.served_us.get_mut(tenant) {
            *served += took_us;
        }
    }

    /// Where nobody waits, a tenant that comes (back) starts level with the one that is served now.
    pub fn level_with(&mut self, tenant: &str, served: &str) {
        if self.waiting.is_empty() {
            let level = self.served_us.get(served).copied().unwrap_or(0);
            let own = self.served_us.entry(tenant.to_string()).or_insert(0);
            *own = (*own).max(level);
        }
    }

    /// A tenant that comes (back) starts level with the least served one that waits, so that its
    /// absence earns it nothing.
    fn welcome(&mut self, tenant: &str) {
        if self.waiting.iter().any(|(rank, ..)| rank.tenant == tenant) {
            return;
        }
        if self.served_us.len() >= TENANTS_MAX {
            self.served_us.clear();
        }
        let waiting = self.waiting.iter().filter_map(|(rank, ..)| self.served_us.get(&rank.tenant));
        let least = waiting.min().copied().unwrap_or(0);
        let served = self.served_us.entry(tenant.to_string()).or_insert(0);
        *served = (*served).max(least);
    }
}

#[cfg(test)]
mod tests;
