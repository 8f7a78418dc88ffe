//! What a handler may ask of its node: the store, the bus, the accelerators, within its grants.

mod tables;

use std::ops::Range;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use accel::EdgeAccelerate;
use async_trait::async_trait;
use bus::{Kind, RefusalKind, Request, Subject, TierPath};
use bytes::Bytes;
use handlers::deploy::{self, App};
use handlers::execute::{
    Ask, Caller, Host, HostError, LOG_FULL, Level, Publication, Row, Scan, Target,
};
use handlers::logs::About;
use handlers::manifest::Manifest;
use handlers::outbound::{self, Refusal, System};
use handlers::settings::{Secrets, Settings};
use handlers::trace::{Open, Role};
use handlers::trigger::{Streams, Triggers};
use serde_json::Value;
use store::{EdgeStore, SqlAnswer};
use tokio::net::TcpStream;

pub(crate) use self::tables::{
    Table, arrow, ask, decided, delta, json_row, let_go, of_store, put_if, put_private_blob,
    question_of, row, sql, table_of, whole,
};

/// The most rows that one scan of a handler returns.
const SCAN_ROWS_MAX: u32 = 10_000;

/// What stands behind the doors.
pub struct Behind {
    pub store: Arc<EdgeStore>,
    pub accelerate: Arc<EdgeAccelerate>,
    pub triggers: Arc<Triggers>,
    pub secrets: Secrets,
    pub site: TierPath,
}

/// The doors; closed until the node is whole.
#[derive(Default)]
pub struct Doors {
    behind: OnceLock<Behind>,
}

impl Doors {
    /// Opens them, once.
    pub fn open(&self, behind: Behind) {
        let _ = self.behind.set(behind);
    }

    fn behind(&self) -> Result<&Behind, HostError> {
        self.behind.get().ok_or_else(|| HostError::Unavailable("the node is starting".into()))
    }

    fn app(&self, caller: &Caller) -> Result<(&Behind, Arc<App>), HostError> {
        let behind = self.behind()?;
        let name = &caller.target.app;
        let app = behind.triggers.deploy.known(name);
        Ok((behind, app.ok_or_else(|| HostError::NotFound(format!("app {name:?}")))?))
    }

    /// Within what one invocation may ask for.
    fn take(&self, caller: &Caller, ask: Ask) -> Result<(), HostError> {
        caller.take(ask).inspect_err(|_| {
            if let Ok(behind) = self.behind() {
                behind.triggers.metrics.count(&format!("limited {}", ask.limit()), 1);
            }
        })
    }

    /// A table that the handler may touch.
    fn table(&self, caller: &Caller, table: &str) -> Result<(&Behind, Table), HostError> {
        let (behind, app) = self.app(caller)?;
        if app.manifest.tables.iter().any(|own| own.name == table) {
            return Ok((behind, Table::new(deploy::table_name(app.name(), table), table)));
        }
        if app.manifest.grants.tables.iter().any(|granted| granted == table) {
            return Ok((behind, Table::new(granted_table(&app, table), table)));
        }
        let own: Vec<&str> = app.manifest.tables.iter().map(|t| t.name.as_str()).collect();
        let text = match table.contains('/') {
            true => format!("table {table:?} is not in [grants] tables"),
            false => format!("table {table:?} is not in the manifest; there are {own:?}"),
        };
        Err(match table.contains('/') {
            true => HostError::Denied(text),
            false => HostError::NotFound(text),
        })
    }

    /// Answers a question in SQL.
    async fn question(&self, caller: &Caller, question: String) -> Result<SqlAnswer, HostError> {
        let (behind, app) = self.app(caller)?;
        let granted = app.manifest.grants.tables.iter().map(|table| granted_table(&app, table));
        let work = sql(&behind.store, &app.manifest, granted, question);
        behind.in_store(caller, "store sql", "", work).await
    }
}

impl Behind {
    fn span(&self, caller: &Caller, role: Role, name: impl FnOnce() -> String) -> Open {
        self.triggers.tracer.open(&caller.trace, role, name)
    }

    /// Does one thing in the store for a handler, timed; `what` it touches is a table or a blob.
    async fn in_store<T>(
        &self,
        caller: &Caller,
        name: &'static str,
        what: &str,
        work: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, HostError> {
        let mut span = self.span(caller, Role::Internal, || name.to_owned());
        span.note("edgescale.object", what);
        let started = Instant::now();
        let done = work.await;
        self.triggers.metrics.time(name, started.elapsed());
        span.end(&done);
        done
    }
}

/// How many rows an operation of the bus's clients writes; none where it only reads.
fn rows_written(operation: &str, request: &Row) -> Option<usize> {
    let len = |name: &str| request.get(name).and_then(Value::as_array).map(Vec::len);
    match operation {
        "get" | "get-many" | "scan" | "changes" | "table" | "status" => None,
        _ => Some(len("rows").or(len("do")).or(len("keys")).unwrap_or(1)),
    }
}

/// The store's name of a table that an app's grants name.
fn granted_table(app: &App, table: &str) -> String {
    let (owner, name) = table.split_once('/').unwrap_or((app.name(), table));
    deploy::table_name(owner, name)
}

/// The whole name of an event or a function: within the app, or `app/name` of another one that
/// the grants name.
fn full_name(app: &App, name: &str) -> Result<String, HostError> {
    let Some((other, rest)) = name.split_once('/') else {
        return Ok(format!("{}.{name}", app.name()));
    };
    let whole = format!("{other}.{rest}");
    let granted = |pattern: &String| bus::subject::matches(pattern, &whole);
    if other == app.name() || app.manifest.grants.subjects.iter().any(granted) {
        return Ok(whole);
    }
    let text = format!("{name:?} is another app's; write \"{whole}\" under [grants] subjects");
    Err(HostError::Denied(text))
}

#[async_trait]
impl Host for Doors {
    async fn store_get(
        &self,
        caller: &Caller,
        table: &str,
        key: Row,
    ) -> Result<Option<Row>, HostError> {
        let (behind, table) = self.table(caller, table)?;
        let work =
            async { behind.store.get(&table, &row(key)?).await.map_err(|e| table.refused(e)) };
        let found = behind.in_store(caller, "store get", &table, work).await?;
        Ok(found.as_ref().map(json_row))
    }

    async fn store_put(
        &self,
        caller: &Caller,
        table: &str,
        rows: Vec<Row>,
    ) -> Result<(), HostError> {
        let (behind, table) = self.table(caller, table)?;
        self.take(caller, Ask::Rows(rows.len()))?;
        let work = async {
            let rows = rows.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
            behind.store.put(&table, &rows).await.map_err(|e| table.refused(e))
        };
        behind.in_store(caller, "store put", &table, work).await?;
        Ok(())
    }

    async fn store_put_if(
        &self,
        caller: &Caller,
        table: &str,
        key: Row,
        expected: Option<Row>,
        new: Row,
    ) -> Result<bool, HostError> {
        let (behind, table) = self.table(caller, table)?;
        self.take(caller, Ask::Rows(1))?;
        let commit = put_if(key, expected, new)?;
        let work = async { decided(&table, behind.store.commit(&table, &commit).await) };
        behind.in_store(caller, "store commit", &table, work).await
    }

    async fn store_delete(
        &self,
        caller: &Caller,
        table: &str,
        keys: Vec<Row>,
    ) -> Result<(), HostError> {
        let (behind, table) = self.table(caller, table)?;
        self.take(caller, Ask::Rows(keys.len()))?;
        let keys = keys.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
        let work = async { behind.store.delete(&table, &keys).await.map_err(|e| table.refused(e)) };
        behind.in_store(caller, "store delete", &table, work).await.map(|_| ())
    }

    async fn store_increment(
        &self,
        caller: &Caller,
        table: &str,
        key: Row,
        deltas: Row,
    ) -> Result<(), HostError> {
        let (behind, table) = self.table(caller, table)?;
        self.take(caller, Ask::Rows(1))?;
        let work = async {
            let deltas = deltas.into_iter().map(delta).collect::<Result<Vec<_>, _>>()?;
            behind.store.increment(&table, &row(key)?, &deltas).await.map_err(|e| table.refused(e))
        };
        behind.in_store(caller, "store increment", &table, work).await?;
        Ok(())
    }

    async fn store_scan(
        &self,
        caller: &Caller,
        table: &str,
        scan: Scan,
    ) -> Result<Vec<Row>, HostError> {
        let (behind, table) = self.table(caller, table)?;
        let limit = scan.limit.unwrap_or(SCAN_ROWS_MAX).min(SCAN_ROWS_MAX) as usize;
        let (prefix, after, reverse) = (row(scan.prefix)?, row(scan.after)?, scan.reverse);
        let scan = store::Scan { prefix, after, limit: Some(limit), reverse, ..Default::default() };
        let work = async { behind.store.scan(&table, scan).await.map_err(|e| table.refused(e)) };
        whole(behind.in_store(caller, "store scan", &table, work).await?, limit)
    }

    async fn store_ask(
        &self,
        caller: &Caller,
        operation: &str,
        request: Row,
    ) -> Result<Value, HostError> {
        let (behind, table) = self.table(caller, table_of(&request)?)?;
        if let Some(rows) = rows_written(operation, &request) {
            self.take(caller, Ask::Rows(rows))?;
        }
        let work = ask(&behind.store, operation, request, &table);
        behind.in_store(caller, "store ask", &table, work).await
    }

    async fn store_arrow(
        &self,
        caller: &Caller,
        operation: &str,
        request: Row,
        rows: Option<Bytes>,
    ) -> Result<Bytes, HostError> {
        if operation == "sql" {
            let question = question_of(&request, rows.as_ref())?;
            return self.question(caller, question).await?.stream().map_err(of_store);
        }
        let (behind, table) = self.table(caller, table_of(&request)?)?;
        if let Some(rows) = &rows
            && operation != "get-many"
        {
            self.take(caller, Ask::Blob(rows.len()))?;
        }
        let work = arrow(&behind.store, operation, request, rows, &table);
        behind.in_store(caller, "store ask", &table, work).await
    }

    async fn store_sql(&self, caller: &Caller, question: String) -> Result<Value, HostError> {
        self.question(caller, question).await?.json().map_err(of_store)
    }

    async fn put_blob(&self, caller: &Caller, content: Bytes) -> Result<String, HostError> {
        let behind = self.behind()?;
        self.take(caller, Ask::Blob(content.len()))?;
        let work = async { behind.store.put_blob(content).await.map_err(of_store) };
        let key = behind.in_store(caller, "blob put", "", work).await?;
        Ok(key.to_string())
    }

    async fn put_private_blob(&self, caller: &Caller, content: Bytes) -> Result<String, HostError> {
        let behind = self.behind()?;
        self.take(caller, Ask::Blob(content.len()))?;
        let work = put_private_blob(&behind.store, caller, content);
        behind.in_store(caller, "blob put", "", work).await
    }

    async fn let_go(&self, caller: &Caller, keys: Vec<String>) -> Result<(), HostError> {
        let behind = self.behind()?;
        let work = let_go(&behind.store, caller, &keys);
        behind.in_store(caller, "blob let go", "", work).await
    }

    async fn get_blob(&self, caller: &Caller, key: &str) -> Result<Option<Bytes>, HostError> {
        let (behind, found) = (self.behind()?, key.parse().map_err(of_store)?);
        let work = async { behind.store.get_blob(&found).await.map_err(of_store) };
        behind.in_store(caller, "blob get", key, work).await
    }

    async fn get_blob_range(
        &self,
        caller: &Caller,
        key: &str,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, HostError> {
        let (behind, found) = (self.behind()?, key.parse().map_err(of_store)?);
        let work = async {
            let Range { start, end } = range;
            behind.store.get_blob_range(&found, start, end).await.map_err(of_store)
        };
        behind.in_store(caller, "blob get", key, work).await
    }

    async fn publish(&self, caller: &Caller, event: Publication) -> Result<(), HostError> {
        let (behind, app) = self.app(caller)?;
        let name = full_name(&app, &event.subject)?;
        self.take(caller, Ask::Publish(event.body.len()))?;
        let mut sent = bus::Event::new(&name, behind.site.as_str(), event.body)
            .map_err(|e| HostError::Invalid(e.to_string()))?;
        sent.id = event.id;
        sent.content_type = event.content_type;
        let checked = bus::event::check_metadata(&event.metadata);
        checked.map_err(|e| HostError::Invalid(e.to_string()))?;
        sent.headers.extend(event.metadata);
        let span = behind.span(caller, Role::Producer, || format!("publish {name}"));
        span.trace().write(&mut sent.headers);
        let started = Instant::now();
        let stored = behind.triggers.events.publish(&sent).await;
        behind.triggers.metrics.time("publish", started.elapsed());
        span.end(&stored);
        let what = if stored.is_ok() { "events published" } else { "events refused" };
        behind.triggers.metrics.count(what, 1);
        stored.map(|_| ()).map_err(|e| match e {
            bus::Error::Bad(text) => HostError::Invalid(text),
            away => HostError::Unavailable(away.to_string()),
        })
    }

    async fn call(&self, caller: &Caller, name: &str, body: Bytes) -> Result<Bytes, HostError> {
        let (behind, app) = self.app(caller)?;
        let name = full_name(&app, name)?;
        self.take(caller, Ask::Call)?;
        let subject = Subject::checked(Kind::Call, &behind.site, &name)
            .map_err(|e| HostError::Invalid(e.to_string()))?;
        let mut request = Request::new(subject.to_string(), body);
        let left = caller.deadline.saturating_duration_since(Instant::now());
        let left_ms = left.as_millis().to_string();
        request.headers.insert(bus::message::TIMEOUT_HEADER.into(), left_ms);
        let span = behind.span(caller, Role::Internal, || format!("call {name}"));
        span.trace().write(&mut request.headers);
        let streams = Streams { by: Some(Arc::new(caller.clone())), ..Streams::default() };
        let answer = Box::pin(behind.triggers.answer_with(request, streams)).await;
        span.end(&answer);
        answer.map(|response| response.payload).map_err(|refusal| match refusal.kind {
            RefusalKind::BadRequest => HostError::Invalid(refusal.message),
            RefusalKind::NotGranted => HostError::Denied(refusal.message),
            RefusalKind::NotFound | RefusalKind::NoHandler => HostError::NotFound(refusal.message),
            RefusalKind::HandlerFailed | RefusalKind::Internal => {
                HostError::Failed(refusal.message)
            }
            _ => HostError::Unavailable(refusal.message),
        })
    }

    async fn accelerate(
        &self,
        caller: &Caller,
        frame: &accel::Frame,
        pipeline: accel::Pipeline,
        history: Option<&str>,
    ) -> Result<accel::Output, HostError> {
        let (behind, app) = self.app(caller)?;
        check_devices(&app.manifest)?;
        let job = job(caller, frame, pipeline, history);
        let mut span = behind.span(caller, Role::Internal, || "accelerate".into());
        let output = behind.accelerate.run(job).await.map_err(of_accel);
        if let Ok(output) = &output {
            span.note("edgescale.device", output.device.as_str());
            span.note("edgescale.queue_us", output.timing.queue_us);
            span.note("edgescale.compute_us", output.timing.compute_us);
        }
        span.end(&output);
        let output = output?;
        let metrics = &behind.triggers.metrics;
        metrics.count(&format!("frames on {}", output.device), 1);
        let timing = &output.timing;
        let stages = [
            ("queue", timing.queue_us),
            ("copy", timing.copy_us),
            ("compute", timing.compute_us),
            ("host", timing.host_us),
        ];
        for (stage, us) in stages {
            metrics.time_us(&format!("accelerate {stage} {}", output.device), us);
        }
        for (step, us) in &output.steps {
            metrics.time(&format!("op {step}"), Duration::from_micros(*us));
        }
        Ok(output)
    }

    fn log(&self, caller: &Caller, level: Level, message: &str) {
        let Ok(behind) = self.behind() else { return };
        let from = format!("{}/{}", caller.target.app, caller.target.handler);
        behind.triggers.logs.add_about(level.name(), &from, message, About::of(caller));
    }

    fn log_full(&self, caller: &Caller) {
        self.log(caller, Level::Warn, LOG_FULL);
        if let Ok(behind) = self.behind() {
            behind.triggers.metrics.count("logs cut short", 1);
        }
    }

    fn settings(&self, target: &Target) -> Result<Arc<Settings>, HostError> {
        let behind = self.behind()?;
        let Some(app) = behind.triggers.deploy.of(target) else {
            return Ok(Arc::default());
        };
        let Some(handler) = app.manifest.handler(&target.handler) else {
            return Ok(Arc::default());
        };
        behind.secrets.settings(app.name(), handler).map_err(HostError::Unavailable)
    }

    async fn connect(&self, caller: &Caller, host: &str, port: u16) -> Result<TcpStream, Refusal> {
        let Ok((behind, app)) = self.app(caller) else {
            return Err(Refusal::NotGranted { host: host.to_owned(), port });
        };
        let span = behind.span(caller, Role::Client, || format!("connect {host}:{port}"));
        let started = Instant::now();
        let grants = &app.manifest.grants.hosts;
        let done = outbound::connect(grants, &System, host, port, caller.deadline).await;
        behind.triggers.metrics.time("connect outside", started.elapsed());
        span.end(&done);
        done
    }

    fn refused(&self, caller: &Caller, refusal: &Refusal) {
        self.log(caller, Level::Warn, &refusal.to_string());
        if let Ok(behind) = self.behind() {
            behind.triggers.metrics.count(&format!("outside refused, {}", refusal.kind()), 1);
        }
    }
}

/// Refuses what no device is granted to.
pub fn check_devices(manifest: &Manifest) -> Result<(), HostError> {
    if manifest.grants.devices.is_empty() {
        let text = "no device is granted; write devices = [\"cpu\", \"gpu\"] under [grants]";
        return Err(HostError::Denied(text.into()));
    }
    Ok(())
}

/// What a handler wants done with a frame.
pub fn job(
    caller: &Caller,
    frame: &accel::Frame,
    pipeline: accel::Pipeline,
    history: Option<&str>,
) -> accel::Job {
    accel::Job {
        pipeline,
        input: frame.clone(),
        history: history.map(str::to_owned),
        deadline: Some(caller.deadline),
        priority: caller.target.limits.priority,
        tenant: caller.target.app.clone(),
    }
}

pub fn of_accel(error: accel::Error) -> HostError {
    match error {
        accel::Error::Overloaded { .. } => HostError::Unavailable(error.to_string()),
        accel::Error::Invalid(_) => HostError::Invalid(error.to_string()),
        _ => HostError::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
