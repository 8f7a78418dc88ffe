//! The change feed that a site offers its children, one per table.
//!
//! Only durable entries are published, and only while a child has lately asked for the table.
//! Each message names the entry that touched the table before, so that a follower notices a
//! message it did not get. Nothing is repeated: a follower that missed something fetches it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::engine::Logged;
use crate::record;

use super::Tree;
use super::wire::{BATCH_BYTES, Changes};

/// How long a feed goes on after a child last asked, in comparison intervals.
const KEPT_INTERVALS: u32 = 10;

/// Tables that children follow, and until when.
#[derive(Default)]
pub struct Feeds {
    until: Mutex<HashMap<String, Instant>>,
}

impl Feeds {
    fn is_wanted(&self, table: &str, now: Instant) -> bool {
        let mut until = crate::lock(&self.until);
        match until.get(table) {
            Some(end) if *end > now => true,
            Some(_) => {
                until.remove(table);
                false
            }
            None => false,
        }
    }
}

impl Tree {
    /// Keeps the feed of a table going for some time.
    pub fn want_feed(&self, table: &str) {
        let interval = Duration::from_millis(self.engine.config.compare_interval_ms.max(100));
        let end = Instant::now() + interval * KEPT_INTERVALS;
        crate::lock(&self.feeds.until).insert(table.into(), end);
    }
}

/// Publishes changes for as long as the site is in the tree.
pub async fn publish(tree: Arc<Tree>) {
    let engine = tree.engine.clone();
    let mut durable = engine.wal.durable();
    let mut published = durable.borrow_and_update().seq;
    while durable.changed().await.is_ok() {
        let end = durable.borrow_and_update().seq;
        while published < end {
            let entries = match engine.entries_after(published, BATCH_BYTES).await {
                Ok(entries) => entries,
                Err(error) => {
                    tracing::warn!(%error, "feed skips ahead, followers will fetch");
                    Vec::new()
                }
            };
            published = entries.last().map_or(end, |e| e.seq);
            publish_entries(&tree, &entries).await;
        }
    }
    // The log has ended: so has this store.
    std::future::pending().await
}

async fn publish_entries(tree: &Tree, entries: &[Logged]) {
    let now = Instant::now();
    let mut by_table: HashMap<&str, Changes> = HashMap::new();
    for entry in entries {
        let Some((table, prev)) = &entry.table else { continue };
        if !tree.feeds.is_wanted(table, now) {
            continue;
        }
        let store = tree.engine.id;
        let changes = by_table.entry(table).or_insert_with(|| Changes {
            store,
            prev: *prev,
            entries: Vec::new(),
        });
        changes.entries.push(entry.bytes.to_vec());
    }
    for (table, changes) in by_table {
        let payload = record::encode(&changes).into();
        if let Err(error) = tree.link.publish_changes(table, payload).await {
            tracing::debug!(table, %error, "changes not published, followers will fetch");
        }
    }
}
