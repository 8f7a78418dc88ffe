//! A node in memory: tables are maps, events and log lines are kept in the order they came.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, OnceLock};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::*;
use crate::outbound::tests::Told;
use crate::outbound::{self, HostGrant, Refusal};
use crate::settings::Settings;

pub(crate) struct Memory {
    state: Mutex<State>,
    accelerate: accel::EdgeAccelerate,
    /// Where rows go when a test wants the real rules of its tables.
    pub(super) store: OnceLock<store::EdgeStore>,
    /// Who says where hosts are; nobody knows any, unless a test says so.
    pub(super) resolver: OnceLock<Told>,
}

impl Default for Memory {
    fn default() -> Self {
        let config = accel::Config { opencl: false, ..accel::Config::default() };
        let accelerate = accel::EdgeAccelerate::start(config).unwrap();
        let (store, resolver) = (OnceLock::new(), OnceLock::new());
        Self { state: Mutex::default(), accelerate, store, resolver }
    }
}

#[derive(Default)]
pub(super) struct State {
    /// Rows by table and by the text of their id column.
    pub(super) tables: BTreeMap<String, BTreeMap<String, Row>>,
    pub(super) blobs: BTreeMap<String, Bytes>,
    /// Blobs that were let go; they can still be read.
    pub(super) let_go: BTreeSet<String>,
    pub(super) events: Vec<Publication>,
    pub(super) lines: Vec<(Level, String)>,
    pub(super) histories: Vec<String>,
    pub(super) config: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) hosts: Vec<HostGrant>,
    pub(super) refused: Vec<&'static str>,
    /// The column rows are kept by; `id` when nothing is said.
    pub(super) id_column: Option<&'static str>,
}

impl Memory {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A setting of every handler.
    pub(crate) fn set_up(&self, name: &str, value: &str) {
        self.state().config.insert(name.into(), value.into());
    }

    /// Every log line.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.state().lines.iter().map(|(_, line)| line.clone()).collect()
    }

    /// Every log line, one below the other.
    pub(super) fn log_text(&self) -> String {
        self.lines().join("\n")
    }
}

impl State {
    fn id(&self, row: &Row) -> Result<String, HostError> {
        let column = self.id_column.unwrap_or("id");
        let missing = || HostError::Invalid(format!("no column \"{column}\""));
        row.get(column).map(ToString::to_string).ok_or_else(missing)
    }
}

fn to_store(row: Row) -> store::Row {
    store::row_from_json(&Value::Object(row)).expect("an object is a row")
}

fn of_store_row(row: &store::Row) -> Row {
    match store::row_to_json(row) {
        Value::Object(row) => row,
        other => panic!("a row is an object, not {other}"),
    }
}

fn of_store(error: store::Error) -> HostError {
    HostError::Invalid(error.to_string())
}

fn check_grant(table: &str) -> Result<(), HostError> {
    match table {
        "secret" => Err(HostError::Denied("table \"secret\" is not granted".into())),
        "absent" => Err(HostError::NotFound("no table \"absent\"".into())),
        _ if table.contains('/') => Err(HostError::Denied(format!("{table} is not granted"))),
        _ => Ok(()),
    }
}

#[async_trait]
impl Host for Memory {
    async fn store_get(&self, _: &Caller, table: &str, key: Row) -> Result<Option<Row>, HostError> {
        check_grant(table)?;
        let state = self.state();
        let id = state.id(&key)?;
        Ok(state.tables.get(table).and_then(|rows| rows.get(&id)).cloned())
    }

    async fn store_put(&self, _: &Caller, table: &str, rows: Vec<Row>) -> Result<(), HostError> {
        check_grant(table)?;
        if let Some(store) = self.store.get() {
            let rows: Vec<store::Row> = rows.into_iter().map(to_store).collect();
            store.put(table, &rows).await.map_err(of_store)?;
            return Ok(());
        }
        let mut state = self.state();
        let ids = rows.iter().map(|row| state.id(row)).collect::<Result<Vec<_>, _>>()?;
        state.tables.entry(table.to_owned()).or_default().extend(ids.into_iter().zip(rows));
        Ok(())
    }

    async fn store_put_if(
        &self,
        caller: &Caller,
        table: &str,
        key: Row,
        expected: Option<Row>,
        row: Row,
    ) -> Result<bool, HostError> {
        let found = self.store_get(caller, table, key).await?;
        let is_as_expected = match (&found, expected) {
            (None, None) => true,
            (Some(found), Some(expected)) => {
                expected.iter().all(|(name, value)| found.get(name) == Some(value))
            }
            _ => false,
        };
        if is_as_expected {
            self.store_put(caller, table, vec![row]).await?;
        }
        Ok(is_as_expected)
    }

    async fn store_delete(&self, _: &Caller, table: &str, keys: Vec<Row>) -> Result<(), HostError> {
        check_grant(table)?;
        let mut state = self.state();
        for key in keys {
            let id = state.id(&key)?;
            state.tables.entry(table.to_owned()).or_default().remove(&id);
        }
        Ok(())
    }

    async fn store_increment(
        &self,
        _: &Caller,
        table: &str,
        key: Row,
        deltas: Row,
    ) -> Result<(), HostError> {
        check_grant(table)?;
        let mut state = self.state();
        let id = state.id(&key)?;
        let rows = state.tables.entry(table.to_owned()).or_default();
        let row = rows.entry(id).or_insert(key);
        for (column, delta) in deltas {
            let before = row.get(&column).and_then(Value::as_i64).unwrap_or(0);
            row.insert(column, (before + delta.as_i64().unwrap_or(0)).into());
        }
        Ok(())
    }

    async fn store_ask(
        &self,
        caller: &Caller,
        operation: &str,
        request: Row,
    ) -> Result<Value, HostError> {
        let table = request.get("table").and_then(Value::as_str);
        let table = table.ok_or_else(|| HostError::Invalid("no table".into()))?;
        let rows = |name: &str| -> Vec<Row> {
            let rows = request.get(name).and_then(Value::as_array).into_iter().flatten();
            rows.map(|row| row.as_object().unwrap().clone()).collect()
        };
        check_grant(table)?;
        match operation {
            "get-many" => {
                let mut found = vec![];
                for key in rows("keys") {
                    found.push(self.store_get(caller, table, key).await?);
                }
                Ok(json!({ "rows": found }))
            }
            "put" => {
                self.store_put(caller, table, rows("rows")).await?;
                Ok(json!({"ack": {"level": request["level"]}}))
            }
            "increment" => {
                let part = |name: &str| request[name].as_object().unwrap().clone();
                self.store_increment(caller, table, part("key"), part("by")).await?;
                Ok(json!({"ack": {"level": request["level"]}}))
            }
            "delete" => {
                self.store_delete(caller, table, rows("rows")).await?;
                Ok(json!({"ack": {}}))
            }
            "patch" => {
                let mut state = self.state();
                for row in rows("rows") {
                    let id = state.id(&row)?;
                    let rows = state.tables.entry(table.to_owned()).or_default();
                    rows.entry(id).or_default().extend(row);
                }
                Ok(json!({"ack": {}}))
            }
            // One condition, on values or absence, and one row: as the tests have it.
            "commit" => {
                let (condition, new) = (&rows("if")[0], &rows("do")[0]["put"]);
                let part = |of: &Value| of.as_object().unwrap().clone();
                let (key, values) = (part(&condition["key"]), condition.get("values").map(part));
                let put = self.store_put_if(caller, table, key, values, part(new)).await?;
                Ok(if put { json!({"ack": {}}) } else { json!({"conflict": "other values"}) })
            }
            _ => Err(HostError::Invalid(format!("unknown operation {operation:?}"))),
        }
    }

    /// What it calls Arrow are lines of JSON.
    async fn store_arrow(
        &self,
        caller: &Caller,
        operation: &str,
        mut request: Row,
        rows: Option<Bytes>,
    ) -> Result<Bytes, HostError> {
        let invalid = |text: &str| Err(HostError::Invalid(text.to_owned()));
        let in_lines = |rows: Vec<Value>| {
            Ok(rows.iter().map(|row| format!("{row}\n")).collect::<String>().into())
        };
        let given = rows.map(|rows| {
            let lines = rows.split(|b| *b == b'\n').filter(|line| !line.is_empty());
            lines.map(serde_json::from_slice).collect::<Result<Vec<Value>, _>>()
        });
        let Ok(given) = given.transpose() else { return invalid("no rows") };
        match (operation, given) {
            ("scan", None) => {
                let table = request.get("table").and_then(Value::as_str).unwrap_or_default();
                let prefix = request.get("prefix").and_then(Value::as_object).cloned();
                let scan = Scan { prefix: prefix.unwrap_or_default(), ..Scan::default() };
                let mut rows = self.store_scan(caller, table, scan).await?;
                if let Some(columns) = request.get("columns").and_then(Value::as_array) {
                    let is_wanted = |name: &String| columns.iter().any(|column| column == name);
                    rows.iter_mut().for_each(|row| row.retain(|name, _| is_wanted(name)));
                }
                in_lines(rows.into_iter().map(Value::Object).collect())
            }
            ("get-many", keys) => {
                if let Some(keys) = keys {
                    request.insert("keys".into(), keys.into());
                }
                let answer = self.store_ask(caller, operation, request).await?;
                let rows = answer["rows"].as_array().unwrap();
                in_lines(rows.iter().filter(|row| !row.is_null()).cloned().collect())
            }
            ("sql", None) => match request.get("sql").and_then(Value::as_str) {
                Some(question) => {
                    in_lines(vec![self.store_sql(caller, question.to_owned()).await?])
                }
                None => invalid("no question"),
            },
            ("put" | "delete", Some(rows)) => {
                request.insert("rows".into(), rows.into());
                Ok(self.store_ask(caller, operation, request).await?.to_string().into())
            }
            _ => invalid("no such operation in Arrow"),
        }
    }

    async fn store_sql(&self, caller: &Caller, question: String) -> Result<Value, HostError> {
        Ok(json!({"columns": [{"name": "app"}, {"name": "asked"}],
                  "rows": [[caller.target.app, question]]}))
    }

    async fn store_scan(&self, _: &Caller, table: &str, scan: Scan) -> Result<Vec<Row>, HostError> {
        check_grant(table)?;
        if let Some(store) = self.store.get() {
            let prefix = to_store(scan.prefix);
            let scan = store::Scan { prefix, reverse: scan.reverse, ..Default::default() };
            let scanned = store.scan(table, scan).await.map_err(of_store)?;
            return Ok(scanned.rows.iter().map(of_store_row).collect());
        }
        let state = self.state();
        let mut rows: Vec<Row> = state
            .tables
            .get(table)
            .map(|rows| rows.values().cloned().collect())
            .unwrap_or_default();
        if !scan.after.is_empty() {
            let after = state.id(&scan.after)?;
            rows.retain(|row| state.id(row).is_ok_and(|id| id > after));
        }
        rows.retain(|row| scan.prefix.iter().all(|(name, value)| row.get(name) == Some(value)));
        if scan.reverse {
            rows.reverse();
        }
        rows.truncate(scan.limit.unwrap_or(1000) as usize);
        Ok(rows)
    }

    async fn put_blob(&self, _: &Caller, content: Bytes) -> Result<String, HostError> {
        let key = Digest::of(&content).to_string();
        self.state().blobs.insert(key.clone(), content);
        Ok(key)
    }

    async fn put_private_blob(&self, by: &Caller, content: Bytes) -> Result<String, HostError> {
        let (digest, app) = (Digest::of(&content), &by.target.app);
        let mut state = self.state();
        let key = format!("cloud/{digest}.{app}.{:016x}", state.blobs.len());
        state.blobs.insert(key.clone(), content);
        Ok(key)
    }

    async fn let_go(&self, _: &Caller, keys: Vec<String>) -> Result<(), HostError> {
        self.state().let_go.extend(keys);
        Ok(())
    }

    async fn get_blob(&self, _: &Caller, key: &str) -> Result<Option<Bytes>, HostError> {
        let is_key = key.contains("sha256-");
        let missing = || HostError::Invalid(format!("{key:?} is no key of a blob"));
        is_key.then(|| self.state().blobs.get(key).cloned()).ok_or_else(missing)
    }

    async fn get_blob_range(
        &self,
        caller: &Caller,
        key: &str,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, HostError> {
        let blob = self.get_blob(caller, key).await?;
        Ok(blob.map(|blob| {
            let at = |at: u64| (at as usize).min(blob.len());
            blob.slice(at(range.start)..at(range.end))
        }))
    }

    async fn publish(&self, _: &Caller, event: Publication) -> Result<(), HostError> {
        let checked = bus::subject::check_name(&event.subject);
        let checked = checked.and_then(|()| bus::event::check_metadata(&event.metadata));
        checked.map_err(|e| HostError::Invalid(e.to_string()))?;
        self.state().events.push(event);
        Ok(())
    }

    /// Answers with the body; `never` is a callee that does not answer.
    async fn call(&self, _: &Caller, name: &str, body: Bytes) -> Result<Bytes, HostError> {
        if name == "never" {
            std::future::pending::<()>().await;
        }
        Ok(body)
    }

    async fn accelerate(
        &self,
        _: &Caller,
        frame: &accel::Frame,
        pipeline: accel::Pipeline,
        history: Option<&str>,
    ) -> Result<accel::Output, HostError> {
        self.state().histories.extend(history.map(str::to_owned));
        let mut job = accel::Job::new(pipeline, frame.clone());
        job.history = history.map(str::to_owned);
        self.accelerate.run(job).await.map_err(|error| HostError::Invalid(error.to_string()))
    }

    fn log(&self, _: &Caller, level: Level, message: &str) {
        self.state().lines.push((level, message.to_owned()));
    }

    fn settings(&self, _: &Target) -> Result<Arc<Settings>, HostError> {
        let state = self.state();
        let settings = Settings::plain(state.config.clone());
        Ok(Arc::new(settings.with_secrets(state.secrets.clone())))
    }

    async fn connect(&self, caller: &Caller, host: &str, port: u16) -> Result<TcpStream, Refusal> {
        let nobody = Told::default();
        let resolver = self.resolver.get().unwrap_or(&nobody);
        let grants = self.state().hosts.clone();
        outbound::connect(&grants, resolver, host, port, caller.deadline).await
    }

    fn refused(&self, _: &Caller, refusal: &Refusal) {
        self.state().refused.push(refusal.kind());
    }
}

#[tokio::test]
async fn conforms() {
    let memory = Memory::default();
    memory.state().config.insert("greeting".into(), "good morning".into());
    let target = Arc::new(target(Digest::of(b"suite"), CodeKind::Component));
    let deadline = Instant::now() + Duration::from_secs(60);
    let (invocation, settings) = ("i".into(), Arc::default());
    let (trace, by, budget) = Default::default();
    let attempt = 1;
    let caller = Caller { target, invocation, attempt, trace, deadline, settings, by, budget };
    conformance::check(&memory, &caller).await;
}
