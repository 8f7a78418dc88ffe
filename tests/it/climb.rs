//! Events on their way up: many at a time, in the order of the log, once, whatever breaks off.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bus::event::{Reader, publish};
use bus::{Bus, Delivery, Event, EventLog, PAYLOAD_BYTES_MAX};

use crate::faults::signal;
use crate::handlers::component;
use crate::proxy::Proxy;
use crate::world::{World, eventually};

const CLOUD: &str = "cloud";
const EDGE: &str = "cloud.east";
const EVENTS: usize = 400;
const STORED: Duration = Duration::from_secs(5);

async fn start(link: &std::sync::Arc<Proxy>) -> Result<World> {
    let world = World::start_with(&[CLOUD, EDGE], [(EDGE, link.via())]).await?;
    let manifest = "[app]\nname = \"count\"\nversion = \"1\"\n\
                    [[handler]]\nname = \"far\"\ncomponent = \"{code}\"\n\
                    placement = { min_tier = \"cloud\" }\n\
                    [[handler.trigger]]\nevent = \"go\"\n";
    world.apply(manifest, &[("code", component("(i32.const 16)"))]).await?;
    // The edge knows the app from here on.
    say(world.bus(EDGE), "first").await?;
    arrived(&world, 1).await?;
    Ok(world)
}

async fn say(bus: &Bus, what: impl Into<String>) -> Result<()> {
    let event = Event::new("count.go", EDGE, what.into().into_bytes())?;
    publish(bus, &event, STORED).await?;
    Ok(())
}

/// The bodies of the events of a name in the order in which a site's log took them.
pub async fn logged(world: &World, site: &str, name: &str) -> Result<Vec<String>> {
    let log = EventLog::open(world.bus(site)).await?;
    let all = deliveries(&log).await?.into_iter().filter(|delivery| delivery.name == name);
    Ok(all.map(|delivery| String::from_utf8_lossy(&delivery.data).into_owned()).collect())
}

async fn deliveries(log: &EventLog) -> Result<Vec<Delivery>> {
    let mut read = log.replay(Reader::Climb, 1).await?;
    let mut all = vec![];
    while all.last().is_none_or(|last: &Delivery| last.left > 0) {
        all.push(read.next().await.context("the read broke off")?);
    }
    Ok(all)
}

async fn arrived(world: &World, count: u64) -> Result<()> {
    eventually(&format!("{count} events at the root"), async || {
        let ran = world.count(CLOUD, "invocations count/far").await?;
        ensure!(ran >= count, "{ran} ran");
        Ok(Some(()))
    })
    .await
}

fn numbered() -> impl Iterator<Item = String> {
    (0..EVENTS).map(|number| number.to_string())
}

async fn all_in_order(world: &World) -> Result<()> {
    arrived(world, EVENTS as u64 + 1).await?;
    let (got, wanted) = (logged(world, CLOUD, "count.go").await?, numbered().collect::<Vec<_>>());
    ensure!(got[1..] == wanted, "the root's log has {got:?}");
    Ok(())
}

#[tokio::test]
async fn events_climb_a_long_link_many_at_a_time() -> Result<()> {
    let link = Proxy::new();
    let world = start(&link).await?;
    link.slow();
    for number in numbered() {
        say(world.bus(EDGE), number).await?;
    }
    all_in_order(&world).await?;
    let batches = world.count(EDGE, "batches of events sent up").await?;
    println!("{EVENTS} events climbed in {batches} batches");
    ensure!(batches <= EVENTS as u64 / 4, "{batches} batches");
    Ok(())
}

#[tokio::test]
async fn what_was_on_its_way_when_node_or_link_broke_climbs_in_order_and_once() -> Result<()> {
    let link = Proxy::new();
    let mut world = start(&link).await?;
    link.slow();
    for (number, what) in numbered().enumerate() {
        say(world.bus(EDGE), what).await?;
        // In the middle of batches.
        match number % 130 {
            50 => link.cut(),
            70 => link.slow(),
            129 => {
                world.tree.kill_node(EDGE)?;
                world.tree.restart_node(EDGE).await?;
            }
            _ => {}
        }
    }
    link.heal();
    all_in_order(&world).await
}

#[tokio::test]
async fn data_beside_the_log_climbs_whatever_climbs_with_its_event() -> Result<()> {
    let link = Proxy::new();
    let world = start(&link).await?;
    let bus = world.bus(EDGE);
    // One by one they widen what goes up at a time, until it is more than the large one.
    for _ in 0..12 {
        say(bus, "x".repeat(PAYLOAD_BYTES_MAX - 8 * 1024)).await?;
    }
    arrived(&world, 13).await?;
    // While the node stands still they gather, and come to it at once.
    let node = world.report(EDGE).await?.pid;
    signal(node, "-STOP")?;
    let large = Event::new("count.go", EDGE, vec![b'x'; PAYLOAD_BYTES_MAX + 1])?;
    let published = async {
        publish(bus, &large, STORED).await?;
        say(bus, "after").await
    };
    let published = published.await;
    signal(node, "-CONT")?;
    published?;
    arrived(&world, 15).await?;
    for site in [EDGE, CLOUD] {
        let dead = EventLog::open(world.bus(site)).await?.dead_state().await?;
        ensure!(dead.count == 0, "lost at {site}");
    }
    Ok(())
}

#[tokio::test]
async fn an_event_that_can_never_climb_holds_up_nobody() -> Result<()> {
    let link = Proxy::new();
    let world = start(&link).await?;
    link.cut();
    let bus = world.bus(EDGE);
    say(bus, "before").await?;
    let large = Event::new("count.go", EDGE, vec![b'x'; 2 * PAYLOAD_BYTES_MAX])?;
    publish(bus, &large, STORED).await?;
    say(bus, "after").await?;
    // The data that is kept beside the log gets lost.
    let log = EventLog::open(bus).await?;
    for delivery in deliveries(&log).await? {
        log.forget(&delivery.event?).await?;
    }
    ensure!(log.large_len().await? == 0, "the data is still there");
    link.heal();
    arrived(&world, 3).await?;
    ensure!(logged(&world, CLOUD, "count.go").await? == ["first", "before", "after"]);
    let letter = log.dead_from(0).await?.context("no dead letter")?;
    ensure!(letter.name == "count.go" && letter.reason.contains("its data is gone"), "{letter:?}");
    let dead = log.dead_state().await?;
    ensure!(dead.count == 1, "{dead:?}");
    Ok(())
}
