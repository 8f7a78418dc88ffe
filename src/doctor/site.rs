//! The site of a folder: whether its server is what the tree needs, whoever runs it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use bus::server::{MAX_PAYLOAD_BYTES, PING_INTERVAL_S, PING_MAX};
use bus::site::servers::Place;
use bus::site::{LOOPBACK, RECORD_FILE, SiteFolder};
use bus::tree::{ACCOUNT, DENIED};
use bus::{Bus, Credentials, Headers, Kind, TierPath};
use serde::Deserialize;

use super::{Check, Verdict, lacking, ok};
use crate::node::client;
use crate::{monitor, node};

/// How long a message to oneself may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a server says of its own settings.
#[derive(Deserialize)]
struct Settings {
    max_payload: usize,
    /// In nanoseconds.
    ping_interval: u64,
    ping_max: u32,
    #[serde(default)]
    cluster: Cluster,
    #[serde(default)]
    leaf: Leaf,
    #[serde(default)]
    jetstream: JetStream,
}

#[derive(Default, Deserialize)]
struct Cluster {
    #[serde(default)]
    name: String,
}

#[derive(Default, Deserialize)]
struct Leaf {
    #[serde(default)]
    tls_required: bool,
    #[serde(default)]
    tls_verify: bool,
    #[serde(default)]
    remotes: Vec<Remote>,
}

/// What it says of an account.
#[derive(Deserialize)]
struct Account {
    account_detail: Mapped,
}

#[derive(Deserialize)]
struct Mapped {
    #[serde(default)]
    mappings: BTreeMap<String, Vec<Target>>,
}

#[derive(Deserialize)]
struct Target {
    subject: String,
}

/// What it says of its links that are up.
#[derive(Default, Deserialize)]
struct Links {
    #[serde(default)]
    leafs: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    compression: String,
}

#[derive(Deserialize)]
struct Remote {
    #[serde(default)]
    deny: Deny,
}

#[derive(Default, Deserialize)]
struct Deny {
    #[serde(default)]
    exports: Vec<String>,
    #[serde(default)]
    imports: Vec<String>,
}

#[derive(Default, Deserialize)]
struct JetStream {
    #[serde(default)]
    config: JetStreamConfig,
}

#[derive(Default, Deserialize)]
struct JetStreamConfig {
    #[serde(default)]
    domain: String,
}

/// Looks at the site of a folder; nothing to say where there is none.
pub async fn checks(dir: &Path) -> Vec<Check> {
    if !dir.join(RECORD_FILE).exists() {
        return vec![];
    }
    let folder = match SiteFolder::open(dir) {
        Ok(folder) => folder,
        Err(e) => return vec![lacking("site", Verdict::Missing, e.to_string(), "mend the file")],
    };
    let found = format!("{} in {}", folder.record.site, dir.display());
    vec![
        ok("site", found),
        server(&folder).await,
        settings(&folder),
        link(&folder),
        objects(&folder).await,
        store(&folder).await,
    ]
}

/// Connects as a node does, and sends itself a message by a short subject.
async fn server(folder: &SiteFolder) -> Check {
    match probe(folder).await {
        Ok(()) => ok("site's server", format!("answers at {}", folder.server_url())),
        Err(e) => {
            let mend = "start it with `edgescale run`, or mend its configuration";
            lacking("site's server", Verdict::Missing, format!("{e:#}"), mend)
        }
    }
}

async fn probe(folder: &SiteFolder) -> Result<()> {
    let credentials = Credentials { seed: folder.key("client.nk")?.seed };
    let (server, site) = (folder.server_url(), &folder.record.site);
    let bus = Bus::connect(&server, site, &credentials, "edgescale-doctor").await?;
    let (sender, mut heard) = tokio::sync::mpsc::channel(1);
    let hear = move |_| {
        let sender = sender.clone();
        async move {
            let _ = sender.try_send(());
        }
    };
    let _listening = bus.subscribe(&format!("local.{site}._.doctor"), hear).await?;
    bus.flush().await?;
    bus.publish("here.local.doctor", &Headers::new(), "").await?;
    match tokio::time::timeout(PROBE_TIMEOUT, heard.recv()).await {
        Ok(Some(())) => Ok(()),
        _ => bail!("the server at {server} does not map short subjects such as `here.…`"),
    }
}

/// Compares what the servers on this machine say of themselves with what the tree needs.
fn settings(folder: &SiteFolder) -> Check {
    let name = "server's settings";
    let mut wrong = vec![];
    for place in folder.places().iter().filter(|place| place.here) {
        match read_all(folder, place) {
            Ok((settings, mappings, links)) => {
                let of = match folder.replicas() {
                    1 => String::new(),
                    _ => format!("server {}: ", place.number),
                };
                let site = &folder.record.site;
                let mut found = differences(&settings, site);
                found.extend(unmapped(&mappings, site));
                found.extend(uncompressed(&links));
                wrong.extend(found.into_iter().map(|wrong| format!("{of}{wrong}")));
            }
            Err(e) => {
                let found =
                    format!("server {} not seen, its monitor is silent: {e:#}", place.number);
                let mend = "http: \"127.0.0.1:8222\", and the port in site.toml";
                return lacking(name, Verdict::Optional, found, mend);
            }
        }
    }
    if wrong.is_empty() {
        return ok(name, "as the tree needs them");
    }
    let mend = "let it include the site's nats.conf (`edgescale tree config` prints it), and \
                restart it";
    lacking(name, Verdict::Missing, wrong.join("; "), mend)
}

/// What a server says of its settings, of the mappings of each account, and of its links.
fn read_all(folder: &SiteFolder, place: &Place) -> Result<(Settings, Mappings, Links)> {
    let address = format!("{LOOPBACK}:{}", place.ports.monitor);
    let settings = serde_json::from_str(&monitor::get(&address, "/varz")?)?;
    let mut mappings = Mappings::default();
    for account in std::iter::once(ACCOUNT).chain(folder.tenants().names()) {
        let said = monitor::get(&address, &format!("/accountz?acc={account}"))?;
        // A server that does not know the account has no answer of this kind.
        let mapped = serde_json::from_str(&said).map(|said: Account| said.account_detail.mappings);
        mappings.insert(account.to_owned(), mapped.unwrap_or_default());
    }
    Ok((settings, mappings, serde_json::from_str(&monitor::get(&address, "/leafz")?)?))
}

/// Of each account, which subjects stand for which others.
type Mappings = BTreeMap<String, BTreeMap<String, Vec<Target>>>;

/// The short subjects that do not lead where they should, in each account.
fn unmapped(mappings: &Mappings, site: &TierPath) -> Vec<String> {
    let wanted = bus::tree::mappings(site);
    let lacks = |(account, found): (&String, &BTreeMap<String, Vec<Target>>)| {
        let is_there = |(from, to): &&(String, String)| {
            let targets = found.get(from).map(Vec::as_slice).unwrap_or_default();
            matches!(targets, [only] if only.subject == *to)
        };
        let missing = wanted.iter().filter(|wanted| !is_there(wanted));
        let missing: Vec<&str> = missing.map(|(from, _)| from.as_str()).collect();
        let missing = missing.join(", ");
        (!missing.is_empty()).then(|| format!("account {account:?} does not map {missing}"))
    };
    mappings.iter().filter_map(lacks).collect()
}

/// Links that carry all their bytes as they are.
fn uncompressed(links: &Links) -> Option<String> {
    let is_plain = |link: &&Link| ["", "off", "not supported"].contains(&link.compression.as_str());
    let plain = links.leafs.iter().filter(is_plain).count();
    let all = links.leafs.len();
    (plain > 0).then(|| format!("{plain} of {all} links are not compressed"))
}

fn differences(settings: &Settings, site: &TierPath) -> Vec<String> {
    let mut wrong = vec![];
    let mut compare = |name: &str, found: String, needed: String| {
        if found != needed {
            wrong.push(format!("{name} is {found}, needed is {needed}"));
        }
    };
    let bytes = settings.max_payload.to_string();
    compare("max_payload", bytes, MAX_PAYLOAD_BYTES.to_string());
    let seconds = format!("{} s", settings.ping_interval as f64 / 1e9);
    compare("ping_interval", seconds, format!("{PING_INTERVAL_S} s"));
    compare("ping_max", settings.ping_max.to_string(), PING_MAX.to_string());
    let domain = format!("{:?}", settings.jetstream.config.domain);
    compare("the JetStream domain", domain, format!("{:?}", site.domain()));
    if let Some(parent) = site.parent() {
        let kids = format!("{:?}", bus::tree::kids(&parent));
        compare("the cluster's name", format!("{:?}", settings.cluster.name), kids);
        let denies = |list: &[String]| DENIED.iter().all(|denied| list.iter().any(|d| d == denied));
        let denied = |remote: &Remote| denies(&remote.deny.exports) && denies(&remote.deny.imports);
        if !settings.leaf.remotes.iter().all(denied) {
            wrong.push(format!("the link to {parent} does not deny {}", DENIED.join(" and ")));
        }
        if settings.leaf.remotes.is_empty() {
            wrong.push(format!("there is no link to {parent}"));
        }
    }
    if !(settings.leaf.tls_required && settings.leaf.tls_verify) {
        wrong.push("links of children are taken without a look at their certificates".to_owned());
    }
    wrong
}

/// Where the store's objects are, and whether that place is honest.
async fn objects(folder: &SiteFolder) -> Check {
    let name = "store's objects";
    let file = folder.file(node::CONFIG_FILE);
    let here = || ok(name, format!("in {}", folder.file("data").display()));
    if !file.exists() {
        return here();
    }
    let bucket = node::Settings::load(&file).and_then(|settings| node::objects::bucket(&settings));
    let bucket = match bucket {
        Ok(Some(bucket)) => bucket,
        Ok(None) => return here(),
        Err(e) => return lacking(name, Verdict::Missing, format!("{e:#}"), "mend node.toml"),
    };
    match bucket.prove().await {
        Ok(()) => ok(name, format!("{bucket}; it keeps to conditions")),
        Err(e) => {
            let mend = "mend [objects] of node.toml, or the server; until then no node starts here";
            lacking(name, Verdict::Missing, e.to_string(), mend)
        }
    }
}

/// What is damaged in the store: as the node says, or where none answers, as log and manifests say.
async fn store(folder: &SiteFolder) -> Check {
    let name = "store";
    let dir = folder.file("data").join("store");
    let Ok(status) = store_status(folder).await else {
        let manifests = store::check_manifests(&dir).await;
        return match manifests.and_then(|()| store::check_log(&dir)) {
            Ok(files) if files.is_empty() => ok(name, "no damage is known; no node answers"),
            Ok(files) => lacking(name, Verdict::Optional, set_aside(&files), AFTER_SALVAGE),
            Err(e) => {
                let mend = "`edgescale store salvage` keeps what is sound of it; other sites may \
                            have what is lost";
                lacking(name, Verdict::Missing, e.to_string(), mend)
            }
        };
    };
    let (mut wrong, mut mends) = (Vec::new(), Vec::new());
    if !status.damaged_segments.is_empty() {
        wrong.extend(status.damaged_segments.iter().map(segment));
        mends.push(
            "put sound copies of these objects in their places; all else goes on meanwhile, and \
             `edgescale store salvage --give-up OBJECT` goes on without one",
        );
    }
    if !status.rotten_files.is_empty() {
        wrong.push(set_aside(&status.rotten_files));
        mends.push(AFTER_SALVAGE);
    }
    if let Some(reason) = &status.refusing {
        wrong.push(format!("its disk refuses writes: {reason}"));
        mends.push("make room on the disk, or mend it; then writes are taken again");
    }
    match wrong.is_empty() {
        true => ok(name, "nothing damaged is known"),
        false => lacking(name, Verdict::Optional, wrong.join("; "), &mends.join("; ")),
    }
}

/// What to do about log files that were set aside.
const AFTER_SALVAGE: &str = "compare with what other sites have, write again what is lost, and \
                             remove data/store/wal/*.rotten";

async fn store_status(folder: &SiteFolder) -> Result<store::Status> {
    #[derive(Deserialize)]
    struct Answer {
        status: store::Status,
    }
    let credentials = Credentials { seed: folder.key("client.nk")?.seed };
    let (server, site) = (folder.server_url(), &folder.record.site);
    let bus = Bus::connect(&server, site, &credentials, "edgescale-doctor").await?;
    let answer: Answer = client::json(&client::ask(&bus, Kind::St, "status", "").await?)?;
    Ok(answer.status)
}

fn set_aside(files: &[String]) -> String {
    format!("log files were damaged and are set aside, writes in them lost: {}", files.join(", "))
}

fn segment(damaged: &store::DamagedSegment) -> String {
    let store::DamagedSegment { table, object, rows, reason } = damaged;
    format!("{rows} rows of table {table} cannot be read: {object}: {reason}")
}

fn link(folder: &SiteFolder) -> Check {
    let name = "link to the parent";
    let Some(parent) = folder.record.site.parent() else {
        return ok(name, "none: this is the root");
    };
    match monitor::link_bytes(&folder.monitor()) {
        Ok(Some(bytes)) => ok(name, format!("{parent}, {} B up, {} B down", bytes.up, bytes.down)),
        Ok(None) => {
            let address = folder.record.parent.as_ref().map_or("", |parent| &parent.address);
            let found = format!("{parent} at {address} is away; this site goes on without it");
            lacking(
                name,
                Verdict::Optional,
                found,
                "see nats.log; a removed site needs a new token",
            )
        }
        Err(e) => {
            lacking(name, Verdict::Optional, format!("not seen: {e:#}"), "see server's settings")
        }
    }
}
