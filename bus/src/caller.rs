//! Calls of functions by a client that stays: one whose functions are at a tier above asks there
//! by itself, once its site has told it where. Decides nothing: the site says which way lasts.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::message::{KEY_HEADER, WAY_HEADER};
use crate::{Bus, Error, Headers, Kind, RefusalKind, Response, Subject, TierPath};

/// How long a way is gone before the client's own site is asked again.
const WAY_LASTS: Duration = Duration::from_secs(1);
/// How many ways are remembered; beyond it all are forgotten.
const WAYS_MAX: usize = 1_024;

/// Calls functions over one connection.
pub struct Caller {
    bus: Bus,
    ways: Mutex<HashMap<String, Way>>,
}

struct Way {
    to: TierPath,
    until: Instant,
}

impl Caller {
    /// Calls from the site of a connection.
    pub fn new(bus: Bus) -> Self {
        Self { bus, ways: Mutex::default() }
    }

    /// Calls `app.function` and waits for the answer. One with an idempotency key always goes by
    /// the client's own site, which remembers what was answered.
    pub async fn call(
        &self,
        function: &str,
        headers: &Headers,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Response, Error> {
        let began = Instant::now();
        if let Some(to) = self.way(function, began).filter(|_| !headers.contains_key(KEY_HEADER)) {
            match self.ask(&to, function, headers, payload.clone(), timeout).await {
                Err(error) if is_for_another(&error) => self.forget(function),
                done => return done,
            }
        }
        let left = timeout.saturating_sub(began.elapsed());
        let answer = self.ask(self.bus.site(), function, headers, payload, left).await?;
        if let Some(to) = answer.headers.get(WAY_HEADER).and_then(|site| site.parse().ok()) {
            self.learn(function, to);
        }
        Ok(answer)
    }

    async fn ask(
        &self,
        site: &TierPath,
        function: &str,
        headers: &Headers,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Response, Error> {
        let subject = Subject::new(Kind::Call, site, function).to_string();
        self.bus.request(&subject, headers, payload, timeout).await
    }

    fn way(&self, function: &str, now: Instant) -> Option<TierPath> {
        self.lock().get(function).filter(|way| now < way.until).map(|way| way.to.clone())
    }

    /// Only a site above can be asked.
    fn learn(&self, function: &str, to: TierPath) {
        if !to.contains(self.bus.site()) {
            return;
        }
        let mut ways = self.lock();
        if ways.len() >= WAYS_MAX {
            ways.clear();
        }
        ways.insert(function.to_owned(), Way { to, until: Instant::now() + WAY_LASTS });
    }

    fn forget(&self, function: &str) {
        self.lock().remove(function);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a request was certainly not carried out and another site may do it.
fn is_for_another(error: &Error) -> bool {
    let elsewhere = |kind| {
        matches!(kind, RefusalKind::Overloaded | RefusalKind::NoHandler | RefusalKind::NotFound)
    };
    match error {
        Error::Refused(refusal) => elsewhere(refusal.kind),
        error => error.not_done(),
    }
}
