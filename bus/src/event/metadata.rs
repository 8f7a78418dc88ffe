//! Metadata: headers that a publisher gives an event beside CloudEvents' own attributes. They travel
//! with it to every handler.

use super::{ATTRIBUTES, Event};
use crate::Error;
use crate::path::clip;
use crate::trace;

/// Bytes of all metadata of one event, names and values.
pub const METADATA_BYTES_MAX: usize = 8 << 10;

impl Event {
    /// Names and values that its publisher gave it, without what says how it travels.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(|(name, _)| !is_reserved(name))
    }
}

/// Whether metadata may have this name and value; [`Error::Bad`] says why not.
pub fn check_metadata(name: &str, value: &str) -> Result<(), Error> {
    let bad = |why: &str| Err(Error::Bad(format!("metadata {:?}: {why}", clip(name))));
    // A token of RFC 9110, as names of headers are.
    let is_token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    if name.is_empty() || !name.bytes().all(is_token) {
        return bad("a name has letters, digits and !#$%&'*+-.^_`|~ only, at least one");
    }
    if is_reserved(name) {
        return bad("the name is taken: by CloudEvents, traces, NATS or EdgeScale");
    }
    if value.chars().any(char::is_control) || value.trim() != value {
        return bad("a value has no control characters, and no space around it");
    }
    if name.len() + value.len() > METADATA_BYTES_MAX {
        return bad(&format!("more than {METADATA_BYTES_MAX} bytes"));
    }
    Ok(())
}

fn is_reserved(name: &str) -> bool {
    let begins =
        |with: &str| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    let is = |other: &&str| name.eq_ignore_ascii_case(other);
    begins("Es-")
        || begins("Nats-")
        || ATTRIBUTES.iter().chain(&[trace::PARENT_HEADER, trace::STATE_HEADER]).any(|n| is(n))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_says_how_an_event_travels_is_no_metadata() {
        let mut event = Event::new("app.topic", "cloud", "{}").unwrap();
        for name in ["Es-Only", "es-only", "Nats-Msg-Id", "CE-ID", "Traceparent", "Content-Type"] {
            assert!(check_metadata(name, "x").is_err(), "{name}");
            event.headers.insert(name.into(), "x".into());
        }
        event.headers.insert("ce-partitionkey".into(), "k".into());
        event.headers.insert("colour".into(), "blue".into());
        let all: Vec<_> = event.metadata().collect();
        assert_eq!(all, [("ce-partitionkey", "k"), ("colour", "blue")]);
    }

    #[test]
    fn a_bad_name_or_value_is_told() {
        let long = "v".repeat(METADATA_BYTES_MAX);
        for name in ["", "a b", "a:b", "é"] {
            let why = check_metadata(name, "v").unwrap_err().to_string();
            assert!(why.contains("letters, digits"), "{why}");
        }
        for value in ["b\r\nc", " b", "b\0", &long] {
            assert!(check_metadata("a", value).is_err(), "{value:?}");
        }
        assert!(check_metadata("ce-partitionkey", "Übermut 7").is_ok());
    }

    proptest! {
        /// What is taken is no header that NATS would leave out.
        #[test]
        fn what_is_taken_survives_the_wire(name in ".{0,12}", value in ".{0,40}") {
            let mut event = Event::new("app.topic", "cloud", "{}").unwrap();
            if check_metadata(&name, &value).is_ok() {
                event.headers.insert(name.clone(), value.clone());
                let wire = crate::client::to_nats(&event.wire_headers());
                let headers = crate::client::headers_of(&wire);
                prop_assert_eq!(headers.get(&name), Some(&value));
            }
        }
    }
}
