use time::OffsetDateTime;

use super::*;

fn at(seq: u64) -> Position {
    Position { seq, stored: OffsetDateTime::UNIX_EPOCH }
}

#[test]
fn runs_and_ends_are_kept_per_event_and_handler() {
    let mut progress = Progress::default();
    progress.ran(at(7), "a");
    progress.ran(at(7), "a");
    progress.done(at(7), "b");
    let runs = |seq, handler| progress.runs(at(seq), handler);
    assert_eq!((runs(7, "a"), runs(7, "b"), runs(8, "a")), (2, 0, 0));
    assert!(progress.is_done(at(7), "b") && !progress.is_done(at(7), "a"));
    progress.leave(at(7), Reader::Run, true);
    assert_eq!(progress.runs(at(7), "a"), 0);
}

#[test]
fn both_readers_go_by_the_plan_of_the_first() {
    let mut progress = Progress::default();
    let first = progress.plan(at(1), Plan::unknown);
    progress.leave(at(1), Reader::Run, false);
    // A redelivery to the same reader is not the other one.
    progress.leave(at(1), Reader::Run, false);
    assert_eq!(progress.plan(at(1), Plan::default), first);
    progress.leave(at(1), Reader::Climb, false);
    assert_ne!(progress.plan(at(1), Plan::default), first);
}

#[test]
fn what_is_settled_stays_so_until_the_server_has_heard_it() {
    let mut progress = Progress::default();
    assert!(!progress.is_settled(at(1), Reader::Run));
    progress.ran(at(1), "a");
    progress.settled(at(1), Reader::Run);
    assert!(progress.is_settled(at(1), Reader::Run) && !progress.is_settled(at(1), Reader::Climb));
    progress.settled(at(1), Reader::Climb);
    progress.leave(at(1), Reader::Climb, false);
    assert!(progress.is_settled(at(1), Reader::Run) && progress.is_settled(at(1), Reader::Climb));
    assert_eq!(progress.leave(at(1), Reader::Run, false), Some(true));
    assert!(progress.events.is_empty());
}

#[test]
fn a_copy_of_what_is_over_is_known_and_leaves_nothing_behind() {
    let mut progress = Progress::default();
    for reader in [Reader::Run, Reader::Climb] {
        progress.settled(at(1), reader);
        progress.leave(at(1), reader, false);
    }
    for reader in [Reader::Run, Reader::Climb] {
        assert!(progress.is_settled(at(1), reader));
        progress.settled(at(1), reader);
        assert_eq!(progress.leave(at(1), reader, false), Some(false));
    }
    assert!(progress.events.is_empty());
    // A log that lost its end gave the position to another event.
    let later = Position { stored: at(1).stored + time::Duration::SECOND, ..at(1) };
    assert!(!progress.is_settled(later, Reader::Run));
}

#[test]
fn what_is_over_is_remembered_for_a_while() {
    let mut progress = Progress::default();
    for seq in 0..=OVER_MAX as u64 {
        progress.settled(at(seq), Reader::Run);
        progress.leave(at(seq), Reader::Run, true);
    }
    assert!(!progress.is_settled(at(0), Reader::Run) && progress.is_settled(at(1), Reader::Run));
    assert_eq!(progress.over.positions.len(), OVER_MAX);
    assert_eq!(progress.over.oldest_first.len(), OVER_MAX);
}

#[test]
fn an_event_is_in_one_hand() {
    let mut progress = Progress::default();
    assert!(progress.take(at(1)) && progress.take(at(2)) && !progress.take(at(1)));
    progress.release(at(1));
    assert!(progress.take(at(1)));
}

#[test]
fn the_oldest_is_forgotten_at_the_limit() {
    let mut progress = Progress::default();
    for seq in 0..EVENTS_MAX as u64 + 10 {
        progress.ran(at(seq), "a");
    }
    assert_eq!(progress.events.len(), EVENTS_MAX);
    assert_eq!((progress.runs(at(9), "a"), progress.runs(at(10), "a")), (0, 1));
}
