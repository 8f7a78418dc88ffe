use proptest::prelude::*;

use super::*;

/// How many events the log of a simulation has.
const EVENTS: u64 = 24;

/// Two apps with two keys each; every fifth event wants no order, every seventh has two lines.
fn app(seq: u64) -> &'static str {
    ["a", "b"][seq as usize % 2]
}

fn lines(seq: u64) -> Vec<Line> {
    let line = |handler: &str, key: u64| Line { handler: handler.into(), key: key.to_string() };
    match seq {
        seq if seq.is_multiple_of(5) => vec![],
        seq if seq.is_multiple_of(7) => vec![line("h", seq / 2 % 2), line("other", 0)],
        seq => vec![line("h", seq / 2 % 2)],
    }
}

/// A log that delivers, and a node that handles, with everything that may go wrong.
#[derive(Default)]
struct World {
    turns: Turns,
    /// The log: what it has delivered, and what of that is not acknowledged.
    delivered: u64,
    pending: BTreeSet<u64>,
    /// The node has not noticed yet that a delivery did not arrive.
    lost: bool,
    /// Copies of events in the node: some wait, some run. Those that were done once stay known.
    waiting: Vec<u64>,
    running: Vec<u64>,
    settled: BTreeSet<u64>,
    /// The events of each line, as they were handled.
    handled: HashMap<(&'static str, Line), Vec<u64>>,
    all: BTreeSet<u64>,
}

impl World {
    fn floor(&self) -> u64 {
        self.pending.first().map_or(self.delivered, |first| first - 1)
    }

    /// What the node does when it begins, and when it notices that it missed something.
    fn look(&mut self) {
        self.turns.passed(self.floor());
        for seq in self.floor() + 1..=self.delivered {
            self.turns.arrive(seq, app(seq));
            self.turns.join(seq, lines(seq));
        }
        self.lost = false;
    }

    fn receive(&mut self, seq: u64) {
        if self.lost {
            self.look();
        }
        self.turns.arrive(seq, app(seq));
        self.waiting.push(seq);
    }

    fn pick(list: &mut Vec<u64>, at: u8) -> Option<u64> {
        (!list.is_empty()).then(|| list.swap_remove(at as usize % list.len()))
    }

    fn acknowledge(&mut self, seq: u64) {
        self.pending.remove(&seq);
        self.turns.leave(seq);
    }

    fn try_to_run(&mut self, at: u8) {
        let Some(seq) = Self::pick(&mut self.waiting, at) else { return };
        self.turns.join(seq, lines(seq));
        let turn = if lines(seq).is_empty() { Turn::Now } else { self.turns.begin(seq) };
        match turn {
            Turn::Now => self.running.push(seq),
            Turn::Wait => self.waiting.push(seq),
            Turn::Over => self.acknowledge(seq),
        }
        for line in lines(seq) {
            let same = |other: &&u64| app(**other) == app(seq) && lines(**other).contains(&line);
            assert!(self.running.iter().filter(same).count() <= 1, "two of {line:?} at once");
        }
    }

    fn end(&mut self, at: u8, success: bool, acknowledged: bool) {
        let Some(seq) = Self::pick(&mut self.running, at) else { return };
        if success && self.settled.insert(seq) {
            self.all.insert(seq);
            for line in lines(seq) {
                self.handled.entry((app(seq), line)).or_default().push(seq);
            }
        }
        match success && acknowledged {
            true => self.acknowledge(seq),
            false => drop(self.turns.rest(seq)),
        }
    }

    fn step(&mut self, what: u8, at: u8) {
        let more = self.delivered < EVENTS;
        match what % 16 {
            0..=3 if more => {
                self.delivered += 1;
                self.pending.insert(self.delivered);
                self.receive(self.delivered);
            }
            4 if more => {
                self.delivered += 1;
                self.pending.insert(self.delivered);
                self.lost = true;
            }
            5 | 6 => {
                let seq = self.pending.iter().nth(at as usize % self.pending.len().max(1));
                if let Some(seq) = seq.copied() {
                    self.receive(seq);
                }
            }
            7..=9 => self.try_to_run(at),
            10 => self.end(at, false, true),
            11 => self.end(at, true, false),
            12 | 13 => self.end(at, true, true),
            14 => drop(self.turns.passed(self.floor())),
            15 if at < 32 => {
                (self.turns, self.settled) = Default::default();
                (self.waiting, self.running) = Default::default();
                self.look();
            }
            _ => {}
        }
    }

    /// Everything is delivered and succeeds.
    fn drain(&mut self) {
        for round in 0..40 * EVENTS {
            self.step([0, 5, 14][round as usize % 3], round as u8);
            for at in 0..self.waiting.len() {
                self.try_to_run(at as u8);
            }
            while !self.running.is_empty() {
                self.end(0, true, true);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_line_is_ever_out_of_order_and_nothing_is_lost(
        steps in prop::collection::vec((any::<u8>(), any::<u8>()), 0..400)
    ) {
        let mut world = World::default();
        for (what, at) in steps {
            world.step(what, at);
        }
        world.drain();
        prop_assert_eq!(world.all.len() as u64, EVENTS, "lost: {:?}", world.pending);
        prop_assert!(world.pending.is_empty());
        for (line, events) in &world.handled {
            // One that was in hand of a node that died comes again, before any later one.
            prop_assert!(events.is_sorted(), "{:?}: {:?}", line, events);
        }
        world.turns.passed(EVENTS);
        prop_assert!(world.turns.is_empty() && world.turns.apps.is_empty());
    }
}

fn line(handler: &str, key: &str) -> Vec<Line> {
    vec![Line { handler: handler.into(), key: key.into() }]
}

#[test]
fn a_failing_event_keeps_back_its_key_and_no_other() {
    let mut turns = Turns::default();
    for (seq, key) in [(1, "x"), (2, "x"), (3, "y")] {
        turns.arrive(seq, "app");
        turns.join(seq, line("h", key));
    }
    assert_eq!([1, 2, 3].map(|seq| turns.begin(seq)), [Turn::Now, Turn::Wait, Turn::Now]);
    turns.rest(1);
    assert_eq!(
        (turns.begin(2), turns.begin(1), turns.begin(1)),
        (Turn::Wait, Turn::Now, Turn::Wait)
    );
    assert_eq!(turns.leave(1), [2, 1], "who waits for it is told");
    assert_eq!((turns.begin(1), turns.begin(2)), (Turn::Over, Turn::Now));
}

#[test]
fn an_event_that_nobody_has_read_keeps_back_its_app_alone() {
    let mut turns = Turns::default();
    turns.arrive(1, "app");
    for (seq, app) in [(2, "app"), (3, "other")] {
        turns.arrive(seq, app);
        turns.join(seq, line("h", "x"));
    }
    assert_eq!((turns.begin(2), turns.begin(3)), (Turn::Wait, Turn::Now));
    assert_eq!(turns.join(1, vec![]), [2]);
    assert_eq!(turns.begin(2), Turn::Now);
}

#[test]
fn a_log_that_was_made_anew_is_believed() {
    let mut turns = Turns::default();
    turns.passed(100);
    turns.arrive(7, "app");
    turns.join(7, line("h", "x"));
    assert_eq!(turns.begin(7), Turn::Over);
    turns.passed(0);
    turns.arrive(7, "app");
    turns.join(7, line("h", "x"));
    assert_eq!(turns.begin(7), Turn::Now);
}

#[test]
fn what_is_over_is_forgotten_at_the_limit() {
    let mut turns = Turns::default();
    for seq in 1..=OVER_MAX as u64 + 1 {
        turns.arrive(seq, "app");
        turns.join(seq, line("h", "x"));
        turns.leave(seq);
    }
    assert_eq!((turns.over.len(), turns.is_over(1), turns.is_over(2)), (OVER_MAX, false, true));
}
