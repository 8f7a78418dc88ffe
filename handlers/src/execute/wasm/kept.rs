//! Instances that wait for their next invocation: those that serve several, for handlers that
//! allow it, and fresh ones that were made ahead. Each holds a place of the pool; when there is
//! none left, the one that waits longest makes room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;
use wasmtime::component::Instance;

use super::Wasm;
use super::guest::Guest;
use crate::Digest;
use crate::execute::Caller;
use crate::execute::started::StartedFor;

/// Instances made ahead for one handler; no more run at once on a few cores.
const AHEAD_MAX: usize = 4;
/// How long one that was made ahead waits.
const AHEAD_LASTS: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 5_000 });

/// An instance before its first invocation or between two.
pub(super) struct Kept {
    pub(super) store: Store<Guest>,
    pub(super) instance: Instance,
    /// Invocations that it has had.
    pub(super) served: u32,
    pub(super) slot: OwnedSemaphorePermit,
}

type All = HashMap<StartedFor, Vec<(Instant, Kept)>>;

/// All of them, by handler and code.
#[derive(Default)]
pub(super) struct Waiting {
    all: Mutex<All>,
    /// Whether somebody will end those made ahead that nobody came for.
    is_watched: AtomicBool,
}

impl Waiting {
    /// One that serves this handler, and began with the secrets of now; those with others end.
    pub(super) fn take(&self, caller: &Caller) -> Option<Kept> {
        let key = StartedFor::of(caller);
        let mut waiting = self.lock();
        if !waiting.contains_key(&key) {
            waiting.retain(|other, _| !other.is_outdated(&key));
        }
        waiting.get_mut(&key)?.pop().map(|(_, kept)| kept)
    }

    /// Lets one wait.
    pub(super) fn put(&self, kept: Kept) {
        let key = StartedFor::of(kept.store.data().caller());
        self.lock().entry(key).or_default().push((Instant::now(), kept));
    }

    /// Whether no more need be made ahead for this handler.
    pub(super) fn has_enough(&self, caller: &Caller) -> bool {
        self.lock().get(&StartedFor::of(caller)).is_some_and(|all| all.len() >= AHEAD_MAX)
    }

    /// Sees to it that those made ahead end when nobody comes for them.
    pub(super) fn end_idle_later(wasm: &Arc<Wasm>) {
        if wasm.waiting.is_watched.swap(true, Ordering::Relaxed) {
            return;
        }
        let wasm = Arc::downgrade(wasm);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(AHEAD_LASTS).await;
                let Some(wasm) = wasm.upgrade() else { return };
                if !wasm.waiting.end_idle() {
                    return;
                }
            }
        });
    }

    /// Ends those made ahead that nobody came for; tells whether others are left.
    fn end_idle(&self) -> bool {
        let mut waiting = self.lock();
        let is_ahead = |kept: &Kept| kept.served == 0;
        waiting.retain(|_, all| {
            all.retain(|(since, kept)| !is_ahead(kept) || since.elapsed() < AHEAD_LASTS);
            !all.is_empty()
        });
        let some = waiting.values().flatten().any(|(_, kept)| is_ahead(kept));
        // Under the lock: whoever puts the next one sees that nobody watches.
        self.is_watched.store(some, Ordering::Relaxed);
        some
    }

    /// Ends the one that waits longest.
    pub(super) fn end_longest(&self) {
        let mut waiting = self.lock();
        waiting.retain(|_, all| !all.is_empty());
        // The first of a list waits longest: the last one is taken first.
        if let Some(all) = waiting.values_mut().min_by_key(|all| all[0].0) {
            all.remove(0);
        }
    }

    /// Ends those that run this code.
    pub(super) fn forget(&self, digest: &Digest) {
        self.lock().retain(|key, _| key.digest != *digest);
    }

    /// How many wait.
    #[cfg(test)]
    pub(in crate::execute) fn len(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
