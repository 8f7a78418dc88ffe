//! Cards that take one circuit of several: which jobs they can do now, and when they change.

use std::time::Instant;

use hw::DeviceInfo;

use super::{Answer, Failure, Shared, State, Unit, Work};
use crate::plan::Plan;
use crate::schedule::circuits::{Card, wanted};
use crate::share::Seat;

impl Shared {
    /// Notes what a job would save on a card with the right circuit, and has a card change where
    /// that pays, or where nobody else is left. The devices that will not have the circuit are
    /// added to those that are left out.
    pub(super) fn fit_circuits(&self, state: &mut State, plan: &Plan, excluded: &mut Vec<usize>) {
        let infos = || self.devices.iter().map(|device| device.info()).enumerate();
        if infos().all(|(_, info)| info.circuits.len() < 2) {
            return;
        }
        let now = Instant::now();
        let card = |(device, info): (usize, _)| state.units[device].card(device, info, now);
        let mut cards: Vec<Card<'_>> = infos().filter_map(card).collect();
        let has_all = |circuit: &hw::Circuit| circuit.has(plan.kernels());
        let Some(name) = wanted(&cards, has_all) else { return };
        let any = infos().filter(|(_, info)| info.circuits.is_empty());
        let others: Vec<usize> =
            any.map(|(device, _)| device).filter(|device| !excluded.contains(device)).collect();
        let cost_us = |device: usize| state.costs.cost_us(plan.signature, device);
        let elsewhere_us = others.iter().filter_map(|device| cost_us(*device)).min();
        // What was never there may be as good as nothing.
        let there_us = cards.iter().filter_map(|card| cost_us(card.device)).min().unwrap_or(0);
        if let Some(elsewhere_us) = elsewhere_us {
            state.worths.note(name, elsewhere_us.saturating_sub(there_us));
        }
        let lacks = |card: &&Card<'_>| !card.circuits.get(card.circuit).is_some_and(has_all);
        let is_needed = others.is_empty() && cards.iter().all(|card| lacks(&card));
        let must = || {
            let free = cards.iter().filter(|card| card.is_free);
            let give =
                |card: &Card<'_>| Some((card.device, card.circuits.iter().position(has_all)?));
            free.filter_map(give).find(|(device, _)| !excluded.contains(device))
        };
        let change = if is_needed { must() } else { state.worths.change(&cards) };
        if let Some((device, circuit)) = change {
            let changed = cards.iter_mut().filter(|card| card.device == device);
            changed.for_each(|card| card.circuit = circuit);
            let unit = &mut state.units[device];
            (unit.circuit, unit.since) = (circuit, Some(state.worths.noted()));
            unit.queued_us += unit.load_us();
            self.wake[device].notify_one();
        }
        excluded.extend(cards.iter().filter(lacks).map(|card| card.device));
    }

    /// Gives a device the circuit that it is to have.
    pub(super) fn load(&self, index: usize, circuit: usize, seat: &mut Seat) {
        seat.begin();
        let (device, start) = (&self.devices[index], Instant::now());
        let mut state = self.state();
        let unit = &mut state.units[index];
        let load_us = unit.load_us();
        unit.queued_us = unit.queued_us.saturating_sub(load_us);
        unit.running = Some((start, load_us));
        unit.in_hand = Some(self.to_warm());
        drop(state);
        let done = device.load(circuit);
        let mut state = self.state();
        let unit = &mut state.units[index];
        unit.running = None;
        let left = unit.came_back();
        unit.loaded = device.circuit();
        unit.circuit = unit.loaded;
        let failed = match done {
            Ok(()) => {
                unit.loads += 1;
                unit.load_us = Some(start.elapsed().as_micros() as u64);
                Vec::new()
            }
            Err(error) => {
                tracing::warn!(%error, "a circuit is not loaded");
                let works = unit.take_others();
                if let Some(circuit) = device.info().circuits.get(circuit) {
                    state.worths.forget(&circuit.name);
                }
                if matches!(error, hw::Error::Lost { .. }) {
                    state.histories.lose(index);
                }
                self.failed(&mut state, index, &error, Instant::now());
                let answer =
                    |work| (work, Err(Failure::Device { device: index, error: error.clone() }));
                works.into_iter().map(answer).collect::<Vec<(Work, Answer)>>()
            }
        };
        let more = state.units[index].queue.len() > 0;
        drop(state);
        self.free(left);
        seat.end(more);
        failed.into_iter().for_each(|(work, answer)| self.settle(work, answer));
    }
}

impl Unit {
    fn card<'a>(&self, device: usize, info: &'a DeviceInfo, now: Instant) -> Option<Card<'a>> {
        let is_free = self.quarantined(now).is_zero() && self.circuit == self.loaded;
        let (circuit, load_us) = (self.circuit, self.load_us());
        let (circuits, since) = (&*info.circuits, self.since);
        let card = Card { device, circuits, circuit, load_us, since, is_free };
        (!info.circuits.is_empty()).then_some(card)
    }

    /// Takes the jobs that want another circuit than the one that is there.
    fn take_others(&mut self) -> Vec<Work> {
        let order = self.queue.ordered().into_iter();
        let others = order.filter(|(_, work)| work.circuit != self.loaded);
        let places: Vec<usize> = others.map(|(place, _)| place).collect();
        self.withdraw(&places).0
    }
}
