//! What a process or an instance was started for: only the same may use it again.

use std::collections::HashMap;

use super::{Caller, Target};
use crate::Digest;

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct StartedFor {
    app: String,
    handler: String,
    revision: u64,
    pub(super) digest: Digest,
    /// Of the secrets that it began with: most languages read their environment once.
    secrets: u64,
}

impl StartedFor {
    pub(super) fn of(caller: &Caller) -> Self {
        let target = &caller.target;
        Self {
            app: target.app.clone(),
            handler: target.handler.clone(),
            revision: target.revision,
            digest: target.digest.clone(),
            secrets: caller.settings.version(),
        }
    }

    /// Whether it was started for a handler at this revision.
    pub(super) fn is_for(&self, target: &Target) -> bool {
        let (name, revision) = ((&self.app, &self.handler), self.revision);
        name == (&target.app, &target.handler) && revision == target.revision
    }

    /// Those that wait for what is wanted now; where there are none yet, what is outdated by it
    /// ends.
    pub(super) fn among<'a, T>(&self, waiting: &'a mut HashMap<Self, T>) -> Option<&'a mut T> {
        if !waiting.contains_key(self) {
            waiting.retain(|other, _| !other.is_outdated(self));
        }
        waiting.get_mut(self)
    }

    /// Whether it is the same handler at an older revision, or with secrets of another time.
    fn is_outdated(&self, now: &Self) -> bool {
        let is_same = self.app == now.app && self.handler == now.handler;
        let is_older = self.revision < now.revision;
        is_same && (is_older || (self.revision == now.revision && self.secrets != now.secrets))
    }
}
