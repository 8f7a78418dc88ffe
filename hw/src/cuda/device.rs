//! A device that runs the CUDA form of kernels, over any [`Driver`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::compile::compile;
use super::driver::{Driver, Shape, Value};
use super::{GROUP_SIZE, whole};
use crate::chain::{Chain, Ready};
use crate::command::{Arg, BufferId, Command, Grid, Kernel, Launch, Param};
use crate::device::{
    Device, DeviceInfo, Error, Result, check_distinct, check_pending, check_range,
};
use crate::pool::{Held, Pool};

/// One device with its buffers, its kernels and what was handed to it.
pub struct CudaForms<D: Driver> {
    info: DeviceInfo,
    driver: D,
    state: Mutex<State<D>>,
}

/// Before and after a command.
type Events<D> = (<D as Driver>::Event, <D as Driver>::Event);

struct State<D: Driver> {
    kernels: HashMap<&'static str, D::Function>,
    written: Ready<D::Function>,
    /// Of each command.
    pending: Vec<Events<D>>,
    buffers: Pool<D::Memory>,
}

impl<D: Driver> CudaForms<D> {
    /// Freed buffers are kept up to `pool_bytes_max` bytes.
    pub(crate) fn new(info: DeviceInfo, driver: D, pool_bytes_max: usize) -> Self {
        let buffers = Pool::new(pool_bytes_max);
        let (kernels, written) = (HashMap::new(), Ready::new());
        let state = State { kernels, written, pending: Vec::new(), buffers };
        Self { info, driver, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held<'a>(&self, state: &'a State<D>, id: BufferId) -> Result<&'a Held<D::Memory>> {
        state.buffers.held(&self.info, id)
    }

    fn load(&self, state: &mut State<D>, kernel: &'static Kernel) -> Result<()> {
        if state.kernels.contains_key(kernel.stem) {
            return Ok(());
        }
        let function = self.build(kernel.stem, kernel.cuda)?;
        state.kernels.insert(kernel.stem, function);
        Ok(())
    }

    /// The function of this name, for the first target that its text compiles for.
    fn build(&self, name: &str, text: &str) -> Result<D::Function> {
        let source = whole(text);
        let mut log = "no target".to_string();
        for target in self.driver.targets() {
            match compile(&source, GROUP_SIZE, target) {
                Ok(code) => return self.driver.load(name, code),
                Err(complaint) => log = complaint,
            }
        }
        Err(Error::Build { device: self.info.id.clone(), kernel: name.to_string(), log })
    }

    fn launch(&self, state: &mut State<D>, launch: &Launch) -> Result<Events<D>> {
        launch
            .check(|id| state.buffers.bytes_of(id))
            .map_err(|detail| self.bad(launch.kernel.stem, detail))?;
        self.load(state, launch.kernel)?;
        let needed: Vec<usize> = launch.needed().map(|(_, bytes)| bytes).collect();
        let values = self.values(state, launch.kernel.params, &launch.args, &needed)?;
        self.start(&state.kernels[launch.kernel.stem], launch.grid, &values)
    }

    /// One kernel, or the launches where the compiler refuses it.
    fn chain(&self, state: &mut State<D>, chain: &Chain) -> Result<Events<D>> {
        chain
            .check(|id| state.buffers.bytes_of(id))
            .map_err(|detail| self.bad(&chain.kernel.name, detail))?;
        if state.written.is_full() {
            // What is dropped may still have to run.
            self.driver.wait()?;
        }
        let build = || self.build(&chain.kernel.name, &chain.kernel.source);
        state.written.load(&chain.kernel, build)?;
        let Some(function) = state.written.function(&chain.kernel) else {
            return self.one_by_one(state, &chain.launches);
        };
        let needed = chain.needed();
        let needed = chain.args.iter().filter_map(Arg::buffer).map(|id| needed[&id]);
        let needed: Vec<usize> = needed.collect();
        let values = self.values(state, &chain.kernel.params, &chain.args, &needed)?;
        self.start(function, chain.grid, &values)
    }

    fn one_by_one<'a>(
        &self,
        state: &mut State<D>,
        launches: impl IntoIterator<Item = &'a Launch>,
    ) -> Result<Events<D>> {
        let (before, mut after) = (self.driver.event()?, None);
        for launch in launches {
            after = Some(self.launch(state, launch)?.1);
        }
        Ok((before, after.map_or_else(|| self.driver.event(), Ok)?))
    }

    fn bad(&self, kernel: &str, detail: String) -> Error {
        Error::BadLaunch { device: self.info.id.clone(), kernel: kernel.to_string(), detail }
    }

    fn start(
        &self,
        function: &D::Function,
        grid: Grid,
        values: &[Value<'_, D::Memory>],
    ) -> Result<Events<D>> {
        let shape = Shape {
            blocks: (grid.items(GROUP_SIZE) / GROUP_SIZE) as u32,
            threads: GROUP_SIZE as u32,
            shared_bytes: 0,
        };
        let before = self.driver.event()?;
        self.driver.launch(function, shape, values)?;
        Ok((before, self.driver.event()?))
    }

    /// Arguments that were checked. `needed` are the bytes that each buffer among them must have.
    fn values<'a>(
        &self,
        state: &'a State<D>,
        params: &[Param],
        args: &[Arg],
        needed: &[usize],
    ) -> Result<Vec<Value<'a, D::Memory>>> {
        let mut needed = needed.iter().copied();
        let value = |(arg, param): (&Arg, _)| match arg {
            Arg::U32(value) => Ok(Value::U32(*value)),
            Arg::Buffer(id) => {
                let held = self.held(state, *id)?;
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
    ) -> Result<Events<D>> {
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
        Ok((before, self.driver.event()?))
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
        kernels.iter().try_for_each(|kernel| self.load(&mut state, kernel))
    }

    fn run(&self, commands: &[Command]) -> Result<()> {
        let mut state = self.state();
        check_pending(&self.info, state.pending.len() + commands.len())?;
        for command in commands {
            let events = match command {
                Command::Launch(launch) => self.launch(&mut state, launch)?,
                Command::Pair { first, second } => self.one_by_one(&mut state, [first, second])?,
                Command::Chain(chain) => self.chain(&mut state, chain)?,
                Command::Copy { from, to, bytes } => self.copy(&mut state, *from, *to, *bytes)?,
            };
            state.pending.push(events);
        }
        Ok(())
    }

    fn finish(&self) -> Result<Vec<u64>> {
        let mut state = self.state();
        self.driver.wait()?;
        let events = std::mem::take(&mut state.pending);
        events.iter().map(|(before, after)| self.driver.time_ns(before, after)).collect()
    }

    fn refusals(&self) -> Vec<Error> {
        self.state().written.refusals()
    }
}
