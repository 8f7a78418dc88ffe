//! Requests that come in for this site: from other stores, and from clients in JSON, so that any
//! NATS client can read and write tables.

pub(crate) mod arrow;
mod asked;
mod changes;
mod many;
mod one;
mod scan;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::commit::{Commit, Condition, Expect, Write};
use crate::engine::{Ack, Level};
use crate::error::{Error, Result};
use crate::link::PAYLOAD_BYTES_MAX;
use crate::spec::TableSpec;
use crate::tree::ask::is_below;
use crate::tree::wire::{op, seal};
use crate::value::{Row, row_from_json};
use crate::{BlobKey, EdgeStore, SCAN_ROWS_MAX, Sql};
use asked::{Format, from_json, parse, rows_of};

/// Rows that a scan of a client returns unless it asks for another limit.
const CLIENT_ROWS: usize = 1_000;
/// Rows that a client may ask for at once.
const CLIENT_ROWS_MAX: usize = 10_000;
/// What [`ask`] does: reading and changing rows, and no more.
const OF_ROWS: [&str; 11] = [
    "get",
    "get-many",
    "scan",
    "put",
    "patch",
    "delete",
    "discard",
    "restore",
    "increment",
    "commit",
    "changes",
];

/// How large an answer with rows as Arrow may become. One in JSON fits a message.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    bytes: usize,
    rows: usize,
}

impl Room {
    /// So many bytes, and more rows where they are more than a message may have.
    pub fn of(bytes: usize) -> Self {
        let rows = if bytes > PAYLOAD_BYTES_MAX { SCAN_ROWS_MAX } else { CLIENT_ROWS_MAX };
        Room { bytes, rows }
    }

    /// What a format leaves of it.
    fn in_format(self, format: Format) -> Self {
        match format {
            Format::Rows => Room::of(PAYLOAD_BYTES_MAX),
            Format::Arrow => self,
        }
    }

    /// The rows of an answer at most, as the request says or not.
    fn limit(self, asked: Option<usize>) -> Result<usize> {
        let limit = asked.unwrap_or(CLIENT_ROWS);
        crate::scan::check_limit(limit, self.rows).map(|()| limit)
    }
}

/// Answers a request; see [`EdgeStore::serve`].
pub async fn serve(
    store: &EdgeStore,
    op: &str,
    from: &str,
    payload: Bytes,
    room: Room,
) -> Result<Bytes> {
    match op {
        op::UP
        | op::RANGE
        | op::FETCH
        | op::HEADS
        | op::DESCRIBE
        | op::BLOB
        | op::REMOVE_BLOB
        | op::DECIDE => {
            let Some(tree) = store.inner.tree.get() else {
                return Ok(seal(Err(Error::Busy(format!("site {:?}", store.site())))));
            };
            Ok(seal(tree.answer(op, from, &payload).await))
        }
        "sql" | "scan" | "get-many" | "put" | "patch" | "delete" | "discard" | "restore"
            if arrow::is_stream(&payload) =>
        {
            request(store, op, Map::new(), Some(payload), room).await
        }
        "sql" | "scan" | "get-many" => request(store, op, parse(op, &payload)?, None, room).await,
        // Most say nothing of a format, and are read in one go.
        "get" | "changes" if asked::may_name_format(&payload) => {
            request(store, op, parse(op, &payload)?, None, room).await
        }
        "rm-blob" if is_below(store.site(), from) => {
            Err(Error::BadRequest(format!("{from} may not remove blobs of {}", store.site())))
        }
        _ => {
            let answer = client(store, op, &payload).await?;
            Ok(answer.to_string().into())
        }
    }
}

/// An operation of a client on the rows of a table; see [`EdgeStore::ask`].
pub async fn ask(store: &EdgeStore, op: &str, request: Json) -> Result<Json> {
    check_of_rows(op)?;
    client(store, op, request.to_string().as_bytes()).await
}

fn check_of_rows(op: &str) -> Result<()> {
    match OF_ROWS.contains(&op) {
        true => Ok(()),
        false => Err(Error::BadRequest(format!(
            "unknown operation {op:?}; there are {}",
            OF_ROWS.join(", ")
        ))),
    }
}

/// The same with rows, or keys, that came as an Arrow IPC stream; see [`EdgeStore::request`].
pub async fn request(
    store: &EdgeStore,
    op: &str,
    mut fields: Map<String, Json>,
    stream: Option<Bytes>,
    room: Room,
) -> Result<Bytes> {
    let rows = match stream {
        None => None,
        Some(stream) => {
            let (said, rows) = arrow::read(op, &stream)?;
            for (name, value) in said {
                fields.entry(name).or_insert_with(|| value.into());
            }
            if !fields.contains_key("table") {
                let text = "the metadata of the schema must name a table";
                return Err(Error::BadRequest(format!("{op}: {text}")));
            }
            Some(rows)
        }
    };
    match (op, rows) {
        ("get-many", keys) => many::answer(store, fields, keys, room).await,
        ("put" | "patch" | "delete" | "discard" | "restore", Some(rows)) => {
            let Place { table, level } = from_json(op, "", &Json::Object(fields))?;
            let ack = write(store, op, &table, &rows, level).await?;
            Ok(json!({"ack": ack}).to_string().into())
        }
        (_, Some(_)) => Err(Error::BadRequest(format!(
            "{op} takes no rows as Arrow; put, patch, delete, discard, restore and get-many do"
        ))),
        ("sql", None) => sql(store, fields, room).await,
        ("scan", None) => scan::answer(store, fields, room).await,
        ("get", None) => one::answer(store, fields, room).await,
        ("changes", None) => changes::answer(store, fields, room).await,
        (_, None) => {
            check_of_rows(op)?;
            let payload = Json::Object(fields).to_string();
            Ok(client(store, op, payload.as_bytes()).await?.to_string().into())
        }
    }
}

/// Where rows that came as Arrow go.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    table: String,
    #[serde(default = "local_sync")]
    level: Level,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    table: String,
    rows: Vec<Json>,
    #[serde(default = "local_sync")]
    level: Level,
}

fn local_sync() -> Level {
    Level::LocalSync
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    table: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RmBlob {
    key: String,
}

/// `{"table":…, "if":[{"key":…, "absent":true}, …], "do":[{"put":…}, …]}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommitAsked {
    table: String,
    #[serde(default, rename = "if")]
    conditions: Vec<ConditionAsked>,
    #[serde(rename = "do")]
    writes: Vec<WriteAsked>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionAsked {
    key: Json,
    absent: Option<bool>,
    version: Option<String>,
    values: Option<Json>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WriteAsked {
    Put(Json),
    Patch(Json),
    Discard(Json),
    Delete(Json),
    Increment { key: Json, by: BTreeMap<String, i64> },
}

impl CommitAsked {
    fn read(self) -> Result<(String, Commit)> {
        let conditions =
            self.conditions.into_iter().map(ConditionAsked::read).collect::<Result<_>>();
        let writes = self.writes.into_iter().map(WriteAsked::read).collect::<Result<_>>();
        Ok((self.table, Commit { conditions: conditions?, writes: writes? }))
    }
}

impl ConditionAsked {
    fn read(self) -> Result<Condition> {
        let key = row_from_json(&self.key)?;
        let expect = match (self.absent, self.version, self.values) {
            (Some(true), None, None) => Expect::Absent,
            (Some(false), None, None) => Expect::Present,
            (None, Some(version), None) => Expect::Version(version.parse()?),
            (None, None, Some(values)) => Expect::Values(row_from_json(&values)?),
            _ => {
                return Err(Error::BadRequest(
                    "commit: a condition has a key and one of absent, version, values".into(),
                ));
            }
        };
        Ok(Condition { key, expect })
    }
}

impl WriteAsked {
    fn read(self) -> Result<Write> {
        Ok(match self {
            WriteAsked::Put(row) => Write::Put(row_from_json(&row)?),
            WriteAsked::Patch(row) => Write::Patch(row_from_json(&row)?),
            WriteAsked::Discard(row) => Write::Discard(row_from_json(&row)?),
            WriteAsked::Delete(key) => Write::Delete(row_from_json(&key)?),
            WriteAsked::Increment { key, by } => {
                Write::Increment(row_from_json(&key)?, by.into_iter().collect())
            }
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Increment {
    table: String,
    #[serde(with = "crate::scan::as_json")]
    key: Row,
    by: BTreeMap<String, i64>,
    #[serde(default = "local_sync")]
    level: Level,
}

async fn write(
    store: &EdgeStore,
    op: &str,
    table: &str,
    rows: &[Row],
    level: Level,
) -> Result<Ack> {
    match op {
        "put" => store.put_at(table, rows, level).await,
        "patch" => store.patch_at(table, rows, level).await,
        "delete" => store.delete_at(table, rows, level).await,
        "restore" => store.restore_at(table, rows, level).await,
        _ => store.discard_at(table, rows, level).await,
    }
}

async fn client(store: &EdgeStore, op: &str, payload: &[u8]) -> Result<Json> {
    match op {
        "get" => one::in_rows(store, parse(op, payload)?).await,
        "get-many" => many::rows(store, parse(op, payload)?).await,
        "scan" => scan::rows(store, parse(op, payload)?).await,
        "put" | "patch" | "delete" | "discard" | "restore" => {
            let Rows { table, rows, level } = parse(op, payload)?;
            let rows = rows_of(op, "rows", &rows)?;
            Ok(json!({"ack": write(store, op, &table, &rows, level).await?}))
        }
        "commit" => {
            let commit: CommitAsked = parse(op, payload)?;
            let (table, commit) = commit.read()?;
            Ok(json!({"ack": store.commit(&table, &commit).await?}))
        }
        "changes" => changes::in_rows(store, parse(op, payload)?).await,
        "increment" => {
            let Increment { table, key, by, level } = parse(op, payload)?;
            let deltas: Vec<(String, i64)> = by.into_iter().collect();
            Ok(json!({"ack": store.increment_at(&table, &key, &deltas, level).await?}))
        }
        "create" => {
            let spec: TableSpec = parse(op, payload)?;
            store.create_table(&spec).await?;
            Ok(json!({"table": spec.name}))
        }
        "table" => {
            let Table { table } = parse(op, payload)?;
            Ok(json!({"table": store.table(&table).await?}))
        }
        "rm-blob" => {
            let RmBlob { key } = parse(op, payload)?;
            let key: BlobKey = key.parse()?;
            Ok(json!({"blob": key, "removed": store.remove_blob(&key).await?}))
        }
        "tables" => Ok(json!({"tables": store.tables()})),
        "status" => Ok(json!({"status": store.status()})),
        _ => Err(Error::BadRequest(format!("unknown operation {op:?}"))),
    }
}

/// The fields of [`Sql`], and `format`. The answer is cut to what fits.
async fn sql(store: &EdgeStore, mut fields: Map<String, Json>, room: Room) -> Result<Bytes> {
    let format = Format::take("sql", &mut fields)?;
    let mut asked: Sql = from_json("sql", "", &Json::Object(fields))?;
    asked.limit = Some(room.in_format(format).limit(asked.limit)?);
    let answer = store.sql(asked).await?;
    match format {
        Format::Rows => Ok(answer.json()?.to_string().into()),
        Format::Arrow => answer.stream_up_to(room.bytes),
    }
}

/// The answer, if it fits a message.
fn fits(op: &str, answer: Json) -> Result<Json> {
    check_fits(op, answer.to_string().len(), PAYLOAD_BYTES_MAX).map(|()| answer)
}

fn check_fits(op: &str, bytes: usize, max: usize) -> Result<()> {
    match bytes <= max {
        true => Ok(()),
        false => Err(Error::TooLarge {
            what: format!("answer to {op}, ask for less at a time: it"),
            bytes: bytes as u64,
            max: max as u64,
        }),
    }
}
