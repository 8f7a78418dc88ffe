//! Compiled code of a node: what it compiles for others, and whose it runs.

use std::sync::Arc;

use anyhow::{Result, bail};
use bus::pki::{UserKey, is_user};
use bus::{Refusal, RefusalKind, Request, Response};
use handlers::Digest;
use handlers::deploy::Compiling;
use handlers::execute::{HAS_COMPILER, Machine};
use serde::{Deserialize, Serialize};

use super::{Answer, Node};

/// `[code]` of a node's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether components are compiled here; a node that does not takes all from above.
    #[serde(skip_serializing_if = "is_true")]
    pub compile: bool,
    /// Machines that components are compiled for here, for the nodes below: `x86_64`, `aarch64`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Machine>,
    /// Public nkeys of nodes above whose compiled code is run here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trust: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { compile: true, targets: Vec::new(), trust: Vec::new() }
    }
}

fn is_true(it: &bool) -> bool {
    *it
}

/// A question for compiled code, as a child asks it.
#[derive(Serialize, Deserialize)]
pub struct Wanted {
    pub code: Digest,
    pub machine: Machine,
}

/// What EdgeDeploy is told of it. `seed` is the node's own.
pub(super) fn set_up(settings: &Settings, seed: &str) -> Result<Compiling> {
    let compiles = settings.compile && HAS_COMPILER;
    if !compiles && let Some(machine) = settings.targets.first() {
        bail!(
            "[code] targets: this node compiles nothing, and so not for {:?}; remove it, or set \
             compile = true in a program that was built with a compiler",
            machine.name()
        );
    }
    if let Some(key) = settings.trust.iter().find(|key| !is_user(key)) {
        bail!("[code] trust: {key:?} is no public nkey of a node; it begins with U");
    }
    let key = UserKey::from_seed(seed)?;
    if !settings.targets.is_empty() {
        let names: Vec<&str> = settings.targets.iter().map(|machine| machine.name()).collect();
        let (names, key) = (names.join(", "), &key.public);
        tracing::info!("components are compiled for {names}, and signed by {key}");
    }
    let Settings { compile: _, targets, trust } = settings.clone();
    Ok(Compiling { targets, trust, key: Some(key) })
}

/// `ctl.<site>._.site.<child>.compiled`
pub(super) async fn compiled(node: &Arc<Node>, request: &Request) -> Answer {
    let wanted: Wanted = serde_json::from_slice(&request.payload)
        .map_err(|e| Refusal::bad(format!("{e}; say code and machine")))?;
    let offer = node.deploy.offer(&wanted.code, wanted.machine).await;
    match offer.map_err(|error| error.refusal())? {
        Some(offer) => Response::json(&offer),
        None => {
            let (code, machine) = (wanted.code, wanted.machine.name());
            let text = format!("code {code} is not compiled for {machine} here");
            Err(Refusal::new(RefusalKind::NotFound, text))
        }
    }
}
