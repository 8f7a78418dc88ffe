//! How long guests compute: the clocks of threads and processes (clock_gettime(2), proc(5)), and
//! who is stopped by them. Asked only for handlers that have such a limit.

use std::collections::HashSet;
use std::fs;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Ticks of a second in `/proc/PID/stat`: the same on all of Linux (USER_HZ).
const TICKS: u32 = 100;
/// How often a process is looked at, at most.
const LOOK: Duration = Duration::from_millis(5);
/// Processes that are counted as one handler's; no more of them live.
const PROCESSES_MAX: usize = 64;

/// A guest's work on threads of this process, which ends when it has computed for too long. It
/// gives way every millisecond, so it is late by that much.
pub(super) struct Metered<F> {
    work: Pin<Box<F>>,
    left: Duration,
}

/// It has used up its time.
pub(super) struct Spent;

impl<F: Future> Metered<F> {
    pub(super) fn new(work: F, limit: Duration) -> Self {
        Self { work: Box::pin(work), left: limit }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = Result<F::Output, Spent>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let began = of_thread();
        if let Poll::Ready(done) = self.work.as_mut().poll(context) {
            return Poll::Ready(Ok(done));
        }
        self.left = self.left.saturating_sub(of_thread().saturating_sub(began));
        if self.left.is_zero() { Poll::Ready(Err(Spent)) } else { Poll::Pending }
    }
}

/// What this thread has computed.
#[allow(unsafe_code)]
fn of_thread() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a value of the right type that lives until the call returns.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Resolves when a process, with all that it forks, has computed for so much longer than now.
pub(super) async fn spent(process: u32, limit: Duration) {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let until = of_process(process) + limit;
    loop {
        let left = until.saturating_sub(of_process(process));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep((left / cores).max(LOOK)).await;
    }
}

/// What a process and those that it forked have computed, to a hundredth of a second. Who ends
/// meanwhile may be left out for a moment, and is never counted twice.
fn of_process(process: u32) -> Duration {
    let (mut ticks, mut open, mut seen) = (0, vec![process], HashSet::new());
    while let Some(process) = open.pop() {
        if !seen.insert(process) || seen.len() > PROCESSES_MAX {
            continue;
        }
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        ticks += ticks_of(&stat).unwrap_or(0);
        let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            open.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
    }
    Duration::from_secs(ticks) / TICKS
}

/// utime, stime, and those of children that have ended.
fn ticks_of(stat: &str) -> Option<u64> {
    // The name before may hold anything, parentheses too; the state, field 3, comes behind it.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields = rest.split_whitespace().skip(11).take(4);
    fields.map(|field| field.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests;
