//! The store under the workloads of YCSB, and the memory that it takes.

use std::path::Path;
use std::time::{Duration, Instant};

use ::store::{Config, EdgeStore, Level, Row, Scan, TableSpec, Value};

use super::ycsb::{Operation, WORKLOADS, Workload};
use super::{Error, Line, key, row};

/// How often the same store is opened to see what memory it takes.
const COPIES: u64 = 6;

/// The workloads one after the other, one client in process. Writes return when they are in memory
/// and the log has them to write, as RocksDB's do without `sync`.
pub async fn ycsb(store: &EdgeStore, rows: u64, budget: Duration) -> Result<Vec<Line>, Error> {
    let mut lines = Vec::new();
    for (letter, _) in WORKLOADS {
        let mut workload = Workload::new(letter, rows, 7);
        let (start, mut times) = (Instant::now(), Vec::new());
        while start.elapsed() < budget {
            let operation = workload.next();
            let before = Instant::now();
            carry_out(store, operation).await?;
            times.push(before.elapsed());
        }
        lines.push(Line::timed(&format!("YCSB {letter}"), times, start.elapsed()));
    }
    Ok(lines)
}

async fn carry_out(store: &EdgeStore, operation: Operation) -> Result<(), Error> {
    match operation {
        Operation::Read(id) => drop(std::hint::black_box(store.get("t", &key(id)).await?)),
        Operation::Update(id) | Operation::Insert(id) => {
            store.put_at("t", std::slice::from_ref(&row(id)), Level::Memory).await?;
        }
        Operation::Range(from, rows) => {
            let limit = Some(rows as usize);
            let scan = Scan { from: key(from), limit, ..Scan::default() };
            std::hint::black_box(store.scan("t", scan).await?);
        }
        Operation::Change(id) => {
            std::hint::black_box(store.get("t", &key(id)).await?);
            store.put_at("t", std::slice::from_ref(&row(id)), Level::Memory).await?;
        }
    }
    Ok(())
}

/// Bytes of memory that a partition takes of which nothing is asked: opened, not read.
pub async fn idle_partition(home: &Path, partitions: u64) -> Result<f64, Error> {
    let spec = serde_json::json!({"name": "t", "key": ["part"], "partition": ["part"], "columns": [
        {"name": "part", "kind": "int64"}, {"name": "v", "kind": "float64"}]});
    let spec: TableSpec = serde_json::from_value(spec).expect("the specification is a constant");
    let store = EdgeStore::open(Config::new(home, "cloud")).await?;
    store.create_table(&spec).await?;
    let row = |id: u64| {
        Row::from([("part".into(), Value::Int(id as i64)), ("v".into(), Value::Float(id as f64))])
    };
    store.put("t", &(0..partitions).map(row).collect::<Vec<Row>>()).await?;
    store.flush().await?;
    store.close().await;
    drop(store);
    // Opened several times over: the first ones take what memory this process has left over.
    let (mut open, mut before) = (Vec::new(), 0);
    for copy in 0..COPIES {
        let copied = home.with_extension(copy.to_string());
        copy_folder(home, &copied).map_err(|e| Error::Folder(copied.clone(), e))?;
        if copy == COPIES / 2 {
            before = crate::machine::private_bytes();
        }
        open.push(EdgeStore::open(Config::new(&copied, "cloud")).await?);
    }
    let grown = crate::machine::private_bytes().saturating_sub(before);
    for store in open {
        store.close().await;
    }
    Ok(grown as f64 / (partitions * (COPIES - COPIES / 2)) as f64)
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &to)?,
            false => drop(std::fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}
