//! HTTP requests for Lambda functions: the event and the answer of AWS API Gateway's HTTP APIs,
//! payload format 2.0, which functions behind a route expect.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::execute::http::{HttpHead, HttpRequest};
use crate::execute::{Answered, InvokeError};
use crate::manifest::http::decode;

/// The event of a request to `app`.
pub(super) fn event(app: &str, request: &HttpRequest) -> Value {
    let now = OffsetDateTime::now_utc();
    let form =
        format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");
    let host = request.authority.split(':').next().unwrap_or_default();
    let (body, is_base64) = body(request);
    let mut event = json!({
        "version": "2.0",
        "routeKey": request.route,
        "rawPath": request.path,
        "rawQueryString": request.query,
        "headers": request.joined_headers(),
        "requestContext": {
            "accountId": "anonymous",
            "apiId": app,
            "domainName": host,
            "domainPrefix": host.split('.').next().unwrap_or_default(),
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": request.protocol,
                "sourceIp": request.client,
                "userAgent": request.header("user-agent").unwrap_or_default(),
            },
            "requestId": request.id,
            "routeKey": request.route,
            "stage": "$default",
            "time": now.format(form).unwrap_or_default(),
            "timeEpoch": (now.unix_timestamp_nanos() / 1_000_000) as i64,
        },
        "isBase64Encoded": is_base64,
    });
    if let Some(body) = body {
        event["body"] = Value::String(body);
    }
    let cookies: Vec<&str> =
        request.headers_named("cookie").flat_map(|line| line.split("; ")).collect();
    if !cookies.is_empty() {
        event["cookies"] = json!(cookies);
    }
    let query = query(&request.query);
    if !query.is_empty() {
        event["queryStringParameters"] = Value::Object(query);
    }
    if !request.parameters.is_empty() {
        let pair = |(name, value): &(String, String)| (name.clone(), json!(value));
        event["pathParameters"] = Value::Object(request.parameters.iter().map(pair).collect());
    }
    event
}

/// Text as it is, anything else in base64.
fn body(request: &HttpRequest) -> (Option<String>, bool) {
    if request.body.is_empty() {
        return (None, false);
    }
    match std::str::from_utf8(&request.body) {
        Ok(text) => (Some(text.to_owned()), false),
        Err(_) => (Some(STANDARD.encode(&request.body)), true),
    }
}

/// Decoded; several values of one name are joined by commas.
fn query(text: &str) -> Map<String, Value> {
    let mut values: Map<String, Value> = Map::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| {
            let spaced = text.replace('+', " ");
            decode(&spaced).unwrap_or(spaced)
        };
        let value = plain(value);
        match values.get_mut(&plain(name)) {
            Some(Value::String(known)) => {
                known.push(',');
                known.push_str(&value);
            }
            _ => {
                values.insert(plain(name), Value::String(value));
            }
        }
    }
    values
}

/// The media type of a streamed answer that begins with its head, and what ends the head.
const WITH_HEAD: &str = "application/vnd.awslambda.http-integration-response";
const HEAD_END: [u8; 8] = [0; 8];

/// What a function returned, as an answer. A document without a `statusCode` is the body itself.
pub(super) fn answer(content_type: Option<&str>, body: &Bytes) -> Result<Answered, InvokeError> {
    let Some(kind) = content_type else { return document(body) };
    let head = begin(kind, body)?;
    let (head, body) = head.ok_or_else(|| bad("no head".to_owned()))?;
    Ok(Answered::http(head, body))
}

/// The head of a streamed answer and the first of its body; nothing while more is to come.
pub(super) fn begin(
    content_type: &str,
    start: &Bytes,
) -> Result<Option<(HttpHead, Bytes)>, InvokeError> {
    if content_type != WITH_HEAD {
        return Ok(plain(content_type, start).http.map(|head| (head, start.clone())));
    }
    let end = start.windows(HEAD_END.len()).position(|part| part == HEAD_END);
    let Some(end) = end else { return Ok(None) };
    let head = document(&start.slice(..end))?.http.filter(|_| end > 0);
    let head = head.ok_or_else(|| bad("no head".to_owned()))?;
    Ok(Some((head, start.slice(end + HEAD_END.len()..))))
}

fn bad(problem: String) -> InvokeError {
    InvokeError::GuestError(format!("answer to an HTTP request: {problem}"))
}

fn plain(content_type: &str, body: &Bytes) -> Answered {
    let content_type = ("content-type".to_owned(), content_type.to_owned());
    Answered::http(HttpHead { status: 200, headers: vec![content_type] }, body.clone())
}

fn document(document: &Bytes) -> Result<Answered, InvokeError> {
    let parsed: Option<Map<String, Value>> = serde_json::from_slice(document).ok();
    let Some(mut parts) = parsed.filter(|parts| parts.contains_key("statusCode")) else {
        return Ok(plain("application/json", document));
    };
    let status = match &parts["statusCode"] {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64().and_then(|status| u16::try_from(status).ok()),
    };
    let status = status.ok_or_else(|| bad(format!("statusCode is {}", parts["statusCode"])))?;
    let headers = headers(&parts).map_err(bad)?;
    let body = match parts.remove("body") {
        None | Some(Value::Null) => Bytes::new(),
        Some(Value::String(text)) if parts.get("isBase64Encoded") == Some(&Value::Bool(true)) => {
            let bytes =
                STANDARD.decode(text).map_err(|e| bad(format!("body is no base64: {e}")))?;
            bytes.into()
        }
        Some(Value::String(text)) => text.into(),
        Some(other) => other.to_string().into(),
    };
    Ok(Answered::http(HttpHead::checked(status, headers).map_err(bad)?, body))
}

fn headers(parts: &Map<String, Value>) -> Result<Vec<(String, String)>, String> {
    let plain = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        other => Err(format!("a header is {other}; use text")),
    };
    let mut list = Vec::new();
    if let Some(Value::Object(headers)) = parts.get("headers") {
        for (name, value) in headers {
            list.push((name.to_ascii_lowercase(), plain(value)?));
        }
    }
    if let Some(Value::Object(headers)) = parts.get("multiValueHeaders") {
        for (name, values) in headers {
            for value in values.as_array().into_iter().flatten() {
                list.push((name.to_ascii_lowercase(), plain(value)?));
            }
        }
    }
    for cookie in parts.get("cookies").and_then(Value::as_array).into_iter().flatten() {
        list.push(("set-cookie".to_owned(), plain(cookie)?));
    }
    let has_type = list.iter().any(|(name, _)| name == "content-type");
    if !has_type && parts.get("body").is_some_and(|body| !body.is_null()) {
        list.push(("content-type".to_owned(), "application/json".to_owned()));
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
