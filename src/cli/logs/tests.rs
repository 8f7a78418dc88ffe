use super::*;

fn line(level: &str, text: &str) -> Line {
    Line {
        time: "2026-01-01T00:00:00.123456Z".into(),
        site: "cloud".into(),
        level: level.into(),
        from: "shop/echo".into(),
        text: text.into(),
        about: None,
    }
}

#[test]
fn a_line_says_which_event_it_is_about() {
    let about = |id: &str, attempt| {
        let about = About { id: id.into(), attempt, revision: Some(7), ..About::default() };
        line_text(&Line { about: Some(about), ..line("warn", "late") }, false)
    };
    assert!(about("e1", Some(1)).ends_with(" shop/echo [e1]: late"));
    assert!(about("e1", Some(2)).ends_with(" shop/echo [e1, attempt 2]: late"));
    assert!(about("", None).ends_with(" shop/echo: late"), "between invocations");
    let long = about(&"é".repeat(60), None);
    assert!(long.ends_with(&format!("[{}…]: late", "é".repeat(48))), "{long}");
    let logs = |id: &str| Logs { id: Some(id.into()), ..Logs::following("shop".into()) };
    let trace = Some("4bf9".to_owned());
    let of = Line {
        about: Some(About { id: "e1".into(), trace, ..About::default() }),
        ..line("info", "")
    };
    assert!(logs("e1").wants(&of) && logs("4bf9").wants(&of));
    assert!(!logs("e2").wants(&of) && !logs("e1").wants(&line("info", "")));
}

#[test]
fn lines_are_plain_for_programs_and_coloured_for_eyes() {
    let plain = line_text(&line("warn", "late"), false);
    assert_eq!(plain, "2026-01-01T00:00:00.123 warn  cloud shop/echo: late");
    let coloured = line_text(&line("warn", "late"), true);
    assert!(coloured.contains("\x1b[33mwarn \x1b[0m"), "{coloured:?}");
    assert!(coloured.ends_with(": late"), "{coloured:?}");
    assert!(line_text(&line("error", ""), true).contains("\x1b[31merror"));
}

#[test]
fn a_guest_gives_no_orders_to_the_terminal() {
    let text = line_text(&line("info", "a\x1b]0;mine\x07\r\tb\nat c\u{9b}2J"), false);
    assert!(text.ends_with("a\u{fffd}]0;mine\u{fffd}\u{fffd}\tb\nat c\u{fffd}2J"), "{text:?}");
}

#[test]
fn lines_of_an_app_are_its_own_and_those_of_its_deployment() {
    let is_of_shop = |from: &str, text: &str| {
        is_of(&Line { from: from.into(), text: text.into(), ..line("info", "") }, "shop")
    };
    for (from, text) in [
        ("shop/echo", "x"),
        ("shop", "echo: the code is away"),
        ("deploy", "app shop 0.1, revision 3"),
        ("deploy", "entry shop: refused"),
        ("deploy", "shop/echo: no such code"),
        ("events", "dead letter shop.go after 2 attempts: unreachable"),
        ("events", "event shop.go: the server is away"),
    ] {
        assert!(is_of_shop(from, text), "{from}: {text}");
    }
    for (from, text) in [
        ("shop2/echo", "shop/echo: x"),
        ("deploy", "app shop2 0.1, revision 3"),
        ("deploy", "the registry is away"),
        ("events", "dead letter shop2.go after 2 attempts: shop"),
        ("events", "shop/echo"),
    ] {
        assert!(!is_of_shop(from, text), "{from}: {text}");
    }
}
