//! How far the handlers of each event are that is still under way at this node.
//!
//! Kept in memory: after a restart the runs of an event are counted anew.

use std::collections::BTreeMap;

use bus::event::ACK_PENDING_MAX;

/// Events that are remembered: as many as the server hands out before it waits for answers.
const EVENTS_MAX: usize = ACK_PENDING_MAX as usize;

/// Per position in the log and handler.
#[derive(Debug, Default)]
pub(super) struct Progress {
    events: BTreeMap<u64, BTreeMap<String, Course>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Course {
    /// Runs that failed.
    runs: u32,
    done: bool,
}

impl Progress {
    /// How often a handler ran on an event, and failed.
    pub fn runs(&self, seq: u64, handler: &str) -> u32 {
        self.course(seq, handler).runs
    }

    /// Whether a handler is done with an event whose other handlers are not.
    pub fn is_done(&self, seq: u64, handler: &str) -> bool {
        self.course(seq, handler).done
    }

    /// Notes a run that failed.
    pub fn ran(&mut self, seq: u64, handler: &str) {
        let course = self.note(seq, handler);
        course.runs = course.runs.saturating_add(1);
    }

    /// Notes that a handler is done.
    pub fn done(&mut self, seq: u64, handler: &str) {
        self.note(seq, handler).done = true;
    }

    /// The event is over.
    pub fn forget(&mut self, seq: u64) {
        self.events.remove(&seq);
    }

    fn course(&self, seq: u64, handler: &str) -> Course {
        self.events.get(&seq).and_then(|event| event.get(handler)).copied().unwrap_or_default()
    }

    /// At the limit the oldest event is forgotten: another node of the site has taken it over.
    fn note(&mut self, seq: u64, handler: &str) -> &mut Course {
        if self.events.len() >= EVENTS_MAX && !self.events.contains_key(&seq) {
            self.events.pop_first();
        }
        self.events.entry(seq).or_default().entry(handler.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests;
