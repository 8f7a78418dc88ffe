//! The commands that make a tree of sites and change it.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bus::site::join::{self, Token};
use bus::site::servers::{self, Peer, SERVERS};
use bus::site::{FORMER_MAX, LOOPBACK, Ports, RECORD_FILE, Record, SiteFolder};
use bus::{TierClass, TierPath};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Global;
use super::output::{Output, table};
use crate::context::{Context, Site};
use crate::node::client;
use crate::site::{Programs, run};
use crate::tree::{now_s, site_dir};

#[derive(Subcommand)]
pub enum Tree {
    /// Make the root of a new tree, in the folder of --dir
    Init(Init),
    /// Ask the site of --at for a token with which one new child can join
    Invite(Invite),
    /// Join as the site that a token names, in the folder of --dir, and run it until Ctrl-C
    Join(Join),
    /// Move the site in --dir to the place that a token of its new parent names, with all it holds;
    /// the sites below it follow
    Move {
        /// The token; read from standard input when it is not given
        token: Option<String>,
    },
    /// Give the site in --dir one nats-server or three, on this machine, with all that its streams
    /// hold; it must not run meanwhile
    Servers {
        /// 1 or 3
        count: usize,
        /// The ports of the further servers: 10 and 20 higher than those of the first, or `auto`
        /// for free ones
        #[arg(long, value_parser = ["auto"])]
        ports: Option<String>,
    },
    /// Print the configuration of each server of the site in --dir, without its secrets, and where
    /// it belongs
    Config {
        /// The site's path, of a tree that `up` keeps in --dir; elsewhere it is checked
        site: Option<TierPath>,
        /// Print the secrets as well
        #[arg(long)]
        secrets: bool,
    },
    /// List the children that may connect to the site of --at
    Ls,
    /// Shut a child of the site of --at out: its link is cut and its key refused
    Rm {
        /// The child's name, or its whole path
        name: String,
    },
}

#[derive(Args)]
pub struct Init {
    /// The root's name, the first token of every path
    #[arg(default_value = "cloud")]
    site: TierPath,
    #[command(flatten)]
    place: Place,
}

/// Where a site can be reached.
#[derive(Args)]
pub struct Place {
    /// The host name or address under which children reach this site; without it, they are all on
    /// this machine
    #[arg(long, default_value = LOOPBACK)]
    address: String,
    /// Ports for clients, the monitor, children's links and joining, and if wanted for WebSocket
    /// and MQTT; `auto` picks free ones
    #[arg(long, value_name = "CLIENT,MONITOR,LEAF,JOIN", default_value = "4222,8222,7422,7423")]
    ports: String,
    /// The address of a nats-server that you run yourself; none is started then
    #[arg(long, value_name = "nats://HOST:PORT", conflicts_with = "servers")]
    server: Option<String>,
    /// How many nats-servers the site has, 1 or 3; three route to each other and keep every stream
    /// three times, and any two go on alone. Three host names instead put them on three machines:
    /// this one first, and `tree config` says what belongs on the others
    #[arg(long, value_name = "3|HOST,HOST,HOST", default_value = "1")]
    servers: String,
}

#[derive(Args)]
pub struct Invite {
    /// The child's name, the last token of its path
    name: String,
    /// What kind of place it is; by depth, unless said
    #[arg(long, value_parser = class)]
    class: Option<TierClass>,
    /// How long the token may be used, in minutes
    #[arg(long, default_value_t = 60)]
    valid_minutes: u64,
}

#[derive(Args)]
pub struct Join {
    /// The token; read from standard input when it is not given, which keeps it out of the list of
    /// processes
    token: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Join and stop; `edgescale run` runs the site later
    #[arg(long)]
    no_run: bool,
}

fn class(text: &str) -> Result<TierClass, String> {
    serde_json::from_value(Value::String(text.to_owned()))
        .map_err(|_| "there are cloud, region, edge and device".to_owned())
}

impl Place {
    fn record(&self, site: TierPath, class: TierClass) -> Result<Record> {
        let hosts = self.hosts()?;
        let ports = self.ports(&hosts)?;
        let mut record = Record::new(site, class, hosts[0].clone(), ports[0]);
        let more = hosts.into_iter().zip(ports).skip(1);
        record.peers = more.map(|(address, ports)| Peer { address, ports }).collect();
        record.operated = self.server.clone();
        Ok(record)
    }

    /// The address of each server; the first is the site's own.
    fn hosts(&self) -> Result<Vec<String>> {
        let count: Option<usize> = self.servers.parse().ok();
        let hosts: Vec<String> = match count {
            Some(count) => vec![self.address.clone(); count.min(SERVERS + 1)],
            None => self.servers.split(',').map(|host| host.trim().to_owned()).collect(),
        };
        if ![1, SERVERS].contains(&hosts.len()) || hosts.iter().any(String::is_empty) {
            bail!(
                "--servers {:?}: 1, or {SERVERS}, or {SERVERS} host names with commas between (of \
                 two servers, neither goes on alone)",
                self.servers
            );
        }
        if count.is_none() && self.address != LOOPBACK && self.address != hosts[0] {
            bail!("--address {} is not the first of --servers {}", self.address, self.servers);
        }
        Ok(hosts)
    }

    /// The ports of each server. On one machine those of the second and third are 10 and 20 higher.
    fn ports(&self, hosts: &[String]) -> Result<Vec<Ports>> {
        if self.ports == "auto" {
            let free = bus::server::free_ports(7 * hosts.len())?;
            return Ok(free.chunks(7).enumerate().map(|(at, free)| of_free(at, free)).collect());
        }
        let list: Result<Vec<u16>, _> = self.ports.split(',').map(str::parse).collect();
        let list = list.unwrap_or_default();
        let (websocket, mqtt) = match list[..] {
            [_, _, _, _] => (0, 0),
            [_, _, _, _, websocket, mqtt] => (websocket, mqtt),
            _ => bail!("--ports {:?}: four or six numbers with commas, or auto", self.ports),
        };
        let [client, monitor, leaf, join] = [list[0], list[1], list[2], list[3]];
        let route = if hosts.len() > 1 { Ports::USUAL.route } else { 0 };
        let first = Ports { client, monitor, leaf, join, websocket, mqtt, route };
        let of = |(at, host): (usize, &String)| match at {
            0 => first,
            _ if *host == hosts[0] => first.of_server(at + 1),
            _ => Ports { join: 0, ..first },
        };
        Ok(hosts.iter().enumerate().map(of).collect())
    }
}

fn of_free(at: usize, free: &[u16]) -> Ports {
    let port = |of: usize| free.get(of).copied().unwrap_or(0);
    Ports {
        client: port(0),
        monitor: port(1),
        leaf: port(2),
        join: if at == 0 { port(3) } else { 0 },
        websocket: port(4),
        mqtt: port(5),
        route: port(6),
    }
}

/// Carries out a command of `edgescale tree`.
pub async fn tree(command: Tree, global: &Global, out: Output) -> Result<()> {
    match command {
        Tree::Init(asked) => init(&asked, global, out),
        Tree::Join(asked) => join_tree(&asked, global, out).await,
        Tree::Move { token } => move_site(token.as_deref(), global, out).await,
        Tree::Servers { count, ports } => servers(count, ports.is_some(), global, out).await,
        Tree::Config { site, secrets } => {
            config(&folder_of(&global.dir, site.as_ref())?, secrets, out)
        }
        Tree::Invite(asked) => invite(&site(global)?, &asked, out).await,
        Tree::Ls => list(&site(global)?, out).await,
        Tree::Rm { name } => remove(&site(global)?, &name, out).await,
    }
}

/// `edgescale run`
pub async fn run_site(global: &Global, out: Output) -> Result<()> {
    let dir = std::path::absolute(&global.dir)?;
    let programs = Programs::find(&std::env::current_exe()?, &std::path::absolute(&global.tools)?)?;
    let shown = dir.clone();
    run(&dir, &programs, |site| {
        let (path, server) = (&site.path, &site.server);
        match out.json {
            true => println!("{}", json!({"site": path, "server": server})),
            false => println!("{path} is up at {server}, kept in {}.", shown.display()),
        }
    })
    .await
}

async fn servers(count: usize, auto: bool, global: &Global, out: Output) -> Result<()> {
    let dir = std::path::absolute(&global.dir)?;
    let programs = Programs::find(&std::env::current_exe()?, &std::path::absolute(&global.tools)?)?;
    let changed = crate::servers::change(&dir, &programs, count, auto).await?;
    out.show(&changed, |changed| {
        let (site, dir) = (&changed.site, dir.display());
        match changed.before == count {
            true => format!("{site} has {count} nats-server(s) already"),
            false => format!(
                "{site} has {count} nats-server(s) now, with its {} streams\n\n  \
                 run it   edgescale --dir {dir} run\n",
                changed.streams
            ),
        }
    })
}

fn site(global: &Global) -> Result<Site> {
    Ok(Context::find(&global.dir)?.site(global.at.as_deref())?.clone())
}

fn init(asked: &Init, global: &Global, out: Output) -> Result<()> {
    if asked.site.depth() != 1 {
        bail!("a root's path is one token, as in `cloud`; {} is below another site", asked.site);
    }
    let dir = std::path::absolute(&global.dir)?;
    let record = asked.place.record(asked.site.clone(), asked.site.default_class())?;
    let folder = SiteFolder::create(&dir, record)?;
    let shown = dir.display();
    out.show(&json!({"site": folder.record.site, "dir": dir}), |_| {
        format!(
            "{} is made in {shown}.\n\n  run it           edgescale --dir {shown} run\n  \
             invite a child   edgescale --dir {shown} tree invite NAME\n",
            folder.record.site
        )
    })
}

async fn join_tree(asked: &Join, global: &Global, out: Output) -> Result<()> {
    let token = Token::decode(&read_token(asked.token.as_deref())?)?;
    let dir = std::path::absolute(&global.dir)?;
    let record = asked.place.record(token.site.clone(), token.class)?;
    let mut folder = match SiteFolder::open(&dir) {
        // A first try stopped half way: its keys are used again, and the parent may know them.
        Ok(mut there) if there.record.parent.is_none() && there.record.site.depth() > 1 => {
            there.record = record;
            there
        }
        _ => SiteFolder::create(&dir, record)?,
    };
    let answer = join::ask(&token, &folder.request(&token)?).await;
    let answer = answer.with_context(|| format!("joining as {}", token.site))?;
    folder.adopt(&answer)?;
    let shown = dir.display();
    if asked.no_run {
        return out.show(&json!({"site": token.site, "dir": dir}), |_| {
            format!(
                "{} has joined, and is kept in {shown}.\n\n  \
                 run it   edgescale --dir {shown} run\n",
                token.site
            )
        });
    }
    eprintln!(
        "{} has joined; the next time, start it with: edgescale --dir {shown} run",
        token.site
    );
    run_site(global, out).await
}

async fn move_site(token: Option<&str>, global: &Global, out: Output) -> Result<()> {
    let token = Token::decode(&read_token(token)?)?;
    let mut folder = SiteFolder::open(&global.dir)?;
    refuse_part_of_up(&folder)?;
    folder.check_move(&token)?;
    check_below(global, &token).await?;
    let before = folder.record.site.clone();
    let answer = join::ask(&token, &folder.request(&token)?).await;
    let answer = answer.with_context(|| format!("moving {before} to {}", token.site))?;
    folder.adopt(&answer)?;
    let operated = folder.record.operated.is_some();
    out.show(&json!({"site": token.site, "before": before}), |_| {
        let restart = if operated { " Restart its nats-server now." } else { "" };
        let old = before.parent().map_or_else(String::new, |parent| parent.to_string());
        format!(
            "{before} is {} from now on, and those below follow.{restart}\n\
             At {old}, shut the old key out:   edgescale tree rm {}",
            token.site,
            before.name()
        )
    })
}

/// `edgescale up` starts its sites again under the paths that it is told: one that had moved would
/// be in two places.
fn refuse_part_of_up(folder: &SiteFolder) -> Result<()> {
    let site = &folder.record.site;
    let is_its_folder = folder.dir().file_name().is_some_and(|name| name == site.as_str());
    if folder.record.ports.join != 0 || !is_its_folder {
        return Ok(());
    }
    let dir = folder.dir().display();
    bail!(
        "{site} does not move: it is part of a tree of `edgescale up`, which starts its sites \
         under their first paths. To move it, stop `up`, write a free port as `join` into \
         {dir}/site.toml, and into those of the sites above and below it, and run each by \
         `edgescale --dir {dir} run`"
    )
}

/// Those below that answer now must fit under the new place; who does not, sees for itself later.
async fn check_below(global: &Global, token: &Token) -> Result<()> {
    let Ok(context) = Context::load(&global.dir) else { return Ok(()) };
    let Ok(bus) = context.site(None)?.connect().await else { return Ok(()) };
    let Ok(brief) = client::tree(&bus).await else { return Ok(()) };
    for below in brief.below() {
        let refused = || format!("{} could not follow; move or remove it first", below.path);
        let rest = &below.path.as_str()[brief.path.as_str().len()..];
        let _: TierPath = format!("{}{rest}", token.site).parse().with_context(refused)?;
        if below.former.len() >= FORMER_MAX {
            bail!("it has had {FORMER_MAX} other places, which is the limit: {}", refused());
        }
    }
    Ok(())
}

fn read_token(given: Option<&str>) -> Result<String> {
    if let Some(token) = given.filter(|token| *token != "-") {
        return Ok(token.to_owned());
    }
    if std::io::stdin().is_terminal() {
        eprintln!("Paste the token that `edgescale tree invite` printed, then press Enter:");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        return Ok(line);
    }
    let mut text = String::new();
    std::io::stdin().take(64 * 1024).read_to_string(&mut text)?;
    Ok(text)
}

/// The folder of a site that is named, be it kept with others by `up`; else the folder as it is.
fn folder_of(dir: &Path, site: Option<&TierPath>) -> Result<SiteFolder> {
    let Some(site) = site else { return Ok(SiteFolder::open(dir)?) };
    let of_up = site_dir(dir, site);
    let is_of_up = of_up.join(RECORD_FILE).exists();
    let folder = SiteFolder::open(if is_of_up { &of_up } else { dir })?;
    if folder.record.site != *site {
        let (dir, other) = (dir.display(), &folder.record.site);
        bail!("{dir} holds {other}, not {site}; name the folder of {site} with --dir");
    }
    Ok(folder)
}

/// Seeds are left out unless asked for: this is read over shoulders and pasted into tickets.
fn config(folder: &SiteFolder, secrets: bool, out: Output) -> Result<()> {
    let mut texts = vec![];
    for server in folder.servers()? {
        let mut text = server.render()?;
        let hidden = server.secrets().filter(|_| !secrets);
        for secret in hidden {
            text = text.replace(secret, "(in nats.conf; --secrets prints it)");
        }
        texts.push(text);
    }
    let places = folder.places();
    let show = |(place, text): (&servers::Place, &String)| {
        json!({
            "number": place.number, "address": place.address, "here": place.here,
            "file": place.config, "config": text,
        })
    };
    let servers: Vec<Value> = places.iter().zip(&texts).map(show).collect();
    let files = folder.shared_files();
    let whole = json!({
        "file": places[0].config, "config": texts[0], "servers": servers, "shared_files": files,
    });
    out.show(&whole, |_| {
        let heads = places.iter().map(|place| config_head(folder, place));
        heads.zip(&texts).map(|(head, text)| head + text).collect::<Vec<_>>().join("\n")
    })
}

/// What to do with a server's configuration, as its first lines.
fn config_head(folder: &SiteFolder, place: &servers::Place) -> String {
    let file = place.config.display();
    if folder.replicas() == 1 {
        return format!(
            "# A server of your own includes this file, which changes when children join:\n\
             #   include \"{file}\"   (relative to the file that includes it)\n"
        );
    }
    let (number, address) = (place.number, &place.address);
    if place.here {
        return format!("# Server {number}, which `edgescale run` starts from {file}:\n");
    }
    let shared: Vec<String> =
        folder.shared_files().iter().map(|file| file.display().to_string()).collect();
    format!(
        "# Server {number}, at {address}: bring this file there, to {file}\n\
         # and to the same places, readable by their owner only:\n#   {}\n\
         # Then run there:   nats-server -c {file}\n\
         # When children or tenants have come or gone, bring it again, and:\n\
         #   nats-server --signal reload\n",
        shared.join("\n#   ")
    )
}

async fn invite(site: &Site, asked: &Invite, out: Output) -> Result<()> {
    let valid_s = asked.valid_minutes.saturating_mul(60);
    let body = json!({"name": asked.name, "class": asked.class, "valid_s": valid_s});
    let bus = site.connect().await?;
    let answer = client::control(&bus, "tree.invite", body.to_string()).await?;
    let answer: Value = client::json(&answer)?;
    if !out.json {
        eprintln!(
            "Whoever has this line within {} minutes can join once, as {}. At the new site:\n  \
             edgescale --dir FOLDER tree join      (and paste it)",
            asked.valid_minutes,
            answer["site"].as_str().unwrap_or_default()
        );
    }
    out.show(&answer, |answer| answer["token"].as_str().unwrap_or_default().to_owned())
}

async fn list(site: &Site, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    let children: Vec<Value> = client::json(&client::control(&bus, "tree.children", "").await?)?;
    out.show(&children, |children| {
        let row = |child: &Value| {
            let text = |name: &str| child[name].as_str().unwrap_or_default().to_owned();
            let heard = match child["heard_ms_ago"].as_u64() {
                Some(ms) => format!("{:.1} s ago", Duration::from_millis(ms).as_secs_f64()),
                None => "not heard".to_owned(),
            };
            let age_s = now_s().saturating_sub(child["joined_s"].as_u64().unwrap_or(0));
            let joined = format!("{} days ago", age_s / 86_400);
            vec![text("path"), text("class"), heard, joined, text("key")]
        };
        table(&["SITE", "CLASS", "HEARD", "JOINED", "KEY"], children.iter().map(row))
    })
}

/// The name of a child that was given by name or by path.
fn name_below<'a>(site: &TierPath, given: &'a str) -> Result<&'a str> {
    match given.rsplit_once('.') {
        None => Ok(given),
        Some((parent, name)) if parent == site.as_str() => Ok(name),
        Some((parent, _)) => bail!(
            "{given} is no child of {site}; its own parent removes it: \
             edgescale --at {parent} tree rm {given}"
        ),
    }
}

async fn remove(site: &Site, name: &str, out: Output) -> Result<()> {
    let name = name_below(&site.path, name)?;
    let bus = site.connect().await?;
    let answer = client::control(&bus, "tree.remove", name.to_owned()).await?;
    out.show(&client::json::<Value>(&answer)?, |_| {
        format!("{}.{name} is removed; its key is refused from now on", site.path)
    })
}
