//! What an instance can reach: the imports of `wit/app.wit`, each a thin step to [`Host`]; WASI
//! with settings as its environment and nothing else in it, no files and no sockets; and the
//! interfaces of stock worlds, a file each beside this one.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use self::bindings::edgescale::app::{bus, config, log, store, types};
use super::limits::MemoryLimit;
use super::model::Model;
use super::outgoing::Outgoing;
use super::output::Output;
use super::{blobstore, config as wasi_config, keyvalue, logging, messaging, topics};
use crate::execute::lines::{Lines, Log};
use crate::execute::{Answered, Caller, Host, HostError, Level, Publication, Row, Scan};

pub(super) use self::bindings::edgescale::app::{accelerate, inputs};

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "imports",
        imports: { default: async | trappable },
        with: {
            "edgescale:app/accelerate.frame": super::super::pictures::Picture,
            "edgescale:app/accelerate.outcome": super::super::pictures::Outcome,
        },
    });
}

/// Everything one instance holds on the host's side.
pub(super) struct Guest {
    pub(super) memory: MemoryLimit,
    pub(super) host: Arc<dyn Host>,
    pub(super) caller: Caller,
    pub(super) table: ResourceTable,
    pub(super) log: Log,
    /// The answer to a call, where it comes as a message of its own.
    pub(super) reply: Option<Answered>,
    /// A permit for each body of `wasi:blobstore` that may be open, where it has asked for one.
    pub(super) bodies: Option<Arc<Semaphore>>,
    /// Bytes of the frames that it has made and still holds.
    pub(super) made_bytes: usize,
    published: u64,
    /// Made when the guest first asks for it: many never do.
    wasi: Option<Wasi>,
    http: WasiHttpCtx,
    /// Made when the guest first sends or takes a request.
    outgoing: Option<Outgoing>,
}

/// WASI, and where its output goes.
struct Wasi {
    ctx: WasiCtx,
    stdout: Lines,
    stderr: Lines,
}

/// A linker that offers every import there is; those of WASI 0.3 where the engine can call them.
pub(super) fn linker(engine: &Engine, model: Model) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    if model == Model::Concurrent {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    bindings::Imports::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    keyvalue::add_to_linker(&mut linker)?;
    wasi_config::add_to_linker(&mut linker)?;
    logging::add_to_linker(&mut linker)?;
    messaging::add_to_linker(&mut linker)?;
    topics::add_to_linker(&mut linker)?;
    blobstore::add_to_linker(&mut linker)?;
    Ok(linker)
}

impl Guest {
    pub(super) fn new(host: Arc<dyn Host>, caller: Caller) -> Self {
        let log = Log::new(Arc::clone(&host), caller.clone());
        Self {
            memory: MemoryLimit::new(caller.target.limits.memory_mb),
            host,
            table: ResourceTable::new(),
            reply: None,
            bodies: None,
            made_bytes: 0,
            published: 0,
            wasi: None,
            http: WasiHttpCtx::new(),
            outgoing: None,
            log,
            caller,
        }
    }

    /// From now on it works for another invocation.
    pub(super) fn turn_to(&mut self, caller: Caller) {
        self.log.turn_to(caller.clone());
        self.wasi.iter().for_each(|wasi| wasi.stderr.forget());
        self.published = 0;
        self.outgoing = None;
        self.caller = caller;
    }

    /// From now on it works for another invocation as well, beside those that it works for.
    pub(super) fn receive(&mut self, caller: Caller) {
        let deadline = self.caller.deadline.max(caller.deadline);
        self.caller.deadline = deadline;
        self.caller.budget = caller.budget;
        self.log.turn_to(self.caller.clone());
        self.outgoing = None;
    }

    /// Id of the next event that this invocation publishes.
    pub(super) fn next_publication(&mut self) -> String {
        self.published += 1;
        self.caller.publication_id(self.published - 1)
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(super) fn finish_output(&self) {
        for lines in self.wasi.iter().flat_map(|wasi| [&wasi.stdout, &wasi.stderr]) {
            lines.finish();
        }
    }

    /// What the guest last wrote to stderr, where most languages explain why they give up, and the
    /// stack of its own language.
    pub(super) fn last_words(&self) -> (String, String) {
        self.wasi.as_ref().map(|wasi| wasi.stderr.tail_and_stack()).unwrap_or_default()
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (log, settings) = (&self.log, &self.caller.settings);
        let wasi = self.wasi.get_or_insert_with(|| {
            let lines = |level| Lines::new(log.clone(), level);
            let (stdout, stderr) = (lines(Level::Info), lines(Level::Warn));
            let mut ctx = WasiCtx::builder();
            ctx.stdout(Output(stdout.clone())).stderr(Output(stderr.clone()));
            for (name, value) in settings.all() {
                ctx.env(name, value);
            }
            Wasi { ctx: ctx.build(), stdout, stderr }
        });
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let (host, caller) = (&self.host, &self.caller);
        let hooks =
            self.outgoing.get_or_insert_with(|| Outgoing::new(Arc::clone(host), caller.clone()));
        WasiHttpCtxView { hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

/// A trap of the host's making on the outside, the guest's own error inside.
pub(super) type Answer<T> = wasmtime::Result<Result<T, types::Error>>;

impl From<HostError> for types::Error {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Denied(text) | HostError::TooMuch(text) => Self::Denied(text),
            HostError::NotFound(text) => Self::NotFound(text),
            HostError::Invalid(text) => Self::Invalid(text),
            HostError::Unavailable(text) => Self::Unavailable(text),
            HostError::Failed(text) => Self::Failed(text),
        }
    }
}

pub(super) fn answer<T>(result: Result<T, HostError>) -> Answer<T> {
    Ok(result.map_err(Into::into))
}

fn parse_row(what: &str, text: &str) -> Result<Row, HostError> {
    serde_json::from_str(text)
        .map_err(|error| HostError::Invalid(format!("{what} is no JSON object: {error}")))
}

fn row_text(row: Row) -> String {
    Value::Object(row).to_string()
}

const LEVELS: [(store::Level, &str); 4] = [
    (store::Level::Memory, "memory"),
    (store::Level::LocalSync, "local-sync"),
    (store::Level::Parent, "parent"),
    (store::Level::Root, "root"),
];

fn level_name(level: store::Level) -> &'static str {
    LEVELS.iter().find(|(of, _)| *of == level).map_or("", |(_, name)| name)
}

/// Makes a write; how far it has got.
async fn acknowledged(
    host: &dyn Host,
    caller: &Caller,
    write: &str,
    request: Value,
) -> Result<store::Level, HostError> {
    let Value::Object(request) = request else {
        return Err(HostError::Invalid("the request is no object".into()));
    };
    let answer = host.store_ask(caller, write, request).await?;
    let reached = &answer["ack"]["level"];
    let level = LEVELS.iter().find(|(_, name)| reached == name);
    let unknown = || HostError::Failed(format!("a write got as far as {reached}"));
    level.map(|(level, _)| *level).ok_or_else(unknown)
}

impl types::Host for Guest {}
impl inputs::Host for Guest {}

impl store::Host for Guest {
    async fn get(&mut self, table: String, key: String) -> Answer<Option<String>> {
        let row = async {
            let key = parse_row("key", &key)?;
            self.host.store_get(&self.caller, &table, key).await
        };
        answer(row.await.map(|row| row.map(row_text)))
    }

    async fn put(&mut self, table: String, row: String) -> Answer<()> {
        answer(match parse_row("row", &row) {
            Ok(row) => self.host.store_put(&self.caller, &table, vec![row]).await,
            Err(error) => Err(error),
        })
    }

    async fn increment(&mut self, table: String, key: String, deltas: String) -> Answer<()> {
        let done = async {
            let (key, deltas) = (parse_row("key", &key)?, parse_row("deltas", &deltas)?);
            self.host.store_increment(&self.caller, &table, key, deltas).await
        };
        answer(done.await)
    }

    async fn patch(&mut self, table: String, row: String) -> Answer<()> {
        let done = async {
            let rows = vec![Value::Object(parse_row("row", &row)?)];
            let request = [("table".into(), table.into()), ("rows".into(), rows.into())];
            self.host.store_ask(&self.caller, "patch", request.into_iter().collect()).await
        };
        answer(done.await.map(drop))
    }

    async fn delete(&mut self, table: String, keys: Vec<String>) -> Answer<()> {
        let done = async {
            let keys = keys.iter().map(|key| parse_row("key", key)).collect::<Result<_, _>>()?;
            self.host.store_delete(&self.caller, &table, keys).await
        };
        answer(done.await)
    }

    async fn put_if(
        &mut self,
        table: String,
        key: String,
        expected: Option<String>,
        row: String,
    ) -> Answer<bool> {
        let done = async {
            let (key, row) = (parse_row("key", &key)?, parse_row("row", &row)?);
            let expected = expected.map(|text| parse_row("expected", &text)).transpose()?;
            self.host.store_put_if(&self.caller, &table, key, expected, row).await
        };
        answer(done.await)
    }

    async fn ask(&mut self, operation: String, request: String) -> Answer<String> {
        let done = async {
            let request = parse_row("request", &request)?;
            self.host.store_ask(&self.caller, &operation, request).await
        };
        answer(done.await.map(|answer| answer.to_string()))
    }

    async fn ask_arrow(
        &mut self,
        operation: String,
        request: String,
        rows: Option<Vec<u8>>,
    ) -> Answer<Vec<u8>> {
        let done = async {
            let (request, rows) = (parse_row("request", &request)?, rows.map(Bytes::from));
            self.host.store_arrow(&self.caller, &operation, request, rows).await
        };
        answer(done.await.map(Vec::from))
    }

    async fn put_at(
        &mut self,
        table: String,
        rows: Vec<String>,
        level: store::Level,
    ) -> Answer<store::Level> {
        let done = async {
            let rows =
                rows.iter().map(|row| parse_row("row", row)).collect::<Result<Vec<_>, _>>()?;
            let request = json!({"table": table, "rows": rows, "level": level_name(level)});
            acknowledged(&*self.host, &self.caller, "put", request).await
        };
        answer(done.await)
    }

    async fn increment_at(
        &mut self,
        table: String,
        key: String,
        deltas: String,
        level: store::Level,
    ) -> Answer<store::Level> {
        let done = async {
            let (key, by) = (parse_row("key", &key)?, parse_row("deltas", &deltas)?);
            let request = json!({"table": table, "key": key, "by": by, "level": level_name(level)});
            acknowledged(&*self.host, &self.caller, "increment", request).await
        };
        answer(done.await)
    }

    async fn sql(&mut self, question: String) -> Answer<String> {
        let found = self.host.store_sql(&self.caller, question).await;
        answer(found.map(|found| found.to_string()))
    }

    async fn scan(&mut self, table: String, options: store::ScanOptions) -> Answer<Vec<String>> {
        let rows = async {
            let prefix = match &options.prefix {
                Some(text) => parse_row("prefix", text)?,
                None => Row::new(),
            };
            let (limit, reverse) = (options.limit, options.reverse);
            let scan = Scan { prefix, limit, reverse, ..Scan::default() };
            self.host.store_scan(&self.caller, &table, scan).await
        };
        answer(rows.await.map(|rows| rows.into_iter().map(row_text).collect()))
    }

    async fn put_blob(&mut self, content: Vec<u8>) -> Answer<String> {
        answer(self.host.put_blob(&self.caller, content.into()).await)
    }

    async fn get_blob(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        let blob = self.host.get_blob(&self.caller, &key).await;
        answer(blob.map(|blob| blob.map(Vec::from)))
    }

    async fn get_blob_range(
        &mut self,
        key: String,
        start: u64,
        end: u64,
    ) -> Answer<Option<Vec<u8>>> {
        if start > end {
            let text = format!("a range from {start} to before {end}");
            return answer(Err(HostError::Invalid(text)));
        }
        let blob = self.host.get_blob_range(&self.caller, &key, start..end).await;
        answer(blob.map(|blob| blob.map(Vec::from)))
    }
}

impl bus::Host for Guest {
    async fn publish(
        &mut self,
        subject: String,
        content_type: String,
        body: Vec<u8>,
    ) -> Answer<()> {
        let id = self.next_publication();
        let (body, metadata) = (body.into(), vec![]);
        let event = Publication { id, subject, content_type, body, metadata };
        answer(self.host.publish(&self.caller, event).await)
    }

    async fn call(&mut self, name: String, body: Vec<u8>) -> Answer<Vec<u8>> {
        let reply = self.host.call(&self.caller, &name, body.into()).await;
        answer(reply.map(Vec::from))
    }
}

impl log::Host for Guest {
    async fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.log.write(level, &message);
        Ok(())
    }
}

impl config::Host for Guest {
    async fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.caller.settings.get(&key).map(str::to_owned))
    }
}
