//! `wasi:http/incoming-handler`: stock HTTP components. A call reaches them as `POST /<name>`, an
//! event as `POST /` with the headers of CloudEvents (its HTTP protocol binding, binary mode); a
//! status of 200 to 299 is success.

use std::pin::pin;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Request as WebRequest, Response, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::{Resource, TypedFunc};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

use super::guest::Guest;
use crate::execute::http::{BODY_BYTES_MAX, HttpHead, HttpRequest};
use crate::execute::{Answer, Answered, Event, InvokeError, Request};

/// How long the end of an answer is waited for after the guest has returned: all of it is here by
/// then, unless the guest forgot to finish its body.
const REST: Duration = Duration::from_millis(200);
/// How much of an unhappy answer becomes an error's text.
const ERROR_TEXT_MAX: usize = 1 << 10;
/// Stands for the host in requests that came by no host.
const AUTHORITY: &str = "edgescale.local";

pub(super) type Handle =
    TypedFunc<(Resource<HostIncomingRequest>, Resource<HostResponseOutparam>), ()>;
type Given = Result<Response<HyperOutgoingBody>, ErrorCode>;

/// Lets the guest handle one request, until it returns.
pub(super) async fn serve(
    store: &mut Store<Guest>,
    handle: &Handle,
    request: WebRequest<Bytes>,
) -> wasmtime::Result<Answer> {
    let (sender, receiver) = oneshot::channel();
    let request = request.map(Full::new);
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let out = http.new_response_outparam(sender)?;
    // The answer is taken while the guest runs: it may write more than is kept in between.
    let mut answer = pin!(collect(receiver));
    let mut early = None;
    {
        let mut call = pin!(handle.call_async(&mut *store, (request, out)));
        loop {
            tokio::select! {
                biased;
                called = &mut call => break called?,
                whole = &mut answer, if early.is_none() => early = Some(whole),
            }
        }
    }
    if let Some(answer) = early {
        return Ok(answer);
    }
    let unfinished = "it returned without an answer, or without the end of one";
    let late = tokio::time::timeout(REST, answer).await;
    Ok(late.unwrap_or_else(|_| Err(InvokeError::GuestError(unfinished.to_owned()))))
}

async fn collect(receiver: oneshot::Receiver<Given>) -> Answer {
    let failed = |text: String| InvokeError::GuestError(text);
    let given = receiver.await.map_err(|_| failed("it gave no answer".to_owned()))?;
    let response = given.map_err(|code| failed(format!("it answered with {code:?}")))?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| failed(format!("body of its answer: {error}")))?.to_bytes();
    let head = HttpHead::checked(parts.status.as_u16(), pairs(&parts.headers))
        .map_err(|problem| failed(format!("answer: {problem}")))?;
    Ok(Answered::http(head, body))
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let pair = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    headers.iter().map(pair).collect()
}

/// The answer to a call or an event, out of one to a request.
pub(super) fn plain(answer: Answered) -> Answer {
    let Some(head) = answer.http else { return Ok(answer) };
    if !(200..300).contains(&head.status) {
        let text: String =
            String::from_utf8_lossy(&answer.body).chars().take(ERROR_TEXT_MAX).collect();
        return Err(InvokeError::GuestError(format!("status {}: {}", head.status, text.trim())));
    }
    let content_type = head.headers.into_iter().find(|(name, _)| name == "content-type");
    let content_type = content_type.map_or_else(String::new, |(_, value)| value);
    Ok(Answered::call(content_type, answer.body))
}

pub(super) fn of_http(request: HttpRequest) -> Result<WebRequest<Bytes>, InvokeError> {
    let path = match request.query.as_str() {
        "" => request.path,
        query => format!("{}?{query}", request.path),
    };
    let authority = match request.authority.as_str() {
        "" => AUTHORITY,
        authority => authority,
    };
    build(&request.method, authority, &path, &request.headers, request.body)
}

pub(super) fn of_call(request: Request) -> Result<WebRequest<Bytes>, InvokeError> {
    let headers = [("content-type", request.content_type), ("idempotency-key", request.id)];
    build("POST", AUTHORITY, &format!("/{}", request.name), &owned(headers), request.body)
}

pub(super) fn of_event(event: Event) -> Result<WebRequest<Bytes>, InvokeError> {
    let headers = [
        ("content-type", event.content_type),
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", event.id),
        ("ce-source", event.source),
        ("ce-type", event.subject.clone()),
        ("ce-subject", event.subject),
        ("ce-time", event.time),
    ];
    build("POST", AUTHORITY, "/", &owned(headers), event.body)
}

fn owned<const N: usize>(headers: [(&str, String); N]) -> Vec<(String, String)> {
    let named = headers.into_iter().filter(|(_, value)| !value.is_empty());
    named.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn build(
    method: &str,
    authority: &str,
    path: &str,
    headers: &[(String, String)],
    body: Bytes,
) -> Result<WebRequest<Bytes>, InvokeError> {
    let mut request = WebRequest::builder().method(method).uri(format!("http://{authority}{path}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if !headers.iter().any(|(name, _)| name == header::CONTENT_LENGTH.as_str()) {
        request = request.header(header::CONTENT_LENGTH, body.len());
    }
    let bad = |error| InvokeError::GuestError(format!("request for the handler: {error}"));
    request.body(body).map_err(bad)
}
