//! Changes climb: the child's side ([`push`]) and the parent's ([`Tree::take_up`]).
//!
//! One batch is under way at a time; what is written meanwhile goes with the next. The child
//! keeps its log until the parent has acknowledged it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::engine::{KeepEmpty, Logged, ahead_ms};
use crate::error::{Error, Result};
use crate::record::{self, Body, Entry, Source};
use crate::wal::Durable;

use super::wire::{BATCH_BYTES, Up, UpDone, op};
use super::{Backoff, Tree};

/// Where the child's side stands.
struct Push {
    tree: Arc<Tree>,
    /// The last entry that the parent has.
    cursor: u64,
    /// The last entry that has been looked at; those between are not for the parent.
    seen: u64,
    /// Entries after it that have been read.
    backlog: VecDeque<Logged>,
    /// The parent's store for which everything has been logged again.
    logged_again_for: Option<u64>,
}

/// What a step of the child's side came to.
enum Step {
    /// Something was sent, or waits to be.
    Went,
    /// The parent's standing is to be asked for again.
    AskAgain,
}

/// After so many quiet comparison intervals the child asks where the parent stands: it may have
/// been replaced.
const QUIET_INTERVALS: u64 = 30;
/// Bytes of entries read at a time.
const BACKLOG_BYTES: usize = 4 << 20;

/// Sends this site's changes to the parent for as long as the site is in the tree.
pub async fn push(tree: Arc<Tree>) {
    let mut backoff = Backoff::new();
    let mut push =
        Push { tree, cursor: 0, seen: 0, backlog: VecDeque::new(), logged_again_for: None };
    let mut known = false;
    loop {
        let step = if known { push.step().await } else { push.begin().await };
        match step {
            Ok(step) => {
                known = matches!(step, Step::Went);
                backoff = Backoff::new();
            }
            Err(error) => {
                if let Error::ClockAhead { ahead_ms, .. } = error {
                    let site = &push.tree.engine.config.site;
                    tracing::warn!(site, ahead_ms, "parent quarantines our changes: clock ahead");
                } else {
                    tracing::debug!(%error, "changes do not get up, trying again");
                }
                known = false;
                backoff.pause().await;
            }
        }
    }
}

impl Push {
    /// Learns where the parent stands.
    async fn begin(&mut self) -> Result<Step> {
        let done = self.send(0, Vec::new()).await?;
        self.cursor = done.cursor;
        self.go_on_after(done.cursor);
        let engine = self.tree.engine.clone();
        if engine.read().climbed > done.cursor && engine.wal.first_seq() > done.cursor + 1 {
            if self.logged_again_for != Some(done.store) {
                tracing::warn!("parent has lost what it had, sending everything again");
                engine.log_again().await?;
                self.logged_again_for = Some(done.store);
            }
            self.go_on_after(engine.wal.first_seq().saturating_sub(1));
        }
        Ok(Step::Went)
    }

    /// Sends the next entries, or waits until there are some.
    async fn step(&mut self) -> Result<Step> {
        let engine = self.tree.engine.clone();
        let mut durable = engine.wal.durable();
        durable.mark_unchanged();
        if self.backlog.is_empty() {
            self.backlog = engine.entries_after(self.seen, BACKLOG_BYTES).await?.into();
        }
        let batch = next_batch(&self.backlog);
        let Some(last) = batch.last().map(|e| e.seq) else {
            return Ok(wait_for_more(&self.tree, &mut durable).await);
        };
        let climbing: Vec<&&Logged> = batch.iter().filter(|e| e.source.climbs()).collect();
        let climbed = climbing.last().map_or(0, |e| e.seq);
        if climbed > 0 {
            let bytes = climbing.iter().map(|e| e.bytes.to_vec()).collect();
            let done = self.send(self.cursor, bytes).await?;
            for (seq, reason) in &done.refused {
                tracing::error!(seq, reason, "parent refuses a change; it stays at this site");
            }
            if done.cursor < self.cursor {
                return Ok(Step::AskAgain);
            }
            self.cursor = done.cursor;
            if done.cursor < climbed {
                self.go_on_after(done.cursor);
                return Ok(Step::Went);
            }
        }
        self.seen = last;
        self.backlog.retain(|e| e.seq > last);
        engine.acknowledge(last, climbed);
        if let Err(error) = engine.trim_log().await {
            tracing::warn!(%error, "log file cannot be removed");
        }
        Ok(Step::Went)
    }

    fn go_on_after(&mut self, seq: u64) {
        self.seen = seq;
        self.backlog.clear();
    }

    async fn send(&self, prev: u64, entries: Vec<Vec<u8>>) -> Result<UpDone> {
        let engine = &self.tree.engine;
        let site = engine.config.site.clone();
        self.tree.ask_parent(op::UP, &Up { store: engine.id, site, prev, entries }).await
    }
}

async fn wait_for_more(tree: &Tree, durable: &mut watch::Receiver<Durable>) -> Step {
    let quiet_ms = tree.engine.config.compare_interval_ms * QUIET_INTERVALS;
    match tokio::time::timeout(Duration::from_millis(quiet_ms), durable.changed()).await {
        Ok(Ok(())) => Step::Went,
        // The log has ended: so has this store.
        Ok(Err(_)) => std::future::pending().await,
        Err(_) => Step::AskAgain,
    }
}

/// Entries from the front that fit one message.
fn next_batch(backlog: &VecDeque<Logged>) -> Vec<&Logged> {
    let mut bytes = 0;
    let fits = |e: &&Logged| {
        let room = bytes <= BATCH_BYTES;
        bytes += if e.source.climbs() { e.bytes.len() } else { 0 };
        room
    };
    backlog.iter().take_while(fits).collect()
}

impl Tree {
    /// Takes a child's changes. The answer is given when they are synced here.
    pub async fn take_up(&self, from: &str, up: Up) -> Result<UpDone> {
        let engine = &self.engine;
        let is_child =
            up.site.rsplit_once('.').map(|(parent, _)| parent) == Some(engine.config.site.as_str());
        if up.site != from || !is_child {
            return Err(Error::BadRequest(format!(
                "{from:?} may not send changes of {:?} to {:?}",
                up.site, engine.config.site
            )));
        }
        engine.room().await?;
        let mut done =
            UpDone { store: engine.id, cursor: self.cursor_of(&up)?, refused: Vec::new() };
        if up.prev > done.cursor {
            return Ok(done);
        }
        let mut last = 0;
        for bytes in &up.entries {
            let entry: Entry = record::decode("climbing entry", bytes)?;
            if entry.seq <= done.cursor {
                continue;
            }
            if let Some(ahead_ms) = ahead_ms(&entry.body, engine.now_ms()) {
                tracing::warn!(
                    site = from,
                    ahead_ms,
                    "changes quarantined at the child: clock ahead"
                );
                if last == 0 {
                    return Err(Error::ClockAhead { site: up.site, ahead_ms });
                }
                break;
            }
            if let Err(error) = self.know_table_of(&entry.body).await {
                if last == 0 {
                    return Err(error);
                }
                break;
            }
            last = self.take_entry(&up, entry.seq, entry.body, &mut done)?;
            done.cursor = entry.seq;
        }
        engine.wal.wait(last).await?;
        Ok(done)
    }

    /// A child that was under another parent may hold tables of which this site never heard: it
    /// asks further up. Fails only where asking again may help.
    async fn know_table_of(&self, body: &Body) -> Result<()> {
        let Body::Rows(batch) = body else { return Ok(()) };
        if self.engine.is_root() || self.engine.read().tables.contains_key(&batch.table) {
            return Ok(());
        }
        match self.describe(&batch.table).await {
            Err(error) if error.retryable() => Err(error),
            _ => Ok(()),
        }
    }

    fn take_entry(&self, up: &Up, seq: u64, body: Body, done: &mut UpDone) -> Result<u64> {
        let source = Source::Child { store: up.store, seq };
        match self.engine.take_over(source, body, KeepEmpty::Yes) {
            Ok(logged) => Ok(logged),
            // The fault is ours and may pass: the child keeps the change and comes again.
            Err(error) if error.retryable() || matches!(error, Error::Stopped(_)) => Err(error),
            Err(error) => {
                tracing::error!(site = up.site, seq, %error, "change of a child refused");
                done.refused.push((seq, error.to_string()));
                let site = up.site.clone();
                self.engine.note(Body::Child { store: up.store, site, seq })
            }
        }
    }

    /// The last entry of the child that is dealt with; makes its acquaintance if need be.
    fn cursor_of(&self, up: &Up) -> Result<u64> {
        let known = self.engine.read().children.get(&up.store).cloned();
        match known {
            Some((site, cursor)) if site == up.site => Ok(cursor),
            known => {
                let seq = known.map_or(0, |(_, cursor)| cursor);
                let site = up.site.clone();
                self.engine.note(Body::Child { store: up.store, site, seq })?;
                Ok(seq)
            }
        }
    }
}
