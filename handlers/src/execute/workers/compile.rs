//! Compiling in a process of its own. A compiler takes the time and the memory that a component
//! makes it take, and nobody has tried it on all there are: it has limits of both, the walls of
//! other processes, and when it breaks down, the node goes on.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::process::Child;
use tokio::task::{JoinError, JoinHandle};

use super::WorkerProgram;
use super::link::{NO_PORT, says_no_memory};
use super::wire::{Compile, Order, Word, encode, receive, send};
use crate::Digest;
use crate::execute::process::{Ends, Program, Spawned, Spawner, pair};
use crate::execute::wasm::compile_here;
use crate::execute::{Config, InvokeError, bad_code};

/// How much more time one may take for which nobody waits.
const BEHIND_TIMES: u32 = 5;
/// How long one may take by the clock for each second of computing: the machine may be busy.
const CLOCK_TIMES: u32 = 10;
/// Seconds between the first word that time is up and the end.
const GRACE_S: u64 = 1;
/// How long the end of a process is waited for that has closed its socket.
const END_MAX: Duration = Duration::from_secs(2);
/// What is said of a compiler that did not end as it should.
pub(in crate::execute) const BROKE: &str = "the compiler broke down over it";
/// What a program of Rust ends with that has panicked.
const PANICKED: i32 = 101;
/// How much of its last words is told.
const WORDS_BYTES_MAX: u64 = 4 << 10;

/// Where components are compiled.
pub(in crate::execute) struct Compilers {
    /// None is in this process, without limits.
    program: Option<WorkerProgram>,
    spawner: Arc<Spawner>,
    memory_mb: u32,
    cpu_s: u32,
}

/// Why there is no compiled code.
#[derive(Debug)]
pub(in crate::execute) enum Uncompiled {
    /// The compiler does not take it.
    Refused(String),
    /// The compiler broke down over it.
    Broke(String),
    /// It takes more than a compiler may have.
    TooMuch(String),
    /// This node cannot compile now.
    Node(String),
}

impl Uncompiled {
    /// As an error about some code; `refused` says what it is that the compiler does not take.
    pub(in crate::execute) fn of(self, digest: &Digest, refused: &str) -> InvokeError {
        match self {
            Self::Refused(why) => bad_code(digest, format!("{refused}: {why}")),
            Self::Broke(why) => bad_code(digest, format!("{BROKE}: {why}")),
            Self::TooMuch(why) => bad_code(digest, why),
            Self::Node(why) => InvokeError::Node(format!("code {digest}: compiler: {why}")),
        }
    }
}

impl Compilers {
    pub(in crate::execute) fn new(config: &Config, spawner: Arc<Spawner>) -> Self {
        let (memory_mb, cpu_s) = (config.compile_memory_mb, config.compile_cpu_s);
        Self { program: config.worker.clone(), spawner, memory_mb, cpu_s }
    }

    /// Compiles a component. Dropping the future ends that.
    pub(in crate::execute) async fn compile(
        &self,
        job: Compile,
        component: Bytes,
    ) -> Result<Bytes, Uncompiled> {
        let times = if job.behind { BEHIND_TIMES } else { 1 };
        let job = Compile { cpu_s: self.cpu_s * times, ..job };
        match &self.program {
            Some(program) => self.compile_apart(program, job, component).await,
            None => {
                let work = tokio::task::spawn_blocking(move || compile_here(&job, &component));
                let broke = |error: JoinError| Uncompiled::Broke(panic_words(error));
                let refused = |error| Uncompiled::Refused(format!("{error:#}"));
                work.await.map_err(broke)?.map(Bytes::from).map_err(refused)
            }
        }
    }

    async fn compile_apart(
        &self,
        program: &WorkerProgram,
        job: Compile,
        component: Bytes,
    ) -> Result<Bytes, Uncompiled> {
        let node = |error: io::Error| Uncompiled::Node(error.to_string());
        let (own, theirs) = StdUnixStream::pair().map_err(node)?;
        own.set_nonblocking(true).map_err(node)?;
        let (_none, their_sockets) = pair().map_err(node)?;
        let (mut from, mut to) = UnixStream::from_std(own).map_err(node)?.into_split();
        let process =
            Program::new(program.program.clone(), program.arguments.clone(), PathBuf::from("/usr"))
                .sees(&program.program);
        let ends = Ends { stdin: theirs.into(), stdout: their_sockets };
        let memory_bytes = u64::from(self.memory_mb) << 20;
        let spawned = self.spawner.spawn(process, memory_bytes, NO_PORT, Some(ends)).await;
        let Spawned { mut child, group, .. } = spawned.map_err(node)?;
        let words = last_words(&mut child);
        let cpu_s = job.cpu_s;
        let time = Duration::from_secs((cpu_s * CLOCK_TIMES).into());
        let work = async {
            let order = Order::Compile(job);
            let frame = encode(&order, &component).map_err(io::Error::other)?;
            send(&mut to, frame, &component).await?;
            receive::<Word>(&mut from).await
        };
        match tokio::time::timeout(time, work).await {
            Ok(Ok(Some((Word::Compiled(Ok(())), compiled)))) => return Ok(compiled),
            Ok(Ok(Some((Word::Compiled(Err(why)), _)))) => return Err(Uncompiled::Refused(why)),
            Ok(_) => {}
            Err(_) => {
                let s = time.as_secs();
                return Err(Uncompiled::Node(format!("it had not compiled it after {s} s")));
            }
        }
        let ended = tokio::time::timeout(END_MAX, child.wait()).await;
        let words = tokio::time::timeout(END_MAX, words).await.ok().and_then(Result::ok);
        let words = words.unwrap_or_default();
        if group.is_some_and(|group| group.was_out_of_memory()) || says_no_memory(&words) {
            let mb = self.memory_mb;
            let why = format!("compiling it takes more than {mb} MiB of memory");
            return Err(Uncompiled::TooMuch(why));
        }
        let status = ended.ok().and_then(Result::ok);
        if status.is_some_and(|status| status.signal() == Some(libc::SIGXCPU)) {
            let why = format!("compiling it takes more than {cpu_s} s of computing");
            return Err(Uncompiled::TooMuch(why));
        }
        // A program that ends by itself, and not by a panic, is none that compiles; who kills one
        // may be short of memory.
        let is_other = status.is_some_and(|status| match status.code() {
            Some(code) => code != PANICKED,
            None => status.signal() == Some(libc::SIGKILL),
        });
        let status = status.map_or("was lost".to_owned(), |status| status.to_string());
        let words = words.lines().find(|line| !line.is_empty()).unwrap_or_default();
        let why = format!("{status}: {words}");
        Err(if is_other { Uncompiled::Node(why) } else { Uncompiled::Broke(why) })
    }
}

fn panic_words(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "it was stopped".to_owned() };
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default().to_owned()
}

fn last_words(child: &mut Child) -> JoinHandle<String> {
    let stderr = child.stderr.take();
    tokio::spawn(async move {
        let mut words = vec![];
        if let Some(mut stderr) = stderr {
            let _ = (&mut stderr).take(WORDS_BYTES_MAX).read_to_end(&mut words).await;
            // It must not wait for somebody to read on.
            let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        }
        String::from_utf8_lossy(&words).into_owned()
    })
}

/// The life of a process that compiles.
pub(super) async fn serve(
    mut out: OwnedWriteHalf,
    job: Compile,
    component: Bytes,
) -> io::Result<()> {
    limit_cpu(job.cpu_s.into())?;
    let (result, compiled) = match compile_here(&job, &component) {
        Ok(compiled) => (Ok(()), Bytes::from(compiled)),
        Err(error) => (Err(format!("{error:#}")), Bytes::new()),
    };
    let frame = encode(&Word::Compiled(result), &compiled);
    let (frame, compiled) = match frame {
        Ok(frame) => (frame, compiled),
        Err(why) => {
            let refused = Word::Compiled(Err(format!("compiled code: {why}")));
            (encode(&refused, &[]).map_err(io::Error::other)?, Bytes::new())
        }
    };
    send(&mut out, frame, &compiled).await
}

#[allow(unsafe_code)]
fn limit_cpu(cpu_s: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: cpu_s, rlim_max: cpu_s + GRACE_S };
    // SAFETY: `limit` outlives the call, which only reads it.
    match unsafe { libc::setrlimit(libc::RLIMIT_CPU, &limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
