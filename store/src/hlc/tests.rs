use super::*;

#[test]
fn readings_rise_even_when_the_wall_clock_goes_back() {
    let mut clock = Clock::default();
    let mut last = 0;
    for now_ms in [5, 5, 9, 3, 0, 9, 10] {
        let reading = clock.tick(now_ms);
        assert!(reading > last, "{reading} after {last} at {now_ms}");
        last = reading;
    }
    assert_eq!(millis(last), 10);
}

#[test]
fn a_reading_exceeds_what_was_observed() {
    let mut clock = Clock::default();
    clock.observe(from_millis(100) + 7);
    assert_eq!(clock.tick(50), from_millis(100) + 8);
}

#[test]
fn only_stamps_beyond_the_bound_count_as_ahead() {
    assert_eq!(ahead_ms(from_millis(1_500), 1_000), None);
    assert_eq!(ahead_ms(from_millis(1_501), 1_000), Some(501));
    assert_eq!(ahead_ms(from_millis(10), 1_000), None);
}
