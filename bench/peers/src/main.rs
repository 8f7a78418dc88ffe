//! redb, fjall and RocksDB on the rows of the store's bench: prints lines of its report as JSON.
//!
//! `edgescale-bench-peers FOLDER ROWS BUDGET_MS`. One client, in process, as the store is measured.
//! A row is a key of 8 bytes and a value of 42; reads take the value apart, as the store does.

mod fjall;
mod redb;
mod rocksdb;
#[path = "../../src/store/ycsb.rs"]
mod ycsb;

use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ycsb::{Operation, WORKLOADS, Workload};

/// Rows of one call when the table is filled.
const FILL_ROWS: u64 = 1_000;
/// Where a table's key ends up when keys are walked in no order (an odd multiplier).
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
/// Numbers and values of rows.
type Rows<'a> = &'a mut dyn Iterator<Item = (u64, Vec<u8>)>;

/// A store of keys and values.
trait Peer {
    /// Writes rows together; on the disk on return if `durable`.
    fn put(&mut self, rows: Rows<'_>, durable: bool) -> Result<()>;
    /// Hands a row's value to `see`.
    fn get(&mut self, id: u64, see: &mut dyn FnMut(&[u8])) -> Result<()>;
    /// Hands so many rows from one on to `see`.
    fn range(&mut self, from: u64, rows: u64, see: &mut dyn FnMut(&[u8])) -> Result<()>;
    /// Moves what was written to where it stays.
    fn settle(&mut self) -> Result<()>;
}

fn main() {
    let mut words = std::env::args().skip(1);
    let mut word = || words.next().unwrap_or_default();
    let folder = PathBuf::from(word());
    let (rows, budget_ms) = (word().parse().unwrap_or(200_000), word().parse().unwrap_or(2_000));
    let budget = Duration::from_millis(budget_ms);
    let openers: [(&str, fn(&Path) -> Result<Box<dyn Peer>>); 3] =
        [("redb", redb::open), ("fjall", fjall::open), ("RocksDB", rocksdb::open)];
    let mut lines = Vec::new();
    for (name, open) in openers {
        let measured = open(&folder.join(name)).and_then(|peer| measure(name, peer, rows, budget));
        match measured {
            Ok(more) => lines.extend(more),
            Err(error) => eprintln!("skipped: {name}: {error}"),
        }
    }
    println!("{}", Value::from(lines));
}

fn measure(name: &str, mut peer: Box<dyn Peer>, rows: u64, budget: Duration) -> Result<Vec<Value>> {
    let one = |id: u64| std::iter::once((id, value(id)));
    let mut lines = Vec::new();
    lines.push(timed(&format!("{name} durable put, 1 at once"), budget, |i| {
        peer.put(&mut one(i), true)
    })?);
    let start = Instant::now();
    for from in (0..rows).step_by(FILL_ROWS as usize) {
        let ids = from..rows.min(from + FILL_ROWS);
        peer.put(&mut ids.map(|id| (id, value(id))), true)?;
    }
    lines.push(bulk(&format!("{name} durable put, 1,000 rows a call, rows"), rows, start));
    peer.settle()?;
    lines.push(timed(&format!("{name} get"), budget, |i| {
        peer.get(i.wrapping_mul(SCATTER) % rows, &mut see)
    })?);
    let start = Instant::now();
    peer.range(0, rows, &mut see)?;
    lines.push(bulk(&format!("{name} scan, rows"), rows, start));
    for (letter, _) in WORKLOADS {
        let mut workload = Workload::new(letter, rows, 7);
        lines.push(timed(&format!("{name} YCSB {letter}"), budget, |_| match workload.next() {
            Operation::Read(id) => peer.get(id, &mut see),
            Operation::Update(id) | Operation::Insert(id) => peer.put(&mut one(id), false),
            Operation::Range(from, rows) => peer.range(from, rows, &mut see),
            Operation::Change(id) => {
                peer.get(id, &mut see)?;
                peer.put(&mut one(id), false)
            }
        })?);
    }
    Ok(lines)
}

fn timed(what: &str, budget: Duration, mut act: impl FnMut(u64) -> Result<()>) -> Result<Value> {
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < budget {
        let before = Instant::now();
        act(times.len() as u64)?;
        times.push(before.elapsed().as_nanos() as u64);
    }
    let per_s = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    let us = |percent: usize| times.get(times.len() * percent / 100).map(|ns| *ns as f64 / 1e3);
    Ok(json!({"what": what, "per_s": per_s, "p50_us": us(50), "p99_us": us(99), "beside": null}))
}

fn bulk(what: &str, rows: u64, start: Instant) -> Value {
    let per_s = rows as f64 / start.elapsed().as_secs_f64();
    json!({"what": what, "per_s": per_s, "p50_us": null, "p99_us": null, "beside": null})
}

/// Numbers that sort as their bytes do.
fn key(id: u64) -> [u8; 8] {
    id.to_be_bytes()
}

/// A row's two numbers and its text.
fn value(id: u64) -> Vec<u8> {
    let mut bytes = (id as f64 % 1_000.0 / 1_000.0).to_le_bytes().to_vec();
    bytes.extend((id as i64 * 7).to_le_bytes());
    bytes.extend(format!("row number {id:012}").bytes());
    bytes
}

/// Takes a value apart.
fn see(bytes: &[u8]) {
    let Some((v, rest)) = bytes.split_first_chunk::<8>() else { return };
    let Some((n, name)) = rest.split_first_chunk::<8>() else { return };
    let name = String::from_utf8_lossy(name).into_owned();
    black_box((f64::from_le_bytes(*v), i64::from_le_bytes(*n), name));
}
