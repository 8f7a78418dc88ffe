//! The one trait behind which every compute device sits, and its one error.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::{BufferId, Command, Kernel};

/// Largest single buffer a device is asked for: a 16384 x 16384 NV12 frame.
pub const BUFFER_BYTES_MAX: usize = 16384 * 16384 * 3 / 2;

/// Most commands that may be handed to a device between two calls of [`Device::finish`].
pub const COMMANDS_PENDING_MAX: usize = 4096;

pub type Result<T> = std::result::Result<T, Error>;

/// A compute device: six verbs over buffers, and four that run work.
///
/// Calls from several threads are serialised by the device. [`conformance::check`] says what an
/// implementation must do.
///
/// [`conformance::check`]: crate::conformance::check
pub trait Device: Send + Sync {
    fn info(&self) -> &DeviceInfo;

    /// A buffer of at least `bytes` bytes, content unspecified: write before reading.
    /// Zero and more than [`BUFFER_BYTES_MAX`] bytes are refused.
    fn alloc(&self, bytes: usize) -> Result<BufferId>;

    /// A buffer that is `data` itself, where the device computes in host memory; `None` where
    /// bytes must be written to a buffer of its own. What writes such a buffer writes a copy.
    /// As many bytes are refused as by [`Device::alloc`].
    fn lend(&self, _data: &Bytes) -> Result<Option<BufferId>> {
        Ok(None)
    }

    /// What a buffer holds after all earlier commands, where that lies in host memory anyway;
    /// `None` where it must be read. It stays as it is, whatever becomes of the buffer.
    fn share(&self, _buffer: BufferId) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// Gives a buffer back. Work already handed to the device may still use it.
    fn free(&self, buffer: BufferId) -> Result<()>;

    /// Copies `data` into the buffer, from byte `offset` on.
    fn write(&self, buffer: BufferId, offset: usize, data: &[u8]) -> Result<()>;

    /// Fills `data` from the buffer, from byte `offset` on, after all earlier commands.
    fn read(&self, buffer: BufferId, offset: usize, data: &mut [u8]) -> Result<()>;

    /// Makes kernels ready to run, so that their first launch needs no compilation.
    fn prepare(&self, kernels: &[&'static Kernel]) -> Result<()>;

    /// Hands commands to the device, in order. On an error none or some of them have run.
    /// More than [`COMMANDS_PENDING_MAX`] without a [`Device::finish`] are refused.
    fn run(&self, commands: &[Command]) -> Result<()>;

    /// Waits for all work; nanoseconds that each command since the last call took, in order.
    fn finish(&self) -> Result<Vec<u64>>;

    /// Writes, runs commands, reads, in this order, and waits for all of it: a device that is far
    /// away is asked once. Nanoseconds that each command took, in order. On an error none or some
    /// of it has been done, and nothing of it is still under way.
    fn submit(
        &self,
        writes: &[Write<'_>],
        commands: &[Command],
        reads: &mut [Read<'_>],
    ) -> Result<Vec<u64>> {
        submit_by_verbs(self, writes, commands, reads)
    }

    /// Which of its [circuits](DeviceInfo::circuits) it has now, by number.
    fn circuit(&self) -> usize {
        0
    }

    /// Gives it another of its circuits. Buffers keep what they hold, unless it is lost on the way.
    /// Refused while work is pending.
    fn load(&self, circuit: usize) -> Result<()> {
        match circuit {
            0 => Ok(()),
            _ => Err(no_circuit(self.info(), circuit)),
        }
    }

    /// How kernels were found to run best here, where that was looked for.
    fn tuned(&self) -> Vec<Tuned> {
        Vec::new()
    }

    /// Why kernels of chains do not build here: the launches of those run one by one.
    fn refusals(&self) -> Vec<Error> {
        Vec::new()
    }
}

/// How a kernel runs over so many bytes, to the next lower power of two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuned {
    pub kernel: String,
    pub bytes_log2: u32,
    /// Items of a group.
    pub group: usize,
    /// Neighbours that an item does at once.
    pub span: usize,
}

/// Bytes for the start of a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    pub to: BufferId,
    pub data: &'a [u8],
}

/// Room for what the start of a buffer holds.
#[derive(Debug)]
pub struct Read<'a> {
    pub from: BufferId,
    pub data: &'a mut [u8],
}

/// [`Device::submit`] by the other verbs.
pub(crate) fn submit_by_verbs<D: Device + ?Sized>(
    device: &D,
    writes: &[Write<'_>],
    commands: &[Command],
    reads: &mut [Read<'_>],
) -> Result<Vec<u64>> {
    for Write { to, data } in writes {
        device.write(*to, 0, data)?;
    }
    let mut times_ns = Vec::new();
    if !commands.is_empty() {
        let ran = device.run(commands);
        // What was handed over before an error is not left pending.
        let finished = device.finish();
        ran?;
        times_ns = finished?;
    }
    for Read { from, data } in reads {
        device.read(*from, 0, data)?;
    }
    Ok(times_ns.split_off(times_ns.len().saturating_sub(commands.len())))
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// `cpu0`, `opencl0`, …: unique on this machine, stable while the machine is unchanged.
    pub id: String,
    pub kind: Kind,
    /// As the vendor names it.
    pub name: String,
    /// Driver and its version.
    pub driver: String,
    pub memory_bytes: u64,
    pub compute_units: u32,
    /// It computes on the host's own processor, whatever the interface.
    #[serde(default)]
    pub on_cpu: bool,
    /// Where it cannot take any kernel: what it can be given, one at a time. A circuit is not
    /// compiled while a job waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub circuits: Vec<Circuit>,
}

/// Kernels that a device has together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circuit {
    pub name: String,
    /// By stem.
    pub kernels: Vec<String>,
}

impl Circuit {
    /// Whether it has all of these.
    pub fn has<'a>(&self, kernels: impl IntoIterator<Item = &'a Kernel>) -> bool {
        kernels.into_iter().all(|kernel| self.kernels.iter().any(|stem| stem == kernel.stem))
    }
}

impl DeviceInfo {
    /// Whether the device can run this kernel, with one of its circuits.
    pub fn runs(&self, kernel: &Kernel) -> bool {
        self.circuits.is_empty() || self.circuits.iter().any(|circuit| circuit.has([kernel]))
    }

    /// Whether it can run all of these with a circuit that it has loaded.
    pub fn runs_with<'a>(
        &self,
        circuit: usize,
        kernels: impl IntoIterator<Item = &'a Kernel>,
    ) -> bool {
        self.circuits.is_empty()
            || self.circuits.get(circuit).is_some_and(|circuit| circuit.has(kernels))
    }
}

/// Through which interface a device is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Cpu,
    OpenCl,
    Cuda,
    Xrt,
    /// The interpreter of tests, see [`ptx`](crate::ptx).
    Ptx,
    /// An encoder of video that is not ours; kernels run beside it as on [`Kind::Cpu`].
    Encoder,
}

impl Kind {
    /// The name used in device ids and listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Cpu => "cpu",
            Kind::OpenCl => "opencl",
            Kind::Cuda => "cuda",
            Kind::Xrt => "xrt",
            Kind::Ptx => "ptx",
            Kind::Encoder => "encoder",
        }
    }

    /// Its kernels run on anything but the CPU of the host itself.
    pub fn is_accelerator(self) -> bool {
        !matches!(self, Kind::Cpu | Kind::Encoder)
    }
}

/// Why a device did not do what it was asked, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// This call failed; another device, or this one later, may do it.
    #[error("device {device}: {detail}")]
    Failed { device: String, detail: String },
    /// The device is gone with all its buffers; only others can help.
    #[error("device {device} is lost: {detail}")]
    Lost { device: String, detail: String },
    /// Free something, or go to another device. No bytes where a driver wanted some for itself.
    #[error("device {device}: no memory{}", wanted(.bytes))]
    OutOfMemory { device: String, bytes: usize },
    /// The command makes no sense on any device.
    #[error("device {device}: launch of {kernel}: {detail}")]
    BadLaunch { device: String, kernel: String, detail: String },
    /// A buffer is unknown, or an access passes its end.
    #[error("device {device}: buffer {buffer}: {detail}")]
    BadBuffer { device: String, buffer: u64, detail: String },
    /// The kernel does not compile for this device.
    #[error("device {device}: kernel {kernel} does not build: {log}")]
    Build { device: String, kernel: String, log: String },
    /// The device cannot be given this kernel; others have it.
    #[error("device {device}: its circuit has no kernel {kernel}")]
    NoKernel { device: String, kernel: String },
    /// The driver is not one that this program can use.
    #[error("device {device}: driver: {detail}")]
    Driver { device: String, detail: String },
}

impl Error {
    /// Whether the fault lies in the request, so that every device would refuse it.
    pub fn is_callers(&self) -> bool {
        matches!(self, Error::BadLaunch { .. } | Error::BadBuffer { .. })
    }
}

fn wanted(bytes: &usize) -> String {
    if *bytes == 0 { String::new() } else { format!(" for {bytes} bytes") }
}

/// The end of an access, when it lies inside a buffer of `size` bytes.
pub(crate) fn check_range(
    device: &DeviceInfo,
    buffer: BufferId,
    size: usize,
    offset: usize,
    len: usize,
) -> Result<usize> {
    offset.checked_add(len).filter(|end| *end <= size).ok_or_else(|| Error::BadBuffer {
        device: device.id.clone(),
        buffer: buffer.0,
        detail: format!("{len} bytes at {offset} pass its {size} bytes"),
    })
}

/// Refuses sizes that no buffer may have.
pub(crate) fn check_alloc(device: &DeviceInfo, bytes: usize) -> Result<()> {
    if bytes == 0 || bytes > BUFFER_BYTES_MAX {
        return Err(Error::OutOfMemory { device: device.id.clone(), bytes });
    }
    Ok(())
}

/// Refuses to copy a buffer onto itself.
pub(crate) fn check_distinct(device: &DeviceInfo, from: BufferId, to: BufferId) -> Result<()> {
    if from == to {
        let detail = "copied onto itself".to_string();
        return Err(Error::BadBuffer { device: device.id.clone(), buffer: to.0, detail });
    }
    Ok(())
}

/// The error for a circuit that a device cannot be given.
pub(crate) fn no_circuit(device: &DeviceInfo, circuit: usize) -> Error {
    let detail = format!("no circuit {circuit}, there are {}", device.circuits.len());
    Error::Failed { device: device.id.clone(), detail }
}

/// Refuses commands beyond [`COMMANDS_PENDING_MAX`].
pub(crate) fn check_pending(device: &DeviceInfo, pending: usize) -> Result<()> {
    if pending > COMMANDS_PENDING_MAX {
        let detail = format!("{pending} commands are pending, finish first");
        return Err(Error::Failed { device: device.id.clone(), detail });
    }
    Ok(())
}

/// The error for an id that the device does not hold.
pub(crate) fn unknown_buffer(device: &DeviceInfo, buffer: BufferId) -> Error {
    let detail = "no such buffer".to_string();
    Error::BadBuffer { device: device.id.clone(), buffer: buffer.0, detail }
}
