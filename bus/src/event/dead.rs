//! Dead letters: events that could not be handled, kept per tier with the reason until somebody
//! looks at them, has them tried again, or drops them.

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::metadata::fitting;
use super::{Event, EventLog, ONLY_HEADER, REDRIVE_HEADER, rfc3339};
use crate::body::BODY_HEADER;
use crate::client::{headers_of, to_nats};
use crate::{Error, Headers, Kind, PAYLOAD_BYTES_MAX, Subject, TierPath};

pub(super) const STREAM: &str = "DLQ";
/// What of an error and of a stack is kept, in bytes.
const TEXT_BYTES_MAX: usize = 4096;

const REASON_HEADER: &str = "Es-Error";
const HANDLER_HEADER: &str = "Es-Handler";
const ATTEMPTS_HEADER: &str = "Es-Attempts";
/// As a JSON string, because a stack has line breaks.
const STACK_HEADER: &str = "Es-Stack";

/// What is put aside.
pub struct DeadLetter<'a> {
    pub name: &'a str,
    pub headers: &'a Headers,
    pub data: &'a Bytes,
    /// Empty when no handler could be told.
    pub handler: &'a str,
    pub reason: &'a str,
    pub stack: &'a str,
    pub attempts: u32,
}

/// What was put aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// Its number in the tier's dead letters.
    pub seq: u64,
    /// The event's name.
    pub name: String,
    pub handler: String,
    pub reason: String,
    pub stack: String,
    /// How often the handler ran.
    pub attempts: u32,
    /// When it was put aside, RFC 3339.
    pub time: String,
    /// The event's own headers.
    pub headers: Headers,
    #[serde(skip)]
    pub data: Bytes,
}

/// How a tier's dead letters stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadState {
    /// How many there are.
    pub count: u64,
    /// The number of the last that was put aside, whether or not it is there still.
    pub last: u64,
}

/// The subjects that hold a site's dead letters.
pub(super) fn subjects(site: &TierPath) -> String {
    format!("tel.{site}._.dlq.>")
}

impl EventLog {
    /// Puts aside what cannot be handled, with the reason. What does not fit a message with it is
    /// kept beside, or left out, and the reason says so: nothing is taken from the log again and
    /// again because of its size.
    pub async fn bury(&self, letter: &DeadLetter<'_>) -> Result<(), Error> {
        let subject = format!("tel.{}._.dlq.{}", self.bus.site(), letter.name);
        if let Some(event) = self.referring(letter.name, letter.headers)
            && let Err(e) = self.copy_for_dead(&event, letter.handler).await
        {
            // What is gone already cannot be put aside; the rest is tried again.
            let Error::Bad(text) = e else { return Err(e) };
            tracing::warn!(event = %letter.name, "a dead letter without its data: {text}");
        }
        let (mut headers, left_out) = fitting(letter.headers);
        let mut reason: String = letter.reason.chars().filter(|c| !c.is_control()).collect();
        reason.truncate(cut(&reason).len());
        if left_out > 0 {
            reason += &format!(" ({left_out} headers are left out)");
        }
        let data = self.data_of_dead(letter, &mut headers, &mut reason).await?;
        let mut put = |name: &str, value: String| headers.insert(name.into(), value);
        put(REASON_HEADER, reason);
        put(HANDLER_HEADER, letter.handler.to_owned());
        put(ATTEMPTS_HEADER, letter.attempts.to_string());
        if !letter.stack.is_empty() {
            put(STACK_HEADER, serde_json::Value::from(cut(letter.stack)).to_string());
        }
        self.store(subject, &headers, data).await
    }

    /// What of a letter's data goes with it. A client of its own may send a little more than fits.
    async fn data_of_dead(
        &self,
        letter: &DeadLetter<'_>,
        headers: &mut Headers,
        reason: &mut String,
    ) -> Result<Bytes, Error> {
        let data = letter.data;
        if data.len() <= PAYLOAD_BYTES_MAX {
            return Ok(data.clone());
        }
        let (site, now) = (self.bus.site(), OffsetDateTime::UNIX_EPOCH);
        match Event::read(letter.name, headers.clone(), data.clone(), site, String::new, now) {
            Ok(event) => self.put_for_dead(&event, letter.handler, headers).await,
            Err(_) => {
                *reason += &format!(" (its data is cut: it had {} bytes)", data.len());
                Ok(data.slice(..PAYLOAD_BYTES_MAX))
            }
        }
    }

    /// How the tier's dead letters stand.
    pub async fn dead_state(&self) -> Result<DeadState, Error> {
        let dead = self.js.get_stream(STREAM).await.map_err(|e| self.bus.unreachable(e))?;
        let state = &dead.cached_info().state;
        Ok(DeadState { count: state.messages, last: state.last_sequence })
    }

    /// The oldest dead letter whose number is at least this.
    pub async fn dead_from(&self, seq: u64) -> Result<Option<Dead>, Error> {
        let dead = self.dead_stream().await?;
        let subjects = subjects(self.bus.site());
        self.found(dead.get_first_raw_message_by_subject(subjects, seq.max(1)).await)
    }

    /// The dead letter of a number.
    pub async fn dead(&self, seq: u64) -> Result<Option<Dead>, Error> {
        let letter = self.dead_from(seq).await?;
        Ok(letter.filter(|letter| letter.seq == seq))
    }

    /// Gives a dead letter back to the handler that failed, and to that one alone; false when it is
    /// there no more. It leaves the dead letters once it is back in the tier's log: who dies in
    /// between leaves it in both, and a second redrive is known by its message id.
    pub async fn redrive(&self, letter: Dead) -> Result<bool, Error> {
        self.give_back(letter.clone()).await?;
        self.drop_dead(&letter).await
    }

    /// The first half of a redrive.
    pub async fn give_back(&self, letter: Dead) -> Result<(), Error> {
        let seq = letter.seq;
        let subject = Subject::checked(Kind::Ev, self.bus.site(), &letter.name)?.to_string();
        let before = self.referring(&letter.name, &letter.headers);
        let (mut headers, handler) = (letter.headers, letter.handler);
        if !handler.is_empty() {
            headers.insert(ONLY_HEADER.into(), handler.clone());
        }
        headers.insert(REDRIVE_HEADER.into(), seq.to_string());
        if let Some(event) = before {
            let data = self.whole_of_dead(&event, &handler).await?.data;
            self.lay_down(&letter.name, &mut headers, data).await?;
        }
        headers.insert("Nats-Msg-Id".into(), self.bus.sealed(&format!("redrive {seq}")));
        self.store(subject, &headers, letter.data).await
    }

    /// Removes a dead letter; false when it is there no more.
    pub async fn drop_dead(&self, letter: &Dead) -> Result<bool, Error> {
        let dropped = match self.dead_stream().await?.delete_message(letter.seq).await {
            Ok(dropped) => dropped,
            // Somebody else was quicker.
            Err(_) if self.dead(letter.seq).await?.is_none() => false,
            Err(e) => return Err(self.bus.unreachable(e)),
        };
        if let Some(event) = self.referring(&letter.name, &letter.headers) {
            self.forget_dead(&event, &letter.handler).await?;
        }
        Ok(dropped)
    }

    /// The event of some headers, where its data is kept beside the log.
    fn referring(&self, name: &str, headers: &Headers) -> Option<Event> {
        headers.get(BODY_HEADER)?;
        let (site, now) = (self.bus.site(), OffsetDateTime::UNIX_EPOCH);
        Event::read(name, headers.clone(), Bytes::new(), site, String::new, now).ok()
    }

    async fn store(&self, subject: String, headers: &Headers, data: Bytes) -> Result<(), Error> {
        let sent = self.js.publish_with_headers(subject, to_nats(headers), data).await;
        let ack = sent.map_err(|e| self.bus.unreachable(e))?;
        ack.await.map(|_| ()).map_err(|e| self.bus.unreachable(e))
    }

    /// The stream of dead letters, without asking how it stands.
    async fn dead_stream(&self) -> Result<Stream<()>, Error> {
        self.js.get_stream_no_info(STREAM).await.map_err(|e| self.bus.unreachable(e))
    }

    fn found(
        &self,
        answer: Result<StreamMessage, async_nats::jetstream::stream::RawMessageError>,
    ) -> Result<Option<Dead>, Error> {
        match answer {
            Ok(message) => Ok(Some(read(message))),
            Err(e) if e.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(e) => Err(self.bus.unreachable(e)),
        }
    }
}

fn read(message: StreamMessage) -> Dead {
    let mut headers = headers_of(&message.headers);
    let mut take = |name: &str| headers.remove(name).unwrap_or_default();
    let (reason, handler) = (take(REASON_HEADER), take(HANDLER_HEADER));
    let attempts = take(ATTEMPTS_HEADER).parse().unwrap_or(0);
    let stack = serde_json::from_str(&take(STACK_HEADER)).unwrap_or_default();
    headers.retain(|name, _| !name.starts_with("Nats-"));
    let name = message.subject.split_once("._.dlq.").map_or("", |(_, name)| name).to_owned();
    let (seq, time, data) = (message.sequence, rfc3339(message.time), message.payload);
    Dead { seq, name, handler, reason, stack, attempts, time, headers, data }
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= TEXT_BYTES_MAX);
    &text[..end.unwrap_or(text.len())]
}
