//! What becomes of numbered events while links and processes fail: none is lost, and how many
//! come twice or late. Each case prints its counts; docs/guarantees.md has them as a table.
//!
//! A publisher at an edge of a tree of seven sites numbers its events and repeats each until it is
//! acknowledged. One handler runs at the edge, one at the root; both write the number to their
//! node's log, a file that outlives the node. Another publisher, on the branch where nothing fails,
//! is to notice nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bus::{Bus, Event, Kind, Subject};

use crate::climb::logged;
use crate::handlers::component;
use crate::proxy::Proxy;
use crate::world::{World, eventually, grows_to};

const CLOUD: &str = "cloud";
const REGION: &str = "cloud.east";
const EDGE: &str = "cloud.east.cell1";
/// Whoever is on another branch is to notice nothing.
const ELSEWHERE: &str = "cloud.west.cell1";
const TREE: [&str; 7] =
    [CLOUD, REGION, "cloud.west", EDGE, "cloud.east.cell2", ELSEWHERE, "cloud.west.cell2"];
/// How many events are published, and how many of them before the fault.
const EVENTS: u64 = 300;
const BEFORE: u64 = 100;
/// The pause between two events.
const EVERY: Duration = Duration::from_millis(15);
/// How long the publisher waits for an acknowledgement before it repeats the event.
const REPEAT_AFTER: Duration = Duration::from_secs(2);
/// Bounds in docs/guarantees.md: from the end of a fault to the last event, and, where a link
/// failed, to the first that comes over it again.
const LINK_LATE: Duration = Duration::from_secs(5);
const LATE: Duration = Duration::from_secs(15);
/// A machine that does other work as well may take so many times as long with anything.
const PATIENT: u32 = 3;
/// How many events of a node may be run again when it dies: those in hand.
const IN_HAND_MAX: u64 = 64;

/// A component that goes round so many million times and logs the body of each event.
pub fn logger(millions: u32) -> Vec<u8> {
    component(&format!(
        "(local $left i32)
         (local.set $left (i32.const {millions}000000))
         (loop $l (br_if $l (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
         (call $write (i32.const 1) (local.get 10) (local.get 11))
         (i32.const 16)",
    ))
}

fn manifest() -> String {
    let handler = |name: &str, event: &str, placement: &str| {
        format!(
            "[[handler]]\nname = \"{name}\"\ncomponent = \"{{code}}\"\n\
             placement = {{ {placement} }}\nlimits = {{ timeout_ms = 20000 }}\n\
             [[handler.trigger]]\nevent = \"{event}\"\n"
        )
    };
    let near = handler("near", "go", "max_tier = \"edge\"");
    let far = handler("far", "go", "min_tier = \"cloud\"");
    let other = handler("other", "by", "min_tier = \"cloud\"");
    format!("[app]\nname = \"count\"\nversion = \"1\"\n{near}{far}{other}")
}

/// Publishes every event in order, each until it is acknowledged.
async fn publish_all(bus: Bus, name: &str, acknowledged: Arc<AtomicU64>) -> Result<()> {
    let subject = Subject::new(Kind::Ev, bus.site(), name).to_string();
    for number in 0..EVENTS {
        let event = Event::new(name, bus.site().as_str(), format!("n={number}"))?;
        while bus::event::publish_acked(&bus, &subject, &event, REPEAT_AFTER).await.is_err() {
            tokio::time::sleep(EVERY).await;
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(EVERY).await;
    }
    Ok(())
}

/// How often a handler had each number, by what the log of its node says.
pub fn seen(log: &Path, handler: &str) -> Result<BTreeMap<u64, u64>> {
    let text = std::fs::read_to_string(log)?;
    let from = format!("count/{handler}");
    let mut seen = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains(&from)) {
        let Some((_, rest)) = line.split_once(" n=") else { continue };
        let digits = rest.split_whitespace().next().unwrap_or_default();
        if let Ok(number) = digits.parse() {
            *seen.entry(number).or_default() += 1;
        }
    }
    Ok(seen)
}

pub fn log_of(world: &World, site: &str) -> Result<std::path::PathBuf> {
    let found = world.context.sites.iter().find(|known| known.path.as_str() == site);
    Ok(found.with_context(|| format!("no site {site}"))?.log.clone())
}

/// What a handler made of all events.
struct Count {
    lost: u64,
    twice: u64,
    /// From the end of the fault to the last event.
    late: Duration,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lost, {} twice, {:.1?} late", self.lost, self.twice, self.late)
    }
}

async fn count(world: &World, site: &str, handler: &str, healed: Instant) -> Result<Count> {
    let log = log_of(world, site)?;
    grows_to(EVENTS, || Ok(seen(&log, handler)?.len() as u64)).await?;
    let late = healed.elapsed();
    let seen = seen(&log, handler)?;
    let lost = EVENTS - seen.len() as u64;
    if lost > 0 {
        let missing: Vec<u64> = (0..EVENTS).filter(|n| !seen.contains_key(n)).collect();
        println!("{handler} at {site} misses {missing:?}");
    }
    Ok(Count { lost, twice: seen.values().sum::<u64>() - seen.len() as u64, late })
}

/// How long it takes until an event comes to the root that was not there when the fault ended.
async fn begins(world: &World, healed: Instant) -> Result<Duration> {
    let log = log_of(world, CLOUD)?;
    let before = seen(&log, "far")?.len() as u64;
    grows_to(EVENTS.min(before + 1), || Ok(seen(&log, "far")?.len() as u64)).await?;
    Ok(healed.elapsed())
}

pub fn signal(pid: u32, signal: &str) -> Result<()> {
    let status = Command::new("kill").arg(signal).arg(pid.to_string()).status()?;
    ensure!(status.success(), "kill {signal} {pid}: {status}");
    Ok(())
}

fn server_pid(world: &mut World, site: &str) -> Result<u32> {
    world.tree.server_pid(site)?.with_context(|| format!("the server of {site} does not run"))
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The link between edge and region does this, and heals.
    Link(fn(&Proxy)),
    FrozenServer(&'static str),
    FrozenNode(&'static str),
    KilledServer(&'static str),
    KilledNode(&'static str),
}

impl Fault {
    fn bound(self) -> Duration {
        match self {
            Self::Link(_) => LINK_LATE,
            _ => LATE,
        }
    }

    async fn happen(self, world: &mut World, link: &Proxy, lasting: Duration) -> Result<()> {
        match self {
            Self::Link(fault) => {
                fault(link);
                tokio::time::sleep(lasting).await;
                link.heal();
            }
            Self::FrozenServer(site) => {
                let pid = server_pid(world, site)?;
                signal(pid, "-STOP")?;
                tokio::time::sleep(lasting).await;
                signal(pid, "-CONT")?;
            }
            Self::FrozenNode(site) => {
                let pid = world.report(site).await?.pid;
                signal(pid, "-STOP")?;
                tokio::time::sleep(lasting).await;
                signal(pid, "-CONT")?;
            }
            Self::KilledServer(site) => {
                signal(server_pid(world, site)?, "-KILL")?;
                tokio::time::sleep(lasting).await;
                world.tree.restart_server(site)?;
            }
            Self::KilledNode(site) => {
                world.tree.kill_node(site)?;
                tokio::time::sleep(lasting).await;
                world.tree.restart_node(site).await?;
            }
        }
        Ok(())
    }
}

/// Runs one case.
async fn check(case: &str, fault: Fault, lasting: Duration, twice_max: u64) -> Result<()> {
    let link = Proxy::new();
    let mut world = World::start_with(&TREE, [(EDGE, link.via())]).await?;
    // Some milliseconds for each event: mostly one is in hand somewhere.
    world.apply(&manifest(), &[("code", logger(6))]).await?;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let edge = publish_all(world.bus(EDGE).clone(), "count.go", acknowledged.clone());
    let publisher = tokio::spawn(edge);
    let other = publish_all(world.bus(ELSEWHERE).clone(), "count.by", Arc::default());
    let other = tokio::spawn(other);
    let enough = async || Ok((acknowledged.load(Ordering::Relaxed) >= BEFORE).then_some(()));
    eventually("the first events to be acknowledged", enough).await?;
    fault.happen(&mut world, &link, lasting).await?;
    let healed = Instant::now();
    let bound = PATIENT * fault.bound();
    let begun = begins(&world, healed).await?;
    publisher.await??;
    let published = healed.elapsed();
    other.await??;
    let by = count(&world, CLOUD, "other", healed).await?;
    ensure!(by.lost == 0 && by.twice == 0, "{case}, on another branch: {by}");
    let near = count(&world, EDGE, "near", healed).await?;
    let far = count(&world, CLOUD, "far", healed).await?;
    println!(
        "{case}, {lasting:?}: catching up began after {begun:.1?}, published after \
         {published:.1?}; near {near}, far {far}"
    );
    let latest = begun.max(near.late).max(far.late);
    ensure!(latest <= bound, "{case}: {latest:.1?} late, {bound:?} at most");
    ensure!(near.lost == 0 && far.lost == 0, "{case}: near {near}, far {far}");
    let wanted: Vec<String> = (0..EVENTS).map(|n| format!("n={n}")).collect();
    for name in ["count.go", "count.by"] {
        let got = logged(&world, CLOUD, name).await?;
        ensure!(got == wanted, "{case}: the root's log has of {name} {got:?}");
    }
    ensure!(near.twice <= twice_max && far.twice <= twice_max, "{case}: near {near}, far {far}");
    Ok(())
}

/// Two cases, each on a tree of its own, at the same time: most of a case is waiting.
async fn both(
    one: impl Future<Output = Result<()>>,
    other: impl Future<Output = Result<()>>,
) -> Result<()> {
    let (one, other) = tokio::join!(one, other);
    one.and(other)
}

const SHORT: Duration = Duration::from_secs(2);
/// Longer than it takes to notice that the other side is silent.
const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn events_survive_a_cut_link() -> Result<()> {
    check("link cut", Fault::Link(Proxy::cut), LONG, 0).await
}

#[tokio::test]
async fn events_survive_a_black_hole() -> Result<()> {
    check("link swallows everything", Fault::Link(Proxy::black_hole), LONG, 0).await
}

#[tokio::test]
async fn events_survive_a_slow_link() -> Result<()> {
    check("slow link", Fault::Link(Proxy::slow), LONG, 0).await
}

#[tokio::test]
async fn events_survive_a_frozen_server() -> Result<()> {
    let edge = check("frozen server at the edge", Fault::FrozenServer(EDGE), LONG, 0);
    let above = check("frozen server above", Fault::FrozenServer(REGION), LONG, 0);
    both(edge, above).await
}

#[tokio::test]
async fn events_survive_a_frozen_node() -> Result<()> {
    let edge = check("frozen node at the edge", Fault::FrozenNode(EDGE), LONG, 0);
    let above = check("frozen node above", Fault::FrozenNode(REGION), LONG, 0);
    both(edge, above).await
}

#[tokio::test]
async fn events_survive_a_killed_node() -> Result<()> {
    let edge = check("killed node at the edge", Fault::KilledNode(EDGE), SHORT, IN_HAND_MAX);
    let above = check("killed node above", Fault::KilledNode(REGION), SHORT, 0);
    both(edge, above).await
}

#[tokio::test]
async fn events_survive_a_killed_server() -> Result<()> {
    let edge = check("killed server at the edge", Fault::KilledServer(EDGE), SHORT, 0);
    let above = check("killed server above", Fault::KilledServer(REGION), SHORT, 0);
    both(edge, above).await
}
