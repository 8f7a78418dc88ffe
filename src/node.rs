//! A node: one process at one site, joining the six components over the site's server.

mod above;
mod apps;
pub mod client;
pub mod code;
mod config;
pub(crate) mod control;
mod cron;
mod devices;
pub mod dlq;
mod family;
mod feeds;
mod gossip;
pub(crate) mod host;
mod keeper;
pub mod link;
pub mod objects;
pub mod otlp;
pub mod report;
mod service;
mod stop;
mod telemetry;
pub mod tenants;
pub mod turns;
pub mod uploads;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use accel::EdgeAccelerate;
use accel::share::Turns;
use anyhow::{Context as _, Result};
use bus::event::{Keeper, Reader};
use bus::route::policy::{Devices, ParentView};
use bus::server::CONFIG_COMMAND;
use bus::{
    Bus, Credentials, EdgeRoute, EventLog, Kind, Places, Refusal, Registry, Request, Response,
    Subject, Subscription, TierClass, TierPath,
};
use handlers::execute::{Host, WorkerProgram};
use handlers::logs::Logs;
use handlers::metrics::Metrics;
use handlers::settings::Secrets;
use handlers::settings::changes::Changes;
use handlers::trace::Tracer;
use handlers::trigger::Triggers;
use handlers::{EdgeDeploy, EdgeExecute, EdgeStream};
use serde::{Deserialize, Serialize};
use store::EdgeStore;
use tokio::task::JoinSet;

use crate::gateway;
pub use above::BusAbove;
pub use cron::Tick;
pub use family::{Follow, Invite};
use report::{Brief, LinkReport, Report};
pub use stop::{DRAIN_TIMEOUT, stop_signal};

/// The name of a node's configuration within its folder.
pub const CONFIG_FILE: &str = "node.toml";
/// The queue group that the nodes of one site share.
const QUEUE: &str = "node";
/// How often blobs that are due are looked for.
const BLOBS_INTERVAL: Duration = Duration::from_secs(60);

/// What a node is told at start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub site: TierPath,
    pub class: TierClass,
    /// `nats://host:port` of the site's server, or of several with commas between.
    pub server: String,
    /// How often the site keeps its streams: as many times as it has servers.
    #[serde(default = "one")]
    pub replicas: usize,
    /// The file with the seed of the node's nkey.
    pub nkey: PathBuf,
    /// Where tables, blobs, code and manifests are kept.
    pub data: PathBuf,
    /// The project's tools.
    pub tools: PathBuf,
    /// The server's monitoring address, `host:port`.
    pub monitor: Option<String>,
    /// The site's folder, at the node that takes children in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// The paths that the site had before it was moved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<TierPath>,
    /// The HTTP door.
    #[serde(default)]
    pub http: gateway::Settings,
    /// Where traces go.
    #[serde(default)]
    pub trace: otlp::Settings,
    /// The bucket with the store's objects; none is the folder `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<store::Bucket>,
    /// How devices are shared with the nodes of other tenants.
    #[serde(default)]
    pub devices: turns::Settings,
    /// What is compiled for others, and whose compiled code is run.
    #[serde(default)]
    pub code: code::Settings,
}

const fn one() -> usize {
    1
}

impl Settings {
    /// Reads and checks a configuration file.
    pub fn load(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("the configuration {} cannot be read", file.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not right", file.display()))
    }

    /// Writes the configuration file.
    pub fn save(&self, file: &Path) -> Result<()> {
        Ok(bus::pki::write_secret(file, &toml::to_string(self)?)?)
    }
}

/// The parts of a running node.
pub struct Node {
    pub bus: Bus,
    pub class: TierClass,
    pub route: Arc<EdgeRoute>,
    pub store: Arc<EdgeStore>,
    pub accelerate: Arc<EdgeAccelerate>,
    pub execute: Arc<EdgeExecute>,
    pub deploy: Arc<EdgeDeploy>,
    pub triggers: Arc<Triggers>,
    pub streams: Arc<EdgeStream>,
    /// What handlers see of the node.
    pub host: Arc<dyn Host>,
    /// Settings of apps that were changed at this site.
    pub changes: Arc<Changes>,
    pub events: EventLog,
    /// The registry, at the root.
    pub registry: Option<Registry>,
    pub logs: Arc<Logs>,
    pub metrics: Arc<Metrics>,
    /// Where the HTTP door is.
    pub http: gateway::Place,
    /// The server's monitoring address.
    pub monitor: Option<String>,
    /// Where sites are that were moved.
    places: Places,
    children: gossip::Children,
    /// The servers of the site, where there are several.
    servers: Mutex<Vec<Keeper>>,
    /// Classes of devices that requests do not find here.
    withheld: Devices,
    /// Who gives turns at the devices of the host, at the owner's node.
    turns: Option<turns::Open>,
    family: Option<Arc<family::Family>>,
    registering: Arc<tokio::sync::Mutex<()>>,
    deploying: apps::Turns,
    uploads: Arc<uploads::Uploads>,
    started: Instant,
    serving: AtomicBool,
    heard_parent: AtomicBool,
}

/// Runs a node until it is told to stop.
pub async fn run(settings: Settings) -> Result<()> {
    settings.trace.collector()?;
    let folder = settings.folder.clone();
    let door = gateway::Bound::bind(&settings.http, &settings.data).await?;
    let (node, subscriptions, mut tasks) = start(settings, door.place.clone()).await?;
    let (close_door, closed) = tokio::sync::oneshot::channel::<()>();
    let until_closed = async { closed.await.unwrap_or_default() };
    let door = tokio::spawn(gateway::serve(node.clone(), door, until_closed));
    tracing::info!(site = %node.bus.site(), http = %node.http.url, "serving");
    let mut unfit = None;
    tokio::select! {
        () = stop_signal() => {}
        reason = node.bus.unfit() => unfit = Some(in_folder(bus::Error::Bad(reason), &folder)),
        ended = tasks.join_next() => tracing::error!(?ended, "a part of the node ended"),
    }
    tracing::info!("stopping");
    telemetry::say_stopping(&node).await;
    drop(close_door);
    let _ = tokio::join!(door, stop::drain(&node, subscriptions));
    tasks.shutdown().await;
    node.store.close().await;
    unfit.map_or(Ok(()), |e| Err(e.into()))
}

/// The mend as it is typed where the site's folder is not the usual one.
fn in_folder(error: bus::Error, folder: &Option<PathBuf>) -> bus::Error {
    let (bus::Error::Bad(text), Some(folder)) = (&error, folder) else { return error };
    let named = CONFIG_COMMAND.replacen(' ', &format!(" --dir {} ", folder.display()), 1);
    bus::Error::Bad(text.replace(CONFIG_COMMAND, &named))
}

/// A started node: it serves as long as the subscriptions and tasks are kept.
pub type Started = (Arc<Node>, Vec<Subscription>, JoinSet<()>);

/// Starts a node, but for its HTTP door, which is `http`.
pub async fn start(settings: Settings, http: gateway::Place) -> Result<Started> {
    let mut tasks = JoinSet::new();
    let metrics = Arc::new(Metrics::default());
    let tracer = start_tracer(&settings, &metrics, &mut tasks)?;
    let node = Arc::new(open(&settings, http, metrics, tracer).await?);
    let data = settings.data.clone();
    gossip::look(&node).await;
    let subscriptions = serve(&node).await?;
    node.serving.store(true, Ordering::Release);
    family::reopen_door(&node).await;
    tasks.spawn(gossip::keep_looking(node.clone()));
    if settings.replicas > 1 {
        tasks.spawn(gossip::watch_servers(node.clone()));
    }
    tasks.spawn(tenants::expire_keys(node.clone()));
    tasks.spawn(family::call_after(node.clone()));
    tasks.spawn(node.triggers.clone().run_events());
    tasks.spawn(feeds::run(node.clone(), data.clone()));
    tasks.spawn(tend(node.clone()));
    tasks.spawn(remove_due_blobs(node.clone()));
    tasks.spawn(devices::tell(node.clone()));
    tasks.spawn(telemetry::tell_metrics(node.clone()));
    tasks.spawn(telemetry::tell_life(node.clone()));
    match node.bus.site().parent() {
        Some(parent) => {
            tasks.spawn(gossip::run(node.clone(), parent));
            tasks.spawn(node.triggers.clone().climb_events());
        }
        None => {
            tasks.spawn(apps::watch_registry(node.clone()));
            tasks.spawn(cron::run(node.clone(), data));
        }
    }
    Ok((node, subscriptions, tasks))
}

/// Without a collector, nothing is recorded and nothing runs.
fn start_tracer(
    settings: &Settings,
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<()>,
) -> Result<Arc<Tracer>> {
    let Some(collector) = settings.trace.collector()? else {
        return Ok(Arc::new(Tracer::off()));
    };
    let (tracer, finished) = Tracer::start(collector.share, metrics.clone());
    tasks.spawn(otlp::run(collector, settings.site.clone(), finished, metrics.clone()));
    Ok(Arc::new(tracer))
}

async fn open(
    settings: &Settings,
    http: gateway::Place,
    metrics: Arc<Metrics>,
    tracer: Arc<Tracer>,
) -> Result<Node> {
    let started = Instant::now();
    let site = &settings.site;
    let seed = std::fs::read_to_string(&settings.nkey)
        .with_context(|| format!("the key {} cannot be read", settings.nkey.display()))?;
    let credentials = Credentials { seed: seed.trim().to_owned() };
    let compiling = code::set_up(&settings.code, &credentials.seed)?;
    let bus = Bus::connect(&settings.server, site, &credentials, "edgescale-node").await;
    let bus = bus.map_err(|e| in_folder(e, &settings.folder))?;
    let bus = bus.with_replicas(settings.replicas);
    let logs = Arc::new(Logs::start(&bus));
    let places = Places::new(site.clone(), settings.former.clone());
    let store = open_store(settings, &bus, &places).await?;
    let (turns, opened) = turns::open(&settings.devices);
    let accelerate = Arc::new(open_accelerate(settings, turns)?);
    let doors = Arc::new(host::Doors::default());
    let mut config = handlers::execute::Config::new(settings.data.join("code"), &settings.tools);
    config.compile = settings.code.compile;
    config.worker = Some(guest_worker()?);
    let execute = Arc::new(EdgeExecute::start(config, doors.clone())?);
    let above = Arc::new(BusAbove::new(bus.clone()));
    let apps = settings.data.join("apps");
    let deploy =
        EdgeDeploy::open(site, &apps, store.clone(), execute.clone(), above, compiling).await?;
    deploy.log_to(logs.clone());
    let deploy = Arc::new(deploy);
    let registering = Arc::default();
    let keeper = keeper::Keeper { deploy: deploy.clone(), registering: Arc::clone(&registering) };
    store.guard_blobs(Arc::new(keeper))?;
    let class = settings.class;
    let route = Arc::new(EdgeRoute::new(bus.clone(), class));
    let events = EventLog::open(&bus).await?.formerly(places.clone());
    let registry = match site.parent() {
        None => Some(Registry::open(&bus).await?),
        Some(_) => None,
    };
    let triggers = Arc::new(Triggers::new(
        deploy.clone(),
        execute.clone(),
        route.clone(),
        events.clone(),
        logs.clone(),
        metrics.clone(),
        tracer,
    ));
    let changes = Arc::new(Changes::open(settings.data.join("settings")));
    doors.open(host::Behind {
        store: store.clone(),
        accelerate: accelerate.clone(),
        triggers: triggers.clone(),
        secrets: Secrets::new(settings.data.join("secrets")).and_changes(changes.clone()),
        site: site.clone(),
    });
    let decoder = (std::env::current_exe()?, vec!["media-decode".to_owned()]);
    let streams = EdgeStream::new(site.as_str(), triggers.clone(), accelerate.clone(), decoder);
    Ok(Node {
        bus,
        class,
        route,
        store,
        accelerate,
        execute,
        deploy,
        triggers,
        streams: Arc::new(streams),
        host: doors,
        changes,
        events,
        registry,
        logs,
        metrics,
        http,
        monitor: settings.monitor.clone(),
        places,
        children: gossip::Children::default(),
        servers: Mutex::default(),
        withheld: handlers::deploy::devices(settings.devices.withhold.iter().copied()),
        turns: opened,
        family: settings.folder.as_deref().map(family::Family::open).transpose()?.map(Arc::new),
        registering,
        deploying: apps::Turns::default(),
        uploads: Arc::default(),
        started,
        serving: AtomicBool::new(false),
        heard_parent: AtomicBool::new(site.parent().is_none()),
    })
}

async fn tend(node: Arc<Node>) {
    node.deploy.tend(|| node.route.view().here.clone()).await;
}

/// Removes the blobs that were let go, each when its time has come.
async fn remove_due_blobs(node: Arc<Node>) {
    loop {
        tokio::time::sleep(BLOBS_INTERVAL).await;
        if let Err(error) = node.store.remove_due_blobs().await {
            tracing::debug!(%error, "blobs that are due stay for now");
        }
    }
}

/// Answers on every kind of subject of the site: one wildcard subscription each.
async fn serve(node: &Arc<Node>) -> Result<Vec<Subscription>> {
    let (bus, site) = (&node.bus, node.bus.site());
    let mut subscriptions = vec![
        bus.serve(&Subject::all(Kind::Call, site), QUEUE, with(node, control::call)).await?,
        bus.serve(&Subject::all(Kind::Ctl, site), QUEUE, with(node, control::control)).await?,
        bus.serve(&Subject::all(Kind::St, site), QUEUE, with(node, control::store)).await?,
        bus.serve(&Subject::all(Kind::Sm, site), QUEUE, with(node, control::streams)).await?,
        bus.serve(&link::from_children(site), QUEUE, with(node, control::store_of_child)).await?,
    ];
    if let Some(parent) = site.parent() {
        let deploy = node.deploy.clone();
        let hear = move |message: Request| {
            let deploy = deploy.clone();
            async move {
                let text = std::str::from_utf8(&message.payload).unwrap_or_default();
                if let Ok(revision) = text.parse() {
                    deploy.catch_up(revision).await;
                }
            }
        };
        let subject = format!("sync.{parent}._.apps");
        subscriptions.push(node.bus.subscribe(&subject, hear).await?);
    }
    subscriptions.push(service::announce(node).await?);
    node.bus.flush().await?;
    Ok(subscriptions)
}

fn with<Fut>(
    node: &Arc<Node>,
    answer: fn(Arc<Node>, Request) -> Fut,
) -> impl Fn(Request) -> Fut + use<Fut> {
    let node = node.clone();
    move |request| answer(node.clone(), request)
}

impl Node {
    /// True when everything is subscribed and requests are answered.
    pub fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    /// Asks how the site's servers are. While they agree on no leader, what was last heard stands.
    async fn look_at_servers(&self) {
        if let Ok(seen) = self.events.keepers().await
            && seen.len() > 1
        {
            *self.servers.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        }
    }

    fn parent_up(&self) -> bool {
        matches!(self.route.view().parent, ParentView::Near { .. })
    }

    fn on_parent_back(&self, parent: &TierPath, again: bool) {
        self.heard_parent.store(true, Ordering::Release);
        if again {
            self.logs.add("info", "route", &format!("parent {parent} answers again"));
        }
    }

    /// What the node tells its parent.
    pub(crate) async fn brief(&self) -> Brief {
        let view = self.route.view();
        let bytes_per_s = view.above.first().and_then(|parent| parent.bytes_per_s);
        let link = self.bus.site().parent().map(|parent| match view.parent {
            ParentView::Near { rtt, .. } => {
                LinkReport { parent, up: true, rtt_us: rtt.as_micros() as u64, bytes_per_s }
            }
            _ => LinkReport { parent, up: false, rtt_us: 0, bytes_per_s: None },
        });
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Brief {
            path: self.bus.site().clone(),
            class: self.class,
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: self.started.elapsed().as_secs(),
            link,
            devices: self.accelerate.devices().into_iter().map(|d| d.id).collect(),
            apps: self.deploy.apps().iter().map(|app| app.name().to_owned()).collect(),
            in_flight: self.triggers.load.in_flight(),
            invocations: self.triggers.load.total(),
            offers: gossip::offers(self),
            http: self.http.url.clone(),
            former: self.places.former().to_vec(),
            servers,
            heard_ms_ago: 0,
            children: self.children.briefs().await,
            left_out: 0,
        }
    }

    /// Everything about the node.
    pub async fn report(&self) -> Report {
        Report {
            brief: self.brief().await.alone(),
            pid: std::process::id(),
            rss_bytes: report::rss_bytes(),
            ready: self.is_serving() && self.heard_parent.load(Ordering::Acquire),
            http: self.http.clone(),
            devices: self.accelerate.devices(),
            device_time: self.turns.as_ref().map_or(vec![], |open| open.referee.served()),
            apps: self.deploy.apps().iter().map(|app| apps::report(self, app)).collect(),
            streams: self.streams.list(),
            tables: self.store.tables(),
            dead_letters: self.events.dead_state().await.map_or(0, |dead| dead.count),
            events_waiting: self.events_waiting().await,
            metrics: self.metrics.snapshot(),
        }
    }

    /// What a server does not say is not counted.
    async fn events_waiting(&self) -> u64 {
        let mut waiting = 0;
        for reader in [Reader::Run, Reader::Climb] {
            waiting += self.events.waiting(reader).await.unwrap_or(0);
        }
        waiting
    }
}

async fn open_store(settings: &Settings, bus: &Bus, places: &Places) -> Result<Arc<EdgeStore>> {
    let opening = EdgeStore::open(objects::store_config(settings)?);
    let store = opening.await.context("the store did not open")?;
    store.attach(Arc::new(link::BusLink::new(bus.clone(), places.clone())))?;
    Ok(Arc::new(store))
}

/// This program as the child that looks for devices: whatever a driver does to it, the node lives.
pub fn device_probe() -> Result<hw::Probe> {
    Ok(hw::Probe { program: std::env::current_exe()?, arguments: vec!["device-probe".to_owned()] })
}

/// This program as the child that has encoders of others code; nothing they do hurts the node.
pub fn encoder_worker() -> Option<accel::encoders::Program> {
    let arguments = vec!["encoder-worker".to_owned()];
    Some(accel::encoders::Program { program: std::env::current_exe().ok()?, arguments })
}

/// This program as a process that runs the guests of one handler: whatever they do to it, the node
/// and other handlers go on.
pub fn guest_worker() -> Result<WorkerProgram> {
    let arguments = vec!["guest-worker".to_owned()];
    Ok(WorkerProgram { program: std::env::current_exe()?, arguments })
}

/// This program as the process beside a node that holds the driver of an FPGA card; nothing where
/// no circuit is named.
pub fn xrt_setup() -> Option<hw::xrt::Setup> {
    let program = std::env::current_exe().ok()?;
    hw::xrt::Setup::from_environment(program, vec!["xrt-worker".to_owned()])
}

fn open_accelerate(settings: &Settings, turns: Turns) -> Result<EdgeAccelerate> {
    let config = accel::Config {
        cache_dir: Some(settings.data.join("kernels")),
        probe: Some(device_probe()?),
        encoders: encoder_worker(),
        xrt: xrt_setup(),
        turns,
        prefer: settings.devices.prefer,
        ..Default::default()
    };
    EdgeAccelerate::start(config).context("no device could be opened, not even the CPU")
}

/// An answer in JSON, or why not.
type Answer = Result<Response, Refusal>;
