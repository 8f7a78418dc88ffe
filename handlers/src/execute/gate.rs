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

/// All gates, by app, handler and revision.
#[derive(Default)]
pub(super) struct Gates {
    gates: Mutex<HashMap<Key, Arc<Gate>>>,
    apps: Mutex<HashMap<(String, u64), Arc<Semaphore>>>,
    queue_len_max: usize,
}

/// Handlers are the same when their app, name and revision are.
struct Key(Arc<Target>);

/// The way into one handler.
pub(super) struct Gate {
    /// Where its guests begin.
    pub(super) habit: Habit,
    running: Arc<Semaphore>,
    /// Places of all handlers of its app, where the app has a limit.
    of_app: Option<Arc<Semaphore>>,
    waiting: AtomicUsize,
    queue_len_max: usize,
    retry_after_ms: u64,
}

/// The right to run one invocation.
pub(super) struct Pass {
    _permit: OwnedSemaphorePermit,
    _of_app: Option<OwnedSemaphorePermit>,
    _gate: Arc<Gate>,
}

impl Gates {
    /// `queue_len_max` invocations of a handler may wait beside those that run.
    pub(super) fn new(queue_len_max: usize) -> Self {
        Self { queue_len_max, ..Self::default() }
    }

    /// The gate of a handler: the same one while somebody holds it.
    pub(super) fn gate(&self, target: &Arc<Target>) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if gates.len() >= GATES_MAX {
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        }
        let gate = gates.entry(Key(Arc::clone(target))).or_insert_with(|| {
            Arc::new(Gate {
                habit: Habit::default(),
                running: Arc::new(Semaphore::new(target.limits.concurrency.max(1) as usize)),
                of_app: self.of_app(target),
                waiting: AtomicUsize::new(0),
                queue_len_max: self.queue_len_max,
                retry_after_ms: u64::from(target.limits.timeout_ms) / 2 + 1,
            })
        });
        Arc::clone(gate)
    }

    /// The places that the handlers of an app share.
    fn of_app(&self, target: &Target) -> Option<Arc<Semaphore>> {
        let places = target.app_concurrency?.max(1) as usize;
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        if apps.len() >= GATES_MAX {
            apps.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let key = (target.app.clone(), target.revision);
        Some(Arc::clone(apps.entry(key).or_insert_with(|| Arc::new(Semaphore::new(places)))))
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
            true => Arc::clone(&self.running).try_acquire_owned().map_err(|_| cycle(invocation))?,
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

    async fn permit(
        &self,
        places: &Arc<Semaphore>,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, InvokeError> {
        if let Ok(permit) = Arc::clone(places).try_acquire_owned() {
            return Ok(permit);
        }
        let _place = Place::take(self)?;
        let acquire = Arc::clone(places).acquire_owned();
        match tokio::time::timeout_at(deadline.into(), acquire).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(InvokeError::Stopped),
            Err(_) => Err(InvokeError::Overloaded { retry_after_ms: self.retry_after_ms }),
        }
    }
}

impl Target {
    fn is_same(&self, other: &Self) -> bool {
        self.handler == other.handler && self.is_of_app(other)
    }

    fn is_of_app(&self, other: &Self) -> bool {
        self.app == other.app && self.revision == other.revision
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
        (&self.0.app, &self.0.handler, self.0.revision).hash(state);
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
