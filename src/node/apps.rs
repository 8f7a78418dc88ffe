//! The apps of a tree, at its root: registered once their code has been tried, removed, brought
//! back to an earlier revision; by request, or by the bucket `apps`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bus::message::SITE_HEADER;
use bus::registry::{Entry, MANIFEST_BYTES_MAX};
use bus::{Refusal, RefusalKind, Registry, Response};
use futures::StreamExt;
use handlers::deploy::{self, App, Registered, Unproven};
use handlers::manifest::{Handler, Source};
use handlers::{Digest, Manifest};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;

use super::report::{AppReport, HandlerReport, NextReport};
use super::{Answer, Node};

/// Who registers a revision of an app has its turn until that serves, so that whoever comes last
/// is served last, however long the code of the others takes.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    async fn of(&self, app: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(app.to_owned()).or_default())
        };
        turn.lock_owned().await
    }
}

/// `apps.get`: the newest revision of an app; whoever asks tries its code itself.
pub(super) async fn get(node: &Node, name: &str) -> Answer {
    match node.deploy.newest(name).await.map_err(|e| e.refusal())? {
        Some(registered) => Response::json(&registered),
        None => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(
        RefusalKind::NotFound,
        format!("no app {name:?} is registered; `edgescale ls` lists those that are"),
    )
}

fn away(e: bus::Error) -> Refusal {
    Refusal::new(RefusalKind::Unavailable, e.to_string())
}

fn registry(node: &Node) -> Result<&Registry, Refusal> {
    node.registry.as_ref().ok_or_else(|| {
        let root = node.bus.site().root();
        Refusal::bad(format!("apps are registered at the root: send this to ctl.{root}._.apps.…"))
    })
}

/// `apps.apply`
pub(super) async fn apply(node: &Node, text: &str) -> Answer {
    let answer = apply_text(node, registry(node)?, text).await?;
    Ok(Response::json(&answer)?.with(SITE_HEADER, node.bus.site().as_str()))
}

async fn apply_text(node: &Node, registry: &Registry, text: &str) -> Result<Value, Refusal> {
    let read = read(text)?;
    let name = &read.app.name;
    let _turn = node.deploying.of(name).await;
    {
        let _one_at_a_time = node.registering.lock().await;
        check(node, registry, text).await?;
    }
    // The code is compiled: meanwhile others register.
    let proven = prove(node, &read, text).await;
    let _proven = proven.inspect_err(|refusal| {
        node.logs.add("error", "deploy", &format!("app {name}: refused: {refusal}"));
    })?;
    let _one_at_a_time = node.registering.lock().await;
    check(node, registry, text).await?;
    let revision = registry.put_app(name, text).await.map_err(away)?;
    let app = register(node, registry, name, revision, text).await?;
    let handlers: Vec<&str> = app.manifest.handlers.iter().map(|h| h.name.as_str()).collect();
    Ok(json!({"app": name, "version": app.manifest.app.version, "revision": revision,
              "handlers": handlers}))
}

/// Which revision of which app.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Earlier {
    app: String,
    revision: Option<u64>,
}

/// `apps.rollback`: registers an earlier revision again, the one before the present one unless
/// said, as a new one.
pub(super) async fn roll_back(node: &Node, text: &str) -> Answer {
    let registry = registry(node)?;
    let asked: Earlier = serde_json::from_str(text)
        .map_err(|e| Refusal::bad(format!("{e}; say app, and a revision if you want")))?;
    let name = &asked.app;
    let now = node.deploy.known(name).ok_or_else(|| unknown(name))?.registered();
    let is_earlier = |entry: &&Entry| match asked.revision {
        Some(revision) => entry.revision == revision && entry.manifest.is_some(),
        None => {
            let manifest = entry.manifest.as_deref().map(str::trim);
            entry.revision < now.revision
                && manifest.is_some_and(|text| text != now.manifest.trim())
        }
    };
    let all = registry.history(name).await.map_err(away)?;
    let earlier = all.iter().filter(is_earlier).max_by_key(|entry| entry.revision);
    let Some(Entry { manifest: Some(manifest), revision, .. }) = earlier else {
        let kept: Vec<String> = all.iter().map(|entry| entry.revision.to_string()).collect();
        let other = || "earlier revision that is different".to_owned();
        let wanted = asked.revision.map_or_else(other, |n| format!("revision {n}"));
        let kept = kept.join(", ");
        let text = format!("app {name:?} has no {wanted} to go back to; kept are {kept}");
        return Err(Refusal::new(RefusalKind::NotFound, text));
    };
    let mut answer = apply_text(node, registry, manifest.trim()).await?;
    answer["from"] = json!(now.revision);
    answer["to"] = json!(revision);
    Response::json(&answer)
}

/// `apps.history`: the revisions of an app that are kept, the newest first.
pub(super) async fn history(node: &Node, name: &str) -> Answer {
    let all = registry(node)?.history(name).await.map_err(away)?;
    if all.is_empty() {
        return Err(unknown(name));
    }
    let now = node.deploy.known(name).map(|app| app.revision);
    let revision = |entry: &Entry| {
        let read = entry.manifest.as_deref().map(Manifest::parse);
        let version = read.and_then(|read| Some(read.ok()?.app.version));
        json!({"revision": entry.revision, "time": entry.time, "version": version,
               "removed": entry.manifest.is_none(), "serves": Some(entry.revision) == now})
    };
    let mut all: Vec<Value> = all.iter().map(revision).collect();
    all.reverse();
    Response::json(&all)
}

/// `apps.delete`
pub(super) async fn delete(node: &Node, name: &str) -> Answer {
    let registry = registry(node)?;
    let _turn = node.deploying.of(name).await;
    let _one_at_a_time = node.registering.lock().await;
    let Some(app) = node.deploy.known(name) else {
        return Err(unknown(name));
    };
    registry.delete_app(name).await.map_err(away)?;
    let revision = node.deploy.revision().max(app.revision) + 1;
    node.deploy.forget(name, revision).await.map_err(|e| e.refusal())?;
    node.logs.add("info", "deploy", &format!("app {name} removed"));
    Response::json(&json!({"app": name, "removed": true}))
}

fn read(text: &str) -> Result<Manifest, Refusal> {
    if text.len() > MANIFEST_BYTES_MAX {
        let bytes = text.len();
        return Err(Refusal::bad(format!(
            "manifest of {bytes} bytes; the largest is {MANIFEST_BYTES_MAX}"
        )));
    }
    let manifest = Manifest::parse(text).map_err(|e| Refusal::bad(format!("manifest: {e}")))?;
    manifest.check_uploaded().map_err(|e| Refusal::bad(format!("manifest: {e}")))?;
    Ok(manifest)
}

/// Everything that can be wrong with a manifest is found here, before anything is changed; what is
/// wrong with code shows when it is tried.
async fn check(node: &Node, registry: &Registry, text: &str) -> Result<Manifest, Refusal> {
    let manifest = read(text)?;
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

/// Tries the code of a manifest; its code is kept as long as the result is.
async fn prove(node: &Node, manifest: &Manifest, text: &str) -> Result<Arc<App>, Refusal> {
    let name = manifest.app.name.clone();
    let candidate = Registered { name, revision: 0, manifest: text.to_owned() };
    node.deploy.prove(&candidate).await.map_err(|Unproven { handler, error }| {
        let refusal = error.refusal();
        let handlers = manifest.handlers.iter().enumerate();
        match handlers.into_iter().find(|(_, one)| one.name == handler) {
            Some((at, one)) => {
                let (line, kind) = (one.source_line, one.kind.name());
                let place = format!("manifest: line {line}: handler[{at}].{kind}");
                Refusal::new(refusal.kind, format!("{place}: {}", refusal.message))
            }
            None => refusal,
        }
    })
}

async fn register(
    node: &Node,
    registry: &Registry,
    name: &str,
    revision: u64,
    text: &str,
) -> Result<Arc<App>, Refusal> {
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
    // What is not newer has been looked at: before this node started, or since.
    let mut seen = node.deploy.revision();
    loop {
        match registry.watch().await {
            Ok(entries) => {
                tokio::pin!(entries);
                while let Some(Ok(entry)) = entries.next().await {
                    if entry.revision > seen {
                        seen = entry.revision;
                        take_entry(&node, &registry, entry).await;
                    }
                }
            }
            Err(e) => node.logs.add("warn", "deploy", &format!("the registry is away: {e}")),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn take_entry(node: &Node, registry: &Registry, entry: Entry) {
    let _turn = node.deploying.of(&entry.app).await;
    let known = node.deploy.known(&entry.app).map(|app| app.revision);
    if known.is_some_and(|known| entry.revision <= known) {
        return;
    }
    if entry.revision <= node.deploy.revision() {
        return write_again(node, registry, &entry, known.is_some()).await;
    }
    let Some(text) = &entry.manifest else {
        let _one_at_a_time = node.registering.lock().await;
        let _ = node.deploy.forget(&entry.app, entry.revision).await;
        return;
    };
    if let Err(refusal) = take_manifest(node, registry, &entry, text).await {
        node.logs.add("error", "deploy", &format!("entry {}: {refusal}", entry.app));
        let status = json!({"app": entry.app, "revision": entry.revision, "state": "refused",
                            "error": refusal.message});
        let _ = registry.put_status(&entry.app, status.to_string()).await;
    }
}

/// While an entry waited for others, a request has registered a newer one of another app: sites
/// below would take this one for one that they have. It comes again, as the newest.
async fn write_again(node: &Node, registry: &Registry, entry: &Entry, is_known: bool) {
    let newest = registry.history(&entry.app).await;
    if !newest.is_ok_and(|all| all.last().is_some_and(|last| last.revision == entry.revision)) {
        return;
    }
    let written = match &entry.manifest {
        Some(text) => registry.put_app(&entry.app, text).await.map(|_| ()),
        None if is_known => registry.delete_app(&entry.app).await,
        None => Ok(()),
    };
    if let Err(e) = written {
        node.logs.add("error", "deploy", &format!("entry {}: {e}; write it again", entry.app));
    }
}

async fn take_manifest(
    node: &Node,
    registry: &Registry,
    entry: &Entry,
    text: &str,
) -> Result<(), Refusal> {
    let manifest = {
        let _one_at_a_time = node.registering.lock().await;
        check(node, registry, text).await?
    };
    if manifest.app.name != entry.app {
        let (named, name) = (&entry.app, &manifest.app.name);
        let text = format!("the entry is named {named:?}, the app in it {name:?}");
        return Err(Refusal::bad(text));
    }
    let _proven = prove(node, &manifest, text).await?;
    let _one_at_a_time = node.registering.lock().await;
    check(node, registry, text).await?;
    register(node, registry, &entry.app, entry.revision, text).await.map(|_| ())
}

/// An app as this node has it.
pub(super) fn report(node: &Node, app: &App) -> AppReport {
    let state = |handler: &handlers::manifest::Handler| {
        let placed = app.allows(&handler.name, &node.route.view().here);
        let words = match (placed, node.deploy.ready(app, handler)) {
            (false, _) => "not placed here",
            (true, true) => "ready",
            (true, false) => "absent",
        };
        let (name, kind) = (handler.name.clone(), handler.kind.name().to_owned());
        HandlerReport { name, kind, state: words.to_owned() }
    };
    let next = node.deploy.next(app.name()).map(|next| NextReport {
        version: next.app.manifest.app.version.clone(),
        revision: next.app.revision,
        refused: next.refused,
    });
    AppReport {
        next,
        name: app.name().to_owned(),
        version: app.manifest.app.version.clone(),
        revision: app.revision,
        handlers: app.manifest.handlers.iter().map(state).collect(),
    }
}
