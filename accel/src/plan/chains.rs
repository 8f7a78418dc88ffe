//! The runs of a plan in fewer launches: what a step makes of a sample goes to the next in a
//! register ([`kernels::chain`]).

use std::collections::HashSet;

use hw::{BufferId, Command};
use kernels::chain::{Around, fuse};

use super::{Action, First, Plan, Source};

/// The same plan with chains. A chain's time counts as that of its last step.
pub(super) fn chained(mut plan: Plan) -> Plan {
    let mut read_after: HashSet<BufferId> = plan.kept.iter().map(|kept| kept.current).collect();
    let mut actions = joined(std::mem::take(&mut plan.actions));
    for action in actions.iter_mut().rev() {
        let read = reads(action);
        if let Action::Run { commands, steps } = action {
            (*commands, *steps) = run(commands, steps, &plan, &read_after);
        }
        read_after.extend(read);
    }
    Plan { actions, ..plan }
}

fn run(
    commands: &[Command],
    steps: &[usize],
    plan: &Plan,
    read_after: &HashSet<BufferId>,
) -> (Vec<Command>, Vec<usize>) {
    // In the first job of a history, what it remembers and what the last one did are one buffer.
    let name = |buffer: BufferId| {
        let mut shared = plan.kept.iter().filter(|kept| kept.first == First::Current);
        shared.find(|kept| kept.previous == buffer).map_or(buffer, |kept| kept.current)
    };
    let around = Around { is_read_after: &|buffer| read_after.contains(&buffer), name: &name };
    let fused = fuse(commands, &around);
    let step = |of: &[usize]| of.iter().map(|at| steps[*at]).max().unwrap_or(0);
    let steps = fused.iter().map(|fused| step(&fused.of)).collect();
    (fused.into_iter().map(|fused| fused.command).collect(), steps)
}

/// Actions with runs together that only uploads of constants part: those go first.
fn joined(actions: Vec<Action>) -> Vec<Action> {
    let mut all: Vec<Action> = Vec::with_capacity(actions.len());
    for action in actions {
        match (all.last_mut(), action) {
            (Some(Action::Run { commands, steps }), Action::Run { commands: more, steps: own }) => {
                commands.extend(more);
                steps.extend(own);
            }
            (
                Some(last @ Action::Run { .. }),
                Action::Upload { step, to, from: from @ Source::Constant(_) },
            ) if !touches(last, to) => {
                let upload = Action::Upload { step, to, from };
                all.insert(all.len() - 1, upload);
            }
            (_, action) => all.push(action),
        }
    }
    all
}

fn touches(action: &Action, buffer: BufferId) -> bool {
    action.commands().iter().flat_map(Command::touches).any(|(touched, _)| touched == buffer)
}

/// The buffers that an action reads.
fn reads(action: &Action) -> Vec<BufferId> {
    let downloaded = match action {
        Action::Download { from, .. } => Some(*from),
        _ => None,
    };
    let touched = action.commands().iter().flat_map(Command::touches);
    let read = touched.filter(|(_, is_written)| !is_written).map(|(buffer, _)| buffer);
    downloaded.into_iter().chain(read).collect()
}

#[cfg(test)]
mod tests;
