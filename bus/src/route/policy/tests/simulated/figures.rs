//! What is counted in a simulated tree.

use super::case::{Case, TREE, number};
use super::world::*;

/// How a case went.
pub struct Ran<'a> {
    pub case: &'a Case<'a>,
    pub seed: u64,
    pub end: u64,
    pub calls: Vec<Call>,
    pub runs: Vec<Run>,
}

/// Shares are beside the answers that came in time, unless it says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub answered_per_s: f64,
    /// Beside what the sites that may serve could do.
    pub goodput: f64,
    /// Beside all that was asked.
    pub answered: f64,
    pub late: f64,
    /// Of all that was asked, what went to another site only to be refused there.
    pub vain: f64,
    /// Of the time that places were taken, what went to runs that their deadline cut off.
    pub wasted: f64,
    /// From the site where they were asked for.
    pub near: f64,
    /// How busy the places of a site were in the half second in which they were least busy.
    pub idlest: f64,
    pub p50_ms: u64,
}

/// Calls that came at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Burst {
    /// In time.
    pub answered: usize,
    /// Of those, by the site where they were asked for.
    pub near: usize,
    pub refused: usize,
    pub late: usize,
}

impl Ran<'_> {
    /// Every call ended, in an answer or a refusal that there is a reason for.
    pub fn check_ends(&self) {
        for call in &self.calls {
            let seed = self.seed;
            let (fate, _) = call.fate.unwrap_or_else(|| panic!("seed {seed}: without a word"));
            let away = fate == Fate::Away && self.case.cuts.is_empty() && call.begun >= WARM;
            assert!(fate != Fate::Wrong && !away, "seed {seed}: {fate:?} at {}", call.begun);
        }
    }

    fn counted(&self) -> impl Iterator<Item = (&Call, Fate, u64)> {
        let counted = self.calls.iter().filter(|call| call.begun >= WARM);
        counted.filter_map(|call| call.fate.map(|(fate, ended)| (call, fate, ended)))
    }

    /// The sites that served calls of one site which came in within some time.
    pub fn served(
        &self,
        from: &str,
        (begin, end): (u64, u64),
    ) -> impl Iterator<Item = &'static str> {
        let from = number(from);
        let calls = self
            .calls
            .iter()
            .filter(move |call| call.source == from && (begin..end).contains(&call.begun));
        calls.filter_map(|call| match call.fate {
            Some((Fate::Answered { at }, _)) => Some(TREE[at].0),
            _ => None,
        })
    }

    /// How busy the places of a site were.
    pub fn busy(&self, site: &str, (begin, end): (u64, u64)) -> f64 {
        let at = number(site);
        let runs = self.runs.iter().filter(|run| run.at == at);
        let within = runs.map(|run| run.ended.min(end).saturating_sub(run.began.max(begin)));
        let places = TREE[at].2.min(self.case.places_max) * self.case.handlers as u64;
        within.sum::<u64>() as f64 / (places * (end - begin)) as f64
    }

    pub fn figures(&self) -> Figures {
        let mut took = vec![];
        let (mut late, mut near, mut vain, mut all) = (0u64, 0u64, 0u64, 0u64);
        for (call, fate, ended) in self.counted() {
            all += 1;
            match fate {
                Fate::Answered { at } => {
                    took.push(ended - call.begun);
                    near += u64::from(at == call.source);
                }
                Fate::Late => late += 1,
                Fate::Busy { .. } if call.hops > 0 => vain += 1,
                _ => {}
            }
        }
        took.sort_unstable();
        let answered = took.len().max(1) as f64;
        let counted = WARM..self.end;
        let ends = self.calls.iter().filter_map(|call| call.fate);
        let within = ends.filter(|(fate, ended)| {
            matches!(fate, Fate::Answered { .. }) && counted.contains(ended)
        });
        let answered_per_s = within.count() as f64 * SECOND as f64 / (self.end - WARM) as f64;
        let serving = TREE.iter().filter(|(site, ..)| self.case.serves(site));
        let idlest = serving.flat_map(|(site, ..)| {
            let halves = (WARM..self.end).step_by(SECOND as usize / 2);
            halves.map(move |begin| self.busy(site, (begin, begin + SECOND / 2)))
        });
        let time = |cut_only: bool| {
            let runs = self.runs.iter().filter(|run| !(cut_only && run.whole));
            runs.map(|run| run.ended - run.began).sum::<u64>() as f64
        };
        Figures {
            answered_per_s,
            goodput: answered_per_s / self.case.capacity_per_s(),
            answered: answered / all.max(1) as f64,
            late: late as f64 / answered,
            vain: vain as f64 / all.max(1) as f64,
            wasted: time(true) / time(false).max(1.0),
            near: near as f64 / answered,
            idlest: idlest.fold(f64::MAX, f64::min),
            p50_ms: took.get(took.len() / 2).map_or(0, |us| us / MS),
        }
    }

    /// What became of the calls of a burst.
    pub fn burst(&self) -> Burst {
        let at = self.case.burst.map_or(u64::MAX, |(second, _)| second * SECOND);
        let mut found = Burst::default();
        for (call, fate, _) in self.counted().filter(|(call, ..)| call.begun == at) {
            match fate {
                Fate::Answered { at } => {
                    found.answered += 1;
                    found.near += usize::from(at == call.source);
                }
                Fate::Late => found.late += 1,
                _ => found.refused += 1,
            }
        }
        found
    }

    /// A line of the table in bench/results/route-simulated.md.
    pub fn print(&self, what: &str) {
        let figures = self.figures();
        let Figures { answered_per_s, goodput, late, vain, wasted, near, idlest, p50_ms, .. } =
            figures;
        let asked = self.case.asked_per_s();
        println!(
            "| {what} | {asked:.0} | {answered_per_s:.0} | {:.0} % | {:.1} % | {:.1} % | {:.1} % | \
             {:.0} % | {:.0} % | {p50_ms} |",
            goodput * 100.0,
            late * 100.0,
            vain * 100.0,
            wasted * 100.0,
            near * 100.0,
            idlest * 100.0,
        );
    }
}
