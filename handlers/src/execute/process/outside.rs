//! The way out of a process: an HTTP proxy at the port of the Runtime API, the one that its network
//! has. Tunnels (CONNECT) and plain requests (absolute form) go where the app's grants let them, by
//! the same judgement as those of components: [`Host::connect`](crate::execute::Host::connect).

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::uri::{Authority, Scheme};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::lambda::Shared;
use super::lock;
use crate::execute::{AbortOnDrop, Caller};
use crate::outbound::{REQUESTS_MAX, Refusal};

/// How long each wait of a request may take, and a tunnel that nothing goes through may stay.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Bytes that a tunnel takes at once.
const BUFFER_BYTES: usize = 16 << 10;
/// Who a process says it is to its proxy, where it has to say.
const USER: &str = "edgescale";
/// What a proxy keeps to itself (RFC 9110, section 7.6.1), and two that it is spoken to with.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("proxy-connection"),
];

/// The proxy's address for a process. Whoever shares the network of the machine has to know the
/// process' token.
pub(super) fn address(port: &str, token: Option<&str>) -> String {
    match token {
        Some(token) => format!("http://{USER}:{token}@{port}"),
        None => format!("http://{port}"),
    }
}

/// Takes requests that are for other hosts; all others go on to the Runtime API.
pub(super) async fn let_out(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    // A request that is not for a proxy names no authority, in HTTP/1.
    let Some(authority) = request.uri().authority().cloned() else {
        return next.run(request).await;
    };
    let is_tunnel = request.method() == Method::CONNECT;
    let is_ours = !is_tunnel && authority.as_str() == shared.address;
    if is_ours || request.version() > Version::HTTP_11 {
        return next.run(request).await;
    }
    if !may_ask(&shared, &request) {
        return unknown();
    }
    let caller = lock(&shared.caller).clone();
    let answer = match is_tunnel {
        true => tunnel(&shared, caller, &authority, request).await,
        false => forward(&shared, caller, &authority, request).await,
    };
    answer.unwrap_or_else(|refused| refused)
}

fn may_ask(shared: &Shared, request: &Request) -> bool {
    let Some(token) = &shared.proxy_token else { return true };
    let wanted = format!("Basic {}", BASE64.encode(format!("{USER}:{token}")));
    let shown = request.headers().get(header::PROXY_AUTHORIZATION);
    shown.is_some_and(|shown| shown.as_bytes() == wanted.as_bytes())
}

fn unknown() -> Response {
    let challenge = [(header::PROXY_AUTHENTICATE, "Basic realm=\"edgescale\"")];
    let text = "this proxy is a process' own; use the address in HTTP_PROXY";
    (challenge, told(StatusCode::PROXY_AUTHENTICATION_REQUIRED, text)).into_response()
}

/// A connection, if the grants allow it.
async fn connect(
    shared: &Shared,
    caller: &Caller,
    authority: &Authority,
    usual_port: u16,
) -> Result<TcpStream, Response> {
    let refuse = |refusal: Refusal| {
        shared.host.refused(caller, &refusal);
        told(status_of(&refusal), &refusal.to_string())
    };
    if shared.asked.fetch_add(1, Ordering::Relaxed) >= REQUESTS_MAX {
        return Err(refuse(Refusal::TooMany { limit: REQUESTS_MAX }));
    }
    let (host, port) = (authority.host(), authority.port_u16().unwrap_or(usual_port));
    let connected = shared.host.connect(caller, host, port);
    match tokio::time::timeout(WAIT_MAX, connected).await {
        Ok(connected) => connected.map_err(refuse),
        Err(_) => Err(told(StatusCode::GATEWAY_TIMEOUT, &format!("{host}: no connection in time"))),
    }
}

fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NotGranted { .. } | Refusal::Private { .. } | Refusal::TooMany { .. } => {
            StatusCode::FORBIDDEN
        }
        Refusal::Unresolved { .. } | Refusal::Unreachable { .. } => StatusCode::BAD_GATEWAY,
    }
}

/// Says it twice: of an answer to CONNECT, most clients show the line and not the body.
fn told(status: StatusCode, text: &str) -> Response {
    let mut response = (status, format!("{text}\n")).into_response();
    let line: String = text.chars().filter(|c| *c == ' ' || c.is_ascii_graphic()).collect();
    if let Ok(reason) = ReasonPhrase::try_from(line.into_bytes()) {
        response.extensions_mut().insert(reason);
    }
    response
}

/// Bytes to and fro, until both sides have enough or nothing came for a while. Clients keep tunnels
/// for the next invocation, so it is not over with the one that opened it.
async fn tunnel(
    shared: &Shared,
    caller: Caller,
    authority: &Authority,
    request: Request,
) -> Result<Response, Response> {
    let outside = connect(shared, &caller, authority, 443).await?;
    tokio::spawn(async move {
        if let Ok(Ok(inside)) = tokio::time::timeout(WAIT_MAX, hyper::upgrade::on(request)).await {
            carry(TokioIo::new(inside), outside, WAIT_MAX).await;
        }
    });
    Ok(StatusCode::OK.into_response())
}

async fn carry(
    inside: impl AsyncRead + AsyncWrite,
    outside: impl AsyncRead + AsyncWrite,
    idle_max: Duration,
) {
    let last = Mutex::new(Instant::now());
    let ((from_in, to_in), (from_out, to_out)) = (split(inside), split(outside));
    let both = async { tokio::join!(pump(from_in, to_out, &last), pump(from_out, to_in, &last)) };
    let idle = async {
        loop {
            let until = *lock(&last) + idle_max;
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    };
    tokio::select! {
        _ = both => {}
        () = idle => {}
    }
}

/// One direction, until its end, which it passes on.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    last: &Mutex<Instant>,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        *lock(last) = Instant::now();
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// A request in plain HTTP, and its answer as it comes.
async fn forward(
    shared: &Shared,
    caller: Caller,
    authority: &Authority,
    mut request: Request,
) -> Result<Response, Response> {
    if request.uri().scheme() != Some(&Scheme::HTTP) {
        let text = format!("{}: a proxy is asked for this by CONNECT", request.uri());
        return Err(told(StatusCode::BAD_REQUEST, &text));
    }
    let stream = connect(shared, &caller, authority, 80).await?;
    let broken =
        |error: hyper::Error| told(StatusCode::BAD_GATEWAY, &format!("{authority}: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let connection = AbortOnDrop(tokio::spawn(connection));
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let bad = |error: &dyn std::fmt::Display| told(StatusCode::BAD_REQUEST, &error.to_string());
    let host = HeaderValue::from_str(authority.as_str()).map_err(|error| bad(&error))?;
    *request.uri_mut() = path.parse().map_err(|error| bad(&error))?;
    HOP_BY_HOP.iter().for_each(|name| drop(request.headers_mut().remove(name)));
    request.headers_mut().insert(header::HOST, host);
    let answer = tokio::time::timeout(WAIT_MAX, sender.send_request(request)).await;
    let late = |_| told(StatusCode::GATEWAY_TIMEOUT, &format!("{authority}: no answer in time"));
    let mut answer = answer.map_err(late)?.map_err(broken)?;
    HOP_BY_HOP.iter().for_each(|name| drop(answer.headers_mut().remove(name)));
    Ok(answer.map(|body| carried(body, connection)))
}

type Connection = AbortOnDrop<Result<(), hyper::Error>>;

/// A body that fails when nothing comes for a while.
fn carried(body: Incoming, connection: Connection) -> Body {
    Body::new(StreamBody::new(stream::unfold(Some((body, connection)), async |state| {
        let (mut body, connection) = state?;
        let frame: Result<Frame<Bytes>, String> =
            match tokio::time::timeout(WAIT_MAX, body.frame()).await {
                Ok(frame) => frame?.map_err(|error| error.to_string()),
                Err(_) => Err("nothing more came in time".to_owned()),
            };
        let next = frame.is_ok().then_some((body, connection));
        Some((frame, next))
    })))
}

#[cfg(test)]
mod tests;
