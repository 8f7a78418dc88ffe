//! Devices with encoders of others: which jobs they may have.

use std::time::Instant;

use super::jobs::history_key;
use super::{Shared, State};
use crate::encoders::{By, Make};
use crate::plan::{Encoding, Plan};
use crate::worker::Place;
use crate::{Error, Job, Prefer, Result};

impl Shared {
    /// Where a device's thread carries plans out.
    pub(super) fn place(&self, index: usize) -> Place<'_> {
        Place { device: &*self.devices[index], worker: self.workers[index].as_ref() }
    }

    /// Whose encoder a device has; none where it is ours.
    pub(super) fn make(&self, index: usize) -> Option<Make> {
        self.workers[index].as_ref().map(|worker| worker.make)
    }

    /// Refuses a plan that names an encoder which is not here or takes no such pictures.
    pub(super) fn check_encoders(&self, plan: &Plan) -> Result<()> {
        let makes = || self.workers.iter().flatten().map(|worker| worker.make);
        for Encoding { by, shape, .. } in plan.encodings() {
            let By::Make(make) = *by else { continue };
            let refused = match makes().any(|here| here == make) {
                true => make.refuses(*shape),
                false => {
                    let name = make.name();
                    let others: String = makes().map(|here| format!(", {}", here.name())).collect();
                    let mend = format!("use one of edgescale, auto{others}");
                    Some(format!("encoder \"{name}\" is not here: {mend}"))
                }
            };
            if let Some(detail) = refused {
                return Err(Error::Invalid(format!("pipeline: encode: {detail}")));
            }
        }
        Ok(())
    }

    /// Why jobs of a plan are not for a device, as far as encoders go: one with an encoder of
    /// others has only jobs with a stream for it.
    pub(super) fn lacks_encoder(&self, index: usize, plan: &Plan) -> Option<String> {
        let id = &self.devices[index].info().id;
        let make = self.make(index);
        let is_anothers = |encoding: &Encoding| match encoding.by {
            By::Make(other) => make != Some(other),
            By::Edgescale | By::Auto => false,
        };
        if plan.encodings().any(is_anothers) {
            return Some(format!("{id} has another encoder than the one that is asked for"));
        }
        let make = make?;
        let mut its = plan.encodings().filter(|encoding| encoding.by != By::Edgescale).peekable();
        match its.peek() {
            None => Some(format!("{id} only has jobs with streams that it may code")),
            Some(_) => its.find_map(|encoding| make.refuses(encoding.shape)),
        }
    }

    /// Leaves out the devices with another encoder than the one that is in the middle of the job's
    /// streams, as long as one with that encoder works.
    pub(super) fn stay(&self, state: &State, job: &Job, plan: &Plan, excluded: &mut Vec<usize>) {
        let coding_on = |key: &str| state.histories.coding_on(key);
        let Some(device) = history_key(job, plan).and_then(coding_on) else { return };
        let same = |index: &usize| self.make(*index) == self.make(device);
        let now = Instant::now();
        let works = |index: &usize| state.units[*index].quarantined(now).is_zero();
        let devices = 0..self.devices.len();
        let may = |index: usize| same(&index) && works(&index) && !excluded.contains(&index);
        if devices.clone().any(may) {
            excluded.extend(devices.filter(|index| !same(index)));
        }
    }

    /// What to look at first: where any encoder will do, the earliest end.
    pub(super) fn prefer(&self, plan: &Plan) -> Prefer {
        match plan.encodings().any(|encoding| encoding.by == By::Auto) {
            true => Prefer::Fastest,
            false => self.prefer,
        }
    }
}
