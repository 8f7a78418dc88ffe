//! Whose turn it is among events that a handler wants in order. Pure.
//!
//! An event stands in a line for each such handler: the line of the handler and of the event's key.
//! It may run when it is first in all its lines. It leaves them when the log has heard that it is
//! done, not before: what comes again after a crash must find nothing of its key that ran later.
//!
//! Until the lines of an event are known, it keeps back every line of its app.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many events are remembered as over that the log still offers; beyond it the oldest are
/// forgotten, and might run twice if they came once more.
const OVER_MAX: usize = 64 * 1024;

/// The events of one handler that have one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Line {
    pub handler: String,
    pub key: String,
}

/// Whether an event may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is in hand from now on.
    Now,
    Wait,
    /// It is done; it came again because the log had not heard of that.
    Over,
}

/// Who stands where. Events go by their position in the log.
#[derive(Debug, Default)]
pub(super) struct Turns {
    places: BTreeMap<u64, Place>,
    apps: HashMap<String, Lines>,
    /// Up to here everything is over.
    floor: u64,
    /// What is over beyond.
    over: BTreeSet<u64>,
}

#[derive(Debug)]
struct Place {
    app: String,
    /// `None` until they are known.
    lines: Option<Vec<Line>>,
    in_hand: bool,
}

/// The lines of one app.
#[derive(Debug, Default)]
struct Lines {
    unread: BTreeSet<u64>,
    lines: HashMap<Line, BTreeSet<u64>>,
}

impl Turns {
    /// An event of an app is there, or is known to come. Called before anything is asked about a
    /// later event.
    pub fn arrive(&mut self, seq: u64, app: &str) {
        if self.is_over(seq) || self.places.contains_key(&seq) {
            return;
        }
        self.apps.entry(app.to_owned()).or_default().unread.insert(seq);
        self.places.insert(seq, Place { app: app.to_owned(), lines: None, in_hand: false });
    }

    /// The lines in which an event stands, once known. Returns whose turn may have come.
    pub fn join(&mut self, seq: u64, lines: Vec<Line>) -> Vec<u64> {
        let Some(place) = self.places.get_mut(&seq).filter(|place| place.lines.is_none()) else {
            return vec![];
        };
        let Some(app) = self.apps.get_mut(&place.app) else { return vec![] };
        let held_back = app.unread.first() == Some(&seq);
        app.unread.remove(&seq);
        for line in &lines {
            app.lines.entry(line.clone()).or_default().insert(seq);
        }
        let woken = match held_back {
            true => app.lines.values().filter_map(|line| line.first()).copied().collect(),
            false => vec![],
        };
        let none = lines.is_empty();
        place.lines = Some(lines);
        if none {
            self.forget(seq);
        }
        woken
    }

    /// Whether an event that has joined its lines may run now; if so it is in hand.
    pub fn begin(&mut self, seq: u64) -> Turn {
        let first = self.is_first(seq);
        match self.places.get_mut(&seq) {
            None => Turn::Over,
            Some(place) if place.in_hand || !first => Turn::Wait,
            Some(place) => {
                place.in_hand = true;
                Turn::Now
            }
        }
    }

    /// It is in hand no more, and not done.
    pub fn rest(&mut self, seq: u64) -> Vec<u64> {
        if let Some(place) = self.places.get_mut(&seq) {
            place.in_hand = false;
        }
        vec![seq]
    }

    /// The log has heard that it is done. Returns whose turn may have come.
    pub fn leave(&mut self, seq: u64) -> Vec<u64> {
        if !self.places.contains_key(&seq) {
            return vec![];
        }
        let mut woken = self.forget(seq);
        woken.push(seq);
        if self.over.len() >= OVER_MAX {
            self.over.pop_first();
        }
        self.over.insert(seq);
        woken
    }

    /// The log says that everything up to here is over. A log that says less than before has been
    /// made anew.
    pub fn passed(&mut self, floor: u64) -> Vec<u64> {
        if floor < self.floor {
            self.over.clear();
        }
        self.floor = floor;
        self.over = self.over.split_off(&floor.saturating_add(1));
        let gone = self.places.range(..=floor).filter(|(_, place)| !place.in_hand);
        let gone: Vec<u64> = gone.map(|(seq, _)| *seq).collect();
        let woken = gone.iter().flat_map(|seq| self.forget(*seq)).collect();
        [woken, gone].concat()
    }

    /// Whether anybody stands in a line.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn is_over(&self, seq: u64) -> bool {
        seq <= self.floor || self.over.contains(&seq)
    }

    fn is_first(&self, seq: u64) -> bool {
        let Some(place) = self.places.get(&seq) else { return false };
        let (Some(lines), Some(app)) = (&place.lines, self.apps.get(&place.app)) else {
            return false;
        };
        let first = |line| app.lines.get(line).and_then(|line| line.first()) == Some(&seq);
        app.unread.first().is_none_or(|unread| *unread > seq) && lines.iter().all(first)
    }

    /// Takes an event out of everything; returns who is first now where it was.
    fn forget(&mut self, seq: u64) -> Vec<u64> {
        let Some(place) = self.places.remove(&seq) else { return vec![] };
        let Some(app) = self.apps.get_mut(&place.app) else { return vec![] };
        let held_back = app.unread.remove(&seq);
        for line in place.lines.iter().flatten() {
            let Some(events) = app.lines.get_mut(line) else { continue };
            events.remove(&seq);
            if events.is_empty() {
                app.lines.remove(line);
            }
        }
        let first = |line| app.lines.get(line).and_then(|events| events.first()).copied();
        let woken = match held_back {
            true => app.lines.values().filter_map(|line| line.first()).copied().collect(),
            false => place.lines.iter().flatten().filter_map(first).collect(),
        };
        if app.unread.is_empty() && app.lines.is_empty() {
            self.apps.remove(&place.app);
        }
        woken
    }
}

#[cfg(test)]
mod tests;
