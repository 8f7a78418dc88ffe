//! WebAssembly components: compiled once per code and engine, instantiated afresh for every
//! invocation unless the handler says otherwise, bounded in time (epochs), memory and log output.

mod blobstore;
mod compile;
mod compiler;
mod config;
mod crowd;
mod debug;
mod foreign;
mod form;
mod guest;
#[cfg(feature = "compiler")]
mod join;
mod kept;
mod keyvalue;
mod limits;
mod logging;
mod messaging;
mod model;
mod module;
mod next;
mod outgoing;
mod output;
mod pictures;
mod runner;
mod service;
mod ticker;
mod topics;
mod web;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use bus::After;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Store;

pub(super) use self::compile::{Installer, compile_here};
pub use self::compiler::IS_HERE as HAS_COMPILER;
use self::crowd::{Asked, Beginning, Crowds, Visit};
pub(super) use self::form::Form;
use self::guest::Guest;
#[cfg(test)]
pub(super) use self::join::{joined, tests::SHARED};
use self::kept::{Kept, Waiting};
use self::module::Module;
use self::next::Used;
pub use self::runner::Compiler;
use super::turn::behind;
use super::{Answer, Answered, Caller, Host, Input, Invocation, InvokeError, Target, Time};
use crate::Digest;
use crate::manifest::FailureKind;

/// What is installed, and its instances.
pub(super) struct Wasm {
    host: Arc<dyn Host>,
    modules: Modules,
    /// One permit per instance a pool can hold.
    slots: Arc<Semaphore>,
    instances_max: usize,
    /// Instances of handlers that keep theirs for a while.
    waiting: Waiting,
    /// Those that serve several requests at once.
    crowds: Crowds,
    /// Where they do, and others that take long.
    threads: Handle,
    /// How long one that was made for whoever comes next waits.
    idle: Duration,
    /// Whether somebody ends those that waited so long.
    sweeps: AtomicBool,
}

type Modules = Arc<RwLock<HashMap<Digest, Arc<Module>>>>;

impl Wasm {
    /// Nothing is installed yet.
    pub(super) fn new(
        instances_max: u32,
        idle: Duration,
        host: Arc<dyn Host>,
        threads: Handle,
    ) -> Self {
        Self {
            host,
            modules: Modules::default(),
            slots: Arc::new(Semaphore::new(instances_max as usize)),
            instances_max: instances_max as usize,
            waiting: Waiting::default(),
            crowds: Crowds::default(),
            threads,
            idle: idle.min(next::IDLE_MAX),
            sweeps: AtomicBool::default(),
        }
    }

    /// Which compiler made the code that serves now; none if it is not installed.
    pub(super) fn compiler(&self, digest: &Digest) -> Option<Compiler> {
        self.module(digest).map(|module| module.runner.kind.compiler)
    }

    /// How many components serve by code of each compiler.
    pub(super) fn compiled_by(&self) -> [(Compiler, usize); 2] {
        let modules = self.modules();
        [Compiler::Baseline, Compiler::Optimising].map(|compiler| {
            let is_of = |module: &&Arc<Module>| module.runner.kind.compiler == compiler;
            (compiler, modules.values().filter(is_of).count())
        })
    }

    pub(super) fn is_installed(&self, digest: &Digest) -> bool {
        self.module(digest).is_some()
    }

    /// Whether a component is installed that reads the bodies of requests while they arrive.
    pub(super) fn reads_in_parts(&self, digest: &Digest) -> bool {
        self.module(digest).is_some_and(|module| module.reads_in_parts())
    }

    pub(super) fn uninstall(&self, digest: &Digest) {
        self.modules.write().unwrap_or_else(PoisonError::into_inner).remove(digest);
        self.waiting.forget(digest);
        self.crowds.forget(digest);
    }

    /// Runs an installed component: in a fresh instance, unless the handler lets one serve
    /// several invocations.
    pub(super) async fn invoke(
        self: &Arc<Self>,
        invocation: Invocation,
        caller: Caller,
        time: Time,
    ) -> Answer {
        let target = Arc::clone(&invocation.target);
        let module = self
            .module(&target.digest)
            .ok_or_else(|| InvokeError::NotInstalled(target.digest.clone()))?;
        if target.limits.at_once > 1 && module.is_service_for(&invocation.input, &target) {
            return Box::pin(self.join(invocation, caller, time, module)).await;
        }
        let serves_max = target.limits.reuse.unwrap_or(1);
        let may_wait = serves_max > 1 || target.limits.ready > 0;
        let kept = match may_wait {
            true => self.waiting.take(&caller).filter(|kept| Arc::ptr_eq(&kept.module, &module)),
            false if !module.next.is_worth() => None,
            false => module.next.take(&caller).map(|fresh| fresh.kept(&module)),
        };
        // The place comes first, so that it is given back last: the instance has left it by then.
        let (slot, mut store, mut instance, served) = match kept {
            Some(mut kept) => {
                kept.store.data_mut().turn_to(caller);
                (kept.slot, kept.store, Some(kept.instance), kept.served)
            }
            None => {
                let slot = self.slot(time).await?;
                let guest = Guest::new(Arc::clone(&self.host), caller);
                (slot, module.runner.store(guest), None, 0)
            }
        };
        let Invocation { attempt, input, outlet, .. } = invocation;
        let answer = module.runner.run(&mut store, time, async |store: &mut Store<Guest>| {
            module.handle(store, &mut instance, input, attempt, outlet).await
        });
        let mut answer = answer.await;
        let served = served + 1;
        // Only who came back to its caller can be called again.
        let said = |error: &InvokeError| error.kind() == Some(FailureKind::Error);
        let came_back = answer.as_ref().err().is_none_or(said);
        let may_serve = came_back && served < serves_max && self.serves(&target.digest, &module);
        if let Some(instance) = instance.filter(|_| may_serve) {
            self.waiting.put(Kept { store, instance, module, served, slot });
        } else if let Ok(answered) = &mut answer
            && module.next.is_worth()
        {
            let used = Used { store, slot };
            answered.after = match may_wait {
                true => After::of(async move { drop(used) }),
                false => {
                    let next = Arc::clone(self).make_next(used, module);
                    After::of(behind(next, self.threads.clone()))
                }
            };
        }
        answer
    }

    /// Lets an instance that serves others serve this as well, or begins another.
    async fn join(
        &self,
        invocation: Invocation,
        caller: Caller,
        time: Time,
        module: Arc<Module>,
    ) -> Answer {
        let is_http = matches!(invocation.input, Input::Http(_));
        let request = web::of(invocation.input)?;
        let outlet = invocation.outlet.filter(|_| is_http);
        let mut asked = Box::new(Asked { request, outlet, caller });
        let answer = loop {
            let visit = match self.crowds.enter(&asked.caller, &module) {
                Some(visit) => visit,
                None => self.begin(&asked.caller, time, &module).await?,
            };
            match visit.give(asked) {
                Ok(answer) => break visit.take(answer, time).await,
                Err(back) => asked = back,
            }
        };
        if is_http { answer } else { answer.and_then(web::plain) }
    }

    /// An instance that works for several, and is nobody's in particular: what it publishes has ids
    /// of its own.
    async fn begin(
        &self,
        first: &Caller,
        time: Time,
        module: &Arc<Module>,
    ) -> Result<Visit, InvokeError> {
        let slot = self.slot(time).await?;
        // An event that comes again may begin another instance, which publishes other events.
        let own = RandomState::new().hash_one(&first.invocation);
        let invocation = format!("{}+{own:016x}", first.invocation);
        let caller = Caller { invocation, ..first.between() };
        let store = module.runner.store(Guest::new(Arc::clone(&self.host), caller.clone()));
        let instance = Beginning { module: Arc::clone(module), store, slot, caller, time };
        let visit = self.crowds.begin(instance, &self.threads);
        visit.ok_or(InvokeError::Overloaded { retry_after_ms: time.limit_ms })
    }

    /// Makes an instance that waits for its first invocation, where fewer wait than the handler
    /// wants ready and the pool has a place that nobody needs; tells whether it did.
    pub(super) async fn prepare(&self, caller: Caller, time: Time) -> Result<bool, InvokeError> {
        let target = Arc::clone(&caller.target);
        let Some(module) = self.module(&target.digest) else { return Ok(false) };
        if self.waiting.count(&caller, &module) >= target.limits.ready as usize {
            return Ok(false);
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { return Ok(false) };
        let made = self.fresh(&module, caller, time).await?;
        let Some((store, instance)) = made.filter(|_| self.serves(&target.digest, &module)) else {
            return Ok(false);
        };
        self.waiting.put(Kept { store, instance, module, served: 0, slot });
        Ok(true)
    }

    /// Ends the instances that wait for a handler.
    pub(super) fn end_waiting(&self, target: &Target) {
        self.waiting.end(target);
        self.crowds.end(target);
    }

    /// Where guests run that take long.
    pub(super) fn threads(&self) -> Handle {
        self.threads.clone()
    }

    /// How many instances there are.
    pub(super) fn instances(&self) -> usize {
        self.instances_max.saturating_sub(self.slots.available_permits())
    }

    /// How many instances wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len() + self.modules().values().filter(|module| module.next.is_here()).count()
    }

    /// A place for one more instance; when there is none, one that waits makes room.
    async fn slot(&self, time: Time) -> Result<OwnedSemaphorePermit, InvokeError> {
        if self.slots.available_permits() == 0 && !self.crowds.end_idle() && !self.end_next() {
            self.waiting.end_longest();
        }
        let free = Arc::clone(&self.slots).acquire_owned();
        match tokio::time::timeout_at(time.deadline.into(), free).await {
            Ok(permit) => permit.map_err(|_| InvokeError::Stopped),
            Err(_) => Err(InvokeError::Overloaded { retry_after_ms: time.limit_ms }),
        }
    }

    /// Whether new instances are of this module, not of one that has taken its place.
    fn serves(&self, digest: &Digest, module: &Arc<Module>) -> bool {
        self.module(digest).is_some_and(|now| Arc::ptr_eq(&now, module))
    }

    fn modules(&self) -> RwLockReadGuard<'_, HashMap<Digest, Arc<Module>>> {
        self.modules.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn module(&self, digest: &Digest) -> Option<Arc<Module>> {
        self.modules().get(digest).cloned()
    }
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
        app_concurrency: None,
        bindings: Default::default(),
    };
    Caller {
        target: Arc::new(target),
        invocation: String::new(),
        attempt: 1,
        trace: Default::default(),
        deadline,
        settings: Arc::default(),
        by: None,
        budget: Arc::default(),
    }
}
