//! How far the events are that are still under way at this node, and which were lately.
//!
//! A node that stood still finds copies of what it has: the log offered again what nobody had
//! acknowledged in time. A copy of what is in hand is passed over, one of what is over is not run.
//!
//! Kept in memory: after a restart plans are made and runs are counted anew.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use bus::event::{ACK_PENDING_MAX, Position, Reader};

use super::Triggers;
use super::plan::Plan;

/// Events that are remembered. While the parent is away, one reader is far ahead of the other; for
/// what is beyond this, each makes its own plan.
const EVENTS_MAX: usize = 64 * 1024;
/// Events that are remembered when they are over: twice as many as can be on their way.
const OVER_MAX: usize = 2 * ACK_PENDING_MAX as usize;

#[derive(Debug, Default)]
pub(super) struct Progress {
    events: BTreeMap<Position, Course>,
    /// With one who works on them here.
    in_hand: HashSet<Position>,
    over: Over,
}

/// What both readers were done with last.
#[derive(Debug, Default)]
struct Over {
    positions: HashSet<Position>,
    oldest_first: VecDeque<Position>,
}

impl Over {
    fn note(&mut self, at: Position) {
        if self.positions.insert(at) {
            self.oldest_first.push_back(at);
        }
        if self.oldest_first.len() > OVER_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.positions.remove(&oldest);
        }
    }
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
    /// Takes an event in hand; false when it is already, and this is a copy.
    fn take(&mut self, at: Position) -> bool {
        self.in_hand.insert(at)
    }

    /// It is in hand no more.
    fn release(&mut self, at: Position) {
        self.in_hand.remove(&at);
    }

    /// Whether nobody works on any event.
    pub fn is_idle(&self) -> bool {
        self.in_hand.is_empty()
    }

    /// The event's plan, made by who asks first.
    pub fn plan(&mut self, at: Position, make: impl FnOnce() -> Plan) -> Arc<Plan> {
        self.note(at).plan.get_or_insert_with(|| Arc::new(make())).clone()
    }

    /// How often a handler ran on an event, and failed.
    pub fn runs(&self, at: Position, handler: &str) -> u32 {
        self.events.get(&at).and_then(|event| event.runs.get(handler)).copied().unwrap_or(0)
    }

    /// Whether a handler is done with an event whose other handlers are not.
    pub fn is_done(&self, at: Position, handler: &str) -> bool {
        self.events.get(&at).is_some_and(|event| event.done.contains(handler))
    }

    /// Notes a run that failed.
    pub fn ran(&mut self, at: Position, handler: &str) {
        let runs = self.note(at).runs.entry(handler.to_owned()).or_default();
        *runs = runs.saturating_add(1);
    }

    /// Notes that a handler is done.
    pub fn done(&mut self, at: Position, handler: &str) {
        self.note(at).done.insert(handler.to_owned());
    }

    /// One reader is done with the event.
    pub fn settled(&mut self, at: Position, reader: Reader) {
        if self.over.positions.contains(&at) {
            return;
        }
        let course = self.note(at);
        *course.stage(reader) = Stage::Settled;
        if reader == Reader::Run {
            (course.runs, course.done) = Default::default();
        }
    }

    /// Whether a reader is done with the event, though it has come again.
    pub fn is_settled(&mut self, at: Position, reader: Reader) -> bool {
        self.over.positions.contains(&at)
            || self.events.get_mut(&at).is_some_and(|event| *event.stage(reader) != Stage::Open)
    }

    /// The server knows that one reader is done with the event; `last` when there is no other.
    /// Says whether with this both are; nothing when the event is not remembered.
    pub fn leave(&mut self, at: Position, reader: Reader, last: bool) -> Option<bool> {
        if self.over.positions.contains(&at) {
            return Some(false);
        }
        let Some(course) = self.events.get_mut(&at) else { return last.then_some(true) };
        *course.stage(reader) = Stage::Gone;
        let over = last || (course.run, course.climb) == (Stage::Gone, Stage::Gone);
        if over {
            self.events.remove(&at);
            self.over.note(at);
        }
        Some(over)
    }

    /// At the limit the oldest event is forgotten.
    fn note(&mut self, at: Position) -> &mut Course {
        if self.events.len() >= EVENTS_MAX && !self.events.contains_key(&at) {
            self.events.pop_first();
        }
        self.events.entry(at).or_default()
    }
}

/// An event that is being worked on; until this is dropped, copies of it are passed over.
pub(super) struct InHand {
    triggers: Arc<Triggers>,
    at: Position,
}

impl InHand {
    /// Nothing when it is in hand already.
    pub fn take(triggers: &Arc<Triggers>, at: Position) -> Option<Self> {
        triggers.progress().take(at).then(|| Self { triggers: triggers.clone(), at })
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.triggers.progress().release(self.at);
        self.triggers.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
