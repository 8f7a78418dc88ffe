//! A store of objects whose requests are steps.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::future::{BoxFuture, FutureExt, join_all};
use futures::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::runtime::seeded;

/// Takes a step before each request, while that is asked for, and a small one before its answer.
#[derive(Clone, Debug)]
pub struct Stepped {
    pub inner: Arc<dyn ObjectStore>,
    is_stepped: Arc<AtomicBool>,
}

/// One in memory, without steps for now.
impl Default for Stepped {
    fn default() -> Self {
        Stepped { inner: Arc::new(InMemory::new()), is_stepped: Arc::default() }
    }
}

impl Stepped {
    /// With steps always.
    pub fn over(inner: Arc<dyn ObjectStore>) -> Self {
        Stepped { inner, is_stepped: Arc::new(true.into()) }
    }

    /// Runs tasks beside each other, with steps only meanwhile.
    pub async fn beside(&self, tasks: Vec<BoxFuture<'_, ()>>) {
        self.is_stepped.store(true, Ordering::Relaxed);
        join_all(tasks).await;
        self.is_stepped.store(false, Ordering::Relaxed);
    }

    fn step(&self) -> impl Future<Output = ()> + Send + 'static {
        let is_stepped = self.is_stepped.load(Ordering::Relaxed);
        async move {
            if is_stepped {
                seeded::request().await;
            }
        }
    }
}

impl fmt::Display for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stepped")
    }
}

#[async_trait]
impl ObjectStore for Stepped {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.step().await;
        let answer = self.inner.put_opts(at, bytes, how).await;
        seeded::step().await;
        answer
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Result<GetResult> {
        self.step().await;
        let answer = self.inner.get_opts(at, how).await;
        seeded::step().await;
        answer
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let inner = self.inner.clone();
        let removing = self.step().map(move |()| inner.delete_stream(at));
        removing.flatten_stream().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, prefix) = (self.inner.clone(), prefix.cloned());
        self.step().map(move |()| inner.list(prefix.as_ref())).flatten_stream().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}
