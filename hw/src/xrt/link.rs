//! The worker process as the host sees it: started in a process group of its own, asked one thing
//! at a time, and killed with all its group when it does not answer.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::circuits::Image;
use super::wire::{Failure, Fault, Reply, Request, receive, send};
use super::worker::Outcome;
use super::{Setup, WINDOW_BYTES};
use crate::shared::SharedMemory;

/// How long a worker may take to load a circuit.
const OPEN_TIMEOUT: Duration = Duration::from_secs(90);
/// Of what driver and worker print, the last bytes are kept for errors.
const PRINTED_BYTES_MAX: usize = 2048;
/// How long the last words of a worker that has gone are waited for: a process that left its group
/// may keep them open.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// Where XRT looks for its parts when nobody says otherwise.
const HOMES: [&str; 2] = ["/opt/xilinx/xrt", "/opt/amd/xrt"];
/// Where Debian puts the same parts, and others. Those of another processor are no use.
pub(super) const LIBRARIES: [&str; 2] = [DEBIAN, "/usr/lib64"];
const DEBIAN: &str = match cfg!(target_arch = "aarch64") {
    true => "/usr/lib/aarch64-linux-gnu",
    false => "/usr/lib/x86_64-linux-gnu",
};

/// A worker with its open card. Dropping it kills the group.
pub(crate) struct Link {
    child: Child,
    socket: UnixStream,
    pub window: SharedMemory,
    printed: Arc<Mutex<VecDeque<u8>>>,
    /// Ends when all that the group printed has been read.
    all_read: Receiver<()>,
    /// Goes after the processes that stand in it.
    _folder: Folder,
    answer_timeout: Duration,
}

impl Link {
    /// Starts a worker and opens a card in it; with the driver's version.
    pub(super) fn open(setup: &Setup, image: &Image, card: u32) -> Outcome<(Self, String)> {
        let (xclbin, bank) = (image.path.to_string_lossy().into_owned(), image.bank);
        let failed = |error: std::io::Error| {
            let text = format!("start {}: {error}", setup.program.display());
            Failure::new(Fault::Driver, text)
        };
        let mut link = Self::start(setup).map_err(failed)?;
        match link.ask(&Request::Open { card, xclbin, bank }, OPEN_TIMEOUT)? {
            Reply::Opened { driver } => Ok((link, driver)),
            other => Err(Failure::new(Fault::Lost, format!("{other:?} for an open card"))),
        }
    }

    fn start(setup: &Setup) -> std::io::Result<Self> {
        let (window, file) = SharedMemory::create(c"edgescale-window", WINDOW_BYTES)?;
        let (socket, theirs) = UnixStream::pair()?;
        let folder = Folder::create()?;
        let mut command = Command::new(&setup.program);
        command.args(&setup.arguments).current_dir(&folder.0).process_group(0);
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::from(file));
        command.stderr(Stdio::piped());
        // Emulation wants to know who it works for, and real cards do not mind.
        if std::env::var_os("USER").is_none() {
            command.env("USER", "edgescale");
        }
        if std::env::var_os("XILINX_XRT").is_none()
            && let Some(home) = home(&folder.0)
        {
            command.env("XILINX_XRT", home);
        }
        command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn()?;
        let printed = Arc::new(Mutex::new(VecDeque::new()));
        let (reading, all_read) = channel();
        if let Some(stderr) = child.stderr.take() {
            let printed = printed.clone();
            // Ends when all of the group have gone.
            std::thread::spawn(move || {
                keep_last(stderr, &printed);
                drop(reading);
            });
        }
        let answer_timeout = setup.answer_timeout;
        Ok(Self { child, socket, window, printed, all_read, _folder: folder, answer_timeout })
    }

    /// Asks, and waits for the answer. After a failure that is [`Fault::Lost`] the link is useless.
    pub(crate) fn ask(&mut self, request: &Request, timeout: Duration) -> Outcome<Reply> {
        let answer = self.socket.set_read_timeout(Some(timeout)).and_then(|()| {
            self.socket.set_write_timeout(Some(timeout))?;
            send(&mut self.socket, request)?;
            receive::<Reply>(&mut self.socket)
        });
        match answer {
            Ok(Reply::Failed(failure)) => Err(self.with_words(failure)),
            Ok(reply) => Ok(reply),
            Err(error) => {
                let silent = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                let detail = match silent {
                    true => format!("its worker has not answered for {} s", timeout.as_secs_f32()),
                    false => {
                        let ended = how_it_ended(self.end());
                        // Nothing is ever sent: this waits for the end.
                        let _ = self.all_read.recv_timeout(LAST_WORDS_TIMEOUT);
                        format!("its worker has gone ({ended})")
                    }
                };
                Err(self.with_words(Failure::new(Fault::Lost, detail)))
            }
        }
    }

    /// Asks for something that takes no time of kernels.
    pub(crate) fn ask_soon(&mut self, request: &Request) -> Outcome<Reply> {
        self.ask(request, self.answer_timeout)
    }

    /// Asks for kernels that may take this long in all.
    pub(crate) fn ask_to_run(&mut self, request: &Request, kernels: Duration) -> Outcome<Reply> {
        self.ask(request, self.answer_timeout + kernels)
    }

    /// Adds what the driver printed last.
    fn with_words(&self, failure: Failure) -> Failure {
        let printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = printed.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let said: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        match said.last() {
            Some(last) => {
                Failure { detail: format!("{}; it said: {last}", failure.detail), ..failure }
            }
            None => failure,
        }
    }

    fn end(&mut self) -> Option<ExitStatus> {
        if let Ok(group) = i32::try_from(self.child.id()) {
            // SAFETY: the child was started as the leader of a group of its own, and has not been
            // waited for, so that its number is still its own.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        self.child.wait().ok()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.end();
    }
}

fn how_it_ended(status: Option<ExitStatus>) -> String {
    status.map_or("nobody knows how".to_string(), |status| status.to_string())
}

/// Where XRT's parts are, made up of links where they lie apart.
fn home(folder: &Path) -> Option<PathBuf> {
    if let Some(home) = HOMES.iter().map(Path::new).find(|home| home.join("lib").is_dir()) {
        return Some(home.to_owned());
    }
    let has_library = |place: &&&str| Path::new(place).join("libxrt_coreutil.so.2").exists();
    let libraries = LIBRARIES.iter().find(has_library)?;
    let home = folder.join("xrt");
    std::fs::create_dir(&home).and_then(|()| symlink(libraries, home.join("lib"))).ok()?;
    Some(home)
}

fn keep_last(mut from: impl Read, printed: &Mutex<VecDeque<u8>>) {
    let mut part = [0; 1024];
    while let Ok(bytes) = from.read(&mut part) {
        if bytes == 0 {
            break;
        }
        tracing::debug!(text = %String::from_utf8_lossy(&part[..bytes]), "an XRT worker says");
        let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
        printed.extend(&part[..bytes]);
        let surplus = printed.len().saturating_sub(PRINTED_BYTES_MAX);
        printed.drain(..surplus);
    }
}

/// How the names of workers' folders begin.
pub(super) const FOLDER_PREFIX: &str = "edgescale-xrt-";

/// A folder that is the worker's own: drivers write files where they stand.
struct Folder(PathBuf);

impl Folder {
    fn create() -> std::io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{FOLDER_PREFIX}{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, folder = %self.0.display(), "a worker's folder stays");
        }
    }
}
