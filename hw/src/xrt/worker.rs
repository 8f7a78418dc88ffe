//! The process beside the host that holds the driver: takes requests from its standard input (a
//! socket), has the window as its standard output, and does what it is asked on a card.
//!
//! It ends when the host does. Whatever the driver does to this process is a lost device there.

use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::WINDOW_BYTES;
use super::link::FOLDER_PREFIX;
use super::wire::{Failure, Fault, Reply, Request, STEPS_MAX, Step, Word, receive, send};
use crate::shared::{Part, SharedMemory};

pub(crate) type Outcome<T> = std::result::Result<T, Failure>;

/// What a worker drives. Sizes and arguments were checked by the host.
pub(crate) trait Card {
    fn alloc(&mut self, slot: u64, bytes: usize) -> Outcome<()>;
    fn free(&mut self, slot: u64);
    /// From a part of the window into a buffer.
    fn write(&mut self, slot: u64, offset: usize, from: Part<'_>) -> Outcome<()>;
    /// From a buffer into a part of the window.
    fn read(&mut self, slot: u64, offset: usize, to: Part<'_>) -> Outcome<()>;
    fn prepare(&mut self, kernel: &str) -> Outcome<()>;
    /// Nanoseconds it took.
    fn launch(&mut self, kernel: &str, args: &[Word], timeout_ms: u32) -> Outcome<u64>;
    fn copy(&mut self, from: u64, to: u64, bytes: usize) -> Outcome<u64>;
}

/// Opens the card of a request, and says what its driver is.
pub(crate) type OpenCard =
    fn(card: u32, xclbin: &str, bank: u32) -> Outcome<(Box<dyn Card>, String)>;

/// The life of a worker process. Returns only when it could not begin.
pub(crate) fn serve(open: OpenCard) -> Result<()> {
    let socket = UnixStream::from(moved_away(std::io::stdin(), 0)?);
    let window = SharedMemory::map(moved_away(std::io::stdout(), 1)?.as_fd(), WINDOW_BYTES)?;
    let requests = read_on_a_thread(socket.try_clone()?)?;
    let watch = Watch::on_a_thread(socket.try_clone()?)?;
    let mut worker = Worker { window, card: None, open, watch };
    let mut socket = socket;
    for request in requests {
        let reply = worker.answer(request).unwrap_or_else(Reply::Failed);
        let is_final = matches!(&reply, Reply::Failed(Failure { fault: Fault::Lost, .. }));
        if send(&mut socket, &reply).is_err() || is_final {
            break;
        }
    }
    end()
}

/// Ends at once: drivers wait long, or for ever, when they are closed in order.
fn end() -> ! {
    // SAFETY: ends the process, whatever its threads are doing.
    unsafe { libc::_exit(0) }
}

/// Removes the folder that the host made for this process: a host that has gone does not.
fn leave_folder() {
    let own = std::env::current_dir().ok().filter(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.starts_with(FOLDER_PREFIX))
    });
    if let Some(folder) = own {
        // What cannot be removed stays among other temporary files.
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// The file of a standard stream, which others of this process cannot reach any more: vendors'
/// libraries print. What they print to standard output goes to standard error.
fn moved_away(stream: impl AsFd, number: i32) -> Result<OwnedFd> {
    let kept = stream.as_fd().try_clone_to_owned()?;
    let nothing = File::open("/dev/null")?;
    let instead = if number == 0 { nothing.as_raw_fd() } else { 2 };
    // SAFETY: both descriptors are open, and what stood at `number` has been kept.
    match unsafe { libc::dup2(instead, number) } {
        -1 => Err(Error::last_os_error()),
        _ => Ok(kept),
    }
}

/// Requests as they come. When the host has gone, the process ends, even if its driver hangs.
fn read_on_a_thread(mut socket: UnixStream) -> Result<mpsc::Receiver<Request>> {
    let (sender, requests) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("requests".to_string()).spawn(move || {
        while let Ok(request) = receive(&mut socket) {
            if sender.send(request).is_err() {
                break;
            }
        }
        leave_folder();
        end()
    })?;
    Ok(requests)
}

/// Ends the process when a kernel takes too long: drivers are known not to keep their own limits.
struct Watch {
    /// The kernel that runs, until when it may, and how long that is.
    running: Mutex<Option<(String, Instant, u32)>>,
    changed: Condvar,
}

impl Watch {
    fn on_a_thread(mut socket: UnixStream) -> Result<Arc<Self>> {
        let watch = Arc::new(Self { running: Mutex::new(None), changed: Condvar::new() });
        let watched = watch.clone();
        std::thread::Builder::new().name("watch".to_string()).spawn(move || {
            let late = watched.wait();
            // The host may have gone; then nobody wants to know.
            let _ = send(&mut socket, &Reply::Failed(Failure::new(Fault::Lost, late)));
            end()
        })?;
        Ok(watch)
    }

    /// Waits until a kernel is late, and says so.
    fn wait(&self) -> String {
        let mut running = self.locked();
        loop {
            let now = Instant::now();
            let woken = match &*running {
                None => self.changed.wait(running),
                Some((kernel, until, limit_ms)) if *until <= now => {
                    return format!("kernel {kernel} has not ended after {limit_ms} ms");
                }
                Some((_, until, _)) => {
                    let left = until.saturating_duration_since(now);
                    let woken = self.changed.wait_timeout(running, left);
                    woken
                        .map(|(running, _)| running)
                        .map_err(|error| PoisonError::new(error.into_inner().0))
                }
            };
            running = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn begin(&self, kernel: &str, limit_ms: u32) {
        let until = Instant::now() + Duration::from_millis(u64::from(limit_ms));
        *self.locked() = Some((kernel.to_string(), until, limit_ms));
        self.changed.notify_one();
    }

    fn end(&self) {
        *self.locked() = None;
    }

    fn locked(&self) -> MutexGuard<'_, Option<(String, Instant, u32)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    window: SharedMemory,
    card: Option<Box<dyn Card>>,
    open: OpenCard,
    watch: Arc<Watch>,
}

impl Worker {
    fn answer(&mut self, request: Request) -> Outcome<Reply> {
        if let Request::Open { card, xclbin, bank } = &request {
            let (card, driver) = (self.open)(*card, xclbin, *bank)?;
            self.card = Some(card);
            return Ok(Reply::Opened { driver });
        }
        let Some(card) = &mut self.card else {
            return Err(Failure::new(Fault::Failed, "no card is open"));
        };
        match request {
            Request::Open { .. } => {}
            Request::Alloc { slot, bytes } => card.alloc(slot, bytes)?,
            Request::Free { slots } => slots.into_iter().for_each(|slot| card.free(slot)),
            Request::Write { slot, offset, bytes } => {
                card.write(slot, offset, self.window.part(0, bytes))?;
            }
            Request::Read { slot, offset, bytes } => {
                card.read(slot, offset, self.window.part(0, bytes))?;
            }
            Request::Prepare { kernels } => {
                kernels.iter().try_for_each(|kernel| card.prepare(kernel))?;
            }
            Request::Run { steps, timeout_ms } => {
                let (window, watch) = (&self.window, &self.watch);
                let steps = steps.iter().take(STEPS_MAX);
                let times = steps.map(|step| run(card.as_mut(), window, watch, step, timeout_ms));
                return Ok(Reply::Times(times.collect::<Outcome<Vec<u64>>>()?));
            }
        }
        Ok(Reply::Done)
    }
}

/// Does one step; nanoseconds it took, where somebody asks for those.
fn run(
    card: &mut dyn Card,
    window: &SharedMemory,
    watch: &Watch,
    step: &Step,
    timeout_ms: u32,
) -> Outcome<u64> {
    match step {
        Step::Launch { kernel, args } => {
            watch.begin(kernel, timeout_ms);
            let ran = card.launch(kernel, args, timeout_ms);
            watch.end();
            ran
        }
        Step::Copy { from, to, bytes } => card.copy(*from, *to, *bytes),
        Step::Write { slot, at, bytes } => {
            card.write(*slot, 0, window.part(*at, *bytes)).map(|()| 0)
        }
        Step::Read { slot, at, bytes } => card.read(*slot, 0, window.part(*at, *bytes)).map(|()| 0),
    }
}
