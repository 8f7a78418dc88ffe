//! WebAssembly components: compiled once per code and engine, instantiated afresh for every
//! invocation unless the handler says otherwise, bounded in time (epochs), memory and log output.

mod config;
mod guest;
mod kept;
mod keyvalue;
mod limits;
mod logging;
mod messaging;
mod module;
mod outgoing;
mod output;
mod ticker;
mod web;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{Component, Linker};
use wasmtime::{
    Config as EngineConfig, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    Store, Trap, UpdateDeadline, WasmBacktrace,
};
use wasmtime_wasi::I32Exit;

use self::guest::Guest;
use self::kept::{Kept, Waiting};
use self::module::Module;
use self::ticker::Ticker;
use super::cache::Cache;
use super::turn::give_way;
use super::{
    Answer, Answered, Caller, Code, Config, Host, Invocation, InvokeError, Time, bad_code,
};
use crate::Digest;

/// Largest memory of one instance, whatever its handler's limit says.
const MEMORY_BYTES_MAX: usize = 1 << 30;
/// Memory that stays with a slot between invocations.
const KEEP_BYTES: usize = 4 << 20;
/// How long a component may take to start when it is installed.
const TRIAL_MS: u64 = 5_000;
/// How much of a trap's text and backtrace is passed on.
const TRAP_TEXT_MAX: usize = 8 << 10;

pub(super) struct Wasm {
    engine: Engine,
    linker: Linker<Guest>,
    /// Names the engine's kind of machine code.
    fingerprint: String,
    cache: Arc<Cache>,
    host: Arc<dyn Host>,
    modules: Modules,
    ticker: Ticker,
    /// One permit per instance the pool can hold.
    slots: Arc<Semaphore>,
    /// Instances of handlers that keep theirs for a while.
    waiting: Waiting,
    /// Compiling takes all cores; one at a time.
    compiling: tokio::sync::Mutex<()>,
    /// Code that is read whole after it was loaded; one at a time.
    reading: Arc<tokio::sync::Mutex<()>>,
}

type Modules = Arc<RwLock<HashMap<Digest, Arc<Module>>>>;

impl Wasm {
    pub(super) fn start(
        config: &Config,
        cache: Arc<Cache>,
        host: Arc<dyn Host>,
    ) -> Result<Self, InvokeError> {
        let node = |error: wasmtime::Error| InvokeError::Node(format!("wasm engine: {error:#}"));
        let engine = Engine::new(&engine_config(config.instances_max)).map_err(node)?;
        let linker = guest::linker(&engine).map_err(node)?;
        let ticker = Ticker::start(engine.clone())
            .map_err(|error| InvokeError::Node(format!("guest clock: {error}")))?;
        Ok(Self {
            fingerprint: fingerprint(&engine),
            linker,
            engine,
            cache,
            host,
            modules: Modules::default(),
            ticker,
            slots: Arc::new(Semaphore::new(config.instances_max as usize)),
            waiting: Waiting::default(),
            compiling: tokio::sync::Mutex::default(),
            reading: Arc::default(),
        })
    }

    /// Names the engine's kind of machine code.
    #[cfg(test)]
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(super) fn is_installed(&self, digest: &Digest) -> bool {
        self.module(digest).is_some()
    }

    pub(super) fn uninstall(&self, digest: &Digest) {
        self.modules.write().unwrap_or_else(PoisonError::into_inner).remove(digest);
        self.waiting.forget(digest);
    }

    /// Makes code ready; tells what it exports and whether it had to be compiled.
    pub(super) async fn install(&self, code: &Code) -> Result<(Vec<String>, bool), InvokeError> {
        if let Some(module) = self.module(&code.digest) {
            return Ok((module.exports(), false));
        }
        let _turn = self.compiling.lock().await;
        if let Some(component) = self.load(&code.digest) {
            return Ok((self.take_in(&code.digest, self.link(&code.digest, &component)?), false));
        }
        let component = self.compile(code).await?;
        let tried = self.try_out(&code.digest, &component).await;
        let module =
            tried.inspect_err(|_| self.cache.remove_compiled(&code.digest, &self.fingerprint))?;
        self.cache
            .seal_compiled(&code.digest, &self.fingerprint)
            .map_err(|error| InvokeError::Node(format!("code {}: {error}", code.digest)))?;
        Ok((self.take_in(&code.digest, module), true))
    }

    /// Makes code ready that was compiled before; tells what it exports, or that it was not.
    pub(super) async fn reinstall(
        &self,
        digest: &Digest,
    ) -> Result<Option<Vec<String>>, InvokeError> {
        if let Some(module) = self.module(digest) {
            return Ok(Some(module.exports()));
        }
        let _turn = self.compiling.lock().await;
        let Some(component) = self.load(digest) else { return Ok(None) };
        Ok(Some(self.take_in(digest, self.link(digest, &component)?)))
    }

    fn link(&self, digest: &Digest, component: &Component) -> Result<Arc<Module>, InvokeError> {
        let linked = Module::new(&self.linker, component);
        linked
            .map(Arc::new)
            .map_err(|error| bad_code(digest, format!("not a component for edgescale: {error:#}")))
    }

    fn take_in(&self, digest: &Digest, module: Arc<Module>) -> Vec<String> {
        let exports = module.exports();
        let mut modules = self.modules.write().unwrap_or_else(PoisonError::into_inner);
        modules.insert(digest.clone(), module);
        exports
    }

    /// Runs an installed component: in a fresh instance, unless the handler lets one serve
    /// several invocations.
    pub(super) async fn invoke(
        &self,
        invocation: Invocation,
        caller: Caller,
        time: Time,
    ) -> Answer {
        let target = Arc::clone(&invocation.target);
        let module = self
            .module(&target.digest)
            .ok_or_else(|| InvokeError::NotInstalled(target.digest.clone()))?;
        let serves_max = target.limits.reuse.unwrap_or(1);
        let kept = if serves_max > 1 { self.waiting.take(&caller) } else { None };
        let (mut store, mut instance, served, slot) = match kept {
            Some(mut kept) => {
                kept.store.data_mut().turn_to(caller);
                (kept.store, Some(kept.instance), kept.served, kept.slot)
            }
            None => {
                let slot = self.slot(time).await?;
                (self.store(Guest::new(Arc::clone(&self.host), caller)), None, 0, slot)
            }
        };
        let Invocation { attempt, input, outlet, .. } = invocation;
        let answer = self.run(&mut store, time, async |store: &mut Store<Guest>| {
            module.handle(store, &mut instance, input, attempt, outlet).await
        });
        let answer = answer.await;
        let served = served + 1;
        // Only who came back to its caller can be called again.
        let came_back = matches!(answer, Ok(_) | Err(InvokeError::GuestError(_)));
        if let Some(instance) = instance.filter(|_| came_back && served < serves_max) {
            self.waiting.put(Kept { store, instance, served, slot });
        }
        answer
    }

    /// A place for one more instance; when there is none, one that waits makes room.
    async fn slot(&self, time: Time) -> Result<OwnedSemaphorePermit, InvokeError> {
        if self.slots.available_permits() == 0 {
            self.waiting.end_longest();
        }
        let free = Arc::clone(&self.slots).acquire_owned();
        match tokio::time::timeout_at(time.deadline.into(), free).await {
            Ok(permit) => permit.map_err(|_| InvokeError::Stopped),
            Err(_) => Err(InvokeError::Overloaded { retry_after_ms: time.limit_ms }),
        }
    }

    fn module(&self, digest: &Digest) -> Option<Arc<Module>> {
        self.modules.read().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// An earlier compilation from disk. Whatever is wrong with it, compiling anew mends it. It
    /// serves at once, and is read whole beside that: a disk that has lost bits is found out.
    fn load(&self, digest: &Digest) -> Option<Component> {
        let refuse = |why: &dyn std::fmt::Display| {
            tracing::warn!(%digest, "compiled code is refused and made anew: {why:#}");
            None
        };
        match self.cache.compiled(digest, &self.fingerprint) {
            Ok(path) => match deserialize(&self.engine, &path?) {
                Ok(component) => {
                    self.read_whole(digest.clone());
                    Some(component)
                }
                Err(error) => refuse(&error),
            },
            Err(why) => refuse(&why),
        }
    }

    fn read_whole(&self, digest: Digest) {
        let (cache, engine) = (Arc::clone(&self.cache), self.fingerprint.clone());
        let (modules, reading) = (Arc::clone(&self.modules), Arc::clone(&self.reading));
        tokio::spawn(async move {
            let _turn = reading.lock().await;
            let read = tokio::task::spawn_blocking(move || {
                let found = cache.check_compiled(&digest, &engine);
                if let Err(why) = found
                    && modules
                        .write()
                        .unwrap_or_else(PoisonError::into_inner)
                        .remove(&digest)
                        .is_some()
                {
                    tracing::error!(%digest, "compiled code is given up and made anew: {why}");
                    cache.remove_compiled(&digest, &engine);
                }
            });
            read.await
        });
    }

    async fn compile(&self, code: &Code) -> Result<Component, InvokeError> {
        let engine = self.engine.clone();
        let bytes = code.bytes.clone();
        let work = tokio::task::spawn_blocking(move || engine.precompile_component(&bytes));
        let compiled = work
            .await
            .map_err(|_| bad_code(&code.digest, "the compiler broke down over it"))?
            .map_err(|error| bad_code(&code.digest, format!("not a component: {error:#}")))?;
        let path = self
            .cache
            .put_compiled(&code.digest, &self.fingerprint, &compiled)
            .map_err(|error| InvokeError::Node(format!("code {}: {error}", code.digest)))?;
        // Made a moment ago by this engine: what keeps it from being loaded is the code itself.
        deserialize(&self.engine, &path)
            .map_err(|error| bad_code(&code.digest, format!("asks for too much: {error:#}")))
    }

    /// Starts an instance once, so that code which cannot start or whose functions have other
    /// types is refused when it comes, not when the first event does.
    async fn try_out(
        &self,
        digest: &Digest,
        component: &Component,
    ) -> Result<Arc<Module>, InvokeError> {
        let module = self.link(digest, component)?;
        let deadline = Instant::now() + Duration::from_millis(TRIAL_MS);
        let time = Time { deadline, limit_ms: TRIAL_MS };
        let _slot = self.slot(time).await?;
        let guest = Guest::new(Arc::clone(&self.host), trial_caller(digest, deadline));
        let mut store = self.store(guest);
        let trial = self.run(&mut store, time, async |store: &mut Store<Guest>| {
            let instance = module.pre.instantiate_async(&mut *store).await?;
            module.check_types(&instance, store)?;
            Ok(Ok(Answered::default()))
        });
        match trial.await {
            Ok(_) => Ok(module),
            Err(error) => Err(bad_code(digest, format!("does not start: {error}"))),
        }
    }

    fn store(&self, guest: Guest) -> Store<Guest> {
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

    /// One invocation: bounded, then explained.
    async fn run(
        &self,
        store: &mut Store<Guest>,
        time: Time,
        body: impl AsyncFnOnce(&mut Store<Guest>) -> wasmtime::Result<Answer>,
    ) -> Answer {
        let _running = self.ticker.enter();
        store.set_epoch_deadline(1);
        let outcome = tokio::time::timeout_at(time.deadline.into(), body(store)).await;
        store.data().finish_output();
        match outcome {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(explain(&error, store.data(), time)),
            Err(_) => Err(time.out()),
        }
    }
}

/// The guest computed beyond its deadline.
#[derive(Debug, thiserror::Error)]
#[error("time limit reached")]
struct TimedOut;

fn explain(error: &wasmtime::Error, guest: &Guest, time: Time) -> InvokeError {
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
    let last_words = guest.last_words();
    if !last_words.is_empty() {
        message = format!("{message}: {last_words}");
    }
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string);
    InvokeError::GuestTrap { message: cut(message), backtrace: cut(backtrace.unwrap_or_default()) }
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().find(|(at, _)| *at >= TRAP_TEXT_MAX) {
        text.truncate(end);
    }
    text
}

fn trial_caller(digest: &Digest, deadline: Instant) -> Caller {
    let target = super::Target {
        app: String::new(),
        handler: "trial".into(),
        revision: 0,
        digest: digest.clone(),
        kind: crate::manifest::CodeKind::Component,
        entry: None,
        limits: crate::manifest::Limits { memory_mb: 512, ..Default::default() },
        bindings: Default::default(),
    };
    Caller {
        target: Arc::new(target),
        invocation: String::new(),
        trace: Default::default(),
        deadline,
        settings: Arc::default(),
    }
}

/// Components may hold many core instances: one made from Python has 68.
fn engine_config(instances_max: u32) -> EngineConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances_max)
        .total_core_instances(instances_max.saturating_mul(80))
        .total_memories(instances_max.saturating_mul(2))
        .total_tables(instances_max.saturating_mul(8))
        .total_stacks(instances_max)
        .max_core_instances_per_component(120)
        .max_tables_per_component(20)
        .max_memories_per_component(10)
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
    config
        .epoch_interruption(true)
        .memory_init_cow(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

fn fingerprint(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[allow(unsafe_code)]
fn deserialize(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file is one this program wrote with `precompile_component`, in a folder that
    // only its owner can enter, and its checksum was compared just before.
    unsafe { Component::deserialize_file(engine, path) }
}
