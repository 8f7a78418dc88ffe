//! Metadata: headers that a publisher gives an event beside CloudEvents' own attributes. They
//! travel with it to every handler.

use super::{ATTRIBUTES, DONE_HEADER, Event, ONLY_HEADER, REDRIVE_HEADER, TO_HEADER, WAS_HEADER};
use crate::body::BODY_HEADER;
use crate::path::clip;
use crate::trace;
use crate::{Error, Headers};

/// Bytes of all metadata of one event, names and values.
pub const METADATA_BYTES_MAX: usize = 8 << 10;

/// Bytes of the headers that a publisher gives one event, as they are on the wire; room for
/// CloudEvents' attributes is taken off, whether or not they are there.
pub const HEADERS_BYTES_MAX: usize = 16 << 10;
/// The headers that say how an event travels.
const TRAVEL: [&str; 6] =
    [DONE_HEADER, ONLY_HEADER, TO_HEADER, WAS_HEADER, REDRIVE_HEADER, BODY_HEADER];
/// Bytes of one of these: the names of all handlers of an app fit.
const TRAVEL_BYTES_MAX: usize = 2560;
/// What an attribute takes that is filled in where a message lacks it; a subject fits.
const FILLED_IN_BYTES: usize = 640;

/// Refuses headers that would leave no room for those that are added on the way. Filling in what
/// is missing makes them no larger here, so that no site refuses what the one below has taken. What
/// was for the log that took the message is not counted: it goes no further.
pub(super) fn check_headers(name: &str, headers: &Headers) -> Result<(), Error> {
    let refuse = |what: &str, bytes: usize, bytes_max: usize| {
        let name = clip(name);
        Err(Error::Bad(format!(
            "event {name}: {bytes} bytes of {what}; at most {bytes_max} go: put them in the body"
        )))
    };
    let mut all = (ATTRIBUTES.len() + 1) * FILLED_IN_BYTES;
    for (header, value) in headers.iter().filter(|(header, _)| !header.starts_with("Nats-")) {
        let bytes = wire_bytes(header, value);
        match TRAVEL.contains(&header.as_str()) {
            true if bytes > TRAVEL_BYTES_MAX => return refuse(header, bytes, TRAVEL_BYTES_MAX),
            true => {}
            false if is_filled_in(header) => all += bytes.saturating_sub(FILLED_IN_BYTES),
            false => all += bytes,
        }
    }
    match all > HEADERS_BYTES_MAX {
        true => refuse("headers", all, HEADERS_BYTES_MAX),
        false => Ok(()),
    }
}

/// As many of some headers as go, CloudEvents' own attributes first, and how many are left out.
pub(super) fn fitting(headers: &Headers) -> (Headers, usize) {
    let (mut fitting, mut left_out) = (Headers::new(), 0);
    let known = headers.iter().filter(|(name, _)| !name.starts_with("Nats-"));
    let (first, others): (Vec<_>, Vec<_>) = known.partition(|(name, _)| is_filled_in(name));
    let mut room = HEADERS_BYTES_MAX + TRAVEL.len() * TRAVEL_BYTES_MAX;
    for (name, value) in first.into_iter().chain(others) {
        match room.checked_sub(wire_bytes(name, value)) {
            Some(left) => {
                room = left;
                fitting.insert(name.clone(), value.clone());
            }
            None => left_out += 1,
        }
    }
    (fitting, left_out)
}

/// `name: value\r\n`
fn wire_bytes(name: &str, value: &str) -> usize {
    name.len() + value.len() + 4
}

fn is_filled_in(name: &str) -> bool {
    ATTRIBUTES.iter().chain(&[trace::PARENT_HEADER]).any(|own| name.eq_ignore_ascii_case(own))
}

impl Event {
    /// Names and values that its publisher gave it, without what says how it travels.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(|(name, _)| !is_reserved(name))
    }
}

/// Whether an event may have all this metadata; [`Error::Bad`] says why not.
pub fn check_metadata<'a>(
    all: impl IntoIterator<Item = &'a (String, String)>,
) -> Result<(), Error> {
    let mut bytes = 0;
    for (name, value) in all {
        check_pair(name, value)?;
        bytes += name.len() + value.len();
    }
    if bytes > METADATA_BYTES_MAX {
        let text = format!("metadata of {bytes} bytes, and at most {METADATA_BYTES_MAX}");
        return Err(Error::Bad(text));
    }
    Ok(())
}

fn check_pair(name: &str, value: &str) -> Result<(), Error> {
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
    Ok(())
}

fn is_reserved(name: &str) -> bool {
    let begins =
        |with: &str| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    let is = |other: &&str| name.eq_ignore_ascii_case(other);
    begins("Es-")
        || begins("Nats-")
        || ATTRIBUTES.iter().chain(&[trace::PARENT_HEADER, trace::STATE_HEADER]).any(is)
}

#[cfg(test)]
mod tests;
