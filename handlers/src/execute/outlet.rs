//! Answers to HTTP requests that go out while their handler still runs: the head once, then parts
//! through a channel that holds a few, so that a slow client slows the handler down.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::http::{BODY_BYTES_MAX, HttpHead};

/// Parts that wait for the client.
const PARTS_MAX: usize = 16;

/// Where an answer may go bit by bit. It is begun once, by the attempt that gets so far.
#[derive(Clone, Debug)]
pub struct Outlet(Arc<Mutex<Option<oneshot::Sender<Streamed>>>>);

/// An answer that has begun.
#[derive(Debug)]
pub struct Streamed {
    pub head: HttpHead,
    /// Ends when the handler has; whether all of it came is in the result of the invocation.
    pub parts: mpsc::Receiver<Bytes>,
}

impl Outlet {
    /// An outlet, and where it is told that an answer has begun.
    pub fn new() -> (Self, oneshot::Receiver<Streamed>) {
        let (tell, begun) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(tell)))), begun)
    }

    /// Begins the answer; nothing when it was begun before or nobody wants it any more.
    pub(super) fn begin(&self, head: HttpHead) -> Option<Flow> {
        let tell = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let (flow, parts) = mpsc::channel(PARTS_MAX);
        tell.send(Streamed { head, parts }).ok()?;
        Some(Flow { parts: flow, sent: 0 })
    }
}

/// The body of an answer that has begun; it ends when this is dropped.
pub(super) struct Flow {
    parts: mpsc::Sender<Bytes>,
    sent: usize,
}

impl Flow {
    /// Sends the next part, as soon as there is room for it.
    pub(super) async fn send(&mut self, part: Bytes) -> Result<(), String> {
        self.sent = self.sent.saturating_add(part.len());
        if self.sent > BODY_BYTES_MAX {
            return Err(format!("over {BODY_BYTES_MAX} bytes"));
        }
        if part.is_empty() {
            return Ok(());
        }
        self.parts.send(part).await.map_err(|_| "its reader has gone away".to_owned())
    }
}
