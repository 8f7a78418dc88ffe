//! A site moves to another parent while its clients go on: what was acknowledged to them is at the
//! root, events in the order of the site's log.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bus::event::Reader;
use bus::message::KEY_HEADER;
use bus::{Bus, Event, EventLog, Headers, Kind, Subject};
use edgescale::context::Context;
use edgescale::node::client;
use edgescale::upload;
use serde_json::json;

use crate::delivery::call_component;
use crate::sites::{Sites, seen};
use crate::world::eventually;

/// How many of each a client sends at least, and how many after the move.
const SENT_MIN: u64 = 60;
const AFTER: u64 = 20;
const EVERY: Duration = Duration::from_millis(20);
/// How long one attempt may take.
const SHORT: Duration = Duration::from_secs(2);
/// How many events may be in the root's log a second time: those on their way in one batch.
const TWICE_MAX: usize = 64;

const APP: &str = r#"
[app]
name = "count"
version = "1"
[[handler]]
name = "far"
component = "EVENT"
[[handler.trigger]]
event = "go"
[handler.placement]
min_tier = "cloud"
[[handler]]
name = "top"
component = "CALL"
[[handler.trigger]]
call = "top"
[handler.placement]
min_tier = "cloud"
[[table]]
name = "marks"
key = ["n"]
columns = [{ name = "n", type = "int64" }]
"#;

/// A client of a site: what it sends it repeats until it is acknowledged, wherever the site is.
struct Client {
    dir: PathBuf,
    over: AtomicBool,
    sent: AtomicU64,
}

impl Client {
    async fn connect(&self) -> Result<Bus> {
        Context::load(&self.dir)?.site(None)?.connect().await
    }

    /// An event, a row and a call of each number, one after the other.
    async fn go_on(self: Arc<Self>) -> Result<u64> {
        let mut bus = self.connect().await?;
        let mut number = 0;
        while number < SENT_MIN || !self.over.load(Ordering::Relaxed) {
            let mut done = 0;
            while done < 3 {
                let tried = match done {
                    0 => event(&bus, number).await,
                    1 => row(&bus, number).await,
                    _ => call(&bus, number).await,
                };
                match tried {
                    Ok(()) => done += 1,
                    Err(_) => {
                        tokio::time::sleep(EVERY).await;
                        // The site may have another path by now.
                        if let Ok(new) = self.connect().await {
                            bus = new;
                        }
                    }
                }
            }
            number += 1;
            self.sent.store(number, Ordering::Relaxed);
            tokio::time::sleep(EVERY).await;
        }
        Ok(number)
    }
}

async fn event(bus: &Bus, number: u64) -> Result<()> {
    let event = Event::new("count.go", bus.site().as_str(), format!("n={number}"))?;
    let subject = Subject::new(Kind::Ev, bus.site(), "count.go").to_string();
    Ok(bus::event::publish_acked(bus, &subject, &event, SHORT).await.map(|_| ())?)
}

async fn row(bus: &Bus, number: u64) -> Result<()> {
    let subject = Subject::new(Kind::St, bus.site(), "put").to_string();
    let body = json!({"table": "count_marks", "rows": [{"n": number}]}).to_string();
    Ok(bus.request(&subject, &Headers::new(), body, SHORT).await.map(|_| ())?)
}

async fn call(bus: &Bus, number: u64) -> Result<()> {
    let subject = Subject::new(Kind::Call, bus.site(), "count.top").to_string();
    let headers = Headers::from([(KEY_HEADER.to_owned(), format!("call-{number}"))]);
    Ok(bus.request(&subject, &headers, "[1]", SHORT).await.map(|_| ())?)
}

/// The numbers of the events in the order in which the root's log took them.
async fn logged(cloud: &Bus) -> Result<Vec<u64>> {
    let mut read = EventLog::open(cloud).await?.replay(Reader::Climb, 1).await?;
    let mut numbers = vec![];
    loop {
        let delivery = read.next().await.context("the read broke off")?;
        let text = String::from_utf8_lossy(&delivery.data).into_owned();
        numbers.extend(text.strip_prefix("n=").and_then(|number| number.parse::<u64>().ok()));
        if delivery.left == 0 {
            return Ok(numbers);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_moves_under_traffic_loses_nothing_and_keeps_the_order() -> Result<()> {
    let mut sites = Sites::new()?;
    sites.json("cloud", &["tree", "init", "cloud", "--ports", "auto"], "")?;
    sites.start("cloud")?;
    let cloud = sites.bus("cloud").await?;
    sites.report("cloud").await?;
    for (parent, name) in [("cloud", "east"), ("cloud", "west"), ("east", "cell")] {
        sites.join(parent, name)?;
        sites.start(name)?;
        sites.report(name).await?;
    }
    seen(&sites.bus("east").await?, "cloud.east.cell", true).await?;
    let registry = bus::Registry::open(&cloud).await?;
    let mut manifest = APP.to_owned();
    for (name, code) in
        [("EVENT", crate::handlers::component("(i32.const 16)")), ("CALL", call_component(""))]
    {
        let digest = ::handlers::Digest::of(&code);
        registry.put_code(digest.as_str(), code.into()).await?;
        manifest = manifest.replace(name, digest.as_str());
    }
    upload::apply(&cloud, &manifest).await?;
    let cell = sites.bus("cell").await?;
    eventually("the first row at the cell", async || Ok(row(&cell, 0).await.ok())).await?;

    let over = AtomicBool::new(false);
    let client = Arc::new(Client { dir: sites.dir("cell"), over, sent: AtomicU64::new(0) });
    let sent = || client.sent.load(Ordering::Relaxed);
    let sending = tokio::spawn(client.clone().go_on());
    eventually("the first of all", async || Ok((sent() >= AFTER).then_some(()))).await?;
    let invited = sites.json("west", &["tree", "invite", "cell"], "")?;
    let token = invited["token"].as_str().context("no token")?.to_owned();
    let before = sent();
    let moved = sites.json("cell", &["tree", "move"], &token)?;
    assert_eq!(moved, json!({"site": "cloud.west.cell", "before": "cloud.east.cell"}));
    seen(&sites.bus("west").await?, "cloud.west.cell", true).await?;
    let (meanwhile, after) = (sent() - before, sent() + AFTER);
    eventually("more after the move", async || Ok((sent() >= after).then_some(()))).await?;
    client.over.store(true, Ordering::Relaxed);
    let wanted = sending.await??;

    let all = async || {
        let mut numbers = logged(&cloud).await?;
        numbers.sort_unstable();
        numbers.dedup();
        ensure!(numbers.len() as u64 == wanted, "{} of {wanted} events", numbers.len());
        Ok(Some(()))
    };
    eventually("every event in the root's log", all).await?;
    // Of one that came twice, the first time counts.
    let (numbers, mut first) = (logged(&cloud).await?, vec![]);
    for number in &numbers {
        if !first.contains(number) {
            first.push(*number);
        }
    }
    let twice = numbers.len() - first.len();
    println!("{wanted} of each, {meanwhile} while it moved; {twice} events came twice");
    ensure!(first.is_sorted(), "the root's log has {numbers:?}");
    ensure!(twice <= TWICE_MAX, "{twice} events came twice");
    eventually("every row at the root", async || {
        let rows = client::rows(&cloud, "count_marks").await?;
        ensure!(rows.len() as u64 == wanted, "{} of {wanted} rows", rows.len());
        Ok(Some(()))
    })
    .await?;
    for name in ["cloud", "west", "cell"] {
        assert_eq!(sites.report(name).await?.dead_letters, 0, "{name}");
    }
    Ok(())
}
