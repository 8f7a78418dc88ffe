//! Which circuit a card has, where there are several of which it takes one at a time.
//!
//! Loading takes long beside a job, so that no job pays for it alone. Of each circuit is known what
//! the last jobs save, or would save, on a card that has it: its worth. The cards that have it
//! share that, as parties share votes by D'Hondt's method. A card is given another circuit when a
//! share of that is worth more than the share it has now, by more than what loading takes: as many
//! jobs as were looked at then pay for it. What is loaded so stays until the jobs are others.
//!
//! Pure: cards and jobs go in, a change comes out.

use std::collections::HashMap;

use hw::Circuit;

/// Over so many jobs a worth is summed up; older ones fade.
const JOBS: f64 = 512.0;
/// Worths that differ by less than this part may do so by chance.
const CHANCE_PARTS: u64 = 4;
/// For so many jobs a card stays with what it was given: of few, one that is unlike the others says
/// too much.
const STAY_JOBS: u64 = 128;
/// Most circuits of which a worth is remembered; beyond it all are forgotten.
const CIRCUITS_MAX: usize = 256;

/// A device that takes circuits.
#[derive(Debug, Clone, Copy)]
pub struct Card<'a> {
    pub device: usize,
    pub circuits: &'a [Circuit],
    /// Which of them it has once it is done with what it was given.
    pub circuit: usize,
    /// How long it takes to load another.
    pub load_us: u64,
    /// How many jobs had been [noted](Worths::noted) when it was given that; none if never.
    pub since: Option<u64>,
    /// It works, and no change is under way.
    pub is_free: bool,
}

impl<'a> Card<'a> {
    fn own(&self) -> Option<&'a Circuit> {
        self.circuits.get(self.circuit)
    }
}

/// What circuits are worth, by their names.
#[derive(Debug, Clone, Default)]
pub struct Worths {
    /// In microseconds; what is older counts less.
    saved: HashMap<String, f64>,
    noted: u64,
}

impl Worths {
    /// A job would take so much less on a card with this circuit than on the best device that
    /// takes any kernel.
    pub fn note(&mut self, circuit: &str, saved_us: u64) {
        self.noted += 1;
        self.saved.values_mut().for_each(|saved| *saved *= JOBS / (JOBS + 1.0));
        if self.saved.len() >= CIRCUITS_MAX && !self.saved.contains_key(circuit) {
            self.saved.clear();
        }
        let saved = saved_us as f64;
        match self.saved.get_mut(circuit) {
            Some(sum) => *sum += saved,
            None => drop(self.saved.insert(circuit.to_string(), saved)),
        }
    }

    /// How many jobs were noted so far.
    pub fn noted(&self) -> u64 {
        self.noted
    }

    /// Nothing is expected of it any more.
    pub fn forget(&mut self, circuit: &str) {
        self.saved.remove(circuit);
    }

    /// What the last jobs save by a circuit, in microseconds.
    pub fn worth_us(&self, circuit: &str) -> u64 {
        self.saved.get(circuit).map_or(0, |saved| *saved as u64)
    }

    /// The change that pays best, if one does: a device, and the number of its circuit.
    pub fn change(&self, cards: &[Card<'_>]) -> Option<(usize, usize)> {
        let have = |name: &str| {
            let own = cards.iter().filter_map(Card::own);
            own.filter(|circuit| circuit.name == name).count() as u64
        };
        let mut best = None;
        let stays = |card: &&Card<'_>| card.since.is_some_and(|at| self.noted < at + STAY_JOBS);
        for card in cards.iter().filter(|card| card.is_free && !stays(card)) {
            let own = card.own().map_or(0, |own| self.worth_us(&own.name) / have(&own.name).max(1));
            for (number, other) in card.circuits.iter().enumerate() {
                let share = self.worth_us(&other.name) / (have(&other.name) + 1);
                let won_us = share.saturating_sub(own + card.load_us.max(own / CHANCE_PARTS));
                if number != card.circuit && won_us > best.map_or(0, |(won_us, _)| won_us) {
                    best = Some((won_us, (card.device, number)));
                }
            }
        }
        best.map(|(_, change)| change)
    }
}

/// The name of the circuit that kernels want: one that a card has, where there is such a card.
pub fn wanted<'a>(cards: &[Card<'a>], has_all: impl Fn(&Circuit) -> bool) -> Option<&'a str> {
    let loaded = cards.iter().filter_map(Card::own).find(|circuit| has_all(circuit));
    let first = || cards.iter().flat_map(|card| card.circuits).find(|circuit| has_all(circuit));
    loaded.or_else(first).map(|circuit| circuit.name.as_str())
}

#[cfg(test)]
mod tests;
