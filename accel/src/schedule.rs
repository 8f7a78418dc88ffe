//! Which device a job runs on: a pure function of what is known about devices and the job.
//!
//! Costs are learned: the time of each (pipeline and shape, device) as a moving average. A job goes
//! to the device where it is predicted to finish first, waiting and moving its history included
//! (earliest finish time, as HEFT and StarPU have it); [`Prefer`] may narrow the choice first. A
//! device whose cost is not known counts as free, once, while the job's deadline allows a trial,
//! and once more where that run was so slow that kernels may have been compiled for it.
//! A job that is known to come too late is refused at once, so that those behind it are in time.
//! Which of the jobs that wait for a device go to it together is for [`batch`] to say, which
//! circuit a card has for [`circuits`], and what a device takes from others for [`steal`].

pub mod batch;
pub mod circuits;
pub mod steal;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use self::batch::Pace;

/// Most (job kind, device) pairs whose cost is remembered; then the oldest half is forgotten.
pub const COSTS_MAX: usize = 4096;
/// Weight of a new measurement in the moving average.
const WEIGHT: f64 = 0.25;
/// A trial of an unknown device is allowed when the deadline is this many times the known cost
/// away.
const TRIAL_SLACK: u64 = 8;
/// A run that takes this many times what others took has done something else as well, such as
/// compile a kernel.
const ODD_TIMES: u64 = 8;
/// After so many runs a cost is good enough to refuse a job by.
const SETTLED_RUNS: u32 = 4;
/// What an unknown job is taken to need where nothing at all is known.
const UNKNOWN_US: u64 = 20_000;

/// What to look at first when choosing a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prefer {
    /// The earliest predicted finish, whatever the device.
    #[default]
    Fastest,
    /// Accelerators while there is a healthy one with room; the CPU, left to others, otherwise.
    Accelerator,
}

/// What the scheduler knows about a device now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceView {
    pub is_accelerator: bool,
    /// Failed lately; not before this many microseconds from now.
    pub quarantined_us: u64,
    /// Still compiling its kernels.
    pub is_warming: bool,
    /// Predicted time until it has done all it was given.
    pub backlog_us: u64,
    /// Places left in its queue.
    pub room: usize,
}

/// What the scheduler knows about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobView<'a> {
    pub signature: u64,
    /// Time until its deadline.
    pub slack_us: Option<u64>,
    /// The device that has its history.
    pub resident_on: Option<usize>,
    /// Earlier jobs of its history are still there, and it must queue behind them.
    pub is_bound: bool,
    /// Time to bring the history to another device.
    pub move_us: u64,
    /// Devices that already failed on it.
    pub excluded: &'a [usize],
}

/// What to do with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Give it to this device; how long it is predicted to run there.
    Run { device: usize, cost_us: u64 },
    /// Every device that could take it has a full queue, or so much to do that the job would miss
    /// its deadline.
    Overloaded { retry_after_ms: u64 },
    /// Every device has failed on it.
    NoDevice,
}

/// Chooses a device.
pub fn schedule(
    devices: &[DeviceView],
    costs: &Costs,
    job: &JobView<'_>,
    prefer: Prefer,
) -> Decision {
    let fit: Vec<usize> =
        (0..devices.len()).filter(|device| !job.excluded.contains(device)).collect();
    if fit.is_empty() {
        return Decision::NoDevice;
    }
    let candidates = candidates(devices, job, prefer, fit);
    let known = candidates.iter().filter_map(|device| costs.cost_us(job.signature, *device)).min();
    let finish_us = |device: usize| {
        let run_us = predicted_us(costs, job, device, known);
        let elsewhere = job.resident_on.is_some_and(|resident| resident != device);
        devices[device].backlog_us + run_us + if elsewhere { job.move_us } else { 0 }
    };
    let with_room = candidates.iter().copied().filter(|device| devices[*device].room > 0);
    match with_room.min_by_key(|device| (finish_us(*device), *device)) {
        Some(device) => {
            let late_us = late_us(costs, job, &devices[device], device, finish_us(device));
            if late_us > 0 {
                return Decision::Overloaded { retry_after_ms: late_us.div_ceil(1000) };
            }
            let cost_us = costs.cost_us(job.signature, device).or(known).unwrap_or(UNKNOWN_US);
            Decision::Run { device, cost_us }
        }
        None => {
            let first_free = candidates.iter().map(|device| devices[*device].backlog_us).min();
            Decision::Overloaded { retry_after_ms: first_free.unwrap_or(0).div_ceil(2000).max(1) }
        }
    }
}

/// The devices in the order in which a job would go to them if each failed on it; as if those had
/// room that have none now.
pub fn fallback(
    devices: &[DeviceView],
    costs: &Costs,
    job: &JobView<'_>,
    prefer: Prefer,
) -> Vec<usize> {
    let with_room = |device: &DeviceView| DeviceView { room: device.room.max(1), ..*device };
    let devices: Vec<DeviceView> = devices.iter().map(with_room).collect();
    let mut excluded = job.excluded.to_vec();
    loop {
        let mut again = *job;
        again.excluded = &excluded;
        match schedule(&devices, costs, &again, prefer) {
            Decision::Run { device, .. } => excluded.push(device),
            _ => return excluded.split_off(job.excluded.len()),
        }
    }
}

/// By how much a job is known to miss its deadline because of what waits before it. Where nothing
/// waits it may try, and so it may where its cost is a guess.
fn late_us(
    costs: &Costs,
    job: &JobView<'_>,
    view: &DeviceView,
    device: usize,
    finish_us: u64,
) -> u64 {
    match job.slack_us {
        Some(slack_us) if view.backlog_us > 0 && costs.is_settled(job.signature, device) => {
            finish_us.saturating_sub(slack_us)
        }
        _ => 0,
    }
}

/// The devices among `fit` that the job may go to, before time is looked at. Never empty.
fn candidates(
    devices: &[DeviceView],
    job: &JobView<'_>,
    prefer: Prefer,
    fit: Vec<usize>,
) -> Vec<usize> {
    if let (true, Some(resident)) = (job.is_bound, job.resident_on)
        && fit.contains(&resident)
    {
        return vec![resident];
    }
    let healthy: Vec<usize> =
        fit.iter().copied().filter(|device| devices[*device].quarantined_us == 0).collect();
    if healthy.is_empty() {
        // Something may work again; the one that waits least is the likeliest.
        let first = fit.iter().copied().min_by_key(|device| devices[*device].quarantined_us);
        return first.into_iter().collect();
    }
    let is_preferred = |device: &DeviceView| match prefer {
        // When it will have compiled its kernels is not known.
        Prefer::Fastest => !device.is_warming,
        Prefer::Accelerator => is_usable(device, job),
    };
    let preferred = healthy.iter().copied().filter(|device| is_preferred(&devices[*device]));
    let preferred: Vec<usize> = preferred.collect();
    if preferred.is_empty() { healthy } else { preferred }
}

/// An accelerator that could start on the job: jobs in a hurry do not wait for compilers.
fn is_usable(device: &DeviceView, job: &JobView<'_>) -> bool {
    device.is_accelerator && device.room > 0 && !(device.is_warming && job.slack_us.is_some())
}

/// The time the job is taken to need on a device; nothing where it is unknown and may be tried.
fn predicted_us(costs: &Costs, job: &JobView<'_>, device: usize, known: Option<u64>) -> u64 {
    let Some(known) = known else { return UNKNOWN_US };
    let guess = match costs.cost_us(job.signature, device) {
        Some(cost) if costs.is_tried(job.signature, device) || cost <= known * ODD_TIMES => {
            return cost;
        }
        first => first.unwrap_or(known * TRIAL_SLACK),
    };
    let may_try = job.slack_us.is_none_or(|slack| slack >= guess);
    // With a deadline near, what is unknown must not look better than what is known.
    if may_try { 0 } else { guess }
}

/// Learned costs of jobs on devices.
#[derive(Debug, Clone, Default)]
pub struct Costs {
    known: HashMap<(u64, usize), Cost>,
    clock: u64,
}

#[derive(Debug, Clone, Default)]
struct Cost {
    /// Of one job, or its part of a submission of several.
    mean_us: Mean,
    pace: Pace,
    used: u64,
}

/// A moving average. One odd value changes nothing: a device whose only fault is that it has
/// compiled a kernel would not be chosen again, so that nobody would see how fast it is now.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    value: f64,
    count: u32,
    was_odd: bool,
}

impl Mean {
    fn learn(&mut self, measured: f64) {
        self.count = self.count.saturating_add(1);
        let is_odd = self.count > 2 && measured > self.value * ODD_TIMES as f64;
        let was_odd = std::mem::replace(&mut self.was_odd, is_odd);
        // A second one in a row is no exception.
        if is_odd && !was_odd {
            return;
        }
        self.value = match self.count {
            1 => measured,
            // The first run may have compiled kernels.
            2 => self.value.min(measured),
            _ => self.value + WEIGHT * (measured - self.value),
        };
    }
}

impl Costs {
    /// The predicted cost of a job kind on a device, where it was measured.
    pub fn cost_us(&self, signature: u64, device: usize) -> Option<u64> {
        self.known.get(&(signature, device)).map(|cost| cost.mean_us.value as u64)
    }

    /// Whether it was measured more than once.
    fn is_tried(&self, signature: u64, device: usize) -> bool {
        self.known.get(&(signature, device)).is_some_and(|cost| cost.mean_us.count > 1)
    }

    /// Whether the cost is more than a first impression.
    fn is_settled(&self, signature: u64, device: usize) -> bool {
        self.known.get(&(signature, device)).is_some_and(|cost| cost.mean_us.count >= SETTLED_RUNS)
    }

    /// How jobs of a kind come and go on a device, where one has run there.
    pub fn pace(&mut self, signature: u64, device: usize) -> Option<&mut Pace> {
        self.known.get_mut(&(signature, device)).map(|cost| &mut cost.pace)
    }

    /// Learns from one measured run.
    pub fn learn(&mut self, signature: u64, device: usize, took_us: u64) {
        self.learn_batch(signature, device, 1, took_us);
    }

    /// Learns from a run of several jobs together.
    pub fn learn_batch(&mut self, signature: u64, device: usize, jobs: usize, took_us: u64) {
        self.clock += 1;
        let cost = self.known.entry((signature, device)).or_default();
        cost.mean_us.learn(took_us as f64 / jobs.max(1) as f64);
        cost.pace.learn(jobs, took_us);
        cost.used = self.clock;
        if self.known.len() > COSTS_MAX {
            let oldest = self.clock.saturating_sub(COSTS_MAX as u64 / 2);
            self.forget_before(oldest);
        }
    }

    fn forget_before(&mut self, clock: u64) {
        self.known.retain(|_, cost| cost.used > clock);
        if self.known.len() > COSTS_MAX {
            self.known.clear();
        }
    }
}

#[cfg(test)]
mod tests;
