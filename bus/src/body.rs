//! Bodies that are too large for one message: they travel in parts, and the message says which.
//!
//! Who asks does everything: it sends the parts of its request ahead, and fetches those of the
//! answer. So a body needs no right that the request itself does not need. Bodies are in memory
//! only; those that nobody drops or touches are forgotten after a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::client::within;
use crate::{
    Bus, Error, Headers, Kind, PAYLOAD_BYTES_MAX, Refusal, RefusalKind, Request, Response, Subject,
    TierPath,
};

/// In place of a body: which one it is, as JSON.
pub const BODY_HEADER: &str = "Es-Body";
/// Who asks can fetch a large answer.
pub const FETCHES_HEADER: &str = "Es-Fetches-Body";
/// Where a part belongs: the number of its body and its own.
const PART_HEADER: &str = "Es-Part";
/// The request to keep a part of an event's data.
pub const KEEP: &str = "keep";
/// In place of an app, in the subjects of parts.
pub const APP: &str = "@body";

/// The largest body that travels, in bytes.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// What the bodies at one node may take together, in bytes; beyond it new ones are refused.
pub const BODIES_BYTES_MAX: usize = 256 << 20;
/// One part, in bytes: with its headers it is well below what a message may be.
pub const PART_BYTES: usize = PAYLOAD_BYTES_MAX / 2;
/// How many parts of one body are on their way at once.
const PARTS_AT_ONCE: usize = 8;
/// How long a body is kept that nobody touches.
pub const KEPT: Duration = Duration::from_secs(60);

/// Which body is meant, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub id: String,
    pub bytes: usize,
    pub sha256: String,
}

impl Reference {
    fn of(body: &Bytes) -> Self {
        Self { id: crate::event::unique_id(), bytes: body.len(), sha256: digest(body) }
    }

    /// What headers refer to, whether or not it may travel.
    pub fn peek(headers: &Headers) -> Option<Self> {
        serde_json::from_str(headers.get(BODY_HEADER)?).ok()
    }

    pub fn read(headers: &mut Headers) -> Result<Option<Self>, Refusal> {
        let Some(text) = headers.remove(BODY_HEADER) else { return Ok(None) };
        let found: Self = serde_json::from_str(&text)
            .map_err(|e| Refusal::bad(format!("header {BODY_HEADER}: {e}")))?;
        check_size(found.bytes)?;
        Ok(Some(found))
    }

    pub fn write(&self, headers: &mut Headers) {
        let text = serde_json::to_string(self).expect("a reference holds text and a number only");
        headers.insert(BODY_HEADER.into(), text);
    }

    pub fn check(&self, body: &Bytes) -> Result<(), Refusal> {
        match body.len() == self.bytes && digest(body) == self.sha256 {
            true => Ok(()),
            false => Err(gone(format!("body {}: its bytes are not what was sent", self.id))),
        }
    }

    pub fn parts(&self) -> usize {
        self.bytes.div_ceil(PART_BYTES)
    }
}

/// The bodies that one node holds for others: sent ahead of a request, or of an answer.
#[derive(Default)]
pub struct Bodies {
    held: Mutex<HashMap<String, Held>>,
}

struct Held {
    /// As it was announced; what it takes of the limit.
    bytes: usize,
    /// Empty where one has not come yet.
    parts: Vec<Bytes>,
    touched: Instant,
}

impl Bodies {
    /// Answers `@body.<verb>`.
    pub fn serve(self: &Arc<Self>, verb: &str, request: Request) -> Result<Response, Refusal> {
        let (id, number) = part_of(&request)?;
        let (id, now) = (id.as_str(), Instant::now());
        match verb {
            "put" => {
                let mut headers = request.headers.clone();
                let body = Reference::read(&mut headers)?.filter(|body| body.id == id);
                if self.put(&body.ok_or_else(bad_part)?, number, request.payload, now)? {
                    self.forget_later(id.to_owned());
                }
                Ok(Response::default())
            }
            "get" => self.part(id, number, now).map(Response::new),
            "drop" => {
                self.lock().remove(id);
                Ok(Response::default())
            }
            _ => Err(Refusal::bad(format!(
                "no request {APP}.{verb}; there are put, get, drop and keep"
            ))),
        }
    }

    /// A request with its whole body, wherever that was.
    pub fn whole(&self, mut request: Request) -> Result<Request, Refusal> {
        if let Some(body) = Reference::read(&mut request.headers)? {
            request.payload = self.take(&body, Instant::now())?;
        }
        Ok(request)
    }

    /// An answer that may travel: one too large stays here, to be fetched.
    pub fn hold(self: &Arc<Self>, mut answer: Response) -> Result<Response, Refusal> {
        check_size(answer.payload.len())?;
        let body = Reference::of(&answer.payload);
        for number in 0..body.parts() {
            self.put(&body, number, slice(&answer.payload, number), Instant::now())?;
        }
        self.forget_later(body.id.clone());
        body.write(&mut answer.headers);
        answer.payload = Bytes::new();
        Ok(answer)
    }

    /// Takes a part in; true for the first of its body.
    fn put(
        &self,
        body: &Reference,
        number: usize,
        part: Bytes,
        now: Instant,
    ) -> Result<bool, Refusal> {
        let wanted = PART_BYTES.min(body.bytes.saturating_sub(number.saturating_mul(PART_BYTES)));
        if part.is_empty() || part.len() != wanted {
            let text = format!("part {number} has {} bytes, not {wanted}", part.len());
            return Err(Refusal::bad(format!("body {}: {text}", body.id)));
        }
        let mut held = self.lock();
        let is_new = !held.contains_key(&body.id);
        if is_new {
            let all: usize = held.values().map(|held| held.bytes).sum();
            if all + body.bytes > BODIES_BYTES_MAX {
                let text = format!("{} MiB of large bodies are under way", all >> 20);
                let mut refusal = Refusal::new(RefusalKind::Overloaded, text);
                refusal.retry_after_ms = Some(1_000);
                return Err(refusal);
            }
        }
        let found = held.entry(body.id.clone()).or_insert_with(|| {
            let parts = vec![Bytes::new(); body.parts()];
            Held { bytes: body.bytes, parts, touched: now }
        });
        found.touched = now;
        let place = found.parts.get_mut(number);
        *place.ok_or_else(|| gone(format!("body {} has another size", body.id)))? = part;
        Ok(is_new)
    }

    fn part(&self, id: &str, number: usize, now: Instant) -> Result<Bytes, Refusal> {
        let mut held = self.lock();
        let found = held.get_mut(id).ok_or_else(|| gone(format!("body {id} is not here")))?;
        found.touched = now;
        let part = found.parts.get(number).filter(|part| !part.is_empty());
        part.cloned().ok_or_else(|| gone(format!("body {id} has no part {number}")))
    }

    /// The body stays until it is dropped: the request may come again.
    fn take(&self, body: &Reference, now: Instant) -> Result<Bytes, Refusal> {
        let parts = (0..body.parts()).map(|number| self.part(&body.id, number, now));
        let whole = join(body, parts.collect::<Result<Vec<_>, _>>()?);
        body.check(&whole)?;
        Ok(whole)
    }

    fn forget_later(self: &Arc<Self>, id: String) {
        let bodies = self.clone();
        tokio::spawn(async move {
            while bodies.is_kept(&id, Instant::now()) {
                tokio::time::sleep(KEPT).await;
            }
        });
    }

    /// Forgets a body that nobody has touched for a while.
    fn is_kept(&self, id: &str, now: Instant) -> bool {
        let mut held = self.lock();
        if held.get(id).is_some_and(|held| now.duration_since(held.touched) >= KEPT) {
            held.remove(id);
        }
        held.contains_key(id)
    }

    /// How many bodies are held, for tests and reports.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Asks a site, and fetches its answer where that is too large for a message.
pub async fn ask(
    bus: &Bus,
    to: &TierPath,
    subject: &str,
    payload: impl Into<Bytes>,
    timeout: Duration,
) -> Result<Response, Error> {
    let headers = Headers::from([(FETCHES_HEADER.to_owned(), "1".to_owned())]);
    let answer = bus.request(subject, &headers, payload, timeout).await?;
    Way { bus, to }.fetch(answer, timeout).await
}

/// A body on its way to a site, or back from there.
pub(crate) struct Way<'a> {
    pub bus: &'a Bus,
    pub to: &'a TierPath,
}

/// The payload of a request, and which body it is when it goes ahead.
pub(crate) struct Ahead {
    payload: Bytes,
    reference: Option<Reference>,
}

impl Ahead {
    /// What is sent ahead of a message with this payload, which is put in its headers; nothing,
    /// when the payload fits.
    pub fn of(payload: &Bytes, headers: &mut Headers) -> Result<Self, Refusal> {
        headers.insert(FETCHES_HEADER.into(), "1".into());
        if payload.len() <= PAYLOAD_BYTES_MAX {
            return Ok(Self { payload: payload.clone(), reference: None });
        }
        check_size(payload.len())?;
        let reference = Reference::of(payload);
        reference.write(headers);
        Ok(Self { payload: payload.clone(), reference: Some(reference) })
    }

    /// What goes with the request itself.
    pub fn payload(&self) -> Bytes {
        if self.reference.is_some() { Bytes::new() } else { self.payload.clone() }
    }
}

impl Way<'_> {
    /// Sends a body ahead of its request.
    pub async fn send(&self, ahead: &Ahead, timeout: Duration) -> Result<(), Error> {
        let Some(body) = &ahead.reference else { return Ok(()) };
        let send = |number| async move {
            let mut headers = part_headers(&body.id, number);
            body.write(&mut headers);
            self.ask("put", headers, slice(&ahead.payload, number), timeout).await
        };
        // Each part has all the time: one after the other they might take many times as long.
        let subject = self.subject("put");
        let sent = within(timeout, &subject, each_part(body, send));
        self.measured(body, sent).await.map(|_| ())
    }

    /// Brings the data of an event, to be kept there until the event is done.
    pub async fn keep(
        &self,
        reference: &Reference,
        data: &Bytes,
        timeout: Duration,
    ) -> Result<(), Error> {
        let send = |number| async move {
            let headers = part_headers(&reference.id, number);
            self.ask(KEEP, headers, slice(data, number), timeout).await
        };
        self.measured(reference, each_part(reference, send)).await.map(|_| ())
    }

    /// Sends a body, and notes how fast it came there.
    async fn measured<T>(
        &self,
        body: &Reference,
        sent: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let sent = sent.await;
        let (rates, took, now) = (self.bus.rates(), started.elapsed(), Instant::now());
        match &sent {
            Ok(_) => rates.note(self.to, body.bytes, took, now),
            Err(Error::TimedOut { .. }) => rates.note_late(self.to, body.bytes, took, now),
            Err(_) => {}
        }
        sent
    }

    /// Says that the body is not needed any more; if that is lost, it is forgotten later.
    pub async fn forget(&self, ahead: &Ahead) {
        if let Some(body) = &ahead.reference {
            self.drop_body(&body.id).await;
        }
    }

    /// An answer with its whole body.
    pub async fn fetch(&self, mut answer: Response, timeout: Duration) -> Result<Response, Error> {
        let Some(body) = Reference::read(&mut answer.headers)? else { return Ok(answer) };
        let id = body.id.as_str();
        let get = |number| async move {
            let part = self.ask("get", part_headers(id, number), Bytes::new(), timeout).await;
            part.map(|part| part.payload)
        };
        let parts = within(timeout, &self.subject("get"), each_part(&body, get)).await?;
        answer.payload = join(&body, parts);
        self.drop_body(id).await;
        body.check(&answer.payload)?;
        Ok(answer)
    }

    async fn ask(
        &self,
        verb: &str,
        headers: Headers,
        part: Bytes,
        timeout: Duration,
    ) -> Result<Response, Error> {
        self.bus.request(&self.subject(verb), &headers, part, timeout).await
    }

    async fn drop_body(&self, id: &str) {
        let _ = self.bus.publish(&self.subject("drop"), &part_headers(id, 0), Bytes::new()).await;
    }

    fn subject(&self, verb: &str) -> String {
        Subject::new(Kind::Call, self.to, format!("{APP}.{verb}")).to_string()
    }
}

/// Does something with each part of a body, a few at a time; the results are in their order.
pub(crate) async fn each_part<T, F>(
    body: &Reference,
    part: impl FnMut(usize) -> F,
) -> Result<Vec<T>, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    futures::stream::iter((0..body.parts()).map(part)).buffered(PARTS_AT_ONCE).try_collect().await
}

/// Which body a request is about, and which part of it.
pub(crate) fn part_of(request: &Request) -> Result<(String, usize), Refusal> {
    let named = request.headers.get(PART_HEADER).and_then(|text| text.split_once(' '));
    let (id, number) = named.ok_or_else(bad_part)?;
    Ok((id.to_owned(), number.parse().map_err(|_| bad_part())?))
}

fn bad_part() -> Refusal {
    Refusal::bad(format!("header {PART_HEADER}: say a body and a number"))
}

fn part_headers(id: &str, number: usize) -> Headers {
    Headers::from([(PART_HEADER.to_owned(), format!("{id} {number}"))])
}

pub(crate) fn slice(body: &Bytes, number: usize) -> Bytes {
    let start = number * PART_BYTES;
    body.slice(start..body.len().min(start + PART_BYTES))
}

pub(crate) fn join(body: &Reference, parts: Vec<Bytes>) -> Bytes {
    let mut whole = BytesMut::with_capacity(body.bytes);
    for part in parts {
        whole.extend_from_slice(&part);
    }
    whole.freeze()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_size(bytes: usize) -> Result<(), Refusal> {
    match bytes <= BODY_BYTES_MAX {
        true => Ok(()),
        false => Err(Refusal::bad(format!(
            "a body of {bytes} bytes; at most {BODY_BYTES_MAX} travel: put it in the store as a \
             blob, and send its key"
        ))),
    }
}

/// Nobody knows whether the request was carried out before; asked again it may be.
fn gone(text: String) -> Refusal {
    Refusal::new(RefusalKind::Unavailable, text)
}

#[cfg(test)]
mod tests;
