//! Devices that do not come back. Most drivers have no limit for a kernel, and a thread that waits
//! in one cannot be ended. So another looks whether each device answers in time: one that does not
//! is given up, with all that it had in hand and all that waits for it, which goes elsewhere. It
//! gets nothing more until its thread is free again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::jobs::history_key;
use super::{Answer, Failure, Shared, State, Unit, Work};
use crate::history::Remembered;

/// How long a device may take for what it was given, unless said otherwise.
pub(super) const HUNG_AFTER: Duration = Duration::from_secs(60);
/// Where jobs are known to take long, so many times what they are predicted to.
const PREDICTED_TIMES: u32 = 16;
/// So many times as long for compiling the first kernels.
const WARM_TIMES: u32 = 4;
/// How often it is looked, in parts of the limit.
const LOOKS: u32 = 8;

/// Who waits for a job. Whoever ends the job first, its device or the watch, takes it out.
#[derive(Clone)]
pub(super) struct Reply(Arc<Mutex<Option<oneshot::Sender<Answer>>>>);

impl Reply {
    pub fn new(sender: oneshot::Sender<Answer>) -> Self {
        Self(Arc::new(Mutex::new(Some(sender))))
    }

    pub fn take(&self) -> Option<oneshot::Sender<Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the job has been ended.
    pub fn is_given(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Whether nobody waits for it any more.
    pub fn is_over(&self) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

/// What a device's thread is at.
pub(super) struct InHand {
    since: Instant,
    limit: Duration,
    jobs: Vec<Job>,
}

/// A job as far as it takes to end it.
struct Job {
    reply: Reply,
    history: Option<String>,
}

impl Job {
    fn of(work: &Work) -> Self {
        let history = history_key(&work.job, &work.plan).map(str::to_string);
        Self { reply: work.reply.clone(), history }
    }
}

impl Unit {
    /// Its thread is free again. Gives back what is to be freed: what histories had here.
    #[must_use]
    pub(super) fn came_back(&mut self) -> Vec<Remembered> {
        self.in_hand = None;
        self.is_hung = false;
        std::mem::take(&mut self.left)
    }

    fn is_late(&self, now: Instant) -> bool {
        let late = |in_hand: &InHand| now.saturating_duration_since(in_hand.since) > in_hand.limit;
        !self.is_hung && self.in_hand.as_ref().is_some_and(late)
    }
}

impl Shared {
    /// What a device is at that compiles its first kernels.
    pub(super) fn to_warm(&self) -> InHand {
        let limit = self.limits.hung_after.saturating_mul(WARM_TIMES);
        InHand { since: Instant::now(), limit, jobs: Vec::new() }
    }

    /// What a device is at that does these.
    pub(super) fn to_do(&self, works: &[Work], since: Instant) -> InHand {
        let predicted = Duration::from_micros(works.iter().map(|work| work.cost_us).sum());
        let limit = self.limits.hung_after.max(predicted.saturating_mul(PREDICTED_TIMES));
        InHand { since, limit, jobs: works.iter().map(Job::of).collect() }
    }

    /// The life of the thread that watches.
    pub(super) fn watch(&self) {
        let every = self.limits.hung_after / LOOKS;
        let mut state = self.state();
        while !state.unwatched {
            let woken = match state.awake {
                true => self
                    .wake_watch
                    .wait_timeout(state, every)
                    .map_or_else(|error| error.into_inner().0, |(state, _)| state),
                false => self.wake_watch.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state = woken;
            let now = Instant::now();
            for index in 0..state.units.len() {
                if state.units[index].is_late(now) {
                    self.give_up(&mut state, index, now);
                }
            }
        }
    }

    /// Ends all that a device was to do.
    fn give_up(&self, state: &mut State, index: usize, now: Instant) {
        let in_hand = state.units[index].in_hand.take();
        let seconds = in_hand.as_ref().map_or(0.0, |at| (now - at.since).as_secs_f64());
        let error = hw::Error::Lost {
            device: self.devices[index].info().id.clone(),
            detail: format!("it has not answered for {seconds:.1} s"),
        };
        tracing::warn!(%error, "its jobs go elsewhere");
        self.failed(state, index, &error, now);
        let State { units, histories, .. } = state;
        let unit = &mut units[index];
        unit.is_hung = true;
        unit.running = None;
        unit.queued_us = 0;
        unit.left.extend(histories.lose(index));
        let in_hand = in_hand.into_iter().flat_map(|in_hand| in_hand.jobs);
        let jobs: Vec<Job> = in_hand.chain(unit.queue.drain().iter().map(Job::of)).collect();
        for Job { reply, history } in jobs {
            if let Some(key) = history {
                histories.done(&key);
            }
            // Whoever asked may have gone.
            let _ = reply.take().map(|reply| {
                reply.send(Err(Failure::Device { device: index, error: error.clone() }))
            });
        }
    }

    /// Whether a device was given up and has not come back.
    pub(super) fn is_hung(&self, index: usize) -> bool {
        self.state().units[index].is_hung
    }
}
