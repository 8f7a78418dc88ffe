//! The NATS services protocol (ADR-32), by which `nats micro ls|info|stats` sees who serves what.
//!
//! It only describes: the requests themselves come by the subscriptions of [`Bus::serve`].

use std::collections::{BTreeMap, HashMap};

use async_nats::Message;
use futures::StreamExt;
use futures::stream::SelectAll;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::client::{Bus, Subscription};
use crate::{Error, event};

/// What the protocol's subjects begin with.
const PREFIX: &str = "$SRV";
/// The most endpoints that are described; the rest is left out.
pub const ENDPOINTS_MAX: usize = 256;

/// A service as it is now.
#[derive(Clone, Debug, Default)]
pub struct Service {
    pub metadata: HashMap<String, String>,
    pub endpoints: Vec<Endpoint>,
}

/// One thing that a service answers, with what has come of it so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endpoint {
    /// Of letters, digits, `-` and `_`.
    pub name: String,
    pub subject: String,
    pub queue: String,
    pub metadata: BTreeMap<String, String>,
    pub requests: u64,
    pub errors: u64,
    /// How long all requests together took, in µs.
    pub busy_us: u64,
}

/// Who says all this.
struct Speaker {
    name: String,
    version: String,
    description: String,
    id: String,
    /// RFC 3339.
    started: String,
}

impl Bus {
    /// Answers the services protocol until the handle is dropped; `describe` is asked each time.
    pub async fn announce(
        &self,
        name: &str,
        version: &str,
        describe: impl Fn() -> Service + Send + Sync + 'static,
    ) -> Result<Subscription, Error> {
        let speaker = Speaker {
            name: name.to_owned(),
            version: version.to_owned(),
            description: format!("EdgeScale node of {}", self.site()),
            id: event::unique_id(),
            started: event::rfc3339(OffsetDateTime::now_utc()),
        };
        let mut questions = SelectAll::new();
        for verb in ["PING", "INFO", "STATS"] {
            for whom in ["".to_owned(), format!(".{name}"), format!(".{name}.{}", speaker.id)] {
                let subject = format!("{PREFIX}.{verb}{whom}");
                let asked = self.nats().subscribe(subject).await;
                questions.push(asked.map_err(|e| self.unreachable(e))?);
            }
        }
        let client = self.nats().clone();
        let task = tokio::spawn(async move {
            while let Some(Message { subject, reply, .. }) = questions.next().await {
                let Some(to) = reply else { continue };
                let verb = subject.split('.').nth(1).unwrap_or_default();
                let answer = speaker.answer(verb, describe()).to_string();
                // Whoever asked may ask again.
                let _ = client.publish(to, answer.into()).await;
            }
        });
        Ok(Subscription::of(task))
    }
}

impl Speaker {
    fn answer(&self, verb: &str, mut service: Service) -> Value {
        let Self { name, version, description, id, started } = self;
        service.endpoints.truncate(ENDPOINTS_MAX);
        let kind = format!("io.nats.micro.v1.{}_response", verb.to_lowercase());
        let mut answer = json!({
            "type": kind, "name": name, "id": id, "version": version,
            "metadata": service.metadata,
        });
        match verb {
            "INFO" => {
                answer["description"] = json!(description);
                answer["endpoints"] = service.endpoints.iter().map(Endpoint::info).collect();
            }
            "STATS" => {
                answer["started"] = json!(started);
                answer["endpoints"] = service.endpoints.iter().map(Endpoint::stats).collect();
            }
            _ => {}
        }
        answer
    }
}

impl Endpoint {
    fn info(&self) -> Value {
        json!({
            "name": self.name, "subject": self.subject, "queue_group": self.queue,
            "metadata": self.metadata,
        })
    }

    /// Durations are in ns.
    fn stats(&self) -> Value {
        let total_ns = self.busy_us.saturating_mul(1_000).min(i64::MAX as u64);
        json!({
            "name": self.name, "subject": self.subject, "queue_group": self.queue,
            "num_requests": self.requests, "num_errors": self.errors, "last_error": "",
            "processing_time": total_ns,
            "average_processing_time": total_ns.checked_div(self.requests).unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests;
