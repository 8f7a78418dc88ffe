//! Events taken from the log of a site, and handed to their handlers side by side.

use std::sync::Arc;

use bus::event::Reader;
use tokio::sync::Semaphore;

use super::progress::InHand;
use super::{EVENTS_AT_ONCE, PAUSE, Triggers};

impl Triggers {
    /// Runs the handlers placed here on this tier's events, until it is told to drain.
    pub async fn run_events(self: Arc<Self>) {
        tokio::join!(self.clone().read_events(), self.follow_floor());
    }

    async fn read_events(self: Arc<Self>) {
        let room = Arc::new(Semaphore::new(EVENTS_AT_ONCE));
        let mut closed = self.closed.subscribe();
        let reading = async {
            loop {
                let _ = self.run_read(&room).await;
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            never = reading => never,
            _ = closed.wait_for(|closed| *closed) => {}
        }
    }

    /// Takes no more events from the log, and returns when those in hand are handled and the log
    /// has been told.
    pub async fn drain(&self) {
        self.closed.send_replace(true);
        loop {
            let released = self.released.notified();
            if self.progress().is_idle() {
                return;
            }
            released.await;
        }
    }

    /// One read of the log, until it is over.
    async fn run_read(self: &Arc<Self>, room: &Arc<Semaphore>) -> Result<(), bus::Error> {
        let mut deliveries = self.events.read(Reader::Run).await?;
        let mut number = self.look_back().await?;
        while let Some(delivery) = deliveries.next().await {
            if delivery.number > number + 1 {
                self.look_back().await?;
            }
            number = number.max(delivery.number);
            let Some(in_hand) = InHand::take(self, delivery.at) else {
                self.metrics.count("events in hand already", 1);
                continue;
            };
            self.queue.arrive(&delivery);
            let Ok(place) = room.clone().acquire_owned().await else { return Ok(()) };
            let (triggers, room) = (self.clone(), room.clone());
            tokio::spawn(async move {
                triggers.handle(&delivery, place, &room).await;
                drop(in_hand);
            });
        }
        Ok(())
    }
}
