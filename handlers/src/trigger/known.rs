//! The ids of events that came lately: a second event of one id is the same event, and is not
//! handled again. The log knows it by itself where the publisher sent `Nats-Msg-Id`; this is for
//! who sent a CloudEvents id alone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bus::event::DUPLICATE_WINDOW;

/// How many ids are remembered; beyond it the oldest are forgotten.
pub(super) const IDS_MAX: usize = 64 * 1024;

/// The ids, and where in the log the first event of each is.
#[derive(Debug, Default)]
pub(super) struct Known {
    first: HashMap<Arc<str>, u64>,
    ages: VecDeque<(Instant, Arc<str>)>,
}

impl super::Triggers {
    /// Whether an event is the first of its id here.
    pub(super) fn is_first(&self, event: &bus::Event, seq: u64) -> bool {
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.is_first(&event.message_id(), seq, Instant::now())
    }
}

impl Known {
    /// Whether the event at `seq` is the first of its id, also when it comes again.
    pub fn is_first(&mut self, id: &str, seq: u64, now: Instant) -> bool {
        while self.ages.front().is_some_and(|(at, _)| now.duration_since(*at) > DUPLICATE_WINDOW) {
            self.forget_oldest();
        }
        if let Some(first) = self.first.get(id) {
            return *first == seq;
        }
        if self.ages.len() >= IDS_MAX {
            self.forget_oldest();
        }
        let id: Arc<str> = id.into();
        self.first.insert(id.clone(), seq);
        self.ages.push_back((now, id));
        true
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.ages.pop_front() {
            self.first.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;
