//! EdgeExecute: runs handlers. Two kinds of code: WebAssembly components, each event in a fresh
//! instance, here or in worker processes, and processes that speak the AWS Lambda Runtime API, kept
//! warm. Code is installed by digest and compiled once. A guest that takes long runs on threads of
//! its own, so that it cannot hold up the node; what guests may ask of it is [`Host`].
//!
//! Knows no subjects, tables or tiers: it is given an [`Invocation`] and answers it.

mod answered;
mod bound;
mod budget;
mod cache;
mod config;
pub mod conformance;
mod cpu;
mod error;
mod gate;
mod host;
pub mod http;
mod inlet;
mod lines;
mod open;
mod outlet;
mod parcel;
mod process;
mod ready;
mod seal;
mod started;
mod time;
mod turn;
mod wasm;
mod workers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::After;
use bus::pki::UserKey;
use bus::trace::Trace;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinError;

use self::answered::{Answer, Answered};
use self::bound::Inputs;
pub use self::budget::{Ask, Budget};
pub use self::config::Config;
pub use self::error::InvokeError;
use self::gate::Gate;
pub use self::host::{Caller, Host, HostError, LOG_FULL, Level, Publication, Row, Scan};
use self::http::{HttpHead, HttpRequest};
pub use self::inlet::{Arriving, Broken, Inlet, Parts};
pub use self::outlet::{Outlet, Streamed};
pub use self::parcel::{Label, Machine};
pub use self::process::{FenceRow, Hold, fence_report};
use self::time::Time;
use self::turn::{AbortOnDrop, Turn};
pub use self::wasm::{Compiler, HAS_COMPILER};
pub use self::workers::{WorkerProgram, serve_worker};
use crate::Digest;
use crate::binding::Bindings;
use crate::manifest::{CodeKind, Limits};

/// Longest code that is accepted.
pub const CODE_BYTES_MAX: usize = 64 << 20;

/// Bytes to install.
#[derive(Clone, Debug)]
pub struct Code {
    /// Must be the digest of `bytes`.
    pub digest: Digest,
    /// What the bytes are.
    pub kind: CodeKind,
    /// The code.
    pub bytes: Bytes,
}

/// What installing did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The code's name from now on.
    pub digest: Digest,
    /// What it answers to. A process shows it only when it runs: empty.
    pub exports: Vec<String>,
    /// Whether a compiler ran, or an earlier result was used.
    pub compiled: bool,
    /// Time it took.
    pub took_ms: u64,
}

/// A handler at one revision: which code, and what it is allowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// App name.
    pub app: String,
    /// Handler name.
    pub handler: String,
    /// Revision of the app.
    pub revision: u64,
    /// Installed code.
    pub digest: Digest,
    /// What the code is.
    pub kind: CodeKind,
    /// `module.function` for Python and JavaScript, `package.Class::method` for Java, arguments
    /// for a command; not used by components.
    pub entry: Option<String>,
    /// Memory, time and concurrency.
    pub limits: Limits,
    /// Invocations at once of all handlers of the app.
    pub app_concurrency: Option<u32>,
    /// Rows that it is given, and what becomes of its result.
    pub bindings: Bindings,
}

/// One thing to handle.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Which handler.
    pub target: Arc<Target>,
    /// With what.
    pub input: Input,
    /// Latest moment an answer is of use; the handler's own time limit may come sooner.
    pub deadline: Instant,
    /// 1 for the first delivery.
    pub attempt: u32,
    /// The trace that this is part of.
    pub trace: Trace,
    /// The handler that called it and waits for it, where that runs on this node.
    pub by: Option<Arc<Caller>>,
    /// Where the answer to an HTTP request may go while the handler still runs. The reply has
    /// only its head then.
    pub outlet: Option<Outlet>,
}

/// What a handler is given.
#[derive(Clone, Debug)]
pub enum Input {
    /// An event.
    Event(Event),
    /// A request that waits for an answer.
    Call(Request),
    /// An HTTP request that waits for an answer.
    Http(Box<HttpRequest>),
    /// A frame of a connection.
    Frame(Connection, accel::Frame),
}

/// A CloudEvent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The same for every delivery of the event.
    pub id: String,
    /// Where it came from.
    pub source: String,
    /// Subject within the app.
    pub subject: String,
    /// RFC 3339.
    pub time: String,
    /// Media type of `body`.
    pub content_type: String,
    /// The payload. Travels beside the rest.
    #[serde(skip)]
    pub body: Bytes,
    /// What its publisher gave it beside: CloudEvents' extensions and other headers.
    pub metadata: Vec<(String, String)>,
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The same for every attempt of the request.
    pub id: String,
    /// What is called.
    pub name: String,
    /// Media type of `body`.
    pub content_type: String,
    /// The payload. Travels beside the rest.
    #[serde(skip)]
    pub body: Bytes,
}

/// The connection a frame arrived on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Unique over the tree.
    pub id: String,
    /// The stream's name in the manifest.
    pub stream: String,
    /// Tier path of the owner.
    pub tier: String,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// Media type of `body`; empty when there is none.
    pub content_type: String,
    /// The answer to a call or an HTTP request; empty for events and frames.
    pub body: Bytes,
    /// Status and headers of the answer to an HTTP request.
    pub http: Option<HttpHead>,
    /// Time spent waiting for a place, microseconds.
    pub queue_us: u64,
    /// Time spent running, microseconds.
    pub run_us: u64,
    /// What is left to do when the answer is on its way.
    pub after: After,
}

/// The component; stops its guests when dropped.
pub struct EdgeExecute {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    host: Arc<dyn Host>,
    cache: Arc<cache::Cache>,
    gates: gate::Gates,
    wasm: Arc<wasm::Wasm>,
    installer: Arc<wasm::Installer>,
    processes: process::Processes,
    workers: workers::Workers,
    ready: ready::Ready,
}

impl EdgeExecute {
    /// Starts the guests' threads. Nothing is installed yet. The process may have as many files
    /// open from now on as the system grants.
    pub fn start(config: Config, host: Arc<dyn Host>) -> Result<Self, InvokeError> {
        let cache = Arc::new(cache::Cache::open(&config.cache_dir).map_err(|error| {
            InvokeError::Node(format!("code folder {}: {error}", config.cache_dir.display()))
        })?);
        open::allow_all();
        let runtime = guest_runtime(config.workers)?;
        let look = ready::LOOK.min(Duration::from_millis(config.idle_ms) / 2).max(ready::LOOK_MIN);
        match Shared::start(&config, cache, host, runtime.handle()) {
            Ok(shared) => {
                let shared = Arc::new(shared);
                runtime.spawn(Arc::clone(&shared).keep_ready(look));
                Ok(Self { shared, runtime: Some(runtime) })
            }
            Err(error) => {
                // Who asks may be a task, which must not wait for threads.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Of these handlers' code, which is installed, so many instances or processes are made ahead
    /// as their limits say; of others none from now on.
    pub fn keep_ready(&self, targets: Vec<Arc<Target>>) {
        self.shared.ready.want(targets);
    }

    /// Takes code in: checks its digest, compiles it if need be, and tries that it starts.
    /// Installing again what is there costs little.
    pub async fn install(&self, code: Code) -> Result<Installed, InvokeError> {
        let shared = Arc::clone(&self.shared);
        self.on_guest_threads(async move { shared.install(code).await }).await
    }

    /// Takes code in from an earlier run, or returns `None` when the folder does not hold it. Small
    /// code is ready sooner than another thread would have begun with it.
    pub async fn reinstall(
        &self,
        digest: &Digest,
        kind: CodeKind,
    ) -> Result<Option<Installed>, InvokeError> {
        let started = Instant::now();
        if kind == CodeKind::Component
            && let Some(exports) = self.shared.installer.reinstall_at_once(digest)
        {
            let (digest, took_ms) = (digest.clone(), started.elapsed().as_millis() as u64);
            return Ok(Some(Installed { digest, exports, compiled: false, took_ms }));
        }
        let (shared, digest) = (Arc::clone(&self.shared), digest.clone());
        self.on_guest_threads(async move { shared.reinstall(digest, kind).await }).await
    }

    /// Whether components are compiled here.
    pub fn compiles(&self) -> bool {
        self.shared.installer.compiles()
    }

    /// Compiles a component for a machine, for another node: at low priority, one after the other.
    /// The compiled code, and what `key` signed of it.
    pub async fn compile_for(
        &self,
        code: Code,
        machine: Machine,
        key: &UserKey,
    ) -> Result<(Label, Bytes), InvokeError> {
        check_code(&code)?;
        let installer = Arc::clone(&self.shared.installer);
        let (digest, key) = (code.digest.clone(), key.clone());
        self.on_guest_threads(async move {
            let (concurrent, compiled) = installer.compile_for(&code, machine).await?;
            let label = Label::of(digest, machine, concurrent, &compiled, &key);
            Ok((label.map_err(InvokeError::Node)?, compiled))
        })
        .await
    }

    /// Takes in a component as another node compiled it, if its label is signed by one of `trusted`
    /// and says that it is for this machine and this version. From then on it is sealed here.
    pub async fn install_compiled(
        &self,
        label: &Label,
        compiled: Bytes,
        trusted: &[String],
    ) -> Result<Installed, InvokeError> {
        let started = Instant::now();
        let refused = |why: String| bad_code(&label.code, format!("compiled code: {why}"));
        label.check(&label.code, trusted).map_err(refused)?;
        let found = Digest::of(&compiled);
        if found != label.compiled {
            let why = format!("its label says {}, and it has {found}", label.compiled);
            return Err(refused(why));
        }
        let (installer, digest) = (Arc::clone(&self.shared.installer), label.code.clone());
        let concurrent = label.concurrent;
        self.on_guest_threads(async move {
            let exports = installer.install_compiled(&digest, concurrent, &compiled).await?;
            let took_ms = started.elapsed().as_millis() as u64;
            Ok(Installed { digest, exports, compiled: false, took_ms })
        })
        .await
    }

    /// Tries whether a handler's code, which is installed, comes up: a process is started and ended
    /// again. Components were tried when they were installed.
    pub async fn try_start(&self, target: &Arc<Target>) -> Result<(), InvokeError> {
        if target.kind == CodeKind::Component {
            return Ok(());
        }
        let (shared, target) = (Arc::clone(&self.shared), Arc::clone(target));
        self.on_guest_threads(async move {
            let time = Time::of(Instant::now(), ready::START);
            let caller = shared.nobody(&target, time)?;
            let settings = Arc::clone(&caller.settings);
            let tried = shared.processes.try_start(caller, time).await;
            tried.map_err(|error| error.without(&settings))
        })
        .await
    }

    /// Whether code is ready to run.
    pub fn is_installed(&self, digest: &Digest) -> bool {
        self.shared.wasm.is_installed(digest) || self.shared.processes.is_installed(digest)
    }

    /// Which compiler made the code of a component that serves now; none if it is not installed
    /// here, or is no component.
    pub fn compiler(&self, digest: &Digest) -> Option<Compiler> {
        self.shared.wasm.compiler(digest)
    }

    /// Whether a handler reads the body of an HTTP request while it arrives: a component of
    /// `wasi:http` does, unless its bindings want the body.
    pub fn reads_in_parts(&self, target: &Target) -> bool {
        target.bindings.is_empty() && self.shared.wasm.reads_in_parts(&target.digest)
    }

    /// How many components serve by code of each compiler.
    pub fn compiled_by(&self) -> [(Compiler, usize); 2] {
        self.shared.wasm.compiled_by()
    }

    /// Forgets code, in memory and on disk. Invocations that run keep it until they end.
    pub fn uninstall(&self, digest: &Digest) -> Result<(), InvokeError> {
        self.shared.wasm.uninstall(digest);
        self.shared.processes.uninstall(digest);
        self.shared.workers.forget(digest);
        self.shared
            .cache
            .remove(digest)
            .map_err(|error| InvokeError::Node(format!("code {digest}: {error}")))
    }

    /// Forgets what lies on disk of other code than this, of earlier runs.
    pub fn retain(&self, is_used: impl Fn(&Digest) -> bool) -> Result<(), InvokeError> {
        let done = self.shared.cache.retain(is_used);
        done.map_err(|error| InvokeError::Node(format!("code of earlier apps: {error}")))
    }

    /// Runs a handler. Dropping the future stops the guest.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Reply, InvokeError> {
        let guests = self.guests()?;
        let gate = self.shared.gates.gate(&invocation.target);
        let is_component = invocation.target.kind == CodeKind::Component;
        let (shared, own) = (Arc::clone(&self.shared), Arc::clone(&gate));
        let work = async move { shared.invoke(invocation, &own).await };
        done(match is_component && gate.habit.is_short() {
            true => Turn::near(work, guests, &gate.habit).await,
            false => Turn::far(work, guests).await,
        })
    }

    /// How many instances of components live in this process, those that wait included.
    pub fn instances(&self) -> usize {
        self.shared.wasm.instances()
    }

    /// How many instances wait for an invocation.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.shared.wasm.waiting()
    }

    async fn on_guest_threads<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, InvokeError>> + Send + 'static,
    ) -> Result<T, InvokeError> {
        done(Turn::far(work, self.guests()?).await)
    }

    fn guests(&self) -> Result<&Handle, InvokeError> {
        self.runtime.as_ref().map(Runtime::handle).ok_or(InvokeError::Stopped)
    }
}

/// What came of work among the guests.
fn done<T>(result: Result<Result<T, InvokeError>, JoinError>) -> Result<T, InvokeError> {
    match result {
        Ok(result) => result,
        Err(error) if error.is_cancelled() => Err(InvokeError::Stopped),
        Err(error) => Err(InvokeError::Node(format!("guest task: {error}"))),
    }
}

impl Drop for EdgeExecute {
    fn drop(&mut self) {
        self.shared.processes.stop();
        self.shared.workers.stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn start(
        config: &Config,
        cache: Arc<cache::Cache>,
        host: Arc<dyn Host>,
        threads: &Handle,
    ) -> Result<Self, InvokeError> {
        let (idle, near) = (Duration::from_millis(config.idle_ms), threads.clone());
        let wasm = wasm::Wasm::new(config.instances_max, idle, Arc::clone(&host), near.clone());
        let wasm = Arc::new(wasm);
        let processes =
            process::Processes::start(config, Arc::clone(&cache), Arc::clone(&host), near)?;
        let compilers = workers::Compilers::new(config, processes.spawner());
        let code = Arc::clone(&cache);
        let installer = wasm::Installer::start(config, code, Arc::clone(&wasm), compilers)?;
        let (code, spawner) = (Arc::clone(&cache), processes.spawner());
        let workers = workers::Workers::start(config, code, Arc::clone(&host), spawner, threads);
        Ok(Self {
            gates: gate::Gates::new(config.queue_len_max),
            installer: Arc::new(installer),
            wasm,
            processes,
            workers,
            ready: ready::Ready::default(),
            cache,
            host,
        })
    }

    async fn install(&self, code: Code) -> Result<Installed, InvokeError> {
        let started = Instant::now();
        check_code(&code)?;
        self.cache
            .put_source(&code.digest, &code.bytes)
            .map_err(|error| InvokeError::Node(format!("code {}: {error}", code.digest)))?;
        self.make_ready(code, started).await
    }

    /// What was compiled before needs no source.
    async fn reinstall(
        &self,
        digest: Digest,
        kind: CodeKind,
    ) -> Result<Option<Installed>, InvokeError> {
        let started = Instant::now();
        if kind == CodeKind::Component
            && let Some(exports) = self.installer.reinstall(&digest).await?
        {
            let took_ms = started.elapsed().as_millis() as u64;
            return Ok(Some(Installed { digest, exports, compiled: false, took_ms }));
        }
        let Some(bytes) = self.cache.source(&digest) else { return Ok(None) };
        let code = Code { digest, kind, bytes: bytes.into() };
        check_code(&code)?;
        self.make_ready(code, started).await.map(Some)
    }

    async fn make_ready(&self, code: Code, started: Instant) -> Result<Installed, InvokeError> {
        let (exports, compiled) = match code.kind {
            CodeKind::Component => self.installer.install(&code).await?,
            _ => {
                self.processes.install(&code)?;
                (Vec::new(), false)
            }
        };
        let took_ms = started.elapsed().as_millis() as u64;
        Ok(Installed { digest: code.digest, exports, compiled, took_ms })
    }

    async fn invoke(
        self: &Arc<Self>,
        invocation: Invocation,
        gate: &Arc<Gate>,
    ) -> Result<Reply, InvokeError> {
        let arrived = Instant::now();
        let pass = gate.enter(&invocation).await?;
        let started = Instant::now();
        let time = Time::new(started, &invocation);
        let settings = self.host.settings(&invocation.target);
        let settings = settings.map_err(|error| InvokeError::Node(error.to_string()))?;
        let caller = Caller::of(&invocation, time, Arc::clone(&settings));
        let target = Arc::clone(&invocation.target);
        let is_here = target.kind == CodeKind::Component && !target.limits.own_process;
        let answer = match (target.bindings.is_empty(), is_here) {
            (true, true) => self.wasm.invoke(invocation, caller, time).await,
            (true, false) => Box::pin(self.run(invocation, caller, time, Inputs::new())).await,
            (false, _) => Box::pin(self.run_bound(invocation, caller, time)).await,
        };
        drop(pass);
        let taken = (target.limits.ready > 0).then(|| ready::Taken(Arc::clone(self)));
        let Answered { content_type, body, http, mut after, .. } = match answer {
            Ok(answered) => answered,
            Err(error) => {
                drop(taken);
                let error = Box::pin(self.installer.with_lines(&target, error)).await;
                return Err(error.without(&settings));
            }
        };
        if let Some(taken) = taken.filter(|_| is_here) {
            after = after.then(turn::behind(taken.replace(target), self.wasm.threads()));
        }
        let queue_us = started.duration_since(arrived).as_micros() as u64;
        let run_us = started.elapsed().as_micros() as u64;
        Ok(Reply { content_type, body, http, queue_us, run_us, after })
    }

    async fn run(
        &self,
        invocation: Invocation,
        caller: Caller,
        time: Time,
        inputs: Inputs,
    ) -> Answer {
        match invocation.target.kind {
            CodeKind::Component if caller.target.limits.own_process => {
                let form = self.wasm.form(&caller.target.digest);
                let not_here = || InvokeError::NotInstalled(caller.target.digest.clone());
                let form = form.ok_or_else(not_here)?;
                self.workers.invoke(invocation, caller, time, form).await
            }
            CodeKind::Component => self.wasm.invoke(invocation, caller, time).await,
            _ => self.processes.invoke(invocation, caller, time, inputs).await,
        }
    }
}

fn check_code(code: &Code) -> Result<(), InvokeError> {
    if code.bytes.len() > CODE_BYTES_MAX {
        let problem = format!("{} bytes are over the limit of {CODE_BYTES_MAX}", code.bytes.len());
        return Err(bad_code(&code.digest, problem));
    }
    let actual = Digest::of(&code.bytes);
    if actual != code.digest {
        return Err(bad_code(&code.digest, format!("the bytes are those of {actual}")));
    }
    Ok(())
}

fn bad_code(digest: &Digest, problem: impl Into<String>) -> InvokeError {
    InvokeError::BadCode { digest: digest.clone(), problem: problem.into() }
}

/// Guests give way every millisecond; timers must then be looked at often, or they come late.
fn guest_runtime(workers: usize) -> Result<Runtime, InvokeError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.max(1))
        .thread_name("guest")
        .event_interval(2)
        .enable_all()
        .build()
        .map_err(|error| InvokeError::Node(format!("guest threads: {error}")))
}

#[cfg(test)]
pub(crate) mod tests;
