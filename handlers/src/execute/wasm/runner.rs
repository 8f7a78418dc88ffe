//! A compiler and what runs its code: the engine with its pool, the linker, the clock. Each kind is
//! another engine, and none can run the code of another. One is always there; the others are made
//! when code wants them, and go with the last of it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wasmtime::component::{Component, Linker};
use wasmtime::{
    Config as EngineConfig, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    Store, Trap, UpdateDeadline, WasmBacktrace,
};
use wasmtime_wasi::I32Exit;

use super::compiler;
use super::guest::{self, Guest};
use super::model::Model;
use super::module::Module;
use super::ticker::{Running, Ticker};
use crate::Digest;
use crate::execute::cpu::{Metered, Spent};
use crate::execute::lines::stack_in;
use crate::execute::turn::give_way;
use crate::execute::{Answer, InvokeError, Time, bad_code};

/// Largest memory of one instance, whatever its handler's limit says.
const MEMORY_BYTES_MAX: usize = 1 << 30;
/// Memory that stays with a slot between invocations.
const KEEP_BYTES: usize = 4 << 20;
/// Core instances of one component: one made from Python has 68 where they are not joined.
const CORE_INSTANCES_MAX: u32 = 120;
/// Memories and tables of one component.
const MEMORIES_MAX: u32 = 10;
const TABLES_MAX: u32 = 20;
/// Stacks of one instance, where its calls wait for each other: one for each call that began, at
/// most one for each component in it.
const CONCURRENT_STACKS: u32 = 4;

/// What made a component's machine code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compiler {
    /// In one pass, in a quarter of the time; the code runs at less than half the speed.
    Baseline,
    /// With all that is known of optimising.
    Optimising,
}

impl Compiler {
    /// Its lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Optimising => "optimising",
        }
    }
}

/// What an engine is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub(super) compiler: Compiler,
    pub(super) model: Model,
}

impl Kind {
    pub(super) fn optimising(model: Model) -> Self {
        Self { compiler: Compiler::Optimising, model }
    }

    pub(super) fn baseline(model: Model) -> Self {
        Self { compiler: Compiler::Baseline, model }
    }
}

/// The engines of a node.
pub(super) struct Runners {
    /// Optimises what makes one call at a time, as nearly all code does.
    usual: Arc<Runner>,
    /// They live as long as there is code of theirs.
    others: Mutex<HashMap<Kind, Weak<Runner>>>,
    instances_max: u32,
}

impl Runners {
    pub(super) fn start(instances_max: u32) -> Result<Self, InvokeError> {
        let usual = Arc::new(Runner::start(Kind::optimising(Model::Serial), instances_max)?);
        Ok(Self { usual, others: Mutex::default(), instances_max })
    }

    /// The engine of a kind, made if there is none.
    pub(super) fn of(&self, kind: Kind) -> Result<Arc<Runner>, InvokeError> {
        if kind == self.usual.kind {
            return Ok(Arc::clone(&self.usual));
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runner) = others.get(&kind).and_then(Weak::upgrade) {
            return Ok(runner);
        }
        let runner = Arc::new(Runner::start(kind, self.instances_max)?);
        others.insert(kind, Arc::downgrade(&runner));
        Ok(runner)
    }

    /// The one that is always there.
    pub(super) fn usual(&self) -> &Arc<Runner> {
        &self.usual
    }

    /// How many of them live.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        1 + others.values().filter(|runner| runner.strong_count() > 0).count()
    }
}

pub(super) struct Runner {
    pub(super) kind: Kind,
    pub(super) engine: Engine,
    /// Names the engine's kind of machine code.
    pub(super) fingerprint: String,
    linker: Linker<Guest>,
    ticker: Ticker,
}

impl Runner {
    pub(super) fn start(kind: Kind, instances_max: u32) -> Result<Self, InvokeError> {
        let node = |error: wasmtime::Error| {
            InvokeError::Node(format!("{} wasm engine: {error:#}", kind.compiler.name()))
        };
        let engine = Engine::new(&engine_config(kind, instances_max)).map_err(node)?;
        let linker = guest::linker(&engine, kind.model).map_err(node)?;
        let ticker = Ticker::start(engine.clone())
            .map_err(|error| InvokeError::Node(format!("guest clock: {error}")))?;
        let fingerprint = fingerprint(&engine, kind.model);
        Ok(Self { kind, fingerprint, linker, engine, ticker })
    }

    /// Code ready to be instantiated; says why it cannot be.
    pub(super) fn link(
        self: &Arc<Self>,
        digest: &Digest,
        component: &Component,
    ) -> Result<Arc<Module>, InvokeError> {
        let linked = Module::new(Arc::clone(self), &self.linker, component);
        linked
            .map(Arc::new)
            .map_err(|error| bad_code(digest, format!("not a component for edgescale: {error:#}")))
    }

    pub(super) fn store(&self, guest: Guest) -> Store<Guest> {
        let mut store = Store::new(&self.engine, guest);
        store.limiter(|guest| &mut guest.memory);
        store.epoch_deadline_callback(|context| {
            if Instant::now() >= context.data().caller().deadline {
                return Err(wasmtime::Error::new(TimedOut));
            }
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(give_way())))
        });
        store
    }

    /// Call before a guest is entered: its clock goes as long as the result lives.
    pub(super) fn enter(&self) -> Running {
        self.ticker.enter()
    }

    /// One invocation: bounded, then explained.
    pub(super) async fn run(
        &self,
        store: &mut Store<Guest>,
        time: Time,
        body: impl AsyncFnOnce(&mut Store<Guest>) -> wasmtime::Result<Answer>,
    ) -> Answer {
        let _running = self.enter();
        store.set_epoch_deadline(1);
        let cpu_ms = store.data().caller().target.limits.cpu_ms;
        let outcome = tokio::time::timeout_at(time.deadline.into(), async {
            match cpu_ms {
                None => Ok(body(store).await),
                Some(ms) => Metered::new(body(store), Duration::from_millis(ms.into())).await,
            }
        });
        let outcome = outcome.await;
        store.data().finish_output();
        match outcome {
            Ok(Ok(Ok(answer))) => answer.map_err(|error| with_stack(error, store.data())),
            Ok(Ok(Err(error))) => Err(explain(&error, store.data(), time)),
            Ok(Err(Spent)) => Err(InvokeError::CpuTime { limit_ms: cpu_ms.unwrap_or(0).into() }),
            Err(_) => Err(time.out()),
        }
    }

    #[allow(unsafe_code)]
    pub(super) fn deserialize(&self, path: &Path) -> wasmtime::Result<Component> {
        // SAFETY: the file is one that this program wrote, as `precompile_component` made it here
        // or at a node that is trusted, in a folder that only its owner can enter; its seal was
        // looked at just before, or it was written just before.
        unsafe { Component::deserialize_file(&self.engine, path) }
    }
}

/// The guest computed beyond its deadline.
#[derive(Debug, thiserror::Error)]
#[error("time limit reached")]
struct TimedOut;

/// What a guest's end is called.
pub(super) fn explain(error: &wasmtime::Error, guest: &Guest, time: Time) -> InvokeError {
    if guest.memory.was_hit {
        return InvokeError::OutOfMemory { limit_mb: guest.caller().target.limits.memory_mb };
    }
    if error.is::<TimedOut>() || error.downcast_ref() == Some(&Trap::Interrupt) {
        return time.out();
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return InvokeError::Overloaded { retry_after_ms: time.limit_ms };
    }
    let mut message = match error.downcast_ref::<I32Exit>() {
        Some(exit) => format!("exited with status {}", exit.0),
        None => error.root_cause().to_string(),
    };
    let (last_words, mut backtrace) = guest.last_words();
    if !last_words.is_empty() {
        message = format!("{message}: {last_words}");
    }
    if let Some(frames) = error.downcast_ref::<WasmBacktrace>() {
        let between = if backtrace.is_empty() { "" } else { "\n" };
        backtrace += &format!("{between}{frames}");
    }
    InvokeError::GuestTrap { message, backtrace }
}

/// What a guest said of its failure, with the stack of its language if it told one: in the error
/// itself, or before.
fn with_stack(error: InvokeError, guest: &Guest) -> InvokeError {
    let InvokeError::GuestError(message) = error else { return error };
    if let Some((message, backtrace)) = stack_in(&message) {
        return InvokeError::GuestRaised { message, backtrace };
    }
    match guest.last_words() {
        (_, backtrace) if !backtrace.is_empty() => InvokeError::GuestRaised { message, backtrace },
        _ => InvokeError::GuestError(message),
    }
}

/// The pool has for each instance what the largest component may have: whatever others are made
/// of, one that gets a place finds the rest of it too. What is not used is address space alone.
pub(super) fn engine_config(kind: Kind, instances_max: u32) -> EngineConfig {
    let is_concurrent = kind.model == Model::Concurrent;
    let stacks = if is_concurrent { CONCURRENT_STACKS } else { 1 };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances_max)
        .total_core_instances(instances_max.saturating_mul(CORE_INSTANCES_MAX))
        .total_memories(instances_max.saturating_mul(MEMORIES_MAX))
        .total_tables(instances_max.saturating_mul(TABLES_MAX))
        .total_stacks(instances_max.saturating_mul(stacks))
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_component_instance_size(8 << 20)
        .max_core_instance_size(8 << 20)
        .max_memory_size(MEMORY_BYTES_MAX)
        .table_elements(200_000)
        .linear_memory_keep_resident(KEEP_BYTES)
        .table_keep_resident(1 << 20)
        .async_stack_keep_resident(64 << 10)
        .max_unused_warm_slots(instances_max)
        .pagemap_scan(Enabled::Auto);
    let mut config = EngineConfig::new();
    compiler::choose(&mut config, kind.compiler);
    config
        .epoch_interruption(true)
        .memory_init_cow(true)
        .concurrency_support(is_concurrent)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

fn fingerprint(engine: &Engine, model: Model) -> String {
    let mut hasher = DefaultHasher::new();
    compiler::compatibility(engine).hash(&mut hasher);
    let hash = hasher.finish();
    match model {
        Model::Serial => format!("{hash:016x}"),
        Model::Concurrent => format!("concurrent-{hash:016x}"),
    }
}
