//! The heartbeat: up the tree goes who is there, how far, how busy; down come the registry's
//! revision and what the sites above offer. From both the router's view is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use accel::DeviceStatus;
use bus::route::news::{self, INSTALLED_MAX, INTERVAL, News, Offers, TABLES_MAX, Welcome};
use bus::route::policy::{Devices, Pace, Site};
use bus::{Headers, Refusal, RefusalKind, Request, Response, Subject, TierPath};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;

use super::Node;
use super::report::{Brief, rarity};

/// How often, until it was heard for the first time.
const INTERVAL_FIRST: Duration = Duration::from_millis(50);
/// How long the parent may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a silent child is still shown.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// A site that was silent for longer does not keep its path from one that had it before.
const HEARD_MS_MAX: u64 = 5_000;
/// How many children a site may have.
const CHILDREN_MAX: usize = 1_024;
/// How much a site tells its parent each second: itself, and of those below what fits.
const BRIEF_BYTES_MAX: usize = 128 << 10;
/// How many of its apps it names.
const APPS_MAX: usize = 64;
/// How many sites below are kept in the router's view: those with the rarest devices first.
const BELOW_MAX: usize = 256;
/// A device that is set aside for longer is not offered: as often as that, a site tells what it
/// has.
const SET_ASIDE_MS_MAX: u64 = INTERVAL.as_millis() as u64;

/// The children that were heard lately.
#[derive(Default)]
pub struct Children {
    heard: Mutex<BTreeMap<String, (Brief, Instant)>>,
    /// Told when a site joins the subtree, so that the sites above hear of it at once.
    news: Notify,
}

/// What this site has for requests.
pub fn offers(node: &Node) -> Offers {
    let devices = offered(&node.accelerate.devices()).without(node.withheld);
    let whole = node.store.tables().into_iter().filter(|table| table.complete);
    let tables = whole.map(|table| table.spec.name).take(TABLES_MAX).collect();
    let waits_ms = Offers::longest(node.triggers.load.waits());
    // Looked at each second, which is seldom enough.
    let installed = node.route.view().here.installed.clone();
    let paces = Offers::slowest(paces(node));
    Offers { devices, tables, waits_ms, paces, installed }
}

/// How the handlers whose code is here work off what comes.
fn paces(node: &Node) -> Vec<(String, Pace)> {
    let mut found = vec![];
    for app in node.deploy.apps() {
        let ready = app.manifest.handlers.iter().filter(|handler| node.deploy.ready(&app, handler));
        found.extend(ready.filter_map(|handler| {
            let key = app.key(&handler.name)?;
            Some((key.to_string(), node.triggers.load.pace(key, handler.limits.concurrency)))
        }));
    }
    found
}

/// The classes of devices that work, or will in a moment: requests for one that is set aside for
/// longer would run on another, or fail.
fn offered(devices: &[DeviceStatus]) -> Devices {
    let works = |device: &&DeviceStatus| device.quarantined_ms <= SET_ASIDE_MS_MAX;
    let class = |device: &DeviceStatus| match device.kind.as_str() {
        _ if device.on_cpu => Devices::CPU,
        // It has kernels run on the CPU, whatever codes.
        "encoder" => Devices::CPU,
        "xrt" => Devices::FPGA,
        _ => Devices::GPU,
    };
    devices.iter().filter(works).map(class).fold(Devices::default(), Devices::with)
}

/// The handlers whose code is here, when they are not too many.
fn installed(node: &Node) -> Option<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for app in node.deploy.apps() {
        let ready = app.manifest.handlers.iter().filter(|handler| node.deploy.ready(&app, handler));
        found.extend(ready.filter_map(|handler| app.key(&handler.name)).map(|key| key.to_string()));
        if found.len() > INSTALLED_MAX {
            return None;
        }
    }
    Some(found)
}

fn here(node: &Node, now: Instant) -> Site {
    let site = node.bus.site().clone();
    offers(node).site(site, node.class, Duration::ZERO, now)
}

/// Keeps the router's view of this site and of those below up to date, until the node stops.
pub async fn keep_looking(node: Arc<Node>) {
    loop {
        look(&node).await;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Keeps what is known of the site's servers up to date, where there are several.
pub async fn watch_servers(node: Arc<Node>) {
    loop {
        node.look_at_servers().await;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Takes what this site has and what was heard from below into the router's view.
pub async fn look(node: &Node) {
    let now = Instant::now();
    let mut below = vec![];
    let briefs = node.children.briefs().await;
    for brief in &briefs {
        collect(brief, (Duration::ZERO, now), &mut below);
    }
    note_places(node, &briefs);
    // What only some sites have is to be known before all else.
    let rarity = rarity(below.iter().map(|site| site.devices).collect());
    below.sort_by_key(|site| rarity(site.devices));
    below.truncate(BELOW_MAX);
    for site in &mut below {
        site.bytes_per_s = node.route.bytes_per_s(&site.path);
    }
    let here = Site { installed: installed(node), ..here(node, now) };
    node.route.note_sites(here, below);
}

/// Where sites are that were moved, by what those say of themselves that were heard lately. The
/// path of a child that may connect is nobody's former one, heard or not.
fn note_places(node: &Node, briefs: &[Brief]) {
    let mut heard = vec![];
    for brief in briefs {
        if let Some(left) = HEARD_MS_MAX.checked_sub(brief.heard_ms_ago) {
            heard.push(brief);
            heard.extend(brief.heard_below(left));
        }
    }
    let said = heard.iter().map(|brief| (&brief.path, brief.former.as_slice()));
    let children = node.family.as_ref().map(|family| family.children()).unwrap_or_default();
    node.places.note_below(&said.collect::<Vec<_>>(), children);
}

/// The sites of a subtree that can be reached: the way to whom told of it, and when that was heard.
fn collect(brief: &Brief, (rtt, heard): (Duration, Instant), found: &mut Vec<Site>) {
    let Some(link) = brief.link.as_ref().filter(|link| link.up) else { return };
    let rtt = rtt + Duration::from_micros(link.rtt_us);
    let age = Duration::from_millis(brief.heard_ms_ago);
    let Some(heard) = heard.checked_sub(age) else { return };
    found.push(brief.offers.clone().site(brief.path.clone(), brief.class, rtt, heard));
    brief.children.iter().for_each(|child| collect(child, (rtt, heard), found));
}

impl Children {
    /// The subtree below this site, as last heard.
    pub async fn briefs(&self) -> Vec<Brief> {
        let mut heard = self.heard.lock().await;
        heard.retain(|_, (_, at)| at.elapsed() < FORGET_AFTER);
        let aged = heard.values().map(|(brief, at)| {
            let heard_ms_ago = at.elapsed().as_millis() as u64;
            Brief { heard_ms_ago, ..brief.clone() }
        });
        aged.collect()
    }

    /// How long ago a child was heard, in ms.
    pub async fn heard_ms_ago(&self, path: &TierPath) -> Option<u64> {
        let heard = self.heard.lock().await;
        heard.get(path.as_str()).map(|(_, at)| at.elapsed().as_millis() as u64)
    }

    /// Forgets a child that was removed.
    pub async fn forget(&self, path: &TierPath) {
        self.heard.lock().await.remove(path.as_str());
        self.news.notify_one();
    }

    async fn note(&self, brief: Brief) -> Result<(), Refusal> {
        let mut heard = self.heard.lock().await;
        let key = brief.path.to_string();
        if !heard.contains_key(&key) && heard.len() >= CHILDREN_MAX {
            let text = format!("a site has at most {CHILDREN_MAX} children");
            return Err(Refusal::new(RefusalKind::Overloaded, text));
        }
        let size = brief.size();
        let before = heard.insert(key, (brief, Instant::now()));
        if before.is_none_or(|(before, _)| before.size() != size) {
            self.news.notify_one();
        }
        Ok(())
    }
}

/// Answers the heartbeat of a child: `ctl.<site>._.site.<child>.hello`.
pub async fn welcome(node: &Node, request: &Request) -> Result<Response, Refusal> {
    let subject = Subject::parse(&request.subject).map_err(|e| Refusal::bad(e.to_string()))?;
    let child = subject.name.split('.').nth(1).unwrap_or_default();
    let brief: Brief = serde_json::from_slice(&request.payload)
        .map_err(|e| Refusal::bad(format!("heartbeat of {child}: {e}")))?;
    let expected = node.bus.site().child(child).map_err(|e| Refusal::bad(e.to_string()))?;
    if brief.path != expected || !brief.is_tree() {
        let speaks_for = match brief.path == expected {
            true => "sites that are not below it".to_owned(),
            false => brief.path.to_string(),
        };
        let text = format!("heartbeat of {expected} speaks for {speaks_for}");
        node.logs.add("warn", "tree", &text);
        return Err(Refusal::new(RefusalKind::NotGranted, text));
    }
    node.children.note(brief).await?;
    let (now, view) = (Instant::now(), node.route.view());
    let above = news::tell(&here(node, now), &view.above, now);
    let others = node.family.as_ref().map(|family| family.folder().leaf_addresses().1);
    Response::json(&Welcome { revision: node.deploy.revision(), above, others })
}

/// Takes what the parent told; what is not above this site is left out.
fn note_welcome(node: &Node, told: Vec<News>, measured: Duration) {
    let (here, route) = (node.bus.site(), &node.route);
    let rtt = news::smooth(&route.view().parent, measured);
    let link = here.parent().and_then(|parent| route.bytes_per_s(&parent));
    let own = |path: &TierPath| route.bytes_per_s(path);
    let above = news::take(told, here, (rtt, link), own, Instant::now());
    route.note_parent(Some((rtt, above)));
}

/// Takes what the parent told of its servers. Whoever runs the site starts it again with them.
fn note_servers(node: &Node, parent: &TierPath, others: &[String]) {
    let Some(family) = &node.family else { return };
    let noted = family.folder().know_parent(others);
    match noted {
        Ok(false) => {}
        Ok(true) => {
            let text = format!("{parent} has {} nats-servers from now on", 1 + others.len());
            node.logs.add("info", "tree", &text);
        }
        Err(e) => node.logs.add("warn", "tree", &format!("the servers of {parent}: {e}")),
    }
}

/// Speaks to the parent until the node stops.
pub async fn run(node: Arc<Node>, parent: TierPath) {
    let subject = format!("ctl.{parent}._.site.{}.hello", node.bus.site().name());
    let mut misses = 0;
    let mut heard_once = false;
    let mut is_cut = false;
    // Each app takes a request, and the parent is to hear of this site meanwhile.
    let mut catching_up = JoinSet::new();
    loop {
        let mut brief = node.brief().await;
        brief.name_apps(APPS_MAX);
        brief.cut(BRIEF_BYTES_MAX);
        let left_out = brief.size() - 1 - brief.below().len();
        if std::mem::replace(&mut is_cut, left_out > 0) != is_cut {
            let all = brief.size() - 1;
            let text = format!("{parent} is told of {} sites of {all} below", all - left_out);
            node.logs.add("info", "tree", &text);
        }
        let body = serde_json::to_vec(&brief).unwrap_or_default();
        let started = Instant::now();
        let answer = node.bus.request(&subject, &Headers::new(), body, TIMEOUT).await;
        match answer {
            Ok(response) => {
                misses = 0;
                let (took, was_away) = (started.elapsed(), !node.parent_up());
                let welcome = serde_json::from_slice(&response.payload);
                let Welcome { revision, above, others } = welcome.unwrap_or_default();
                note_welcome(&node, above, took);
                if let Some(others) = others {
                    note_servers(&node, &parent, &others);
                }
                if was_away {
                    node.on_parent_back(&parent, heard_once);
                }
                heard_once = true;
                while catching_up.try_join_next().is_some() {}
                if catching_up.is_empty() {
                    let deploy = node.deploy.clone();
                    catching_up.spawn(async move { deploy.catch_up(revision).await });
                }
            }
            Err(e) => {
                misses += 1;
                // A lost answer is no lost parent; nobody listening is.
                if e.not_done() || misses > 1 {
                    if node.parent_up() {
                        node.logs.add("warn", "route", &format!("parent {parent} is away: {e}"));
                    }
                    node.route.note_parent(None);
                }
            }
        }
        let pause = if heard_once { INTERVAL } else { INTERVAL_FIRST };
        let _ = tokio::time::timeout(pause, node.children.news.notified()).await;
    }
}

#[cfg(test)]
mod tests;
