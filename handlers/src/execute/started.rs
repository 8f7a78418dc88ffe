//! What a process or an instance was started for: only the same may use it again.

use super::Caller;
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

    /// Whether it is the same handler with secrets of another time.
    pub(super) fn is_outdated(&self, now: &Self) -> bool {
        self.secrets != now.secrets && Self { secrets: now.secrets, ..self.clone() } == *now
    }
}
