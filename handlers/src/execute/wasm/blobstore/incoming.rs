//! Bytes of an object on their way in: a part is fetched when the guest waits for it, and one is
//! in memory at a time.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use super::{Object, PART_BYTES};
use crate::execute::{Caller, Host, HostError};

type Fetching = Pin<Box<dyn Future<Output = Result<Bytes, HostError>> + Send>>;

/// A range of an object that is being read.
pub(super) struct Reader {
    host: Arc<dyn Host>,
    caller: Caller,
    object: Object,
    /// What was not fetched yet.
    left: Range<u64>,
    /// What was fetched and not read yet.
    part: Bytes,
    fetching: Option<Fetching>,
    problem: Option<HostError>,
    place: Option<OwnedSemaphorePermit>,
}

impl Reader {
    /// Clips the range to the object's end.
    pub(super) fn new(
        host: Arc<dyn Host>,
        caller: Caller,
        object: Object,
        range: Range<u64>,
    ) -> Self {
        let left = range.start.min(object.size)..range.end.min(object.size);
        let (part, fetching, problem, place) = (Bytes::new(), None, None, None);
        Self { host, caller, object, left, part, fetching, problem, place }
    }

    /// Takes up a place among the bodies that may be open.
    pub(super) fn holding(mut self, place: OwnedSemaphorePermit) -> Self {
        self.place = Some(place);
        self
    }

    /// Bytes that are still to be read.
    pub(super) fn len(&self) -> u64 {
        self.left.end - self.left.start + self.part.len() as u64
    }

    pub(super) async fn whole(mut self) -> Result<Vec<u8>, HostError> {
        let mut whole = Vec::with_capacity(self.len() as usize);
        while self.len() > 0 {
            self.fill().await;
            if let Some(problem) = self.problem.take() {
                return Err(problem);
            }
            whole.extend_from_slice(&std::mem::take(&mut self.part));
        }
        Ok(whole)
    }

    /// Has a part in memory, if there is one to be had.
    async fn fill(&mut self) {
        self.begin();
        let Some(fetching) = &mut self.fetching else { return };
        match fetching.await {
            Ok(part) => {
                self.left.start += part.len() as u64;
                self.part = part;
            }
            Err(error) => self.problem = Some(error),
        }
        self.fetching = None;
    }

    fn begin(&mut self) {
        if !self.part.is_empty() || self.left.is_empty() || self.problem.is_some() {
            return;
        }
        if self.fetching.is_none() {
            let (host, caller) = (Arc::clone(&self.host), self.caller.clone());
            let (key, range) = self.next();
            self.fetching = Some(Box::pin(fetch(host, caller, key, range)));
        }
    }

    /// The blob that holds the next bytes, and where in it they are.
    fn next(&self) -> (String, Range<u64>) {
        let (at, part_bytes) = (self.left.start, PART_BYTES as u64);
        let (number, first) = match self.object.parts.len() {
            1 => (0, 0),
            _ => (at / part_bytes, at / part_bytes * part_bytes),
        };
        // Up to where a part ends, also within a blob that holds all of them.
        let end = (at / part_bytes + 1) * part_bytes;
        let end = end.min(self.left.end);
        (self.object.parts[number as usize].clone(), at - first..end - first)
    }
}

async fn fetch(
    host: Arc<dyn Host>,
    caller: Caller,
    key: String,
    range: Range<u64>,
) -> Result<Bytes, HostError> {
    let wanted = range.end - range.start;
    match host.get_blob_range(&caller, &key, range).await? {
        Some(bytes) if bytes.len() as u64 == wanted => Ok(bytes),
        Some(bytes) => {
            let found = bytes.len();
            Err(HostError::Failed(format!("blob {key} has {found} of {wanted} bytes")))
        }
        None => Err(HostError::NotFound(format!("blob {key} of the object is gone"))),
    }
}

#[async_trait::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        self.fill().await;
    }
}

#[async_trait::async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if let Some(problem) = self.problem.take() {
            self.left.end = self.left.start;
            return Err(StreamError::LastOperationFailed(wasmtime::Error::new(problem)));
        }
        if self.part.is_empty() && self.left.is_empty() {
            return Err(StreamError::Closed);
        }
        self.begin();
        Ok(self.part.split_to(size.min(self.part.len())))
    }
}
