//! What processes took of the machine, and how busy it was.

use std::fs;
use std::time::Duration;

/// The CPU time of processes, by the scheduler's count of their threads.
pub(crate) fn cpu(processes: &[u32]) -> Duration {
    let threads = processes.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
    let ran = threads.flatten().flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(ran.sum())
}

/// How many processes wanted to run, on average over the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}
