//! What has gone from this site to others and is not back. What was heard of those sites is older,
//! so whoever decides counts it. Pure: the time comes in.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::path::TierPath;

/// What goes to one site within this time is noted together.
const LOT: Duration = Duration::from_millis(10);

/// Requests on their way, by `app/handler`: as many as this site answers at once, and no more.
#[derive(Debug, Default)]
pub struct Sent(HashMap<String, Vec<Way>>);

/// Those for one site.
#[derive(Debug)]
struct Way {
    to: TierPath,
    count: u32,
    /// The oldest first: when the first request of each was sent, and how many are not back.
    lots: VecDeque<(Instant, u32)>,
}

/// One request on its way.
#[derive(Debug)]
pub struct Ticket {
    key: String,
    to: TierPath,
    lot: Instant,
}

impl Sent {
    /// Notes a request that goes to a site.
    pub fn note(&mut self, key: &str, to: &TierPath, now: Instant) -> Ticket {
        let ways = self.0.entry(key.to_owned()).or_default();
        let at = ways.iter().position(|way| way.to == *to).unwrap_or_else(|| {
            ways.push(Way { to: to.clone(), count: 0, lots: VecDeque::new() });
            ways.len() - 1
        });
        let Way { count, lots, .. } = &mut ways[at];
        *count += 1;
        let open = lots.back_mut().filter(|(begun, _)| now.saturating_duration_since(*begun) < LOT);
        let lot = match open {
            Some((begun, count)) => {
                *count += 1;
                *begun
            }
            None => {
                lots.push_back((now, 1));
                now
            }
        };
        Ticket { key: key.to_owned(), to: to.clone(), lot }
    }

    /// The request is back, whatever became of it.
    pub fn over(&mut self, ticket: &Ticket) {
        let Some(ways) = self.0.get_mut(&ticket.key) else { return };
        let Some(way) = ways.iter_mut().find(|way| way.to == ticket.to) else { return };
        // What was heard of the site since may have it.
        let found = way.lots.binary_search_by_key(&ticket.lot, |(begun, _)| *begun);
        let Ok(at) = found else { return };
        way.count -= 1;
        way.lots[at].1 -= 1;
        if way.lots[at].1 == 0 {
            way.lots.remove(at);
        }
        self.tidy(&ticket.key);
    }

    /// How many are on their way to each site.
    pub fn of(&self, key: &str) -> Vec<(TierPath, u32)> {
        let ways = self.0.get(key).into_iter().flatten();
        ways.map(|way| (way.to.clone(), way.count)).collect()
    }

    /// Leaves out what is in that what was heard of the sites since; `heard` says when that was.
    pub fn note_heard(&mut self, heard: impl Fn(&TierPath) -> Option<Instant>) {
        for ways in self.0.values_mut() {
            ways.retain_mut(|way| {
                let Some(heard) = heard(&way.to) else { return false };
                while let Some((begun, count)) = way.lots.front()
                    && *begun + LOT <= heard
                {
                    way.count -= count;
                    way.lots.pop_front();
                }
                !way.lots.is_empty()
            });
        }
        self.0.retain(|_, ways| !ways.is_empty());
    }

    /// The same of one handler at one site, which has just told.
    pub fn note_told(&mut self, key: &str, by: &TierPath) {
        if let Some(ways) = self.0.get_mut(key) {
            ways.retain(|way| way.to != *by);
        }
        self.tidy(key);
    }

    fn tidy(&mut self, key: &str) {
        let Some(ways) = self.0.get_mut(key) else { return };
        ways.retain(|way| !way.lots.is_empty());
        if ways.is_empty() {
            self.0.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
