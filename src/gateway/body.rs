//! Bodies of requests: taken in as they come, bounded in size, time and memory, or handed on while
//! they come.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, StatusCode, header};
use bus::Refusal;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use handlers::execute::{Arriving, Broken, Inlet, Parts};
use handlers::manifest::RequestBody;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Door, Problem};

/// What the bodies of all requests under way may hold together, in KiB.
pub(super) const MEMORY_KIB_MAX: usize = 512 << 10;

/// A body, and its share of the memory for bodies.
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _memory: Vec<OwnedSemaphorePermit>,
}

/// How bodies are taken in.
struct Limits {
    bytes_max: usize,
    patience: Duration,
    memory: Arc<Semaphore>,
}

impl Door {
    /// Takes a whole body in; `bytes_max` is the limit of what it is for.
    pub(super) async fn take_body(
        &self,
        headers: &HeaderMap,
        body: Incoming,
        bytes_max: usize,
    ) -> Result<Held, Problem> {
        let limits = self.limits(bytes_max);
        limits.check(headers)?;
        limits.take(body).await
    }

    /// A body as it comes; each part has all the time of a whole one.
    pub(super) fn part_by_part(
        &self,
        headers: &HeaderMap,
        body: Incoming,
        bytes_max: usize,
    ) -> Result<PartByPart, Problem> {
        let limits = self.limits(bytes_max);
        limits.check(headers)?;
        let stream = Body::new(body).into_data_stream();
        Ok(PartByPart { stream, left: bytes_max, limits })
    }

    /// Takes a body for a handler, or leaves it to the handler to read while it comes.
    pub(super) async fn take_or_hand_on(
        &self,
        headers: &HeaderMap,
        body: Incoming,
        way: RequestBody,
    ) -> Result<(Bytes, Option<Inlet>, Ended), Problem> {
        let limits = self.limits(self.settings.body_bytes_max);
        limits.check(headers)?;
        let ended = Ended::default();
        if way == RequestBody::Stream && !body.is_end_stream() {
            let inlet = Inlet::new(Coming { body, limits, ended: ended.clone() });
            return Ok((Bytes::new(), Some(inlet), ended));
        }
        let held = limits.take(body).await?;
        let bytes = held.bytes.clone();
        ended.note(End { _held: Some(held), problem: None });
        Ok((bytes, None, ended))
    }

    fn limits(&self, bytes_max: usize) -> Limits {
        let patience = Duration::from_millis(self.settings.body_timeout_ms);
        Limits { bytes_max, patience, memory: self.body_memory.clone() }
    }
}

impl Limits {
    /// Refuses what says that it is too long.
    fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let said = said.and_then(|text| text.parse::<u64>().ok());
        match said.is_some_and(|bytes| bytes > self.bytes_max as u64) {
            true => Err(too_large(self.bytes_max)),
            false => Ok(()),
        }
    }

    async fn take(&self, body: Incoming) -> Result<Held, Problem> {
        self.in_time(self.read(body)).await?
    }

    async fn in_time<T>(&self, arrives: impl Future<Output = T>) -> Result<T, Problem> {
        tokio::time::timeout(self.patience, arrives).await.map_err(|_| {
            let text = format!("the body did not arrive within {} ms", self.patience.as_millis());
            Problem::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", text)
        })
    }

    async fn read(&self, body: Incoming) -> Result<Held, Problem> {
        let mut stream = Body::new(body).into_data_stream();
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        let mut memory = Vec::new();
        while let Some(part) = stream.next().await {
            let part = part.map_err(|e| broke_off(&e))?;
            if first.len() + rest.len() + part.len() > self.bytes_max {
                return Err(too_large(self.bytes_max));
            }
            memory.push(self.remember(part.len())?);
            // Most bodies are one part, which needs no copy.
            match (first.is_empty(), rest.is_empty()) {
                (true, true) => first = part,
                (false, true) => {
                    rest.extend_from_slice(&std::mem::take(&mut first));
                    rest.extend_from_slice(&part);
                }
                _ => rest.extend_from_slice(&part),
            }
        }
        let bytes = if rest.is_empty() { first } else { rest.freeze() };
        Ok(Held { bytes, _memory: memory })
    }

    fn remember(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.memory.clone().try_acquire_many_owned(kib).map_err(|_| {
            let text = format!("bodies of {} MiB are being taken in", MEMORY_KIB_MAX >> 10);
            Problem::overloaded(text, Duration::from_secs(1))
        })
    }
}

/// A body that is read as it comes.
pub(super) struct PartByPart {
    stream: BodyDataStream,
    left: usize,
    limits: Limits,
}

impl PartByPart {
    /// The next bytes; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let Some(part) = self.limits.in_time(self.stream.next()).await? else { return Ok(None) };
        let part = part.map_err(|e| broke_off(&e))?;
        let left = self.left.checked_sub(part.len());
        self.left = left.ok_or_else(|| too_large(self.limits.bytes_max))?;
        Ok(Some(part))
    }
}

/// What became of a handler's body; it keeps the memory of one that was taken in whole.
#[derive(Clone, Default)]
pub(super) struct Ended(Arc<Mutex<End>>);

#[derive(Default)]
struct End {
    problem: Option<Problem>,
    _held: Option<Held>,
}

impl Ended {
    /// What was wrong with it, if anything was.
    pub(super) fn problem(&self) -> Option<Problem> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).problem.take()
    }

    fn note(&self, end: End) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }
}

/// A body that nobody has read yet.
struct Coming {
    body: Incoming,
    limits: Limits,
    ended: Ended,
}

#[async_trait]
impl Arriving for Coming {
    async fn whole(self: Box<Self>) -> Result<Bytes, Refusal> {
        match self.limits.take(self.body).await {
            Ok(held) => {
                let bytes = held.bytes.clone();
                self.ended.note(End { _held: Some(held), problem: None });
                Ok(bytes)
            }
            Err(problem) => {
                let refusal = Refusal::bad(problem.detail());
                self.ended.note(End { problem: Some(problem), _held: None });
                Err(refusal)
            }
        }
    }

    fn parts(self: Box<Self>) -> Parts {
        let Self { body, limits, ended } = *self;
        Parts::new(Flowing { body, left: limits.bytes_max, bytes_max: limits.bytes_max, ended })
    }
}

/// A body on its way through.
struct Flowing {
    body: Incoming,
    left: usize,
    bytes_max: usize,
    ended: Ended,
}

impl Flowing {
    fn pass(&mut self, frame: Result<Frame<Bytes>, hyper::Error>) -> Result<Frame<Bytes>, Broken> {
        let frame = frame.map_err(|error| {
            let problem = broke_off(&error);
            self.ended.note(End { problem: Some(problem), _held: None });
            Broken::Lost(error.to_string())
        })?;
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let Some(left) = self.left.checked_sub(bytes) else {
            self.ended.note(End { problem: Some(too_large(self.bytes_max)), _held: None });
            return Err(Broken::TooLarge { bytes_max: self.bytes_max });
        };
        self.left = left;
        Ok(frame)
    }
}

impl hyper::body::Body for Flowing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| self.pass(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn broke_off(error: &dyn std::fmt::Display) -> Problem {
    Problem::bad(format!("the body broke off: {error}"))
}

fn too_large(bytes_max: usize) -> Problem {
    let text = format!("the body is larger than the {bytes_max} bytes that are taken here");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", text)
}
