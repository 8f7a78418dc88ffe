//! Looking for devices without touching their drivers in this process.
//!
//! A vendor's driver may take a hundred megabytes, hang, or end the process that loads it. A child
//! looks for devices and says what it found; here a driver is loaded at a device's first use.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use bytes::Bytes;

use crate::command::{BufferId, Command as Work, Kernel};
use crate::device::{Device, DeviceInfo, Error, Read, Result, Write};

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
        match self.ask() {
            Ok(text) => parse(&text),
            Err(reason) => {
                tracing::warn!(%reason, "looking for devices failed; only the CPU is used");
                Vec::new()
            }
        }
    }

    /// What the child says, or why it says nothing in time.
    pub fn ask(&self) -> std::result::Result<String, String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stderr(Stdio::null());
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

/// Opens a device at its first use.
pub(crate) type Open = Box<dyn Fn() -> Result<Arc<dyn Device>> + Send + Sync>;

/// A device that was found but not opened. One that does not open is tried again at each use.
pub struct Sleeping {
    info: DeviceInfo,
    open: Open,
    opened: Mutex<Option<Arc<dyn Device>>>,
}

impl Sleeping {
    pub(crate) fn new(info: DeviceInfo, open: Open) -> Self {
        Self { info, open, opened: Mutex::new(None) }
    }

    fn device(&self) -> Result<Arc<dyn Device>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = &*opened {
            return Ok(device.clone());
        }
        let device = (self.open)()?;
        *opened = Some(device.clone());
        Ok(device)
    }

    fn if_open(&self) -> Option<Arc<dyn Device>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Device for Sleeping {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, bytes: usize) -> Result<BufferId> {
        self.device()?.alloc(bytes)
    }

    fn lend(&self, data: &Bytes) -> Result<Option<BufferId>> {
        self.device()?.lend(data)
    }

    fn share(&self, buffer: BufferId) -> Result<Option<Bytes>> {
        self.device()?.share(buffer)
    }

    fn free(&self, buffer: BufferId) -> Result<()> {
        self.device()?.free(buffer)
    }

    fn write(&self, buffer: BufferId, offset: usize, data: &[u8]) -> Result<()> {
        self.device()?.write(buffer, offset, data)
    }

    fn read(&self, buffer: BufferId, offset: usize, data: &mut [u8]) -> Result<()> {
        self.device()?.read(buffer, offset, data)
    }

    fn prepare(&self, kernels: &[&'static Kernel]) -> Result<()> {
        self.device()?.prepare(kernels)
    }

    fn run(&self, commands: &[Work]) -> Result<()> {
        self.device()?.run(commands)
    }

    fn finish(&self) -> Result<Vec<u64>> {
        self.device()?.finish()
    }

    fn submit(
        &self,
        writes: &[Write<'_>],
        commands: &[Work],
        reads: &mut [Read<'_>],
    ) -> Result<Vec<u64>> {
        self.device()?.submit(writes, commands, reads)
    }

    fn circuit(&self) -> usize {
        self.if_open().map_or(0, |device| device.circuit())
    }

    fn load(&self, circuit: usize) -> Result<()> {
        self.device()?.load(circuit)
    }

    fn refusals(&self) -> Vec<Error> {
        self.if_open().map_or_else(Vec::new, |device| device.refusals())
    }
}

#[cfg(test)]
mod tests;
