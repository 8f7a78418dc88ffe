//! Sends up the tree what has handlers further up: one event at a time, in order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bus::event::{DONE_HEADER, Delivery, Reader};

use super::{PAUSE, PROGRESS_EVERY, Plan, Triggers};
use crate::deploy;

impl Triggers {
    /// Sends up what has handlers further up, for ever. Not for the root.
    pub async fn climb_events(self: Arc<Self>) {
        loop {
            let Ok(mut deliveries) = self.events.read(Reader::Climb).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            while let Some(delivery) = deliveries.next().await {
                self.climb_patiently(&delivery).await;
            }
            drop(deliveries);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Tries until the event is with the parent, or is found to have no business there.
    async fn climb_patiently(&self, delivery: &Delivery) {
        let mut told = Instant::now();
        while !self.progress().is_settled(delivery.seq, Reader::Climb) {
            match self.climb(delivery).await {
                Ok(()) => break,
                Err(e) => tracing::debug!(event = %delivery.name, error = %e, "waiting to climb"),
            }
            if told.elapsed() > PROGRESS_EVERY {
                told = Instant::now();
                let _ = delivery.progress().await;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if let Err(e) = self.settle(delivery, Reader::Climb).await {
            tracing::debug!(event = %delivery.name, error = %e, "it comes again");
        }
    }

    async fn climb(&self, delivery: &Delivery) -> Result<(), String> {
        // What is malformed is buried by the other reader; what is for a handler or a site is for
        // this one.
        let Ok(event) = &delivery.event else { return Ok(()) };
        if event.only().or(event.to()).is_some() {
            return Ok(());
        }
        let plan = match self.deploy.app(event.app()).await {
            Ok(Some(app)) => self.plan(delivery.seq, &app, event),
            Ok(None) => self.progress().plan(delivery.seq, Plan::unknown),
            Err(deploy::Error::Bad(_)) => return Ok(()),
            Err(e) => return Err(e.to_string()),
        };
        if !plan.above {
            return Ok(());
        }
        let mut done: BTreeSet<&str> = event.done().collect();
        done.extend(plan.settled());
        let list = done.into_iter().collect::<Vec<_>>().join(",");
        let mut event = event.clone();
        event.headers.insert(DONE_HEADER.into(), list);
        self.send_up(event).await
    }
}
