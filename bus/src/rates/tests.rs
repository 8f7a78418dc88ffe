use super::*;

const S: Duration = Duration::from_secs(1);

fn path(text: &str) -> TierPath {
    text.parse().expect(text)
}

#[test]
fn a_rate_follows_what_is_measured_and_is_forgotten() {
    let (rates, now, to) = (Rates::default(), Instant::now(), path("cloud.east"));
    assert_eq!(rates.to(&to, now), None);
    rates.note(&to, 1_000, S, now);
    assert_eq!(rates.to(&to, now), Some(1_000));
    rates.note(&to, 2_000, S, now);
    assert_eq!(rates.to(&to, now), Some(1_250));
    assert_eq!(rates.to(&path("cloud"), now), None);
    // A body that is late says that it is slower, never that it is faster.
    rates.note_late(&to, 9_000, S, now);
    assert_eq!(rates.to(&to, now), Some(1_250));
    rates.note_late(&to, 500, S, now);
    assert_eq!(rates.to(&to, now), Some(500));
    rates.note_late(&to, 0, S, now);
    assert_eq!(rates.to(&to, now + AGE_MAX - S), Some(1), "nothing is divided by 0");
    assert_eq!(rates.to(&to, now + AGE_MAX), None);
    rates.note(&to, 7_000, S, now + AGE_MAX);
    assert_eq!(rates.to(&to, now + AGE_MAX), Some(7_000), "what is old does not count");
    rates.note(&to, usize::MAX, Duration::ZERO, now + AGE_MAX);
    assert!(rates.to(&to, now + AGE_MAX) > Some(7_000));
}

#[test]
fn the_sites_that_are_remembered_are_bounded() {
    let (rates, now) = (Rates::default(), Instant::now());
    let site = |at: usize| path(&format!("cloud.c{at}"));
    for at in 0..=SITES_MAX {
        rates.note(&site(at), 1_000, S, now + Duration::from_millis(at as u64));
    }
    let known = |at| rates.to(&site(at), now).is_some();
    assert!(!known(0) && known(1) && known(SITES_MAX));
    assert_eq!(rates.lock().len(), SITES_MAX);
}
