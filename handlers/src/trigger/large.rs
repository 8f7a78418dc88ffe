//! Data of events that is too large for a message: fetched where a handler wants it, and removed
//! when both readers of the log are done with the event.

use std::borrow::Cow;

use bus::event::{Delivery, Reader};

use super::{Plan, Triggers};

impl Triggers {
    /// The event with its data, where some handler here wants it.
    pub(super) async fn whole_for<'a>(
        &self,
        plan: &Plan,
        event: &'a bus::Event,
    ) -> Result<Cow<'a, bus::Event>, bus::Error> {
        match event.is_referring() && !plan.here.is_empty() {
            true => Box::pin(self.events.whole(event)).await.map(Cow::Owned),
            false => Ok(Cow::Borrowed(event)),
        }
    }

    /// The data of an event that is too large for a message goes when both readers are done with
    /// it. Where that is not known, it goes in time by itself.
    pub(super) async fn forget_data(
        &self,
        delivery: &Delivery,
        reader: Reader,
        over: Option<bool>,
    ) {
        let Ok(event) = &delivery.event else { return };
        let other = match reader {
            Reader::Run => Reader::Climb,
            Reader::Climb => Reader::Run,
        };
        let is_over = match over {
            Some(over) => over,
            None => self.events.course(other).await.is_ok_and(|at| at.floor >= delivery.at.seq),
        };
        if is_over && let Err(e) = self.events.forget(event).await {
            tracing::debug!(event = %delivery.name, error = %e, "its data stays for a while");
        }
    }
}
