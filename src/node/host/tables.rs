//! What handlers ask of tables and blobs, in the words of the store.

use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use handlers::deploy::table_name;
use handlers::execute::{Caller, HostError, Row};
use handlers::manifest::Manifest;
use serde_json::{Value, json};
use store::{EdgeStore, SqlAnswer};

use super::SCAN_ROWS_MAX;

/// For how long a blob that its app let go is still read: by whoever began before that.
const BLOBS_KEPT: Duration = Duration::from_millis(bus::message::TIMEOUT_MS_MAX + 60_000);

/// A table as a handler asks for it. It is a text as the store has it.
pub(crate) struct Table {
    stored: String,
    /// What the app calls it.
    named: String,
}

impl Deref for Table {
    type Target = str;

    fn deref(&self) -> &str {
        &self.stored
    }
}

impl Table {
    pub(crate) fn new(stored: String, named: &str) -> Self {
        Table { stored, named: named.to_owned() }
    }

    /// What the store says, with the name that the app knows.
    pub(crate) fn say(&self, text: &str) -> String {
        text.replace(&format!("{:?}", self.stored), &format!("{:?}", self.named))
    }

    /// An error of the store about this table.
    pub(crate) fn refused(&self, error: store::Error) -> HostError {
        of_kind(&error, self.say(&error.to_string()))
    }
}

pub(crate) fn row(row: Row) -> Result<store::Row, HostError> {
    store::row_from_json(&Value::Object(row)).map_err(of_store)
}

pub(crate) fn json_row(row: &store::Row) -> Row {
    match store::row_to_json(row) {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}

/// The table that a request names.
pub(crate) fn table_of(request: &Row) -> Result<&str, HostError> {
    let table = request.get("table").and_then(Value::as_str);
    table.ok_or_else(|| HostError::Invalid("the request names no \"table\"".into()))
}

/// An operation on the rows of a table.
pub(crate) async fn ask(
    store: &EdgeStore,
    operation: &str,
    mut request: Row,
    table: &Table,
) -> Result<Value, HostError> {
    request.insert("table".into(), table.stored.as_str().into());
    match store.ask(operation, request.into()).await {
        Err(unmet @ store::Error::Conflict { .. }) => {
            Ok(json!({ "conflict": table.say(&unmet.to_string()) }))
        }
        answer => answer.map_err(|e| table.refused(e)),
    }
}

/// The same with rows as Arrow IPC streams.
pub(crate) async fn arrow(
    store: &EdgeStore,
    operation: &str,
    mut request: Row,
    rows: Option<Bytes>,
    table: &Table,
) -> Result<Bytes, HostError> {
    match (operation, &rows) {
        ("get" | "get-many" | "scan" | "changes", _) => {
            request.insert("format".into(), "arrow".into());
        }
        ("put" | "patch" | "delete" | "discard" | "restore", Some(_)) => {}
        ("put" | "patch" | "delete" | "discard" | "restore", None) => {
            return Err(HostError::Invalid(format!("{operation} takes its rows as Arrow here")));
        }
        _ => {
            return Err(HostError::Invalid(format!(
                "{operation:?} has no rows as Arrow; there are get, get-many, scan, changes, sql, \
                 put, patch, delete, discard and restore"
            )));
        }
    }
    request.insert("table".into(), table.stored.as_str().into());
    store.request(operation, request, rows).await.map_err(|e| table.refused(e))
}

/// Answers a question in SQL of an app's handler, over the app's tables and those `granted`.
pub(crate) async fn sql(
    store: &EdgeStore,
    manifest: &Manifest,
    granted: impl Iterator<Item = String>,
    question: String,
) -> Result<SqlAnswer, HostError> {
    let app = &manifest.app.name;
    let own = manifest.tables.iter().map(|own| table_name(app, &own.name));
    let sql = store::Sql {
        sql: question,
        app: Some(app.clone()),
        tables: Some(own.chain(granted).collect()),
        limit: Some(SCAN_ROWS_MAX as usize),
        options: store::ReadOptions::default(),
    };
    store.sql(sql).await.map_err(of_store)
}

/// The question of a request for `sql` that has no rows.
pub(crate) fn question_of(request: &Row, rows: Option<&Bytes>) -> Result<String, HostError> {
    let question = request.get("sql").and_then(Value::as_str).filter(|_| request.len() == 1);
    let question = question.filter(|_| rows.is_none()).map(str::to_owned);
    question.ok_or_else(|| HostError::Invalid("the request is {\"sql\": …} and no rows".into()))
}

/// Stores bytes of the caller's app alone.
pub(crate) async fn put_private_blob(
    store: &EdgeStore,
    caller: &Caller,
    content: Bytes,
) -> Result<String, HostError> {
    let key = store.put_private_blob(&caller.target.app, content).await;
    key.map(|key| key.to_string()).map_err(of_store)
}

/// Has blobs of the caller's app removed when nobody reads them any more.
pub(crate) async fn let_go(
    store: &EdgeStore,
    caller: &Caller,
    keys: &[String],
) -> Result<(), HostError> {
    let keys = keys.iter().filter_map(|key| key.parse::<store::BlobKey>().ok());
    let own = keys.filter(|key| key.owner() == Some(&*caller.target.app));
    let own: Vec<store::BlobKey> = own.collect();
    store.remove_blobs_later(&own, BLOBS_KEPT).await.map_err(of_store)
}

pub(crate) fn delta((column, by): (String, Value)) -> Result<(String, i64), HostError> {
    match by.as_i64() {
        Some(by) => Ok((column, by)),
        None => Err(HostError::Invalid(format!("column {column:?} grows by an integer, not {by}"))),
    }
}

/// The rows of a scan for a guest, which is not told of an answer that ends early: it gets so many
/// as it asked for, or all there are, or hears that these are too large.
pub(crate) fn whole(found: store::Scanned, limit: usize) -> Result<Vec<Row>, HostError> {
    match found.truncated && found.rows.len() < limit {
        true => Err(HostError::Invalid(format!(
            "the rows are larger than what one scan may return; ask for {} at most, and go on \
             after the last one",
            found.rows.len()
        ))),
        false => Ok(found.rows.iter().map(json_row).collect()),
    }
}

pub(crate) fn of_store(error: store::Error) -> HostError {
    of_kind(&error, error.to_string())
}

fn of_kind(error: &store::Error, text: String) -> HostError {
    match error {
        store::Error::UnknownTable(_) => HostError::NotFound(text),
        error if error.retryable() => HostError::Unavailable(text),
        store::Error::Corrupt { .. } | store::Error::Stopped(_) => HostError::Failed(text),
        _ => HostError::Invalid(text),
    }
}

pub(crate) fn put_if(
    key: Row,
    expected: Option<Row>,
    new: Row,
) -> Result<store::Commit, HostError> {
    let expect = match expected {
        Some(values) => store::Expect::Values(row(values)?),
        None => store::Expect::Absent,
    };
    let condition = store::Condition { key: row(key)?, expect };
    Ok(store::Commit { conditions: vec![condition], writes: vec![store::Write::Put(row(new)?)] })
}

/// Whether a commit was made: that its condition did not hold is an answer, not a failure.
pub(crate) fn decided(
    table: &Table,
    done: Result<store::Ack, store::Error>,
) -> Result<bool, HostError> {
    match done {
        Ok(_) => Ok(true),
        Err(store::Error::Conflict { .. }) => Ok(false),
        Err(error) => Err(table.refused(error)),
    }
}
