//! The simulated tree: what happens, one event after another.

use std::collections::{BTreeMap, VecDeque};

use dice::Dice;

use super::super::super::*;
use super::case::{Case, Rule, TREE, number};
use super::figures::Ran;
use crate::route::news::{self, News, Offers};
use crate::route::sent::{Sent, Ticket};
use crate::route::{HOP_MARGIN, retry};

pub const SECOND: u64 = 1_000_000;
pub const MS: u64 = 1_000;
/// How long a run takes on average; each takes up to a quarter of it more or less.
pub const RUN_US: u64 = 40 * MS;
/// What is asked before this is not counted: sites have to hear of each other.
pub const WARM: u64 = 3 * SECOND;
/// How many may wait for one handler, and what stands for a run that was not measured yet: as in
/// the crate `handlers`.
const WAITING_MAX: usize = 1_024;
const RUN_US_UNKNOWN: u64 = 10 * MS;
const RUN_WEIGHT: u64 = 20;
/// How long a heartbeat waits for its answer.
const PATIENCE: u64 = 2 * SECOND;

/// The time to the next of what comes at random, so many a second.
fn gap_us(dice: &mut Dice, per_s: f64) -> u64 {
    (-(1.0 - dice.share()).ln() * SECOND as f64 / per_s) as u64
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Answered {
        at: usize,
    },
    Busy {
        at: usize,
        retry_after_us: u64,
    },
    Late,
    Away,
    /// Refused for another reason, which there is none for.
    Wrong,
}

/// A site that has passed a call on, or the one that has it; the site gives it up after `until`.
#[derive(Clone, Copy)]
struct Leg {
    at: usize,
    until: u64,
    from_above: bool,
}

pub struct Call {
    handler: usize,
    pub source: usize,
    pub begun: u64,
    from_above: bool,
    pub hops: u32,
    way: Vec<Leg>,
    /// What each of those notes of having passed it on.
    tickets: Vec<Option<Ticket>>,
    waits: bool,
    /// And when.
    pub fate: Option<(Fate, u64)>,
}

/// A place that was taken; to the end of the work, or to its deadline.
pub struct Run {
    pub at: usize,
    pub began: u64,
    pub ended: u64,
    pub whole: bool,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<usize>,
    running: u64,
    /// On average; 0 until measured.
    run_us: u64,
}

impl Queue {
    fn turn(&self, places: u64) -> (Duration, Duration) {
        let ahead = (self.running + self.waiting.len() as u64 + 1).saturating_sub(places);
        (us(ahead * self.run_us_usual() / places), us(self.run_us))
    }

    fn pace(&self, places: u64) -> Pace {
        let free = places.saturating_sub(self.running) as u32;
        Pace { each_us: self.run_us_usual() / places, free }
    }

    fn run_us_usual(&self) -> u64 {
        if self.run_us == 0 { RUN_US_UNKNOWN } else { self.run_us }
    }

    fn ran(&mut self, run_us: u64) {
        self.run_us = match self.run_us {
            0 => run_us,
            before => (before * (100 - RUN_WEIGHT) + run_us * RUN_WEIGHT) / 100,
        };
    }
}

/// What a site tells its parent of itself or of one below it.
#[derive(Clone)]
struct Told {
    site: usize,
    offers: Offers,
    rtt: Duration,
    age_us: u64,
}

struct Station {
    path: TierPath,
    parent: Option<usize>,
    places: u64,
    rtt_us: u64,
    linked: bool,
    view: View,
    sent: Sent,
    queues: Vec<Queue>,
    /// What each child told last, and when.
    told: BTreeMap<usize, (Vec<Told>, u64)>,
}

enum Event {
    Offer { at: usize },
    Burst { at: usize, calls: usize },
    Arrive { call: usize, leg: Leg },
    Done { call: usize, at: usize, began: u64, whole: bool },
    Expire { call: usize, at: usize },
    Back { call: usize, fate: Fate },
    Again { call: usize, to: usize, attempt: u32 },
    Beat { at: usize },
    Hello { at: usize, sent: u64, told: Vec<Told> },
    Heard { at: usize, sent: u64, above: Vec<News> },
    Link { at: usize, up: bool },
}

struct World<'a> {
    case: &'a Case<'a>,
    dice: Dice,
    start: Instant,
    now: u64,
    end: u64,
    keys: Vec<String>,
    placement: Placement,
    sites: Vec<Station>,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    calls: Vec<Call>,
    runs: Vec<Run>,
}

fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

pub fn simulate<'a>(case: &'a Case<'a>, seed: u64) -> Ran<'a> {
    let mut world = World::new(case, seed);
    while let Some(((now, _), event)) = world.events.pop_first() {
        world.now = now;
        world.happen(event);
    }
    let World { end, calls, runs, .. } = world;
    Ran { case, seed, end, calls, runs }
}

impl<'a> World<'a> {
    fn new(case: &'a Case<'a>, seed: u64) -> Self {
        let (start, end) = (Instant::now(), case.seconds * SECOND);
        let needs = case.gpu_at.map_or(Devices::default(), |_| Devices::GPU);
        let sites = TREE.iter().map(|&(path, class, places, rtt_ms)| {
            let path: TierPath = path.parse().expect("a path");
            let above = path.parent();
            let parent = above.as_ref().map(|above| number(above.as_str()));
            let view = View {
                here: Site::new(path.clone(), class, start),
                parent: above.map_or(ParentView::None, |path| ParentView::Away { path }),
                above: vec![],
                below: vec![],
            };
            let queues = (0..case.handlers).map(|_| Queue::default()).collect();
            let (places, rtt_us) = (places.min(case.places_max), rtt_ms * MS * case.far);
            let (linked, told, sent) = (true, BTreeMap::new(), Sent::default());
            Station { path, parent, places, rtt_us, linked, view, sent, queues, told }
        });
        let mut world = Self {
            case,
            dice: Dice::new(seed),
            start,
            now: 0,
            end,
            keys: (0..case.handlers).map(|handler| format!("a/h{handler}")).collect(),
            placement: Placement { needs, ..Placement::default() },
            sites: sites.collect(),
            events: BTreeMap::new(),
            count: 0,
            calls: vec![],
            runs: vec![],
        };
        let second = news::INTERVAL.as_micros() as u64;
        for at in 0..TREE.len() {
            let phase = if case.together { 0 } else { world.dice.below(second) };
            world.later(phase, Event::Beat { at });
        }
        for source in case.sources {
            let at = number(source);
            world.later(0, Event::Offer { at });
            if let Some((second, calls)) = case.burst {
                world.later(second * SECOND, Event::Burst { at, calls });
            }
        }
        for cut in case.cuts {
            let at = number(cut.below);
            world.later(cut.s.0 * SECOND, Event::Link { at, up: false });
            world.later(cut.s.1 * SECOND, Event::Link { at, up: true });
        }
        world
    }

    fn later(&mut self, after: u64, event: Event) {
        self.count += 1;
        self.events.insert((self.now + after, self.count), event);
    }

    fn instant(&self) -> Instant {
        self.start + us(self.now)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Offer { at } => self.offer(at),
            Event::Burst { at, calls } => (0..calls).for_each(|_| self.ask(at)),
            Event::Arrive { call, leg } => self.arrive(call, leg),
            Event::Done { call, at, began, whole } => self.done(call, at, began, whole),
            Event::Expire { call, at } => self.expire(call, at),
            Event::Back { call, fate } => self.come_back(call, fate),
            Event::Again { call, to, attempt } => self.pass_on(call, to, attempt),
            Event::Beat { at } => self.beat(at),
            Event::Hello { at, sent, told } => self.welcome(at, sent, told),
            Event::Heard { at, sent, above } => self.heard(at, sent, above),
            Event::Link { at, up } => self.sites[at].linked = up,
        }
    }

    fn offer(&mut self, at: usize) {
        let per_s = self.case.asked_per_s() / self.case.sources.len() as f64;
        let gap = gap_us(&mut self.dice, per_s);
        if self.now + gap < self.case.quiet_from_s() * SECOND {
            self.later(gap, Event::Offer { at });
        }
        self.ask(at);
    }

    fn ask(&mut self, at: usize) {
        let handler = self.dice.below(self.case.handlers as u64) as usize;
        let (begun, until) = (self.now, self.now + self.case.deadline_ms * MS);
        let (from_above, hops, waits) = (false, 0, false);
        let (source, way, tickets, fate) = (at, vec![], vec![], None);
        let call = Call { handler, source, begun, from_above, hops, way, tickets, waits, fate };
        self.calls.push(call);
        self.arrive(self.calls.len() - 1, Leg { at, until, from_above: false });
    }

    fn arrive(&mut self, call: usize, leg: Leg) {
        // It may come back once: down to where it began.
        let same = |before: &Leg| (before.at, before.from_above) == (leg.at, leg.from_above);
        let on_way = self.calls[call].way.iter().any(same);
        assert!(!on_way, "a call goes in circles, by {} again", self.sites[leg.at].path);
        self.calls[call].way.push(leg);
        self.calls[call].tickets.push(None);
        let Station { queues, places, .. } = &self.sites[leg.at];
        let queue = &queues[self.calls[call].handler];
        let (wait, run) = queue.turn(*places);
        let is_free = queue.running < *places;
        let run = if self.keeps(Rule::Runs) { run } else { Duration::ZERO };
        let code = CodeView::Ready { wait, run };
        let decision = self.decide(call, leg, code);
        self.note_sent(call, leg, code, &decision);
        match decision {
            Decision::Run => self.enter(call, leg),
            Decision::Escalate { to, .. } => {
                let devices = self.sites[leg.at].view.here.devices;
                let could_run = devices.covers(self.placement.needs);
                assert!(!(is_free && could_run), "{}: passed on from a free place", leg.at);
                self.pass_on(call, number(to.as_str()), 0);
            }
            Decision::Send { to } => {
                self.calls[call].from_above = self.keeps(Rule::Down);
                self.pass_on(call, number(to.as_str()), 0);
            }
            Decision::Refuse(refusal) => self.refuse(call, leg.at, &refusal),
            Decision::InstallThenRun => panic!("the code is everywhere"),
        }
    }

    fn decide(&self, call: usize, leg: Leg, code: CodeView) -> Decision {
        self.weigh(call, leg, code, decide)
    }

    fn note_sent(&mut self, call: usize, leg: Leg, code: CodeView, decision: &Decision) {
        let to = self.weigh(call, leg, code, |asked, handler, view, now| {
            bound_for(decision, asked, handler, view, now)
        });
        let Some(to) = to else { return };
        let (key, now) = (&self.keys[self.calls[call].handler], self.instant());
        let ticket = self.sites[leg.at].sent.note(key, &to, now);
        *self.calls[call].tickets.last_mut().expect("it is here") = Some(ticket);
    }

    fn weigh<T>(
        &self,
        call: usize,
        leg: Leg,
        code: CodeView,
        how: impl FnOnce(&Asked<'_>, &HandlerView<'_>, &View, Instant) -> T,
    ) -> T {
        let Call { handler, from_above, hops, .. } = self.calls[call];
        let sent = match self.keeps(Rule::Sent) {
            true => self.sites[leg.at].sent.of(&self.keys[handler]),
            false => vec![],
        };
        let asked = Asked {
            hops,
            time_left: us(leg.until.saturating_sub(self.now)),
            bytes: 0,
            from_above,
            keyed: false,
            user_at: None,
            sent: &sent,
        };
        let (key, placement) = (self.keys[handler].as_str(), &self.placement);
        let handler = HandlerView::Known { key, placement, code };
        let (view, now) = (&self.sites[leg.at].view, self.instant());
        if self.keeps(Rule::Ageing) {
            return how(&asked, &handler, view, now);
        }
        let mut view = view.clone();
        view.above.iter_mut().for_each(|site| site.heard = now);
        how(&asked, &handler, &view, now)
    }

    fn keeps(&self, rule: Rule) -> bool {
        self.case.without != Some(rule)
    }

    fn refuse(&mut self, call: usize, at: usize, refusal: &Refusal) {
        let fate = match (refusal.kind, refusal.retry_after_ms) {
            (RefusalKind::Overloaded, Some(ms)) => Fate::Busy { at, retry_after_us: ms * MS },
            (RefusalKind::DeadlineExceeded, None) => Fate::Late,
            (RefusalKind::Unavailable, None) => Fate::Away,
            // Nobody has heard of the device yet.
            (RefusalKind::NoHandler, None) if self.calls[call].begun < WARM => Fate::Away,
            _ => Fate::Wrong,
        };
        self.answer(call, fate);
    }

    /// A place, a place in the queue, or the way up after all.
    fn enter(&mut self, call: usize, leg: Leg) {
        let handler = self.calls[call].handler;
        let (places, queue) = (self.sites[leg.at].places, &self.sites[leg.at].queues[handler]);
        if queue.running < places {
            return self.begin(call, leg);
        }
        if queue.waiting.len() < WAITING_MAX {
            self.sites[leg.at].queues[handler].waiting.push_back(call);
            self.calls[call].waits = true;
            return self.later(leg.until - self.now, Event::Expire { call, at: leg.at });
        }
        let wait = us(leg.until - self.now);
        let code = CodeView::Ready { wait, run: Duration::ZERO };
        let decision = self.decide(call, leg, code);
        self.note_sent(call, leg, code, &decision);
        match decision {
            Decision::Escalate { to, .. } => self.pass_on(call, number(to.as_str()), 0),
            _ => self.answer(call, Fate::Busy { at: leg.at, retry_after_us: SECOND }),
        }
    }

    fn begin(&mut self, call: usize, leg: Leg) {
        self.calls[call].waits = false;
        self.sites[leg.at].queues[self.calls[call].handler].running += 1;
        let run_us = RUN_US * 3 / 4 + self.dice.below(RUN_US / 2);
        let left = leg.until.saturating_sub(self.now);
        let (at, began, whole) = (leg.at, self.now, run_us <= left);
        self.later(run_us.min(left), Event::Done { call, at, began, whole });
    }

    /// A run ended by itself, or with its deadline.
    fn done(&mut self, call: usize, at: usize, began: u64, whole: bool) {
        self.runs.push(Run { at, began, ended: self.now, whole });
        let queue = &mut self.sites[at].queues[self.calls[call].handler];
        queue.running -= 1;
        if whole {
            queue.ran(self.now - began);
        }
        if let Some(next) = queue.waiting.pop_front() {
            let leg = *self.calls[next].way.last().expect("it is here");
            self.begin(next, leg);
        }
        self.answer(call, if whole { Fate::Answered { at } } else { Fate::Late });
    }

    fn expire(&mut self, call: usize, at: usize) {
        if self.calls[call].waits {
            self.calls[call].waits = false;
            let queue = &mut self.sites[at].queues[self.calls[call].handler];
            queue.waiting.retain(|waiting| *waiting != call);
            self.answer(call, Fate::Late);
        }
    }

    /// From the site that has a call to the one that asked it, or to the client.
    fn answer(&mut self, call: usize, fate: Fate) {
        let leg = self.calls[call].way.pop().expect("somebody has it");
        if let Some(ticket) = self.calls[call].tickets.pop().flatten() {
            self.sites[leg.at].sent.over(&ticket);
        }
        let Some(asker) = self.calls[call].way.last().copied() else {
            assert_eq!(self.calls[call].fate, None);
            let fate = if self.now > leg.until { Fate::Late } else { fate };
            self.calls[call].fate = Some((fate, self.now));
            return;
        };
        match self.way_us(asker.at, leg.at) {
            Some(way) if self.now + way <= asker.until => {
                self.later(way, Event::Back { call, fate });
            }
            _ => {
                let left = asker.until.saturating_sub(self.now);
                self.later(left, Event::Back { call, fate: Fate::Late });
            }
        }
    }

    fn come_back(&mut self, call: usize, fate: Fate) {
        let leg = *self.calls[call].way.last().expect("somebody asked");
        if let Fate::Busy { at, retry_after_us } = fate {
            let by = self.sites[at].path.clone();
            let handler = self.calls[call].handler;
            let (now, site) = (self.instant(), &mut self.sites[leg.at]);
            let (_, run) = site.queues[handler].turn(site.places);
            let refused = Refused {
                by: &by,
                key: &self.keys[handler],
                left: us(leg.until.saturating_sub(self.now)),
                run,
                retry_after: us(retry_after_us),
            };
            if self.case.without != Some(Rule::Notes) {
                let full = site.view.full(&refused, now);
                site.view.note_full(refused.key, &full);
                full.iter().for_each(|(told, _)| site.sent.note_told(refused.key, told));
            }
        }
        self.answer(call, fate);
    }

    /// From the site that has a call to another; over a broken link it is tried again, or by way
    /// of the parent.
    fn pass_on(&mut self, call: usize, to: usize, attempt: u32) {
        let leg = *self.calls[call].way.last().expect("somebody has it");
        let left = us(leg.until.saturating_sub(self.now)).saturating_sub(HOP_MARGIN);
        if left.is_zero() {
            return self.answer(call, Fate::Late);
        }
        let parent = self.sites[leg.at].parent;
        match self.way_us(leg.at, to) {
            Some(way) => {
                self.calls[call].hops += 1;
                let site = &self.sites[leg.at];
                let told = match self.keeps(Rule::Budget) {
                    true => site.view.budget(&self.sites[to].path, left),
                    false => left,
                };
                let until = self.now + way + told.saturating_sub(HOP_MARGIN).as_micros() as u64;
                let from_above = self.calls[call].from_above;
                self.later(way, Event::Arrive { call, leg: Leg { at: to, until, from_above } });
            }
            None if !self.calls[call].from_above && parent != Some(to) => {
                self.pass_on(call, parent.expect("what is above is above the parent"), 0);
            }
            None if attempt < retry::RETRIES_MAX => {
                let pause = retry::pause(attempt, self.dice.roll()).min(left).as_micros() as u64;
                self.later(pause, Event::Again { call, to, attempt: attempt + 1 });
            }
            None => self.answer(call, Fate::Away),
        }
    }

    /// How long a message takes between a site and one above or below it; none over broken links.
    fn way_us(&self, one: usize, other: usize) -> Option<u64> {
        let below = |low: usize, high: usize| {
            let up = std::iter::successors(Some(low), |at| self.sites[*at].parent);
            let links: Vec<usize> = up.take_while(|at| *at != high).collect();
            let top = links.last().and_then(|at| self.sites[*at].parent);
            (top == Some(high)).then_some(links)
        };
        let links = below(one, other).or_else(|| below(other, one)).expect("one is above");
        let whole = links.iter().all(|at| self.sites[*at].linked);
        whole.then(|| links.iter().map(|at| self.sites[*at].rtt_us / 2).sum())
    }

    fn offers(&self, at: usize) -> Offers {
        let Station { queues, places, path, .. } = &self.sites[at];
        let waits = self.keys.iter().zip(queues).map(|(key, queue)| {
            let (wait, _) = queue.turn(*places);
            (key.clone(), wait)
        });
        let waits = waits.filter(|(_, wait)| !wait.is_zero()).collect();
        let is_lost = self.now / SECOND >= self.case.gpu_lost_s;
        let has_gpu = self.case.gpu_at == Some(path.as_str()) && !is_lost;
        let devices = if has_gpu { Devices::CPU.with(Devices::GPU) } else { Devices::CPU };
        let paces = self.keys.iter().zip(queues);
        let paces = paces.map(|(key, queue)| (key.clone(), queue.pace(*places))).collect();
        let (waits_ms, paces) = (Offers::longest(waits), Offers::slowest(paces));
        Offers { devices, waits_ms, paces, ..Offers::default() }
    }

    fn here(&self, at: usize) -> Site {
        let Site { path, class, .. } = self.sites[at].view.here.clone();
        self.offers(at).site(path, class, Duration::ZERO, self.instant())
    }

    /// What a site has heard from below, as old as it is by now.
    fn heard_below(&self, at: usize) -> Vec<Told> {
        let told = self.sites[at].told.values();
        let aged = told.flat_map(|(told, heard)| {
            let age_us = self.now - heard;
            told.iter().map(move |told| Told { age_us: told.age_us + age_us, ..told.clone() })
        });
        aged.collect()
    }

    fn beat(&mut self, at: usize) {
        let below = self.heard_below(at);
        let sites = below.iter().map(|told| {
            let Site { path, class, .. } = self.sites[told.site].view.here.clone();
            let heard = self.instant().checked_sub(us(told.age_us)).unwrap_or(self.start);
            told.offers.clone().site(path, class, told.rtt, heard)
        });
        let (here, below_sites) = (self.here(at), sites.collect());
        self.sites[at].view.here = here;
        self.sites[at].view.below = below_sites;
        self.forget_sent(at);
        let interval = news::INTERVAL.as_micros() as u64;
        if self.now >= self.end {
            return;
        }
        let Some(parent) = self.sites[at].parent else {
            return self.later(interval, Event::Beat { at });
        };
        if !self.sites[at].linked {
            let path = self.sites[parent].path.clone();
            self.sites[at].view.parent = ParentView::Away { path };
            return self.later(interval, Event::Beat { at });
        }
        let rtt = us(self.sites[at].rtt_us);
        let own = Told { site: at, offers: self.offers(at), rtt, age_us: 0 };
        let others = below.into_iter().map(|told| Told { rtt: told.rtt + rtt, ..told });
        let told = std::iter::once(own).chain(others).collect();
        self.later(self.sites[at].rtt_us / 2, Event::Hello { at, sent: self.now, told });
    }

    fn welcome(&mut self, at: usize, sent: u64, told: Vec<Told>) {
        let parent = self.sites[at].parent.expect("it spoke to one");
        if !self.sites[at].linked {
            return self.later(PATIENCE, Event::Beat { at });
        }
        self.sites[parent].told.insert(at, (told, self.now));
        let above = news::tell(&self.here(parent), &self.sites[parent].view.above, self.instant());
        self.later(self.sites[at].rtt_us / 2, Event::Heard { at, sent, above });
    }

    /// What was sent before a site was heard of is in what was heard.
    fn forget_sent(&mut self, at: usize) {
        let Station { sent, view, .. } = &mut self.sites[at];
        sent.note_heard(|to| view.heard(to));
    }

    fn heard(&mut self, at: usize, sent: u64, above: Vec<News>) {
        let (now, measured) = (self.instant(), us(self.now - sent));
        let Station { view, path, .. } = &mut self.sites[at];
        let rtt = news::smooth(&view.parent, measured);
        view.above = news::take(above, path, (rtt, None), |_| None, now);
        view.parent = ParentView::Near { path: path.parent().expect("it has one"), rtt };
        self.forget_sent(at);
        self.later(news::INTERVAL.as_micros() as u64, Event::Beat { at });
    }
}
