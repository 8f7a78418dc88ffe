//! The streams of an account, taken out of one set of servers and put into another: with their
//! positions, and with what their readers have acknowledged.
//!
//! A server that stood alone does not take its streams into a cluster, nor the other way: it
//! removes them. So they go through a file, by the interface that backups use
//! (`$JS.API.STREAM.SNAPSHOT` and `RESTORE` of nats-server).

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use async_nats::{Client, Message};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Error;
use crate::pki::UserKey;

/// Bytes that travel at once.
const CHUNK_BYTES: usize = 128 << 10;
/// How long a server may take for one of them.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long servers may take to agree who leads, and to take one stream in.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause before they are asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// What a server says when there is a stream of that name.
const IN_USE: [u32; 2] = [10_058, 10_130];
/// What a server says that has not heard of enough others.
const NO_PEERS: u32 = 10_005;
/// The streams of the server's own MQTT door, which makes them anew when a client comes first.
const MQTT: &str = "$MQTT_";

/// What a server says of a stream, and wants to hear again.
#[derive(Serialize, Deserialize)]
struct Head {
    config: Value,
    state: Value,
}

impl Head {
    /// What must be the same before and after.
    fn extent(&self) -> (Option<u64>, Option<u64>) {
        (self.state["messages"].as_u64(), self.state["last_seq"].as_u64())
    }
}

/// Writes every stream of the key's account into a folder; returns how many there are, `least` of
/// which are known to be. Servers that route to each other and have just begun may name fewer.
pub async fn save(server: &str, key: &UserKey, dir: &Path, least: usize) -> Result<usize, Error> {
    let account = Account::connect(server, key).await?;
    // What the streams hold is nobody else's, here as there.
    let owners = std::fs::Permissions::from_mode(0o700);
    let made = std::fs::create_dir_all(dir).and_then(|()| std::fs::set_permissions(dir, owners));
    made.map_err(|e| Error::local(dir.display().to_string(), e))?;
    let names = account.names(least).await?;
    for name in &names {
        account.save(name, dir).await?;
    }
    Ok(names.len())
}

/// Puts every stream of a folder into the key's account, each kept so many times; returns how many
/// there are.
pub async fn restore(
    server: &str,
    key: &UserKey,
    dir: &Path,
    replicas: usize,
) -> Result<usize, Error> {
    let fail = |e: &dyn std::fmt::Display| Error::local(dir.display().to_string(), e);
    let account = Account::connect(server, key).await?;
    account.names(0).await?;
    let mut names = vec![];
    for entry in std::fs::read_dir(dir).map_err(|e| fail(&e))? {
        let file = entry.map_err(|e| fail(&e))?.path();
        if file.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read(&file).map_err(|e| fail(&e))?;
        let mut head: Head = serde_json::from_slice(&text).map_err(|e| fail(&e))?;
        head.config["num_replicas"] = replicas.into();
        account.restore(&name, &head, &file.with_extension("s2")).await?;
        names.push(name);
    }
    for name in &names {
        account.settle(name).await?;
    }
    Ok(names.len())
}

/// What a stream's servers lack of it, if anything.
fn missing(info: &stream::Info) -> Option<String> {
    let wanted = info.config.num_replicas;
    let Some(cluster) = info.cluster.as_ref().filter(|_| wanted > 1) else {
        return (wanted > 1).then(|| "there is only one".to_owned());
    };
    if cluster.leader.as_ref().is_none_or(String::is_empty) {
        return Some("none leads".to_owned());
    }
    let lacks = |peer: &&stream::PeerInfo| peer.offline || !peer.current;
    if let Some(peer) = cluster.replicas.iter().find(lacks) {
        return Some(format!("{} is behind by {}", peer.name, peer.lag.unwrap_or(0)));
    }
    let there = cluster.replicas.len() + 1;
    (there < wanted).then(|| format!("{there} of {wanted} are there"))
}

struct Account {
    client: Client,
    js: jetstream::Context,
    server: String,
}

/// Why a stream was not taken in.
enum Refused {
    /// The servers are not ready; the next attempt may succeed.
    NotYet(String),
    /// There is one of that name.
    InUse(String),
    No(String),
}

impl Account {
    async fn connect(server: &str, key: &UserKey) -> Result<Self, Error> {
        let options = async_nats::ConnectOptions::with_nkey(key.seed.clone());
        let addresses = crate::server::addresses(server)?;
        let client = options.name("edgescale-streams").connect(addresses).await;
        let client = client
            .map_err(|e| Error::Unreachable { server: server.to_owned(), reason: e.to_string() })?;
        Ok(Self { js: jetstream::new(client.clone()), client, server: server.to_owned() })
    }

    fn fail(&self, name: &str, e: impl ToString) -> Error {
        Error::local(format!("stream {name} at {}", self.server), e.to_string())
    }

    /// The account's streams, as soon as the servers know so many.
    async fn names(&self, least: usize) -> Result<Vec<String>, Error> {
        let names = patiently(async || {
            let names: Result<Vec<_>, _> = self.js.stream_names().try_collect().await;
            let names = names.map_err(|e| e.to_string())?;
            match names.len() < least {
                true => Err(format!("{} of {least} that are on disk: {names:?}", names.len())),
                false => Ok(names),
            }
        });
        names.await.map_err(|why| self.fail("list", why))
    }

    /// Waits until every server that is to keep a stream has all of it. One that had begun with
    /// nothing might lead the next time, and the stream be as empty as it.
    async fn settle(&self, name: &str) -> Result<(), Error> {
        let settled = patiently(async || {
            let stream = self.js.get_stream(name).await.map_err(|e| e.to_string())?;
            missing(stream.cached_info()).map_or(Ok(()), Err)
        });
        let late = |why| self.fail(name, format!("not all of its servers have it: {why}"));
        settled.await.map_err(late)
    }

    async fn ask(&self, subject: String, body: Bytes) -> Result<Message, async_nats::RequestError> {
        let request = async_nats::Request::new().payload(body).timeout(Some(CHUNK_TIMEOUT));
        self.client.send_request(subject, request).await
    }

    /// Servers that have just begun may break off while they agree who leads.
    async fn save(&self, name: &str, dir: &Path) -> Result<(), Error> {
        self.settle(name).await?;
        patiently(async || self.try_save(name, dir).await).await
    }

    async fn try_save(&self, name: &str, dir: &Path) -> Result<(), Error> {
        let fail = |e: &dyn std::fmt::Display| self.fail(name, e);
        let inbox = self.client.new_inbox();
        let mut chunks = self.client.subscribe(inbox.clone()).await.map_err(|e| fail(&e))?;
        let body = json!({"deliver_subject": inbox, "chunk_size": CHUNK_BYTES}).to_string();
        let answer = self.ask(format!("$JS.API.STREAM.SNAPSHOT.{name}"), body.into()).await;
        let answer = answer.map_err(|e| fail(&e))?;
        check(&answer.payload).map_err(|why| fail(&why))?;
        let head: Head = serde_json::from_slice(&answer.payload).map_err(|e| fail(&e))?;
        let file = dir.join(format!("{name}.s2"));
        let mut out = tokio::fs::File::create(&file).await.map_err(|e| fail(&e))?;
        loop {
            let next = tokio::time::timeout(CHUNK_TIMEOUT, chunks.next()).await;
            let chunk = next.ok().flatten().ok_or_else(|| fail(&"broke off"))?;
            if chunk.payload.is_empty() {
                let status = chunk.status.map(|status| status.as_u16()).filter(|code| *code != 204);
                if let Some(code) = status {
                    return Err(fail(&format!("broke off with {code}")));
                }
                break;
            }
            out.write_all(&chunk.payload).await.map_err(|e| fail(&e))?;
            if let Some(reply) = chunk.reply {
                self.client.publish(reply, Bytes::new()).await.map_err(|e| fail(&e))?;
            }
        }
        out.sync_all().await.map_err(|e| fail(&e))?;
        let text = serde_json::to_string(&head).map_err(|e| fail(&e))?;
        crate::pki::write_secret(&dir.join(format!("{name}.json")), &text)
    }

    async fn restore(&self, name: &str, head: &Head, file: &Path) -> Result<(), Error> {
        let restored = patiently(async || match self.try_restore(name, head, file).await {
            Err(Refused::InUse(why)) if name.starts_with(MQTT) => {
                tracing::warn!(stream = name, why, "kept as the server has made it");
                Ok(Ok(()))
            }
            Err(refused @ (Refused::NotYet(_) | Refused::InUse(_))) => {
                // What was begun stands in the way of the next attempt.
                let _ = self.js.delete_stream(name).await;
                Err(refused)
            }
            done => Ok(done),
        });
        restored.await.flatten().map_err(|refused| self.fail(name, refused))
    }

    async fn try_restore(&self, name: &str, head: &Head, file: &Path) -> Result<(), Refused> {
        let not_yet = |e: async_nats::RequestError| Refused::NotYet(e.to_string());
        let no = |e: &dyn std::fmt::Display| Refused::No(e.to_string());
        let body = serde_json::to_vec(head).map_err(|e| no(&e))?;
        let begun = self.ask(format!("$JS.API.STREAM.RESTORE.{name}"), body.into()).await;
        let begun = begun.map_err(not_yet)?.payload;
        check(&begun)?;
        let begun: Value = serde_json::from_slice(&begun).map_err(|e| no(&e))?;
        let to = begun["deliver_subject"].as_str().ok_or_else(|| no(&"no way in was named"))?;
        let mut bytes = tokio::fs::File::open(file).await.map_err(|e| no(&e))?;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let mut part = (&mut bytes).take(CHUNK_BYTES as u64);
            part.read_to_end(&mut chunk).await.map_err(|e| no(&e))?;
            let is_last = chunk.is_empty();
            let answer = self.ask(to.to_owned(), chunk.into()).await.map_err(not_yet)?;
            if !answer.payload.is_empty() {
                check(&answer.payload)?;
            }
            if is_last {
                let there: Head = serde_json::from_slice(&answer.payload).map_err(|e| no(&e))?;
                return match there.extent() == head.extent() {
                    true => Ok(()),
                    false => Err(no(&format!(
                        "{:?} messages and last position were saved, {:?} are there",
                        head.extent(),
                        there.extent()
                    ))),
                };
            }
        }
    }
}

/// Tries again, while servers that have just begun may still have to agree.
async fn patiently<T, E>(mut attempt: impl AsyncFnMut() -> Result<T, E>) -> Result<T, E> {
    let until = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Err(_) if Instant::now() < until => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
}

/// Reads what a server says instead of what it was asked for.
fn check(answer: &[u8]) -> Result<(), Refused> {
    #[derive(Deserialize)]
    struct Answer {
        error: Option<Problem>,
    }
    #[derive(Deserialize)]
    struct Problem {
        code: u16,
        #[serde(default)]
        err_code: u32,
        #[serde(default)]
        description: String,
    }
    let answer: Option<Answer> = serde_json::from_slice(answer).ok();
    match answer.and_then(|answer| answer.error) {
        None => Ok(()),
        Some(problem) if IN_USE.contains(&problem.err_code) => {
            Err(Refused::InUse(problem.description))
        }
        // The code has HTTP's meaning: no leader, in a moment perhaps.
        Some(problem) if problem.code >= 500 || problem.err_code == NO_PEERS => {
            Err(Refused::NotYet(problem.description))
        }
        Some(problem) => Err(Refused::No(problem.description)),
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::NotYet(why) | Self::InUse(why) | Self::No(why)) = self;
        f.write_str(why)
    }
}
