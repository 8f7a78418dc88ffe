//! Settings of an app that runs here: shown, and changed without another revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::{Refusal, RefusalKind, Response};
use handlers::deploy::App;
use handlers::manifest::Handler;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Node};

/// What `config.set` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    app: String,
    handler: String,
    #[serde(default)]
    set: BTreeMap<String, String>,
    /// Names whose values are the manifest's again.
    #[serde(default)]
    unset: Vec<String>,
}

/// The settings of an app: `{"app", "site", "handlers": [{"handler", "settings", "secrets"}]}`.
pub(super) async fn get(node: &Node, app: &str) -> Answer {
    Response::json(&shown(node, &*known(node, app).await?))
}

/// Changes some of them, and shows all.
pub(super) async fn set(node: &Node, body: &str) -> Answer {
    let change: Change = serde_json::from_str(body).map_err(|error| {
        let form = r#"{"app": "…", "handler": "…", "set": {"name": "value"}, "unset": ["name"]}"#;
        Refusal::bad(format!("{error}; send {form}"))
    })?;
    let app = known(node, &change.app).await?;
    let handler = app.manifest.handler(&change.handler).ok_or_else(|| {
        let known: Vec<&str> = app.manifest.handlers.iter().map(|h| h.name.as_str()).collect();
        let text = format!("app {} has no handler {:?}", app.name(), change.handler);
        Refusal::new(RefusalKind::NotFound, format!("{text}; it has {}", known.join(", ")))
    })?;
    let names: Vec<String> = change.set.keys().chain(&change.unset).cloned().collect();
    node.changes.change(app.name(), handler, change.set, &change.unset).map_err(Refusal::bad)?;
    let what = format!("{}.{}: changed {}", app.name(), handler.name, names.join(", "));
    node.logs.add("info", "config", &what);
    Response::json(&shown(node, &app))
}

async fn known(node: &Node, app: &str) -> Result<Arc<App>, Refusal> {
    let found = node.deploy.app(app).await.map_err(|error| error.refusal())?;
    found
        .ok_or_else(|| Refusal::new(RefusalKind::NotFound, format!("no app {app:?} is registered")))
}

fn shown(node: &Node, app: &App) -> Value {
    let handlers = app.manifest.handlers.iter().filter(|handler| {
        let has_none = handler.config.is_empty() && handler.secrets.is_empty();
        !has_none
    });
    let handlers: Vec<Value> = handlers.map(|handler| of_handler(node, app, handler)).collect();
    json!({"app": app.name(), "site": node.bus.site(), "revision": app.revision,
           "handlers": handlers})
}

/// Secrets have names and no values here.
fn of_handler(node: &Node, app: &App, handler: &Handler) -> Value {
    let changed = node.changes.of(app.name(), handler);
    let settings = handler.config.iter().map(|(name, own)| match changed.get(name) {
        Some(value) => json!({"name": name, "value": value, "manifest": own}),
        None => json!({"name": name, "value": own}),
    });
    let settings: Vec<Value> = settings.collect();
    json!({"handler": handler.name, "settings": settings, "secrets": handler.secrets})
}
