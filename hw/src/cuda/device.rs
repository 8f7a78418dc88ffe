//! A device that runs the CUDA form of kernels, over any [`Driver`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::compile::{Target, compile, version};
use super::driver::{Driver, Shape, Value};
use super::{GROUP_SIZES, whole};
use crate::Config;
use crate::cache::Cache;
use crate::chain::{Chain, Ready};
use crate::command::{Arg, BufferId, Command, Grid, Kernel, Launch, Param};
use crate::device::{
    Device, DeviceInfo, Error, Result, Tuned, check_distinct, check_pending, check_range,
};
use crate::pool::{Held, Pool};
use crate::tuning::{PARTS, Size, Trial, Tuner, Variants};

/// Compiled texts that are kept for the other kernels in them; then all are forgotten.
const COMPILED_MAX: usize = 128;
/// Blocks where items do several neighbours at once.
const SPANNED: Size = Size { group: 128, span: 4 };

/// One device with its buffers, its kernels and what was handed to it.
pub struct CudaForms<D: Driver> {
    info: DeviceInfo,
    driver: D,
    cache: Cache,
    state: Mutex<State<D>>,
    /// By text and size of blocks: a text holds several kernels, and compiling takes all of them.
    compiled: Mutex<HashMap<(&'static str, usize), Vec<u8>>>,
}

/// Before and after a launch or copy, and what its time is for.
struct Ran<D: Driver> {
    before: D::Event,
    after: D::Event,
    trial: Option<Trial>,
}

/// What was run for a command, and what its time altogether is for.
struct Done<D: Driver> {
    ran: Vec<Ran<D>>,
    trial: Option<Trial>,
}

struct State<D: Driver> {
    kernels: HashMap<&'static str, Variants<D::Function>>,
    written: Ready<Variants<D::Function>>,
    tuner: Tuner,
    pending: Vec<Done<D>>,
    buffers: Pool<D::Memory>,
}

impl<D: Driver> CudaForms<D> {
    /// Blocks have one of [`GROUP_SIZES`], the first unless another suits a kernel better.
    pub(crate) fn new(info: DeviceInfo, driver: D, config: &Config) -> Self {
        let buffers = Pool::new(config.pool_bytes_max);
        let (kernels, written) = (HashMap::new(), Ready::new());
        let cache = Cache::new(config.cache_dir.clone(), &info, "cubin");
        let tuner = Tuner::of(config, &GROUP_SIZES, SPANNED, &info);
        let state = State { kernels, written, tuner, pending: Vec::new(), buffers };
        Self { info, driver, cache, state: Mutex::new(state), compiled: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held<'a>(&self, state: &'a State<D>, id: BufferId) -> Result<&'a Held<D::Memory>> {
        state.buffers.held(&self.info, id)
    }

    /// A kernel, compiled if it is not yet.
    fn loaded<'a>(
        &self,
        state: &'a mut State<D>,
        kernel: &'static Kernel,
    ) -> Result<&'a mut Variants<D::Function>> {
        let State { kernels, tuner, .. } = state;
        match kernels.entry(kernel.stem) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let first = self.load(kernel, tuner.first())?;
                tuner.read(kernel.stem, kernel.cuda);
                let source = whole(kernel.cuda);
                Ok(place.insert(Variants::new(tuner, kernel.stem, &source, first)))
            }
        }
    }

    /// A kernel with blocks of this size. Its text is not compiled once more where another kernel
    /// of it has been asked for.
    fn load(&self, kernel: &'static Kernel, size: usize) -> Result<D::Function> {
        let key = (kernel.cuda, size);
        let known = self.compiled().get(&key).cloned();
        if let Some(code) = known {
            return self.driver.load(kernel.stem, code);
        }
        let (function, code) = self.make(kernel.stem, kernel.cuda, size)?;
        let mut compiled = self.compiled();
        if compiled.len() >= COMPILED_MAX {
            compiled.clear();
        }
        compiled.insert(key, code);
        Ok(function)
    }

    fn compiled(&self) -> MutexGuard<'_, HashMap<(&'static str, usize), Vec<u8>>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many texts are kept.
    #[cfg(test)]
    pub(crate) fn texts(&self) -> usize {
        self.compiled().len()
    }

    /// The function of this name with blocks of this size.
    fn build(&self, name: &str, text: &str, size: usize) -> Result<D::Function> {
        self.make(name, text, size).map(|(function, _)| function)
    }

    /// The same with the code of its whole text, for the first target that it compiles for: what is
    /// kept on disk where that fits.
    fn make(&self, name: &str, text: &str, size: usize) -> Result<(D::Function, Vec<u8>)> {
        let source = whole(text);
        let mut log = "no target".to_string();
        for target in self.driver.targets() {
            let options = options(size, target);
            if let Some(code) = self.cache.load(&source, &options) {
                match self.driver.load(name, code.clone()) {
                    Ok(function) => return Ok((function, code)),
                    Err(error) => {
                        tracing::warn!(%error, kernel = name, "kept kernel binary is refused");
                    }
                }
            }
            match compile(&source, size, target) {
                Ok(code) => {
                    let function = self.driver.load(name, code.clone())?;
                    self.cache.store(&source, &options, &code);
                    return Ok((function, code));
                }
                Err(complaint) => log = complaint,
            }
        }
        Err(Error::Build { device: self.info.id.clone(), kernel: name.to_string(), log })
    }

    fn launch(&self, state: &mut State<D>, launch: &Launch) -> Result<Ran<D>> {
        launch
            .check(|id| state.buffers.bytes_of(id))
            .map_err(|detail| self.bad(launch.kernel.stem, detail))?;
        self.loaded(state, launch.kernel)?;
        let Launch { kernel, args, grid } = launch;
        let needed: Vec<usize> = launch.needed().map(|(_, bytes)| bytes).collect();
        let State { kernels, tuner, buffers, .. } = state;
        let Some(variants) = kernels.get_mut(kernel.stem) else {
            return Err(self.bad(kernel.stem, "it was not loaded".to_string()));
        };
        let values = self.values(buffers, kernel.params, args, &needed)?;
        let build = |size| self.load(launch.kernel, size);
        let next = variants.next(tuner, kernel.stem, needed.iter().sum(), false, build);
        self.start(variants.of(next.0), *grid, &values, next)
    }

    /// One kernel, or the launches where the compiler refuses it.
    fn chain(&self, state: &mut State<D>, chain: &Chain) -> Result<Done<D>> {
        let Chain { launches, kernel, args, grid, repeats } = chain;
        chain
            .check(|id| state.buffers.bytes_of(id))
            .map_err(|detail| self.bad(&kernel.name, detail))?;
        if state.written.is_full() {
            // What is dropped may still have to run.
            self.driver.wait()?;
        }
        let State { written, tuner, buffers, .. } = state;
        let build = |size| self.build(&kernel.name, &kernel.source, size);
        written.load(kernel, || {
            let first = build(tuner.first())?;
            Ok(Variants::new(tuner, &kernel.name, &whole(&kernel.source), first))
        })?;
        let Some(variants) = written.function(kernel) else {
            return self.one_by_one(state, launches, None);
        };
        let needed = chain.needed();
        let needed = args.iter().filter_map(Arg::buffer).map(|id| needed[&id]);
        let needed: Vec<usize> = needed.collect();
        let next = variants.next(tuner, &kernel.name, needed.iter().sum(), *repeats, build);
        if next.0 == PARTS {
            return self.one_by_one(state, launches, next.1);
        }
        let values = self.values(buffers, &kernel.params, args, &needed)?;
        let ran = vec![self.start(variants.of(next.0), *grid, &values, next)?];
        Ok(Done { ran, trial: None })
    }

    /// A trial of them all counts only where none of them is one.
    fn one_by_one<'a>(
        &self,
        state: &mut State<D>,
        launches: impl IntoIterator<Item = &'a Launch>,
        trial: Option<Trial>,
    ) -> Result<Done<D>> {
        let ran = launches.into_iter().map(|launch| self.launch(state, launch));
        let ran: Vec<Ran<D>> = ran.collect::<Result<_>>()?;
        let is_settled = ran.iter().all(|ran| ran.trial.is_none());
        Ok(Done { trial: trial.filter(|_| is_settled), ran })
    }

    fn bad(&self, kernel: &str, detail: String) -> Error {
        Error::BadLaunch { device: self.info.id.clone(), kernel: kernel.to_string(), detail }
    }

    fn start(
        &self,
        function: &D::Function,
        grid: Grid,
        values: &[Value<'_, D::Memory>],
        (size, trial): (usize, Option<Trial>),
    ) -> Result<Ran<D>> {
        let Size { group, .. } = Size::of(size);
        let shape = Shape {
            blocks: (grid.items(group) / group) as u32,
            threads: group as u32,
            shared_bytes: 0,
        };
        let before = self.driver.event()?;
        self.driver.launch(function, shape, values)?;
        Ok(Ran { before, after: self.driver.event()?, trial })
    }

    /// Arguments that were checked. `needed` are the bytes that each buffer among them must have.
    fn values<'a>(
        &self,
        buffers: &'a Pool<D::Memory>,
        params: &[Param],
        args: &[Arg],
        needed: &[usize],
    ) -> Result<Vec<Value<'a, D::Memory>>> {
        let mut needed = needed.iter().copied();
        let value = |(arg, param): (&Arg, _)| match arg {
            Arg::U32(value) => Ok(Value::U32(*value)),
            Arg::Buffer(id) => {
                let held = buffers.held(&self.info, *id)?;
                let bytes = needed.next().unwrap_or(held.bytes);
                Ok(Value::Memory { memory: &held.memory, bytes, param })
            }
        };
        args.iter().zip(params.iter().copied()).map(value).collect()
    }

    fn copy(
        &self,
        state: &mut State<D>,
        from: BufferId,
        to: BufferId,
        bytes: usize,
    ) -> Result<Ran<D>> {
        check_distinct(&self.info, from, to)?;
        check_range(&self.info, from, self.held(state, from)?.bytes, 0, bytes)?;
        check_range(&self.info, to, self.held(state, to)?.bytes, 0, bytes)?;
        let before = self.driver.event()?;
        if bytes > 0 {
            let mut target = state.buffers.take(&self.info, to)?;
            let source = self.held(state, from);
            let copied = source
                .and_then(|source| self.driver.copy(&source.memory, &mut target.memory, bytes));
            state.buffers.put_back(to, target);
            copied?;
        }
        Ok(Ran { before, after: self.driver.event()?, trial: None })
    }
}

impl<D: Driver> Device for CudaForms<D> {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, bytes: usize) -> Result<BufferId> {
        let make = |capacity| self.driver.alloc(capacity);
        self.state().buffers.alloc(&self.info, bytes, make)
    }

    fn free(&self, buffer: BufferId) -> Result<()> {
        self.state().buffers.free(&self.info, buffer)
    }

    fn write(&self, buffer: BufferId, offset: usize, data: &[u8]) -> Result<()> {
        let mut state = self.state();
        let held = state.buffers.held_mut(&self.info, buffer)?;
        check_range(&self.info, buffer, held.bytes, offset, data.len())?;
        match data.is_empty() {
            true => Ok(()),
            false => self.driver.write(&mut held.memory, offset, data),
        }
    }

    fn read(&self, buffer: BufferId, offset: usize, data: &mut [u8]) -> Result<()> {
        let state = self.state();
        let held = self.held(&state, buffer)?;
        check_range(&self.info, buffer, held.bytes, offset, data.len())?;
        match data.is_empty() {
            true => Ok(()),
            false => self.driver.read(&held.memory, offset, data),
        }
    }

    fn prepare(&self, kernels: &[&'static Kernel]) -> Result<()> {
        let mut state = self.state();
        kernels.iter().try_for_each(|kernel| self.loaded(&mut state, kernel).map(drop))
    }

    fn run(&self, commands: &[Command]) -> Result<()> {
        let mut state = self.state();
        check_pending(&self.info, state.pending.len() + commands.len())?;
        for command in commands {
            let done = match command {
                Command::Launch(_) | Command::Pair { .. } => {
                    self.one_by_one(&mut state, command.launches(), None)?
                }
                Command::Chain(chain) => self.chain(&mut state, chain)?,
                Command::Copy { from, to, bytes } => {
                    let copied = self.copy(&mut state, *from, *to, *bytes)?;
                    Done { ran: vec![copied], trial: None }
                }
            };
            state.pending.push(done);
        }
        Ok(())
    }

    fn finish(&self) -> Result<Vec<u64>> {
        let mut state = self.state();
        self.driver.wait()?;
        let commands = std::mem::take(&mut state.pending);
        let tuner = &mut state.tuner;
        let time_ns = |done: &Done<D>| -> Result<u64> {
            let mut sum_ns = 0;
            for Ran { before, after, trial } in &done.ran {
                let took_ns = self.driver.time_ns(before, after)?;
                trial.iter().for_each(|trial| tuner.learn(trial, took_ns));
                sum_ns += took_ns;
            }
            done.trial.iter().for_each(|trial| tuner.learn(trial, sum_ns));
            Ok(sum_ns)
        };
        let times = commands.iter().map(time_ns).collect();
        state.tuner.rest();
        times
    }

    fn tuned(&self) -> Vec<Tuned> {
        self.state().tuner.settled()
    }

    fn refusals(&self) -> Vec<Error> {
        self.state().written.refusals()
    }
}

/// What code depends on beside its source: another compiler may make other code of it.
fn options(size: usize, target: Target) -> String {
    format!("NVRTC {:?} {target:?} GROUP={size}", version())
}

#[cfg(test)]
mod tests;
