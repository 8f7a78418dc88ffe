//! `edgescale up`: a tree on this machine, until Ctrl-C.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bus::site::RECORD_FILE;
use clap::Args;

use super::Global;
use crate::context::{Context, FILE, Site};
use crate::node::stop_signal;
use crate::tree::{DEMO_SITES, Plan, Tree};

/// How often the processes of the tree are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Args)]
pub struct Up {
    /// Sites, parents first
    #[arg(value_name = "SITE", default_values_t = DEMO_SITES.map(String::from))]
    sites: Vec<String>,
}

/// Starts the tree, says how to use it, and keeps it until it is told to stop.
pub async fn run(up: Up, global: &Global) -> Result<()> {
    let dir = absolute(&global.dir)?;
    refuse_second(&dir)?;
    let sites = up.sites.iter().map(|site| site.parse()).collect::<Result<Vec<_>, _>>()?;
    let plan = Plan {
        sites,
        dir,
        tools: absolute(&global.tools)?,
        node_binary: std::env::current_exe()?,
        links: Default::default(),
    };
    let stop = stop_signal();
    tokio::pin!(stop);
    let mut tree = tokio::select! {
        tree = Tree::start(&plan) => tree?,
        () = &mut stop => return Ok(()),
    };
    match global.json {
        true => println!("{}", serde_json::to_string_pretty(&tree.context())?),
        false => print!("{}", how_to(&tree.context())?),
    }
    let casualty = loop {
        tokio::select! {
            () = &mut stop => break None,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        tree.follow_tenants()?;
        if let Some(casualty) = tree.casualty() {
            break Some(casualty);
        }
    };
    eprintln!("stopping");
    tree.stop();
    match casualty {
        Some(casualty) => bail!("{casualty}"),
        None => Ok(()),
    }
}

/// A folder serves one tree at a time, and a site's folder that site.
fn refuse_second(dir: &std::path::Path) -> Result<()> {
    if dir.join(RECORD_FILE).exists() {
        let dir = dir.display();
        bail!("{dir} holds a site, which `edgescale --dir {dir} run` runs; name another folder");
    }
    let Ok(context) = Context::load(dir) else { return Ok(()) };
    let alive = |servers: &str| {
        let mut addresses = servers.split(',').map(|url| url.trim_start_matches("nats://"));
        addresses.any(|address| std::net::TcpStream::connect(address).is_ok())
    };
    if context.sites.iter().any(|site| alive(&site.server)) {
        let dir = dir.display();
        bail!("a tree is running in {dir} already; stop it, or use another folder with --dir");
    }
    Ok(std::fs::remove_file(dir.join(FILE))?)
}

fn absolute(path: &std::path::Path) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

fn how_to(context: &Context) -> Result<String> {
    let root = context.site(None)?;
    let depth = |site: &&Site| std::cmp::Reverse(site.path.depth());
    let leaf = context.sites.iter().min_by_key(depth).context("the tree has no sites")?;
    let at = leaf.path.name();
    let names: Vec<&str> = context.sites.iter().map(|site| site.path.as_str()).collect();
    let context = root.nats_context();
    let nats = format!("nats --context {}", context.display());
    let (http, token) = (&leaf.http.url, leaf.http.token.as_deref().unwrap_or(Path::new("")));
    let token = token.display();
    let folder = leaf.nkey.parent().context("the key lies in the site's folder")?;
    let folder = bus::site::SiteFolder::open(folder)?;
    Ok(format!(
        "The tree is up: {}. Ctrl-C stops it.

  register an app      edgescale deploy examples/doorcam
  open a video stream  edgescale --at {at} stream open doorcam front VIDEO.mp4
  publish an event     edgescale --at {at} publish doorcam.motion \\
                         '{{\"camera\":\"side\",\"time_us\":0,\"score\":0.5}}'
  call a function      edgescale --at {at} invoke doorcam.summary '{{}}'
  read a table         edgescale --at {at} store scan doorcam/motion --limit 5
  look at a node       edgescale --at {at} ls      edgescale tree      edgescale logs -f
  look at all of it    edgescale dashboard            # the address of a page, for a browser

  over HTTP, here at {}:
    curl {http}/APP/PATH            # a route of an app's manifest
    curl -H \"Authorization: Bearer $(cat {token})\" -d '{{}}' {http}/call/doorcam/summary

  MQTT there             {}, user {}, password in {}
  NATS over WebSocket    {}

  the same by the stock client, here at {}:
    {nats} micro ls
    {nats} req call.doorcam.summary '{{}}'
",
        names.join(", "),
        leaf.path,
        leaf.mqtt,
        folder.mqtt_user(bus::tree::ACCOUNT),
        leaf.nkey.with_file_name(bus::site::MQTT_FILE).display(),
        leaf.websocket,
        root.path
    ))
}
