//! The clock that interrupts guests: one thread that advances the engine's epoch every
//! millisecond, and sleeps for good while no guest runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// How long a guest computes before it has to give way.
const TICK: Duration = Duration::from_millis(1);

pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    running: AtomicUsize,
    stop: AtomicBool,
}

/// While it lives, time passes.
pub(super) struct Running {
    shared: Arc<Shared>,
}

impl Ticker {
    pub(super) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared =
            Arc::new(Shared { running: AtomicUsize::new(0), stop: AtomicBool::new(false) });
        let theirs = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("guest-clock".into()).spawn(move || theirs.run(&engine))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Call before a guest is entered.
    pub(super) fn enter(&self) -> Running {
        if self.shared.running.fetch_add(1, Ordering::SeqCst) == 0
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
        while !self.stop.load(Ordering::SeqCst) {
            if self.running.load(Ordering::SeqCst) == 0 {
                // A guest that enters between the load and here leaves a token: park returns.
                thread::park();
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
