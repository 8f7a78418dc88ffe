//! One warm process and the server it talks to.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::fence::{Group, PORT};
use super::lambda::{self, Done, Failure, Job, Names, Server, Waiting};
use super::spawn::{Program, Spawned, Spawner, kill_group};
use super::{lock, outside};
use crate::execute::cpu;
use crate::execute::lines::{Lines, Log};
use crate::execute::{AbortOnDrop, Caller, Host, InvokeError, Level, Outlet, Target, Time};
use crate::manifest::CodeKind;
use crate::settings::Settings;

/// How long the last words of a process are waited for after its end.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How often is looked whether a process has come up.
const LOOK: Duration = Duration::from_millis(5);

pub(super) struct Worker {
    server: Server,
    log: Log,
    stderr: Lines,
    memory_mb: u32,
    exit: watch::Receiver<Option<String>>,
    pid: Arc<Mutex<Option<u32>>>,
    outputs: [AbortOnDrop<()>; 2],
    last_used: Instant,
    /// It is wanted ready, however long that is.
    stays: bool,
    is_broken: bool,
    served: u32,
    serves_max: u32,
    group: Option<Group>,
    _slot: OwnedSemaphorePermit,
}

impl Worker {
    /// Starts the process; whether it comes up shows with the first invocation.
    pub(super) async fn start(
        spawner: &Spawner,
        program: Program,
        first: &Caller,
        host: Arc<dyn Host>,
        slot: OwnedSemaphorePermit,
    ) -> Result<Self, InvokeError> {
        let target = &first.target;
        let caller = first.between();
        let log = Log::new(Arc::clone(&host), caller.clone());
        let (stdout, stderr) =
            (Lines::new(log.clone(), Level::Info), Lines::new(log.clone(), Level::Warn));
        let node = |what: &str, error: io::Error| InvokeError::Node(format!("{what}: {error}"));
        let name = program.name();
        let door = Door::open(spawner).map_err(|error| node("runtime API of a process", error))?;
        let memory_mb = target.limits.memory_mb + program.runtime_memory_mb();
        let program = describe(program, &door, target, &caller.settings);
        let started = spawner.spawn(program, u64::from(memory_mb) << 20, door.port(), None).await;
        let Spawned { mut child, listener, group } = started.map_err(|error| node(&name, error))?;
        let server = door
            .serve(listener, host, caller)
            .map_err(|error| node("runtime API of a process", error))?;
        let outputs =
            [follow(child.stdout.take(), stdout), follow(child.stderr.take(), stderr.clone())];
        let pid = Arc::new(Mutex::new(child.id()));
        let exit = wait_for_exit(child, Arc::clone(&pid));
        Ok(Self {
            server,
            log,
            stderr,
            memory_mb: target.limits.memory_mb,
            exit,
            pid,
            outputs,
            last_used: Instant::now(),
            stays: false,
            is_broken: false,
            served: 0,
            serves_max: serves_max(target),
            group,
            _slot: slot,
        })
    }

    /// One invocation. A process that does not answer in time is not reusable afterwards.
    pub(super) async fn invoke(
        &mut self,
        caller: Caller,
        payload: Bytes,
        time: Time,
        outlet: Option<Outlet>,
    ) -> Result<Done, InvokeError> {
        self.is_broken = true;
        self.stays = false;
        self.served = self.served.saturating_add(1);
        self.log.turn_to(caller.clone());
        if self.served > 1 {
            self.stderr.forget();
        }
        let limit_ms = caller.target.limits.cpu_ms;
        let (reply, answer) = oneshot::channel();
        let job = Job { caller, payload, waiting: Waiting { reply, outlet } };
        if self.server.give(job).await.is_err() {
            return Err(InvokeError::Node("a process' server has ended".into()));
        }
        let pid = *lock(&self.pid);
        let computed = async {
            match (pid, limit_ms) {
                (Some(pid), Some(ms)) => cpu::spent(pid, Duration::from_millis(ms.into())).await,
                _ => std::future::pending().await,
            }
        };
        let mut exit = self.exit.clone();
        let ended = async { exit.wait_for(Option::is_some).await.map(|_| ()) };
        let result = tokio::select! {
            biased;
            answer = answer => answer.ok(),
            _ = ended => None,
            () = tokio::time::sleep_until(time.deadline.into()) => return Err(time.out()),
            () = computed => {
                return Err(InvokeError::CpuTime { limit_ms: limit_ms.unwrap_or(0).into() });
            }
        };
        self.last_used = Instant::now();
        match result {
            Some(Ok(done)) => {
                self.is_broken = false;
                Ok(done)
            }
            Some(Err(failure)) => {
                self.is_broken = failure.at_start;
                Err(self.explain_failure(failure))
            }
            None => Err(self.explain_exit().await),
        }
    }

    /// Waits until it asks for its first invocation.
    pub(super) async fn come_up(&mut self, time: Time) -> Result<(), InvokeError> {
        let mut exit = self.exit.clone();
        let ended = async { exit.wait_for(Option::is_some).await.map(|_| ()) };
        let up = async {
            while !self.is_up() && self.server.failed().is_none() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let is_told = tokio::select! {
            biased;
            () = up => true,
            _ = ended => false,
            () = tokio::time::sleep_until(time.deadline.into()) => return Err(time.out()),
        };
        match self.server.failed() {
            Some(failure) => Err(self.explain_failure(failure)),
            None if is_told => Ok(()),
            None => Err(self.explain_exit().await),
        }
    }

    pub(super) fn is_reusable(&self) -> bool {
        !self.is_broken && self.served < self.serves_max && self.exit.borrow().is_none()
    }

    /// Whether it waits for an invocation, or has begun one.
    pub(super) fn is_up(&self) -> bool {
        self.server.has_asked()
    }

    /// Whether it has served nobody.
    pub(super) fn is_unused(&self) -> bool {
        self.served == 0
    }

    pub(super) fn last_used(&self) -> Instant {
        self.last_used
    }

    /// Whether it may wait on, where others end that were `idle` for so long.
    pub(super) fn may_wait(&self, idle: Duration) -> bool {
        self.stays || self.last_used.elapsed() < idle
    }

    /// It is to wait until it is used.
    pub(super) fn stay(&mut self) {
        self.last_used = Instant::now();
        self.stays = true;
    }

    fn explain_failure(&self, failure: Failure) -> InvokeError {
        if failure.kind.ends_with("MemoryError") {
            return InvokeError::OutOfMemory { limit_mb: self.memory_mb };
        }
        let message = format!("{}: {}", failure.kind, failure.message);
        if failure.at_start {
            return InvokeError::GuestTrap { message, backtrace: failure.trace };
        }
        InvokeError::GuestRaised { message, backtrace: failure.trace }
    }

    async fn explain_exit(&mut self) -> InvokeError {
        let outputs = async {
            for output in &mut self.outputs {
                let _ = (&mut output.0).await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, outputs).await;
        let status = self.exit.borrow().clone().unwrap_or_else(|| "ended".into());
        let words = self.stderr.tail();
        let was_killed = self.group.as_ref().is_some_and(Group::was_out_of_memory);
        if words.ends_with("MemoryError") || was_killed {
            return InvokeError::OutOfMemory { limit_mb: self.memory_mb };
        }
        let message = match words.as_str() {
            "" => format!("process {status}"),
            words => format!("process {status}: {words}"),
        };
        InvokeError::GuestTrap { message, backtrace: String::new() }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(pid) = *lock(&self.pid) {
            kill_group(pid);
        }
    }
}

/// Where a process finds the node, and what it shows there.
struct Door {
    address: String,
    token: String,
    /// A socket of the machine's network, where the process has none of its own.
    outside: Option<TcpListener>,
}

impl Door {
    fn open(spawner: &Spawner) -> io::Result<Self> {
        let token = lambda::token()?;
        if spawner.has_own_network() {
            return Ok(Self { address: format!("127.0.0.1:{PORT}"), token, outside: None });
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        Ok(Self { address: listener.local_addr()?.to_string(), token, outside: Some(listener) })
    }

    fn port(&self) -> u16 {
        let address = self.outside.as_ref().and_then(|listener| listener.local_addr().ok());
        address.map_or(PORT, |address| address.port())
    }

    /// What the process shows to its proxy: in a network of its own nobody else can ask.
    fn proxy_token(&self) -> Option<&str> {
        self.outside.as_ref().map(|_| self.token.as_str())
    }

    fn serve(
        self,
        inside: Option<TcpListener>,
        host: Arc<dyn Host>,
        caller: Caller,
    ) -> io::Result<Server> {
        let missing = || io::Error::other("the process has no socket");
        let proxy_token = self.proxy_token().map(str::to_owned);
        let listener = inside.or(self.outside).ok_or_else(missing)?;
        let names = Names { address: self.address, token: self.token, proxy_token };
        Server::start(listener, names, host, caller)
    }
}

/// Settings come first, so that none of them takes the place of what the runtime needs.
fn describe(program: Program, door: &Door, target: &Target, settings: &Settings) -> Program {
    let program = settings.all().fold(program, |program, (name, value)| {
        if program.has(name) { program } else { program.with(name, value) }
    });
    let proxy = outside::address(&door.address, door.proxy_token());
    let program = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"]
        .into_iter()
        .fold(program, |program, name| program.with(name, &proxy));
    let program = match target.kind {
        // Its virtual machine takes properties and no environment, and no token.
        CodeKind::Java => ["http", "https"].into_iter().fold(program, |program, scheme| {
            let (host, port) = door.address.split_once(':').unwrap_or_default();
            program
                .with_option(format!("-D{scheme}.proxyHost={host}"))
                .with_option(format!("-D{scheme}.proxyPort={port}"))
        }),
        CodeKind::Js => program.with("NODE_USE_ENV_PROXY", "1"),
        _ => program,
    };
    program
        .with("NO_PROXY", &door.address)
        .with("no_proxy", &door.address)
        .with("AWS_LAMBDA_RUNTIME_API", &door.address)
        .with("AWS_LAMBDA_FUNCTION_NAME", &target.handler)
        .with("AWS_LAMBDA_FUNCTION_VERSION", target.revision.to_string())
        .with("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", target.limits.memory_mb.to_string())
        .with("AWS_LAMBDA_INITIALIZATION_TYPE", started_when(target))
        .with("AWS_LAMBDA_LOG_GROUP_NAME", &target.app)
        .with("AWS_LAMBDA_LOG_STREAM_NAME", &target.handler)
        .with("_HANDLER", target.entry.clone().unwrap_or_default())
        .with("EDGESCALE_API", &door.address)
        .with("EDGESCALE_TOKEN", &door.token)
        .with("EDGESCALE_APP", &target.app)
}

/// In the words of Lambda.
fn started_when(target: &Target) -> &'static str {
    if target.limits.ready > 0 { "provisioned-concurrency" } else { "on-demand" }
}

/// A Python process that is to serve one invocation serves any number, each in a fork of its own.
fn serves_max(target: &Target) -> u32 {
    match target.limits.reuse {
        Some(1) if target.kind == CodeKind::Python => u32::MAX,
        limit => limit.unwrap_or(u32::MAX),
    }
}

/// Owns the child until it has ended and is reaped; tells how it ended.
pub(in crate::execute) fn wait_for_exit(
    mut child: Child,
    pid: Arc<Mutex<Option<u32>>>,
) -> watch::Receiver<Option<String>> {
    let (tell, exit) = watch::channel(None);
    tokio::spawn(async move {
        let status = child.wait().await;
        // What the process left behind in its group goes with it; then the number is free again.
        if let Some(pid) = lock(&pid).take() {
            kill_group(pid);
        }
        let words = match status {
            Ok(status) => format!("ended with {status}"),
            Err(error) => format!("was lost: {error}"),
        };
        tell.send_replace(Some(words));
    });
    exit
}

/// Takes what a process writes, until it ends.
pub(in crate::execute) fn follow(
    pipe: Option<impl AsyncRead + Unpin + Send + 'static>,
    lines: Lines,
) -> AbortOnDrop<()> {
    AbortOnDrop(tokio::spawn(async move {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = vec![0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
            lines.push(&buffer[..count]);
        }
        lines.finish();
    }))
}
