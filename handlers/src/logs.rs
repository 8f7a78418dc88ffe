//! The node's log lines: kept in a ring, told to whoever listens on `tel.`, written to the log.

use std::collections::VecDeque;
use std::sync::Mutex;

use bus::trace::Trace;
use bus::{Bus, Headers};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;

use crate::execute::Caller;

/// How many lines a node remembers.
pub const LINES_MAX: usize = 2_000;
/// How long a line may be, in bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// How many lines may wait to be published; more are kept in the ring only.
const QUEUE_MAX: usize = 1_024;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// RFC 3339.
    pub time: String,
    pub site: String,
    pub level: String,
    /// `app/handler`, or the component of the node.
    pub from: String,
    pub text: String,
    /// What it is about, if that is one invocation or one process of a handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
}

/// An invocation, as lines name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Of the event, call, request or frame; empty outside of one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// 1 for the first delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The app's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The trace's id: 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

impl About {
    /// What a handler's line is about.
    pub fn of(caller: &Caller) -> Self {
        let about = Self::event(&caller.invocation, &caller.trace);
        let attempt = Some(caller.attempt).filter(|_| !caller.invocation.is_empty());
        Self { attempt, revision: Some(caller.target.revision), ..about }
    }

    /// What a line is about that is about an event and no handler.
    pub fn event(id: &str, trace: &Trace) -> Self {
        let trace = trace.parent.map(|parent| format!("{:032x}", parent.trace));
        Self { id: id.to_owned(), trace, ..Self::default() }
    }
}

/// The log of one node.
pub struct Logs {
    site: String,
    lines: Mutex<VecDeque<Line>>,
    out: mpsc::Sender<Line>,
}

impl Logs {
    /// An empty log that publishes its lines on `tel.<site>._.log`.
    pub fn start(bus: &Bus) -> Self {
        let (out, mut queue) = mpsc::channel::<Line>(QUEUE_MAX);
        let subject = format!("tel.{}._.log", bus.site());
        let (bus, site) = (bus.clone(), bus.site().to_string());
        tokio::spawn(async move {
            while let Some(line) = queue.recv().await {
                let Ok(body) = serde_json::to_vec(&line) else { continue };
                // Nobody may be listening, or the server may be away: the ring has the line.
                let _ = bus.publish(&subject, &Headers::new(), body).await;
            }
        });
        Self { site, lines: Mutex::default(), out }
    }

    /// Adds a line.
    pub fn add(&self, level: &str, from: &str, text: &str) {
        self.add_about(level, from, text, None::<About>);
    }

    /// Adds a line about an invocation.
    pub fn add_about(&self, level: &str, from: &str, text: &str, about: impl Into<Option<About>>) {
        let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= LINE_BYTES_MAX);
        let text = match text.len() > LINE_BYTES_MAX {
            true => &text[..end.last().unwrap_or(0)],
            false => text,
        };
        tracing::info!(from, level, "{text}");
        let line = Line {
            time: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            site: self.site.clone(),
            level: level.to_owned(),
            from: from.to_owned(),
            text: text.to_owned(),
            about: about.into(),
        };
        let _ = self.out.try_send(line.clone());
        let mut lines = self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The last lines, oldest first.
    pub fn last(&self, count: usize) -> Vec<Line> {
        let lines = self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
    }
}
