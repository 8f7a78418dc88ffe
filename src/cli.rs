//! The command line.

mod apps;
mod bench;
mod config;
mod describe;
mod develop;
mod dlq;
mod logs;
pub mod output;
mod store;
pub mod talk;
mod tenant;
pub(crate) mod top;
mod tree;
mod up;
mod video;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::context::Context;
use crate::{demo, doctor, node};
use output::Output;

/// What a failed command returns.
const EXIT_FAILED: u8 = 1;

/// What the program returns.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 a command line that is wrong, or \
    something missing that `doctor` looked for";

/// What a recording looks like.
const RECORDING: &str = "A recording is a list of steps, and begins with empty tables:\n\
    \x20 [{ \"call\": \"greet\", \"data\": { \"n\": \"Ada\" }, \"expect\": { \"visits\": 1 } },\n\
    \x20  { \"event\": \"arrived.lobby\", \"data\": {}, \"error\": \"KeyError\" },\n\
    \x20  { \"http\": \"GET /links/a\", \"status\": 200, \"contains\": \"ok\" }]";

#[derive(Parser)]
#[command(name = "edgescale", version, about = "A serverless fabric for a tree of data centers")]
#[command(propagate_version = true, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Where a node's traces go; said here, it counts before the configuration file.
#[derive(Args)]
struct Trace {
    /// The collector of traces, http://HOST:4318
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// Which share of the traces that begin here is recorded, 0 to 1
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "SHARE")]
    trace_share: Option<f64>,
}

/// What every command takes.
#[derive(Args, Clone)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Folder of the site, or of the whole tree that `up` runs; where none runs there, commands go
    /// where the context of the `nats` client leads, that of NATS_CONTEXT or the selected one
    #[arg(long, global = true, env = "EDGESCALE_DIR", default_value = ".edgescale")]
    dir: PathBuf,
    /// Folder of nats-server, the Lambda runtime client and other tools; that of this program's
    /// checkout where the current folder has none
    #[arg(long, global = true, env = "EDGESCALE_TOOLS", default_value_os_t = usual_tools())]
    tools: PathBuf,
    /// Tenant to talk as; the site's owner unless said
    #[arg(long, global = true, value_name = "TENANT")]
    tenant: Option<String>,
    /// Site to talk to, of those that run from --dir: a whole path or its last token; unless said,
    /// the topmost. `logs`, `dlq`, `tree`, `top`, `dashboard`, `ls`, `describe` and `devices` take
    /// the path of any site below, too
    #[arg(long, global = true, value_name = "SITE")]
    at: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Run a tree on this machine until Ctrl-C
    Up(up::Up),
    /// Run the example app on a video, through a whole tree, and report
    Demo(demo::Options),
    /// Run the node of one site
    Node {
        /// The node's configuration file
        #[arg(long)]
        config: PathBuf,
        #[command(flatten)]
        trace: Trace,
    },
    /// Run the site of --dir, its server and its node, until told to stop
    Run,
    /// Take in, shut out, list the tenants of a site, and give them new keys
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    /// Show the tree: sites, links, load, devices, apps; or change it
    Tree {
        #[command(subcommand)]
        command: Option<tree::Tree>,
    },
    /// Show load, rates, queues and times of a site and those below it, until Ctrl-C
    Top(top::Top),
    /// List apps and the state of their handlers at a site
    Ls,
    /// Show an app: what starts its handlers, where they run, their limits, its tables and grants
    Describe {
        /// Its name
        app: String,
    },
    /// Register an app: upload its code, apply its manifest
    Deploy {
        /// The manifest, or its folder; files it names are relative to it
        #[arg(default_value = "app.toml")]
        manifest: PathBuf,
    },
    /// Show the settings of an app, or change them while it runs
    Config(config::Config),
    /// Remove an app
    Undeploy {
        /// Its name
        app: String,
    },
    /// List the revisions of an app that are kept
    History {
        /// Its name
        app: String,
    },
    /// Register an earlier revision of an app again
    Rollback(apps::Rollback),
    /// Begin an app in a folder of its own
    New(develop::New),
    /// Build an app: run its build.sh, if it has one
    Build {
        /// The app's folder or manifest
        #[arg(default_value = ".")]
        project: PathBuf,
    },
    /// Run an app's handlers against its recorded inputs (tests/*.json), without a tree
    #[command(after_help = RECORDING)]
    Test {
        /// The app's folder or manifest
        #[arg(default_value = ".")]
        project: PathBuf,
    },
    /// Build and deploy to a running tree at every save, and show the app's log, until Ctrl-C
    Dev {
        /// The app's folder or manifest
        #[arg(default_value = ".")]
        project: PathBuf,
    },
    /// Publish an event at the site of --at
    Publish(talk::Publish),
    /// Call a function of an app at the site of --at, and print the answer
    Invoke(talk::Invoke),
    /// Open, list or close streams
    #[command(subcommand)]
    Stream(talk::Stream),
    /// Read and write tables and blobs, ask in SQL, export, import, mend
    #[command(subcommand)]
    Store(store::Store),
    /// Show the log lines of nodes and handlers: of the site of --at, or of all that run from --dir
    /// and those below
    Logs(logs::Logs),
    /// Look at dead letters (events that could not be handled), have them tried again, drop them
    #[command(subcommand)]
    Dlq(dlq::Dlq),
    /// List the devices of a site
    Devices,
    /// Pipelines over videos, without a tree
    #[command(subcommand)]
    Video(video::Video),
    /// Print the address of the page that shows the tree at and below the site of --at, with the
    /// site's token in it
    Dashboard,
    /// Say what this machine lacks, and the mend
    Doctor,
    /// Measure
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Look for devices and print them, for a node
    #[command(hide = true)]
    DeviceProbe,
    /// Hold the driver of an FPGA card, for a node
    #[command(hide = true)]
    XrtWorker,
    /// Look for encoders of video and print them, or have one code streams, for a node
    #[command(hide = true)]
    EncoderWorker {
        /// The encoder to use
        encoder: Option<String>,
    },
    /// Print a script that completes commands and options in a shell; with bash:
    /// eval "$(edgescale completion bash)"
    Completion {
        /// Its name
        shell: clap_complete::Shell,
    },
    /// Run the guests of a handler, for a node
    #[command(hide = true)]
    GuestWorker,
    /// Decode a video to standard output, for a node
    #[command(hide = true)]
    MediaDecode {
        /// File or URL
        source: String,
    },
}

/// Apps are written anywhere; what builds and runs them lies where `./tools.sh` was run.
fn usual_tools() -> PathBuf {
    let here = PathBuf::from(".tools");
    let program = std::env::current_exe().unwrap_or_default();
    let mut folders = program.ancestors().skip(1).map(|folder| folder.join(".tools"));
    if here.is_dir() { here } else { folders.find(|folder| folder.is_dir()).unwrap_or(here) }
}

/// Runs the program; its errors go to standard error, one line each.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    start_logging(&cli.command);
    let result = match cli.command {
        Command::MediaDecode { source } => decode(&source),
        Command::DeviceProbe => probe_devices(),
        Command::XrtWorker => serve_card(),
        Command::EncoderWorker { encoder } => encode(encoder.as_deref()),
        Command::GuestWorker => serve_guests(),
        command => runtime().and_then(|runtime| runtime.block_on(dispatch(command, cli.global))),
    };
    match result {
        Ok(code) => code,
        Err(e) => {
            eprintln!("edgescale: {}", output::causes(&e));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn start_logging(command: &Command) {
    let default = match command {
        Command::Node { .. } | Command::Run => "info,async_nats=warn",
        _ => "warn,async_nats=error",
    };
    let filter = EnvFilter::try_from_env("EDGESCALE_LOG").unwrap_or_else(|_| default.into());
    let plain = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    plain.with_ansi(false).init();
}

async fn dispatch(command: Command, global: Global) -> Result<ExitCode> {
    let out = Output { json: global.json };
    match command {
        Command::Up(up) => up::run(up, &global).await?,
        Command::Demo(options) => demo::run(options, &global.tools, global.json).await?,
        Command::Run => tree::run_site(&global, out).await?,
        Command::Tree { command: Some(command) } => tree::tree(command, &global, out).await?,
        Command::Node { config, trace } => {
            let mut settings = node::Settings::load(&config)?;
            trace.apply(&mut settings.trace);
            node::run(settings).await?;
        }
        Command::New(new) => develop::new(&new, out)?,
        Command::Build { project } => develop::build(&project, &global.tools, out)?,
        Command::Test { project } => return develop::test(&project, &global.tools, out).await,
        Command::Dev { project } => {
            let context = Context::find(&global.dir)?.as_tenant(global.tenant.as_deref());
            let at = global.at.as_deref();
            develop::dev(&project, &global.tools, &context, at, out).await?;
        }
        Command::Store(store::Store::Salvage { config, give_up }) => {
            store::salvage::run(config, &give_up, &global, out).await?;
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "edgescale", &mut script);
            std::io::stdout().write_all(&script)?;
        }
        Command::Doctor => {
            return doctor::run(&global.tools, &global.dir, global.json).await;
        }
        Command::Bench(command) => bench::run(command, &global, out).await?,
        Command::Video(command) => video::run(command, out).await?,
        Command::MediaDecode { .. }
        | Command::DeviceProbe
        | Command::XrtWorker
        | Command::EncoderWorker { .. }
        | Command::GuestWorker => {}
        command => talk_to_tree(command, &global, out).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn talk_to_tree(command: Command, global: &Global, out: Output) -> Result<()> {
    let context = Context::find(&global.dir)?.as_tenant(global.tenant.as_deref());
    let at = global.at.as_deref();
    // Those that look, and see to dead letters.
    let goes_below = matches!(
        command,
        Command::Logs(_)
            | Command::Dlq(_)
            | Command::Ls
            | Command::Describe { .. }
            | Command::Devices
            | Command::Dashboard
            | Command::Top(_)
            | Command::Tree { .. }
    );
    let site = &if goes_below { context.reach(at)? } else { context.site(at)?.clone() };
    match command {
        Command::Tree { command: None } => talk::tree(site, out).await,
        Command::Tenant(command) => tenant::run(site, command, out).await,
        Command::Top(top) => top::run(site, top, out).await,
        Command::Ls => apps::list(site, out).await,
        Command::Describe { app } => describe::describe(site, &app, out).await,
        Command::Deploy { manifest } => apps::deploy(site, &manifest, out).await,
        Command::History { app } => apps::history(site, &app, out).await,
        Command::Rollback(asked) => apps::rollback(site, asked, out).await,
        Command::Config(asked) => config::run(&context, at, asked, out).await,
        Command::Undeploy { app } => apps::undeploy(site, &app, out).await,
        Command::Publish(publish) => talk::publish(site, publish, out).await,
        Command::Invoke(invoke) => talk::invoke(site, invoke, out).await,
        Command::Stream(stream) => talk::stream(site, stream, out).await,
        Command::Store(command) => store::run(site, command, out).await,
        Command::Logs(asked) => logs::logs(&context, at, asked, out).await,
        Command::Dlq(command) => dlq::run(site, command, out).await,
        Command::Devices => talk::devices(site, out).await,
        Command::Dashboard => talk::dashboard(site, out).await,
        _ => Ok(()),
    }
}

impl Trace {
    fn apply(self, settings: &mut node::otlp::Settings) {
        if let Some(endpoint) = self.otlp_endpoint {
            settings.endpoint = Some(endpoint);
        }
        if let Some(share) = self.trace_share {
            settings.share = share;
        }
    }
}

fn probe_devices() -> Result<ExitCode> {
    let config = hw::Config { xrt: crate::node::xrt_setup(), ..hw::Config::default() };
    hw::probe::tell(&config, std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn serve_card() -> Result<ExitCode> {
    hw::xrt::serve_worker()?;
    Ok(ExitCode::SUCCESS)
}

/// The child that codes streams by encoders of others.
fn encode(encoder: Option<&str>) -> Result<ExitCode> {
    match encoder {
        None => accel::encoders::tell(std::io::stdout().lock())?,
        Some(encoder) => accel::encoders::serve(encoder)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn serve_guests() -> Result<ExitCode> {
    handlers::execute::serve_worker()?;
    Ok(ExitCode::SUCCESS)
}

/// The child that decodes: whatever a bad stream does to it, the node goes on.
fn decode(source: &str) -> Result<ExitCode> {
    match accel::video::child::serve(source) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(e) => {
            eprintln!("{e}");
            Ok(ExitCode::from(EXIT_FAILED))
        }
    }
}
