//! What handlers cost by themselves, without a bus: fresh instances, cold starts, many handlers,
//! processes, and guests that have to be stopped. Each line stands beside its goal.
//!
//! What runs is [`EdgeExecute`] as a node has it, over a host that does nothing.

mod fair;
mod host;
pub mod soak;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::bus::After;
use ::handlers::Digest;
use ::handlers::execute::{
    Code, Config, EdgeExecute, Event, Input, Invocation, InvokeError, Request, Target,
    WorkerProgram,
};
use ::handlers::manifest::{CodeKind, Limits};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use self::host::Idle;
use crate::machine::{cpu, load, private_bytes};

/// A handler written out by hand: takes an event and does nothing with it.
const COMPONENT: &str = include_str!("bus/component.wat");
/// A function for the stock Lambda client.
const FUNCTION: &[u8] = b"def handler(event, context):\n    return event\n";
/// What is sent.
const BODY: &[u8] = b"{\"id\":12345678,\"text\":\"a short event, as they are\",\"more\":[1,2]}";
/// How long one invocation may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// So much later another instance is ready where nothing else is at work.
const MAKING: Duration = Duration::from_millis(3);
/// So much later one is on any machine.
const PAUSE: Duration = Duration::from_millis(20);

/// Cold starts of one component.
const COLD_STARTS: usize = 20;
/// Guests that are stopped, and the time that each is given.
const RUNAWAYS: usize = 30;
const RUNAWAY_LIMIT: Duration = Duration::from_millis(50);

/// What is between two events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    /// The next comes at once.
    Nothing,
    /// So long others may work, and the machine is kept awake: what an event itself takes.
    Others(Duration),
    /// So long nothing comes, and the machine may let its cores rest.
    Rest(Duration),
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How long one measurement runs
    #[arg(long, default_value_t = 2_000)]
    pub budget_ms: u64,
    /// Handlers that are loaded, each with code of its own
    #[arg(long, default_value_t = 1_000)]
    pub handlers: usize,
    /// Folder with js.wasm, py.wasm and rust-topics.wasm, as handlers/guests/build.sh makes them
    #[arg(long, default_value = "target/guests")]
    pub guests: PathBuf,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub what: String,
    pub goal: String,
    /// What came out, or why nothing did.
    pub measured: String,
    /// How much of the goal that is: 1 or more reaches it.
    pub reached: Option<f64>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Threads of the machine.
    pub threads: usize,
    /// Processes that wanted to run, on average over the minute before the end.
    pub load: f64,
    pub lines: Vec<Line>,
}

type Result<T> = std::result::Result<T, InvokeError>;

/// The name of a call; none for an event.
type Asks = Option<&'static str>;

/// What is called where any name does.
const ASKS_ALL: Asks = Some("ok");

/// A guest: what made it, and its component, or why there is none.
struct Guest {
    name: &'static str,
    code: std::result::Result<Bytes, String>,
    asks: Asks,
    fresh_goal_us: f64,
    cold_goal_us: f64,
}

/// Measures, with the tools of a folder.
///
/// `program` is this one, for what wants a process of its own.
pub async fn run(options: &Options, tools: &Path, program: Option<&Path>) -> Result<Report> {
    let folder = TempDir::new().map_err(|e| InvokeError::Node(e.to_string()))?;
    let budget = Duration::from_millis(options.budget_ms);
    let bench = Arc::new(Bench::start_with(&folder.path().join("code"), tools, program)?);
    let guests = guests(&options.guests);
    let mut lines = vec![];
    for guest in &guests {
        lines.extend(fresh(&bench, guest, budget).await?);
    }
    lines.push(in_a_worker(&bench, &guests[0], budget).await?);
    lines.extend(made_ahead(&bench, &guests[3], budget).await?);
    for guest in &guests {
        lines.push(cold_start(&folder.path().join("code"), tools, guest).await?);
    }
    lines.extend(many(options.handlers, tools, &folder.path().join("many"), program).await?);
    let at_once = Between::Nothing;
    let warm = "warm invocation of a stock Python Lambda function, p50";
    lines.push(lambda(&bench, tools, budget, warm, None, at_once, 300.0).await?);
    let forked = "Python event in a process forked from a zygote, p50";
    lines.push(lambda(&bench, tools, budget, forked, Some(1), at_once, 1_300.0).await?);
    let (forked, rest) = ("the same after a pause, p50", Between::Rest(PAUSE));
    lines.push(lambda(&bench, tools, budget, forked, Some(1), rest, 1_300.0).await?);
    lines.push(runaway(&bench).await?);
    lines.push(fair::measure(&bench, budget).await?);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    Ok(Report { threads, load: load(), lines })
}

fn guests(folder: &Path) -> [Guest; 4] {
    let built = |file: &str| {
        let path = folder.join(file);
        std::fs::read(&path).map(Bytes::from).map_err(|e| {
            let folder = folder.display();
            format!("{}: {e}; run handlers/guests/build.sh {folder} js py rust", path.display())
        })
    };
    let guest = |name, code, asks, fresh_goal_us, cold_goal_us| Guest {
        name,
        code,
        asks,
        fresh_goal_us,
        cold_goal_us,
    };
    [
        guest("by hand", component(0).map_err(|e| e.to_string()), None, 20.0, 300.0),
        guest("Rust", built("rust-topics.wasm"), Some("echo"), 20.0, 300.0),
        guest("JavaScript", built("js.wasm"), None, 130.0, 1_000.0),
        guest("Python", built("py.wasm"), ASKS_ALL, 1_100.0, 5_000.0),
    ]
}

/// The component by hand, laid out as a compiler does it: a stack below 1 MiB, data of 64 KiB above
/// it, and a function that writes to both. Each number's code is another.
fn component(number: usize) -> std::result::Result<Bytes, wat::Error> {
    let data = "x".repeat(64 << 10);
    let memory = format!("(memory (export \"memory\") 18)\n(data (i32.const 1048576) \"{data}\")");
    let writes = [1_048_000, 1_040_000, 1_048_576, 1_080_000]
        .map(|at| format!("(i32.store (i32.const {at}) (i32.const {number}))"));
    let end = "(i32.const 16)))\n  (core instance";
    let text = COMPONENT.replacen("(memory (export \"memory\") 4)", &memory, 1);
    wat::parse_str(text.replacen(end, &(writes.concat() + end), 1)).map(Bytes::from)
}

/// EdgeExecute over a folder of code.
struct Bench {
    execute: EdgeExecute,
}

impl Bench {
    fn start(cache: &Path, tools: &Path) -> Result<Self> {
        Self::start_with(cache, tools, None)
    }

    /// One that has a program for workers.
    fn start_with(cache: &Path, tools: &Path, program: Option<&Path>) -> Result<Self> {
        // What serves in the end is measured, not what serves meanwhile.
        let mut config = Config { baseline_bytes_min: usize::MAX, ..Config::new(cache, tools) };
        config.worker = program.map(|program| WorkerProgram {
            program: program.to_owned(),
            arguments: vec!["guest-worker".to_owned()],
        });
        let execute = EdgeExecute::start(config, Arc::new(Idle::default()))?;
        Ok(Self { execute })
    }

    async fn install(&self, kind: CodeKind, bytes: Bytes) -> Result<Arc<Target>> {
        let digest = Digest::of(&bytes);
        self.execute.install(Code { digest: digest.clone(), kind, bytes }).await?;
        Ok(target(digest, kind))
    }

    async fn invoke(&self, target: &Arc<Target>, asks: Asks, limit: Duration) -> Result<()> {
        self.ask(target, asks, limit).await.map(drop)
    }

    /// What is left to do when the answer is out.
    async fn ask(&self, target: &Arc<Target>, asks: Asks, limit: Duration) -> Result<After> {
        let deadline = Instant::now() + limit;
        let input = asks.map_or_else(event, call);
        let (target, trace) = (Arc::clone(target), Default::default());
        let (by, outlet) = (None, None);
        let invocation = Invocation { target, input, deadline, attempt: 1, trace, by, outlet };
        self.execute.invoke(invocation).await.map(|reply| reply.after)
    }

    /// Invokes again and again; how long each took, and the CPU time of all. Where some are made
    /// ahead, that is done when an answer is out, as a site does it; else an instance ends before.
    async fn repeat(
        &self,
        target: &Arc<Target>,
        asks: Asks,
        budget: Duration,
        between: Between,
    ) -> Result<(Vec<Duration>, Duration)> {
        self.invoke(target, asks, PATIENCE).await?;
        let process = [std::process::id()];
        let (began, cpu_before, mut times) = (Instant::now(), cpu(&process), vec![]);
        while began.elapsed() < budget {
            between.pass().await;
            let started = Instant::now();
            let after = self.ask(target, asks, PATIENCE).await?;
            let after = (target.limits.ready > 0).then_some(after);
            times.push(started.elapsed());
            after.unwrap_or_default().run().await;
        }
        Ok((times, cpu(&process).saturating_sub(cpu_before)))
    }
}

impl Between {
    async fn pass(self) {
        match self {
            Between::Nothing => {}
            Between::Others(time) => {
                let began = Instant::now();
                while began.elapsed() < time {
                    tokio::task::yield_now().await;
                }
            }
            Between::Rest(time) => tokio::time::sleep(time).await,
        }
    }
}

fn target(digest: Digest, kind: CodeKind) -> Arc<Target> {
    Arc::new(Target {
        app: "bench".into(),
        handler: "h".into(),
        revision: 1,
        digest,
        kind,
        entry: (kind == CodeKind::Python).then(|| "app.handler".into()),
        limits: Limits { memory_mb: 256, timeout_ms: 60_000, ..Limits::default() },
        app_concurrency: None,
        bindings: Default::default(),
    })
}

fn event() -> Input {
    let text = |text: &str| text.to_owned();
    Input::Event(Event {
        id: text("e1"),
        source: text("cloud"),
        subject: text("ok"),
        time: text("2026-01-01T00:00:00Z"),
        content_type: text("application/json"),
        body: Bytes::from_static(BODY),
        metadata: vec![],
    })
}

fn call(name: &str) -> Input {
    let (id, content_type) = ("r1".to_owned(), "application/json".to_owned());
    let body = Bytes::from_static(BODY);
    Input::Call(Request { id, name: name.to_owned(), content_type, body })
}

/// A fresh instance for each event: how long one takes, and how many a core does.
async fn fresh(bench: &Bench, guest: &Guest, budget: Duration) -> Result<Vec<Line>> {
    let what = format!("event in a fresh instance, {}, p50", guest.name);
    let code = match &guest.code {
        Ok(code) => code.clone(),
        Err(why) => return Ok(vec![Line::without(&what, &us_text(guest.fresh_goal_us), why)]),
    };
    let target = bench.install(CodeKind::Component, code).await?;
    let (times, cpu) = bench.repeat(&target, guest.asks, budget, Between::Nothing).await?;
    let per_core = times.len() as f64 / cpu.as_secs_f64();
    let mut lines = vec![Line::at_most(&what, guest.fresh_goal_us, quantile(times, 0.5))];
    if ["by hand", "Rust"].contains(&guest.name) {
        lines.push(Line {
            what: format!("the same, {}, a second of one core", guest.name),
            goal: "70,000".to_owned(),
            measured: format!("{per_core:.0}"),
            reached: Some(per_core / 70_000.0),
        });
    }
    Ok(lines)
}

/// The same in a process of its own, to which the event and the answer go over a socket.
async fn in_a_worker(bench: &Bench, guest: &Guest, budget: Duration) -> Result<Line> {
    let (goal_us, what) = (100.0, "event in a fresh instance in a worker");
    let what = format!("{what}, {}, p50", guest.name);
    let code = match &guest.code {
        Ok(code) => code.clone(),
        Err(why) => return Ok(Line::without(&what, &us_text(goal_us), why)),
    };
    let mut target = bench.install(CodeKind::Component, code).await?;
    let handler = Arc::make_mut(&mut target);
    (handler.handler, handler.limits.own_process) = ("apart".to_owned(), true);
    match bench.repeat(&target, guest.asks, budget, Between::Nothing).await {
        Ok((times, _)) => Ok(Line::at_most(&what, goal_us, quantile(times, 0.5))),
        Err(why) => Ok(Line::without(&what, &us_text(goal_us), &why.to_string())),
    }
}

/// What is left on the way of an event where its instance was made ahead; and after a pause, beside
/// one that makes its own.
async fn made_ahead(bench: &Bench, guest: &Guest, budget: Duration) -> Result<Vec<Line>> {
    let mut lines = vec![];
    let (others, rest) = (Between::Others(MAKING), Between::Rest(PAUSE));
    for (what, between, ready, goal_us) in [
        ("event after others, instance made then", others, 0, guest.fresh_goal_us),
        ("event after others, instance made ahead", others, 2, 400.0),
        ("event after a pause, instance made then", rest, 0, guest.fresh_goal_us),
        ("event after a pause, instance made ahead", rest, 2, 400.0),
    ] {
        let what = format!("{what}, {}, p50", guest.name);
        let code = match &guest.code {
            Ok(code) => code.clone(),
            Err(why) => {
                lines.push(Line::without(&what, &us_text(goal_us), why));
                continue;
            }
        };
        let mut target = bench.install(CodeKind::Component, code).await?;
        let handler = Arc::make_mut(&mut target);
        (handler.handler, handler.limits.ready) = (format!("ready{ready}"), ready);
        bench.execute.keep_ready(vec![Arc::clone(&target)]);
        let (times, _) = bench.repeat(&target, guest.asks, budget, between).await?;
        lines.push(Line::at_most(&what, goal_us, quantile(times, 0.5)));
    }
    bench.execute.keep_ready(vec![]);
    Ok(lines)
}

/// From a node that has the compiled code on disk alone to the first answer.
async fn cold_start(cache: &Path, tools: &Path, guest: &Guest) -> Result<Line> {
    let what = format!("cold start from compiled code on disk, {}, p50", guest.name);
    let code = match &guest.code {
        Ok(code) => code.clone(),
        Err(why) => return Ok(Line::without(&what, &us_text(guest.cold_goal_us), why)),
    };
    let target = target(Digest::of(&code), CodeKind::Component);
    let mut times = vec![];
    for _ in 0..COLD_STARTS {
        let bench = Bench::start(cache, tools)?;
        // The engine's own first instance is not what is measured.
        let other = component(1).map_err(|e| InvokeError::Node(e.to_string()))?;
        let other = bench.install(CodeKind::Component, other).await?;
        bench.invoke(&other, None, PATIENCE).await?;
        let started = Instant::now();
        bench.execute.reinstall(&target.digest, CodeKind::Component).await?;
        bench.invoke(&target, guest.asks, PATIENCE).await?;
        times.push(started.elapsed());
    }
    Ok(Line::at_most(&what, guest.cold_goal_us, quantile(times, 0.5)))
}

/// Many handlers, loaded from compiled code on disk: how long it takes here, and what it takes of a
/// process that has compiled nothing.
async fn many(
    count: usize,
    tools: &Path,
    cache: &Path,
    program: Option<&Path>,
) -> Result<[Line; 2]> {
    let mut digests = vec![];
    let compiling = Bench::start(cache, tools)?;
    for number in 0..count {
        let code = component(number).map_err(|e| InvokeError::Node(e.to_string()))?;
        digests.push(Digest::of(&code));
        compiling.install(CodeKind::Component, code).await?;
    }
    drop(compiling);
    let loaded = load_all(tools, cache, &digests).await?;
    let share = count as f64 / 1_000.0;
    let what = format!("load {count} handlers from compiled code on disk");
    let load = Line::at_most(&what, 250_000.0 * share, loaded.took());
    let (what, goal_mb) = (format!("private memory of {count} handlers"), 80.0 * share);
    let goal = format!("{goal_mb:.0} MB");
    let memory = match program.map(|program| elsewhere(program, cache, &digests)) {
        None => Line::without(&what, &goal, "it wants a process of its own"),
        Some(Err(e)) => Line::without(&what, &goal, &e.to_string()),
        Some(Ok(loaded)) => {
            let mb = loaded.private_bytes as f64 / 1e6;
            let measured = format!("{mb:.0} MB");
            Line { what, goal, measured, reached: Some(goal_mb / mb.max(0.001)) }
        }
    };
    Ok([load, memory])
}

/// What it took to load handlers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Loaded {
    pub took_us: u64,
    pub private_bytes: u64,
}

impl Loaded {
    fn took(self) -> Duration {
        Duration::from_micros(self.took_us)
    }
}

/// Loads handlers whose compiled code is in a folder.
pub async fn load_all(tools: &Path, cache: &Path, digests: &[Digest]) -> Result<Loaded> {
    let bench = Bench::start(cache, tools)?;
    let (before, started) = (private_bytes(), Instant::now());
    for digest in digests {
        bench.execute.reinstall(digest, CodeKind::Component).await?;
    }
    let took_us = started.elapsed().as_micros() as u64;
    Ok(Loaded { took_us, private_bytes: private_bytes().saturating_sub(before) })
}

/// The same in another process: `program bench load FOLDER`, told the digests on its stdin.
fn elsewhere(program: &Path, cache: &Path, digests: &[Digest]) -> std::io::Result<Loaded> {
    let mut command = Command::new(program);
    command.args(["bench", "load"]).arg(cache).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(stdin) = child.stdin.take() {
        serde_json::to_writer(stdin, digests)?;
    }
    Ok(serde_json::from_slice(&child.wait_with_output()?.stdout)?)
}

/// Processes of the stock Lambda client, each of which serves `reuse` events.
async fn lambda(
    bench: &Bench,
    tools: &Path,
    budget: Duration,
    what: &str,
    reuse: Option<u32>,
    between: Between,
    goal_us: f64,
) -> Result<Line> {
    if !tools.join("py/awslambdaric").exists() {
        let why = format!("no awslambdaric in {}; run ./tools.sh", tools.display());
        return Ok(Line::without(what, &us_text(goal_us), &why));
    }
    let mut target = bench.install(CodeKind::Python, Bytes::from_static(FUNCTION)).await?;
    let process = Arc::make_mut(&mut target);
    process.limits.reuse = reuse;
    // A handler of its own has processes of its own.
    process.handler = format!("h{}", reuse.unwrap_or_default());
    let (times, _) = bench.repeat(&target, ASKS_ALL, budget, between).await?;
    Ok(Line::at_most(what, goal_us, quantile(times, 0.5)))
}

/// A component whose calls never end.
fn endless() -> Result<Bytes> {
    let endless = COMPONENT.replacen("(if (i32.eq", "(loop $e (br $e))\n      (if (i32.eq", 1);
    let code = wat::parse_str(endless).map_err(|e| InvokeError::Node(e.to_string()))?;
    Ok(code.into())
}

/// Guests that never end: how long after its deadline one is gone.
async fn runaway(bench: &Bench) -> Result<Line> {
    let target = bench.install(CodeKind::Component, endless()?).await?;
    let mut late = vec![];
    for _ in 0..RUNAWAYS {
        let started = Instant::now();
        match bench.invoke(&target, ASKS_ALL, RUNAWAY_LIMIT).await {
            Err(InvokeError::Timeout { .. }) => late.push(started.elapsed() - RUNAWAY_LIMIT),
            other => return Err(InvokeError::Node(format!("a runaway guest: {other:?}"))),
        }
    }
    let what = "a runaway guest is stopped after its deadline, p50";
    Ok(Line::at_most(what, 2_000.0, quantile(late, 0.5)))
}

fn quantile(mut times: Vec<Duration>, share: f64) -> Duration {
    times.sort_unstable();
    times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default()
}

fn us_text(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.1} µs"),
        us => format!("{:.2} ms", us / 1e3),
    }
}

impl Line {
    fn at_most(what: &str, goal_us: f64, took: Duration) -> Self {
        let us = took.as_nanos() as f64 / 1e3;
        Self {
            what: what.to_owned(),
            goal: us_text(goal_us),
            measured: us_text(us),
            reached: Some(goal_us / us.max(0.001)),
        }
    }

    fn without(what: &str, goal: &str, why: &str) -> Self {
        let measured = format!("not measured: {why}");
        Self { what: what.to_owned(), goal: goal.to_owned(), measured, reached: None }
    }
}

/// The report as a table.
pub fn table(report: &Report) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["what", "goal", "measured", "of the goal"]);
    for line in &report.lines {
        let reached = line.reached.map_or(String::new(), |share| format!("{share:.2} ×"));
        table.add_row([&line.what, &line.goal, &line.measured, &reached]);
    }
    format!("{} threads, load {:.1}\n\n{table}", report.threads, report.load)
}

#[cfg(test)]
mod tests;
