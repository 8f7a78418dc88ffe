//! Spans: what a node did under a trace, and for how long. Finished ones wait in a bounded queue
//! for whoever exports them; one too many is counted and dropped, and no request waits for it.
//!
//! Whoever began a trace decides whether it is recorded: spans are made below a sampled parent
//! only, and the HTTP door alone begins traces.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bus::Request;
use bus::trace::{Parent, Trace};
use tokio::sync::mpsc;

use crate::metrics::Metrics;

/// How many finished spans may wait to be exported.
pub const QUEUE_MAX: usize = 4_096;
/// The longest text of a span's name, attribute or failure, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

/// The part that a span plays, in OpenTelemetry's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Work within the node.
    Internal,
    /// A request that came from outside.
    Server,
    /// A request to another site.
    Client,
    /// An event that is sent.
    Producer,
    /// An event that is handled.
    Consumer,
}

/// What is said of a span beside its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace: u128,
    pub id: u64,
    /// The span above; none for the first of a trace.
    pub above: Option<u64>,
    pub state: Option<String>,
    pub name: String,
    pub role: Role,
    pub started: SystemTime,
    pub ended: SystemTime,
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Makes the spans of one node.
pub struct Tracer {
    sink: Option<Sink>,
}

#[derive(Clone)]
struct Sink {
    queue: mpsc::Sender<Span>,
    metrics: Arc<Metrics>,
    share: f64,
}

/// A span under way; it ends when this is dropped. Nothing more than a trace passed through when
/// the trace is not recorded.
pub struct Open {
    recorded: Option<Box<Recorded>>,
    below: Trace,
}

struct Recorded {
    span: Span,
    clock: Instant,
    sink: Sink,
}

impl Tracer {
    /// Records nothing; traces pass through.
    pub fn off() -> Self {
        Self { sink: None }
    }

    /// Records into the queue that comes back. Of the traces that begin here, `share` (0 to 1) are
    /// recorded.
    pub fn start(share: f64, metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<Span>) {
        let (queue, finished) = mpsc::channel(QUEUE_MAX);
        (Self { sink: Some(Sink { queue, metrics, share }) }, finished)
    }

    /// Begins a span below a trace.
    pub fn open(&self, above: &Trace, role: Role, name: impl FnOnce() -> String) -> Open {
        match (&self.sink, above.parent) {
            (Some(sink), Some(parent)) if parent.sampled => {
                sink.open(above, Some(parent.span), parent.child(), role, name())
            }
            _ => Open { recorded: None, below: above.clone() },
        }
    }

    /// Begins a span below a trace, and a trace where there is none.
    pub fn begin(&self, above: &Trace, role: Role, name: impl FnOnce() -> String) -> Open {
        match &self.sink {
            Some(sink) if above.parent.is_none() && sink.draws() => {
                sink.open(above, None, Parent::root(true), role, name())
            }
            _ => self.open(above, role, name),
        }
    }

    /// Begins a span below the one that a request names, and makes it the one that it names.
    pub fn enter(&self, request: &mut Request, role: Role, name: impl FnOnce() -> String) -> Open {
        // Near free when off: headers are not even looked at.
        if self.sink.is_none() {
            return Open { recorded: None, below: Trace::default() };
        }
        let open = self.open(&Trace::of(&request.headers), role, name);
        if open.is_recorded() {
            open.below.write(&mut request.headers);
        }
        open
    }
}

impl Sink {
    /// Whether the next trace is recorded.
    fn draws(&self) -> bool {
        self.share >= 1.0 || (bus::route::retry::draw() as f64) < self.share * u64::MAX as f64
    }

    fn open(
        &self,
        trace: &Trace,
        above: Option<u64>,
        own: Parent,
        role: Role,
        name: String,
    ) -> Open {
        let started = SystemTime::now();
        let span = Span {
            trace: own.trace,
            id: own.span,
            above,
            state: trace.state.clone(),
            name: clip(name),
            role,
            started,
            ended: started,
            attributes: vec![],
            failure: None,
        };
        let recorded = Recorded { span, clock: Instant::now(), sink: self.clone() };
        Open { recorded: Some(Box::new(recorded)), below: trace.under(own) }
    }
}

impl Open {
    /// The trace as those below this span are told it.
    pub fn trace(&self) -> &Trace {
        &self.below
    }

    pub fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    /// Says something more of the span.
    pub fn note(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(recorded) = &mut self.recorded {
            recorded.span.attributes.push((name, value.into().clipped()));
        }
    }

    /// Says why the span failed.
    pub fn fail(&mut self, why: &dyn Display) {
        if let Some(recorded) = &mut self.recorded {
            recorded.span.failure = Some(clip(why.to_string()));
        }
    }

    /// Ends the span with what came of it.
    pub fn end<T, E: Display>(mut self, result: &Result<T, E>) {
        if let Err(e) = result {
            self.fail(e);
        }
    }

    /// As though it had not begun.
    pub fn discard(mut self) {
        self.recorded = None;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(recorded) = self.recorded.take() else { return };
        let Recorded { mut span, clock, sink } = *recorded;
        span.ended = span.started + clock.elapsed();
        if sink.queue.try_send(span).is_err() {
            sink.metrics.count("spans dropped", 1);
        }
    }
}

impl Value {
    fn clipped(self) -> Self {
        match self {
            Self::Text(text) => Self::Text(clip(text)),
            number => number,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

fn clip(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

#[cfg(test)]
mod tests;
