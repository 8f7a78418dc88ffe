//! The folder of one site: what the site is, its keys, its children. The server's configuration is
//! written from it, and from nothing else.
//!
//! | file | holds |
//! | --- | --- |
//! | `site.toml` | [`Record`]: path, class, addresses, ports, parent |
//! | `children.json` | [`Roster`]: children and open invitations |
//! | `authority.key`, `.pem` | the authority over the children's links |
//! | `listen.key`, `.pem` | this site's end of its children's links |
//! | `link.nk`, `.key`, `.pem`, `.parent.pem` | its end of the link to the parent |
//! | `node.nk`, `client.nk`, `sys.nk` | the keys of node, operator, and of reloading the server |
//! | `mqtt.nk` | the password of MQTT clients; `mqtt.N.nk`: after N rotations, while good |
//! | `tenants.json` | [`Tenants`]: who shares the site |
//! | `tenants/NAME/` | `node.nk`, `client.nk`, `link.nk`, `mqtt.nk` of a tenant; its node's data |
//! | `nats.conf` | the server's configuration, written anew at each change |
//! | `nats-2.conf`, `nats-3.conf` | those of the second and third server, where there are three |
//! | `servers.key`, `.pem` | the authority over routes between them |
//! | `route.key`, `.pem` | their end of these |

pub mod join;
pub mod roster;
mod rotation;
pub mod servers;
pub mod tenants;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::pki::{Authority, LinkKey, TlsFiles, UserKey, read_if_there, write_secret};
use crate::server::MAX_PAYLOAD_BYTES;
use crate::tree::{ACCOUNT, Account, ChildLink};
use crate::{Error, TierClass, TierPath};
use join::{JoinAnswer, JoinRequest, Token};
use roster::Roster;
use servers::{Peer, SERVERS, check_address};
use tenants::{LinkRequest, Tenants};

/// The name of the record within a site's folder.
pub const RECORD_FILE: &str = "site.toml";
/// The name of the server's configuration within a site's folder.
pub const SERVER_FILE: &str = "nats.conf";
/// The file with the password of MQTT clients, whose name is [`crate::tree::mqtt_user`].
pub const MQTT_FILE: &str = "mqtt.nk";
const ROSTER_FILE: &str = "children.json";
const TENANTS_FILE: &str = "tenants.json";
/// The file with the key of a tenant's clients.
pub const CLIENT_FILE: &str = "client.nk";
const NODE_FILE: &str = "node.nk";
const TENANT_LINK_FILE: &str = "link.nk";
/// How often a site may be moved.
pub const MOVES_MAX: usize = 16;
/// How many former paths a site may have: its own moves, and those of sites above it.
pub const FORMER_MAX: usize = 64;
/// The address of a site that nobody needs to reach from elsewhere.
pub const LOOPBACK: &str = "127.0.0.1";

/// What a site is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub site: TierPath,
    pub class: TierClass,
    /// The host under which children reach this site; the loopback address means that all are
    /// on this machine.
    pub address: String,
    /// The server's own address, where it is not ours to start: `nats://host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operated: Option<String>,
    pub ports: Ports,
    /// The second and third server, where the site has three.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// The paths that the site had before it was moved, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<TierPath>,
    /// How many of them it left because a site above it was moved, its link staying as it was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub followed: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Record {
    /// A site whose server is its own, and that has no parent yet.
    pub fn new(site: TierPath, class: TierClass, address: String, ports: Ports) -> Self {
        let (operated, peers, former, followed, parent) = Default::default();
        Self { site, class, address, operated, ports, peers, former, followed, parent }
    }

    /// How often the site itself was moved.
    fn moves(&self) -> usize {
        self.former.len().saturating_sub(self.followed)
    }
}

/// The ports of a site. Clients and the monitor are served on the loopback address only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    pub client: u16,
    pub monitor: u16,
    /// Where the servers of children connect.
    pub leaf: u16,
    /// Where new children join, while an invitation is open; 0 takes any free one.
    pub join: u16,
    /// Where clients speak NATS over WebSocket; 0: nowhere.
    #[serde(default)]
    pub websocket: u16,
    /// Where clients speak MQTT 3.1.1; 0: nowhere.
    #[serde(default)]
    pub mqtt: u16,
    /// Where the other servers of the site connect, where there are any.
    #[serde(default)]
    pub route: u16,
}

/// Where the parent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// `host:port` of its listener for children.
    pub address: String,
    /// Those of its further servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
}

impl Ports {
    /// What a site uses unless told otherwise.
    pub const USUAL: Self = Self {
        client: 4222,
        monitor: 8222,
        leaf: 7422,
        join: 7423,
        websocket: 9222,
        mqtt: 1883,
        route: 6222,
    };

    /// Those of the server of a number on one machine with the first, whose ports these are.
    pub fn of_server(self, number: usize) -> Self {
        let shift = |port: u16| if port == 0 { 0 } else { port + 10 * (number as u16 - 1) };
        Self {
            client: shift(self.client),
            monitor: shift(self.monitor),
            leaf: shift(self.leaf),
            join: 0,
            websocket: shift(self.websocket),
            mqtt: shift(self.mqtt),
            route: shift(self.route),
        }
    }
}

/// A site's folder, read whole.
pub struct SiteFolder {
    dir: PathBuf,
    pub record: Record,
    roster: Roster,
    tenants: Tenants,
}

impl SiteFolder {
    /// Makes the folder of a new site, with its keys.
    pub fn create(dir: &Path, record: Record) -> Result<Self, Error> {
        if dir.join(RECORD_FILE).exists() {
            let there = Self::open(dir)?.record.site;
            return Err(Error::Bad(format!(
                "{} holds the site {there} already; use another folder, or run it with \
                 `edgescale run`",
                dir.display()
            )));
        }
        record.check_servers()?;
        let (roster, tenants) = Default::default();
        let folder = Self { dir: dir.to_owned(), record, roster, tenants };
        folder.save()?;
        folder.save_place()?;
        Ok(folder)
    }

    /// Reads a site's folder.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let file = dir.join(RECORD_FILE);
        let text = read_if_there(&file)?.ok_or_else(|| {
            Error::Bad(format!(
                "{} holds no site; make one with `edgescale tree init` or `edgescale tree join`",
                dir.display()
            ))
        })?;
        let record: Record = toml::from_str(&text).map_err(|e| damaged(&file, &e))?;
        record.check_servers()?;
        let roster = read_json(&dir.join(ROSTER_FILE))?;
        let tenants = read_json(&dir.join(TENANTS_FILE))?;
        Ok(Self { dir: dir.to_owned(), record, roster, tenants })
    }

    /// Writes the roster, the tenants and the server's configuration, making what keys are missing.
    /// The record is left alone: whoever runs the site may have read it before it was changed.
    pub fn save(&self) -> Result<(), Error> {
        let fail = |e: &dyn ToString| Error::local(self.dir.display().to_string(), e.to_string());
        let roster = serde_json::to_string_pretty(&self.roster).map_err(|e| fail(&e))?;
        let tenants = serde_json::to_string_pretty(&self.tenants).map_err(|e| fail(&e))?;
        // The keys of a new tenant are there before anybody hears of it: whoever runs its node
        // would make others.
        self.server()?;
        write_secret(&self.file(ROSTER_FILE), &roster)?;
        write_secret(&self.file(TENANTS_FILE), &tenants)?;
        self.save_servers()
    }

    /// Writes where the site is. The record comes last: until it is there, the site is where it
    /// was, and everything else is made anew from it.
    pub fn save_place(&self) -> Result<(), Error> {
        self.save_servers()?;
        let record = toml::to_string(&self.record)
            .map_err(|e| Error::local(self.dir.display().to_string(), e.to_string()))?;
        write_secret(&self.file(RECORD_FILE), &record)
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file of the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Children and open invitations.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Who shares the site.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// A file of a tenant; the owner's are the site's own.
    pub fn tenant_file(&self, tenant: &str, name: &str) -> PathBuf {
        match tenant {
            ACCOUNT => self.file(name),
            tenant => self.file("tenants").join(tenant).join(name),
        }
    }

    /// The address of the server's monitor.
    pub fn monitor(&self) -> String {
        format!("{LOOPBACK}:{}", self.record.ports.monitor)
    }

    /// The key by which a process of this machine is known to the server.
    pub fn key(&self, name: &str) -> Result<UserKey, Error> {
        UserKey::load_or_generate(&self.file(name))
    }

    /// The authority over the children's links.
    pub fn authority(&self) -> Result<Authority, Error> {
        Authority::load_or_generate(&self.file("authority.key"), &self.file("authority.pem"))
    }

    fn owner(&self) -> Result<Account, Error> {
        let link_seed = self.record.parent.as_ref().map(|_| self.link_key());
        let links = self.roster.children().map(|child| (child.name.as_str(), child.link.as_str()));
        let mut users = vec![self.key(NODE_FILE)?.public];
        users.extend(self.client_keys(ACCOUNT)?);
        Ok(Account {
            name: ACCOUNT.to_owned(),
            mqtt: self.mqtt_users(ACCOUNT)?,
            users,
            clients: vec![],
            link_seed: link_seed.transpose()?.map(|key| key.seed),
            children: self.child_links(links)?,
        })
    }

    fn account(&self, tenant: &str) -> Result<Account, Error> {
        let key = |name: &str| UserKey::load_or_generate(&self.tenant_file(tenant, name));
        let parent = self.record.parent.as_ref();
        let link_seed = parent.map(|_| key(TENANT_LINK_FILE)).transpose()?;
        Ok(Account {
            name: tenant.to_owned(),
            mqtt: self.mqtt_users(tenant)?,
            users: vec![key(NODE_FILE)?.public],
            clients: self.client_keys(tenant)?,
            link_seed: link_seed.map(|key| key.seed),
            children: self.child_links(self.tenants.links(tenant))?,
        })
    }

    fn child_links<'a>(
        &self,
        links: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Vec<ChildLink>, Error> {
        let link = |(name, public): (&str, &str)| {
            let path = self.record.site.child(name)?;
            let former = self.former_places(&path);
            Ok(ChildLink { path, former, public: public.to_owned() })
        };
        links.map(link).collect()
    }

    /// Where a child may still be that has not followed this site.
    pub fn former_places(&self, child: &TierPath) -> Vec<TierPath> {
        let before = self.record.former.iter().filter_map(|path| path.child(child.name()).ok());
        let mut places: Vec<TierPath> = before.filter(|before| before != child).collect();
        places.sort();
        places.dedup();
        places
    }

    /// Takes a tenant in, with keys of its own; the caller has the server read its configuration
    /// again. Keys that a former tenant of the name left behind are not used again.
    pub fn add_tenant(&mut self, name: &str) -> Result<(), Error> {
        self.tenants.add(name)?;
        self.save()
    }

    /// Shuts a tenant out; the caller has the server read its configuration again.
    pub fn remove_tenant(&mut self, name: &str) -> Result<(), Error> {
        self.tenants.remove(name)?;
        let key = self.tenant_key(name)?.public;
        self.save()?;
        // Whoever runs the tenant's node stops it, and then removes what has this name.
        let (here, away) = (self.tenant_file(name, ""), self.file("tenants").join(left(&key)));
        std::fs::rename(&here, away).map_err(|e| Error::local(here.display().to_string(), e))
    }

    /// Removes what tenants kept who have left.
    pub fn sweep_tenants(&self) -> Result<(), Error> {
        let Ok(entries) = std::fs::read_dir(self.file("tenants")) else { return Ok(()) };
        let fail = |e: std::io::Error| Error::local(self.dir.display().to_string(), e);
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&left("")) {
                std::fs::remove_dir_all(entry.path()).map_err(fail)?;
            }
        }
        Ok(())
    }

    /// The public nkey of a tenant's link to the parent, made where missing.
    pub fn tenant_link(&self, tenant: &str) -> Result<String, Error> {
        let file = self.tenant_file(tenant, TENANT_LINK_FILE);
        Ok(UserKey::load_or_generate(&file)?.public)
    }

    /// The key of a tenant's own node.
    pub fn tenant_key(&self, tenant: &str) -> Result<UserKey, Error> {
        UserKey::load_or_generate(&self.tenant_file(tenant, NODE_FILE))
    }

    /// Lets a child link up for a tenant, or no more.
    pub fn link_tenant(&mut self, child: &str, request: &LinkRequest) -> Result<(), Error> {
        if !self.roster.children().any(|known| known.name == child) {
            return Err(Error::Bad(format!("{} has no child {child:?}", self.record.site)));
        }
        self.tenants.link(&self.record.site.child(child)?, request)?;
        self.save()
    }

    /// Opens the door for one child of that name, until `expires_s`; the token is the key to it.
    pub fn invite(
        &mut self,
        name: &str,
        class: TierClass,
        join: &str,
        now_s: u64,
        expires_s: u64,
    ) -> Result<Token, Error> {
        let site = self.record.site.child(name)?;
        let key = UserKey::generate()?;
        self.roster.invite(name, class, &key.public, now_s, expires_s)?;
        self.save()?;
        Ok(Token {
            site,
            class,
            join: join.to_owned(),
            authority: self.authority()?.fingerprint(),
            seed: key.seed,
            expires_s,
        })
    }

    /// Takes a child in that has a token, with its tenants; the caller has the server read its
    /// configuration again.
    pub fn admit(&mut self, request: &JoinRequest, now_s: u64) -> Result<JoinAnswer, Error> {
        let (mut roster, mut tenants) = (self.roster.clone(), self.tenants.clone());
        let child = roster.admit(request, now_s)?;
        let site = self.record.site.child(&child.name)?;
        for (tenant, link) in &request.tenants {
            let link = Some(link.clone());
            tenants.link(&site, &LinkRequest { tenant: tenant.clone(), link })?;
        }
        if let Some(owners) = request.tenants.values().find(|link| roster.has_link(link)) {
            return Err(Error::Bad(format!(
                "join refused: {owners} is a key of this site's owner"
            )));
        }
        let authority = self.authority()?;
        let (address, others) = self.leaf_addresses();
        let answer = JoinAnswer {
            class: child.class,
            address,
            others,
            certificate: authority.sign(&site, &[], &request.tls)?,
            authority: authority.pem().to_owned(),
            payload_bytes_max: MAX_PAYLOAD_BYTES,
            site,
        };
        (self.roster, self.tenants) = (roster, tenants);
        self.save()?;
        Ok(answer)
    }

    /// Shuts a child out, and takes back invitations of that name; the caller has the server read
    /// its configuration again, which ends the child's link.
    pub fn remove_child(&mut self, name: &str) -> Result<(), Error> {
        self.roster.remove(name)?;
        self.tenants.forget_child(name);
        self.save()
    }

    /// The nkey of the link to the parent.
    pub fn link_key(&self) -> Result<UserKey, Error> {
        self.key(&link_file(self.record.moves(), "nk"))
    }

    fn link_files(&self, turn: usize) -> TlsFiles {
        let file = |end: &str| self.file(&link_file(turn, end));
        TlsFiles { certificate: file("pem"), key: file("key"), authority: file("parent.pem") }
    }

    /// The turn of the link that is asked for: a site that has a parent is about to move.
    fn next_turn(&self) -> usize {
        self.record.moves() + usize::from(self.record.parent.is_some())
    }

    /// What this site asks of the parent that its token names; its keys are made where missing.
    pub fn request(&self, token: &Token) -> Result<JoinRequest, Error> {
        let turn = self.next_turn();
        let tls = LinkKey::load_or_generate(&self.link_files(turn).key)?;
        let link = |name: &str| Ok((name.to_owned(), self.tenant_link(name)?));
        let tenants = self.tenants.names().map(link).collect::<Result<_, Error>>()?;
        JoinRequest::new(token, &self.key(&link_file(turn, "nk"))?, tls.public(), tenants)
    }

    /// Takes the place in the tree that a parent gave.
    pub fn adopt(&mut self, answer: &JoinAnswer) -> Result<(), Error> {
        std::iter::once(&answer.address)
            .chain(&answer.others)
            .try_for_each(|at| check_address(at))?;
        let files = self.link_files(self.next_turn());
        write_secret(&files.certificate, &answer.certificate)?;
        write_secret(&files.authority, &answer.authority)?;
        let before = std::mem::replace(&mut self.record.site, answer.site.clone());
        if self.record.parent.is_some() {
            self.record.former.push(before);
        }
        self.record.class = answer.class;
        self.record.parent =
            Some(Parent { address: answer.address.clone(), others: answer.others.clone() });
        self.save_place()
    }

    /// Takes what the parent says of where its further servers are; true when that is news. A
    /// record that was changed meanwhile stays as it is.
    pub fn know_parent(&mut self, others: &[String]) -> Result<bool, Error> {
        let Some(parent) = &self.record.parent else { return Ok(false) };
        if parent.others == others {
            return Ok(false);
        }
        if others.len() >= SERVERS {
            return Err(Error::Bad(format!("{} further servers of the parent", others.len())));
        }
        others.iter().try_for_each(|at| check_address(at))?;
        if Self::open(&self.dir)?.record != self.record {
            return Ok(false);
        }
        if let Some(parent) = &mut self.record.parent {
            parent.others = others.to_vec();
        }
        self.save_place()?;
        Ok(true)
    }

    /// Takes the place that follows from a move of the site above; the link stays as it is.
    pub fn follow(&mut self, site: &TierPath) -> Result<(), Error> {
        let here = &self.record.site;
        let refuse = |why: String| Err(Error::Bad(format!("{here} does not follow: {why}")));
        if site.name() != here.name() || site.root() != here.root() || site.depth() < 2 {
            return refuse(format!("{site} is no other place of the same site"));
        }
        if self.record.former.len() >= FORMER_MAX {
            return refuse(format!("it has had {FORMER_MAX} other places, which is the limit"));
        }
        for child in self.roster.children() {
            site.child(&child.name)?;
        }
        let before = std::mem::replace(&mut self.record.site, site.clone());
        self.record.former.push(before);
        self.record.followed += 1;
        self.save_place()
    }

    /// Says why the site cannot move to the place that a token names.
    pub fn check_move(&self, token: &Token) -> Result<(), Error> {
        let site = &self.record.site;
        let refuse = |why: String| Err(Error::Bad(format!("{site} does not move: {why}")));
        if self.record.parent.is_none() {
            return refuse("it has no parent that it could leave".into());
        }
        if site.contains(&token.site) {
            return refuse(format!("{} would be below itself", token.site));
        }
        for child in self.roster.children() {
            token.site.child(&child.name)?;
        }
        if token.site.root() != site.root() {
            let (here, there) = (site.root(), token.site.root());
            return refuse(format!(
                "it belongs to the tree of {here}, the token to that of {there}"
            ));
        }
        if self.record.moves() >= MOVES_MAX || self.record.former.len() >= FORMER_MAX {
            return refuse(format!("it was moved {MOVES_MAX} times, which is the limit"));
        }
        Ok(())
    }
}

/// No tenant's name begins like this.
fn left(key: &str) -> String {
    format!(".left-{key}")
}

fn damaged(file: &Path, e: &dyn ToString) -> Error {
    Error::local(file.display().to_string(), format!("is not right: {}", e.to_string()))
}

/// A file in JSON; what is not there is empty.
fn read_json<T: Default + serde::de::DeserializeOwned>(file: &Path) -> Result<T, Error> {
    match read_if_there(file)? {
        Some(text) => serde_json::from_str(&text).map_err(|e| damaged(file, &e)),
        None => Ok(T::default()),
    }
}

fn link_file(turn: usize, end: &str) -> String {
    match turn {
        0 => format!("link.{end}"),
        turn => format!("link-{turn}.{end}"),
    }
}

#[cfg(test)]
mod tests;
