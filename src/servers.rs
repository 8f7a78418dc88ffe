//! A site that stands still gets another number of servers, with all that its streams hold.
//!
//! Everything that the change needs lies in a folder of the site until it is over, the old streams
//! among it. Whatever breaks off on the way, the next attempt first puts back what was.

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use bus::pki::UserKey;
use bus::site::servers::{Peer, SERVERS};
use bus::site::{LOOPBACK, Ports, RECORD_FILE, Record, SiteFolder};
use bus::streams;
use bus::tree::ACCOUNT;

use crate::site::{Programs, RunningSite};

/// Where the change keeps what it needs, within the site's folder.
pub const CHANGE: &str = "servers-change";
/// Below it, once all streams are saved: the record as it was before.
const BEFORE: &str = "before.toml";

/// What came of a change.
#[derive(Debug, serde::Serialize)]
pub struct Changed {
    pub site: bus::TierPath,
    pub before: usize,
    pub servers: usize,
    /// How many streams were taken along, of all tenants.
    pub streams: usize,
}

/// Gives the site of a folder one server or three, on this machine. `auto` picks free ports for the
/// further ones; otherwise they are 10 and 20 higher than the first.
pub async fn change(dir: &Path, programs: &Programs, count: usize, auto: bool) -> Result<Changed> {
    if count != 1 && count != SERVERS {
        bail!("a site has one server or {SERVERS}, not {count}: of two, neither goes on alone");
    }
    check_stands_still(&SiteFolder::open(dir)?)?;
    put_back(dir)?;
    let folder = SiteFolder::open(dir)?;
    check(&folder, count)?;
    let site = folder.record.site.clone();
    let (change, before) = (dir.join(CHANGE), folder.replicas());
    if before == count {
        return Ok(Changed { site, before, servers: count, streams: 0 });
    }
    let accounts = accounts(&folder)?;
    let saved = with_servers(&folder, programs, async |server| {
        let mut saved = 0;
        for (name, key) in &accounts {
            let (to, least) = (change.join("streams").join(name), folder.streams_stored(name));
            saved += streams::save(server, key, &to, least).await?;
        }
        Ok(saved)
    });
    let saved = saved.await.context("saving the streams")?;
    let record = std::fs::read_to_string(dir.join(RECORD_FILE))?;
    bus::pki::write_secret(&change.join(BEFORE), &record)?;
    for (at, store) in folder.stores().iter().enumerate().filter(|(_, store)| store.exists()) {
        std::fs::rename(store, kept(&change, at))?;
    }
    let folder = with_record(dir, with_servers_of(&folder.record, count, auto)?)?;
    let restored = with_servers(&folder, programs, async |server| {
        let mut restored = 0;
        for (name, key) in &accounts {
            let from = change.join("streams").join(name);
            restored += streams::restore(server, key, &from, count).await?;
        }
        Ok(restored)
    });
    let restored = restored.await.with_context(|| {
        let dir = dir.display();
        format!(
            "giving the new servers their streams; `edgescale --dir {dir} tree servers {count}` \
             tries again, `tree servers {before}` puts back what was"
        )
    })?;
    if restored != saved {
        bail!("{restored} streams of {saved} are there; what was is kept in {}", change.display());
    }
    // From here on it is over: an old store that is half removed is not to be put back.
    std::fs::remove_file(change.join(BEFORE))?;
    remove(&change)?;
    Ok(Changed { site, before, servers: count, streams: saved })
}

/// Refuses to run a site of which a change was broken off.
pub fn check_whole(dir: &Path) -> Result<()> {
    if !dir.join(CHANGE).join(BEFORE).exists() {
        return Ok(());
    }
    let dir = dir.display();
    bail!(
        "a change of its servers was broken off; `edgescale --dir {dir} tree servers COUNT` ends \
         it, or puts back what was"
    )
}

fn check(folder: &SiteFolder, count: usize) -> Result<()> {
    let record = &folder.record;
    if record.operated.is_some() {
        bail!("the server of {} is yours to run, and so are others beside it", record.site);
    }
    if record.is_spread() {
        bail!(
            "the servers of {} are on several machines: save its streams there (`nats stream \
             backup`), make the site anew with --servers {count}, and restore them",
            record.site
        );
    }
    if record.ports.join == 0 {
        bail!("{} is part of a tree of `edgescale up`, whose sites have one server", record.site);
    }
    Ok(folder.check_streams()?)
}

/// Refuses while anything answers that may be a server of the site.
fn check_stands_still(folder: &SiteFolder) -> Result<()> {
    let (site, dir) = (&folder.record.site, folder.dir().display());
    let runs = |port: u16| TcpStream::connect((LOOPBACK, port)).is_ok();
    match folder.places().iter().any(|place| runs(place.ports.client)) {
        true => bail!("{site} runs; stop its `edgescale --dir {dir} run` first"),
        false => Ok(()),
    }
}

/// Every account of the site, with a key that may do everything in it.
fn accounts(folder: &SiteFolder) -> Result<Vec<(String, UserKey)>> {
    let names = std::iter::once(ACCOUNT).chain(folder.tenants().names());
    let keys = names.map(|name| match name {
        ACCOUNT => Ok((name.to_owned(), folder.key("node.nk")?)),
        name => Ok((name.to_owned(), folder.tenant_key(name)?)),
    });
    keys.collect()
}

/// Does something while the servers of a site run, and nothing else of it.
async fn with_servers<T>(
    folder: &SiteFolder,
    programs: &Programs,
    work: impl AsyncFnOnce(&str) -> Result<T>,
) -> Result<T> {
    let mut site = RunningSite::prepare(folder, programs)?;
    site.start_server()?;
    let done = work(&folder.server_url()).await;
    site.stop_server();
    done
}

fn with_record(dir: &Path, record: Record) -> Result<SiteFolder> {
    let mut folder = SiteFolder::open(dir)?;
    folder.record = record;
    folder.save_place()?;
    Ok(folder)
}

/// The record of the same site with so many servers.
fn with_servers_of(record: &Record, count: usize, auto: bool) -> Result<Record> {
    let mut record = record.clone();
    record.peers.clear();
    if count == 1 {
        return Ok(record);
    }
    let free = match auto {
        true => bus::server::free_ports(6 * count)?,
        false => vec![],
    };
    if record.ports.route == 0 {
        // The first of the free ones is nobody else's.
        record.ports.route = free.first().copied().unwrap_or(Ports::USUAL.route);
    }
    let first = record.ports;
    let of = |at: usize| match free.chunks(6).nth(at) {
        Some(&[client, monitor, leaf, websocket, mqtt, route]) => Ports {
            client,
            monitor,
            leaf,
            join: 0,
            websocket: if first.websocket == 0 { 0 } else { websocket },
            mqtt: if first.mqtt == 0 { 0 } else { mqtt },
            route,
        },
        _ => first.of_server(at + 1),
    };
    let peer = |at| Peer { address: record.address.clone(), ports: of(at) };
    record.peers = (1..count).map(peer).collect();
    Ok(record)
}

/// Puts back what was before a change that broke off; broken off itself, it may be done again.
fn put_back(dir: &Path) -> Result<()> {
    let change = dir.join(CHANGE);
    if change.join(BEFORE).exists() {
        let text = std::fs::read_to_string(change.join(BEFORE))?;
        let before: Record = toml::from_str(&text).context("the record as it was before")?;
        for (at, store) in SiteFolder::open(dir)?.stores().iter().enumerate() {
            let kept = kept(&change, at);
            // One that is not kept, of a server that there was, is where it was.
            if kept.exists() || at > before.peers.len() {
                remove(store)?;
            }
            if kept.exists() {
                std::fs::rename(kept, store)?;
            }
        }
        with_record(dir, before)?;
    }
    remove(&change)
}

fn kept(change: &Path, at: usize) -> PathBuf {
    change.join(format!("store-{at}"))
}

fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}
