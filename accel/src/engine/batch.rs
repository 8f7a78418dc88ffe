//! Jobs that go to a device together. Each keeps its own history, error and answer: when the device
//! fails on several at once, each is tried alone, and one that is lost sends all of them elsewhere.

use std::time::{Duration, Instant};

use hw::BufferId;

use super::jobs::{history_key, output, refusal, remembered};
use super::{Answer, Failure, Shared, Work};
use crate::history::Remembered;
use crate::plan::Plan;
use crate::share::Seat;
use crate::worker::{Given, Run, Scratch, carry_out};

/// A job with what its history remembers, taken out.
struct Begun {
    work: Work,
    previous: Option<Remembered>,
}

impl Shared {
    /// Does jobs of one plan in one turn at the device.
    pub(super) fn serve(&self, index: usize, works: Vec<Work>, seat: &mut Seat, scratch: &Scratch) {
        seat.begin();
        let start = Instant::now();
        self.state().units[index].in_hand = Some(self.to_do(&works, start));
        let mut begun = Vec::with_capacity(works.len());
        for work in works {
            match refusal(&work, start) {
                Some(error) => self.settle(work, Err(Failure::Refused(error))),
                None => begun.push(work),
            }
        }
        self.carry(index, begun, start, scratch);
        let mut state = self.state();
        let unit = &mut state.units[index];
        unit.running = None;
        let left = unit.came_back();
        let more = unit.queue.len() > 0;
        drop(state);
        self.free(left);
        seat.end(more);
    }

    fn carry(&self, index: usize, works: Vec<Work>, start: Instant, scratch: &Scratch) {
        let Some(plan) = works.first().map(|work| work.plan.clone()) else { return };
        let begin = |work: Work| {
            let taken =
                history_key(&work.job, &plan).and_then(|key| self.state().histories.take(key));
            Begun { previous: taken.and_then(|taken| self.bring(index, &plan, taken)), work }
        };
        let mut begun: Vec<Begun> = works.into_iter().map(begin).collect();
        let given = begun.iter_mut().map(given).collect();
        match carry_out(self.place(index), &plan, given, scratch) {
            Ok(runs) => self.answer(index, &plan, begun, runs, start),
            Err(error) => {
                let works = self.put_back(begun);
                let is_lost = matches!(error, hw::Error::Lost { .. });
                if works.len() == 1 || is_lost {
                    return self.fail(index, works, &error);
                }
                tracing::debug!(%error, jobs = works.len(), "jobs that failed together go alone");
                for work in works {
                    self.carry(index, vec![work], Instant::now(), scratch);
                }
            }
        }
    }

    /// Does the host's part of each job and answers it.
    fn answer(
        &self,
        index: usize,
        plan: &Plan,
        begun: Vec<Begun>,
        runs: Vec<Run<'_>>,
        start: Instant,
    ) {
        let jobs = begun.len();
        let shared = start.elapsed() / jobs.max(1) as u32;
        for (done, (Begun { work, previous }, run)) in begun.into_iter().zip(runs).enumerate() {
            let begin = Instant::now();
            let mut carried = match run.finish() {
                Ok(carried) => carried,
                Err(error) => {
                    let works = self.put_back(vec![Begun { work, previous }]);
                    self.fail(index, works, &error);
                    continue;
                }
            };
            self.free(previous);
            if let Some(keep) = remembered(index, plan, &mut carried) {
                self.keep(&work, keep);
            }
            let output = output(&*self.devices[index], &work, carried, start);
            self.served(index, &work, shared + begin.elapsed());
            if done + 1 == jobs {
                self.learn(index, plan, jobs, start.elapsed());
            }
            self.settle(work, Ok(output));
        }
    }

    /// Gives back to histories what a failed attempt has left as it was.
    fn put_back(&self, begun: Vec<Begun>) -> Vec<Work> {
        let put_back = |Begun { work, previous }: Begun| {
            if let Some(keep) = previous {
                self.keep(&work, keep);
            }
            work
        };
        begun.into_iter().map(put_back).collect()
    }

    /// Has a job's history remember this, unless the job was done elsewhere meanwhile.
    fn keep(&self, work: &Work, keep: Remembered) {
        let freed = match history_key(&work.job, &work.plan).filter(|_| !work.reply.is_given()) {
            Some(key) => self.state().histories.keep(key, keep),
            None => vec![keep],
        };
        self.free(freed);
    }

    /// Books the device time of a job that is done.
    fn served(&self, index: usize, work: &Work, took: Duration) {
        let took_us = took.as_micros() as u64;
        let mut state = self.state();
        let unit = &mut state.units[index];
        unit.jobs_done += 1;
        unit.busy_us += took_us;
        unit.queue.charge(&work.job.tenant, took_us);
    }

    fn learn(&self, index: usize, plan: &Plan, jobs: usize, took: Duration) {
        let refusals = self.devices[index].refusals();
        let mut state = self.state();
        state.costs.learn_batch(plan.signature, index, jobs, took.as_micros() as u64);
        let unit = &mut state.units[index];
        unit.batches += 1;
        unit.running = None;
        unit.refused(&refusals);
        if !unit.is_hung {
            self.worked(&mut state, index);
        }
    }

    /// Sends jobs elsewhere that a device has failed on once.
    fn fail(&self, index: usize, works: Vec<Work>, error: &hw::Error) {
        let refusals = self.devices[index].refusals();
        let mut state = self.state();
        if matches!(error, hw::Error::Lost { .. }) {
            state.histories.lose(index);
        }
        let unit = &mut state.units[index];
        unit.running = None;
        unit.refused(&refusals);
        unit.jobs_failed += works.len().saturating_sub(1) as u64;
        if !unit.is_hung {
            self.failed(&mut state, index, error, Instant::now());
        }
        drop(state);
        for work in works {
            self.settle(work, Err(Failure::Device { device: index, error: error.clone() }));
        }
    }

    /// Ends a job, if it has not been given up.
    pub(super) fn settle(&self, work: Work, answer: Answer) {
        let Some(reply) = work.reply.take() else { return };
        if let Some(key) = history_key(&work.job, &work.plan) {
            self.state().histories.done(key);
        }
        // Whoever asked may have gone; that is theirs to decide.
        let _ = reply.send(answer);
    }
}

/// What a job brings. After a failure a stream begins anew, as its encoder may be a picture ahead.
fn given(begun: &mut Begun) -> Given {
    let buffers = |previous: &Remembered| -> Vec<BufferId> {
        previous.buffers.iter().map(|(id, _)| *id).collect()
    };
    Given {
        frame: begun.work.job.input.clone(),
        previous: begun.previous.as_ref().map(buffers),
        coders: begun.previous.as_mut().map(|p| std::mem::take(&mut p.coders)).unwrap_or_default(),
    }
}
