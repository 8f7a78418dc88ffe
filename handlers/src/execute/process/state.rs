//! The app's tables, events and calls for a process: JSON over the same port as the Runtime API,
//! and rows as Arrow IPC streams, for whoever shows the process' token. `edgescale.py` is a client
//! of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{FromRequestParts, Json, Path, RawQuery, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::lambda::Shared;
use super::lock;
use crate::execute::{Caller, HostError, Publication, Row, Scan};
use crate::manifest::http as percent;

type Reply = Result<Json<Value>, Refusal>;
type Site = State<Arc<Shared>>;

/// The media type of rows as an Arrow IPC stream.
const ARROW: &str = "application/vnd.apache.arrow.stream";

/// Routes under `/edgescale/v1`; all take and answer JSON, and those that say so Arrow as well.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/store/get", post(get))
        .route("/store/put", post(put))
        .route("/store/increment", post(increment))
        .route("/store/scan", post(scan))
        .route("/store/sql", post(sql))
        .route("/store/ask/{operation}", post(ask))
        .route("/blob/put", post(put_blob))
        .route("/blob/get", post(get_blob))
        .route("/publish", post(publish))
        .route("/call", post(call))
        .route("/config", post(config))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    table: String,
    key: Row,
}

async fn get(State(shared): Site, By(caller): By, Json(body): Json<Get>) -> Reply {
    let row = shared.host.store_get(&caller, &body.table, body.key).await?;
    Ok(Json(json!({ "row": row })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    table: String,
    rows: Vec<Row>,
}

async fn put(State(shared): Site, By(caller): By, Json(body): Json<Put>) -> Reply {
    shared.host.store_put(&caller, &body.table, body.rows).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Increment {
    table: String,
    key: Row,
    deltas: Row,
}

async fn increment(State(shared): Site, By(caller): By, Json(body): Json<Increment>) -> Reply {
    shared.host.store_increment(&caller, &body.table, body.key, body.deltas).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScanBody {
    table: String,
    #[serde(default)]
    prefix: Row,
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    reverse: bool,
}

async fn scan(State(shared): Site, By(caller): By, Json(body): Json<ScanBody>) -> Reply {
    let ScanBody { table, prefix, limit, reverse } = body;
    let scan = Scan { prefix, limit, reverse, ..Scan::default() };
    let rows = shared.host.store_scan(&caller, &table, scan).await?;
    Ok(Json(json!({ "rows": rows })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlBody {
    sql: String,
}

async fn sql(
    State(shared): Site,
    By(caller): By,
    headers: HeaderMap,
    Json(body): Json<SqlBody>,
) -> Result<Response, Refusal> {
    if names(&headers, &header::ACCEPT, ARROW) {
        let request = Row::from_iter([("sql".to_owned(), body.sql.into())]);
        return in_arrow(shared.host.store_arrow(&caller, "sql", request, None).await?);
    }
    Ok(Json(shared.host.store_sql(&caller, body.sql).await?).into_response())
}

/// Any operation on rows, in the JSON of the bus. Who accepts Arrow gets the rows of what reads so;
/// who sends them so names `table` and `level` as parameters.
async fn ask(
    State(shared): Site,
    By(caller): By,
    Path(operation): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let reads = matches!(operation.as_str(), "get" | "get-many" | "scan" | "changes");
    if names(&headers, &header::CONTENT_TYPE, ARROW) {
        let request = parameters(query.as_deref().unwrap_or_default())?;
        let answer = shared.host.store_arrow(&caller, &operation, request, Some(body)).await?;
        return if reads { in_arrow(answer) } else { in_json(answer) };
    }
    let request: Row = serde_json::from_slice(&body)
        .map_err(|error| HostError::Invalid(format!("the request is no JSON object: {error}")))?;
    if reads && names(&headers, &header::ACCEPT, ARROW) {
        return in_arrow(shared.host.store_arrow(&caller, &operation, request, None).await?);
    }
    Ok(Json(shared.host.store_ask(&caller, &operation, request).await?).into_response())
}

/// What stands behind a question mark.
fn parameters(query: &str) -> Result<Row, HostError> {
    let one = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((percent::decode(name)?, percent::decode(value)?.into()))
    };
    let all: Option<Row> = query.split('&').filter(|pair| !pair.is_empty()).map(one).collect();
    let wrong = || HostError::Invalid(format!("?{query}: write ?table=…&level=…"));
    all.ok_or_else(wrong)
}

/// True if a header names a media type.
fn names(headers: &HeaderMap, header: &HeaderName, media: &str) -> bool {
    let values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = values.flat_map(|value| value.split(','));
    kinds.any(|kind| kind.split(';').next().unwrap_or_default().trim() == media)
}

fn in_arrow(answer: Bytes) -> Result<Response, Refusal> {
    Ok(([(header::CONTENT_TYPE, ARROW)], answer).into_response())
}

fn in_json(answer: Bytes) -> Result<Response, Refusal> {
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutBlob {
    base64: String,
}

async fn put_blob(State(shared): Site, By(caller): By, Json(body): Json<PutBlob>) -> Reply {
    let content = decode(&body.base64)?;
    let key = shared.host.put_blob(&caller, content).await?;
    Ok(Json(json!({ "key": key })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetBlob {
    key: String,
    /// The first byte wanted, and the first behind.
    range: Option<(u64, u64)>,
}

async fn get_blob(State(shared): Site, By(caller): By, Json(body): Json<GetBlob>) -> Reply {
    let content = match body.range {
        None => shared.host.get_blob(&caller, &body.key).await?,
        Some((start, end)) if start <= end => {
            shared.host.get_blob_range(&caller, &body.key, start..end).await?
        }
        Some((start, end)) => {
            let text = format!("a range from {start} to before {end}");
            return Err(HostError::Invalid(text).into());
        }
    };
    Ok(Json(json!({ "base64": content.map(|bytes| BASE64.encode(bytes)) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish {
    subject: String,
    content_type: String,
    base64: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

async fn publish(State(shared): Site, By(caller): By, Json(body): Json<Publish>) -> Reply {
    let number = shared.published.fetch_add(1, Ordering::Relaxed);
    let event = Publication {
        id: caller.publication_id(number),
        subject: body.subject,
        content_type: body.content_type,
        body: decode(&body.base64)?,
        metadata: body.metadata.into_iter().collect(),
    };
    shared.host.publish(&caller, event).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    name: String,
    base64: String,
}

async fn call(State(shared): Site, By(caller): By, Json(body): Json<Call>) -> Reply {
    let reply = shared.host.call(&caller, &body.name, decode(&body.base64)?).await?;
    Ok(Json(json!({ "base64": BASE64.encode(reply) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    key: String,
}

async fn config(By(caller): By, Json(body): Json<Config>) -> Reply {
    Ok(Json(json!({ "value": caller.settings.get(&body.key) })))
}

/// Who asks: only a request that shows the process' token has a caller.
struct By(Caller);

impl FromRequestParts<Arc<Shared>> for By {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Self::Rejection> {
        let shown = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = shown.and_then(|value| value.strip_prefix("Bearer "));
        if token != Some(shared.token.as_str()) {
            return Err(Refusal(HostError::Denied("wrong or missing token".into())));
        }
        Ok(Self(lock(&shared.caller).clone()))
    }
}

fn decode(text: &str) -> Result<Bytes, HostError> {
    BASE64
        .decode(text)
        .map(Bytes::from)
        .map_err(|error| HostError::Invalid(format!("base64: {error}")))
}

/// A host's refusal as HTTP: the status says what kind, the body says what.
struct Refusal(HostError);

impl From<HostError> for Refusal {
    fn from(error: HostError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, kind, message) = match self.0 {
            HostError::Denied(text) => (StatusCode::FORBIDDEN, "denied", text),
            HostError::NotFound(text) => (StatusCode::NOT_FOUND, "not_found", text),
            HostError::Invalid(text) => (StatusCode::BAD_REQUEST, "invalid", text),
            HostError::Unavailable(text) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", text),
            HostError::TooMuch(text) => (StatusCode::TOO_MANY_REQUESTS, "too_much", text),
            HostError::Failed(text) => (StatusCode::INTERNAL_SERVER_ERROR, "failed", text),
        };
        (status, Json(json!({ "error": kind, "message": message }))).into_response()
    }
}
