//! Processes that speak the AWS Lambda Runtime API: Python functions under the stock
//! `awslambdaric`, and any executable that speaks it by itself. Each process serves one
//! invocation at a time and stays warm for the next; one that breaks down or overstays is killed
//! with its whole process group.
//!
//! A process has an empty environment, and sees nothing of the machine but what it runs on
//! ([`fence`]).

mod fence;
mod gateway;
mod lambda;
mod outside;
mod pieces;
mod program;
mod spawn;
mod state;
mod unpack;
mod worker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::fence::Fence;
pub use self::fence::{FenceRow, Hold, fence_report};
pub(super) use self::fence::{Group, pair, receive, send};
use self::program::{Programs, check_form};
pub(super) use self::spawn::{Ends, Program, Spawned, Spawner, kill_group};
use self::worker::Worker;
pub(super) use self::worker::{follow, wait_for_exit};
use super::cache::Cache;
use super::started::StartedFor;
use super::{
    Answer, Answered, Caller, Code, Config, Event, Host, Input, Inputs, Invocation, InvokeError,
    Request, Target, Time,
};
use crate::Digest;
use crate::manifest::CodeKind;

/// How often warm processes are looked over.
const SWEEP: Duration = Duration::from_secs(10);

pub(super) struct Processes {
    host: Arc<dyn Host>,
    spawner: Arc<Spawner>,
    programs: Programs,
    installed: Mutex<HashMap<Digest, CodeKind>>,
    warm: Arc<Mutex<Warm>>,
    /// One permit per process that may live.
    slots: Arc<Semaphore>,
    sweeper: tokio::task::JoinHandle<()>,
}

/// Workers that wait, by handler and code.
type Warm = HashMap<StartedFor, Vec<Worker>>;

impl Processes {
    pub(super) fn start(
        config: &Config,
        cache: Arc<Cache>,
        host: Arc<dyn Host>,
        runtime: Handle,
    ) -> Result<Self, InvokeError> {
        let programs = Programs::new(config, Arc::clone(&cache))
            .map_err(|error| InvokeError::Node(format!("parts of runtimes: {error}")))?;
        let point = cache
            .empty_folder("root")
            .map_err(|error| InvokeError::Node(format!("root of processes: {error}")))?;
        let fence = Arc::new(Fence::detect(&point));
        for row in fence.rows().iter().filter(|row| row.hold != Hold::Whole) {
            tracing::warn!(by = row.by, "processes are not fenced off from {}", row.what);
        }
        let spawner = Spawner::start(runtime.clone(), fence)
            .map_err(|error| InvokeError::Node(format!("process starter: {error}")))?;
        let warm = Arc::new(Mutex::new(Warm::new()));
        let idle = Duration::from_millis(config.idle_ms);
        Ok(Self {
            host,
            spawner: Arc::new(spawner),
            programs,
            installed: Mutex::default(),
            slots: Arc::new(Semaphore::new(config.processes_max.max(1))),
            sweeper: runtime.spawn(sweep(Arc::clone(&warm), idle)),
            warm,
        })
    }

    /// What starts them, for other processes behind the same walls.
    pub(super) fn spawner(&self) -> Arc<Spawner> {
        Arc::clone(&self.spawner)
    }

    pub(super) fn is_installed(&self, digest: &Digest) -> bool {
        lock(&self.installed).contains_key(digest)
    }

    pub(super) fn install(&self, code: &Code) -> Result<(), InvokeError> {
        check_form(code)?;
        lock(&self.installed).insert(code.digest.clone(), code.kind);
        Ok(())
    }

    pub(super) fn uninstall(&self, digest: &Digest) {
        lock(&self.installed).remove(digest);
        lock(&self.warm).retain(|key, _| key.digest != *digest);
    }

    /// Ends every process.
    pub(super) fn stop(&self) {
        self.sweeper.abort();
        lock(&self.warm).clear();
    }

    /// Runs a function in a warm process, or in a new one.
    pub(super) async fn invoke(
        &self,
        invocation: Invocation,
        caller: Caller,
        time: Time,
        inputs: Inputs,
    ) -> Answer {
        let target = Arc::clone(&invocation.target);
        if !self.is_installed(&target.digest) {
            return Err(InvokeError::NotInstalled(target.digest.clone()));
        }
        let payload = payload(&invocation, inputs)?;
        let key = StartedFor::of(&caller);
        let mut worker = match self.take_warm(&key) {
            Some(worker) => worker,
            None => self.spawn(&caller, time).await?,
        };
        let answer = worker.invoke(caller, payload, time, invocation.outlet).await;
        if worker.is_reusable() {
            lock(&self.warm).entry(key).or_default().push(worker);
        }
        let done = answer?;
        let answered = match invocation.input {
            Input::Call(_) => {
                let usual = || "application/json".into();
                Answered::call(done.content_type.unwrap_or_else(usual), done.body.clone())
            }
            Input::Http(_) => match done.streamed {
                Some(head) => Answered::http(head, Bytes::new()),
                None => gateway::answer(done.content_type.as_deref(), &done.body)?,
            },
            _ => Answered::default(),
        };
        Ok(Answered { returned: Some(done.body), ..answered })
    }

    /// Starts a process that waits for its first invocation, where fewer wait than the handler
    /// wants ready and there is a place that nobody needs; tells whether it did. Those that wait
    /// do not idle. An error, when one of them has ended by itself.
    pub(super) async fn prepare(&self, caller: Caller, time: Time) -> Result<bool, InvokeError> {
        let wanted = caller.target.limits.ready as usize;
        let key = StartedFor::of(&caller);
        let is_enough = match key.among(&mut lock(&self.warm)) {
            None => false,
            Some(workers) => {
                let all = workers.len();
                workers.retain(Worker::is_reusable);
                if workers.len() < all {
                    return Err(InvokeError::Node("a process ended while it waited".into()));
                }
                workers.iter_mut().rev().take(wanted).for_each(Worker::stay);
                workers.len() >= wanted
            }
        };
        let has_place = self.slots.available_permits() > 0;
        if is_enough || !has_place || !self.is_installed(&caller.target.digest) {
            return Ok(false);
        }
        let mut worker = self.spawn(&caller, time).await?;
        worker.stay();
        lock(&self.warm).entry(key).or_default().push(worker);
        Ok(true)
    }

    /// Starts a process, waits until it has come up, and ends it.
    pub(super) async fn try_start(&self, caller: Caller, time: Time) -> Result<(), InvokeError> {
        self.spawn(&caller, time).await?.come_up(time).await
    }

    /// Whether all that wait for a handler have come up.
    pub(super) fn are_up(&self, target: &Target) -> bool {
        let warm = lock(&self.warm);
        let mut own = warm.iter().filter(|(key, _)| key.is_for(target));
        own.all(|(_, workers)| workers.iter().all(Worker::is_up))
    }

    /// Ends the processes that wait for a handler.
    pub(super) fn end_waiting(&self, target: &Target) {
        lock(&self.warm).retain(|key, _| !key.is_for(target));
    }

    fn take_warm(&self, key: &StartedFor) -> Option<Worker> {
        let mut warm = lock(&self.warm);
        let workers = key.among(&mut warm)?;
        while let Some(worker) = workers.pop() {
            if worker.is_reusable() {
                return Some(worker);
            }
        }
        None
    }

    async fn spawn(&self, caller: &Caller, time: Time) -> Result<Worker, InvokeError> {
        let program = self.programs.of(&caller.target)?;
        let slot = self.slot(time).await?;
        let host = Arc::clone(&self.host);
        Worker::start(&self.spawner, program, caller, host, slot).await
    }

    /// A place for one more process; when there is none, one that idles makes room.
    async fn slot(&self, time: Time) -> Result<OwnedSemaphorePermit, InvokeError> {
        if self.slots.available_permits() == 0 {
            self.end_longest_idle();
        }
        let free = Arc::clone(&self.slots).acquire_owned();
        match tokio::time::timeout_at(time.deadline.into(), free).await {
            Ok(slot) => slot.map_err(|_| InvokeError::Stopped),
            Err(_) => Err(InvokeError::Overloaded { retry_after_ms: time.limit_ms }),
        }
    }

    fn end_longest_idle(&self) {
        let mut warm = lock(&self.warm);
        let workers = warm.values_mut().filter(|workers| !workers.is_empty());
        // The first of a list idles longest: the last one is taken first.
        if let Some(workers) = workers.min_by_key(|workers| workers[0].last_used()) {
            workers.remove(0);
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ends what was idle for too long or has died.
async fn sweep(warm: Arc<Mutex<Warm>>, idle: Duration) {
    loop {
        tokio::time::sleep(SWEEP.min(idle)).await;
        lock(&warm).retain(|_, workers| {
            workers.retain(|worker| {
                // Who makes some ready wants to know of those that did not come up.
                let is_of_use = worker.is_reusable() || worker.is_unused();
                is_of_use && worker.may_wait(idle)
            });
            !workers.is_empty()
        });
    }
}

/// The JSON document a function gets as its event.
fn payload(invocation: &Invocation, inputs: Inputs) -> Result<Bytes, InvokeError> {
    let target = &invocation.target;
    let mut document = match &invocation.input {
        Input::Event(event) => event_document(event),
        Input::Call(request) => call_document(request),
        Input::Http(request) => {
            let mut event = gateway::event(&target.app, request);
            if !inputs.is_empty() {
                event["inputs"] = inputs.into();
            }
            return Ok(event.to_string().into());
        }
        Input::Frame(..) => {
            let (handler, export) = (target.handler.clone(), "a function for frames".to_owned());
            return Err(InvokeError::NoExport { handler, export });
        }
    };
    document["app"] = json!(target.app);
    document["handler"] = json!(target.handler);
    document["attempt"] = json!(invocation.attempt);
    if !inputs.is_empty() {
        document["inputs"] = inputs.into();
    }
    Ok(document.to_string().into())
}

fn event_document(event: &Event) -> serde_json::Value {
    let mut document = json!({
        "kind": "event",
        "id": event.id,
        "name": event.subject,
        "source": event.source,
        "time": event.time,
        "content_type": event.content_type,
    });
    if !event.metadata.is_empty() {
        let metadata = event.metadata.iter().map(|(name, value)| (name.clone(), json!(value)));
        document["metadata"] = metadata.collect::<serde_json::Map<_, _>>().into();
    }
    put_data(&mut document, &event.content_type, &event.body);
    document
}

fn call_document(request: &Request) -> serde_json::Value {
    let mut document = json!({
        "kind": "call",
        "id": request.id,
        "name": request.name,
        "content_type": request.content_type,
    });
    put_data(&mut document, &request.content_type, &request.body);
    document
}

/// `data` holds JSON or text; `data_base64` holds anything else.
pub(super) fn put_data(document: &mut serde_json::Value, content_type: &str, body: &[u8]) {
    if body.is_empty() {
        document["data"] = serde_json::Value::Null;
        return;
    }
    let may_be_json = content_type.is_empty() || content_type.contains("json");
    if may_be_json && let Ok(value) = serde_json::from_slice(body) {
        document["data"] = value;
        return;
    }
    match std::str::from_utf8(body) {
        Ok(text) => document["data"] = json!(text),
        Err(_) => {
            let text = base64::engine::general_purpose::STANDARD.encode(body);
            document["data_base64"] = json!(text);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
