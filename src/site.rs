//! One site on this machine: its server and its node as processes, from what its folder says.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bus::server::{self, Server};
use bus::site::servers::Place;
use bus::site::{CLIENT_FILE, Record, SiteFolder};
use bus::tree::ACCOUNT;

use crate::context::{Context, FILE, Site};
use crate::{gateway, node, servers};

/// How long a node may take to stop before it is killed: to drain, and to close its store.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);
/// How often the processes and the record of a site are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The pause before the first restart of something that ended; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause before a restart.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Whatever ran for so long is restarted without delay.
const STEADY: Duration = Duration::from_secs(60);

/// Locked, in the folder of a site, by who runs it.
const LOCK_FILE: &str = "run.lock";

/// The programs that a site consists of.
#[derive(Clone, Debug)]
pub struct Programs {
    /// nats-server.
    pub server: PathBuf,
    /// The binary that runs nodes.
    pub node: PathBuf,
    /// The project's tools.
    pub tools: PathBuf,
}

impl Programs {
    /// Finds the server; nodes are run by `node`.
    pub fn find(node: &Path, tools: &Path) -> Result<Self> {
        let named = std::env::var_os("EDGESCALE_NATS_SERVER").map(PathBuf::from);
        let server = server::find(named.as_deref(), tools)?;
        Ok(Self { server, node: node.to_owned(), tools: tools.to_owned() })
    }
}

/// A site whose processes may run; dropping it stops them.
pub struct RunningSite {
    pub site: Site,
    dir: PathBuf,
    record: Record,
    programs: Programs,
    /// The servers on this machine, by their files.
    servers: Vec<(Place, Option<Server>)>,
    node: Option<Child>,
    /// The nodes of tenants by name, each with its public key.
    tenants: BTreeMap<String, (String, Child)>,
}

impl RunningSite {
    /// Writes the node's configuration; starts nothing.
    pub fn prepare(folder: &SiteFolder, programs: &Programs) -> Result<Self> {
        let record = folder.record.clone();
        let site = Site {
            path: record.site.clone(),
            class: record.class,
            server: folder.server_url(),
            monitor: folder.monitor(),
            http: Default::default(),
            websocket: door("ws://", record.ports.websocket),
            mqtt: door("", record.ports.mqtt),
            nkey: folder.file("client.nk"),
            log: folder.file("node.log"),
            tls: Default::default(),
            via: None,
        };
        site.save_nats_context()?;
        let file = folder.file(node::CONFIG_FILE);
        let own = own_parts(&file)?;
        let settings = node::Settings {
            site: record.site.clone(),
            class: record.class,
            server: site.server.clone(),
            replicas: folder.replicas(),
            nkey: folder.file("node.nk"),
            data: folder.file("data"),
            tools: programs.tools.clone(),
            monitor: Some(site.monitor.clone()),
            folder: Some(folder.dir().to_owned()),
            former: record.former.clone(),
            http: own.http,
            trace: own.trace,
            devices: own.devices.of(ACCOUNT, folder.dir()),
            objects: own.objects,
            code: own.code,
        };
        settings.save(&file)?;
        let (dir, programs) = (folder.dir().to_owned(), programs.clone());
        let tenants = BTreeMap::new();
        let ours = |place: &Place| place.here && record.operated.is_none();
        let servers = folder.places().into_iter().filter(ours).map(|place| (place, None)).collect();
        Ok(Self { site, dir, record, programs, servers, node: None, tenants })
    }

    /// Starts those of the site's servers on this machine that do not run, unless an operator runs
    /// them; returns when they greet.
    pub fn start_server(&mut self) -> Result<()> {
        for (place, server) in &mut self.servers {
            if server.as_mut().is_some_and(Server::running) {
                continue;
            }
            let port = place.ports.client;
            let started = Server::start(&self.programs.server, &place.config, &place.log, port);
            *server = Some(started.with_context(|| {
                format!("{} of {} did not start", called(place), self.site.path)
            })?);
        }
        Ok(())
    }

    /// Starts the node.
    pub fn start_node(&mut self) -> Result<()> {
        let mut command = Command::new(&self.programs.node);
        command.arg("node").arg("--config").arg(self.dir.join(node::CONFIG_FILE));
        self.node = Some(server::spawn_logged(&mut command, &self.site.log)?);
        Ok(())
    }

    /// Starts the nodes of new tenants and those that ended, and stops those of tenants who left,
    /// with all that they kept.
    pub fn follow_tenants(&mut self) -> Result<()> {
        let folder = SiteFolder::open(&self.dir)?;
        let mut keys = BTreeMap::new();
        for name in folder.tenants().names() {
            keys.insert(name, folder.tenant_key(name)?.public);
        }
        // A tenant of the same name that came meanwhile has another key.
        self.tenants.retain(|name, (key, node)| {
            let stays = keys.get(name.as_str()) == Some(&*key);
            if !stays {
                server::stop(node, STOP_TIMEOUT);
            }
            stays
        });
        folder.sweep_tenants()?;
        for (name, key) in keys {
            let node = self.tenants.get_mut(name).map(|(_, node)| node.try_wait());
            if !matches!(node, Some(Ok(None))) {
                let node = self.start_tenant(&folder, name)?;
                self.tenants.insert(name.to_owned(), (key, node));
            }
        }
        Ok(())
    }

    fn start_tenant(&self, folder: &SiteFolder, name: &str) -> Result<Child> {
        let file = folder.tenant_file(name, node::CONFIG_FILE);
        let own = own_parts(&file)?;
        let settings = node::Settings {
            site: self.record.site.clone(),
            class: self.record.class,
            server: self.site.server.clone(),
            replicas: folder.replicas(),
            nkey: folder.tenant_file(name, "node.nk"),
            data: folder.tenant_file(name, "data"),
            tools: self.programs.tools.clone(),
            monitor: None,
            folder: None,
            former: self.record.former.clone(),
            http: own.http,
            trace: own.trace,
            devices: own.devices.of(name, folder.dir()),
            objects: own.objects,
            code: own.code,
        };
        settings.save(&file)?;
        let nkey = folder.tenant_file(name, CLIENT_FILE);
        Site { nkey, ..self.site.clone() }.save_nats_context()?;
        let mut command = Command::new(&self.programs.node);
        command.arg("node").arg("--config").arg(&file);
        Ok(server::spawn_logged(&mut command, &folder.tenant_file(name, "node.log"))?)
    }

    /// True when a node was started and not stopped since.
    pub fn has_node(&self) -> bool {
        self.node.is_some()
    }

    /// Kills the node without warning.
    pub fn kill_node(&mut self) -> Result<()> {
        if let Some(mut node) = self.node.take() {
            let path = &self.site.path;
            node.kill().with_context(|| format!("killing the node of {path}"))?;
            node.wait().with_context(|| format!("waiting for the node of {path}"))?;
        }
        Ok(())
    }

    /// Stops the node.
    pub fn stop_node(&mut self) {
        for (_, node) in self.tenants.values_mut() {
            server::stop(node, STOP_TIMEOUT);
        }
        self.tenants.clear();
        if let Some(mut node) = self.node.take() {
            server::stop(&mut node, STOP_TIMEOUT);
        }
    }

    /// Stops the servers, and with them the links of the site.
    pub fn stop_server(&mut self) {
        self.servers.iter_mut().for_each(|(_, server)| *server = None);
    }

    /// The process of the first server, if it runs here.
    pub fn server_pid(&self) -> Option<u32> {
        self.servers.first().and_then(|(_, server)| server.as_ref()).map(Server::pid)
    }

    /// Names the first process that ended by itself, and why.
    pub fn casualty(&mut self) -> Option<String> {
        let path = &self.site.path;
        for (place, server) in &mut self.servers {
            if server.as_mut().is_some_and(|server| !server.running()) {
                let tail = server::tail(&place.log);
                return Some(format!("{} of {path} ended: {tail}", called(place)));
            }
        }
        match self.node.as_mut()?.try_wait() {
            Ok(Some(status)) => {
                let tail = server::tail(&self.site.log);
                Some(format!("the node of {path} ended with {status}: {tail}"))
            }
            _ => None,
        }
    }

    fn start(&mut self) -> Result<()> {
        self.start_server()?;
        self.start_node()
    }

    fn stop(&mut self) {
        self.stop_node();
        self.stop_server();
    }

    /// Starts again whichever process ended; true when one had.
    fn mend(&mut self) -> Result<bool> {
        let down = |server: &mut Option<Server>| !server.as_mut().is_some_and(Server::running);
        if self.servers.iter_mut().any(|(_, server)| down(server)) {
            self.start_server()?;
            return Ok(true);
        }
        if !matches!(self.node.as_mut().map(Child::try_wait), Some(Ok(None))) {
            self.start_node()?;
            return Ok(true);
        }
        Ok(false)
    }
}

/// What a server is called in messages.
fn called(place: &Place) -> String {
    match place.number {
        1 => "the nats-server".to_owned(),
        number => format!("nats-server {number}"),
    }
}

/// The parts of a node's configuration that are an operator's own.
#[derive(Default)]
struct OwnParts {
    http: gateway::Settings,
    trace: node::otlp::Settings,
    objects: Option<store::Bucket>,
    devices: node::turns::Settings,
    code: node::code::Settings,
}

fn own_parts(file: &Path) -> Result<OwnParts> {
    if !file.exists() {
        return Ok(OwnParts::default());
    }
    let node::Settings { http, trace, objects, devices, code, .. } = node::Settings::load(file)?;
    Ok(OwnParts { http, trace, objects, devices, code })
}

/// The address of a door of the server; empty when it is shut.
fn door(scheme: &str, port: u16) -> String {
    match port {
        0 => String::new(),
        port => format!("{scheme}{}:{port}", bus::site::LOOPBACK),
    }
}

impl Drop for RunningSite {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Two that ran one folder would start each other's servers again and again.
fn lock(folder: &SiteFolder) -> Result<File> {
    let (site, dir) = (&folder.record.site, folder.dir().display());
    let path = folder.dir().join(LOCK_FILE);
    // A site runs also where the disk takes no writes.
    let file = File::create(&path).or_else(|e| File::open(&path).map_err(|_| e));
    let file = file.with_context(|| path.display().to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("{site} runs already from {dir}; `edgescale --dir {dir} tree` shows it")
        }
        Err(TryLockError::Error(e)) => Err(e).with_context(|| path.display().to_string()),
    }
}

/// Runs the site of a folder until the process is told to stop: what ends is started again, and a
/// site that was moved goes on at its new place. Nothing here waits for a parent.
pub async fn run(dir: &Path, programs: &Programs, started: impl FnOnce(&Site)) -> Result<()> {
    let _lock = lock(&SiteFolder::open(dir)?)?;
    let mut running = prepare(dir, programs)?;
    running.start()?;
    started(&running.site);
    let mut pause = PAUSE;
    let mut last_start = Instant::now();
    // What was found in the record the last time that it was another.
    let mut seen: Option<Record> = None;
    // One for all of it: who listens anew does not hear what was said before.
    let stop = node::stop_signal();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Ok(folder) = SiteFolder::open(dir)
            && folder.record != running.record
            && seen.as_ref() != Some(&folder.record)
        {
            tracing::info!(site = %running.site.path, "the site's record has changed");
            match folder.check_streams() {
                Ok(()) => {
                    running.stop();
                    running = prepare(dir, programs)?;
                }
                // The site goes on as it was.
                Err(e) => tracing::error!("{e}"),
            }
            seen = Some(folder.record);
        }
        if let Some(casualty) = running.casualty() {
            tracing::warn!("{casualty}; starting it again");
            if last_start.elapsed() < STEADY {
                tokio::select! {
                    () = &mut stop => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(PAUSE_MAX);
            } else {
                pause = PAUSE;
            }
        }
        if let Err(e) = running.follow_tenants() {
            tracing::error!("a tenant's node: {e:#}");
        }
        match running.mend() {
            Ok(true) => last_start = Instant::now(),
            Ok(false) => {}
            Err(e) => tracing::error!("{e:#}"),
        }
    }
    drop(running);
    let _ = std::fs::remove_file(dir.join(FILE));
    Ok(())
}

fn prepare(dir: &Path, programs: &Programs) -> Result<RunningSite> {
    servers::check_whole(dir)?;
    let folder = SiteFolder::open(dir)?;
    folder.check_streams()?;
    // A newer version may write the server's configuration differently.
    folder.save()?;
    let running = RunningSite::prepare(&folder, programs)?;
    Context { sites: vec![running.site.clone()] }.save(dir)?;
    Ok(running)
}
