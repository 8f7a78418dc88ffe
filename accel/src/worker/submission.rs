//! What several jobs of one plan want of a device, as one submission.

use std::time::Instant;

use hw::{BufferId, Command, Device, Read, Write};

use super::{Host, Run};
use crate::plan::{Action, Slot};

/// How many of the first actions go to the device at once: uploads, then commands, then downloads.
/// None of them is the host's.
pub(super) fn stretch(actions: &[Action]) -> usize {
    let while_is = |from: usize, is: fn(&Action) -> bool| {
        from + actions[from..].iter().take_while(|action| is(action)).count()
    };
    let uploads = while_is(0, |action| matches!(action, Action::Upload { .. }));
    let commands = while_is(uploads, |action| matches!(action, Action::Run { .. }));
    while_is(commands, |action| matches!(action, Action::Download { .. }))
}

/// Does a stretch of the plan for all its jobs.
pub(super) fn submit(
    device: &dyn Device,
    runs: &mut [Run<'_>],
    actions: &[Action],
) -> hw::Result<()> {
    let start = Instant::now();
    let mut read: Vec<Vec<u8>> = Vec::new();
    for run in runs.iter().filter(|run| !run.is_lent) {
        let wanted = downloads(actions).map(|(from, _)| run.plan.buffers[from.0 as usize]);
        read.extend(wanted.map(|bytes| run.scratch.take(bytes)));
    }
    let (mut writes, mut commands): (Vec<Write<'_>>, Vec<Command>) = (Vec::new(), Vec::new());
    for run in runs.iter() {
        run.wants(actions, &mut writes, &mut commands);
    }
    let into = runs.iter().filter(|run| !run.is_lent);
    let into = into.flat_map(|run| downloads(actions).map(move |(from, _)| run.bind(from)));
    let reads = into.zip(&mut read).map(|(from, data)| Read { from, data });
    let mut reads: Vec<Read<'_>> = reads.collect();
    let is_copied = !writes.is_empty() || !reads.is_empty();
    let times_ns = match is_copied || !commands.is_empty() {
        true => device.submit(&writes, &commands, &mut reads)?,
        false => Vec::new(),
    };
    let took_ns = start.elapsed().as_nanos() as u64;
    let copied_ns = if is_copied { took_ns.saturating_sub(times_ns.iter().sum()) } else { 0 };
    let (jobs, mut read) = (runs.len(), read.into_iter());
    let mut times_ns = times_ns.chunks(times_ns.len().div_ceil(jobs.max(1)).max(1));
    for run in runs {
        run.compute(actions, times_ns.next().unwrap_or_default());
        run.copied(actions, copied_ns / jobs as u64);
        for (from, to) in downloads(actions) {
            let value = if run.is_lent { None } else { read.next().map(Host::Bytes) };
            run.slots[to] = Some(value.map_or_else(|| run.shared(from), Ok)?);
        }
    }
    Ok(())
}

/// What is brought to the host, and where to.
fn downloads(actions: &[Action]) -> impl Iterator<Item = (BufferId, Slot)> {
    actions.iter().filter_map(|action| match action {
        Action::Download { from, to, .. } => Some((*from, *to)),
        _ => None,
    })
}

impl Run<'_> {
    /// The part of one job.
    fn wants<'b>(
        &'b self,
        actions: &'b [Action],
        writes: &mut Vec<Write<'b>>,
        commands: &mut Vec<Command>,
    ) {
        for action in actions {
            match action {
                Action::Upload { to, from, .. } => {
                    let data = self.source(from);
                    writes.extend(data.map(|data| Write { to: self.bind(*to), data }));
                }
                Action::Run { commands: own, .. } => {
                    commands.extend(own.iter().map(|own| own.map_buffers(|id| self.bind(id))));
                }
                Action::Download { .. } | Action::Host { .. } => {}
            }
        }
    }

    /// What a device that computes in host memory has in a buffer.
    fn shared(&self, from: BufferId) -> hw::Result<Host> {
        let buffer = self.bind(from);
        if let Some(shared) = self.device.share(buffer)? {
            return Ok(Host::Shared(shared));
        }
        let mut bytes = self.scratch.take(self.plan.buffers[from.0 as usize]);
        self.device.read(buffer, 0, &mut bytes)?;
        Ok(Host::Bytes(bytes))
    }

    fn compute(&mut self, actions: &[Action], times_ns: &[u64]) {
        let mut times_ns = times_ns.iter();
        for action in actions {
            if let Action::Run { steps, .. } = action {
                let own: Vec<u64> = times_ns.by_ref().take(steps.len()).copied().collect();
                self.spent.compute(steps, &own);
            }
        }
    }

    /// Books the time of copies, by their bytes.
    fn copied(&mut self, actions: &[Action], copied_ns: u64) {
        let bytes = |buffer: &BufferId| self.plan.buffers[buffer.0 as usize] as u64;
        let copies = actions.iter().filter_map(|action| match action {
            Action::Upload { step, to, from } => self.source(from).map(|_| (*step, bytes(to))),
            Action::Download { step, from, .. } => Some((*step, bytes(from))),
            _ => None,
        });
        let copies: Vec<(Option<usize>, u64)> = copies.collect();
        let all: u64 = copies.iter().map(|(_, bytes)| bytes).sum();
        for (step, bytes) in copies {
            self.spent.copy(step, copied_ns.saturating_mul(bytes) / all.max(1));
        }
    }
}
