//! How one device's thread of a process asks for its turns.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{HELD_MAX, Member, Ticket, Turns};

/// After a referee did not answer, how long it is not asked.
const AWAY_FOR: Duration = Duration::from_secs(5);
/// How long the referee may be silent: by then it has freed the device from whoever was stuck, for
/// each of those before.
const SILENCE_MAX: Duration = Duration::from_secs(3 * HELD_MAX.as_secs());

/// One device's place at the referee.
pub(crate) struct Seat {
    turns: Turns,
    device: String,
    /// A place that was taken with the end of the last turn, or the turn itself.
    ticket: Option<Ticket>,
    line: Option<BufReader<UnixStream>>,
    away_until: Option<Instant>,
}

impl Seat {
    pub fn new(turns: Turns, device: String) -> Self {
        Self { turns, device, ticket: None, line: None, away_until: None }
    }

    /// Waits for the turn.
    pub fn begin(&mut self) {
        match &self.turns {
            Turns::Alone => {}
            Turns::Own(referee, member) => {
                self.ticket = self.ticket.or_else(|| referee.want(&self.device, member));
                if let Some(ticket) = self.ticket {
                    referee.wait(&self.device, ticket);
                }
            }
            Turns::Asked(path, member) => {
                if self.away_until.is_some_and(|until| Instant::now() < until) {
                    return;
                }
                self.away_until = None;
                let line = match self.line.take() {
                    Some(line) => Ok(line),
                    None => connect(path, member, &self.device),
                };
                match line.and_then(|mut line| ask(&mut line).map(|()| line)) {
                    Ok(line) => self.line = Some(line),
                    Err(e) => {
                        let device = &self.device;
                        tracing::warn!(%device, error = %e, "no turns: the referee is away");
                        self.away_until = Some(Instant::now() + AWAY_FOR);
                    }
                }
            }
        }
    }

    /// Gives the device back; `more` says that this process will ask again at once.
    pub fn end(&mut self, more: bool) {
        match &self.turns {
            Turns::Alone => {}
            Turns::Own(referee, _) => {
                let ended = self.ticket.take();
                self.ticket = ended.and_then(|turn| referee.end(&self.device, turn, more));
            }
            Turns::Asked(..) => {
                let word: &[u8] = if more { b"more\n" } else { b"done\n" };
                // A line that is broken has given the turn back.
                self.line = self.line.take().filter(|line| line.get_ref().write_all(word).is_ok());
            }
        }
    }
}

fn connect(path: &Path, member: &Member, device: &str) -> io::Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    writeln!(stream, "{} {} {device}", member.name, member.share)?;
    Ok(BufReader::new(stream))
}

fn ask(line: &mut BufReader<UnixStream>) -> io::Result<()> {
    line.get_mut().write_all(b"want\n")?;
    let mut answer = String::new();
    line.read_line(&mut answer)?;
    match answer.as_str() {
        "go\n" => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.end(false);
    }
}
