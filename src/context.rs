//! Where a running tree is: sites, server addresses, credentials. `edgescale up` and `run` write
//! it, every other command reads it.

mod stock;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bus::{Bus, ClientTls, Credentials, TierClass, TierPath};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The name of a context of the stock `nats` client, beside the key that it names.
pub const NATS_CONTEXT: &str = "nats-context.json";
/// The file's name within a tree's folder.
pub const FILE: &str = "context.json";

/// A tree that can be reached from this machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Context {
    pub sites: Vec<Site>,
}

/// One site of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Site {
    pub path: TierPath,
    pub class: TierClass,
    /// `nats://host:port`, or several with commas between.
    pub server: String,
    /// The server's monitoring address, `host:port`.
    pub monitor: String,
    /// Where the HTTP door is.
    #[serde(default)]
    pub http: crate::gateway::Place,
    /// NATS over WebSocket, `ws://host:port`; empty where the server has no such door.
    #[serde(default)]
    pub websocket: String,
    /// MQTT, `host:port`; empty where the server has no such door.
    #[serde(default)]
    pub mqtt: String,
    /// The file that holds the client's nkey seed.
    pub nkey: PathBuf,
    /// The node's log.
    pub log: PathBuf,
    /// How its server is known, where it is not on this machine.
    #[serde(skip)]
    pub tls: ClientTls,
    /// The site that is connected to, where this one is below it and on another machine.
    #[serde(skip)]
    pub via: Option<TierPath>,
}

impl Context {
    /// Reads the context of the tree kept in `dir`.
    pub fn load(dir: &Path) -> Result<Self> {
        let file = dir.join(FILE);
        let text = match std::fs::read(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => bail!(
                "no tree is running in {}; start one with `edgescale up`, or the site of this \
                 folder with `edgescale run`",
                dir.display()
            ),
            Err(e) => return Err(e).with_context(|| format!("{} cannot be read", file.display())),
        };
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", file.display()))
    }

    /// The context of the tree kept in `dir`; where none runs there, the site that the stock `nats`
    /// client would talk to.
    pub fn find(dir: &Path) -> Result<Self> {
        let found = Self::load(dir);
        let Err(missing) = found else { return found };
        if dir.join(FILE).exists() {
            return Err(missing);
        }
        let wanted = std::env::var(stock::VARIABLE).ok().filter(|name| !name.is_empty());
        let file = stock::config_home().and_then(|home| stock::file(wanted.as_deref(), &home));
        let Some(file) = file else { return Err(missing) };
        match stock::site(&file) {
            Ok(site) => Ok(Self { sites: vec![site] }),
            Err(e) if wanted.is_some() => Err(e),
            // It may be there for another system.
            Err(e) => bail!("{missing}; {e:#}"),
        }
    }

    /// The same tree, as a tenant's clients reach it; as its owner's, when none is named.
    pub fn as_tenant(mut self, tenant: Option<&str>) -> Self {
        let Some(tenant) = tenant.filter(|name| *name != bus::tree::ACCOUNT) else { return self };
        for site in &mut self.sites {
            let dir = site.nkey.with_file_name("tenants").join(tenant);
            site.nkey = dir.join(bus::site::CLIENT_FILE);
            site.log = dir.join("node.log");
        }
        self
    }

    /// Writes the context into the tree's folder.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        bus::pki::write_secret(&dir.join(FILE), &text)?;
        Ok(())
    }

    /// The site named, by its whole path or by its last token; the root when none is named.
    pub fn site(&self, name: Option<&str>) -> Result<&Site> {
        let Some(name) = name else {
            return self.sites.first().context("the tree has no sites");
        };
        let named = |site: &&Site| site.path.as_str() == name || site.path.name() == name;
        let found: Vec<&Site> = self.sites.iter().filter(named).collect();
        match found[..] {
            [site] => Ok(site),
            [] => bail!("no site {name:?}; there are {}", self.names()),
            _ => bail!("site {name:?} is ambiguous; give its whole path: {}", self.names()),
        }
    }

    /// The site named; of those below, on other machines, by its whole path.
    pub fn reach(&self, name: Option<&str>) -> Result<Site> {
        let found = self.site(name);
        let below = || self.below(&name?.parse().ok()?);
        found.cloned().or_else(|e| {
            below().ok_or_else(|| anyhow!("{e:#}; a site below is named by its whole path"))
        })
    }

    /// A site below one of these, asked by way of the nearest.
    pub fn below(&self, path: &TierPath) -> Option<Site> {
        let near = self.nearest(path)?;
        Some(Site { path: path.clone(), via: Some(near.path.clone()), ..near.clone() })
    }

    /// The nearest of these to a site of the tree: itself, or one above it.
    pub fn nearest(&self, path: &TierPath) -> Option<&Site> {
        let above = self.sites.iter().filter(|site| site.path.contains(path));
        above.max_by_key(|site| site.path.depth())
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.sites.iter().map(|site| site.path.as_str()).collect();
        names.join(", ")
    }
}

impl Site {
    /// Connects as a client of the site.
    pub async fn connect(&self) -> Result<Bus> {
        let credentials = Credentials { seed: self.seed()? };
        let near = self.via.as_ref().unwrap_or(&self.path);
        let bus =
            Bus::connect_with(&self.server, near, &credentials, "edgescale-cli", &self.tls).await;
        let bus = bus.with_context(|| {
            format!("site {near} is not reachable; is `edgescale up` or `run` running?")
        })?;
        Ok(bus.speaking_to(self.path.clone()))
    }

    fn seed(&self) -> Result<String> {
        let (site, key) = (&self.path, self.nkey.display());
        match std::fs::read_to_string(&self.nkey) {
            Ok(seed) => Ok(seed.trim().to_owned()),
            Err(e) => match self.tenant().filter(|_| e.kind() == ErrorKind::NotFound) {
                Some(tenant) => bail!(
                    "no tenant {tenant:?} at {site}, which has no {key}; `edgescale --at {site} \
                     tenant ls` shows those that there are"
                ),
                None => Err(e).with_context(|| format!("the key {key} cannot be read")),
            },
        }
    }

    /// Whose key it is, unless the owner's.
    fn tenant(&self) -> Option<&str> {
        let dir = self.nkey.parent()?;
        dir.parent()?.ends_with("tenants").then_some(dir.file_name()?.to_str()?)
    }

    /// Where the stock `nats` client finds how to connect to this site: a context of its.
    pub fn nats_context(&self) -> PathBuf {
        self.nkey.with_file_name(NATS_CONTEXT)
    }

    /// Writes that file.
    pub fn save_nats_context(&self) -> Result<()> {
        let context = json!({
            "description": format!("EdgeScale site {}", self.path),
            "url": self.server,
            "nkey": self.nkey,
            "inbox_prefix": format!("rp.{}._", self.path),
        });
        let text = serde_json::to_string_pretty(&context)?;
        Ok(bus::pki::write_secret(&self.nats_context(), &text)?)
    }

    /// Connects, trying again until `patience` is over.
    pub async fn connect_patiently(&self, patience: Duration) -> Result<Bus> {
        let deadline = std::time::Instant::now() + patience;
        loop {
            match self.connect().await {
                Ok(bus) => return Ok(bus),
                Err(e) if std::time::Instant::now() > deadline => return Err(e),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}
