//! Metadata: headers that a publisher gives an event beside CloudEvents' own attributes. They
//! travel with it to every handler.

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
