//! Which decoded segments stay in memory: as many as fit, and those longest that are looked at.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::segment::Segment;

/// Segments whose rows are in memory, in the order in which they are asked to go.
#[derive(Default)]
pub struct Cache {
    turns: VecDeque<Weak<Segment>>,
}

impl Cache {
    /// Notes that a segment's rows are in memory now. Others go until all fit `bytes_max`: in turn,
    /// but whoever was looked at since its last turn gets another one. One always stays.
    pub fn keep(&mut self, segment: &Arc<Segment>, bytes_max: usize) {
        self.turns.retain(|turn| turn.upgrade().is_some_and(|s| !Arc::ptr_eq(&s, segment)));
        self.turns.push_back(Arc::downgrade(segment));
        let kept: Vec<Arc<Segment>> = self.turns.iter().filter_map(Weak::upgrade).collect();
        let mut bytes: usize = kept.iter().map(|segment| segment.weight()).sum();
        let mut second_turns = self.turns.len();
        while bytes > bytes_max && self.turns.len() > 1 {
            let Some(turn) = self.turns.pop_front() else { return };
            let Some(first) = turn.upgrade() else { continue };
            if second_turns > 0 && first.was_used() {
                second_turns -= 1;
                self.turns.push_back(turn);
                continue;
            }
            bytes -= first.weight();
            first.forget();
        }
    }
}

#[cfg(test)]
mod tests;
