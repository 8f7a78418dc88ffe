//! New revisions of an app that is in use, good ones and broken ones: no call is refused and no
//! event lost, and what cannot run never serves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::handlers::Digest;
use ::handlers::logs::Line;
use anyhow::{Context as _, Result, ensure};
use bus::{Bus, Kind, Registry};
use edgescale::node::client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::handlers::{inputs, publish};
use crate::world::{World, eventually};

const SITES: [&str; 2] = ["cloud", "cloud.east"];

/// A component that answers each call with a text and takes each event. What stands beside it in
/// the module may be more.
fn answering(text: &str, beside: &str) -> Vec<u8> {
    let inputs = inputs();
    let length = text.len();
    let text = format!(
        r#"(component
          {inputs}
          (core module $m
            (memory (export "memory") 4)
            (data (i32.const 256) "{text}")
            (global $top (mut i32) (i32.const 1024))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
              (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
              (global.set $top (i32.add (local.get $at) (local.get 3)))
              (local.get $at))
            (func (export "event")
              (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
              (i32.const 64))
            (func (export "call") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
              (i32.store (i32.const 28) (i32.const 256))
              (i32.store (i32.const 32) (i32.const {length}))
              (i32.const 16))
            {beside})
          (core instance $i (instantiate $m))
          (func (export "handle-event") (param "event" $event) (result (result (error string)))
            (canon lift (core func $i "event") (memory (core memory $i "memory"))
              (realloc (core func $i "realloc"))))
          (func (export "handle-call") (param "request" $request)
            (result (result $response (error string)))
            (canon lift (core func $i "call") (memory (core memory $i "memory"))
              (realloc (core func $i "realloc")))))"#
    );
    wat::parse_str(text).expect("the component's text is right")
}

/// Functions that nobody calls, for a compiler to work on.
fn ballast() -> String {
    let step = |n: usize| format!("local.get 1 i32.xor local.get 0 i32.mul i32.const {n} i32.add ");
    let steps: String = (0..500).map(step).collect();
    let one = format!("(func (param i32 i32) (result i32) local.get 0 {steps})");
    one.repeat(220)
}

const MANIFEST: &str = "[app]\nname = \"app\"\nversion = \"1\"\n\n[[handler]]\nname = \"h\"\n\
    component = \"{code}\"\n[[handler.trigger]]\ncall = \"ask\"\n\
    [[handler.trigger]]\nevent = \"go\"\n[handler.retry]\nmax_deliver = 2\nbackoff_ms = 10\n";

/// What came of calls and events, as long as they were sent.
#[derive(Default)]
struct Traffic {
    stopped: AtomicBool,
    answered: AtomicU64,
    published: AtomicU64,
}

impl Traffic {
    /// Calls one after the other; the texts that were answered.
    fn call(self: &Arc<Self>, bus: &Bus) -> JoinHandle<Result<BTreeSet<String>>> {
        let (traffic, bus) = (Arc::clone(self), bus.clone());
        tokio::spawn(async move {
            let mut texts = BTreeSet::new();
            while !traffic.stopped.load(Ordering::Relaxed) {
                let answer = client::ask(&bus, Kind::Call, "app.ask", "{}").await;
                let answer = answer.with_context(|| format!("a call at {}", bus.site()))?;
                texts.insert(String::from_utf8_lossy(&answer.payload).into_owned());
                traffic.answered.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(texts)
        })
    }

    fn publish(self: &Arc<Self>, bus: &Bus) -> JoinHandle<Result<BTreeSet<String>>> {
        let (traffic, bus) = (Arc::clone(self), bus.clone());
        tokio::spawn(async move {
            while !traffic.stopped.load(Ordering::Relaxed) {
                publish(&bus, "app.go").await?;
                traffic.published.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(BTreeSet::new())
        })
    }
}

async fn until_answered(world: &World, text: &str) -> Result<()> {
    for site in SITES {
        let answers = async || {
            let answer = client::ask(world.bus(site), Kind::Call, "app.ask", "{}").await?;
            Ok((answer.payload == text).then_some(()))
        };
        eventually(&format!("{text} at {site}"), answers).await?;
    }
    Ok(())
}

async fn refused(world: &World, code: Vec<u8>, wanted: &str) -> Result<()> {
    let error = world.apply(MANIFEST, &[("code", code)]).await.err().context("it was accepted")?;
    let text = format!("{error:#}");
    ensure!(text.contains("line 7: handler[0].component") && text.contains(wanted), "{text}");
    Ok(())
}

async fn log_has(world: &World, site: &str, wanted: &str) -> Result<()> {
    let has = async || {
        let answer = client::control(world.bus(site), "logs", "").await?;
        let lines: Vec<Line> = client::json(&answer)?;
        Ok(lines.iter().any(|line| line.text.contains(wanted)).then_some(()))
    };
    eventually(&format!("a line that says {wanted:?}"), has).await
}

/// One that waits while the code of another is tried, and a request that is done meanwhile.
#[tokio::test]
async fn an_entry_of_the_bucket_that_others_overtake_is_registered() -> Result<()> {
    let world = World::start_with(&SITES[..1], []).await?;
    let root = world.bus("cloud");
    let registry = Registry::open(root).await?;
    let named = |name: &str| MANIFEST.replacen("\"app\"", &format!("\"{name}\""), 1);
    for (name, code) in [("slow", answering("slow", &ballast())), ("late", answering("late", ""))] {
        let digest = Digest::of(&code);
        registry.put_code(digest.as_str(), code.into()).await?;
        registry.put_app(name, &named(name).replace("{code}", digest.as_str())).await?;
    }
    world.apply(&named("quick"), &[("code", answering("quick", ""))]).await?;
    for name in ["late", "slow"] {
        let known = async || Ok(client::control(root, "apps.get", name).await.ok());
        eventually(&format!("the app {name}"), known).await?;
    }
    // What is removed meanwhile is gone.
    registry.delete_app("late").await?;
    world.apply(&named("quick"), &[("code", answering("again", ""))]).await?;
    let gone = async || Ok(client::control(root, "apps.get", "late").await.err().map(|_| ()));
    eventually("the app late to be gone", gone).await
}

#[tokio::test]
async fn no_invocation_is_lost_whatever_is_deployed() -> Result<()> {
    let world = World::start_with(&SITES, []).await?;
    let root = world.bus("cloud");
    world.apply(MANIFEST, &[("code", answering("one", ""))]).await?;
    until_answered(&world, "one").await?;
    let ready = async || {
        let report = world.report("cloud.east").await?;
        Ok((report.apps[0].handlers[0].state == "ready").then_some(()))
    };
    eventually("the code at the edge", ready).await?;

    let traffic = Arc::new(Traffic::default());
    let mut tasks = vec![];
    for site in SITES {
        tasks.extend([traffic.call(world.bus(site)), traffic.call(world.bus(site))]);
        tasks.push(traffic.publish(world.bus(site)));
    }
    world.apply(MANIFEST, &[("code", answering("two", ""))]).await?;
    until_answered(&world, "two").await?;
    world.apply(MANIFEST, &[("code", answering("slow", &ballast()))]).await?;
    until_answered(&world, "slow").await?;

    refused(&world, b"no component".to_vec(), "not a component").await?;
    let traps = answering("bad", "(start $s) (func $s unreachable)");
    refused(&world, traps, "does not start").await?;
    refused(&world, wat::parse_str("(component)")?, "exports none").await?;
    log_has(&world, "cloud", "app app: refused: manifest: line 7").await?;
    // The other way in: the bucket.
    let broken = b"nor this".to_vec();
    let digest = Digest::of(&broken);
    let registry = Registry::open(root).await?;
    registry.put_code(digest.as_str(), broken.into()).await?;
    registry.put_app("app", &MANIFEST.replace("{code}", digest.as_str())).await?;
    log_has(&world, "cloud", "entry app: manifest: line 7").await?;
    until_answered(&world, "slow").await?;

    let body = json!({"app": "app"}).to_string();
    let back: Value = client::json(&client::control(root, "apps.rollback", body).await?)?;
    until_answered(&world, "two").await?;
    let history: Vec<Value> = client::json(&client::control(root, "apps.history", "app").await?)?;
    ensure!(history.len() == 5, "{history:?}");
    ensure!(history[0]["revision"] == back["revision"] && history[0]["serves"] == true);

    tokio::time::sleep(Duration::from_millis(200)).await;
    traffic.stopped.store(true, Ordering::Relaxed);
    let mut texts = BTreeSet::new();
    for task in tasks {
        texts.extend(task.await??);
    }
    let wanted = ["one", "two", "slow"].map(str::to_owned);
    ensure!(texts.is_subset(&BTreeSet::from(wanted)) && texts.len() >= 2, "{texts:?}");
    let (answered, published) =
        (traffic.answered.load(Ordering::Relaxed), traffic.published.load(Ordering::Relaxed));
    println!("{answered} calls answered, {published} events published");
    let all_ran = async || {
        let mut ran = 0;
        for site in SITES {
            ran += world.count(site, "invocations app/h").await?;
        }
        Ok((ran >= answered + published).then_some(()))
    };
    eventually("every event to be handled", all_ran).await?;
    for site in SITES {
        let report = world.report(site).await?;
        ensure!(report.dead_letters == 0 && !report.metrics.counts.contains_key("failures app/h"));
        ensure!(report.apps[0].next.is_none() && report.apps[0].revision == back["revision"]);
    }
    Ok(())
}
