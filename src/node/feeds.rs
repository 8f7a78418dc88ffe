//! Tables whose changes start handlers: each site follows its own store for the handlers that are
//! placed at it, and puts what changed into its log of events, which delivers it like any other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use handlers::Digest;
use handlers::deploy::table_name;
use handlers::manifest::{Handler, Trigger};
use serde_json::{Value, json};
use store::{Changed, Position};
use tokio::task::JoinHandle;

use super::Node;

/// How often apps are looked over.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one question for changes waits.
const WAIT: Duration = Duration::from_secs(20);
/// Rows of one question.
const ROWS_MAX: usize = 256;
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// Feeds that a site follows at most.
const FEEDS_MAX: usize = 1_024;

/// One table that one trigger follows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Feed {
    app: String,
    table: String,
    topic: String,
}

/// A task that ends with its owner.
struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Follows what the apps of this site name until the node stops.
pub async fn run(node: Arc<Node>, data: PathBuf) {
    let dir = data.join("feeds");
    let mut followers: BTreeMap<Feed, Follower> = BTreeMap::new();
    loop {
        let wanted = wanted(&node);
        followers.retain(|feed, _| wanted.contains(feed));
        for feed in wanted {
            let follow = || Follower(tokio::spawn(follow(node.clone(), feed.clone(), dir.clone())));
            if followers.len() < FEEDS_MAX {
                followers.entry(feed.clone()).or_insert_with(follow);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn wanted(node: &Node) -> Vec<Feed> {
    let mut feeds = Vec::new();
    for app in node.deploy.apps() {
        let view = node.route.view();
        let placed = |handler: &&Handler| app.allows(&handler.name, &view.here);
        for handler in app.manifest.handlers.iter().filter(placed) {
            for trigger in &handler.triggers {
                let Trigger::Table { table, topic } = trigger else { continue };
                let (app, table, topic) = (app.name().into(), table.clone(), topic.clone());
                feeds.push(Feed { app, table, topic });
            }
        }
    }
    feeds
}

async fn follow(node: Arc<Node>, feed: Feed, dir: PathBuf) {
    let file = dir.join(format!("{}.{}.position", feed.app, feed.topic));
    loop {
        if let Err(e) = follow_from(&node, &feed, &file).await {
            let from = format!("{}/{}", feed.app, feed.topic);
            node.logs.add("warn", &from, &format!("changes of {} wait: {e:#}", feed.table));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow_from(node: &Node, feed: &Feed, file: &Path) -> Result<()> {
    let table = table_name(&feed.app, &feed.table);
    let mut position = match std::fs::read_to_string(file) {
        Ok(text) => text.trim().parse()?,
        // A trigger that is new has nothing to do with what was there before it.
        Err(_) => end_of(node, &table).await?,
    };
    save(file, position)?;
    loop {
        let news = node.store.changes(&table, position, ROWS_MAX, WAIT).await?;
        for changed in &news.changes {
            tell(node, feed, changed, news.next).await?;
        }
        if news.next != position {
            position = news.next;
            save(file, position)?;
        }
    }
}

async fn end_of(node: &Node, table: &str) -> Result<Position> {
    let mut position = Position::default();
    loop {
        let past = node.store.changes(table, position, store::CHANGES_MAX, Duration::ZERO).await?;
        position = past.next;
        if past.changes.is_empty() {
            return Ok(position);
        }
    }
}

/// One row that changed, as an event. Told again after a crash it has the same id, and the log
/// drops it.
async fn tell(node: &Node, feed: &Feed, changed: &Changed, at: Position) -> Result<()> {
    let key = store::row_to_json(&changed.key);
    let (row, version) = match &changed.now {
        Some((row, version)) => (store::row_to_json(row), version.to_string()),
        None => (Value::Null, at.to_string()),
    };
    let name = format!("{}.{}", feed.app, feed.topic);
    let id = Digest::of(format!("{name} {key} {version}").as_bytes()).to_string();
    let body = json!({ "table": feed.table, "key": key, "row": row });
    let mut event = bus::Event::new(&name, node.bus.site().as_str(), body.to_string())?;
    event.id = id;
    node.events.publish(&event).await.context("the log of events")?;
    node.metrics.count("changes told", 1);
    Ok(())
}

fn save(file: &Path, position: Position) -> Result<()> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, position.to_string())?;
    std::fs::rename(&fresh, file).with_context(|| file.display().to_string())
}
