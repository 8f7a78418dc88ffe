use super::*;

#[test]
fn waits_grow_with_what_is_ahead_and_vanish_with_it() {
    let load = Load::default();
    let key: Arc<str> = "a/h".into();
    let pace = |each_us, free| Pace { each_us, free };
    assert_eq!(load.wait("a/h"), Duration::ZERO);
    assert_eq!(load.pace("a/h", 2), pace(RUN_US_UNKNOWN / 2, 2));
    let mut first = load.begin(&key, 2);
    assert_eq!(load.wait("a/h"), Duration::ZERO);
    let second = load.begin(&key, 2);
    assert_eq!(load.wait("a/h"), Duration::from_micros(RUN_US_UNKNOWN / 2));
    first.ran(100_000);
    drop(first);
    let third = load.begin(&key, 2);
    assert_eq!(load.wait("a/h"), Duration::from_millis(50));
    assert_eq!(load.waits(), [("a/h".to_owned(), Duration::from_millis(50))]);
    let turn = Turn { wait: Duration::from_millis(50), run: Duration::from_millis(100) };
    assert_eq!(load.turn("a/h"), turn);
    assert_eq!(load.pace("a/h", 2), pace(50_000, 0));
    drop(second);
    assert_eq!(load.pace("a/h", 2), pace(50_000, 1));
    drop(third);
    assert_eq!((load.wait("a/h"), load.in_flight(), load.total()), (Duration::ZERO, 0, 3));
}

#[test]
fn the_average_follows_the_runs_and_failures_leave_it() {
    let load = Load::default();
    let key: Arc<str> = "a/h".into();
    for us in [1_000, 2_000, 2_000] {
        load.begin(&key, 1).ran(us);
    }
    drop(load.begin(&key, 1));
    let _held = load.begin(&key, 1);
    assert_eq!(load.wait("a/h"), Duration::from_micros(1_360));
}
