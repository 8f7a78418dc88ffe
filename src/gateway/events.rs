//! `POST /events/<app>/<name…>`: one event, as CloudEvents in binary or structured mode (HTTP
//! protocol binding 1.0.2), or as a plain body. Answered when the event is stored.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bus::body::BODY_BYTES_MAX;
use bus::{Event, Headers, Kind, Subject, TierPath};
use bytes::Bytes;
use handlers::manifest::http::decode;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::{Answer, Door, Problem, only};

const STRUCTURED: &str = "application/cloudevents+json";

impl Door {
    pub(super) async fn event(&self, path: &str, request: Request<Incoming>) -> Answer {
        only(&request, Method::POST)?;
        self.check_token(request.headers())?;
        let path = decode(path.trim_matches('/'));
        let name = path.ok_or_else(|| Problem::bad("the path is not percent-encoded UTF-8"))?;
        let name = name.replace('/', ".");
        if !name.contains('.') {
            return Err(Problem::bad("write /events/<app>/<name>"));
        }
        Subject::checked(Kind::Ev, self.node.bus.site(), &name)?;
        let _place = self.enter()?;
        let (head, body) = request.into_parts();
        let held = self.take_body(&head.headers, body, BODY_BYTES_MAX).await?;
        let event = self.read_event(&name, &head.headers, held.bytes)?;
        self.check_app(event.app()).await?;
        self.node.events.publish(&event).await?;
        self.node.metrics.count("events published", 1);
        let answer = json!({"id": event.id, "source": event.source, "stored_at": self.site()});
        let mut response = Response::new(Body::from(answer.to_string()));
        *response.status_mut() = StatusCode::ACCEPTED;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        Ok(response)
    }

    /// A site that is cut off takes events for apps that it does not know.
    async fn check_app(&self, name: &str) -> Result<(), Problem> {
        match self.node.deploy.app(name).await {
            Ok(None) => Err(Problem::not_found(format!("no app {name:?} is registered"))),
            _ => Ok(()),
        }
    }

    fn read_event(&self, name: &str, headers: &HeaderMap, data: Bytes) -> Result<Event, Problem> {
        let kind = super::line(headers, "content-type").unwrap_or_default();
        let media = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let (mut attributes, data) = match media.as_str() {
            STRUCTURED => structured(&data)?,
            other if other.starts_with("application/cloudevents") => {
                let text = format!("{other} is not read; send {STRUCTURED}, or ce-* headers");
                let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                return Err(Problem::new(status, "bad-request", text));
            }
            _ => (binary(headers), data),
        };
        super::trace::of(headers).write(&mut attributes);
        let (site, now) = (self.node.bus.site(), time::OffsetDateTime::now_utc());
        Ok(Event::read(name, attributes, data, site, bus::event::unique_id, now)?)
    }
}

/// Attributes from `ce-*` headers, whose values are percent-encoded.
fn binary(headers: &HeaderMap) -> Headers {
    let mut attributes = Headers::new();
    for (name, value) in headers {
        let is_attribute = name.as_str().starts_with("ce-") || name == header::CONTENT_TYPE;
        if let (true, Ok(value)) = (is_attribute, value.to_str()) {
            let value = decode(value).unwrap_or_else(|| value.to_owned());
            attributes.insert(name.as_str().to_owned(), value);
        }
    }
    attributes
}

/// Reads an event in structured mode as the door does; `None` where the door would refuse it.
pub fn read_structured(name: &str, document: &[u8], site: &TierPath) -> Option<Event> {
    let (attributes, data) = structured(document).ok()?;
    let now = time::OffsetDateTime::UNIX_EPOCH;
    Event::read(name, attributes, data, site, || "unnamed".into(), now).ok()
}

/// Attributes and data from a JSON document (CloudEvents JSON format 1.0.2).
fn structured(document: &[u8]) -> Result<(Headers, Bytes), Problem> {
    let bad = |text: String| Problem::bad(format!("structured event: {text}"));
    let mut document: Map<String, Value> =
        serde_json::from_slice(document).map_err(|e| bad(e.to_string()))?;
    for name in ["specversion", "id", "source", "type"] {
        match document.get(name) {
            Some(Value::String(text)) if !text.is_empty() => {}
            _ => return Err(bad(format!("{name} is missing or no text"))),
        }
    }
    let (data, encoded) = (document.remove("data"), document.remove("data_base64"));
    let kind = match document.remove("datacontenttype") {
        None | Some(Value::Null) => "application/json".to_owned(),
        Some(Value::String(kind)) if kind.chars().any(char::is_control) => {
            return Err(bad("datacontenttype has a control character in it".into()));
        }
        Some(Value::String(kind)) => kind,
        Some(_) => return Err(bad("datacontenttype is no text".into())),
    };
    let data = match (data, encoded) {
        (Some(_), Some(_)) => return Err(bad("data and data_base64 stand both; keep one".into())),
        (None, Some(Value::String(text))) => {
            let bytes = STANDARD.decode(text).map_err(|e| bad(format!("data_base64: {e}")))?;
            Bytes::from(bytes)
        }
        (None, Some(_)) => return Err(bad("data_base64 is no text".into())),
        (Some(Value::String(text)), None) if !is_json(&kind) => text.into(),
        (Some(value), None) => value.to_string().into(),
        (None, None) => Bytes::new(),
    };
    let mut attributes = Headers::from([("content-type".to_owned(), kind)]);
    for (name, value) in document {
        let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !is_name || name.is_empty() || name.len() > 64 {
            return Err(bad(format!("{name:?} is no name of an attribute; use a-z and 0-9")));
        }
        let value = match value {
            Value::Null => continue,
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            _ => return Err(bad(format!("attribute {name} is neither text, number nor truth"))),
        };
        if value.chars().any(char::is_control) {
            return Err(bad(format!("attribute {name} has a control character in it")));
        }
        attributes.insert(format!("ce-{name}"), value);
    }
    Ok((attributes, data))
}

fn is_json(kind: &str) -> bool {
    let media = kind.split(';').next().unwrap_or_default().trim();
    media.ends_with("/json") || media.ends_with("+json")
}

#[cfg(test)]
mod tests;
