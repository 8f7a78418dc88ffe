//! FPGA cards through the vendor's runtime (XRT), each in a worker process of its own.
//!
//! A card runs the kernels that are in its circuit, an xclbin file, and no others. It may be given
//! several, of which it has one at a time: [`DeviceInfo::circuits`] names them. The driver is
//! opened in the worker only, a process group of its own: the runtime's emulation ends the whole
//! group when its device process dies, and a card that hangs can only be left by killing who waits
//! for it. Buffers' contents go through a window of shared memory, in which who has the turn, by
//! the requests and answers, is alone. A worker that died or was killed is a lost device; the next
//! call starts another.
//!
//! What is not here: making circuits (`hw/xilinx` does that with the vendor's compiler).

mod api;
mod card;
mod circuits;
pub mod emulation;
mod link;
pub mod rehearsal;
pub mod software;
mod wire;
mod worker;
pub mod xclbin;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::circuits::{Image, images};
use self::link::Link;
use self::wire::{Failure, Fault, Reply, Request, STEPS_MAX, Step, Word};
use self::worker::Outcome;
use self::xclbin::Mode;
use crate::command::{Arg, BufferId, Command, Kernel, Launch};
use crate::device::{
    Device, DeviceInfo, Error, Kind, Read, Result, Write, check_distinct, check_pending,
    check_range, submit_by_verbs,
};
use crate::pool::Pool;

/// Most cards that are looked for.
pub const CARDS_MAX: u32 = 16;
/// Contents of buffers cross in parts of this many bytes.
const WINDOW_BYTES: usize = 8 << 20;
/// Limits, unless said otherwise.
const KERNEL_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How cards are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// A program that calls [`serve_worker`] when started with these arguments.
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// The circuits that cards can be given. They begin with the first.
    pub xclbins: Vec<PathBuf>,
    /// What the worker's environment has beside this process's.
    pub environment: Vec<(String, OsString)>,
    /// How long a kernel may run before it counts as hung.
    pub kernel_timeout: Duration,
    /// How long the worker may take for anything else, except for loading the circuit.
    pub answer_timeout: Duration,
}

impl Setup {
    /// With the files that `EDGESCALE_XCLBIN` names, colons between; nothing where it names none.
    pub fn from_environment(program: PathBuf, arguments: Vec<String>) -> Option<Self> {
        let named = std::env::var_os("EDGESCALE_XCLBIN").filter(|paths| !paths.is_empty())?;
        // The worker stands in a folder of its own.
        let paths = std::env::split_paths(&named).map(std::path::absolute);
        Some(Self {
            program,
            arguments,
            xclbins: paths.collect::<std::io::Result<_>>().ok()?,
            environment: Vec::new(),
            kernel_timeout: KERNEL_TIMEOUT,
            answer_timeout: ANSWER_TIMEOUT,
        })
    }
}

/// In the worker: serves its host until that ends. Returns only when it could not begin.
pub fn serve_worker() -> std::io::Result<()> {
    worker::serve(card::open)
}

/// Every card that takes the first circuit; one that does not is left out with a warning.
pub fn discover(setup: &Setup) -> Vec<XrtDevice> {
    let mut found = Vec::new();
    let images = images(&setup.xclbins);
    // Emulation has as many devices as are asked for.
    let most = match images.first().map(|image| image.mode) {
        None => 0,
        Some(Mode::Hardware) => CARDS_MAX,
        Some(_) => 1,
    };
    for card in 0..most {
        match XrtDevice::open(setup, &images, card) {
            Ok(device) => found.push(device),
            Err(Failure { fault: Fault::Absent, detail }) => {
                tracing::debug!(%detail, "no further FPGA card");
                break;
            }
            Err(Failure { fault, detail }) => {
                tracing::warn!(reason = %detail, "FPGA card {card} cannot be used");
                if fault == Fault::Driver {
                    // The next one has the same.
                    break;
                }
            }
        }
    }
    found
}

/// Opens the device that was described so by another process.
pub fn open(info: &DeviceInfo, setup: &Setup) -> Result<XrtDevice> {
    let lost = |detail: String| Error::Lost { device: info.id.clone(), detail };
    let number = info.id.strip_prefix(Kind::Xrt.as_str()).and_then(|n| n.parse::<u32>().ok());
    let number = number.ok_or_else(|| lost("not the name of an FPGA card".to_string()))?;
    let opened = XrtDevice::open(setup, &images(&setup.xclbins), number);
    let device = opened.map_err(|failure| error(info, failure, 0))?;
    match device.info == *info {
        true => Ok(device),
        false => Err(lost(format!("{} stands in its place", device.info.name))),
    }
}

pub(crate) fn open_described(info: &DeviceInfo, config: &crate::Config) -> Result<XrtDevice> {
    match &config.xrt {
        Some(setup) => open(info, setup),
        None => {
            let detail = "FPGA cards are not used here".to_string();
            Err(Error::Lost { device: info.id.clone(), detail })
        }
    }
}

/// One card with its circuits.
pub struct XrtDevice {
    info: DeviceInfo,
    setup: Setup,
    card: u32,
    images: Vec<Image>,
    state: Mutex<State>,
}

struct State {
    /// Which circuit it has, or is to have with the next worker.
    circuit: usize,
    /// Nothing after the worker was lost, until the next call.
    link: Option<Link>,
    buffers: Pool<Slot>,
    /// Buffers with lower numbers were lost with a worker, if they are not freed.
    lost_below: BufferId,
    next_slot: u64,
    /// Slots that nobody has any more, still to be freed in the worker.
    dropped: Arc<Mutex<Vec<u64>>>,
    times_ns: Vec<u64>,
}

/// A buffer in the worker.
struct Slot {
    number: u64,
    dropped: Arc<Mutex<Vec<u64>>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        locked(&self.dropped).push(self.number);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// The worker has gone, and all buffers with it.
    fn lose(&mut self) {
        self.link = None;
        self.lost_below = self.buffers.clear();
        self.times_ns.clear();
        locked(&self.dropped).clear();
    }
}

/// Bytes of freed buffers that a card keeps for reuse.
const POOL_BYTES_MAX: usize = 256 << 20;

impl XrtDevice {
    fn open(setup: &Setup, images: &[Image], card: u32) -> Outcome<Self> {
        let nothing = || Failure::new(Fault::Failed, "there is no circuit for it");
        let first = images.first().ok_or_else(nothing)?;
        let (link, driver) = Link::open(setup, first, card)?;
        let info = DeviceInfo {
            id: format!("{}{card}", Kind::Xrt.as_str()),
            kind: Kind::Xrt,
            name: match first.platform.is_empty() {
                true => "FPGA card".to_string(),
                false => first.platform.clone(),
            },
            driver: format!("XRT {driver}").trim_end().to_string(),
            memory_bytes: images.iter().map(|image| image.memory_bytes).min().unwrap_or(0),
            compute_units: images.iter().map(Image::units).max().unwrap_or(1),
            on_cpu: false,
            circuits: images.iter().map(Image::described).collect(),
        };
        let state = State {
            circuit: 0,
            link: Some(link),
            buffers: Pool::new(POOL_BYTES_MAX),
            lost_below: BufferId(0),
            next_slot: 0,
            dropped: Arc::default(),
            times_ns: Vec::new(),
        };
        let (setup, images) = (setup.clone(), images.to_vec());
        Ok(Self { info, setup, card, images, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Asks the worker, and starts a new one first where the last was lost.
    fn ask(&self, state: &mut State, ask: Asking<'_>) -> Result<Reply> {
        let image = &self.images[state.circuit];
        let answer = self.linked(image, &mut state.link, &state.dropped).and_then(ask);
        answer.map_err(|failure| self.failed(state, failure, 0))
    }

    /// Asks for steps, as `ask` does it within a limit; nanoseconds of each step.
    fn ask_to_run(
        &self,
        state: &mut State,
        steps: Vec<Step>,
        mut ask: impl FnMut(&mut Link, &Request, Duration) -> Outcome<Reply>,
    ) -> Result<Vec<u64>> {
        let (limit, count) = (self.setup.kernel_timeout, steps.len());
        let timeout_ms = limit.as_millis().min(u128::from(u32::MAX)) as u32;
        let request = Request::Run { steps, timeout_ms };
        let kernels = limit.saturating_mul(count as u32);
        match self.ask(state, &mut |link| ask(link, &request, kernels))? {
            Reply::Times(ns) if ns.len() == count => Ok(ns),
            other => {
                let detail = format!("{other:?} for the times of {count} commands");
                Err(Error::Failed { device: self.info.id.clone(), detail })
            }
        }
    }

    fn failed(&self, state: &mut State, failure: Failure, bytes: usize) -> Error {
        if failure.fault == Fault::Lost {
            state.lose();
        }
        error(&self.info, failure, bytes)
    }

    fn linked<'a>(
        &self,
        image: &Image,
        link: &'a mut Option<Link>,
        dropped: &Mutex<Vec<u64>>,
    ) -> Outcome<&'a mut Link> {
        let open = match link.take() {
            Some(open) => open,
            None => Link::open(&self.setup, image, self.card)?.0,
        };
        let link = link.insert(open);
        let slots = std::mem::take(&mut *locked(dropped));
        if !slots.is_empty() {
            link.ask_soon(&Request::Free { slots })?;
        }
        Ok(link)
    }

    /// Writes a slot through the window, by parts.
    fn put(&self, state: &mut State, slot: u64, offset: usize, data: &[u8]) -> Result<()> {
        for (index, part) in data.chunks(WINDOW_BYTES).enumerate() {
            let offset = offset + index * WINDOW_BYTES;
            let request = Request::Write { slot, offset, bytes: part.len() };
            self.ask(state, &mut |link| {
                link.window.put(0, part);
                link.ask_soon(&request)
            })?;
        }
        Ok(())
    }

    fn get(&self, state: &mut State, slot: u64, offset: usize, data: &mut [u8]) -> Result<()> {
        for (index, part) in data.chunks_mut(WINDOW_BYTES).enumerate() {
            let offset = offset + index * WINDOW_BYTES;
            let request = Request::Read { slot, offset, bytes: part.len() };
            self.ask(state, &mut |link| {
                let reply = link.ask_soon(&request)?;
                link.window.take(0, part);
                Ok(reply)
            })?;
        }
        Ok(())
    }

    /// The error for a buffer that is not there: one that was lost is not the caller's fault.
    fn known(&self, state: &State, id: BufferId) -> Result<()> {
        match state.buffers.bytes_of(id) {
            None if id < state.lost_below => Err(Error::Lost {
                device: self.info.id.clone(),
                detail: format!("buffer {} went with its worker", id.0),
            }),
            _ => Ok(()),
        }
    }

    fn slot(&self, state: &State, id: BufferId, offset: usize, bytes: usize) -> Result<u64> {
        self.known(state, id)?;
        let held = state.buffers.held(&self.info, id)?;
        check_range(&self.info, id, held.bytes, offset, bytes)?;
        Ok(held.memory.number)
    }

    /// The kernel in the circuit, if it is there and takes what is given to it.
    fn built(&self, state: &State, kernel: &Kernel) -> Result<()> {
        let image = &self.images[state.circuit];
        let device = || self.info.id.clone();
        let stem = kernel.stem.to_string();
        match image.kernels.iter().find(|built| built.name == kernel.stem) {
            None => Err(Error::NoKernel { device: device(), kernel: stem }),
            Some(built) if built.takes(kernel.params) => Ok(()),
            Some(built) => {
                let names: Vec<&str> = built.arguments.iter().map(|a| a.name.as_str()).collect();
                let log = format!("in {} it takes {names:?}: link it anew", image.path.display());
                Err(Error::Build { device: device(), kernel: stem, log })
            }
        }
    }

    fn launch(&self, state: &State, launch: &Launch) -> Result<Step> {
        let buffers = launch.args.iter().filter_map(|arg| match arg {
            Arg::Buffer(id) => Some(*id),
            Arg::U32(_) => None,
        });
        buffers.into_iter().try_for_each(|id| self.known(state, id))?;
        launch.check(|id| state.buffers.bytes_of(id)).map_err(|detail| Error::BadLaunch {
            device: self.info.id.clone(),
            kernel: launch.kernel.stem.to_string(),
            detail,
        })?;
        self.built(state, launch.kernel)?;
        let word = |arg: &Arg| match arg {
            Arg::U32(number) => Ok(Word::Number(*number)),
            Arg::Buffer(id) => Ok(Word::Buffer(state.buffers.held(&self.info, *id)?.memory.number)),
        };
        let args = launch.args.iter().map(word).collect::<Result<Vec<Word>>>()?;
        Ok(Step::Launch { kernel: launch.kernel.stem.to_string(), args })
    }

    fn launches(&self, state: &State, command: &Command, steps: &mut Vec<Step>) -> Result<()> {
        for launch in command.launches() {
            steps.push(self.launch(state, launch)?);
        }
        Ok(())
    }

    /// The steps of commands, and how many each has.
    fn steps(&self, state: &State, commands: &[Command]) -> Result<(Vec<Step>, Vec<usize>)> {
        let (mut steps, mut counts) = (Vec::new(), Vec::new());
        for command in commands {
            let before = steps.len();
            match command {
                Command::Launch(_) | Command::Pair { .. } => {
                    self.launches(state, command, &mut steps)?;
                }
                // A circuit has none of the kernels that are written for chains.
                Command::Chain(chain) => {
                    let sizes = |id| state.buffers.bytes_of(id);
                    chain.check(sizes).map_err(|detail| Error::BadLaunch {
                        device: self.info.id.clone(),
                        kernel: chain.kernel.name.clone(),
                        detail,
                    })?;
                    self.launches(state, command, &mut steps)?;
                }
                Command::Copy { from, to, bytes } => {
                    check_distinct(&self.info, *from, *to)?;
                    let [from, to] =
                        [self.slot(state, *from, 0, *bytes)?, self.slot(state, *to, 0, *bytes)?];
                    steps.push(Step::Copy { from, to, bytes: *bytes });
                }
            }
            counts.push(steps.len() - before);
        }
        Ok((steps, counts))
    }
}

/// A question to a worker.
type Asking<'a> = &'a mut dyn FnMut(&mut Link) -> Outcome<Reply>;

impl Device for XrtDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, bytes: usize) -> Result<BufferId> {
        let mut state = self.state();
        let (number, dropped) = (state.next_slot, state.dropped.clone());
        state.next_slot += 1;
        let image = &self.images[state.circuit];
        let State { link, buffers, dropped: waiting, .. } = &mut *state;
        let mut failure = None;
        let made = buffers.alloc(&self.info, bytes, |capacity| {
            failure = None;
            let request = Request::Alloc { slot: number, bytes: capacity };
            let answer = self.linked(image, link, waiting).and_then(|link| link.ask_soon(&request));
            answer.map(|_| Slot { number, dropped: dropped.clone() }).map_err(|why| {
                failure = Some(why.clone());
                error(&self.info, why, bytes)
            })
        });
        match failure {
            Some(failure) => Err(self.failed(&mut state, failure, bytes)),
            None => made,
        }
    }

    fn free(&self, buffer: BufferId) -> Result<()> {
        let mut state = self.state();
        match self.known(&state, buffer) {
            Ok(()) => state.buffers.free(&self.info, buffer),
            // It is gone already.
            Err(_) => Ok(()),
        }
    }

    fn write(&self, buffer: BufferId, offset: usize, data: &[u8]) -> Result<()> {
        let mut state = self.state();
        let slot = self.slot(&state, buffer, offset, data.len())?;
        self.put(&mut state, slot, offset, data)
    }

    fn read(&self, buffer: BufferId, offset: usize, data: &mut [u8]) -> Result<()> {
        let mut state = self.state();
        let slot = self.slot(&state, buffer, offset, data.len())?;
        self.get(&mut state, slot, offset, data)
    }

    fn prepare(&self, kernels: &[&'static Kernel]) -> Result<()> {
        let mut state = self.state();
        kernels.iter().try_for_each(|kernel| self.built(&state, kernel))?;
        let kernels = kernels.iter().map(|kernel| kernel.stem.to_string()).collect();
        let request = Request::Prepare { kernels };
        self.ask(&mut state, &mut |link| link.ask_soon(&request)).map(drop)
    }

    fn run(&self, commands: &[Command]) -> Result<()> {
        let mut state = self.state();
        check_pending(&self.info, state.times_ns.len() + commands.len())?;
        let (steps, counts) = self.steps(&state, commands)?;
        let mut times = Vec::with_capacity(steps.len());
        for part in steps.chunks(STEPS_MAX) {
            times.extend(self.ask_to_run(&mut state, part.to_vec(), Link::ask_to_run)?);
        }
        state.times_ns.extend(sums(&counts, &times));
        Ok(())
    }

    fn circuit(&self) -> usize {
        self.state().circuit
    }

    fn load(&self, circuit: usize) -> Result<()> {
        self.change(&mut self.state(), circuit)
    }

    fn finish(&self) -> Result<Vec<u64>> {
        Ok(std::mem::take(&mut self.state().times_ns))
    }

    fn submit(
        &self,
        writes: &[Write<'_>],
        commands: &[Command],
        reads: &mut [Read<'_>],
    ) -> Result<Vec<u64>> {
        let mut state = self.state();
        let (launches, counts) = self.steps(&state, commands)?;
        let mut end = 0;
        let mut place = |bytes: usize| {
            end += bytes;
            end - bytes
        };
        let written: Vec<usize> = writes.iter().map(|write| place(write.data.len())).collect();
        let read: Vec<usize> = reads.iter().map(|read| place(read.data.len())).collect();
        let first = writes.len();
        let steps_len = first + launches.len() + reads.len();
        if end > WINDOW_BYTES || steps_len > STEPS_MAX {
            drop(state);
            return submit_by_verbs(self, writes, commands, reads);
        }
        let mut steps = Vec::with_capacity(steps_len);
        for (Write { to, data }, at) in writes.iter().zip(&written) {
            let slot = self.slot(&state, *to, 0, data.len())?;
            steps.push(Step::Write { slot, at: *at, bytes: data.len() });
        }
        let launches_len = launches.len();
        steps.extend(launches);
        for (Read { from, data }, at) in reads.iter().zip(&read) {
            let slot = self.slot(&state, *from, 0, data.len())?;
            steps.push(Step::Read { slot, at: *at, bytes: data.len() });
        }
        let times = self.ask_to_run(&mut state, steps, |link, request, limit| {
            for (Write { data, .. }, at) in writes.iter().zip(&written) {
                link.window.put(*at, data);
            }
            let reply = link.ask_to_run(request, limit)?;
            for (Read { data, .. }, at) in reads.iter_mut().zip(&read) {
                link.window.take(*at, data);
            }
            Ok(reply)
        })?;
        Ok(sums(&counts, &times[first..first + launches_len]))
    }
}

/// The times of commands, from those of their steps.
fn sums(counts: &[usize], times: &[u64]) -> Vec<u64> {
    let mut times = times.iter();
    counts.iter().map(|count| times.by_ref().take(*count).sum()).collect()
}

/// A worker's failure, sorted by what the caller can do.
fn error(info: &DeviceInfo, failure: Failure, bytes: usize) -> Error {
    let (device, detail) = (info.id.clone(), failure.detail);
    match failure.fault {
        Fault::NoMemory => Error::OutOfMemory { device, bytes },
        Fault::Driver => Error::Driver { device, detail },
        Fault::Failed => Error::Failed { device, detail },
        Fault::Absent | Fault::Lost => Error::Lost { device, detail },
    }
}

#[cfg(test)]
mod tests;
