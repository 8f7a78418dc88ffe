//! A site's tenants: taken in, shut out, given new keys. Each has an account at the site's server,
//! a link of its own to the parent, and a node of its own, which knows nothing of the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::site::CLIENT_FILE;
use bus::site::tenants::{Former, LinkRequest};
use bus::tree::ACCOUNT;
use bus::{Bus, Credentials, Headers, Refusal, RefusalKind, Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::family::{Family, family, refusal};
use super::{Answer, Node, client};
use crate::tree::now_s;

/// How long a former key is good when nothing is said, in seconds.
const GRACE_S: u64 = 24 * 3600;
/// How often it is looked whether the time of a former key is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the parent may take to take a link in.
const PARENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a new tenant's node may take to answer before whoever took it in is told so.
pub const WAIT_MAX: Duration = Duration::from_secs(20);
/// The pause before a parent or a node that does not answer is asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// What is asked of a site about a tenant.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    pub tenant: String,
    /// How long the old key stays good, for a rotation.
    #[serde(default)]
    pub grace_s: Option<u64>,
}

/// A tenant as `tenant.ls` lists it.
#[derive(Debug, Serialize, Deserialize)]
pub struct TenantReport {
    pub tenant: String,
    /// The public half of its clients' key.
    pub key: String,
    /// The file with the secret half, on the site's machine.
    pub key_file: std::path::PathBuf,
    /// As whom its MQTT clients log in.
    #[serde(default)]
    pub mqtt_user: String,
    pub former: Vec<Former>,
}

/// `tenant.<verb>`, from the site's owner.
pub async fn answer(node: &Node, verb: &str, request: &Request) -> Answer {
    let Ok(family) = family(node) else {
        // Most likely another tenant's client, in its own account.
        let text = format!("tenant.{verb} was refused: this node does not hold the site's folder");
        node.logs.add("warn", "tenant", &text);
        return Err(Refusal::new(RefusalKind::NotGranted, text));
    };
    if verb == "ls" {
        return list(family);
    }
    let about: About = serde_json::from_slice(&request.payload)
        .map_err(|e| Refusal::bad(format!("tenant.{verb}: {e}; say which tenant")))?;
    if verb == "wait" {
        return wait(node, family, &about.tenant).await;
    }
    let done = match verb {
        "add" => add(node, family, &about.tenant).await,
        "rm" => remove(node, family, &about.tenant).await,
        "rotate" => rotate(family, &about).await,
        _ => Err(Refusal::bad(format!(
            "no request tenant.{verb}; there are add, wait, rm, rotate, ls"
        ))),
    };
    let (site, tenant) = (node.bus.site(), &about.tenant);
    match &done {
        Ok(()) => node.logs.add("info", "tenant", &format!("{verb} {tenant:?}: done")),
        Err(e) => node.logs.add("warn", "tenant", &format!("{verb} {tenant:?}: {e}")),
    }
    done?;
    let (key_file, mqtt_user) = {
        let folder = family.folder();
        (folder.tenant_file(tenant, CLIENT_FILE), folder.mqtt_user(tenant))
    };
    Response::json(&json!({"site": site, "tenant": tenant, "key_file": key_file,
                           "mqtt_user": mqtt_user}))
}

fn list(family: &Family) -> Answer {
    let folder = family.folder();
    let names = std::iter::once(ACCOUNT).chain(folder.tenants().names());
    let report = |name: &str| {
        let key_file = folder.tenant_file(name, CLIENT_FILE);
        let key = bus::pki::UserKey::load_or_generate(&key_file).map_err(refusal)?.public;
        let former = folder.tenants().former(name).to_vec();
        let mqtt_user = folder.mqtt_user(name);
        Ok(TenantReport { tenant: name.to_owned(), key, key_file, mqtt_user, former })
    };
    Response::json(&names.map(report).collect::<Result<Vec<_>, Refusal>>()?)
}

/// The parent is asked first: a tenant that it does not know would have no way up.
async fn add(node: &Node, family: &Family, tenant: &str) -> Result<(), Refusal> {
    family.folder().tenants().clone().add(tenant).map_err(refusal)?;
    if node.bus.site().parent().is_some() {
        let link = family.folder().tenant_link(tenant).map_err(refusal)?;
        tell_parent(node, tenant, Some(link)).await?;
    }
    family.folder().add_tenant(tenant).map_err(refusal)?;
    family.reload().await.map_err(refusal)
}

/// Answers when the tenant's own node does, as a client of the tenant sees it, or when
/// [`WAIT_MAX`] is over.
async fn wait(node: &Node, family: &Family, tenant: &str) -> Answer {
    let site = node.bus.site();
    let (server, key_file) = {
        let folder = family.folder();
        folder.tenants().check(tenant).map_err(refusal)?;
        (folder.server_url(), folder.tenant_file(tenant, CLIENT_FILE))
    };
    let key = bus::pki::UserKey::load_or_generate(&key_file).map_err(refusal)?;
    let credentials = Credentials { seed: key.seed };
    let client = Bus::connect(&server, site, &credentials, "edgescale-wait").await;
    let client = client.map_err(refusal)?;
    let deadline = Instant::now() + WAIT_MAX;
    let mut answers = false;
    while !answers && Instant::now() < deadline {
        answers = client::report(&client).await.is_ok_and(|report| report.ready);
        if !answers {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Response::json(&json!({"site": site, "tenant": tenant, "answers": answers}))
}

async fn remove(node: &Node, family: &Family, tenant: &str) -> Result<(), Refusal> {
    let owner_stays = family.folder().tenants().clone().remove(tenant);
    owner_stays.map_err(refusal)?;
    let (server, key) = {
        let folder = family.folder();
        (folder.server_url(), folder.tenant_key(tenant).map_err(refusal)?)
    };
    // What it kept goes first: a later tenant of the same name must not find it.
    bus::server::erase_streams(&server, &key).await.map_err(refusal)?;
    family.folder().remove_tenant(tenant).map_err(refusal)?;
    family.reload().await.map_err(refusal)?;
    family.drop_links().await.map_err(refusal)?;
    if node.bus.site().parent().is_some()
        && let Err(e) = tell_parent(node, tenant, None).await
    {
        let text = format!("the parent still knows the link of {tenant:?}, whose key is gone: {e}");
        node.logs.add("warn", "tenant", &text);
    }
    Ok(())
}

async fn rotate(family: &Family, about: &About) -> Result<(), Refusal> {
    let now_s = now_s();
    let until_s = now_s.saturating_add(about.grace_s.unwrap_or(GRACE_S));
    family.folder().rotate_tenant(&about.tenant, now_s, until_s).map_err(refusal)?;
    family.reload().await.map_err(refusal)
}

async fn tell_parent(node: &Node, tenant: &str, link: Option<String>) -> Result<(), Refusal> {
    let Some(parent) = node.bus.site().parent() else { return Ok(()) };
    let subject = format!("ctl.{parent}._.site.{}.tenant", node.bus.site().name());
    let body = json!(LinkRequest { tenant: tenant.to_owned(), link }).to_string();
    let deadline = Instant::now() + PARENT_TIMEOUT;
    loop {
        let asked = node.bus.request(&subject, &Headers::new(), body.clone(), PARENT_TIMEOUT).await;
        match asked {
            // The parent ends links when it shuts somebody out; they come back in a second or two.
            Err(e) if e.not_done() && Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            answer => return answer.map(|_| ()).map_err(refusal),
        }
    }
}

/// `site.<child>.tenant`: a child's link for a tenant. The server vouches for the child's name.
pub async fn link(node: &Node, child: &str, request: &Request) -> Answer {
    let family = family(node)?;
    let asked: LinkRequest = serde_json::from_slice(&request.payload)
        .map_err(|e| Refusal::bad(format!("link of {child}: {e}")))?;
    let linked = family.folder().link_tenant(child, &asked).map_err(refusal);
    let tenant = &asked.tenant;
    if let Err(e) = &linked {
        node.logs.add("warn", "tenant", &format!("link of {child} for {tenant:?}: {e}"));
    }
    linked?;
    family.reload().await.map_err(refusal)?;
    node.logs.add("info", "tenant", &format!("{child} links up for {tenant:?}, or no more"));
    Response::json(&json!({"linked": asked.link.is_some()}))
}

/// Shuts former keys out when their time is over, until the node stops.
pub async fn expire_keys(node: Arc<Node>) {
    let Some(family) = node.family.clone() else { return std::future::pending().await };
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let expired = family.folder().expire_keys(now_s());
        let done = match expired {
            Ok(false) => continue,
            Ok(true) => family.reload().await,
            Err(e) => Err(e),
        };
        match done {
            Ok(()) => node.logs.add("info", "tenant", "a former key has expired"),
            Err(e) => node.logs.add("error", "tenant", &format!("a former key stays good: {e}")),
        }
    }
}
