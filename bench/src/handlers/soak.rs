//! Handlers of every kind for minutes on end, well-behaved and not: what must stay flat is the
//! memory, the open files, the threads and the processes, and nothing may be left at the end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::handlers::Digest;
use ::handlers::execute::{InvokeError, Target};
use ::handlers::manifest::CodeKind;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{
    ASKS_ALL, Asks, Bench, COMPONENT, FUNCTION, Guest, PATIENCE, Result, component, guests,
};
use crate::machine::{Held, held};

/// Invocations that are under way at once.
const CLIENTS: usize = 4;
/// How long a runaway may run.
const SHORT: Duration = Duration::from_millis(20);
/// How often code that nobody had before comes and goes.
const CHURN: Duration = Duration::from_millis(250);
/// Parts of the time, of each of which is counted what was held at least.
const WINDOWS: u32 = 10;
/// How often that is looked at in each, at most: what comes and goes is not there every time.
const LOOKS: u32 = 20;
/// How long what ends may take at most when nothing is wanted any more.
const REST: Duration = Duration::from_secs(15);
/// A soak that was shorter says nothing of what grows: caches fill.
const GROWTH_AFTER_S: f64 = 120.0;
/// A Lambda function that ends its process.
const QUITTER: &[u8] = b"import os\ndef handler(event, context):\n    os._exit(3)\n";

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// For how long, in seconds
    #[arg(long, default_value_t = 600)]
    pub seconds: u64,
    /// Folder with js.wasm, py.wasm and rust-topics.wasm, as handlers/guests/build.sh makes them
    #[arg(long, default_value = "target/guests")]
    pub guests: std::path::PathBuf,
}

/// What was held throughout a part of the time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    pub after_s: f64,
    pub invocations: u64,
    pub held: Held,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What ran, and what could not.
    pub parts: Vec<String>,
    pub windows: Vec<Window>,
    /// Before anything was started, and when all had ended.
    pub before: Held,
    pub after: Held,
    /// Instances that lived on when nothing was wanted any more.
    pub instances_left: usize,
    /// Invocations that ended otherwise than they should, and the first of them.
    pub astray: u64,
    pub first: Option<String>,
    /// What is not as it must be.
    pub wrong: Vec<String>,
}

/// How an invocation has to end.
#[derive(Clone, Copy)]
enum Ends {
    Well,
    Trapped,
    OutOfTime,
}

struct Part {
    name: &'static str,
    target: Arc<Target>,
    asks: Asks,
    ends: Ends,
}

#[derive(Default)]
struct Tally {
    done: AtomicU64,
    astray: AtomicU64,
    first: std::sync::OnceLock<String>,
    is_over: AtomicBool,
}

/// Runs everything for the time that is asked for.
///
/// `program` is this one, for components in processes of their own.
pub async fn run(options: &Options, tools: &Path, program: Option<&Path>) -> Result<Report> {
    let folder = TempDir::new().map_err(|e| InvokeError::Node(e.to_string()))?;
    let before = held();
    let bench = Arc::new(Bench::start_with(&folder.path().join("code"), tools, program)?);
    let (parts, mut names) = parts(&bench, options, tools, program.is_some()).await?;
    let ready = parts.iter().map(|part| &part.target).filter(|target| target.limits.ready > 0);
    bench.execute.keep_ready(ready.cloned().collect());
    names.extend(parts.iter().map(|part| part.name.to_owned()));
    let (parts, tally) = (Arc::new(parts), Arc::new(Tally::default()));
    let mut tasks = vec![tokio::spawn(churn(bench.clone(), tally.clone()))];
    for first in 0..CLIENTS {
        let (bench, parts, tally) = (bench.clone(), parts.clone(), tally.clone());
        tasks.push(tokio::spawn(async move {
            for part in parts.iter().cycle().skip(first * parts.len() / CLIENTS) {
                if tally.is_over.load(Ordering::Relaxed) {
                    break;
                }
                tally.note(part.name, part.ends, part.invoke(&bench).await);
            }
        }));
    }
    let (began, length) = (Instant::now(), Duration::from_secs(options.seconds) / WINDOWS);
    let mut windows = vec![];
    for number in 1..=WINDOWS {
        let mut least = held();
        while began.elapsed() < length * number {
            tokio::time::sleep(length / LOOKS).await;
            least = least.least(held());
        }
        let invocations = tally.done.load(Ordering::Relaxed);
        let after_s = began.elapsed().as_secs_f64();
        windows.push(Window { after_s, invocations, held: least });
    }
    tally.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.map_err(|e| InvokeError::Node(e.to_string()))?;
    }
    drop(parts);
    bench.execute.keep_ready(vec![]);
    let rest = REST.min(Duration::from_secs(options.seconds));
    let instances_left = at_rest(rest, || bench.execute.instances(), |left| *left == 0).await;
    drop(bench);
    let is_gone = |now: &Held| now.processes <= before.processes && now.files <= before.files;
    let after = at_rest(rest, held, is_gone).await;
    let (astray, first) = (tally.astray.load(Ordering::Relaxed), tally.first.get().cloned());
    let (parts, wrong) = (names, vec![]);
    let mut report = Report { parts, windows, before, after, instances_left, astray, first, wrong };
    report.wrong = verdict(&report);
    Ok(report)
}

/// Looks until it is so, for a while; what it was last.
async fn at_rest<T>(for_at_most: Duration, look: impl Fn() -> T, is_so: impl Fn(&T) -> bool) -> T {
    let until = Instant::now() + for_at_most;
    loop {
        let found = look();
        if is_so(&found) || Instant::now() >= until {
            return found;
        }
        tokio::time::sleep(CHURN).await;
    }
}

/// What is not as it must be: invocations that went astray, what was left, what grew.
fn verdict(report: &Report) -> Vec<String> {
    let Report { windows, before, after, .. } = report;
    let mut wrong = vec![];
    if report.astray > 0 {
        let first = report.first.as_deref().unwrap_or_default();
        let astray = report.astray;
        wrong
            .push(format!("{astray} invocations ended otherwise than they should; first: {first}"));
    }
    if report.instances_left > 0 {
        wrong.push(format!("{} instances are left", report.instances_left));
    }
    // What a program opens once stays open.
    for (what, before, after, spare) in [
        ("processes", before.processes, after.processes, 0),
        ("files", before.files, after.files, 8),
    ] {
        if after > before + spare {
            wrong.push(format!("{} {what} are left", after - before));
        }
    }
    if windows.last().is_none_or(|last| last.after_s < GROWTH_AFTER_S) {
        return wrong;
    }
    let least = |windows: &[Window]| windows.iter().map(|window| window.held).reduce(Held::least);
    let (early, late) = (windows.len() / 5..windows.len() / 2, windows.len() * 7 / 10..);
    let (Some(early), Some(late)) = (least(&windows[early]), least(&windows[late])) else {
        return wrong;
    };
    let mb = |bytes: u64| bytes as usize >> 20;
    let (memory, was) = (mb(late.anonymous_bytes), mb(early.anonymous_bytes));
    for (what, early, late, spare) in [
        ("MiB of memory", was, memory, 8 + was / 20),
        ("files", early.files, late.files, 3),
        ("threads", early.threads, late.threads, 2),
        ("processes", early.processes, late.processes, 1),
    ] {
        if late > early + spare {
            wrong.push(format!("{what} grow: {early}, later {late}"));
        }
    }
    wrong
}

/// Everything that can run here, and words for what cannot.
async fn parts(
    bench: &Bench,
    options: &Options,
    tools: &Path,
    has_workers: bool,
) -> Result<(Vec<Part>, Vec<String>)> {
    let (mut parts, mut missing) = (vec![], vec![]);
    for Guest { name, code, asks, .. } in guests(&options.guests) {
        match code {
            Ok(code) => {
                let target = bench.install(CodeKind::Component, code).await?;
                parts.push(Part { name, target, asks, ends: Ends::Well });
            }
            Err(why) => missing.push(format!("not {name}: {why}")),
        }
    }
    for (name, body, ends) in [
        ("a trap", "unreachable", Ends::Trapped),
        ("a runaway", "(loop $e (br $e))", Ends::OutOfTime),
    ] {
        let text = COMPONENT.replacen("(if (i32.eq", &format!("{body}\n      (if (i32.eq"), 1);
        let code = wat::parse_str(text).map_err(|e| InvokeError::Node(e.to_string()))?;
        let target = bench.install(CodeKind::Component, code.into()).await?;
        parts.push(Part { name, target, asks: ASKS_ALL, ends });
    }
    let code = component(0).map_err(|e| InvokeError::Node(e.to_string()))?;
    let by_hand = bench.install(CodeKind::Component, code).await?;
    for (name, ready, own_process) in [("one made ahead", 2, false), ("one in a worker", 0, true)] {
        if own_process && !has_workers {
            missing.push("no worker: it wants a program".to_owned());
            continue;
        }
        let mut target = Arc::clone(&by_hand);
        let handler = Arc::make_mut(&mut target);
        (handler.limits.ready, handler.limits.own_process) = (ready, own_process);
        handler.handler = name.to_owned();
        parts.push(Part { name, target, asks: None, ends: Ends::Well });
    }
    if !tools.join("py/awslambdaric").exists() {
        missing.push("no Lambda functions: no awslambdaric; run ./tools.sh".to_owned());
        return Ok((parts, missing));
    }
    for (name, code, reuse, ends) in [
        ("a Lambda function", FUNCTION, None, Ends::Well),
        ("a fork of it for each event", FUNCTION, Some(1), Ends::Well),
        ("one that ends its process", QUITTER, None, Ends::Trapped),
    ] {
        let mut target = bench.install(CodeKind::Python, Bytes::from_static(code)).await?;
        let process = Arc::make_mut(&mut target);
        (process.limits.reuse, process.handler) = (reuse, name.to_owned());
        parts.push(Part { name, target, asks: ASKS_ALL, ends });
    }
    Ok((parts, missing))
}

impl Part {
    async fn invoke(&self, bench: &Bench) -> Result<()> {
        let limit = match self.ends {
            Ends::OutOfTime => SHORT,
            _ => PATIENCE,
        };
        bench.invoke(&self.target, self.asks, limit).await
    }
}

impl Tally {
    fn note(&self, name: &str, ends: Ends, found: Result<()>) {
        self.done.fetch_add(1, Ordering::Relaxed);
        let is_meant = matches!(
            (ends, &found),
            (Ends::Well, Ok(()))
                | (Ends::Trapped, Err(InvokeError::GuestTrap { .. }))
                | (Ends::OutOfTime, Err(InvokeError::Timeout { .. }))
        );
        if !is_meant {
            self.astray.fetch_add(1, Ordering::Relaxed);
            self.first.get_or_init(|| format!("{name}: {found:?}"));
        }
    }
}

/// Code that is installed, runs once, and is removed.
async fn churn(bench: Arc<Bench>, tally: Arc<Tally>) {
    for number in 0.. {
        if tally.is_over.load(Ordering::Relaxed) {
            break;
        }
        tally.note("code that comes and goes", Ends::Well, come_and_go(&bench, number).await);
        tokio::time::sleep(CHURN).await;
    }
}

async fn come_and_go(bench: &Bench, number: usize) -> Result<()> {
    let code = component(number + 1).map_err(|e| InvokeError::Node(e.to_string()))?;
    let digest = Digest::of(&code);
    let target = bench.install(CodeKind::Component, code).await?;
    bench.invoke(&target, None, PATIENCE).await?;
    bench.execute.uninstall(&digest)
}

/// The report as a table.
pub fn table(report: &Report) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    let head = ["after", "invocations", "resident", "anonymous", "files", "threads", "processes"];
    table.set_header(head);
    for Window { after_s, invocations, held } in &report.windows {
        table.add_row([
            format!("{after_s:.0} s"),
            invocations.to_string(),
            format!("{:.0} MB", held.resident_bytes as f64 / 1e6),
            format!("{:.0} MB", held.anonymous_bytes as f64 / 1e6),
            held.files.to_string(),
            held.threads.to_string(),
            held.processes.to_string(),
        ]);
    }
    let verdict = match report.wrong.is_empty() {
        true => "all ended as they should, nothing is left, nothing grows".to_owned(),
        false => report.wrong.join("; "),
    };
    format!("{}\n\n{table}\n\n{verdict}", report.parts.join(", "))
}

#[cfg(test)]
mod tests;
