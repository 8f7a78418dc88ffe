//! Threads that run one at a time and change places where they touch what they share.
//!
//! Steps take effect at once and in one order, as if all atomics were sequentially consistent: what
//! weaker orderings allow beyond that is not gone through.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, LockResult, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::Choices;

thread_local! {
    static PLACE: RefCell<Option<(Arc<Turns>, usize)>> = const { RefCell::new(None) };
    /// It is this thread's turn, and it has done nothing yet.
    static BEGINS: Cell<bool> = const { Cell::new(false) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Runs; all others wait.
    Work,
    /// Waits for its turn.
    Step,
    /// Waits until something is let go, or somebody wakes it.
    Wait(usize),
    End,
    Failed,
}

struct Turns {
    places: std::sync::Mutex<Vec<At>>,
    changed: Condvar,
}

impl Turns {
    fn places(&self) -> std::sync::MutexGuard<'_, Vec<At>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn go(&self, who: usize, at: At) {
        self.places()[who] = at;
        self.changed.notify_all();
    }

    fn go_and_wait(&self, who: usize, at: At) {
        let mut places = self.places();
        places[who] = at;
        self.changed.notify_all();
        while places[who] != At::Work {
            places = self.changed.wait(places).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Those who wait for it may try again when it is their turn.
    fn free(&self, what: usize) {
        let mut places = self.places();
        places.iter_mut().filter(|at| **at == At::Wait(what)).for_each(|at| *at = At::Step);
    }
}

fn here(act: impl FnOnce(&Turns, usize)) {
    let place = PLACE.with(|place| place.borrow().clone());
    if let Some((turns, who)) = place.filter(|_| !std::thread::panicking()) {
        act(&turns, who);
    }
}

/// Others may do something before what comes next.
pub fn step() {
    if !BEGINS.take() {
        here(|turns, who| turns.go_and_wait(who, At::Step));
    }
}

fn wait(what: usize) {
    here(|turns, who| turns.go_and_wait(who, At::Wait(what)));
}

fn free(what: usize) {
    here(|turns, _| turns.free(what));
}

/// Runs the parties on a thread each in the order that is chosen. Nobody may be left waiting.
pub fn run(choices: &mut Choices<'_>, parties: Vec<Box<dyn FnOnce() + Send>>) {
    let places = std::sync::Mutex::new(vec![At::Work; parties.len()]);
    let turns = Arc::new(Turns { places, changed: Condvar::new() });
    let mut threads = Vec::new();
    for (who, party) in parties.into_iter().enumerate() {
        let turns = turns.clone();
        threads.push(std::thread::spawn(move || {
            PLACE.with(|place| *place.borrow_mut() = Some((turns.clone(), who)));
            let _ends = Ends(&turns, who);
            step();
            BEGINS.set(true);
            party();
        }));
    }
    loop {
        let mut places = turns.places();
        while places.contains(&At::Work) {
            places = turns.changed.wait(places).unwrap_or_else(PoisonError::into_inner);
        }
        let all = 0..places.len();
        let ready: Vec<usize> = all.filter(|who| places[*who] == At::Step).collect();
        if ready.is_empty() || places.contains(&At::Failed) {
            break;
        }
        let next = ready[choices.one(ready.len())];
        places[next] = At::Work;
        drop(places);
        turns.changed.notify_all();
    }
    // Whoever waits cannot be ended from outside, and stays until the process ends.
    let places = turns.places().clone();
    let is_well = places.iter().all(|at| *at == At::End);
    assert!(is_well, "{places:?} at the end of the order {:?}", choices.made);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

struct Ends<'a>(&'a Turns, usize);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.go(self.1, if std::thread::panicking() { At::Failed } else { At::End });
    }
}

/// Calls `poll` until it is ready, waiting for its waker in between.
pub fn until_ready<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    loop {
        if let Poll::Ready(value) = poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        while !bell.0.swap(false, Ordering::SeqCst) {
            wait(Arc::as_ptr(&bell) as usize);
        }
    }
}

#[derive(Default)]
struct Bell(std::sync::atomic::AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
        free(Arc::as_ptr(&self) as usize);
    }
}

/// As in the standard library, with a step before each use.
pub struct AtomicU64(std::sync::atomic::AtomicU64);

impl AtomicU64 {
    pub fn new(value: u64) -> Self {
        AtomicU64(value.into())
    }

    pub fn load(&self, ordering: Ordering) -> u64 {
        step();
        self.0.load(ordering)
    }

    pub fn store(&self, value: u64, ordering: Ordering) {
        step();
        self.0.store(value, ordering);
    }
}

/// As in the standard library, with a step before each use.
pub struct AtomicBool(std::sync::atomic::AtomicBool);

impl AtomicBool {
    pub fn new(value: bool) -> Self {
        AtomicBool(value.into())
    }

    pub fn load(&self, ordering: Ordering) -> bool {
        step();
        self.0.load(ordering)
    }

    pub fn store(&self, value: bool, ordering: Ordering) {
        step();
        self.0.store(value, ordering);
    }
}

/// As in the standard library, with a step before each use.
#[derive(Default)]
pub struct Mutex<T>(std::sync::Mutex<T>);

pub struct MutexGuard<'a, T> {
    guard: Option<std::sync::MutexGuard<'a, T>>,
    what: usize,
}

impl<T> Mutex<T> {
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let what = std::ptr::from_ref(self) as usize;
        step();
        loop {
            match self.0.try_lock() {
                Ok(guard) => return Ok(MutexGuard { guard: Some(guard), what }),
                Err(_) if std::thread::panicking() => panic!("locked for good"),
                Err(_) => wait(what),
            }
        }
    }
}

impl<T> std::ops::Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("it is there until it is dropped")
    }
}

impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("it is there until it is dropped")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.guard.take());
        free(self.what);
    }
}

/// As in tokio, with a step before each use.
pub mod watch {
    use super::step;

    pub struct Sender<T>(pub tokio::sync::watch::Sender<T>);

    impl<T> Sender<T> {
        pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
            step();
            self.0.send_modify(modify);
        }
    }
}
