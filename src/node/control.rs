//! What a node answers on the bus: control, calls, the store, streams.

use std::sync::Arc;
use std::time::Duration;

use bus::body::{BODY_BYTES_MAX, FETCHES_HEADER};
use bus::message::SITE_HEADER;
use bus::registry::{Entry, MANIFEST_BYTES_MAX};
use bus::trace::Trace;
use bus::{
    PAYLOAD_BYTES_MAX, Refusal, RefusalKind, Registry, Request, Response, Subject, TierPath,
};
use futures::StreamExt;
use handlers::deploy::{self, Registered};
use handlers::logs::{LINES_MAX, Line};
use handlers::manifest::{Handler, Source};
use handlers::trace::Role;
use handlers::{Digest, Manifest};
use serde::Deserialize;
use serde_json::json;
use store::BlobKey;

use super::uploads::UPLOAD_HEADER;
use super::{Answer, Node, code, config, cron, dlq, family, gossip, tenants};

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
        ["apps", "apply"] => apply(&node, &request).await,
        ["apps", "delete"] => delete(&node, &request).await,
        ["apps", "get"] => get_app(&node, &request).await,
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
            "no control request {:?}; there are apps.apply, apps.delete, apps.get, apps.list, \
             config.get, config.set, status, tree, tree.invite, tree.remove, tree.children, \
             tree.follow, devices, logs, dlq.ls, dlq.show, dlq.redrive, dlq.drop, tenant.add, \
             tenant.wait, tenant.rm, tenant.rotate, tenant.ls",
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

async fn get_app(node: &Node, request: &Request) -> Answer {
    let name = text(request)?;
    match node.deploy.app(name).await.map_err(|e| e.refusal())? {
        Some(app) => Response::json(&app.registered()),
        None => Err(Refusal::new(RefusalKind::NotFound, format!("no app {name:?} is registered"))),
    }
}

fn registry(node: &Node) -> Result<&Registry, Refusal> {
    node.registry.as_ref().ok_or_else(|| {
        let root = node.bus.site().root();
        Refusal::bad(format!("apps are registered at the root: send this to ctl.{root}._.apps.…"))
    })
}

async fn apply(node: &Node, request: &Request) -> Answer {
    let registry = registry(node)?;
    let text = text(request)?;
    let _one_at_a_time = node.registering.lock().await;
    let manifest = check(node, registry, text).await?;
    let name = &manifest.app.name;
    let away = |e: bus::Error| Refusal::new(RefusalKind::Unavailable, e.to_string());
    let revision = registry.put_app(name, text).await.map_err(away)?;
    let app = register(node, registry, name, revision, text).await?;
    let handlers: Vec<&str> = app.manifest.handlers.iter().map(|h| h.name.as_str()).collect();
    let answer = json!({"app": name, "version": app.manifest.app.version, "revision": revision,
                        "handlers": handlers});
    Ok(Response::json(&answer)?.with(SITE_HEADER, node.bus.site().as_str()))
}

async fn delete(node: &Node, request: &Request) -> Answer {
    let registry = registry(node)?;
    let name = text(request)?;
    let _one_at_a_time = node.registering.lock().await;
    let Some(app) = node.deploy.known(name) else {
        return Err(Refusal::new(RefusalKind::NotFound, format!("no app {name:?} is registered")));
    };
    let away = |e: bus::Error| Refusal::new(RefusalKind::Unavailable, e.to_string());
    registry.delete_app(name).await.map_err(away)?;
    let revision = node.deploy.revision().max(app.revision) + 1;
    node.deploy.forget(name, revision).await.map_err(|e| e.refusal())?;
    node.logs.add("info", "deploy", &format!("app {name} removed"));
    Response::json(&json!({"app": name, "removed": true}))
}

/// Everything that can be wrong with a manifest is found here, before anything is changed.
async fn check(node: &Node, registry: &Registry, text: &str) -> Result<Manifest, Refusal> {
    if text.len() > MANIFEST_BYTES_MAX {
        let bytes = text.len();
        return Err(Refusal::bad(format!(
            "manifest of {bytes} bytes; the largest is {MANIFEST_BYTES_MAX}"
        )));
    }
    let manifest = Manifest::parse(text).map_err(|e| Refusal::bad(format!("manifest: {e}")))?;
    manifest.check_uploaded().map_err(|e| Refusal::bad(format!("manifest: {e}")))?;
    for table in &manifest.tables {
        let newest = deploy::table_spec(&manifest.app.name, table);
        let spec = store::TableSpec { revision: u64::MAX, ..newest };
        let fits = node.store.check_table(&spec);
        fits.map_err(|e| Refusal::bad(format!("manifest: table {:?}: {e}", table.name)))?;
    }
    let table = |app: &str, table: &str| {
        let app = node.deploy.known(app)?;
        Some(app.manifest.tables.iter().find(|own| own.name == table).cloned())
    };
    manifest.check_bindings(table).map_err(|e| Refusal::bad(format!("manifest: {e}")))?;
    for (at, handler) in manifest.handlers.iter().enumerate() {
        take_code(node, registry, at, handler).await?;
    }
    Ok(manifest)
}

/// Brings a handler's code from the bucket into the store, once.
async fn take_code(
    node: &Node,
    registry: &Registry,
    at: usize,
    handler: &Handler,
) -> Result<(), Refusal> {
    let Source::Digest(digest) = &handler.source else { return Ok(()) };
    let key = deploy::code_key(node.bus.site(), digest);
    let (line, kind) = (handler.source_line, handler.kind.name());
    let place = format!("manifest: line {line}: handler[{at}].{kind}");
    let away = |e: &dyn std::fmt::Display| Refusal::new(RefusalKind::Unavailable, e.to_string());
    if node.store.has_blob(&key).await.map_err(|e| away(&e))? {
        return Ok(());
    }
    let Some(bytes) = registry.code(digest.as_str()).await.map_err(|e| away(&e))? else {
        return Err(Refusal::bad(format!(
            "{place}: the bucket `code` has no object {digest}; upload it first: \
             nats obj put code FILE --name {digest}"
        )));
    };
    let found = Digest::of(&bytes);
    if found != *digest {
        return Err(Refusal::bad(format!(
            "{place}: the object named {digest} holds {found}; upload it under its own name"
        )));
    }
    node.store.put_blob(bytes).await.map_err(|e| away(&e))?;
    Ok(())
}

async fn register(
    node: &Node,
    registry: &Registry,
    name: &str,
    revision: u64,
    text: &str,
) -> Result<Arc<deploy::App>, Refusal> {
    let registered = Registered { name: name.to_owned(), revision, manifest: text.to_owned() };
    let app = node.deploy.register(&registered).await.map_err(|e| e.refusal())?;
    let status = json!({"app": name, "revision": revision, "state": "active"});
    let _ = registry.put_status(name, status.to_string()).await;
    let version = &app.manifest.app.version;
    node.logs.add("info", "deploy", &format!("app {name} {version}, revision {revision}"));
    Ok(app)
}

/// Follows the bucket `apps`, so that `nats kv put apps NAME …` works too; what became of an
/// entry is written to `apps-status`.
pub async fn watch_registry(node: Arc<Node>) {
    let Some(registry) = node.registry.clone() else { return };
    loop {
        match registry.watch().await {
            Ok(entries) => {
                tokio::pin!(entries);
                while let Some(Ok(entry)) = entries.next().await {
                    take_entry(&node, &registry, entry).await;
                }
            }
            Err(e) => node.logs.add("warn", "deploy", &format!("the registry is away: {e}")),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn take_entry(node: &Node, registry: &Registry, entry: Entry) {
    let _one_at_a_time = node.registering.lock().await;
    let known = node.deploy.known(&entry.app).map_or(0, |app| app.revision);
    if entry.revision <= known || entry.revision <= node.deploy.revision() {
        return;
    }
    let Some(text) = &entry.manifest else {
        let _ = node.deploy.forget(&entry.app, entry.revision).await;
        return;
    };
    let checked = check(node, registry, text).await.and_then(|manifest| {
        match manifest.app.name == entry.app {
            true => Ok(()),
            false => Err(Refusal::bad(format!(
                "the entry is named {:?}, the app in it {:?}",
                entry.app, manifest.app.name
            ))),
        }
    });
    let outcome = match checked {
        Ok(()) => register(node, registry, &entry.app, entry.revision, text).await.map(|_| ()),
        Err(e) => Err(e),
    };
    if let Err(refusal) = outcome {
        node.logs.add("error", "deploy", &format!("entry {}: {refusal}", entry.app));
        let status = json!({"app": entry.app, "revision": entry.revision, "state": "refused",
                            "error": refusal.message});
        let _ = registry.put_status(&entry.app, status.to_string()).await;
    }
}
