//! Jobs that wait are planned again when a device has nothing to do.
//!
//! A job is given to the device where it ends first, not knowing what comes after it. So one device
//! may have jobs behind each other while another, less suited to them, has none. That one then
//! takes a job from the device that has the most to do, if it is done with it before that device
//! would be done with all: of such jobs the one that it is best at, beside the other. The job may
//! end later than it would have, though not after its deadline; those behind it end earlier.
//!
//! Pure: queues go in, a place in one of them comes out.

use super::{DeviceView, Prefer};

/// Most jobs of a queue that are looked at, in its order.
pub const LOOK_MAX: usize = 32;

/// A job that waits behind others for a device, and may run elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// Whose queue it is in.
    pub device: usize,
    /// What it is predicted to take there, and on the device that has nothing to do.
    pub there_us: u64,
    pub here_us: u64,
    /// Time until its deadline.
    pub slack_us: Option<u64>,
}

/// Which of these jobs a device takes that has nothing to do, by its number among them.
pub fn steal(
    idle: usize,
    devices: &[DeviceView],
    behind: &[Behind],
    prefer: Prefer,
) -> Option<usize> {
    let may_take = |job: &Behind| {
        let (here, there) = (&devices[idle], &devices[job.device]);
        let suits = prefer == Prefer::Fastest || here.is_accelerator || !there.is_accelerator;
        let is_in_time = job.slack_us.is_none_or(|slack_us| job.here_us <= slack_us);
        suits && is_in_time && job.here_us < there.backlog_us
    };
    // Ratios in thousandths, so that they can be compared.
    let gain = |job: &Behind| {
        let better = 1000 * job.there_us / job.here_us.max(1);
        (devices[job.device].backlog_us, job.device, better)
    };
    let jobs = behind.iter().enumerate().filter(|(_, job)| may_take(job));
    // Of jobs alike the first in its queue.
    jobs.max_by_key(|(at, job)| (gain(job), std::cmp::Reverse(*at))).map(|(at, _)| at)
}

#[cfg(test)]
mod tests;
