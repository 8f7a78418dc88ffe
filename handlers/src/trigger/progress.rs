//! How far the events are that are still under way at this node.
//!
//! Kept in memory: after a restart plans are made and runs are counted anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bus::event::Reader;

use super::plan::Plan;

/// Events that are remembered. While the parent is away, one reader is far ahead of the other; for
/// what is beyond this, each makes its own plan.
const EVENTS_MAX: usize = 64 * 1024;

/// By position in the log.
#[derive(Debug, Default)]
pub(super) struct Progress {
    events: BTreeMap<u64, Course>,
}

#[derive(Debug, Default)]
struct Course {
    /// What both readers of the log go by, whatever changes between their turns.
    plan: Option<Arc<Plan>>,
    /// Runs that failed, by handler.
    runs: BTreeMap<String, u32>,
    /// Handlers that are done.
    done: BTreeSet<String>,
    run: Stage,
    climb: Stage,
}

/// How far one reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// It is done; the server may not have heard it.
    Settled,
    /// The server has heard it.
    Gone,
}

impl Course {
    fn stage(&mut self, reader: Reader) -> &mut Stage {
        match reader {
            Reader::Run => &mut self.run,
            Reader::Climb => &mut self.climb,
        }
    }
}

impl Progress {
    /// The event's plan, made by who asks first.
    pub fn plan(&mut self, seq: u64, make: impl FnOnce() -> Plan) -> Arc<Plan> {
        self.note(seq).plan.get_or_insert_with(|| Arc::new(make())).clone()
    }

    /// How often a handler ran on an event, and failed.
    pub fn runs(&self, seq: u64, handler: &str) -> u32 {
        self.events.get(&seq).and_then(|event| event.runs.get(handler)).copied().unwrap_or(0)
    }

    /// Whether a handler is done with an event whose other handlers are not.
    pub fn is_done(&self, seq: u64, handler: &str) -> bool {
        self.events.get(&seq).is_some_and(|event| event.done.contains(handler))
    }

    /// Notes a run that failed.
    pub fn ran(&mut self, seq: u64, handler: &str) {
        let runs = self.note(seq).runs.entry(handler.to_owned()).or_default();
        *runs = runs.saturating_add(1);
    }

    /// Notes that a handler is done.
    pub fn done(&mut self, seq: u64, handler: &str) {
        self.note(seq).done.insert(handler.to_owned());
    }

    /// One reader is done with the event.
    pub fn settled(&mut self, seq: u64, reader: Reader) {
        let course = self.note(seq);
        *course.stage(reader) = Stage::Settled;
        if reader == Reader::Run {
            (course.runs, course.done) = Default::default();
        }
    }

    /// Whether a reader is done with the event, though it has come again.
    pub fn is_settled(&mut self, seq: u64, reader: Reader) -> bool {
        self.events.get_mut(&seq).is_some_and(|event| *event.stage(reader) != Stage::Open)
    }

    /// The server knows that one reader is done with the event; `last` when there is no other.
    /// Says whether both are; nothing when the event is not remembered.
    pub fn leave(&mut self, seq: u64, reader: Reader, last: bool) -> Option<bool> {
        let Some(course) = self.events.get_mut(&seq) else { return last.then_some(true) };
        *course.stage(reader) = Stage::Gone;
        let over = last || (course.run, course.climb) == (Stage::Gone, Stage::Gone);
        if over {
            self.events.remove(&seq);
        }
        Some(over)
    }

    /// At the limit the oldest event is forgotten.
    fn note(&mut self, seq: u64) -> &mut Course {
        if self.events.len() >= EVENTS_MAX && !self.events.contains_key(&seq) {
            self.events.pop_first();
        }
        self.events.entry(seq).or_default()
    }
}

#[cfg(test)]
mod tests;
