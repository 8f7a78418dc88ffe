//! The tree protocol: changes climb to the root, replicas come down on demand.
//!
//! * **Up** ([`up`]): a site sends what it and its children wrote, in order, to its parent; the
//!   parent's answer means *synced there*. Redelivery is harmless, nothing is skipped.
//! * **Down** ([`feed`], [`follow`]): a site that holds a replica follows its parent's change
//!   feed. Messages carry the number of the message before, so a lost one is noticed and what it
//!   held is fetched. Closure: whatever a site holds, its ancestors hold.
//! * **On demand** ([`ask`]): a read of what is not held here is answered by the nearest ancestor
//!   that holds it, while a replica is fetched.
//! * **Owner** ([`owner`]): what has conditions is decided in one place.
//! * **Removals** of blobs ([`remove`]) go down to the site that took them.
//!
//! The root holds everything. Nothing here knows the network: see [`crate::Link`].

pub mod ask;
mod feed;
mod follow;
pub mod owner;
mod remove;
mod up;
pub mod wire;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::link::Link;
use crate::record;

/// First and longest pause before something that failed is tried again.
const BACKOFF_MS: (u64, u64) = (50, 2_000);

/// A store's place in the tree.
pub struct Tree {
    engine: Arc<Engine>,
    link: Arc<dyn Link>,
    followers: Mutex<HashMap<String, follow::Follower>>,
    feeds: feed::Feeds,
    answers: owner::Answers,
    tasks: Mutex<JoinSet<()>>,
    stop: watch::Sender<bool>,
}

impl Tree {
    /// Joins the tree: starts sending up, publishing down, and following what is held.
    pub fn join(engine: Arc<Engine>, link: Arc<dyn Link>) -> Arc<Self> {
        let tree = Arc::new(Tree {
            engine,
            link,
            followers: Mutex::default(),
            feeds: feed::Feeds::default(),
            answers: owner::Answers::default(),
            tasks: Mutex::default(),
            stop: watch::Sender::new(false),
        });
        tree.spawn(feed::publish(tree.clone()));
        if !tree.engine.is_root() {
            tree.spawn(up::push(tree.clone()));
            tree.follow_held();
        }
        tree
    }

    /// Ends all tasks and waits for them.
    pub async fn leave(&self) {
        self.stop.send_replace(true);
        let mut tasks = std::mem::take(&mut *crate::lock(&self.tasks));
        while tasks.join_next().await.is_some() {}
        crate::lock(&self.followers).clear();
    }

    /// Ends all tasks without waiting for them.
    pub fn abandon(&self) {
        self.stop.send_replace(true);
    }

    /// Runs a task until it ends or the tree is left.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut stop = self.stop.subscribe();
        crate::lock(&self.tasks).spawn(async move {
            tokio::select! {
                // Nothing goes out any more once the tree is left.
                biased;
                _ = stop.wait_for(|stop| *stop) => {}
                () = task => {}
            }
        });
    }

    /// Asks the parent and decodes its answer.
    async fn ask_parent<T: DeserializeOwned>(
        &self,
        op: &str,
        request: &impl Serialize,
    ) -> Result<T> {
        let answer = self.ask_parent_raw(op, record::encode(request).into()).await?;
        record::decode(&format!("answer to {op:?}"), &answer)
    }

    /// Asks the parent and takes the answer out of its frame.
    async fn ask_parent_raw(&self, op: &str, request: Bytes) -> Result<Bytes> {
        let what = || format!("parent of {}", self.engine.config.site);
        if self.engine.is_root() {
            let reason = "the root has none".into();
            return Err(Error::Unreachable { what: what(), reason });
        }
        let asking = self.link.request_parent(op, request);
        match tokio::time::timeout(self.request_timeout(), asking).await {
            Ok(answer) => wire::open(answer.map_err(|e| Error::link(what(), e))?),
            Err(_) => Err(Error::Deadline(what())),
        }
    }

    fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.engine.config.request_timeout_ms)
    }
}

/// A pause that doubles.
struct Backoff {
    next_ms: u64,
}

impl Backoff {
    fn new() -> Self {
        Backoff { next_ms: BACKOFF_MS.0 }
    }

    async fn pause(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.next_ms)).await;
        self.next_ms = (self.next_ms * 2).min(BACKOFF_MS.1);
    }
}

#[cfg(test)]
pub mod tests;
