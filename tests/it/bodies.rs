//! Bodies that are too large for a message: whole when they arrive, in small messages on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use bus::{Bus, Error, Headers, Kind, PAYLOAD_BYTES_MAX, RefusalKind, Subject, Subscription, body};
use edgescale::node::client;

use crate::gateway::{curl, echo, has_curl, place};
use crate::proxy::Proxy;
use crate::world::{World, eventually};

const TREE: [&str; 3] = ["cloud", "cloud.east", "cloud.east.cell1"];
const EDGE: &str = "cloud.east.cell1";

/// What passed a server.
#[derive(Clone, Default)]
pub struct Seen {
    pub largest: Arc<AtomicUsize>,
    parts: Arc<Mutex<Vec<Headers>>>,
}

impl Seen {
    fn parts(&self) -> Vec<Headers> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self) -> usize {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

pub async fn watch(bus: &Bus) -> Result<(Seen, Subscription)> {
    let seen = Seen::default();
    let heard = seen.clone();
    let hear = move |message: bus::Request| {
        heard.largest.fetch_max(message.payload.len(), Ordering::Relaxed);
        if message.subject.contains("._.@body.") {
            heard.parts.lock().unwrap_or_else(PoisonError::into_inner).push(message.headers);
        }
        std::future::ready(())
    };
    let subscription = bus.subscribe(">", hear).await?;
    bus.flush().await?;
    Ok((seen, subscription))
}

fn manifest() -> String {
    "[app]\nname = \"big\"\n[[handler]]\nname = \"echo\"\ncomponent = \"{echo}\"\n\
     placement = { min_tier = \"cloud\" }\nlimits = { memory_mb = 512, timeout_ms = 60000 }\n\
     [[handler.trigger]]\nhttp = \"POST /echo/{what+}\"\n"
        .to_owned()
}

#[tokio::test]
async fn a_large_body_crosses_the_tree_both_ways_in_small_messages() -> Result<()> {
    if !has_curl() {
        return Ok(());
    }
    let world = World::start_with(&TREE, []).await?;
    world.apply(&manifest(), &[("echo", echo())]).await?;
    let url = format!("{}/big/echo/x", place(&world, EDGE)?.url);
    let mut watches = vec![];
    for site in TREE {
        watches.push((site, watch(world.bus(site)).await?));
    }
    for bytes in [PAYLOAD_BYTES_MAX + 1, body::BODY_BYTES_MAX] {
        let sent: Vec<u8> = (0..bytes).map(|at| (at / 3 % 251) as u8).collect();
        let (to, body) = (url.clone(), sent.clone());
        // Elsewhere, so that the watches hear meanwhile.
        let post = move || curl(&["--data-binary", "@-", &to], &body);
        let got = tokio::task::spawn_blocking(post).await??;
        let text = || String::from_utf8_lossy(&got.body[..got.body.len().min(300)]).into_owned();
        assert_eq!(got.status, 200, "{bytes} bytes: {}", text());
        assert_eq!(got.header("es-site"), "cloud");
        assert!(got.body == sent, "{} bytes came back, not the same {bytes}", got.body.len());
    }
    for (site, (seen, _)) in &watches {
        // Two bodies there and back, and a drop for each way.
        let all = 2 * (body::BODY_BYTES_MAX / body::PART_BYTES + 3 + 1);
        let heard = async || Ok((seen.count() >= all).then_some(()));
        eventually(&format!("{all} messages about bodies at {site}"), heard).await?;
        let largest = seen.largest.load(Ordering::Relaxed);
        println!("{site}: {} messages about bodies, the largest of all {largest}", seen.count());
        assert!(largest <= PAYLOAD_BYTES_MAX, "{site}: a message of {largest} bytes");
    }
    // What was used is not kept.
    let (_, (seen, _)) = &watches[0];
    let parts = seen.parts();
    let subject = Subject::new(Kind::Call, world.bus("cloud").site(), "@body.get").to_string();
    for headers in [parts.first(), parts.last()] {
        let headers = headers.context("no part was seen")?;
        let asked = world.bus("cloud").request(&subject, headers, "", client::TIMEOUT).await;
        let Err(Error::Refused(refusal)) = asked else { anyhow::bail!("it is kept: {asked:?}") };
        assert!(refusal.message.contains("is not here"), "{refusal}");
        assert_eq!(refusal.kind, RefusalKind::Unavailable);
    }
    Ok(())
}

/// What cannot be sent is said in its place: nobody waits for an answer that never comes.
#[tokio::test]
async fn an_answer_that_fits_no_message_is_refused_with_the_reason() -> Result<()> {
    let world = World::start_with(&TREE[..1], []).await?;
    let bus = world.bus("cloud");
    let wide = |_| async {
        let answer = bus::Response::new(vec![b'x'; PAYLOAD_BYTES_MAX]);
        Ok(answer.with("wide", "y".repeat(128 << 10)))
    };
    let long = |_| async {
        let text = "z".repeat(2 << 20);
        Err(bus::Refusal::new(RefusalKind::HandlerFailed, text))
    };
    let _wide = bus.serve("local.cloud._.wide", "test", wide).await?;
    let _long = bus.serve("local.cloud._.long", "test", long).await?;
    bus.flush().await?;
    for (name, wanted) in [("wide", "an answer that is too large for a message"), ("long", "zzz")] {
        let subject = format!("local.cloud._.{name}");
        let answer = bus.request(&subject, &Headers::new(), "", client::TIMEOUT).await;
        let Err(Error::Refused(refusal)) = answer else { anyhow::bail!("{answer:?}") };
        assert_eq!(
            (refusal.kind, refusal.at.as_deref()),
            (RefusalKind::HandlerFailed, Some("cloud"))
        );
        assert!(refusal.message.starts_with(wanted), "{refusal}");
    }
    Ok(())
}

/// The last steps of SplitMix64.
fn noise(at: u64) -> u8 {
    let mixed = (at ^ (at >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) as u8
}

/// A body that was late tells how slow the link is: the next that could not be in time is refused
/// at once, and what is small enough still goes.
#[tokio::test]
async fn a_body_that_would_be_late_is_not_sent() -> Result<()> {
    if !has_curl() {
        return Ok(());
    }
    let link = Proxy::new();
    let world = World::start_with(&TREE[..2], [(TREE[1], link.via())]).await?;
    world.apply(&manifest(), &[("echo", echo())]).await?;
    let url = format!("{}/big/echo/x", place(&world, TREE[1])?.url);
    let post = async |bytes: usize| {
        let to = url.clone();
        let limit = ["--header", "Es-Timeout-Ms: 1000", "--data-binary", "@-"];
        // Links are compressed: these bytes do not get smaller.
        let body: Vec<u8> = (0..bytes as u64).map(noise).collect();
        let post = move || curl(&[&limit[..], &[&to]].concat(), &body);
        tokio::task::spawn_blocking(post).await?
    };
    eventually("a small body", async || Ok((post(10).await?.status == 200).then_some(()))).await?;
    assert_eq!(world.report(TREE[1]).await?.brief.link.and_then(|link| link.bytes_per_s), None);

    link.slow();
    assert_eq!(post(2 << 20).await?.status, 504);
    link.heal();
    let measured =
        async || Ok(world.report(TREE[1]).await?.brief.link.context("no link")?.bytes_per_s);
    let rate = eventually("a measured rate", measured).await?;
    assert!(rate <= 3 << 20, "{rate} bytes/s");
    let sent = world.count(TREE[1], "calls sent up").await?;
    let late = post(16 << 20).await?;
    let text = String::from_utf8_lossy(&late.body).into_owned();
    assert!(late.status == 504 && text.contains("and the body takes"), "{}: {text}", late.status);
    assert_eq!(world.count(TREE[1], "calls sent up").await?, sent, "it was sent all the same");
    assert_eq!(post(10).await?.status, 200);
    Ok(())
}
