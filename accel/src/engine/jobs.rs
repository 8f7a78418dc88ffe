//! One job and its plan: how it waits, what it remembers, whether it is begun, what it gave.

use std::sync::Arc;
use std::time::Instant;

use hw::Device;

use super::{Unit, Work};
use crate::history::Remembered;
use crate::plan::Plan;
use crate::schedule::batch::Waiting;
use crate::worker::Carried;
use crate::{Error, Job, Output, Timing};

/// The history a job reads and writes, if its pipeline uses any.
pub(super) fn history_key<'a>(job: &'a Job, plan: &Plan) -> Option<&'a str> {
    job.history.as_deref().filter(|_| plan.is_remembering())
}

/// What decides with which others a job goes.
pub(super) fn waiting<'a>(work: &'a Work, first: &Work, unit: &Unit, now: Instant) -> Waiting<'a> {
    let us = |from: Instant, to: Instant| to.saturating_duration_since(from).as_micros() as u64;
    Waiting {
        is_alike: Arc::ptr_eq(&work.plan, &first.plan),
        priority: work.job.priority,
        tenant: &work.job.tenant,
        served_us: unit.queue.served_us(&work.job.tenant),
        slack_us: work.job.deadline.map(|deadline| us(now, deadline)),
        held_us: unit.held_since.map_or(0, |since| us(since.max(work.submitted), now)),
        cost_us: work.cost_us,
        history: history_key(&work.job, &work.plan),
    }
}

/// Why a job is not begun at all.
pub(super) fn refusal(work: &Work, now: Instant) -> Option<Error> {
    if work.reply.is_over() {
        return Some(Error::Stopped);
    }
    let late = now.checked_duration_since(work.job.deadline?).filter(|late| !late.is_zero())?;
    Some(Error::Late { late_ms: (late.as_micros() as u64).div_ceil(1000) })
}

pub(super) fn remembered(device: usize, plan: &Plan, carried: &mut Carried) -> Option<Remembered> {
    let sizes = plan.kept.iter().map(|kept| plan.buffers[kept.current.0 as usize]);
    let buffers: Vec<_> = carried.kept.iter().copied().zip(sizes).collect();
    let coders = std::mem::take(&mut carried.coders);
    let signature = plan.signature;
    plan.is_remembering().then_some(Remembered { device, signature, buffers, coders })
}

pub(super) fn output(device: &dyn Device, work: &Work, carried: Carried, start: Instant) -> Output {
    let queue_us = start.saturating_duration_since(work.submitted).as_micros() as u64;
    let names = work.job.pipeline.steps.iter().map(|step| step.output.clone());
    let times = carried.steps_us.into_iter().chain(std::iter::repeat(0));
    Output {
        values: carried.values,
        device: device.info().id.clone(),
        timing: Timing { queue_us, ..carried.timing },
        steps: names.zip(times).collect(),
    }
}
