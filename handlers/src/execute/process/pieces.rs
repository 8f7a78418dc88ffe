//! The body of a function's response as it comes over the Runtime API. One that is streamed goes
//! out while the function runs, where somebody takes it so.

use axum::body::Body;
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};

use super::gateway;
use super::lambda::{Done, Failure, failure, text};
use crate::execute::Outlet;
use crate::execute::http::{HEADER_BYTES_MAX, HttpHead};
use crate::execute::outlet::Flow;

/// Kind of the failure of a response that is too large, or ends early.
pub(super) const TOO_LARGE: &str = "ResponseSizeTooLarge";
/// Longest start of a streamed answer, in which its head ends.
const START_BYTES_MAX: usize = 2 * HEADER_BYTES_MAX;

/// Takes a response in, or passes it on. The content type is the one of a streamed response.
pub(super) async fn take(
    content_type: Option<String>,
    body: Body,
    bytes_max: usize,
    outlet: Option<Outlet>,
) -> Result<Done, Failure> {
    let mut body = Limited::new(body, bytes_max);
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(bytes_max, &error))?;
        match frame.into_data() {
            Ok(part) => whole.extend_from_slice(&part),
            Err(frame) => fail_by(frame.trailers_ref())?,
        }
        if let (Some(outlet), Some(kind)) = (&outlet, &content_type)
            && let Some((head, first)) = start(kind, &whole)?
        {
            let flow = outlet.begin(head.clone()).ok_or_else(gone)?;
            pass_on(first, body, bytes_max, flow).await?;
            return Ok(Done { streamed: Some(head), ..Done::default() });
        }
    }
    Ok(Done { content_type, body: whole.freeze(), streamed: None })
}

/// The head and the first of the body, once they are there.
fn start(kind: &str, whole: &BytesMut) -> Result<Option<(HttpHead, Bytes)>, Failure> {
    if whole.is_empty() {
        return Ok(None);
    }
    let begun = gateway::begin(kind, &Bytes::copy_from_slice(whole));
    let begun = begun.map_err(|error| failed("InvalidResponse", error.to_string()))?;
    match begun {
        None if whole.len() > START_BYTES_MAX => {
            Err(failed("InvalidResponse", format!("no head in {START_BYTES_MAX} bytes")))
        }
        begun => Ok(begun),
    }
}

async fn pass_on(
    first: Bytes,
    mut body: Limited<Body>,
    bytes_max: usize,
    mut flow: Flow,
) -> Result<(), Failure> {
    flow.send(first).await.map_err(|_| gone())?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(bytes_max, &error))?;
        match frame.into_data() {
            Ok(part) => flow.send(part).await.map_err(|_| gone())?,
            Err(frame) => fail_by(frame.trailers_ref())?,
        }
    }
    Ok(())
}

/// A function that failed midway says so in the trailers.
fn fail_by(trailers: Option<&HeaderMap>) -> Result<(), Failure> {
    let Some(trailers) = trailers else { return Ok(()) };
    let Some(kind) = text(trailers, "lambda-runtime-function-error-type") else { return Ok(()) };
    let body = text(trailers, "lambda-runtime-function-error-body").unwrap_or_default();
    let body = BASE64.decode(body).unwrap_or_default();
    Err(Failure { kind: kind.to_owned(), ..failure(&body) })
}

fn broken(bytes_max: usize, error: &dyn std::fmt::Display) -> Failure {
    let message = format!("the response ends early or is over {bytes_max} bytes: {error}");
    failed(TOO_LARGE, message)
}

fn gone() -> Failure {
    failed("ClientGone", "whoever asked has gone away".to_owned())
}

fn failed(kind: &str, message: String) -> Failure {
    Failure { kind: kind.to_owned(), message, ..Failure::default() }
}
