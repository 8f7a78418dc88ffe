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

proptest! {
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
