//! Code that is compiled on one node for the machines of others, and taken from such a node. It is
//! always optimised, for the oldest machine of its kind.

use std::io::Cursor;
use std::sync::Arc;

use super::compile::Installer;
use super::compiler::precompile_for;
use super::model::Model;
use super::runner::{Kind, engine_config};
use crate::Digest;
use crate::execute::parcel::Machine;
use crate::execute::{Code, InvokeError, bad_code};

impl Installer {
    /// Compiles a component for a machine, behind all that serves; tells whether it wants the
    /// engine for WASI 0.3.
    pub(in crate::execute) async fn compile_for(
        &self,
        code: &Code,
        machine: Machine,
    ) -> Result<(bool, Vec<u8>), InvokeError> {
        let _turn = self.behind.lock().await;
        let model = Model::of(Cursor::new(&code.bytes));
        let bytes = code.bytes.clone();
        let work = tokio::task::spawn_blocking(move || {
            precompile_for(machine.triple(), engine_config(Kind::optimising(model), 1), &bytes)
        });
        let name = machine.name();
        let compiled = work
            .await
            .map_err(|_| bad_code(&code.digest, "the compiler broke down over it"))?
            .map_err(|error| {
                bad_code(&code.digest, format!("not compiled for {name}: {error:#}"))
            })?;
        Ok((model == Model::Concurrent, compiled))
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
        let _turn = self.compiling.lock().await;
        let model = if concurrent { Model::Concurrent } else { Model::Serial };
        let runner = self.runners.of(Kind::optimising(model))?;
        let component = self.keep(&runner, digest, compiled, "does not run here")?;
        let module = self.prove(&runner, digest, &component).await?;
        Ok(self.take_in(digest, module))
    }
}
