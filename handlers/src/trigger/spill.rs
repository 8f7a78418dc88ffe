//! Events of a handler that is busy here go to the parent, where the handler wants that. Whether
//! they do is the router's decision, as for calls.

use std::time::Duration;

use bus::event::{DONE_HEADER, ONLY_HEADER, REDRIVE_HEADER};
use bus::message::TIMEOUT_HEADER;
use bus::route::{CodeView, Decision, HandlerView};
use bus::{Request, TierPath};

use super::{TURN_PATIENCE, Triggers};
use crate::deploy::App;
use crate::manifest::Handler;

impl Triggers {
    /// Sends an event up, for one handler alone, when that would be sooner done further up; says
    /// whether the parent has it.
    pub(super) async fn spilled(&self, app: &App, handler: &Handler, event: &bus::Event) -> bool {
        let may_leave = handler.placement.spill && may_leave(event, self.route.site());
        if !may_leave || !self.would_be_sooner(app, handler) {
            return false;
        }
        let mut event = event.clone();
        event.headers.remove(DONE_HEADER);
        event.headers.insert(ONLY_HEADER.into(), handler.name.clone());
        let sent = self.send_up(vec![event]).await.is_ok();
        if sent {
            self.metrics.count("events spilled", 1);
        }
        sent
    }

    fn would_be_sooner(&self, app: &App, handler: &Handler) -> bool {
        let names = (app.name(), handler.name.as_str());
        let view = self
            .deploy
            .view(Some(app), Some(handler), names, |app, handler| self.turn_at(app, handler));
        // One whose code is not here yet is brought here, or it would never be.
        let HandlerView::Known { code: CodeView::Ready { .. }, .. } = view else { return false };
        let patience = Duration::from_millis(handler.limits.timeout_ms.into()) + TURN_PATIENCE;
        let mut asked = Request::new("", "");
        asked.headers.insert(TIMEOUT_HEADER.into(), patience.as_millis().to_string());
        matches!(self.route.decide(&asked, &view), Decision::Escalate { .. })
    }
}

/// What is addressed to this site, or was given back to its handler, stays; so does what came from
/// above, for which the parent lets no site below speak.
fn may_leave(event: &bus::Event, here: &TierPath) -> bool {
    let is_from_elsewhere = event
        .source
        .parse()
        .is_ok_and(|source: TierPath| source.root() == here.root() && !here.contains(&source));
    event.to().is_none() && !event.headers.contains_key(REDRIVE_HEADER) && !is_from_elsewhere
}

#[cfg(test)]
mod tests;
