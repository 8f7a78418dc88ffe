//! An HTTP request and its answer, as handlers see them, and how both travel between tiers: the
//! head as one JSON header of a bus message, the body as its payload.

use std::collections::BTreeMap;

use bus::trace::{PARENT_HEADER, STATE_HEADER, Trace};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Inlet;
use crate::manifest::http::Matched;

/// Longest body of an answer.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// Most headers of an answer.
pub const HEADERS_MAX: usize = 128;
/// Longest names and values of an answer's headers, in bytes.
pub const HEADER_BYTES_MAX: usize = 32 << 10;

/// An HTTP request that a route of the app took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// The same for every attempt of the request.
    #[serde(default)]
    pub id: String,
    pub method: String,
    /// Within the app, as it came: `/things/a%20b`.
    pub path: String,
    /// What stands behind the question mark, as it came.
    #[serde(default)]
    pub query: String,
    /// Names in lower case, in the order in which they came; hop-by-hop headers are left out.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Host and port as the client wrote them.
    #[serde(default)]
    pub authority: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    #[serde(default)]
    pub protocol: String,
    /// Address of the client.
    #[serde(default)]
    pub client: String,
    /// The route that took it: `GET /things/{id}`.
    #[serde(skip)]
    pub route: String,
    /// Values of the route's parameters.
    #[serde(skip)]
    pub parameters: Vec<(String, String)>,
    #[serde(skip)]
    pub body: Bytes,
    /// The body where it is still on its way; `body` is empty then.
    #[serde(skip)]
    pub inlet: Option<Inlet>,
}

/// Status and headers of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpHead {
    pub status: u16,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

impl HttpRequest {
    /// Notes what the route that took it made of it.
    pub fn take_route(&mut self, matched: Matched<'_>) {
        self.route = matched.route.to_string();
        self.parameters = matched.parameters;
    }

    /// Names a trace in the headers, in the place of whatever they said of one.
    pub fn set_trace(&mut self, trace: &Trace) {
        self.headers.retain(|(name, _)| name != PARENT_HEADER && name != STATE_HEADER);
        let parent = trace.parent.map(|parent| (PARENT_HEADER.to_owned(), parent.to_string()));
        let state = trace.state.clone().map(|state| (STATE_HEADER.to_owned(), state));
        self.headers.extend(parent.into_iter().chain(state));
    }

    /// The values of a header, joined by commas as RFC 9110 (section 5.3) allows.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self.headers_named(name).collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    pub(super) fn headers_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Headers with one value per name; cookies come apart.
    pub(super) fn joined_headers(&self) -> BTreeMap<&str, String> {
        let mut joined: BTreeMap<&str, String> = BTreeMap::new();
        for (name, value) in self.headers.iter().filter(|(name, _)| name != "cookie") {
            let entry = joined.entry(name).or_default();
            if !entry.is_empty() {
                entry.push(',');
            }
            entry.push_str(value);
        }
        joined
    }
}

impl HttpHead {
    /// What a handler said, checked; an error says what an HTTP client cannot be given.
    pub fn checked(status: u16, headers: Vec<(String, String)>) -> Result<Self, String> {
        if !(200..=599).contains(&status) {
            return Err(format!("{status} is no status of an answer; use 200 to 599"));
        }
        if headers.len() > HEADERS_MAX {
            return Err(format!("{} headers; at most {HEADERS_MAX} go", headers.len()));
        }
        let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > HEADER_BYTES_MAX {
            return Err(format!("{bytes} bytes of headers; at most {HEADER_BYTES_MAX} go"));
        }
        if let Some((name, _)) = headers.iter().find(|(name, _)| !is_token(name)) {
            return Err(format!("{name:?} is no name of a header"));
        }
        if let Some((name, _)) = headers.iter().find(|(_, value)| !is_value(value)) {
            return Err(format!("header {name:?} has a control character in it"));
        }
        let lower = |(name, value): (String, String)| (name.to_ascii_lowercase(), value);
        let kept = |(name, _): &(String, String)| !is_hop_by_hop(name) && name != "content-length";
        let headers = headers.into_iter().map(lower).filter(kept).collect();
        Ok(Self { status, headers })
    }
}

/// Headers that concern one connection alone (RFC 9110, section 7.6.1).
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

fn is_token(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(is_part)
}

fn is_value(value: &str) -> bool {
    value.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f))
}
