//! Virtual links: lose, repeat, delay and cut, from a seed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use tokio::sync::mpsc;

use crate::tests::Machine;
use crate::wal::tests::{Fate, MemDisk};
use crate::{Config, EdgeStore, Link, LinkError, lock};

/// How often things go wrong, in percent of messages, and the longest delay.
#[derive(Clone, Copy)]
pub struct Faults {
    pub lost: u64,
    pub repeated: u64,
    pub delay_ms_max: u64,
}

impl Faults {
    pub fn none() -> Self {
        Faults { lost: 0, repeated: 0, delay_ms_max: 0 }
    }
}

/// All sites and what lies between them.
#[derive(Clone)]
pub struct Net {
    inner: Arc<Inner>,
}

struct Inner {
    faults: Mutex<Faults>,
    random: Mutex<u64>,
    sites: Mutex<HashMap<String, Site>>,
    /// Children whose link to the parent is cut.
    cut: Mutex<HashSet<String>>,
    /// Former paths of sites, and where each is now.
    moved: Mutex<HashMap<String, String>>,
    /// Site and operation that are refused.
    refused: Mutex<HashSet<(String, String)>>,
    asked: Mutex<HashMap<(String, String), usize>>,
    followers: Mutex<Vec<Follower>>,
    changes_lost: Mutex<bool>,
    /// Messages of change feeds that were lost because `changes_lost` said so.
    changes_dropped: AtomicUsize,
    /// How often each site was switched off. What a store sends or answers in an earlier life
    /// than its site's present one goes nowhere, as from any machine without power.
    lives: Mutex<HashMap<String, u64>>,
    compare_interval_ms: AtomicU64,
    sync_ms: AtomicU64,
    largest_payload: AtomicUsize,
}

struct Site {
    machine: Machine,
    store: EdgeStore,
    skew_ms: Arc<AtomicI64>,
}

struct Follower {
    child: String,
    table: String,
    tx: mpsc::Sender<Bytes>,
}

impl Net {
    pub fn new(faults: Faults, seed: u64) -> Self {
        let inner = Inner {
            faults: Mutex::new(faults),
            random: Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            sites: Mutex::default(),
            cut: Mutex::default(),
            moved: Mutex::default(),
            refused: Mutex::default(),
            asked: Mutex::default(),
            followers: Mutex::default(),
            changes_lost: Mutex::default(),
            changes_dropped: AtomicUsize::new(0),
            lives: Mutex::default(),
            compare_interval_ms: AtomicU64::new(50),
            sync_ms: AtomicU64::new(0),
            largest_payload: AtomicUsize::new(0),
        };
        Net { inner: Arc::new(inner) }
    }

    /// A number below `n` (xorshift64).
    pub fn random(&self, n: u64) -> u64 {
        let mut state = lock(&self.inner.random);
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) % n.max(1)
    }

    pub async fn start(&self, site: &str) -> EdgeStore {
        self.start_skewed(site, 0).await
    }

    /// Starts a site whose clock is ahead by so many milliseconds.
    pub async fn start_skewed(&self, site: &str, skew_ms: i64) -> EdgeStore {
        let mut machine = Machine::new(self.random(u64::MAX));
        machine.disk.sync_ms = self.inner.sync_ms.load(Ordering::Relaxed);
        self.open(site, machine, Arc::new(AtomicI64::new(skew_ms))).await
    }

    /// Takes a site's power away and starts it again.
    pub async fn restart(&self, site: &str) -> EdgeStore {
        let (mut machine, skew_ms) = self.stop(site);
        machine.disk = machine.disk.crash_by(|n| self.random(n));
        self.open(site, machine, skew_ms).await
    }

    /// Replaces a site's machine by an empty one.
    pub async fn replace(&self, site: &str) -> EdgeStore {
        let (_, skew_ms) = self.stop(site);
        self.open(site, Machine::new(self.random(u64::MAX)), skew_ms).await
    }

    /// Sites started from now on hardly ever compare with their parents.
    pub fn compare_seldom(&self) {
        self.inner.compare_interval_ms.store(3_600_000, Ordering::Relaxed);
    }

    /// Disks of sites started from now on take so long to sync.
    pub fn slow_disks(&self, sync_ms: u64) {
        self.inner.sync_ms.store(sync_ms, Ordering::Relaxed);
    }

    /// Takes a site's power away in the worst moment: nothing unsynced survives.
    pub async fn restart_bare(&self, site: &str) -> EdgeStore {
        let (mut machine, skew_ms) = self.stop(site);
        machine.disk = machine.disk.crash(|| Fate::Lost);
        self.open(site, machine, skew_ms).await
    }

    pub fn cut(&self, child: &str) {
        lock(&self.inner.cut).insert(child.into());
    }

    /// Has it known at a site and above that it was called `before`.
    pub fn note_moved(&self, before: &str, now: &str) {
        lock(&self.inner.moved).insert(before.into(), now.into());
    }

    pub fn mend(&self, child: &str) {
        lock(&self.inner.cut).remove(child);
    }

    /// Mends everything, for good.
    pub fn heal(&self) {
        lock(&self.inner.cut).clear();
        *lock(&self.inner.faults) = Faults::none();
    }

    pub fn refuse(&self, site: &str, op: &str) {
        lock(&self.inner.refused).insert((site.into(), op.into()));
    }

    pub fn allow(&self, site: &str, op: &str) {
        lock(&self.inner.refused).remove(&(site.into(), op.into()));
    }

    pub fn drop_changes(&self, lost: bool) {
        *lock(&self.inner.changes_lost) = lost;
    }

    pub fn advance_clock(&self, site: &str, ms: i64) {
        lock(&self.inner.sites)[site].skew_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Requests of a site to its parent, by operation.
    pub fn asked(&self, site: &str, op: &str) -> usize {
        lock(&self.inner.asked).get(&(site.into(), op.into())).copied().unwrap_or(0)
    }

    pub fn largest_payload(&self) -> usize {
        self.inner.largest_payload.load(Ordering::Relaxed)
    }

    fn stop(&self, site: &str) -> (Machine, Arc<AtomicI64>) {
        let Site { machine, store, skew_ms } = lock(&self.inner.sites).remove(site).unwrap();
        *lock(&self.inner.lives).entry(site.into()).or_default() += 1;
        if let Some(tree) = store.inner.tree.get() {
            tree.abandon();
        }
        (machine, skew_ms)
    }

    async fn open(&self, site: &str, machine: Machine, skew_ms: Arc<AtomicI64>) -> EdgeStore {
        let clock = skew_ms.clone();
        let now = move || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
            (now + clock.load(Ordering::Relaxed)) as u64
        };
        let config = Config {
            compare_interval_ms: self.inner.compare_interval_ms.load(Ordering::Relaxed),
            // Lost messages are reported at once, so no time-out ever has to pass here.
            request_timeout_ms: 60_000,
            segments_max: 3,
            // As soon as they may be: where others have rows, they may not.
            deletes_kept_ms: 0,
            wall_clock: Arc::new(now),
            ..Config::new("", site)
        };
        let store = machine.open(config).await.unwrap();
        store.attach(Arc::new(self.link(site))).unwrap();
        let here = Site { machine, store: store.clone(), skew_ms };
        lock(&self.inner.sites).insert(site.into(), here);
        store
    }

    async fn carry(
        &self,
        from: &str,
        to: &str,
        op: &str,
        payload: Bytes,
    ) -> Result<Bytes, LinkError> {
        let child = if from.len() > to.len() { from } else { to };
        *lock(&self.inner.asked).entry((from.into(), op.into())).or_default() += 1;
        if lock(&self.inner.refused).contains(&(from.into(), op.into())) {
            return Err(LinkError::Refused(op.into()));
        }
        self.travel(child, payload.len()).await?;
        let life = self.life(to);
        let store = lock(&self.inner.sites).get(to).map(|site| site.store.clone());
        let store = store.ok_or_else(|| LinkError::Unreachable(to.into()))?;
        if self.random(100) < lock(&self.inner.faults).repeated {
            let _ = store.serve(op, from, payload.clone()).await;
        }
        let answer = store.serve(op, from, payload).await;
        drop(store);
        // Whatever happens to the answer, the request has been carried out.
        if self.life(to) != life {
            return Err(LinkError::Timeout);
        }
        let answer = answer.map_err(|e| LinkError::Refused(e.to_string()))?;
        self.travel(child, answer.len()).await.map_err(|_| LinkError::Timeout)?;
        Ok(answer)
    }

    /// One way over the link between a child and its parent.
    async fn travel(&self, child: &str, bytes: usize) -> Result<(), LinkError> {
        self.inner.largest_payload.fetch_max(bytes, Ordering::Relaxed);
        let faults = *lock(&self.inner.faults);
        if faults.delay_ms_max > 0 {
            tokio::time::sleep(Duration::from_millis(self.random(faults.delay_ms_max + 1))).await;
        }
        if self.random(100) < faults.lost {
            return Err(LinkError::Timeout);
        }
        match lock(&self.inner.cut).contains(child) {
            true => Err(LinkError::Unreachable(child.into())),
            false => Ok(()),
        }
    }

    fn publish(&self, site: &str, table: &str, payload: &Bytes) {
        let mut followers = lock(&self.inner.followers);
        followers.retain(|f| !f.tx.is_closed());
        let children = followers.iter().filter(|f| parent_of(&f.child) == Some(site));
        for follower in children.filter(|f| f.table == table) {
            let (net, child) = (self.clone(), follower.child.clone());
            let (tx, payload) = (follower.tx.clone(), payload.clone());
            tokio::spawn(async move {
                let copies = 1 + u64::from(net.random(100) < lock(&net.inner.faults).repeated);
                for _ in 0..copies {
                    if net.travel(&child, payload.len()).await.is_ok() {
                        let _ = tx.try_send(payload.clone());
                    }
                }
            });
        }
    }
}

impl Net {
    /// A site's end of its links.
    pub fn link(&self, site: &str) -> impl Link + use<> {
        VirtualLink { net: self.clone(), site: site.into(), life: self.life(site) }
    }

    /// Messages of change feeds that [`Net::drop_changes`] has swallowed.
    pub fn changes_dropped(&self) -> usize {
        self.inner.changes_dropped.load(Ordering::Relaxed)
    }

    /// Starts a site on a disk as it was at some earlier time.
    pub async fn restore(&self, site: &str, disk: MemDisk) -> EdgeStore {
        let (mut machine, skew_ms) = self.stop(site);
        machine.disk = disk;
        self.open(site, machine, skew_ms).await
    }

    /// The store of a site.
    pub fn store(&self, site: &str) -> EdgeStore {
        lock(&self.inner.sites)[site].store.clone()
    }

    /// A copy of a site's disk, synced bytes only.
    pub fn copy_of_disk(&self, site: &str) -> MemDisk {
        lock(&self.inner.sites)[site].machine.disk.crash(|| Fate::Lost)
    }

    fn life(&self, site: &str) -> u64 {
        lock(&self.inner.lives).get(site).copied().unwrap_or(0)
    }
}

struct VirtualLink {
    net: Net,
    site: String,
    life: u64,
}

impl VirtualLink {
    async fn carry(&self, to: &str, op: &str, payload: Bytes) -> Result<Bytes, LinkError> {
        if !self.is_on() {
            return Err(LinkError::Unreachable(self.site.clone()));
        }
        self.net.carry(&self.site, to, op, payload).await
    }

    /// False once the power of this store's site was taken away.
    fn is_on(&self) -> bool {
        self.net.life(&self.site) == self.life
    }
}

#[async_trait]
impl Link for VirtualLink {
    async fn request_parent(&self, op: &str, payload: Bytes) -> Result<Bytes, LinkError> {
        let parent = parent_of(&self.site);
        let parent = parent.ok_or_else(|| LinkError::Unreachable("the root's parent".into()))?;
        self.carry(parent, op, payload).await
    }

    async fn request(&self, site: &str, op: &str, payload: Bytes) -> Result<Bytes, LinkError> {
        self.carry(site, op, payload).await
    }

    fn moved(&self, site: &str) -> Option<String> {
        let now = lock(&self.net.inner.moved).get(site).cloned();
        now.filter(|now| now.starts_with(&self.site))
    }

    async fn publish_changes(&self, table: &str, payload: Bytes) -> Result<(), LinkError> {
        if *lock(&self.net.inner.changes_lost) {
            self.net.inner.changes_dropped.fetch_add(1, Ordering::Relaxed);
        } else if self.is_on() {
            self.net.publish(&self.site, table, &payload);
        }
        Ok(())
    }

    async fn subscribe_parent_changes(
        &self,
        table: &str,
    ) -> Result<BoxStream<'static, Bytes>, LinkError> {
        self.net.travel(&self.site, 0).await?;
        let (tx, mut rx) = mpsc::channel(16);
        let follower = Follower { child: self.site.clone(), table: table.into(), tx };
        lock(&self.net.inner.followers).push(follower);
        Ok(futures::stream::poll_fn(move |context| rx.poll_recv(context)).boxed())
    }
}

fn parent_of(site: &str) -> Option<&str> {
    site.rsplit_once('.').map(|(parent, _)| parent)
}
