use super::*;

const ANCHOR: [(f64, f64); 4] = [(100.0, 30.0), (200.0, 33.0), (400.0, 36.5), (800.0, 40.0)];

fn curve(points: &[(f64, f64)]) -> Vec<Point> {
    points.iter().map(|(rate, psnr_db)| Point { rate: *rate, psnr_db: *psnr_db }).collect()
}

#[track_caller]
fn check(tested: &[(f64, f64)], expected: Option<f64>) {
    let got = bd_rate_percent(&curve(&ANCHOR), &curve(tested));
    let is_near = match (got, expected) {
        (Some(got), Some(expected)) => (got - expected).abs() < 1e-6,
        (got, expected) => got == expected,
    };
    assert!(is_near, "{got:?} instead of {expected:?}");
}

#[test]
fn a_constant_factor_of_rates_is_the_answer() {
    for factor in [0.5, 0.9, 1.0, 1.15, 3.0] {
        let tested = ANCHOR.map(|(rate, psnr)| (factor * rate, psnr));
        check(&tested, Some(100.0 * (factor - 1.0)));
    }
}

#[test]
fn the_order_of_points_does_not_count() {
    let mut tested = ANCHOR.map(|(rate, psnr)| (2.0 * rate, psnr));
    tested.reverse();
    check(&tested, Some(100.0));
}

/// Both are lines of the logarithm, 1 and 1.5 in 10 dB: over 33 to 40 dB the mean of their distance
/// is that in the middle, at 36.5 dB.
#[test]
fn only_the_common_range_counts() {
    let line = |slope: f64, from: [f64; 4]| from.map(|psnr| ((slope * psnr).exp(), psnr));
    let anchor = curve(&line(0.10, [30.0, 34.0, 37.0, 40.0]));
    let tested = curve(&line(0.15, [33.0, 36.0, 41.0, 45.0]));
    let expected = 100.0 * (0.05f64 * 36.5).exp_m1();
    let got = bd_rate_percent(&anchor, &tested).unwrap();
    assert!((got - expected).abs() < 1e-6, "{got} instead of {expected}");
}

/// What is `+a` one way is `1 / (1 + a) - 1` the other way.
#[test]
fn the_other_way_round_is_the_inverse() {
    let other = curve(&[(130.0, 31.0), (190.0, 33.2), (420.0, 36.0), (900.0, 41.0)]);
    let there = bd_rate_percent(&curve(&ANCHOR), &other).unwrap();
    let back = bd_rate_percent(&other, &curve(&ANCHOR)).unwrap();
    assert!(((1.0 + there / 100.0) * (1.0 + back / 100.0) - 1.0).abs() < 1e-9, "{there} {back}");
}

#[test]
fn what_is_no_pair_of_curves_has_no_answer() {
    check(&ANCHOR[..3], None);
    check(&[], None);
    check(&ANCHOR.map(|(rate, psnr)| (rate, psnr + 20.0)), None);
    check(&ANCHOR.map(|(rate, _)| (rate, 35.0)), None);
    check(&ANCHOR.map(|(_, psnr)| (0.0, psnr)), None);
    check(&ANCHOR.map(|(_, psnr)| (-1.0, psnr)), None);
    check(&ANCHOR.map(|(rate, psnr)| (rate, psnr * f64::NAN)), None);
}
