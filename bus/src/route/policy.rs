//! Where a request goes: here, up, or nowhere and why. Pure: no clock, no I/O.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::message::HOPS_MAX;
use crate::path::{TierClass, TierPath};
use crate::{Refusal, RefusalKind};

/// The tiers at which a handler may run; no word means anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub min_tier: Option<TierClass>,
    pub max_tier: Option<TierClass>,
}

/// How a tier stands to a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The handler may run here.
    Here,
    /// It belongs further up.
    Above,
    /// It belongs further down.
    Below,
}

impl Placement {
    /// Whether a handler so placed may run at a tier of this class.
    pub fn fit(&self, class: TierClass) -> Fit {
        if self.min_tier.is_some_and(|min| class < min) {
            Fit::Above
        } else if self.max_tier.is_some_and(|max| class > max) {
            Fit::Below
        } else {
            Fit::Here
        }
    }
}

/// What the router needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Tiers crossed so far.
    pub hops: u32,
    pub time_left: Duration,
}

/// What this node knows of the handler that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerView {
    /// No app of that name is known here.
    AppUnknown { app: String },
    /// The app has no such function.
    Missing { app: String, name: String },
    /// The handler is known; its code is not here yet.
    Absent { placement: Placement },
    /// The handler can run; a new request would wait this long.
    Ready { placement: Placement, wait: Duration },
}

/// The parent as last heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParentView {
    /// This is the root.
    None,
    /// It did not answer lately.
    Away { path: TierPath },
    /// It answers.
    Near { path: TierPath, rtt: Duration },
}

/// Where the decision is made.
#[derive(Clone, Debug)]
pub struct View<'a> {
    pub site: &'a TierPath,
    pub class: TierClass,
    pub parent: ParentView,
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Run it here.
    Run,
    /// Fetch the code, then run it here.
    InstallThenRun,
    /// Pass it on to the parent, and fetch the code behind it when `install` says so.
    Escalate { install: bool },
    /// Say no, and why.
    Refuse(Refusal),
}

/// Decides. A request only ever goes up, so it cannot go round in circles.
pub fn decide(asked: &Asked, handler: &HandlerView, view: &View<'_>) -> Decision {
    if asked.time_left.is_zero() {
        return refuse(view, RefusalKind::DeadlineExceeded, "deadline exceeded".into());
    }
    if asked.hops > HOPS_MAX {
        let text = format!("{} hops: the request goes in circles", asked.hops);
        return refuse(view, RefusalKind::Internal, text);
    }
    match handler {
        HandlerView::AppUnknown { app } => match view.parent {
            ParentView::None => {
                let text = format!("no app {app:?} is registered");
                refuse(view, RefusalKind::NotFound, text)
            }
            _ => up(asked, view, false),
        },
        HandlerView::Missing { app, name } => {
            let text = format!("app {app:?} has no function {name:?}");
            refuse(view, RefusalKind::NotFound, text)
        }
        HandlerView::Absent { placement } => match placement.fit(view.class) {
            Fit::Here if can_climb(asked, view) => Decision::Escalate { install: true },
            Fit::Here => Decision::InstallThenRun,
            other => elsewhere(asked, view, *placement, other),
        },
        HandlerView::Ready { placement, wait } => match placement.fit(view.class) {
            Fit::Here => here_or_spill(asked, view, *wait),
            other => elsewhere(asked, view, *placement, other),
        },
    }
}

/// Runs here while the queue lets the request finish in time; spills up otherwise.
fn here_or_spill(asked: &Asked, view: &View<'_>, wait: Duration) -> Decision {
    if wait < asked.time_left {
        return Decision::Run;
    }
    if can_climb(asked, view) {
        return Decision::Escalate { install: false };
    }
    let retry_after_ms = (wait - asked.time_left).as_millis() as u64 + 1;
    let text = format!("overloaded, retry after {retry_after_ms} ms");
    let mut refusal = Refusal::new(RefusalKind::Overloaded, text).at(view.site.as_str());
    refusal.retry_after_ms = Some(retry_after_ms);
    Decision::Refuse(refusal)
}

fn can_climb(asked: &Asked, view: &View<'_>) -> bool {
    matches!(&view.parent, ParentView::Near { rtt, .. } if *rtt < asked.time_left)
}

fn elsewhere(asked: &Asked, view: &View<'_>, placement: Placement, fit: Fit) -> Decision {
    match (fit, &view.parent) {
        (Fit::Below, _) | (_, ParentView::None) => {
            let text = format!(
                "no handler on the path to the root: it is placed at {}, and {} is a {}",
                words(placement),
                view.site,
                class_word(view.class)
            );
            refuse(view, RefusalKind::NoHandler, text)
        }
        _ => up(asked, view, false),
    }
}

fn up(asked: &Asked, view: &View<'_>, install: bool) -> Decision {
    match &view.parent {
        ParentView::Near { .. } if can_climb(asked, view) => Decision::Escalate { install },
        ParentView::Near { path, rtt } => {
            let (left, rtt) = (asked.time_left.as_millis(), rtt.as_millis());
            let text = format!("deadline exceeded: {left} ms left, {path} is {rtt} ms away");
            refuse(view, RefusalKind::DeadlineExceeded, text)
        }
        ParentView::Away { path } => {
            let text = format!("parent {path} does not answer; retry when the link is back");
            refuse(view, RefusalKind::Unavailable, text)
        }
        ParentView::None => {
            refuse(view, RefusalKind::NoHandler, "no handler on the path to the root".into())
        }
    }
}

fn refuse(view: &View<'_>, kind: RefusalKind, text: String) -> Decision {
    let text = format!("{text} (at {})", view.site);
    Decision::Refuse(Refusal::new(kind, text).at(view.site.as_str()))
}

fn words(placement: Placement) -> String {
    let min = placement.min_tier.map_or("device", class_word);
    let max = placement.max_tier.map_or("cloud", class_word);
    format!("{min} to {max}")
}

fn class_word(class: TierClass) -> &'static str {
    match class {
        TierClass::Device => "device",
        TierClass::Edge => "edge",
        TierClass::Region => "region",
        TierClass::Cloud => "cloud",
    }
}

#[cfg(test)]
mod tests;
