//! A device that runs the CUDA form of kernels, over any [`Driver`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::compile::compile;
use super::driver::{Driver, Shape, Value};
use super::{GROUP_SIZE, source};
use crate::command::{Arg, BufferId, Command, Kernel, Launch};
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

struct State<D: Driver> {
    kernels: HashMap<&'static str, D::Function>,
    /// Before and after each command.
    pending: Vec<(D::Event, D::Event)>,
    buffers: Pool<D::Memory>,
}

impl<D: Driver> CudaForms<D> {
    /// Freed buffers are kept up to `pool_bytes_max` bytes.
    pub(crate) fn new(info: DeviceInfo, driver: D, pool_bytes_max: usize) -> Self {
        let buffers = Pool::new(pool_bytes_max);
        let state = State { kernels: HashMap::new(), pending: Vec::new(), buffers };
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
        let source = source(kernel);
        let mut log = "no target".to_string();
        for target in self.driver.targets() {
            match compile(&source, GROUP_SIZE, target) {
                Ok(code) => {
                    let function = self.driver.load(kernel.stem, code)?;
                    state.kernels.insert(kernel.stem, function);
                    return Ok(());
                }
                Err(complaint) => log = complaint,
            }
        }
        let (device, kernel) = (self.info.id.clone(), kernel.stem.to_string());
        Err(Error::Build { device, kernel, log })
    }

    fn launch(&self, state: &mut State<D>, launch: &Launch) -> Result<(D::Event, D::Event)> {
        launch.check(|id| state.buffers.bytes_of(id)).map_err(|detail| Error::BadLaunch {
            device: self.info.id.clone(),
            kernel: launch.kernel.stem.to_string(),
            detail,
        })?;
        self.load(state, launch.kernel)?;
        let values = self.values(state, launch)?;
        let shape = Shape {
            blocks: (launch.grid.items(GROUP_SIZE) / GROUP_SIZE) as u32,
            threads: GROUP_SIZE as u32,
            shared_bytes: 0,
        };
        let before = self.driver.event()?;
        self.driver.launch(&state.kernels[launch.kernel.stem], shape, &values)?;
        Ok((before, self.driver.event()?))
    }

    /// The arguments of a launch that was checked.
    fn values<'a>(
        &self,
        state: &'a State<D>,
        launch: &Launch,
    ) -> Result<Vec<Value<'a, D::Memory>>> {
        let mut needed = (launch.kernel.bytes_needed)(&launch.scalars()).into_iter().flatten();
        let value = |(arg, param): (&Arg, _)| match arg {
            Arg::U32(value) => Ok(Value::U32(*value)),
            Arg::Buffer(id) => {
                let held = self.held(state, *id)?;
                let bytes = needed.next().unwrap_or(held.bytes);
                Ok(Value::Memory { memory: &held.memory, bytes, param })
            }
        };
        launch.args.iter().zip(launch.kernel.params.iter().copied()).map(value).collect()
    }

    fn copy(
        &self,
        state: &mut State<D>,
        from: BufferId,
        to: BufferId,
        bytes: usize,
    ) -> Result<(D::Event, D::Event)> {
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
                Command::Pair { first, second } => {
                    let (before, _) = self.launch(&mut state, first)?;
                    (before, self.launch(&mut state, second)?.1)
                }
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
}
