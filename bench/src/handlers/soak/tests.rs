use super::*;

const HELD: Held = Held {
    resident_bytes: 210 << 20,
    anonymous_bytes: 116 << 20,
    files: 60,
    threads: 10,
    processes: 9,
};

/// Ten minutes in which everything is as it should be, but for what `held` says of a window.
fn soak(held: impl Fn(usize) -> Held) -> Report {
    let window = |number: usize| {
        let after_s = 60.0 * (number + 1) as f64;
        Window { after_s, invocations: 1_000, held: held(number) }
    };
    Report {
        parts: vec![],
        windows: (0..10).map(window).collect(),
        before: HELD,
        after: HELD,
        instances_left: 0,
        astray: 0,
        first: None,
        wrong: vec![],
    }
}

#[test]
fn what_is_flat_is_well_though_it_warms_up_and_wavers() {
    assert_eq!(verdict(&soak(|_| HELD)), [""; 0]);
    let wavers = |number| Held {
        anonymous_bytes: HELD.anonymous_bytes + (((number as u64 * 7) % 5) << 20),
        files: HELD.files + number % 3,
        processes: HELD.processes + number % 2,
        ..HELD
    };
    assert_eq!(verdict(&soak(wavers)), [""; 0]);
    let warms_up = |number| Held {
        anonymous_bytes: if number < 2 { 50 << 20 } else { HELD.anonymous_bytes },
        ..HELD
    };
    assert_eq!(verdict(&soak(warms_up)), [""; 0]);
}

#[test]
fn what_grows_is_named() {
    let grows = |number: usize| Held {
        anonymous_bytes: HELD.anonymous_bytes + ((number as u64 * 4) << 20),
        files: HELD.files + number,
        threads: HELD.threads + number,
        processes: HELD.processes + number,
        ..HELD
    };
    let wanted = [
        "MiB of memory grow: 124, later 144",
        "files grow: 62, later 67",
        "threads grow: 12, later 17",
        "processes grow: 11, later 16",
    ];
    assert_eq!(verdict(&soak(grows)), wanted);
    let mut short = soak(grows);
    short.windows.iter_mut().for_each(|window| window.after_s /= 600.0);
    assert_eq!(verdict(&short), [""; 0], "nothing is said of a second");
}

#[test]
fn what_is_left_or_went_astray_is_named() {
    let mut report = soak(|_| HELD);
    (report.astray, report.first) = (3, Some("a trap: Ok(())".into()));
    report.instances_left = 2;
    report.after = Held { processes: HELD.processes + 1, files: HELD.files + 9, ..HELD };
    let wanted = [
        "3 invocations ended otherwise than they should; first: a trap: Ok(())",
        "2 instances are left",
        "1 processes are left",
        "9 files are left",
    ];
    assert_eq!(verdict(&report), wanted);
}
