//! What a node answers on the bus: control, calls, the store, streams.

use std::sync::Arc;
use std::time::Duration;

use bus::body::{BODY_BYTES_MAX, FETCHES_HEADER};
use bus::trace::Trace;
use bus::{PAYLOAD_BYTES_MAX, Refusal, RefusalKind, Request, Response, Subject, TierPath};
use handlers::logs::{LINES_MAX, Line};
use handlers::trace::Role;
use serde::Deserialize;
use serde_json::json;
use store::BlobKey;

use super::uploads::UPLOAD_HEADER;
use super::{Answer, Node, apps, code, config, cron, dlq, family, gossip, tenants};

/// For how long an export can be read.
const EXPORT_KEPT: Duration = Duration::from_secs(60 * 60);
/// How many log lines are given when none is said.
const LINES_DEFAULT: usize = 200;

fn subject(request: &Request) -> Result<Subject, Refusal> {
    Subject::parse(&request.subject).map_err(|e| Refusal::bad(e.to_string()))
}

fn text(request: &Request) -> Result<&str, Refusal> {
    let text = std::str::from_utf8(&request.payload);
    text.map(str::trim).map_err(|_| Refusal::bad("the request's body is not UTF-8 text"))
}

/// The last of some lines, as many as fit a message.
fn fitting(lines: Vec<Line>) -> Vec<Line> {
    let mut left = PAYLOAD_BYTES_MAX;
    let fits = |line: &Line| {
        let bytes = serde_json::to_vec(line).map_or(0, |line| line.len() + 1);
        left.checked_sub(bytes).is_some_and(|after| {
            left = after;
            true
        })
    };
    let mut last: Vec<Line> = lines.into_iter().rev().take_while(fits).collect();
    last.reverse();
    last
}

/// `call.<site>._.<app>.<function>`.
pub async fn call(node: Arc<Node>, mut request: Request) -> Answer {
    let started = request.received;
    let name = Subject::parse(&request.subject);
    let fetches = request.headers.contains_key(FETCHES_HEADER);
    let function = name.map(|subject| subject.name).unwrap_or_default();
    let named = || format!("call {function}");
    let span = node.triggers.tracer.enter(&mut request, Role::Server, named);
    let answer = node.triggers.answer(request).await;
    span.end(&answer);
    node.metrics.time("call", started.elapsed());
    match answer {
        Ok(answer) if answer.payload.len() > PAYLOAD_BYTES_MAX && fetches => {
            node.triggers.route.bodies.hold(answer)
        }
        Ok(answer) if answer.payload.len() > PAYLOAD_BYTES_MAX => {
            let bytes = answer.payload.len();
            let text = format!("an answer of {bytes} bytes; at most {PAYLOAD_BYTES_MAX} travel");
            Err(Refusal::new(RefusalKind::HandlerFailed, text))
        }
        answer => answer,
    }
}

/// `ctl.<site>._.<noun>.<verb>`.
pub async fn control(node: Arc<Node>, request: Request) -> Answer {
    let subject = subject(&request)?;
    let tokens: Vec<&str> = subject.name.split('.').collect();
    match tokens[..] {
        ["apps", "apply"] => apps::apply(&node, text(&request)?).await,
        ["apps", "delete"] => apps::delete(&node, text(&request)?).await,
        ["apps", "get"] => apps::get(&node, text(&request)?).await,
        ["apps", "history"] => apps::history(&node, text(&request)?).await,
        ["apps", "rollback"] => apps::roll_back(&node, text(&request)?).await,
        ["config", "get"] => config::get(&node, text(&request)?).await,
        ["config", "set"] => config::set(&node, text(&request)?).await,
        ["apps", "list"] | ["status"] => Response::json(&node.report().await),
        ["tree"] => tree(&node, &request).await,
        ["devices"] => Response::json(&node.accelerate.devices()),
        ["logs"] => {
            let asked = text(&request)?;
            let count = match asked {
                "" => LINES_DEFAULT,
                count => {
                    count.parse().map_err(|_| Refusal::bad("say how many lines, or nothing"))?
                }
            };
            Response::json(&fitting(node.logs.last(count.min(LINES_MAX))))
        }
        ["tree", "invite"] => family::invite(&node, &request).await,
        ["tree", "remove"] => family::remove(&node, text(&request)?).await,
        ["tree", "follow"] => family::follow(&node, &request).await,
        ["tree", "children"] => family::list(&node).await,
        ["cron", "take"] => cron::take(&node, &request).await,
        ["dlq", verb] => dlq::answer(&node.events, verb, &request.payload).await,
        ["tenant", verb] => tenants::answer(&node, verb, &request).await,
        ["site", _, "hello"] => gossip::welcome(&node, &request).await,
        ["site", _, "compiled"] => code::compiled(&node, &request).await,
        ["site", child, "tenant"] => tenants::link(&node, child, &request).await,
        _ => Err(Refusal::bad(format!(
            "no control request {:?}; there are apps.apply, apps.delete, apps.get, apps.history, \
             apps.list, apps.rollback, config.get, config.set, status, tree, tree.invite, \
             tree.remove, tree.children, tree.follow, devices, logs, dlq.ls, dlq.show, \
             dlq.redrive, dlq.drop, tenant.add, tenant.wait, tenant.rm, tenant.rotate, tenant.ls",
            subject.name
        ))),
    }
}

/// `tree`: the site and those below it; whoever can fetch no large answer gets what fits.
async fn tree(node: &Node, request: &Request) -> Answer {
    let mut brief = node.brief().await;
    if !request.headers.contains_key(FETCHES_HEADER) {
        brief.cut(PAYLOAD_BYTES_MAX);
    }
    match Response::json(&brief)? {
        answer if answer.payload.len() > PAYLOAD_BYTES_MAX => node.route.bodies.hold(answer),
        answer => Ok(answer),
    }
}

/// `st.<site>._.<op>`: from clients here, or from the parent.
pub async fn store(node: Arc<Node>, request: Request) -> Answer {
    let op = subject(&request)?.name;
    serve_store(&node, &op, "", request).await
}

/// `sync.<child>._.st.<op>`: from a child; its server vouches for its name.
pub async fn store_of_child(node: Arc<Node>, request: Request) -> Answer {
    let subject = subject(&request)?;
    let child: &TierPath = &subject.path;
    let op = subject.rest();
    serve_store(&node, op, child.as_str(), request).await
}

async fn serve_store(node: &Node, op: &str, from: &str, request: Request) -> Answer {
    let fetches = request.headers.contains_key(FETCHES_HEADER);
    let payload = request.payload;
    match op {
        "read-blob" => return read_blob(node, &payload).await,
        "export" => return export(node, &payload).await,
        // Of clients here: a site keeps its blobs itself.
        "put-blob" if from.is_empty() => {
            if let Some(part) = request.headers.get(UPLOAD_HEADER) {
                return node.uploads.take(&node.store, part, payload).await;
            }
            let key = node.store.put_blob(payload).await.map_err(|e| refusal_of_store(&e))?;
            return Response::json(&json!({ "key": key }));
        }
        _ => {}
    }
    let bytes_max = if fetches { BODY_BYTES_MAX } else { PAYLOAD_BYTES_MAX };
    match node.store.serve_up_to(bytes_max, op, from, payload).await {
        Ok(answer) if answer.len() > PAYLOAD_BYTES_MAX && fetches => {
            node.route.bodies.hold(Response::new(answer))
        }
        Ok(answer) => Ok(Response::new(answer)),
        Err(e) => Err(refusal_of_store(&e)),
    }
}

#[derive(Deserialize)]
struct ReadBlob {
    key: String,
    #[serde(default)]
    offset: u64,
    length: u64,
}

/// Part of a blob as raw bytes, clipped to its end and to what fits a message.
async fn read_blob(node: &Node, payload: &[u8]) -> Answer {
    let asked: ReadBlob = serde_json::from_slice(payload)
        .map_err(|e| Refusal::bad(format!("read-blob: {e}; say key, offset and length")))?;
    let key: BlobKey = asked.key.parse().map_err(|e: store::Error| refusal_of_store(&e))?;
    let length = asked.length.min(PAYLOAD_BYTES_MAX as u64 * 3 / 4);
    let end = asked.offset.saturating_add(length);
    let part = node.store.get_blob_range(&key, asked.offset, end).await;
    match part.map_err(|e| refusal_of_store(&e))? {
        Some(bytes) => Ok(Response::new(bytes)),
        None => Err(Refusal::new(RefusalKind::NotFound, format!("no blob {key}"))),
    }
}

#[derive(Deserialize)]
struct Export {
    table: String,
    #[serde(default = "parquet")]
    format: store::FileFormat,
}

fn parquet() -> store::FileFormat {
    store::FileFormat::Parquet
}

/// Writes a table as a file into a blob, to be read part by part; answers with its key. The blob is
/// of this export alone: who asked removes it, or time does.
async fn export(node: &Node, payload: &[u8]) -> Answer {
    let asked: Export = serde_json::from_slice(payload)
        .map_err(|e| Refusal::bad(format!("export: {e}; say which table")))?;
    let disk = |e: std::io::Error| Refusal::new(RefusalKind::Internal, format!("export: {e}"));
    let folder = tempfile::tempdir().map_err(disk)?;
    let file = folder.path().join("table");
    let rows = node.store.export(&asked.table, &file, asked.format).await;
    let rows = rows.map_err(|e| refusal_of_store(&e))?;
    let bytes = tokio::fs::read(&file).await.map_err(disk)?;
    let length = bytes.len();
    let put = async {
        let key = node.store.put_private_blob("export", bytes.into()).await?;
        let once = std::slice::from_ref(&key);
        node.store.remove_blobs_later(once, EXPORT_KEPT).await.map(|()| key)
    };
    let key = put.await.map_err(|e| refusal_of_store(&e))?;
    Response::json(&json!({"blob": key.to_string(), "rows": rows, "bytes": length}))
}

pub(crate) fn refusal_of_store(error: &store::Error) -> Refusal {
    let kind = match error {
        store::Error::UnknownTable(_) => RefusalKind::NotFound,
        store::Error::Deadline(_) | store::Error::Unknown(_) => RefusalKind::DeadlineExceeded,
        store::Error::Conflict { .. } => RefusalKind::Conflict,
        error if error.retryable() => RefusalKind::Unavailable,
        store::Error::Corrupt { .. } | store::Error::Stopped(_) => RefusalKind::Internal,
        _ => RefusalKind::BadRequest,
    };
    Refusal::new(kind, error.to_string())
}

/// `sm.<site>._.<app>.open|list|close`.
pub async fn streams(node: Arc<Node>, request: Request) -> Answer {
    let subject = subject(&request)?;
    let (app, verb) = (subject.app(), subject.rest());
    match verb {
        "open" => {
            let open = serde_json::from_slice(&request.payload)
                .map_err(|e| Refusal::bad(format!("stream to open: {e}")))?;
            let found = node.deploy.app(app).await.map_err(|e| e.refusal())?;
            let missing = || Refusal::new(RefusalKind::NotFound, format!("no app {app:?}"));
            let found = found.ok_or_else(missing)?;
            let trace = Trace::of(&request.headers);
            let opened = node.streams.open(&found, &open, trace).await;
            let status = opened.map_err(refusal_of_stream)?;
            Response::json(&status)
        }
        "list" => {
            let mut list = node.streams.list();
            list.retain(|status| status.app == app);
            Response::json(&list)
        }
        "close" => match node.streams.close(text(&request)?) {
            true => Response::json(&json!({"closed": true})),
            false => Err(Refusal::new(RefusalKind::NotFound, "no stream of that id is open here")),
        },
        _ => Err(Refusal::bad(format!("no stream request {verb:?}; there are open, list, close"))),
    }
}

fn refusal_of_stream(error: handlers::stream::Error) -> Refusal {
    use handlers::stream::Error;
    let kind = match &error {
        Error::Bad(_) => RefusalKind::BadRequest,
        Error::Full => RefusalKind::Overloaded,
        Error::Deploy(inner) => return inner.refusal(),
        Error::Decoder { .. } => RefusalKind::Unavailable,
    };
    Refusal::new(kind, error.to_string())
}
