//! Components in processes of their own, for handlers that want it: what such a guest does to its
//! process, or its process' memory map, concerns nobody else. A worker is this program again,
//! behind the same walls as processes of the Lambda Runtime API; it runs the guests of one handler
//! on one thread, by code that the node compiled, and asks the node for everything else.
//!
//! A handler has at most as many workers as the machine has cores. One that dies fails what runs in
//! it and is started again, the later the oftener it dies; one with nothing to do is ended.

mod answer;
mod compile;
mod link;
mod remote;
mod serve;
mod wire;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[cfg(test)]
pub(super) use self::compile::BROKE;
pub(super) use self::compile::{Compilers, Uncompiled};
use self::link::Link;
pub use self::serve::serve_worker;
pub(super) use self::wire::Compile;
use self::wire::Start;
use super::cache::Cache;
use super::process::Spawner;
use super::started::StartedFor;
use super::wasm::Form;
use super::{AbortOnDrop, Answer, Caller, Config, Host, Invocation, InvokeError, Target, Time};
use crate::Digest;

/// How long after its deadline an invocation may still be told to have ended; a worker that lets
/// it pass is killed.
const GRACE: Duration = Duration::from_secs(1);
/// Questions that an invocation asks its node at once; more wait in the worker.
const QUESTIONS_MAX: usize = 64;
/// How often workers are looked over.
const SWEEP: Duration = Duration::from_secs(10);
/// Wait before one is started whose two predecessors died without an answer; doubles from then on.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Memory of a worker beside that of its instances, and beside the memory of each: stacks, tables.
const PROCESS_MB: u32 = 256;
const INSTANCE_MB: u32 = 48;

/// What is executed as a worker: a program that calls [`serve_worker`].
#[derive(Clone, Debug)]
pub struct WorkerProgram {
    /// Where it lies.
    pub program: PathBuf,
    /// What it is told, so that it becomes a worker.
    pub arguments: Vec<String>,
}

/// All workers of a node.
pub(super) struct Workers {
    program: Option<WorkerProgram>,
    cache: Arc<Cache>,
    host: Arc<dyn Host>,
    spawner: Arc<Spawner>,
    pools: Arc<Pools>,
    /// One permit per worker that may live.
    slots: Arc<Semaphore>,
    workers_max: usize,
    instances_max: u32,
    sweeper: AbortOnDrop<()>,
}

/// The workers of each handler, by what they were started for.
type Pools = Mutex<HashMap<StartedFor, Arc<Pool>>>;

#[derive(Default)]
struct Pool {
    state: Mutex<State>,
    /// One is started at a time.
    starting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    links: Vec<Arc<Link>>,
    /// Workers that died one after the other without an answer.
    deaths: u32,
    /// When the next one may be started.
    until: Option<Instant>,
}

/// An invocation's place in a worker.
struct Visit(Arc<Link>);

impl Workers {
    pub(super) fn start(
        config: &Config,
        cache: Arc<Cache>,
        host: Arc<dyn Host>,
        spawner: Arc<Spawner>,
        threads: &Handle,
    ) -> Self {
        let pools = Arc::<Pools>::default();
        let idle = Duration::from_millis(config.idle_ms);
        Self {
            program: config.worker.clone(),
            cache,
            host,
            spawner,
            slots: Arc::new(Semaphore::new(config.processes_max.max(1))),
            workers_max: config.workers.max(1),
            instances_max: config.instances_max,
            sweeper: AbortOnDrop(threads.spawn(sweep(Arc::clone(&pools), idle))),
            pools,
        }
    }

    /// Runs a guest in the least busy worker of its handler, or in a new one.
    pub(super) async fn invoke(
        &self,
        invocation: Invocation,
        caller: Caller,
        time: Time,
        form: Form,
    ) -> Answer {
        let visit = self.visit(&caller, time, form).await?;
        visit.0.invoke(invocation, caller, time).await
    }

    /// Has workers make the instances ahead that a handler wants ready: up to as many workers as it
    /// wants instances, each its share, in places that nobody needs.
    pub(super) async fn prepare(
        &self,
        caller: &Caller,
        time: Time,
        form: Form,
    ) -> Result<(), InvokeError> {
        let limits = &caller.target.limits;
        let most = (limits.ready.min(limits.concurrency) as usize).min(self.workers_max);
        let pool = self.pool(caller);
        let mut links = pool.first(&form, most);
        if links.len() < most {
            let _turn = pool.starting.lock().await;
            links = pool.first(&form, most);
            while links.len() < most && !pool.must_pause() {
                let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { break };
                let link = Arc::new(self.start_one(caller, form.clone(), slot).await?);
                lock(&pool.state).links.push(Arc::clone(&link));
                links.push(link);
            }
        }
        let among = links.len().max(1) as u32;
        for (at, link) in (0..among).zip(links) {
            let share = limits.ready / among + u32::from(at < limits.ready % among);
            link.prepare(caller, share, time).await?;
        }
        Ok(())
    }

    /// Ends those of a handler at this revision, as soon as nothing runs in them.
    pub(super) fn end_waiting(&self, target: &Target) {
        lock(&self.pools).retain(|key, _| !key.is_for(target));
    }

    /// Ends those that run this code, as soon as nothing runs in them.
    pub(super) fn forget(&self, digest: &Digest) {
        lock(&self.pools).retain(|key, _| key.digest != *digest);
    }

    /// Ends all.
    pub(super) fn stop(&self) {
        self.sweeper.0.abort();
        lock(&self.pools).clear();
    }

    async fn visit(&self, caller: &Caller, time: Time, form: Form) -> Result<Visit, InvokeError> {
        let pool = self.pool(caller);
        let most = (caller.target.limits.concurrency as usize).min(self.workers_max);
        if let Some(visit) = pool.visit(&form, most) {
            return Ok(visit);
        }
        let turn = tokio::time::timeout_at(time.deadline.into(), pool.starting.lock()).await;
        let _turn = turn.map_err(|_| time.out())?;
        if let Some(visit) = pool.visit(&form, most) {
            return Ok(visit);
        }
        pool.pause(time).await?;
        let slot = match self.slot(time, pool.visit(&form, 0)).await? {
            Place::Slot(slot) => slot,
            Place::Shared(visit) => return Ok(visit),
        };
        let link = Arc::new(self.start_one(caller, form, slot).await?);
        lock(&pool.state).links.push(Arc::clone(&link));
        Ok(Visit::to(link))
    }

    /// The workers of a handler; those of earlier revisions, or with other secrets, are forgotten.
    fn pool(&self, caller: &Caller) -> Arc<Pool> {
        let (key, mut pools) = (StartedFor::of(caller), lock(&self.pools));
        match key.among(&mut pools) {
            Some(pool) => Arc::clone(pool),
            None => Arc::clone(pools.entry(key).or_default()),
        }
    }

    /// A place for one more; where there is none, in a worker that lives, or where one idles.
    async fn slot(&self, time: Time, other: Option<Visit>) -> Result<Place, InvokeError> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(Place::Slot(slot));
        }
        if let Some(visit) = other {
            return Ok(Place::Shared(visit));
        }
        self.end_longest_idle();
        let free = Arc::clone(&self.slots).acquire_owned();
        match tokio::time::timeout_at(time.deadline.into(), free).await {
            Ok(slot) => slot.map(Place::Slot).map_err(|_| InvokeError::Stopped),
            Err(_) => Err(InvokeError::Overloaded { retry_after_ms: time.limit_ms }),
        }
    }

    fn end_longest_idle(&self) {
        let pools: Vec<Arc<Pool>> = lock(&self.pools).values().cloned().collect();
        let idle = |pool: &Arc<Pool>| {
            let state = lock(&pool.state);
            let idle = state.links.iter().filter(|link| link.is_idle());
            idle.map(|link| link.last_used()).min()
        };
        let longest = pools.iter().filter_map(|pool| Some((idle(pool)?, pool))).min_by_key(|p| p.0);
        if let Some((since, pool)) = longest {
            lock(&pool.state).links.retain(|link| !link.is_idle() || link.last_used() > since);
        }
    }

    async fn start_one(
        &self,
        caller: &Caller,
        form: Form,
        slot: OwnedSemaphorePermit,
    ) -> Result<Link, InvokeError> {
        let target = &caller.target;
        let node = |why: String| InvokeError::Node(format!("worker for {}: {why}", target.handler));
        let program = self.program.as_ref();
        let program = program.ok_or_else(|| node("this program has none".to_owned()))?;
        let file = self.cache.compiled(&target.digest, &form.engine).map_err(node)?;
        let file = file.ok_or_else(|| node("its compiled code is gone; deploy it again".into()))?;
        let instances_max = target.limits.concurrency.clamp(1, self.instances_max.max(1));
        let memory_mb = PROCESS_MB + instances_max * (target.limits.memory_mb + INSTANCE_MB);
        let start = Start { digest: target.digest.clone(), form, file, instances_max };
        let host = Arc::clone(&self.host);
        Link::start(&self.spawner, program, start, memory_mb, caller, host, slot).await
    }

    /// Processes that live.
    #[cfg(test)]
    pub(super) fn pids(&self) -> Vec<u32> {
        let pools = lock(&self.pools);
        let links = pools.values().flat_map(|pool| lock(&pool.state).links.clone());
        links.filter_map(|link| link.pid()).collect()
    }
}

/// Where an invocation goes.
enum Place {
    /// Into a worker that is to be started here.
    Slot(OwnedSemaphorePermit),
    Shared(Visit),
}

impl Pool {
    /// A place in the least busy worker: in one that idles, or where there are `workers_max`.
    fn visit(&self, form: &Form, workers_max: usize) -> Option<Visit> {
        let state = self.look_over(form);
        let busy = |link: &Arc<Link>| link.busy.load(Ordering::Relaxed);
        let least = state.links.iter().min_by_key(|link| busy(link))?;
        let is_full = state.links.len() >= workers_max;
        (is_full || busy(least) == 0).then(|| Visit::to(Arc::clone(least)))
    }

    /// The workers that were started first, so many at most.
    fn first(&self, form: &Form, most: usize) -> Vec<Arc<Link>> {
        self.look_over(form).links.iter().take(most).cloned().collect()
    }

    fn look_over(&self, form: &Form) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        state.bury();
        // Code that was optimised meanwhile has workers of its own; the others end by and by.
        state.links.retain(|link| link.form == *form);
        state
    }

    /// Whether another may not be started yet.
    fn must_pause(&self) -> bool {
        lock(&self.state).until.is_some_and(|until| until > Instant::now())
    }

    /// Waits until another may be started.
    async fn pause(&self, time: Time) -> Result<(), InvokeError> {
        let Some(until) = lock(&self.state).until else { return Ok(()) };
        if until > time.deadline {
            let left = until.saturating_duration_since(Instant::now());
            return Err(InvokeError::Overloaded { retry_after_ms: left.as_millis() as u64 });
        }
        tokio::time::sleep_until(until.into()).await;
        Ok(())
    }
}

impl State {
    /// Takes out who has died, and notes when the next one may be started.
    fn bury(&mut self) {
        let (alive, dead) = std::mem::take(&mut self.links).into_iter().partition(|l| l.is_alive());
        self.links = alive;
        let dead: Vec<Arc<Link>> = dead;
        for link in dead {
            self.deaths = if link.has_answered() { 1 } else { self.deaths.saturating_add(1) };
            self.until = pause(self.deaths).map(|pause| Instant::now() + pause);
        }
    }
}

/// How long the next start waits after so many deaths in a row.
fn pause(deaths: u32) -> Option<Duration> {
    let doublings = deaths.checked_sub(2)?;
    Some(PAUSE.saturating_mul(2u32.saturating_pow(doublings)).min(PAUSE_MAX))
}

impl Visit {
    fn to(link: Arc<Link>) -> Self {
        link.busy.fetch_add(1, Ordering::Relaxed);
        Self(link)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.used();
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Link {
    fn is_idle(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
    }
}

/// Ends what was idle for too long.
async fn sweep(pools: Arc<Pools>, idle: Duration) {
    loop {
        tokio::time::sleep(SWEEP.min(idle)).await;
        let is_used = |link: &Arc<Link>| !link.is_idle() || link.last_used().elapsed() < idle;
        lock(&pools).retain(|_, pool| {
            let mut state = lock(&pool.state);
            state.bury();
            state.links.retain(is_used);
            // One that is being started, or that died a moment ago, is remembered.
            let is_settled = state.until.is_none_or(|until| until < Instant::now());
            !(state.links.is_empty() && is_settled && Arc::strong_count(pool) == 1)
        });
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
