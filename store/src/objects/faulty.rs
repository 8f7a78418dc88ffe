//! An object store that fails as told: before the effect, or after it.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Fails so many of 100 requests; half of the failed writes have happened all the same.
#[derive(Debug)]
pub struct Faulty {
    inner: InMemory,
    percent: AtomicU64,
    random: Mutex<u64>,
}

impl Faulty {
    pub fn new(seed: u64) -> Self {
        let random = Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Faulty { inner: InMemory::new(), percent: AtomicU64::new(0), random }
    }

    /// How many of 100 requests fail from now on.
    pub fn fail(&self, percent: u64) {
        self.percent.store(percent, Ordering::Relaxed);
    }

    /// How many of 100 requests fail.
    pub fn percent(&self) -> u64 {
        self.percent.load(Ordering::Relaxed)
    }

    fn random(&self, n: u64) -> u64 {
        let mut state = crate::lock(&self.random);
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) % n
    }

    fn fails(&self) -> bool {
        self.random(100) < self.percent.load(Ordering::Relaxed)
    }
}

fn unavailable() -> Error {
    Error::Generic { store: "faulty", source: "503 slow down".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, how: PutOptions) -> Result<PutResult> {
        if !self.fails() {
            return self.inner.put_opts(at, bytes, how).await;
        }
        if self.random(2) == 0 {
            // It happened, or a conflict was found, and the answer is lost.
            let _ = self.inner.put_opts(at, bytes, how).await;
        }
        Err(unavailable())
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Result<GetResult> {
        if self.fails() { Err(unavailable()) } else { self.inner.get_opts(at, how).await }
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.fails() {
            true => futures::stream::once(async { Err(unavailable()) }).boxed(),
            false => self.inner.delete_stream(at),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.fails() {
            true => futures::stream::once(async { Err(unavailable()) }).boxed(),
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
