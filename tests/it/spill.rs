//! Events of a handler that is busy go up the tree, and none is lost on the way.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, ensure};
use bus::{Event, Kind, Subject};

use crate::faults::{log_of, logger, seen};
use crate::world::{PATIENCE, World, eventually, grows_to};

const TREE: [&str; 3] = ["cloud", "cloud.east", "cloud.east.cell1"];
const EDGE: &str = TREE[2];
const EVENTS: u64 = 300;
/// How many are published before it is looked whether one has left.
const ROUND: u64 = 100;
/// Those in hand of a node that dies come twice.
const TWICE_MAX: u64 = 64;

fn manifest(spill: bool) -> String {
    format!(
        "[app]\nname = \"count\"\nversion = \"1\"\n[[handler]]\nname = \"busy\"\n\
         component = \"{{code}}\"\nplacement = {{ spill = {spill} }}\n\
         limits = {{ timeout_ms = 20000, concurrency = 1 }}\n[[handler.trigger]]\nevent = \"go\"\n"
    )
}

async fn publish(world: &World, at: &str, number: u64) -> Result<()> {
    let bus = world.bus(at);
    let event = Event::new("count.go", at, format!("n={number}"))?;
    let subject = Subject::new(Kind::Ev, bus.site(), "count.go").to_string();
    bus::event::publish_acked(bus, &subject, &event, PATIENCE).await?;
    Ok(())
}

/// How many events a site handled.
type Sites = BTreeMap<&'static str, u64>;

/// How many were handled where, and how often each in all.
fn handled(world: &World) -> Result<(Sites, BTreeMap<u64, u64>)> {
    let (mut sites, mut all) = (Sites::new(), BTreeMap::new());
    for site in TREE {
        let here = seen(&log_of(world, site)?, "busy")?;
        sites.insert(site, here.values().sum());
        for (number, times) in here {
            *all.entry(number).or_default() += times;
        }
    }
    Ok((sites, all))
}

async fn start(spill: bool) -> Result<World> {
    let world = World::start_with(&TREE, []).await?;
    world.apply(&manifest(spill), &[("code", logger(20))]).await?;
    brought(&world, EDGE, 0).await?;
    Ok(world)
}

/// Has a site handle an event, for which the code comes there.
async fn brought(world: &World, to: &str, number: u64) -> Result<()> {
    publish(world, to, number).await?;
    let done = async || Ok(handled(world)?.1.contains_key(&number).then_some(()));
    eventually(&format!("the code at {to}"), done).await
}

async fn all_handled(world: &World, events: u64) -> Result<Sites> {
    let have = grows_to(events, || Ok(handled(world)?.1.len() as u64)).await?;
    ensure!(have == events, "{have} of {events} events");
    let (sites, all) = handled(world)?;
    let twice = all.values().sum::<u64>() - events;
    println!("handled {sites:?}, {twice} of them twice");
    ensure!(twice <= TWICE_MAX, "{twice} came twice");
    Ok(sites)
}

#[tokio::test]
async fn events_of_a_busy_handler_are_taken_further_up_and_none_is_lost() -> Result<()> {
    let mut world = start(true).await?;
    // Where the code is not, only what waits for very long goes; the edge learns that it is there.
    brought(&world, TREE[1], 1).await?;
    let (mut events, began) = (2, Instant::now());
    while world.count(EDGE, "events spilled").await? == 0 {
        ensure!(began.elapsed() < PATIENCE, "none of {events} events has left the edge");
        for number in events..events + ROUND {
            publish(&world, EDGE, number).await?;
        }
        events += ROUND;
    }
    world.tree.kill_node(EDGE)?;
    world.tree.restart_node(EDGE).await?;
    let sites = all_handled(&world, events).await?;
    let above = sites[TREE[0]] + sites[TREE[1]];
    ensure!(sites[EDGE] > 1 && above > 1, "one of them did nothing: {sites:?}");
    Ok(())
}

#[tokio::test]
async fn events_stay_where_the_manifest_does_not_let_them_spill() -> Result<()> {
    let world = start(false).await?;
    for number in 1..EVENTS {
        publish(&world, EDGE, number).await?;
    }
    let sites = all_handled(&world, EVENTS).await?;
    assert_eq!((sites[TREE[0]], sites[TREE[1]]), (0, 0));
    Ok(())
}
