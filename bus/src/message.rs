//! What travels over the bus: requests with a time budget, responses, and typed refusals.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{After, TierPath};

/// Headers by name. Names are compared as written; NATS keeps their case.
pub type Headers = BTreeMap<String, String>;

/// What is left of a request's time, in ms; a budget, not a time of day, so clocks may differ.
pub const TIMEOUT_HEADER: &str = "Es-Timeout-Ms";
/// How many tiers a request has crossed.
pub const HOPS_HEADER: &str = "Es-Hops";
/// The site that sent a request down the tree; such a request does not climb again.
pub const DOWN_HEADER: &str = "Es-Down";
/// The site where the user of a request is, when that is not the site that was asked. The first
/// site that sees it takes it off.
pub const USER_HEADER: &str = "Es-User-At";
/// What makes two requests the same: the second gets the answer of the first.
pub const KEY_HEADER: &str = "Es-Idempotency-Key";
/// The site that answered.
pub const SITE_HEADER: &str = "Es-Site";
/// The sites a request crossed, comma separated, first hop first.
pub const ROUTE_HEADER: &str = "Es-Route";
/// In an answer: the site above that may be asked by itself the next time, because nearer ones
/// would only pass the request on.
pub const WAY_HEADER: &str = "Es-Way";
/// The head of an HTTP request or of its answer, in JSON; the body is the payload.
pub const HTTP_HEADER: &str = "Es-Http";
/// The error text of the NATS services protocol.
pub const ERROR_HEADER: &str = "Nats-Service-Error";
/// The error code of the NATS services protocol.
pub const ERROR_CODE_HEADER: &str = "Nats-Service-Error-Code";

/// The time budget of a request that names none, in ms.
pub const TIMEOUT_MS_DEFAULT: u64 = 5_000;
/// The largest time budget that is honoured, in ms.
pub const TIMEOUT_MS_MAX: u64 = 900_000;
/// A request that crossed this many tiers is going in circles.
pub const HOPS_MAX: u32 = 16;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub subject: String,
    pub headers: Headers,
    pub payload: Bytes,
    pub received: Instant,
}

impl Request {
    /// A request made on this host.
    pub fn new(subject: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            subject: subject.into(),
            headers: Headers::new(),
            payload: payload.into(),
            received: Instant::now(),
        }
    }

    /// The whole time budget the request came with.
    pub fn timeout(&self) -> Duration {
        let ms = self.headers.get(TIMEOUT_HEADER).and_then(|text| text.parse().ok());
        Duration::from_millis(ms.unwrap_or(TIMEOUT_MS_DEFAULT).min(TIMEOUT_MS_MAX))
    }

    /// When the answer is of no use any more.
    pub fn deadline(&self) -> Instant {
        self.received + self.timeout()
    }

    /// The site where its user is, when the request says so.
    pub fn user_at(&self) -> Option<TierPath> {
        self.headers.get(USER_HEADER)?.parse().ok()
    }

    /// The idempotency key, if it carries one.
    pub fn key(&self) -> Option<&str> {
        self.headers.get(KEY_HEADER).map(String::as_str).filter(|key| !key.is_empty())
    }

    /// How many tiers the request has crossed.
    pub fn hops(&self) -> u32 {
        self.headers.get(HOPS_HEADER).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub headers: Headers,
    pub payload: Bytes,
    /// What is left to do when it is on its way.
    pub after: After,
}

impl Response {
    /// An answer of these bytes, without headers.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// An answer in JSON.
    pub fn json(value: &impl Serialize) -> Result<Self, Refusal> {
        match serde_json::to_vec(value) {
            Ok(body) => Ok(Self::new(body).with("content-type", "application/json")),
            Err(e) => Err(Refusal::new(RefusalKind::Internal, format!("answer: {e}"))),
        }
    }

    /// The same answer with one more header.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_owned(), value.into());
        self
    }
}

/// The longest text of a refusal that travels, in characters.
const MESSAGE_CHARS_MAX: usize = 8 << 10;

/// Why a request was refused, by what the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The request is wrong: mend it.
    BadRequest,
    /// The caller may not.
    NotGranted,
    /// The named thing does not exist.
    NotFound,
    /// Nothing on the path to the root serves this.
    NoHandler,
    /// The time budget ran out.
    DeadlineExceeded,
    /// What the request took for granted does not hold: look again, then decide.
    Conflict,
    /// Too busy: retry after the time named.
    Overloaded,
    /// The handler itself failed.
    HandlerFailed,
    /// Something this needs is away for now.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl RefusalKind {
    /// True when the request may have been carried out all the same.
    pub fn leaves_doubt(self) -> bool {
        matches!(self, Self::DeadlineExceeded | Self::Unavailable)
    }

    /// The code in the services protocol's header (HTTP's meanings).
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NotGranted => 403,
            Self::NotFound | Self::NoHandler => 404,
            Self::DeadlineExceeded => 504,
            Self::Conflict => 409,
            Self::Overloaded => 429,
            Self::HandlerFailed => 502,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }
}

/// A typed refusal, as it travels in a reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: String,
    /// The site that refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct RefusalBody {
    error: Refusal,
}

impl Refusal {
    /// A refusal that does not yet say where.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), at: None, retry_after_ms: None }
    }

    /// A bad request, with the reason and the mend.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::BadRequest, message)
    }

    /// The same refusal with the site that made it, unless one is named already.
    pub fn at(mut self, site: &str) -> Self {
        self.at.get_or_insert_with(|| site.to_owned());
        self
    }

    /// The reply that carries the refusal: services-protocol headers and a JSON body.
    pub fn response(&self) -> Response {
        let line: String = self.message.chars().filter(|c| !c.is_control()).take(200).collect();
        let mut error = self.clone();
        // A handler may say anything in its distress.
        error.message = error.message.chars().take(MESSAGE_CHARS_MAX).collect();
        let body = RefusalBody { error };
        let body = serde_json::to_vec(&body).expect("a refusal holds text and numbers only");
        Response::new(body)
            .with(ERROR_HEADER, line)
            .with(ERROR_CODE_HEADER, self.kind.code().to_string())
            .with("content-type", "application/json")
    }

    /// Reads a refusal out of a reply; `None` when the reply is an answer.
    pub fn of(response: &Response) -> Option<Self> {
        let line = response.headers.get(ERROR_HEADER)?;
        let body: Option<RefusalBody> = serde_json::from_slice(&response.payload).ok();
        Some(body.map_or_else(|| Self::new(RefusalKind::Internal, line.clone()), |b| b.error))
    }
}

#[cfg(test)]
mod tests;
