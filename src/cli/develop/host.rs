//! What a handler may ask of its node, where there is no node: a store of its own, published
//! events that are only noted, calls within the app, and the CPU for pipelines.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use accel::EdgeAccelerate;
use async_trait::async_trait;
use bytes::Bytes;
use handlers::EdgeExecute;
use handlers::deploy::table_name;
use handlers::execute::{
    Caller, Host, HostError, Input, Invocation, Level, Publication, Request, Row, Scan, Target,
};
use handlers::manifest::Manifest;
use handlers::outbound::{self, Refusal, System};
use handlers::settings::{Secrets, Settings};
use serde_json::Value;
use store::{EdgeStore, SqlAnswer};
use tokio::net::TcpStream;

use crate::node::host::{
    Table, arrow, ask, check_devices, decided, delta, job, json_row, let_go, of_accel, of_store,
    put_if, put_private_blob, question_of, row, sql, table_of, whole,
};

pub struct LocalHost {
    pub manifest: Manifest,
    pub secrets: Secrets,
    pub store: EdgeStore,
    pub published: Mutex<Vec<Publication>>,
    pub targets: OnceLock<(Weak<EdgeExecute>, Vec<Arc<Target>>)>,
    /// Started with the first frame.
    pub accelerate: OnceLock<accel::Result<EdgeAccelerate>>,
}

impl LocalHost {
    fn table(&self, table: &str) -> Result<Table, HostError> {
        match self.manifest.tables.iter().any(|own| own.name == table) {
            true => Ok(Table::new(table_name(&self.manifest.app.name, table), table)),
            false => Err(HostError::NotFound(format!("table {table:?} is not in the manifest"))),
        }
    }

    /// Every device gives the same bytes, so the one that is always there will do.
    fn accelerate(&self) -> Result<&EdgeAccelerate, HostError> {
        let cpu = || accel::Config { opencl: false, ..accel::Config::default() };
        let started = self.accelerate.get_or_init(|| EdgeAccelerate::start(cpu()));
        started.as_ref().map_err(|error| HostError::Unavailable(error.to_string()))
    }

    /// The connection has ended: what was kept of its last frame goes.
    pub fn close(&self, connection: &str) {
        if let Some(Ok(accelerate)) = self.accelerate.get() {
            accelerate.close_history(connection);
        }
    }

    async fn question(&self, question: String) -> Result<SqlAnswer, HostError> {
        sql(&self.store, &self.manifest, std::iter::empty(), question).await
    }
}

#[async_trait]
impl Host for LocalHost {
    async fn store_get(&self, _: &Caller, table: &str, key: Row) -> Result<Option<Row>, HostError> {
        let table = self.table(table)?;
        let found = self.store.get(&table, &row(key)?).await.map_err(|e| table.refused(e))?;
        Ok(found.as_ref().map(json_row))
    }

    async fn store_put(&self, _: &Caller, table: &str, rows: Vec<Row>) -> Result<(), HostError> {
        let rows = rows.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
        let table = self.table(table)?;
        self.store.put(&table, &rows).await.map(|_| ()).map_err(|e| table.refused(e))
    }

    async fn store_put_if(
        &self,
        _: &Caller,
        table: &str,
        key: Row,
        expected: Option<Row>,
        new: Row,
    ) -> Result<bool, HostError> {
        let commit = put_if(key, expected, new)?;
        let table = self.table(table)?;
        decided(&table, self.store.commit(&table, &commit).await)
    }

    async fn store_delete(&self, _: &Caller, table: &str, keys: Vec<Row>) -> Result<(), HostError> {
        let keys = keys.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
        let table = self.table(table)?;
        self.store.delete(&table, &keys).await.map(|_| ()).map_err(|e| table.refused(e))
    }

    async fn store_increment(
        &self,
        _: &Caller,
        table: &str,
        key: Row,
        deltas: Row,
    ) -> Result<(), HostError> {
        let deltas = deltas.into_iter().map(delta).collect::<Result<Vec<_>, _>>()?;
        let table = self.table(table)?;
        let done = self.store.increment(&table, &row(key)?, &deltas).await;
        done.map(|_| ()).map_err(|e| table.refused(e))
    }

    async fn store_scan(&self, _: &Caller, table: &str, scan: Scan) -> Result<Vec<Row>, HostError> {
        let (prefix, after) = (row(scan.prefix)?, row(scan.after)?);
        let (limit, reverse) = (scan.limit.map(|limit| limit as usize), scan.reverse);
        let scan = store::Scan { prefix, after, limit, reverse, ..Default::default() };
        let table = self.table(table)?;
        let found = self.store.scan(&table, scan).await.map_err(|e| table.refused(e))?;
        whole(found, limit.unwrap_or(store::SCAN_ROWS_MAX))
    }

    async fn store_ask(
        &self,
        _: &Caller,
        operation: &str,
        request: Row,
    ) -> Result<Value, HostError> {
        let table = self.table(table_of(&request)?)?;
        ask(&self.store, operation, request, &table).await
    }

    async fn store_arrow(
        &self,
        _: &Caller,
        operation: &str,
        request: Row,
        rows: Option<Bytes>,
    ) -> Result<Bytes, HostError> {
        if operation == "sql" {
            let question = question_of(&request, rows.as_ref())?;
            return self.question(question).await?.stream().map_err(of_store);
        }
        let table = self.table(table_of(&request)?)?;
        arrow(&self.store, operation, request, rows, &table).await
    }

    async fn store_sql(&self, _: &Caller, question: String) -> Result<Value, HostError> {
        self.question(question).await?.json().map_err(of_store)
    }

    async fn put_blob(&self, _: &Caller, content: Bytes) -> Result<String, HostError> {
        self.store.put_blob(content).await.map(|key| key.to_string()).map_err(of_store)
    }

    async fn put_private_blob(&self, by: &Caller, content: Bytes) -> Result<String, HostError> {
        put_private_blob(&self.store, by, content).await
    }

    async fn let_go(&self, caller: &Caller, keys: Vec<String>) -> Result<(), HostError> {
        let_go(&self.store, caller, &keys).await
    }

    async fn get_blob(&self, _: &Caller, key: &str) -> Result<Option<Bytes>, HostError> {
        let key = key.parse().map_err(of_store)?;
        self.store.get_blob(&key).await.map_err(of_store)
    }

    async fn get_blob_range(
        &self,
        _: &Caller,
        key: &str,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, HostError> {
        let key = key.parse().map_err(of_store)?;
        self.store.get_blob_range(&key, range.start, range.end).await.map_err(of_store)
    }

    async fn publish(&self, _: &Caller, event: Publication) -> Result<(), HostError> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        Ok(())
    }

    async fn call(&self, caller: &Caller, name: &str, body: Bytes) -> Result<Bytes, HostError> {
        let missing = || HostError::NotFound(format!("the app answers no calls by {name:?}"));
        let handler = self.manifest.handler_of_call(name).ok_or_else(missing)?;
        let (execute, targets) = self.targets.get().ok_or_else(missing)?;
        let execute = execute.upgrade().ok_or_else(missing)?;
        let target = targets.iter().find(|target| target.handler == handler.name);
        let request = Request {
            id: format!("{}.{name}", caller.invocation),
            name: name.into(),
            content_type: "application/json".into(),
            body,
        };
        let invocation = Invocation {
            target: target.ok_or_else(missing)?.clone(),
            input: Input::Call(request),
            deadline: caller.deadline,
            attempt: 1,
            trace: Default::default(),
            by: Some(Arc::new(caller.clone())),
            outlet: None,
        };
        let reply = execute.invoke(invocation).await;
        reply.map(|reply| reply.body).map_err(|e| HostError::Failed(e.to_string()))
    }

    async fn accelerate(
        &self,
        caller: &Caller,
        frame: &accel::Frame,
        pipeline: accel::Pipeline,
        history: Option<&str>,
    ) -> Result<accel::Output, HostError> {
        check_devices(&self.manifest)?;
        let job = job(caller, frame, pipeline, history);
        self.accelerate()?.run(job).await.map_err(of_accel)
    }

    fn log(&self, caller: &Caller, level: Level, message: &str) {
        eprintln!("{:<5} {}: {message}", level.name(), caller.target.handler);
    }

    fn settings(&self, target: &Target) -> Result<Arc<Settings>, HostError> {
        let Some(handler) = self.manifest.handler(&target.handler) else {
            return Ok(Arc::default());
        };
        self.secrets.settings(&target.app, handler).map_err(HostError::Unavailable)
    }

    async fn connect(&self, caller: &Caller, host: &str, port: u16) -> Result<TcpStream, Refusal> {
        let grants = &self.manifest.grants.hosts;
        outbound::connect(grants, &System, host, port, caller.deadline).await
    }

    fn refused(&self, caller: &Caller, refusal: &Refusal) {
        self.log(caller, Level::Warn, &refusal.to_string());
    }
}
