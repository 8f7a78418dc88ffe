//! Instances that wait for their next invocation, for handlers that allow it. Each holds a place
//! of the pool; when there is none left, the one that waits longest makes room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;
use wasmtime::component::Instance;

use super::guest::Guest;
use super::module::Module;
use crate::Digest;
use crate::execute::started::StartedFor;
use crate::execute::{Caller, Target};

/// An instance between two invocations.
pub(super) struct Kept {
    pub(super) store: Store<Guest>,
    pub(super) instance: Instance,
    /// What it is an instance of.
    pub(super) module: Arc<Module>,
    /// Invocations that it has had.
    pub(super) served: u32,
    pub(super) slot: OwnedSemaphorePermit,
}

/// All of them, by handler and code.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<StartedFor, Vec<(Instant, Kept)>>>);

impl Waiting {
    /// One that serves this handler, and began with the secrets of now; those with others end.
    pub(super) fn take(&self, caller: &Caller) -> Option<Kept> {
        let key = StartedFor::of(caller);
        key.among(&mut self.lock())?.pop().map(|(_, kept)| kept)
    }

    /// How many wait for this handler, as instances of a module; those of another end.
    pub(super) fn count(&self, caller: &Caller, module: &Arc<Module>) -> usize {
        let mut waiting = self.lock();
        let Some(all) = StartedFor::of(caller).among(&mut waiting) else { return 0 };
        all.retain(|(_, kept)| Arc::ptr_eq(&kept.module, module));
        all.len()
    }

    /// Lets one wait.
    pub(super) fn put(&self, kept: Kept) {
        let key = StartedFor::of(kept.store.data().caller());
        self.lock().entry(key).or_default().push((Instant::now(), kept));
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

    /// Ends those of a handler.
    pub(super) fn end(&self, target: &Target) {
        self.lock().retain(|key, _| !key.is_for(target));
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Ends those that run this code.
    pub(super) fn forget(&self, digest: &Digest) {
        self.lock().retain(|key, _| key.digest != *digest);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<StartedFor, Vec<(Instant, Kept)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
