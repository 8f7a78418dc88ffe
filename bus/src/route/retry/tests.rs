use proptest::prelude::*;

use super::*;
use crate::Refusal;

#[test]
fn only_what_may_reach_the_other_side_twice_is_tried_again() {
    let nobody = Error::NoResponders { subject: "s".into(), hint: "h" };
    let silent = Error::TimedOut { subject: "s".into(), timeout_ms: 1 };
    let failed = Error::Refused(Refusal::new(RefusalKind::HandlerFailed, "x"));
    let away = Error::Refused(Refusal::new(RefusalKind::Unavailable, "x"));
    assert!(worth(&nobody, false, 0) && worth(&nobody, true, RETRIES_MAX - 1));
    assert!(!worth(&nobody, true, RETRIES_MAX));
    assert!(worth(&silent, true, 0) && !worth(&silent, false, 0));
    assert!(worth(&away, true, 0) && !worth(&away, false, 0));
    assert!(!worth(&failed, true, 0));
}

proptest! {
    /// Pauses grow, are spread, and are bounded; the attempts together never outlast the budget.
    #[test]
    fn pauses_and_shares(attempt in 0u32..100, random in any::<u64>(), left_ms in 0u64..100_000) {
        let pause = pause(attempt, random);
        let whole = PAUSE * 2u32.pow(attempt.min(RETRIES_MAX));
        prop_assert!(pause >= whole / 2 && pause <= whole);
        let left = Duration::from_millis(left_ms);
        let mut spent = Duration::ZERO;
        for attempt in 0..=RETRIES_MAX {
            spent += share(left - spent, attempt);
        }
        prop_assert_eq!(spent, left);
    }
}
