//! Finished spans on their way to a collector: OTLP over HTTP in its JSON encoding (OTLP 1.0,
//! `POST /v1/traces`). A collector that is slow or away costs spans, which are counted, and
//! nothing else.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use axum::body::Body;
use axum::http::{Request, Uri, header};
use bus::TierPath;
use handlers::metrics::Metrics;
use handlers::trace::{Role, Span, Value};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// How many spans go at once.
const BATCH_MAX: usize = 512;
/// How long spans are gathered.
const GATHER: Duration = Duration::from_millis(500);
/// How long the collector may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a batch is tried, and the pause in between; new spans wait in the queue meanwhile.
const ATTEMPTS_MAX: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// `[trace]` of a node's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The collector, `http://host:4318`; without it nothing is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Which share of the traces that begin here is recorded, 0 to 1.
    pub share: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { endpoint: None, share: 1.0 }
    }
}

/// A collector that was named and is well-formed.
#[derive(Clone, Debug)]
pub struct Collector {
    /// `host:port`.
    authority: String,
    /// `/v1/traces`, below whatever path the endpoint has.
    path: String,
    pub share: f64,
}

impl Settings {
    /// What is said, checked; none when nothing is to be recorded.
    pub fn collector(&self) -> Result<Option<Collector>> {
        if !(0.0..=1.0).contains(&self.share) {
            bail!("trace.share is {}; it is a number from 0 to 1", self.share);
        }
        let Some(endpoint) = self.endpoint.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let uri: Uri = endpoint
            .parse()
            .with_context(|| format!("trace.endpoint {endpoint:?}: write http://HOST:4318"))?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            bail!(
                "trace.endpoint {endpoint:?}: only http:// is spoken; run a collector beside the \
                 node and have it pass spans on"
            );
        };
        let (host, port) = (authority.host(), authority.port_u16().unwrap_or(4318));
        let path = format!("{}/v1/traces", uri.path().trim_end_matches('/'));
        Ok(Some(Collector { authority: format!("{host}:{port}"), path, share: self.share }))
    }
}

/// Sends spans until the node stops.
pub async fn run(
    collector: Collector,
    site: TierPath,
    mut finished: mpsc::Receiver<Span>,
    metrics: Arc<Metrics>,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while finished.recv_many(&mut batch, BATCH_MAX).await > 0 {
        tokio::time::sleep(GATHER).await;
        while batch.len() < BATCH_MAX
            && let Ok(span) = finished.try_recv()
        {
            batch.push(span);
        }
        let sent = send_patiently(&collector, &document(&site, &batch)).await;
        if let Err(e) = &sent {
            tracing::warn!(collector = %collector.authority, "spans were dropped: {e:#}");
        }
        let name = if sent.is_ok() { "spans exported" } else { "spans dropped" };
        metrics.count(name, batch.len() as u64);
        batch.clear();
    }
}

async fn send_patiently(collector: &Collector, document: &serde_json::Value) -> Result<()> {
    let body = bytes::Bytes::from(document.to_string());
    let mut attempt = 1;
    loop {
        let sent = tokio::time::timeout(TIMEOUT, send(collector, body.clone())).await;
        match sent.unwrap_or_else(|_| bail!("no answer within {} s", TIMEOUT.as_secs())) {
            Ok(()) => return Ok(()),
            Err(e) if attempt >= ATTEMPTS_MAX => return Err(e),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
        attempt += 1;
    }
}

async fn send(collector: &Collector, body: bytes::Bytes) -> Result<()> {
    let stream = TcpStream::connect(&collector.authority).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(&collector.path)
        .header(header::HOST, &collector.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Body::from(body))?;
    // Both in this future, so that a timeout ends the connection as well.
    let answered = async {
        let response = sender.send_request(request).await?;
        match response.status().is_success() {
            true => Ok(()),
            false => bail!("the collector answers {}", response.status()),
        }
    };
    tokio::pin!(answered, connection);
    tokio::select! {
        answer = &mut answered => answer,
        ended = &mut connection => {
            ended?;
            answered.await
        }
    }
}

/// An `ExportTraceServiceRequest`.
fn document(site: &TierPath, spans: &[Span]) -> serde_json::Value {
    let resource = [
        ("service.name", Value::from("edgescale")),
        ("service.version", Value::from(env!("CARGO_PKG_VERSION"))),
        ("service.instance.id", Value::from(site.as_str())),
        ("edgescale.site", Value::from(site.as_str())),
    ];
    let scope = json!({"name": "edgescale", "version": env!("CARGO_PKG_VERSION")});
    let spans: Vec<serde_json::Value> = spans.iter().map(span).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": attributes(&resource)},
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }]})
}

fn span(span: &Span) -> serde_json::Value {
    let kind = match span.role {
        Role::Internal => 1,
        Role::Server => 2,
        Role::Client => 3,
        Role::Producer => 4,
        Role::Consumer => 5,
    };
    let mut document = json!({
        "traceId": format!("{:032x}", span.trace),
        "spanId": format!("{:016x}", span.id),
        "name": span.name,
        "kind": kind,
        "startTimeUnixNano": nanos(span.started),
        "endTimeUnixNano": nanos(span.ended),
        "attributes": attributes(&span.attributes),
    });
    if let Some(above) = span.above {
        document["parentSpanId"] = format!("{above:016x}").into();
    }
    if let Some(state) = &span.state {
        document["traceState"] = state.as_str().into();
    }
    if let Some(failure) = &span.failure {
        document["status"] = json!({"code": 2, "message": failure});
    }
    document
}

/// In JSON, 64-bit numbers are texts.
fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

fn attributes(list: &[(&'static str, Value)]) -> Vec<serde_json::Value> {
    let one = |(key, value): &(&'static str, Value)| {
        let value = match value {
            Value::Text(text) => json!({"stringValue": text}),
            Value::Number(number) => json!({"intValue": number.to_string()}),
        };
        json!({"key": key, "value": value})
    };
    list.iter().map(one).collect()
}

#[cfg(test)]
mod tests;
