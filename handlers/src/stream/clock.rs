//! When a frame is due: pure, with what the stream says of its times taken for what it is worth.

use std::time::{Duration, Instant};

/// A frame that would come so much after the one before it, or so much before, begins a new count:
/// cameras set their clocks, and broken streams have any times at all.
const GAP_MAX: Duration = Duration::from_secs(10);

/// The times of a stream beside those of this machine.
#[derive(Debug, Default)]
pub struct Clock {
    /// When a frame was due, and what its time was.
    begun: Option<(Instant, i64)>,
    last_us: i64,
}

impl Clock {
    /// When a frame of this time is to be handed on.
    pub fn due(&mut self, now: Instant, pts_us: i64) -> Instant {
        let apart = Duration::from_micros(pts_us.abs_diff(self.last_us));
        self.last_us = pts_us;
        match self.begun {
            Some((begun, first_us)) if apart <= GAP_MAX => {
                let since_us = u64::try_from(pts_us.saturating_sub(first_us)).unwrap_or(0);
                begun.checked_add(Duration::from_micros(since_us)).unwrap_or(now)
            }
            _ => {
                self.begun = Some((now, pts_us));
                now
            }
        }
    }
}

#[cfg(test)]
mod tests;
