//! `edgescale bench …`: what the crate `bench` measures, on what it needs for it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ::bench::bus::{Door, Stand};
use ::bus::Bus;
use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use handlers::Digest;
use tempfile::TempDir;

use super::Global;
use super::output::Output;
use crate::context::Context;
use crate::node::client;
use crate::tree::{Plan, Tree};

/// The tree of `bench bus`, from the root to the edge.
const SITES: [&str; 3] = ["cloud", "cloud.east", "cloud.east.cell1"];
/// How long a process may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Subcommand)]
pub enum Bench {
    /// Every kernel on every device: time, GB/s, share of the memory bandwidth
    Kernels(::bench::kernels::Options),
    /// H.264, JPEG and a whole pipeline beside x264, FFmpeg and libjpeg-turbo, beside their goals
    Video(::bench::video::Options),
    /// Tables beside the disk they stand on and beside other stores
    Store(::bench::store::Options),
    /// Calls, events and the HTTP door beside bare NATS, a bare server and workerd, on three tiers
    Bus(::bench::bus::Options),
    /// Fresh instances, cold starts, many handlers, processes and runaways, beside their goals
    Handlers(::bench::handlers::Options),
    /// Handlers of every kind for minutes on end: memory, files and processes must stay flat
    Soak(::bench::handlers::soak::Options),
    /// Answer what is not ours, for `bench bus`
    #[command(hide = true)]
    Echo,
    /// Load the handlers named on stdin, for `bench handlers`
    #[command(hide = true)]
    Load { folder: PathBuf },
    /// Open a store once, for `bench store --open-gb`
    #[command(hide = true)]
    Open { folder: PathBuf, ask: u64 },
}

/// Measures and prints.
pub async fn run(command: Bench, global: &Global, out: Output) -> Result<()> {
    match command {
        Bench::Kernels(options) => {
            let tools = std::path::absolute(&global.tools)?;
            out.show(&::bench::kernels::run(&options, &tools)?, ::bench::kernels::table)
        }
        Bench::Video(options) => {
            let tools = std::path::absolute(&global.tools)?;
            out.show(&::bench::video::run(&options, &tools).await?, ::bench::video::table)
        }
        Bench::Store(options) => {
            let program = std::env::current_exe()?;
            let report = ::bench::store::run(&options, Some(&program)).await?;
            out.show(&report, ::bench::store::table)
        }
        Bench::Bus(options) => {
            let ground = Ground::prepare(options.clients, global).await?;
            out.show(&::bench::bus::run(&options, &ground.stand).await?, ::bench::bus::table)
        }
        Bench::Handlers(options) => {
            let tools = std::path::absolute(&global.tools)?;
            let program = std::env::current_exe()?;
            let report = ::bench::handlers::run(&options, &tools, Some(&program)).await?;
            out.show(&report, ::bench::handlers::table)
        }
        Bench::Soak(options) => {
            let tools = std::path::absolute(&global.tools)?;
            let program = std::env::current_exe()?;
            let report = ::bench::handlers::soak::run(&options, &tools, Some(&program)).await?;
            out.show(&report, ::bench::handlers::soak::table)?;
            ensure!(report.wrong.is_empty(), "{}", report.wrong.join("; "));
            Ok(())
        }
        Bench::Load { folder } => {
            let digests: Vec<Digest> = serde_json::from_reader(std::io::stdin())?;
            let loaded = ::bench::handlers::load_all(&global.tools, &folder, &digests).await?;
            println!("{}", serde_json::to_string(&loaded)?);
            Ok(())
        }
        Bench::Open { folder, ask } => {
            let opening = ::bench::store::open::open_once(&folder, ask).await?;
            println!("{}", serde_json::to_string(&opening)?);
            Ok(())
        }
        Bench::Echo => echo(&Context::load(&global.dir)?).await,
    }
}

/// What `bench bus` measures on; dropping it stops all of it.
struct Ground {
    stand: Stand,
    _echo: Echo,
    _tree: Tree,
    _folder: TempDir,
}

impl Ground {
    async fn prepare(clients: usize, global: &Global) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let plan = Plan {
            sites: SITES.iter().map(|site| site.parse()).collect::<Result<_, _>>()?,
            dir: folder.path().to_owned(),
            tools: std::path::absolute(&global.tools)?,
            node_binary: std::env::current_exe()?,
            links: Default::default(),
        };
        let tree = Tree::start(&plan).await?;
        let (echo, bare) = Echo::start(&plan)?;
        let context = tree.context();
        let mut sites = vec![];
        for site in context.sites.iter().rev() {
            let bus = site.connect().await?;
            let node = client::report(&bus).await?.pid;
            sites.push(::bench::bus::Site { path: site.path.clone(), bus, node });
        }
        let edge = context.sites.last().context("the tree has sites")?;
        let mut connections: Vec<Bus> = vec![];
        for _ in 0..clients.max(1) {
            connections.push(edge.connect().await?);
        }
        let token = edge.http.token.as_ref().map(std::fs::read_to_string).transpose()?;
        let door = Door {
            address: edge.http.url.trim_start_matches("http://").to_owned(),
            path: "/call/bench/edge".into(),
            token: token.map(|token| token.trim().to_owned()),
        };
        let peer = ::bench::bus::Peer::start(&plan.tools);
        let bare_door = bare;
        let bare = echo.0.id();
        let stand = Stand { sites, clients: connections, door, bare_door, bare, peer };
        Ok(Self { stand, _echo: echo, _tree: tree, _folder: folder })
    }
}

/// The process that answers bare requests.
struct Echo(Child);

impl Echo {
    fn start(plan: &Plan) -> Result<(Self, Door)> {
        let mut command = Command::new(&plan.node_binary);
        command.arg("--dir").arg(&plan.dir).args(["bench", "echo"]).stdout(Stdio::piped());
        ::bus::server::die_with_parent(&mut command);
        let mut echo = Self(command.spawn().context("the bare server did not start")?);
        let out = echo.0.stdout.take().context("its output is a pipe")?;
        let mut address = String::new();
        BufReader::new(out).read_line(&mut address)?;
        let (address, path) = (address.trim().to_owned(), ::bench::bus::BARE_PATH.to_owned());
        Ok((echo, Door { address, path, token: None }))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        ::bus::server::stop(&mut self.0, STOP_TIMEOUT);
    }
}

async fn echo(context: &Context) -> Result<()> {
    let mut sites = vec![];
    for site in context.sites.iter().rev() {
        sites.push(site.connect().await?);
    }
    Ok(::bench::bus::echo(&sites, |address| println!("{address}")).await?)
}
