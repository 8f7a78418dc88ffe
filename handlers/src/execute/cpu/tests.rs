use std::os::unix::process::CommandExt;
use std::time::Instant;

use super::*;
use crate::execute::process::kill_group;

#[test]
fn fields_are_those_of_the_manual() {
    let stat = "7 (a) b) R 1 7 7 0 -1 4194304 1 2 3 4 100 20 3 4000 20 0 1 0 99 1 1";
    assert_eq!(ticks_of(stat), Some(4123));
    assert_eq!(ticks_of("7 (a) R 1"), Some(0));
    assert_eq!(ticks_of("7"), None);
}

fn compute(time: Duration) {
    let began = of_thread();
    while of_thread() - began < time {
        std::hint::spin_loop();
    }
}

#[tokio::test]
async fn who_waits_computes_nothing_and_who_computes_is_stopped() {
    let slept = Metered::new(
        async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        },
        Duration::from_millis(50),
    );
    assert!(slept.await.is_ok());

    let mut turns = 0;
    let computed = Metered::new(
        async {
            loop {
                turns += 1;
                compute(Duration::from_millis(1));
                tokio::task::yield_now().await;
            }
        },
        Duration::from_millis(20),
    );
    let stopped: Result<(), Spent> = computed.await;
    assert!(stopped.is_err());
    assert!((10..=21).contains(&turns), "{turns} milliseconds");
}

#[tokio::test]
async fn what_a_process_forks_is_counted_with_it() {
    // The shell waits; who computes is its child.
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", "(while :; do :; done) & wait"]).process_group(0);
    let mut child = shell.spawn().unwrap();
    let began = Instant::now();
    let limit = Duration::from_millis(100);
    let found = tokio::time::timeout(Duration::from_secs(30), spent(child.id(), limit)).await;
    kill_group(child.id());
    child.wait().unwrap();
    assert!(found.is_ok(), "never spent");
    assert!(began.elapsed() >= limit / 2, "{:?}", began.elapsed());
}
