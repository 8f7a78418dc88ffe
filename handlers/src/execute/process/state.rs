//! The app's tables, events and calls for a process: JSON over the same port as the Runtime API,
//! for whoever shows the process' token. `edgescale.py` is a client of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{FromRequestParts, Json, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
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

type Reply = Result<Json<Value>, Refusal>;
type Site = State<Arc<Shared>>;

/// Routes under `/edgescale/v1`; all take and answer JSON.
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

async fn sql(State(shared): Site, By(caller): By, Json(body): Json<SqlBody>) -> Reply {
    Ok(Json(shared.host.store_sql(&caller, body.sql).await?))
}

/// Any operation on rows, in the JSON of the bus.
async fn ask(
    State(shared): Site,
    By(caller): By,
    Path(operation): Path<String>,
    Json(request): Json<Row>,
) -> Reply {
    Ok(Json(shared.host.store_ask(&caller, &operation, request).await?))
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
}

async fn get_blob(State(shared): Site, By(caller): By, Json(body): Json<GetBlob>) -> Reply {
    let content = shared.host.get_blob(&caller, &body.key).await?;
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
            HostError::Failed(text) => (StatusCode::INTERNAL_SERVER_ERROR, "failed", text),
        };
        (status, Json(json!({ "error": kind, "message": message }))).into_response()
    }
}
