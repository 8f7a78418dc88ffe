//! Looking for devices without touching their drivers in this process.
//!
//! A vendor's driver may take a hundred megabytes, hang, or end the process that loads it. A child
//! looks for devices and says what it found; here a driver is loaded at a device's first use, and
//! again when it has lost the device.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use bytes::Bytes;

use crate::command::{BufferId, Command as Work, Kernel};
use crate::device::{Device, DeviceInfo, Error, Kind, Read, Result, Tuned, Write};

/// How long the child may look.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);
/// The most that the child may say, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// The child that looks: a program that calls [`tell`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

/// In the child: finds the devices and writes them to `out` as JSON, one a line.
pub fn tell(config: &crate::Config, mut out: impl std::io::Write) -> std::io::Result<()> {
    let direct = crate::Config { probe: None, ..config.clone() };
    for device in crate::discover(&direct) {
        serde_json::to_writer(&mut out, device.info())?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

impl Probe {
    /// The accelerators that a child finds. A child that fails or takes too long finds none, with
    /// a warning: its driver would have done the same to this process.
    pub(crate) fn look(&self) -> Vec<DeviceInfo> {
        // Why a device is not used is a line of this process's own errors.
        match self.ask_with(Stdio::inherit()) {
            Ok(text) => parse(&text),
            Err(reason) => {
                tracing::warn!(%reason, "looking for devices failed; only the CPU is used");
                Vec::new()
            }
        }
    }

    /// What the child says, or why it says nothing in time.
    pub fn ask(&self) -> std::result::Result<String, String> {
        self.ask_with(Stdio::null())
    }

    fn ask_with(&self, errors: Stdio) -> std::result::Result<String, String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stderr(errors);
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
        let stdout = child.stdout.take().ok_or("the child has no output")?;
        let (sender, answer) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let read = stdout.take(ANSWER_BYTES_MAX).read_to_string(&mut text);
            // Whoever asked may have lost patience.
            let _ = sender.send(read.map(|_| text));
        });
        let text = answer.recv_timeout(LOOK_TIMEOUT);
        if text.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|e| e.to_string())?;
        let late = |_| format!("no answer within {} s", LOOK_TIMEOUT.as_secs());
        let text = text.map_err(late)?.map_err(|e| e.to_string())?;
        match status.success() {
            true => Ok(text),
            false => Err(format!("the child ended with {status}")),
        }
    }
}

fn parse(text: &str) -> Vec<DeviceInfo> {
    let read = |line: &str| match serde_json::from_str::<DeviceInfo>(line) {
        Ok(info) => Some(info),
        Err(error) => {
            tracing::warn!(%error, "a device is described in words that make no sense");
            None
        }
    };
    let found = text.lines().filter_map(read);
    found.filter(|info| info.kind.is_accelerator()).collect()
}

/// Opens a device.
pub type Open = Box<dyn Fn() -> Result<Arc<dyn Device>> + Send + Sync>;

/// A device that was found but not opened. One that does not open is tried again at each use. One
/// that was lost is opened anew at the next: what a driver has given up is of no use any more. But
/// for cards, which begin a worker anew themselves, with the circuit that they had.
pub struct Sleeping {
    info: DeviceInfo,
    open: Open,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    opened: Option<Arc<dyn Device>>,
    /// Buffers with lower numbers were lost, if they are not freed.
    lost_below: Option<BufferId>,
}

impl Sleeping {
    pub fn new(info: DeviceInfo, open: Open) -> Self {
        Self { info, open, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn device(&self) -> Result<Arc<dyn Device>> {
        let mut state = self.state();
        if let Some(device) = &state.opened {
            return Ok(device.clone());
        }
        let device = (self.open)()?;
        state.opened = Some(device.clone());
        Ok(device)
    }

    fn if_open(&self) -> Option<Arc<dyn Device>> {
        self.state().opened.clone()
    }

    fn ask<T>(&self, verb: impl FnOnce(&dyn Device) -> Result<T>) -> Result<T> {
        let device = self.device()?;
        let answer = verb(&*device);
        let mut state = self.state();
        let is_this = |opened: &mut Arc<dyn Device>| Arc::ptr_eq(opened, &device);
        match answer {
            Err(Error::Lost { .. }) if self.info.kind != Kind::Xrt => {
                // Another call may have lost it, and a third opened it anew.
                if state.opened.take_if(is_this).is_some() {
                    state.lost_below = Some(BufferId::fresh());
                }
                answer
            }
            // What was done went with the device: nobody finds a buffer that was made there.
            Ok(_) if !state.opened.as_mut().is_some_and(is_this) => Err(Error::Lost {
                device: self.info.id.clone(),
                detail: "another call lost it meanwhile".to_string(),
            }),
            _ => answer,
        }
    }

    /// Refuses buffers that were lost: that is not the caller's fault, as an unknown one would be.
    fn known(&self, buffers: impl IntoIterator<Item = BufferId>) -> Result<()> {
        let Some(below) = self.state().lost_below else { return Ok(()) };
        match buffers.into_iter().find(|buffer| *buffer < below) {
            None => Ok(()),
            Some(buffer) => Err(Error::Lost {
                device: self.info.id.clone(),
                detail: format!("buffer {} went with the device", buffer.0),
            }),
        }
    }
}

/// The buffers that commands name.
fn named(commands: &[Work]) -> impl Iterator<Item = BufferId> {
    commands.iter().flat_map(Work::touches).map(|(buffer, _)| buffer)
}

impl Device for Sleeping {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, bytes: usize) -> Result<BufferId> {
        self.ask(|device| device.alloc(bytes))
    }

    fn lend(&self, data: &Bytes) -> Result<Option<BufferId>> {
        self.ask(|device| device.lend(data))
    }

    fn share(&self, buffer: BufferId) -> Result<Option<Bytes>> {
        self.known([buffer])?;
        self.ask(|device| device.share(buffer))
    }

    fn free(&self, buffer: BufferId) -> Result<()> {
        match self.known([buffer]) {
            Ok(()) => self.ask(|device| device.free(buffer)),
            // It is gone already.
            Err(_) => Ok(()),
        }
    }

    fn write(&self, buffer: BufferId, offset: usize, data: &[u8]) -> Result<()> {
        self.known([buffer])?;
        self.ask(|device| device.write(buffer, offset, data))
    }

    fn read(&self, buffer: BufferId, offset: usize, data: &mut [u8]) -> Result<()> {
        self.known([buffer])?;
        self.ask(|device| device.read(buffer, offset, data))
    }

    fn prepare(&self, kernels: &[&'static Kernel]) -> Result<()> {
        self.ask(|device| device.prepare(kernels))
    }

    fn run(&self, commands: &[Work]) -> Result<()> {
        self.known(named(commands))?;
        self.ask(|device| device.run(commands))
    }

    fn finish(&self) -> Result<Vec<u64>> {
        self.ask(|device| device.finish())
    }

    fn submit(
        &self,
        writes: &[Write<'_>],
        commands: &[Work],
        reads: &mut [Read<'_>],
    ) -> Result<Vec<u64>> {
        let moved = writes.iter().map(|write| write.to).chain(reads.iter().map(|read| read.from));
        self.known(moved.chain(named(commands)))?;
        self.ask(|device| device.submit(writes, commands, reads))
    }

    fn circuit(&self) -> usize {
        self.if_open().map_or(0, |device| device.circuit())
    }

    fn load(&self, circuit: usize) -> Result<()> {
        self.ask(|device| device.load(circuit))
    }

    fn tuned(&self) -> Vec<Tuned> {
        self.if_open().map_or_else(Vec::new, |device| device.tuned())
    }

    fn refusals(&self) -> Vec<Error> {
        self.if_open().map_or_else(Vec::new, |device| device.refusals())
    }
}

#[cfg(test)]
mod tests;
