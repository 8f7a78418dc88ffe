//! EdgeStream: owns long-lived connections and runs a handler when their data arrives.
//!
//! Media is decoded in a child process, so that a bad stream cannot hurt the node. The frames of
//! one connection are handled one after another, in their order; a handler that is slower than
//! its source holds the source back.

mod clock;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use accel::video::child::{self, Reader};
use accel::{EdgeAccelerate, Frame};
use bus::trace::Trace;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::clock::Clock;
use crate::deploy::{self, App};
use crate::execute::{Connection, Input, Invocation, Target};
use crate::manifest::Handler;
use crate::trigger::Triggers;

/// How many streams a node has open at once.
pub const STREAMS_MAX: usize = 64;
/// How many ended streams are remembered.
const ENDED_MAX: usize = 64;
/// How many decoded frames wait for their handler.
const FRAMES_QUEUED_MAX: usize = 4;
/// How many frames of a stream belong to the trace in which it was opened.
const FRAMES_TRACED_MAX: u64 = 256;
/// How long a decoder may take to end when its frames are no longer read.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// What of a decoder's complaint is kept, in bytes.
const COMPLAINT_BYTES_MAX: u64 = 4_096;

/// What to open.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// The stream's name in the manifest.
    pub stream: String,
    /// A file's path or a URL that FFmpeg reads.
    pub source: String,
    #[serde(default)]
    pub pace: Pace,
}

/// How fast frames are handed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// At their presentation time.
    #[default]
    Realtime,
    /// As fast as they are handled.
    Fast,
}

/// A stream as it is now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub id: String,
    pub app: String,
    pub stream: String,
    pub source: String,
    pub state: State,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Frames that were decoded.
    pub frames: u64,
    /// Frames that a handler took without an error.
    pub handled: u64,
    pub errors: u64,
    pub width: u32,
    pub height: u32,
    /// From opening to the first handled frame, in ms.
    pub first_frame_ms: Option<u64>,
}

/// The life of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Open,
    Ended,
    Failed,
}

/// Why a stream was not opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong: mend it.
    #[error("{0}")]
    Bad(String),
    /// There are [`STREAMS_MAX`] already.
    #[error("{STREAMS_MAX} streams are open already; close one first")]
    Full,
    /// The app or its code cannot be had.
    #[error(transparent)]
    Deploy(#[from] deploy::Error),
    /// The decoder did not start.
    #[error("decoder {program}: {reason}")]
    Decoder { program: String, reason: String },
}

/// The component.
pub struct EdgeStream {
    site: String,
    triggers: Arc<Triggers>,
    accelerate: Arc<EdgeAccelerate>,
    /// The program and first arguments that decode the source named last.
    decoder: (PathBuf, Vec<String>),
    streams: Mutex<BTreeMap<String, Slot>>,
    count: AtomicU64,
}

struct Slot {
    status: Arc<Mutex<Status>>,
    task: JoinHandle<()>,
}

/// What the task of one stream works with.
struct Job {
    app: Arc<App>,
    handler: Handler,
    target: Arc<Target>,
    connection: Connection,
    pace: Pace,
    trace: Trace,
    opened: Instant,
    status: Arc<Mutex<Status>>,
}

impl EdgeStream {
    /// No stream yet.
    pub fn new(
        site: &str,
        triggers: Arc<Triggers>,
        accelerate: Arc<EdgeAccelerate>,
        decoder: (PathBuf, Vec<String>),
    ) -> Self {
        let (streams, count) = Default::default();
        Self { site: site.to_owned(), triggers, accelerate, decoder, streams, count }
    }

    /// Opens a stream of an app; its code is brought here first. The first frames belong to
    /// `trace`. Returns the connection's id.
    pub async fn open(
        self: &Arc<Self>,
        app: &Arc<App>,
        open: &Open,
        trace: Trace,
    ) -> Result<Status, Error> {
        let opened = Instant::now();
        let handler = self.handler_of(app, open)?.clone();
        if !app.manifest.grants.devices.is_empty() {
            self.accelerate.wake();
        }
        let target = self.triggers.deploy.install(app, &handler.name).await?;
        let (child, near) = self.decode(&open.source)?;
        let id = self.new_id(&open.stream);
        let status = Arc::new(Mutex::new(Status {
            id: id.clone(),
            app: app.name().to_owned(),
            stream: open.stream.clone(),
            source: open.source.clone(),
            state: State::Open,
            reason: None,
            frames: 0,
            handled: 0,
            errors: 0,
            width: 0,
            height: 0,
            first_frame_ms: None,
        }));
        let job = Job {
            app: app.clone(),
            handler,
            target,
            connection: Connection {
                id: id.clone(),
                stream: open.stream.clone(),
                tier: self.site.clone(),
            },
            pace: open.pace,
            trace,
            opened,
            status: status.clone(),
        };
        let now = lock(&status).clone();
        let streams = self.clone();
        let mut slots = lock(&self.streams);
        let task = tokio::spawn(async move { streams.run(job, child, near).await });
        slots.insert(id, Slot { status, task });
        Ok(now)
    }

    fn handler_of<'a>(&self, app: &'a App, open: &Open) -> Result<&'a Handler, Error> {
        let handler = app.on_stream(&open.stream).ok_or_else(|| {
            let (app, stream) = (app.name(), &open.stream);
            Error::Bad(format!("no handler of app {app:?} has a trigger for stream {stream:?}"))
        })?;
        if !app.allows(&handler.name, &self.triggers.route.view().here) {
            let (site, name) = (&self.site, &handler.name);
            return Err(Error::Bad(format!("handler {name:?} is not placed at {site}")));
        }
        if open.source.is_empty() || open.source.starts_with('-') {
            return Err(Error::Bad(format!(
                "source {:?} is neither a file nor a URL",
                open.source
            )));
        }
        let mut slots = lock(&self.streams);
        let ended = |slot: &Slot| lock(&slot.status).state != State::Open;
        if slots.values().filter(|slot| !ended(slot)).count() >= STREAMS_MAX {
            return Err(Error::Full);
        }
        while slots.values().filter(|slot| ended(slot)).count() > ENDED_MAX {
            let oldest = slots.iter().find(|(_, slot)| ended(slot)).map(|(id, _)| id.clone());
            oldest.map(|id| slots.remove(&id));
        }
        Ok(handler)
    }

    fn new_id(&self, stream: &str) -> String {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{}.{stream}.{:x}.{count:x}", self.site.replace('.', "-"), since.as_millis())
    }

    fn decode(&self, source: &str) -> Result<(Child, child::Near), Error> {
        let (program, arguments) = &self.decoder;
        let start = || {
            let (near, far) = child::pair()?;
            let (input, output) = far.into_stdio();
            let child = Command::new(program)
                .args(arguments)
                .arg(source)
                .stdin(input)
                .stdout(output)
                .stderr(Stdio::piped())
                .process_group(0)
                .kill_on_drop(true)
                .spawn()?;
            Ok((child, near))
        };
        start().map_err(|e: std::io::Error| Error::Decoder {
            program: program.display().to_string(),
            reason: e.to_string(),
        })
    }

    /// Every stream, those that ended lately included.
    pub fn list(&self) -> Vec<Status> {
        lock(&self.streams).values().map(|slot| lock(&slot.status).clone()).collect()
    }

    /// Ends a stream; false when there is none of that id.
    pub fn close(&self, id: &str) -> bool {
        let Some(slot) = lock(&self.streams).remove(id) else { return false };
        slot.task.abort();
        self.accelerate.close_history(id);
        true
    }

    async fn run(&self, job: Job, mut child: Child, near: child::Near) {
        let result = self.pump(&job, &mut child, near).await;
        let _ = child.start_kill();
        let _ = child.wait().await;
        self.accelerate.close_history(&job.connection.id);
        let from = format!("{}/{}", job.app.name(), job.connection.stream);
        let mut status = lock(&job.status);
        match result {
            Ok(()) => {
                status.state = State::Ended;
                let (frames, handled) = (status.frames, status.handled);
                let text = format!("stream ended: {frames} frames, {handled} handled");
                self.triggers.logs.add("info", &from, &text);
            }
            Err(reason) => {
                status.state = State::Failed;
                self.triggers.logs.add("error", &from, &format!("stream failed: {reason}"));
                status.reason = Some(reason);
            }
        }
    }

    /// Reads frames at their pace on one side, handles them in order on the other.
    async fn pump(&self, job: &Job, child: &mut Child, near: child::Near) -> Result<(), String> {
        let reader = Reader::new(near, job.connection.id.clone()).map_err(|e| e.to_string())?;
        let stderr = child.stderr.take().ok_or("the decoder has no error output")?;
        let complaint = tokio::spawn(async move {
            let mut text = String::new();
            let _ = stderr.take(COMPLAINT_BYTES_MAX).read_to_string(&mut text).await;
            text
        });
        let (sender, mut queue) = mpsc::channel::<Frame>(FRAMES_QUEUED_MAX);
        let read = self.read_frames(job, reader, sender);
        let handle = async {
            while let Some(frame) = queue.recv().await {
                self.handle(job, frame).await;
            }
        };
        let (read, ()) = tokio::join!(read, handle);
        let exit = match tokio::time::timeout(LAST_WORDS, child.wait()).await {
            Ok(exit) => exit,
            // It waits for a source that is silent.
            Err(_) => {
                let _ = child.start_kill();
                child.wait().await
            }
        };
        let exit = exit.map_err(|e| e.to_string())?;
        let complaint = complaint.await.unwrap_or_default();
        read.map_err(|e| match complaint.trim() {
            "" => e.clone(),
            complaint => complaint.to_owned(),
        })?;
        match exit.success() {
            true => Ok(()),
            false => Err(format!("the decoder ended with {exit}: {}", complaint.trim())),
        }
    }

    async fn read_frames(
        &self,
        job: &Job,
        mut reader: Reader,
        sender: mpsc::Sender<Frame>,
    ) -> Result<(), String> {
        let mut clock = Clock::default();
        loop {
            let asked = Instant::now();
            let frame = reader.next().await.map_err(|e| e.to_string())?;
            let Some(frame) = frame else { return Ok(()) };
            self.triggers.metrics.time("decode", asked.elapsed());
            if job.pace == Pace::Realtime {
                tokio::time::sleep_until(clock.due(Instant::now(), frame.pts_us).into()).await;
            }
            {
                let mut status = lock(&job.status);
                status.frames += 1;
                (status.width, status.height) = (frame.width, frame.height);
            }
            if sender.send(frame).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn handle(&self, job: &Job, frame: Frame) {
        let started = Instant::now();
        let limit = Duration::from_millis(job.handler.limits.timeout_ms.into());
        let trace = match frame.index < FRAMES_TRACED_MAX {
            true => job.trace.clone(),
            false => Trace::default(),
        };
        let invocation = Invocation {
            target: job.target.clone(),
            input: Input::Frame(job.connection.clone(), frame),
            deadline: started + limit,
            attempt: 1,
            trace,
            by: None,
            outlet: None,
        };
        let result = self.triggers.invoke(&job.app, &job.handler, invocation).await;
        self.triggers.metrics.time("frame", started.elapsed());
        let mut status = lock(&job.status);
        match result {
            Ok(_) => {
                status.handled += 1;
                let took = job.opened.elapsed().as_millis() as u64;
                status.first_frame_ms.get_or_insert(took);
            }
            Err(_) => status.errors += 1,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
