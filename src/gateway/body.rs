//! Bodies of requests: taken in as they come, bounded in size, time and memory.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::{Door, Problem};

/// What the bodies of all requests under way may hold together, in KiB.
pub(super) const MEMORY_KIB_MAX: usize = 512 << 10;

/// A body, and its share of the memory for bodies.
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _memory: Vec<OwnedSemaphorePermit>,
}

impl Door {
    /// Takes a whole body in; `bytes_max` is the limit of what it is for.
    pub(super) async fn take_body(
        &self,
        headers: &HeaderMap,
        body: Incoming,
        bytes_max: usize,
    ) -> Result<Held, Problem> {
        let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let said = said.and_then(|text| text.parse::<u64>().ok());
        if said.is_some_and(|bytes| bytes > bytes_max as u64) {
            return Err(too_large(bytes_max));
        }
        let patience = Duration::from_millis(self.settings.body_timeout_ms);
        match tokio::time::timeout(patience, self.read(body, bytes_max)).await {
            Ok(held) => held,
            Err(_) => {
                let text = format!("the body did not arrive within {} ms", patience.as_millis());
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", text))
            }
        }
    }

    async fn read(&self, body: Incoming, bytes_max: usize) -> Result<Held, Problem> {
        let mut stream = Body::new(body).into_data_stream();
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        let mut memory = Vec::new();
        while let Some(part) = stream.next().await {
            let part = part.map_err(|e| Problem::bad(format!("the body broke off: {e}")))?;
            if first.len() + rest.len() + part.len() > bytes_max {
                return Err(too_large(bytes_max));
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
        self.body_memory.clone().try_acquire_many_owned(kib).map_err(|_| {
            let text = format!("bodies of {} MiB are being taken in", MEMORY_KIB_MAX >> 10);
            Problem::overloaded(text, Duration::from_secs(1))
        })
    }
}

fn too_large(bytes_max: usize) -> Problem {
    let text = format!("the body is larger than the {bytes_max} bytes that are taken here");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", text)
}
