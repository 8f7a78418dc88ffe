//! Events: CloudEvents 1.0 in NATS binary mode, kept per tier in JetStream until handled.
//!
//! Each tier has one stream, `EV`, that captures what is published at the tier and what its
//! children send up; and one, `DLQ`, for what could not be handled. No subject is captured twice.

pub mod dead;
mod keepers;
pub mod large;

pub use keepers::Keeper;
pub(crate) use keepers::replicas;
pub use large::publish;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{self, AckKind, consumer, stream};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use nkeys::KeyPair;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::debug;

use crate::client::from_nats;
use crate::path::{TierPath, clip};
use crate::subject::{Kind, Subject, check_name};
use crate::{Bus, Error, Headers, Places};

const STREAM: &str = "EV";
/// How long an event waits for its handler before it is offered again.
const ACK_WAIT: Duration = Duration::from_secs(15);
/// How long a look at the log may stand still.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server may take to confirm an acknowledgement.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a second copy of an event id is recognised and dropped by the server.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);
/// How many bytes of events a tier keeps; beyond this the oldest are dropped.
const STREAM_BYTES_MAX: i64 = 1 << 30;
/// How many events may be with handlers at once.
pub const ACK_PENDING_MAX: i64 = 4096;

/// The handlers that have had an event already, comma separated; carried upwards with it.
pub const DONE_HEADER: &str = "Es-Done";
/// The one handler that an event is for; it runs at the site that stores the event, or nowhere.
pub const ONLY_HEADER: &str = "Es-Only";
/// The site below the publisher's that an event is for.
pub const TO_HEADER: &str = "Es-To";
/// What events share that are handled in order, where a handler asks for that.
pub const KEY_HEADER: &str = "ce-partitionkey";
/// The source that an event had before its site was moved; its identity stays.
pub const WAS_HEADER: &str = "Es-Was";
/// The dead letter that an event was before it was tried again.
pub const REDRIVE_HEADER: &str = "Es-Redrive";

/// An event as a handler sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unique with `source`.
    pub id: String,
    /// Where it came from: the tier path, unless the publisher said otherwise.
    pub source: String,
    /// CloudEvents `type`; the name when the publisher gave none.
    pub kind: String,
    /// The app and the event's name within it: `doorcam.motion`.
    pub name: String,
    /// RFC 3339.
    pub time: String,
    pub content_type: String,
    /// Everything else that came in headers, `traceparent` among it.
    pub headers: Headers,
    pub data: Bytes,
}

impl Event {
    /// A new event of this process.
    pub fn new(name: &str, source: &str, data: impl Into<Bytes>) -> Result<Self, Error> {
        check_name(name)?;
        Ok(Self {
            id: unique_id(),
            source: source.to_owned(),
            kind: name.to_owned(),
            name: name.to_owned(),
            time: rfc3339(OffsetDateTime::now_utc()),
            content_type: "application/json".into(),
            headers: Headers::new(),
            data: data.into(),
        })
    }

    /// The app the event belongs to.
    pub fn app(&self) -> &str {
        self.name.split('.').next().unwrap_or(&self.name)
    }

    /// The name within the app.
    pub fn topic(&self) -> &str {
        self.name.split_once('.').map_or("", |(_, topic)| topic)
    }

    /// The one handler it is for, if it is for one alone.
    pub fn only(&self) -> Option<&str> {
        self.headers.get(ONLY_HEADER).map(String::as_str)
    }

    /// The site it is addressed to.
    pub fn to(&self) -> Option<&str> {
        self.headers.get(TO_HEADER).map(String::as_str)
    }

    /// What it shares with the events among which it has an order, by the CloudEvents extension of
    /// that name; `None` for one that has no order.
    pub fn partition_key(&self) -> Option<&str> {
        let is_it = |name: &&String| name.eq_ignore_ascii_case(KEY_HEADER);
        let name = self.headers.keys().find(is_it)?;
        Some(self.headers[name].as_str()).filter(|key| !key.is_empty())
    }

    /// The handlers that have had it already.
    pub fn done(&self) -> impl Iterator<Item = &str> {
        let list = self.headers.get(DONE_HEADER).map_or("", String::as_str);
        list.split(',').filter(|name| !name.is_empty())
    }

    /// Reads an event off the wire; what a plain message lacks is filled in.
    ///
    /// `fallback_id` must be the same at each delivery of the same message.
    pub fn read(
        name: &str,
        mut headers: Headers,
        data: Bytes,
        site: &TierPath,
        fallback_id: &str,
        published: OffsetDateTime,
    ) -> Result<Self, Error> {
        check_name(name)?;
        let mut take = |key: &str| take_any_case(&mut headers, key);
        let version = take("ce-specversion");
        if version.as_deref().is_some_and(|version| version != "1.0") {
            return Err(Error::Bad(format!(
                "event {name}: ce-specversion is {:?}; only 1.0 is spoken",
                clip(version.as_deref().unwrap_or(""))
            )));
        }
        let attribute = |key: &str, value: Option<String>, missing: &str| match value {
            Some(value) if value.is_empty() => {
                Err(Error::Bad(format!("event {name}: header {key} is empty; leave it out")))
            }
            Some(value) => Ok(value),
            None => Ok(missing.to_owned()),
        };
        let id = attribute("ce-id", take("ce-id"), fallback_id)?;
        let source = attribute("ce-source", take("ce-source"), site.as_str())?;
        let kind = attribute("ce-type", take("ce-type"), name)?;
        let time = attribute("ce-time", take("ce-time"), &rfc3339(published))?;
        if OffsetDateTime::parse(&time, &Rfc3339).is_err() {
            let time = clip(&time);
            return Err(Error::Bad(format!("event {name}: ce-time {time:?} is not RFC 3339")));
        }
        let content_type = attribute("content-type", take("content-type"), "application/json")?;
        headers.retain(|key, _| !key.starts_with("Nats-"));
        Ok(Self { id, source, kind, name: name.to_owned(), time, content_type, headers, data })
    }

    /// What makes two messages the same event: its source and id, and for whom it is tried again.
    pub fn message_id(&self) -> String {
        let only = self.only().map_or(String::new(), |handler| format!("/{handler}"));
        let again = self.headers.get(REDRIVE_HEADER).map_or("", String::as_str);
        let source = self.headers.get(WAS_HEADER).unwrap_or(&self.source);
        let id = format!("{source}/{}{only}", self.id);
        format!("{id}{}{again}", if again.is_empty() { "" } else { "#" })
    }

    /// The headers under which the event travels.
    pub fn wire_headers(&self) -> Headers {
        let mut headers = self.headers.clone();
        let mut put = |key: &str, value: &str| headers.insert(key.to_owned(), value.to_owned());
        put("ce-specversion", "1.0");
        put("ce-id", &self.id);
        put("ce-source", &self.source);
        put("ce-type", &self.kind);
        put("ce-time", &self.time);
        put("content-type", &self.content_type);
        put("Nats-Msg-Id", &self.message_id());
        headers
    }
}

/// The first value counts; one left behind under another spelling would take its place at the next
/// site.
fn take_any_case(headers: &mut Headers, key: &str) -> Option<String> {
    let mut first = None;
    headers.retain(|name, value| {
        let is_it = name.eq_ignore_ascii_case(key);
        if is_it && first.is_none() {
            first = Some(std::mem::take(value));
        }
        !is_it
    });
    first
}

pub(crate) fn rfc3339(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".into())
}

/// An id that nobody else has: over processes by a random prefix, within this one by a count.
pub fn unique_id() -> String {
    static PREFIX: OnceLock<String> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let prefix = PREFIX.get_or_init(|| KeyPair::new_user().public_key().to_lowercase());
    format!("{}-{:x}", &prefix[1..23], COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The durable log of events of one tier.
#[derive(Clone)]
pub struct EventLog {
    bus: Bus,
    js: jetstream::Context,
    /// Where the tier was, and those below it, before they were moved.
    places: Places,
}

/// Who reads the log: each reader sees every event once, and again until it acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Runs the handlers of this tier.
    Run,
    /// Sends up what belongs to an ancestor.
    Climb,
}

impl Reader {
    fn durable(self) -> &'static str {
        match self {
            Self::Run => "RUN",
            Self::Climb => "CLIMB",
        }
    }

    /// Events climb one by one, so that their order holds whatever is redelivered.
    fn ack_pending_max(self) -> i64 {
        match self {
            Self::Run => ACK_PENDING_MAX,
            Self::Climb => 1,
        }
    }
}

impl EventLog {
    /// Opens the log of the bus's own tier, making its streams when they are missing.
    pub async fn open(bus: &Bus) -> Result<Self, Error> {
        let patience = bus.patience();
        loop {
            match Self::try_open(bus).await {
                Err(e) if patience.more(&e).await => {}
                done => return done,
            }
        }
    }

    async fn try_open(bus: &Bus) -> Result<Self, Error> {
        let js = jetstream::new(bus.nats().clone());
        let site = bus.site();
        let subjects = vec![Subject::all(Kind::Ev, site), format!("sync.{site}.*._.ev.>")];
        let events = stream::Config {
            name: STREAM.into(),
            subjects,
            max_bytes: STREAM_BYTES_MAX,
            duplicate_window: DUPLICATE_WINDOW,
            allow_direct: true,
            ..Default::default()
        };
        let dead = stream::Config {
            name: dead::STREAM.into(),
            subjects: vec![dead::subjects(site)],
            max_bytes: STREAM_BYTES_MAX / 4,
            allow_direct: true,
            ..Default::default()
        };
        for mut config in [events, dead, large::config()] {
            let name = config.name.clone();
            config.num_replicas = replicas(&js, &name, bus).await;
            js.create_or_update_stream(config)
                .await
                .map_err(|e| Error::local(format!("stream {name} of {site}"), e))?;
        }
        let places = Places::new(site.clone(), vec![]);
        Ok(Self { bus: bus.clone(), js, places })
    }

    /// The log of a tier that was moved: what it took in under a former path speaks for the one
    /// that it has now, since the new parent knows it by no other.
    pub fn formerly(mut self, places: Places) -> Self {
        self.places = places;
        self
    }

    /// Stores an event at this tier; returns when the tier has it.
    pub async fn publish(&self, event: &Event) -> Result<u64, Error> {
        large::publish(&self.bus, event, Duration::from_secs(5)).await
    }

    /// Sends an event to the parent's log; returns when the parent has it.
    pub async fn climb(&self, event: &Event, timeout: Duration) -> Result<u64, Error> {
        let subject = format!("sync.{}._.ev.{}", self.bus.site(), event.name);
        let parent = self.bus.site().parent().unwrap_or_else(|| self.bus.site().clone());
        self.send(event, &parent, &subject, timeout).await
    }

    /// Sends an event to the log of a site below; returns when that site has it.
    pub async fn descend(
        &self,
        event: &Event,
        to: &TierPath,
        timeout: Duration,
    ) -> Result<u64, Error> {
        let subject = Subject::checked(Kind::Ev, to, &event.name)?.to_string();
        self.send(event, to, &subject, timeout).await
    }

    /// How many events `reader` has not acknowledged yet.
    pub async fn waiting(&self, reader: Reader) -> Result<u64, Error> {
        let info = self.consumer_info(reader).await?;
        Ok(info.num_pending + info.num_ack_pending as u64)
    }

    /// How far a reader has come.
    pub async fn course(&self, reader: Reader) -> Result<Course, Error> {
        let info = self.consumer_info(reader).await?;
        let (floor, delivered) = (info.ack_floor.stream_sequence, info.delivered.stream_sequence);
        Ok(Course { floor, delivered, number: info.delivered.consumer_sequence })
    }

    async fn consumer_info(&self, reader: Reader) -> Result<consumer::Info, Error> {
        let fail = |e: &dyn ToString| self.bus.unreachable(e.to_string());
        let stream = self.js.get_stream(STREAM).await.map_err(|e| fail(&e))?;
        let name = self.bus.hidden(reader.durable());
        stream.consumer_info(&name).await.map_err(|e| fail(&e))
    }

    /// The events from a position on, without their data; nobody acknowledges these deliveries, and
    /// the readers know nothing of them.
    pub async fn look(&self, from: u64) -> Result<Deliveries, Error> {
        let fail = |e: &dyn ToString| self.bus.unreachable(e.to_string());
        let stream = self.js.get_stream(STREAM).await.map_err(|e| fail(&e))?;
        let config = consumer::pull::Config {
            ack_policy: consumer::AckPolicy::None,
            deliver_policy: consumer::DeliverPolicy::ByStartSequence { start_sequence: from },
            headers_only: true,
            inactive_threshold: LOOK_TIMEOUT,
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|e| fail(&e))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(256)
            .expires(LOOK_TIMEOUT)
            .messages()
            .await
            .map_err(|e| fail(&e))?;
        Ok(self.deliveries(messages))
    }

    /// The events that `reader` has not acknowledged yet, oldest first, then new ones as they come.
    pub async fn read(&self, reader: Reader) -> Result<Deliveries, Error> {
        let fail = |e: &dyn ToString| self.bus.unreachable(e.to_string());
        // A server lets acknowledgements pass from any link; whoever cannot name the reader cannot
        // acknowledge for it.
        let name = self.bus.hidden(reader.durable());
        let stream = self.js.get_stream(STREAM).await.map_err(|e| fail(&e))?;
        let config = consumer::pull::Config {
            durable_name: Some(name.clone()),
            ack_policy: consumer::AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: reader.ack_pending_max(),
            ..Default::default()
        };
        let consumer = stream.get_or_create_consumer(&name, config).await.map_err(|e| fail(&e))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(256)
            .expires(Duration::from_secs(30))
            .heartbeat(Duration::from_secs(5))
            .messages()
            .await
            .map_err(|e| fail(&e))?;
        Ok(self.deliveries(messages))
    }

    fn deliveries(&self, messages: consumer::pull::Stream) -> Deliveries {
        let (site, places) = (self.bus.site().clone(), self.places.clone());
        Deliveries { site, places, messages, client: self.bus.nats().clone(), broken: false }
    }
}

/// How far a reader of the log has come, in positions of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// Up to here everything is acknowledged.
    pub floor: u64,
    /// The last that was delivered.
    pub delivered: u64,
    /// How many deliveries there were.
    pub number: u64,
}

/// A running read of the log.
pub struct Deliveries {
    site: TierPath,
    places: Places,
    messages: consumer::pull::Stream,
    client: Client,
    broken: bool,
}

impl Deliveries {
    /// The next delivery; `None` means that the read is over and must be opened again. What had
    /// come until then is given first: whatever is dropped unread comes again much later only.
    pub async fn next(&mut self) -> Option<Delivery> {
        if !self.broken {
            match self.message().await {
                Ok(delivery) => return Some(delivery),
                Err(e) => {
                    debug!(error = %e, "a read of the log is over");
                    self.broken = true;
                }
            }
        }
        self.message().now_or_never()?.ok()
    }

    async fn message(&mut self) -> Result<Delivery, Error> {
        let message = match self.messages.next().await {
            Some(Ok(message)) => message,
            Some(Err(e)) => return Err(Error::local(format!("events of {}", self.site), e)),
            None => return Err(Error::local(format!("events of {}", self.site), "closed")),
        };
        let info = message.info().map_err(|e| Error::local("event", e))?;
        let (seq, attempts, published) = (info.stream_sequence, info.delivered, info.published);
        let (number, left) = (info.consumer_sequence, info.pending);
        let name = name_of(&message.subject);
        let headers = from_nats(&message.message);
        let id = format!("{}-{seq}", self.site.domain());
        let data = message.payload.clone();
        let event = Event::read(&name, headers.clone(), data.clone(), &self.site, &id, published)
            .and_then(|event| speaks_for_itself(event, &message.subject))
            .map(|event| under_the_present_path(event, &self.places, &self.site));
        let published_here = message.subject.starts_with("ev.");
        let client = self.client.clone();
        Ok(Delivery {
            event,
            name,
            headers,
            data,
            seq,
            number,
            left,
            attempts,
            published_here,
            message,
            client,
        })
    }
}

/// Refuses an event that a child sent up under the name of a site outside its subtree; the child's
/// own name is in the subject, where the server has checked it.
fn speaks_for_itself(event: Event, subject: &str) -> Result<Event, Error> {
    let sender = subject.strip_prefix("sync.").and_then(|rest| rest.split_once("._."));
    let Some((sender, _)) = sender else { return Ok(event) };
    let sender: TierPath = sender.parse()?;
    match event.source.parse::<TierPath>() {
        Ok(source) if source.root() == sender.root() && !sender.contains(&source) => {
            Err(Error::Bad(format!("event {}: {sender} speaks for {source}", event.name)))
        }
        _ => Ok(event),
    }
}

/// An event of a tier that was moved, or of one below it, by the path that the tier has now; so is
/// the site that it is for.
fn under_the_present_path(mut event: Event, places: &Places, site: &TierPath) -> Event {
    let to = event.to().and_then(|to| to.parse().ok()).and_then(|to| places.now(&to));
    if let Some(now) = to {
        event.headers.insert(TO_HEADER.to_owned(), now.to_string());
    }
    let Ok(source) = event.source.parse::<TierPath>() else { return event };
    if site.contains(&source) {
        return event;
    }
    if let Some(before) = places.former().iter().find(|before| before.contains(&source)) {
        let now = format!("{site}{}", &source.as_str()[before.as_str().len()..]);
        let was = std::mem::replace(&mut event.source, now);
        event.headers.entry(WAS_HEADER.to_owned()).or_insert(was);
    }
    event
}

/// The part of a stored subject that names the event: behind `_`, or behind `_.ev` on its way up.
fn name_of(subject: &str) -> String {
    let name = subject.split_once("._.").map_or(subject, |(_, name)| name);
    match subject.starts_with("sync.") {
        true => name.strip_prefix("ev.").unwrap_or(name).to_owned(),
        false => name.to_owned(),
    }
}

/// One delivery of an event; unless acknowledged it comes again.
pub struct Delivery {
    /// The event, or what is wrong with the message.
    pub event: Result<Event, Error>,
    pub name: String,
    pub headers: Headers,
    pub data: Bytes,
    /// The position in the tier's log.
    pub seq: u64,
    /// Deliveries of one reader are numbered; a number that is left out did not arrive.
    pub number: u64,
    /// How many events are behind it that were never delivered.
    pub left: u64,
    /// How often it was delivered, this time included.
    pub attempts: i64,
    /// It was published at this site, or sent down to it; it did not climb.
    pub published_here: bool,
    message: jetstream::Message,
    client: Client,
}

impl Delivery {
    /// Done: once this returns `Ok`, it will not come again.
    pub async fn ack(&self) -> Result<(), Error> {
        let Some(to) = self.message.reply.clone() else { return Ok(()) };
        let ack = async_nats::Request::new().payload("+ACK".into()).timeout(Some(ACK_TIMEOUT));
        let told = self.client.send_request(to, ack).await;
        told.map(|_| ()).map_err(|e| Error::local("acknowledgement", e))
    }

    /// Not done: it comes again after a while.
    pub async fn retry(&self, after: Duration) -> Result<(), Error> {
        let nak = AckKind::Nak(Some(after));
        self.message.ack_with(nak).await.map_err(|e| Error::local("acknowledgement", e))
    }

    /// Still at it: the clock starts again.
    pub async fn progress(&self) -> Result<(), Error> {
        let kind = AckKind::Progress;
        self.message.ack_with(kind).await.map_err(|e| Error::local("acknowledgement", e))
    }
}

#[derive(Deserialize)]
struct PublishAck {
    #[serde(default)]
    seq: u64,
    error: Option<PublishError>,
}

#[derive(Deserialize)]
struct PublishError {
    description: String,
}

/// Publishes to a subject that some tier's log captures, and waits for its acknowledgement.
pub async fn publish_acked(
    bus: &Bus,
    subject: &str,
    event: &Event,
    timeout: Duration,
) -> Result<u64, Error> {
    let reply = bus.request(subject, &event.wire_headers(), event.data.clone(), timeout).await?;
    read_ack(subject, &reply)
}

/// Reads what a log answers to a publication.
fn read_ack(subject: &str, reply: &crate::Response) -> Result<u64, Error> {
    let ack: PublishAck = serde_json::from_slice(&reply.payload)
        .map_err(|e| Error::Bad(format!("{subject}: not an acknowledgement: {e}")))?;
    match ack.error {
        Some(error) => Err(Error::local(subject, error.description)),
        None => Ok(ack.seq),
    }
}

#[cfg(test)]
mod tests;
