use proptest::prelude::*;

use super::*;

#[test]
fn round_trip() {
    for text in ["ev.cloud._.doorcam.motion", "sync.cloud.east.cell1._.ev.doorcam.front.frame"] {
        assert_eq!(Subject::parse(text).expect(text).to_string(), text);
    }
    let subject = Subject::parse("call.cloud.east._.doorcam.summary").expect("sound");
    assert_eq!((subject.app(), subject.rest()), ("doorcam", "summary"));
}

#[test]
fn injections_are_refused() {
    let token = "x".repeat(100_000);
    for bad in [
        "ev",
        "ev.cloud",
        "xx.cloud._.a.b",
        "ev._.a",
        "ev.cloud._.",
        "ev.cloud._.a..b",
        "ev.cloud._.a.>",
        "ev.cloud._.a.*",
        "ev.cloud._.a b",
        "ev.cloud._.a\r\nPUB x",
        "ev.cloud._.a._.b",
        "ev.CLOUD._.a",
        token.as_str(),
    ] {
        assert!(Subject::parse(bad).is_err(), "{bad:.80}");
    }
}

#[test]
fn patterns() {
    let check = |pattern, name, want| assert_eq!(matches(pattern, name), want, "{pattern} {name}");
    check("motion", "motion", true);
    check("motion", "motion.x", false);
    check("front.*", "front.frame", true);
    check("front.*", "front", false);
    check(">", "a.b.c", true);
    check("a.>", "a", false);
}

proptest! {
    #[test]
    fn parse_never_panics(text in "\\PC{0,80}") {
        let _ = Subject::parse(&text);
    }

    #[test]
    fn what_parses_prints_back(text in "(ev|call)\\.[a-z.]{1,20}\\._\\.[a-zA-Z0-9._-]{1,30}") {
        if let Ok(subject) = Subject::parse(&text) {
            prop_assert_eq!(subject.to_string(), text);
        }
    }
}
