//! What starts handlers at a tier: its events and its calls.
//!
//! Two readers share the tier's event log. One runs the handlers placed here; the other sends up
//! what has handlers further up, one event at a time and in order, and simply waits while the
//! parent is away. An event leaves the log of a tier only when both are done with it.

mod asked;
mod climb;
mod dead;
mod hop;
mod known;
mod large;
mod load;
mod order;
mod plan;
mod progress;
mod read;
mod spill;
mod turns;

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bus::body;
use bus::event::{Delivery, ONLY_HEADER, Position, Reader};
use bus::message::{SITE_HEADER, USER_HEADER};
use bus::route::once::{Course, Held, KEY_BYTES_MAX, Once};
use bus::route::{CodeView, Decision, HandlerView};
use bus::trace::Trace;
use bus::{EdgeRoute, EventLog, Refusal, RefusalKind, Request, Response, Subject};
use futures::TryFutureExt as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use self::asked::{Asked, execute_event, refusal_of_invoke};
pub use self::asked::{HTTP_FUNCTION, Streams, head_of, head_text};
use self::dead::Failed;
use self::known::Known;
pub use self::load::{Load, Turn};
use self::order::Queue;
use self::plan::Plan;
use self::progress::Progress;
use crate::EdgeExecute;
use crate::deploy::{self, App, EdgeDeploy};
use crate::execute::{self, Input, Invocation, InvokeError};
use crate::logs::{About, Logs};
use crate::manifest::Handler;
use crate::metrics::Metrics;
use crate::trace::Tracer;

/// How many events are with handlers at once.
const EVENTS_AT_ONCE: usize = 64;
/// The pause after a failure of the bus or of a tier above.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the parent may take to store an event.
const CLIMB_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause between two deliveries of one event.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How often the server is told that an event is still being worked on.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// How often an acknowledgement is tried: one that was lost with its connection need not wait until
/// the event comes again.
const ACK_ATTEMPTS: u32 = 3;
/// How long an event may wait for its turn at a handler before it is offered again.
const TURN_PATIENCE: Duration = Duration::from_secs(20);

/// The components that triggers join.
pub struct Triggers {
    pub deploy: Arc<EdgeDeploy>,
    pub execute: Arc<EdgeExecute>,
    pub route: Arc<EdgeRoute>,
    pub events: EventLog,
    pub logs: Arc<Logs>,
    pub metrics: Arc<Metrics>,
    pub tracer: Arc<Tracer>,
    pub load: Load,
    progress: Mutex<Progress>,
    once: Once,
    known: Mutex<Known>,
    queue: Queue,
    /// Whether events are taken from the log no more.
    closed: watch::Sender<bool>,
    /// Told whenever an event is in hand no more.
    released: Notify,
}

/// What comes of a call.
type Answer = Result<Response, Refusal>;

/// What became of an event at this tier.
#[derive(Clone, Copy)]
enum Outcome {
    Done,
    Again(Duration),
}

impl Triggers {
    /// Joins the components; nothing runs yet.
    pub fn new(
        deploy: Arc<EdgeDeploy>,
        execute: Arc<EdgeExecute>,
        route: Arc<EdgeRoute>,
        events: EventLog,
        logs: Arc<Logs>,
        metrics: Arc<Metrics>,
        tracer: Arc<Tracer>,
    ) -> Self {
        let (load, progress, once, known, queue, released) = Default::default();
        let (closed, _) = watch::channel(false);
        Self {
            deploy,
            execute,
            route,
            events,
            logs,
            metrics,
            tracer,
            load,
            progress,
            once,
            known,
            queue,
            closed,
            released,
        }
    }

    /// Runs one handler on one input, counted, timed and logged.
    pub async fn invoke(
        &self,
        app: &App,
        handler: &Handler,
        mut invocation: Invocation,
    ) -> Result<execute::Reply, InvokeError> {
        let name = &handler.name;
        let missing = || InvokeError::Node(format!("app {} has no handler {name}", app.name()));
        let key = app.key(name).ok_or_else(missing)?;
        let names = app.names(name).ok_or_else(missing)?;
        let mut running = self.load.begin(key, handler.limits.concurrency);
        let app = app.name();
        self.metrics.count(&names.invocations, 1);
        let span = self.run_span(app, name, &mut invocation);
        let (id, trace) = (invocation.input.id(), invocation.trace.clone());
        let (attempt, revision) = (Some(invocation.attempt), Some(invocation.target.revision));
        let result = self.execute.invoke(invocation).await;
        if let Ok(reply) = &result {
            running.ran(reply.run_us);
        }
        span.end(&result);
        drop(running);
        match &result {
            Ok(reply) => {
                let times = [(&*names.queue, reply.queue_us), (&*names.run, reply.run_us)];
                self.metrics.times_us(times);
            }
            Err(e) => {
                self.metrics.count(&format!("failures {app}/{name}"), 1);
                self.metrics.count(&format!("ended {} {app}/{name}", e.word()), 1);
                let text = format!("{e}\n{}", e.backtrace());
                let from = format!("{app}/{name}");
                let about = About { attempt, revision, ..About::event(&id, &trace) };
                self.logs.add_about("error", &from, text.trim_end(), about);
            }
        }
        result
    }

    async fn handle(
        &self,
        delivery: &Delivery,
        place: OwnedSemaphorePermit,
        room: &Arc<Semaphore>,
    ) {
        self.metrics.count("events delivered", 1);
        let outcome = {
            let work = self.run_in_turn(delivery, place, room);
            tokio::pin!(work);
            loop {
                let late = tokio::time::sleep(PROGRESS_EVERY);
                tokio::select! {
                    biased; // Most work is done at once, and no clock is wound up for it.
                    outcome = &mut work => break outcome,
                    () = late => { let _ = delivery.progress().await; }
                }
            }
        };
        let told = match outcome {
            Outcome::Done => self.settle(delivery, Reader::Run).await,
            Outcome::Again(after) => delivery.retry(after).await,
        };
        if matches!(outcome, Outcome::Done) {
            self.queue.end(delivery.at.seq, told.is_ok());
        }
        if let Err(e) = told {
            let event = delivery.event.as_ref().ok();
            let about = event.map(|event| About::event(&event.id, &Trace::of(&event.headers)));
            let text = format!("event {}: {e}", delivery.name);
            self.logs.add_about("warn", "events", &text, about);
        }
    }

    async fn run_in_turn(
        &self,
        delivery: &Delivery,
        place: OwnedSemaphorePermit,
        room: &Arc<Semaphore>,
    ) -> Outcome {
        if self.progress().is_settled(delivery.at, Reader::Run) {
            return Outcome::Done;
        }
        let mut place = Some(place);
        if let Some(outcome) = self.wait_for_turn(delivery, &mut place, room).await {
            return outcome;
        }
        let outcome = self.run_handlers(delivery).await;
        if let Outcome::Again(_) = outcome {
            self.queue.end(delivery.at.seq, false);
        }
        outcome
    }

    /// Tells the server that a reader is done with an event. Until the server has heard it, the
    /// event may come again; it is known then, and nothing is done twice.
    async fn settle(&self, delivery: &Delivery, reader: Reader) -> Result<(), bus::Error> {
        self.progress().settled(delivery.at, reader);
        let refers = delivery.event.as_ref().is_ok_and(bus::Event::is_referring);
        // A copy is known here, and above by its id, so nobody need wait for the server's word but
        // who is to forget the data that the event refers to.
        let mut told = if refers { delivery.ack_sync().await } else { delivery.ack().await };
        for _ in 1..ACK_ATTEMPTS {
            if told.is_err() {
                told = delivery.ack_sync().await;
            }
        }
        if told.is_ok() {
            let over = self.leave(delivery.at, reader);
            if refers {
                Box::pin(self.forget_data(delivery, reader, over)).await;
            }
        }
        told
    }

    async fn run_handlers(&self, delivery: &Delivery) -> Outcome {
        let event = match &delivery.event {
            Ok(event) => event,
            Err(e) => return self.bury(delivery, Failed::unread(&e.to_string())).await,
        };
        if !self.is_first(event, delivery.at.seq) {
            self.metrics.count("events known already", 1);
            return Outcome::Done;
        }
        if let Some(to) = event.to().filter(|to| *to != self.route.site().as_str()) {
            return self.send_to(to, delivery, event).await;
        }
        let app = match self.deploy.app(event.app()).await {
            Ok(Some(app)) => app,
            Ok(None) if self.is_root() || event.only().or(event.to()).is_some() => {
                let reason = format!("no app {:?} is registered", event.app());
                return self.bury(delivery, Failed::unread(&reason)).await;
            }
            // The tier above knows more; the other reader sends the event there.
            Ok(None) => {
                self.progress().plan(delivery.at, Plan::unknown);
                return Outcome::Done;
            }
            Err(deploy::Error::Bad(reason)) => {
                return self.bury(delivery, Failed::unread(&reason)).await;
            }
            Err(_) => return Outcome::Again(PAUSE),
        };
        let plan = self.plan(delivery.at, &app, event);
        let whole = match self.whole_for(&plan, event).await {
            Ok(whole) => whole,
            Err(bus::Error::Bad(reason) | bus::Error::Refused(Refusal { message: reason, .. })) => {
                return self.bury(delivery, Failed::unread(&reason)).await;
            }
            Err(_) => return Outcome::Again(PAUSE),
        };
        let event = &*whole;
        let mut again = None;
        let mut note = |name: &str, outcome| match outcome {
            Outcome::Done => self.progress().done(delivery.at, name),
            Outcome::Again(after) => again = Some(again.unwrap_or(after).min(after)),
        };
        let open = |name: &&String| !self.progress().is_done(delivery.at, name);
        for name in plan.here.iter().filter(open) {
            let Some(handler) = app.manifest.handler(name) else { continue };
            note(name, self.run_one(&app, handler, delivery, event).await);
        }
        for (name, to) in plan.below.iter().filter(|(name, _)| open(&name)) {
            let mut event = event.clone();
            event.headers.insert(ONLY_HEADER.into(), name.clone());
            note(name, self.descend(&event, to).await);
        }
        for (name, reason) in plan.nowhere.iter().filter(|(name, _)| open(&name)) {
            let failed = Failed { handler: name, reason, stack: "", attempts: 0 };
            note(name, self.bury(delivery, failed).await);
        }
        again.map_or(Outcome::Done, Outcome::Again)
    }

    /// Where the event's handlers run: decided once, for both readers.
    fn plan(&self, at: Position, app: &App, event: &bus::Event) -> Arc<Plan> {
        let view = self.route.view();
        self.progress().plan(at, || Plan::of(app, event, &view))
    }

    fn is_root(&self) -> bool {
        self.route.site().parent().is_none()
    }

    fn leave(&self, at: Position, reader: Reader) -> Option<bool> {
        self.progress().leave(at, reader, self.is_root())
    }

    async fn run_one(
        &self,
        app: &App,
        handler: &Handler,
        delivery: &Delivery,
        event: &bus::Event,
    ) -> Outcome {
        // Runs are counted, not deliveries: an event that waits for its code has failed at nothing.
        let attempt = self.progress().runs(delivery.at, &handler.name) + 1;
        if attempt == 1 && self.spilled(app, handler, event).await {
            return Outcome::Done;
        }
        let failure = match self.deploy.install(app, &handler.name).await {
            Ok(target) => {
                let limit = Duration::from_millis(handler.limits.timeout_ms.into());
                let invocation = Invocation {
                    target,
                    input: Input::Event(execute_event(event)),
                    deadline: Instant::now() + limit + TURN_PATIENCE,
                    attempt,
                    trace: Trace::of(&event.headers),
                    by: None,
                    outlet: None,
                };
                match self.invoke(app, handler, invocation).await {
                    Ok(_) => return Outcome::Done,
                    Err(InvokeError::Overloaded { retry_after_ms }) => {
                        return Outcome::Again(Duration::from_millis(retry_after_ms));
                    }
                    Err(InvokeError::NotInstalled(_) | InvokeError::Stopped) => {
                        return Outcome::Again(PAUSE);
                    }
                    Err(e) => e,
                }
            }
            Err(deploy::Error::Code(e)) => e,
            Err(e) => {
                let about = About::event(&event.id, &Trace::of(&event.headers));
                self.logs.add_about("warn", app.name(), &format!("{}: {e}", handler.name), about);
                return Outcome::Again(PAUSE);
            }
        };
        if attempt >= handler.retry.attempts_after(failure.kind()) {
            let (handler, reason) = (handler.name.as_str(), &failure.to_string());
            let stack = failure.backtrace();
            return self.bury(delivery, Failed { handler, reason, stack, attempts: attempt }).await;
        }
        self.progress().ran(delivery.at, &handler.name);
        let backoff = Duration::from_millis(handler.retry.backoff_ms.into());
        Outcome::Again((backoff * 2u32.saturating_pow(attempt - 1)).min(BACKOFF_MAX))
    }

    /// Answers a call: runs it here, passes it on, or refuses it. A call whose idempotency key was
    /// answered lately gets that answer.
    pub fn answer(&self, request: Request) -> impl Future<Output = Answer> {
        self.answer_with(request, Streams::default())
    }

    /// The same, with what of the request is no message.
    pub fn answer_with(&self, request: Request, streams: Streams) -> impl Future<Output = Answer> {
        self.answer_once(request, streams).inspect_err(|refusal| {
            self.metrics.count(&format!("calls refused {}", refusal.kind.code()), 1);
        })
    }

    async fn answer_once(&self, request: Request, streams: Streams) -> Answer {
        let subject = Subject::parse(&request.subject).map_err(|e| Refusal::bad(e.to_string()))?;
        if subject.app() == body::APP && subject.rest() == body::KEEP {
            return Box::pin(self.events.keep(request)).await;
        }
        if subject.app() == body::APP {
            return self.route.bodies.serve(subject.rest(), request);
        }
        let request = self.route.bodies.whole(request)?;
        let Some(key) = request.key() else {
            return self.route_call(&request, &subject, None, streams).await;
        };
        if key.len() > KEY_BYTES_MAX {
            let text = format!("the idempotency key is longer than {KEY_BYTES_MAX} bytes");
            return Err(Refusal::bad(text));
        }
        let key = format!("{} {key}", subject.name);
        let hold = self.once.hold(&key, Instant::now());
        let held = tokio::time::timeout_at(request.deadline().into(), hold).await;
        let mut held = held.map_err(|_| self.late("another call with its key is under way"))?;
        if let Course::Answered(first) = held.course() {
            self.metrics.count("calls answered again", 1);
            return Ok(first.clone());
        }
        let streams = Streams { by: streams.by, ..Streams::default() };
        let answer = self.route_call(&request, &subject, Some(&mut held), streams).await;
        if let Ok(response) = &answer {
            self.once.note(held, Course::Answered(response.clone()));
        }
        answer
    }

    async fn route_call(
        &self,
        request: &Request,
        subject: &Subject,
        mut held: Option<&mut Held>,
        streams: Streams,
    ) -> Result<Response, Refusal> {
        let (name, function) = (subject.app(), subject.rest());
        let app = tokio::time::timeout_at(request.deadline().into(), self.deploy.app(name)).await;
        let app = app.map_err(|_| self.late("the app is still asked for"))?.or_else(unless_away)?;
        let asked = Asked::read(function, request)?;
        let handler = app.as_ref().and_then(|app| asked.handler(&app.manifest));
        let described = asked.name();
        let view = self.deploy.view(app.as_deref(), handler, (name, &described), |app, handler| {
            self.turn_at(app, handler)
        });
        let mut here;
        let mut request = request;
        let mut decision = self.route.decide(request, &view);
        if request.user_at().is_some()
            && let Decision::Send { to } = &decision
        {
            let whole = streams.whole(request).await?;
            let keyed = held.as_deref_mut();
            if let Some(answer) = self.approach_user(&whole, to, keyed).await? {
                return Ok(answer);
            }
            here = request.clone();
            here.headers.remove(USER_HEADER);
            request = &here;
            decision = self.route.decide(request, &view);
        }
        let sent_on = held.as_ref().is_some_and(|held| matches!(held.course(), Course::SentOn));
        if sent_on && matches!(decision, Decision::Run | Decision::InstallThenRun) {
            let to = self.route.site().parent().unwrap_or(self.route.site().clone());
            decision = Decision::Escalate { to, install: false };
        }
        if let (Decision::Run | Decision::InstallThenRun, Some(app), Some(handler)) =
            (&decision, &app, handler)
        {
            match self.call(app, handler, &asked, request, &streams).await {
                Err(refusal) if refusal.kind == RefusalKind::Overloaded => {
                    decision = self.spill(request, &view, refusal);
                }
                answer => return answer,
            }
        }
        if let Some(held) = &mut held {
            held.set(Course::SentOn);
        }
        let _until_it_is_back = self.route.note_sent(request, &view, &decision);
        let answer = match &decision {
            Decision::Escalate { to, .. } => {
                let answer = self.pass_up(&*streams.whole(request).await?, to).await;
                answer.map(|answer| self.with_way(answer, &view))
            }
            Decision::Send { to } => self.pass_down(&*streams.whole(request).await?, to).await,
            Decision::Refuse(refusal) => Err(refusal.clone()),
            _ => Err(Refusal::new(RefusalKind::Internal, format!("no handler for {name}"))),
        };
        if let (Some(held), Err(refusal)) = (held, &answer)
            && (!matches!(decision, Decision::Escalate { .. } | Decision::Send { .. })
                || !refusal.kind.leaves_doubt())
            && !sent_on
        {
            held.set(Course::Open);
        }
        if let (Err(refusal), HandlerView::Known { key, code, .. }) = (&answer, &view) {
            self.route.note_refusal(refusal, key, *code, request.deadline());
        }
        // Afterwards: compiling must not take the cores from who answers this request.
        if let (Decision::Escalate { install: true, .. }, Some(app), Some(handler)) =
            (decision, &app, handler)
        {
            self.install_behind(app.clone(), handler.name.clone());
        }
        answer
    }

    /// What becomes of a request for which there was no place here after all.
    fn spill(&self, request: &Request, view: &HandlerView<'_>, refusal: Refusal) -> Decision {
        let HandlerView::Known { key, placement, .. } = *view else {
            return Decision::Refuse(refusal);
        };
        let wait = request.deadline().saturating_duration_since(Instant::now());
        let code = CodeView::Ready { wait, run: Duration::ZERO };
        match self.route.decide(request, &HandlerView::Known { key, placement, code }) {
            Decision::Escalate { to, .. } => Decision::Escalate { to, install: false },
            _ => Decision::Refuse(refusal),
        }
    }

    /// What an invocation of a handler would have before it here.
    fn turn_at(&self, app: &App, handler: &Handler) -> Turn {
        app.key(&handler.name).map_or_else(Turn::default, |key| self.load.turn(key))
    }

    fn late(&self, why: &str) -> Refusal {
        let text = format!("deadline exceeded at {}: {why}", self.route.site());
        Refusal::new(RefusalKind::DeadlineExceeded, text)
    }

    fn install_behind(&self, app: Arc<App>, handler: String) {
        let (deploy, logs) = (self.deploy.clone(), self.logs.clone());
        tokio::spawn(async move {
            if let Err(e) = deploy.install(&app, &handler).await {
                logs.add("warn", "deploy", &format!("{}/{handler}: {e}", app.name()));
            }
        });
    }

    async fn call(
        &self,
        app: &App,
        handler: &Handler,
        asked: &Asked,
        request: &Request,
        streams: &Streams,
    ) -> Result<Response, Refusal> {
        let (deadline, site) = (request.deadline(), self.route.site().as_str());
        let install = self.deploy.install(app, &handler.name);
        let target = tokio::time::timeout_at(deadline.into(), install).await;
        let target = target.map_err(|_| self.late("the code is still on its way"))?;
        let target = target.map_err(|e| e.refusal())?;
        let (inlet, request) = match self.execute.reads_in_parts(&target) {
            true => (streams.inlet.clone(), Cow::Borrowed(request)),
            false => (None, streams.whole(request).await?),
        };
        let mut input = asked.input(&app.manifest, &request);
        if let Input::Http(http) = &mut input {
            http.inlet = inlet;
        }
        let trace = Trace::of(&request.headers);
        let (by, outlet) = (streams.by.clone(), streams.outlet.clone());
        let invocation = Invocation { target, input, deadline, attempt: 1, trace, by, outlet };
        let reply = self.invoke(app, handler, invocation).await.map_err(refusal_of_invoke)?;
        Ok(asked::response(reply).with(SITE_HEADER, site))
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// An app that cannot be asked for because the parent is away counts as unknown: the router then
/// says that the parent is away.
fn unless_away(error: deploy::Error) -> Result<Option<Arc<App>>, Refusal> {
    match error {
        deploy::Error::Away(_) => Ok(None),
        other => Err(other.refusal()),
    }
}
