//! An FPGA in software: the process that XRT's software emulation starts in place of a card. Its
//! circuit is a library of this machine, compiled from the same HLS sources as a real one.
//!
//! XRT listens on a socket; this process connects, loads the library, holds the card's memory and
//! the registers of its units, and runs kernels on threads, so that the host can ask how they do.
//! It can take its time, hang or die on purpose: see [`Behaviour`].

mod memory;
mod protobuf;
mod units;

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use self::memory::Memory;
use self::protobuf::{Message, Reply};
use self::units::Units;

/// Longer calls are refused: contents travel in parts of 8 MiB.
const BODY_BYTES_MAX: u64 = 64 << 20;
const CALL_HEADER_BYTES: usize = 14;
const CONNECT_TRIES: u32 = 500;
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

// Numbers of calls: `xcl_macros.h` of XRT. Their messages: `rpc_messages.proto`.
const CLOSE: u32 = 1;
const LOAD: u32 = 3;
const ALLOC: u32 = 4;
const FREE: u32 = 5;
const TO_DEVICE: u32 = 6;
const TO_HOST: u32 = 7;
const WRITE_CONTROL: u32 = 9;
const READ_CONTROL: u32 = 11;
const WRITE_REGISTER: u32 = 51;
const READ_REGISTER: u32 = 52;

/// How the card behaves, by the words of `EDGESCALE_SOFTWARE_FPGA`, parted by commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// `hang=KERNEL`: it never ends.
    pub hang: Option<String>,
    /// `die=KERNEL`: the process is killed when it starts.
    pub die: Option<String>,
    /// `load_ms=N`: how long loading a circuit takes.
    pub load: Duration,
    /// `mhz=N`: kernels take at least a clock of this for every 8 bytes of their longest buffer.
    pub mhz: Option<u64>,
}

impl Behaviour {
    /// Reads the words; the error names the one that makes no sense.
    pub fn parse(words: &str) -> std::result::Result<Self, String> {
        let mut behaviour = Self::default();
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let wrong = || format!("EDGESCALE_SOFTWARE_FPGA: \"{word}\" makes no sense");
            let (name, value) = word.split_once('=').ok_or_else(wrong)?;
            match name {
                "hang" => behaviour.hang = Some(value.to_string()),
                "die" => behaviour.die = Some(value.to_string()),
                "load_ms" => {
                    behaviour.load = Duration::from_millis(value.parse().map_err(|_| wrong())?);
                }
                "mhz" => {
                    let mhz = value.parse().ok().filter(|mhz| *mhz > 0);
                    behaviour.mhz = Some(mhz.ok_or_else(wrong)?);
                }
                _ => return Err(wrong()),
            }
        }
        Ok(behaviour)
    }
}

/// The life of the device process: connects to the host that started it and serves it until it
/// goes.
pub fn serve() -> Result<()> {
    let words = std::env::var("EDGESCALE_SOFTWARE_FPGA").unwrap_or_default();
    let behaviour = Behaviour::parse(&words).map_err(Error::other)?;
    let mut socket = connect()?;
    let mut card = SoftwareCard::new(behaviour);
    loop {
        let call = match receive(&mut socket) {
            Ok(call) => call,
            // The host has gone; so do we.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let is_last = call.number == CLOSE && Message::new(&call.body).number(3) == Some(1);
        let reply = card.answer(&call);
        send(&mut socket, &reply)?;
        if is_last {
            return Ok(());
        }
    }
}

fn connect() -> Result<UnixStream> {
    let name = |name: &str| {
        let missing = || Error::new(ErrorKind::NotFound, format!("{name} is not set"));
        std::env::var_os(name).ok_or_else(missing)
    };
    let path = PathBuf::from("/tmp").join(name("USER")?).join(name("EMULATION_SOCKETID")?);
    for _ in 0..CONNECT_TRIES {
        match UnixStream::connect(&path) {
            Ok(socket) => return Ok(socket),
            Err(_) => std::thread::sleep(CONNECT_PAUSE),
        }
    }
    UnixStream::connect(&path)
}

struct Call {
    number: u32,
    body: Vec<u8>,
}

/// A call: its length and number as fields of fixed width, then its message.
fn receive(socket: &mut impl Read) -> Result<Call> {
    let mut header = [0; CALL_HEADER_BYTES];
    socket.read_exact(&mut header)?;
    let header = Message::new(&header);
    let bytes = header.number(1).unwrap_or(0);
    let number = header.number(2).unwrap_or(0) as u32;
    if bytes > BODY_BYTES_MAX {
        return Err(Error::new(ErrorKind::InvalidData, format!("a call of {bytes} bytes")));
    }
    let mut body = vec![0; bytes as usize];
    socket.read_exact(&mut body)?;
    Ok(Call { number, body })
}

fn send(socket: &mut impl Write, reply: &Reply) -> Result<()> {
    let mut frame = vec![0x09];
    frame.extend((reply.bytes().len() as u64).to_le_bytes());
    frame.extend(reply.bytes());
    socket.write_all(&frame)
}

/// What the process holds between calls.
struct SoftwareCard {
    behaviour: Behaviour,
    memory: Memory,
    units: Units,
    /// For the files of buffers that the host maps.
    folder: PathBuf,
}

impl SoftwareCard {
    fn new(behaviour: Behaviour) -> Self {
        let units = Units::new(behaviour.clone());
        Self { behaviour, memory: Memory::default(), units, folder: std::env::temp_dir() }
    }

    fn answer(&mut self, call: &Call) -> Reply {
        let message = Message::new(&call.body);
        let number = |field| message.number(field).unwrap_or(0);
        match call.number {
            LOAD => self.load(&message),
            ALLOC => self.alloc(number(1), number(2), number(3) != 0),
            FREE => Reply::new().number(1, u64::from(self.memory.free(number(1)))),
            TO_DEVICE => {
                let data = message.bytes(4).unwrap_or_default();
                let bytes = (number(5) as usize).min(data.len());
                self.memory.write(number(3), &data[..bytes]);
                Reply::new().number(1, bytes as u64)
            }
            TO_HOST => {
                let data = self.memory.read(number(4), number(5).min(BODY_BYTES_MAX) as usize);
                Reply::new().number(1, data.len() as u64).field(2, &data)
            }
            WRITE_CONTROL => {
                self.units.write(number(2), message.bytes(4).unwrap_or_default(), &self.memory);
                Reply::new().number(1, 1)
            }
            READ_CONTROL => Reply::new().number(1, 1).field(2, &self.units.read(number(2))),
            WRITE_REGISTER => {
                let at = number(1).wrapping_add(number(2));
                self.units.write(at, message.bytes(3).unwrap_or_default(), &self.memory);
                Reply::new().number(1, 1)
            }
            READ_REGISTER => {
                let value = self.units.read(number(1).wrapping_add(number(2)));
                Reply::new().number(1, 1).field(2, &value)
            }
            // Closing, set-up of streams and what else there is want a yes and nothing more.
            _ => Reply::new().number(1, 1),
        }
    }

    fn load(&mut self, message: &Message<'_>) -> Reply {
        std::thread::sleep(self.behaviour.load);
        let path = |field| {
            let bytes = message.bytes(field).unwrap_or_default();
            PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
        };
        let (description, library) = (path(1), path(2));
        if !path(4).as_os_str().is_empty() {
            self.folder = path(4);
        }
        // The host asks for memory before it has a circuit, with nothing to load.
        let loaded = match description.as_os_str().is_empty() {
            true => Ok(()),
            false => self.units.load(&description, &library),
        };
        if let Err(reason) = &loaded {
            eprintln!("software FPGA: {}: {reason}", library.display());
        }
        Reply::new().number(1, u64::from(loaded.is_ok()))
    }

    fn alloc(&mut self, address: u64, bytes: u64, is_shared: bool) -> Reply {
        let done = Reply::new().number(1, u64::from(self.memory.alloc(address, bytes)));
        match is_shared {
            // The host keeps commands in such buffers; nobody reads them here.
            true => {
                let file = self.folder.join(format!("shared-{address:x}"));
                done.field(2, file.to_string_lossy().as_bytes())
            }
            false => done.field(2, b""),
        }
    }
}

#[cfg(test)]
mod tests;
