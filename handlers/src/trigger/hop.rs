//! What goes on to another site, and what runs here: each under a span of its own.

use std::borrow::Cow;

use bus::message::{SITE_HEADER, WAY_HEADER};
use bus::route::HandlerView;
use bus::route::once::{Course, Held};
use bus::route::policy::Fit;
use bus::trace::Trace;
use bus::{Delivery, Event, Refusal, Request, Response, TierPath};

use super::{CLIMB_TIMEOUT, Failed, Outcome, PAUSE, Triggers};
use crate::execute::{Input, Invocation};
use crate::trace::{Open, Role};

impl Triggers {
    /// Passes a call on to a site above.
    pub(super) async fn pass_up(
        &self,
        request: &Request,
        to: &TierPath,
    ) -> Result<Response, Refusal> {
        self.metrics.count("calls sent up", 1);
        let (span, request) = self.hop(request, Some(to));
        let answer = Box::pin(self.route.escalate(&request, to)).await;
        span.end(&answer);
        answer
    }

    /// Names who answered where a request of this kind always goes there: what was sent up because
    /// of load or of missing code may be served here the next time.
    pub(super) fn with_way(&self, answer: Response, view: &HandlerView<'_>) -> Response {
        let here = &self.route.view().here;
        match (view, answer.headers.get(SITE_HEADER).cloned()) {
            (HandlerView::Known { placement, .. }, Some(site))
                if placement.fit(here) == Fit::Above =>
            {
                answer.with(WAY_HEADER, site)
            }
            _ => answer,
        }
    }

    /// Passes a call on to a site below.
    pub(super) async fn pass_down(
        &self,
        request: &Request,
        to: &TierPath,
    ) -> Result<Response, Refusal> {
        self.metrics.count("calls sent down", 1);
        let (span, request) = self.hop(request, Some(to));
        let answer = Box::pin(self.route.descend(&request, to)).await;
        span.end(&answer);
        answer
    }

    /// Passes a call on to a site nearer to its user; nothing comes back when that has certainly
    /// not done it. A key counts as sent on as long as that is not known.
    pub(super) async fn approach_user(
        &self,
        request: &Request,
        to: &TierPath,
        mut held: Option<&mut Held>,
    ) -> Result<Option<Response>, Refusal> {
        let before = held.as_ref().map(|held| held.course().clone());
        if let Some(held) = &mut held {
            held.set(Course::SentOn);
        }
        self.metrics.count("calls sent to their users", 1);
        let (span, request) = self.hop(request, Some(to));
        let answer = Box::pin(self.route.approach(&request, to)).await;
        span.end(&answer);
        let is_done = match &answer {
            Ok(answer) => answer.is_some(),
            Err(refusal) => refusal.kind.leaves_doubt(),
        };
        if let (false, Some(held), Some(before)) = (is_done, held, before) {
            held.set(before);
        }
        answer
    }

    fn hop<'a>(&self, request: &'a Request, to: Option<&TierPath>) -> (Open, Cow<'a, Request>) {
        let above = Trace::of(&request.headers);
        let span = self.tracer.open(&above, Role::Client, || hop_name(to));
        if !span.is_recorded() {
            return (span, Cow::Borrowed(request));
        }
        let mut request = request.clone();
        span.trace().write(&mut request.headers);
        (span, Cow::Owned(request))
    }

    /// Sends events to the parent, in order. An attempt in vain leaves no spans: there may be many.
    pub(super) async fn send_up(&self, mut events: Vec<Event>) -> Result<(), bus::Error> {
        if events.is_empty() {
            return Ok(());
        }
        let open = |event: &mut Event| {
            let name = || hop_name(self.route.site().parent().as_ref());
            let span = self.tracer.open(&Trace::of(&event.headers), Role::Producer, name);
            if span.is_recorded() {
                span.trace().write(&mut event.headers);
            }
            span
        };
        let spans: Vec<Open> = events.iter_mut().map(open).collect();
        if let Err(e) = Box::pin(self.events.climb(&events, CLIMB_TIMEOUT)).await {
            spans.into_iter().for_each(Open::discard);
            return Err(e);
        }
        self.metrics.count("events sent up", events.len() as u64);
        self.metrics.count("batches of events sent up", 1);
        Ok(())
    }

    /// Passes on an event that is addressed to a site below.
    pub(super) async fn send_to(&self, to: &str, delivery: &Delivery, event: &Event) -> Outcome {
        let site = self.route.site();
        let target: Option<TierPath> = to.parse().ok().filter(|to| site.contains(to));
        match target.filter(|_| delivery.published_here) {
            Some(target) => self.descend(event, &target).await,
            None => {
                let reason = format!("addressed to {to:?}, which is no site below {site}");
                self.bury(delivery, Failed::unread(&reason)).await
            }
        }
    }

    pub(super) async fn descend(&self, event: &Event, to: &TierPath) -> Outcome {
        match Box::pin(self.events.descend(event, to, CLIMB_TIMEOUT)).await {
            Ok(_) => {
                self.metrics.count("events sent down", 1);
                Outcome::Done
            }
            Err(_) => Outcome::Again(PAUSE),
        }
    }

    /// The span of one run of a handler, which the handler then sees as the one above it.
    pub(super) fn run_span(&self, app: &str, handler: &str, invocation: &mut Invocation) -> Open {
        let role = match invocation.input {
            Input::Event(_) => Role::Consumer,
            _ => Role::Internal,
        };
        let name = || format!("run {app}/{handler}");
        let mut span = self.tracer.open(&invocation.trace, role, name);
        span.note("edgescale.app", app);
        span.note("edgescale.handler", handler);
        span.note("edgescale.attempt", u64::from(invocation.attempt));
        invocation.trace = span.trace().clone();
        if let Input::Http(request) = &mut invocation.input {
            request.set_trace(span.trace());
        }
        span
    }
}

fn hop_name(to: Option<&TierPath>) -> String {
    format!("hop {}", to.map_or("", TierPath::as_str))
}
