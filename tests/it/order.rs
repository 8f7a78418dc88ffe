//! Events that a handler wants in order: one at a time and in the order of the log, whatever fails.
//!
//! The handlers write the number of each event to their node's log, a file that outlives the node.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bus::event::KEY_HEADER;
use bus::{Bus, Event, Kind, Subject};

use crate::faults::{log_of, signal};
use crate::handlers::component;
use crate::world::{PATIENCE, World, eventually};

const SITE: &str = "cloud";
const KEYS: u64 = 4;
/// Of each key.
const EVENTS: u64 = 80;
/// Every so many-th event of a key fails twice, or for ever.
const FAILS: u64 = 11;
const DIES: u64 = 27;

/// A component that logs the body of each event; one that begins with `f` fails twice before, and
/// one that begins with `d` traps.
fn logger() -> Vec<u8> {
    component(
        "(local $first i32)
         (local.set $first (i32.load8_u (local.get 10)))
         (if (i32.eq (local.get $first) (i32.const 100)) (then unreachable))
         (if (i32.and (i32.eq (local.get $first) (i32.const 102))
                      (i32.lt_u (local.get 12) (i32.const 3)))
           (then (i32.store8 (i32.const 16) (i32.const 1)) (return (i32.const 16))))
         (call $write (i32.const 1) (local.get 10) (local.get 11))
         (i32.const 16)",
    )
}

fn manifest(version: u32) -> String {
    let handler = |order: &str| {
        format!(
            "[[handler]]\nname = \"by-{order}\"\ncomponent = \"{{code}}\"\norder = \"{order}\"\n\
             limits = {{ timeout_ms = 20000 }}\n[[handler.trigger]]\nevent = \"go.*\"\n\
             [handler.retry]\nmax_deliver = 3\nbackoff_ms = 100\n"
        )
    };
    let handlers = [handler("key"), handler("subject")].concat();
    format!("[app]\nname = \"row\"\nversion = \"{version}\"\n{handlers}")
}

fn dies(number: u64) -> bool {
    number % DIES == 5
}

async fn publish(bus: &Bus, key: u64, number: u64) -> Result<()> {
    let how = match number {
        number if dies(number) => "d",
        number if number % FAILS == 3 => "f",
        _ => "s",
    };
    let name = format!("row.go.k{key}");
    let mut event = Event::new(&name, bus.site().as_str(), format!("{how} k={key} n={number} "))?;
    event.headers.insert(KEY_HEADER.into(), key.to_string());
    let subject = Subject::new(Kind::Ev, bus.site(), name).to_string();
    bus::event::publish_acked(bus, &subject, &event, PATIENCE).await?;
    Ok(())
}

/// Key and number of each event that a handler had, in order.
fn handled(world: &World, handler: &str) -> Result<Vec<(u64, u64)>> {
    let text = std::fs::read_to_string(log_of(world, SITE)?)?;
    let from = format!("row/{handler}");
    let number = |line: &str, name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.split(' ').next()?.parse::<u64>().ok()
    };
    let lines = text.lines().filter(|line| line.contains(&from));
    Ok(lines.filter_map(|line| Some((number(line, " k=")?, number(line, " n=")?))).collect())
}

fn check_order(handled: &[(u64, u64)]) -> Result<()> {
    let mut keys: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (key, number) in handled {
        keys.entry(*key).or_default().push(*number);
    }
    ensure!(keys.len() as u64 == KEYS, "{keys:?}");
    for (key, mut numbers) in keys {
        ensure!(numbers.is_sorted(), "key {key}: {numbers:?}");
        let all = numbers.len();
        numbers.dedup();
        println!("key {key}: {} handled, {} of them twice", numbers.len(), all - numbers.len());
        ensure!(numbers.iter().eq((0..EVENTS).filter(|n| !dies(*n)).collect::<Vec<_>>().iter()));
    }
    Ok(())
}

/// A failing event keeps back its key alone: one of another key that was published later is handled
/// before it.
fn check_that_others_went_on(handled: &[(u64, u64)]) -> Result<()> {
    let failing = handled.iter().position(|event| *event == (0, 3)).context("(0, 3) is missing")?;
    let overtook = |(key, number): &&(u64, u64)| *key != 0 && *number % FAILS != 3 && *number <= 3;
    let before = handled[..failing].iter().filter(overtook).count();
    ensure!(before as u64 >= KEYS - 1, "who waits for nobody waited: {handled:?}");
    Ok(())
}

#[tokio::test]
async fn events_of_a_key_are_handled_in_order_whatever_fails() -> Result<()> {
    let mut world = World::start_with(&[SITE], []).await?;
    world.apply(&manifest(1), &[("code", logger())]).await?;
    let bus = world.bus(SITE).clone();
    for number in 0..EVENTS / 2 {
        for key in 0..KEYS {
            publish(&bus, key, number).await?;
        }
    }
    let some = async || Ok((handled(&world, "by-key")?.len() as u64 > EVENTS / 2).then_some(()));
    eventually("the first events to be handled", some).await?;
    let pid = world.report(SITE).await?.pid;
    world.apply(&manifest(2), &[("code", logger())]).await?;
    signal(pid, "-KILL")?;
    world.tree.kill_node(SITE)?;
    for number in EVENTS / 2..EVENTS {
        for key in 0..KEYS {
            publish(&bus, key, number).await?;
        }
    }
    world.tree.restart_node(SITE).await?;
    let dead = (0..EVENTS).filter(|number| dies(*number)).count() as u64;
    for handler in ["by-key", "by-subject"] {
        let all = async || {
            let seen: std::collections::BTreeSet<_> =
                handled(&world, handler)?.into_iter().collect();
            let count = seen.len() as u64;
            ensure!(count >= KEYS * (EVENTS - dead), "{handler} has {count}");
            Ok(Some(()))
        };
        eventually(&format!("all events at {handler}"), all).await?;
        let handled = handled(&world, handler)?;
        check_order(&handled).context(handler)?;
        check_that_others_went_on(&handled).context(handler)?;
    }
    Ok(())
}
