//! Refusals as HTTP knows them: problem documents (RFC 9457) with `kind` and `at` of the refusal.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use bus::{Refusal, RefusalKind};
use serde_json::json;

/// Why a request is not answered.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    /// The word of a refusal on the bus, or `payload-too-large`, `request-timeout`.
    kind: String,
    detail: String,
    at: Option<String>,
    retry_after: Option<Duration>,
    pub(super) headers: Vec<(HeaderName, String)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        let (kind, detail) = (kind.to_owned(), detail.into());
        Self { status, kind, detail, at: None, retry_after: None, headers: vec![] }
    }

    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    pub(super) fn not_found(detail: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub(super) fn overloaded(detail: String, retry_after: Duration) -> Self {
        let retry_after = Some(retry_after);
        Self { retry_after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", detail) }
    }

    /// The path is there, the method is not.
    pub(super) fn method(method: &Method, allowed: &[String]) -> Self {
        let allowed = allowed.join(", ");
        let detail = format!("{method} is not answered here; use {allowed}");
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "bad-request", detail);
        problem.headers.push((header::ALLOW, allowed));
        problem
    }

    /// What is wrong, in words.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// Names the site, unless one is named already.
    pub(super) fn at(mut self, site: &str) -> Self {
        self.at.get_or_insert_with(|| site.to_owned());
        self
    }

    pub(super) fn response(self) -> Response<Body> {
        let mut document = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "kind": self.kind,
            "at": self.at,
        });
        let mut headers = self.headers;
        if let Some(after) = self.retry_after {
            document["retry_after_ms"] = json!(after.as_millis() as u64);
            let seconds = after.as_millis().div_ceil(1000).max(1);
            headers.push((header::RETRY_AFTER, seconds.to_string()));
        }
        let mut response = Response::new(Body::from(document.to_string()));
        *response.status_mut() = self.status;
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = StatusCode::from_u16(refusal.kind.code());
        let kind = match serde_json::to_value(refusal.kind) {
            Ok(serde_json::Value::String(kind)) => kind,
            _ => "internal".to_owned(),
        };
        let status = code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut problem = Self::new(status, &kind, refusal.message);
        problem.at = refusal.at;
        problem.retry_after = refusal.retry_after_ms.map(Duration::from_millis);
        problem
    }
}

impl From<bus::Error> for Problem {
    fn from(error: bus::Error) -> Self {
        let text = error.to_string();
        let kind = match error {
            bus::Error::Refused(refusal) => return refusal.into(),
            bus::Error::Bad(_) => RefusalKind::BadRequest,
            bus::Error::TimedOut { .. } => RefusalKind::DeadlineExceeded,
            bus::Error::NoResponders { .. } | bus::Error::Unreachable { .. } => {
                RefusalKind::Unavailable
            }
            bus::Error::Local { .. } => RefusalKind::Internal,
        };
        Refusal::new(kind, text).into()
    }
}
