//! The commands that make a tree of sites and change it.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bus::site::join::{self, Token};
use bus::site::{FORMER_MAX, LOOPBACK, Ports, Record, SiteFolder};
use bus::{TierClass, TierPath};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Global;
use super::output::{Output, table};
use crate::context::{Context, Site};
use crate::node::client;
use crate::node::report::Brief;
use crate::site::{Programs, run};
use crate::tree::now_s;

#[derive(Subcommand)]
pub enum Tree {
    /// Make the root of a new tree, in the folder of --dir
    Init(Init),
    /// Ask the site of --at for a token with which one new child can join
    Invite(Invite),
    /// Join as the site that a token names, in the folder of --dir, and run it
    Join(Join),
    /// Move the site in --dir to the place that a token of its new parent names, with all it holds;
    /// the sites below it follow
    Move {
        /// The token; read from standard input when it is not given
        token: Option<String>,
    },
    /// Print the server's configuration of the site in --dir, without its secrets
    Config {
        /// Print the secrets as well
        #[arg(long)]
        secrets: bool,
    },
    /// List the children that may connect to the site of --at
    Ls,
    /// Shut a child out: its link is cut and its key refused
    Rm {
        /// The child's name, the last token of its path
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
    #[arg(long, value_name = "nats://HOST:PORT")]
    server: Option<String>,
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
        let mut record = Record::new(site, class, self.address.clone(), self.ports()?);
        record.operated = self.server.clone();
        Ok(record)
    }

    fn ports(&self) -> Result<Ports> {
        let ports: Vec<u16> = match self.ports.as_str() {
            "auto" => bus::server::free_ports(6)?,
            list => list.split(',').map(str::parse).collect::<Result<_, _>>().unwrap_or_default(),
        };
        let (websocket, mqtt) = match ports[..] {
            [_, _, _, _] => (0, 0),
            [_, _, _, _, websocket, mqtt] => (websocket, mqtt),
            _ => bail!("--ports {:?}: four or six numbers with commas, or auto", self.ports),
        };
        let [client, monitor, leaf, join] = [ports[0], ports[1], ports[2], ports[3]];
        Ok(Ports { client, monitor, leaf, join, websocket, mqtt })
    }
}

/// Carries out a command of `edgescale tree`.
pub async fn tree(command: Tree, global: &Global, out: Output) -> Result<()> {
    match command {
        Tree::Init(asked) => init(&asked, global, out),
        Tree::Join(asked) => join_tree(&asked, global, out).await,
        Tree::Move { token } => move_site(token.as_deref(), global, out).await,
        Tree::Config { secrets } => config(&SiteFolder::open(&global.dir)?, secrets, out),
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

fn site(global: &Global) -> Result<Site> {
    Ok(Context::load(&global.dir)?.site(global.at.as_deref())?.clone())
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

/// Those below that answer now must fit under the new place; who does not, sees for itself later.
async fn check_below(global: &Global, token: &Token) -> Result<()> {
    let Ok(context) = Context::load(&global.dir) else { return Ok(()) };
    let Ok(bus) = context.site(None)?.connect().await else { return Ok(()) };
    let Ok(brief) = client::control(&bus, "tree", "").await else { return Ok(()) };
    let brief: Brief = client::json(&brief)?;
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

/// Seeds are left out unless asked for: this is read over shoulders and pasted into tickets.
fn config(folder: &SiteFolder, secrets: bool, out: Output) -> Result<()> {
    let mut text = folder.server()?.render()?;
    if !secrets {
        for secret in folder.server()?.secrets() {
            text = text.replace(secret, "(in nats.conf; --secrets prints it)");
        }
    }
    let file: PathBuf = folder.file(bus::site::SERVER_FILE);
    out.show(&json!({"file": file, "config": text}), |_| {
        let file = file.display();
        format!(
            "# A server of your own includes this file, which changes when children join:\n\
             #   include \"{file}\"   (relative to the file that includes it)\n{text}"
        )
    })
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

async fn remove(site: &Site, name: &str, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    let answer = client::control(&bus, "tree.remove", name.to_owned()).await?;
    out.show(&client::json::<Value>(&answer)?, |answer| {
        format!("{} is removed; its key is refused from now on", answer["site"])
    })
}
