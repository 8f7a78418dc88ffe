//! What is made ahead: instances, here and in workers, and processes of handlers that want some
//! ready, so that the next invocation does not wait for one. Made one after the other, whenever one
//! was taken and every few seconds, in places that nobody needs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Caller, Level, Shared, Target, Time};
use crate::execute::InvokeError;
use crate::manifest::CodeKind;

/// How often what waits is looked over.
pub(super) const LOOK: Duration = Duration::from_secs(5);
pub(super) const LOOK_MIN: Duration = Duration::from_millis(10);
/// Longest wait before one that could not be made is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Time that one has to come up.
pub(super) const START: Duration = Duration::from_secs(30);

/// The handlers that want some.
#[derive(Default)]
pub(super) struct Ready {
    wanted: Mutex<Vec<Arc<Target>>>,
    look: Notify,
}

impl Ready {
    /// From now on it is these.
    pub(super) fn want(&self, targets: Vec<Arc<Target>>) {
        *self.wanted() = targets;
        self.look.notify_one();
    }

    fn wants(&self, target: &Target) -> bool {
        self.wanted().iter().any(|wanted| **wanted == *target)
    }

    fn wanted(&self) -> MutexGuard<'_, Vec<Arc<Target>>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them was taken: when this goes, whoever makes them looks what is missing.
pub(super) struct Taken(pub(super) Arc<Shared>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.ready.look.notify_one();
    }
}

impl Taken {
    /// Makes an instance in the place of the one that was taken, on the thread where that served:
    /// its memory is in the caches there. One that cannot be made is not; who looks then says why.
    pub(super) async fn replace(self, target: Arc<Target>) {
        let Shared { ready, wasm, .. } = &*self.0;
        let time = Time::of(Instant::now(), START);
        let (true, Ok(caller)) = (ready.wants(&target), self.0.nobody(&target, time)) else {
            return;
        };
        let _ = wasm.prepare(caller, time).await;
        // Those that nobody wants any more may have been ended before this one was there.
        if !ready.wants(&target) {
            wasm.end_waiting(&target);
        }
    }
}

/// A handler of which none could be made.
struct Refused {
    times: u32,
    until: Instant,
}

impl Shared {
    /// Makes what is missing; never ends. `look` is how often it looks by itself.
    pub(super) async fn keep_ready(self: Arc<Self>, look: Duration) {
        let mut refused: HashMap<(String, String, u64), Refused> = HashMap::new();
        let mut wanted: Vec<Arc<Target>> = vec![];
        let name = |t: &Arc<Target>| (t.app.clone(), t.handler.clone(), t.revision);
        loop {
            let before = std::mem::replace(&mut wanted, self.ready.wanted().clone());
            let is_wanted = |key: &_| wanted.iter().any(|target| name(target) == *key);
            for gone in before.iter().filter(|target| !is_wanted(&name(target))) {
                self.wasm.end_waiting(gone);
                self.workers.end_waiting(gone);
                self.processes.end_waiting(gone);
            }
            refused.retain(|key, _| is_wanted(key));
            for target in &wanted {
                let key = name(target);
                if refused.get(&key).is_some_and(|refused| Instant::now() < refused.until) {
                    continue;
                }
                match self.make_ready_for(target).await {
                    // Whether what was made now comes up is not known yet.
                    Ok(0) if self.processes.are_up(target) => drop(refused.remove(&key)),
                    Ok(_) => {}
                    Err(error) => {
                        let last = refused.get(&key).map_or(0, |refused| refused.times);
                        let pause = (look * 2u32.saturating_pow(last)).min(PAUSE_MAX);
                        let until = Instant::now() + pause;
                        refused.insert(key, Refused { times: last + 1, until });
                        self.say(target, &error, pause);
                    }
                }
            }
            let taken = self.ready.look.notified();
            match wanted.is_empty() {
                true => taken.await,
                false => drop(tokio::time::timeout(look, taken).await),
            }
        }
    }

    /// How many were made.
    async fn make_ready_for(&self, target: &Arc<Target>) -> Result<u32, InvokeError> {
        for made in 0..target.limits.ready {
            let time = Time::of(Instant::now(), START);
            let caller = self.nobody(target, time)?;
            let is_one_more = match target.kind {
                CodeKind::Component if target.limits.own_process => {
                    let Some(form) = self.wasm.form(&target.digest) else { return Ok(0) };
                    // All of them at once; those that were made have come up.
                    self.workers.prepare(&caller, time, form).await?;
                    false
                }
                CodeKind::Component => self.wasm.prepare(caller, time).await?,
                _ => self.processes.prepare(caller, time).await?,
            };
            if !is_one_more {
                return Ok(made);
            }
        }
        Ok(target.limits.ready)
    }

    /// Whom something is started for before there is an invocation.
    pub(super) fn nobody(&self, target: &Arc<Target>, time: Time) -> Result<Caller, InvokeError> {
        let settings = self.host.settings(target);
        let settings = settings.map_err(|error| InvokeError::Node(error.to_string()))?;
        Ok(Caller {
            target: Arc::clone(target),
            invocation: String::new(),
            attempt: 1,
            trace: Default::default(),
            deadline: time.deadline,
            settings,
            by: None,
            budget: Arc::default(),
        })
    }

    fn say(&self, target: &Arc<Target>, error: &InvokeError, pause: Duration) {
        let Ok(caller) = self.nobody(target, Time::of(Instant::now(), START)) else { return };
        let seconds = pause.as_secs_f32().ceil();
        let error = error.clone().without(&caller.settings);
        let text = format!("not made ready, tried again in {seconds} s: {error}");
        self.host.log(&caller, Level::Warn, &text);
    }
}
