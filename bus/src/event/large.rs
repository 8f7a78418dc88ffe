//! Data of events that is too large for a message: kept in parts beside the tier's log, in a stream
//! of its own, until nobody needs it any more. The event holds a reference.
//!
//! Each keeper has a copy of its own: the log of each tier that the event reaches, and the dead
//! letters. So whoever is done with an event removes its data, and asks nobody. What a crash left
//! behind goes after [`AGE_MAX`]. Parts never cross a link in this form: who sends an event on
//! brings its data as it does the body of a call ([`crate::body`]), with the verb `keep`.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream;
use bytes::Bytes;
use time::OffsetDateTime;

use super::metadata::check_headers;
use super::{Event, EventLog, ONLY_HEADER, WAS_HEADER};
use crate::body::{self, BODY_BYTES_MAX, BODY_HEADER, PART_BYTES, Reference, Way};
use crate::client::within;
use crate::{
    Bus, Error, Headers, Kind, PAYLOAD_BYTES_MAX, Refusal, RefusalKind, Request, Response, Subject,
    TierPath,
};

/// The stream of parts.
const STREAM: &str = "LARGE";
/// Below which parts are stored; it names no site, and so outlives a move.
const SUBJECT: &str = "local._.large";
/// How many bytes of parts a tier keeps; beyond this, events that are too large are refused.
const BYTES_MAX: i64 = 512 << 20;
/// How long a part is kept at most.
pub const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long one part may take that comes from another site.
const PART_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node may take to store an event at its own site.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// The same, or its data alone, where that is too large for a message.
const DATA_TIMEOUT: Duration = Duration::from_secs(60);
/// What keeps a copy for dead letters apart from that of the log.
const DEAD: &str = "dead";

pub(super) fn config() -> stream::Config {
    stream::Config {
        name: STREAM.into(),
        subjects: vec![format!("{SUBJECT}.>")],
        max_bytes: BYTES_MAX,
        max_age: AGE_MAX,
        discard: stream::DiscardPolicy::New,
        // The same part sent again replaces the first.
        max_messages_per_subject: 1,
        ..Default::default()
    }
}

impl Event {
    /// How large the data is, wherever it is.
    pub fn data_bytes(&self) -> usize {
        let away = Reference::peek(&self.headers).map(|reference| reference.bytes);
        away.unwrap_or(self.data.len())
    }

    /// True when the data is not in the event itself.
    pub fn is_referring(&self) -> bool {
        self.headers.contains_key(BODY_HEADER)
    }

    /// The key of its data: who may not speak for its source cannot name it, nor who does not know
    /// the data itself.
    fn key(&self, sha256: &str, keeper: &str) -> String {
        let source = self.headers.get(WAS_HEADER).unwrap_or(&self.source);
        let only = self.headers.get(ONLY_HEADER).map_or("", String::as_str);
        let whole = format!("{source}\n{}\n{only}\n{sha256}\n{keeper}", self.id);
        body::digest(whole.as_bytes())[..32].to_owned()
    }

    /// What its data must be to have a reference of this event.
    fn reference(&self) -> Result<Option<Reference>, Error> {
        let Some(found) = Reference::read(&mut self.headers.clone())? else { return Ok(None) };
        match found.id == self.key(&found.sha256, "") {
            true => Ok(Some(found)),
            false => Err(Error::Bad(format!(
                "event {}: header {BODY_HEADER} names data that is not this event's",
                self.name
            ))),
        }
    }

    /// The event with its data in place of a reference.
    fn with_data(&self, data: Bytes) -> Self {
        let mut event = Self { data, ..self.clone() };
        event.headers.remove(BODY_HEADER);
        event
    }

    /// The event with a reference in place of its data, and which; nothing when the data fits.
    fn referring(&self) -> Result<Option<(Self, Reference)>, Error> {
        if self.data.len() <= PAYLOAD_BYTES_MAX {
            return Ok(None);
        }
        let bytes = self.data.len();
        if bytes > BODY_BYTES_MAX {
            return Err(Error::Bad(format!(
                "event {}: {bytes} bytes; at most {BODY_BYTES_MAX} go: put them in the store as a \
                 blob, and publish its key",
                self.name
            )));
        }
        let sha256 = body::digest(&self.data);
        let reference = Reference { id: self.key(&sha256, ""), bytes, sha256 };
        let mut event = Self { data: Bytes::new(), ..self.clone() };
        reference.write(&mut event.headers);
        Ok(Some((event, reference)))
    }
}

/// Stores an event at the tier of a client's site, data that is too large first; returns when the
/// tier has it. `timeout` is for the data and one attempt at the event.
pub async fn publish(bus: &Bus, event: &Event, timeout: Duration) -> Result<u64, Error> {
    let subject = Subject::checked(Kind::Ev, bus.site(), &event.name)?.to_string();
    check_headers(&event.name, &event.wire_headers())?;
    let began = Instant::now();
    let small = match event.referring()? {
        None => Cow::Borrowed(event),
        Some((small, reference)) => {
            let put = put(bus, &reference, &event.data, timeout).await;
            put.map_err(|e| match e {
                Error::TimedOut { .. } => Error::timed_out(&subject, timeout),
                other => other,
            })?;
            Cow::Owned(small)
        }
    };
    // Of three servers, two agree on a new leader within seconds; the id makes it one event.
    let (patience, left) = (bus.patience(), timeout.saturating_sub(began.elapsed()));
    loop {
        match super::publish_acked(bus, &subject, &small, left).await {
            Err(e) if e.not_done() && patience.more(&e).await => {}
            done => return done,
        }
    }
}

/// Stores all parts of some data.
async fn put(
    bus: &Bus,
    reference: &Reference,
    data: &Bytes,
    timeout: Duration,
) -> Result<(), Error> {
    let key = reference.id.as_str();
    let put = |number| put_part(bus, key, number, body::slice(data, number), timeout);
    // Each part has all the time: one after the other they might take many times as long.
    within(timeout, &format!("{SUBJECT}.{key}"), body::each_part(reference, put)).await.map(|_| ())
}

async fn put_part(
    bus: &Bus,
    key: &str,
    number: usize,
    part: Bytes,
    timeout: Duration,
) -> Result<(), Error> {
    let subject = format!("{SUBJECT}.{key}.{number}");
    let answer = bus.request(&subject, &Headers::new(), part, timeout).await?;
    super::read_ack(&subject, &answer).map(|_| ())
}

impl EventLog {
    /// Stores an event at this tier; returns when the tier has it.
    pub async fn publish(&self, event: &Event) -> Result<u64, Error> {
        let is_large = event.data.len() > PAYLOAD_BYTES_MAX;
        publish(&self.bus, event, if is_large { DATA_TIMEOUT } else { ACK_TIMEOUT }).await
    }

    /// Stores data that somebody brings who sends an event on, part by part: `@body.keep`.
    pub async fn keep(&self, request: Request) -> Result<Response, Refusal> {
        let (key, number) = body::part_of(&request)?;
        let is_key = key.len() == 32 && key.bytes().all(|b| b.is_ascii_hexdigit());
        let bytes = request.payload.len();
        if !is_key || number >= BODY_BYTES_MAX / PART_BYTES || bytes == 0 || bytes > PART_BYTES {
            return Err(Refusal::bad(format!("part {number} of {key:?}, {bytes} bytes: no part")));
        }
        match put_part(&self.bus, &key, number, request.payload, PART_TIMEOUT).await {
            Ok(()) => Ok(Response::default()),
            Err(e) => Err(Refusal::new(RefusalKind::Unavailable, e.to_string())),
        }
    }

    /// The event with its data, wherever that was.
    pub async fn whole(&self, event: &Event) -> Result<Event, Error> {
        let Some(reference) = event.reference()? else { return Ok(event.clone()) };
        Ok(event.with_data(self.fetch(&reference).await?))
    }

    /// Sends an event to another tier's log, its data first; returns when that tier has it.
    pub(super) async fn send(
        &self,
        event: &Event,
        to: &TierPath,
        subject: &str,
        timeout: Duration,
    ) -> Result<u64, Error> {
        let event = self.whole(event).await?;
        let Some((small, reference)) = event.referring()? else {
            return super::publish_acked(&self.bus, subject, &event, timeout).await;
        };
        Way { bus: &self.bus, to }.keep(&reference, &event.data, PART_TIMEOUT).await?;
        super::publish_acked(&self.bus, subject, &small, timeout).await
    }

    /// Removes the data of an event that nobody at this tier needs any more.
    pub async fn forget(&self, event: &Event) -> Result<(), Error> {
        match event.reference()? {
            Some(reference) => self.purge(&reference.id).await,
            None => Ok(()),
        }
    }

    /// Makes a copy of an event's data for a dead letter.
    pub(super) async fn copy_for_dead(&self, event: &Event, handler: &str) -> Result<(), Error> {
        let Some(reference) = event.reference()? else { return Ok(()) };
        let data = self.fetch(&reference).await?;
        put(&self.bus, &of_dead(event, &reference, handler), &data, DATA_TIMEOUT).await
    }

    /// Keeps the data of a dead letter beside it; the headers get its reference, and what goes with
    /// them is nothing.
    pub(super) async fn put_for_dead(
        &self,
        event: &Event,
        handler: &str,
        headers: &mut Headers,
    ) -> Result<Bytes, Error> {
        let Some((small, reference)) = event.referring()? else { return Ok(event.data.clone()) };
        let kept = of_dead(event, &reference, handler);
        put(&self.bus, &kept, &event.data, DATA_TIMEOUT).await?;
        reference.write(headers);
        Ok(small.data)
    }

    /// An event with the data that its dead letter kept.
    pub(super) async fn whole_of_dead(&self, event: &Event, handler: &str) -> Result<Event, Error> {
        let Some(reference) = event.reference()? else { return Ok(event.clone()) };
        Ok(event.with_data(self.fetch(&of_dead(event, &reference, handler)).await?))
    }

    /// Stores data for an event of these headers, which get its reference.
    pub(super) async fn lay_down(
        &self,
        name: &str,
        headers: &mut Headers,
        data: Bytes,
    ) -> Result<(), Error> {
        headers.remove(BODY_HEADER);
        let (site, now) = (self.bus.site(), OffsetDateTime::UNIX_EPOCH);
        let event = Event::read(name, headers.clone(), data, site, String::new, now)?;
        if let Some((_, reference)) = event.referring()? {
            put(&self.bus, &reference, &event.data, DATA_TIMEOUT).await?;
            reference.write(headers);
        }
        Ok(())
    }

    /// Removes what a dead letter kept.
    pub(super) async fn forget_dead(&self, event: &Event, handler: &str) -> Result<(), Error> {
        match event.reference()? {
            Some(reference) => self.purge(&of_dead(event, &reference, handler).id).await,
            None => Ok(()),
        }
    }

    async fn fetch(&self, reference: &Reference) -> Result<Bytes, Error> {
        let stream = self.js.get_stream(STREAM).await.map_err(|e| self.bus.unreachable(e))?;
        let (stream, key) = (&stream, &reference.id);
        let get = |number| async move {
            let subject = format!("{SUBJECT}.{key}.{number}");
            match stream.get_last_raw_message_by_subject(&subject).await {
                Ok(message) => Ok(message.payload),
                Err(e) if e.kind() == stream::LastRawMessageErrorKind::NoMessageFound => {
                    Err(Error::Bad(format!("its data is gone: part {number} of {key}")))
                }
                Err(e) => Err(self.bus.unreachable(e)),
            }
        };
        let whole = body::join(reference, body::each_part(reference, get).await?);
        reference.check(&whole)?;
        Ok(whole)
    }

    async fn purge(&self, key: &str) -> Result<(), Error> {
        let stream = self.js.get_stream(STREAM).await.map_err(|e| self.bus.unreachable(e))?;
        let purged = stream.purge().filter(format!("{SUBJECT}.{key}.>")).await;
        purged.map(|_| ()).map_err(|e| self.bus.unreachable(e))
    }

    /// How many parts the tier holds, for tests and reports.
    pub async fn large_len(&self) -> Result<u64, Error> {
        let stream = self.js.get_stream(STREAM).await.map_err(|e| self.bus.unreachable(e))?;
        Ok(stream.cached_info().state.messages)
    }
}

fn of_dead(event: &Event, reference: &Reference, handler: &str) -> Reference {
    let id = event.key(&reference.sha256, &format!("{DEAD}/{handler}"));
    Reference { id, ..reference.clone() }
}
