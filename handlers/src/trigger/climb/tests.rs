use super::*;

const QUICK: Duration = Duration::from_millis(20);

#[test]
fn a_window_widens_while_it_is_full_and_quick() {
    let mut window = Window::default();
    for _ in 0..20 {
        window.took(window.bytes, QUICK);
    }
    assert_eq!(window.bytes, WINDOW_BYTES_MAX);
    let mut idle = Window::default();
    idle.took(HEAD_BYTES, QUICK);
    assert_eq!(idle.bytes, WINDOW_BYTES_MIN);
}

#[test]
fn a_window_finds_what_a_link_takes_in_a_moment() {
    // 40 KB a second, 100 ms there and back.
    let time = |bytes: usize| Duration::from_millis(100 + bytes as u64 / 40);
    let mut window = Window::default();
    window.took(WINDOW_BYTES_MIN, time(WINDOW_BYTES_MIN));
    window.bytes = WINDOW_BYTES_MAX;
    for _ in 0..200 {
        window.took(window.bytes, time(window.bytes));
        assert!(window.bytes >= WINDOW_BYTES_MIN);
    }
    let busy = time(window.bytes) - time(0);
    assert!(busy <= 3 * MOMENT, "{window:?}");
}

#[test]
fn a_long_way_is_no_narrow_one() {
    // 10 MB a second, 600 ms there and back.
    let time = |bytes: usize| Duration::from_micros(600_000 + bytes as u64 / 10);
    let mut window = Window::default();
    for _ in 0..20 {
        window.took(window.bytes, time(window.bytes));
    }
    assert_eq!(window.bytes, WINDOW_BYTES_MAX);
}
