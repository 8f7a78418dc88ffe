//! What a node answers a worker: each question is put to the real [`Host`] in the name of the
//! caller as the node knows it. A worker names an invocation by the number it was given, and has no
//! rights but those of invocations that run in it now.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::QUESTIONS_MAX;
use super::wire::{Answer, Done, Part, Question};
use crate::execute::http::HttpHead;
use crate::execute::lines::Log;
use crate::execute::outlet::Flow;
use crate::execute::{Caller, Host, HostError, InvokeError, Level, Outlet, Parts, Publication};
use crate::outbound::{REQUESTS_MAX, Refusal};

/// What came of an invocation, and the bytes of its answer.
pub(super) type Ended = (Result<Done, InvokeError>, Bytes);

/// An invocation that runs in a worker now.
pub(super) struct Running {
    host: Arc<dyn Host>,
    caller: Caller,
    log: Log,
    tell: Mutex<Option<oneshot::Sender<Ended>>>,
    /// A permit for each question until its answer has been sent: more than a worker ever takes,
    /// which asks on as soon as it has the answer.
    pub(super) room: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
    published: AtomicU64,
    connected: AtomicU32,
    /// The body of its request, as far as it has not been read.
    parts: tokio::sync::Mutex<Option<Parts>>,
    outlet: Option<Outlet>,
    flow: tokio::sync::Mutex<Option<Flow>>,
}

/// An answer with what travels beside it.
#[derive(Default)]
pub(super) struct Reply {
    pub(super) value: Value,
    pub(super) body: Bytes,
    pub(super) socket: Option<OwnedFd>,
}

type Replied = Result<Reply, HostError>;

impl Running {
    /// Of an invocation whose bodies in parts it keeps; and where its end is told.
    pub(super) fn new(
        host: Arc<dyn Host>,
        caller: Caller,
        parts: Option<Parts>,
        outlet: Option<Outlet>,
    ) -> (Arc<Self>, oneshot::Receiver<Ended>) {
        let (tell, told) = oneshot::channel();
        let running = Self {
            log: Log::new(Arc::clone(&host), caller.clone()),
            host,
            caller,
            tell: Mutex::new(Some(tell)),
            room: Arc::new(Semaphore::new(2 * QUESTIONS_MAX)),
            tasks: Mutex::default(),
            published: AtomicU64::new(0),
            connected: AtomicU32::new(0),
            parts: tokio::sync::Mutex::new(parts),
            outlet,
            flow: tokio::sync::Mutex::default(),
        };
        (Arc::new(running), told)
    }

    pub(super) fn has_outlet(&self) -> bool {
        self.outlet.is_some()
    }

    /// Whether it is an invocation, and no mere preparation for some.
    pub(super) fn is_invocation(&self) -> bool {
        !self.caller.invocation.is_empty()
    }

    /// Does some work for it, as long as it runs.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    /// It runs no more: whatever it asked is dropped.
    pub(super) fn end(&self) {
        lock(&self.tasks).abort_all();
        lock(&self.tell).take();
    }

    /// It has ended with this.
    pub(super) fn ended(&self, ended: Ended) {
        lock(&self.tasks).abort_all();
        if let Some(tell) = lock(&self.tell).take() {
            let _ = tell.send(ended);
        }
    }

    /// A line of the guest, within the budget of its invocation.
    pub(super) fn log(&self, level: Level, text: &str) {
        self.log.write(level, text);
    }

    /// Its log is full.
    pub(super) fn log_full(&self) {
        self.log.fill();
    }

    /// The guest was not let out because it has asked too often; said as often as it may ask.
    pub(super) fn too_many(&self) {
        if self.connected.fetch_add(1, Ordering::Relaxed) < 2 * REQUESTS_MAX {
            self.host.refused(&self.caller, &Refusal::TooMany { limit: REQUESTS_MAX });
        }
    }

    /// Asks the host.
    pub(super) async fn answer(&self, question: Question, body: Bytes) -> Replied {
        let (host, by) = (&self.host, &self.caller);
        match question {
            Question::Get { table, key } => value(host.store_get(by, &table, key).await),
            Question::Put { table, rows } => value(host.store_put(by, &table, rows).await),
            Question::PutIf { table, key, expected, row } => {
                value(host.store_put_if(by, &table, key, expected, row).await)
            }
            Question::Delete { table, keys } => value(host.store_delete(by, &table, keys).await),
            Question::Increment { table, key, deltas } => {
                value(host.store_increment(by, &table, key, deltas).await)
            }
            Question::Scan { table, scan } => value(host.store_scan(by, &table, scan).await),
            Question::Operation { operation, request } => {
                value(host.store_ask(by, &operation, request).await)
            }
            Question::Arrow { operation, request, has_rows } => {
                let rows = has_rows.then_some(body);
                let body = host.store_arrow(by, &operation, request, rows).await?;
                Ok(Reply { body, ..Reply::default() })
            }
            Question::Sql { question } => value(host.store_sql(by, question).await),
            Question::PutBlob => value(host.put_blob(by, body).await),
            Question::PutPrivateBlob => value(host.put_private_blob(by, body).await),
            Question::LetGo { keys } => value(host.let_go(by, keys).await),
            Question::GetBlob { key, range: None } => found(host.get_blob(by, &key).await),
            Question::GetBlob { key, range: Some((start, end)) } if start <= end => {
                found(host.get_blob_range(by, &key, start..end).await)
            }
            Question::GetBlob { .. } => Err(HostError::Invalid("a range that ends early".into())),
            Question::Publish { subject, content_type, metadata } => {
                let id = by.publication_id(self.published.fetch_add(1, Ordering::Relaxed));
                let event = Publication { id, subject, content_type, body, metadata };
                value(host.publish(by, event).await)
            }
            Question::Call { name } => {
                let body = host.call(by, &name, body).await?;
                Ok(Reply { body, ..Reply::default() })
            }
            Question::Connect { host, port } => self.connect(&host, port).await,
            Question::Part => self.part().await,
            Question::Begin { head } => self.begin(head).await,
            Question::Send => self.send(body).await,
        }
    }

    async fn connect(&self, host: &str, port: u16) -> Replied {
        let refusal = match self.connected.fetch_add(1, Ordering::Relaxed) < REQUESTS_MAX {
            false => Refusal::TooMany { limit: REQUESTS_MAX },
            true => match self.host.connect(&self.caller, host, port).await {
                Ok(stream) => {
                    let failed = |error: std::io::Error| HostError::Failed(error.to_string());
                    let socket = Some(stream.into_std().map_err(failed)?.into());
                    return Ok(Reply { socket, ..Reply::default() });
                }
                Err(refusal) => refusal,
            },
        };
        self.host.refused(&self.caller, &refusal);
        value(Ok(Some(refusal)))
    }

    async fn part(&self) -> Replied {
        let mut parts = self.parts.lock().await;
        while let Some(body) = parts.as_mut() {
            match body.frame().await {
                Some(Ok(frame)) => {
                    // Trailers are no part of the body.
                    let Ok(body) = frame.into_data() else { continue };
                    return value(Ok(Part::More)).map(|reply| Reply { body, ..reply });
                }
                Some(Err(broken)) => {
                    *parts = None;
                    return value(Ok(Part::Broken(broken)));
                }
                None => *parts = None,
            }
        }
        value(Ok(Part::End))
    }

    async fn begin(&self, head: HttpHead) -> Replied {
        let head = HttpHead::checked(head.status, head.headers).map_err(HostError::Invalid)?;
        let flow = self.outlet.as_ref().and_then(|outlet| outlet.begin(head));
        let gone = || HostError::Unavailable("its reader has gone away".into());
        *self.flow.lock().await = Some(flow.ok_or_else(gone)?);
        value(Ok(()))
    }

    async fn send(&self, part: Bytes) -> Replied {
        let mut flow = self.flow.lock().await;
        let flow = flow.as_mut().ok_or_else(|| HostError::Invalid("no answer has begun".into()))?;
        value(flow.send(part).await.map_err(HostError::Unavailable))
    }
}

/// An answer as the worker is told it.
pub(super) fn told(replied: Replied) -> (Answer, Bytes, Option<OwnedFd>) {
    match replied {
        Ok(Reply { value, body, socket }) => (Ok(value), body, socket),
        Err(error) => (Err(error), Bytes::new(), None),
    }
}

fn value(answer: Result<impl Serialize, HostError>) -> Replied {
    let value = serde_json::to_value(answer?).map_err(|e| HostError::Failed(e.to_string()))?;
    Ok(Reply { value, ..Reply::default() })
}

fn found(blob: Result<Option<Bytes>, HostError>) -> Replied {
    let blob = blob?;
    let reply = value(Ok(blob.is_some()))?;
    Ok(Reply { body: blob.unwrap_or_default(), ..reply })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
