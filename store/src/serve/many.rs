//! Rows by their keys, for clients.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::value::{Row, row_to_json};
use crate::{EdgeStore, ReadOptions};

use super::asked::{Format, from_json, rows_of};
use super::{Room, arrow as streams, check_fits, fits};

const OP: &str = "get-many";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    table: String,
    #[serde(default)]
    keys: Vec<Json>,
    #[serde(default)]
    options: ReadOptions,
}

/// The rows in the format that the request names; its keys may have come beside it.
pub async fn answer(
    store: &EdgeStore,
    mut fields: Map<String, Json>,
    keys: Option<Vec<Row>>,
    room: Room,
) -> Result<Bytes> {
    let format = Format::take(OP, &mut fields)?;
    let (asked, keys) = read(fields, keys)?;
    match format {
        Format::Rows => Ok(in_rows(store, asked, &keys).await?.to_string().into()),
        Format::Arrow => in_arrow(store, asked, &keys, room).await,
    }
}

/// The same for who takes JSON only.
pub async fn rows(store: &EdgeStore, mut fields: Map<String, Json>) -> Result<Json> {
    Format::only_rows(OP, &mut fields)?;
    let (asked, keys) = read(fields, None)?;
    in_rows(store, asked, &keys).await
}

fn read(fields: Map<String, Json>, keys: Option<Vec<Row>>) -> Result<(Asked, Vec<Row>)> {
    if keys.is_some() == fields.contains_key("keys") {
        let text = "the request names \"keys\", or they come as Arrow";
        return Err(Error::BadRequest(format!("{OP}: {text}")));
    }
    let asked: Asked = from_json(OP, "", &Json::Object(fields))?;
    let keys = match keys {
        Some(keys) => keys,
        None => rows_of(OP, "keys", &asked.keys)?,
    };
    Ok((asked, keys))
}

async fn in_rows(store: &EdgeStore, asked: Asked, keys: &[Row]) -> Result<Json> {
    let (rows, complete) = store.get_many(&asked.table, keys, asked.options).await?;
    let rows: Vec<Option<Json>> = rows.iter().map(|row| row.as_ref().map(row_to_json)).collect();
    fits(OP, json!({"rows": rows, "complete": complete}))
}

/// The rows that there are, in the order of their keys; which keys have none is in the schema's
/// metadata as `absent`, beside `complete`.
async fn in_arrow(store: &EdgeStore, asked: Asked, keys: &[Row], room: Room) -> Result<Bytes> {
    let (rows, complete) = store.get_many(&asked.table, keys, asked.options).await?;
    let spec = store.table(&asked.table).await?;
    let absent: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].is_none()).collect();
    let found: Vec<Row> = rows.into_iter().flatten().collect();
    let said = [("absent", json!(absent)), ("complete", complete.into())];
    let bytes = streams::of_rows(&spec, &found, streams::metadata(said))?;
    check_fits(OP, bytes.len(), room.bytes).map(|()| bytes)
}
