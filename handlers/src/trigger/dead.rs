//! Events that could not be handled are put aside, with the reason.

use bus::event::Delivery;
use bus::event::dead::DeadLetter;
use bus::trace::Trace;

use super::{Outcome, PAUSE, Triggers};
use crate::logs::About;

/// Why an event is put aside.
pub(super) struct Failed<'a> {
    /// Empty when no handler could be told.
    pub handler: &'a str,
    pub reason: &'a str,
    pub stack: &'a str,
    pub attempts: u32,
}

impl<'a> Failed<'a> {
    /// The event reached no handler.
    pub fn unread(reason: &'a str) -> Self {
        Self { handler: "", reason, stack: "", attempts: 0 }
    }
}

impl Triggers {
    pub(super) async fn bury(&self, delivery: &Delivery, failed: Failed<'_>) -> Outcome {
        let Delivery { name, data, .. } = delivery;
        // As it was read: the id that the log gave a plain message stays with it.
        let headers = match &delivery.event {
            Ok(event) => &event.wire_headers(),
            Err(_) => &delivery.headers,
        };
        let Failed { handler, reason, stack, attempts } = failed;
        let letter = DeadLetter { name, headers, data, handler, reason, stack, attempts };
        match Box::pin(self.events.bury(&letter)).await {
            Ok(()) => {
                self.metrics.count("dead letters", 1);
                let text = format!("dead letter {name} after {attempts} attempts: {reason}");
                let about = delivery.event.as_ref().ok().map(|event| About {
                    attempt: Some(attempts).filter(|attempts| *attempts > 0),
                    ..About::event(&event.id, &Trace::of(&event.headers))
                });
                self.logs.add_about("error", "events", &text, about);
                Outcome::Done
            }
            Err(_) => Outcome::Again(PAUSE),
        }
    }
}
