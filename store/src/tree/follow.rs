//! Replicas: getting them from the parent and keeping them fresh.
//!
//! One task per table subscribes first and fetches second, so nothing falls between. It notices
//! a lost message by the chain of entry numbers, and a lost last message by comparing with the
//! parent at intervals; then it fetches what changed since.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};

use crate::engine::KeepEmpty;
use crate::error::{Error, Result};
use crate::record::{self, Batch, Body, Entry, Extent, Source};

use super::wire::{Changes, Fetch, Heads, HeadsAre, Page, op};
use super::{Backoff, Tree};

/// Requests for replicas of one table that wait at once; more are answered by the parent.
const WAITING_MAX: usize = 64;

/// Handle of the task that follows a table.
pub struct Follower {
    wishes: mpsc::Sender<Wish>,
    status: Arc<FollowStatus>,
    /// What has been asked for and not been answered.
    under_way: Arc<Mutex<BTreeSet<Extent>>>,
}

/// How fresh the replicas of a table are.
#[derive(Debug, Default)]
pub struct FollowStatus {
    /// Wall time when the replicas were last known to equal the parent's, 0 if never.
    equal_at_ms: AtomicU64,
    /// Age of the parent's own copy then.
    parent_age_ms: AtomicU64,
}

/// A request for a replica.
struct Wish {
    extent: Extent,
    done: Option<oneshot::Sender<Result<()>>>,
}

impl FollowStatus {
    /// Upper bound of the age of the replicas, milliseconds.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        let since = now_ms.saturating_sub(self.equal_at_ms.load(Ordering::Relaxed));
        since + self.parent_age_ms.load(Ordering::Relaxed)
    }

    fn is_equal(&self, now_ms: u64, parent_age_ms: u64) {
        self.parent_age_ms.store(parent_age_ms, Ordering::Relaxed);
        self.equal_at_ms.store(now_ms, Ordering::Relaxed);
    }
}

impl Tree {
    /// Asks for a replica without waiting for it.
    pub fn wish(self: &Arc<Self>, table: &str, extent: &Extent) {
        let (wishes, under_way) = self.follower(table);
        let is_new = crate::lock(&under_way).insert(extent.clone());
        let wish = Wish { extent: extent.clone(), done: None };
        if is_new && wishes.try_send(wish).is_err() {
            crate::lock(&under_way).remove(extent);
        }
    }

    /// Gets a replica, unless it is here; waits for it up to the request time-out.
    pub async fn acquire(self: &Arc<Self>, table: &str, extent: &Extent) -> Result<()> {
        if self.engine.is_root() || self.engine.read().table(table)?.holds(extent) {
            return Ok(());
        }
        let busy = || Error::Busy(format!("replica of table {table:?}"));
        let (wishes, _) = self.follower(table);
        let (done, acquired) = oneshot::channel();
        let wish = Wish { extent: extent.clone(), done: Some(done) };
        wishes.try_send(wish).map_err(|_| busy())?;
        // The one who asked waits too, and shorter than that is of no use to it.
        let patience = self.request_timeout().mul_f64(0.8);
        match tokio::time::timeout(patience, acquired).await {
            Ok(Ok(outcome)) => outcome,
            _ => Err(busy()),
        }
    }

    /// Upper bound of the age of what this site holds of a table, milliseconds.
    pub fn age_ms(&self, table: &str) -> u64 {
        let followers = crate::lock(&self.followers);
        match followers.get(table) {
            Some(follower) if !self.engine.is_root() => {
                follower.status.age_ms(self.engine.now_ms())
            }
            _ => 0,
        }
    }

    /// Follows what the log says is held.
    pub(super) fn follow_held(self: &Arc<Self>) {
        let held: Vec<String> = {
            let state = self.engine.read();
            let tables = state.tables.iter().filter(|(_, t)| !t.extents.is_empty());
            tables.map(|(name, _)| name.clone()).collect()
        };
        for table in held {
            self.follower(&table);
        }
    }

    fn follower(
        self: &Arc<Self>,
        table: &str,
    ) -> (mpsc::Sender<Wish>, Arc<Mutex<BTreeSet<Extent>>>) {
        let mut followers = crate::lock(&self.followers);
        let follower = followers.entry(table.into()).or_insert_with(|| {
            let (wishes, granted) = mpsc::channel(WAITING_MAX);
            let status = Arc::new(FollowStatus::default());
            let under_way = Arc::new(Mutex::new(BTreeSet::new()));
            let task = Task {
                tree: self.clone(),
                table: table.into(),
                wishes: granted,
                status: status.clone(),
                under_way: under_way.clone(),
                behind: true,
                head_seen: 0,
            };
            self.spawn(task.run());
            Follower { wishes, status, under_way }
        });
        (follower.wishes.clone(), follower.under_way.clone())
    }
}

/// The task that follows a table.
struct Task {
    tree: Arc<Tree>,
    table: String,
    wishes: mpsc::Receiver<Wish>,
    status: Arc<FollowStatus>,
    under_way: Arc<Mutex<BTreeSet<Extent>>>,
    /// True if something was missed that has to be fetched.
    behind: bool,
    /// Where the parent stood at the last comparison.
    head_seen: u64,
}

impl Task {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            match self.tree.link.subscribe_parent_changes(&self.table).await {
                Ok(changes) => {
                    backoff = Backoff::new();
                    self.behind = true;
                    self.follow(changes).await;
                }
                Err(error) => {
                    tracing::debug!(table = self.table, %error, "cannot follow, trying again");
                    self.refuse_wishes(&error.to_string());
                }
            }
            backoff.pause().await;
        }
    }

    /// Returns when the subscription has ended.
    async fn follow(&mut self, mut changes: BoxStream<'static, Bytes>) {
        let interval = Duration::from_millis(self.tree.engine.config.compare_interval_ms.max(10));
        let mut compare = tokio::time::interval(interval);
        compare.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                wish = self.wishes.recv() => match wish {
                    Some(wish) => self.grant(wish).await,
                    None => return,
                },
                message = changes.next() => match message {
                    Some(message) => self.take(&message).await,
                    None => return,
                },
                _ = compare.tick() => self.compare().await,
            }
            if self.behind && self.followed().is_some() && self.catch_up().await.is_ok() {
                self.behind = false;
            }
        }
    }

    async fn grant(&mut self, wish: Wish) {
        let held = self.holds(&wish.extent);
        let outcome = if held { Ok(()) } else { self.get(&wish.extent).await };
        crate::lock(&self.under_way).remove(&wish.extent);
        if let Err(error) = &outcome {
            tracing::debug!(table = self.table, %error, "replica not acquired");
        }
        if let Some(done) = wish.done {
            // Whoever asked may have stopped waiting.
            let _ = done.send(outcome);
        }
    }

    async fn get(&mut self, extent: &Extent) -> Result<()> {
        // The feed waits meanwhile: what it brings afterwards is older than the replica, and
        // skipped, or newer, and taken.
        let (store, as_of) = self.fetch(extent, (0, 0)).await?;
        let (table, extent) = (self.table.clone(), extent.clone());
        let seq = self.tree.engine.note(Body::Hold { table, extent, parent: store, seq: as_of })?;
        self.tree.engine.wal.wait(seq).await?;
        self.status.is_equal(self.tree.engine.now_ms(), 0);
        Ok(())
    }

    /// Fetches everything missed.
    async fn catch_up(&mut self) -> Result<()> {
        let Some(after) = self.followed() else { return Ok(()) };
        // Rows tell of a column that is new, but not of one that was dropped or widened.
        self.tree.describe(&self.table).await?;
        let mut reached: Option<(u64, u64)> = None;
        for extent in self.extents() {
            let (store, as_of) = self.fetch(&extent, after).await?;
            if store != after.0 {
                let (table, parent) = (self.table.clone(), store);
                self.tree.engine.note(Body::Hold { table, extent, parent, seq: as_of })?;
            }
            reached = Some(reached.map_or((store, as_of), |(s, at)| (s, at.min(as_of))));
        }
        if let Some((store, as_of)) = reached {
            self.tree.engine.advance(&self.table, store, as_of);
        }
        Ok(())
    }

    /// Takes over all pages of an extent; returns the store and the entry it is complete to.
    async fn fetch(&self, extent: &Extent, after: (u64, u64)) -> Result<(u64, u64)> {
        let (table, extent) = (self.table.clone(), extent.clone());
        let mut request = Fetch { table, extent, from: Vec::new(), after };
        let mut first: Option<(u64, u64)> = None;
        loop {
            self.tree.engine.room().await?;
            let page: Page = self.tree.ask_parent(op::FETCH, &request).await?;
            let (store, as_of) = *first.get_or_insert((page.store, page.as_of));
            if page.store != store {
                return Err(Error::Busy(format!("replica of table {:?}", self.table)));
            }
            let source = Source::Parent { store, seq: 0 };
            self.tree.know_columns(&page.rows).await?;
            self.tree.engine.take_over(source, Body::Rows(page.rows), KeepEmpty::No)?;
            match page.rest {
                Some(rest) => request.from = rest,
                None => return Ok((store, as_of)),
            }
        }
    }

    /// Carries out one message of the feed, unless something before it is missing.
    async fn take(&mut self, message: &[u8]) {
        let taken = match self.tree.engine.room().await {
            Ok(()) => self.try_take(message),
            full => full,
        };
        if let Err(error) = taken {
            tracing::warn!(table = self.table, %error, "message of the change feed not usable");
            self.behind = true;
        }
    }

    fn try_take(&mut self, message: &[u8]) -> Result<()> {
        let changes: Changes = record::decode("change feed message", message)?;
        let Some((store, at)) = self.followed() else { return Ok(()) };
        if changes.store != store || changes.prev > at {
            self.behind = true;
            return Ok(());
        }
        for bytes in &changes.entries {
            let entry: Entry = record::decode("change feed entry", bytes)?;
            if entry.seq > at {
                self.take_entry(store, entry)?;
            }
        }
        Ok(())
    }

    fn take_entry(&self, store: u64, entry: Entry) -> Result<()> {
        let engine = &self.tree.engine;
        let is_ours = matches!(entry.source, Source::Child { store, .. } if store == engine.id);
        if !is_ours {
            let body = match entry.body {
                Body::Rows(batch) => Body::Rows(self.only_held(batch)?),
                body => body,
            };
            let source = Source::Parent { store, seq: entry.seq };
            engine.take_over(source, body, KeepEmpty::No)?;
        }
        engine.advance(&self.table, store, entry.seq);
        Ok(())
    }

    /// Leaves out the rows of partitions that are not replicated here.
    fn only_held(&self, mut batch: Batch) -> Result<Batch> {
        let state = self.tree.engine.read();
        let table = state.table(&self.table)?;
        if table.extents.contains(&Extent::Whole) {
            return Ok(batch);
        }
        let spec = &table.schema;
        batch.rows.retain(|(key, _)| {
            let partition = spec.key_row(key).and_then(|row| spec.partition_of(&row));
            let extent = Extent::Partition(partition.ok().flatten().unwrap_or_default());
            table.extents.contains(&extent)
        });
        Ok(batch)
    }

    /// Compares with the parent. A difference seen twice is one that no message will mend.
    async fn compare(&mut self) {
        if self.followed().is_none() {
            return;
        }
        let request = Heads { tables: vec![self.table.clone()] };
        let Ok(answer) = self.tree.ask_parent::<HeadsAre>(op::HEADS, &request).await else {
            return;
        };
        let Some(((head, age_ms), (store, at))) =
            answer.heads.first().copied().zip(self.followed())
        else {
            return;
        };
        if answer.store == store && at >= head {
            self.status.is_equal(self.tree.engine.now_ms(), age_ms);
        } else if answer.store != store || at < self.head_seen {
            self.behind = true;
        }
        self.head_seen = head;
    }

    fn refuse_wishes(&mut self, reason: &str) {
        while let Ok(wish) = self.wishes.try_recv() {
            crate::lock(&self.under_way).remove(&wish.extent);
            if let Some(done) = wish.done {
                let what = format!("change feed of table {:?}", self.table);
                let _ = done.send(Err(Error::Unreachable { what, reason: reason.into() }));
            }
        }
    }

    fn followed(&self) -> Option<(u64, u64)> {
        self.tree.engine.read().tables.get(&self.table)?.followed
    }

    fn extents(&self) -> Vec<Extent> {
        let state = self.tree.engine.read();
        state.tables.get(&self.table).map_or(Vec::new(), |t| t.extents.iter().cloned().collect())
    }

    fn holds(&self, extent: &Extent) -> bool {
        self.tree.engine.read().tables.get(&self.table).is_some_and(|t| t.holds(extent))
    }
}
