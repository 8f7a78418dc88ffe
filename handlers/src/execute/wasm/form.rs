//! Compiled code as a worker process is told of it: what made it and which engine can run it. The
//! node has checked its seal; the worker loads it and never compiles.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::model::Model;
use super::runner::{Compiler, Kind, Runner};
use super::{PoisonError, Wasm};
use crate::Digest;
use crate::execute::{Host, InvokeError, bad_code};

/// Which of the forms of some code serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::execute) struct Form {
    compiler: Compiler,
    /// Whether it wants the engine for WASI 0.3.
    concurrent: bool,
    /// Names the engine's kind of machine code.
    pub(in crate::execute) engine: String,
}

impl Wasm {
    /// The form by which some code serves now; none if it is not installed.
    pub(in crate::execute) fn form(&self, digest: &Digest) -> Option<Form> {
        let module = self.module(digest)?;
        let Kind { compiler, model } = module.runner.kind;
        let concurrent = model == Model::Concurrent;
        Some(Form { compiler, concurrent, engine: module.runner.fingerprint.clone() })
    }

    /// With one component alone, of which so many instances may live at once, on this thread.
    pub(in crate::execute) fn of_one(
        digest: &Digest,
        form: &Form,
        file: &Path,
        instances_max: u32,
        host: Arc<dyn Host>,
    ) -> Result<Self, InvokeError> {
        let model = if form.concurrent { Model::Concurrent } else { Model::Serial };
        let kind = Kind { compiler: form.compiler, model };
        let runner = Arc::new(Runner::start(kind, instances_max)?);
        let component = runner.deserialize(file);
        let component = component.map_err(|error| bad_code(digest, format!("{error:#}")))?;
        let module = runner.link(digest, &component)?;
        let wasm = Self::new(instances_max, Duration::ZERO, host, Handle::current());
        wasm.modules.write().unwrap_or_else(PoisonError::into_inner).insert(digest.clone(), module);
        Ok(wasm)
    }
}
