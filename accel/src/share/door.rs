//! Where other processes ask the referee: a local socket that only its owner reaches.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Member, Referee, SHARE_MAX, Ticket};

/// How many devices of other processes may ask; more are turned away, and go without turns.
const CALLERS_MAX: usize = 128;
/// The longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = 256;

/// A referee's open door; dropping it shuts it.
pub struct Door {
    path: PathBuf,
    shut: Arc<AtomicBool>,
}

impl Door {
    /// Listens at a path, in place of whoever did before.
    pub fn open(referee: Arc<Referee>, path: &Path) -> io::Result<Self> {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let shut = Arc::new(AtomicBool::new(false));
        let told = shut.clone();
        let thread = std::thread::Builder::new().name("referee".into());
        thread.spawn(move || welcome(&referee, &listener, &told))?;
        Ok(Self { path: path.to_owned(), shut })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shut.store(true, Ordering::Release);
        // One more caller, so that the thread looks and ends. Nobody waits for it: where the path
        // is gone, or another listens there by now, it never hears of this.
        let _ = UnixStream::connect(&self.path);
    }
}

fn welcome(referee: &Arc<Referee>, listener: &UnixListener, shut: &AtomicBool) {
    let callers = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if shut.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if callers.fetch_add(1, Ordering::AcqRel) >= CALLERS_MAX {
            callers.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (referee, left) = (referee.clone(), callers.clone());
        let spawned = std::thread::Builder::new().name("referee-line".into()).spawn(move || {
            let _ = attend(&referee, stream);
            left.fetch_sub(1, Ordering::AcqRel);
        });
        if spawned.is_err() {
            callers.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// What one caller has, given back however its line ends.
struct Caller<'a> {
    referee: &'a Referee,
    device: String,
    member: Member,
    ticket: Option<Ticket>,
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.referee.leave(&self.device, ticket);
        }
    }
}

fn attend(referee: &Referee, stream: UnixStream) -> io::Result<()> {
    let mut answers = stream.try_clone()?;
    let mut lines = BufReader::new(stream);
    let hello = line(&mut lines)?;
    let words: Vec<&str> = hello.split(' ').collect();
    let [name, share, device] = words[..] else { return Err(io::ErrorKind::InvalidData.into()) };
    let share = share.parse().unwrap_or(1).clamp(1, SHARE_MAX);
    let member = Member { name: name.to_owned(), share };
    let mut caller = Caller { referee, device: device.to_owned(), member, ticket: None };
    loop {
        let (device, member) = (&caller.device, &caller.member);
        match line(&mut lines)?.as_str() {
            "want" => {
                caller.ticket = caller.ticket.or_else(|| referee.want(device, member));
                if let Some(ticket) = caller.ticket {
                    referee.wait(device, ticket);
                }
                answers.write_all(b"go\n")?;
            }
            word @ ("done" | "more") => {
                let ended = caller.ticket.take();
                let more = word == "more";
                caller.ticket = ended.and_then(|turn| referee.end(&caller.device, turn, more));
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn line(lines: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut text = String::new();
    lines.take(LINE_BYTES_MAX).read_line(&mut text)?;
    match text.strip_suffix('\n') {
        Some(text) => Ok(text.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
