//! The servers of a site: one, or three that route to each other and keep every stream three times.
//!
//! The first stands beside the node. Each has a configuration, a log and a folder for its streams
//! of its own; keys and certificates are the site's. Servers that have the site's own address run
//! on its machine; who runs the others is told what belongs there.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{LOOPBACK, Ports, RECORD_FILE, Record, SERVER_FILE, SiteFolder};
use crate::Error;
use crate::path::clip;
use crate::pki::{Authority, LinkKey, TlsFiles, write_secret};
use crate::tree::{ParentLink, Routes, SYSTEM_ACCOUNT, SiteServer};

/// How many servers a site of several has: the loss of one leaves a majority.
pub const SERVERS: usize = 3;

/// Refuses what is no `host:port`: it comes from another site, and goes into a configuration.
pub fn check_address(text: &str) -> Result<(), Error> {
    let is_host = |host: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        (1..=253).contains(&host.len()) && host.bytes().all(plain)
    };
    match text.rsplit_once(':') {
        Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err(Error::Bad(format!("{:?} is no address, HOST:PORT", clip(text)))),
    }
}

/// A further server of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// The host under which children and the other servers reach it.
    pub address: String,
    pub ports: Ports,
}

/// One server of a site, by its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1.
    pub number: usize,
    pub address: String,
    /// It runs on the machine of the site's folder.
    pub here: bool,
    pub ports: Ports,
    pub config: PathBuf,
    pub log: PathBuf,
}

impl Record {
    /// The addresses and ports of the site's servers, the first beside its node.
    fn seats(&self) -> impl Iterator<Item = (&str, Ports)> {
        let more = self.peers.iter().map(|peer| (peer.address.as_str(), peer.ports));
        std::iter::once((self.address.as_str(), self.ports)).chain(more)
    }

    /// True when the servers are on several machines.
    pub fn is_spread(&self) -> bool {
        self.peers.iter().any(|peer| peer.address != self.address)
    }

    pub(super) fn check_servers(&self) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::Bad(format!("{}: {why}", self.site)));
        let count = 1 + self.peers.len();
        if count != 1 && count != SERVERS {
            return refuse(format!(
                "a site has one server or {SERVERS}, not {count}: of two, neither goes on alone"
            ));
        }
        for (host, ports) in self.seats() {
            check_address(&format!("{host}:{}", ports.leaf))?;
        }
        if count > 1 && self.operated.is_some() {
            return refuse("its server is an operator's, and has no peers in site.toml".into());
        }
        if count > 1 && self.seats().any(|(_, ports)| ports.route == 0) {
            return refuse("each of its servers needs a port for routes".into());
        }
        Ok(())
    }
}

impl SiteFolder {
    /// The folders of the streams of servers on this machine, of as many as a site may have.
    pub fn stores(&self) -> Vec<PathBuf> {
        (0..SERVERS).map(|at| self.file(&numbered("jetstream", at, ""))).collect()
    }

    /// How many streams of an account lie on disk here: in the store that has the fewest, as
    /// another may still have one that was removed while its server was away.
    pub fn streams_stored(&self, account: &str) -> usize {
        let of = |store: PathBuf| {
            let streams = store.join("jetstream").join(account).join("streams").read_dir();
            streams.map_or(0, |streams| streams.count())
        };
        let stores = self.stores().into_iter().filter(|store| store.exists());
        stores.map(of).min().unwrap_or(0)
    }

    /// The site's servers by their files.
    pub fn places(&self) -> Vec<Place> {
        let own = self.record.address.as_str();
        let place = |(at, (address, ports)): (usize, (&str, Ports))| Place {
            number: at + 1,
            address: address.to_owned(),
            here: address == own,
            ports,
            config: self.file(&numbered("nats", at, ".conf")),
            log: self.file(&numbered("nats", at, ".log")),
        };
        self.record.seats().enumerate().map(place).collect()
    }

    /// Refuses to start servers that would remove the site's streams: those of one server and those
    /// of several do not take each other's.
    pub fn check_streams(&self) -> Result<(), Error> {
        let kept = self.file(&numbered("jetstream", 0, "")).join("jetstream");
        // A server that has others keeps with its streams what they have agreed upon.
        let agreed = kept.join(SYSTEM_ACCOUNT).join("_js_/_meta_");
        let by = if agreed.exists() { SERVERS } else { 1 };
        let count = self.replicas();
        if !kept.exists() || by == count || self.record.operated.is_some() {
            return Ok(());
        }
        let (dir, site) = (self.dir.display(), &self.record.site);
        Err(Error::Bad(format!(
            "the streams of {site} were kept by {by} nats-server(s), and {RECORD_FILE} says \
             {count} now, which would remove them: put {dir}/{RECORD_FILE} back as it was, and let \
             `edgescale --dir {dir} tree servers {count}` change it"
        )))
    }

    /// The addresses of the site's servers for clients on this machine, with commas between.
    ///
    /// What is on other machines serves the clients there: none of their traffic leaves a machine
    /// but over a link or a route, which are encrypted.
    pub fn server_url(&self) -> String {
        let own = || {
            let here = self.places().into_iter().filter(|place| place.here);
            let urls = here.map(|place| format!("nats://{LOOPBACK}:{}", place.ports.client));
            urls.collect::<Vec<_>>().join(",")
        };
        self.record.operated.clone().unwrap_or_else(own)
    }

    /// How often the site's streams are kept.
    pub fn replicas(&self) -> usize {
        1 + self.record.peers.len()
    }

    /// Where children's servers connect: the first, and the others.
    pub fn leaf_addresses(&self) -> (String, Vec<String>) {
        let all = self.record.seats().map(|(host, ports)| format!("{host}:{}", ports.leaf));
        let mut all: Vec<String> = all.collect();
        (all.remove(0), all)
    }

    /// The address to listen on for children: everywhere, unless they are all on this machine.
    pub fn listen_host(&self) -> &'static str {
        let all_here = self.record.address == LOOPBACK && !self.record.is_spread();
        if all_here { LOOPBACK } else { "0.0.0.0" }
    }

    /// This site's end of its children's links.
    pub fn listener(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.file("listen.pem"),
            key: self.file("listen.key"),
            authority: self.file("authority.pem"),
        }
    }

    fn issue_listener(&self) -> Result<(), Error> {
        let files = self.listener();
        let authority = self.authority()?;
        let key = LinkKey::load_or_generate(&files.key)?;
        let own = authority.sign(&self.record.site, &self.hosts(), &key.public())?;
        write_secret(&files.certificate, &(own + authority.pem()))
    }

    /// Everything that the configuration of the first server is made of.
    pub fn server(&self) -> Result<SiteServer, Error> {
        let record = &self.record;
        let parent = record.parent.as_ref().map(|parent| ParentLink {
            addresses: [&parent.address].into_iter().chain(&parent.others).cloned().collect(),
            tls: self.link_files(record.moves()),
        });
        let mut accounts = vec![self.owner()?];
        for tenant in self.tenants.names() {
            accounts.push(self.account(tenant)?);
        }
        Ok(SiteServer {
            path: record.site.clone(),
            store_dir: self.file("jetstream"),
            ports: record.ports,
            listen_host: self.listen_host(),
            operated: record.operated.is_some(),
            listener: self.listener(),
            system_user: self.key("sys.nk")?.public,
            parent,
            accounts,
            routes: None,
        })
    }

    /// Everything that the configurations of the site's servers are made of, one after the other.
    pub fn servers(&self) -> Result<Vec<SiteServer>, Error> {
        let first = self.server()?;
        let server = |(at, (_, ports)): (usize, (&str, Ports))| SiteServer {
            ports,
            store_dir: self.file(&numbered("jetstream", at, "")),
            routes: self.routes(at),
            ..first.clone()
        };
        Ok(self.record.seats().enumerate().map(server).collect())
    }

    fn routes(&self, at: usize) -> Option<Routes> {
        let spread = self.record.is_spread();
        if self.record.peers.is_empty() {
            return None;
        }
        let host = |address: &str| if spread { address.to_owned() } else { LOOPBACK.to_owned() };
        let others = self.record.seats().enumerate().filter(|(other, _)| *other != at);
        Some(Routes {
            // Streams know their servers by name: it outlives a move.
            name: format!(
                "{}_{}",
                self.record.former.first().unwrap_or(&self.record.site).domain(),
                at + 1
            ),
            listen_host: if spread { "0.0.0.0" } else { LOOPBACK },
            others: others
                .map(|(_, (to, ports))| format!("{}:{}", host(to), ports.route))
                .collect(),
            tls: self.route_files(),
        })
    }

    fn route_files(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.file("route.pem"),
            key: self.file("route.key"),
            authority: self.file("servers.pem"),
        }
    }

    /// The files that a server on another machine needs beside its configuration.
    pub fn shared_files(&self) -> Vec<PathBuf> {
        let (listener, routes) = (self.listener(), self.route_files());
        let mut files = vec![listener.certificate, listener.key, listener.authority];
        files.extend([routes.certificate, routes.key, routes.authority]);
        if self.record.parent.is_some() {
            let link = self.link_files(self.record.moves());
            files.extend([link.certificate, link.key, link.authority]);
        }
        files
    }

    /// Routes have an authority of their own: the one that signs children must open no route.
    fn issue_route(&self) -> Result<(), Error> {
        let files = self.route_files();
        let authority = Authority::load_or_generate(&self.file("servers.key"), &files.authority)?;
        let key = LinkKey::load_or_generate(&files.key)?;
        let certificate = authority.sign(&self.record.site, &self.hosts(), &key.public())?;
        write_secret(&files.certificate, &certificate)
    }

    /// The names under which the site's servers are reached.
    pub(super) fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = self.record.seats().map(|(host, _)| host.to_owned()).collect();
        hosts.push(LOOPBACK.to_owned());
        hosts.sort();
        hosts.dedup();
        hosts
    }

    pub(super) fn save_servers(&self) -> Result<(), Error> {
        self.issue_listener()?;
        if !self.record.peers.is_empty() {
            self.issue_route()?;
        }
        for (place, server) in self.places().iter().zip(self.servers()?) {
            write_secret(&place.config, &server.render()?)?;
        }
        Ok(())
    }
}

/// The name of a server's file: the first server's is the one of a site that has no other.
fn numbered(name: &str, at: usize, end: &str) -> String {
    debug_assert!(at > 0 || end != ".conf" || format!("{name}{end}") == SERVER_FILE);
    match at {
        0 => format!("{name}{end}"),
        at => format!("{name}-{}{end}", at + 1),
    }
}
