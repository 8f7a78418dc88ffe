//! Events of a handler that is busy go up the tree, and none is lost on the way.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use bus::{Event, Kind, Subject};

use crate::faults::{log_of, logger, seen};
use crate::world::{PATIENCE, World, eventually};

const TREE: [&str; 3] = ["cloud", "cloud.east", "cloud.east.cell1"];
const EDGE: &str = TREE[2];
const EVENTS: u64 = 300;
/// Those in hand of a node that dies come twice.
const TWICE_MAX: u64 = 64;

fn manifest(spill: bool) -> String {
    format!(
        "[app]\nname = \"count\"\nversion = \"1\"\n[[handler]]\nname = \"busy\"\n\
         component = \"{{code}}\"\nplacement = {{ spill = {spill} }}\n\
         limits = {{ timeout_ms = 20000, concurrency = 1 }}\n[[handler.trigger]]\nevent = \"go\"\n"
    )
}

async fn publish(world: &World, number: u64) -> Result<()> {
    let bus = world.bus(EDGE);
    let event = Event::new("count.go", EDGE, format!("n={number}"))?;
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
    world.apply(&manifest(spill), &[("code", logger())]).await?;
    publish(&world, 0).await?;
    let first = async || Ok(handled(&world)?.1.contains_key(&0).then_some(()));
    eventually("the code at the edge", first).await?;
    for number in 1..EVENTS {
        publish(&world, number).await?;
    }
    Ok(world)
}

async fn all_handled(world: &World) -> Result<Sites> {
    let all = async || {
        let have = handled(world)?.1.len() as u64;
        ensure!(have == EVENTS, "{have} of {EVENTS} events");
        Ok(Some(()))
    };
    eventually("all events", all).await?;
    let (sites, all) = handled(world)?;
    let twice = all.values().sum::<u64>() - EVENTS;
    println!("handled {sites:?}, {twice} of them twice");
    ensure!(twice <= TWICE_MAX, "{twice} came twice");
    Ok(sites)
}

#[tokio::test]
async fn events_of_a_busy_handler_are_taken_further_up_and_none_is_lost() -> Result<()> {
    let mut world = start(true).await?;
    let spilled = async || Ok((world.count(EDGE, "events spilled").await? > 0).then_some(()));
    eventually("an event to leave the edge", spilled).await?;
    world.tree.kill_node(EDGE)?;
    world.tree.restart_node(EDGE).await?;
    let sites = all_handled(&world).await?;
    let above = sites[TREE[0]] + sites[TREE[1]];
    ensure!(sites[EDGE] > 0 && above > 0, "one of them did nothing: {sites:?}");
    Ok(())
}

#[tokio::test]
async fn events_stay_where_the_manifest_does_not_let_them_spill() -> Result<()> {
    let world = start(false).await?;
    let sites = all_handled(&world).await?;
    assert_eq!((sites[TREE[0]], sites[TREE[1]]), (0, 0));
    Ok(())
}
