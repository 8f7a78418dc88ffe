//! A node that is told to stop.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bus::{Headers, Kind, Subject};

use super::handlers::publish;
use super::world::{PATIENCE, World, eventually, tools};

const SLOW: &str = "import time\ndef handler(event, context):\n    time.sleep(1.5)\n    return 7\n";
const MANIFEST: &str = "[app]\nname = \"slow\"\n[[handler]]\nname = \"nap\"\n\
     python = \"{code}\"\nentry = \"app.handler\"\n\
     [[handler.trigger]]\ncall = \"nap\"\n[[handler.trigger]]\nevent = \"night\"\n";

#[tokio::test]
async fn a_node_that_stops_ends_what_it_has_begun_and_takes_no_more() -> Result<()> {
    if !tools().join("py/awslambdaric").exists() {
        aloud::skipped!("no awslambdaric; run ./tools.sh test");
        return Ok(());
    }
    let mut world = World::start_with(&["cloud"], []).await?;
    world.apply(MANIFEST, &[("code", SLOW.into())]).await?;
    let bus = world.bus("cloud").clone();
    let subject = Subject::new(Kind::Call, bus.site(), "slow.nap").to_string();
    publish(&bus, "slow.night").await?;
    let (own, asked) = (bus.clone(), subject.clone());
    let answer =
        tokio::spawn(async move { own.request(&asked, &Headers::new(), "", PATIENCE).await });
    let both = async || Ok((world.report("cloud").await?.brief.in_flight == 2).then_some(()));
    eventually("both to be under way", both).await?;

    let began = Instant::now();
    world.tree.stop_node("cloud")?;
    assert!(began.elapsed() < Duration::from_secs(8), "it was killed: {:?}", began.elapsed());
    let answer = answer.await?.context("the call that was under way")?;
    assert_eq!(&answer.payload[..], b"7");
    let late = bus.request(&subject, &Headers::new(), "", Duration::from_secs(2)).await;
    assert!(late.is_err(), "a stopped node answered: {late:?}");

    world.tree.restart_node("cloud").await?;
    bus.request(&subject, &Headers::new(), "", PATIENCE).await?;
    let report = world.report("cloud").await?;
    assert_eq!(report.events_waiting, 0, "the event was acknowledged before the node went");
    assert_eq!(report.metrics.counts["invocations slow/nap"], 1, "the call, and no event again");
    Ok(())
}
