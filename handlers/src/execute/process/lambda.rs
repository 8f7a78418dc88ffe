//! The AWS Lambda Runtime API, version 2018-06-01, for one process: it asks for the next
//! invocation, and posts a response or an error. Served on a port of its own, because the stock
//! clients take a host and a port and nothing else.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use bytes::Bytes;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::{lock, outside, pieces, state};
use crate::execute::http::{self, HttpHead};
use crate::execute::{AbortOnDrop, Caller, Host, Outlet, Target};

/// Largest response of a function that is no stream (AWS allows 6 MB as well).
const BODY_BYTES_MAX: usize = 6 << 20;

/// What a function answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Done {
    /// Media type, where the function chose one.
    pub(super) content_type: Option<String>,
    pub(super) body: Bytes,
    /// The head, where all of the answer has gone out already.
    pub(super) streamed: Option<HttpHead>,
}

/// One invocation for the process.
pub(super) struct Job {
    pub(super) caller: Caller,
    pub(super) payload: Bytes,
    pub(super) waiting: Waiting,
}

/// Who waits for the answer of an invocation.
pub(super) struct Waiting {
    pub(super) reply: oneshot::Sender<Result<Done, Failure>>,
    /// Takes an answer that comes in pieces.
    pub(super) outlet: Option<Outlet>,
}

/// The function, or the client that runs it, reported an error.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure {
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) trace: String,
    /// Whether it happened before the first invocation.
    pub(super) at_start: bool,
}

/// The server of one process; ends when dropped.
pub(super) struct Server {
    jobs: mpsc::Sender<Job>,
    has_asked: Arc<AtomicBool>,
    failed: Arc<Mutex<Option<Failure>>>,
    _task: AbortOnDrop<()>,
}

/// What a process knows its server by.
pub(super) struct Names {
    /// Host and port.
    pub(super) address: String,
    /// Shown by who asks for the app's tables.
    pub(super) token: String,
    /// Shown to the proxy, where others could reach it as well.
    pub(super) proxy_token: Option<String>,
}

/// What the routes share.
pub(super) struct Shared {
    pub(super) host: Arc<dyn Host>,
    pub(super) token: String,
    /// Who is being served: the invocation that runs, or nobody in particular.
    pub(super) caller: Mutex<Caller>,
    /// Events published by the invocation that runs.
    pub(super) published: AtomicU64,
    /// Requests to other hosts that it has made.
    pub(super) asked: AtomicU32,
    /// Host and port of this server, as the process knows them.
    pub(super) address: String,
    /// What a request to the proxy must show, where others could reach it as well.
    pub(super) proxy_token: Option<String>,
    jobs: tokio::sync::Mutex<mpsc::Receiver<Job>>,
    /// Whether the process has come up and asked for an invocation.
    has_asked: Arc<AtomicBool>,
    failed: Arc<Mutex<Option<Failure>>>,
    open: Mutex<HashMap<String, Waiting>>,
    count: AtomicU64,
}

impl Server {
    pub(super) fn start(
        listener: std::net::TcpListener,
        names: Names,
        host: Arc<dyn Host>,
        caller: Caller,
    ) -> io::Result<Self> {
        let listener = TcpListener::from_std(listener)?;
        let (jobs, receiver) = mpsc::channel(1);
        let has_asked = Arc::new(AtomicBool::new(false));
        let failed = Arc::default();
        let shared = Arc::new(Shared {
            host,
            token: names.token,
            caller: Mutex::new(caller),
            published: AtomicU64::new(0),
            asked: AtomicU32::new(0),
            address: names.address,
            proxy_token: names.proxy_token,
            jobs: tokio::sync::Mutex::new(receiver),
            has_asked: Arc::clone(&has_asked),
            failed: Arc::clone(&failed),
            open: Mutex::default(),
            count: AtomicU64::new(0),
        });
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!("runtime API connection: {error}");
            }
        });
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router(shared)).await {
                tracing::error!("runtime API server: {error}");
            }
        });
        Ok(Self { jobs, has_asked, failed, _task: AbortOnDrop(task) })
    }

    /// Whether the process has come up: it has asked for an invocation.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// Why the process could not start its function, once it has said so.
    pub(super) fn failed(&self) -> Option<Failure> {
        lock(&self.failed).clone()
    }

    /// Hands an invocation over; the process takes it when it next asks.
    pub(super) async fn give(&self, job: Job) -> Result<(), ()> {
        self.jobs.send(job).await.map_err(|_| ())
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let runtime = Router::new()
        .route("/invocation/next", get(next))
        .route("/invocation/{id}/response", post(response))
        .route("/invocation/{id}/error", post(error))
        .route("/init/error", post(init_error));
    Router::new()
        .nest("/2018-06-01/runtime", runtime)
        .nest("/edgescale/v1", state::router())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), outside::let_out))
        .with_state(shared)
}

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    shared.has_asked.store(true, Ordering::Relaxed);
    let job = shared.jobs.lock().await.recv().await;
    let Some(job) = job else { return StatusCode::GONE.into_response() };
    let number = shared.count.fetch_add(1, Ordering::Relaxed);
    let id = format!("{:08x}-{number:08x}", std::process::id());
    let headers = headers(&id, &job.caller);
    shared.published.store(0, Ordering::Relaxed);
    shared.asked.store(0, Ordering::Relaxed);
    *lock(&shared.caller) = job.caller;
    lock(&shared.open).insert(id, job.waiting);
    (headers, job.payload).into_response()
}

/// The answer, whole or in pieces. A function that fails midway says so behind the last piece.
async fn response(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> StatusCode {
    let streams = text(&headers, "lambda-runtime-function-response-mode") == Some("streaming");
    let content_type = text(&headers, "content-type").filter(|_| streams).map(str::to_owned);
    let outlet = lock(&shared.open).get(&id).and_then(|waiting| waiting.outlet.clone());
    let (bytes_max, outlet) = match streams {
        true => (http::BODY_BYTES_MAX, outlet),
        false => (BODY_BYTES_MAX, None),
    };
    let result = pieces::take(content_type, body, bytes_max, outlet).await;
    let is_too_large = result.as_ref().is_err_and(|failure| failure.kind == pieces::TOO_LARGE);
    let status = shared.finish(&id, result);
    if is_too_large { StatusCode::PAYLOAD_TOO_LARGE } else { status }
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

async fn error(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> StatusCode {
    shared.finish(&id, Err(failure(&body)))
}

/// The process could not start its function: whoever waits learns why, at once.
async fn init_error(State(shared): State<Arc<Shared>>, body: Bytes) -> StatusCode {
    let failure = Failure { at_start: true, ..failure(&body) };
    *lock(&shared.failed) = Some(failure.clone());
    let job = shared.jobs.lock().await.recv().await;
    if let Some(job) = job {
        let _ = job.waiting.reply.send(Err(failure));
    }
    StatusCode::ACCEPTED
}

impl Shared {
    fn finish(&self, id: &str, result: Result<Done, Failure>) -> StatusCode {
        let Some(waiting) = lock(&self.open).remove(id) else { return StatusCode::BAD_REQUEST };
        // Nobody may wait any more: the time limit struck in between.
        let _ = waiting.reply.send(result);
        StatusCode::ACCEPTED
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct ErrorBody {
    error_message: String,
    error_type: String,
    stack_trace: Vec<serde_json::Value>,
}

/// An error body as the clients post it; anything else is taken as its message.
pub(super) fn failure(body: &[u8]) -> Failure {
    let parsed: ErrorBody = serde_json::from_slice(body).unwrap_or_else(|_| ErrorBody {
        error_message: String::from_utf8_lossy(body).chars().take(1024).collect(),
        ..ErrorBody::default()
    });
    let kind = match parsed.error_type.as_str() {
        "" => "Error".to_owned(),
        kind => kind.to_owned(),
    };
    let lines = parsed.stack_trace.iter().map(|line| match line.as_str() {
        Some(text) => text.to_owned(),
        None => line.to_string(),
    });
    let trace = lines.collect::<Vec<_>>().join("\n");
    Failure { kind, message: parsed.error_message, trace, at_start: false }
}

fn headers(id: &str, caller: &Caller) -> HeaderMap {
    let deadline_ms = unix_ms(caller.deadline).to_string();
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put("content-type", "application/json");
    put("lambda-runtime-aws-request-id", id);
    put("lambda-runtime-deadline-ms", &deadline_ms);
    put("lambda-runtime-invoked-function-arn", &arn(&caller.target));
    if let Some(parent) = &caller.trace.parent {
        put("lambda-runtime-trace-id", &parent.to_string());
    }
    headers
}

fn arn(target: &Target) -> String {
    format!("arn:edgescale:handler:::{}:{}:{}", target.app, target.handler, target.revision)
}

fn unix_ms(at: Instant) -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now + at.saturating_duration_since(Instant::now())).as_millis()
}

/// 128 bits nobody else on the host can guess.
pub(super) fn token() -> io::Result<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
