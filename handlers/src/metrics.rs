//! Counts and durations of a node, by name: bounded, cheap to add to, read as a whole.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many different names are kept; further ones are dropped.
pub const NAMES_MAX: usize = 512;
/// Buckets per doubling of a duration: quantiles are right within 9 %.
const STEPS: f64 = 8.0;
/// Durations from 1 µs to 2^32 µs (71 minutes).
const BUCKETS: usize = 32 * STEPS as usize;

/// The counts and durations of one node.
#[derive(Default)]
pub struct Metrics {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    counts: BTreeMap<String, u64>,
    times: BTreeMap<String, Histogram>,
}

struct Histogram {
    buckets: Box<[u32; BUCKETS]>,
    count: u64,
    sum_us: u64,
    max_us: u64,
}

/// What [`Metrics`] held at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub counts: BTreeMap<String, u64>,
    pub times: BTreeMap<String, Times>,
}

/// The distribution of one duration, in µs; quantiles are upper bounds within 9 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    pub count: u64,
    pub mean_us: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

/// One duration's histogram, coarse enough to be read by others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    pub count: u64,
    pub sum_us: u64,
    /// How many durations were at most so many µs, for each of [`BOUNDS_US`].
    pub within: Vec<u64>,
}

/// The bounds of a [`Distribution`]: powers of four, which are powers of two of the buckets.
pub const BOUNDS_US: [u64; 12] = {
    let mut bounds = [16; 12];
    let mut at = 1;
    while at < bounds.len() {
        bounds[at] = bounds[at - 1] * 4;
        at += 1;
    }
    bounds
};

impl Metrics {
    /// Adds to a count.
    pub fn count(&self, name: &str, by: u64) {
        let mut inner = self.lock();
        if let Some(count) = inner.counts.get_mut(name) {
            *count += by;
        } else if inner.counts.len() < NAMES_MAX {
            inner.counts.insert(name.to_owned(), by);
        }
    }

    /// Notes a duration.
    pub fn time(&self, name: &str, took: Duration) {
        self.time_us(name, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Notes a duration given in µs.
    pub fn time_us(&self, name: &str, us: u64) {
        self.times_us([(name, us)]);
    }

    /// Notes several durations at once.
    pub fn times_us<'a>(&self, times: impl IntoIterator<Item = (&'a str, u64)>) {
        let mut inner = self.lock();
        for (name, us) in times {
            inner.time_us(name, us);
        }
    }

    /// Everything as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        let times = inner.times.iter().map(|(name, times)| (name.clone(), times.summary()));
        Snapshot { counts: inner.counts.clone(), times: times.collect() }
    }

    /// Every duration's histogram, by name.
    pub fn distributions(&self) -> BTreeMap<String, Distribution> {
        let inner = self.lock();
        inner.times.iter().map(|(name, times)| (name.clone(), times.distribution())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    fn time_us(&mut self, name: &str, us: u64) {
        if let Some(times) = self.times.get_mut(name) {
            times.add(us);
        } else if self.times.len() < NAMES_MAX {
            self.times.entry(name.to_owned()).or_default().add(us);
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), count: 0, sum_us: 0, max_us: 0 }
    }
}

impl Histogram {
    fn add(&mut self, us: u64) {
        let bucket = ((us.max(1) as f64).log2() * STEPS).ceil() as usize;
        let bucket = &mut self.buckets[bucket.min(BUCKETS - 1)];
        *bucket = bucket.saturating_add(1);
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    fn distribution(&self) -> Distribution {
        let mut within = Vec::with_capacity(BOUNDS_US.len());
        let (mut below, mut from) = (0, 0);
        for bound in BOUNDS_US {
            let to = bound.ilog2() as usize * STEPS as usize;
            below += self.buckets[from..=to].iter().map(|count| u64::from(*count)).sum::<u64>();
            from = to + 1;
            within.push(below);
        }
        Distribution { count: self.count, sum_us: self.sum_us, within }
    }

    fn summary(&self) -> Times {
        Times {
            count: self.count,
            mean_us: self.sum_us.checked_div(self.count).unwrap_or(0),
            p50_us: self.quantile(0.50),
            p99_us: self.quantile(0.99),
            max_us: self.max_us,
        }
    }

    fn quantile(&self, share: f64) -> u64 {
        let rank = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return ((bucket as f64 / STEPS).exp2() as u64).min(self.max_us);
            }
        }
        self.max_us
    }
}

#[cfg(test)]
mod tests;
