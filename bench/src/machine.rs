//! What processes took of the machine, and how busy it was.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What this process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub resident_bytes: u64,
    /// Memory that is not of files, also while a process that was just forked shares it.
    pub anonymous_bytes: u64,
    /// Open files, sockets and pipes.
    pub files: usize,
    pub threads: usize,
    /// Processes that it started, and those that they did.
    pub processes: usize,
}

impl Held {
    /// The less of each.
    pub(crate) fn least(self, other: Self) -> Self {
        Self {
            resident_bytes: self.resident_bytes.min(other.resident_bytes),
            anonymous_bytes: self.anonymous_bytes.min(other.anonymous_bytes),
            files: self.files.min(other.files),
            threads: self.threads.min(other.threads),
            processes: self.processes.min(other.processes),
        }
    }
}

pub(crate) fn held() -> Held {
    let count = |folder: &str| fs::read_dir(folder).map_or(0, |entries| entries.count());
    Held {
        resident_bytes: of_rollup("Rss:"),
        anonymous_bytes: of_rollup("Anonymous:"),
        files: count("/proc/self/fd"),
        threads: count("/proc/self/task"),
        processes: descendants(std::process::id()),
    }
}

fn descendants(of: u32) -> usize {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name before the parent may hold anything, a bracket too.
        let after = stat.rsplit(')').next().unwrap_or_default();
        let parent = after.split_whitespace().nth(1).and_then(|text| text.parse().ok());
        let pid = stat.split_whitespace().next().and_then(|text| text.parse().ok());
        if let (Some(parent), Some(pid)) = (parent, pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut left) = (0, vec![of]);
    while let Some(of) = left.pop() {
        let of = children.remove(&of).unwrap_or_default();
        found += of.len();
        left.extend(of);
    }
    found
}

/// The CPU time of processes, by the scheduler's count of their threads.
pub(crate) fn cpu(processes: &[u32]) -> Duration {
    let threads = processes.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
    let ran = threads.flatten().flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(ran.sum())
}

/// The CPU time of this process so far, threads that ended included.
pub(crate) fn own_cpu() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}

/// Memory of this process that nothing on disk could give back, in bytes.
pub(crate) fn private_bytes() -> u64 {
    of_rollup("Private_Dirty:")
}

fn of_rollup(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// How many processes wanted to run, on average over the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}
