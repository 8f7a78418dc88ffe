use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::Digest;
use crate::execute::tests::target;
use crate::manifest::CodeKind;

fn caller() -> Caller {
    let mut target = target(Digest::of(b""), CodeKind::Component);
    (target.limits.publishes, target.limits.calls, target.limits.writes) = (3, 2, 10);
    Caller {
        target: Arc::new(target),
        invocation: "i".into(),
        attempt: 1,
        trace: Default::default(),
        deadline: Instant::now(),
        settings: Default::default(),
        by: None,
        budget: Default::default(),
    }
}

fn refused(ask: Ask, caller: &Caller) -> bool {
    match caller.take(ask) {
        Ok(()) => false,
        Err(HostError::TooMuch(why)) => {
            assert!(why.contains(ask.limit()), "{why}");
            true
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn each_kind_has_a_bound_of_its_own_for_one_invocation() {
    let caller = caller();
    let again = caller.clone();
    for (ask, most) in [(Ask::Publish(0), 3), (Ask::Call, 2), (Ask::Rows(1), 10)] {
        for _ in 0..most {
            assert!(!refused(ask, &caller), "{ask:?}");
        }
        assert!(refused(ask, &again), "{ask:?}: a clone is the same invocation");
    }
    assert!(!refused(Ask::Call, &caller.between()), "another one has its own");
}

#[test]
fn what_is_large_counts_as_several() {
    let first = caller();
    assert!(!refused(Ask::Publish(EVENT_BYTES + 1), &first));
    assert!(refused(Ask::Publish(EVENT_BYTES + 1), &first), "two and two are more than three");
    assert!(!refused(Ask::Publish(EVENT_BYTES), &first), "one is left");
    assert!(refused(Ask::Publish(0), &first));
    assert!(refused(Ask::Rows(11), &first), "of what is refused nothing is counted");
    assert!(!refused(Ask::Rows(4), &first) && !refused(Ask::Blob(6 * ROW_BYTES), &first));
    assert!(refused(Ask::Rows(0), &first), "an empty write is one");
    assert!(refused(Ask::Blob(usize::MAX), &caller()));
}

#[test]
fn the_largest_of_each_is_within_the_usual_limits() {
    let usual =
        Caller { target: Arc::new(target(Digest::of(b""), CodeKind::Component)), ..caller() };
    assert!(!refused(Ask::Publish(bus::body::BODY_BYTES_MAX), &usual));
    assert!(!refused(Ask::Blob(256 << 20), &usual));
}
