//! Scans of clients: of what they ask for and the key no more is read than that.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::link::PAYLOAD_BYTES_MAX;
use crate::scan::{Coverage, Scan, key_at, key_to_json};
use crate::spec::TableSpec;
use crate::tree::wire::CHUNK_BYTES;
use crate::value::row_to_json;
use crate::{EdgeStore, ReadOptions};

use super::asked::{Format, from_json};
use super::{Room, arrow};

/// Bytes of the rows in memory that are read for an answer in JSON. Few rows take less room there.
const ROWS_BYTES: usize = 2 * CHUNK_BYTES;

/// `{"table":…, "options":…, "format":…}` and the fields of [`Scan`].
struct Asked {
    spec: TableSpec,
    options: ReadOptions,
    /// The columns of the answer, if the request names them.
    columns: Option<Vec<String>>,
    /// With the key among its columns: whoever goes on has to name it.
    scan: Scan,
}

/// The rows in the format that the request names. The answer is cut to what fits; `next` is
/// then the `after` of the scan that goes on.
pub async fn answer(store: &EdgeStore, mut fields: Map<String, Json>, room: Room) -> Result<Bytes> {
    let format = Format::take("scan", &mut fields)?;
    let asked = asked(store, fields, room.in_format(format)).await?;
    match format {
        Format::Rows => Ok(in_rows(store, asked).await?.to_string().into()),
        Format::Arrow => in_arrow(store, asked, room).await,
    }
}

/// The same for who takes JSON only.
pub async fn rows(store: &EdgeStore, mut fields: Map<String, Json>) -> Result<Json> {
    Format::only_rows("scan", &mut fields)?;
    in_rows(store, asked(store, fields, Room::of(PAYLOAD_BYTES_MAX)).await?).await
}

async fn asked(store: &EdgeStore, mut fields: Map<String, Json>, room: Room) -> Result<Asked> {
    let Some(Json::String(table)) = fields.remove("table") else {
        return Err(Error::BadRequest("scan: \"table\" must name a table".into()));
    };
    let options: ReadOptions = match fields.remove("options") {
        Some(options) => from_json("scan", "options", &options)?,
        None => ReadOptions::default(),
    };
    let mut scan: Scan = from_json("scan", "", &Json::Object(fields))?;
    scan.limit = Some(room.limit(scan.limit)?);
    let spec = store.table(&table).await?;
    let columns = scan.columns.take();
    columns.iter().flatten().try_for_each(|name| spec.column(name).map(|_| ()))?;
    scan.columns = columns.as_ref().map(|columns| {
        let lacking = spec.key.iter().filter(|name| !columns.contains(name));
        columns.iter().chain(lacking).cloned().collect()
    });
    Ok(Asked { spec, options, columns, scan })
}

/// `columns` are those of the rows in the order in which people read them: the key first, unless
/// the request named its own.
async fn in_rows(store: &EdgeStore, asked: Asked) -> Result<Json> {
    let Asked { spec, options, columns, scan } = asked;
    let scanned = store.scan_within(ROWS_BYTES, &spec.name, scan, options).await?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    let (mut truncated, mut last) = (scanned.truncated, None);
    for row in &scanned.rows {
        let mut shown = row_to_json(row);
        if let (Some(wanted), Json::Object(fields)) = (&columns, &mut shown) {
            fields.retain(|name, _| wanted.contains(name));
        }
        bytes += shown.to_string().len() + 1;
        if bytes > CHUNK_BYTES && !rows.is_empty() {
            truncated = true;
            break;
        }
        rows.push(shown);
        last = Some(row);
    }
    let next = last.filter(|_| truncated).map(|row| key_to_json(&spec.key_part(row)));
    let columns = columns.unwrap_or_else(|| spec.in_reading_order());
    Ok(json!({"columns": columns, "rows": rows, "coverage": scanned.coverage,
              "truncated": truncated, "next": next}))
}

/// `coverage`, `truncated` and `next` are in the schema's metadata, as JSON.
async fn in_arrow(store: &EdgeStore, asked: Asked, room: Room) -> Result<Bytes> {
    let Asked { spec, options, columns, scan } = asked;
    let reading = store.scan_arrow_within(room.bytes, &spec.name, scan, options);
    let (batch, coverage, truncated) = reading.await?;
    let shown: Vec<usize> =
        (0..columns.as_ref().map_or(batch.num_columns(), |columns| columns.len())).collect();
    let part = batch.project(&shown).map_err(|e| Error::io("scan", std::io::Error::other(e)))?;
    arrow::write(&part, room.bytes, |rows| {
        let truncated = truncated || rows < batch.num_rows();
        let last = rows.checked_sub(1).filter(|_| truncated);
        let next = last.map(|last| key_to_json(&key_at(&spec, &batch, last)));
        said(&coverage, truncated, next)
    })
}

fn said(coverage: &Coverage, truncated: bool, next: Option<Json>) -> HashMap<String, String> {
    arrow::metadata([
        ("coverage", json!(coverage)),
        ("truncated", truncated.into()),
        ("next", next.unwrap_or_default()),
    ])
}
