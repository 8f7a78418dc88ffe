//! A child process that codes streams, as the host sees it and from within.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hw::cpu::CpuDevice;
use hw::{Device, DeviceInfo, Kind};

use super::coding::Coding;
use super::wire::{Reply, Request, content, receive, send};
use super::{Make, Program, units};
use crate::h264::{Encoder, Settings};
use crate::video::ring::{Mapped, Ring};
use crate::{PixelFormat, Shape};

/// How long a child may take for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Most streams of one child.
const STREAMS_MAX: usize = 256;
/// A coded picture is at most so many times as large as its samples, and this.
const CODED_TIMES_MAX: usize = 4;
const CODED_BYTES_MAX: usize = 64 << 10;

/// How a child is started.
pub(crate) type Start = Box<dyn Fn(Make) -> std::io::Result<Link> + Send + Sync>;

/// An encoder, its device, and its child while streams are open.
pub(crate) struct Worker {
    pub make: Make,
    /// Where kernels of its jobs run.
    pub device: Arc<dyn Device>,
    start: Start,
    state: Mutex<State>,
    /// Streams that nobody wants any more. The child hears of them before the next picture.
    left: Mutex<Vec<u32>>,
}

#[derive(Default)]
struct State {
    link: Option<Link>,
    open: BTreeSet<u32>,
    streams: u32,
}

/// A child and the way to it. Dropping it ends the child.
pub(crate) struct Link {
    socket: UnixStream,
    child: Option<Child>,
    /// Where samples lie for the child.
    ring: Option<Ring>,
}

impl Link {
    pub fn new(
        socket: UnixStream,
        child: Option<Child>,
        ring: Option<Ring>,
    ) -> std::io::Result<Self> {
        socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        socket.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self { socket, child, ring })
    }

    /// Puts samples where the child finds them; false where they must go over the socket.
    fn share(&self, samples: &[u8]) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.write(0, samples).is_ok())
    }

    /// Ends the child; how it ended, where it did so by itself.
    fn end(&mut self) -> String {
        let Some(child) = &mut self.child else { return String::new() };
        // One that has gone already says how.
        let _ = child.kill();
        child.wait().map_or_else(|error| error.to_string(), |status| format!(" ({status})"))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.end();
    }
}

impl Program {
    pub(super) fn start(&self) -> Start {
        let Program { program, arguments } = self.clone();
        Box::new(move |make| {
            let (socket, theirs) = UnixStream::pair()?;
            let mut command = Command::new(&program);
            command.args(&arguments).arg(make.name()).stdin(OwnedFd::from(theirs));
            let ring = Ring::create().ok();
            let memory = ring.as_ref().and_then(|ring| ring.for_child().ok());
            command.stdout(memory.map_or_else(Stdio::null, Stdio::from)).stderr(Stdio::null());
            Link::new(socket, Some(command.spawn()?), ring)
        })
    }
}

impl Worker {
    pub fn new(make: Make, driver: &str, cpu_threads: usize, start: Start) -> Self {
        let config = hw::Config { cpu_threads, ..hw::Config::default() };
        let device = CpuDevice::new(&config).described(|cpu| DeviceInfo {
            id: make.name().to_string(),
            kind: Kind::Encoder,
            name: format!("{} of FFmpeg", make.codec()),
            driver: driver.to_string(),
            on_cpu: make != Make::Nvenc,
            ..cpu.clone()
        });
        let (state, left) = (Mutex::default(), Mutex::default());
        Self { make, device: Arc::new(device), start, state, left }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> MutexGuard<'_, Vec<u32>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the streams that nobody wants any more.
    fn close_left(&self, state: &mut State) -> Result<(), String> {
        let left = std::mem::take(&mut *self.left());
        for stream in left {
            if state.open.remove(&stream) {
                state.ask(&Request::Close { stream }, &[])?;
            }
        }
        Ok(())
    }

    /// Gives a stream up. Nothing is asked of the child here, as it may be at a picture; without
    /// any stream it ends.
    fn leave(&self, stream: u32) {
        self.left().push(stream);
        let Ok(mut state) = self.state.try_lock() else { return };
        let left = self.left();
        if state.open.iter().all(|stream| left.contains(stream)) {
            *state = State { streams: state.streams, ..State::default() };
        }
    }
}

impl State {
    fn begin(&mut self, worker: &Worker, shape: Shape, settings: Settings) -> Result<u32, String> {
        if self.open.len() >= STREAMS_MAX {
            return Err(format!("it has {STREAMS_MAX} streams already"));
        }
        if self.link.is_none() {
            let started = (worker.start)(worker.make);
            self.link = Some(started.map_err(|error| format!("it does not start: {error}"))?);
        }
        let stream = self.streams;
        self.streams = self.streams.wrapping_add(1);
        self.ask(&Request::Open { stream, shape, settings }, &[])?;
        self.open.insert(stream);
        Ok(stream)
    }

    /// Asks the child and waits for its answer; a child that does not answer is ended, and with it
    /// all its streams.
    fn ask(&mut self, request: &Request, samples: &[u8]) -> Result<Vec<u8>, String> {
        let Some(link) = &mut self.link else { return Err("it has not started".to_string()) };
        match answer(&mut link.socket, request, samples) {
            Ok(answer) => answer,
            Err(error) => {
                let silent = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                let ended = link.end();
                self.link = None;
                self.open.clear();
                Err(match silent {
                    true => format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
                    false => format!("its process has gone{ended}: {error}"),
                })
            }
        }
    }
}

/// What the child answers: the bytes that belong to it, or why there are none.
fn answer(
    socket: &mut UnixStream,
    request: &Request,
    samples: &[u8],
) -> std::io::Result<Result<Vec<u8>, String>> {
    send(socket, request, samples)?;
    let given = if let Request::Picture { bytes, .. } = request { *bytes } else { 0 };
    match receive(socket)? {
        Reply::Done => Ok(Ok(Vec::new())),
        Reply::Failed(detail) => Ok(Err(detail)),
        Reply::Coded { bytes } => match given * CODED_TIMES_MAX + CODED_BYTES_MAX {
            most if bytes <= most => content(socket, bytes).map(Ok),
            _ => Err(Error::other(format!("a picture of {bytes} bytes"))),
        },
    }
}

/// Who codes a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Coder {
    Ours(Box<Encoder>),
    Theirs(Theirs),
}

/// A stream that a worker codes.
pub(crate) struct Theirs {
    worker: Arc<Worker>,
    /// By the worker's number, where it has begun.
    stream: Option<u32>,
    shape: Shape,
    settings: Settings,
    /// Pictures since the last that stands alone.
    since_key: u32,
}

impl Coder {
    /// Begins a stream of NV12 pictures of this shape, by our encoder where there is no worker.
    pub fn begin(worker: Option<&Arc<Worker>>, shape: Shape, settings: Settings) -> Self {
        match worker.cloned() {
            None => Coder::Ours(Box::new(Encoder::begin(shape, settings))),
            Some(worker) => {
                Coder::Theirs(Theirs { worker, stream: None, shape, settings, since_key: 0 })
            }
        }
    }

    /// Whether it is the worker's, or ours where there is none.
    pub fn is_of(&self, worker: Option<&Arc<Worker>>) -> bool {
        match (self, worker) {
            (Coder::Ours(_), None) => true,
            (Coder::Theirs(theirs), Some(worker)) => Arc::ptr_eq(&theirs.worker, worker),
            _ => false,
        }
    }

    /// Our encoder, where it is known to be one.
    pub fn ours(&mut self) -> &mut Encoder {
        match self {
            Coder::Ours(encoder) => encoder,
            Coder::Theirs(theirs) => unreachable!("{theirs:?} where ours was begun"),
        }
    }

    /// Codes the samples of the next picture, which must be as many as the shape has. After an
    /// error the stream begins anew.
    pub fn code(&mut self, samples: &[u8], pts_us: i64) -> hw::Result<Vec<u8>> {
        match self {
            Coder::Ours(encoder) => Ok(encoder.code(samples, pts_us)),
            Coder::Theirs(theirs) => theirs.code(samples, pts_us),
        }
    }

    /// Whether the next picture tells only how it differs from the last.
    pub fn is_midway(&self) -> bool {
        match self {
            Coder::Ours(encoder) => encoder.is_midway(),
            Coder::Theirs(theirs) => theirs.since_key > 0,
        }
    }

    /// Bytes that it holds in this process.
    pub fn bytes(&self) -> usize {
        match self {
            Coder::Ours(encoder) => encoder.bytes(),
            Coder::Theirs(_) => 0,
        }
    }
}

impl Theirs {
    fn code(&mut self, samples: &[u8], pts_us: i64) -> hw::Result<Vec<u8>> {
        let worker = self.worker.clone();
        let mut state = worker.state();
        let coded =
            worker.close_left(&mut state).and_then(|()| self.next(&mut state, samples, pts_us));
        drop(state);
        coded.map_err(|detail| {
            self.give_up();
            let detail = format!("{}: {detail}", worker.make.codec());
            hw::Error::Failed { device: worker.device.info().id.clone(), detail }
        })
    }

    fn next(&mut self, state: &mut State, samples: &[u8], pts_us: i64) -> Result<Vec<u8>, String> {
        let stream = match self.stream.filter(|stream| state.open.contains(stream)) {
            Some(stream) => stream,
            None => {
                self.since_key = 0;
                *self.stream.insert(state.begin(&self.worker, self.shape, self.settings)?)
            }
        };
        let is_key = self.since_key == 0;
        let is_shared = state.link.as_ref().is_some_and(|link| link.share(samples));
        let bytes = samples.len();
        let request = Request::Picture { stream, pts_us, is_key, bytes, is_shared };
        let coded = state.ask(&request, if is_shared { &[] } else { samples })?;
        let coded = units::tidied(&coded, is_key)?;
        self.since_key = (self.since_key + 1) % self.settings.gop.max(1);
        Ok(coded)
    }

    fn give_up(&mut self) {
        self.since_key = 0;
        if let Some(stream) = self.stream.take() {
            self.worker.leave(stream);
        }
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl std::fmt::Debug for Theirs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stream {:?} of {}", self.stream, self.worker.make.name())
    }
}

impl PartialEq for Theirs {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.worker, &other.worker) && self.stream == other.stream
    }
}

impl Eq for Theirs {}

/// In the child: codes streams by the encoder of this name for whoever has the other end of
/// standard input, until that one goes. Its standard output is the memory that both share.
pub fn serve(name: &str) -> std::io::Result<()> {
    let make = Make::named(name).ok_or_else(|| Error::other(format!("no encoder \"{name}\"")))?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    serve_on(make, UnixStream::from(socket), Mapped::of(std::io::stdout()))
}

pub(super) fn serve_on(
    make: Make,
    mut socket: impl Read + Write,
    mut memory: Option<Mapped>,
) -> std::io::Result<()> {
    let mut streams: BTreeMap<u32, (Coding, Shape)> = BTreeMap::new();
    loop {
        let request = match receive(&mut socket) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            request => request?,
        };
        let done = match request {
            Request::Open { shape, .. } if shape.format != PixelFormat::Nv12 => {
                Err("give pictures of nv12".to_string())
            }
            Request::Open { stream, shape, settings } => {
                let begun = Coding::open(make, shape, settings);
                begun.map(|coding| drop(streams.insert(stream, (coding, shape))))
            }
            Request::Close { stream } => {
                streams.remove(&stream);
                Ok(())
            }
            Request::Picture { stream, pts_us, is_key, bytes, is_shared } => {
                let (coding, shape) =
                    streams.get_mut(&stream).ok_or_else(|| Error::other("no such stream"))?;
                if shape.bytes() != Some(bytes) {
                    return Err(Error::other(format!("a picture of {bytes} bytes")));
                }
                let followed = if is_shared { Vec::new() } else { content(&mut socket, bytes)? };
                let samples: &[u8] = match (&mut memory, is_shared) {
                    (_, false) => &followed[..],
                    (Some(memory), true) => memory.slot(0, bytes).unwrap_or_default(),
                    (None, true) => &[],
                };
                match coding.code(samples, pts_us, is_key) {
                    Ok(coded) => {
                        send(&mut socket, &Reply::Coded { bytes: coded.len() }, &coded)?;
                        continue;
                    }
                    Err(detail) => Err(detail),
                }
            }
        };
        let reply = done.map_or_else(Reply::Failed, |()| Reply::Done);
        send(&mut socket, &reply, &[])?;
    }
}
