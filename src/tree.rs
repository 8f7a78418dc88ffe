//! A whole tree on this machine: one nats-server and one node per site, keys and configuration
//! made here, everything on ephemeral loopback ports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use bus::TierPath;
use bus::server;
use bus::site::{LOOPBACK, Parent, Ports, RECORD_FILE, Record, SiteFolder};

use crate::context::Context;
use crate::node;
use crate::site::{Programs, RunningSite};

/// How long a node may take to answer for the first time.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Ports are picked before the servers bind them; another process may be quicker.
const PORT_ATTEMPTS: usize = 3;
/// How long an invitation stands that is used in the same breath, in seconds.
const INVITE_S: u64 = 60;

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
}

impl Tree {
    /// Starts servers and nodes; returns when every node answers and every link is up.
    pub async fn start(plan: &Plan) -> Result<Self> {
        check_sites(&plan.sites)?;
        std::fs::create_dir_all(&plan.dir)
            .with_context(|| format!("cannot make {}", plan.dir.display()))?;
        let mut tree = Self::start_servers(plan)?;
        tree.context().save(&plan.dir)?;
        for running in &mut tree.sites {
            running.start_node()?;
        }
        tree.wait_ready().await?;
        tree.follow_tenants()?;
        tree.context().save(&plan.dir)?;
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
        let programs = Programs::find(&plan.node_binary, &plan.tools)?;
        let mut tree = Self { sites: vec![], dir: plan.dir.clone() };
        for folder in folders(plan)? {
            tree.sites.push(RunningSite::prepare(&folder, &programs)?);
        }
        for running in &mut tree.sites {
            running.start_server()?;
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

    fn at(&mut self, path: &str) -> Result<&mut RunningSite> {
        let found = self.sites.iter_mut().find(|running| running.site.path.as_str() == path);
        found.with_context(|| format!("no site {path:?} in the tree"))
    }

    /// Kills a site's node without warning.
    pub fn kill_node(&mut self, path: &str) -> Result<()> {
        self.at(path)?.kill_node()
    }

    /// Tells a site's node to stop, and returns when it has.
    pub fn stop_node(&mut self, path: &str) -> Result<()> {
        self.at(path)?.stop_node();
        Ok(())
    }

    /// Starts a site's node again.
    pub async fn restart_node(&mut self, path: &str) -> Result<()> {
        self.at(path)?.start_node()?;
        self.wait_ready().await
    }

    /// Stops a site's server, and with it the links of the site.
    pub fn stop_server(&mut self, path: &str) -> Result<()> {
        self.at(path)?.stop_server();
        Ok(())
    }

    /// Starts a site's server again, on the ports it had.
    pub fn restart_server(&mut self, path: &str) -> Result<()> {
        self.at(path)?.start_server()
    }

    /// The process of a site's server, if it runs.
    pub fn server_pid(&mut self, path: &str) -> Result<Option<u32>> {
        Ok(self.at(path)?.server_pid())
    }

    /// Starts the nodes of new tenants, and stops those of tenants who left.
    pub fn follow_tenants(&mut self) -> Result<()> {
        self.sites.iter_mut().try_for_each(RunningSite::follow_tenants)
    }

    /// Names the first process that ended by itself.
    pub fn casualty(&mut self) -> Option<String> {
        self.sites.iter_mut().find_map(RunningSite::casualty)
    }

    /// Waits until every node that runs answers and hears its parent.
    async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        for at in 0..self.sites.len() {
            if !self.sites[at].has_node() {
                continue;
            }
            let site = self.sites[at].site.clone();
            loop {
                if let Some(casualty) = self.casualty() {
                    bail!("{casualty}");
                }
                match node::client::status(&site).await {
                    Ok(status) if status.ready => {
                        self.sites[at].site.http = status.http;
                        break;
                    }
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
        let running = self.sites.iter().filter(|running| running.has_node()).count();
        let Some(root) = self.sites.first().filter(|root| root.has_node()) else {
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
        self.sites.iter_mut().rev().for_each(RunningSite::stop_node);
        self.sites.iter_mut().rev().for_each(RunningSite::stop_server);
        let _ = std::fs::remove_file(self.dir.join(crate::context::FILE));
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The sites' folders, linked as the plan says, on free ports.
fn folders(plan: &Plan) -> Result<Vec<SiteFolder>> {
    let ports = server::free_ports(plan.sites.len() * 5)?;
    let mut folders: Vec<SiteFolder> = vec![];
    for (site, ports) in plan.sites.iter().zip(ports.chunks(5)) {
        let [client, monitor, leaf, websocket, mqtt] = ports[..] else { continue };
        let ports = Ports { client, monitor, leaf, join: 0, websocket, mqtt, route: 0 };
        let mut folder = folder(&site_dir(&plan.dir, site), site, ports)?;
        let parent = site.parent();
        let parent = folders.iter_mut().find(|up| Some(&up.record.site) == parent.as_ref());
        if let Some(parent) = parent {
            let via = plan.links.get(site);
            let port = via.map_or(parent.record.ports.leaf, |via| via(parent.record.ports.leaf));
            link(parent, &mut folder, format!("{LOOPBACK}:{port}"))?;
        }
        folders.push(folder);
    }
    Ok(folders)
}

/// The folder of a site of this machine: kept keys, new ports.
fn folder(dir: &Path, site: &TierPath, ports: Ports) -> Result<SiteFolder> {
    if dir.join(RECORD_FILE).exists() {
        let mut folder = SiteFolder::open(dir)?;
        folder.record.ports = ports;
        folder.save_place()?;
        return Ok(folder);
    }
    let (class, site) = (site.default_class(), site.clone());
    Ok(SiteFolder::create(dir, Record::new(site, class, LOOPBACK.to_owned(), ports))?)
}

/// Makes one site the child of another, as `tree invite` and `tree join` do.
fn link(parent: &mut SiteFolder, child: &mut SiteFolder, address: String) -> Result<()> {
    let key = child.link_key()?.public;
    if !parent.roster().children().any(|known| known.link == key) {
        let now_s = now_s();
        let name = child.record.site.name().to_owned();
        let class = child.record.class;
        let token = parent.invite(&name, class, &address, now_s, now_s + INVITE_S)?;
        let answer = parent.admit(&child.request(&token)?, now_s)?;
        child.adopt(&answer)?;
    }
    child.record.parent = Some(Parent { address, others: vec![] });
    Ok(child.save_place()?)
}

/// The wall clock, in seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
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
