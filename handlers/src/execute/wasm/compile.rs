//! How code becomes a module: from an earlier compilation, or by a compiler. What would compile for
//! long is first made by the baseline compiler, which serves at once, and made again behind it by
//! the optimising one, at low priority; instances that begin from then on are of that code. Each
//! form has a file and a seal of its own.

use std::io::Cursor;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;
use wasmtime::component::Component;
use wasmtime::{Engine, Store};

use super::compiler::{self, engine_for, precompile};
use super::guest::Guest;
use super::model::Model;
use super::module::Module;
use super::runner::{Kind, Runner, Runners, engine_config};
use super::{Wasm, debug, trial_caller};
use crate::Digest;
use crate::execute::cache::Cache;
use crate::execute::workers::{Compile, Compilers, Uncompiled};
use crate::execute::{Answered, Code, Config, InvokeError, Time, bad_code};

/// How long a component may take to start when it is installed.
const TRIAL_MS: u64 = 5_000;
/// So long after code was written its seal vouches for the file: clocks of files have gone on.
const SETTLED: Duration = Duration::from_millis(20);
/// So long after code was loaded it is read whole: what made it be loaded comes first.
const READING_PAUSE: Duration = Duration::from_secs(1);
/// What is wrong with code that a compiler refuses.
const NOT_A_COMPONENT: &str = "not a component";
/// Why a node cannot run code that was not compiled for it.
const NO_COMPILER: &str = "nobody has compiled it for this node, which compiles nothing itself";

/// Makes code ready that [`Wasm`] then runs.
pub(in crate::execute) struct Installer {
    pub(super) wasm: Arc<Wasm>,
    pub(super) runners: Runners,
    /// Code of at least so many bytes is compiled in haste first.
    baseline_bytes_min: usize,
    /// Whether what nobody has compiled yet is compiled here.
    compiles: bool,
    pub(super) cache: Arc<Cache>,
    pub(super) compilers: Compilers,
    /// Compiling takes all cores; one at a time. What is compiled already waits for none.
    compiling: tokio::sync::Mutex<()>,
    /// Code that is optimised while its baseline form serves; one at a time.
    pub(super) behind: Arc<tokio::sync::Mutex<()>>,
    /// Code that is read whole after it was loaded; one at a time.
    reading: Arc<tokio::sync::Mutex<()>>,
    /// Stacks that are looked at.
    pub(super) debugging: Arc<Semaphore>,
}

impl Installer {
    pub(in crate::execute) fn start(
        config: &Config,
        cache: Arc<Cache>,
        wasm: Arc<Wasm>,
        compilers: Compilers,
    ) -> Result<Self, InvokeError> {
        Ok(Self {
            wasm,
            compilers,
            runners: Runners::start(config.instances_max)?,
            baseline_bytes_min: config.baseline_bytes_min,
            compiles: config.compile && compiler::IS_HERE,
            cache,
            compiling: tokio::sync::Mutex::default(),
            behind: Arc::default(),
            reading: Arc::default(),
            debugging: Arc::new(Semaphore::new(debug::AT_ONCE)),
        })
    }

    /// Whether components are compiled here.
    pub(in crate::execute) fn compiles(&self) -> bool {
        self.compiles
    }

    /// Names the kind of machine code that serves in the end.
    #[cfg(test)]
    pub(in crate::execute) fn fingerprint(&self) -> &str {
        &self.runners.usual().fingerprint
    }

    /// How many engines live.
    #[cfg(test)]
    pub(in crate::execute) fn engines(&self) -> usize {
        self.runners.count()
    }

    /// Whether somebody waits for code that is being compiled.
    #[cfg(test)]
    pub(in crate::execute) fn is_compiling(&self) -> bool {
        self.compiling.try_lock().is_err()
    }

    /// Keeps code from being optimised until it is dropped.
    #[cfg(test)]
    pub(in crate::execute) fn hold_behind(
        &self,
    ) -> impl Future<Output = tokio::sync::OwnedMutexGuard<()>> + use<> {
        Arc::clone(&self.behind).lock_owned()
    }

    /// Makes code ready; tells what it exports and whether it had to be compiled.
    pub(in crate::execute) async fn install(
        self: &Arc<Self>,
        code: &Code,
    ) -> Result<(Vec<String>, bool), InvokeError> {
        let model = Model::of(Cursor::new(&code.bytes));
        if let Some(exports) = self.found(code, model)? {
            return Ok((exports, false));
        }
        if !self.compiles {
            return Err(InvokeError::Node(format!("code {}: {NO_COMPILER}", code.digest)));
        }
        let _turn = self.compiling.lock().await;
        // Somebody may have compiled it meanwhile.
        if let Some(exports) = self.found(code, model)? {
            return Ok((exports, false));
        }
        let quick = self.make_quickly(code, model).await?;
        let is_quick = quick.is_some();
        let module = match quick {
            Some(module) => module,
            None => {
                let runner = self.runners.of(Kind::optimising(model))?;
                self.make(&runner, code, Haste::Now).await?
            }
        };
        let (exports, _) = self.take_in(&code.digest, module);
        if is_quick {
            self.optimise_behind(code.digest.clone());
        }
        Ok((exports, true))
    }

    /// What is installed or was compiled before.
    fn found(
        self: &Arc<Self>,
        code: &Code,
        model: Model,
    ) -> Result<Option<Vec<String>>, InvokeError> {
        match self.wasm.module(&code.digest) {
            Some(module) => Ok(Some(module.exports())),
            None => self.load(&code.digest, code.bytes.len(), model),
        }
    }

    /// Makes code ready that was optimised before and can be had at once; tells what it exports,
    /// or that it wants more than that.
    pub(in crate::execute) fn reinstall_at_once(&self, digest: &Digest) -> Option<Vec<String>> {
        if let Some(module) = self.wasm.module(digest) {
            return Some(module.exports());
        }
        let runner = self.runners.usual();
        let path = self.cache.at_hand(digest, &runner.fingerprint)?;
        let module = runner.link(digest, &runner.deserialize(&path).ok()?).ok()?;
        self.read_whole(digest.clone(), runner.fingerprint.clone());
        Some(self.take_in(digest, module).0)
    }

    /// Makes code ready that was compiled before; tells what it exports, or that it was not.
    pub(in crate::execute) async fn reinstall(
        self: &Arc<Self>,
        digest: &Digest,
    ) -> Result<Option<Vec<String>>, InvokeError> {
        if let Some(module) = self.wasm.module(digest) {
            return Ok(Some(module.exports()));
        }
        // Most code is found so, and its source need not be looked at.
        if let Some(exports) = self.load_optimised(digest, Model::Serial)? {
            return Ok(Some(exports));
        }
        let Some(source) = self.cache.source_file(digest) else { return Ok(None) };
        let len = source.metadata().map_or(0, |source| source.len() as usize);
        match Model::of(source) {
            Model::Serial => self.load_baseline(digest, len, Model::Serial),
            model => self.load(digest, len, model),
        }
    }

    /// Has a module serve, unless one does already that somebody else has loaded meanwhile. Tells
    /// what serves, and whether it is this.
    pub(super) fn take_in(&self, digest: &Digest, module: Arc<Module>) -> (Vec<String>, bool) {
        let mut modules = self.wasm.modules.write().unwrap_or_else(PoisonError::into_inner);
        let serves = modules.entry(digest.clone()).or_insert_with(|| Arc::clone(&module));
        (serves.exports(), Arc::ptr_eq(serves, &module))
    }

    /// An earlier compilation from disk, the better one if there are two.
    fn load(
        self: &Arc<Self>,
        digest: &Digest,
        source_len: usize,
        model: Model,
    ) -> Result<Option<Vec<String>>, InvokeError> {
        match self.load_optimised(digest, model)? {
            Some(exports) => Ok(Some(exports)),
            None => self.load_baseline(digest, source_len, model),
        }
    }

    fn load_baseline(
        self: &Arc<Self>,
        digest: &Digest,
        source_len: usize,
        model: Model,
    ) -> Result<Option<Vec<String>>, InvokeError> {
        let Some(baseline) = self.baseline_for(source_len, model) else { return Ok(None) };
        let Some(component) = self.load_of(&baseline, digest) else { return Ok(None) };
        let (exports, is_new) = self.take_in(digest, baseline.link(digest, &component)?);
        if is_new {
            self.optimise_behind(digest.clone());
        }
        Ok(Some(exports))
    }

    fn load_optimised(
        &self,
        digest: &Digest,
        model: Model,
    ) -> Result<Option<Vec<String>>, InvokeError> {
        let optimising = self.runners.of(Kind::optimising(model))?;
        let Some(component) = self.load_of(&optimising, digest) else { return Ok(None) };
        let module = optimising.link(digest, &component)?;
        Ok(Some(self.take_in(digest, module).0))
    }

    /// One form of it from disk. Whatever is wrong with it, compiling anew mends it. It serves at
    /// once, and is read whole beside that: a disk that has lost bits is found out.
    fn load_of(&self, runner: &Arc<Runner>, digest: &Digest) -> Option<Component> {
        let refuse = |why: &dyn std::fmt::Display| {
            tracing::warn!(%digest, "compiled code is refused and made anew: {why:#}");
            None
        };
        match self.cache.compiled(digest, &runner.fingerprint) {
            Ok(path) => match runner.deserialize(&path?) {
                Ok(component) => {
                    self.read_whole(digest.clone(), runner.fingerprint.clone());
                    Some(component)
                }
                Err(error) => refuse(&error),
            },
            Err(why) => refuse(&why),
        }
    }

    /// Among the guests, whoever asks: what is read ends with them.
    fn read_whole(&self, digest: Digest, engine: String) {
        let cache = Arc::clone(&self.cache);
        let (modules, reading) = (Arc::clone(&self.wasm.modules), Arc::clone(&self.reading));
        self.wasm.threads.spawn(async move {
            tokio::time::sleep(READING_PAUSE).await;
            let _turn = reading.lock().await;
            let read = tokio::task::spawn_blocking(move || {
                let Err(why) = cache.check_compiled(&digest, &engine) else { return };
                let mut modules = modules.write().unwrap_or_else(PoisonError::into_inner);
                // Not if it serves no longer: its file may be gone by now.
                if modules.get(&digest).is_some_and(|module| module.runner.fingerprint == engine) {
                    modules.remove(&digest);
                    tracing::error!(%digest, "compiled code is given up and made anew: {why}");
                    cache.remove_compiled(&digest, &engine);
                }
            });
            read.await
        });
    }

    /// The baseline compiler, for code that is worth it, on machines that it knows.
    fn baseline_for(&self, source_len: usize, model: Model) -> Option<Arc<Runner>> {
        if source_len < self.baseline_bytes_min || !self.compiles {
            return None;
        }
        let no_baseline = |error: &InvokeError| {
            tracing::info!("no baseline compiler on this machine: {error}");
        };
        self.runners.of(Kind::baseline(model)).inspect_err(no_baseline).ok()
    }

    /// By the baseline compiler, if that is worth it and can be done. What takes too much there is
    /// not given to the other one.
    async fn make_quickly(
        &self,
        code: &Code,
        model: Model,
    ) -> Result<Option<Arc<Module>>, InvokeError> {
        let Some(runner) = self.baseline_for(code.bytes.len(), model) else { return Ok(None) };
        let (digest, started) = (&code.digest, Instant::now());
        let made = match self.compile(&runner, code, Haste::Now).await {
            Ok(compiled) => self.keep_and_prove(&runner, digest, &compiled).await,
            Err(error @ (Uncompiled::TooMuch(_) | Uncompiled::Node(_))) => {
                return Err(error.of(digest, NOT_A_COMPONENT));
            }
            Err(error) => Err(error.of(digest, NOT_A_COMPONENT)),
        };
        match made {
            Ok(module) => {
                let took_ms = started.elapsed().as_millis() as u64;
                tracing::info!(%digest, took_ms, "baseline code serves; it is optimised meanwhile");
                Ok(Some(module))
            }
            Err(why) => {
                tracing::info!(%digest, "not for the baseline compiler, optimised at once: {why}");
                Ok(None)
            }
        }
    }

    /// Compiles code, tries that it starts, and seals what came of it.
    async fn make(
        &self,
        runner: &Arc<Runner>,
        code: &Code,
        haste: Haste,
    ) -> Result<Arc<Module>, InvokeError> {
        let compiled = self.compile(runner, code, haste).await;
        let compiled = compiled.map_err(|error| error.of(&code.digest, NOT_A_COMPONENT))?;
        self.keep_and_prove(runner, &code.digest, &compiled).await
    }

    async fn keep_and_prove(
        &self,
        runner: &Arc<Runner>,
        digest: &Digest,
        compiled: &[u8],
    ) -> Result<Arc<Module>, InvokeError> {
        // Made a moment ago by this engine: what keeps it from being loaded is the code itself.
        let component = self.keep(runner, digest, compiled, "asks for too much")?;
        self.prove(runner, digest, &component).await
    }

    /// Tries that code starts which has no seal yet, and seals it.
    pub(super) async fn prove(
        &self,
        runner: &Arc<Runner>,
        digest: &Digest,
        component: &Component,
    ) -> Result<Arc<Module>, InvokeError> {
        let engine = &runner.fingerprint;
        let tried = self.try_out(runner, digest, component).await;
        let module = tried.inspect_err(|_| self.cache.remove_compiled(digest, engine))?;
        self.cache
            .seal_compiled(digest, engine)
            .map_err(|error| InvokeError::Node(format!("code {digest}: {error}")))?;
        self.seal_again(digest.clone(), engine.clone());
        Ok(module)
    }

    /// A seal that was made in the same step of the clock as its file does not vouch for it, which
    /// is found out, and mended, by looking: now, beside serving, rather than when the node starts.
    fn seal_again(&self, digest: Digest, engine: String) {
        let cache = Arc::clone(&self.cache);
        tokio::spawn(async move {
            tokio::time::sleep(SETTLED).await;
            tokio::task::spawn_blocking(move || cache.compiled(&digest, &engine)).await
        });
    }

    async fn compile(
        &self,
        runner: &Runner,
        code: &Code,
        haste: Haste,
    ) -> Result<Bytes, Uncompiled> {
        let Kind { compiler, model } = runner.kind;
        let (concurrent, behind) = (model == Model::Concurrent, matches!(haste, Haste::Behind));
        let job = Compile { compiler, concurrent, machine: None, behind, cpu_s: 0 };
        self.compilers.compile(job, code.bytes.clone()).await
    }

    /// Writes compiled code down, and loads it; `unless` says what it is that cannot be loaded.
    pub(super) fn keep(
        &self,
        runner: &Runner,
        digest: &Digest,
        compiled: &[u8],
        unless: &str,
    ) -> Result<Component, InvokeError> {
        let path = self
            .cache
            .put_compiled(digest, &runner.fingerprint, compiled)
            .map_err(|error| InvokeError::Node(format!("code {digest}: {error}")))?;
        runner.deserialize(&path).map_err(|error| {
            self.cache.remove_compiled(digest, &runner.fingerprint);
            bad_code(digest, format!("{unless}: {error:#}"))
        })
    }

    /// Starts an instance once, so that code which cannot start or whose functions have other
    /// types is refused when it comes, not when the first event does.
    async fn try_out(
        &self,
        runner: &Arc<Runner>,
        digest: &Digest,
        component: &Component,
    ) -> Result<Arc<Module>, InvokeError> {
        let module = runner.link(digest, component)?;
        let deadline = Instant::now() + Duration::from_millis(TRIAL_MS);
        let time = Time { deadline, limit_ms: TRIAL_MS };
        let _slot = self.wasm.slot(time).await?;
        let guest = Guest::new(Arc::clone(&self.wasm.host), trial_caller(digest, deadline));
        let mut store = runner.store(guest);
        let trial = runner.run(&mut store, time, async |store: &mut Store<Guest>| {
            let instance = module.instantiate(store).await?;
            module.check_types(&instance, store)?;
            Ok(Ok(Answered::default()))
        });
        match trial.await {
            Ok(_) => Ok(module),
            Err(error) => Err(bad_code(digest, format!("does not start: {error}"))),
        }
    }

    /// Makes optimised code of what serves already, and lets that serve.
    fn optimise_behind(self: &Arc<Self>, digest: Digest) {
        let this = Arc::downgrade(self);
        let turns = Arc::clone(&self.behind);
        tokio::spawn(async move {
            let _turn = turns.lock().await;
            let started = Instant::now();
            match optimise(&this, &digest).await {
                Ok(true) => {
                    let took_ms = started.elapsed().as_millis() as u64;
                    tracing::info!(%digest, took_ms, "optimised code serves from now on");
                }
                Ok(false) => {}
                Err(why) => tracing::warn!(%digest, "baseline code goes on to serve: {why}"),
            }
        });
    }

    /// Puts optimised code in place of what serves, unless it was uninstalled meanwhile.
    fn swap(&self, digest: &Digest, module: Arc<Module>) -> bool {
        {
            let mut modules = self.wasm.modules.write().unwrap_or_else(PoisonError::into_inner);
            let Some(place) = modules.get_mut(digest) else {
                self.cache.remove_compiled(digest, &module.runner.fingerprint);
                return false;
            };
            let before = std::mem::replace(place, module);
            self.cache.remove_compiled(digest, &before.runner.fingerprint);
        }
        // Instances that wait are of the earlier code.
        self.wasm.waiting.forget(digest);
        self.wasm.crowds.forget(digest);
        true
    }
}

/// Compiles in this process, as a job says.
pub(in crate::execute) fn compile_here(job: &Compile, bytes: &[u8]) -> wasmtime::Result<Vec<u8>> {
    let model = if job.concurrent { Model::Concurrent } else { Model::Serial };
    let config = engine_config(Kind { compiler: job.compiler, model }, 1);
    let engine = match job.machine {
        Some(machine) => engine_for(machine.triple(), config)?,
        None => Engine::new(&config)?,
    };
    precompile(&engine, bytes, job.behind)
}

async fn optimise(installer: &Weak<Installer>, digest: &Digest) -> Result<bool, InvokeError> {
    // Gone means that the node stops.
    let Some(this) = installer.upgrade() else { return Ok(false) };
    let model = this.wasm.module(digest).map(|module| module.runner.kind.model);
    let Some(model) = model else { return Ok(false) };
    let runner = this.runners.of(Kind::optimising(model))?;
    let (cache, wanted) = (Arc::clone(&this.cache), digest.clone());
    let read = tokio::task::spawn_blocking(move || cache.source(&wanted)).await;
    let Ok(Some(bytes)) = read else {
        return Err(InvokeError::Node("its source is not in the code folder any more".to_owned()));
    };
    let kind = crate::manifest::CodeKind::Component;
    let code = Code { digest: digest.clone(), kind, bytes: Bytes::from(bytes) };
    let module = this.make(&runner, &code, Haste::Behind).await?;
    Ok(this.swap(digest, module))
}

/// Who waits for a compiler.
#[derive(Clone, Copy)]
enum Haste {
    /// Somebody's first request: it may have every core.
    Now,
    /// Nobody.
    Behind,
}
