use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn quantiles_are_within_nine_percent(
        mut us in proptest::collection::vec(1u64..10_000_000, 1..300),
    ) {
        let metrics = Metrics::default();
        us.iter().for_each(|us| metrics.time_us("stage", *us));
        us.sort_unstable();
        let times = metrics.snapshot().times["stage"];
        for (share, got) in [(0.50, times.p50_us), (0.99, times.p99_us)] {
            let exact = us[((us.len() as f64 * share).ceil() as usize).max(1) - 1];
            let ratio = got as f64 / exact as f64;
            prop_assert!((0.9..1.1).contains(&ratio) || got.abs_diff(exact) <= 1, "{got} {exact}");
        }
        prop_assert_eq!((times.count, times.max_us), (us.len() as u64, us[us.len() - 1]));
    }
}

proptest! {
    #[test]
    fn a_distribution_counts_what_is_within_its_bounds(
        us in proptest::collection::vec(0u64..200_000_000, 0..300),
    ) {
        let metrics = Metrics::default();
        metrics.time_us("stage", 1);
        us.iter().for_each(|us| metrics.time_us("stage", *us));
        let found = metrics.distributions().remove("stage").unwrap();
        for (bound, within) in BOUNDS_US.iter().zip(&found.within) {
            let exact = 1 + us.iter().filter(|us| *us <= bound).count() as u64;
            prop_assert_eq!(*within, exact, "within {} us", bound);
        }
        let sum = 1 + us.iter().sum::<u64>();
        prop_assert_eq!((found.count, found.sum_us), (us.len() as u64 + 1, sum));
    }
}

#[test]
fn names_are_bounded() {
    let metrics = Metrics::default();
    (0..2 * NAMES_MAX).for_each(|n| metrics.count(&n.to_string(), 1));
    metrics.count("0", 1);
    let counts = metrics.snapshot().counts;
    assert_eq!((counts.len(), counts["0"]), (NAMES_MAX, 2));
}

#[test]
fn extremes_do_not_panic() {
    let metrics = Metrics::default();
    metrics.time("x", Duration::ZERO);
    metrics.time("x", Duration::MAX);
    assert_eq!(metrics.snapshot().times["x"].count, 2);
}
