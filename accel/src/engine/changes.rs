//! Devices that fail and work again: what is told of them.

use std::time::Instant;

use tokio::sync::broadcast;

use super::{EdgeAccelerate, Shared, State};
use crate::status::DeviceChange;

impl EdgeAccelerate {
    /// What happens to devices from now on. Who does not listen for long misses the oldest.
    pub fn changes(&self) -> broadcast::Receiver<DeviceChange> {
        self.shared.state().changes.subscribe()
    }
}

impl Shared {
    /// A device has failed: it is set aside where the fault is its own. The first failure in a row
    /// is told.
    pub(super) fn failed(&self, state: &mut State, index: usize, error: &hw::Error, now: Instant) {
        let unit = &mut state.units[index];
        let worked = unit.failures_in_row == 0;
        unit.failed(error, now);
        if worked && unit.failures_in_row > 0 {
            let device = self.devices[index].info().id.clone();
            // Nobody may be listening.
            let _ = state.changes.send(DeviceChange { device, lost: Some(error.to_string()) });
        }
    }

    /// A device has done what it was given. After failures that is told.
    pub(super) fn worked(&self, state: &mut State, index: usize) {
        let unit = &mut state.units[index];
        if unit.failures_in_row > 0 {
            let device = self.devices[index].info().id.clone();
            // Nobody may be listening.
            let _ = state.changes.send(DeviceChange { device, lost: None });
        }
        unit.failures_in_row = 0;
        unit.quarantined_until = None;
    }
}
