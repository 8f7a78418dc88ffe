//! What one invocation may have its node do: events to publish, calls, writes. A guest that asks in
//! a loop would fill a log or a disk that others need within its time limit.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{Caller, HostError};

/// A larger event counts as several of this size. The largest one is then half of what an
/// invocation may publish when nothing is said.
const EVENT_BYTES: usize = 128 << 10;
/// A larger blob counts as several rows of this size.
const ROW_BYTES: usize = 16 << 10;

/// How much an invocation has asked for.
#[derive(Debug, Default)]
pub struct Budget {
    publishes: AtomicU32,
    calls: AtomicU32,
    writes: AtomicU32,
}

/// Something of which an invocation may do so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Publish an event whose body has so many bytes.
    Publish(usize),
    /// Call a function.
    Call,
    /// Write or remove so many rows.
    Rows(usize),
    /// Store a blob of so many bytes.
    Blob(usize),
}

impl Ask {
    /// The field of `[handler.limits]` that bounds it.
    pub fn limit(self) -> &'static str {
        match self {
            Self::Publish(_) => "publishes",
            Self::Call => "calls",
            Self::Rows(_) | Self::Blob(_) => "writes",
        }
    }

    fn count(self) -> u32 {
        let parts = |bytes: usize, of: usize| bytes.div_ceil(of).max(1);
        let count = match self {
            Self::Publish(bytes) => parts(bytes, EVENT_BYTES),
            Self::Call => 1,
            Self::Rows(rows) => rows.max(1),
            Self::Blob(bytes) => parts(bytes, ROW_BYTES),
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

impl Caller {
    /// Takes something out of what the invocation may ask for; an error when so much is not left.
    pub fn take(&self, ask: Ask) -> Result<(), HostError> {
        let (limits, budget) = (&self.target.limits, &self.budget);
        let (most, spent) = match ask {
            Ask::Publish(_) => (limits.publishes, &budget.publishes),
            Ask::Call => (limits.calls, &budget.calls),
            Ask::Rows(_) | Ask::Blob(_) => (limits.writes, &budget.writes),
        };
        let after = |spent: u32| spent.checked_add(ask.count()).filter(|sum| *sum <= most);
        let taken = spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
        taken.map(drop).map_err(|_| {
            let name = ask.limit();
            HostError::TooMuch(format!(
                "more than {most} {name} by one invocation; raise {name} in its [handler.limits]"
            ))
        })
    }
}

#[cfg(test)]
mod tests;
