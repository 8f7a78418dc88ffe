use super::*;

/// The frames of these times, and when each is due after the first; no time passes meanwhile.
fn check(pts_ms: &[i64], due_ms: &[u64]) {
    let (now, mut clock) = (Instant::now(), Clock::default());
    let due = pts_ms.iter().map(|ms| clock.due(now, ms.saturating_mul(1000)) - now);
    let due: Vec<u64> = due.map(|after| after.as_millis() as u64).collect();
    assert_eq!(due, due_ms, "{pts_ms:?}");
}

#[test]
fn frames_are_due_at_their_times() {
    check(&[500, 540, 580, 700], &[0, 40, 80, 200]);
    check(&[-40, 0, 40], &[0, 40, 80]);
    check(&[0, 80, 40, 120], &[0, 80, 40, 120]);
    check(&[0, -40, 40], &[0, 0, 40]);
    check(&[0, 9_000, 18_000], &[0, 9_000, 18_000]);
}

#[test]
fn a_clock_that_jumps_begins_anew() {
    check(&[0, 40, 3_600_000, 3_600_040], &[0, 40, 0, 40]);
    check(&[3_600_000, 3_600_040, 0, 40], &[0, 40, 0, 40]);
    let (least, most) = (i64::MIN, i64::MAX);
    check(&[least, most, 0, least, most, most], &[0; 6]);
}

/// Whatever a stream says, no frame is held back for longer than the gap before it and those
/// before it, since a count began.
#[test]
fn no_frame_waits_for_ever() {
    let mut state = 7u64;
    let (mut now, mut clock) = (Instant::now(), Clock::default());
    for _ in 0..100_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let pts_us = (state as i64) >> (state % 64);
        let wait = clock.due(now, pts_us).saturating_duration_since(now);
        assert!(wait <= GAP_MAX, "{pts_us} is due after {wait:?}");
        now += wait;
    }
}
