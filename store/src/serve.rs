//! Requests that come in for this site: from other stores, and from clients in JSON, so that any
//! NATS client can read and write tables.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use crate::error::{Error, Result};
use crate::scan::Scan;
use crate::spec::TableSpec;
use crate::tree::wire::{CHUNK_BYTES, op, seal};
use crate::value::{Row, row_to_json};
use crate::{EdgeStore, ReadOptions};

/// Rows that a scan of a client returns unless it asks for another limit.
const CLIENT_ROWS: usize = 1_000;
/// Rows that a client may ask for at once.
const CLIENT_ROWS_MAX: usize = 10_000;

/// Answers a request; see [`EdgeStore::serve`].
pub async fn serve(store: &EdgeStore, op: &str, from: &str, payload: Bytes) -> Result<Bytes> {
    match op {
        op::UP | op::RANGE | op::FETCH | op::HEADS | op::DESCRIBE | op::BLOB => {
            let Some(tree) = store.inner.tree.get() else {
                return Ok(seal(Err(Error::Busy(format!("site {:?}", store.site())))));
            };
            Ok(seal(tree.answer(op, from, &payload).await))
        }
        _ => {
            let answer = client(store, op, &payload).await?;
            Ok(answer.to_string().into())
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    table: String,
    #[serde(with = "crate::scan::as_json")]
    key: Row,
    #[serde(default)]
    options: ReadOptions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    table: String,
    rows: Vec<Json>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Increment {
    table: String,
    #[serde(with = "crate::scan::as_json")]
    key: Row,
    by: std::collections::BTreeMap<String, i64>,
}

async fn client(store: &EdgeStore, op: &str, payload: &[u8]) -> Result<Json> {
    match op {
        "get" => {
            let Get { table, key, options } = parse(op, payload)?;
            let (row, coverage) = store.get_with(&table, &key, options).await?;
            Ok(json!({"row": row.as_ref().map(row_to_json), "coverage": coverage}))
        }
        "scan" => scan(store, payload).await,
        "put" | "patch" | "delete" | "discard" => {
            let Rows { table, rows } = parse(op, payload)?;
            let rows = rows.iter().map(crate::row_from_json).collect::<Result<Vec<Row>>>()?;
            let ack = match op {
                "put" => store.put(&table, &rows).await?,
                "patch" => store.patch(&table, &rows).await?,
                "delete" => store.delete(&table, &rows).await?,
                _ => store.discard(&table, &rows).await?,
            };
            Ok(json!({"ack": ack}))
        }
        "increment" => {
            let Increment { table, key, by } = parse(op, payload)?;
            let deltas: Vec<(String, i64)> = by.into_iter().collect();
            Ok(json!({"ack": store.increment(&table, &key, &deltas).await?}))
        }
        "create" => {
            let spec: TableSpec = parse(op, payload)?;
            store.create_table(&spec).await?;
            Ok(json!({"table": spec.name}))
        }
        "tables" => Ok(json!({"tables": store.tables()})),
        "status" => Ok(json!({"status": store.status()})),
        _ => Err(Error::BadRequest(format!("unknown operation {op:?}"))),
    }
}

/// `{"table":…, "options":…}` and the fields of [`Scan`]. The answer is cut to what fits a
/// message; `next` is then the `after` of the scan that goes on.
async fn scan(store: &EdgeStore, payload: &[u8]) -> Result<Json> {
    let mut fields: serde_json::Map<String, Json> = parse("scan", payload)?;
    let Some(Json::String(table)) = fields.remove("table") else {
        return Err(Error::BadRequest("scan: \"table\" must name a table".into()));
    };
    let options: ReadOptions = match fields.remove("options") {
        Some(options) => from_json("scan", options)?,
        None => ReadOptions::default(),
    };
    let columns = fields.remove("columns");
    let mut scan: Scan = from_json("scan", Json::Object(fields))?;
    let limit = *scan.limit.get_or_insert(CLIENT_ROWS);
    crate::scan::check_limit(limit, CLIENT_ROWS_MAX)?;
    let wanted: Option<Vec<String>> = columns.map(|c| from_json("scan", c)).transpose()?;
    let spec = store.table(&table).await?;
    wanted.iter().flatten().try_for_each(|name| spec.column(name).map(|_| ()))?;
    let scanned = store.scan_with(&table, scan, options).await?;
    let mut rows = Vec::new();
    let mut bytes = 0;
    let mut truncated = scanned.truncated;
    let mut last = None;
    for row in &scanned.rows {
        let mut shown = row.clone();
        shown.retain(|name, _| wanted.as_ref().is_none_or(|w| w.contains(name)));
        let shown = row_to_json(&shown);
        bytes += shown.to_string().len() + 1;
        if bytes > CHUNK_BYTES && !rows.is_empty() {
            truncated = true;
            break;
        }
        rows.push(shown);
        last = Some(row);
    }
    let next = last.filter(|_| truncated).map(|row| row_to_json(&spec.key_part(row)));
    Ok(json!({"rows": rows, "coverage": scanned.coverage, "truncated": truncated, "next": next}))
}

fn parse<T: DeserializeOwned>(op: &str, payload: &[u8]) -> Result<T> {
    let payload = if payload.is_empty() { b"{}" } else { payload };
    serde_json::from_slice(payload).map_err(|e| Error::BadRequest(format!("{op}: {e}")))
}

fn from_json<T: DeserializeOwned>(op: &str, json: Json) -> Result<T> {
    serde_json::from_value(json).map_err(|e| Error::BadRequest(format!("{op}: {e}")))
}
