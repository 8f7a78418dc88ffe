//! What has changed since a position, for clients.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use arrow::error::ArrowError;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::EdgeStore;
use crate::changes::{Changed, Feed};
use crate::error::{Error, Result};
use crate::link::PAYLOAD_BYTES_MAX;
use crate::spec::TableSpec;
use crate::value::{Row, row_to_json};

use super::asked::{Format, from_json};
use super::{Room, arrow as streams, check_fits, fits};

const OP: &str = "changes";
/// Milliseconds that a client may wait for changes.
const WAIT_MS_MAX: u64 = 5_000;
/// What a change says beside its row: columns of an answer in Arrow, of names that no column of a
/// table has.
const DELETED: &str = "_deleted";
const VERSION: &str = "_version";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    table: String,
    #[serde(default)]
    after: String,
    limit: Option<usize>,
    #[serde(default)]
    wait_ms: u64,
}

/// The changes in the format that the request names.
pub async fn answer(store: &EdgeStore, mut fields: Map<String, Json>, room: Room) -> Result<Bytes> {
    let format = Format::take(OP, &mut fields)?;
    let asked: Asked = from_json(OP, "", &Json::Object(fields))?;
    match format {
        Format::Rows => Ok(in_rows(store, asked).await?.to_string().into()),
        Format::Arrow => in_arrow(store, asked, room).await,
    }
}

/// `changes`, `next`, `complete` and `anew`.
pub async fn in_rows(store: &EdgeStore, asked: Asked) -> Result<Json> {
    let feed = feed(store, &asked, Room::of(PAYLOAD_BYTES_MAX)).await?;
    let changes: Vec<Json> = feed.changes.iter().map(changed).collect();
    let (next, complete, anew) = (feed.next.to_string(), feed.complete, feed.anew);
    fits(OP, json!({"changes": changes, "next": next, "complete": complete, "anew": anew}))
}

/// The rows as they are now; of those that are deleted the key is there and the rest is null.
/// `next`, `complete` and `anew` are in the schema's metadata, as JSON.
async fn in_arrow(store: &EdgeStore, asked: Asked, room: Room) -> Result<Bytes> {
    let feed = feed(store, &asked, room).await?;
    let spec = store.table(&asked.table).await?;
    let said = [
        ("next", json!(feed.next.to_string())),
        ("complete", feed.complete.into()),
        ("anew", feed.anew.into()),
    ];
    let bytes = batch(&spec, feed)
        .and_then(|batch| streams::stream(&batch, streams::metadata(said)))
        .map_err(|e| Error::io("changes as Arrow", std::io::Error::other(e)))?;
    check_fits(OP, bytes.len(), room.bytes).map(|()| bytes)
}

async fn feed(store: &EdgeStore, asked: &Asked, room: Room) -> Result<Feed> {
    let wait = Duration::from_millis(asked.wait_ms.min(WAIT_MS_MAX));
    let limit = room.limit(asked.limit)?;
    store.changes(&asked.table, asked.after.parse()?, limit, wait).await
}

fn changed(changed: &Changed) -> Json {
    let row = changed.now.as_ref().map(|(row, _)| row_to_json(row));
    let version = changed.now.as_ref().map(|(_, version)| version.to_string());
    json!({"key": row_to_json(&changed.key), "row": row, "version": version})
}

fn batch(spec: &TableSpec, feed: Feed) -> Result<RecordBatch, ArrowError> {
    let (rows, versions): (Vec<Row>, Vec<Option<String>>) = feed
        .changes
        .into_iter()
        .map(|Changed { key, now }| match now {
            Some((row, version)) => (row, Some(version.to_string())),
            None => (key, None),
        })
        .unzip();
    let deleted: BooleanArray = versions.iter().map(|version| Some(version.is_none())).collect();
    let (mut fields, mut columns) = streams::columns(spec, &rows);
    fields.push(Field::new(DELETED, DataType::Boolean, false));
    fields.push(Field::new(VERSION, DataType::Utf8, true));
    let beside: [ArrayRef; 2] = [Arc::new(deleted), Arc::new(StringArray::from(versions))];
    columns.extend(beside);
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)
}
