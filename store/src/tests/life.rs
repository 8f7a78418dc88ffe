//! One store's life: random operations from a seed, a disk that refuses, forgets and tears, objects
//! whose writes fail before or after their effect, and power losses, beside a model.
//!
//! Each operation ends in one of three ways. Done: the model does it too, and it must survive
//! everything that follows. Refused: the model stays. Unknown: from then on the row may be as
//! before or as after, until a read tells which; then it must stay so.
//!
//! Of the two tables one forgets its deletes as soon as it may: what was deleted must stay away
//! whatever is merged, lost and read back. Somebody follows its changes with pauses, and must end
//! up with the same rows. It is also so small that it is full at times, and its segments are
//! rewritten.
//!
//! A seed gives the same operations in the same order again, with crashes and faults among them.
//! Not the same run: how much of the log is synced when the power goes is up to the threads of the
//! machine, and with it what a crash leaves, and what each operation meets.

use std::collections::BTreeMap;

use super::*;
use crate::{Commit, Condition, Expect, Position, Write};

/// Steps of one life, unless `STORE_STEPS` says otherwise: a million in all three.
const STEPS: u64 = 333_334;
const KEYS: u64 = 40;

/// Rows from here on are in the table `plain`.
const PLAIN: i64 = 1_000;

/// What a row shows: plain value and count (in `plain` another value), none for no row.
type Shown = Option<(Option<i64>, i64)>;

struct Life {
    seed: u64,
    random: u64,
    /// For what takes as many numbers as there happens to be of something.
    other: Dice,
    machine: Machine,
    faulty: Arc<Faulty>,
    store: EdgeStore,
    config: Config,
    /// What each row may show, the first being the likeliest.
    model: BTreeMap<i64, Vec<Shown>>,
    done: u64,
    /// What who follows the changes has of `plain`, and how often it had to begin anew.
    copy: BTreeMap<i64, Shown>,
    position: Position,
    anew: u64,
    /// Deleted rows that merges have left out.
    forgotten: u64,
    /// Changes that were refused because the table was full.
    full: u64,
    /// Segments of which a part was left.
    rewritten: u64,
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
    async fn begin(seed: u64) -> Self {
        let faulty = Arc::new(Faulty::new(seed));
        let machine = Machine { objects: Objects::shared(faulty.clone()), ..Machine::new(seed) };
        let config = Config {
            segments_max: 3,
            request_timeout_ms: 60_000,
            deletes_kept_ms: 0,
            merge_bytes_max: 8_000,
            ..Config::new("", "cloud")
        };
        let store = machine.open(config.clone()).await.unwrap();
        store.create_table(&stats()).await.unwrap();
        store.create_table(&plain()).await.unwrap();
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Life {
            seed,
            random,
            other: Dice(random ^ 0x5555),
            machine,
            faulty,
            store,
            config,
            model: BTreeMap::new(),
            done: 0,
            copy: BTreeMap::new(),
            position: Position::default(),
            anew: 0,
            forgotten: 0,
            full: 0,
            rewritten: 0,
        }
    }

    fn random(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % n
    }

    async fn step(&mut self) {
        let k = self.random(KEYS) as i64;
        let v = self.random(1_000) as i64;
        match self.random(134) {
            100..126 => self.change_plain(k, v).await,
            126..128 => self.look(k + PLAIN).await,
            128..132 => self.follow().await,
            0..25 => {
                let ended = self.store.put("stats", &[row! {"k": k, "a": v}]).await;
                self.after(k, ended, |old| Some((Some(v), old.map_or(0, |(_, n)| n))));
            }
            25..45 => {
                let by = [("n".to_owned(), v)];
                let ended = self.store.increment("stats", &row! {"k": k}, &by).await;
                let grown = |old: Shown| {
                    let (a, n) = old.unwrap_or((None, 0));
                    Some((a, n + v))
                };
                self.after(k, ended, grown);
            }
            45..52 => {
                let ended = self.store.delete("stats", &[row! {"k": k}]).await;
                self.after(k, ended, |_| None);
            }
            52..67 => self.commit(k, v).await,
            67..85 => self.look(k).await,
            85..90 => self.flush().await,
            90..93 => {
                let percent = [0, 0, 20, 60][self.random(4) as usize];
                self.faulty.fail(percent);
            }
            93 if self.random(8) == 0 => self.trouble().await,
            94..96 => self.crash().await,
            _ => self.look_at_all().await,
        }
    }

    async fn flush(&mut self) {
        let forgotten = |life: &Life| {
            life.store.inner.engine.read().table("plain").map_or(0, |table| table.forgotten())
        };
        let (before, segments) = (forgotten(self), self.segments());
        if let Err(error) = self.store.flush().await {
            assert!(error.retryable(), "seed {}: {error}", self.seed);
        }
        self.forgotten += u64::from(forgotten(self) > before);
        let older = self.segments();
        let older = older.split_last().map_or(&[][..], |(_, older)| older);
        self.rewritten += older.iter().filter(|name| !segments.contains(name)).count() as u64;
        self.check_bytes();
    }

    /// Those of the table that is full at times.
    fn segments(&self) -> Vec<String> {
        let state = self.store.inner.engine.read();
        let partitions = state.table("plain").unwrap().partitions.values();
        partitions.flat_map(|p| p.segments.iter().map(|s| s.meta.name.clone())).collect()
    }

    /// What memory is said to hold is what its partitions hold.
    fn check_bytes(&self) {
        let state = self.store.inner.engine.read();
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

    async fn change_plain(&mut self, k: i64, v: i64) {
        let at = k + PLAIN;
        match self.random(5) {
            0 | 1 => {
                // So long, and so little alike, that they are most of a segment.
                let text: String =
                    (0..6).map(|_| format!("{:016x}", self.random(1 << 53))).collect();
                let ended = self.store.put("plain", &[row! {"k": k, "a": v, "t": text}]).await;
                self.after(at, ended, |_| Some((Some(v), 0)));
            }
            2 => {
                let ended = self.store.patch("plain", &[row! {"k": k, "n": v}]).await;
                self.after(at, ended, |old| Some((old.and_then(|(a, _)| a), v)));
            }
            _ => {
                let ended = self.store.delete("plain", &[row! {"k": k}]).await;
                self.after(at, ended, |_| None);
            }
        }
    }

    /// Takes all changes since the last time over into the copy, which then must be right.
    async fn follow(&mut self) {
        loop {
            let limit = 1 + self.other.below(20) as usize;
            let asked = self.store.changes("plain", self.position, limit, Duration::ZERO).await;
            let Ok(feed) = asked else { return };
            if feed.anew {
                self.copy.clear();
                self.anew += 1;
            }
            // A position travels as text.
            self.position = feed.next.to_string().parse().unwrap();
            if feed.changes.is_empty() {
                break;
            }
            for change in feed.changes {
                let shown = change.now.map(|(row, _)| shown(&row));
                self.copy.insert(int(&change.key["k"]).unwrap() + PLAIN, shown);
            }
        }
        for k in PLAIN..PLAIN + KEYS as i64 {
            let copied = self.copy.get(&k).copied().flatten();
            self.check(k, copied);
        }
    }

    /// A conditional commit: it must be right about the row, and do nothing if it refuses.
    async fn commit(&mut self, k: i64, v: i64) {
        let key = row! {"k": k};
        let commit = Commit {
            conditions: vec![Condition { key: key.clone(), expect: Expect::Absent }],
            writes: vec![
                Write::Put(row! {"k": k, "a": v}),
                Write::Patch(row! {"k": k, "a": v + 1}),
            ],
        };
        let could_be = self.model.get(&k).cloned().unwrap_or(vec![None]);
        match self.store.commit("stats", &commit).await {
            Err(Error::Conflict { .. }) => {
                let there: Vec<Shown> = could_be.into_iter().filter(Option::is_some).collect();
                assert!(!there.is_empty(), "seed {}: conflict over no row {k}", self.seed);
                self.model.insert(k, there);
                self.done += 1;
            }
            Ok(_) => {
                assert!(could_be.contains(&None), "seed {}: row {k} was there", self.seed);
                self.model.insert(k, vec![Some((Some(v + 1), 0))]);
                self.done += 1;
            }
            ended => self.after(k, ended, |old| old.or(Some((Some(v + 1), 0)))),
        }
    }

    fn after(&mut self, k: i64, ended: Result<crate::Ack>, change: impl Fn(Shown) -> Shown) {
        let states = self.model.entry(k).or_insert_with(|| vec![None]);
        match ended {
            Ok(_) => {
                states.iter_mut().for_each(|state| *state = change(*state));
                self.done += 1;
            }
            Err(Error::Unknown(_)) => {
                let changed: Vec<Shown> = states.iter().map(|state| change(*state)).collect();
                states.extend(changed);
            }
            Err(error) => {
                self.full += u64::from(matches!(error, Error::Full { .. }));
                assert!(error.retryable(), "seed {}: {error}", self.seed);
            }
        }
        states.sort();
        states.dedup();
    }

    async fn look(&mut self, k: i64) {
        let key = row! {"k": k % PLAIN};
        let Ok(found) = self.store.get(table_of(k), &key).await else { return };
        self.check(k, found.as_ref().map(shown));
    }

    async fn look_at_all(&mut self) {
        for first in [0, PLAIN] {
            let Ok(found) = self.store.scan(table_of(first), Scan::default()).await else { return };
            let rows: BTreeMap<i64, (Option<i64>, i64)> =
                found.rows.iter().map(|r| (int(&r["k"]).unwrap() + first, shown(r))).collect();
            for k in first..first + KEYS as i64 {
                self.check(k, rows.get(&k).copied());
            }
        }
    }

    fn check(&mut self, k: i64, shown: Shown) {
        let states = self.model.entry(k).or_insert_with(|| vec![None]);
        assert!(
            states.contains(&shown),
            "seed {}, after {} changes: row {k} shows {shown:?}, not one of {states:?}",
            self.seed,
            self.done
        );
    }

    /// The disk refuses for a while.
    async fn trouble(&mut self) {
        let troubles = [Trouble::Append, Trouble::Sync, Trouble::Everything];
        let trouble = troubles[self.random(3) as usize];
        self.machine.disk.trouble(trouble);
        let k = self.random(KEYS) as i64;
        let ended = self.store.put("stats", &[row! {"k": k, "a": 7}]).await;
        self.after(k, ended, |old| Some((Some(7), old.map_or(0, |(_, n)| n))));
        self.look(k).await;
        if self.random(2) == 0 {
            return self.crash().await;
        }
        self.machine.disk.trouble(Trouble::None);
        let store = &self.store;
        eventually("the disk is used again", || async { store.status().refusing.is_none() }).await;
    }

    /// Power loss: of what is not synced, any sectors are lost and any are torn.
    async fn crash(&mut self) {
        let disk = self.machine.disk.clone();
        let disk = disk.crash_by(|n| self.other.below(n));
        disk.trouble(Trouble::None);
        self.machine.disk = disk;
        let percent = self.faulty.percent();
        self.faulty.fail(0);
        self.store = self.machine.open(self.config.clone()).await.unwrap();
        self.look_at_all().await;
        // What could be either way is decided by now, whichever it was.
        self.model.values_mut().for_each(|states| *states = vec![None]);
        for first in [0, PLAIN] {
            let found = self.store.scan(table_of(first), Scan::default()).await.unwrap();
            for row in &found.rows {
                self.model.insert(int(&row["k"]).unwrap() + first, vec![Some(shown(row))]);
            }
        }
        self.faulty.fail(percent);
    }
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

/// Two fixed seeds and a new one each time, or the one in `STORE_SEED`. Side by side: a life
/// mostly waits for its disk.
#[test]
fn nothing_acknowledged_is_lost_in_a_long_life() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = number("STORE_SEED").map_or(vec![1, 2, crate::entropy() >> 32], |seed| vec![seed]);
    let steps = number("STORE_STEPS").unwrap_or(STEPS);
    let begin = |seed| {
        println!("seed {seed}, {steps} steps (STORE_SEED={seed}: the same operations again)");
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(live(seed, steps));
        })
    };
    let lives: Vec<_> = seeds.into_iter().map(|seed| (seed, begin(seed))).collect();
    for (seed, life) in lives {
        life.join().unwrap_or_else(|_| panic!("the life of seed {seed} ended badly"));
    }
}

async fn live(seed: u64, steps: u64) {
    let mut life = Life::begin(seed).await;
    for _ in 0..steps {
        life.step().await;
    }
    life.crash().await;
    life.faulty.fail(0);
    life.follow().await;
    assert!(life.done > steps / 8, "only {} changes were made", life.done);
    let (forgotten, anew) = (life.forgotten, life.anew);
    assert!(forgotten > steps / 1_000 && anew > steps / 10_000, "{forgotten} and {anew} times");
    let (full, rewritten) = (life.full, life.rewritten);
    println!("seed {seed}: full {full} times, {rewritten} segments rewritten");
    assert!(full > steps / 10_000 && rewritten > steps / 50_000, "{full} and {rewritten} times");
}
