//! A node that is killed again and again, whatever it is doing, beside a ledger of what it has
//! acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use bus::{Bus, Kind};
use edgescale::node::client;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::world::World;

/// How often it is killed, unless `EDGESCALE_KILLS` says otherwise.
const KILLS: u64 = 6;
/// Those who write at a time, each rows of its own: so many that segments are written and merged.
const WRITERS: u64 = 3;
const ROWS: u64 = 300;
const TEXT_BYTES_MAX: u64 = 100_000;
/// Texts that are looked at after each kill.
const TEXTS: usize = 100;
/// Longest time from one kill to the next.
const LIFE_MS_MAX: u64 = 1_500;

const TABLE: &str = r#"{"name":"ledger_rows","key":["k"],"columns":[{"name":"k","kind":"int64"},
    {"name":"v","kind":"int64"},{"name":"n","kind":"int64","merge":"counter"},
    {"name":"text","kind":"utf8"}]}"#;

/// Something that grows with each write: what was acknowledged, and what was asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Grown {
    known: u64,
    asked: u64,
}

impl Grown {
    /// Takes what is found for known, if it can be.
    fn is(&mut self, found: u64) -> bool {
        let can_be = (self.known..=self.asked).contains(&found);
        *self = Grown { known: found, asked: found };
        can_be
    }
}

/// The version and the count of each row.
type Ledger = BTreeMap<u64, [Grown; 2]>;

/// What stands in a row of a version: no two versions have the same.
fn text(k: u64, version: u64) -> String {
    let bytes = (k * 7_919 + version * 104_729) % TEXT_BYTES_MAX;
    format!("{k} {version} {}", "-".repeat(bytes as usize))
}

/// Writes until it is told to stop, or the node is gone.
async fn write(
    bus: Bus,
    writer: u64,
    mut ledger: Ledger,
    mut ends: watch::Receiver<bool>,
) -> Ledger {
    loop {
        let k = writer * ROWS + bus::route::retry::draw() % ROWS;
        let adds = usize::from(bus::route::retry::draw().is_multiple_of(4));
        let grown = &mut ledger.entry(k).or_default()[adds];
        grown.asked += 1;
        let (op, body) = match adds {
            0 => {
                let version = grown.asked;
                let row = json!({"k": k, "v": version, "text": text(k, version)});
                ("put", json!({"table": "ledger_rows", "rows": [row]}))
            }
            _ => {
                let key = json!({"k": k});
                ("increment", json!({"table": "ledger_rows", "key": key, "by": {"n": 1}}))
            }
        };
        let answer = tokio::select! {
            answer = client::ask(&bus, Kind::St, op, body.to_string()) => answer,
            _ = ends.wait_for(|ends| *ends) => return ledger,
        };
        match answer {
            Ok(_) if adds == 1 => grown.known += 1,
            Ok(_) => grown.known = grown.asked,
            // Too busy, or gone.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Compares what the node has with what it has acknowledged.
async fn check(bus: &Bus, ledger: &mut Ledger) -> Result<()> {
    let scan = json!({"table": "ledger_rows", "columns": ["k", "v", "n"], "limit": 1_000});
    let answer = client::ask(bus, Kind::St, "scan", scan.to_string()).await?;
    let answer: Value = client::json(&answer)?;
    let rows = answer["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: BTreeMap<u64, &Value> =
        rows.iter().filter_map(|row| Some((row["k"].as_u64()?, row))).collect();
    ensure!(rows.keys().all(|k| ledger.contains_key(k)), "a row that nobody wrote");
    for (k, [version, count]) in &mut *ledger {
        let row = rows.get(k);
        let number = |name: &str| row.and_then(|row| row[name].as_u64()).unwrap_or(0);
        let (v, n, told) = (number("v"), number("n"), (*version, *count));
        let is = [version.is(v), count.is(n)];
        ensure!(is == [true; 2], "row {k} has version {v}, count {n}, not {told:?}");
    }
    // Texts are long: those of some rows.
    let skipped = bus::route::retry::draw() % ROWS;
    for (k, [version, _]) in ledger.iter().skip(skipped as usize).take(TEXTS) {
        if version.known > 0 {
            let get = json!({"table": "ledger_rows", "key": {"k": k}});
            let answer = client::ask(bus, Kind::St, "get", get.to_string()).await?;
            let found = &client::json::<Value>(&answer)?["row"]["text"];
            let is_whole = *found == text(*k, version.known);
            ensure!(is_whole, "the text of row {k} is not that of version {}", version.known);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_node_that_is_killed_again_and_again_keeps_what_it_acknowledged() -> Result<()> {
    let kills = std::env::var("EDGESCALE_KILLS").ok().and_then(|text| text.parse().ok());
    let mut world = World::start_with(&["cloud"], []).await?;
    client::ask(world.bus("cloud"), Kind::St, "create", TABLE).await?;
    let (mut ledger, mut acknowledged) = (Ledger::new(), 0);
    for kill in 0..kills.unwrap_or(KILLS) {
        let (end, ends) = watch::channel(false);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let own = writer * ROWS..(writer + 1) * ROWS;
                let own = ledger.range(own).map(|(k, grown)| (*k, *grown)).collect();
                tokio::spawn(write(world.bus("cloud").clone(), writer, own, ends.clone()))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(bus::route::retry::draw() % LIFE_MS_MAX)).await;
        world.tree.kill_node("cloud")?;
        end.send_replace(true);
        for writer in writers {
            ledger.extend(writer.await?);
        }
        // At times it is killed once more while it opens its store.
        while bus::route::retry::draw().is_multiple_of(3) {
            let opens = Duration::from_millis(bus::route::retry::draw() % 300);
            if let Ok(restarted) =
                tokio::time::timeout(opens, world.tree.restart_node("cloud")).await
            {
                restarted?;
            }
            world.tree.kill_node("cloud")?;
        }
        world.tree.restart_node("cloud").await?;
        let before: u64 = ledger.values().flatten().map(|grown| grown.known).sum();
        acknowledged = acknowledged.max(before);
        check(world.bus("cloud"), &mut ledger).await?;
        println!("kill {kill}: {} rows, {before} writes acknowledged", ledger.len());
    }
    ensure!(acknowledged > 0, "nothing was ever written");
    Ok(())
}
