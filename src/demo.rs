//! `edgescale demo`: one real video through all six components, on a real tree.

mod print;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use accel::video;
use anyhow::{Context as _, Result, bail, ensure};
use bus::message::{ROUTE_HEADER, SITE_HEADER};
use bus::{Bus, Headers, Kind, Subject};
use bytes::Bytes;
use clap::Args;
use handlers::metrics::Times;
use handlers::stream::{Open, Pace, State};
use serde::Serialize;
use serde_json::Value;

use crate::cli::talk::{open_stream, wait_for_end};
use crate::context::{Context, Site};
use crate::monitor::{LinkBytes, link_bytes};
use crate::node::report::Report;
use crate::node::{client, stop_signal};
use crate::tree::{DEMO_SITES, Plan, Tree, site_dir};
use crate::upload::{self, Package, StockCli};

const APP: &str = "doorcam";
const STREAM: &str = "front";
const ROOT: &str = "cloud";
const REGION: &str = "cloud.east";
const WRITER: &str = "cloud.east.cell1";
const READER: &str = "cloud.east.cell2";
/// How long everything may take to arrive everywhere once the stream has ended.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
/// What survives from one run to the next: what was compiled.
const KEPT: [&str; 2] = ["kernels", "code"];

#[derive(Args)]
pub struct Options {
    /// The video to feed
    #[arg(long, default_value = ".tools/clips/bigbuckbunny.mp4")]
    video: PathBuf,
    /// The app's manifest
    #[arg(long, default_value = "examples/doorcam/app.toml")]
    app: PathBuf,
    /// Where the results go
    #[arg(long, default_value = "out")]
    out: PathBuf,
    /// Where the tree lives while the demo runs
    #[arg(long, default_value = ".edgescale/demo")]
    work: PathBuf,
}

/// What the demo saw and measured.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub video: String,
    pub width: u32,
    pub height: u32,
    /// From the start of the command until every node answered and heard its parent.
    pub tree_up_ms: u64,
    /// From the start of the command until a handler had handled the first frame.
    pub first_frame_ms: u64,
    pub total_ms: u64,
    pub registered_by: String,
    /// What the root answered to a broken manifest.
    pub broken_manifest: String,
    pub frames: u64,
    pub handled: u64,
    pub errors: u64,
    pub events: u64,
    pub rows_at_root: u64,
    /// Frames by the device that worked on them.
    pub devices: BTreeMap<String, u64>,
    pub sites: Vec<SiteSummary>,
    /// Durations at the site of the stream.
    pub stages: BTreeMap<String, Times>,
    pub call: CallSummary,
    pub on_demand: ReadSummary,
    pub outputs: Vec<PathBuf>,
}

/// One site of the tree.
#[derive(Debug, Serialize)]
pub struct SiteSummary {
    pub site: String,
    pub class: String,
    /// Invocations by handler.
    pub invocations: BTreeMap<String, u64>,
    /// The handlers whose code came here.
    pub code: Vec<String>,
    /// Bytes over the link to the parent.
    pub link: Option<LinkBytes>,
    pub rss_bytes: u64,
}

/// The call that no handler at its site could answer.
#[derive(Debug, Serialize)]
pub struct CallSummary {
    pub asked_at: String,
    pub answered_by: String,
    pub route: String,
    pub took_us: u64,
    pub body: Value,
}

/// The read at a site that never saw the table.
#[derive(Debug, Serialize)]
pub struct ReadSummary {
    pub site: String,
    pub rows: u64,
    pub took_us: u64,
}

/// Runs the demo and prints what it saw.
pub async fn run(options: Options, tools: &Path, json: bool) -> Result<()> {
    let summary = tokio::select! {
        summary = road(&options, tools) => summary?,
        () = stop_signal() => bail!("interrupted; everything that was started is stopped"),
    };
    match json {
        true => println!("{}", serde_json::to_string_pretty(&summary)?),
        false => print!("{}", print::text(&summary)),
    }
    Ok(())
}

async fn road(options: &Options, tools: &Path) -> Result<Summary> {
    let began = Instant::now();
    let video = &options.video;
    ensure!(video.is_file(), "no video at {}; name one with --video", video.display());
    let package = upload::package(&options.app)?;
    let work = std::path::absolute(&options.work)?;
    wipe(&work)?;
    let plan = Plan {
        sites: DEMO_SITES.map(|site| site.parse()).into_iter().collect::<Result<_, _>>()?,
        dir: work,
        tools: std::path::absolute(tools)?,
        node_binary: std::env::current_exe()?,
        links: Default::default(),
    };
    let mut tree = Tree::start(&plan).await?;
    let tree_up_ms = began.elapsed().as_millis() as u64;
    say(began, &format!("the tree is up: {}", DEMO_SITES.join(", ")));
    let buses = Buses::connect(&tree.context()).await?;
    let (registered_by, broken_manifest) = register(&buses, &package, tools).await?;
    say(began, &format!("app {APP} is registered by {registered_by}"));
    let opened = began.elapsed();
    let source = std::path::absolute(video)?.display().to_string();
    let open = Open { stream: STREAM.into(), source, pace: Pace::Realtime };
    let stream = open_stream(&buses.writer, APP, &open).await?;
    say(began, &format!("stream {STREAM} is open at {WRITER}"));
    let stream = wait_for_end(&buses.writer, APP, &stream.id).await?;
    if stream.state == State::Failed {
        bail!("the stream failed: {}", stream.reason.unwrap_or_default());
    }
    say(began, &format!("{} frames handled, {} errors", stream.handled, stream.errors));
    let rows_at_root = settle(&buses, stream.handled).await?;
    say(began, "rows and events have reached the ancestors");
    let call = call_summary(&buses.reader).await?;
    let (on_demand, rows) = read_on_demand(&buses.reader).await?;
    let outputs = write_outputs(&buses, &rows, &options.out).await?;
    say(began, &format!("results are in {}", options.out.display()));
    let sites = buses.sites().await?;
    let report = client::report(&buses.writer).await?;
    let counts = &report.metrics.counts;
    let devices = counts
        .iter()
        .filter_map(|(name, count)| Some((name.strip_prefix("frames on ")?.to_owned(), *count)));
    let first_frame_ms = opened.as_millis() as u64 + stream.first_frame_ms.unwrap_or(0);
    let summary = Summary {
        video: video.display().to_string(),
        width: stream.width,
        height: stream.height,
        tree_up_ms,
        first_frame_ms,
        total_ms: began.elapsed().as_millis() as u64,
        registered_by,
        broken_manifest,
        frames: stream.frames,
        handled: stream.handled,
        errors: stream.errors,
        events: counts.get("events published").copied().unwrap_or(0),
        rows_at_root,
        devices: devices.collect(),
        sites,
        stages: report.metrics.times,
        call,
        on_demand,
        outputs,
    };
    tree.stop();
    Ok(summary)
}

fn say(began: Instant, text: &str) {
    eprintln!("{:6.2} s  {text}", began.elapsed().as_secs_f64());
}

/// Forgets the last run, but for what was compiled.
fn wipe(work: &Path) -> Result<()> {
    for site in DEMO_SITES {
        let dir = site_dir(work, &site.parse()?);
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_name() != "data" {
                remove(&entry.path())?;
            }
        }
        for entry in std::fs::read_dir(dir.join("data")).into_iter().flatten().flatten() {
            if !KEPT.iter().any(|kept| entry.file_name() == *kept) {
                remove(&entry.path())?;
            }
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = match path.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

/// Connections to the four sites.
struct Buses {
    context: Context,
    root: Bus,
    region: Bus,
    writer: Bus,
    reader: Bus,
}

impl Buses {
    async fn connect(context: &Context) -> Result<Self> {
        let connect = async |name: &str| context.site(Some(name))?.connect().await;
        Ok(Self {
            root: connect(ROOT).await?,
            region: connect(REGION).await?,
            writer: connect(WRITER).await?,
            reader: connect(READER).await?,
            context: context.clone(),
        })
    }

    fn root_site(&self) -> Result<&Site> {
        self.context.site(Some(ROOT))
    }

    async fn sites(&self) -> Result<Vec<SiteSummary>> {
        let mut sites = vec![];
        for (site, bus) in
            self.context.sites.iter().zip([&self.root, &self.region, &self.writer, &self.reader])
        {
            let report = client::report(bus).await?;
            sites.push(SiteSummary {
                site: site.path.to_string(),
                class: format!("{:?}", site.class).to_lowercase(),
                invocations: invocations(&report),
                code: code(&report),
                link: link_bytes(&site.monitor)?,
                rss_bytes: report.rss_bytes,
            });
        }
        Ok(sites)
    }
}

fn invocations(report: &Report) -> BTreeMap<String, u64> {
    let counts = report.metrics.counts.iter();
    let named = counts
        .filter_map(|(name, count)| Some((name.strip_prefix("invocations ")?.to_owned(), *count)));
    named.collect()
}

fn code(report: &Report) -> Vec<String> {
    let apps = report.apps.iter();
    let ready = apps.flat_map(|app| {
        let ready = app.handlers.iter().filter(|handler| handler.state == "ready");
        ready.map(|handler| format!("{}/{}", app.name, handler.name))
    });
    ready.collect()
}

/// Registers the app as a user of the stock CLI would, a broken manifest first.
async fn register(buses: &Buses, package: &Package, tools: &Path) -> Result<(String, String)> {
    let broken = format!("{}\n[[handler]]\nname = \"Front Door\"\n", package.manifest);
    let site = buses.root_site()?;
    let (by, refusal) = match StockCli::find(tools) {
        Some(binary) => {
            let cli = StockCli { binary, site };
            for (digest, file) in &package.code {
                cli.put_code(digest, file)?;
            }
            let refusal = cli.apply(&broken)?;
            expect_no_app(&buses.root).await?;
            let answer = cli.apply(&package.manifest)?;
            ensure!(answer.get("error").is_none(), "the manifest was refused: {answer}");
            ("the nats CLI", refusal["error"]["message"].as_str().unwrap_or_default().to_owned())
        }
        None => {
            let registry = bus::Registry::open(&buses.root).await?;
            for (digest, file) in &package.code {
                registry.put_code(digest.as_str(), std::fs::read(file)?.into()).await?;
            }
            let refusal = match upload::apply(&buses.root, &broken).await {
                Err(refusal) => refusal.to_string(),
                Ok(answer) => bail!("a broken manifest was accepted: {answer}"),
            };
            expect_no_app(&buses.root).await?;
            upload::apply(&buses.root, &package.manifest).await?;
            ("edgescale; no nats CLI is installed", refusal)
        }
    };
    ensure!(refusal.contains("line "), "the refusal names no line: {refusal:?}");
    Ok((by.to_owned(), refusal))
}

async fn expect_no_app(bus: &Bus) -> Result<()> {
    let report = client::report(bus).await?;
    ensure!(report.apps.is_empty(), "a broken manifest changed something");
    Ok(())
}

/// Waits until the root has every row and the region every event.
async fn settle(buses: &Buses, rows: u64) -> Result<u64> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let table = handlers::deploy::table_name(APP, "motion");
    let summary = format!("invocations {APP}/summary");
    loop {
        let waiting = client::changes_waiting(&buses.writer).await?
            + client::changes_waiting(&buses.region).await?;
        let region = client::report(&buses.region).await?;
        let writer = client::report(&buses.writer).await?;
        let published = writer.metrics.counts.get("events published").copied().unwrap_or(0);
        let counted = region.metrics.counts.get(&summary).copied().unwrap_or(0);
        if waiting == 0 && counted >= published {
            let at_root = client::rows(&buses.root, &table).await?.len() as u64;
            ensure!(at_root == rows, "{at_root} of {rows} rows are at the root");
            return Ok(at_root);
        }
        if Instant::now() > deadline {
            bail!("{waiting} changes are still on their way; {counted} of {published} events done");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn call_summary(bus: &Bus) -> Result<CallSummary> {
    let subject = Subject::new(Kind::Call, bus.site(), format!("{APP}.summary")).to_string();
    let started = Instant::now();
    let answer = bus.request(&subject, &Headers::new(), "{}", client::TIMEOUT).await?;
    let took_us = started.elapsed().as_micros() as u64;
    let header = |name: &str| answer.headers.get(name).cloned().unwrap_or_default();
    Ok(CallSummary {
        asked_at: bus.site().to_string(),
        answered_by: header(SITE_HEADER),
        route: header(ROUTE_HEADER),
        took_us,
        body: client::json(&answer)?,
    })
}

async fn read_on_demand(bus: &Bus) -> Result<(ReadSummary, Vec<Value>)> {
    let started = Instant::now();
    let rows = client::rows(bus, &handlers::deploy::table_name(APP, "motion")).await?;
    let took_us = started.elapsed().as_micros() as u64;
    let site = bus.site().to_string();
    Ok((ReadSummary { site, rows: rows.len() as u64, took_us }, rows))
}

/// Writes the video of the JPEGs, fetched at the reader from where they lie, and the tables.
async fn write_outputs(buses: &Buses, rows: &[Value], out: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut jpegs: Vec<(i64, Bytes)> = vec![];
    for row in rows {
        let key = row["jpeg"].as_str().context("a row has no JPEG")?;
        let time_us = row["time_us"].as_i64().context("a row has no time")?;
        jpegs.push((time_us, client::blob(&buses.reader, key).await?));
    }
    jpegs.sort_by_key(|(time_us, _)| *time_us);
    let (avi, mp4) = (out.join("motion.avi"), out.join("motion.mp4"));
    let mut written = vec![];
    if !jpegs.is_empty() {
        let (avi_path, mp4_path) = (avi.clone(), mp4.clone());
        let both = tokio::task::spawn_blocking(move || {
            video::write_avi(&avi_path, &jpegs)?;
            video::write_mp4(&mp4_path, &jpegs)
        });
        both.await??;
        written.extend([avi, mp4]);
    }
    for table in ["motion", "motion_minute"] {
        let file = out.join(format!("{table}.parquet"));
        client::export(&buses.root, &handlers::deploy::table_name(APP, table), &file, &|_, _| {})
            .await?;
        written.push(file);
    }
    Ok(written)
}
