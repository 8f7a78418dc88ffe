//! What a request on `call.…` asks for: a function by name, or a route by an HTTP request in the
//! headers, which every tier on the way up matches against the manifest it has.

use std::borrow::Cow;
use std::sync::Arc;

use bus::message::HTTP_HEADER;
use bus::{Refusal, RefusalKind, Request, Response};

use crate::execute::http::{HttpHead, HttpRequest};
use crate::execute::{self, Caller, Inlet, Input, InvokeError, Outlet, Reply};
use crate::manifest::{Handler, Manifest};

/// Where a function's name stands in a subject, when a route is asked for; no function is named so.
pub const HTTP_FUNCTION: &str = "@http";

/// What is asked for.
pub(super) enum Asked {
    Call(String),
    Http(Box<HttpRequest>),
}

/// What of a request is not a message.
#[derive(Default)]
pub struct Streams {
    /// The body of an HTTP request, where that is still on its way; the request has none then. A
    /// handler that runs here may read it as it comes; for all others it is waited for.
    pub inlet: Option<Inlet>,
    /// Where the answer may go while its handler runs, when that is here. What is returned has no
    /// body then.
    pub outlet: Option<Outlet>,
    /// The handler of this node that asks.
    pub by: Option<Arc<Caller>>,
}

impl Streams {
    /// The request with its whole body.
    pub(super) async fn whole<'a>(
        &self,
        request: &'a Request,
    ) -> Result<Cow<'a, Request>, Refusal> {
        let Some(inlet) = &self.inlet else { return Ok(Cow::Borrowed(request)) };
        let whole = tokio::time::timeout_at(request.deadline().into(), inlet.whole()).await;
        let late = |_| Refusal::new(RefusalKind::DeadlineExceeded, "the body is still on its way");
        Ok(Cow::Owned(Request { payload: whole.map_err(late)??, ..request.clone() }))
    }
}

impl Asked {
    pub(super) fn read(function: &str, request: &Request) -> Result<Self, Refusal> {
        if function != HTTP_FUNCTION {
            return Ok(Self::Call(function.to_owned()));
        }
        let missing = || Refusal::bad(format!("a request for a route has a header {HTTP_HEADER}"));
        let head = request.headers.get(HTTP_HEADER).ok_or_else(missing)?;
        let http = serde_json::from_str(head)
            .map_err(|e| Refusal::bad(format!("header {HTTP_HEADER}: {e}")))?;
        Ok(Self::Http(Box::new(http)))
    }

    /// For messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Call(name) => name.clone(),
            Self::Http(http) => format!("{} {}", http.method, http.path),
        }
    }

    pub(super) fn handler<'a>(&self, manifest: &'a Manifest) -> Option<&'a Handler> {
        match self {
            Self::Call(name) => manifest.handler_of_call(name),
            Self::Http(http) => Some(manifest.route(&http.method, &http.path).ok()?.handler),
        }
    }

    /// What the handler is given.
    pub(super) fn input(&self, manifest: &Manifest, request: &Request) -> Input {
        let header = |name: &str| request.headers.get(name).cloned();
        let body = request.payload.clone();
        match self {
            Self::Call(name) => Input::Call(execute::Request {
                // What it publishes is told apart by this.
                id: request.key().map_or_else(bus::event::unique_id, str::to_owned),
                name: name.clone(),
                content_type: header("content-type").unwrap_or_else(|| "application/json".into()),
                body,
            }),
            Self::Http(http) => {
                let mut http = http.clone();
                if let Ok(matched) = manifest.route(&http.method, &http.path) {
                    http.take_route(matched);
                }
                http.body = body;
                Input::Http(http)
            }
        }
    }
}

/// A handler's answer, as it travels.
pub(super) fn response(reply: Reply) -> Response {
    let response = Response { after: reply.after, ..Response::new(reply.body) };
    match &reply.http {
        None => response.with("content-type", reply.content_type),
        Some(head) => response.with(HTTP_HEADER, head_text(head)),
    }
}

/// The head of a request or an answer, as the value of a bus header: one line of JSON.
pub fn head_text(head: &impl serde::Serialize) -> String {
    serde_json::to_string(head).expect("a head holds text and numbers only")
}

/// The head of an answer to a request for a route.
pub fn head_of(response: &Response) -> Option<HttpHead> {
    serde_json::from_str(response.headers.get(HTTP_HEADER)?).ok()
}

/// An event, as handlers know it.
pub(super) fn execute_event(event: &bus::Event) -> execute::Event {
    execute::Event {
        id: event.id.clone(),
        source: event.source.clone(),
        subject: event.topic().to_owned(),
        time: event.time.clone(),
        content_type: event.content_type.clone(),
        body: event.data.clone(),
        metadata: event.metadata().map(|(name, value)| (name.into(), value.into())).collect(),
    }
}

/// Why a handler gave no answer, as it travels.
pub(super) fn refusal_of_invoke(error: InvokeError) -> Refusal {
    let mut refusal = Refusal::new(RefusalKind::HandlerFailed, error.to_string());
    match error {
        InvokeError::Overloaded { retry_after_ms } => {
            refusal.kind = RefusalKind::Overloaded;
            refusal.retry_after_ms = Some(retry_after_ms);
        }
        InvokeError::Timeout { .. } => refusal.kind = RefusalKind::DeadlineExceeded,
        InvokeError::NotInstalled(_) | InvokeError::Node(_) | InvokeError::Stopped => {
            refusal.kind = RefusalKind::Unavailable;
        }
        _ => {}
    }
    refusal
}
