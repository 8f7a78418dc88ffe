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
mod tests {
    use std::os::unix::process::CommandExt;
    use std::time::Instant;

    use super::*;
    use crate::execute::process::kill_group;

    #[test]
    fn fields_are_those_of_the_manual() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 1 2 3 4 100 20 3 4000 20 0 1 0 99 1 1";
        assert_eq!(ticks_of(stat), Some(4123));
        assert_eq!(ticks_of("7 (a) R 1"), Some(0));
        assert_eq!(ticks_of("7"), None);
    }

    fn compute(time: Duration) {
        let began = of_thread();
        while of_thread() - began < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn who_waits_computes_nothing_and_who_computes_is_stopped() {
        let slept = Metered::new(
            async {
                for _ in 0..20 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            },
            Duration::from_millis(50),
        );
        assert!(slept.await.is_ok());

        let mut turns = 0;
        let computed = Metered::new(
            async {
                loop {
                    turns += 1;
                    compute(Duration::from_millis(1));
                    tokio::task::yield_now().await;
                }
            },
            Duration::from_millis(20),
        );
        let stopped: Result<(), Spent> = computed.await;
        assert!(stopped.is_err());
        assert!((10..=21).contains(&turns), "{turns} milliseconds");
    }

    #[tokio::test]
    async fn what_a_process_forks_is_counted_with_it() {
        // The shell waits; who computes is its child.
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", "(while :; do :; done) & wait"]).process_group(0);
        let mut child = shell.spawn().unwrap();
        let began = Instant::now();
        let limit = Duration::from_millis(100);
        let found = tokio::time::timeout(Duration::from_secs(30), spent(child.id(), limit)).await;
        kill_group(child.id());
        child.wait().unwrap();
        assert!(found.is_ok(), "never spent");
        assert!(began.elapsed() >= limit / 2, "{:?}", began.elapsed());
    }
}
