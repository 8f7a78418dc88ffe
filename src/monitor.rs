//! What a site's server says of its link: read from its monitoring address on the loopback.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Bytes over the link of a site to its parent, since the link is up.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct LinkBytes {
    pub up: u64,
    pub down: u64,
}

#[derive(Deserialize)]
struct Leafs {
    #[serde(default)]
    leafs: Vec<Leaf>,
}

#[derive(Deserialize)]
struct Leaf {
    #[serde(default)]
    is_spoke: bool,
    in_bytes: u64,
    out_bytes: u64,
}

/// Asks the server behind `monitor` (`host:port`) for the bytes over its link to the parent.
pub fn link_bytes(monitor: &str) -> Result<Option<LinkBytes>> {
    let leafs: Leafs = serde_json::from_str(&get(monitor, "/leafz")?)?;
    // Each tenant has a link of its own.
    let spokes = leafs.leafs.into_iter().filter(|leaf| leaf.is_spoke);
    Ok(spokes
        .map(|leaf| LinkBytes { up: leaf.out_bytes, down: leaf.in_bytes })
        .reduce(|a, b| LinkBytes { up: a.up + b.up, down: a.down + b.down }))
}

/// What the server behind `address` (`host:port`) answers on one of its monitor's pages.
pub fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("monitor {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("the monitor's answer has no body")?;
    Ok(body.to_owned())
}
