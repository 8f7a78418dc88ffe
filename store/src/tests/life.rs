//! One store's life: random operations of several clients from a seed, a disk that refuses, forgets
//! and tears, objects whose writes fail before or after their effect, and ends by force at any
//! moment (the power goes, or the program is killed), beside a model.
//!
//! Each operation ends in one of three ways. Done: the model does it too, and it must survive
//! everything that follows. Refused: the model stays. Unknown, or cut off by force: from then on
//! the row may be as before or as after, until what is found at the next opening tells which; then
//! it must stay so.
//!
//! A row is changed by one client alone, but all of them look at all rows, flush, and count some
//! rows up together. Of the two tables one forgets its deletes as soon as it may: what was deleted
//! must stay away whatever is merged, lost and read back. Somebody follows its changes with pauses,
//! and must end up with the same rows. It is also so small that it is full at times, and its
//! segments are rewritten.
//!
//! All of it is done by one thread, and what comes next is drawn as well
//! ([`crate::runtime::seeded`]): a seed gives the same life again, in every turn of everybody.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::orders::requests::Stepped;
use super::*;
use crate::runtime::seeded::{self, Trace};
use crate::{Commit, Condition, Expect, Position, Write};

/// Steps of one life, unless `STORE_STEPS` says otherwise: a million in all three.
const STEPS: u64 = 333_334;
const CLIENTS: u64 = 3;
/// Rows of each client in each table.
const ROWS: u64 = 14;
const KEYS: i64 = (CLIENTS * ROWS) as i64;

/// Rows from here on are in the table `plain`.
const PLAIN: i64 = 1_000;
/// Rows of `stats` from here on are counted up by all.
const SHARED: i64 = 500;
const SHARED_ROWS: u64 = 2;

/// Turns after which the power goes, at most: soon, later, or much later.
const TURNS_MAX: [u64; 3] = [60, 300, 1_000];

/// What a row shows: plain value and count (in `plain` another value), none for no row.
type Shown = Option<(Option<i64>, i64)>;

/// What one client alone changes.
#[derive(Clone)]
struct Known {
    /// What the row may show.
    states: Vec<Shown>,
    /// Goes up when a change begins, and when it ends.
    moves: u64,
    /// False while the last change may not be durable: who follows hears of the row after that.
    is_settled: bool,
}

impl Default for Known {
    fn default() -> Self {
        Known { states: vec![None], moves: 0, is_settled: true }
    }
}

/// What a row may show while it is changed: as before, or as after.
struct Change {
    before: Vec<Shown>,
    after: Vec<Shown>,
    was_settled: bool,
}

/// What all have counted up together: at least, and at most.
#[derive(Clone, Copy, Default)]
struct Count {
    least: i64,
    most: i64,
}

/// What rows could show when somebody began to look.
type Seen = Vec<(i64, Known)>;

/// How often something has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    steps: u64,
    done: u64,
    /// Ends of the program by force, and openings after a close.
    cut: u64,
    closed: u64,
    /// Deleted rows that merges have left out.
    forgotten: u64,
    /// Times that who follows the changes had to begin anew.
    anew: u64,
    /// Changes that were refused because the table was full.
    full: u64,
    /// Segments of which a part was left.
    rewritten: u64,
}

struct Life {
    seed: u64,
    steps: u64,
    dice: RefCell<Dice>,
    machine: RefCell<Machine>,
    faulty: Arc<Faulty>,
    /// Of 100 requests for objects that fail, but while a store is opened.
    percent: Cell<u64>,
    config: Config,
    known: RefCell<BTreeMap<i64, Known>>,
    counts: RefCell<BTreeMap<i64, Count>>,
    /// What who follows the changes has of `plain`.
    copy: RefCell<BTreeMap<i64, Shown>>,
    position: Cell<Position>,
    is_closing: Cell<bool>,
    is_in_trouble: Cell<bool>,
    tally: RefCell<Tally>,
}

fn plain() -> TableSpec {
    spec(
        r#"{"name":"plain","key":["k"],"columns":[{"name":"k","kind":"int64"},
        {"name":"a","kind":"int64"},{"name":"n","kind":"int64"},{"name":"t","kind":"utf8"}],
        "limits":{"partition_bytes_max":9000}}"#,
    )
}

fn table_of(k: i64) -> &'static str {
    if k < PLAIN { "stats" } else { "plain" }
}

impl Life {
    fn new(seed: u64, steps: u64) -> Self {
        let faulty = Arc::new(Faulty::new(seed));
        let objects = Objects::shared(Arc::new(Stepped::over(faulty.clone())));
        let config = Config {
            segments_max: 3,
            request_timeout_ms: 60_000,
            deletes_kept_ms: 0,
            merge_bytes_max: 8_000,
            ..Config::new("", "cloud")
        };
        Life {
            seed,
            steps,
            dice: RefCell::new(Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)),
            machine: RefCell::new(Machine { objects, ..Machine::new(seed) }),
            faulty,
            percent: Cell::default(),
            config,
            known: RefCell::default(),
            counts: RefCell::default(),
            copy: RefCell::default(),
            position: Cell::default(),
            is_closing: Cell::default(),
            is_in_trouble: Cell::default(),
            tally: RefCell::default(),
        }
    }

    fn random(&self, n: u64) -> u64 {
        self.dice.borrow_mut().below(n)
    }

    fn is_over(&self) -> bool {
        self.tally.borrow().steps >= self.steps
    }

    /// What the machine does: opens the store, serves its clients, and closes it, again and again.
    async fn live(self: Rc<Self>) {
        while !self.is_over() {
            let store = self.open().await;
            self.is_closing.set(false);
            let begin = |me| seeded::spawn(self.clone().client(store.clone(), me));
            let clients: Vec<_> = (0..CLIENTS).map(begin).collect();
            for client in clients {
                client.await.unwrap();
            }
            store.close().await;
            self.tally.borrow_mut().closed += 1;
        }
    }

    /// Opens the store, which must show what it was told, and decides what could be either way.
    async fn open(&self) -> EdgeStore {
        self.faulty.fail(0);
        let machine = self.machine.borrow().clone();
        let store = machine.open(self.config.clone()).await.unwrap();
        for table in [stats(), plain()] {
            store.create_table(&table).await.unwrap();
        }
        for first in [0, PLAIN] {
            let rows = self.all(&store, first).await.unwrap();
            for k in first..first + KEYS {
                let shown = rows.get(&k).copied();
                self.check(&self.seen(k..k + 1), |_| shown);
                self.set(k, vec![shown], true);
            }
            for (k, count) in self.counts.borrow_mut().iter_mut().filter(|_| first == 0) {
                let now = rows.get(k).map_or(0, |(_, n)| *n);
                self.check_count(*k, now, *count);
                *count = Count { least: now, most: now };
            }
        }
        self.faulty.fail(self.percent.get());
        store
    }

    async fn client(self: Rc<Self>, store: EdgeStore, me: u64) {
        while !self.is_closing.get() && !self.is_over() {
            self.tally.borrow_mut().steps += 1;
            self.step(&store, me).await;
        }
    }

    async fn step(&self, store: &EdgeStore, me: u64) {
        let k = (self.random(ROWS) * CLIENTS + me) as i64;
        let any = self.random(KEYS as u64) as i64;
        let v = self.random(1_000) as i64;
        match self.random(136) {
            0..25 => self.put(store, k, v).await,
            25..45 => {
                let by = [("n".to_owned(), v)];
                let key = row! {"k": k};
                let grown = |old: Shown| {
                    let (a, n) = old.unwrap_or((None, 0));
                    Some((a, n + v))
                };
                self.change(k, store.increment("stats", &key, &by), grown).await;
            }
            45..52 => self.change(k, store.delete("stats", &[row! {"k": k}]), |_| None).await,
            52..67 => self.commit(store, k, v).await,
            67..81 => self.look(store, any).await,
            81..85 => self.count(store, v).await,
            85..90 => self.flush(store).await,
            90..93 => {
                self.percent.set([0, 0, 20, 60][self.random(4) as usize]);
                self.faulty.fail(self.percent.get());
            }
            93 if self.random(8) == 0 => self.trouble(store, k).await,
            94 if self.random(4) == 0 => self.is_closing.set(true),
            95..97 => runtime::sleep(Duration::from_millis(self.random(60))).await,
            100..126 => self.change_plain(store, k, v).await,
            126..128 => self.look(store, any + PLAIN).await,
            128..136 if me == 0 => self.follow(store).await,
            _ => self.look_at_all(store).await,
        }
    }

    async fn put(&self, store: &EdgeStore, k: i64, v: i64) {
        let row = row! {"k": k, "a": v};
        let shown = |old: Shown| Some((Some(v), old.map_or(0, |(_, n)| n)));
        self.change(k, store.put("stats", &[row]), shown).await;
    }

    async fn change_plain(&self, store: &EdgeStore, k: i64, v: i64) {
        let at = k + PLAIN;
        match self.random(5) {
            0 | 1 => {
                // So long, and so little alike, that they are most of a segment.
                let text: String =
                    (0..6).map(|_| format!("{:016x}", self.random(1 << 53))).collect();
                let row = row! {"k": k, "a": v, "t": text};
                self.change(at, store.put("plain", &[row]), |_| Some((Some(v), 0))).await;
            }
            2 => {
                let row = row! {"k": k, "n": v};
                let shown = |old: Shown| Some((old.and_then(|(a, _)| a), v));
                self.change(at, store.patch("plain", &[row]), shown).await;
            }
            _ => self.change(at, store.delete("plain", &[row! {"k": k}]), |_| None).await,
        }
    }

    /// A change of a row that nobody else changes.
    async fn change(
        &self,
        k: i64,
        asked: impl Future<Output = Result<Ack>>,
        change: impl Fn(Shown) -> Shown,
    ) {
        let change = self.begin(k, change);
        let ended = asked.await;
        self.end(k, change, ended);
    }

    /// Until it is known what has become of a change, a row may be as before or as after.
    fn begin(&self, k: i64, change: impl Fn(Shown) -> Shown) -> Change {
        let Known { states: before, is_settled: was_settled, .. } = self.known(k);
        let after: Vec<Shown> = before.iter().map(|state| change(*state)).collect();
        self.set(k, [&before[..], &after].concat(), false);
        Change { before, after, was_settled }
    }

    fn end(&self, k: i64, change: Change, ended: Result<Ack>) {
        let Change { before, after, was_settled } = change;
        seeded::note((k, ended.as_ref().map(|ack| (ack.seq, ack.hlc)).map_err(Error::code)));
        match ended {
            Ok(_) => {
                self.tally.borrow_mut().done += 1;
                self.set(k, after, true);
            }
            Err(Error::Unknown(_)) => self.set(k, [before, after].concat(), false),
            Err(error) => {
                assert!(error.retryable(), "seed {}: {error}", self.seed);
                let is_full = matches!(error, Error::Full { .. });
                self.tally.borrow_mut().full += u64::from(is_full);
                self.set(k, before, was_settled);
            }
        }
    }

    fn known(&self, k: i64) -> Known {
        self.known.borrow().get(&k).cloned().unwrap_or_default()
    }

    fn set(&self, k: i64, mut states: Vec<Shown>, is_settled: bool) {
        states.sort_unstable();
        states.dedup();
        let moves = self.known(k).moves + 1;
        self.known.borrow_mut().insert(k, Known { states, moves, is_settled });
    }

    /// A conditional commit: it must be right about the row, and do nothing if it refuses.
    async fn commit(&self, store: &EdgeStore, k: i64, v: i64) {
        let commit = Commit {
            conditions: vec![Condition { key: row! {"k": k}, expect: Expect::Absent }],
            writes: vec![
                Write::Put(row! {"k": k, "a": v}),
                Write::Patch(row! {"k": k, "a": v + 1}),
            ],
        };
        let change = self.begin(k, |old| old.or(Some((Some(v + 1), 0))));
        match store.commit("stats", &commit).await {
            Err(Error::Conflict { .. }) => {
                let there: Vec<Shown> = change.before.into_iter().filter(Option::is_some).collect();
                assert!(!there.is_empty(), "seed {}: conflict over no row {k}", self.seed);
                self.set(k, there, true);
                self.tally.borrow_mut().done += 1;
            }
            Ok(_) => {
                assert!(change.before.contains(&None), "seed {}: row {k} was there", self.seed);
                self.set(k, vec![Some((Some(v + 1), 0))], true);
                self.tally.borrow_mut().done += 1;
            }
            ended => self.end(k, change, ended),
        }
    }

    /// Counts up what others count up at the same time, or looks how far it has come.
    async fn count(&self, store: &EdgeStore, by: i64) {
        let k = SHARED + self.random(SHARED_ROWS) as i64;
        let key = row! {"k": k};
        let count = |k| self.counts.borrow().get(&k).copied().unwrap_or_default();
        let set = |count| {
            self.counts.borrow_mut().insert(k, count);
        };
        if by % 2 == 0 {
            let before = count(k);
            let Ok(found) = store.get("stats", &key).await else { return };
            let now = found.as_ref().map(shown).map_or(0, |(_, n)| n);
            self.check_count(k, now, Count { most: count(k).most, ..before });
            return;
        }
        set(Count { most: count(k).most + by, ..count(k) });
        match store.increment("stats", &key, &[("n".to_owned(), by)]).await {
            Ok(_) => set(Count { least: count(k).least + by, ..count(k) }),
            Err(Error::Unknown(_)) => {}
            Err(error) => {
                assert!(error.retryable(), "seed {}: {error}", self.seed);
                set(Count { most: count(k).most - by, ..count(k) });
            }
        }
    }

    fn check_count(&self, k: i64, now: i64, Count { least, most }: Count) {
        seeded::note((k, now));
        let is_right = (least..=most).contains(&now);
        assert!(is_right, "seed {}: row {k} counts {now}, not {least} to {most}", self.seed);
    }

    async fn flush(&self, store: &EdgeStore) {
        let forgotten =
            || store.inner.engine.read().table("plain").map_or(0, |table| table.forgotten());
        let (before, segments) = (forgotten(), segments(store));
        match store.flush().await {
            // Or the log that it begins is not known to be there.
            Ok(()) | Err(Error::Unknown(_)) => {}
            Err(error) => assert!(error.retryable(), "seed {}: {error}", self.seed),
        }
        let mut older = self::segments(store);
        older.pop();
        older.retain(|name| !segments.contains(name));
        let mut tally = self.tally.borrow_mut();
        tally.forgotten += u64::from(forgotten() > before);
        tally.rewritten += older.len() as u64;
        self.check_bytes(store);
    }

    /// What memory is said to hold is what its partitions hold.
    fn check_bytes(&self, store: &EdgeStore) {
        let state = store.inner.engine.read();
        let (mut active, mut frozen) = (0, 0);
        for table in state.tables.values() {
            let (mut memory_bytes, mut stored_bytes) = (0, 0);
            for partition in table.partitions.values() {
                active += partition.active.weight;
                frozen += partition.frozen.as_ref().map_or(0, |frozen| frozen.weight);
                memory_bytes += partition.memory_bytes();
                stored_bytes += partition.stored_bytes();
            }
            let told = (table.memory_bytes, table.stored_bytes);
            assert_eq!(told, (memory_bytes, stored_bytes), "seed {}", self.seed);
        }
        let told = (state.active_bytes, state.frozen_bytes);
        assert_eq!(told, (active, frozen), "seed {}", self.seed);
    }

    /// Takes all changes since the last time over into the copy, which then must be right.
    async fn follow(&self, store: &EdgeStore) {
        loop {
            let mut seen = self.seen(PLAIN..PLAIN + KEYS);
            seen.retain(|(_, known)| known.is_settled);
            let limit = 1 + self.random(20) as usize;
            let asked = store.changes("plain", self.position.get(), limit, Duration::ZERO).await;
            let Ok(feed) = asked else { return };
            let mut copy = self.copy.borrow_mut();
            if feed.anew {
                copy.clear();
                self.tally.borrow_mut().anew += 1;
            }
            // A position travels as text.
            self.position.set(feed.next.to_string().parse().unwrap());
            if feed.changes.is_empty() {
                return self.check(&seen, |k| copy.get(&k).copied().flatten());
            }
            for change in feed.changes {
                let shown = change.now.map(|(row, _)| shown(&row));
                copy.insert(int(&change.key["k"]).unwrap() + PLAIN, shown);
            }
        }
    }

    async fn look(&self, store: &EdgeStore, k: i64) {
        let (seen, key) = (self.seen(k..k + 1), row! {"k": k % PLAIN});
        let Ok(found) = store.get(table_of(k), &key).await else { return };
        self.check(&seen, |_| found.as_ref().map(shown));
    }

    async fn look_at_all(&self, store: &EdgeStore) {
        for first in [0, PLAIN] {
            let seen = self.seen(first..first + KEYS);
            let Ok(rows) = self.all(store, first).await else { return };
            self.check(&seen, |k| rows.get(&k).copied());
        }
    }

    async fn all(
        &self,
        store: &EdgeStore,
        first: i64,
    ) -> Result<BTreeMap<i64, (Option<i64>, i64)>> {
        let found = store.scan(table_of(first), Scan::default()).await?;
        let row = |row: &Row| (int(&row["k"]).unwrap() + first, shown(row));
        Ok(found.rows.iter().map(row).collect())
    }

    fn seen(&self, keys: std::ops::Range<i64>) -> Seen {
        keys.map(|k| (k, self.known(k))).collect()
    }

    /// What was found must be one of what could be, where nobody has changed that meanwhile.
    fn check(&self, seen: &Seen, found: impl Fn(i64) -> Shown) {
        for (k, Known { states, moves, .. }) in seen {
            let shown = found(*k);
            seeded::note((k, shown));
            let (seed, done) = (self.seed, self.tally.borrow().done);
            assert!(
                self.known(*k).moves != *moves || states.contains(&shown),
                "seed {seed}, after {done} changes: row {k} shows {shown:?}, not one of {states:?}"
            );
        }
    }

    /// The disk refuses for a while.
    async fn trouble(&self, store: &EdgeStore, k: i64) {
        if self.is_in_trouble.replace(true) {
            return;
        }
        let troubles = [Trouble::Append, Trouble::Sync, Trouble::Everything];
        let disk = self.machine.borrow().disk.clone();
        disk.trouble(troubles[self.random(3) as usize]);
        for v in 0..self.random(3) as i64 {
            self.put(store, k, v).await;
            self.look(store, k).await;
        }
        runtime::sleep(Duration::from_millis(self.random(20))).await;
        disk.trouble(Trouble::None);
        let used = async {
            while store.status().refusing.is_some() {
                runtime::sleep(Duration::from_millis(1)).await;
            }
        };
        let used = runtime::timeout(Duration::from_secs(60), used).await;
        assert!(used.is_ok(), "seed {}: the disk is not used again", self.seed);
        self.is_in_trouble.set(false);
    }

    /// The program has ended where it was: it was killed, and what it wrote is there, or the power
    /// went, and of what was not synced any sectors are lost and any are torn.
    fn program_is_gone(&self) {
        let mut machine = self.machine.borrow_mut();
        if self.random(4) > 0 {
            machine.disk = machine.disk.crash_by(|n| self.random(n));
        }
        machine.disk.trouble(Trouble::None);
        self.is_in_trouble.set(false);
        self.tally.borrow_mut().cut += 1;
    }
}

/// Those of the table that is full at times.
fn segments(store: &EdgeStore) -> Vec<String> {
    let state = store.inner.engine.read();
    let partitions = state.table("plain").unwrap().partitions.values();
    partitions.flat_map(|p| p.segments.iter().map(|s| s.meta.name.clone())).collect()
}

fn shown(row: &Row) -> (Option<i64>, i64) {
    (int(&row["a"]), int(&row["n"]).unwrap_or(0))
}

fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(i) => Some(*i),
        _ => None,
    }
}

fn live(seed: u64, steps: u64) -> (Tally, Trace) {
    seeded::by_seed(seed, async {
        let life = Rc::new(Life::new(seed, steps));
        while !life.is_over() {
            let living = seeded::on_machine(life.clone().live());
            let turns = life.random(TURNS_MAX[life.random(3) as usize]);
            if seeded::runs_for(turns, living).await {
                life.program_is_gone();
            }
        }
        let store = life.open().await;
        life.faulty.fail(0);
        life.follow(&store).await;
        life.look_at_all(&store).await;
        let tally = life.tally.borrow().clone();
        (tally, seeded::trace())
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Three lives of seeds of this run, or the one of the seed in `STORE_SEED`.
#[test]
fn nothing_acknowledged_is_lost_in_a_long_life() {
    let seeds = match number("STORE_SEED") {
        Some(seed) => vec![seed],
        None => (0..3).map(|_| crate::entropy() >> 32).collect(),
    };
    let steps = number("STORE_STEPS").unwrap_or(STEPS);
    let begin = |seed| {
        println!("seed {seed}, {steps} steps (STORE_SEED={seed}: the same life again)");
        std::thread::spawn(move || check_life(seed, steps))
    };
    let lives: Vec<_> = seeds.into_iter().map(|seed| (seed, begin(seed))).collect();
    for (seed, life) in lives {
        life.join().unwrap_or_else(|_| panic!("the life of seed {seed} ended badly"));
    }
}

fn check_life(seed: u64, steps: u64) {
    let (tally, trace) = live(seed, steps);
    println!("seed {seed}: {} turns, {:016x}, {tally:?}", trace.turns, trace.hash);
    let Tally { done, cut, closed, forgotten, anew, full, rewritten, .. } = tally;
    assert!(done > steps / 8, "only {done} changes were made");
    assert!(cut > steps / 1_000 && closed > steps / 10_000, "{cut} and {closed} times");
    assert!(forgotten > steps / 1_000 && anew > steps / 10_000, "{forgotten} and {anew} times");
    assert!(full > steps / 10_000 && rewritten > steps / 50_000, "{full} and {rewritten} times");
}

/// In this process, and in another one, which draws other seeds for its hash maps.
#[test]
fn a_seed_gives_the_same_life_again() {
    const STEPS: u64 = 3_000;
    let seed = number("STORE_SEED").unwrap_or(1);
    let (tally, trace) = live(seed, STEPS);
    println!("trace {:016x}", trace.hash);
    if std::env::var_os("STORE_TRACE_ONLY").is_some() {
        return;
    }
    let (again, same) = live(seed, STEPS);
    let apart = trace.marks.iter().zip(&same.marks).position(|(first, again)| first != again);
    assert_eq!(apart, None, "the first time after so many marks");
    assert_eq!((&tally, &trace), (&again, &same));
    assert_ne!(live(seed + 1, STEPS / 10).1.hash, trace.hash);
    let elsewhere = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::life::a_seed_gives_the_same_life_again", "--nocapture"])
        .env("STORE_SEED", seed.to_string())
        .env("STORE_TRACE_ONLY", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&elsewhere.stdout);
    assert!(said.contains(&format!("trace {:016x}\n", trace.hash)), "{said}");
}
