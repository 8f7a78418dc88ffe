//! Calls, and requests for an app's routes: turned into requests of the bus, answered here or
//! above.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
};
use axum::http::{header, request};
use bus::message::{HTTP_HEADER, KEY_HEADER, TIMEOUT_HEADER, TIMEOUT_MS_DEFAULT};
use bus::{Kind, RefusalKind, Subject};
use handlers::deploy::{self, App};
use handlers::execute::http::{HttpHead, HttpRequest, is_hop_by_hop};
use handlers::manifest::http::{NoRoute, decode};
use handlers::trigger::{HTTP_FUNCTION, head_of, head_text};
use hyper::body::Incoming;

use super::streamed::{self, Answered};
use super::{Answer, Door, Problem, authority, first_segment, only, sign};

/// The media type of a browser's form, and of curl's `-d` unless it is told another.
const FORM: &str = "application/x-www-form-urlencoded";

impl Door {
    /// `POST /call/<app>/<function>`: the body is the call's, the answer's body the answer.
    pub(super) async fn call(
        &self,
        client: SocketAddr,
        path: &str,
        request: Request<Incoming>,
    ) -> Answer {
        only(&request, Method::POST)?;
        self.check_token(request.headers())?;
        let (app, function) = first_segment(path);
        let function = function.strip_prefix('/').unwrap_or_default();
        let (app, function) = (decode(app), decode(function).filter(|name| !name.is_empty()));
        let (Some(app), Some(function)) = (app, function) else {
            return Err(Problem::bad("write /call/<app>/<function>"));
        };
        if function.starts_with('@') {
            return Err(Problem::not_found(format!("app {app:?} has no function {function:?}")));
        }
        let name = format!("{app}.{function}");
        let subject = Subject::checked(Kind::Call, self.node.bus.site(), &name)?.to_string();
        let _place = self.enter()?;
        let (head, body) = request.into_parts();
        let bytes_max = self.settings.body_bytes_max;
        let held = self.take_body(&head.headers, body, bytes_max).await?;
        let bytes = held.bytes.clone();
        let mut asked = self.bus_request(client, subject, &head.headers, bytes)?;
        for (name, of) in [("content-type", "content-type"), ("idempotency-key", KEY_HEADER)] {
            // What curl says of every `-d` says nothing of the body.
            let value = super::line(&head.headers, name).filter(|value| value != FORM);
            if let Some(value) = value {
                asked.headers.insert(of.into(), value);
            }
        }
        let mut answer = self.node.triggers.answer(asked).await?;
        self.leave(std::mem::take(&mut answer.after));
        let mut response = Response::new(Body::from(answer.payload));
        let kind = answer.headers.get("content-type").and_then(|v| HeaderValue::from_str(v).ok());
        if let Some(kind) = kind {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        sign(&mut response, &answer.headers);
        Ok(response)
    }

    /// A request for one of an app's routes; `path` is within the app.
    pub(super) async fn route(
        &self,
        client: SocketAddr,
        app: &str,
        path: &str,
        request: Request<Incoming>,
    ) -> Answer {
        let found = self.app(app).await?;
        let path = if path.is_empty() { "/" } else { path };
        let handler = match found.manifest.route(request.method().as_str(), path) {
            Ok(matched) => matched.handler,
            Err(NoRoute::Method(allowed)) if *request.method() == Method::OPTIONS => {
                return Ok(options(&allowed));
            }
            Err(NoRoute::Method(allowed)) => {
                return Err(Problem::method(request.method(), &allowed));
            }
            Err(NoRoute::NotFound) => {
                return Err(Problem::not_found(format!("app {app:?} has no route for {path}")));
            }
            Err(NoRoute::BadPath) => {
                return Err(Problem::bad("the path is not percent-encoded UTF-8"));
            }
        };
        let place = self.enter()?;
        let authority = authority(&request).to_owned();
        let (head, body) = request.into_parts();
        let way = handler.request_body;
        let (bytes, inlet, ended) = self.take_or_hand_on(&head.headers, body, way).await?;
        let name = format!("{app}.{HTTP_FUNCTION}");
        let subject = Subject::new(Kind::Call, self.node.bus.site(), name).to_string();
        let mut asked = self.bus_request(client, subject, &head.headers, bytes)?;
        let own_limit_ms = handler.limits.timeout_ms;
        if u64::from(own_limit_ms) > TIMEOUT_MS_DEFAULT {
            let usual = || own_limit_ms.to_string();
            asked.headers.entry(TIMEOUT_HEADER.into()).or_insert_with(usual);
        }
        // No idempotency key: one visitor's must never fetch another's answer. The handler sees it.
        let http = http_request(&head, path, authority, client);
        asked.headers.insert(HTTP_HEADER.into(), head_text(&http));
        // Who asks for the head alone reads no body, which would stop the handler.
        let answer = match head.method == Method::HEAD {
            true => self.answer_whole(asked, inlet).await,
            false => self.answer_in_parts(asked, inlet).await,
        };
        // Whatever the handler makes of it.
        if let Some(problem) = ended.problem() {
            return Err(problem);
        }
        let mut answer = match answer {
            Ok(Answered::Whole(answer)) => answer,
            Ok(Answered::Begun(mut streamed, work, headers)) => {
                let said = std::mem::take(&mut streamed.head);
                let body = streamed::body(streamed, work, (place, ended));
                let mut response = http_response(said, body)?;
                sign(&mut response, &headers);
                return Ok(response);
            }
            Err(mut refusal) if refusal.kind == RefusalKind::HandlerFailed => {
                // What a handler says in its distress is for its author, not for its visitors.
                refusal.message = format!("app {app:?} failed; `edgescale logs` has the reason");
                return Err(refusal.into());
            }
            Err(refusal) => return Err(refusal.into()),
        };
        let said = head_of(&answer).ok_or_else(|| {
            Problem::new(StatusCode::BAD_GATEWAY, "internal", "the answer has no HTTP head")
        })?;
        self.leave(std::mem::take(&mut answer.after));
        let mut response = http_response(said, Body::from(answer.payload))?;
        sign(&mut response, &answer.headers);
        Ok(response)
    }

    /// The app, asked for above when it is not known here.
    async fn app(&self, name: &str) -> Result<std::sync::Arc<App>, Problem> {
        if let Some(app) = self.node.deploy.known(name) {
            return Ok(app);
        }
        // A name that no app can have must not climb the tree.
        bus::subject::check_name(name)?;
        match self.node.deploy.app(name).await {
            Ok(Some(app)) => Ok(app),
            Ok(None) => Err(Problem::not_found(format!("no app {name:?} is registered"))),
            Err(e @ deploy::Error::Away(_)) => Err(Problem::from(e.refusal())),
            Err(e) => Err(Problem::from(e.refusal())),
        }
    }
}

fn options(allowed: &[String]) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(value) = HeaderValue::from_str(&format!("OPTIONS, {}", allowed.join(", "))) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

fn http_request(
    head: &request::Parts,
    path: &str,
    authority: String,
    client: SocketAddr,
) -> HttpRequest {
    HttpRequest {
        id: bus::event::unique_id(),
        method: head.method.to_string(),
        path: path.to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: end_to_end(&head.headers),
        authority,
        protocol: if head.version == Version::HTTP_2 { "HTTP/2.0" } else { "HTTP/1.1" }.to_owned(),
        client: client.ip().to_string(),
        ..HttpRequest::default()
    }
}

/// The headers that are not about this one connection.
fn end_to_end(headers: &HeaderMap) -> Vec<(String, String)> {
    let connection = headers.get_all(header::CONNECTION).iter();
    let named: Vec<String> = connection
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    headers
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            !is_hop_by_hop(name) && !named.iter().any(|other| other == name)
        })
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect()
}

/// Whoever answered checked the head already; a tier of another version may see it otherwise.
fn http_response(head: HttpHead, body: Body) -> Result<Response<Body>, Problem> {
    let bad = |what: &str| {
        let text = format!("the answer's {what} cannot be passed on");
        Problem::new(StatusCode::BAD_GATEWAY, "internal", text)
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(head.status).map_err(|_| bad("status"))?;
    for (name, value) in head.headers {
        let name = HeaderName::try_from(name).map_err(|_| bad("header name"))?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad("header value"))?;
        response.headers_mut().append(name, value);
    }
    Ok(response)
}
