//! The blobs that are on a site's disk: those it took, and copies of what other sites took.
//!
//! Both are named by content, so one file serves whoever put the same bytes, but for private ones,
//! each of which has a file of its own. Putting, copying and removing what has the same name go one
//! after the other here; nobody else writes to a store's objects.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::sums::{self, Proved, Summing, Sums};
use super::{BlobKey, check_size};
use crate::error::{Error, Result};
use crate::lock;
use crate::objects::{Objects, Side};
use crate::runtime::{self, Instant};

/// For how long a bucket may carry out a removal whose answer was lost. Until then the same bytes
/// are not stored anew: they would go with it.
const DOUBT: Duration = Duration::from_secs(60);
/// Removals in doubt at once; beyond it nothing more is removed from the bucket.
const DOUBTS_MAX: usize = 1_024;
/// Bytes of a blob that are read at a time to prove it.
const PROOF_BYTES: u64 = 1 << 20;

/// Knows which blobs the program itself needs.
#[async_trait]
pub trait BlobKeeper: Send + Sync + 'static {
    /// Lets a blob with this SHA-256 go, or says who needs it. While what it returns is held,
    /// nobody begins to need it.
    async fn let_go(&self, digest: &str) -> Result<Box<dyn Send>, String>;
}

/// Which of a site's files with some content is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// What was put at this site.
    Own,
    /// What was fetched from the site that took it.
    Copy,
}

impl Kept {
    /// [`Kept::Own`] if either is.
    pub fn or(self, other: Kept) -> Kept {
        match self {
            Kept::Own => self,
            Kept::Copy => other,
        }
    }
}

/// All blobs on the disk of one site.
pub struct Blobs {
    objects: Objects,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    /// When the bucket was last asked to remove something without saying whether it did.
    doubts: Mutex<HashMap<String, Instant>>,
    keeper: OnceLock<Arc<dyn BlobKeeper>>,
    doubt: Duration,
    proved: Proved,
}

/// What has happened to some content since somebody began to do something with it.
#[derive(Default)]
struct Slot {
    turn: tokio::sync::Mutex<()>,
    /// Held by who reads all of it to prove it.
    proof: tokio::sync::Mutex<()>,
    puts: AtomicU64,
    removals: AtomicU64,
}

impl Blobs {
    pub fn new(objects: Objects) -> Self {
        Self::doubting(objects, DOUBT)
    }

    /// Blobs in a bucket that is in doubt for that long about a removal without an answer.
    pub fn doubting(objects: Objects, doubt: Duration) -> Self {
        let (slots, doubts) = (Mutex::default(), Mutex::default());
        let (keeper, proved) = (OnceLock::new(), Proved::default());
        Blobs { objects, slots, doubts, keeper, doubt, proved }
    }

    /// Asks `keeper` from now on before anything is removed; false if there is one already.
    pub fn guard(&self, keeper: Arc<dyn BlobKeeper>) -> bool {
        self.keeper.set(keeper).is_ok()
    }

    /// Stores a blob that this site takes, durably; storing it again changes nothing.
    pub async fn put(&self, key: &BlobKey, bytes: Bytes) -> Result<()> {
        check_size(key, bytes.len() as u64)?;
        self.take(key, self.objects.create_synced(&object(key, Kept::Own), bytes)).await
    }

    /// The same of bytes that came as a stream, whose digest is the key's.
    pub async fn put_side(&self, key: &BlobKey, side: Side, sums: Sums) -> Result<()> {
        self.take(key, self.objects.create_of(&object(key, Kept::Own), side)).await?;
        self.proved.keep(key.digest(), sums);
        Ok(())
    }

    async fn take(&self, key: &BlobKey, stored: impl Future<Output = Result<()>>) -> Result<()> {
        let held = self.hold(key);
        let _turn = held.slot.turn.lock().await;
        if self.is_in_doubt(key.name()) {
            return Err(Error::Busy(format!(
                "blob {key} was removed and the bucket did not say so"
            )));
        }
        stored.await?;
        held.slot.puts.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The beginning of a fetch; what is fetched is kept by [`Fetch::keep`].
    pub fn fetch<'a>(&'a self, key: &'a BlobKey) -> Fetch<'a> {
        let held = self.hold(key);
        let removals = held.slot.removals.load(Ordering::Acquire);
        Fetch { held, key, removals }
    }

    /// The whole blob if it is here. Bytes that do not match the key are reported, not returned.
    pub async fn load(&self, key: &BlobKey) -> Result<Option<Bytes>> {
        for kept in [Kept::Own, Kept::Copy] {
            if let Some(bytes) = self.objects.read(&object(key, kept)).await? {
                return match key.matches(&bytes) {
                    true => Ok(Some(bytes)),
                    false => Err(Error::corrupt(key.to_string(), "digest differs")),
                };
            }
        }
        Ok(None)
    }

    /// Length of the blob in bytes if it is here.
    pub async fn len(&self, key: &BlobKey) -> Result<Option<u64>> {
        Ok(self.find(key).await?.map(|(_, len)| len))
    }

    /// Part of a blob that is here, clipped to its end. Bytes that are not what the key says are
    /// reported, not returned: of a large blob the checksums of its parts are compared, which are
    /// known once its digest was proved.
    pub async fn load_range(&self, key: &BlobKey, start: u64, end: u64) -> Result<Bytes> {
        let Some((kept, len)) = self.find(key).await? else { return Ok(Bytes::new()) };
        let range = start.min(len)..end.min(len);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if len <= sums::PART_BYTES {
            let whole = self.load(key).await?.unwrap_or_default();
            let at = |place: u64| whole.len().min(place as usize);
            return Ok(whole.slice(at(range.start)..at(range.end)));
        }
        let name = object(key, kept);
        let sums = self.sums(key, &name, len).await?;
        let parts = sums.around(&range);
        let read = self.objects.read_range(&name, parts.start, parts.end).await?;
        let wanted = (range.start - parts.start) as usize..(range.end - parts.start) as usize;
        if read.len() < wanted.end || !sums.are_of(parts.start, &read) {
            let reason = format!("bytes {} to {} are not what was stored", parts.start, parts.end);
            return Err(Error::corrupt(key.to_string(), reason));
        }
        Ok(read.slice(wanted))
    }

    /// The checksums of a blob's parts. All of it is read if they are not known, once at a time.
    async fn sums(&self, key: &BlobKey, name: &str, len: u64) -> Result<Arc<Sums>> {
        let is_whole = |sums: Arc<Sums>| match sums.len == len {
            true => Ok(sums),
            false => {
                let reason = format!("it has {len} bytes, and had {}", sums.len);
                Err(Error::corrupt(key.to_string(), reason))
            }
        };
        if let Some(sums) = self.proved.get(key.digest()) {
            return is_whole(sums);
        }
        let held = self.hold(key);
        let _one_at_a_time = held.slot.proof.lock().await;
        if let Some(sums) = self.proved.get(key.digest()) {
            return is_whole(sums);
        }
        let mut summing = Summing::default();
        while summing.len() < len {
            let end = len.min(summing.len() + PROOF_BYTES);
            let read = self.objects.read_range(name, summing.len(), end).await?;
            if read.is_empty() {
                break;
            }
            summing.add(&read);
        }
        let (digest, sums) = summing.finish();
        match digest == key.digest() {
            true => Ok(self.proved.keep(&digest, sums)),
            false => Err(Error::corrupt(key.to_string(), "digest differs")),
        }
    }

    async fn find(&self, key: &BlobKey) -> Result<Option<(Kept, u64)>> {
        for kept in [Kept::Own, Kept::Copy] {
            if let Some(len) = self.objects.len(&object(key, kept)).await? {
                return Ok(Some((kept, len)));
            }
        }
        Ok(None)
    }

    /// Removes a blob's copy from this disk, and with [`Kept::Own`] what was put here as well;
    /// durable on return, and nothing where it is gone already. A put of the same bytes that is
    /// acknowledged meanwhile comes after it, so the bytes stay.
    ///
    /// # Errors
    /// [`Error::BadRequest`] if the program needs the blob; [`Error::Unknown`] if a bucket did not
    /// say whether it removed it: the same removal may be asked for again.
    pub async fn remove(self: &Arc<Self>, key: &BlobKey, kept: Kept) -> Result<()> {
        let (blobs, key) = (Arc::clone(self), key.clone());
        // A put that ends before the task below has begun is one that is acknowledged meanwhile.
        let slot = self.slot(&key);
        let puts = slot.puts.load(Ordering::Acquire);
        // Whoever asked may go away, but nothing may be removed when its turn is over.
        let removing = runtime::spawn(async move {
            let held = Held { blobs: &blobs, name: key.name().to_owned(), slot };
            blobs.remove_in_turn(&held, &key, kept, puts).await
        });
        removing.await.map_err(|e| Error::io("removal of a blob", e))?
    }

    /// `puts` are those before the removal.
    async fn remove_in_turn(
        &self,
        held: &Held<'_>,
        key: &BlobKey,
        kept: Kept,
        puts: u64,
    ) -> Result<()> {
        // What the program needs is under keys that everybody is given.
        let _permit = match self.keeper.get().filter(|_| key.owner().is_none()) {
            Some(keeper) => keeper.let_go(key.digest()).await.map(Some).map_err(|who| {
                Error::BadRequest(format!("blob {key} stays, since it is needed: {who}"))
            })?,
            None => None,
        };
        let _turn = held.slot.turn.lock().await;
        held.slot.removals.fetch_add(1, Ordering::Release);
        self.erase(key, Kept::Copy).await?;
        if kept == Kept::Own && held.slot.puts.load(Ordering::Acquire) == puts {
            self.erase(key, Kept::Own).await?;
        }
        Ok(())
    }

    async fn erase(&self, key: &BlobKey, kept: Kept) -> Result<()> {
        let name = object(key, kept);
        if !self.objects.is_shared() {
            return self.objects.erase(&name).await;
        }
        if kept == Kept::Own {
            let (mut doubts, now) = (lock(&self.doubts), runtime::now());
            doubts.retain(|_, since| now - *since < self.doubt);
            if doubts.len() >= DOUBTS_MAX && !doubts.contains_key(key.name()) {
                return Err(Error::Busy("removal of blobs, whose bucket does not answer".into()));
            }
        }
        match self.objects.erase(&name).await {
            Ok(()) => Ok(()),
            Err(error) => {
                // A copy that goes late is fetched again.
                if kept == Kept::Own {
                    lock(&self.doubts).insert(key.name().to_owned(), runtime::now());
                }
                Err(Error::Unknown(format!("removal of blob {key}: {error}")))
            }
        }
    }

    fn is_in_doubt(&self, name: &str) -> bool {
        let now = runtime::now();
        lock(&self.doubts).get(name).is_some_and(|since| now - *since < self.doubt)
    }

    fn hold<'a>(&'a self, key: &BlobKey) -> Held<'a> {
        Held { blobs: self, name: key.name().to_owned(), slot: self.slot(key) }
    }

    fn slot(&self, key: &BlobKey) -> Arc<Slot> {
        lock(&self.slots).entry(key.name().to_owned()).or_default().clone()
    }
}

/// Takes part in what happens to some content, which is forgotten when nobody does any more.
struct Held<'a> {
    blobs: &'a Blobs,
    name: String,
    slot: Arc<Slot>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut slots = lock(&self.blobs.slots);
        // The map holds one, this the other.
        if Arc::strong_count(&self.slot) == 2 {
            slots.remove(&self.name);
        }
    }
}

/// A blob that is being fetched from another site.
pub struct Fetch<'a> {
    held: Held<'a>,
    key: &'a BlobKey,
    removals: u64,
}

impl Fetch<'_> {
    /// Keeps what came, unless the blob was removed since the fetch began.
    pub async fn keep(self, bytes: Bytes) -> Result<()> {
        check_size(self.key, bytes.len() as u64)?;
        let objects = &self.held.blobs.objects;
        self.keep_by(objects.create_synced(&object(self.key, Kept::Copy), bytes)).await
    }

    /// The same of bytes that came as a stream, whose digest is the key's.
    pub async fn keep_side(self, side: Side, sums: Sums) -> Result<()> {
        let blobs = self.held.blobs;
        self.keep_by(blobs.objects.create_of(&object(self.key, Kept::Copy), side)).await?;
        blobs.proved.keep(self.key.digest(), sums);
        Ok(())
    }

    async fn keep_by(&self, kept: impl Future<Output = Result<()>>) -> Result<()> {
        let slot = &self.held.slot;
        let _turn = slot.turn.lock().await;
        match slot.removals.load(Ordering::Acquire) == self.removals {
            true => kept.await,
            false => Ok(()),
        }
    }
}

pub fn object(key: &BlobKey, kept: Kept) -> String {
    let folder = match kept {
        Kept::Own => "b",
        Kept::Copy => "c",
    };
    format!("{folder}/{}/{}", &key.digest()[..2], key.name())
}
