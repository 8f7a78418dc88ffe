//! A device as the engine knows it: what waits for it, what it does, how it fares.

use std::time::{Duration, Instant};

use super::Work;
use super::watch::InHand;
use crate::history::Remembered;
use crate::queue::Queue;
use crate::schedule::DeviceView;
use crate::status::{DeviceState, DeviceStatus};

/// How long a device is set aside after its first failure; doubled with each further one in a row.
pub(super) const QUARANTINE_MIN: Duration = Duration::from_millis(100);
pub(super) const QUARANTINE_MAX: Duration = Duration::from_secs(30);
/// How long a circuit is taken to load before one was: a guess, none is published.
pub(super) const LOAD_US: u64 = 150_000;

/// The changing side of a device.
#[derive(Default)]
pub(super) struct Unit {
    pub queue: Queue<Work>,
    /// Predicted time of what waits.
    pub queued_us: u64,
    /// Since when it runs something, and how long that was predicted to take.
    pub running: Option<(Instant, u64)>,
    /// Since when it waits for more jobs to do together.
    pub held_since: Option<Instant>,
    pub in_hand: Option<InHand>,
    /// It was given up, and has not come back yet.
    pub is_hung: bool,
    /// What histories had on it when it was given up, to be freed when it comes back.
    pub left: Vec<Remembered>,
    pub is_cold: bool,
    /// Which circuit it has, and which it is to have when the jobs for that one are done.
    pub loaded: usize,
    pub circuit: usize,
    /// How many jobs had been looked at when that was decided.
    pub since: Option<u64>,
    /// How long the last change took.
    pub load_us: Option<u64>,
    pub loads: u64,
    pub quarantined_until: Option<Instant>,
    pub failures_in_row: u32,
    pub jobs_done: u64,
    pub jobs_failed: u64,
    /// Submissions of one job or several that were done.
    pub batches: u64,
    pub busy_us: u64,
    pub last_error: Option<String>,
    pub chains_refused: usize,
}

impl Unit {
    /// Takes jobs by where they are kept in the queue.
    pub fn take(&mut self, places: &[usize], now: Instant) -> Vec<Work> {
        let (works, cost_us) = self.withdraw(places);
        self.running = Some((now, cost_us));
        self.held_since = None;
        works
    }

    /// The same for jobs that it does not do; with how long they were predicted to take.
    pub fn withdraw(&mut self, places: &[usize]) -> (Vec<Work>, u64) {
        let works = self.queue.take(places);
        let cost_us = works.iter().map(|work| work.cost_us).sum();
        self.queued_us = self.queued_us.saturating_sub(cost_us);
        (works, cost_us)
    }

    pub fn failed(&mut self, error: &hw::Error, now: Instant) {
        self.jobs_failed += 1;
        self.last_error = Some(error.to_string());
        if !error.is_callers() {
            let doubled = QUARANTINE_MIN * 2u32.pow(self.failures_in_row.min(16));
            self.quarantined_until = Some(now + doubled.min(QUARANTINE_MAX));
            self.failures_in_row += 1;
        }
    }

    /// Chains that did not build: the device does their work all the same.
    pub fn refused(&mut self, refusals: &[hw::Error]) {
        if refusals.len() > self.chains_refused {
            self.last_error = refusals.last().map(hw::Error::to_string);
        }
        self.chains_refused = refusals.len();
    }

    /// How long it takes to load a circuit, as far as is known.
    pub fn load_us(&self) -> u64 {
        self.load_us.unwrap_or(LOAD_US)
    }

    pub fn quarantined(&self, now: Instant) -> Duration {
        let left = self.quarantined_until.map(|until| until.saturating_duration_since(now));
        if self.is_hung { QUARANTINE_MAX } else { left.unwrap_or_default() }
    }

    /// The device as a job of this priority finds it: what waits with less goes after it.
    pub fn view(&self, info: &hw::DeviceInfo, priority: u8, now: Instant) -> DeviceView {
        let queued_us = match priority {
            0 => self.queued_us,
            _ => {
                let waiting = self.queue.waiting();
                let before = waiting.filter(|work| work.job.priority >= priority);
                before.map(|work| work.cost_us).sum()
            }
        };
        // What takes longer than it was predicted to is taken to need as long again.
        let running_us = self.running.map_or(0, |(since, cost_us)| {
            cost_us.abs_diff(now.saturating_duration_since(since).as_micros() as u64)
        });
        DeviceView {
            is_accelerator: info.kind.is_accelerator(),
            quarantined_us: self.quarantined(now).as_micros() as u64,
            is_warming: self.is_cold,
            backlog_us: queued_us + running_us,
            room: self.queue.room(),
        }
    }

    pub fn status(&self, info: &hw::DeviceInfo, awake: bool, now: Instant) -> DeviceStatus {
        let quarantined = self.quarantined(now);
        let state = match (self.is_cold, quarantined.is_zero()) {
            (true, _) if awake => DeviceState::Warming,
            (true, _) => DeviceState::Asleep,
            (false, true) => DeviceState::Ready,
            (false, false) => DeviceState::Quarantined,
        };
        DeviceStatus {
            id: info.id.clone(),
            kind: info.kind.as_str().to_string(),
            encoder: String::new(),
            order: None,
            cost_us: None,
            on_cpu: info.on_cpu,
            name: info.name.clone(),
            driver: info.driver.clone(),
            memory_bytes: info.memory_bytes,
            compute_units: info.compute_units,
            state,
            quarantined_ms: quarantined.as_millis() as u64,
            queue_len: self.queue.len(),
            jobs_done: self.jobs_done,
            jobs_failed: self.jobs_failed,
            batches: self.batches,
            busy_us: self.busy_us,
            circuit: info.circuits.get(self.loaded).map(|circuit| circuit.name.clone()),
            loads: self.loads,
            last_error: self.last_error.clone(),
            chains_refused: self.chains_refused,
        }
    }
}
