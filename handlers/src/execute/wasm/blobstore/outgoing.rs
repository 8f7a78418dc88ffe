//! Bytes of an object on their way out: put as blobs, a part at a time, while the guest waits for
//! room. At most two parts are in memory.

use std::pin::Pin;
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::{OBJECT_BYTES_MAX, PART_BYTES};
use crate::execute::{Caller, Host, HostError};

type Putting = Pin<Box<dyn Future<Output = Result<String, HostError>> + Send>>;

/// An object that is being written.
pub(super) struct Upload {
    host: Arc<dyn Host>,
    caller: Caller,
    /// What waits to be a part.
    filling: BytesMut,
    /// The part that is being put.
    putting: Option<Putting>,
    /// Keys of those that are.
    parts: Vec<String>,
    size: u64,
    /// Why it will never be an object.
    problem: Option<HostError>,
    _place: OwnedSemaphorePermit,
}

impl Upload {
    pub(super) fn new(host: Arc<dyn Host>, caller: Caller, place: OwnedSemaphorePermit) -> Self {
        Self {
            host,
            caller,
            filling: BytesMut::new(),
            putting: None,
            parts: Vec::new(),
            size: 0,
            problem: None,
            _place: place,
        }
    }

    /// All its parts and bytes, once they are stored. What was stored of one that never will be
    /// whole is let go.
    pub(super) async fn finish(&mut self) -> Result<(Vec<String>, u64), HostError> {
        self.settle().await;
        if !self.filling.is_empty() {
            self.put();
            self.settle().await;
        }
        let parts = std::mem::take(&mut self.parts);
        match self.problem.take() {
            Some(problem) => {
                let _ = self.host.let_go(&self.caller, parts).await;
                Err(problem)
            }
            None => Ok((parts, self.size)),
        }
    }

    /// Waits for the part under way.
    async fn settle(&mut self) {
        let Some(putting) = &mut self.putting else { return };
        match putting.await {
            Ok(key) => self.parts.push(key),
            Err(error) => self.problem = Some(error),
        }
        self.putting = None;
    }

    fn put(&mut self) {
        let part = self.filling.split().freeze();
        let (host, caller) = (Arc::clone(&self.host), self.caller.clone());
        self.putting = Some(Box::pin(async move { host.put_private_blob(&caller, part).await }));
    }

    /// Bytes that may be written now.
    fn room(&self) -> StreamResult<usize> {
        if let Some(problem) = &self.problem {
            return Err(StreamError::LastOperationFailed(wasmtime::Error::new(problem.clone())));
        }
        Ok(if self.putting.is_some() { 0 } else { PART_BYTES - self.filling.len() })
    }

    fn write(&mut self, bytes: &Bytes) -> StreamResult<()> {
        if bytes.len() > self.room()? {
            return Err(StreamError::trap("more was written than check-write allows"));
        }
        self.size += bytes.len() as u64;
        if self.size > OBJECT_BYTES_MAX {
            let problem = format!("an object has at most {OBJECT_BYTES_MAX} bytes");
            self.problem = Some(HostError::Invalid(problem));
            return self.room().map(drop);
        }
        self.filling.extend_from_slice(bytes);
        if self.filling.len() == PART_BYTES {
            self.put();
        }
        Ok(())
    }
}

/// The stream that a guest writes to; closed once its value is finished or dropped.
pub(super) struct Body(Weak<Mutex<Upload>>);

impl Body {
    pub(super) fn new(upload: &Arc<Mutex<Upload>>) -> Self {
        Self(Arc::downgrade(upload))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Upload) -> StreamResult<T>) -> StreamResult<T> {
        let upload = self.0.upgrade().ok_or(StreamError::Closed)?;
        // The guest waits in one place at a time, and then it does not call.
        let mut upload = upload.try_lock().map_err(|_| StreamError::Closed)?;
        work(&mut upload)
    }
}

#[async_trait::async_trait]
impl Pollable for Body {
    async fn ready(&mut self) {
        if let Some(upload) = self.0.upgrade() {
            upload.lock().await.settle().await;
        }
    }
}

impl OutputStream for Body {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.with(|upload| upload.write(&bytes))
    }

    /// What is not a whole part yet waits for more, or for the end of the value.
    fn flush(&mut self) -> StreamResult<()> {
        self.with(|upload| upload.room().map(drop))
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.with(|upload| upload.room())
    }
}
