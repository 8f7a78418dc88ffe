//! Tables and blobs: `POST /store/<app>/<table>/<operation>`, `POST /store/sql`, `/store/blobs`.
//! Requests are those of the bus without their table, in JSON; rows are JSON, or Arrow IPC streams
//! where `Content-Type` or `Accept` names these. Whoever has the site's token may do everything.

use std::ops::Range;
use std::time::Duration;

use axum::body::Body;
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header,
};
use bus::body::BODY_BYTES_MAX;
use bytes::Bytes;
use handlers::deploy::table_name;
use handlers::manifest::http::decode;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use store::{BLOB_BYTES_MAX, BlobKey, EdgeStore};

use super::{Answer, Door, Problem, timeout_ms};
use crate::node::control::refusal_of_store;
use crate::node::host::Table;

const JSON: &str = "application/json";
const ARROW: &str = "application/vnd.apache.arrow.stream";
/// Bytes of a blob that are read at a time.
const PART_BYTES: u64 = 1 << 20;

impl Door {
    /// `path` is what stands behind `/store`.
    pub(super) async fn store(&self, path: &str, request: Request<Incoming>) -> Answer {
        self.check_token(request.headers())?;
        let _place = self.enter()?;
        let segments: Option<Vec<String>> = path.split('/').skip(1).map(decode).collect();
        let Some(segments) = segments else {
            return Err(Problem::bad("the path is not percent-encoded UTF-8"));
        };
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let store = &self.node.store;
        let method = request.method().clone();
        match (method.as_str(), &segments[..]) {
            ("GET", ["tables"]) => answer(JSON, json!({"tables": store.tables()}).to_string()),
            ("POST", ["sql"]) => self.ask("sql", None, request).await,
            ("POST", ["blobs"]) => self.put_blob(request).await,
            ("GET" | "HEAD", ["blobs", key @ ..]) if !key.is_empty() => {
                self.blob(&blob_key(key)?, &method, request.headers()).await
            }
            ("DELETE", ["blobs", key @ ..]) if !key.is_empty() => {
                let key = blob_key(key)?;
                let removed = store.remove_blob(&key).await.map_err(|e| problem(&e))?;
                answer(JSON, json!({"blob": key, "removed": removed}).to_string())
            }
            ("GET", [app, table]) => {
                let table = named(app, table);
                let spec = store.table(&table).await.map_err(|e| problem_of(&table, &e))?;
                answer(JSON, json!({"table": spec}).to_string())
            }
            ("POST", [app, table, operation]) => {
                self.ask(operation, Some(named(app, table)), request).await
            }
            (_, ["tables"] | [_, _]) => Err(Problem::method(&method, &["GET".to_owned()])),
            (_, ["sql" | "blobs"] | [_, _, _]) => {
                Err(Problem::method(&method, &["POST".to_owned()]))
            }
            _ => Err(Problem::not_found(
                "write /store/<app>/<table>/<operation>, /store/sql, /store/blobs or /store/tables"
                    .into(),
            )),
        }
    }

    /// An operation on rows, or a question in SQL.
    async fn ask(&self, op: &str, table: Option<Table>, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let is_stream = names(&head.headers, &header::CONTENT_TYPE, ARROW);
        let held = self.take_body(&head.headers, body, self.settings.body_bytes_max).await?;
        let (mut fields, rows) = match is_stream {
            true => (Map::new(), Some(held.bytes.clone())),
            false => (object(&held.bytes)?, None),
        };
        if let Some(level) = level(head.uri.query().unwrap_or_default())? {
            fields.insert("level".into(), level.into());
        }
        if let Some(table) = &table
            && fields.insert("table".into(), table.to_string().into()).is_some()
        {
            return Err(Problem::bad("the table stands in the path; leave it out of the request"));
        }
        let in_arrow = matches!(op, "get" | "get-many" | "scan" | "changes" | "sql")
            && names(&head.headers, &header::ACCEPT, ARROW);
        if in_arrow {
            fields.insert("format".into(), "arrow".into());
        }
        let work = self.node.store.request_up_to(BODY_BYTES_MAX, op, fields, rows);
        let found = match timeout_ms(&head.headers)? {
            None => work.await,
            Some(ms) => match tokio::time::timeout(Duration::from_millis(ms), work).await {
                Ok(found) => found,
                Err(_) => {
                    let text = format!("no answer in {ms} ms; a write may have been made");
                    let status = StatusCode::GATEWAY_TIMEOUT;
                    return Err(Problem::new(status, "deadline-exceeded", text));
                }
            },
        };
        let found = found.map_err(|e| match &table {
            Some(table) => problem_of(table, &e),
            None => problem(&e),
        })?;
        answer(if in_arrow { ARROW } else { JSON }, found)
    }

    async fn put_blob(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let mut parts = self.part_by_part(&head.headers, body, BLOB_BYTES_MAX as usize)?;
        let mut blob = self.node.store.begin_blob().await.map_err(|e| problem(&e))?;
        while let Some(part) = parts.next().await? {
            blob.write(part).await.map_err(|e| problem(&e))?;
        }
        let key = blob.finish().await.map_err(|e| problem(&e))?;
        let mut response = answer(JSON, json!({"key": key}).to_string())?;
        *response.status_mut() = StatusCode::CREATED;
        if let Ok(place) = HeaderValue::from_str(&format!("/store/blobs/{key}")) {
            response.headers_mut().insert(header::LOCATION, place);
        }
        Ok(response)
    }

    /// A blob, or the one range of it that is asked for, read as the client takes it.
    async fn blob(&self, key: &BlobKey, method: &Method, headers: &HeaderMap) -> Answer {
        let store = &self.node.store;
        let Some(len) = store.blob_len(key).await.map_err(|e| problem(&e))? else {
            return Err(Problem::not_found(format!("no blob {key}")));
        };
        let asked = super::line(headers, header::RANGE.as_str());
        let (status, range) =
            match asked.as_deref().map_or(Asked::Whole, |text| asked_of(text, len)) {
                Asked::Whole => (StatusCode::OK, 0..len),
                Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
                Asked::Beyond => {
                    let text = format!("the blob has {len} bytes");
                    let status = StatusCode::RANGE_NOT_SATISFIABLE;
                    let mut problem = Problem::new(status, "bad-request", text);
                    problem.headers.push((header::CONTENT_RANGE, format!("bytes */{len}")));
                    return Err(problem);
                }
            };
        let mut response = Response::new(match *method == Method::HEAD {
            true => Body::empty(),
            false => parts(EdgeStore::clone(store), key.clone(), range.clone()),
        });
        *response.status_mut() = status;
        let mut said = vec![
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
            (header::CONTENT_LENGTH, (range.end - range.start).to_string()),
        ];
        if status == StatusCode::PARTIAL_CONTENT {
            let last = range.end - 1;
            said.push((header::CONTENT_RANGE, format!("bytes {}-{last}/{len}", range.start)));
        }
        for (name, value) in said {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        Ok(response)
    }
}

/// Reads on as far as the client takes it.
fn parts(store: EdgeStore, key: BlobKey, range: Range<u64>) -> Body {
    let part = move |left: Range<u64>| {
        let (store, key) = (store.clone(), key.clone());
        async move {
            let end = left.end.min(left.start + PART_BYTES);
            if left.start == end {
                return None;
            }
            let gone = || std::io::Error::other(format!("blob {key} was removed meanwhile"));
            let read = store.get_blob_range(&key, left.start, end).await;
            let read = read.map_err(std::io::Error::other).and_then(|part| part.ok_or_else(gone));
            let rest = if read.is_ok() { end..left.end } else { left.end..left.end };
            Some((read, rest))
        }
    };
    Body::from_stream(futures::stream::unfold(range, part))
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq)]
enum Asked {
    Whole,
    /// At least one byte.
    Part(Range<u64>),
    Beyond,
}

/// RFC 9110, 14.2: one range of bytes; several ranges, and what is no range, ask for all.
fn asked_of(text: &str, len: u64) -> Asked {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Asked::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(len),
        (Ok(first), Err(_)) if last.is_empty() => first..len,
        (Err(_), Ok(count)) if first.is_empty() => len.saturating_sub(count)..len,
        _ => return Asked::Whole,
    };
    match range.is_empty() {
        true => Asked::Beyond,
        false => Asked::Part(range),
    }
}

fn blob_key(segments: &[&str]) -> Result<BlobKey, Problem> {
    segments.join("/").parse().map_err(|e: store::Error| problem(&e))
}

fn named(app: &str, table: &str) -> Table {
    Table::new(table_name(app, table), &format!("{app}/{table}"))
}

fn problem(error: &store::Error) -> Problem {
    refusal_of_store(error).into()
}

/// With the table as the path has it.
fn problem_of(table: &Table, error: &store::Error) -> Problem {
    let mut refusal = refusal_of_store(error);
    refusal.message = table.say(&refusal.message);
    refusal.into()
}

/// The one parameter that there is.
fn level(query: &str) -> Result<Option<String>, Problem> {
    if query.is_empty() {
        return Ok(None);
    }
    match query.strip_prefix("level=").filter(|level| !level.contains('&')) {
        Some(level) => Ok(Some(level.to_owned())),
        None => Err(Problem::bad(format!("?{query}: there is ?level=… and nothing else"))),
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|e| Problem::bad(format!("the request is no JSON object: {e}")))
}

/// True if a header names a media type.
fn names(headers: &HeaderMap, header: &HeaderName, media: &str) -> bool {
    let values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = values.flat_map(|value| value.split(','));
    kinds.any(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media))
}

fn answer(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Body::from(body.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

#[cfg(test)]
mod tests;
