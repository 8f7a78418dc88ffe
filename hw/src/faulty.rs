//! A device that fails on purpose, for tests of whoever must survive failing devices.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::command::{BufferId, Command, Kernel};
use crate::device::{Device, DeviceInfo, Error, Result};

/// How a [`FaultyDevice`] fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Only the run of this number fails, counted from zero.
    Run(u64),
    /// Every run from this number on fails, and so does every other call after it.
    LostFrom(u64),
}

/// Passes every call to the device inside until its [`Fault`] is due.
pub struct FaultyDevice {
    inner: Arc<dyn Device>,
    fault: Fault,
    info: DeviceInfo,
    runs: AtomicU64,
}

impl FaultyDevice {
    /// Wraps a device; `id` tells it from the one inside.
    pub fn new(inner: Arc<dyn Device>, id: &str, fault: Fault) -> Self {
        let info = DeviceInfo { id: id.to_string(), ..inner.info().clone() };
        Self { inner, fault, info, runs: AtomicU64::new(0) }
    }

    /// How often [`Device::run`] was called.
    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::SeqCst)
    }

    fn check_lost(&self) -> Result<()> {
        match self.fault {
            Fault::LostFrom(n) if self.runs() > n => Err(self.lost()),
            _ => Ok(()),
        }
    }

    fn lost(&self) -> Error {
        Error::Lost { device: self.info.id.clone(), detail: "as the test wants".to_string() }
    }
}

impl Device for FaultyDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, bytes: usize) -> Result<BufferId> {
        self.check_lost()?;
        self.inner.alloc(bytes)
    }

    fn lend(&self, data: &Bytes) -> Result<Option<BufferId>> {
        self.check_lost()?;
        self.inner.lend(data)
    }

    fn share(&self, buffer: BufferId) -> Result<Option<Bytes>> {
        self.check_lost()?;
        self.inner.share(buffer)
    }

    fn free(&self, buffer: BufferId) -> Result<()> {
        self.check_lost()?;
        self.inner.free(buffer)
    }

    fn write(&self, buffer: BufferId, offset: usize, data: &[u8]) -> Result<()> {
        self.check_lost()?;
        self.inner.write(buffer, offset, data)
    }

    fn read(&self, buffer: BufferId, offset: usize, data: &mut [u8]) -> Result<()> {
        self.check_lost()?;
        self.inner.read(buffer, offset, data)
    }

    fn prepare(&self, kernels: &[&'static Kernel]) -> Result<()> {
        self.check_lost()?;
        self.inner.prepare(kernels)
    }

    fn run(&self, commands: &[Command]) -> Result<()> {
        let number = self.runs.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::Run(n) if number == n => Err(Error::Failed {
                device: self.info.id.clone(),
                detail: "as the test wants".to_string(),
            }),
            Fault::LostFrom(n) if number >= n => Err(self.lost()),
            _ => self.inner.run(commands),
        }
    }

    fn finish(&self) -> Result<Vec<u64>> {
        self.check_lost()?;
        self.inner.finish()
    }

    fn refusals(&self) -> Vec<Error> {
        self.inner.refusals()
    }
}

#[cfg(test)]
mod tests;
