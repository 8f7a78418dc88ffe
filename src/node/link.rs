//! Carries the store's replication over the bus.
//!
//! What a child says to its parent travels on `sync.<child>.…`, which the parent's server lets
//! that child alone publish: the name of the sender cannot be forged.

use std::time::Duration;

use async_trait::async_trait;
use bus::{Bus, Error, Headers, Kind, Places, Subject, TierPath};
use bytes::Bytes;
use futures::stream::BoxStream;
use store::{Link, LinkError};
use tokio::sync::mpsc;

/// How long a neighbour may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many changes may wait to be applied; a follower that falls behind sees a gap and refetches.
const CHANGES_MAX: usize = 1_024;

/// The bus, as the store sees it.
pub struct BusLink {
    bus: Bus,
    places: Places,
}

impl BusLink {
    /// A link over this connection, which finds sites that were moved.
    pub fn new(bus: Bus, places: Places) -> Self {
        Self { bus, places }
    }

    async fn ask(&self, subject: &str, payload: Bytes) -> Result<Bytes, LinkError> {
        let reply = self.bus.request(subject, &Headers::new(), payload, TIMEOUT).await;
        reply.map(|response| response.payload).map_err(|e| match e {
            Error::TimedOut { .. } => LinkError::Timeout,
            Error::Refused(refusal) => LinkError::Refused(refusal.message),
            Error::Bad(text) => LinkError::Refused(text),
            other => LinkError::Unreachable(other.to_string()),
        })
    }

    fn parent(&self) -> Result<TierPath, LinkError> {
        let none = || LinkError::Unreachable(format!("{} has no parent", self.bus.site()));
        self.bus.site().parent().ok_or_else(none)
    }
}

/// The subjects on which the children of a site talk to its store.
pub fn from_children(site: &TierPath) -> String {
    format!("sync.{site}.*._.st.>")
}

/// Where a site tells of a table's changes. A table's name may come from a client.
fn changes(site: &TierPath, table: &str) -> Result<String, LinkError> {
    let name = format!("chg.{table}");
    let subject = Subject::checked(Kind::Sync, site, &name);
    subject.map(|subject| subject.to_string()).map_err(|e| LinkError::Refused(e.to_string()))
}

#[async_trait]
impl Link for BusLink {
    async fn request_parent(&self, op: &str, payload: Bytes) -> Result<Bytes, LinkError> {
        self.parent()?;
        self.ask(&format!("sync.{}._.st.{op}", self.bus.site()), payload).await
    }

    async fn request(&self, site: &str, op: &str, payload: Bytes) -> Result<Bytes, LinkError> {
        let site: TierPath = site.parse().map_err(|e: Error| LinkError::Refused(e.to_string()))?;
        self.ask(&Subject::new(Kind::St, &site, op).to_string(), payload).await
    }

    fn moved(&self, site: &str) -> Option<String> {
        let before = site.parse().ok()?;
        self.places.now(&before).map(String::from)
    }

    async fn publish_changes(&self, table: &str, payload: Bytes) -> Result<(), LinkError> {
        let subject = changes(self.bus.site(), table)?;
        let sent = self.bus.publish(&subject, &Headers::new(), payload).await;
        sent.map_err(|e| LinkError::Unreachable(e.to_string()))
    }

    async fn subscribe_parent_changes(
        &self,
        table: &str,
    ) -> Result<BoxStream<'static, Bytes>, LinkError> {
        let subject = changes(&self.parent()?, table)?;
        let away = |e: Error| LinkError::Unreachable(e.to_string());
        let (sender, receiver) = mpsc::channel(CHANGES_MAX);
        let hear = move |message: bus::Request| {
            let sender = sender.clone();
            async move {
                let _ = sender.try_send(message.payload);
            }
        };
        let subscription = self.bus.subscribe(&subject, hear).await.map_err(away)?;
        self.bus.flush().await.map_err(away)?;
        let start = (receiver, subscription);
        Ok(Box::pin(futures::stream::unfold(start, |(mut receiver, subscription)| async move {
            let payload = receiver.recv().await?;
            Some((payload, (receiver, subscription)))
        })))
    }
}
