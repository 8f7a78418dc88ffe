//! Turns at devices that several processes of one host use.
//!
//! One process has the [`Referee`]: a queue for each device, in which whoever has had the least
//! device time for its share is next. The others ask it over a local socket, with a connection for
//! each device. A connection that ends gives back what it held, so nobody who dies keeps a device.
//! Where the referee does not answer, a process goes without turns: devices are then shared as
//! their drivers share them, and no job waits for somebody who is gone.

mod door;
mod seat;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use door::Door;
pub(crate) use seat::Seat;

use crate::queue::{Queue, Rank};

/// How long a turn may last while others wait; who has it longer is taken to be stuck.
pub const HELD_MAX: Duration = Duration::from_secs(10);
/// How often those who wait look whether the one who has the device is stuck.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many devices there are turns at.
const DEVICES_MAX: usize = 64;
/// The largest share of a process.
pub const SHARE_MAX: u32 = 100;

/// Who a process is to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// One word.
    pub name: String,
    /// How much device time it gets beside the others': 1 to [`SHARE_MAX`].
    pub share: u32,
}

/// How a process comes to its turns.
#[derive(Clone, Default)]
pub enum Turns {
    /// Nobody else uses the devices.
    #[default]
    Alone,
    /// The referee is in this process.
    Own(Arc<Referee>, Member),
    /// The referee is behind this socket.
    Asked(PathBuf, Member),
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alone => f.write_str("Alone"),
            Self::Own(_, member) => write!(f, "Own({member:?})"),
            Self::Asked(path, member) => write!(f, "Asked({}, {member:?})", path.display()),
        }
    }
}

/// Device time that a process has had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    pub device: String,
    pub member: String,
    pub busy_us: u64,
}

/// Gives turns at devices.
#[derive(Default)]
pub struct Referee {
    desks: Mutex<HashMap<String, Desk>>,
    changed: Condvar,
}

/// One device.
#[derive(Default)]
struct Desk {
    waiting: Queue<(Ticket, Member)>,
    holder: Option<Holder>,
    tickets: u64,
    served_us: HashMap<String, u64>,
}

struct Holder {
    ticket: Ticket,
    member: Member,
    since: Instant,
}

/// A place in the queue of a device, and then the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticket(u64);

impl Desk {
    /// Takes a place in the queue; none when it is full.
    fn want(&mut self, member: &Member, now: Instant) -> Option<Ticket> {
        let (rank, ticket) = self.ticket(member);
        if let Some(holder) = &self.holder {
            self.waiting.level_with(&member.name, &holder.member.name);
        }
        self.waiting.push(rank, (ticket, member.clone())).ok()?;
        self.call_next(now);
        Some(ticket)
    }

    fn ticket(&mut self, member: &Member) -> (Rank, Ticket) {
        self.tickets += 1;
        let rank = Rank { priority: 0, tenant: member.name.clone(), deadline_us: u64::MAX };
        (rank, Ticket(self.tickets))
    }

    fn has(&self, ticket: Ticket) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.ticket == ticket)
    }

    /// Ends a turn, and takes a new place first where more is to be done: so a process with work
    /// is compared with the others at each end, also when it has but one place at a time.
    fn end(&mut self, ticket: Ticket, more: bool, now: Instant) -> Option<Ticket> {
        let holder = self.holder.take_if(|holder| holder.ticket == ticket)?;
        let us = now.saturating_duration_since(holder.since).as_micros() as u64;
        let share = u64::from(holder.member.share.clamp(1, SHARE_MAX));
        self.waiting.charge(&holder.member.name, us * u64::from(SHARE_MAX) / share);
        *self.served_us.entry(holder.member.name.clone()).or_default() += us;
        let next = more.then(|| {
            let (rank, ticket) = self.ticket(&holder.member);
            self.waiting.push_again(rank, (ticket, holder.member)).ok().map(|()| ticket)
        });
        self.call_next(now);
        next.flatten()
    }

    /// Whether a place is still good: one who was stuck has lost it.
    fn knows(&self, ticket: Ticket) -> bool {
        self.has(ticket) || self.waiting.waiting().any(|(waiting, _)| *waiting == ticket)
    }

    /// Gives up a place, or ends the turn.
    fn leave(&mut self, ticket: Ticket, now: Instant) {
        self.waiting.retain(|(waiting, _)| *waiting != ticket);
        self.end(ticket, false, now);
    }

    fn call_next(&mut self, now: Instant) {
        if self.holder.is_none()
            && let Some((ticket, member)) = self.waiting.pop()
        {
            self.holder = Some(Holder { ticket, member, since: now });
        }
    }

    /// Ends the turn of one that is stuck while others wait.
    fn free_from_stuck(&mut self, now: Instant) {
        let stuck = |holder: &Holder| now.saturating_duration_since(holder.since) >= HELD_MAX;
        if self.waiting.len() > 0
            && let Some(ticket) = self.holder.as_ref().filter(|h| stuck(h)).map(|h| h.ticket)
        {
            self.end(ticket, false, now);
        }
    }
}

impl Referee {
    /// One that knows no device yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Who has had how much of each device.
    pub fn served(&self) -> Vec<Served> {
        let desks = self.desks();
        let all = desks.iter().flat_map(|(device, desk)| {
            desk.served_us.iter().map(|(member, busy_us)| Served {
                device: device.clone(),
                member: member.clone(),
                busy_us: *busy_us,
            })
        });
        let mut all: Vec<Served> = all.collect();
        all.sort_by(|a, b| (&a.device, &a.member).cmp(&(&b.device, &b.member)));
        all
    }

    /// Takes a place in a device's queue; none where that is full.
    fn want(&self, device: &str, member: &Member) -> Option<Ticket> {
        let mut desks = self.desks();
        if desks.len() >= DEVICES_MAX && !desks.contains_key(device) {
            return None;
        }
        desks.entry(device.to_owned()).or_default().want(member, Instant::now())
    }

    /// Waits for the turn.
    fn wait(&self, device: &str, ticket: Ticket) {
        let mut desks = self.desks();
        let waits = |desk: &Desk| !desk.has(ticket) && desk.knows(ticket);
        while desks.get(device).is_some_and(waits) {
            let waited = self.changed.wait_timeout(desks, LOOK_EVERY);
            let (locked, late) = waited.unwrap_or_else(PoisonError::into_inner);
            desks = locked;
            if late.timed_out()
                && let Some(desk) = desks.get_mut(device)
            {
                desk.free_from_stuck(Instant::now());
                self.changed.notify_all();
            }
        }
    }

    /// Ends a turn; returns the next place, where one is wanted.
    fn end(&self, device: &str, ticket: Ticket, more: bool) -> Option<Ticket> {
        let next = self.desks().get_mut(device)?.end(ticket, more, Instant::now());
        self.changed.notify_all();
        next
    }

    /// Gives up a place or a turn: whoever had it has gone.
    fn leave(&self, device: &str, ticket: Ticket) {
        if let Some(desk) = self.desks().get_mut(device) {
            desk.leave(ticket, Instant::now());
        }
        self.changed.notify_all();
    }

    fn desks(&self) -> MutexGuard<'_, HashMap<String, Desk>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
