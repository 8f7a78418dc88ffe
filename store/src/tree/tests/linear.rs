//! Conditional commits from several sites at once over bad links: is there an order of them, each
//! between its call and its return, in which every answer is right (Wing and Gong, "Testing and
//! Verifying Concurrent Objects", 1993)?

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::{Commit, Condition, Expect, Write, lock};

/// What a row shows: none, or the value of its column `a`.
type Seen = Option<i64>;

/// One attempt to replace `from` by `to`.
#[derive(Clone, Debug)]
struct Attempt {
    called: u64,
    /// The largest number if no answer came: it may then take effect at any later time, or never.
    returned: u64,
    from: Seen,
    to: i64,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Refused,
    Unknown,
}

impl Attempt {
    /// The state after it, if its answer fits the state before.
    fn apply(&self, state: Seen) -> Option<Seen> {
        match (self.outcome, state == self.from) {
            (Outcome::Done | Outcome::Unknown, true) => Some(Some(self.to)),
            (Outcome::Refused | Outcome::Unknown, false) => Some(state),
            _ => None,
        }
    }
}

/// True if the attempts on one row can be put in such an order.
fn is_linearizable(attempts: &[Attempt]) -> bool {
    assert!(attempts.len() <= 128);
    let all = attempts.iter().enumerate().filter(|(_, a)| a.outcome != Outcome::Unknown);
    let needed: u128 = all.fold(0, |mask, (i, _)| mask | 1 << i);
    let mut tried: HashSet<(u128, Seen)> = HashSet::new();
    let mut open: Vec<(u128, Seen)> = vec![(0, None)];
    while let Some((placed, state)) = open.pop() {
        if placed & needed == needed {
            return true;
        }
        if !tried.insert((placed, state)) {
            continue;
        }
        let waiting = || attempts.iter().enumerate().filter(|(i, _)| placed & (1 << i) == 0);
        let first_return = waiting().map(|(_, a)| a.returned).min().unwrap_or(u64::MAX);
        for (i, attempt) in waiting().filter(|(_, a)| a.called <= first_return) {
            if let Some(next) = attempt.apply(state) {
                open.push((placed | 1 << i, next));
            }
        }
    }
    false
}

#[test]
fn the_checker_tells_right_from_wrong() {
    let attempt =
        |called, returned, from, to, outcome| Attempt { called, returned, from, to, outcome };
    let one = attempt(0, 9, None, 1, Outcome::Done);
    let lost = attempt(2, 3, None, 2, Outcome::Done);
    assert!(is_linearizable(std::slice::from_ref(&one)));
    assert!(!is_linearizable(&[one.clone(), lost.clone()]), "two cannot both find nothing");
    assert!(is_linearizable(&[one.clone(), Attempt { outcome: Outcome::Refused, ..lost.clone() }]));
    let later = attempt(10, 11, None, 2, Outcome::Refused);
    assert!(is_linearizable(&[one.clone(), later.clone()]));
    assert!(!is_linearizable(&[later]), "refused though nothing was there");
    let after = attempt(5, 6, Some(2), 3, Outcome::Done);
    let unknown = Attempt { outcome: Outcome::Unknown, returned: u64::MAX, ..lost };
    assert!(is_linearizable(&[unknown, after.clone()]), "what is unknown may have happened");
    assert!(!is_linearizable(&[after]));
}

const ROWS: i64 = 2;
const ATTEMPTS: usize = 12;

/// One site's client: it attempts to replace what it last believed to be there.
async fn client(store: EdgeStore, net: Net, clock: Arc<AtomicU64>, history: History) {
    let mut believed: [Seen; ROWS as usize] = [None; ROWS as usize];
    for _ in 0..ATTEMPTS {
        let k = net.random(ROWS as u64) as i64;
        let from = believed[k as usize];
        let to = net.random(1 << 40) as i64;
        let key = row! {"k": k};
        let expect = match from {
            None => Expect::Absent,
            Some(a) => Expect::Values(row! {"a": a}),
        };
        let commit = Commit {
            conditions: vec![Condition { key: key.clone(), expect }],
            writes: vec![Write::Put(row! {"k": k, "a": to})],
        };
        let called = clock.fetch_add(1, Ordering::SeqCst);
        let answer = store.commit("stats", &commit).await;
        let mut returned = clock.fetch_add(1, Ordering::SeqCst);
        let outcome = match &answer {
            Ok(_) => Outcome::Done,
            Err(Error::Conflict { .. }) => Outcome::Refused,
            Err(Error::Unknown(_)) => Outcome::Unknown,
            Err(error) => {
                // Nothing was changed, so there is nothing to place.
                assert!(error.retryable(), "{error}");
                continue;
            }
        };
        if outcome == Outcome::Unknown {
            returned = u64::MAX;
        }
        lock(&history).push((k, Attempt { called, returned, from, to, outcome }));
        believed[k as usize] = match outcome {
            Outcome::Done => Some(to),
            _ => shown(&store, &key).await,
        };
    }
}

type History = Arc<Mutex<Vec<(i64, Attempt)>>>;

/// What the site shows, right or out of date: it is only a guess to go on from.
async fn shown(store: &EdgeStore, key: &Row) -> Seen {
    let row = store.get("stats", key).await.ok().flatten();
    row.and_then(|row| match row["a"] {
        Value::Int(a) => Some(a),
        _ => None,
    })
}

/// Fixed seeds and a new one each time, or the one in `STORE_SEED`.
#[tokio::test]
async fn conditional_commits_are_linearizable() {
    let seeds = match std::env::var("STORE_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => vec![1, 2, 3, 4, crate::entropy() >> 32],
    };
    let mut done = 0;
    for seed in seeds {
        println!("seed {seed}");
        let net = Net::new(Faults { lost: 5, repeated: 10, delay_ms_max: 3 }, seed);
        let mut stores = Vec::new();
        for site in ["cloud", "cloud.east", "cloud.east.cell1", "cloud.east.cell2"] {
            let store = net.start(site).await;
            store.create_table(&stats()).await.unwrap();
            stores.push(store);
        }
        let (clock, history) = (Arc::new(AtomicU64::new(0)), History::default());
        let clients = stores.iter().map(|store| {
            tokio::spawn(client(store.clone(), net.clone(), clock.clone(), history.clone()))
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        let history = lock(&history).clone();
        for k in 0..ROWS {
            let of_row = history.iter().filter(|(row, _)| *row == k);
            let attempts: Vec<Attempt> = of_row.map(|(_, attempt)| attempt.clone()).collect();
            done += attempts.iter().filter(|a| a.outcome == Outcome::Done).count();
            assert!(is_linearizable(&attempts), "seed {seed}, row {k}: {attempts:#?}");
        }
    }
    assert!(done > 20, "only {done} commits were done at all");
}

#[tokio::test]
async fn a_commit_is_seen_at_once_by_the_one_who_asked() {
    let (net, [cloud, _, cell1, cell2]) = tree().await;
    cloud.create_table(&stats()).await.unwrap();
    let key = row! {"k": 1};
    let commit = Commit {
        conditions: vec![Condition { key: key.clone(), expect: Expect::Absent }],
        writes: vec![Write::Put(row! {"k": 1, "a": 1})],
    };
    let ack = cell1.commit("stats", &commit).await.unwrap();
    assert_eq!(ack.level, Level::Root);
    assert_eq!(local_rows(&cell1, "stats").await.len(), 1);
    let conflict = cell2.commit("stats", &commit).await.unwrap_err();
    assert_eq!(conflict.code(), "conflict");
    let (_, version) = cell2.find("stats", &key, Default::default()).await.unwrap().0.unwrap();
    let newer = Commit {
        conditions: vec![Condition { key: key.clone(), expect: Expect::Version(version) }],
        writes: vec![Write::Patch(row! {"k": 1, "b": "x"})],
    };
    cell2.commit("stats", &newer).await.unwrap();
    let row = cloud.get("stats", &key).await.unwrap().unwrap();
    assert_eq!((&row["a"], &row["b"]), (&1.into(), &"x".into()));
    net.cut("cloud.east.cell1");
    let away = cell1.commit("stats", &newer).await.unwrap_err();
    assert_eq!(away.code(), "unreachable", "nothing was changed");
}
