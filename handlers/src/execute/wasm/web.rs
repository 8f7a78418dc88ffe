//! `wasi:http/incoming-handler` of WASI 0.2: stock HTTP components, and what those of 0.3 have in
//! common with them. A call reaches them as `POST /<name>`, an
//! event as `POST /` with the headers of CloudEvents (its HTTP protocol binding, binary mode); a
//! status of 200 to 299 is success.

use std::pin::pin;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Request as WebRequest, Response, header};
use bytes::{Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::{Resource, TypedFunc};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};
use wasmtime_wasi_http::{Error, WasiHttpView as _};

use super::guest::Guest;
use super::service::Lull;
use crate::execute::http::{BODY_BYTES_MAX, HttpHead, HttpRequest};
use crate::execute::outlet::Flow;
use crate::execute::{Answer, Answered, Broken, Event, Input, InvokeError, Outlet, Parts, Request};

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
/// The body of a request, as it is given to a guest.
pub(super) type Asking = UnsyncBoxBody<Bytes, Error>;

/// Lets the guest handle one request, until it returns.
pub(super) async fn serve(
    store: &mut Store<Guest>,
    handle: &Handle,
    request: WebRequest<Asking>,
    outlet: Option<Outlet>,
) -> wasmtime::Result<Answer> {
    let (sender, receiver) = oneshot::channel();
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let out = http.new_response_outparam(sender)?;
    // The answer is taken while the guest runs: it may write more than is kept in between. Who
    // takes it is asked only when the guest waits.
    let mut answer = pin!(take(receiver, outlet));
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
    Ok(late.unwrap_or_else(|_| Err(failed(unfinished.to_owned()))))
}

async fn take(receiver: oneshot::Receiver<Given>, outlet: Option<Outlet>) -> Answer {
    let given = receiver.await.map_err(|_| failed("it gave no answer".to_owned()))?;
    match given {
        Ok(response) => collect(response, outlet, None).await,
        Err(code) => Err(answered_with(&code)),
    }
}

/// The guest's answer is an error code of `wasi:http`.
pub(super) fn answered_with(code: &dyn std::fmt::Debug) -> InvokeError {
    failed(format!("it answered with {code:?}"))
}

fn failed(text: String) -> InvokeError {
    InvokeError::GuestError(text)
}

fn broken(problem: impl std::fmt::Display) -> InvokeError {
    failed(format!("body of its answer: {problem}"))
}

/// Takes the answer in, or passes it on as it comes: once a guest waits with its answer half done,
/// what is there goes out. A lull tells when it waits; without one, whoever calls polls this only
/// then.
pub(super) async fn collect<B>(
    response: Response<B>,
    outlet: Option<Outlet>,
    lull: Option<&Lull>,
) -> Answer
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    let (parts, mut body) = response.into_parts();
    let head = HttpHead::checked(parts.status.as_u16(), pairs(&parts.headers))
        .map_err(|problem| failed(format!("answer: {problem}")))?;
    let mut whole = BytesMut::new();
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            begun = begin(&outlet, &head, lull), if outlet.is_some() => {
                return pass_on(head, whole.freeze(), body, begun?).await;
            }
        };
        let Some(frame) = frame else { return Ok(Answered::http(head, whole.freeze())) };
        let frame = frame.map_err(broken)?;
        whole.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
        if whole.len() > BODY_BYTES_MAX {
            return Err(broken(format!("over {BODY_BYTES_MAX} bytes")));
        }
    }
}

/// Lets an answer go out bit by bit when the guest waits.
async fn begin(
    outlet: &Option<Outlet>,
    head: &HttpHead,
    lull: Option<&Lull>,
) -> Result<Flow, InvokeError> {
    if let Some(lull) = lull {
        lull.comes().await;
    }
    let flow = outlet.as_ref().and_then(|outlet| outlet.begin(head.clone()));
    flow.ok_or_else(|| broken("its reader has gone away"))
}

async fn pass_on<B>(head: HttpHead, first: Bytes, mut body: B, mut flow: Flow) -> Answer
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    flow.send(first).await.map_err(broken)?;
    while let Some(frame) = body.frame().await {
        if let Ok(part) = frame.map_err(broken)?.into_data() {
            flow.send(part).await.map_err(broken)?;
        }
    }
    Ok(Answered::http(head, Bytes::new()))
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

/// An input as a request.
pub(super) fn of(input: Input) -> Result<WebRequest<Asking>, InvokeError> {
    match input {
        Input::Http(request) => of_http(*request),
        Input::Call(request) => of_call(request),
        Input::Event(event) => of_event(event),
        Input::Frame(..) => Err(failed("a frame is no request".into())),
    }
}

fn of_http(request: HttpRequest) -> Result<WebRequest<Asking>, InvokeError> {
    let path = match request.query.as_str() {
        "" => request.path,
        query => format!("{}?{query}", request.path),
    };
    let authority = match request.authority.as_str() {
        "" => AUTHORITY,
        authority => authority,
    };
    let body = match request.inlet {
        None => Content::Whole(request.body),
        Some(inlet) => Content::Parts(inlet.parts().ok_or_else(read_before)?),
    };
    build(&request.method, authority, &path, &request.headers, body)
}

fn of_call(request: Request) -> Result<WebRequest<Asking>, InvokeError> {
    let headers = [("content-type", request.content_type), ("idempotency-key", request.id)];
    build(
        "POST",
        AUTHORITY,
        &format!("/{}", request.name),
        &owned(headers),
        Content::Whole(request.body),
    )
}

fn of_event(event: Event) -> Result<WebRequest<Asking>, InvokeError> {
    let headers = [
        ("content-type", event.content_type),
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", event.id),
        ("ce-source", event.source),
        ("ce-type", event.subject.clone()),
        ("ce-subject", event.subject),
        ("ce-time", event.time),
    ];
    let mut headers = owned(headers);
    let extensions = event.metadata.into_iter().filter(|(name, _)| name.starts_with("ce-"));
    headers.extend(extensions.map(|(name, value)| (name, percent_encoded(&value))));
    build("POST", AUTHORITY, "/", &headers, Content::Whole(event.body))
}

/// A value as CloudEvents have it in a header of HTTP (section 3.1.3.2 of that binding).
fn percent_encoded(value: &str) -> String {
    let plain = |byte: &u8| matches!(byte, 0x21..=0x7e) && !b"\"%".contains(byte);
    let mut encoded = String::new();
    for byte in value.bytes() {
        match plain(&byte) {
            true => encoded.push(byte.into()),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A body, and whether its length is known.
enum Content {
    Whole(Bytes),
    Parts(Parts),
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
    body: Content,
) -> Result<WebRequest<Asking>, InvokeError> {
    let mut request = WebRequest::builder().method(method).uri(format!("http://{authority}{path}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let body = match body {
        Content::Parts(parts) => Asking::new(parts.map_err(error_of)),
        Content::Whole(body) => {
            if !headers.iter().any(|(name, _)| name == header::CONTENT_LENGTH.as_str()) {
                request = request.header(header::CONTENT_LENGTH, body.len());
            }
            Asking::new(Full::new(body).map_err(|never| match never {}))
        }
    };
    let bad = |error| InvokeError::GuestError(format!("request for the handler: {error}"));
    request.body(body).map_err(bad)
}

/// What a guest is told of a body that ends early.
fn error_of(broken: Broken) -> Error {
    match broken {
        Broken::TooLarge { bytes_max } => Error::HttpRequestBodySize(Some(bytes_max as u64)),
        Broken::Lost(_) => Error::ConnectionTerminated,
    }
}

fn read_before() -> InvokeError {
    InvokeError::Node("the body of the request was read before".to_owned())
}

#[cfg(test)]
mod tests;
