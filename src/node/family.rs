//! A site's children: invited, taken in, removed. The node alone writes the site's folder, and has
//! the server read its configuration again after each change.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bus::pki::UserKey;
use bus::site::SiteFolder;
use bus::site::join::{Door, JoinAnswer, JoinRequest, Token};
use bus::{Error, Headers, Refusal, RefusalKind, Request, Response, TierClass, TierPath};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{Answer, Node};
use crate::tree::now_s;

/// How long an invitation is open when nothing is said, in seconds.
const INVITE_S: u64 = 3_600;

/// How often children are called that have not followed a move, and how long one may take.
const CALL_EVERY: Duration = Duration::from_secs(1);
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The site's folder, and the door that is open while somebody is expected.
pub struct Family {
    folder: Mutex<SiteFolder>,
    door: Mutex<Option<OpenDoor>>,
}

struct OpenDoor {
    port: u16,
    task: JoinHandle<()>,
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What `tree.invite` is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    pub name: String,
    /// By depth, unless said.
    #[serde(default)]
    pub class: Option<TierClass>,
    #[serde(default)]
    pub valid_s: Option<u64>,
}

/// What `tree.follow` is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// The path that the site has from now on.
    pub site: TierPath,
}

/// A child as `tree.children` lists it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChildReport {
    pub path: TierPath,
    pub class: TierClass,
    /// The public nkey of its link.
    pub key: String,
    pub joined_s: u64,
    /// How long ago it was heard; nothing when it was not heard lately.
    pub heard_ms_ago: Option<u64>,
}

impl Family {
    /// Reads the site's folder.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let folder = Mutex::new(SiteFolder::open(dir)?);
        Ok(Self { folder, door: Mutex::new(None) })
    }

    pub(super) fn folder(&self) -> MutexGuard<'_, SiteFolder> {
        self.folder.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn door(&self) -> MutexGuard<'_, Option<OpenDoor>> {
        self.door.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The paths of the children that may connect.
    pub(super) fn children(&self) -> Vec<TierPath> {
        let folder = self.folder();
        let site = &folder.record.site;
        folder.roster().children().filter_map(|child| site.child(&child.name).ok()).collect()
    }

    /// Has the site's server read its configuration again.
    pub(super) async fn reload(&self) -> Result<(), Error> {
        let (server, key) = self.system()?;
        bus::server::reload(&server, &key).await
    }

    /// Has all children log in again.
    pub(super) async fn drop_links(&self) -> Result<(), Error> {
        let (server, key) = self.system()?;
        bus::server::drop_links(&server, &key).await
    }

    fn system(&self) -> Result<(String, UserKey), Error> {
        let folder = self.folder();
        Ok((folder.server_url(), folder.key("sys.nk")?))
    }
}

/// `tree.invite`: a token with which one site can join.
pub async fn invite(node: &Arc<Node>, request: &Request) -> Answer {
    let family = family(node)?;
    let asked: Invite = serde_json::from_slice(&request.payload)
        .map_err(|e| Refusal::bad(format!("tree.invite: {e}; say name, class, valid_s")))?;
    let site = node.bus.site().child(&asked.name).map_err(|e| Refusal::bad(e.to_string()))?;
    let class = asked.class.unwrap_or_else(|| site.default_class());
    let port = open_door(node, family).await.map_err(refusal)?;
    let now_s = now_s();
    let expires_s = now_s.saturating_add(asked.valid_s.unwrap_or(INVITE_S));
    let token = {
        let mut folder = family.folder();
        let join = format!("{}:{port}", folder.record.address);
        folder.invite(&asked.name, class, &join, now_s, expires_s).map_err(refusal)?
    };
    node.logs.add("info", "tree", &format!("{site} is invited, until {expires_s}"));
    let text = token.encode().map_err(refusal)?;
    let Token { site, class, join, .. } = token;
    let answer =
        json!({"token": text, "site": site, "class": class, "join": join, "expires_s": expires_s});
    Response::json(&answer)
}

/// `tree.remove`: a child that may not come back; its link is cut.
pub async fn remove(node: &Node, name: &str) -> Answer {
    let family = family(node)?;
    let path = node.bus.site().child(name).map_err(|e| Refusal::bad(e.to_string()))?;
    family.folder().remove_child(name).map_err(refusal)?;
    family.reload().await.map_err(refusal)?;
    family.drop_links().await.map_err(refusal)?;
    node.children.forget(&path).await;
    node.logs.add("info", "tree", &format!("{path} is removed"));
    Response::json(&json!({"site": path, "removed": true}))
}

/// `tree.children`: those who may connect, connected or not.
pub async fn list(node: &Node) -> Answer {
    let family = family(node)?;
    let children: Vec<_> = family.folder().roster().children().cloned().collect();
    let mut list = vec![];
    for child in children {
        let path = node.bus.site().child(&child.name).map_err(|e| Refusal::bad(e.to_string()))?;
        let heard_ms_ago = node.children.heard_ms_ago(&path).await;
        let (class, key, joined_s) = (child.class, child.link, child.joined_s);
        list.push(ChildReport { path, class, key, joined_s, heard_ms_ago });
    }
    Response::json(&list)
}

/// After a restart, those who were invited before still find the door open.
pub async fn reopen_door(node: &Arc<Node>) {
    let Some(family) = &node.family else { return };
    let expected = {
        let folder = family.folder();
        folder.record.ports.join != 0 && folder.roster().open_until_s(now_s()).is_some()
    };
    if expected && let Err(e) = open_door(node, family).await {
        node.logs.add("error", "tree", &format!("nobody can join: {e}"));
    }
}

/// `tree.follow`: the site above was moved, and this one is below it under another path. Whoever
/// runs the site starts it again there.
pub async fn follow(node: &Node, request: &Request) -> Answer {
    let family = family(node)?;
    let asked: Follow = serde_json::from_slice(&request.payload)
        .map_err(|e| Refusal::bad(format!("tree.follow: {e}; say site")))?;
    if node.parent_up() {
        let here = node.bus.site();
        return Err(Refusal::bad(format!("{here} stays: its parent answers where it is")));
    }
    let followed = family.folder().follow(&asked.site).map_err(refusal);
    match &followed {
        Ok(()) => {
            node.logs.add("info", "tree", &format!("this site is {} from now on", asked.site))
        }
        Err(e) => node.logs.add("error", "tree", &format!("the parent was moved: {e}")),
    }
    followed?;
    Response::json(&asked)
}

/// After a move, has the children follow that are not here yet; until the node stops.
pub async fn call_after(node: Arc<Node>) {
    let Some(family) = node.family.clone() else { return std::future::pending().await };
    if family.folder().record.former.is_empty() {
        return std::future::pending().await;
    }
    loop {
        let (children, site) = {
            let folder = family.folder();
            let names: Vec<String> = folder.roster().children().map(|c| c.name.clone()).collect();
            (names, folder.record.site.clone())
        };
        for child in children.iter().filter_map(|name| site.child(name).ok()) {
            if node.children.heard_ms_ago(&child).await.is_none() {
                call_child_after(&node, &family, &child).await;
            }
        }
        tokio::time::sleep(CALL_EVERY).await;
    }
}

async fn call_child_after(node: &Node, family: &Family, child: &TierPath) {
    let places = family.folder().former_places(child);
    for before in places {
        let subject = format!("ctl.{before}._.tree.follow");
        let body = json!(Follow { site: child.clone() }).to_string();
        match node.bus.request(&subject, &Headers::new(), body, CALL_TIMEOUT).await {
            Ok(_) => node.logs.add("info", "tree", &format!("{before} follows, as {child}")),
            Err(e) if e.not_done() => {}
            Err(e) => node.logs.add("warn", "tree", &format!("{before} does not follow: {e}")),
        }
    }
}

pub(super) fn family(node: &Node) -> Result<&Arc<Family>, Refusal> {
    node.family.as_ref().ok_or_else(|| {
        let text = format!("this node of {} does not hold the site's folder", node.bus.site());
        Refusal::new(RefusalKind::NotFound, text)
    })
}

pub(super) fn refusal(error: Error) -> Refusal {
    match error {
        Error::Bad(text) => Refusal::bad(text),
        Error::Refused(refusal) => refusal,
        other => Refusal::new(RefusalKind::Unavailable, other.to_string()),
    }
}

/// Listens for new children until no invitation is open any more; returns the port.
async fn open_door(node: &Arc<Node>, family: &Arc<Family>) -> Result<u16, Error> {
    if let Some(open) = family.door().as_ref().filter(|open| !open.task.is_finished()) {
        return Ok(open.port);
    }
    let (host, port, files) = {
        let folder = family.folder();
        (folder.listen_host(), folder.record.ports.join, folder.listener())
    };
    let door = Door::open(host, port, &files).await?;
    let port = door.port();
    let (node, expecting) = (Arc::downgrade(node), family.clone());
    let task = tokio::spawn(async move {
        let answer = door.answer(move |from, request| {
            let node = node.upgrade();
            async move {
                let node = node.ok_or_else(|| Error::Bad("this node is stopping".into()))?;
                welcome(&node, from, request).await
            }
        });
        tokio::select! {
            () = answer => {}
            () = until_nobody_is_expected(&expecting) => {}
        }
    });
    *family.door() = Some(OpenDoor { port, task });
    Ok(port)
}

/// An invitation that is being made holds the door open a little, too.
async fn until_nobody_is_expected(family: &Family) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if family.folder().roster().open_until_s(now_s()).is_none() {
            return;
        }
    }
}

/// Takes one child in, or says why not; both are in the log.
async fn welcome(
    node: &Node,
    from: SocketAddr,
    request: Result<JoinRequest, Error>,
) -> Result<JoinAnswer, Error> {
    let family = family(node).map_err(|e| Error::Bad(e.message))?;
    let admitted = request.and_then(|request| family.folder().admit(&request, now_s()));
    let outcome = match admitted {
        Ok(answer) => family.reload().await.map(|()| answer),
        Err(e) => Err(e),
    };
    match &outcome {
        Ok(answer) => {
            node.logs.add("info", "tree", &format!("{} joined from {}", answer.site, from.ip()));
        }
        Err(e) => node.logs.add("warn", "tree", &format!("{}: {e}", from.ip())),
    }
    outcome
}
