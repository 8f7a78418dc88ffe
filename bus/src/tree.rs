//! The configuration of a site's nats-server: accounts, the link to the parent, and what children
//! may do.
//!
//! Rights are decided on the parent's side alone, so that a child that was taken over can neither
//! read nor imitate its siblings. All children of one parent share a cluster name, which keeps
//! interest and queue routing strictly vertical.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::pki::TlsFiles;
use crate::server::{MAX_PAYLOAD_BYTES, PING_INTERVAL_S, PING_MAX};
use crate::site::tenants::TENANTS_MAX;
use crate::site::{LOOPBACK, Ports};
use crate::{Error, TierPath};

/// The account of the site's owner; every other tenant has one that is named after it.
pub const ACCOUNT: &str = "tenant";
/// The account in which servers speak of themselves.
pub const SYSTEM_ACCOUNT: &str = "SYS";
/// The user name of the owner's MQTT clients, who know no keys, before any rotation.
pub const MQTT_USER: &str = "mqtt";

/// The user name of a tenant's MQTT clients after so many rotations. A server knows a name once for
/// all accounts, and one password for it: who has the former one goes on under the former name.
pub fn mqtt_user(tenant: &str, rotations: u32) -> String {
    let name = match tenant {
        ACCOUNT => MQTT_USER.to_owned(),
        tenant => format!("{MQTT_USER}-{tenant}"),
    };
    match rotations {
        0 => name,
        // No tenant's name has this character.
        rotations => format!("{name}_{rotations}"),
    }
}

/// What a server keeps at most, in MB of memory and of disk: for the site's owner, and for every
/// other tenant.
const OWNER_MB: (u64, u64) = (64, 8 << 10);
const TENANT_MB: (u64, u64) = (16, 2 << 10);
/// What the clients of tenants may not do to the streams of their node, by which it knows events,
/// apps and code.
const KEPT_STREAMS: [&str; 6] = ["EV", "DLQ", "LARGE", "KV_apps", "KV_apps-status", "OBJ_code"];

/// What never crosses a link.
pub const DENIED: [&str; 2] = ["local.>", "_INBOX.>"];

/// The cluster name that all children of a site share: it keeps siblings from hearing each other.
pub fn kids(parent: &TierPath) -> String {
    format!("kids-{}", parent.domain())
}

/// Everything that goes into one site's server configuration.
#[derive(Clone, Debug)]
pub struct SiteServer {
    pub path: TierPath,
    pub store_dir: PathBuf,
    pub ports: Ports,
    /// The address to listen on for children.
    pub listen_host: &'static str,
    /// An operator runs the server and says where it listens and keeps its streams.
    pub operated: bool,
    /// This site's end of its children's links.
    pub listener: TlsFiles,
    /// The public nkey that may have the server read its configuration again.
    pub system_user: String,
    pub parent: Option<ParentLink>,
    /// The owner's first.
    pub accounts: Vec<Account>,
    /// The other servers of the site, where there are any.
    pub routes: Option<Routes>,
}

/// How one server of a site reaches the others.
#[derive(Clone, Debug)]
pub struct Routes {
    /// What the server is called among them.
    pub name: String,
    pub listen_host: &'static str,
    /// `host:port` of each other one.
    pub others: Vec<String>,
    pub tls: TlsFiles,
}

/// The account of one tenant: its traffic, its streams, its links.
#[derive(Clone, Debug)]
pub struct Account {
    pub name: String,
    /// As whom its MQTT clients log in.
    pub mqtt: Vec<MqttUser>,
    /// Public nkeys that may do everything in the account at this site.
    pub users: Vec<String>,
    /// Public nkeys that may do everything but take away the streams of their node.
    pub clients: Vec<String>,
    /// The seed of the nkey of the link to the parent, where there is one.
    pub link_seed: Option<String>,
    pub children: Vec<ChildLink>,
}

/// What a tenant's MQTT clients log in with; the name is of [`mqtt_user`].
#[derive(Clone, Debug)]
pub struct MqttUser {
    pub name: String,
    pub password: String,
}

/// How a site reaches its parent.
#[derive(Clone, Debug)]
pub struct ParentLink {
    /// `host:port` of the leaf listeners of the parent's servers.
    pub addresses: Vec<String>,
    pub tls: TlsFiles,
}

/// A child that may connect.
#[derive(Clone, Debug)]
pub struct ChildLink {
    pub path: TierPath,
    /// Where the child still is until it has followed this site, which was moved: it may hear
    /// there that it should.
    pub former: Vec<TierPath>,
    /// The public nkey of its link.
    pub public: String,
}

impl SiteServer {
    /// The configuration file's text. It holds the link's secret: store it for the owner only.
    pub fn render(&self) -> Result<String, Error> {
        let mut text = String::new();
        self.write(&mut text).map_err(|e| Error::local(format!("config of {}", self.path), e))?;
        Ok(text)
    }

    /// What the text holds that nobody else may read.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let seeds = self.accounts.iter().filter_map(|account| account.link_seed.as_deref());
        let mqtt = self.accounts.iter().flat_map(|account| &account.mqtt);
        seeds.chain(mqtt.map(|user| user.password.as_str()))
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let path = &self.path;
        writeln!(out, "# EdgeScale site {path}. Generated; changes are overwritten.")?;
        if !self.operated {
            writeln!(out, "listen: \"{LOOPBACK}:{}\"", self.ports.client)?;
            writeln!(out, "http: \"{LOOPBACK}:{}\"", self.ports.monitor)?;
            self.write_doors(out)?;
        }
        let name = self.routes.as_ref().map_or_else(|| path.domain(), |own| own.name.clone());
        writeln!(out, "server_name: \"{name}\"")?;
        writeln!(out, "max_payload: {MAX_PAYLOAD_BYTES}")?;
        writeln!(out, "ping_interval: \"{PING_INTERVAL_S}s\"\nping_max: {PING_MAX}")?;
        self.write_cluster(out)?;
        let store = quoted(&self.store_dir);
        let domain = path.domain();
        // The same whoever is there: a running server does not change it.
        let all = TENANTS_MAX as u64;
        let (memory, file) = (OWNER_MB.0 + all * TENANT_MB.0, OWNER_MB.1 + all * TENANT_MB.1);
        writeln!(out, "jetstream {{ domain: \"{domain}\", store_dir: {store},")?;
        writeln!(out, "  max_mem: {memory}MB, max_file: {file}MB, sync_interval: \"1s\" }}")?;
        self.write_accounts(out)?;
        self.write_links(out)
    }

    /// Siblings share a name, whether they are one server or three: decision 11.
    fn write_cluster(&self, out: &mut String) -> std::fmt::Result {
        let parent = self.path.parent();
        let name = parent.map_or_else(|| format!("site-{}", self.path.domain()), |up| kids(&up));
        let Some(routes) = &self.routes else {
            return match self.path.parent() {
                Some(_) => writeln!(out, "cluster {{ name: \"{name}\" }}"),
                None => Ok(()),
            };
        };
        writeln!(out, "cluster {{ name: \"{name}\", no_advertise: true")?;
        writeln!(out, "  listen: \"{}:{}\"", routes.listen_host, self.ports.route)?;
        let others: Vec<String> = routes.others.iter().map(|to| format!("nats://{to}")).collect();
        writeln!(out, "  routes: {}", list(&others))?;
        writeln!(out, "  tls {{ {}, verify: true, timeout: 3 }} }}", tls(&routes.tls))
    }

    /// A stream that is kept three times counts three times.
    fn copies(&self) -> u64 {
        self.routes.as_ref().map_or(1, |routes| 1 + routes.others.len() as u64)
    }

    /// Clients other than NATS's own, on this machine only: a proxy in front has the certificates.
    fn write_doors(&self, out: &mut String) -> std::fmt::Result {
        let Ports { websocket, mqtt, .. } = self.ports;
        if websocket != 0 {
            writeln!(out, "websocket {{ listen: \"{LOOPBACK}:{websocket}\", no_tls: true }}")?;
        }
        if mqtt != 0 {
            writeln!(out, "mqtt {{ listen: \"{LOOPBACK}:{mqtt}\" }}")?;
        }
        Ok(())
    }

    fn write_accounts(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "accounts {{")?;
        for account in &self.accounts {
            self.write_account(out, account)?;
        }
        let user = &self.system_user;
        writeln!(out, "  {SYSTEM_ACCOUNT} {{ users: [ {{ nkey: {user} }} ] }}\n}}")?;
        writeln!(out, "system_account: {SYSTEM_ACCOUNT}")
    }

    fn write_account(&self, out: &mut String, account: &Account) -> std::fmt::Result {
        let is_owner = account.name == ACCOUNT;
        let (memory, file) = if is_owner { OWNER_MB } else { TENANT_MB };
        let (memory, file) = (memory * self.copies(), file * self.copies());
        writeln!(out, "  \"{}\" {{", account.name)?;
        writeln!(out, "    jetstream {{ max_mem: {memory}MB, max_file: {file}MB }}")?;
        writeln!(out, "    mappings: {{")?;
        for (source, target) in mappings(&self.path) {
            writeln!(out, "      \"{source}\": \"{target}\"")?;
        }
        writeln!(out, "    }}\n    users: [")?;
        for user in &account.users {
            writeln!(out, "      {{ nkey: {user} }}")?;
        }
        let denied = list(&kept());
        for client in &account.clients {
            write!(out, "      {{ nkey: {client}, permissions: {{ ")?;
            writeln!(out, "publish: {{ deny: {denied} }} }} }}")?;
        }
        if self.ports.mqtt != 0 && !self.operated {
            for user in &account.mqtt {
                write_mqtt_user(out, &self.path, user)?;
            }
        }
        for child in &account.children {
            write_child(out, &self.path, child)?;
        }
        writeln!(out, "    ]\n  }}")
    }

    /// The listener is there before the first child is: a server cannot add one while it runs.
    fn write_links(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "leafnodes {{\n  reconnect: \"1s\"")?;
        writeln!(out, "  listen: \"{}:{}\"", self.listen_host, self.ports.leaf)?;
        writeln!(out, "  no_advertise: true")?;
        writeln!(out, "  tls {{ {}, verify: true, timeout: 3 }}", tls(&self.listener))?;
        if let Some(parent) = &self.parent {
            writeln!(out, "  remotes: [")?;
            for account in &self.accounts {
                write_remote(out, parent, account)?;
            }
            writeln!(out, "  ]")?;
        }
        writeln!(out, "}}")
    }
}

/// May publish and hear events of this site in its account, and what the server keeps for MQTT
/// itself.
fn write_mqtt_user(out: &mut String, path: &TierPath, user: &MqttUser) -> std::fmt::Result {
    let MqttUser { name, password } = user;
    let whole = format!("ev.{path}._.>");
    let publish = ["ev.*.*", "ev.*.*.*", &whole, "$MQTT.>"].map(str::to_owned);
    let subscribe = [&whole, "$MQTT.>"].map(str::to_owned);
    writeln!(out, "      {{ user: \"{name}\", password: \"{password}\"")?;
    writeln!(out, "        allowed_connection_types: [\"MQTT\"], permissions: {{")?;
    writeln!(out, "          publish: {{ allow: {} }}", list(&publish))?;
    writeln!(out, "          subscribe: {{ allow: {} }} }} }}", list(&subscribe))
}

/// One link for each tenant that has one: what travels on it is in that tenant's accounts.
fn write_remote(out: &mut String, parent: &ParentLink, account: &Account) -> std::fmt::Result {
    let Some(seed) = &account.link_seed else { return Ok(()) };
    let urls: Vec<String> = parent.addresses.iter().map(|at| format!("tls://{at}")).collect();
    writeln!(out, "  {{ urls: {}", list(&urls))?;
    writeln!(out, "    account: \"{}\", nkey: \"{seed}\"", account.name)?;
    writeln!(out, "    ignore_discovered_servers: true, compression: s2_fast")?;
    writeln!(out, "    dial_timeout: \"2s\", tls {{ {} }}", tls(&parent.tls))?;
    let denied = list(&DENIED.map(String::from));
    writeln!(out, "    deny_exports: {denied}, deny_imports: {denied} }}")
}

/// The requests that would take away the streams of a node, or what is in its logs of events.
fn kept() -> Vec<String> {
    let delete = KEPT_STREAMS.iter().map(|stream| format!("$JS.API.STREAM.DELETE.{stream}"));
    let purge =
        ["EV", "DLQ", "LARGE"].iter().map(|stream| format!("$JS.API.STREAM.PURGE.{stream}"));
    delete.chain(purge).collect()
}

fn tls(files: &TlsFiles) -> String {
    let (cert, key, ca) =
        (quoted(&files.certificate), quoted(&files.key), quoted(&files.authority));
    format!("cert_file: {cert}, key_file: {key}, ca_file: {ca}")
}

/// Short subjects for clients that know no topology: `ev.<app>.<name>`, `call.<app>.<name>`,
/// `ctl.<noun>.<verb>`, and `here.<kind>.…` and `up.<kind>.…` for everything.
///
/// The short forms are told from whole subjects by their length, because the order in which a
/// server tries its mappings is not defined: a whole subject has four tokens or more, and five
/// where its name starts with an app.
pub fn mappings(path: &TierPath) -> Vec<(String, String)> {
    let mut list = vec![];
    for (kind, longest) in [("ev", 3), ("call", 3), ("ctl", 2), ("st", 2), ("sm", 2)] {
        let mut source = format!("{kind}.*");
        let mut target = format!("{kind}.{path}._.{{{{wildcard(1)}}}}");
        for position in 2..=longest {
            source += ".*";
            target += &format!(".{{{{wildcard({position})}}}}");
            list.push((source.clone(), target.clone()));
        }
    }
    list.push(("here.*.>".into(), format!("{{{{wildcard(1)}}}}.{path}._.>")));
    let up = path.parent().unwrap_or_else(|| path.clone());
    list.push(("up.*.>".into(), format!("{{{{wildcard(1)}}}}.{up}._.>")));
    list
}

/// What a child may do at its parent, and hear from it.
fn write_child(out: &mut String, parent: &TierPath, child: &ChildLink) -> std::fmt::Result {
    let path = &child.path;
    // Nothing of `st`: who asks there is a client of the parent, and may remove what it holds.
    let mut publish = vec![
        format!("call.{parent}._.>"),
        format!("sync.{path}.>"),
        format!("tel.{path}.>"),
        format!("ctl.{parent}._.site.{}.>", path.name()),
        format!("ctl.{parent}._.apps.get"),
        format!("rp.{parent}._.>"),
    ];
    for above in parent.ancestors() {
        publish.extend(["call", "rp"].map(|kind| format!("{kind}.{above}._.>")));
    }
    let mut subscribe: Vec<String> = ["call", "ev", "st", "ac", "sm", "ctl", "rp"]
        .iter()
        .map(|kind| format!("{kind}.{path}.>"))
        .collect();
    // Not all of `sync.<parent>`: what the parent itself sends up goes there too, and in it what
    // this child's siblings wrote.
    subscribe.push(format!("sync.{parent}._.chg.>"));
    subscribe.push(format!("sync.{parent}._.apps"));
    subscribe.push("$SRV.>".into());
    subscribe.extend(child.former.iter().map(|before| format!("ctl.{before}._.>")));
    writeln!(out, "      {{ nkey: {}, permissions: {{", child.public)?;
    writeln!(out, "          publish: {{ allow: {} }}", list(&publish))?;
    writeln!(out, "          subscribe: {{ allow: {} }} }} }}", list(&subscribe))
}

fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", items.join(", "))
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}
