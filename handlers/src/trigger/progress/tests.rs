use super::*;

#[test]
fn runs_and_ends_are_kept_per_event_and_handler() {
    let mut progress = Progress::default();
    progress.ran(7, "a");
    progress.ran(7, "a");
    progress.done(7, "b");
    assert_eq!((progress.runs(7, "a"), progress.runs(7, "b"), progress.runs(8, "a")), (2, 0, 0));
    assert!(progress.is_done(7, "b") && !progress.is_done(7, "a"));
    progress.leave(7, Reader::Run, true);
    assert_eq!(progress.runs(7, "a"), 0);
}

#[test]
fn both_readers_go_by_the_plan_of_the_first() {
    let mut progress = Progress::default();
    let first = progress.plan(1, Plan::unknown);
    progress.leave(1, Reader::Run, false);
    // A redelivery to the same reader is not the other one.
    progress.leave(1, Reader::Run, false);
    assert_eq!(progress.plan(1, Plan::default), first);
    progress.leave(1, Reader::Climb, false);
    assert_ne!(progress.plan(1, Plan::default), first);
}

#[test]
fn what_is_settled_stays_so_until_the_server_has_heard_it() {
    let mut progress = Progress::default();
    assert!(!progress.is_settled(1, Reader::Run));
    progress.ran(1, "a");
    progress.settled(1, Reader::Run);
    assert!(progress.is_settled(1, Reader::Run) && !progress.is_settled(1, Reader::Climb));
    progress.settled(1, Reader::Climb);
    progress.leave(1, Reader::Climb, false);
    assert!(progress.is_settled(1, Reader::Run) && progress.is_settled(1, Reader::Climb));
    progress.leave(1, Reader::Run, false);
    assert!(progress.events.is_empty());
}

#[test]
fn the_oldest_is_forgotten_at_the_limit() {
    let mut progress = Progress::default();
    for seq in 0..EVENTS_MAX as u64 + 10 {
        progress.ran(seq, "a");
    }
    assert_eq!(progress.events.len(), EVENTS_MAX);
    assert_eq!((progress.runs(9, "a"), progress.runs(10, "a")), (0, 1));
}
