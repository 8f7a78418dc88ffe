//! The CPU as a device: native kernels over plain memory. Always present.

mod memory;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use self::memory::{Memory, Pool};
use crate::Config;
use crate::chain::Chain;
use crate::command::{Arg, BufferId, Command, CpuArgs, Kernel, Launch, Param};
use crate::device::{
    Device, DeviceInfo, Error, Kind, Result, check_alloc, check_distinct, check_pending,
    check_range, unknown_buffer,
};

/// Runs the native form of each kernel when it is handed over, on the caller's thread and the
/// threads the kernel takes.
pub struct CpuDevice {
    info: DeviceInfo,
    threads: usize,
    pool: Arc<Pool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    buffers: HashMap<BufferId, Memory>,
    times_ns: Vec<u64>,
}

impl State {
    fn add(&mut self, memory: Memory) -> BufferId {
        let id = BufferId::fresh();
        self.buffers.insert(id, memory);
        id
    }
}

impl CpuDevice {
    pub fn new(config: &Config) -> Self {
        Self {
            info: cpu_info(),
            threads: config.cpu_threads.max(1),
            pool: Pool::new(config.pool_bytes_max),
            state: Mutex::default(),
        }
    }

    /// The same under another name, for what has kernels run here.
    #[must_use]
    pub fn described(self, describe: impl FnOnce(&DeviceInfo) -> DeviceInfo) -> Self {
        Self { info: describe(&self.info), ..self }
    }

    /// How many buffers are allocated now.
    pub fn buffer_count(&self) -> usize {
        self.state().buffers.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, state: &State, launch: &Launch) -> Result<()> {
        launch
            .check(|id| state.buffers.get(&id).map(|data| data.len()))
            .map_err(|detail| self.bad(launch, &detail))
    }

    fn bad(&self, launch: &Launch, detail: &str) -> Error {
        Error::BadLaunch {
            device: self.info.id.clone(),
            kernel: launch.kernel.stem.to_string(),
            detail: detail.to_string(),
        }
    }

    fn no_memory(&self, bytes: usize) -> Error {
        Error::OutOfMemory { device: self.info.id.clone(), bytes }
    }

    /// Takes a buffer that is to be written out of the map, so that it can be borrowed beside those
    /// that are read. It must be put back.
    fn take(&self, state: &mut State, id: BufferId) -> Result<Memory> {
        let memory = state.buffers.remove(&id).ok_or_else(|| unknown_buffer(&self.info, id))?;
        memory.writable(&self.pool).map_err(|memory| {
            let bytes = memory.len();
            state.buffers.insert(id, memory);
            self.no_memory(bytes)
        })
    }

    /// Takes the buffers that a launch writes.
    fn take_outputs(&self, state: &mut State, launch: &Launch) -> Result<Vec<(BufferId, Memory)>> {
        let mut taken = Vec::new();
        for (param, arg) in launch.kernel.params.iter().zip(&launch.args) {
            let (Param::Out(_) | Param::InOut(_), Arg::Buffer(id)) = (param, arg) else { continue };
            match self.take(state, *id) {
                Ok(memory) => taken.push((*id, memory)),
                Err(error) => {
                    state.buffers.extend(taken);
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    fn launch(&self, state: &mut State, launch: &Launch) -> Result<()> {
        self.check(state, launch)?;
        let mut written = self.take_outputs(state, launch)?;
        let mut args = self.args(state, launch, &mut written);
        let ran = catch_unwind(AssertUnwindSafe(|| (launch.kernel.cpu)(&mut args)));
        state.buffers.extend(written);
        ran.map_err(|_| self.bad(launch, "the kernel panicked"))
    }

    fn pair(&self, state: &mut State, first: &Launch, second: &Launch) -> Result<()> {
        self.check(state, first)?;
        self.check(state, second)?;
        let joined = second.kernel.joined.filter(|joined| joined.first == first.kernel.stem);
        let is_done = match joined {
            Some(joined) => {
                let mut written = self.take_outputs(state, second)?;
                let given = self.args(state, first, &mut []);
                let mut args = self.args(state, second, &mut written);
                let ran = catch_unwind(AssertUnwindSafe(|| (joined.cpu)(&given, &mut args)));
                state.buffers.extend(written);
                ran.map_err(|_| self.bad(second, "the kernel panicked"))?
            }
            None => false,
        };
        match is_done {
            true => Ok(()),
            false => self.launch(state, first).and_then(|()| self.launch(state, second)),
        }
    }

    fn chain(&self, state: &mut State, chain: &Chain) -> Result<()> {
        let sizes = |id| state.buffers.get(&id).map(|data| data.len());
        chain.check(sizes).map_err(|detail| Error::BadLaunch {
            device: self.info.id.clone(),
            kernel: chain.kernel.name.clone(),
            detail,
        })?;
        chain.launches.iter().try_for_each(|launch| self.launch(state, launch))
    }

    /// What a native form is given. Outputs were taken out of the state.
    fn args<'a>(
        &self,
        state: &'a State,
        launch: &Launch,
        written: &'a mut [(BufferId, Memory)],
    ) -> CpuArgs<'a> {
        let inputs = launch.kernel.params.iter().zip(&launch.args).filter_map(|(p, a)| {
            let (Param::In(_), Arg::Buffer(id)) = (p, a) else { return None };
            state.buffers.get(id).map(|data| &data[..])
        });
        CpuArgs {
            inputs: inputs.collect(),
            outputs: written.iter_mut().map(|(_, data)| data.bytes_mut()).collect(),
            scalars: launch.scalars(),
            threads: self.threads,
        }
    }

    fn copy(&self, state: &mut State, from: BufferId, to: BufferId, bytes: usize) -> Result<()> {
        check_distinct(&self.info, from, to)?;
        let mut target = self.take(state, to)?;
        let copied = self.copy_into(state, from, to, target.bytes_mut(), bytes);
        state.buffers.insert(to, target);
        copied
    }

    fn copy_into(
        &self,
        state: &State,
        from: BufferId,
        to: BufferId,
        target: &mut [u8],
        bytes: usize,
    ) -> Result<()> {
        let source = state.buffers.get(&from).ok_or_else(|| unknown_buffer(&self.info, from))?;
        check_range(&self.info, from, source.len(), 0, bytes)?;
        check_range(&self.info, to, target.len(), 0, bytes)?;
        target[..bytes].copy_from_slice(&source[..bytes]);
        Ok(())
    }
}

impl Device for CpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, bytes: usize) -> Result<BufferId> {
        check_alloc(&self.info, bytes)?;
        let memory = self.pool.take(bytes).ok_or_else(|| self.no_memory(bytes))?;
        Ok(self.state().add(memory))
    }

    fn lend(&self, data: &Bytes) -> Result<Option<BufferId>> {
        check_alloc(&self.info, data.len())?;
        Ok(Some(self.state().add(Memory::Lent(data.clone()))))
    }

    fn share(&self, buffer: BufferId) -> Result<Option<Bytes>> {
        let state = self.state();
        let memory = state.buffers.get(&buffer);
        memory.map(|memory| Some(memory.share())).ok_or_else(|| unknown_buffer(&self.info, buffer))
    }

    fn free(&self, buffer: BufferId) -> Result<()> {
        let freed = self.state().buffers.remove(&buffer);
        freed.map(drop).ok_or_else(|| unknown_buffer(&self.info, buffer))
    }

    fn write(&self, buffer: BufferId, offset: usize, data: &[u8]) -> Result<()> {
        let mut state = self.state();
        let mut target = self.take(&mut state, buffer)?;
        let end = check_range(&self.info, buffer, target.len(), offset, data.len());
        let written = end.map(|end| target.bytes_mut()[offset..end].copy_from_slice(data));
        state.buffers.insert(buffer, target);
        written
    }

    fn read(&self, buffer: BufferId, offset: usize, data: &mut [u8]) -> Result<()> {
        let state = self.state();
        let source =
            state.buffers.get(&buffer).ok_or_else(|| unknown_buffer(&self.info, buffer))?;
        let end = check_range(&self.info, buffer, source.len(), offset, data.len())?;
        data.copy_from_slice(&source[offset..end]);
        Ok(())
    }

    fn prepare(&self, _kernels: &[&'static Kernel]) -> Result<()> {
        Ok(())
    }

    fn run(&self, commands: &[Command]) -> Result<()> {
        let mut state = self.state();
        check_pending(&self.info, state.times_ns.len() + commands.len())?;
        for command in commands {
            let start = Instant::now();
            match command {
                Command::Launch(launch) => self.launch(&mut state, launch)?,
                Command::Pair { first, second } => self.pair(&mut state, first, second)?,
                Command::Chain(chain) => self.chain(&mut state, chain)?,
                Command::Copy { from, to, bytes } => self.copy(&mut state, *from, *to, *bytes)?,
            }
            state.times_ns.push(start.elapsed().as_nanos() as u64);
        }
        Ok(())
    }

    fn finish(&self) -> Result<Vec<u64>> {
        Ok(std::mem::take(&mut self.state().times_ns))
    }
}

fn cpu_info() -> DeviceInfo {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory_kib = field(&meminfo, "MemTotal").and_then(|v| v.split(' ').next()?.parse().ok());
    DeviceInfo {
        id: "cpu0".to_string(),
        kind: Kind::Cpu,
        name: field(&cpuinfo, "model name").unwrap_or(std::env::consts::ARCH).to_string(),
        driver: format!("native {}", env!("CARGO_PKG_VERSION")),
        memory_bytes: memory_kib.unwrap_or(0u64) * 1024,
        compute_units: std::thread::available_parallelism().map_or(1, |n| n.get()) as u32,
        on_cpu: true,
        circuits: Vec::new(),
    }
}

/// The value of the first `name : value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests;
