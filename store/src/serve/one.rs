//! One row by its key, for clients.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::error::Result;
use crate::value::{Row, row_to_json};
use crate::{EdgeStore, ReadOptions};

use super::asked::{Format, from_json};
use super::{Room, arrow as streams, check_fits};

const OP: &str = "get";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    table: String,
    #[serde(with = "crate::scan::as_json")]
    key: Row,
    #[serde(default)]
    options: ReadOptions,
}

/// The row in the format that the request names.
pub async fn answer(store: &EdgeStore, mut fields: Map<String, Json>, room: Room) -> Result<Bytes> {
    let format = Format::take(OP, &mut fields)?;
    let asked = from_json(OP, "", &Json::Object(fields))?;
    match format {
        Format::Rows => Ok(in_rows(store, asked).await?.to_string().into()),
        Format::Arrow => in_arrow(store, asked, room).await,
    }
}

/// `row`, `version` and `coverage`.
pub async fn in_rows(store: &EdgeStore, asked: Asked) -> Result<Json> {
    let Asked { table, key, options } = asked;
    let (found, coverage) = store.find(&table, &key, options).await?;
    let version = found.as_ref().map(|(_, version)| version.to_string());
    let row = found.as_ref().map(|(row, _)| row_to_json(row));
    Ok(json!({"row": row, "version": version, "coverage": coverage}))
}

/// The row, or none; `version` and `coverage` are in the schema's metadata, as JSON.
async fn in_arrow(store: &EdgeStore, asked: Asked, room: Room) -> Result<Bytes> {
    let Asked { table, key, options } = asked;
    let (found, coverage) = store.find(&table, &key, options).await?;
    let spec = store.table(&table).await?;
    let (rows, versions): (Vec<Row>, Vec<String>) =
        found.into_iter().map(|(row, version)| (row, version.to_string())).unzip();
    let said = [("version", json!(versions.first())), ("coverage", json!(coverage))];
    let bytes = streams::of_rows(&spec, &rows, streams::metadata(said))?;
    check_fits(OP, bytes.len(), room.bytes).map(|()| bytes)
}
