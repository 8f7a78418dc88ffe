//! Events on their way to the parent's log.
//!
//! A link is far longer than a log is slow, so events cross it many at a time: as a batch of which
//! the parent's log takes all or none, and so never a later one without those before it.

use std::time::Duration;

use super::{Event, EventLog, read_ack, unique_id};
use crate::client::to_nats;
use crate::{Error, PAYLOAD_BYTES_MAX, TierPath};

const BATCH_HEADER: &str = "Nats-Batch-Id";
const NUMBER_HEADER: &str = "Nats-Batch-Sequence";
const COMMIT_HEADER: &str = "Nats-Batch-Commit";

impl EventLog {
    /// Sends events to the parent's log, in order; returns when the parent has them all. Of what an
    /// attempt before this brought there, the parent knows the ids.
    pub async fn climb(&self, events: &[Event], timeout: Duration) -> Result<(), Error> {
        // Data that is too large for a message goes up before its event, with a request each.
        let is_large = |event: &Event| event.data_bytes() > PAYLOAD_BYTES_MAX;
        if events.len() > 1 && !events.iter().any(is_large) {
            match self.climb_at_once(events, timeout).await {
                // The log refused: it has some of them, say.
                Err(Error::Local { reason, .. }) => {
                    tracing::debug!(reason, "events climb one by one");
                }
                done => return done,
            }
        }
        for event in events {
            self.send(event, &self.parent(), &self.subject_above(event), timeout).await?;
        }
        Ok(())
    }

    async fn climb_at_once(&self, events: &[Event], timeout: Duration) -> Result<(), Error> {
        let batch = unique_id();
        for (number, event) in (1..).zip(events) {
            let subject = self.subject_above(event);
            let mut headers = event.wire_headers();
            headers.insert(BATCH_HEADER.into(), batch.clone());
            headers.insert(NUMBER_HEADER.into(), number.to_string());
            if number < events.len() {
                let sent = self.bus.nats().publish_with_headers(
                    subject,
                    to_nats(&headers),
                    event.data.clone(),
                );
                sent.await.map_err(|e| self.bus.unreachable(e))?;
                continue;
            }
            headers.insert(COMMIT_HEADER.into(), "1".into());
            let reply = self.bus.request(&subject, &headers, event.data.clone(), timeout).await?;
            read_ack(&subject, &reply)?;
        }
        Ok(())
    }

    fn parent(&self) -> TierPath {
        self.bus.site().parent().unwrap_or_else(|| self.bus.site().clone())
    }

    fn subject_above(&self, event: &Event) -> String {
        format!("sync.{}._.ev.{}", self.bus.site(), event.name)
    }
}
