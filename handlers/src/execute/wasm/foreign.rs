//! Code that is compiled on one node for the machines of others, and taken from such a node. It is
//! always optimised, for the oldest machine of its kind.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;

use super::compile::Installer;
use super::model::Model;
use super::runner::{Compiler, Kind};
use crate::Digest;
use crate::execute::parcel::Machine;
use crate::execute::workers::Compile;
use crate::execute::{Code, InvokeError};

impl Installer {
    /// Compiles a component for a machine, behind all that serves; tells whether it wants the
    /// engine for WASI 0.3.
    pub(in crate::execute) async fn compile_for(
        &self,
        code: &Code,
        machine: Machine,
    ) -> Result<(bool, Bytes), InvokeError> {
        let _turn = self.behind.lock().await;
        let (model, name) = (Model::of(Cursor::new(&code.bytes)), machine.name());
        let (concurrent, machine) = (model == Model::Concurrent, Some(machine));
        let job =
            Compile { compiler: Compiler::Optimising, concurrent, machine, behind: true, cpu_s: 0 };
        let compiled = self.compilers.compile(job, code.bytes.clone()).await;
        let refused = format!("not compiled for {name}");
        Ok((concurrent, compiled.map_err(|error| error.of(&code.digest, &refused))?))
    }

    /// Makes code ready of which another node, which is trusted, made the compiled form.
    pub(in crate::execute) async fn install_compiled(
        self: &Arc<Self>,
        digest: &Digest,
        concurrent: bool,
        compiled: &[u8],
    ) -> Result<Vec<String>, InvokeError> {
        if let Some(module) = self.wasm.module(digest) {
            return Ok(module.exports());
        }
        let model = if concurrent { Model::Concurrent } else { Model::Serial };
        let runner = self.runners.of(Kind::optimising(model))?;
        let component = self.keep(&runner, digest, compiled, "does not run here")?;
        let module = self.prove(&runner, digest, &component).await?;
        Ok(self.take_in(digest, module).0)
    }
}
