//! Hybrid logical clock: wall time that never goes back and always exceeds what was seen.
//!
//! A reading is a `u64`: 48 bits of milliseconds since 1970 and a 16-bit counter (Kulkarni et
//! al., "Logical Physical Clocks", 2014). The clock is pure: the wall time is an argument.

/// Milliseconds by which a child's stamps may lie ahead of this site's wall clock. Batches beyond
/// that are refused, so they stay in the child's log (quarantine) until the clocks agree again.
pub const AHEAD_MS_MAX: u64 = 500;

const COUNTER_BITS: u32 = 16;

/// Milliseconds since 1970 of an HLC reading.
pub fn millis(hlc: u64) -> u64 {
    hlc >> COUNTER_BITS
}

/// The smallest HLC reading of a millisecond.
pub fn from_millis(ms: u64) -> u64 {
    ms << COUNTER_BITS
}

/// The clock of one site.
#[derive(Debug, Default, Clone)]
pub struct Clock {
    last: u64,
}

impl Clock {
    /// A clock that continues after `last`, a reading recovered from the log.
    pub fn after(last: u64) -> Self {
        Clock { last }
    }

    /// A new reading: later than every earlier reading and every observed stamp.
    pub fn tick(&mut self, now_ms: u64) -> u64 {
        self.last = from_millis(now_ms).max(self.last + 1);
        self.last
    }

    /// Takes note of a stamp from elsewhere. Callers check [`ahead_ms`] first where the sender
    /// is not trusted to set the time; a child does trust its parent.
    pub fn observe(&mut self, stamp: u64) {
        self.last = self.last.max(stamp);
    }

    /// The newest reading given or observed.
    pub fn last(&self) -> u64 {
        self.last
    }
}

/// By how many milliseconds `stamp` exceeds what is allowed at wall time `now_ms`, if it does.
pub fn ahead_ms(stamp: u64, now_ms: u64) -> Option<u64> {
    let ahead = millis(stamp).saturating_sub(now_ms);
    (ahead > AHEAD_MS_MAX).then_some(ahead)
}

#[cfg(test)]
mod tests;
