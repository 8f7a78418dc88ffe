//! EdgeRoute: carries each request to the tier that should serve it.
//!
//! What decides is [`policy::decide`], which is pure; this file only gathers what it sees and
//! carries out what it says.

pub mod policy;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::debug;

use crate::message::{HOPS_HEADER, ROUTE_HEADER, SITE_HEADER};
use crate::path::{TierClass, TierPath};
use crate::subject::{Kind, Subject};
use crate::{Bus, Error, Refusal, RefusalKind, Request, Response};
pub use policy::{Decision, HandlerView, Placement};

/// What is kept back of the time budget at each hop, for the way back.
const HOP_MARGIN: Duration = Duration::from_millis(2);
/// How often a request that certainly was not carried out is tried again on one hop.
const RETRIES_MAX: u32 = 4;
/// The pause before the first retry; it doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(40);

/// Routes the requests of one node.
pub struct EdgeRoute {
    bus: Bus,
    class: TierClass,
    parent: Mutex<policy::ParentView>,
}

impl EdgeRoute {
    /// A router for the bus's site; the parent counts as away until it was heard.
    pub fn new(bus: Bus, class: TierClass) -> Self {
        let parent = match bus.site().parent() {
            Some(path) => policy::ParentView::Away { path },
            None => policy::ParentView::None,
        };
        Self { bus, class, parent: Mutex::new(parent) }
    }

    /// The site this router works for.
    pub fn site(&self) -> &TierPath {
        self.bus.site()
    }

    /// What kind of place the site is.
    pub fn class(&self) -> TierClass {
        self.class
    }

    /// The parent as last heard.
    pub fn parent(&self) -> policy::ParentView {
        self.parent.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Notes an answer of the parent, or its absence.
    pub fn note_parent(&self, rtt: Option<Duration>) {
        let Some(path) = self.bus.site().parent() else { return };
        let mut parent = self.parent.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *parent = match rtt {
            Some(rtt) => policy::ParentView::Near { path, rtt },
            None => policy::ParentView::Away { path },
        };
    }

    /// Decides where a request goes.
    pub fn decide(&self, request: &Request, handler: &HandlerView) -> Decision {
        let now = Instant::now();
        let asked = policy::Asked {
            hops: request.hops(),
            time_left: request.deadline().saturating_duration_since(now),
        };
        let view = policy::View { site: self.site(), class: self.class, parent: self.parent() };
        policy::decide(&asked, handler, &view)
    }

    /// Passes a request on to the parent and brings back its answer.
    ///
    /// A request that certainly was not carried out is tried again within its time budget; one
    /// whose fate is unknown is not.
    pub async fn escalate(&self, request: &Request) -> Result<Response, Refusal> {
        let subject = Subject::parse(&request.subject).map_err(|e| Refusal::bad(e.to_string()))?;
        let parent = self.site().parent().ok_or_else(|| {
            Refusal::new(RefusalKind::NoHandler, format!("{} has no parent", self.site()))
        })?;
        let target = Subject::new(Kind::Call, &parent, subject.name).to_string();
        let mut headers = request.headers.clone();
        headers.insert(HOPS_HEADER.into(), (request.hops() + 1).to_string());
        let mut pause = RETRY_PAUSE;
        for attempt in 0.. {
            let left = request.deadline().saturating_duration_since(Instant::now());
            let Some(budget) = left.checked_sub(HOP_MARGIN).filter(|left| !left.is_zero()) else {
                return Err(self.late());
            };
            let sent = self.bus.request(&target, &headers, request.payload.clone(), budget).await;
            match sent {
                Ok(response) => return Ok(self.sign(response)),
                Err(e) if e.not_done() && attempt < RETRIES_MAX => {
                    debug!(%target, attempt, error = %e, "trying again");
                    tokio::time::sleep(pause.min(left)).await;
                    pause *= 2;
                }
                Err(e) => return Err(self.refusal(e, &parent)),
            }
        }
        Err(self.late())
    }

    /// Notes this site on the way the answer went.
    fn sign(&self, mut response: Response) -> Response {
        let answered = response.headers.get(SITE_HEADER).cloned().unwrap_or_default();
        let route = response.headers.entry(ROUTE_HEADER.into()).or_insert(answered);
        route.insert_str(0, &format!("{},", self.site()));
        response
    }

    fn late(&self) -> Refusal {
        let text = format!("deadline exceeded at {}", self.site());
        Refusal::new(RefusalKind::DeadlineExceeded, text).at(self.site().as_str())
    }

    fn refusal(&self, error: Error, parent: &TierPath) -> Refusal {
        match error {
            Error::Refused(refusal) => refusal,
            Error::TimedOut { .. } => Refusal::new(
                RefusalKind::DeadlineExceeded,
                format!("deadline exceeded at {}: no answer from {parent}", self.site()),
            ),
            Error::Bad(text) => Refusal::bad(text),
            away => Refusal::new(
                RefusalKind::Unavailable,
                format!("parent {parent} of {} is away: {away}", self.site()),
            ),
        }
        .at(self.site().as_str())
    }
}
