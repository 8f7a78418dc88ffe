//! The HTTP door of a node: routes of manifests, calls and events by path, health.
//!
//! `/<app>/…` goes to the app's routes, `/call/<app>/<function>` and `/events/<app>/<name…>` to
//! what they name, `/store/…` to tables and blobs, `/` shows the tree. A request that is served
//! here never travels over NATS; any other escalates like a call. What is refused is answered as
//! RFC 9457 has it.

mod body;
mod connections;
mod dashboard;
pub mod events;
mod metrics;
mod problem;
mod routes;
mod store;
mod streamed;
mod trace;
mod users;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use bus::TierPath;
use bus::message::{ROUTE_HEADER, SITE_HEADER, TIMEOUT_HEADER, USER_HEADER};
use handlers::manifest::http::decode;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::problem::Problem;
use crate::node::Node;

pub use self::connections::serve;
pub use self::users::Network;

/// Requests that are with handlers at once; more are refused as overloaded.
const REQUESTS_MAX: usize = 1024;
/// Longest path and query, in bytes.
const TARGET_BYTES_MAX: usize = 8 << 10;

/// The file with the door's token, in the folder of the node's data; made at first start.
pub const TOKEN_FILE: &str = "http.token";

/// `[http]` of a node's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where to listen; port 0 is any free one.
    pub listen: SocketAddr,
    /// Whoever reaches the door may use `/call`, `/events` and `/store` and see the tree;
    /// otherwise these want the token in [`TOKEN_FILE`] as `Authorization: Bearer …`.
    pub open: bool,
    /// Largest body of a request.
    pub body_bytes_max: usize,
    /// How long a body may take to arrive.
    pub body_timeout_ms: u64,
    /// Hosts at whose root an app stands: `"shop.example.com" = "shop"`.
    pub hosts: BTreeMap<String, String>,
    /// The sites where users are, by the networks that they come from: `"10.1.0.0/16" =
    /// "cloud.east"`. Their requests are answered there, or on the way there, where a handler may.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub users_at: BTreeMap<Network, TierPath>,
    /// Speak TLS; without it the door speaks plain HTTP.
    pub tls: Option<Tls>,
}

/// `[http.tls]`: files in PEM.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and those that vouch for it.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            open: false,
            body_bytes_max: 64 << 20,
            body_timeout_ms: 60_000,
            hosts: BTreeMap::new(),
            users_at: BTreeMap::new(),
            tls: None,
        }
    }
}

/// A door that is bound, and not open yet.
pub struct Bound {
    listener: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    token: Option<String>,
    settings: Settings,
    /// Where it is.
    pub place: Place,
}

/// Where an app's routes begin, for who answers them.
const PREFIX_HEADER: &str = "x-forwarded-prefix";

/// Where a door is, for those who want to use it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Place {
    /// `http://127.0.0.1:8080`.
    pub url: String,
    /// The file with the token that `/call` and others want, unless they are open to all.
    pub token: Option<PathBuf>,
}

impl Bound {
    /// Binds the address and reads the files, so that what is wrong is said at start.
    pub async fn bind(settings: &Settings, data: &Path) -> Result<Self> {
        let tls = settings.tls.as_ref().map(connections::acceptor).transpose()?;
        let file = (!settings.open).then(|| data.join(TOKEN_FILE));
        // The seed of a key that nobody else uses: 256 random bits, kept like every other secret.
        let token = file.as_ref().map(|file| bus::pki::UserKey::load_or_generate(file));
        let token = token.transpose()?.map(|key| key.seed);
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("http.listen {} cannot be bound", settings.listen))?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr()?);
        let place = Place { url, token: file };
        Ok(Self { listener, tls, token, settings: settings.clone(), place })
    }
}

/// What answers requests.
struct Door {
    node: Arc<Node>,
    settings: Settings,
    token: Option<String>,
    room: Arc<Semaphore>,
    body_memory: Arc<Semaphore>,
    looks: dashboard::Looks,
}

type Answer = Result<Response<Body>, Problem>;

impl Door {
    fn new(node: Arc<Node>, bound: &Bound) -> Self {
        Self {
            node,
            settings: bound.settings.clone(),
            token: bound.token.clone(),
            room: Arc::new(Semaphore::new(REQUESTS_MAX)),
            body_memory: Arc::new(Semaphore::new(body::MEMORY_KIB_MAX)),
            looks: dashboard::Looks::default(),
        }
    }

    /// Answers one request, whatever it is.
    async fn answer(&self, client: SocketAddr, mut request: Request<Incoming>) -> Response<Body> {
        let started = std::time::Instant::now();
        let mut span = trace::enter(&self.node.triggers.tracer, &mut request);
        let answer = self.dispatch(client, request).await;
        let response = answer.unwrap_or_else(|problem| problem.at(self.site()).response());
        trace::leave(&mut span, response.status());
        self.node.metrics.time("http", started.elapsed());
        if response.status().is_server_error() || response.status().is_client_error() {
            self.node.metrics.count(&format!("http refused {}", response.status().as_u16()), 1);
        }
        response
    }

    fn site(&self) -> &str {
        self.node.bus.site().as_str()
    }

    async fn dispatch(&self, client: SocketAddr, mut request: Request<Incoming>) -> Answer {
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        if target > TARGET_BYTES_MAX {
            let text = format!("the path has {target} bytes; the longest is {TARGET_BYTES_MAX}");
            return Err(Problem::new(StatusCode::URI_TOO_LONG, "bad-request", text));
        }
        if let Some(app) = self.app_of_host(&request) {
            let path = request.uri().path().to_owned();
            self.say_where(&mut request, "");
            return self.route(client, &app, &path, request).await;
        }
        let path = request.uri().path().to_owned();
        let (first, rest) = first_segment(&path);
        match first {
            "healthz" if rest.is_empty() => Ok(text(StatusCode::OK, "ok\n")),
            "readyz" if rest.is_empty() => Ok(self.ready()),
            "metrics" if rest.is_empty() => Ok(self.metrics().await),
            "call" => self.call(client, rest, request).await,
            "events" => self.event(rest, request).await,
            "store" => self.store(rest, request).await,
            "_" if rest == "/state" => self.state(request).await,
            "" if rest.is_empty() => self.page(&request),
            "" => Err(Problem::not_found(
                "name an app: /<app>/…, /call/<app>/<function>, /events/<app>/<event>".into(),
            )),
            app => {
                let bad = || Problem::bad("the path is not percent-encoded UTF-8");
                self.say_where(&mut request, app);
                self.route(client, &decode(app).ok_or_else(bad)?, rest, request).await
            }
        }
    }

    /// Tells the handler what it needs for links to itself: the path that was taken off, and,
    /// unless a proxy before us said so, the scheme.
    fn say_where(&self, request: &mut Request<Incoming>, taken_off: &str) {
        let headers = request.headers_mut();
        headers.remove(PREFIX_HEADER);
        if let (false, Ok(prefix)) =
            (taken_off.is_empty(), HeaderValue::from_str(&format!("/{taken_off}")))
        {
            headers.insert(PREFIX_HEADER, prefix);
        }
        let scheme = if self.settings.tls.is_some() { "https" } else { "http" };
        headers.entry("x-forwarded-proto").or_insert(HeaderValue::from_static(scheme));
    }

    fn app_of_host(&self, request: &Request<Incoming>) -> Option<String> {
        if self.settings.hosts.is_empty() {
            return None;
        }
        let host = authority(request).rsplit_once(':').map_or(authority(request), |(h, _)| h);
        self.settings.hosts.get(&host.to_ascii_lowercase()).cloned()
    }

    fn ready(&self) -> Response<Body> {
        match self.node.is_serving() {
            true => text(StatusCode::OK, "ready\n"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        }
    }

    /// Lets in only who knows the token.
    fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
        let given = given.strip_prefix(b"Bearer ").unwrap_or_default();
        if same(given, token.as_bytes()) {
            return Ok(());
        }
        let mut problem = Problem::new(
            StatusCode::UNAUTHORIZED,
            "not-granted",
            "send the site's token: Authorization: Bearer …; the node keeps it in http.token",
        );
        problem.headers.push((header::WWW_AUTHENTICATE, "Bearer".into()));
        Err(problem)
    }

    fn enter(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
        self.room.clone().try_acquire_owned().map_err(|_| {
            let text = format!("{REQUESTS_MAX} requests are being answered");
            Problem::overloaded(text, Duration::from_secs(1))
        })
    }

    /// What is left to do when an answer is on its way, unless others wait.
    fn leave(&self, after: bus::After) {
        if self.room.available_permits() == REQUESTS_MAX - 1 {
            after.spawn();
        }
    }
}

/// Compares in a time that does not depend on where the two differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// `/a/b/c` → `a` and `/b/c`.
fn first_segment(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.find('/').map_or((path, ""), |at| path.split_at(at))
}

fn authority(request: &Request<Incoming>) -> &str {
    let named = request.uri().authority().map(|authority| authority.as_str());
    let host = || request.headers().get(header::HOST)?.to_str().ok();
    named.or_else(host).unwrap_or_default()
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

impl Door {
    /// A request of ours with what the client said about time, trace and place.
    fn bus_request(
        &self,
        client: SocketAddr,
        subject: String,
        headers: &HeaderMap,
        payload: bytes::Bytes,
    ) -> Result<bus::Request, Problem> {
        let mut request = bus::Request::new(subject, payload);
        let mut put = |name: &str, value: String| request.headers.insert(name.to_owned(), value);
        if let Some(timeout_ms) = timeout_ms(headers)? {
            put(TIMEOUT_HEADER, timeout_ms.to_string());
        }
        if let Some(site) = users::user_at(headers, client, &self.settings.users_at)? {
            put(USER_HEADER, site.to_string());
        }
        trace::of(headers).write(&mut request.headers);
        Ok(request)
    }
}

/// The client's time budget: `Es-Timeout-Ms: 250`, or `X-Request-Timeout` in seconds (`1.5`).
fn timeout_ms(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let bad = |name: &str, value: &str| {
        Problem::bad(format!("header {name}: {value:?} is no time; write a number above 0"))
    };
    if let Some(value) = line(headers, "es-timeout-ms") {
        let ms = value.trim().parse().ok().filter(|ms| *ms > 0);
        return ms.ok_or_else(|| bad("es-timeout-ms", &value)).map(Some);
    }
    let Some(value) = line(headers, "x-request-timeout") else { return Ok(None) };
    let seconds: Option<f64> = value.trim().trim_end_matches('s').parse().ok();
    let seconds = seconds.filter(|seconds| *seconds > 0.0 && *seconds < 1e6);
    let seconds = seconds.ok_or_else(|| bad("x-request-timeout", &value))?;
    Ok(Some((seconds * 1000.0).ceil() as u64))
}

/// The first value of a header, when it is text.
fn line(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Says which site answered, and the way the answer went.
fn sign(response: &mut Response<Body>, headers: &bus::Headers) {
    for (name, of) in [("es-site", SITE_HEADER), ("es-route", ROUTE_HEADER)] {
        if let Some(value) = headers.get(of).and_then(|v| HeaderValue::from_str(v).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
}

fn only(request: &Request<Incoming>, method: Method) -> Result<(), Problem> {
    match *request.method() == method {
        true => Ok(()),
        false => Err(Problem::method(request.method(), &[method.to_string()])),
    }
}

#[cfg(test)]
mod tests;
