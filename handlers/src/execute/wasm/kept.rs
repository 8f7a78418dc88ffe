//! Instances that wait for their next invocation, for handlers that allow it. Each holds a place
//! of the pool; when there is none left, the one that waits longest makes room.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;
use wasmtime::component::Instance;

use super::guest::Guest;
use crate::Digest;
use crate::execute::{Caller, Target};

/// An instance between two invocations.
pub(super) struct Kept {
    pub(super) store: Store<Guest>,
    pub(super) instance: Instance,
    /// Invocations that it has had.
    pub(super) served: u32,
    pub(super) slot: OwnedSemaphorePermit,
}

/// All of them, by handler and code.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<Key, Vec<(Instant, Kept)>>>);

#[derive(PartialEq, Eq, Hash)]
struct Key {
    app: String,
    handler: String,
    revision: u64,
    digest: Digest,
    /// Of the secrets that the instance began with: most languages read their environment once.
    secrets: u64,
}

impl Waiting {
    /// One that serves this handler, and began with the secrets of now; those with others end.
    pub(super) fn take(&self, caller: &Caller) -> Option<Kept> {
        let key = key(&caller.target, caller.settings.version());
        let mut waiting = self.lock();
        if !waiting.contains_key(&key) {
            waiting.retain(|other, _| !other.is_outdated(&key));
        }
        waiting.get_mut(&key)?.pop().map(|(_, kept)| kept)
    }

    /// Lets one wait.
    pub(super) fn put(&self, kept: Kept) {
        let caller = kept.store.data().caller();
        let key = key(&caller.target, caller.settings.version());
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

    /// Ends those that run this code.
    pub(super) fn forget(&self, digest: &Digest) {
        self.lock().retain(|key, _| key.digest != *digest);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Vec<(Instant, Kept)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    /// Whether it is the same handler with secrets of another time.
    fn is_outdated(&self, now: &Self) -> bool {
        self.secrets != now.secrets
            && (&self.app, &self.handler, self.revision) == (&now.app, &now.handler, now.revision)
            && self.digest == now.digest
    }
}

fn key(target: &Target, secrets: u64) -> Key {
    Key {
        app: target.app.clone(),
        handler: target.handler.clone(),
        revision: target.revision,
        digest: target.digest.clone(),
        secrets,
    }
}
