//! The node in the lists of the NATS services protocol: `nats micro ls|info|stats`.

use std::sync::Arc;

use anyhow::Result;
use bus::service::{ENDPOINTS_MAX, Endpoint, Service};
use bus::{Kind, Subject, Subscription, TierPath};
use handlers::deploy::App;
use handlers::manifest::{Handler, Trigger};
use handlers::metrics::{Snapshot, Times};

use super::{Node, QUEUE};

/// What every node is called.
const NAME: &str = "edgescale-node";
/// The most handlers that the metadata names.
const HANDLERS_MAX: usize = 64;

/// Answers as long as the subscription is kept.
pub async fn announce(node: &Arc<Node>) -> Result<Subscription> {
    let weak = Arc::downgrade(node);
    // The node holds the subscription's task up to its end, and not the other way round.
    let describe = move || weak.upgrade().map(|node| service(&node)).unwrap_or_default();
    Ok(node.bus.announce(NAME, env!("CARGO_PKG_VERSION"), describe).await?)
}

fn service(node: &Node) -> Service {
    let site = node.bus.site();
    let devices: Vec<String> = node.accelerate.devices().into_iter().map(|d| d.id).collect();
    let apps = node.deploy.apps();
    let handlers = |app: &Arc<App>| {
        let names = app.manifest.handlers.iter().filter_map(|h| app.key(&h.name).cloned());
        names.map(|key| key.to_string()).collect::<Vec<_>>()
    };
    let mut names: Vec<String> = apps.iter().flat_map(handlers).collect();
    if let Some(more) = names.len().checked_sub(HANDLERS_MAX).filter(|more| *more > 0) {
        names.truncate(HANDLERS_MAX);
        names.push(format!("and {more} more"));
    }
    let metadata = [
        ("path", site.to_string()),
        ("tier", format!("{:?}", node.class).to_lowercase()),
        ("devices", devices.join(",")),
        ("handlers", names.join(",")),
    ];
    let metadata = metadata.map(|(name, value)| (name.to_owned(), value));
    let numbers = node.metrics.snapshot();
    let all = apps.iter().flat_map(|app| {
        let of_app = app.manifest.handlers.iter();
        of_app.filter_map(|handler| of_handler(site, app, handler, &numbers))
    });
    let endpoints = std::iter::once(of_calls(site, &numbers)).chain(all).take(ENDPOINTS_MAX);
    Service { metadata: metadata.into(), endpoints: endpoints.collect() }
}

/// Every call that came to the node, wherever it was answered.
fn of_calls(site: &TierPath, numbers: &Snapshot) -> Endpoint {
    let times = numbers.times.get("call").copied().unwrap_or_default();
    let refused = numbers.counts.iter().filter(|(name, _)| name.starts_with("calls refused "));
    Endpoint {
        name: "call".into(),
        subject: Subject::all(Kind::Call, site),
        queue: QUEUE.into(),
        requests: times.count,
        errors: refused.map(|(_, count)| count).sum(),
        busy_us: total_us(&times),
        ..Endpoint::default()
    }
}

/// The runs of one handler at this node.
fn of_handler(
    site: &TierPath,
    app: &App,
    handler: &Handler,
    numbers: &Snapshot,
) -> Option<Endpoint> {
    let key = app.key(&handler.name)?;
    let count = |what: &str| numbers.counts.get(&format!("{what} {key}")).copied().unwrap_or(0);
    let times = numbers.times.get(&format!("run {key}")).copied().unwrap_or_default();
    let kind = ("kind".to_owned(), handler.kind.name().to_owned());
    Some(Endpoint {
        // Neither has a `_`, and the protocol takes no `/`.
        name: key.replace('/', "_"),
        subject: subject(site, app.name(), handler),
        queue: QUEUE.into(),
        metadata: [kind].into(),
        requests: count("invocations"),
        errors: count("failures"),
        busy_us: total_us(&times),
    })
}

/// Where a handler is reached: by its first call or event. What starts it otherwise has no subject
/// of its own, and stands for all that the app is called for.
fn subject(site: &TierPath, app: &str, handler: &Handler) -> String {
    let found = handler.triggers.iter().find_map(|trigger| match trigger {
        Trigger::Call(name) => Some((Kind::Call, name)),
        Trigger::Event(topic) => Some((Kind::Ev, topic)),
        _ => None,
    });
    match found {
        Some((kind, name)) => format!("{}.{site}._.{app}.{name}", kind.token()),
        None => format!("{}.{site}._.{app}.>", Kind::Call.token()),
    }
}

fn total_us(times: &Times) -> u64 {
    times.count.saturating_mul(times.mean_us)
}
