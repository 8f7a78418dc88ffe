//! A whole tree on this machine: one nats-server and one node per site, keys and configuration
//! made here, everything on ephemeral loopback ports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bus::TierPath;
use bus::pki::{Authority, UserKey, write_secret};
use bus::server::{self, Server};
use bus::tree::{ChildLink, ParentLink, SiteServer};

use crate::context::{Context, Site};
use crate::node;

/// How long a node may take to answer for the first time.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a node may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Ports are picked before the servers bind them; another process may be quicker.
const PORT_ATTEMPTS: usize = 3;

/// What to start.
#[derive(Clone)]
pub struct Plan {
    /// The sites, parents before children.
    pub sites: Vec<TierPath>,
    /// Where everything is kept.
    pub dir: PathBuf,
    /// The project's tools: nats-server, the Lambda runtime client.
    pub tools: PathBuf,
    /// The binary that runs nodes.
    pub node_binary: PathBuf,
    /// Replaces the parent's leaf address of a site's link: a proxy, for cutting links in tests.
    pub links: BTreeMap<TierPath, LinkVia>,
}

/// A way round: given the parent's leaf port, the port to connect to instead.
pub type LinkVia = Arc<dyn Fn(u16) -> u16 + Send + Sync>;

/// The tree of the demo: a cloud, a region, two cells.
pub const DEMO_SITES: [&str; 4] = ["cloud", "cloud.east", "cloud.east.cell1", "cloud.east.cell2"];

/// A running tree; dropping it stops every process of it.
pub struct Tree {
    sites: Vec<RunningSite>,
    dir: PathBuf,
    node_binary: PathBuf,
}

struct RunningSite {
    site: Site,
    dir: PathBuf,
    server_binary: PathBuf,
    ports: Ports,
    server: Option<Server>,
    node: Option<Child>,
}

#[derive(Clone, Copy)]
struct Ports {
    client: u16,
    monitor: u16,
    leaf: u16,
}

struct Keys {
    node: UserKey,
    client: UserKey,
    link: UserKey,
}

impl Tree {
    /// Starts servers and nodes; returns when every node answers and every link is up.
    pub async fn start(plan: &Plan) -> Result<Self> {
        check_sites(&plan.sites)?;
        std::fs::create_dir_all(&plan.dir)
            .with_context(|| format!("cannot make {}", plan.dir.display()))?;
        let mut tree = Self::start_servers(plan)?;
        tree.context().save(&plan.dir)?;
        for at in 0..tree.sites.len() {
            tree.start_node(at)?;
        }
        tree.wait_ready().await?;
        Ok(tree)
    }

    fn start_servers(plan: &Plan) -> Result<Self> {
        let mut last = None;
        for _ in 0..PORT_ATTEMPTS {
            match Self::try_start_servers(plan) {
                Ok(tree) => return Ok(tree),
                Err(e) if format!("{e:#}").contains("address already in use") => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.context("no attempt was made")?)
    }

    fn try_start_servers(plan: &Plan) -> Result<Self> {
        let named = std::env::var_os("EDGESCALE_NATS_SERVER").map(PathBuf::from);
        let binary = server::find(named.as_deref(), &plan.tools)?;
        let ports = server::free_ports(plan.sites.len() * 3)?;
        let ports: Vec<Ports> = ports
            .chunks(3)
            .map(|three| Ports { client: three[0], monitor: three[1], leaf: three[2] })
            .collect();
        let keys = plan.sites.iter().map(|site| Keys::load(&site_dir(&plan.dir, site)));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        let authority = Authority::generate()?;
        let mut tree =
            Self { sites: vec![], dir: plan.dir.clone(), node_binary: plan.node_binary.clone() };
        for at in 0..plan.sites.len() {
            let config = server_config(plan, at, &ports, &keys, &authority)?;
            let running = RunningSite::start(plan, at, ports[at], &binary, &config)?;
            tree.sites.push(running);
        }
        Ok(tree)
    }

    /// How to reach the tree.
    pub fn context(&self) -> Context {
        Context { sites: self.sites.iter().map(|running| running.site.clone()).collect() }
    }

    /// The folder everything is kept in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn position(&self, path: &str) -> Result<usize> {
        let found = self.sites.iter().position(|running| running.site.path.as_str() == path);
        found.with_context(|| format!("no site {path:?} in the tree"))
    }

    fn start_node(&mut self, at: usize) -> Result<()> {
        let running = &mut self.sites[at];
        let mut command = Command::new(&self.node_binary);
        command.arg("node").arg("--config").arg(running.dir.join(node::CONFIG_FILE));
        running.node = Some(server::spawn_logged(&mut command, &running.site.log)?);
        Ok(())
    }

    /// The process ids of a site: server and node.
    pub fn pids(&self, path: &str) -> Result<(Option<u32>, Option<u32>)> {
        let running = &self.sites[self.position(path)?];
        Ok((running.server.as_ref().map(Server::pid), running.node.as_ref().map(Child::id)))
    }

    /// Kills a site's node without warning.
    pub fn kill_node(&mut self, path: &str) -> Result<()> {
        let at = self.position(path)?;
        if let Some(mut node) = self.sites[at].node.take() {
            node.kill().with_context(|| format!("killing the node of {path}"))?;
            node.wait().with_context(|| format!("waiting for the node of {path}"))?;
        }
        Ok(())
    }

    /// Starts a site's node again.
    pub async fn restart_node(&mut self, path: &str) -> Result<()> {
        let at = self.position(path)?;
        self.start_node(at)?;
        self.wait_ready().await
    }

    /// Stops a site's server, and with it the links of the site.
    pub fn stop_server(&mut self, path: &str) -> Result<()> {
        let at = self.position(path)?;
        self.sites[at].server = None;
        Ok(())
    }

    /// Starts a site's server again, on the ports it had.
    pub fn restart_server(&mut self, path: &str) -> Result<()> {
        let at = self.position(path)?;
        let running = &mut self.sites[at];
        running.server = Some(running.start_server()?);
        Ok(())
    }

    /// Names the first process that ended by itself.
    pub fn casualty(&mut self) -> Option<String> {
        self.sites.iter_mut().find_map(|running| {
            let path = &running.site.path;
            if running.server.as_mut().is_some_and(|server| !server.running()) {
                let tail = server::tail(&running.dir.join("nats.log"));
                return Some(format!("the nats-server of {path} ended: {tail}"));
            }
            match running.node.as_mut()?.try_wait() {
                Ok(Some(status)) => {
                    let tail = server::tail(&running.site.log);
                    Some(format!("the node of {path} ended with {status}: {tail}"))
                }
                _ => None,
            }
        })
    }

    /// Waits until every node that runs answers and hears its parent.
    async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        for at in 0..self.sites.len() {
            if self.sites[at].node.is_none() {
                continue;
            }
            let site = self.sites[at].site.clone();
            loop {
                if let Some(casualty) = self.casualty() {
                    bail!("{casualty}");
                }
                match node::client::status(&site).await {
                    Ok(status) if status.ready => break,
                    Ok(_) | Err(_) if Instant::now() < deadline => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Ok(_) => bail!("site {} did not hear its parent in time", site.path),
                    Err(e) => {
                        return Err(e.context(format!("site {} did not get ready", site.path)));
                    }
                }
            }
        }
        self.wait_seen(deadline).await
    }

    /// Waits until the root sees every site whose node runs.
    async fn wait_seen(&self, deadline: Instant) -> Result<()> {
        let running = self.sites.iter().filter(|running| running.node.is_some()).count();
        let Some(root) = self.sites.first().filter(|root| root.node.is_some()) else {
            return Ok(());
        };
        while node::client::status(&root.site).await?.brief.size() < running {
            if Instant::now() > deadline {
                bail!("{} does not see the whole tree in time", root.site.path);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Stops nodes, then servers, children before parents.
    pub fn stop(&mut self) {
        for running in self.sites.iter_mut().rev() {
            if let Some(node) = running.node.as_mut() {
                server::stop(node, STOP_TIMEOUT);
            }
            running.node = None;
        }
        for running in self.sites.iter_mut().rev() {
            running.server = None;
        }
        let _ = std::fs::remove_file(self.dir.join(crate::context::FILE));
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.stop();
    }
}

impl RunningSite {
    fn start(
        plan: &Plan,
        at: usize,
        ports: Ports,
        binary: &Path,
        config: &SiteServer,
    ) -> Result<Self> {
        let path = &plan.sites[at];
        let dir = site_dir(&plan.dir, path);
        let site = Site {
            path: path.clone(),
            class: path.default_class(),
            server: format!("nats://127.0.0.1:{}", ports.client),
            monitor: format!("127.0.0.1:{}", ports.monitor),
            nkey: dir.join("client.nk"),
            log: dir.join("node.log"),
        };
        write_secret(&dir.join("nats.conf"), &config.render()?)?;
        let settings = node::Settings {
            site: path.clone(),
            class: site.class,
            server: site.server.clone(),
            nkey: dir.join("node.nk"),
            data: dir.join("data"),
            tools: plan.tools.clone(),
            monitor: Some(site.monitor.clone()),
        };
        settings.save(&dir.join(node::CONFIG_FILE))?;
        let server_binary = binary.to_owned();
        let mut running = Self { site, dir, server_binary, ports, server: None, node: None };
        running.server = Some(running.start_server()?);
        Ok(running)
    }

    fn start_server(&self) -> Result<Server> {
        let (config, log) = (self.dir.join("nats.conf"), self.dir.join("nats.log"));
        Server::start(&self.server_binary, &config, &log, self.ports.client)
            .with_context(|| format!("the server of {} did not start", self.site.path))
    }
}

impl Keys {
    fn load(dir: &Path) -> Result<Self> {
        let key = |name: &str| UserKey::load_or_generate(&dir.join(name));
        Ok(Self { node: key("node.nk")?, client: key("client.nk")?, link: key("link.nk")? })
    }
}

fn server_config(
    plan: &Plan,
    at: usize,
    ports: &[Ports],
    keys: &[Keys],
    authority: &Authority,
) -> Result<SiteServer> {
    let path = &plan.sites[at];
    let dir = site_dir(&plan.dir, path);
    let position = |wanted: &TierPath| plan.sites.iter().position(|site| site == wanted);
    let parent = path.parent().and_then(|parent| position(&parent)).map(|up| {
        let via = plan.links.get(path);
        let port = via.map_or(ports[up].leaf, |via| via(ports[up].leaf));
        ParentLink { address: format!("127.0.0.1:{port}"), seed: keys[at].link.seed.clone() }
    });
    let children =
        plan.sites.iter().zip(keys).filter(|(site, _)| site.parent().as_ref() == Some(path));
    let children = children
        .map(|(site, keys)| ChildLink { path: site.clone(), public: keys.link.public.clone() })
        .collect();
    Ok(SiteServer {
        path: path.clone(),
        store_dir: dir.join("jetstream"),
        client_port: ports[at].client,
        monitor_port: ports[at].monitor,
        leaf_port: ports[at].leaf,
        certificate: authority.issue(path, &["127.0.0.1".into()], &dir)?,
        users: vec![keys[at].node.public.clone(), keys[at].client.public.clone()],
        parent,
        children,
    })
}

/// Every parent must come before its children, and there is one root.
fn check_sites(sites: &[TierPath]) -> Result<()> {
    let Some(root) = sites.first() else { bail!("a tree has at least one site") };
    for (at, site) in sites.iter().enumerate() {
        match site.parent() {
            None if at == 0 => {}
            None => bail!("{root} and {site} are both roots; a tree has one"),
            Some(parent) if sites[..at].contains(&parent) => {}
            Some(parent) => bail!("site {site} needs its parent {parent} before it in the list"),
        }
        if sites[..at].contains(site) {
            bail!("site {site} is listed twice");
        }
    }
    Ok(())
}

/// Where a site keeps its files.
pub fn site_dir(dir: &Path, site: &TierPath) -> PathBuf {
    dir.join(site.as_str())
}
