//! Bodies of HTTP requests that are still on their way when their handler begins. Who can read in
//! parts does so as they come; for everybody else the whole body is waited for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bus::Refusal;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde::{Deserialize, Serialize};

/// A body in parts; it ends when all of it was read, or with the reason why no more comes.
pub type Parts = UnsyncBoxBody<Bytes, Broken>;

/// Why a body ended before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Broken {
    /// It is longer than what is taken.
    #[error("the body is larger than the {bytes_max} bytes that are taken here")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// The client or its connection went away.
    #[error("the body broke off: {0}")]
    Lost(String),
}

/// Where a body comes from.
#[async_trait]
pub trait Arriving: Send {
    /// Waits for all of it.
    async fn whole(self: Box<Self>) -> Result<Bytes, Refusal>;

    /// Its parts, as they come: nothing is read ahead of who reads them.
    fn parts(self: Box<Self>) -> Parts;
}

/// A body that somebody reads: once in parts, or whole.
#[derive(Clone)]
pub struct Inlet(Arc<Mutex<State>>);

enum State {
    OnItsWay(Box<dyn Arriving>),
    Here(Bytes),
    /// Somebody reads it, or has read it.
    Taken,
}

impl Inlet {
    /// A body that nobody has read yet.
    pub fn new(body: impl Arriving + 'static) -> Self {
        Self(Arc::new(Mutex::new(State::OnItsWay(Box::new(body)))))
    }

    /// All of the body; it can be asked for again.
    pub async fn whole(&self) -> Result<Bytes, Refusal> {
        let body = match self.take() {
            State::OnItsWay(body) => body.whole().await?,
            State::Here(body) => body,
            State::Taken => return Err(Refusal::bad("the body of the request was read before")),
        };
        *self.lock() = State::Here(body.clone());
        Ok(body)
    }

    /// The body in parts; nothing where somebody reads it already.
    pub(super) fn parts(&self) -> Option<Parts> {
        match self.take() {
            State::OnItsWay(body) => Some(body.parts()),
            State::Here(body) => Some(Parts::new(Full::new(body).map_err(|never| match never {}))),
            State::Taken => None,
        }
    }

    fn take(&self) -> State {
        std::mem::replace(&mut *self.lock(), State::Taken)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Inlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inlet")
    }
}

/// The same body, not only the same bytes.
impl PartialEq for Inlet {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Inlet {}
