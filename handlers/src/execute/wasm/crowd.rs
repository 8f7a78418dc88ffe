//! Instances of WASI 0.3 that serve several requests at once, where their handler allows it. Each
//! is driven by a task of its own, which takes requests in while it waits for others.
//!
//! What one request does to an instance, all in it feel: a trap ends all, memory is shared, and one
//! that computes lets none of the others go on. One that is late, or whose client left, cannot be
//! taken out of it alone: such an instance takes no more, and ends with the last that it has.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::Request as WebRequest;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::runtime::Handle as Threads;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use wasmtime::Store;
use wasmtime::component::Accessor;

use super::guest::Guest;
use super::module::Module;
use super::service::{self, Handle};
use super::web::Asking;
use crate::Digest;
use crate::execute::started::StartedFor;
use crate::execute::{Answer, Caller, InvokeError, Outlet, Target, Time};

/// All of them, by handler and code.
#[derive(Default)]
pub(super) struct Crowds(Mutex<HashMap<StartedFor, Vec<Arc<Member>>>>);

/// An instance, as those see it who want in.
struct Member {
    module: Arc<Module>,
    jobs: mpsc::UnboundedSender<Job>,
    /// A permit for each request that may be in it at once.
    room: Arc<Semaphore>,
    /// Requests that it may still take.
    left: AtomicU32,
    /// What it ended with.
    fate: watch::Receiver<Option<InvokeError>>,
}

/// One request.
pub(super) struct Asked {
    pub(super) request: WebRequest<Asking>,
    /// Where its answer may go bit by bit.
    pub(super) outlet: Option<Outlet>,
    pub(super) caller: Caller,
}

/// One on its way in.
struct Job {
    asked: Box<Asked>,
    reply: oneshot::Sender<Answer>,
}

/// A place in an instance.
pub(super) struct Visit {
    member: Arc<Member>,
    was_answered: bool,
    _room: OwnedSemaphorePermit,
}

impl Crowds {
    /// A place in an instance that has one.
    pub(super) fn enter(&self, caller: &Caller, module: &Arc<Module>) -> Option<Visit> {
        let mut crowds = self.lock();
        let members = StartedFor::of(caller).among(&mut crowds)?;
        members.retain(|member| member.takes_more() && Arc::ptr_eq(&member.module, module));
        let visit = members.iter().find_map(Member::enter);
        members.retain(|member| member.takes_more());
        visit
    }

    /// A place in an instance that begins.
    pub(super) fn begin(&self, instance: Beginning, threads: &Threads) -> Option<Visit> {
        let key = StartedFor::of(&instance.caller);
        let limits = &instance.caller.target.limits;
        let room = Arc::new(Semaphore::new(limits.at_once as usize));
        let left = AtomicU32::new(limits.reuse.unwrap_or(u32::MAX));
        let (jobs, taken) = mpsc::unbounded_channel();
        let (tell, fate) = watch::channel(None);
        let module = Arc::clone(&instance.module);
        let member = Arc::new(Member { module, jobs, room, left, fate });
        let visit = member.enter();
        threads.spawn(instance.run(taken, tell));
        if member.takes_more() {
            self.lock().entry(key).or_default().push(member);
        }
        visit
    }

    /// Ends one that has nothing to do; whether there was one.
    pub(super) fn end_idle(&self) -> bool {
        let mut crowds = self.lock();
        for members in crowds.values_mut() {
            let is_idle = |member: &Arc<Member>| Arc::strong_count(member) == 1;
            if let Some(at) = members.iter().position(is_idle) {
                members.remove(at);
                return true;
            }
        }
        false
    }

    /// No more requests for a handler's instances.
    pub(super) fn end(&self, target: &Target) {
        self.lock().retain(|key, _| !key.is_for(target));
    }

    /// No more requests for those that run this code.
    pub(super) fn forget(&self, digest: &Digest) {
        self.lock().retain(|key, _| key.digest != *digest);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StartedFor, Vec<Arc<Member>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn takes_more(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0 && !self.jobs.is_closed()
    }

    /// For one at a time: who holds the list.
    fn enter(self: &Arc<Self>) -> Option<Visit> {
        let room = Arc::clone(&self.room).try_acquire_owned().ok()?;
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).ok()?;
        Some(Visit { member: Arc::clone(self), was_answered: false, _room: room })
    }
}

impl Visit {
    /// Hands a request in; gives it back where the instance takes no more since a moment ago.
    pub(super) fn give(&self, asked: Box<Asked>) -> Result<oneshot::Receiver<Answer>, Box<Asked>> {
        let (reply, answer) = oneshot::channel();
        match self.member.jobs.send(Job { asked, reply }) {
            Ok(()) => Ok(answer),
            Err(back) => Err(back.0.asked),
        }
    }

    /// What came of it by the deadline.
    pub(super) async fn take(mut self, answer: oneshot::Receiver<Answer>, time: Time) -> Answer {
        match tokio::time::timeout_at(time.deadline.into(), answer).await {
            Ok(Ok(answer)) => {
                self.was_answered = true;
                answer
            }
            Ok(Err(_)) => Err(self.fate(time).await),
            Err(_) => Err(time.out()),
        }
    }

    async fn fate(&self, time: Time) -> InvokeError {
        let mut fate = self.member.fate.clone();
        let fate = fate.wait_for(Option::is_some).await.ok().and_then(|fate| fate.clone());
        match fate.unwrap_or(InvokeError::Stopped) {
            InvokeError::Timeout { .. } => time.out(),
            other => other,
        }
    }
}

impl Drop for Visit {
    /// Whoever comes next goes elsewhere, where one was abandoned.
    fn drop(&mut self) {
        if !self.was_answered {
            self.member.left.store(0, Ordering::Relaxed);
        }
    }
}

/// What an instance is made of.
pub(super) struct Beginning {
    pub(super) module: Arc<Module>,
    pub(super) store: Store<Guest>,
    pub(super) slot: OwnedSemaphorePermit,
    /// For whom it begins.
    pub(super) caller: Caller,
    pub(super) time: Time,
}

impl Beginning {
    /// Serves until nobody can come any more and nobody is left.
    async fn run(
        self,
        jobs: mpsc::UnboundedReceiver<Job>,
        tell: watch::Sender<Option<InvokeError>>,
    ) {
        let Self { module, mut store, slot: _slot, time, .. } = self;
        store.set_epoch_deadline(1);
        let ended = serve(&module, &mut store, jobs).await;
        store.data().finish_output();
        let fate = match ended {
            Ok(()) => InvokeError::Stopped,
            Err(error) => super::runner::explain(&error, store.data(), time),
        };
        drop(store);
        tell.send_replace(Some(fate));
    }
}

async fn serve(
    module: &Module,
    store: &mut Store<Guest>,
    jobs: mpsc::UnboundedReceiver<Job>,
) -> wasmtime::Result<()> {
    let instance = module.instantiate(store).await?;
    let handle = module.service(&instance, store)?;
    store.run_concurrent(async |guest| take_in(module, guest, handle, jobs).await).await?
}

async fn take_in(
    module: &Module,
    guest: &Accessor<Guest>,
    handle: Handle,
    mut jobs: mpsc::UnboundedReceiver<Job>,
) -> wasmtime::Result<()> {
    let mut inside = FuturesUnordered::new();
    // The clock goes while the guest may compute, whether somebody waits for it or not.
    let mut running = None;
    loop {
        if inside.is_empty() {
            running = None;
        }
        let job = tokio::select! {
            job = jobs.recv() => job,
            Some(end) = inside.next() => {
                if end? == End::Served {
                    continue;
                }
                // What was abandoned goes on in there. What is on its way is still let in.
                jobs.close();
                continue;
            }
        };
        let Some(job) = job else { break };
        running.get_or_insert_with(|| module.runner.enter());
        inside.push(attend(guest, handle, job));
    }
    while let Some(end) = inside.next().await {
        end?;
    }
    drop(running);
    Ok(())
}

/// How a request left an instance.
#[derive(PartialEq, Eq)]
enum End {
    Served,
    /// Nobody waits for its answer any more.
    Abandoned,
}

/// One request; an error is the end of the instance.
async fn attend(guest: &Accessor<Guest>, handle: Handle, job: Job) -> wasmtime::Result<End> {
    let Job { asked, mut reply } = job;
    let Asked { request, outlet, caller } = *asked;
    guest.with(|mut access| access.get().receive(caller));
    let answer = pin!(service::answer(guest, handle, request, outlet, None));
    let answer = tokio::select! {
        answer = answer => answer?,
        () = reply.closed() => return Ok(End::Abandoned),
    };
    guest.with(|mut access| access.get().finish_output());
    let _ = reply.send(answer);
    Ok(End::Served)
}
