use proptest::prelude::*;

use super::*;

fn check(all: &[(&str, &str)]) -> Result<(), Error> {
    let all: Vec<_> =
        all.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    check_metadata(&all)
}

#[test]
fn what_says_how_an_event_travels_is_no_metadata() {
    let mut event = Event::new("app.topic", "cloud", "{}").unwrap();
    for name in ["Es-Only", "es-only", "Nats-Msg-Id", "CE-ID", "Traceparent", "Content-Type"] {
        assert!(check(&[(name, "x")]).is_err(), "{name}");
        event.headers.insert(name.into(), "x".into());
    }
    event.headers.insert("ce-partitionkey".into(), "k".into());
    event.headers.insert("colour".into(), "blue".into());
    let all: Vec<_> = event.metadata().collect();
    assert_eq!(all, [("ce-partitionkey", "k"), ("colour", "blue")]);
}

#[test]
fn a_bad_name_or_value_is_told() {
    for name in ["", "a b", "a:b", "é"] {
        let why = check(&[(name, "v")]).unwrap_err().to_string();
        assert!(why.contains("letters, digits"), "{why}");
    }
    for value in ["b\r\nc", " b", "b\0"] {
        assert!(check(&[("a", value)]).is_err(), "{value:?}");
    }
    assert!(check(&[("ce-partitionkey", "Übermut 7")]).is_ok());
}

#[test]
fn all_metadata_together_is_bounded() {
    let half = "v".repeat(METADATA_BYTES_MAX / 2 - 1);
    assert!(check(&[("a", &half), ("b", &half)]).is_ok());
    let why = check(&[("a", &half), ("bc", &half)]).unwrap_err().to_string();
    assert!(why.contains("8193 bytes"), "{why}");
}

fn event_of(headers: Headers, data: usize) -> Result<Event, Error> {
    let (site, now) = ("cloud.east".parse().unwrap(), time::OffsetDateTime::UNIX_EPOCH);
    Event::read("app.topic", headers, vec![0; data].into(), &site, || "i".repeat(32), now)
}

fn all_bytes(headers: &Headers) -> usize {
    headers.iter().map(|(name, value)| wire_bytes(name, value)).sum()
}

#[test]
fn headers_that_leave_no_room_are_refused_and_cut_for_the_dead() {
    let bomb = |pairs: usize, bytes: usize| -> Headers {
        (0..pairs).map(|n| (format!("h{n:05}"), "v".repeat(bytes))).collect()
    };
    assert!(event_of(bomb(10, 1_000), 0).is_ok());
    for (pairs, bytes) in [(500, 1_000), (60_000, 0), (1, 500_000)] {
        let mut headers = bomb(pairs, bytes);
        headers.insert("ce-id".into(), "seven".into());
        let why = event_of(headers.clone(), 0).unwrap_err().to_string();
        assert!(why.contains("bytes of headers; at most 16384 go"), "{why}");
        let (fit, left_out) = fitting(&headers);
        assert_eq!((fit.len() + left_out, fit["ce-id"].as_str()), (pairs + 1, "seven"));
        assert!(all_bytes(&fit) <= 32 << 10, "{}", all_bytes(&fit));
    }
    let only = Headers::from([("Es-Only".to_owned(), "h".repeat(3_000))]);
    let why = event_of(only, 0).unwrap_err().to_string();
    assert!(why.contains("3011 bytes of Es-Only"), "{why}");
}

proptest! {
    /// What a site has taken in is taken in by all above, and fits a message with its data.
    #[test]
    fn what_was_taken_once_is_taken_again(
        own in proptest::collection::btree_map("[a-z]{1,9}", "[ -~]{0,3000}", 0..9),
        id in "[a-z]{0,9000}",
        kind in proptest::option::of("[a-z]{1,900}"),
    ) {
        let mut headers: Headers = own;
        headers.insert("ce-id".into(), id);
        headers.extend(kind.map(|kind| ("ce-type".to_owned(), kind)));
        let Ok(mut event) = event_of(headers, crate::PAYLOAD_BYTES_MAX) else { return Ok(()) };
        for _ in 0..3 {
            event.headers.insert(DONE_HEADER.into(), "d".repeat(2_500));
            event.headers.insert(trace::PARENT_HEADER.into(), "0".repeat(55));
            let wire = event.wire_headers();
            let bytes = all_bytes(&wire) + event.data.len();
            prop_assert!(bytes < crate::server::MAX_PAYLOAD_BYTES, "{bytes} bytes");
            event = event_of(wire, crate::PAYLOAD_BYTES_MAX).unwrap();
        }
    }

    /// What is taken is no header that NATS would leave out.
    #[test]
    fn what_is_taken_survives_the_wire(name in ".{0,12}", value in ".{0,40}") {
        let mut event = Event::new("app.topic", "cloud", "{}").unwrap();
        if check(&[(&name, &value)]).is_ok() {
            event.headers.insert(name.clone(), value.clone());
            let wire = crate::client::to_nats(&event.wire_headers());
            let headers = crate::client::headers_of(&wire);
            prop_assert_eq!(headers.get(&name), Some(&value));
        }
    }
}
