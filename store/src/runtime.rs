//! What the store needs of the machine it runs on, beside its disk and its objects: tasks, jobs, a
//! thread for the log, time and chance. But for questions in SQL and the tree of sites, nothing
//! else in this crate asks the system for them.
//!
//! They are the system's here. A test may have all of it done by one thread that draws from a seed
//! what goes on next (`runtime/seeded.rs`): then the same seed gives the same run again.

use std::io;
use std::pin::Pin;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use tokio::task::JoinHandle;

pub use tokio::time::Instant;

/// It was not there in time.
#[derive(Debug, PartialEq, Eq)]
pub struct Late;

/// A task or a job that was begun. It goes on if nobody waits for it.
pub enum Running<T> {
    /// One of the system's.
    System(JoinHandle<T>),
    /// One that a seed gives its turns.
    #[cfg(test)]
    Seeded(seeded::Running<T>),
}

/// A thread that takes what it is told from an [`Inbox`].
pub enum Thread {
    /// One of the system's.
    System(std::thread::JoinHandle<()>),
    /// One that a seed gives its turns.
    #[cfg(test)]
    Seeded(seeded::Thread),
}

/// Tells a thread things, in order.
pub struct Outbox<T> {
    tx: mpsc::Sender<T>,
    #[cfg(test)]
    bell: std::sync::Arc<futures::task::AtomicWaker>,
}

/// What a thread is told. To wait here blocks the thread; the functions are asynchronous for those
/// who have no thread.
pub struct Inbox<T> {
    rx: mpsc::Receiver<T>,
    #[cfg(test)]
    bell: std::sync::Arc<futures::task::AtomicWaker>,
}

/// Begins a task.
pub fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Running<T> {
    #[cfg(test)]
    if seeded::is_here() {
        return Running::Seeded(seeded::spawn(task));
    }
    Running::System(tokio::spawn(task))
}

/// Begins a job that computes for long, or waits for the disk, where nobody else waits for it.
pub fn aside<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Running<T> {
    #[cfg(test)]
    if seeded::is_here() {
        return Running::Seeded(seeded::spawn(async move { job() }));
    }
    Running::System(tokio::task::spawn_blocking(job))
}

/// Begins a thread, which may wait in its inbox and nowhere else.
pub fn thread<T, F>(
    name: &str,
    run: impl FnOnce(Inbox<T>) -> F + Send + 'static,
) -> io::Result<(Outbox<T>, Thread)>
where
    T: Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let (outbox, inbox) = mailbox();
    #[cfg(test)]
    if seeded::is_here() {
        return Ok((outbox, Thread::Seeded(seeded::thread(run(inbox)))));
    }
    let whole =
        move || run(inbox).now_or_never().expect("its inbox blocks, and is all it waits for");
    let thread = std::thread::Builder::new().name(name.into()).spawn(whole)?;
    Ok((outbox, Thread::System(thread)))
}

/// Others may do something before what comes next. Only under a seed: elsewhere they may always.
pub async fn step() {
    #[cfg(test)]
    seeded::step().await;
}

/// The moment it is.
pub fn now() -> Instant {
    #[cfg(test)]
    if let Some(now) = seeded::now() {
        return now;
    }
    Instant::now()
}

/// Milliseconds since 1970 UTC.
pub fn wall_ms() -> u64 {
    #[cfg(test)]
    if let Some(ms) = seeded::wall_ms() {
        return ms;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// Waits so long.
pub async fn sleep(duration: Duration) {
    #[cfg(test)]
    if seeded::is_here() {
        return seeded::sleep(duration).await;
    }
    tokio::time::sleep(duration).await;
}

/// Waits for something, but no longer than this.
pub async fn timeout<F: Future>(patience: Duration, wanted: F) -> Result<F::Output, Late> {
    #[cfg(test)]
    if seeded::is_here() {
        return seeded::timeout(patience, wanted).await;
    }
    tokio::time::timeout(patience, wanted).await.map_err(|_| Late)
}

/// Waits for something, but no longer than until then.
pub async fn timeout_at<F: Future>(deadline: Instant, wanted: F) -> Result<F::Output, Late> {
    #[cfg(test)]
    if let Some(now) = seeded::now() {
        return seeded::timeout(deadline.saturating_duration_since(now), wanted).await;
    }
    tokio::time::timeout_at(deadline, wanted).await.map_err(|_| Late)
}

/// 64 random bits from the seed that the standard library draws for its hash maps.
pub fn entropy() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    #[cfg(test)]
    if let Some(bits) = seeded::entropy() {
        return bits;
    }
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

impl<T> Running<T> {
    /// Ends a task where it waits.
    pub fn abort(&self) {
        match self {
            Running::System(task) => task.abort(),
            #[cfg(test)]
            Running::Seeded(task) => task.abort(),
        }
    }
}

/// What it comes to; an error if it was ended before, or has panicked.
impl<T> Future for Running<T> {
    type Output = io::Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        match self.get_mut() {
            Running::System(task) => task.poll_unpin(context).map_err(io::Error::other),
            #[cfg(test)]
            Running::Seeded(task) => task.poll_unpin(context),
        }
    }
}

impl Thread {
    /// Waits until it has ended, which somebody has told it to. An error is its panic.
    pub fn join(self) -> std::thread::Result<()> {
        match self {
            Thread::System(thread) => thread.join(),
            #[cfg(test)]
            Thread::Seeded(thread) => {
                thread.join();
                Ok(())
            }
        }
    }
}

fn mailbox<T>() -> (Outbox<T>, Inbox<T>) {
    let (tx, rx) = mpsc::channel();
    #[cfg(test)]
    let bell = std::sync::Arc::<futures::task::AtomicWaker>::default();
    let outbox = Outbox {
        tx,
        #[cfg(test)]
        bell: bell.clone(),
    };
    let inbox = Inbox {
        rx,
        #[cfg(test)]
        bell,
    };
    (outbox, inbox)
}

impl<T> Outbox<T> {
    /// Tells the thread, unless it has ended.
    pub fn tell(&self, what: T) {
        let _ = self.tx.send(what);
        #[cfg(test)]
        self.bell.wake();
    }
}

impl<T> Inbox<T> {
    /// What comes next; none if nobody is there to tell more.
    pub async fn next(&self) -> Option<T> {
        #[cfg(test)]
        if seeded::is_here() {
            return seeded::received(&self.rx, &self.bell).await.ok();
        }
        self.rx.recv().ok()
    }

    /// What comes next, if it comes within this time.
    pub async fn next_within(&self, patience: Duration) -> Result<T, RecvTimeoutError> {
        #[cfg(test)]
        if seeded::is_here() {
            let received = seeded::received(&self.rx, &self.bell);
            let received = seeded::timeout(patience, received).await;
            return received.map_err(|Late| RecvTimeoutError::Timeout)?.map_err(Into::into);
        }
        self.rx.recv_timeout(patience)
    }

    /// What has come already.
    pub fn next_here(&self) -> Option<T> {
        self.rx.try_recv().ok()
    }
}

#[cfg(test)]
pub mod seeded;
