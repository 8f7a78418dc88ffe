//! What is under way at this node, and how long a new invocation would wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bus::route::policy::Pace;

/// The weight of the newest run in the average run time, in percent.
const RUN_WEIGHT: u64 = 20;
/// How long a run is taken to last until one was measured, in µs.
const RUN_US_UNKNOWN: u64 = 10_000;

/// Invocations by handler.
#[derive(Default)]
pub struct Load {
    handlers: Mutex<HashMap<Arc<str>, Course>>,
    total: AtomicU64,
}

#[derive(Clone, Copy, Default)]
struct Course {
    running: u64,
    places: u64,
    /// The average time that an invocation holds its place; 0 until measured.
    run_us: u64,
}

/// What a new invocation of a handler has before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Until it begins.
    pub wait: Duration,
    /// From then on; zero until measured.
    pub run: Duration,
}

/// An invocation under way; it ends when this is dropped.
pub(super) struct Running<'a> {
    load: &'a Load,
    key: Arc<str>,
    run_us: Option<u64>,
}

impl Load {
    /// Invocations begun so far.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Invocations under way.
    pub fn in_flight(&self) -> u64 {
        self.lock().values().map(|course| course.running).sum()
    }

    /// How long a new invocation of a handler would wait for its turn.
    pub fn wait(&self, key: &str) -> Duration {
        self.turn(key).wait
    }

    /// How long it would wait, and then take.
    pub fn turn(&self, key: &str) -> Turn {
        self.lock().get(key).map_or_else(Turn::default, |course| Turn {
            wait: course.wait(),
            run: Duration::from_micros(course.run_us),
        })
    }

    /// How a handler that has so many places works its invocations off.
    pub fn pace(&self, key: &str, places: u32) -> Pace {
        let course = self.lock().get(key).copied().unwrap_or_default();
        let places = u64::from(places.max(1));
        let free = places.saturating_sub(course.running) as u32;
        Pace { each_us: (course.run_us_usual() / places).max(1), free }
    }

    /// The handlers whose invocations would wait, and how long.
    pub fn waits(&self) -> Vec<(String, Duration)> {
        let handlers = self.lock();
        let waits = handlers.iter().map(|(key, course)| (key.to_string(), course.wait()));
        waits.filter(|(_, wait)| !wait.is_zero()).collect()
    }

    /// Notes that an invocation begins of a handler that has so many places.
    pub(super) fn begin(&self, key: &Arc<str>, places: u32) -> Running<'_> {
        self.total.fetch_add(1, Ordering::Relaxed);
        let mut handlers = self.lock();
        let course = handlers.entry(key.clone()).or_default();
        course.running += 1;
        course.places = u64::from(places.max(1));
        drop(handlers);
        Running { load: self, key: key.clone(), run_us: None }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Course>> {
        self.handlers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Course {
    fn wait(&self) -> Duration {
        let places = self.places.max(1);
        let ahead = (self.running + 1).saturating_sub(places);
        Duration::from_micros(ahead.saturating_mul(self.run_us_usual()) / places)
    }

    fn run_us_usual(&self) -> u64 {
        if self.run_us == 0 { RUN_US_UNKNOWN } else { self.run_us }
    }
}

impl Running<'_> {
    /// Notes how long the invocation held its place, waiting not counted.
    pub(super) fn ran(&mut self, us: u64) {
        self.run_us = Some(us);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut handlers = self.load.lock();
        let Some(course) = handlers.get_mut(&self.key) else { return };
        course.running = course.running.saturating_sub(1);
        match (course.run_us, self.run_us) {
            (_, None) => {}
            (0, Some(us)) => course.run_us = us.max(1),
            (old, Some(us)) => {
                course.run_us = ((old * (100 - RUN_WEIGHT) + us * RUN_WEIGHT) / 100).max(1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
