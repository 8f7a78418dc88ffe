//! A request's trace: read from its headers, begun where there is none, told to those below.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use bus::trace::{PARENT_HEADER, STATE_HEADER, Trace};
use handlers::trace::{Open, Role, Tracer};
use hyper::body::Incoming;

use super::first_segment;

/// Pages of the node itself, of which there is no trace.
const UNTRACED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The trace that a client names. Several parents are as good as none; the lines of a state are
/// one list.
pub(super) fn of(headers: &HeaderMap) -> Trace {
    let texts = |name: &str| headers.get_all(name).iter().map(|value| value.to_str().ok());
    let mut parents = texts(PARENT_HEADER);
    let parent = match (parents.next(), parents.next()) {
        (Some(parent), None) => parent,
        _ => None,
    };
    let state: Option<Vec<&str>> = texts(STATE_HEADER).collect();
    Trace::of_text(parent, state.map(|lines| lines.join(",")).as_deref())
}

/// Begins the span of a request; whoever reads its headers from now on is below it.
pub(super) fn enter(tracer: &Tracer, request: &mut Request<Incoming>) -> Option<Open> {
    if UNTRACED.contains(&request.uri().path()) {
        return None;
    }
    let name = || format!("{} /{}", request.method(), first_segment(request.uri().path()).0);
    let mut span = tracer.begin(&of(request.headers()), Role::Server, name);
    if !span.is_recorded() {
        return None;
    }
    span.note("http.request.method", request.method().as_str());
    span.note("url.path", request.uri().path());
    let trace = span.trace();
    let parent = trace.parent.map(|parent| parent.to_string());
    for (name, value) in [(PARENT_HEADER, parent.as_ref()), (STATE_HEADER, trace.state.as_ref())] {
        let name = HeaderName::from_static(name);
        match value.and_then(|value| HeaderValue::from_str(value).ok()) {
            Some(value) => request.headers_mut().insert(name, value),
            None => request.headers_mut().remove(name),
        };
    }
    Some(span)
}

/// Notes what a request was answered; what a client did wrong is no failure of ours.
pub(super) fn leave(span: &mut Option<Open>, status: StatusCode) {
    let Some(span) = span else { return };
    span.note("http.response.status_code", u64::from(status.as_u16()));
    if status.is_server_error() {
        span.fail(&status);
    }
}
