//! EdgeRoute: carries each request to the tier that should serve it.
//!
//! What decides is [`policy::decide`], which is pure; this file only gathers what it sees and
//! carries out what it says.

pub mod news;
pub mod once;
pub mod policy;
pub mod retry;
mod sent;

use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use tracing::debug;

use crate::body::{Ahead, Bodies, Way};
use crate::message::{
    DOWN_HEADER, HOPS_HEADER, ROUTE_HEADER, SITE_HEADER, TIMEOUT_HEADER, USER_HEADER,
};
use crate::path::{TierClass, TierPath};
use crate::subject::{Kind, Subject};
use crate::{Bus, Error, Headers, Refusal, RefusalKind, Request, Response};
pub use policy::{CodeView, Decision, HandlerView, Placement, Site, View};
use sent::{Sent, Ticket};

/// What is kept back of the time budget at each hop: who asks says that it is late before its own
/// asker does, and who is asked before that.
const HOP_MARGIN: Duration = Duration::from_millis(2);

/// Routes the requests of one node.
pub struct EdgeRoute {
    bus: Bus,
    view: RwLock<Arc<View>>,
    sent: Mutex<Sent>,
    /// What others have sent here ahead of a request, or can fetch.
    pub bodies: Arc<Bodies>,
}

impl EdgeRoute {
    /// A router for the bus's site; the parent counts as away until it was heard.
    pub fn new(bus: Bus, class: TierClass) -> Self {
        let here = Site::new(bus.site().clone(), class, Instant::now());
        let parent = match bus.site().parent() {
            Some(path) => policy::ParentView::Away { path },
            None => policy::ParentView::None,
        };
        let view = View { here, parent, above: vec![], below: vec![] };
        let (view, sent) = (RwLock::new(Arc::new(view)), Mutex::default());
        Self { bus, view, sent, bodies: Arc::default() }
    }

    /// The site this router works for.
    pub fn site(&self) -> &TierPath {
        self.bus.site()
    }

    /// What kind of place the site is.
    pub fn class(&self) -> TierClass {
        self.view().here.class
    }

    /// What this site believes of the tree now.
    pub fn view(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Notes an answer of the parent with what it believes of the sites above, itself first; or
    /// its absence.
    pub fn note_parent(&self, heard: Option<(Duration, Vec<Site>)>) {
        let Some(path) = self.bus.site().parent() else { return };
        self.change(|view| match heard {
            Some((rtt, above)) => {
                view.parent = policy::ParentView::Near { path, rtt };
                view.above = above;
            }
            None => view.parent = policy::ParentView::Away { path },
        });
        self.forget_sent();
    }

    /// Notes what this site has and what is known of those below.
    pub fn note_sites(&self, here: Site, below: Vec<Site>) {
        self.change(|view| {
            view.here = here;
            view.below = below;
        });
        self.forget_sent();
    }

    /// What was sent before a site was heard of is in what was heard.
    fn forget_sent(&self) {
        let view = self.view();
        self.sent().note_heard(|to| view.heard(to));
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How fast bodies have come from here to another site lately, in bytes per second.
    pub fn bytes_per_s(&self, to: &TierPath) -> Option<u64> {
        self.bus.rates().to(to, Instant::now())
    }

    fn change(&self, change: impl FnOnce(&mut View)) {
        let mut view = self.view.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        change(Arc::make_mut(&mut view));
    }

    /// Decides where a request goes.
    pub fn decide(&self, request: &Request, handler: &HandlerView<'_>) -> Decision {
        self.weigh(request, handler, |asked, view, now| policy::decide(asked, handler, view, now))
    }

    /// Notes that a request goes to another site, so that others count it until what is returned
    /// is dropped.
    pub fn note_sent(
        &self,
        request: &Request,
        handler: &HandlerView<'_>,
        decision: &Decision,
    ) -> Option<UnderWay<'_>> {
        let HandlerView::Known { key, .. } = *handler else { return None };
        let to = self.weigh(request, handler, |asked, view, now| {
            policy::bound_for(decision, asked, handler, view, now)
        })?;
        let ticket = self.sent().note(key, &to, Instant::now());
        Some(UnderWay { route: self, ticket })
    }

    fn weigh<T>(
        &self,
        request: &Request,
        handler: &HandlerView<'_>,
        how: impl FnOnce(&policy::Asked<'_>, &View, Instant) -> T,
    ) -> T {
        let (now, user_at) = (Instant::now(), request.user_at());
        let sent = match handler {
            HandlerView::Known { key, .. } => self.sent().of(key),
            _ => vec![],
        };
        let asked = policy::Asked {
            hops: request.hops(),
            time_left: request.deadline().saturating_duration_since(now),
            bytes: request.payload.len(),
            from_above: request.headers.contains_key(DOWN_HEADER),
            keyed: request.key().is_some(),
            user_at: user_at.as_ref(),
            sent: &sent,
        };
        how(&asked, &self.view(), now)
    }

    /// Notes that another site was too busy for a request, so that others do not follow it there
    /// before its queue has room again.
    pub fn note_refusal(&self, refusal: &Refusal, key: &str, code: CodeView, deadline: Instant) {
        let now = Instant::now();
        let (Some(retry_after_ms), Some(by)) = (refusal.retry_after_ms, &refusal.at) else {
            return;
        };
        let Ok(by) = by.parse() else { return };
        let run = match code {
            CodeView::Ready { run, .. } => run,
            CodeView::Absent => Duration::ZERO,
        };
        let refused = policy::Refused {
            by: &by,
            key,
            left: deadline.saturating_duration_since(now),
            run,
            retry_after: Duration::from_millis(retry_after_ms),
        };
        // Most often as much is known.
        let full = self.view().full(&refused, now);
        if !full.is_empty() {
            self.change(|view| view.note_full(key, &full));
            let mut sent = self.sent();
            full.iter().for_each(|(site, _)| sent.note_told(key, site));
        }
    }

    /// Passes a request on to a site above and brings back its answer. Where nobody answers there,
    /// the parent is asked, who may know why.
    pub async fn escalate(&self, request: &Request, to: &TierPath) -> Result<Response, Refusal> {
        let parent = self.site().parent().ok_or_else(|| {
            Refusal::new(RefusalKind::NoHandler, format!("{} has no parent", self.site()))
        })?;
        if *to != parent
            && let Some(answer) = self.ask_once(request, to).await?
        {
            return Ok(answer);
        }
        self.forward(request, &parent).await
    }

    /// Sends a request down to a site below and brings back its answer.
    pub async fn descend(&self, request: &Request, to: &TierPath) -> Result<Response, Refusal> {
        let mut request = request.clone();
        request.headers.insert(DOWN_HEADER.into(), self.site().to_string());
        self.forward(&request, to).await
    }

    /// Sends a request down to a site nearer to its user; nothing comes back when it was certainly
    /// not carried out there.
    pub async fn approach(
        &self,
        request: &Request,
        to: &TierPath,
    ) -> Result<Option<Response>, Refusal> {
        use RefusalKind::{NoHandler, NotFound, Overloaded};
        let mut request = request.clone();
        request.headers.insert(DOWN_HEADER.into(), self.site().to_string());
        match self.ask_once(&request, to).await {
            Err(refusal) if matches!(refusal.kind, Overloaded | NoHandler | NotFound) => Ok(None),
            answer => answer,
        }
    }

    /// Asks a site once; nothing comes back when the request certainly did not get there.
    async fn ask_once(
        &self,
        request: &Request,
        to: &TierPath,
    ) -> Result<Option<Response>, Refusal> {
        let hop = self.hop(request, to)?;
        let left = request.deadline().saturating_duration_since(Instant::now());
        let answer = self.attempt(&hop, left.saturating_sub(HOP_MARGIN)).await;
        hop.way.forget(&hop.ahead).await;
        match answer {
            Ok(response) => Ok(Some(self.sign(response))),
            Err(e) if e.not_done() => Ok(None),
            Err(e) => Err(self.refusal(e, to)),
        }
    }

    /// A request that certainly was not carried out is tried again within its time budget. One
    /// whose fate is unknown is tried again only if it carries an idempotency key.
    async fn forward(&self, request: &Request, to: &TierPath) -> Result<Response, Refusal> {
        let hop = self.hop(request, to)?;
        let answer = self.attempts(request, &hop).await;
        hop.way.forget(&hop.ahead).await;
        answer
    }

    fn hop<'a>(&'a self, request: &Request, to: &'a TierPath) -> Result<Hop<'a>, Refusal> {
        let subject = Subject::parse(&request.subject).map_err(|e| Refusal::bad(e.to_string()))?;
        let target = Subject::new(Kind::Call, to, subject.name).to_string();
        let mut headers = request.headers.clone();
        headers.insert(HOPS_HEADER.into(), (request.hops() + 1).to_string());
        // It has been thought of here.
        headers.remove(USER_HEADER);
        // Each attempt has a budget of its own.
        headers.remove(TIMEOUT_HEADER);
        let ahead = Ahead::of(&request.payload, &mut headers)?;
        let way = Way { bus: &self.bus, to };
        Ok(Hop { target, headers, ahead, way })
    }

    async fn attempts(&self, request: &Request, hop: &Hop<'_>) -> Result<Response, Refusal> {
        for attempt in 0.. {
            let left = request.deadline().saturating_duration_since(Instant::now());
            let Some(left) = left.checked_sub(HOP_MARGIN).filter(|left| !left.is_zero()) else {
                return Err(self.late());
            };
            let budget = match request.key() {
                Some(_) => retry::share(left, attempt),
                None => left,
            };
            match self.attempt(hop, budget).await {
                Ok(response) => return Ok(self.sign(response)),
                Err(e) if retry::worth(&e, request.key().is_some(), attempt) => {
                    debug!(target = %hop.target, attempt, error = %e, "trying again");
                    let left = request.deadline().saturating_duration_since(Instant::now());
                    tokio::time::sleep(retry::pause(attempt, retry::draw()).min(left)).await;
                }
                Err(e) => return Err(self.refusal(e, hop.way.to)),
            }
        }
        Err(self.late())
    }

    /// Asks once: what is too large for a message goes ahead, and is fetched afterwards.
    async fn attempt(&self, hop: &Hop<'_>, budget: Duration) -> Result<Response, Error> {
        let until = Instant::now() + budget;
        let left = || until.saturating_duration_since(Instant::now());
        hop.way.send(&hop.ahead, budget).await?;
        let told = self.view().budget(hop.way.to, left()).saturating_sub(HOP_MARGIN);
        let mut headers = hop.headers.clone();
        headers.insert(TIMEOUT_HEADER.into(), told.as_millis().to_string());
        let payload = hop.ahead.payload();
        let answer = self.bus.request(&hop.target, &headers, payload, left()).await?;
        hop.way.fetch(answer, left()).await.map_err(|e| {
            // The request was carried out: it must not look as if it had never arrived.
            let text = format!("the answer of {} was lost: {e}", hop.way.to);
            Refusal::new(RefusalKind::Unavailable, text).into()
        })
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

    fn refusal(&self, error: Error, to: &TierPath) -> Refusal {
        match error {
            Error::Refused(refusal) => refusal,
            Error::TimedOut { .. } => Refusal::new(
                RefusalKind::DeadlineExceeded,
                format!("deadline exceeded at {}: no answer from {to}", self.site()),
            ),
            Error::Bad(text) => Refusal::bad(text),
            away => Refusal::new(
                RefusalKind::Unavailable,
                format!("{to} is away from {}: {away}", self.site()),
            ),
        }
        .at(self.site().as_str())
    }
}

/// A request that has gone to another site.
pub struct UnderWay<'a> {
    route: &'a EdgeRoute,
    ticket: Ticket,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.route.sent().over(&self.ticket);
    }
}

/// One request on its way to another site.
struct Hop<'a> {
    target: String,
    headers: Headers,
    ahead: Ahead,
    way: Way<'a>,
}
