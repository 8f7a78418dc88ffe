//! Those who wait until their entry is durable. Each is woken once, when it is, or when it cannot
//! be told. A group of hundreds is woken by one task of the runtime, because waking from a thread
//! outside of it takes a lock for each.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::error::{Error, Result};

use super::Durable;
// Tests put others there, to go through this file in every order of its steps.
use super::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, watch};

/// Waiters that the log's thread wakes by itself, which is quicker for the first of them.
const WAKES_AT_ONCE: usize = 8;

/// Who waits for the log.
pub struct Waiting {
    /// Every entry up to here is durable.
    seq: AtomicU64,
    has_failed: AtomicBool,
    list: Mutex<List>,
    /// Where most of those who wait run.
    runtime: Option<Handle>,
}

#[derive(Default)]
struct List {
    wakers: Vec<(u64, Waker)>,
    failed: Option<Arc<str>>,
    closed: bool,
}

/// Wakes all of them when it goes, wherever that is.
struct Wakers(Vec<(u64, Waker)>);

impl Waiting {
    /// Everything up to `seq` is durable. To be made where those who wait run.
    pub fn new(seq: u64) -> Self {
        let runtime = Handle::try_current().ok();
        // Only this one has threads that run tasks whatever its callers do.
        let runtime = runtime.filter(|r| r.runtime_flavor() == RuntimeFlavor::MultiThread);
        let (has_failed, list) = (AtomicBool::new(false), Mutex::default());
        Waiting { seq: AtomicU64::new(seq), has_failed, list, runtime }
    }

    /// Why the disk refuses the log for now, if it does.
    pub fn failed(&self) -> Option<Arc<str>> {
        match self.has_failed.load(Ordering::Acquire) {
            true => self.list().failed.clone(),
            false => None,
        }
    }

    /// Ready when the entry is durable, or when nobody can tell.
    pub fn poll(&self, seq: u64, context: &mut Context<'_>) -> Poll<Result<()>> {
        if self.seq.load(Ordering::Acquire) >= seq {
            return Poll::Ready(Ok(()));
        }
        let mut list = self.list();
        // It is raised before the list is looked at, so nobody is added behind its back.
        if self.seq.load(Ordering::Acquire) >= seq {
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = &list.failed {
            return Poll::Ready(Err(Error::Unknown(format!("log: {reason}"))));
        }
        if list.closed {
            return Poll::Ready(Err(Error::Stopped("log is closed".into())));
        }
        list.wakers.push((seq, context.waker().clone()));
        Poll::Pending
    }

    fn advance(&self, seq: u64) {
        self.seq.store(seq, Ordering::Release);
        let mut list = self.list();
        let all = std::mem::take(&mut list.wakers).into_iter();
        let (ready, waiting) = all.partition(|(wanted, _)| *wanted <= seq);
        list.wakers = waiting;
        drop(list);
        self.wake(ready);
    }

    fn fail(&self, reason: Option<Arc<str>>) {
        self.has_failed.store(reason.is_some(), Ordering::Release);
        let mut list = self.list();
        list.failed = reason;
        let wakers = std::mem::take(&mut list.wakers);
        drop(list);
        self.wake(wakers);
    }

    fn close(&self) {
        let mut list = self.list();
        list.closed = true;
        let wakers = std::mem::take(&mut list.wakers);
        drop(list);
        self.wake(wakers);
    }

    fn wake(&self, wakers: Vec<(u64, Waker)>) {
        let wakers = Wakers(wakers);
        match &self.runtime {
            Some(runtime) if wakers.0.len() > WAKES_AT_ONCE => {
                drop(runtime.spawn(async move { drop(wakers) }));
            }
            _ => drop(wakers),
        }
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wakers {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|(_, waker)| waker.wake());
    }
}

/// The thread's side: tells those who wait, and those who watch the position. When it goes, nothing
/// more becomes durable.
pub struct Announcer {
    pub waiting: Arc<Waiting>,
    pub durable: watch::Sender<Durable>,
}

impl Announcer {
    /// Everything up to `seq` is durable now.
    pub fn advance(&self, seq: u64) {
        self.durable.send_modify(|durable| durable.seq = seq);
        self.waiting.advance(seq);
    }

    /// The disk refuses for this reason, or does so no longer.
    pub fn fail(&self, reason: Option<Arc<str>>) {
        // Who waits and who watches may act at once. So trouble is watched before it is met, and
        // met no longer when it is seen to be over.
        let watched = || self.durable.send_modify(|durable| durable.failed.clone_from(&reason));
        if reason.is_some() {
            watched();
            self.waiting.fail(reason.clone());
        } else {
            self.waiting.fail(None);
            watched();
        }
    }

    /// The disk refuses.
    pub fn refuse(&self, error: &io::Error) {
        if !self.has_failed() {
            tracing::error!(%error, "log cannot be written, no writes are taken until it can");
            self.fail(Some(error.to_string().into()));
        }
    }

    /// The disk does not refuse, whether it did or not.
    pub fn take_again(&self) {
        if self.has_failed() {
            tracing::info!("log is written again");
            self.fail(None);
        }
    }

    fn has_failed(&self) -> bool {
        self.durable.borrow().failed.is_some()
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.waiting.close();
    }
}
