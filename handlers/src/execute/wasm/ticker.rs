//! The clock that interrupts guests: one thread that advances the engine's epoch every
//! millisecond, and sleeps for good when no guest has run for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// How long a guest computes before it has to give way.
const TICK: Duration = Duration::from_millis(1);
/// Ticks that go on after the last guest: to wake the clock costs more than a short guest does.
const TICKS_AFTER: u32 = 64;

pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// While it lives, time passes.
pub(super) struct Running {
    shared: Arc<Shared>,
}

impl Ticker {
    pub(super) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("guest-clock".into()).spawn(move || theirs.run(&engine))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Call before a guest is entered.
    pub(super) fn enter(&self) -> Running {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst)
            && let Some(thread) = self.thread()
        {
            thread.unpark();
        }
        Running { shared: Arc::clone(&self.shared) }
    }

    fn thread(&self) -> Option<&Thread> {
        self.thread.as_ref().map(JoinHandle::thread)
    }
}

impl Shared {
    fn run(&self, engine: &Engine) {
        let mut idle = 0;
        while !self.stop.load(Ordering::SeqCst) {
            idle = if self.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
            if idle > TICKS_AFTER {
                self.asleep.store(true, Ordering::SeqCst);
                // A guest that enters from here on finds the clock asleep and leaves a token.
                if self.running.load(Ordering::SeqCst) == 0 {
                    thread::park();
                }
                self.asleep.store(false, Ordering::SeqCst);
                idle = 0;
                continue;
            }
            thread::sleep(TICK);
            engine.increment_epoch();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
