//! The node, as a guest in a worker sees it: each request of [`Host`] is a question to the node
//! beyond the socket, asked in the name of an invocation that the node has given a number.

use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bus::RefusalKind;
use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::QUESTIONS_MAX;
use super::wire::{Answer, Part, Question, Word, encode};
use crate::execute::process::receive;
use crate::execute::{
    Arriving, Broken, Caller, Host, HostError, Level, Outlet, Parts, Publication, Row, Scan,
    Streamed, Target,
};
use crate::outbound::Refusal;
use crate::settings::Settings;

/// A frame on its way to the node: as many wait as guests ask at once, and lines within their
/// budget.
pub(super) type Words = mpsc::UnboundedSender<(Vec<u8>, Bytes)>;
type Answered = (Answer, Bytes, Option<OwnedFd>);

/// The way to the node.
pub(super) struct Remote {
    words: Words,
    /// Where the node's sockets arrive, each before the answer that it belongs to.
    sockets: OwnedFd,
    asked: Mutex<HashMap<u64, oneshot::Sender<Answered>>>,
    next: AtomicU64,
    /// For each invocation, a permit for each question that it may ask at once.
    rooms: Mutex<HashMap<u64, Arc<Semaphore>>>,
}

impl Remote {
    pub(super) fn new(words: Words, sockets: OwnedFd) -> Self {
        let (asked, rooms) = (Mutex::default(), Mutex::default());
        Self { words, sockets, asked, next: AtomicU64::new(0), rooms }
    }

    /// Lets an invocation ask, as long as the result lives.
    pub(super) fn begin(self: &Arc<Self>, number: u64) -> Room {
        lock(&self.rooms).insert(number, Arc::new(Semaphore::new(QUESTIONS_MAX)));
        Room { remote: Arc::clone(self), number }
    }

    /// Says something to the node; an error is what is wrong with it.
    pub(super) fn say(&self, word: &Word, body: Bytes) -> Result<(), String> {
        let frame = encode(word, &body)?;
        self.words.send((frame, body)).map_err(|_| "the node has gone".to_owned())
    }

    /// Hands an answer to who asked, if that is still there.
    pub(super) fn answered(&self, ask: u64, answer: Answer, body: Bytes, has_socket: bool) {
        let socket = has_socket.then(|| receive(&self.sockets).ok()).flatten();
        if let Some(tell) = lock(&self.asked).remove(&ask) {
            let _ = tell.send((answer, body, socket));
        }
    }

    async fn ask(&self, number: u64, question: Question, body: Bytes) -> Answered {
        let room = lock(&self.rooms).get(&number).cloned();
        let _room = match room {
            Some(room) => room.acquire_owned().await.ok(),
            None => None,
        };
        let ask = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        lock(&self.asked).insert(ask, tell);
        let _forgets = Forgets { remote: self, ask };
        let failed = |why: String| (Err(HostError::Failed(why)), Bytes::new(), None);
        if let Err(why) = self.say(&Word::Ask { number, ask, question }, body) {
            return failed(why);
        }
        told.await.unwrap_or_else(|_| failed("the node has gone".to_owned()))
    }

    /// A question whose answer is a value.
    async fn value<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        question: Question,
        body: Bytes,
    ) -> Result<T, HostError> {
        of_value(self.ask(number_of(caller), question, body).await.0?)
    }

    /// Lets what a guest answers bit by bit go out, until all of it has.
    pub(super) async fn pass_on(&self, number: u64, begun: oneshot::Receiver<Streamed>) {
        let Ok(Streamed { head, mut parts }) = begun.await else { return };
        if self.ask(number, Question::Begin { head }, Bytes::new()).await.0.is_err() {
            return;
        }
        while let Some(part) = parts.recv().await {
            if self.ask(number, Question::Send, part).await.0.is_err() {
                return;
            }
        }
    }
}

/// A guest may end while it asks.
struct Forgets<'a> {
    remote: &'a Remote,
    ask: u64,
}

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        lock(&self.remote.asked).remove(&self.ask);
    }
}

/// The questions of one invocation.
pub(super) struct Room {
    remote: Arc<Remote>,
    number: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        lock(&self.remote.rooms).remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A caller in a worker has the number of its invocation for an id.
fn number_of(caller: &Caller) -> u64 {
    caller.invocation.parse().unwrap_or_default()
}

fn of_value<T: DeserializeOwned>(value: Value) -> Result<T, HostError> {
    serde_json::from_value(value).map_err(|error| HostError::Failed(error.to_string()))
}

/// The body of a request that the node has not read yet.
pub(super) struct Body {
    pub(super) remote: Arc<Remote>,
    pub(super) number: u64,
}

impl Body {
    async fn next(&self) -> Result<Option<Bytes>, Broken> {
        let lost = |error: HostError| Broken::Lost(error.to_string());
        let (answer, part, _) = self.remote.ask(self.number, Question::Part, Bytes::new()).await;
        match of_value(answer.map_err(lost)?).map_err(lost)? {
            Part::More => Ok(Some(part)),
            Part::End => Ok(None),
            Part::Broken(broken) => Err(broken),
        }
    }
}

#[async_trait]
impl Arriving for Body {
    async fn whole(self: Box<Self>) -> Result<Bytes, bus::Refusal> {
        let mut whole = BytesMut::new();
        let lost = |broken: Broken| bus::Refusal::new(RefusalKind::Unavailable, broken.to_string());
        while let Some(part) = self.next().await.map_err(lost)? {
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    }

    fn parts(self: Box<Self>) -> Parts {
        let frames = stream::unfold(Some(self), |body| async move {
            let body = body?;
            match body.next().await {
                Ok(Some(part)) => Some((Ok(Frame::data(part)), Some(body))),
                Ok(None) => None,
                Err(broken) => Some((Err(broken), None)),
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

#[async_trait]
impl Host for Remote {
    async fn store_get(
        &self,
        caller: &Caller,
        table: &str,
        key: Row,
    ) -> Result<Option<Row>, HostError> {
        self.value(caller, Question::Get { table: table.into(), key }, Bytes::new()).await
    }

    async fn store_put(&self, by: &Caller, table: &str, rows: Vec<Row>) -> Result<(), HostError> {
        self.value(by, Question::Put { table: table.into(), rows }, Bytes::new()).await
    }

    async fn store_put_if(
        &self,
        caller: &Caller,
        table: &str,
        key: Row,
        expected: Option<Row>,
        row: Row,
    ) -> Result<bool, HostError> {
        let question = Question::PutIf { table: table.into(), key, expected, row };
        self.value(caller, question, Bytes::new()).await
    }

    async fn store_delete(
        &self,
        caller: &Caller,
        table: &str,
        keys: Vec<Row>,
    ) -> Result<(), HostError> {
        self.value(caller, Question::Delete { table: table.into(), keys }, Bytes::new()).await
    }

    async fn store_increment(
        &self,
        caller: &Caller,
        table: &str,
        key: Row,
        deltas: Row,
    ) -> Result<(), HostError> {
        let question = Question::Increment { table: table.into(), key, deltas };
        self.value(caller, question, Bytes::new()).await
    }

    async fn store_scan(
        &self,
        by: &Caller,
        table: &str,
        scan: Scan,
    ) -> Result<Vec<Row>, HostError> {
        self.value(by, Question::Scan { table: table.into(), scan }, Bytes::new()).await
    }

    async fn store_ask(
        &self,
        caller: &Caller,
        operation: &str,
        request: Row,
    ) -> Result<Value, HostError> {
        let question = Question::Operation { operation: operation.into(), request };
        self.value(caller, question, Bytes::new()).await
    }

    async fn store_arrow(
        &self,
        caller: &Caller,
        operation: &str,
        request: Row,
        rows: Option<Bytes>,
    ) -> Result<Bytes, HostError> {
        let (operation, has_rows) = (operation.into(), rows.is_some());
        let question = Question::Arrow { operation, request, has_rows };
        let rows = rows.unwrap_or_default();
        let (answer, found, _) = self.ask(number_of(caller), question, rows).await;
        answer.map(|_| found)
    }

    async fn store_sql(&self, caller: &Caller, question: String) -> Result<Value, HostError> {
        self.value(caller, Question::Sql { question }, Bytes::new()).await
    }

    async fn put_blob(&self, caller: &Caller, content: Bytes) -> Result<String, HostError> {
        self.value(caller, Question::PutBlob, content).await
    }

    async fn put_private_blob(&self, by: &Caller, content: Bytes) -> Result<String, HostError> {
        self.value(by, Question::PutPrivateBlob, content).await
    }

    async fn let_go(&self, caller: &Caller, keys: Vec<String>) -> Result<(), HostError> {
        self.value(caller, Question::LetGo { keys }, Bytes::new()).await
    }

    async fn get_blob(&self, caller: &Caller, key: &str) -> Result<Option<Bytes>, HostError> {
        let question = Question::GetBlob { key: key.into(), range: None };
        let (answer, blob, _) = self.ask(number_of(caller), question, Bytes::new()).await;
        Ok(of_value::<bool>(answer?)?.then_some(blob))
    }

    async fn get_blob_range(
        &self,
        caller: &Caller,
        key: &str,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, HostError> {
        let question = Question::GetBlob { key: key.into(), range: Some((range.start, range.end)) };
        let (answer, blob, _) = self.ask(number_of(caller), question, Bytes::new()).await;
        Ok(of_value::<bool>(answer?)?.then_some(blob))
    }

    /// The event's id is the node's to give.
    async fn publish(&self, caller: &Caller, event: Publication) -> Result<(), HostError> {
        let Publication { subject, content_type, body, metadata, id: _ } = event;
        self.value(caller, Question::Publish { subject, content_type, metadata }, body).await
    }

    async fn call(&self, caller: &Caller, name: &str, body: Bytes) -> Result<Bytes, HostError> {
        let question = Question::Call { name: name.into() };
        let (answer, reply, _) = self.ask(number_of(caller), question, body).await;
        answer.map(|_| reply)
    }

    async fn accelerate(
        &self,
        _caller: &Caller,
        _frame: &accel::Frame,
        _pipeline: accel::Pipeline,
        _history: Option<&str>,
    ) -> Result<accel::Output, HostError> {
        // Handlers of streams do not come here: the manifest is refused.
        let text = "frames stay in the node's own process; remove own_process";
        Err(HostError::Invalid(text.to_owned()))
    }

    fn log(&self, caller: &Caller, level: Level, message: &str) {
        let word = Word::Log { number: number_of(caller), level, text: message.to_owned() };
        // Without a node there is nobody to read it.
        let _ = self.say(&word, Bytes::new());
    }

    fn log_full(&self, caller: &Caller) {
        let _ = self.say(&Word::LogFull { number: number_of(caller) }, Bytes::new());
    }

    fn settings(&self, _target: &Target) -> Result<Arc<Settings>, HostError> {
        Err(HostError::Invalid("settings come with an invocation".to_owned()))
    }

    async fn connect(&self, caller: &Caller, host: &str, port: u16) -> Result<TcpStream, Refusal> {
        let question = Question::Connect { host: host.into(), port };
        let (answer, _, socket) = self.ask(number_of(caller), question, Bytes::new()).await;
        let unresolved = |reason: String| Refusal::Unresolved { host: host.to_owned(), reason };
        let answer = answer.and_then(of_value::<Option<Refusal>>);
        if let Some(refusal) = answer.map_err(|error| unresolved(error.to_string()))? {
            return Err(refusal);
        }
        let socket =
            socket.ok_or_else(|| unresolved("the connection did not arrive".to_owned()))?;
        let stream = std::net::TcpStream::from(socket);
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        stream.map_err(|error| unresolved(error.to_string()))
    }

    /// The node has noted what it refused itself.
    fn refused(&self, caller: &Caller, refusal: &Refusal) {
        if matches!(refusal, Refusal::TooMany { .. }) {
            let _ = self.say(&Word::TooMany { number: number_of(caller) }, Bytes::new());
        }
    }
}

/// Where an answer may go bit by bit, if it may.
pub(super) fn outlet(has_outlet: bool) -> (Option<Outlet>, oneshot::Receiver<Streamed>) {
    let (outlet, begun) = Outlet::new();
    (has_outlet.then_some(outlet), begun)
}
