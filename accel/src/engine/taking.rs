//! A device that has nothing to do takes a job that waits for another.

use std::time::Instant;

use super::jobs::history_key;
use super::{Shared, State, Work};
use crate::schedule::steal::{Behind, LOOK_MAX, steal};

impl Shared {
    /// Offers what waits behind others to devices that have nothing to do.
    pub(super) fn offer(&self, state: &mut State) {
        for index in 0..self.devices.len() {
            if self.take_over(state, index) {
                self.wake[index].notify_one();
            }
        }
    }

    /// Gives a device that has nothing to do a job that waits behind others elsewhere, where that
    /// pays; whether it has one now. Streams stay where they are, as their jobs go one after the
    /// other, and cards stay with what they have a circuit for.
    pub(super) fn take_over(&self, state: &mut State, index: usize) -> bool {
        let now = Instant::now();
        let unit = &state.units[index];
        let is_idle = unit.running.is_none() && unit.in_hand.is_none() && unit.queue.len() == 0;
        let is_ready = !unit.is_cold && unit.quarantined(now).is_zero();
        if !is_idle || !is_ready || !self.devices[index].info().circuits.is_empty() {
            return false;
        }
        let (behind, places) = self.behind(state, index, now);
        if behind.is_empty() {
            return false;
        }
        let views = self.views(state, 0, now);
        let Some(taken) = steal(index, &views, &behind, self.prefer) else { return false };
        let Behind { device, here_us, .. } = behind[taken];
        let (works, _) = state.units[device].withdraw(&[places[taken]]);
        let unit = &mut state.units[index];
        for work in works {
            let rank = self.rank(&work.job);
            let work = Work { cost_us: here_us, circuit: unit.circuit, ..work };
            // It waits for nobody, so that there is room.
            if unit.queue.push(rank, work).is_ok() {
                unit.queued_us += here_us;
            }
        }
        true
    }

    /// The jobs that wait behind others and may run on this device, where their cost is known, with
    /// their places in their queues.
    fn behind(&self, state: &State, index: usize, now: Instant) -> (Vec<Behind>, Vec<usize>) {
        let mut behind = (Vec::new(), Vec::new());
        for (device, unit) in state.units.iter().enumerate() {
            if unit.running.is_none() || unit.queue.len() == 0 {
                continue;
            }
            for (place, work) in unit.queue.ordered().into_iter().take(LOOK_MAX) {
                let stays = history_key(&work.job, &work.plan).is_some();
                let here_us = state.costs.cost_us(work.plan.signature, index);
                let Some(here_us) = here_us else { continue };
                if stays || work.excluded.contains(&index) {
                    continue;
                }
                let slack = work.job.deadline.map(|at| at.saturating_duration_since(now));
                let slack_us = slack.map(|slack| slack.as_micros() as u64);
                behind.0.push(Behind { device, there_us: work.cost_us, here_us, slack_us });
                behind.1.push(place);
            }
        }
        behind
    }
}
