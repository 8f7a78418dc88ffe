//! Processes that speak the AWS Lambda Runtime API: Python functions under the stock
//! `awslambdaric`, and any executable that speaks it by itself. Each process serves one
//! invocation at a time and stays warm for the next; one that breaks down or overstays is killed
//! with its whole process group.
//!
//! A process runs as the node's user, with an empty environment, resource limits and no way to
//! gain rights. It is not shut off from the file system or the network.

mod lambda;
mod spawn;
mod state;
mod worker;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::spawn::{Program, Spawner};
use self::worker::Worker;
use super::cache::Cache;
use super::{
    Answer, Code, Config, Event, Host, Input, Invocation, InvokeError, Request, Target, Time,
    bad_code,
};
use crate::Digest;
use crate::manifest::CodeKind;

/// How often warm processes are looked over.
const SWEEP: Duration = Duration::from_secs(10);
/// Our module for Python functions, put beside their code.
const PYTHON_MODULE: &str = include_str!("process/edgescale.py");

pub(super) struct Processes {
    cache: Arc<Cache>,
    host: Arc<dyn Host>,
    spawner: Spawner,
    python: PathBuf,
    python_packages: PathBuf,
    python_module_dir: PathBuf,
    installed: Mutex<HashMap<Digest, CodeKind>>,
    warm: Arc<Mutex<Warm>>,
    /// One permit per process that may live.
    slots: Arc<Semaphore>,
    sweeper: tokio::task::JoinHandle<()>,
}

/// Workers that wait, by handler and code.
type Warm = HashMap<WarmKey, Vec<Worker>>;

#[derive(Clone, PartialEq, Eq, Hash)]
struct WarmKey {
    app: String,
    handler: String,
    revision: u64,
    digest: Digest,
}

impl Processes {
    pub(super) fn start(
        config: &Config,
        cache: Arc<Cache>,
        host: Arc<dyn Host>,
        runtime: Handle,
    ) -> Result<Self, InvokeError> {
        let module = Digest::of(PYTHON_MODULE.as_bytes());
        let python_module_dir = cache
            .unpack(&module, "edgescale.py", PYTHON_MODULE.as_bytes())
            .map_err(|error| InvokeError::Node(format!("python module: {error}")))?;
        let spawner = Spawner::start(runtime.clone())
            .map_err(|error| InvokeError::Node(format!("process starter: {error}")))?;
        let warm = Arc::new(Mutex::new(Warm::new()));
        let idle = Duration::from_millis(config.idle_ms);
        Ok(Self {
            cache,
            host,
            spawner,
            python: config.python.clone(),
            python_packages: absolute(&config.python_packages),
            python_module_dir,
            installed: Mutex::default(),
            slots: Arc::new(Semaphore::new(config.processes_max.max(1))),
            sweeper: runtime.spawn(sweep(Arc::clone(&warm), idle)),
            warm,
        })
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
    pub(super) async fn invoke(&self, invocation: Invocation, time: Time) -> Answer {
        let target = Arc::clone(&invocation.target);
        if !self.is_installed(&target.digest) {
            return Err(InvokeError::NotInstalled(target.digest.clone()));
        }
        let payload = payload(&invocation)?;
        let key = WarmKey::of(&target);
        let mut worker = match self.take_warm(&key) {
            Some(worker) => worker,
            None => self.spawn(&target, time).await?,
        };
        let answer = worker.invoke(invocation.caller(time), payload, time).await;
        if worker.is_reusable() {
            lock(&self.warm).entry(key).or_default().push(worker);
        }
        let body = answer?;
        match invocation.input {
            Input::Call(_) => Ok(("application/json".into(), body)),
            _ => Ok((String::new(), Bytes::new())),
        }
    }

    fn take_warm(&self, key: &WarmKey) -> Option<Worker> {
        let mut warm = lock(&self.warm);
        let workers = warm.get_mut(key)?;
        while let Some(worker) = workers.pop() {
            if worker.is_reusable() {
                return Some(worker);
            }
        }
        None
    }

    async fn spawn(&self, target: &Arc<Target>, time: Time) -> Result<Worker, InvokeError> {
        let program = self.program(target)?;
        let slot = self.slot(time).await?;
        let host = Arc::clone(&self.host);
        Worker::start(&self.spawner, program, Arc::clone(target), host, time, slot).await
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

    /// What to execute for a handler.
    fn program(&self, target: &Target) -> Result<Program, InvokeError> {
        let digest = &target.digest;
        let source =
            self.cache.source(digest).ok_or_else(|| InvokeError::NotInstalled(digest.clone()))?;
        let node = |error| InvokeError::Node(format!("code {digest}: {error}"));
        match target.kind {
            CodeKind::Python => {
                let name = python_file_name(&source, target.entry.as_deref().unwrap_or_default());
                let folder = self.cache.unpack(digest, &name, &source).map_err(node)?;
                Ok(self.python_program(target, &folder, &name))
            }
            _ => {
                let folder = self.cache.unpack(digest, "bootstrap", &source).map_err(node)?;
                let file = folder.join("bootstrap");
                spawn::make_executable(&file).map_err(node)?;
                let entry = target.entry.as_deref().unwrap_or_default();
                let arguments = entry.split_whitespace().map(str::to_owned).collect();
                Ok(Program::new(file, arguments, folder))
            }
        }
    }

    fn python_program(&self, target: &Target, folder: &Path, file: &str) -> Program {
        let code = if file.ends_with(".zip") { folder.join(file) } else { folder.to_owned() };
        let search = [&code, &self.python_module_dir, &self.python_packages]
            .map(|path| path.display().to_string())
            .join(":");
        let entry = target.entry.clone().unwrap_or_default();
        let arguments = vec!["-m".into(), "awslambdaric".into(), entry];
        Program::new(self.python.clone(), arguments, folder.to_owned())
            .with("PYTHONPATH", search)
            .with("PYTHONDONTWRITEBYTECODE", "1")
            .with("PYTHONUNBUFFERED", "1")
            .with("LAMBDA_TASK_ROOT", folder.display().to_string())
    }
}

impl WarmKey {
    fn of(target: &Target) -> Self {
        Self {
            app: target.app.clone(),
            handler: target.handler.clone(),
            revision: target.revision,
            digest: target.digest.clone(),
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
        let now = Instant::now();
        lock(&warm).retain(|_, workers| {
            workers.retain(|worker| {
                worker.is_reusable() && now.duration_since(worker.last_used()) < idle
            });
            !workers.is_empty()
        });
    }
}

fn check_form(code: &Code) -> Result<(), InvokeError> {
    let bytes = &code.bytes;
    match code.kind {
        CodeKind::Python if is_zip(bytes) || std::str::from_utf8(bytes).is_ok() => Ok(()),
        CodeKind::Python => {
            Err(bad_code(&code.digest, "python code is neither a zip archive nor UTF-8 text"))
        }
        _ if bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"#!") => Ok(()),
        _ => Err(bad_code(&code.digest, "a command is an ELF executable or starts with #!")),
    }
}

fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// A zip archive is imported from as it is; a single file is named after the entry's module.
fn python_file_name(source: &[u8], entry: &str) -> String {
    if is_zip(source) {
        return "code.zip".into();
    }
    let module = entry.split('.').next().unwrap_or_default();
    format!("{module}.py")
}

/// The JSON document a function gets as its event.
fn payload(invocation: &Invocation) -> Result<Bytes, InvokeError> {
    let target = &invocation.target;
    let mut document = match &invocation.input {
        Input::Event(event) => event_document(event),
        Input::Call(request) => call_document(request),
        Input::Frame(..) => {
            let (handler, export) = (target.handler.clone(), "a function for frames".to_owned());
            return Err(InvokeError::NoExport { handler, export });
        }
    };
    document["app"] = json!(target.app);
    document["handler"] = json!(target.handler);
    document["attempt"] = json!(invocation.attempt);
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
fn put_data(document: &mut serde_json::Value, content_type: &str, body: &[u8]) {
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

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
