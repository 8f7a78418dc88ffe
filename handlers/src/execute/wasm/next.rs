//! The instance for whoever comes next. Where requests come one by one, there is time between them:
//! when an answer has gone out, the next instance is made, in the place of the one that answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;
use wasmtime::component::Instance;

use super::guest::Guest;
use super::kept::Kept;
use super::module::Module;
use super::{Answered, Caller, InvokeError, Time, Wasm};

/// How long one waits at most.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(10);
/// What takes less is made when it is wanted: made ahead, it would have left the caches by then.
const WORTH: Duration = Duration::from_micros(30);

/// A place of a module for one such instance.
#[derive(Default)]
pub(super) struct Next {
    waits: Mutex<Option<Fresh>>,
    /// Time that it took to make the last one, in nanoseconds.
    took_ns: AtomicU64,
}

/// An instance that nobody has used.
pub(super) struct Fresh {
    made: Instant,
    store: Store<Guest>,
    instance: Instance,
    slot: OwnedSemaphorePermit,
}

/// What is left of an instance that has answered.
pub(super) struct Used {
    pub(super) store: Store<Guest>,
    pub(super) slot: OwnedSemaphorePermit,
}

impl Fresh {
    fn is_for(&self, caller: &Caller) -> bool {
        let made_for = self.store.data().caller();
        let (settings, now) = (&made_for.settings, &caller.settings);
        Arc::ptr_eq(&made_for.target, &caller.target)
            && (Arc::ptr_eq(settings, now) || settings.version() == now.version())
    }

    pub(super) fn kept(self, module: &Arc<Module>) -> Kept {
        let Self { store, instance, slot, .. } = self;
        Kept { store, instance, module: Arc::clone(module), served: 0, slot }
    }
}

impl Next {
    /// Notes how long it took to make an instance.
    pub(super) fn took(&self, time: Duration) {
        self.took_ns.store(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Whether the next request would wait long for its instance to be made.
    pub(super) fn is_worth(&self) -> bool {
        u128::from(self.took_ns.load(Ordering::Relaxed)) >= WORTH.as_nanos()
    }

    /// The instance, if it was made for this handler as it is now.
    pub(super) fn take(&self, caller: &Caller) -> Option<Fresh> {
        self.lock().take_if(|fresh| fresh.is_for(caller))
    }

    fn is_for(&self, caller: &Caller) -> bool {
        self.lock().as_ref().is_some_and(|fresh| fresh.is_for(caller))
    }

    /// Ends it, if it has waited so long.
    pub(super) fn end(&self, waited: Duration) -> bool {
        // It goes when the lock is free again.
        let ended = self.lock().take_if(|fresh| fresh.made.elapsed() >= waited);
        ended.is_some()
    }

    pub(super) fn is_here(&self) -> bool {
        self.lock().is_some()
    }

    fn put(&self, fresh: Fresh) {
        let before = self.lock().replace(fresh);
        drop(before);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Fresh>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wasm {
    /// Takes an instance down that has answered, and makes the next one, unless one waits already
    /// or its place is needed. One that cannot be made is not: the next request will say why.
    pub(super) async fn make_next(self: Arc<Self>, used: Used, module: Arc<Module>) {
        let Used { store, slot } = used;
        let caller = store.data().caller().between();
        drop(store);
        let is_needed = self.slots.available_permits() == 0;
        if is_needed || module.next.is_for(&caller) || !self.serves(&caller.target.digest, &module)
        {
            return;
        }
        let limit = Duration::from_millis(caller.target.limits.timeout_ms.into());
        let time = Time::of(Instant::now(), limit);
        let made = self.fresh(&module, Caller { deadline: time.deadline, ..caller }, time).await;
        if let Ok(Some((store, instance))) = made {
            module.next.put(Fresh { made: Instant::now(), store, instance, slot });
            self.sweep_later();
        }
    }

    /// A new instance. There is none where instantiating ended without one.
    pub(super) async fn fresh(
        &self,
        module: &Module,
        caller: Caller,
        time: Time,
    ) -> Result<Option<(Store<Guest>, Instance)>, InvokeError> {
        let mut store = module.runner.store(Guest::new(Arc::clone(&self.host), caller));
        let mut made = None;
        let started = module.runner.run(&mut store, time, async |store: &mut Store<Guest>| {
            made = Some(module.instantiate(store).await?);
            Ok(Ok(Answered::default()))
        });
        started.await?;
        Ok(made.map(|instance| (store, instance)))
    }

    /// Has those that nobody took end in a while.
    fn sweep_later(self: &Arc<Self>) {
        if self.sweeps.swap(true, Ordering::AcqRel) {
            return;
        }
        let (wasm, idle) = (Arc::downgrade(self), self.idle);
        self.threads.spawn(async move {
            loop {
                tokio::time::sleep(idle).await;
                let Some(wasm) = wasm.upgrade() else { return };
                if wasm.sweep(idle) {
                    continue;
                }
                wasm.sweeps.store(false, Ordering::Release);
                // One that came in between found this at work.
                let is_done = wasm.modules().values().all(|module| !module.next.is_here())
                    || wasm.sweeps.swap(true, Ordering::AcqRel);
                if is_done {
                    return;
                }
            }
        });
    }

    /// Ends those that have waited so long; whether others wait on.
    pub(super) fn sweep(&self, waited: Duration) -> bool {
        self.modules().values().fold(false, |others, module| {
            module.next.end(waited);
            others | module.next.is_here()
        })
    }

    /// Ends one of them, whichever; whether there was one.
    pub(super) fn end_next(&self) -> bool {
        self.modules().values().any(|module| module.next.end(Duration::ZERO))
    }
}
