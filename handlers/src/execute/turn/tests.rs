use std::thread::{self, ThreadId};

use tokio::runtime::{Builder, Runtime};

use super::*;

fn guests() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Computes for `held`, gives way, and tells which threads it ran on before and after.
async fn compute(held: Duration) -> (ThreadId, ThreadId) {
    let before = thread::current().id();
    let began = Instant::now();
    while began.elapsed() < held {}
    give_way().await;
    (before, thread::current().id())
}

#[tokio::test]
async fn who_takes_long_goes_to_the_guests_and_stays_there_for_a_while() {
    let (runtime, habit) = (guests(), Habit::default());
    let here = thread::current().id();
    assert!(habit.is_short());
    let ran = Turn::near(compute(2 * TURN), runtime.handle(), &habit).await.unwrap();
    assert_eq!(ran.0, here);
    assert_ne!(ran.1, here, "moved");
    let far = (0..2 * FAR_AFTER_MOVE).filter(|_| !habit.is_short()).count();
    assert_eq!(far, FAR_AFTER_MOVE as usize, "then it is tried again");
    runtime.shutdown_background();
}

#[tokio::test]
async fn what_nobody_waits_for_goes_to_the_guests_too() {
    let runtime = guests();
    let (told, ran) = tokio::sync::oneshot::channel();
    let work = async move { told.send(compute(2 * TURN).await).unwrap() };
    behind(work, runtime.handle().clone()).await;
    let (before, after) = ran.await.unwrap();
    assert!(before == thread::current().id() && after != before);
    runtime.shutdown_background();
}

#[tokio::test]
async fn who_only_waited_stays() {
    let runtime = guests();
    let here = thread::current().id();
    let stays = async || {
        let work = async {
            tokio::time::sleep(2 * TURN).await;
            // As a guest does whose clock went on while it waited.
            give_way().await;
            thread::current().id()
        };
        let habit = Habit::default();
        Turn::near(work, runtime.handle(), &habit).await.unwrap() == here && habit.is_short()
    };
    // On a busy machine this very thread may be held up, which looks like computing.
    let mut tries = 0..1_000;
    while !stays().await {
        tries.next().expect("it was moved each time");
    }
    runtime.shutdown_background();
}

#[tokio::test]
async fn work_begins_far_where_it_is_told_to_and_ends_with_who_waits() {
    let runtime = guests();
    let here = thread::current().id();
    let ran = Turn::far(compute(Duration::ZERO), runtime.handle()).await.unwrap();
    assert!(ran.0 != here && ran.1 != here, "{ran:?}");
    let (alive, mut ended) = tokio::sync::mpsc::channel::<()>(1);
    let endless = async move {
        compute(2 * TURN).await;
        let _alive = alive;
        std::future::pending::<()>().await;
    };
    let habit = Habit::default();
    let mut work = Turn::near(endless, runtime.handle(), &habit);
    while !matches!(work, Turn::Far(_)) {
        assert!(futures::poll!(&mut work).is_pending());
    }
    drop(work);
    assert_eq!(ended.recv().await, None);
    runtime.shutdown_background();
}
