//! OpenCL devices: one context and one in-order queue each, driven through the system's loader.
//!
//! The loader is opened at run time; without it, or without a driver, there is no such device.
//! Kernels run with one of few group sizes and a padded grid, because drivers that specialise on
//! the group size would compile anew for every frame geometry.

mod errors;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opencl3::command_queue::{CL_QUEUE_PROFILING_ENABLE, CommandQueue};
use opencl3::context::Context;
use opencl3::device::{CL_DEVICE_TYPE_ALL, CL_DEVICE_TYPE_CPU, Device as ClDevice};
use opencl3::error_codes::ClError;
use opencl3::event::Event;
use opencl3::kernel::Kernel as ClKernel;
use opencl3::memory::{Buffer, CL_MEM_READ_WRITE, ClMem};
use opencl3::platform::{Platform, get_platforms};
use opencl3::program::Program;
use opencl3::types::{CL_BLOCKING, CL_NON_BLOCKING, cl_device_id};

use self::errors::{check_version, failed, no_memory, shortened};
use crate::Config;
use crate::cache::Cache;
use crate::chain::{Chain, Ready};
use crate::command::{Arg, BufferId, Command, Grid, Kernel, Launch};
use crate::device::{
    Device, DeviceInfo, Error, Kind, Read, Result, Tuned, Write, check_distinct, check_pending,
    check_range,
};
use crate::pool::{Held, Pool};
use crate::tuning::{PARTS, Size, Trial, Tuner, Variants};

/// Work-items of a group on a CPU driven through OpenCL: with one, the kernels give it a whole row.
const GROUP_SIZES_CPU: [usize; 2] = [1, 64];
/// Work-items of a group on any other device.
const GROUP_SIZES: [usize; 3] = [64, 128, 256];
/// The same where items do several neighbours at once: as many as a vector of a CPU has lanes.
const SPANNED_CPU: Size = Size { group: 1, span: 16 };
const SPANNED: Size = Size { group: 64, span: 4 };

/// What every kernel source starts with.
const PREAMBLE: &str = include_str!("opencl/prelude.cl");

/// Every OpenCL device that can be opened; what cannot is left out with a warning.
pub fn discover(config: &Config) -> Vec<OpenClDevice> {
    let _looking = looking();
    let open = |(number, (platform, id))| {
        let opened = OpenClDevice::open(&platform, id, number, config);
        opened.inspect_err(|error| tracing::warn!(%error, "an OpenCL device cannot be used")).ok()
    };
    listed().into_iter().enumerate().filter_map(open).collect()
}

/// Opens the device that was described so by another process.
pub fn open(info: &DeviceInfo, config: &Config) -> Result<OpenClDevice> {
    let _looking = looking();
    let lost = |detail: &str| Error::Lost { device: info.id.clone(), detail: detail.to_string() };
    let number = info.id.strip_prefix(Kind::OpenCl.as_str()).and_then(|n| n.parse::<usize>().ok());
    let number = number.ok_or_else(|| lost("not the name of an OpenCL device"))?;
    let place = listed().into_iter().nth(number).ok_or_else(|| lost("it is not there any more"))?;
    let device = OpenClDevice::open(&place.0, place.1, number, config)?;
    match device.info == *info {
        true => Ok(device),
        false => Err(lost(&format!("{} stands in its place", device.info.name))),
    }
}

/// One thread looks at a time: a driver that is just starting shows others devices without names
/// (PoCL 3.1 does, and ends the process when they are asked for).
fn looking() -> MutexGuard<'static, ()> {
    static LOOKING: Mutex<()> = Mutex::new(());
    LOOKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All devices in the loader's order, which numbers them.
fn listed() -> Vec<(Platform, cl_device_id)> {
    let platforms = get_platforms().unwrap_or_else(|error| {
        tracing::debug!(%error, "no OpenCL platform");
        Vec::new()
    });
    let devices = |platform: Platform| {
        let ids = platform.get_devices(CL_DEVICE_TYPE_ALL).unwrap_or_default();
        ids.into_iter().map(move |id| (platform, id))
    };
    platforms.into_iter().flat_map(devices).collect()
}

/// One device of one OpenCL platform.
pub struct OpenClDevice {
    info: DeviceInfo,
    cache: Cache,
    state: Mutex<State>,
}

struct State {
    // Fields are dropped in this order: what was made from the context goes before it.
    kernels: HashMap<&'static str, Variants<ClKernel>>,
    written: Ready<Variants<ClKernel>>,
    tuner: Tuner,
    pending: Vec<Done>,
    buffers: Pool<Buffer<u8>>,
    queue: CommandQueue,
    context: Context,
}

/// The event of a launch or copy, and what its time is for.
type Ran = (Event, Option<Trial>);

/// What was run for a command, and what its time altogether is for.
struct Done {
    ran: Vec<Ran>,
    trial: Option<Trial>,
}

impl OpenClDevice {
    fn open(
        platform: &Platform,
        id: cl_device_id,
        number: usize,
        config: &Config,
    ) -> Result<OpenClDevice> {
        let named = format!("{}{number}", Kind::OpenCl.as_str());
        let failed = |error: ClError| failed(&named, "open", error);
        let device = ClDevice::new(id);
        check_version(&named, &device.version().map_err(failed)?)?;
        let context = Context::from_device(&device).map_err(failed)?;
        let queue = open_queue(&context, id).map_err(failed)?;
        let info = describe(platform, &device, named.clone()).map_err(failed)?;
        let most = device.max_work_group_size().map_err(failed)?;
        let (sizes, spanned) = match info.on_cpu {
            true => (&GROUP_SIZES_CPU[..], SPANNED_CPU),
            false => (&GROUP_SIZES[..], SPANNED),
        };
        let cache = Cache::new(config.cache_dir.clone(), &info, "clbin");
        let spanned = Size { group: spanned.group.min(most.max(1)), ..spanned };
        let tuner = Tuner::of(config, &fitting(sizes, most), spanned, &info);
        let state = State {
            kernels: HashMap::new(),
            written: Ready::new(),
            tuner,
            pending: Vec::new(),
            buffers: Pool::new(config.pool_bytes_max),
            queue,
            context,
        };
        Ok(Self { info, cache, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, doing: &str) -> impl FnOnce(ClError) -> Error {
        move |error| failed(&self.info.id, doing, error)
    }

    fn held<'a>(&self, state: &'a State, id: BufferId) -> Result<&'a Held<Buffer<u8>>> {
        state.buffers.held(&self.info, id)
    }

    /// The kernel of this name with groups of this size.
    fn build(&self, context: &Context, name: &str, text: &str, size: usize) -> Result<ClKernel> {
        let program = self.program(context, name, &whole(text), &build_options(size))?;
        ClKernel::create(&program, name).map_err(self.failed("load kernel"))
    }

    /// From the binary kept on disk where there is one that fits.
    fn program(
        &self,
        context: &Context,
        name: &str,
        source: &str,
        options: &str,
    ) -> Result<Program> {
        if let Some(binary) = self.cache.load(source, options) {
            match build_binary(context, &binary, options) {
                Ok(program) => return Ok(program),
                Err(error) => {
                    tracing::warn!(%error, kernel = name, "kept kernel binary is refused");
                }
            }
        }
        let program = self.build_source(context, name, source, options)?;
        match program.get_binaries() {
            Ok(binaries) => {
                self.cache.store(source, options, binaries.first().map_or(&[], Vec::as_slice));
            }
            Err(error) => tracing::debug!(%error, "no kernel binary to keep"),
        }
        Ok(program)
    }

    fn build_source(
        &self,
        context: &Context,
        name: &str,
        source: &str,
        options: &str,
    ) -> Result<Program> {
        let mut program =
            Program::create_from_source(context, source).map_err(self.failed("create program"))?;
        let id = context.default_device();
        program.build(&[id], options).map_err(|error| Error::Build {
            device: self.info.id.clone(),
            kernel: name.to_string(),
            log: program.get_build_log(id).map_or_else(|_| error.to_string(), shortened),
        })?;
        Ok(program)
    }

    /// A kernel, compiled if it is not yet.
    fn loaded<'a>(
        &self,
        state: &'a mut State,
        kernel: &'static Kernel,
    ) -> Result<&'a mut Variants<ClKernel>> {
        let State { kernels, tuner, context, .. } = state;
        match kernels.entry(kernel.stem) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let first = self.build(context, kernel.stem, kernel.opencl, tuner.first())?;
                tuner.read(kernel.stem, kernel.opencl);
                let source = whole(kernel.opencl);
                Ok(place.insert(Variants::new(tuner, kernel.stem, &source, first)))
            }
        }
    }

    fn launch(&self, state: &mut State, launch: &Launch) -> Result<Ran> {
        launch
            .check(|id| state.buffers.bytes_of(id))
            .map_err(|detail| self.bad(launch.kernel.stem, detail))?;
        self.loaded(state, launch.kernel)?;
        let Launch { kernel, args, grid } = launch;
        let bytes = launch.needed().map(|(_, bytes)| bytes).sum();
        let State { kernels, tuner, context, buffers, queue, .. } = state;
        let Some(variants) = kernels.get_mut(kernel.stem) else {
            return Err(self.bad(kernel.stem, "it was not loaded".to_string()));
        };
        let build = |size| self.build(context, kernel.stem, kernel.opencl, size);
        let (size, trial) = variants.next(tuner, kernel.stem, bytes, false, build);
        let event = self.enqueue(queue, buffers, variants.of(size), args, *grid, size)?;
        Ok((event, trial))
    }

    /// One kernel, or the launches where the compiler refuses it.
    fn chain(&self, state: &mut State, chain: &Chain) -> Result<Done> {
        let Chain { launches, kernel, args, grid, repeats } = chain;
        chain
            .check(|id| state.buffers.bytes_of(id))
            .map_err(|detail| self.bad(&kernel.name, detail))?;
        let State { written, tuner, context, buffers, queue, .. } = state;
        let build = |size| self.build(context, &kernel.name, &kernel.source, size);
        written.load(kernel, || {
            let first = build(tuner.first())?;
            Ok(Variants::new(tuner, &kernel.name, &whole(&kernel.source), first))
        })?;
        let Some(variants) = written.function(kernel) else {
            return self.one_by_one(state, launches, None);
        };
        let needed = chain.needed();
        let bytes = args.iter().filter_map(Arg::buffer).map(|id| needed[&id]).sum();
        let (size, trial) = variants.next(tuner, &kernel.name, bytes, *repeats, build);
        if size == PARTS {
            return self.one_by_one(state, launches, trial);
        }
        let event = self.enqueue(queue, buffers, variants.of(size), args, *grid, size)?;
        Ok(Done { ran: vec![(event, trial)], trial: None })
    }

    /// A trial of them all counts only where none of them is one.
    fn one_by_one<'a>(
        &self,
        state: &mut State,
        launches: impl IntoIterator<Item = &'a Launch>,
        trial: Option<Trial>,
    ) -> Result<Done> {
        let ran = launches.into_iter().map(|launch| self.launch(state, launch));
        let ran: Vec<Ran> = ran.collect::<Result<_>>()?;
        let is_settled = ran.iter().all(|(_, trial)| trial.is_none());
        Ok(Done { trial: trial.filter(|_| is_settled), ran })
    }

    fn enqueue_all(&self, state: &mut State, commands: &[Command]) -> Result<()> {
        check_pending(&self.info, state.pending.len() + commands.len())?;
        for command in commands {
            let done = match command {
                Command::Launch(_) | Command::Pair { .. } => {
                    self.one_by_one(state, command.launches(), None)?
                }
                Command::Chain(chain) => self.chain(state, chain)?,
                Command::Copy { from, to, bytes } => {
                    let copied = self.copy(state, *from, *to, *bytes)?;
                    Done { ran: vec![(copied, None)], trial: None }
                }
            };
            state.pending.push(done);
        }
        Ok(())
    }

    /// Enqueues all of a submission. The queue must be finished before `writes` and `reads` end,
    /// also after an error.
    fn hand_over(
        &self,
        state: &mut State,
        writes: &[Write<'_>],
        commands: &[Command],
        reads: &mut [Read<'_>],
        transfers: &mut Vec<Event>,
    ) -> Result<()> {
        for Write { to, data } in writes.iter().filter(|write| !write.data.is_empty()) {
            check_range(&self.info, *to, self.held(state, *to)?.bytes, 0, data.len())?;
            let State { queue, buffers, .. } = state;
            let memory = &mut buffers.held_mut(&self.info, *to)?.memory;
            // SAFETY: the range is inside the buffer, and `data` lives until the queue is finished.
            let event =
                unsafe { queue.enqueue_write_buffer(memory, CL_NON_BLOCKING, 0, data, &[]) };
            transfers.push(event.map_err(self.failed("write"))?);
        }
        self.enqueue_all(state, commands)?;
        for Read { from, data } in reads.iter_mut().filter(|read| !read.data.is_empty()) {
            let held = self.held(state, *from)?;
            check_range(&self.info, *from, held.bytes, 0, data.len())?;
            // SAFETY: the range is inside the buffer, and nobody else has `data` until the queue
            // is finished.
            let event = unsafe {
                state.queue.enqueue_read_buffer(&held.memory, CL_NON_BLOCKING, 0, data, &[])
            };
            transfers.push(event.map_err(self.failed("read"))?);
        }
        Ok(())
    }

    fn finished(&self, state: &mut State) -> Result<Vec<u64>> {
        state.queue.finish().map_err(self.failed("finish"))?;
        let commands = std::mem::take(&mut state.pending);
        let tuner = &mut state.tuner;
        let time_ns = |done: &Done| -> Timed {
            let took_ns = done.ran.iter().map(|ran| time_ns(ran, tuner)).sum::<Timed>()?;
            done.trial.iter().for_each(|trial| tuner.learn(trial, took_ns));
            Ok(took_ns)
        };
        let times: Timed<Vec<u64>> = commands.iter().map(time_ns).collect();
        state.tuner.rest();
        times.map_err(self.failed("finish"))
    }

    fn bad(&self, kernel: &str, detail: String) -> Error {
        Error::BadLaunch { device: self.info.id.clone(), kernel: kernel.to_string(), detail }
    }

    /// Arguments are those of the kernel's parameters, and their buffers large enough.
    fn enqueue(
        &self,
        queue: &CommandQueue,
        buffers: &Pool<Buffer<u8>>,
        kernel: &ClKernel,
        args: &[Arg],
        grid: Grid,
        size: usize,
    ) -> Result<Event> {
        for (index, arg) in args.iter().enumerate() {
            self.set_arg(buffers, kernel, index as u32, arg)?;
        }
        let Size { group, .. } = Size::of(size);
        let global = [grid.items(group), 1];
        let local = [group, 1];
        // SAFETY: the arguments were checked against the kernel's parameters and the buffers'
        // sizes, and the kernel stays within those for items outside the grid.
        let event = unsafe {
            queue.enqueue_nd_range_kernel(
                kernel.get(),
                2,
                std::ptr::null(),
                global.as_ptr(),
                local.as_ptr(),
                &[],
            )
        };
        event.map_err(self.failed("launch"))
    }

    fn set_arg(
        &self,
        buffers: &Pool<Buffer<u8>>,
        kernel: &ClKernel,
        index: u32,
        arg: &Arg,
    ) -> Result<()> {
        let set = match arg {
            Arg::U32(value) => {
                // SAFETY: the parameter at this index is a 32-bit integer, by the check before.
                unsafe { kernel.set_arg(index, value) }
            }
            Arg::Buffer(id) => {
                let memory = buffers.held(&self.info, *id)?.memory.get();
                // SAFETY: the parameter at this index is a buffer, by the check before.
                unsafe { kernel.set_arg(index, &memory) }
            }
        };
        set.map_err(self.failed("set argument"))
    }

    fn copy(&self, state: &mut State, from: BufferId, to: BufferId, bytes: usize) -> Result<Event> {
        check_distinct(&self.info, from, to)?;
        let source = self.held(state, from)?;
        check_range(&self.info, from, source.bytes, 0, bytes)?;
        let source = source.memory.get();
        check_range(&self.info, to, self.held(state, to)?.bytes, 0, bytes)?;
        let State { queue, buffers, .. } = state;
        let target = buffers.held_mut(&self.info, to)?;
        let source = std::mem::ManuallyDrop::new(Buffer::<u8>::new(source));
        // SAFETY: both buffers are alive, distinct, and long enough.
        let event =
            unsafe { queue.enqueue_copy_buffer(&source, &mut target.memory, 0, 0, bytes, &[]) };
        event.map_err(self.failed("copy"))
    }
}

impl Device for OpenClDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, bytes: usize) -> Result<BufferId> {
        let mut state = self.state();
        let State { buffers, context, .. } = &mut *state;
        buffers.alloc(&self.info, bytes, |capacity| {
            let none = std::ptr::null_mut();
            // SAFETY: no host pointer is given, so the flags ask for plain device memory.
            let memory = unsafe { Buffer::create(context, CL_MEM_READ_WRITE, capacity, none) };
            memory.map_err(|error| no_memory(&self.info, bytes, error))
        })
    }

    fn free(&self, buffer: BufferId) -> Result<()> {
        self.state().buffers.free(&self.info, buffer)
    }

    fn write(&self, buffer: BufferId, offset: usize, data: &[u8]) -> Result<()> {
        let mut state = self.state();
        check_range(&self.info, buffer, self.held(&state, buffer)?.bytes, offset, data.len())?;
        if data.is_empty() {
            return Ok(());
        }
        let State { queue, buffers, .. } = &mut *state;
        let held = buffers.held_mut(&self.info, buffer)?;
        // SAFETY: the range is inside the buffer, and a blocking write is done with `data` when
        // it returns.
        let written =
            unsafe { queue.enqueue_write_buffer(&mut held.memory, CL_BLOCKING, offset, data, &[]) };
        written.map(drop).map_err(self.failed("write"))
    }

    fn read(&self, buffer: BufferId, offset: usize, data: &mut [u8]) -> Result<()> {
        let state = self.state();
        let held = self.held(&state, buffer)?;
        check_range(&self.info, buffer, held.bytes, offset, data.len())?;
        if data.is_empty() {
            return Ok(());
        }
        // SAFETY: the range is inside the buffer, and a blocking read is done with `data` when
        // it returns.
        let read = unsafe {
            state.queue.enqueue_read_buffer(&held.memory, CL_BLOCKING, offset, data, &[])
        };
        read.map(drop).map_err(self.failed("read"))
    }

    fn prepare(&self, kernels: &[&'static Kernel]) -> Result<()> {
        let mut state = self.state();
        kernels.iter().try_for_each(|kernel| self.loaded(&mut state, kernel).map(drop))
    }

    fn run(&self, commands: &[Command]) -> Result<()> {
        let mut state = self.state();
        self.enqueue_all(&mut state, commands)?;
        state.queue.flush().map_err(self.failed("flush"))
    }

    fn finish(&self) -> Result<Vec<u64>> {
        self.finished(&mut self.state())
    }

    fn submit(
        &self,
        writes: &[Write<'_>],
        commands: &[Command],
        reads: &mut [Read<'_>],
    ) -> Result<Vec<u64>> {
        let mut state = self.state();
        let (before, mut transfers) = (state.pending.len(), Vec::new());
        let handed = self.hand_over(&mut state, writes, commands, reads, &mut transfers);
        // Well or not: transfers use memory that the caller gets back now.
        let finished = self.finished(&mut state);
        handed?;
        let times_ns = finished?.split_off(before);
        transfers.iter().try_for_each(succeeded).map_err(self.failed("transfer"))?;
        Ok(times_ns)
    }

    fn tuned(&self) -> Vec<Tuned> {
        self.state().tuner.settled()
    }

    fn refusals(&self) -> Vec<Error> {
        self.state().written.refusals()
    }
}

type Timed<T = u64> = std::result::Result<T, ClError>;

/// The error of something that is over.
fn succeeded(event: &Event) -> Timed<()> {
    match event.command_execution_status()?.0 {
        status if status < 0 => Err(ClError(status)),
        _ => Ok(()),
    }
}

/// Time that a finished launch or copy took on the device; an error if it failed.
fn time_ns((event, trial): &Ran, tuner: &mut Tuner) -> Timed {
    succeeded(event)?;
    let start_ns = event.profiling_command_start()?;
    let took_ns = event.profiling_command_end()?.saturating_sub(start_ns);
    if let Some(trial) = trial {
        if trial.is_first {
            // Some drivers finish compiling only now.
            let waited_ns = start_ns.saturating_sub(event.profiling_command_submit()?);
            tuner.spent(Duration::from_nanos(waited_ns));
        }
        tuner.learn(trial, took_ns);
    }
    Ok(took_ns)
}

/// By the call that drivers of every version have: that of 2.0 is missing from older ones.
#[expect(deprecated)]
fn open_queue(context: &Context, id: cl_device_id) -> std::result::Result<CommandQueue, ClError> {
    // SAFETY: `id` is the device the context was made from.
    unsafe { CommandQueue::create(context, id, CL_QUEUE_PROFILING_ENABLE) }
}

/// A text of kernels with what it is written on top of.
fn whole(text: &str) -> String {
    format!("{PREAMBLE}{text}")
}

fn build_options(size: usize) -> String {
    Size::of(size).options().join(" ")
}

/// The sizes of groups that a device can have; the most that it can where all are more.
fn fitting(sizes: &[usize], most: usize) -> Vec<usize> {
    let fit: Vec<usize> = sizes.iter().copied().filter(|size| *size <= most).collect();
    if fit.is_empty() { vec![most.max(1)] } else { fit }
}

fn build_binary(
    context: &Context,
    binary: &[u8],
    options: &str,
) -> std::result::Result<Program, ClError> {
    let id = context.default_device();
    // SAFETY: `id` is the device the context was made from.
    let mut program = unsafe { Program::create_from_binary(context, &[id], &[binary]) }?;
    program.build(&[id], options)?;
    Ok(program)
}

fn describe(
    platform: &Platform,
    device: &ClDevice,
    id: String,
) -> std::result::Result<DeviceInfo, ClError> {
    Ok(DeviceInfo {
        id,
        kind: Kind::OpenCl,
        name: device.name()?.trim().to_string(),
        driver: format!("{} {}", platform.name()?.trim(), device.driver_version()?.trim()),
        memory_bytes: device.global_mem_size()?,
        compute_units: device.max_compute_units()?,
        on_cpu: device.dev_type()? & CL_DEVICE_TYPE_CPU != 0,
        circuits: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
