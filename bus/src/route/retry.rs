//! When a request is tried again, how long after, and how long each attempt may take.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::{Error, RefusalKind};

/// How often a request is tried again on one hop.
pub const RETRIES_MAX: u32 = 4;
/// The pause before the first retry, before it is shortened at random; it doubles.
const PAUSE: Duration = Duration::from_millis(40);
/// The shortest time that one attempt of several is given.
const ATTEMPT_MIN: Duration = Duration::from_millis(100);

/// Whether another attempt makes sense; `keyed` requests may safely reach the other side twice.
pub fn worth(error: &Error, keyed: bool, attempt: u32) -> bool {
    let safe = match error {
        Error::TimedOut { .. } => keyed,
        Error::Refused(refusal) => keyed && refusal.kind == RefusalKind::Unavailable,
        error => error.not_done(),
    };
    safe && attempt < RETRIES_MAX
}

/// The pause before retry number `attempt`, from 0: half of it is certain, half is at random, so
/// that callers who failed together do not come back together.
pub fn pause(attempt: u32, random: u64) -> Duration {
    let whole = PAUSE * 2u32.saturating_pow(attempt.min(RETRIES_MAX));
    whole / 2 + (whole / 2).mul_f64(random as f64 / u64::MAX as f64)
}

/// What of the time left an attempt may take when others may have to follow it: half, or all of
/// it when that is little or this is the last.
pub fn share(left: Duration, attempt: u32) -> Duration {
    match attempt < RETRIES_MAX && left > 2 * ATTEMPT_MIN {
        true => left / 2,
        false => left,
    }
}

/// A random number, good enough to spread retries.
pub fn draw() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
