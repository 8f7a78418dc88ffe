//! Where a guest runs: a short one on the thread that brought its request, which spares it two
//! changes of thread; one that computes on, on the guests' own threads. So a guest takes
//! about two milliseconds at most from a thread of the node.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

/// A guest that gives way is moved when it has held the thread for so long; one that had merely
/// waited for its node is not.
const TURN: Duration = Duration::from_millis(1);
/// After a guest had to be moved, so many invocations of its handler begin on the guests' threads.
const FAR_AFTER_MOVE: u32 = 8;

thread_local! {
    /// Whether the guest that was polled last on this thread stopped because its turn was over.
    static TURN_OVER: Cell<bool> = const { Cell::new(false) };
}

/// Gives way to others, and lets who polls know that this is all there is to wait for.
pub(super) async fn give_way() {
    TURN_OVER.set(true);
    tokio::task::yield_now().await;
}

/// Whether a handler's invocations begin near the node, from how its last ones went.
#[derive(Debug, Default)]
pub(super) struct Habit(AtomicU32);

impl Habit {
    /// Whether the next one begins on the thread that brought it.
    pub(super) fn is_short(&self) -> bool {
        let used = |far: u32| far.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, used).is_err()
    }

    fn moved(&self) {
        self.0.store(FAR_AFTER_MOVE, Ordering::Relaxed);
    }
}

/// A guest's work, wherever it is done; dropping it ends the work.
pub(super) enum Turn<'a, T> {
    Near { work: Pin<Box<dyn Future<Output = T> + Send>>, guests: Handle, habit: &'a Habit },
    Far(AbortOnDrop<T>),
}

/// Work that nobody waits for begins here as well, and goes on among the guests when it takes long.
pub(super) async fn behind(work: impl Future<Output = ()> + Send + 'static, guests: Handle) {
    let habit = Habit::default();
    // Where the guests' threads end, so does it.
    let _ = Turn::near(work, &guests, &habit).await;
}

/// A task that ends with who holds this.
pub(super) struct AbortOnDrop<T>(pub(super) JoinHandle<T>);

impl<'a, T: Send + 'static> Turn<'a, T> {
    /// Begins here, and goes on among the guests when it takes long.
    pub(super) fn near(
        work: impl Future<Output = T> + Send + 'static,
        guests: &Handle,
        habit: &'a Habit,
    ) -> Self {
        Self::Near { work: Box::pin(work), guests: guests.clone(), habit }
    }

    /// All of it among the guests.
    pub(super) fn far(work: impl Future<Output = T> + Send + 'static, guests: &Handle) -> Self {
        Self::Far(AbortOnDrop(guests.spawn(work)))
    }
}

impl<T: Send + 'static> Future for Turn<'_, T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Self::Near { work, .. } = &mut *self {
            TURN_OVER.set(false);
            let began = Instant::now();
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            if !TURN_OVER.take() || began.elapsed() < TURN {
                return Poll::Pending;
            }
            self.move_away();
        }
        match &mut *self {
            Self::Far(task) => Pin::new(&mut task.0).poll(context),
            Self::Near { .. } => Poll::Pending,
        }
    }
}

impl<T: Send + 'static> Turn<'_, T> {
    fn move_away(&mut self) {
        let Self::Near { work, guests, habit } = self else { return };
        habit.moved();
        // What is left in its place was finished before it began.
        let work = std::mem::replace(work, Box::pin(std::future::pending()));
        *self = Self::Far(AbortOnDrop(guests.spawn(work)));
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
