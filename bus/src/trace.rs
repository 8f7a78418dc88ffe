//! The trace that a request or an event belongs to: W3C Trace Context, level 1, as the headers
//! `traceparent` and `tracestate`.
//!
//! A `traceparent` that is not right is as good as none, and its `tracestate` goes with it. Makes
//! no spans and knows no exporter.

use std::fmt;
use std::str::FromStr;

use crate::Headers;
use crate::route::retry::draw;

/// The header that names the trace and the span above.
pub const PARENT_HEADER: &str = "traceparent";
/// The header that tracing systems keep notes of their own in; passed on as it came.
pub const STATE_HEADER: &str = "tracestate";
/// The longest `tracestate` that is passed on, in bytes: what the standard wants at least.
pub const STATE_BYTES_MAX: usize = 512;

/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// A span as those below it know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Never 0.
    pub trace: u128,
    /// Never 0.
    pub span: u64,
    /// Whoever began the trace wants it recorded.
    pub sampled: bool,
}

/// What headers say of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub parent: Option<Parent>,
    /// Kept only beside a parent.
    pub state: Option<String>,
}

impl Parent {
    /// The first span of a trace that begins here.
    pub fn root(sampled: bool) -> Self {
        let trace = u128::from(id()) << 64 | u128::from(id());
        Self { trace, span: id(), sampled }
    }

    /// A span below this one.
    pub fn child(self) -> Self {
        Self { span: id(), ..self }
    }
}

/// A random number above 0.
fn id() -> u64 {
    draw().max(1)
}

impl Trace {
    /// The trace of a text such as `00-<32 digits>-<16 digits>-01`.
    pub fn of_text(parent: Option<&str>, state: Option<&str>) -> Self {
        let parent = parent.and_then(|text| text.parse().ok());
        let fits = |state: &&str| {
            !state.is_empty()
                && state.len() <= STATE_BYTES_MAX
                && state.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        };
        let state = parent.and(state.map(str::trim).filter(fits)).map(str::to_owned);
        Self { parent, state }
    }

    /// The trace that headers name, in whatever case they write the names.
    pub fn of(headers: &Headers) -> Self {
        let value = |name: &str| {
            let exact = headers.get(name);
            let any = || headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            exact.or_else(|| any().map(|(_, value)| value)).map(String::as_str)
        };
        Self::of_text(value(PARENT_HEADER), value(STATE_HEADER))
    }

    /// Puts the trace into headers, in the place of whatever they said of one.
    pub fn write(&self, headers: &mut Headers) {
        let is_trace = |name: &str| {
            name.eq_ignore_ascii_case(PARENT_HEADER) || name.eq_ignore_ascii_case(STATE_HEADER)
        };
        headers.retain(|name, _| !is_trace(name));
        if let Some(parent) = self.parent {
            headers.insert(PARENT_HEADER.into(), parent.to_string());
        }
        if let Some(state) = &self.state {
            headers.insert(STATE_HEADER.into(), state.clone());
        }
    }

    /// The same trace, under another span.
    pub fn under(&self, parent: Parent) -> Self {
        Self { parent: Some(parent), state: self.state.clone() }
    }
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.sampled { SAMPLED } else { 0 };
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

/// Why a text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no traceparent: 00-<32 digits>-<16 digits>-<2 digits>, in lower-case hexadecimal")]
pub struct NoParent;

impl FromStr for Parent {
    type Err = NoParent;

    /// Later versions may append fields, which are not looked at; version `ff` is none.
    fn from_str(text: &str) -> Result<Self, NoParent> {
        let mut fields = text.trim().split('-');
        let mut digits = |count: usize| {
            let field = fields.next().filter(|field| field.len() == count)?;
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            let value = field.bytes().all(is_digit).then(|| u128::from_str_radix(field, 16));
            value?.ok()
        };
        let (version, trace, span, flags) = (digits(2), digits(32), digits(16), digits(2));
        let (Some(version), Some(trace), Some(span), Some(flags)) = (version, trace, span, flags)
        else {
            return Err(NoParent);
        };
        let more = fields.next().is_some();
        let span = u64::try_from(span).map_err(|_| NoParent)?;
        if version == 0xff || (version == 0 && more) || trace == 0 || span == 0 {
            return Err(NoParent);
        }
        Ok(Self { trace, span, sampled: flags as u8 & SAMPLED != 0 })
    }
}

#[cfg(test)]
mod tests;
