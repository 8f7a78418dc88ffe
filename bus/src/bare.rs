//! NATS as it is: no time budget, no routing. Benches set beside it what a call costs.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use crate::client::{Subscription, to_nats, within};
use crate::{Bus, Error, Headers, TierPath};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A connection without anything of this project's.
#[derive(Clone)]
pub struct Bare {
    bus: Bus,
}

impl Bare {
    /// Uses the connection of a bus.
    pub fn of(bus: &Bus) -> Self {
        Self { bus: bus.clone() }
    }

    /// A subject on which a client of `from` reaches whoever listens so many tiers above it.
    pub fn subject(from: &TierPath, hops: usize) -> String {
        format!("sync.{from}._.bare.{hops}")
    }

    /// Answers every request with its own headers and payload until the handle is dropped.
    pub async fn echo(&self, subject: &str) -> Result<Subscription, Error> {
        let client = self.bus.nats().clone();
        let subscribed = client.subscribe(subject.to_owned()).await;
        let mut requests = subscribed.map_err(|e| self.bus.unreachable(e))?;
        self.bus.flush().await?;
        Ok(Subscription::of(tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let Some(reply) = request.reply else { continue };
                let _ = match request.headers {
                    Some(headers) => {
                        client.publish_with_headers(reply, headers, request.payload).await
                    }
                    None => client.publish(reply, request.payload).await,
                };
            }
        })))
    }

    /// Asks, with these headers if there are any, and waits for the answer.
    pub async fn request(
        &self,
        subject: &str,
        headers: &Headers,
        payload: Bytes,
    ) -> Result<Bytes, Error> {
        let mut request = async_nats::Request::new().payload(payload).timeout(None);
        if !headers.is_empty() {
            request = request.headers(to_nats(headers));
        }
        let asked = self.bus.nats().send_request(subject.to_owned(), request);
        let asked = async { asked.await.map_err(|e| self.bus.unreachable(e)) };
        Ok(within(TIMEOUT, subject, asked).await?.payload)
    }
}
