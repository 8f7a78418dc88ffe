//! Devices that pass on to another what they are asked, for tests of whoever uses devices.

use bytes::Bytes;

use crate::command::{BufferId, Command, Kernel};
use crate::device::{Device, DeviceInfo, Error, Read, Result, Tuned, Write, submit_by_verbs};

/// What a device is asked.
#[derive(Debug, Clone, Copy)]
pub enum Verb<'a> {
    Prepare(&'a [&'static Kernel]),
    Run(&'a [Command]),
    /// About buffers, or to wait.
    Other,
}

/// A device around another.
pub trait Around: Send + Sync + Sized {
    fn inner(&self) -> &dyn Device;

    /// What it says it is.
    fn described(&self) -> &DeviceInfo {
        self.inner().info()
    }

    /// Called before the device inside is asked; an error is the answer.
    fn before(&self, _verb: Verb<'_>) -> Result<()> {
        Ok(())
    }

    /// Whether buffers may be host memory, where those of the device inside may.
    fn lends(&self) -> bool {
        true
    }

    /// Which circuit it has.
    fn has(&self) -> usize {
        self.inner().circuit()
    }

    fn given(&self, circuit: usize) -> Result<()> {
        self.inner().load(circuit)
    }

    /// By the other verbs.
    fn submitted(
        &self,
        writes: &[Write<'_>],
        commands: &[Command],
        reads: &mut [Read<'_>],
    ) -> Result<Vec<u64>> {
        submit_by_verbs(self, writes, commands, reads)
    }
}

impl<D: Around> Device for D {
    fn info(&self) -> &DeviceInfo {
        self.described()
    }

    fn alloc(&self, bytes: usize) -> Result<BufferId> {
        self.before(Verb::Other)?;
        self.inner().alloc(bytes)
    }

    fn lend(&self, data: &Bytes) -> Result<Option<BufferId>> {
        self.before(Verb::Other)?;
        if self.lends() { self.inner().lend(data) } else { Ok(None) }
    }

    fn share(&self, buffer: BufferId) -> Result<Option<Bytes>> {
        self.before(Verb::Other)?;
        if self.lends() { self.inner().share(buffer) } else { Ok(None) }
    }

    fn free(&self, buffer: BufferId) -> Result<()> {
        self.before(Verb::Other)?;
        self.inner().free(buffer)
    }

    fn write(&self, buffer: BufferId, offset: usize, data: &[u8]) -> Result<()> {
        self.before(Verb::Other)?;
        self.inner().write(buffer, offset, data)
    }

    fn read(&self, buffer: BufferId, offset: usize, data: &mut [u8]) -> Result<()> {
        self.before(Verb::Other)?;
        self.inner().read(buffer, offset, data)
    }

    fn prepare(&self, kernels: &[&'static Kernel]) -> Result<()> {
        self.before(Verb::Prepare(kernels))?;
        self.inner().prepare(kernels)
    }

    fn run(&self, commands: &[Command]) -> Result<()> {
        self.before(Verb::Run(commands))?;
        self.inner().run(commands)
    }

    fn finish(&self) -> Result<Vec<u64>> {
        self.before(Verb::Other)?;
        self.inner().finish()
    }

    fn submit(
        &self,
        writes: &[Write<'_>],
        commands: &[Command],
        reads: &mut [Read<'_>],
    ) -> Result<Vec<u64>> {
        self.submitted(writes, commands, reads)
    }

    fn circuit(&self) -> usize {
        self.has()
    }

    fn load(&self, circuit: usize) -> Result<()> {
        self.before(Verb::Other)?;
        self.given(circuit)
    }

    fn tuned(&self) -> Vec<Tuned> {
        self.inner().tuned()
    }

    fn refusals(&self) -> Vec<Error> {
        self.inner().refusals()
    }
}
