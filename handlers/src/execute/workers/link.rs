//! One worker process as its node sees it: what runs in it, what it says, and its end. Whatever it
//! says is checked; one that says what no worker says is killed.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::answer::{Ended, Running, told};
use super::wire::{Done, Given, Job, Order, Start, Word, encode, receive, send};
use super::{GRACE, WorkerProgram};
use crate::execute::http::HttpHead;
use crate::execute::lines::{Lines, Log};
use crate::execute::process::{
    Ends, Group, Program, Spawned, Spawner, follow, kill_group, pair, send as send_socket,
    wait_for_exit,
};
use crate::execute::wasm::Form;
use crate::execute::{
    AbortOnDrop, Answer, Answered, Caller, Host, HostError, Input, Invocation, InvokeError, Level,
    Outlet, Parts, Time,
};

/// How long the end of a process is waited for that has closed its socket, and its last words: they
/// say why it ended, and come late where the machine is busy.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long a process may take to come up before who is late for it has it killed.
const START_MAX: Duration = Duration::from_secs(30);
/// Questions for no invocation that are answered at once; others are not.
const STRAYS_MAX: usize = 16;
/// A port that nobody listens on: a worker connects nowhere by itself.
pub(super) const NO_PORT: u16 = 1;

/// A worker, as long as somebody has it.
pub(super) struct Link {
    orders: mpsc::UnboundedSender<Outgoing>,
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
    numbers: AtomicU64,
    /// Invocations that are in it or on their way.
    pub(super) busy: AtomicUsize,
    began: Instant,
    last_used: Mutex<Instant>,
    /// How many instances wait in it, if nothing has run in it since they were made; else 0.
    ready: AtomicU32,
    /// What it was started with.
    pub(super) form: Form,
    process: Process,
    _tasks: [AbortOnDrop<()>; 2],
    _slot: OwnedSemaphorePermit,
}

/// Its process. Dropping it kills the process with all its group.
struct Process {
    pid: Arc<Mutex<Option<u32>>>,
    exit: watch::Receiver<Option<String>>,
    stderr: Lines,
    memory_mb: u32,
    group: Option<Group>,
    words: tokio::sync::Mutex<AbortOnDrop<()>>,
}

struct Shared {
    host: Arc<dyn Host>,
    running: Mutex<HashMap<u64, Arc<Running>>>,
    strays: Arc<Semaphore>,
    was_ready: AtomicBool,
    /// Whether any invocation has ended in it as it should.
    has_answered: AtomicBool,
    /// Why it was killed, if it was.
    fate: Mutex<Option<String>>,
}

#[derive(Clone, Debug)]
enum State {
    Coming,
    Ready,
    Refused(InvokeError),
    Gone,
}

/// What it is given to do.
struct Work {
    given: Given,
    body: Bytes,
    /// The body, where it is still arriving.
    parts: Option<Parts>,
    attempt: u32,
    outlet: Option<Outlet>,
}

impl Default for Work {
    /// Nothing but preparation.
    fn default() -> Self {
        let (body, parts, outlet) = (Bytes::new(), None, None);
        Self { given: Given::Nothing, body, parts, attempt: 1, outlet }
    }
}

/// A frame on its way to a worker. As many wait as the worker has invocations, and questions that
/// it may ask at once.
struct Outgoing {
    frame: Vec<u8>,
    body: Bytes,
    /// Sent before the frame, which answers this question.
    socket: Option<(OwnedFd, u64)>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Link {
    /// Starts the process; whether it comes up shows with the first invocation.
    pub(super) async fn start(
        spawner: &Spawner,
        program: &WorkerProgram,
        start: Start,
        memory_mb: u32,
        first: &Caller,
        host: Arc<dyn Host>,
        slot: OwnedSemaphorePermit,
    ) -> Result<Self, InvokeError> {
        let node = |error: io::Error| InvokeError::Node(format!("worker: {error}"));
        let (own, theirs) = StdUnixStream::pair().map_err(node)?;
        own.set_nonblocking(true).map_err(node)?;
        let (sockets, their_sockets) = pair().map_err(node)?;
        let (from, to) = UnixStream::from_std(own).map_err(node)?.into_split();
        // It stands in a folder that it is shown anyway.
        let folder = PathBuf::from("/usr");
        let program = Program::new(program.program.clone(), program.arguments.clone(), folder)
            .sees(&program.program)
            .sees(&start.file);
        let ends = Ends { stdin: theirs.into(), stdout: their_sockets };
        let log = Log::new(Arc::clone(&host), first.between());
        let process = Process::start(spawner, program, memory_mb, ends, log).await.map_err(node)?;
        let (orders, queue) = mpsc::unbounded_channel();
        let (tell, state) = watch::channel(State::Coming);
        let shared = Arc::new(Shared::new(host));
        let pid = Arc::clone(&process.pid);
        let listening = listen(from, Arc::clone(&shared), orders.clone(), tell, pid);
        let tasks = [tokio::spawn(write(to, sockets, queue)), tokio::spawn(listening)];
        let link = Self {
            orders,
            shared,
            state,
            numbers: AtomicU64::new(1),
            busy: AtomicUsize::new(0),
            began: Instant::now(),
            last_used: Mutex::new(Instant::now()),
            ready: AtomicU32::new(0),
            form: start.form.clone(),
            process,
            _tasks: tasks.map(AbortOnDrop),
            _slot: slot,
        };
        link.order(&Order::Start(start), Bytes::new()).map_err(InvokeError::Node)?;
        Ok(link)
    }

    /// One invocation, as soon as the process has come up.
    pub(super) async fn invoke(
        &self,
        mut invocation: Invocation,
        caller: Caller,
        time: Time,
    ) -> Answer {
        let (given, body, parts) = given(&mut invocation.input)?;
        let (attempt, outlet) = (invocation.attempt, invocation.outlet);
        self.give(Work { given, body, parts, attempt, outlet }, caller, time).await
    }

    /// Has it make instances that wait, up to so many, and stay although it has nothing to do.
    pub(super) async fn prepare(
        &self,
        caller: &Caller,
        ready: u32,
        time: Time,
    ) -> Result<(), InvokeError> {
        self.touch();
        if self.ready.swap(ready, Ordering::Relaxed) == ready {
            return Ok(());
        }
        let mut target = caller.target.as_ref().clone();
        target.limits.ready = ready;
        let caller = Caller { target: Arc::new(target), ..caller.clone() };
        let made = self.give(Work::default(), caller, time).await;
        made.map(drop).inspect_err(|_| self.ready.store(0, Ordering::Relaxed))
    }

    /// Something has run in it, for which an instance that waited may have been taken.
    pub(super) fn used(&self) {
        self.touch();
        self.ready.store(0, Ordering::Relaxed);
    }

    async fn give(&self, work: Work, caller: Caller, time: Time) -> Answer {
        self.come_up(time).await?;
        let Work { given, body, parts, attempt, outlet } = work;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let target = caller.target.as_ref().clone();
        let settings = caller.settings.parts();
        let host = Arc::clone(&self.shared.host);
        let (running, mut end) = Running::new(host, caller, parts, outlet);
        let left = time.deadline.saturating_duration_since(Instant::now());
        let job = Box::new(Job {
            target,
            given,
            attempt,
            left_us: left.as_micros() as u64,
            limit_ms: time.limit_ms,
            settings,
            has_outlet: running.has_outlet(),
        });
        self.shared.running().insert(number, Arc::clone(&running));
        let _leaves = Leaves { link: self, number };
        self.order(&Order::Invoke { number, job }, body).map_err(InvokeError::GuestError)?;
        // It may have gone before this was noted down, when there was nobody to tell.
        if matches!(*self.state.borrow(), State::Gone) {
            running.end();
        }
        match tokio::time::timeout_at((time.deadline + GRACE).into(), &mut end).await {
            Ok(Ok(ended)) => checked(ended),
            Ok(Err(_)) => Err(self.explain_end().await),
            Err(_) => {
                self.kill("an invocation in it did not stop at its deadline");
                Err(time.out())
            }
        }
    }

    /// Waits until it can be given invocations.
    async fn come_up(&self, time: Time) -> Result<(), InvokeError> {
        let mut state = self.state.clone();
        let has_come = state.wait_for(|state| !matches!(state, State::Coming));
        let has_come = tokio::time::timeout_at(time.deadline.into(), has_come).await;
        let late = |_| {
            if self.began.elapsed() > START_MAX {
                self.kill("it did not come up");
            }
            time.out()
        };
        let state = has_come.map_err(late)?.map_or(State::Gone, |state| state.clone());
        match state {
            State::Ready => Ok(()),
            State::Refused(error) => Err(InvokeError::Node(format!("worker: {error}"))),
            _ if self.shared.was_ready.load(Ordering::Relaxed) => Err(self.explain_end().await),
            _ => {
                let why = self.explain_end().await;
                Err(InvokeError::Node(format!("worker did not come up: {why}")))
            }
        }
    }

    /// Whether it can be given more.
    pub(super) fn is_alive(&self) -> bool {
        let is_heard = !matches!(*self.state.borrow(), State::Gone | State::Refused(_));
        // One that was killed, or has been waited for, may not have closed its socket yet.
        is_heard && lock(&self.shared.fate).is_none() && lock(&self.process.pid).is_some()
    }

    /// Whether any invocation has ended in it as it should.
    pub(super) fn has_answered(&self) -> bool {
        self.shared.has_answered.load(Ordering::Relaxed)
    }

    pub(super) fn last_used(&self) -> Instant {
        *lock(&self.last_used)
    }

    fn touch(&self) {
        *lock(&self.last_used) = Instant::now();
    }

    /// Its process, while it lives.
    #[cfg(test)]
    pub(super) fn pid(&self) -> Option<u32> {
        *lock(&self.process.pid)
    }

    fn order(&self, order: &Order, body: Bytes) -> Result<(), String> {
        let frame = encode(order, &body)?;
        // To one that has gone nothing needs to be said.
        let _ = self.orders.send(Outgoing { frame, body, socket: None, _room: None });
        Ok(())
    }

    fn kill(&self, why: &str) {
        self.shared.doom(why);
        kill(&self.process.pid);
    }

    async fn explain_end(&self) -> InvokeError {
        let status = self.process.end().await;
        let words = self.process.stderr.tail();
        let was_killed = self.process.group.as_ref().is_some_and(Group::was_out_of_memory);
        if was_killed || says_no_memory(&words) {
            return InvokeError::OutOfMemory { limit_mb: self.process.memory_mb };
        }
        let fate = lock(&self.shared.fate).clone();
        let words = Some(words).filter(|words| !words.is_empty());
        let said: String = fate.into_iter().chain(words).map(|text| format!(": {text}")).collect();
        let message = format!("the process that it ran in {status}{said}");
        InvokeError::GuestTrap { message, backtrace: String::new() }
    }
}

impl Process {
    async fn start(
        spawner: &Spawner,
        program: Program,
        memory_mb: u32,
        ends: Ends,
        log: Log,
    ) -> io::Result<Self> {
        let spawned = spawner.spawn(program, u64::from(memory_mb) << 20, NO_PORT, Some(ends));
        let Spawned { mut child, group, .. } = spawned.await?;
        let stderr = Lines::new(log, Level::Warn);
        let words = follow(child.stderr.take(), stderr.clone());
        let pid = Arc::new(Mutex::new(child.id()));
        let exit = wait_for_exit(child, Arc::clone(&pid));
        Ok(Self { pid, exit, stderr, memory_mb, group, words: words.into() })
    }

    /// How it ended; it is expected to have.
    async fn end(&self) -> String {
        let mut exit = self.exit.clone();
        let ended = async {
            let _ = exit.wait_for(Option::is_some).await;
            let mut words = self.words.lock().await;
            if !words.0.is_finished() {
                let _ = (&mut words.0).await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, ended).await;
        let status = exit.borrow().clone();
        status.unwrap_or_else(|| "closed its socket".into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        kill(&self.pid);
    }
}

fn kill(pid: &Mutex<Option<u32>>) {
    if let Some(pid) = *lock(pid) {
        kill_group(pid);
    }
}

/// Whether a program of Rust ended because it was given no memory: these are its words then.
pub(super) fn says_no_memory(words: &str) -> bool {
    let is_it = |line: &str| line.starts_with("memory allocation of ") && line.ends_with(" failed");
    words.lines().any(is_it)
}

/// However an invocation is left, its number means nothing any more.
struct Leaves<'a> {
    link: &'a Link,
    number: u64,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        let Some(running) = self.link.shared.running().remove(&self.number) else { return };
        running.end();
        // Who is there to be told was told what it can do without.
        let _ = self.link.order(&Order::Cancel { number: self.number }, Bytes::new());
    }
}

impl Shared {
    fn new(host: Arc<dyn Host>) -> Self {
        Self {
            host,
            running: Mutex::default(),
            strays: Arc::new(Semaphore::new(STRAYS_MAX)),
            was_ready: AtomicBool::new(false),
            has_answered: AtomicBool::new(false),
            fate: Mutex::default(),
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<u64, Arc<Running>>> {
        lock(&self.running)
    }

    fn of(&self, number: u64) -> Option<Arc<Running>> {
        self.running().get(&number).cloned()
    }

    fn doom(&self, why: &str) {
        lock(&self.fate).get_or_insert_with(|| why.to_owned());
    }

    /// Does what a worker says; an error is why it must not go on.
    fn hear(
        self: &Arc<Self>,
        word: Word,
        body: Bytes,
        orders: &mpsc::UnboundedSender<Outgoing>,
        tell: &watch::Sender<State>,
    ) -> Result<(), String> {
        match word {
            Word::Compiled(_) => return Err("it was told to compile nothing".to_owned()),
            Word::Ready(Ok(())) => {
                self.was_ready.store(true, Ordering::Relaxed);
                tell.send_replace(State::Ready);
            }
            Word::Ready(Err(error)) => {
                tell.send_replace(State::Refused(error));
            }
            Word::Log { number, level, text } => {
                self.of(number).inspect(|running| running.log(level, &text));
            }
            Word::LogFull { number } => drop(self.of(number).inspect(|running| running.log_full())),
            Word::TooMany { number } => drop(self.of(number).inspect(|running| running.too_many())),
            Word::Done { number, result } => {
                let Some(running) = self.running().remove(&number) else { return Ok(()) };
                if running.is_invocation() {
                    self.has_answered.store(true, Ordering::Relaxed);
                }
                running.ended((result, body));
            }
            Word::Ask { number, ask, question } => {
                let orders = orders.clone();
                let Some(running) = self.of(number) else {
                    let denied = HostError::Denied("no such invocation runs here".into());
                    if let Ok(room) = Arc::clone(&self.strays).try_acquire_owned() {
                        reply(&orders, ask, told(Err(denied)), room);
                    }
                    return Ok(());
                };
                let room = Arc::clone(&running.room).try_acquire_owned();
                let room = room.map_err(|_| "it asks too much at once".to_owned())?;
                let asked = Arc::clone(&running);
                running.spawn(async move {
                    let replied = asked.answer(question, body).await;
                    reply(&orders, ask, told(replied), room);
                });
            }
        }
        Ok(())
    }
}

fn reply(
    orders: &mpsc::UnboundedSender<Outgoing>,
    ask: u64,
    (answer, mut body, socket): (super::wire::Answer, Bytes, Option<OwnedFd>),
    room: OwnedSemaphorePermit,
) {
    let order = Order::Answer { ask, answer, has_socket: socket.is_some() };
    let frame = encode(&order, &body).unwrap_or_else(|why| {
        body = Bytes::new();
        refusal(ask, &format!("answer: {why}"))
    });
    let socket = socket.map(|socket| (socket, ask));
    let _ = orders.send(Outgoing { frame, body, socket, _room: Some(room) });
}

fn refusal(ask: u64, why: &str) -> Vec<u8> {
    let answer = Err(HostError::Unavailable(why.to_owned()));
    let order = Order::Answer { ask, answer, has_socket: false };
    encode(&order, &[]).expect("a short text can be sent")
}

/// Hears a worker until its end, and tells everybody who waits for it.
async fn listen(
    mut from: OwnedReadHalf,
    shared: Arc<Shared>,
    orders: mpsc::UnboundedSender<Outgoing>,
    tell: watch::Sender<State>,
    pid: Arc<Mutex<Option<u32>>>,
) {
    loop {
        let heard = match receive::<Word>(&mut from).await {
            Ok(Some((word, body))) => shared.hear(word, body, &orders, &tell),
            Ok(None) => break,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = heard {
            shared.doom(&format!("it said what no worker says: {why}"));
            break;
        }
    }
    kill(&pid);
    tell.send_if_modified(|state| {
        let was_refused = matches!(state, State::Refused(_));
        *state = if was_refused { state.clone() } else { State::Gone };
        !was_refused
    });
    let left: Vec<Arc<Running>> = shared.running().drain().map(|(_, running)| running).collect();
    left.iter().for_each(|running| running.end());
}

async fn write(
    mut to: OwnedWriteHalf,
    sockets: OwnedFd,
    mut queue: mpsc::UnboundedReceiver<Outgoing>,
) {
    while let Some(Outgoing { mut frame, body, socket, _room }) = queue.recv().await {
        if let Some((socket, ask)) = socket
            && let Err(error) = send_socket(sockets.as_raw_fd(), socket.as_raw_fd())
        {
            frame = refusal(ask, &format!("the worker takes no connection: {error}"));
        }
        if send(&mut to, frame, &body).await.is_err() {
            return;
        }
    }
}

/// An input as it travels: without its body, the body, and its parts where it is still arriving.
fn given(input: &mut Input) -> Result<(Given, Bytes, Option<Parts>), InvokeError> {
    let input = std::mem::replace(input, Input::Event(Default::default()));
    Ok(match input {
        Input::Event(mut event) => {
            let body = std::mem::take(&mut event.body);
            (Given::Event(event), body, None)
        }
        Input::Call(mut request) => {
            let body = std::mem::take(&mut request.body);
            (Given::Call(request), body, None)
        }
        Input::Http(mut request) => {
            let inlet = request.inlet.take();
            let read_before =
                || InvokeError::Node("the body of the request was read before".to_owned());
            let parts = inlet.map(|inlet| inlet.parts().ok_or_else(read_before)).transpose()?;
            let (route, parameters) =
                (std::mem::take(&mut request.route), std::mem::take(&mut request.parameters));
            let (body, is_arriving) = (std::mem::take(&mut request.body), parts.is_some());
            (Given::Http { request, route, parameters, is_arriving }, body, parts)
        }
        Input::Frame(..) => {
            let why = "frames stay in the node's own process; remove own_process";
            return Err(InvokeError::Node(why.to_owned()));
        }
    })
}

/// What a worker said of an end, as far as a worker can know.
fn checked((result, body): Ended) -> Answer {
    match result {
        Ok(Done { content_type, http: None }) => Ok(Answered::call(content_type, body)),
        Ok(Done { http: Some(head), .. }) => {
            let head = HttpHead::checked(head.status, head.headers);
            let head = head.map_err(|why| InvokeError::GuestError(format!("answer: {why}")))?;
            Ok(Answered::http(head, body))
        }
        Err(
            error @ (InvokeError::NoExport { .. }
            | InvokeError::Overloaded { .. }
            | InvokeError::Timeout { .. }
            | InvokeError::CpuTime { .. }
            | InvokeError::OutOfMemory { .. }
            | InvokeError::GuestTrap { .. }
            | InvokeError::GuestRaised { .. }
            | InvokeError::GuestError(_)),
        ) => Err(error),
        Err(other) => Err(InvokeError::Node(format!("worker: {other}"))),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
