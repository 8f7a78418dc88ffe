//! What starts handlers at a tier: its events and its calls.
//!
//! Two readers share the tier's event log. One runs the handlers placed here; the other sends up
//! what has handlers further up, one event at a time and in order, and simply waits while the
//! parent is away. An event leaves the log of a tier only when both are done with it.

mod progress;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bus::event::{DONE_HEADER, DeadLetter, Delivery, Reader};
use bus::message::SITE_HEADER;
use bus::route::Decision;
use bus::route::policy::Fit;
use bus::{EdgeRoute, EventLog, Refusal, RefusalKind, Request, Response, Subject};
use tokio::sync::Semaphore;

use self::progress::Progress;
use crate::EdgeExecute;
use crate::deploy::{self, App, EdgeDeploy};
use crate::execute::{self, Input, Invocation, InvokeError};
use crate::logs::Logs;
use crate::manifest::Handler;
use crate::metrics::Metrics;

/// How many events are with handlers at once.
const EVENTS_AT_ONCE: usize = 64;
/// The pause after a failure of the bus or of a tier above.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the parent may take to store an event.
const CLIMB_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause between two deliveries of one event.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How often the server is told that an event is still being worked on.
const PROGRESS_EVERY: Duration = Duration::from_secs(20);
/// The weight of the newest run in the average run time, in percent.
const RUN_WEIGHT: u64 = 20;

/// The components that triggers join.
pub struct Triggers {
    pub deploy: Arc<EdgeDeploy>,
    pub execute: Arc<EdgeExecute>,
    pub route: Arc<EdgeRoute>,
    pub events: EventLog,
    pub logs: Arc<Logs>,
    pub metrics: Arc<Metrics>,
    pub load: Load,
    progress: Mutex<Progress>,
}

/// What is under way, and how long it takes.
#[derive(Default)]
pub struct Load {
    handlers: Mutex<BTreeMap<(String, String), (u64, u64)>>,
    total: AtomicU64,
}

impl Load {
    /// Invocations begun so far.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Invocations under way.
    pub fn in_flight(&self) -> u64 {
        self.lock().values().map(|(running, _)| running).sum()
    }

    /// How long a new invocation would wait for its turn.
    pub fn wait(&self, app: &str, handler: &Handler) -> Duration {
        let key = (app.to_owned(), handler.name.clone());
        let (running, run_us) = self.lock().get(&key).copied().unwrap_or_default();
        let places = u64::from(handler.limits.concurrency.max(1));
        let ahead = running.saturating_sub(places - 1);
        Duration::from_micros(ahead.saturating_mul(run_us) / places)
    }

    fn begin(&self, key: &(String, String)) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.lock().entry(key.clone()).or_default().0 += 1;
    }

    fn end(&self, key: &(String, String), took: Duration) {
        if let Some((running, run_us)) = self.lock().get_mut(key) {
            *running = running.saturating_sub(1);
            let us = took.as_micros() as u64;
            *run_us = match *run_us {
                0 => us,
                old => (old * (100 - RUN_WEIGHT) + us * RUN_WEIGHT) / 100,
            };
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), (u64, u64)>> {
        self.handlers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Ends what [`Load::begin`] began, also when the invocation is dropped.
struct Running<'a> {
    load: &'a Load,
    key: (String, String),
    started: Instant,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.load.end(&self.key, self.started.elapsed());
    }
}

/// Why an event is put aside.
struct Failed<'a> {
    /// Empty when no handler could be told.
    handler: &'a str,
    reason: &'a str,
    attempts: u32,
}

impl<'a> Failed<'a> {
    /// The event reached no handler.
    fn unread(reason: &'a str) -> Self {
        Self { handler: "", reason, attempts: 0 }
    }
}

/// What became of an event at this tier.
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
    ) -> Self {
        let (load, progress) = Default::default();
        Self { deploy, execute, route, events, logs, metrics, load, progress }
    }

    /// Runs one handler on one input, counted, timed and logged.
    pub async fn invoke(
        &self,
        app: &App,
        handler: &Handler,
        invocation: Invocation,
    ) -> Result<execute::Reply, InvokeError> {
        let (app, name) = (app.name(), &handler.name);
        let key = (app.to_owned(), name.clone());
        self.load.begin(&key);
        let running = Running { load: &self.load, key, started: Instant::now() };
        self.metrics.count(&format!("invocations {app}/{name}"), 1);
        let result = self.execute.invoke(invocation).await;
        drop(running);
        match &result {
            Ok(reply) => {
                self.metrics.time_us(&format!("queue {app}/{name}"), reply.queue_us);
                self.metrics.time_us(&format!("run {app}/{name}"), reply.run_us);
            }
            Err(e) => {
                self.metrics.count(&format!("failures {app}/{name}"), 1);
                let trace = match e {
                    InvokeError::GuestTrap { backtrace, .. } => format!("\n{backtrace}"),
                    _ => String::new(),
                };
                self.logs.add("error", &format!("{app}/{name}"), &format!("{e}{trace}"));
            }
        }
        result
    }

    /// Runs the handlers placed here on this tier's events, for ever.
    pub async fn run_events(self: Arc<Self>) {
        let room = Arc::new(Semaphore::new(EVENTS_AT_ONCE));
        loop {
            let Ok(mut deliveries) = self.events.read(Reader::Run).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            while let Ok(delivery) = deliveries.next().await {
                let Ok(permit) = room.clone().acquire_owned().await else { return };
                let triggers = self.clone();
                tokio::spawn(async move {
                    triggers.handle(&delivery).await;
                    drop(permit);
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn handle(&self, delivery: &Delivery) {
        self.metrics.count("events delivered", 1);
        let work = self.run_handlers(delivery);
        tokio::pin!(work);
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                () = tokio::time::sleep(PROGRESS_EVERY) => { let _ = delivery.progress().await; }
            }
        };
        let told = match outcome {
            Outcome::Done => {
                self.progress().forget(delivery.seq);
                delivery.ack().await
            }
            Outcome::Again(after) => delivery.retry(after).await,
        };
        if let Err(e) = told {
            self.logs.add("warn", "events", &format!("event {}: {e}", delivery.name));
        }
    }

    async fn run_handlers(&self, delivery: &Delivery) -> Outcome {
        let event = match &delivery.event {
            Ok(event) => event,
            Err(e) => return self.bury(delivery, Failed::unread(&e.to_string())).await,
        };
        let app = match self.deploy.app(event.app()).await {
            Ok(Some(app)) => app,
            Ok(None) if self.route.site().parent().is_none() => {
                let reason = format!("no app {:?} is registered", event.app());
                return self.bury(delivery, Failed::unread(&reason)).await;
            }
            // The tier above knows more; the other reader sends the event there.
            Ok(None) => return Outcome::Done,
            Err(deploy::Error::Bad(reason)) => {
                return self.bury(delivery, Failed::unread(&reason)).await;
            }
            Err(_) => return Outcome::Again(PAUSE),
        };
        let mut again = None;
        for handler in app.on_event(event.topic()) {
            if !self.deploy.fits(handler) || self.is_done(delivery, event, &handler.name) {
                continue;
            }
            match self.run_one(&app, handler, delivery, event).await {
                Outcome::Done => self.progress().done(delivery.seq, &handler.name),
                Outcome::Again(after) => again = Some(again.unwrap_or(after).min(after)),
            }
        }
        again.map_or(Outcome::Done, Outcome::Again)
    }

    async fn run_one(
        &self,
        app: &App,
        handler: &Handler,
        delivery: &Delivery,
        event: &bus::Event,
    ) -> Outcome {
        // Runs are counted, not deliveries: an event that waits for its code has failed at nothing.
        let attempt = self.progress().runs(delivery.seq, &handler.name) + 1;
        let failure = match self.deploy.install(app, &handler.name).await {
            Ok(target) => {
                let limit = Duration::from_millis(handler.limits.timeout_ms.into());
                let invocation = Invocation {
                    target,
                    input: Input::Event(execute_event(event)),
                    deadline: Instant::now() + limit + PROGRESS_EVERY,
                    attempt,
                    traceparent: event.headers.get("traceparent").cloned(),
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
                self.logs.add("warn", app.name(), &format!("{}: {e}", handler.name));
                return Outcome::Again(PAUSE);
            }
        };
        if !failure.is_retryable() || attempt >= handler.retry.max_deliver {
            let (handler, reason) = (handler.name.as_str(), failure.to_string());
            let failed = Failed { handler, reason: &reason, attempts: attempt };
            return self.bury(delivery, failed).await;
        }
        self.progress().ran(delivery.seq, &handler.name);
        let backoff = Duration::from_millis(handler.retry.backoff_ms.into());
        Outcome::Again((backoff * 2u32.saturating_pow(attempt - 1)).min(BACKOFF_MAX))
    }

    async fn bury(&self, delivery: &Delivery, failed: Failed<'_>) -> Outcome {
        let Delivery { name, headers, data, .. } = delivery;
        let Failed { handler, reason, attempts } = failed;
        let letter = DeadLetter { name, headers, data, handler, reason, attempts: attempts.into() };
        match self.events.bury(&letter).await {
            Ok(()) => {
                self.metrics.count("dead letters", 1);
                let text = format!("dead letter {name} after {attempts} attempts: {reason}");
                self.logs.add("error", "events", &text);
                Outcome::Done
            }
            Err(_) => Outcome::Again(PAUSE),
        }
    }

    /// Sends up what has handlers further up, for ever. Not for the root.
    pub async fn climb_events(self: Arc<Self>) {
        loop {
            let Ok(mut deliveries) = self.events.read(Reader::Climb).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            while let Ok(delivery) = deliveries.next().await {
                self.climb_patiently(&delivery).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Tries until the event is with the parent, or is found to have no business there.
    async fn climb_patiently(&self, delivery: &Delivery) {
        let mut told = Instant::now();
        loop {
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
        let _ = delivery.ack().await;
    }

    async fn climb(&self, delivery: &Delivery) -> Result<(), String> {
        // What is malformed is buried by the other reader.
        let Ok(event) = &delivery.event else { return Ok(()) };
        let app = match self.deploy.app(event.app()).await {
            Ok(app) => app,
            Err(deploy::Error::Bad(_)) => return Ok(()),
            Err(e) => return Err(e.to_string()),
        };
        let mut done: BTreeSet<&str> = event.done().collect();
        if let Some(app) = &app {
            let fit = |handler: &&Handler| deploy::placement(handler).fit(self.route.class());
            let open = |handler: &&Handler| !done.contains(handler.name.as_str());
            let above = app.on_event(event.topic()).filter(open).any(|h| fit(&h) == Fit::Above);
            if !above {
                return Ok(());
            }
            let here = app.on_event(event.topic()).filter(|h| fit(h) == Fit::Here);
            done.extend(here.map(|handler| handler.name.as_str()));
        }
        let list = done.into_iter().collect::<Vec<_>>().join(",");
        let mut event = event.clone();
        event.headers.insert(DONE_HEADER.into(), list);
        self.events.climb(&event, CLIMB_TIMEOUT).await.map_err(|e| e.to_string())?;
        self.metrics.count("events sent up", 1);
        Ok(())
    }

    /// Answers a call: runs it here, passes it up, or refuses it.
    pub async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        let subject = Subject::parse(&request.subject).map_err(|e| Refusal::bad(e.to_string()))?;
        let (name, function) = (subject.app(), subject.rest());
        let app = self.deploy.app(name).await.or_else(unless_away)?;
        let handler = app.as_ref().and_then(|app| app.manifest.handler_of_call(function));
        let wait = handler.map_or(Duration::ZERO, |handler| self.load.wait(name, handler));
        let view = self.deploy.view(app.as_deref(), (name, function), wait);
        let decision = self.route.decide(&request, &view);
        let handler = handler.map(|handler| handler.name.clone());
        match (decision, app, handler) {
            (Decision::Refuse(refusal), ..) => Err(refusal),
            (Decision::Escalate { install }, app, handler) => {
                self.metrics.count("calls sent up", 1);
                let answer = self.route.escalate(&request).await;
                // Afterwards: compiling must not take the cores from who answers this request.
                if let (true, Some(app), Some(handler)) = (install, app, handler) {
                    self.install_behind(app, handler);
                }
                answer
            }
            (Decision::Run | Decision::InstallThenRun, Some(app), Some(handler)) => {
                self.call(&app, &handler, function, &request).await
            }
            _ => Err(Refusal::new(RefusalKind::Internal, format!("no handler for {name}"))),
        }
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
        handler: &str,
        function: &str,
        request: &Request,
    ) -> Result<Response, Refusal> {
        let (deadline, site) = (request.deadline(), self.route.site().as_str());
        let late = |_| {
            let text = format!("deadline exceeded at {site}: the code is still on its way");
            Refusal::new(RefusalKind::DeadlineExceeded, text)
        };
        let install = self.deploy.install(app, handler);
        let target = tokio::time::timeout_at(deadline.into(), install).await.map_err(late)?;
        let target = target.map_err(|e| e.refusal())?;
        let Some(spec) = app.manifest.handler(handler) else {
            return Err(Refusal::new(RefusalKind::NotFound, format!("no handler {handler}")));
        };
        let header = |name: &str| request.headers.get(name).cloned();
        let input = Input::Call(execute::Request {
            id: header("Es-Idempotency-Key").unwrap_or_default(),
            name: function.to_owned(),
            content_type: header("content-type").unwrap_or_else(|| "application/json".into()),
            body: request.payload.clone(),
        });
        let traceparent = header("traceparent");
        let invocation = Invocation { target, input, deadline, attempt: 1, traceparent };
        let reply = self.invoke(app, spec, invocation).await.map_err(refusal_of_invoke)?;
        Ok(Response::new(reply.body)
            .with("content-type", reply.content_type)
            .with(SITE_HEADER, site))
    }

    fn is_done(&self, delivery: &Delivery, event: &bus::Event, handler: &str) -> bool {
        event.done().any(|name| name == handler) || self.progress().is_done(delivery.seq, handler)
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

fn execute_event(event: &bus::Event) -> execute::Event {
    execute::Event {
        id: event.id.clone(),
        source: event.source.clone(),
        subject: event.topic().to_owned(),
        time: event.time.clone(),
        content_type: event.content_type.clone(),
        body: event.data.clone(),
    }
}

fn refusal_of_invoke(error: InvokeError) -> Refusal {
    let mut refusal = Refusal::new(RefusalKind::HandlerFailed, error.to_string());
    match error {
        InvokeError::Overloaded { retry_after_ms } => {
            refusal.kind = RefusalKind::Overloaded;
            refusal.retry_after_ms = Some(retry_after_ms);
        }
        InvokeError::Timeout { .. } => refusal.kind = RefusalKind::DeadlineExceeded,
        InvokeError::NotInstalled(_) | InvokeError::Node(_) | InvokeError::Stopped => {
            refusal.kind = RefusalKind::Unavailable;
        }
        _ => {}
    }
    refusal
}
