//! The connection of a process to its site's server: publish, request, serve.

use std::future::Future;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::client::{PublishErrorKind, RequestErrorKind};
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, HeaderMap, Message};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::message::TIMEOUT_HEADER;
use crate::path::TierPath;
use crate::rates::Rates;
use crate::{Error, Headers, Refusal, RefusalKind, Request, Response};

/// How many requests one subscription answers at once; more are refused as overloaded.
pub const IN_FLIGHT_MAX: usize = 1024;
/// How long the first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long servers that route to each other may take to agree who leads.
const ELECTION_PATIENCE: Duration = Duration::from_secs(30);
/// The pause before they are asked again.
const ELECTION_PAUSE: Duration = Duration::from_millis(200);
/// How long after a reconnection the server's new greeting is there to be read.
const GREETING_PAUSE: Duration = Duration::from_millis(200);
/// What an overloaded subscription tells its callers to wait, in ms.
const RETRY_AFTER_MS: u64 = 100;

/// Who a process is to its server.
#[derive(Clone)]
pub struct Credentials {
    /// The seed of the user's nkey.
    pub seed: String,
}

/// The files by which a client knows a server that speaks TLS, and is known to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// The authority over the server's certificate.
    pub authority: Option<PathBuf>,
    /// The client's certificate and its key.
    pub pair: Option<(PathBuf, PathBuf)>,
}

/// A connection to the server of one site.
#[derive(Clone)]
pub struct Bus {
    client: Client,
    site: TierPath,
    server: String,
    connects: Arc<AtomicU64>,
    /// How often the site keeps its streams.
    replicas: usize,
    /// What nobody without this connection's key can know.
    secret: String,
    rates: Arc<Rates>,
    greeting: Arc<Greeting>,
}

/// Looks at what the server says of itself, each time that the connection was made again.
struct Greeting {
    /// Why the server does not fit any more.
    unfit: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Drop for Greeting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ClientTls {
    fn set(&self, mut options: ConnectOptions) -> ConnectOptions {
        if let Some(authority) = &self.authority {
            options = options.add_root_certificates(authority.clone());
        }
        if let Some((certificate, key)) = &self.pair {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        options.require_tls(*self != Self::default())
    }
}

impl Bus {
    /// Connects to a site's server, or to one of several with commas between; later losses heal by
    /// themselves, for ever.
    ///
    /// A server that is too old, or whose limits differ from the tree's, is refused; one that comes
    /// back so later is told by [`Self::unfit`].
    pub async fn connect(
        server: &str,
        site: &TierPath,
        credentials: &Credentials,
        name: &str,
    ) -> Result<Self, Error> {
        Self::connect_with(server, site, credentials, name, &ClientTls::default()).await
    }

    /// The same, to a server that speaks TLS.
    pub async fn connect_with(
        server: &str,
        site: &TierPath,
        credentials: &Credentials,
        name: &str,
        tls: &ClientTls,
    ) -> Result<Self, Error> {
        let connects = Arc::new(AtomicU64::new(0));
        let addresses = crate::server::addresses(server)?;
        let replicas = addresses.len();
        let counted = connects.clone();
        let again = Arc::new(Notify::new());
        let connected = again.clone();
        let options = tls
            .set(ConnectOptions::with_nkey(credentials.seed.clone()))
            .name(name)
            .custom_inbox_prefix(format!("rp.{site}._"))
            .ping_interval(Duration::from_secs(5))
            .subscription_capacity(64 * 1024)
            .event_callback(move |event| {
                if matches!(event, async_nats::Event::Connected) {
                    counted.fetch_add(1, Ordering::Relaxed);
                    connected.notify_one();
                }
                async move { debug!(%event, "bus connection") }
            });
        let unreachable = |reason: String| Error::Unreachable { server: server.to_owned(), reason };
        let client = tokio::time::timeout(CONNECT_TIMEOUT, options.connect(addresses))
            .await
            .map_err(|_| unreachable("no greeting within 10 s".into()))?
            .map_err(|e| unreachable(e.to_string()))?;
        crate::server::check_greeting(&client.server_info(), server, site)?;
        let greeting = watch_greeting(client.clone(), server.to_owned(), site.clone(), again);
        let secret = crate::pki::fingerprint(format!("names\n{}", credentials.seed).as_bytes());
        Ok(Self {
            client,
            site: site.clone(),
            server: server.to_owned(),
            connects,
            replicas,
            secret,
            rates: Arc::default(),
            greeting: Arc::new(greeting),
        })
    }

    /// The site this connection belongs to.
    pub fn site(&self) -> &TierPath {
        &self.site
    }

    /// The same connection, as it speaks to a site below: what is asked of [`Self::site`] is asked
    /// of that one.
    pub fn speaking_to(mut self, site: TierPath) -> Self {
        self.site = site;
        self
    }

    /// Returns, with the reason, when the server was started again in a way that does not fit the
    /// tree; never while it fits.
    pub async fn unfit(&self) -> String {
        let mut unfit = self.greeting.unfit.clone();
        match unfit.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
            Ok(Some(reason)) => reason,
            _ => std::future::pending().await,
        }
    }

    /// How often the connection was made: more than once means that it was lost in between.
    pub fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// The same for a site that keeps its streams so many times.
    pub fn with_replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// How often the site keeps its streams.
    pub(crate) fn replicas(&self) -> usize {
        self.replicas
    }

    /// For what servers that route to each other refuse until they agree who leads.
    pub(crate) fn patience(&self) -> Patience {
        let several = self.replicas > 1;
        Patience { until: several.then(|| Instant::now() + ELECTION_PATIENCE) }
    }

    /// A name that holders of other keys cannot guess; the same at each start.
    pub(crate) fn hidden(&self, name: &str) -> String {
        format!("{name}-{}", &self.secret[..32])
    }

    /// Stands for a text, the same at each start; nobody without this connection's key can tell
    /// which. An id made so cannot be taken in advance: logs drop what has the id of another.
    pub fn sealed(&self, text: &str) -> String {
        let mut sealed = crate::body::digest(format!("{}\n{text}", self.secret).as_bytes());
        sealed.truncate(32);
        sealed
    }

    /// How fast bodies have come to other sites lately.
    pub(crate) fn rates(&self) -> &Rates {
        &self.rates
    }

    /// The client below, for the other modules of this crate.
    pub(crate) fn nats(&self) -> &Client {
        &self.client
    }

    /// Publishes without waiting for anybody.
    pub async fn publish(
        &self,
        subject: &str,
        headers: &Headers,
        payload: impl Into<Bytes>,
    ) -> Result<(), Error> {
        let subject = subject.to_owned();
        self.client
            .publish_with_headers(subject, to_nats(headers), payload.into())
            .await
            .map_err(|e| self.unreachable(e))
    }

    /// Waits until the server has everything published so far.
    pub async fn flush(&self) -> Result<(), Error> {
        self.client.flush().await.map_err(|e| self.unreachable(e))
    }

    /// Asks and waits for the answer; a refusal comes back as [`Error::Refused`].
    ///
    /// The other side is told the timeout as the request's time budget, unless the headers name a
    /// smaller one: then there is time left for its refusal to arrive.
    pub async fn request(
        &self,
        subject: &str,
        headers: &Headers,
        payload: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<Response, Error> {
        let timeout_ms = timeout.as_millis() as u64;
        let mut map = to_nats(headers);
        let named = headers.get(TIMEOUT_HEADER).and_then(|text| text.parse().ok());
        let budget_ms = named.unwrap_or(timeout_ms).min(timeout_ms);
        map.insert(TIMEOUT_HEADER, budget_ms.to_string().as_str());
        let request =
            async_nats::Request::new().headers(map).payload(payload.into()).timeout(Some(timeout));
        let reply = self.client.send_request(subject.to_owned(), request).await;
        let message = reply.map_err(|e| match e.kind() {
            RequestErrorKind::TimedOut => Error::timed_out(subject, timeout),
            RequestErrorKind::NoResponders => Error::NoResponders {
                subject: subject.to_owned(),
                hint: "is the node of that tier running, and its link up?",
            },
            RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                Error::Bad(format!("{subject}: {e}"))
            }
            RequestErrorKind::Other => self.unreachable(e),
        })?;
        let response = Response { headers: from_nats(&message), ..Response::new(message.payload) };
        match Refusal::of(&response) {
            Some(refusal) => Err(refusal.into()),
            None => Ok(response),
        }
    }

    /// Answers every request on a subject, many at a time, until the handle is dropped.
    ///
    /// Members of one `queue` share the requests. A request beyond [`IN_FLIGHT_MAX`] is refused
    /// as overloaded at once rather than kept waiting.
    pub async fn serve<F, Fut>(
        &self,
        subject: &str,
        queue: &str,
        answer: F,
    ) -> Result<Subscription, Error>
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, Refusal>> + Send + 'static,
    {
        let subscriber = self
            .client
            .queue_subscribe(subject.to_owned(), queue.to_owned())
            .await
            .map_err(|e| self.unreachable(e))?;
        let (stop, stopped) = oneshot::channel();
        let bus = self.clone();
        let task = tokio::spawn(bus.answer_all(subscriber, Arc::new(answer), stopped));
        Ok(Subscription { task, stop: Some(stop) })
    }

    /// Answers requests until told to stop, and then those that have come by then.
    async fn answer_all<F, Fut>(
        self,
        mut subscriber: async_nats::Subscriber,
        answer: Arc<F>,
        mut stopped: oneshot::Receiver<()>,
    ) where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, Refusal>> + Send + 'static,
    {
        let (bus, room) = (Arc::new(self), Arc::new(Semaphore::new(IN_FLIGHT_MAX)));
        let mut takes_more = true;
        loop {
            let message = tokio::select! {
                // First: however many come, it is heard.
                biased;
                _ = &mut stopped, if takes_more => {
                    takes_more = false;
                    let is_connected = bus.client.connection_state() == State::Connected;
                    if !is_connected || subscriber.drain().await.is_err() {
                        return;
                    }
                    continue;
                }
                message = subscriber.next() => message,
            };
            let Some(message) = message else { break };
            let (bus, answer, room) = (bus.clone(), answer.clone(), room.clone());
            let Ok(permit) = room.clone().try_acquire_owned() else {
                let mut refusal = Refusal::new(
                    RefusalKind::Overloaded,
                    format!("overloaded, retry after {RETRY_AFTER_MS} ms"),
                );
                refusal.retry_after_ms = Some(RETRY_AFTER_MS);
                bus.reply(message.reply, Err(refusal)).await;
                continue;
            };
            tokio::spawn(async move {
                let request = Request {
                    subject: message.subject.to_string(),
                    headers: from_nats(&message),
                    payload: message.payload,
                    received: Instant::now(),
                };
                let mut result = answer(request).await;
                // While others wait there is no time for what is left to do.
                let is_alone = room.available_permits() == IN_FLIGHT_MAX - 1;
                let after = result.as_mut().ok().map(|response| mem::take(&mut response.after));
                let after = after.filter(|_| is_alone);
                bus.reply(message.reply, result).await;
                drop(permit);
                after.unwrap_or_default().run().await;
            });
        }
        let _all = room.acquire_many(IN_FLIGHT_MAX as u32).await;
        if let Err(e) = bus.flush().await {
            warn!(error = %e, "the last replies may not have been sent");
        }
    }

    async fn reply(&self, to: Option<async_nats::Subject>, result: Result<Response, Refusal>) {
        let Some(to) = to else { return };
        let mut response =
            result.unwrap_or_else(|refusal| refusal.at(self.site.as_str()).response());
        let site = response.headers.entry(crate::message::SITE_HEADER.into());
        site.or_insert_with(|| self.site.to_string());
        let mut sent = self.send_reply(to.clone(), response).await;
        if let Err(e) = &sent
            && e.kind() == PublishErrorKind::MaxPayloadExceeded
        {
            // Whoever asked would wait for nothing.
            let text = format!("an answer that is too large for a message: {e}");
            let refusal = Refusal::new(RefusalKind::HandlerFailed, text).at(self.site.as_str());
            sent = self.send_reply(to, refusal.response()).await;
        }
        if let Err(e) = sent {
            warn!(error = %e, "a reply was not sent");
        }
    }

    async fn send_reply(
        &self,
        to: async_nats::Subject,
        response: Response,
    ) -> Result<(), async_nats::client::PublishError> {
        let headers = to_nats(&response.headers);
        self.client.publish_with_headers(to, headers, response.payload).await
    }

    /// Hears every message on a subject, one after another, until the handle is dropped.
    pub async fn subscribe<F, Fut>(&self, subject: &str, hear: F) -> Result<Subscription, Error>
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut subscriber =
            self.client.subscribe(subject.to_owned()).await.map_err(|e| self.unreachable(e))?;
        let task = tokio::spawn(async move {
            while let Some(message) = subscriber.next().await {
                let headers = from_nats(&message);
                let (subject, payload) = (message.subject.to_string(), message.payload);
                hear(Request { subject, headers, payload, received: Instant::now() }).await;
            }
        });
        Ok(Subscription::of(task))
    }

    pub(crate) fn unreachable(&self, reason: impl ToString) -> Error {
        Error::Unreachable { server: self.server.clone(), reason: reason.to_string() }
    }
}

fn watch_greeting(client: Client, server: String, site: TierPath, again: Arc<Notify>) -> Greeting {
    let (sender, unfit) = watch::channel(None);
    let task = tokio::spawn(async move {
        loop {
            again.notified().await;
            tokio::time::sleep(GREETING_PAUSE).await;
            let checked = crate::server::check_greeting(&client.server_info(), &server, &site);
            sender.send_replace(checked.err().map(|e| e.to_string()));
        }
    });
    Greeting { unfit, task }
}

/// How long something is tried again.
pub(crate) struct Patience {
    until: Option<Instant>,
}

impl Patience {
    /// Waits a moment before the next attempt; false when there is to be none.
    pub async fn more(&self, error: &Error) -> bool {
        if self.until.is_none_or(|until| Instant::now() > until) {
            return false;
        }
        debug!(%error, "the servers are not ready yet");
        tokio::time::sleep(ELECTION_PAUSE).await;
        true
    }
}

/// A running subscription; dropping it ends it, and leaves what it has begun unanswered.
pub struct Subscription {
    task: JoinHandle<()>,
    /// Where requests are answered.
    stop: Option<oneshot::Sender<()>>,
}

impl Subscription {
    pub(crate) fn of(task: JoinHandle<()>) -> Self {
        Self { task, stop: None }
    }

    /// Takes no more requests, and returns when those that had come are answered.
    pub async fn drain(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
            let _ = (&mut self.task).await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Some work, or that it took too long.
pub(crate) async fn within<T>(
    timeout: Duration,
    subject: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let late = |_| Err(Error::timed_out(subject, timeout));
    tokio::time::timeout(timeout, work).await.unwrap_or_else(late)
}

/// Headers in NATS's form; what cannot travel (line breaks, odd names) is left out.
pub(crate) fn to_nats(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: Result<async_nats::HeaderName, _> = name.parse();
        let value: Result<async_nats::HeaderValue, _> = value.parse();
        if let (Ok(name), Ok(value)) = (name, value) {
            map.insert(name, value);
        }
    }
    map
}

/// The headers of a message; of several values of one name the first counts.
pub(crate) fn from_nats(message: &Message) -> Headers {
    message.headers.as_ref().map(headers_of).unwrap_or_default()
}

/// NATS's headers in ours.
pub(crate) fn headers_of(map: &HeaderMap) -> Headers {
    map.iter()
        .filter_map(|(name, values)| {
            let name: &str = name.as_ref();
            Some((name.to_owned(), values.first()?.as_str().to_owned()))
        })
        .collect()
}
