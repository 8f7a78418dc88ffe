//! The questions that the command line and the tests ask a node.

mod files;

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bus::{Bus, Headers, Kind, Response, Subject, TierPath};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::report::{Brief, Report};
use crate::context::Site;

pub use files::{Exported, Progress, export, import, put_blob};

/// How long a node may take to answer.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a part of a blob may take: for the first one the site fetches and proves all of it.
const BLOB_TIMEOUT: Duration = Duration::from_secs(60);
/// Rows that are asked for at once.
const PAGE_ROWS: usize = 1_000;
/// Bytes of a blob, or of rows, that one message has.
const RANGE_BYTES: usize = 256 * 1024;

#[derive(Deserialize)]
struct Page {
    rows: Vec<Value>,
    next: Option<Value>,
}

/// Asks a control question of the bus's own site.
pub async fn control(bus: &Bus, name: &str, body: impl Into<bytes::Bytes>) -> Result<Response> {
    ask(bus, Kind::Ctl, name, body).await
}

/// Asks a question of the bus's own site.
pub async fn ask(
    bus: &Bus,
    kind: Kind,
    name: &str,
    body: impl Into<bytes::Bytes>,
) -> Result<Response> {
    ask_within(TIMEOUT, bus, kind, name, body).await
}

async fn ask_within(
    timeout: Duration,
    bus: &Bus,
    kind: Kind,
    name: &str,
    body: impl Into<bytes::Bytes>,
) -> Result<Response> {
    let subject = Subject::checked(kind, bus.site(), name)?.to_string();
    Ok(bus.request(&subject, &Headers::new(), body, timeout).await?)
}

/// Reads an answer in JSON.
pub fn json<T: DeserializeOwned>(response: &Response) -> Result<T> {
    serde_json::from_slice(&response.payload).context("the answer is not what was expected")
}

/// Everything about the node of a site.
pub async fn status(site: &Site) -> Result<Report> {
    json(&control(&site.connect().await?, "status", "").await?)
}

/// Everything about the node behind a connection.
pub async fn report(bus: &Bus) -> Result<Report> {
    json(&control(bus, "status", "").await?)
}

/// The site behind a connection and all below it. A site that has more below it than was told of
/// is asked itself; of one that does not answer, the number stays.
pub async fn tree(bus: &Bus) -> Result<Brief> {
    let ask = async |site: &TierPath| -> Result<Brief> {
        let subject = Subject::checked(Kind::Ctl, site, "tree")?.to_string();
        json(&bus::body::ask(bus, site, &subject, "", TIMEOUT).await?)
    };
    let mut tree = ask(bus.site()).await?;
    let mut asked = BTreeSet::from([tree.path.clone()]);
    loop {
        let is_next = |site: &&Brief| site.left_out > 0 && !asked.contains(&site.path);
        let Some(next) = tree.below().into_iter().find(is_next).map(|site| site.path.clone())
        else {
            return Ok(tree);
        };
        if let (Ok(found), Some(site)) = (ask(&next).await, tree.at_mut(&next)) {
            (site.children, site.left_out) = (found.children, found.left_out);
        }
        asked.insert(next);
    }
}

/// Every row of a table, in key order, as the site sees it; fetched page by page.
pub async fn rows(bus: &Bus, table: &str) -> Result<Vec<Value>> {
    let mut rows: Vec<Value> = vec![];
    let mut after: Option<Value> = None;
    loop {
        let mut body = json!({"table": table, "limit": PAGE_ROWS});
        if let Some(after) = &after {
            body["after"] = after.clone();
        }
        let page: Page = json(&ask(bus, Kind::St, "scan", body.to_string()).await?)?;
        rows.extend(page.rows);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(rows),
        }
    }
}

/// The bytes of a blob, wherever it lies; fetched range by range.
pub async fn blob(bus: &Bus, key: &str) -> Result<Bytes> {
    blob_range(bus, key, 0..u64::MAX).await
}

/// Those of the bytes of a blob that lie in `range`, clipped to its end.
pub async fn blob_range(bus: &Bus, key: &str, range: Range<u64>) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    loop {
        let offset = range.start + bytes.len() as u64;
        let length = range.end.saturating_sub(offset).min(RANGE_BYTES as u64);
        let body = json!({"key": key, "offset": offset, "length": length});
        let part = ask_within(BLOB_TIMEOUT, bus, Kind::St, "read-blob", body.to_string());
        let part = part.await?.payload;
        bytes.extend_from_slice(&part);
        if part.len() < RANGE_BYTES {
            return Ok(bytes.freeze());
        }
    }
}

/// How many changes of the site's store its parent does not have yet.
pub async fn changes_waiting(bus: &Bus) -> Result<u64> {
    let status: Value = json(&ask(bus, Kind::St, "status", "").await?)?;
    let number = |name: &str| status["status"][name].as_u64().unwrap_or(0);
    Ok(number("seq").saturating_sub(number("parent_seq")))
}
