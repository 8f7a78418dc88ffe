//! Reading a tier's log: two readers see every event, each until it acknowledges.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{self, Consumer};
use async_nats::jetstream::{AckKind, stream};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use time::OffsetDateTime;
use tracing::debug;

use super::{Event, EventLog, STREAM, TO_HEADER, WAS_HEADER};
use crate::client::from_nats;
use crate::path::TierPath;
use crate::{Bus, Error, Headers, Places};

/// How long an event waits for its handler before it is offered again.
const ACK_WAIT: Duration = Duration::from_secs(15);
/// How long a look at the log may stand still.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server may take to confirm an acknowledgement.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// How many events may be with handlers at once.
pub const ACK_PENDING_MAX: i64 = 4096;
/// How many events may be on their way up at once.
pub const CLIMB_PENDING_MAX: i64 = 128;

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

    fn ack_pending_max(self) -> i64 {
        match self {
            Self::Run => ACK_PENDING_MAX,
            Self::Climb => CLIMB_PENDING_MAX,
        }
    }
}

impl EventLog {
    /// How many events `reader` has not acknowledged yet.
    pub async fn waiting(&self, reader: Reader) -> Result<u64, Error> {
        let info = self.consumer_info(reader).await?;
        Ok(info.num_pending + info.num_ack_pending as u64)
    }

    /// How far a reader has come.
    pub async fn course(&self, reader: Reader) -> Result<Course, Error> {
        Ok(Course::of(&self.consumer_info(reader).await?))
    }

    async fn consumer_info(&self, reader: Reader) -> Result<consumer::Info, Error> {
        let name = self.bus.hidden(reader.durable());
        let stream = self.stream().await?;
        stream.consumer_info(&name).await.map_err(|e| self.bus.unreachable(e))
    }

    /// Makes a reader where there is none; one of an older version gets the present limits. What
    /// the server says with that of one that was there may be old.
    async fn consumer(&self, reader: Reader) -> Result<Consumer<consumer::pull::Config>, Error> {
        // A server lets acknowledgements pass from any link; whoever cannot name the reader cannot
        // acknowledge for it.
        let config = consumer::pull::Config {
            durable_name: Some(self.bus.hidden(reader.durable())),
            ack_policy: consumer::AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: reader.ack_pending_max(),
            ..Default::default()
        };
        let stream = self.stream().await?;
        stream.create_consumer(config).await.map_err(|e| self.bus.unreachable(e))
    }

    async fn stream(&self) -> Result<stream::Stream, Error> {
        self.js.get_stream(STREAM).await.map_err(|e| self.bus.unreachable(e))
    }

    /// The events from a position on, without their data; nobody acknowledges these deliveries, and
    /// the readers know nothing of them.
    pub async fn look(&self, from: u64) -> Result<Deliveries, Error> {
        Ok(self.pass_over(from, true).await?.1)
    }

    /// The events from a position on. An acknowledgement is one of `reader`, for what it was given
    /// by deliveries that did not arrive.
    pub async fn replay(&self, reader: Reader, from: u64) -> Result<Deliveries, Error> {
        let (name, mut deliveries) = self.pass_over(from, false).await?;
        let own = self.bus.hidden(reader.durable());
        deliveries.stands_in = Some((format!(".{name}."), format!(".{own}.")));
        Ok(deliveries)
    }

    async fn pass_over(
        &self,
        from: u64,
        headers_only: bool,
    ) -> Result<(String, Deliveries), Error> {
        let config = consumer::pull::Config {
            ack_policy: consumer::AckPolicy::None,
            deliver_policy: consumer::DeliverPolicy::ByStartSequence { start_sequence: from },
            headers_only,
            inactive_threshold: LOOK_TIMEOUT,
            ..Default::default()
        };
        let stream = self.stream().await?;
        let consumer = stream.create_consumer(config).await.map_err(|e| self.bus.unreachable(e))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(256)
            .expires(LOOK_TIMEOUT)
            .messages()
            .await
            .map_err(|e| self.bus.unreachable(e))?;
        Ok((consumer.cached_info().name.clone(), self.deliveries(messages)))
    }

    /// The events that `reader` has not acknowledged yet, oldest first, then new ones as they come.
    pub async fn read(&self, reader: Reader) -> Result<Deliveries, Error> {
        let consumer = self.consumer(reader).await?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(reader.ack_pending_max().min(256) as usize)
            .expires(Duration::from_secs(30))
            .heartbeat(Duration::from_secs(5))
            .messages()
            .await
            .map_err(|e| self.bus.unreachable(e))?;
        Ok(self.deliveries(messages))
    }

    fn deliveries(&self, messages: consumer::pull::Stream) -> Deliveries {
        let (bus, places) = (self.bus.clone(), self.places.clone());
        let client = Arc::new(self.bus.nats().clone());
        Deliveries { bus, places, messages, client, stands_in: None, broken: false }
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

impl Course {
    fn of(info: &consumer::Info) -> Self {
        Self {
            floor: info.ack_floor.stream_sequence,
            delivered: info.delivered.stream_sequence,
            number: info.delivered.consumer_sequence,
        }
    }
}

/// A running read of the log.
pub struct Deliveries {
    bus: Bus,
    places: Places,
    messages: consumer::pull::Stream,
    client: Arc<Client>,
    /// Which name in the subject of acknowledgements is another's, and whose.
    stands_in: Option<(String, String)>,
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

    /// The next deliveries, `max` at most: those that are here already, or the one that comes next.
    /// None of them means that the read is over.
    pub async fn next_ready(&mut self, max: usize) -> Vec<Delivery> {
        let mut ready = Vec::from_iter(self.next().await);
        while !ready.is_empty() && ready.len() < max {
            match self.next().now_or_never().flatten() {
                Some(delivery) => ready.push(delivery),
                None => break,
            }
        }
        ready
    }

    async fn message(&mut self) -> Result<Delivery, Error> {
        let site = self.bus.site();
        let message = match self.messages.next().await {
            Some(Ok(message)) => message,
            Some(Err(e)) => return Err(Error::local(format!("events of {site}"), e)),
            None => return Err(Error::local(format!("events of {site}"), "closed")),
        };
        let info = message.info().map_err(|e| Error::local("event", e))?;
        let at = Position { seq: info.stream_sequence, stored: info.published };
        let (number, left, attempts) = (info.consumer_sequence, info.pending, info.delivered);
        let mut message = message.message;
        let name = name_of(&message.subject);
        let headers = from_nats(&message);
        // Nobody else can tell it before, and have the parent's log drop the event as known.
        let id = || self.bus.sealed(&format!("event {} {}", at.seq, at.stored));
        let data = message.payload.clone();
        let event = Event::read(&name, headers, data.clone(), site, id, at.stored)
            .and_then(|event| speaks_for_itself(event, &message.subject))
            .map(|event| under_the_present_path(event, &self.places, site));
        let headers = match &event {
            Ok(_) => Headers::new(),
            Err(_) => from_nats(&message),
        };
        if let (Some((name, own)), Some(reply)) = (&self.stands_in, &message.reply) {
            message.reply = Some(reply.replacen(name, own, 1).into());
        }
        let published_here = message.subject.starts_with("ev.");
        let (reply, client) = (message.reply, self.client.clone());
        Ok(Delivery {
            event,
            name,
            headers,
            data,
            at,
            number,
            left,
            attempts,
            published_here,
            reply,
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

/// Where an event is in a tier's log. A log that lost its end gives a position again; the time
/// tells what was there before from what is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub seq: u64,
    /// When the log took it.
    pub stored: OffsetDateTime,
}

/// One delivery of an event; unless acknowledged it comes again.
pub struct Delivery {
    /// The event, or what is wrong with the message.
    pub event: Result<Event, Error>,
    pub name: String,
    /// Those of a message with which something is wrong; none beside an event, which has its own.
    pub headers: Headers,
    pub data: Bytes,
    pub at: Position,
    /// Deliveries of one reader are numbered; a number that is left out did not arrive.
    pub number: u64,
    /// How many events are behind it that were never delivered.
    pub left: u64,
    /// How often it was delivered, this time included.
    pub attempts: i64,
    /// It was published at this site, or sent down to it; it did not climb.
    pub published_here: bool,
    /// Where acknowledgements go.
    reply: Option<async_nats::Subject>,
    client: Arc<Client>,
}

impl Delivery {
    /// Not done: it comes again after a while.
    pub async fn retry(&self, after: Duration) -> Result<(), Error> {
        self.answer(AckKind::Nak(Some(after))).await
    }

    /// Still at it: the clock starts again.
    pub async fn progress(&self) -> Result<(), Error> {
        self.answer(AckKind::Progress).await
    }

    /// Done; it comes again if the server does not hear of it.
    pub async fn ack(&self) -> Result<(), Error> {
        self.answer(AckKind::Ack).await
    }

    async fn answer(&self, kind: AckKind) -> Result<(), Error> {
        let Some(to) = self.reply.clone() else { return Ok(()) };
        let told = self.client.publish(to, kind.into()).await;
        told.map_err(|e| Error::local("acknowledgement", e))
    }

    /// Done: once this returns `Ok`, it will not come again.
    pub async fn ack_sync(&self) -> Result<(), Error> {
        let Some(to) = self.reply.clone() else { return Ok(()) };
        let ack =
            async_nats::Request::new().payload(AckKind::Ack.into()).timeout(Some(ACK_TIMEOUT));
        let told = self.client.send_request(to, ack).await;
        told.map(|_| ()).map_err(|e| Error::local("acknowledgement", e))
    }
}

#[cfg(test)]
mod tests;
