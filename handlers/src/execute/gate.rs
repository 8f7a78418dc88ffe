//! How many invocations of one handler, and of one app, run at once, and how many may wait. At the
//! limit the next one is refused with a time to come back, never queued without bound.
//!
//! Who is called by a handler of its own app runs in the place of who waits for it. Who is called
//! by itself, perhaps by way of others, waits for no place: it might never come.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::turn::Habit;
use super::{Invocation, InvokeError, Target};

/// Gates that are kept although nobody uses them; beyond it the idle ones are forgotten.
const GATES_MAX: usize = 4096;

/// All gates, by app and handler. A new revision comes in by the same places as the one before it,
/// so that there are no more of them while both run.
#[derive(Default)]
pub(super) struct Gates {
    gates: Mutex<HashMap<Key, Arc<Gate>>>,
    apps: Mutex<HashMap<String, Arc<Places>>>,
    queue_len_max: usize,
}

/// Handlers are the same when their app and name are.
struct Key(Arc<Target>);

/// The way into one handler.
pub(super) struct Gate {
    /// Where its guests begin.
    pub(super) habit: Habit,
    /// Whose limits they are.
    revision: u64,
    running: Arc<Places>,
    /// Places of all handlers of its app, where the app has a limit.
    of_app: Option<Arc<Places>>,
    waiting: Arc<AtomicUsize>,
    queue_len_max: usize,
    retry_after_ms: u64,
}

/// The right to run one invocation.
pub(super) struct Pass {
    _permit: Permit,
    _of_app: Option<Permit>,
    _gate: Arc<Gate>,
}

impl Gates {
    /// `queue_len_max` invocations of a handler may wait beside those that run.
    pub(super) fn new(queue_len_max: usize) -> Self {
        Self { queue_len_max, ..Self::default() }
    }

    /// The gate of a handler: the same one while somebody holds it, and no newer revision comes.
    pub(super) fn gate(&self, target: &Arc<Target>) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(&Key(Arc::clone(target)))
            && gate.revision >= target.revision
        {
            return Arc::clone(gate);
        }
        if gates.len() >= GATES_MAX {
            gates.retain(|_, gate| gate.is_used());
        }
        let before = gates.remove(&Key(Arc::clone(target)));
        let places = target.limits.concurrency.max(1) as usize;
        let gate = Arc::new(Gate {
            habit: Habit::default(),
            revision: target.revision,
            running: match &before {
                Some(before) => before.running.resized(places),
                None => Places::new(places),
            },
            of_app: self.of_app(target),
            waiting: before.map(|before| Arc::clone(&before.waiting)).unwrap_or_default(),
            queue_len_max: self.queue_len_max,
            retry_after_ms: u64::from(target.limits.timeout_ms) / 2 + 1,
        });
        gates.insert(Key(Arc::clone(target)), Arc::clone(&gate));
        gate
    }

    /// The places that the handlers of an app share.
    fn of_app(&self, target: &Target) -> Option<Arc<Places>> {
        let places = target.app_concurrency?.max(1) as usize;
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        if apps.len() >= GATES_MAX {
            apps.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let of_app = apps.entry(target.app.clone()).or_insert_with(|| Places::new(places));
        Some(of_app.resized(places))
    }
}

impl Gate {
    /// Waits until its deadline for the right to run one invocation.
    pub(super) async fn enter(
        self: &Arc<Self>,
        invocation: &Invocation,
    ) -> Result<Pass, InvokeError> {
        let (target, deadline) = (&*invocation.target, invocation.deadline);
        let calls_itself = invocation.waiting().any(|caller| caller.target.is_same(target));
        let permit = match calls_itself {
            true => self.running.try_take().ok_or_else(|| cycle(invocation))?,
            false => self.permit(&self.running, deadline).await?,
        };
        let of_app = match &self.of_app {
            Some(places) if !invocation.waiting().any(|caller| caller.target.is_of_app(target)) => {
                Some(self.permit(places, deadline).await?)
            }
            _ => None,
        };
        Ok(Pass { _permit: permit, _of_app: of_app, _gate: Arc::clone(self) })
    }

    /// Whether somebody holds it, or a place that it gave.
    fn is_used(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || Arc::strong_count(&self.running) > 1
    }

    async fn permit(&self, places: &Arc<Places>, deadline: Instant) -> Result<Permit, InvokeError> {
        if let Some(permit) = places.try_take() {
            return Ok(permit);
        }
        let _place = Place::take(self)?;
        match tokio::time::timeout_at(deadline.into(), places.take()).await {
            Ok(Some(permit)) => Ok(permit),
            Ok(None) => Err(InvokeError::Stopped),
            Err(_) => Err(InvokeError::Overloaded { retry_after_ms: self.retry_after_ms }),
        }
    }
}

/// Places whose number may change while some are taken.
struct Places {
    free: Arc<Semaphore>,
    size: Mutex<usize>,
    /// How many of those that are taken are to be given back no more.
    surplus: AtomicUsize,
}

/// A place that is taken.
struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Places>,
}

impl Places {
    fn new(size: usize) -> Arc<Self> {
        let (free, surplus) = (Arc::new(Semaphore::new(size)), AtomicUsize::new(0));
        Arc::new(Self { free, size: Mutex::new(size), surplus })
    }

    /// The same places, of which there are `size` from now on.
    fn resized(self: &Arc<Self>, size: usize) -> Arc<Self> {
        let mut now = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fewer) = now.checked_sub(size) {
            let gone = self.free.forget_permits(fewer);
            self.surplus.fetch_add(fewer - gone, Ordering::AcqRel);
        } else {
            let more = size - *now;
            let stay = (0..more).filter(|_| self.keeps_one()).count();
            self.free.add_permits(more - stay);
        }
        *now = size;
        Arc::clone(self)
    }

    /// Takes one out of those that were to be given back no more; tells whether there was one.
    fn keeps_one(&self) -> bool {
        let one_less = |surplus: usize| surplus.checked_sub(1);
        self.surplus.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).is_ok()
    }

    fn try_take(self: &Arc<Self>) -> Option<Permit> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Permit { permit: Some(permit), places: Arc::clone(self) })
    }

    async fn take(self: &Arc<Self>) -> Option<Permit> {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        Some(Permit { permit: Some(permit), places: Arc::clone(self) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.places.keeps_one()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
        }
    }
}

impl Target {
    fn is_same(&self, other: &Self) -> bool {
        self.handler == other.handler && self.is_of_app(other)
    }

    fn is_of_app(&self, other: &Self) -> bool {
        self.app == other.app
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.0.app, &self.0.handler).hash(state);
    }
}

/// Who called whom, from the handler to itself.
fn cycle(invocation: &Invocation) -> InvokeError {
    let target = &*invocation.target;
    let mut way = vec![target];
    for caller in invocation.waiting() {
        way.push(&caller.target);
        if caller.target.is_same(target) {
            break;
        }
    }
    let names = way.iter().rev().map(|target| format!("{}/{}", target.app, target.handler));
    let way = names.collect::<Vec<_>>().join(" -> ");
    InvokeError::Cycle { way, places: target.limits.concurrency }
}

/// A place in the queue, given back when dropped (also when the waiting future is).
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(gate: &'a Gate) -> Result<Self, InvokeError> {
        let place = Self(&gate.waiting);
        if gate.waiting.fetch_add(1, Ordering::Relaxed) >= gate.queue_len_max {
            return Err(InvokeError::Overloaded { retry_after_ms: gate.retry_after_ms });
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
