//! An object store that fails as told: before the effect or after it, at once or late, and with
//! answers that break off.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::runtime::{self, seeded};

/// Milliseconds by which a request is late at most.
const LATE_MS_MAX: u64 = 3;

/// By how much a removal is late that happens though its answer was lost.
const LATE_REMOVAL: Duration = Duration::from_millis(20);

/// Fails so many of 100 requests; half of the failed writes have happened all the same, and of the
/// failed removals some have, and some will.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<InMemory>,
    percent: AtomicU64,
    random: Mutex<u64>,
    calls: AtomicU64,
    read_bytes: AtomicU64,
    reads: AtomicU64,
}

impl Faulty {
    pub fn new(seed: u64) -> Self {
        let random = Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (percent, calls, read_bytes, reads) = Default::default();
        Faulty { inner: Arc::default(), percent, random, calls, read_bytes, reads }
    }

    /// Something that goes up with every request of any sort.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Reads of objects, or of parts of them, that were made so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Bytes of objects that were read so far.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// How many of 100 requests fail from now on.
    pub fn fail(&self, percent: u64) {
        self.percent.store(percent, Ordering::Relaxed);
    }

    fn random(&self, n: u64) -> u64 {
        let mut state = crate::lock(&self.random);
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) % n
    }

    fn fails(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.random(100) < self.percent.load(Ordering::Relaxed)
    }

    /// One of the answers by which servers put their clients off.
    fn unavailable(&self) -> Error {
        let answers = ["503 slow down", "409 conditional request conflict", "connection reset"];
        Error::Generic { store: "faulty", source: answers[self.random(3) as usize].into() }
    }

    async fn be_late(&self) {
        if self.fails() {
            runtime::sleep(Duration::from_millis(self.random(LATE_MS_MAX + 1))).await;
        }
    }
}

/// An answer whose bytes end early, as if that were all.
async fn cut_short(whole: GetResult, keep: impl Fn(u64) -> u64) -> Result<GetResult> {
    let GetResult { meta, range, attributes, .. } = &whole;
    let (meta, range, attributes) = (meta.clone(), range.clone(), attributes.clone());
    let bytes = whole.bytes().await?;
    let part = bytes.slice(..keep(bytes.len() as u64) as usize);
    let payload = GetResultPayload::Stream(futures::stream::once(async { Ok(part) }).boxed());
    Ok(GetResult { payload, meta, range, attributes })
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.be_late().await;
        if !self.fails() {
            return self.inner.put_opts(at, bytes, how).await;
        }
        if self.random(2) == 0 {
            // It happened, or a conflict was found, and the answer is lost.
            let _ = self.inner.put_opts(at, bytes, how).await;
        }
        Err(self.unavailable())
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Result<GetResult> {
        self.be_late().await;
        if !self.fails() {
            let found = self.inner.get_opts(at, how).await?;
            self.reads.fetch_add(1, Ordering::Relaxed);
            self.read_bytes.fetch_add(found.range.end - found.range.start, Ordering::Relaxed);
            return Ok(found);
        }
        match self.random(2) {
            0 => Err(self.unavailable()),
            _ => cut_short(self.inner.get_opts(at, how).await?, |all| self.random(all + 1)).await,
        }
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        if !self.fails() {
            return self.inner.delete_stream(at);
        }
        let (inner, failed) = (self.inner.clone(), self.unavailable());
        let happens = async move { inner.delete_stream(at).for_each(async |_| {}).await };
        match self.random(3) {
            0 => {}
            1 => return happens.map(|()| Err(failed)).into_stream().boxed(),
            _ => seeded::outside(async move {
                runtime::sleep(LATE_REMOVAL).await;
                happens.await;
            }),
        }
        futures::stream::iter([Err(failed)]).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.fails() {
            true => futures::stream::iter([Err(self.unavailable())]).boxed(),
            false => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}
