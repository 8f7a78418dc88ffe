//! The heartbeat up the tree: who is there, how far, how busy; and the registry's revision down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Headers, Refusal, RefusalKind, Request, Response, Subject, TierPath};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};

use super::Node;
use super::report::Brief;

/// How often a node speaks to its parent.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often, until it was heard for the first time.
const INTERVAL_FIRST: Duration = Duration::from_millis(50);
/// How long the parent may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a silent child is still shown.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// How many children a site may have.
const CHILDREN_MAX: usize = 1_024;

/// The children that were heard lately.
#[derive(Default)]
pub struct Children {
    heard: Mutex<BTreeMap<String, (Brief, Instant)>>,
    /// Told when a site joins the subtree, so that the sites above hear of it at once.
    news: Notify,
}

/// The parent's answer to a heartbeat.
#[derive(Serialize, Deserialize)]
struct Welcome {
    /// The revision of the registry that the parent has.
    revision: u64,
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
    if brief.path != expected || brief.children.iter().any(|below| !expected.contains(&below.path))
    {
        let text = format!("heartbeat of {expected} speaks for {}", brief.path);
        return Err(Refusal::new(RefusalKind::NotGranted, text));
    }
    node.children.note(brief).await?;
    Response::json(&Welcome { revision: node.deploy.revision() })
}

/// Speaks to the parent until the node stops.
pub async fn run(node: Arc<Node>, parent: TierPath) {
    let subject = format!("ctl.{parent}._.site.{}.hello", node.bus.site().name());
    let mut misses = 0;
    let mut heard_once = false;
    loop {
        let brief = node.brief().await;
        let body = serde_json::to_vec(&brief).unwrap_or_default();
        let started = Instant::now();
        let answer = node.bus.request(&subject, &Headers::new(), body, TIMEOUT).await;
        match answer {
            Ok(response) => {
                misses = 0;
                let was_away = !node.parent_up();
                node.route.note_parent(Some(started.elapsed()));
                if was_away {
                    node.on_parent_back(&parent, heard_once);
                }
                heard_once = true;
                let welcome: Result<Welcome, _> = serde_json::from_slice(&response.payload);
                if let Ok(welcome) = welcome {
                    node.deploy.catch_up(welcome.revision).await;
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
