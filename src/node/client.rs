//! The questions that the command line and the tests ask a node.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bus::{Bus, Headers, Kind, Response, Subject};
use serde::de::DeserializeOwned;

use super::report::Report;
use crate::context::Site;

/// How long a node may take to answer.
pub const TIMEOUT: Duration = Duration::from_secs(10);

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
    let subject = Subject::checked(kind, bus.site(), name)?.to_string();
    Ok(bus.request(&subject, &Headers::new(), body, TIMEOUT).await?)
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
