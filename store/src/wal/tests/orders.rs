//! Those who wait for the log and its thread, in every order of their steps.

use std::sync::Arc;

use super::super::Durable;
use crate::error::{Error, Result};
use crate::tests::orders::threads::{run, step, until_ready};
use crate::tests::orders::{Choices, each_order};
use waiting::{Announcer, Waiting};

/// What stands for the library's, with steps between.
mod sync {
    pub use crate::tests::orders::threads::{AtomicBool, AtomicU64, Mutex, MutexGuard, watch};
}

#[allow(clippy::duplicate_mod, reason = "once as it is, and once with steps")]
#[path = "../waiting.rs"]
mod waiting;

type Party = Box<dyn FnOnce() + Send>;

fn log() -> (Arc<Waiting>, Announcer) {
    let waiting = Arc::new(Waiting::new(0));
    let durable = sync::watch::Sender(tokio::sync::watch::Sender::new(Durable::default()));
    (waiting.clone(), Announcer { waiting, durable })
}

fn wait(waiting: &Waiting, seq: u64) -> Result<()> {
    until_ready(|context| waiting.poll(seq, context))
}

/// Whether the log's thread is there as long as anybody waits, or ends: then all are woken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Stays,
    Ends,
}

/// Carries out what the log's thread does beside those who wait, in every order.
fn check(
    thread: impl Fn(&Announcer) + Clone + Send + 'static,
    then: Then,
    waiters: &[fn(&Waiting)],
    orders_min: u64,
) {
    let orders = each_order(|choices: &mut Choices<'_>| {
        let (waiting, announcer) = log();
        let thread = thread.clone();
        let party = move || {
            thread(&announcer);
            if then == Then::Stays {
                std::mem::forget(announcer);
            }
        };
        let mut parties: Vec<Party> = vec![Box::new(party)];
        for waiter in waiters {
            let (waiting, waiter) = (waiting.clone(), *waiter);
            parties.push(Box::new(move || waiter(&waiting)));
        }
        run(choices, parties);
    });
    println!("{orders} orders");
    assert!(orders >= orders_min, "only {orders} orders");
}

/// Whoever waits for what becomes durable is told so, whenever he comes.
#[test]
fn nobody_misses_his_turn() {
    let told = |waiting: &Waiting| wait(waiting, 1).unwrap();
    let in_turn = |waiting: &Waiting| wait(waiting, 2).unwrap();
    let twice = |log: &Announcer| {
        log.advance(1);
        log.advance(2);
    };
    for then in [Then::Stays, Then::Ends] {
        check(|log| log.advance(1), then, &[told], 15);
        check(twice, then, &[in_turn], 60);
    }
    check(|log| log.advance(2), Then::Stays, &[told, in_turn], 500);
}

/// The end of the thread ends all waiting.
#[test]
fn nobody_waits_for_a_log_that_has_ended() {
    let ended = |waiting: &Waiting| match wait(waiting, 2) {
        Err(Error::Stopped(_)) => {}
        other => panic!("{other:?}"),
    };
    check(|log| log.advance(1), Then::Ends, &[ended], 25);
}

/// Who is told that the log fails, finds that everybody can see it.
#[test]
fn trouble_is_seen_before_it_is_met() {
    let orders = each_order(|choices| {
        let (waiting, announcer) = log();
        let seen = announcer.durable.0.subscribe();
        let party = move || {
            let outcome = wait(&waiting, 1);
            assert!(matches!(outcome, Err(Error::Unknown(_))), "{outcome:?}");
            assert!(seen.borrow().failed.is_some(), "met before it could be seen");
        };
        let thread = move || {
            announcer.fail(Some("full".into()));
            // It is there as long as anybody looks.
            std::mem::forget(announcer);
        };
        run(choices, vec![Box::new(thread), Box::new(party)]);
    });
    assert!(orders >= 20, "only {orders} orders");
}

/// Who sees that the log takes writes again meets no trouble any more.
#[test]
fn trouble_is_over_when_it_is_seen_to_be() {
    let orders = each_order(|choices| {
        let (waiting, announcer) = log();
        announcer.fail(Some("full".into()));
        let seen = announcer.durable.0.subscribe();
        let party = move || {
            let is_over = || seen.borrow().failed.is_none();
            for _ in 0..2 {
                step();
                if is_over() {
                    assert!(waiting.failed().is_none(), "it is not over");
                    wait(&waiting, 1).unwrap();
                    return;
                }
            }
        };
        let thread = move || {
            announcer.fail(None);
            announcer.advance(1);
        };
        run(choices, vec![Box::new(thread), Box::new(party)]);
    });
    assert!(orders >= 20, "only {orders} orders");
}
