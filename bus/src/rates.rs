//! How fast bodies have come to other sites lately. Measured from what is sent anyway: a body of
//! one message tells of the way there and back only, so larger ones count alone.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::TierPath;

/// How many sites are remembered; beyond it the one that was measured first is forgotten.
const SITES_MAX: usize = 256;
/// How long a measurement counts. Then a way is unknown, and the next body tells.
const AGE_MAX: Duration = Duration::from_secs(60);
/// What one more measurement changes is this share of the difference.
const SHARE: u64 = 4;

/// Rates of sending, by site.
#[derive(Default)]
pub(crate) struct Rates(Mutex<BTreeMap<TierPath, Rate>>);

#[derive(Clone, Copy)]
struct Rate {
    bytes_per_s: u64,
    at: Instant,
}

impl Rates {
    /// Notes a body that went to a site.
    pub fn note(&self, to: &TierPath, bytes: usize, took: Duration, now: Instant) {
        let measured = per_second(bytes, took);
        self.change(to, now, |before| match before {
            Some(before) => before - before / SHARE + measured / SHARE,
            None => measured,
        });
    }

    /// Notes a body that had not come to a site after so long: it is no faster than that.
    pub fn note_late(&self, to: &TierPath, bytes: usize, after: Duration, now: Instant) {
        let most = per_second(bytes, after);
        self.change(to, now, |before| before.map_or(most, |before| before.min(most)));
    }

    /// Bytes per second to a site, as far as that was measured lately; at least 1.
    pub fn to(&self, site: &TierPath, now: Instant) -> Option<u64> {
        let rate = self.lock().get(site).copied();
        rate.filter(|rate| is_fresh(rate, now)).map(|rate| rate.bytes_per_s.max(1))
    }

    fn change(&self, to: &TierPath, now: Instant, change: impl FnOnce(Option<u64>) -> u64) {
        let mut rates = self.lock();
        let before = rates.get(to).filter(|rate| is_fresh(rate, now)).map(|rate| rate.bytes_per_s);
        if rates.len() >= SITES_MAX && !rates.contains_key(to) {
            let first = rates.iter().min_by_key(|(_, rate)| rate.at).map(|(site, _)| site.clone());
            first.map(|site| rates.remove(&site));
        }
        rates.insert(to.clone(), Rate { bytes_per_s: change(before), at: now });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TierPath, Rate>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fresh(rate: &Rate, now: Instant) -> bool {
    now.saturating_duration_since(rate.at) < AGE_MAX
}

fn per_second(bytes: usize, took: Duration) -> u64 {
    let us = took.as_micros().max(1);
    u64::try_from(bytes as u128 * 1_000_000 / us).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
