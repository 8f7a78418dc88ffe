//! `edgescale test`: an app's handlers against recorded inputs, without a tree. A recording is a
//! JSON file under `tests/` of the project, a list of steps; each file begins with empty tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use handlers::deploy::{table_name, table_spec};
use handlers::execute::http::HttpRequest;
use handlers::execute::{
    Code, Config, Connection, Event, Host, Input, Invocation, Reply, Request, Target,
};
use handlers::manifest::{Handler, Manifest, Source};
use handlers::settings::Secrets;
use handlers::{Digest, EdgeExecute};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::EdgeStore;

use super::super::output::Output;
use super::super::video::film::Film;
use super::host::LocalHost;
use crate::node::host::json_row;
use crate::upload::{folder_of, manifest_of, read_manifest};

/// One input, and what is expected of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Name of a call.
    call: Option<String>,
    /// Topic of an event.
    event: Option<String>,
    /// Method and path of a request for one of the app's routes: `GET /things/1?all=1`.
    http: Option<String>,
    /// Name of a stream.
    stream: Option<String>,
    /// The film that comes on it: a file beside the recording, or a URL that FFmpeg reads.
    source: Option<String>,
    /// How many frames it has.
    frames: Option<u64>,
    /// Headers of the request.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// What comes with it, as JSON.
    #[serde(default)]
    data: Value,
    /// What comes with it, as text that is no JSON.
    body: Option<String>,
    /// Status of the answer to a request.
    status: Option<u16>,
    /// The whole answer.
    expect: Option<Value>,
    /// Part of the answer's text.
    contains: Option<String>,
    /// Part of the error that is expected instead.
    error: Option<String>,
    /// What is published, in order.
    published: Option<Vec<Published>>,
    /// Tables as they are afterwards; columns that a row leaves out may hold anything.
    #[serde(default)]
    rows: BTreeMap<String, Vec<Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    subject: String,
    /// Anything, if it is left out.
    data: Option<Value>,
}

#[derive(Serialize)]
struct Outcome {
    file: PathBuf,
    steps: usize,
    took_ms: u64,
    /// The first thing that was not as expected.
    problem: Option<String>,
}

/// Runs every recording; fails when one differs.
pub async fn test(project: &Path, tools: &Path, out: Output) -> Result<ExitCode> {
    let manifest_file = manifest_of(project);
    let (_, manifest) = read_manifest(&manifest_file)?;
    let folder = folder_of(&manifest_file);
    super::warn_of_old_code(project, &manifest_file, folder);
    let mut outcomes = Vec::new();
    for file in recordings(&folder.join("tests"))? {
        let began = Instant::now();
        let ground = Ground::new(&manifest, folder, tools).await?;
        let (steps, problem) = match ground.play(&file).await {
            Ok(steps) => (steps, None),
            Err(e) => (0, Some(format!("{e:#}"))),
        };
        let took_ms = began.elapsed().as_millis() as u64;
        outcomes.push(Outcome { file, steps, took_ms, problem });
    }
    out.show(&outcomes, |outcomes| {
        let line = |one: &Outcome| match &one.problem {
            None => {
                format!("ok      {}, {} steps, {} ms", one.file.display(), one.steps, one.took_ms)
            }
            Some(problem) => format!("FAILED  {}: {problem}", one.file.display()),
        };
        outcomes.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    let failed = outcomes.iter().any(|one| one.problem.is_some());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn recordings(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| {
        format!("no folder {}; put recordings there, tests/NAME.json", folder.display())
    })?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|kind| kind == "json")).collect();
    files.sort();
    if files.is_empty() {
        bail!("{} holds no recordings; write tests/NAME.json", folder.display());
    }
    Ok(files)
}

/// The app, installed over a store of its own.
struct Ground {
    execute: Arc<EdgeExecute>,
    host: Arc<LocalHost>,
    _dir: tempfile::TempDir,
}

impl Ground {
    async fn new(manifest: &Manifest, folder: &Path, tools: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let store = EdgeStore::open(store::Config::new(dir.path().join("store"), "local")).await?;
        for table in &manifest.tables {
            store.create_table(&table_spec(&manifest.app.name, table)).await?;
        }
        let (published, targets, accelerate) = Default::default();
        let (manifest, secrets) = (manifest.clone(), Secrets::new(folder.join("tests/secrets")));
        let own = manifest.clone();
        let host = LocalHost { manifest: own, secrets, store, published, targets, accelerate };
        let host = Arc::new(host);
        let mut config = Config::new(dir.path().join("code"), tools);
        config.worker = Some(crate::node::guest_worker()?);
        let execute = Arc::new(EdgeExecute::start(config, Arc::clone(&host) as Arc<dyn Host>)?);
        let mut all = Vec::new();
        for handler in &manifest.handlers {
            all.push(install(&execute, &manifest, handler, folder).await?);
        }
        let _ = host.targets.set((Arc::downgrade(&execute), all));
        Ok(Self { execute, host, _dir: dir })
    }

    /// Plays a recording; the error is the first thing that differs.
    async fn play(&self, file: &Path) -> Result<usize> {
        let text = std::fs::read(file)?;
        let steps: Vec<Step> = serde_json::from_slice(&text).context("no list of steps")?;
        let beside = file.parent().unwrap_or(Path::new(""));
        for (number, step) in steps.iter().enumerate() {
            let done = self.step(step, number, beside).await;
            done.with_context(|| format!("step {}", number + 1))?;
        }
        Ok(steps.len())
    }

    async fn step(&self, step: &Step, number: usize, beside: &Path) -> Result<()> {
        self.published().clear();
        let manifest = &self.host.manifest;
        let (id, content_type) = (format!("recorded-{number}"), "application/json".to_owned());
        let body: Bytes = step.body.clone().unwrap_or_else(|| step.data.to_string()).into();
        let asked = (&step.call, &step.event, &step.http, &step.stream);
        let (handlers, input): (Vec<&Handler>, Input) = match asked {
            (Some(name), None, None, None) => {
                let name = name.clone();
                let answers = manifest.handler_of_call(&name).into_iter().collect();
                (answers, Input::Call(Request { id, name, content_type, body }))
            }
            (None, Some(subject), None, None) => {
                let takes = |handler: &&Handler| {
                    handler.triggers.iter().any(|trigger| trigger.takes_event(subject))
                };
                let event = Event {
                    id,
                    source: "local".into(),
                    subject: subject.clone(),
                    time: "2026-01-01T00:00:00Z".into(),
                    content_type,
                    body,
                    metadata: vec![],
                };
                (manifest.handlers.iter().filter(takes).collect(), Input::Event(event))
            }
            (None, None, Some(line), None) => {
                let http = http_request(line, step, id, body)?;
                let (handler, http) = matched(manifest, http)?;
                (vec![handler], Input::Http(Box::new(http)))
            }
            (None, None, None, Some(stream)) => {
                self.film(stream, step, id, beside).await?;
                return self.check_effects(step).await;
            }
            _ => bail!("write one of \"call\", \"event\", \"http\" and \"stream\""),
        };
        if handlers.is_empty() {
            bail!("no handler is started by it");
        }
        for handler in handlers {
            self.run(handler, input.clone(), step).await.with_context(|| handler.name.clone())?;
        }
        self.check_effects(step).await
    }

    /// Hands on every frame of a film, one after the other, as they come on a connection.
    async fn film(&self, stream: &str, step: &Step, id: String, beside: &Path) -> Result<()> {
        let handler = self.host.manifest.handler_of_stream(stream);
        let handler = handler.context("no handler is started by it")?;
        let source = step.source.as_deref().context("\"source\" names the film of a stream")?;
        let source = match source.contains("://") {
            true => source.to_owned(),
            false => beside.join(source).display().to_string(),
        };
        let (stream, tier) = (stream.to_owned(), "local".to_owned());
        let connection = Connection { id, stream, tier };
        let (mut film, mut frames) = (Film::open(&source)?, 0);
        while let Some(frame) = film.next().await? {
            let done = self.run(handler, Input::Frame(connection.clone(), frame), step).await;
            done.with_context(|| format!("{}, frame {frames}", handler.name))?;
            frames += 1;
        }
        self.host.close(&connection.id);
        match step.frames {
            Some(wanted) if wanted != frames => bail!("{frames} frames, expected {wanted}"),
            _ => Ok(()),
        }
    }

    async fn run(&self, handler: &Handler, input: Input, step: &Step) -> Result<()> {
        let (_, targets) = self.host.targets.get().context("nothing is installed")?;
        let target = targets.iter().find(|target| target.handler == handler.name);
        let limit = Duration::from_millis(handler.limits.timeout_ms.into());
        let invocation = Invocation {
            target: target.context("is not installed")?.clone(),
            input,
            deadline: Instant::now() + limit,
            attempt: 1,
            trace: Default::default(),
            by: None,
            outlet: None,
        };
        match (self.execute.invoke(invocation).await, &step.error) {
            (Err(e), Some(wanted)) if e.to_string().contains(wanted) => Ok(()),
            (Err(e), Some(wanted)) => bail!("{e}; an error with {wanted:?} was expected"),
            (Err(e), None) => bail!("{}", format!("{e}\n{}", e.backtrace()).trim_end()),
            (Ok(_), Some(wanted)) => bail!("succeeded, an error with {wanted:?} was expected"),
            (Ok(reply), None) => check_answer(&reply, step),
        }
    }

    async fn check_effects(&self, step: &Step) -> Result<()> {
        if let Some(wanted) = &step.published {
            let event = |event: &handlers::execute::Publication| Published {
                subject: event.subject.clone(),
                data: Some(serde_json::from_slice(&event.body).unwrap_or_default()),
            };
            let found: Vec<Published> = self.published().iter().map(event).collect();
            let is_wanted = |(found, wanted): (&Published, &Published)| {
                let is_same = wanted.data.is_none() || wanted.data == found.data;
                wanted.subject == found.subject && is_same
            };
            if found.len() != wanted.len() || !found.iter().zip(wanted).all(is_wanted) {
                bail!("published {found:?}, expected {wanted:?}");
            }
        }
        for (table, wanted) in &step.rows {
            let name = table_name(&self.host.manifest.app.name, table);
            let found = self.host.store.scan(&name, store::Scan::default()).await?;
            let rows: Vec<Value> = found.rows.iter().map(|r| Value::Object(json_row(r))).collect();
            let is_wanted = |(row, wanted): (&Value, &Value)| holds(row, wanted);
            if rows.len() != wanted.len() || !rows.iter().zip(wanted).all(is_wanted) {
                let (rows, wanted) = (Value::from(rows), Value::from(wanted.clone()));
                bail!("table {table} holds {rows}, expected {wanted}");
            }
        }
        Ok(())
    }

    fn published(&self) -> std::sync::MutexGuard<'_, Vec<handlers::execute::Publication>> {
        self.host.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request as its first line and the step have it.
fn http_request(line: &str, step: &Step, id: String, body: Bytes) -> Result<HttpRequest> {
    let (method, target) = line.split_once(' ').context("\"http\" is METHOD /path")?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let empty = step.body.is_none() && step.data.is_null();
    Ok(HttpRequest {
        id,
        method: method.into(),
        path: path.into(),
        query: query.into(),
        headers: step.headers.iter().map(|(n, v)| (n.to_lowercase(), v.clone())).collect(),
        authority: "localhost".into(),
        protocol: "HTTP/1.1".into(),
        client: "127.0.0.1".into(),
        body: if empty { Bytes::new() } else { body },
        ..HttpRequest::default()
    })
}

/// The handler whose route takes the request, which is told what the route made of it.
fn matched(manifest: &Manifest, mut http: HttpRequest) -> Result<(&Handler, HttpRequest)> {
    let Ok(found) = manifest.route(&http.method, &http.path) else {
        bail!("no route takes {} {}", http.method, http.path);
    };
    let handler = found.handler;
    http.take_route(found);
    Ok((handler, http))
}

fn check_answer(reply: &Reply, step: &Step) -> Result<()> {
    let text = String::from_utf8_lossy(&reply.body);
    let status = reply.http.as_ref().map(|head| head.status);
    if step.status.is_some() && step.status != status {
        bail!("answered {status:?}, expected {:?}: {text}", step.status);
    }
    if let Some(part) = &step.contains
        && !text.contains(part.as_str())
    {
        bail!("answered {text:?}, expected {part:?} in it");
    }
    let Some(wanted) = &step.expect else { return Ok(()) };
    let found = serde_json::from_slice(&reply.body);
    let found = found.unwrap_or_else(|_| Value::String(text.into_owned()));
    if found != *wanted {
        bail!("answered {found}, expected {wanted}");
    }
    Ok(())
}

/// Whether a row holds all that is named of it.
fn holds(row: &Value, wanted: &Value) -> bool {
    let is_held = |(column, value): (&String, &Value)| row.get(column) == Some(value);
    wanted.as_object().is_some_and(|named| named.iter().all(is_held))
}

async fn install(
    execute: &EdgeExecute,
    manifest: &Manifest,
    handler: &Handler,
    folder: &Path,
) -> Result<Arc<Target>> {
    let Source::Path(path) = &handler.source else {
        bail!("handler {:?} names uploaded code; name a file to test it", handler.name);
    };
    let file = folder.join(path);
    let bytes = std::fs::read(&file).with_context(|| {
        format!("the code {} cannot be read; run edgescale build first", file.display())
    })?;
    let digest = Digest::of(&bytes);
    let code = Code { digest: digest.clone(), kind: handler.kind, bytes: bytes.into() };
    execute.install(code).await.with_context(|| file.display().to_string())?;
    Ok(Arc::new(Target {
        app: manifest.app.name.clone(),
        handler: handler.name.clone(),
        revision: 1,
        digest,
        kind: handler.kind,
        entry: handler.entry.clone(),
        limits: handler.limits.clone(),
        app_concurrency: manifest.app.concurrency,
        bindings: handler.bindings.clone(),
    }))
}
