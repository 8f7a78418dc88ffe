//! What a handler may ask of its node, where there is no node: a store of its own, published
//! events that are only noted, and calls within the app.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use handlers::EdgeExecute;
use handlers::deploy::table_name;
use handlers::execute::{
    Caller, Host, HostError, Input, Invocation, Level, Publication, Request, Row, Scan, Target,
};
use handlers::manifest::Manifest;
use store::EdgeStore;

use crate::node::host::{delta, json_row, of_store, row};

pub struct LocalHost {
    pub manifest: Manifest,
    pub store: EdgeStore,
    pub published: Mutex<Vec<Publication>>,
    pub targets: OnceLock<(Weak<EdgeExecute>, Vec<Arc<Target>>)>,
}

impl LocalHost {
    fn table(&self, table: &str) -> Result<String, HostError> {
        match self.manifest.tables.iter().any(|own| own.name == table) {
            true => Ok(table_name(&self.manifest.app.name, table)),
            false => Err(HostError::NotFound(format!("table {table:?} is not in the manifest"))),
        }
    }
}

#[async_trait]
impl Host for LocalHost {
    async fn store_get(&self, _: &Caller, table: &str, key: Row) -> Result<Option<Row>, HostError> {
        let found = self.store.get(&self.table(table)?, &row(key)?).await.map_err(of_store)?;
        Ok(found.as_ref().map(json_row))
    }

    async fn store_put(&self, _: &Caller, table: &str, rows: Vec<Row>) -> Result<(), HostError> {
        let rows = rows.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
        self.store.put(&self.table(table)?, &rows).await.map(|_| ()).map_err(of_store)
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
        self.store.increment(&table, &row(key)?, &deltas).await.map(|_| ()).map_err(of_store)
    }

    async fn store_scan(&self, _: &Caller, table: &str, scan: Scan) -> Result<Vec<Row>, HostError> {
        let (prefix, limit) = (row(scan.prefix)?, scan.limit.map(|limit| limit as usize));
        let scan = store::Scan { prefix, limit, reverse: scan.reverse, ..Default::default() };
        let found = self.store.scan(&self.table(table)?, scan).await.map_err(of_store)?;
        Ok(found.rows.iter().map(json_row).collect())
    }

    async fn put_blob(&self, _: &Caller, content: Bytes) -> Result<String, HostError> {
        self.store.put_blob(content).await.map(|key| key.to_string()).map_err(of_store)
    }

    async fn get_blob(&self, _: &Caller, key: &str) -> Result<Option<Bytes>, HostError> {
        let key = key.parse().map_err(of_store)?;
        self.store.get_blob(&key).await.map_err(of_store)
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
        };
        let reply = execute.invoke(invocation).await;
        reply.map(|reply| reply.body).map_err(|e| HostError::Failed(e.to_string()))
    }

    async fn accelerate(
        &self,
        _: &Caller,
        _: &accel::Frame,
        _: accel::Pipeline,
        _: &str,
    ) -> Result<accel::Output, HostError> {
        Err(HostError::Unavailable("recorded inputs hold no frames".into()))
    }

    fn log(&self, caller: &Caller, level: Level, message: &str) {
        eprintln!("{:<5} {}: {message}", level.name(), caller.target.handler);
    }

    fn config(&self, caller: &Caller, key: &str) -> Option<String> {
        self.manifest.handler(&caller.target.handler)?.config.get(key).cloned()
    }
}
