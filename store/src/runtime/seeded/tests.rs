//! What a test can rely on here.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::runtime;
use crate::tests::orders::each_order;

/// Two tasks with so many steps each, written down as they are taken.
async fn two(steps: [usize; 2], small: bool) -> String {
    let taken = Rc::new(RefCell::new(String::new()));
    let begin = |(who, steps): (&'static str, usize)| {
        let taken = taken.clone();
        spawn(async move {
            for _ in 0..steps {
                match small {
                    true => step().await,
                    false => request().await,
                }
                *taken.borrow_mut() += who;
            }
        })
    };
    let tasks: Vec<_> = ["a", "b"].into_iter().zip(steps).map(begin).collect();
    for task in tasks {
        task.await.unwrap();
    }
    taken.take()
}

#[test]
fn requests_come_in_every_order_and_small_steps_in_one() {
    for (small, expected) in [(false, 10), (true, 1)] {
        let mut seen = std::collections::BTreeSet::new();
        let orders = each_order(|choices| {
            let taken = in_order(choices, two([2, 3], small));
            assert!(seen.insert(taken) || small);
        });
        assert_eq!((orders, seen.len()), (expected, expected as usize));
    }
}

#[test]
fn seeds_give_all_orders_and_each_the_same_again() {
    let taken = |seed| by_seed(seed, two([2, 3], true));
    let all: std::collections::BTreeSet<String> = (0..1_000).map(taken).collect();
    assert_eq!(all.len(), 10, "{all:?}");
    (0..100).for_each(|seed| assert_eq!(taken(seed), taken(seed)));
}

/// Nobody waits for real: a year goes by at once.
#[test]
fn the_clock_goes_to_the_next_moment_when_nobody_can_go_on() {
    by_seed(1, async {
        let (begun, year) = (runtime::now(), Duration::from_secs(365 * 24 * 3_600));
        let late = runtime::timeout(Duration::from_secs(1), runtime::sleep(year)).await;
        assert_eq!(late, Err(Late));
        assert!(runtime::now() - begun < Duration::from_secs(2), "the rest is not waited for");
        let before_ms = runtime::wall_ms();
        runtime::sleep(year).await;
        assert!(runtime::wall_ms() - before_ms >= year.as_millis() as u64);
        assert_eq!(runtime::timeout(year, async { 7 }).await, Ok(7));
    });
}

#[test]
#[should_panic(expected = "nobody can go on")]
fn who_waits_for_nobody_ends_the_test() {
    by_seed(1, async { tokio::sync::Notify::new().notified().await });
}

#[test]
fn when_the_power_goes_nothing_of_the_machine_goes_on() {
    by_seed(1, async {
        let done = Arc::new(AtomicU64::new(0));
        let (inner, late) = (done.clone(), done.clone());
        let machine = on_machine(async move {
            outside(async move {
                runtime::sleep(Duration::from_secs(1)).await;
                late.fetch_add(1_000_000, Ordering::Relaxed);
            });
            // What it begins is part of it.
            let jobs = runtime::spawn(async move {
                for _ in 0..u64::MAX {
                    let inner = inner.clone();
                    runtime::aside(move || inner.fetch_add(1, Ordering::Relaxed)).await.unwrap();
                }
            });
            jobs.await.unwrap();
        });
        assert!(runs_for(200, machine).await);
        let before = done.load(Ordering::Relaxed);
        assert!((10..200).contains(&before), "{before} jobs");
        runtime::sleep(Duration::from_secs(2)).await;
        assert_eq!(done.load(Ordering::Relaxed), before + 1_000_000, "the rest goes on");
        let short = on_machine(async {});
        assert!(!runs_for(200, short).await, "it ended before");
    });
}

/// Like one of the system's, it takes what it is told in order, and whoever joins it waits for it.
#[test]
fn a_thread_takes_what_it_is_told() {
    let check = || {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = seen.clone();
        let run = move |inbox: runtime::Inbox<u64>| async move {
            while let Some(number) = inbox.next().await {
                step().await;
                crate::lock(&told).push(number);
                if number == 9 {
                    return;
                }
            }
        };
        let (outbox, thread) = runtime::thread("test", run).unwrap();
        (0..10).for_each(|number| outbox.tell(number));
        thread.join().unwrap();
        outbox.tell(10);
        assert_eq!(*crate::lock(&seen), (0..10).collect::<Vec<_>>());
    };
    check();
    by_seed(1, async { check() });
}
