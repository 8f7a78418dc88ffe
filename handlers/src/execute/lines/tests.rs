use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::Digest;
use crate::execute::tests::{Memory, target};
use crate::manifest::CodeKind;

const SECRET: &str = "tiger-7f31c0-burning-bright";

fn lines(secret: &str) -> (Arc<Memory>, Lines) {
    let host = Arc::new(Memory::default());
    let secrets = BTreeMap::from([("KEY".to_owned(), secret.to_owned())]);
    let caller = Caller {
        target: Arc::new(target(Digest::of(b""), CodeKind::Python)),
        invocation: "i1".into(),
        attempt: 1,
        trace: Default::default(),
        deadline: Instant::now(),
        settings: Arc::new(Settings::default().with_secrets(secrets)),
        by: None,
        budget: Default::default(),
    };
    let log = Log::new(Arc::clone(&host) as Arc<dyn Host>, caller);
    (host, Lines::new(log, Level::Info))
}

/// What was logged, and the last of it, of output that comes in pieces of so many bytes.
fn said(text: &str, piece: usize) -> (String, String) {
    said_beside(SECRET, text, piece)
}

fn said_beside(secret: &str, text: &str, piece: usize) -> (String, String) {
    let (host, lines) = lines(secret);
    text.as_bytes().chunks(piece).for_each(|bytes| lines.push(bytes));
    lines.finish();
    (host.lines().concat(), lines.tail())
}

/// That nothing of the secret stands in it but what two letters may be by chance.
fn is_hidden(text: &str) -> bool {
    let parts = (0..SECRET.len() - 4).map(|at| &SECRET[at..at + 5]);
    !parts.into_iter().any(|part| text.contains(part))
}

#[test]
fn a_line_of_any_length_is_all_there_but_for_secrets() {
    let long = format!("x{}", "ä".repeat(10_000));
    let (log, tail) = said(&long, 100);
    assert_eq!(log.matches('ä').count(), 10_000, "no line was broken within a letter");
    assert!(tail.len() <= TAIL_BYTES_MAX && tail.ends_with('ä'));
    let (log, tail) = said(&format!("key {SECRET} end"), 3);
    assert_eq!((log.as_str(), tail.as_str()), ("key [secret] end", "key [secret] end"));
    // What only begins like a secret is no secret.
    let begun = format!("{}{}", "x".repeat(LINE_BYTES_MAX - 3), "tigress");
    assert_eq!(said(&begun, 64).0, begun);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_secret_is_hidden_wherever_a_line_or_the_tail_is_cut(
        before in 0usize..3 * LINE_BYTES_MAX,
        after in 0usize..4 * TAIL_BYTES_MAX,
        piece in 1usize..5_000,
    ) {
        let text = format!("{}{SECRET}{}", "x".repeat(before), "y".repeat(after));
        let (log, tail) = said(&text, piece);
        prop_assert!(is_hidden(&log) && log.contains("[secret]"), "{}", log.len());
        prop_assert!(is_hidden(&tail) && tail.len() <= TAIL_BYTES_MAX, "{tail}");
    }
}

#[test]
fn a_secret_is_hidden_at_every_place_of_a_cut() {
    for before in LINE_BYTES_MAX - SECRET.len() - 2..LINE_BYTES_MAX + 2 {
        let (log, _) = said(&format!("{}{SECRET}!", "x".repeat(before)), 4_096);
        assert!(is_hidden(&log) && log.ends_with("[secret]!"), "{before}");
    }
    for after in TAIL_BYTES_MAX - SECRET.len() - 2..TAIL_BYTES_MAX + 2 {
        let (_, tail) = said(&format!("{SECRET}{}", "y".repeat(after)), 4_096);
        assert!(is_hidden(&tail), "{after}: {tail}");
    }
}

#[test]
fn a_secret_that_is_longer_than_a_line_is_hidden() {
    let long: String = (0..4_000).map(|number| format!("{number:04}")).collect();
    for before in [0, 1, LINE_BYTES_MAX - 1, LINE_BYTES_MAX, 5_000] {
        for piece in [1, 1_000, LINE_BYTES_MAX, 100_000] {
            let text = format!("{}{long} end", "x".repeat(before));
            let (log, tail) = said_beside(&long, &text, piece);
            assert_eq!(log, format!("{}[secret] end", "x".repeat(before)), "{before} {piece}");
            assert!(tail.ends_with("[secret] end") && tail.len() <= TAIL_BYTES_MAX, "{tail}");
        }
    }
    let begun = format!("{}!", &long[..9_000]);
    assert_eq!(said_beside(&long, &begun, 700).0, begun, "what only begins like it is no secret");
}

#[test]
fn a_tail_is_of_what_came_since_it_was_forgotten() {
    let (_, lines) = lines(SECRET);
    lines.push(b"first\nsecond\nthi");
    assert_eq!(lines.tail(), "first\nsecond\nthi");
    lines.forget();
    lines.push(b"fourth");
    assert_eq!(lines.tail(), "fourth");
    lines.push(&[b'\n'; 1 << 20]);
    assert_eq!(lines.tail(), "");
    assert!(lines.lock().tail.len() <= 2 * STACK_BYTES_MAX);
}

#[test]
fn a_line_ends_by_either_sign() {
    let (host, lines) = lines(SECRET);
    lines.push(b"[ERROR] no\rTraceback:\r\n  File\n\n");
    lines.push(b"last");
    lines.finish();
    assert_eq!(host.lines(), ["[ERROR] no", "Traceback:", "  File", "last"]);
}

#[test]
fn a_log_is_filled_once() {
    let (host, lines) = lines(SECRET);
    let line = format!("{}\n", "x".repeat(1_023));
    (0..100).for_each(|_| lines.push(line.as_bytes()));
    let log = lines.lock().log.clone();
    log.fill();
    log.write(Level::Info, "more");
    let said = host.lines();
    assert_eq!(said.len(), 65, "64 KiB, and one that says so");
    assert_eq!(said[64], crate::execute::LOG_FULL);
}

#[test]
fn stacks_of_languages_are_found_in_what_was_written() {
    let python = "Traceback (most recent call last):\n  File \"/0/app.py\", line 7, in handle\n    \
                  raise ValueError(\"no\")\nValueError: no\n";
    let (wrong, stack) = stack_in(&format!("some note\n{python}\n")).unwrap();
    assert_eq!((wrong.as_str(), stack.as_str()), ("ValueError: no", python.trim_end()));
    let (wrong, _) = stack_in(&format!("{python}thread panicked\nnote: no more\n")).unwrap();
    assert_eq!(wrong, "ValueError: no");
    let chained =
        format!("{python}\nDuring handling of this, another exception occurred:\n\n{python}");
    assert_eq!(stack_in(&chained).unwrap().1, chained.trim_end());
    let cut = &python[python.find("  File").unwrap()..];
    assert_eq!(stack_in(cut).unwrap(), ("ValueError: no".into(), cut.trim_end().into()));

    let quickjs = "    at throw (probe.js:11:15)\n    at handleEvent (probe.js:136:24)";
    let (wrong, stack) = stack_in(&format!("Error: on purpose\n{quickjs}\n")).unwrap();
    assert_eq!((wrong.as_str(), stack.as_str()), ("Error: on purpose", quickjs));
    let monkey = "answer@fetch.js:5:9\n@fetch.js:2:45";
    let (wrong, stack) = stack_in(&format!("Error: no\n{monkey}")).unwrap();
    assert_eq!((wrong.as_str(), stack.as_str()), ("Error: no", monkey));

    for none in [
        "",
        "at home",
        "thread 'main' panicked at src/lib.rs:81:5:\ngave up\nnote: run with it",
        "mail to somebody@example.com: at 10:30:00",
        "File \"x\" is missing",
        "Traceback (most recent call last):\nnothing",
    ] {
        assert_eq!(stack_in(none), None, "{none}");
    }
}

#[test]
fn a_stack_comes_with_the_end_of_what_was_written() {
    let (_, lines) = lines(SECRET);
    lines.push(b"only words\n");
    assert_eq!(lines.tail_and_stack(), ("only words".into(), String::new()));
    let frames: String = (0..60).map(|n| format!("    at f{n:02} (app.js:{n}:1)\n")).collect();
    lines.push(format!("Error: {SECRET}\n{frames}").as_bytes());
    let (words, stack) = lines.tail_and_stack();
    assert_eq!(words, "only words\nError: [secret]");
    assert_eq!(stack, frames.trim_end());
    lines.push("x\n".repeat(100_000).as_bytes());
    assert_eq!(lines.tail_and_stack().1, "");
}
