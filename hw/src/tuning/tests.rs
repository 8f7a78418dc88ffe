use super::*;
use crate::device::{DeviceInfo, Error, Kind};

fn info(driver: &str) -> DeviceInfo {
    DeviceInfo {
        id: "opencl0".to_string(),
        kind: Kind::OpenCl,
        name: "test".to_string(),
        driver: driver.to_string(),
        memory_bytes: 0,
        compute_units: 1,
        on_cpu: false,
        circuits: Vec::new(),
    }
}

fn tuner(dir: Option<&std::path::Path>, driver: &str) -> Tuner {
    let kept = Kept::open(dir.map(std::path::Path::to_path_buf), &info(driver));
    Tuner::new(vec![1, 64, 256], kept)
}

/// A kernel whose "functions" are the sizes that they were built for.
fn variants(tuner: &mut Tuner, source: &str) -> Variants<usize> {
    Variants::new(tuner, "k", source, 1)
}

/// Launches over so many bytes, each waited for, on a device where groups of these sizes take so
/// long; the sizes that were taken.
fn launches(
    tuner: &mut Tuner,
    variants: &mut Variants<usize>,
    bytes: usize,
    took_ns: impl Fn(usize) -> u64,
    count: u32,
) -> Vec<usize> {
    let launch = |_| {
        let (size, trial) = variants.next(tuner, "k", bytes, false, Ok);
        assert_eq!(*variants.of(size), size, "what runs was built for that size");
        trial.iter().for_each(|trial| tuner.learn(trial, took_ns(size)));
        tuner.rest();
        size
    };
    (0..count).map(launch).collect()
}

#[test]
fn the_size_that_takes_least_is_settled_on_and_slow_first_runs_do_not_count() {
    for (times, best) in [
        ([100, 50, 80], 64),
        ([100, 80, 50], 256),
        ([50, 100, 80], 1),
        // Hardly better is not better.
        ([100, 95, 99], 1),
    ] {
        let mut tuner = tuner(None, "1");
        let mut variants = variants(&mut tuner, "text");
        let first = std::cell::Cell::new(true);
        let time = |size: usize| match first.replace(false) {
            true => 1_000_000,
            false => times[[1, 64, 256].iter().position(|own| *own == size).unwrap()],
        };
        let tried = launches(&mut tuner, &mut variants, 5000, time, 3 * TRIALS);
        for size in [1, 64, 256] {
            let count = tried.iter().filter(|own| **own == size).count();
            assert_eq!(count, TRIALS as usize, "{tried:?}");
        }
        assert_eq!(launches(&mut tuner, &mut variants, 5000, time, 3), [best; 3], "{times:?}");
        assert_eq!(launches(&mut tuner, &mut variants, 4100, time, 1), [best], "as many bytes");
        assert_eq!(launches(&mut tuner, &mut variants, 99, time, 1), [1], "others begin anew");
    }
}

#[test]
fn the_launches_of_a_chain_are_taken_where_they_are_faster() {
    for (parts_ns, best) in [(40, PARTS), (60, 64)] {
        let dir = tempfile::tempdir().unwrap();
        let mut tuner = tuner(Some(dir.path()), "1");
        let mut variants = variants(&mut tuner, "text");
        let time = |size: usize| {
            [(PARTS, parts_ns), (1, 100), (64, 50), (256, 70)]
                .iter()
                .find(|(own, _)| *own == size)
                .map_or(0, |(_, ns)| *ns)
        };
        for _ in 0..4 * TRIALS {
            let (size, trial) = variants.next(&mut tuner, "k", 5000, true, Ok);
            tuner.learn(&trial.unwrap(), time(size));
            tuner.rest();
        }
        assert_eq!(variants.next(&mut tuner, "k", 5000, true, Ok), (best, None));
        let mut again = self::tuner(Some(dir.path()), "1");
        let mut variants = self::variants(&mut again, "text");
        assert_eq!(variants.next(&mut again, "k", 5000, true, Ok), (best, None));
        let (size, _) = variants.next(&mut again, "k", 5000, false, Ok);
        assert_ne!(size, PARTS, "what is no chain has no parts");
    }
}

#[test]
fn the_launches_of_a_chain_are_tried_when_nothing_is_built_any_more() {
    let mut tuner = tuner(None, "1");
    let mut variants = variants(&mut tuner, "text");
    tuner.spent(BUILD_MAX);
    for _ in 0..2 * TRIALS {
        let (size, trial) = variants.next(&mut tuner, "k", 5000, true, Ok);
        tuner.learn(&trial.unwrap(), if size == PARTS { 5 } else { 9 });
        tuner.rest();
    }
    assert_eq!(variants.next(&mut tuner, "k", 5000, true, Ok), (PARTS, None));
}

#[test]
fn items_do_several_neighbours_only_where_a_text_lets_them() {
    let spanned = Size { group: 64, span: 4 };
    for size in [spanned, Size { group: 64, span: 1 }] {
        assert_eq!(Size::of(size.number()), size);
    }
    for (text, best) in [("SPANS(x, 9) y(x);", spanned), ("text", Size::of(64))] {
        let mut tuner = tuner(None, "1").with_span(spanned);
        tuner.read("k", text);
        let mut variants = variants(&mut tuner, text);
        let time = |size: usize| 100 / Size::of(size).span as u64 - u64::from(size == 64) * 30;
        let tried = launches(&mut tuner, &mut variants, 5000, time, LAUNCHES_UNTIL_TUNED);
        assert_eq!(tried.last(), Some(&best.number()), "{text}");
        assert_eq!(tried.contains(&spanned.number()), best == spanned, "{text}");
        let Size { group, span } = best;
        let tuned = Tuned { kernel: "k".to_string(), bytes_log2: 12, group, span };
        assert_eq!(tuner.settled(), [tuned]);
    }
}

#[test]
fn kernels_of_one_text_keep_what_suits_each() {
    let dir = tempfile::tempdir().unwrap();
    let own = [("a", 64), ("b", 256)];
    let mut first = tuner(Some(dir.path()), "1");
    for (kernel, best) in own {
        let mut variants = Variants::new(&mut first, kernel, "text", 1);
        for _ in 0..LAUNCHES_UNTIL_TUNED {
            let (size, trial) = variants.next(&mut first, kernel, 5000, false, Ok);
            trial.iter().for_each(|trial| first.learn(trial, if size == best { 1 } else { 9 }));
            first.rest();
        }
    }
    let mut again = tuner(Some(dir.path()), "1");
    for (kernel, best) in own {
        let mut variants = Variants::new(&mut again, kernel, "text", 1);
        assert_eq!(variants.next(&mut again, kernel, 5000, false, Ok), (best, None));
    }
}

#[test]
fn one_size_is_no_choice() {
    let mut tuner = Tuner::new(vec![128], Kept::open(None, &info("1")));
    let mut variants = Variants::new(&mut tuner, "k", "text", 128);
    for _ in 0..20 {
        assert_eq!(variants.next(&mut tuner, "k", 5000, false, Ok), (128, None));
    }
}

#[test]
fn a_trial_that_comes_to_nothing_is_made_again() {
    let mut tuner = tuner(None, "1");
    let mut variants = variants(&mut tuner, "text");
    for _ in 0..50 {
        let (_, trial) = variants.next(&mut tuner, "k", 5000, false, Ok);
        assert!(trial.is_some());
        tuner.rest();
    }
    // As many at once as there are trials: then the first, untimed, until those are known.
    let begun: Vec<_> = (0..50).map(|_| variants.next(&mut tuner, "k", 5000, false, Ok)).collect();
    let timed = begun.iter().filter(|(_, trial)| trial.is_some()).count();
    assert_eq!(timed, 3 * TRIALS as usize);
    assert_eq!(begun[49], (1, None));
    for (size, trial) in begun {
        trial.iter().for_each(|trial| tuner.learn(trial, 1000 / size as u64));
    }
    tuner.rest();
    assert_eq!(variants.next(&mut tuner, "k", 5000, false, Ok), (256, None));
}

#[test]
fn sizes_that_do_not_build_are_left_out() {
    let mut tuner = tuner(None, "1");
    let mut variants = variants(&mut tuner, "text");
    let tries = std::cell::Cell::new(0);
    let mut last = 0;
    for _ in 0..20 {
        let (size, trial) = variants.next(&mut tuner, "k", 5000, false, |size| match size {
            64 => Ok(64),
            _ => {
                tries.set(tries.get() + 1);
                let (device, kernel) = ("opencl0".to_string(), "k".to_string());
                Err(Error::Build { device, kernel, log: "too many".to_string() })
            }
        });
        trial.iter().for_each(|trial| tuner.learn(trial, 1000 / size as u64));
        tuner.rest();
        last = size;
    }
    assert_eq!((last, tries.get()), (64, 1));
}

#[test]
fn compiling_for_other_sizes_ends_in_time() {
    let mut tuner = tuner(None, "1");
    let mut variants = variants(&mut tuner, "text");
    tuner.spent(BUILD_MAX);
    let sizes = launches(&mut tuner, &mut variants, 5000, |_| 10, 50);
    assert_eq!(sizes, [1; 50]);
}

#[test]
fn sizes_measured_until_then_count() {
    // 256 is not built any more.
    for count in [TRIALS + 1, 2 * TRIALS] {
        let mut tuner = tuner(None, "1");
        let mut variants = variants(&mut tuner, "text");
        let fast = |size: usize| 1000 / size as u64;
        launches(&mut tuner, &mut variants, 5000, fast, count);
        tuner.spent(BUILD_MAX);
        assert_eq!(launches(&mut tuner, &mut variants, 5000, fast, 10), [64; 10], "{count}");
    }
}

#[test]
fn kernels_beyond_the_limit_run_as_they_did_before() {
    let mut tuner = tuner(None, "1");
    for n in 0..FOUND_MAX + 10 {
        let (size, trial) = tuner.choose(&format!("k{n}"), 5000, false);
        assert_eq!((size, trial.is_some()), (1, n < FOUND_MAX));
    }
    assert!(tuner.choose("k0", 5000, false).1.is_some(), "what is known goes on");
}

#[test]
fn what_was_found_is_kept_for_the_same_text_and_driver() {
    let dir = tempfile::tempdir().unwrap();
    let fast = |size: usize| 1000 / size as u64;
    let mut first = tuner(Some(dir.path()), "1");
    let mut own = variants(&mut first, "text");
    launches(&mut first, &mut own, 5000, fast, LAUNCHES_UNTIL_TUNED);
    let at_once = |driver: &str, text: &str, bytes: usize| {
        let mut tuner = tuner(Some(dir.path()), driver);
        let mut variants = variants(&mut tuner, text);
        let (size, trial) = variants.next(&mut tuner, "k", bytes, false, Ok);
        (size, trial.is_some())
    };
    assert_eq!(at_once("1", "text", 5000), (256, false));
    assert_eq!(at_once("1", "text", 99), (1, true), "other data");
    assert_eq!(at_once("1", "other text", 5000), (1, true));
    assert_eq!(at_once("2", "text", 5000), (1, true), "another driver");

    // Another process adds to what is there.
    let mut second = tuner(Some(dir.path()), "1");
    let mut third = tuner(Some(dir.path()), "1");
    for (tuner, bytes) in [(&mut second, 99), (&mut third, 1 << 20)] {
        let mut variants = variants(tuner, "text");
        launches(tuner, &mut variants, bytes, fast, LAUNCHES_UNTIL_TUNED);
    }
    for bytes in [99, 5000, 1 << 20] {
        assert_eq!(at_once("1", "text", bytes), (256, false), "{bytes}");
    }

    let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&file, &damaged).unwrap();
        assert_eq!(at_once("1", "text", 5000), (1, true), "byte {at}");
    }
    for text in ["", "x", "a b c\n", "a 1 2 3\n\n1 2\n"] {
        crate::whole::write(&file, text.as_bytes()).unwrap();
        assert_eq!(at_once("1", "text", 5000), (1, true), "{text:?}");
    }
}
