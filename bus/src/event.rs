//! Events: CloudEvents 1.0 in NATS binary mode, kept per tier in JetStream until handled.
//!
//! Each tier has one stream, `EV`, that captures what is published at the tier and what its
//! children send up; and one, `DLQ`, for what could not be handled. No subject is captured twice.

mod climb;
pub mod dead;
mod keepers;
pub mod large;
mod metadata;
mod read;

pub use keepers::Keeper;
pub(crate) use keepers::replicas;
pub use large::publish;
pub use metadata::{HEADERS_BYTES_MAX, METADATA_BYTES_MAX, check_metadata};
pub use read::{
    ACK_PENDING_MAX, CLIMB_PENDING_MAX, Course, Deliveries, Delivery, Position, Reader,
};

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use nkeys::KeyPair;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::path::{TierPath, clip};
use crate::subject::{Kind, Subject, check_name};
use crate::{Bus, Error, Headers, Places};

const STREAM: &str = "EV";
/// How long a second copy of an event id is recognised and dropped by the server.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);
/// How many bytes of events a tier keeps; beyond this the oldest are dropped.
const STREAM_BYTES_MAX: i64 = 1 << 30;

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

/// The headers that say what an event is; those of CloudEvents come in any case.
const ATTRIBUTES: [&str; 6] =
    ["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "content-type"];

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
    /// `fallback_id` must be the same at each delivery of the same message. Headers of more than
    /// [`HEADERS_BYTES_MAX`] are refused: what carries the event on adds some of its own.
    pub fn read(
        name: &str,
        headers: Headers,
        data: Bytes,
        site: &TierPath,
        fallback_id: impl FnOnce() -> String,
        published: OffsetDateTime,
    ) -> Result<Self, Error> {
        check_name(name)?;
        metadata::check_headers(name, &headers)?;
        let mut attributes: [Option<String>; ATTRIBUTES.len()] = Default::default();
        let mut others = Headers::new();
        for (key, value) in headers {
            match ATTRIBUTES.iter().position(|name| key.eq_ignore_ascii_case(name)) {
                // The first value counts; one left behind under another spelling would take its
                // place at the next site.
                Some(at) => {
                    attributes[at].get_or_insert(value);
                }
                None if key.starts_with("Nats-") => {}
                None => {
                    others.insert(key, value);
                }
            }
        }
        let [version, id, source, kind, time, content_type] = attributes;
        if version.as_deref().is_some_and(|version| version != "1.0") {
            return Err(Error::Bad(format!(
                "event {name}: ce-specversion is {:?}; only 1.0 is spoken",
                clip(version.as_deref().unwrap_or(""))
            )));
        }
        let given = |key: &str, value: Option<String>| match value {
            Some(value) if value.is_empty() => {
                Err(Error::Bad(format!("event {name}: header {key} is empty; leave it out")))
            }
            value => Ok(value),
        };
        let id = given("ce-id", id)?.unwrap_or_else(fallback_id);
        let source = given("ce-source", source)?.unwrap_or_else(|| site.to_string());
        let kind = given("ce-type", kind)?.unwrap_or_else(|| name.to_owned());
        let time = given("ce-time", time)?.unwrap_or_else(|| rfc3339(published));
        if OffsetDateTime::parse(&time, &Rfc3339).is_err() {
            let time = clip(&time);
            return Err(Error::Bad(format!("event {name}: ce-time {time:?} is not RFC 3339")));
        }
        let content_type = given("content-type", content_type)?;
        let content_type = content_type.unwrap_or_else(|| "application/json".to_owned());
        let (name, headers) = (name.to_owned(), others);
        Ok(Self { id, source, kind, name, time, content_type, headers, data })
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
            allow_atomic_publish: true,
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
pub fn read_ack(subject: &str, reply: &crate::Response) -> Result<u64, Error> {
    let ack: PublishAck = serde_json::from_slice(&reply.payload)
        .map_err(|e| Error::Bad(format!("{subject}: not an acknowledgement: {e}")))?;
    match ack.error {
        Some(error) => Err(Error::local(subject, error.description)),
        None => Ok(ack.seq),
    }
}

#[cfg(test)]
mod tests;
