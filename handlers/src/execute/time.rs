//! The time that an invocation has.

use std::time::{Duration, Instant};

use super::{Invocation, InvokeError};

/// When one invocation is stopped, and what its error then says.
#[derive(Clone, Copy)]
pub(super) struct Time {
    pub(super) deadline: Instant,
    pub(super) limit_ms: u64,
}

impl Time {
    pub(super) fn new(started: Instant, invocation: &Invocation) -> Self {
        let own = Duration::from_millis(invocation.target.limits.timeout_ms.into());
        Self::of(started, own.min(invocation.deadline.saturating_duration_since(started)))
    }

    pub(super) fn of(started: Instant, limit: Duration) -> Self {
        let deadline = started + limit;
        Self { deadline, limit_ms: limit.as_micros().div_ceil(1000) as u64 }
    }

    pub(super) fn out(self) -> InvokeError {
        InvokeError::Timeout { limit_ms: self.limit_ms }
    }
}
