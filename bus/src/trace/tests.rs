use proptest::prelude::*;

use super::{Parent, STATE_BYTES_MAX, Trace};
use crate::Headers;

const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[track_caller]
fn check(text: &str, read: Option<&str>) {
    let parsed: Option<Parent> = text.parse().ok();
    assert_eq!(parsed.map(|parent| parent.to_string()).as_deref(), read, "{text:?}");
}

#[test]
fn a_traceparent_is_read_as_the_standard_has_it() {
    check(GOOD, Some(GOOD));
    check(&format!(" {GOOD} "), Some(GOOD));
    // Of the flags only "sampled" is known; others are not passed on.
    let ids = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
    check(&format!("00-{ids}-ff"), Some(GOOD));
    check(&format!("00-{ids}-02"), Some(&format!("00-{ids}-00")));
    // A later version is read as far as it is known, and passed on as ours.
    check(&format!("cc-{ids}-01"), Some(GOOD));
    check(&format!("cc-{ids}-01-what-comes"), Some(GOOD));
    for bad in [
        "",
        "00",
        "-",
        &format!("ff-{ids}-01"),
        &format!("00-{ids}-01-more"),
        &format!("cc-{ids}-01x"),
        &format!("00-{ids}"),
        &format!("00-{ids}-1"),
        &format!("0-{ids}-01"),
        &format!("00-{ids}-0G"),
        &format!("00-{}-01", ids.to_uppercase()),
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
    ] {
        check(bad, None);
    }
}

#[test]
fn a_state_goes_with_its_parent_only() {
    let of = |parent, state| Trace::of_text(Some(parent), Some(state)).state;
    assert_eq!(of(GOOD, "vendor=1,other=a b"), Some("vendor=1,other=a b".into()));
    assert_eq!(of("00-nonsense", "vendor=1"), None);
    assert_eq!(of(GOOD, ""), None);
    assert_eq!(of(GOOD, "a=\r\nb"), None);
    assert_eq!(of(GOOD, &"a".repeat(STATE_BYTES_MAX + 1)), None);
}

#[test]
fn headers_are_read_in_any_case_and_written_once() {
    let pairs = [("TraceParent", GOOD), ("Tracestate", "v=1"), ("other", "kept")];
    let mut headers: Headers =
        pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let trace = Trace::of(&headers);
    let below = trace.under(trace.parent.expect("it is right").child());
    below.write(&mut headers);
    let names: Vec<&str> = headers.keys().map(String::as_str).collect();
    assert_eq!(names, ["other", "traceparent", "tracestate"]);
    assert_eq!(Trace::of(&headers), below);
    assert_eq!(below.parent.map(|parent| parent.trace), trace.parent.map(|parent| parent.trace));
    assert_ne!(below.parent.map(|parent| parent.span), trace.parent.map(|parent| parent.span));
    // What is malformed does not travel on.
    headers.insert("traceparent".into(), "00-1-2-01".into());
    Trace::of(&headers).write(&mut headers);
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["other"]);
}

proptest! {
    #[test]
    fn any_text_is_refused_or_read_to_the_same_parent(text in "\\PC{0,80}") {
        if let Ok(parent) = text.parse::<Parent>() {
            prop_assert_eq!(parent.to_string().parse(), Ok(parent));
        }
    }

    #[test]
    fn what_is_written_is_read_again(trace in 1u128.., span in 1u64.., sampled: bool) {
        let parent = Parent { trace, span, sampled };
        prop_assert_eq!(parent.to_string().parse(), Ok(parent));
    }
}
