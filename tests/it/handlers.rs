//! Handlers that misbehave, events that are malformed, manifests that are wrong: on a whole tree.

use std::time::Instant;

use ::handlers::execute::{Caller, Host, HostError, Publication, conformance};
use ::handlers::logs::Line;
use anyhow::{Context as _, Result};
use bus::{Bus, Headers, Kind, Subject};
use edgescale::node::{self, client};
use edgescale::tree::DEMO_SITES;
use edgescale::upload;
use serde_json::{Value, json};

use crate::proxy::Proxy;
use crate::world::{PATIENCE, World, eventually};

const EDGE: [&str; 2] = ["cloud", "cloud.east"];

/// A component whose `handle-event` has the given body. Local 10 and 11 are where the event's body
/// begins and how long it is; `$write` takes a level, a place and a length, and logs what is there.
pub fn component(body: &str) -> Vec<u8> {
    let fields = ["id", "source", "subject", "time", "content-type"]
        .map(|name| format!("(field \"{name}\" string)"))
        .join(" ");
    let text = format!(
        r#"(component
          (import "edgescale:app/inputs@0.1.0" (instance $inputs
            (type $e (record {fields} (field "body" (list u8)) (field "attempt" u32)))
            (export "event" (type (eq $e)))))
          (alias export $inputs "event" (type $event))
          (import "edgescale:app/log@0.1.0" (instance $log
            (type $l (enum "debug" "info" "warn" "error"))
            (export "level" (type $level (eq $l)))
            (export "write" (func (param "level" $level) (param "message" string)))))
          (core module $memory
            (memory (export "memory") 4)
            (global $top (mut i32) (i32.const 1024))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
              (global.set $top (i32.add (global.get $top) (local.get 3)))
              (i32.sub (global.get $top) (local.get 3))))
          (core instance $mem (instantiate $memory))
          (core func $write (canon lower (func $log "write") (memory (core memory $mem "memory"))))
          (core module $m
            (import "mem" "memory" (memory 4))
            (import "log" "write" (func $write (param i32 i32 i32)))
            (func (export "handle")
              (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {body}))
          (core instance $i (instantiate $m
            (with "mem" (instance $mem))
            (with "log" (instance (export "write" (func $write))))))
          (func (export "handle-event") (param "event" $event) (result (result (error string)))
            (canon lift (core func $i "handle") (memory (core memory $mem "memory"))
              (realloc (core func $mem "realloc")))))"#
    );
    wat::parse_str(text).expect("the component's text is right")
}

/// What a component that takes events and calls says of their types.
pub fn inputs() -> String {
    let fields = ["id", "source", "subject", "time", "content-type"]
        .map(|name| format!("(field \"{name}\" string)"))
        .join(" ");
    format!(
        r#"(import "edgescale:app/inputs@0.1.0" (instance $inputs
            (type $e (record {fields} (field "body" (list u8)) (field "attempt" u32)))
            (export "event" (type (eq $e)))
            (type $q (record (field "id" string) (field "name" string)
              (field "content-type" string) (field "body" (list u8))))
            (export "request" (type (eq $q)))
            (type $p (record (field "content-type" string) (field "body" (list u8))))
            (export "response" (type (eq $p)))))
          (alias export $inputs "event" (type $event))
          (alias export $inputs "request" (type $request))
          (alias export $inputs "response" (type $response))"#
    )
}

/// An app with one component, started by events of a topic.
pub fn manifest(app: &str, topic: &str) -> String {
    format!(
        "[app]\nname = \"{app}\"\nversion = \"1\"\n\n[[handler]]\nname = \"h\"\n\
         component = \"{{code}}\"\n[[handler.trigger]]\nevent = \"{topic}\"\n\
         [handler.limits]\ntimeout_ms = 20000\n[handler.retry]\nmax_deliver = 2\nbackoff_ms = 10\n"
    )
}

pub async fn publish(bus: &Bus, name: &str) -> Result<u64> {
    let event = bus::Event::new(name, bus.site().as_str(), "{}")?;
    let subject = Subject::new(Kind::Ev, bus.site(), name).to_string();
    Ok(bus::event::publish_acked(bus, &subject, &event, client::TIMEOUT).await?)
}

pub async fn dead_letter(world: &World, site: &str, wanted: &str) -> Result<Line> {
    let dead = async || {
        let answer = client::control(world.bus(site), "logs", "").await?;
        let lines: Vec<Line> = client::json(&answer)?;
        let is_it = |line: &Line| line.text.contains("dead letter") && line.text.contains(wanted);
        Ok(lines.into_iter().find(is_it))
    };
    eventually(&format!("a dead letter that says {wanted:?}"), dead).await
}

#[tokio::test]
async fn handlers_that_trap_or_loop_become_dead_letters_and_hurt_nobody() -> Result<()> {
    let world = World::start_with(&EDGE, []).await?;
    world.apply(&manifest("traps", "go"), &[("code", component("unreachable"))]).await?;
    let endless = component("(loop $l (br $l)) unreachable");
    let brief = manifest("loops", "go").replace("20000", "200");
    world.apply(&brief, &[("code", endless)]).await?;
    world.apply(&manifest("works", "go"), &[("code", component("(i32.const 16)"))]).await?;
    let edge = world.bus("cloud.east");
    let once = brief_of_cpu(&manifest("hogs", "go"));
    world.apply(&once, &[("code", component("(loop $l (br $l)) unreachable"))]).await?;
    for app in ["traps", "loops", "hogs", "works"] {
        publish(edge, &format!("{app}.go")).await?;
    }
    let letter = dead_letter(&world, "cloud.east", "traps.go after 2 attempts").await?;
    assert!(letter.text.contains("unreachable"), "{}", letter.text);
    check_attempts(edge, letter).await?;
    let letter = dead_letter(&world, "cloud.east", "loops.go after 2 attempts").await?;
    assert!(letter.text.contains("stopped at its time limit of 200 ms"), "{}", letter.text);
    let letter = dead_letter(&world, "cloud.east", "hogs.go after 1 attempts").await?;
    assert!(letter.text.contains("limit of 50 ms of computing"), "{}", letter.text);
    let worked = async || {
        let count = world.count("cloud.east", "invocations works/h").await?;
        Ok((count >= 1).then_some(()))
    };
    eventually("the good handler to run", worked).await?;
    let report = world.report("cloud.east").await?;
    assert_eq!(report.dead_letters, 3);
    let counts = report.metrics.counts;
    assert_eq!(counts["invocations traps/h"], 2);
    for (ended, count) in [("trap traps", 2), ("timeout loops", 2), ("cpu hogs", 1)] {
        assert_eq!(counts[&format!("ended {ended}/h")], count, "{counts:?}");
    }
    assert_eq!(counts.get("failures works/h"), None);
    Ok(())
}

/// The lines about a dead letter's event name it, and each the attempt that it is about.
async fn check_attempts(bus: &Bus, letter: Line) -> Result<()> {
    let dead = letter.about.context("it is about an event")?;
    assert_eq!(dead.attempt, Some(2));
    let lines: Vec<Line> = client::json(&client::control(bus, "logs", "").await?)?;
    let of_handler = lines.iter().filter(|line| line.from == "traps/h");
    let about = of_handler.filter_map(|line| line.about.clone());
    let about: Vec<_> = about.filter(|about| about.id == dead.id).collect();
    assert_eq!(about.iter().map(|about| about.attempt).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert!(about.iter().all(|about| about.revision.is_some()), "{about:?}");
    Ok(())
}

/// Little time to compute, and one attempt at what needs more.
fn brief_of_cpu(manifest: &str) -> String {
    let limited = manifest.replace("timeout_ms", "cpu_ms = 50\ntimeout_ms");
    format!("{limited}attempts = {{ cpu = 1 }}\n")
}

#[tokio::test]
async fn malformed_events_are_put_aside_with_the_reason() -> Result<()> {
    let world = World::start_with(&EDGE, []).await?;
    let edge = world.bus("cloud.east");
    let send = async |name: &str, key: &str, value: &str| -> Result<()> {
        let subject = Subject::new(Kind::Ev, edge.site(), name).to_string();
        let headers = Headers::from([(key.to_owned(), value.to_owned())]);
        edge.request(&subject, &headers, "x", client::TIMEOUT).await?;
        Ok(())
    };
    send("app.one", "ce-specversion", "7.0").await?;
    send("app.two", "ce-time", "tea time").await?;
    dead_letter(&world, "cloud.east", "only 1.0 is spoken").await?;
    dead_letter(&world, "cloud.east", "\"tea time\" is not RFC 3339").await?;
    // An event of an app that nobody knows ends at the root.
    send("ghost.three", "ce-id", "3").await?;
    dead_letter(&world, "cloud", "no app \"ghost\" is registered").await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_manifest_changes_nothing_and_says_where() -> Result<()> {
    let world = World::start_with(&["cloud"], []).await?;
    let root = world.bus("cloud");
    let check = async |manifest: &str, wanted: &[&str]| -> Result<()> {
        let refused = upload::apply(root, manifest).await;
        let text = refused.err().context("it was accepted")?.to_string();
        for part in wanted {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
        Ok(())
    };
    let good = manifest("app", "go");
    let digest = ::handlers::Digest::of(b"nobody uploaded this");
    check("not toml at all [", &["line 1"]).await?;
    check(&good.replace("timeout_ms", "timeout_sm"), &["line 11", "timeout_sm"]).await?;
    check(&good, &["line 7", "handler[0].component"]).await?;
    let missing = good.replace("{code}", digest.as_str());
    check(&missing, &["line 7", "has no object", "nats obj put code FILE --name"]).await?;
    let other = bus::Registry::open(root).await?;
    other.put_code(digest.as_str(), "something else".into()).await?;
    check(&missing, &["line 7", "upload it under its own name"]).await?;
    let report = world.report("cloud").await?;
    assert!(report.apps.is_empty() && report.tables.is_empty());
    Ok(())
}

#[tokio::test]
async fn unknown_things_are_named() -> Result<()> {
    let world = World::start_with(&EDGE, []).await?;
    let edge = world.bus("cloud.east");
    let check = async |kind: Kind, name: &str, body: Value, wanted: &str| {
        let answer = client::ask(edge, kind, name, body.to_string()).await;
        let text = format!("{:#}", answer.expect_err(name));
        assert!(text.contains(wanted), "{name}: {text:?} lacks {wanted:?}");
    };
    let scan = json!({"table": "nothing_here"});
    check(Kind::St, "scan", scan.clone(), "nothing_here").await;
    let get = json!({"table": "nothing_here", "key": {"a": 1}});
    check(Kind::St, "get", get, "nothing_here").await;
    check(Kind::St, "frobnicate", scan, "frobnicate").await;
    check(Kind::Call, "ghost.call", json!({}), "no app \"ghost\" is registered (at cloud)").await;
    check(Kind::Ctl, "frobnicate", json!({}), "apps.apply").await;
    check(Kind::Ctl, "apps.apply", json!({}), "registered at the root").await;
    check(Kind::Sm, "ghost.open", json!({"stream": "a", "source": "b"}), "no app \"ghost\"").await;
    Ok(())
}

#[tokio::test]
async fn a_new_revision_reaches_the_edge_and_a_removed_app_leaves_it() -> Result<()> {
    let proxy = Proxy::new();
    let world = World::start_with(&DEMO_SITES, [("cloud.east.cell1", proxy.via())]).await?;
    let bad = component("unreachable");
    world.apply(&manifest("app", "go"), &[("code", bad)]).await?;
    let edge = world.bus("cloud.east.cell1");
    // While nobody can say what the app is, the event waits; that is no failed attempt.
    proxy.cut();
    publish(edge, "app.go").await?;
    let offered = async || {
        let count = world.count("cloud.east.cell1", "events delivered").await?;
        Ok((count > 2).then_some(()))
    };
    eventually("the event to be offered again and again", offered).await?;
    proxy.heal();
    dead_letter(&world, "cloud.east.cell1", "app.go after 2 attempts").await?;
    assert_eq!(world.count("cloud.east.cell1", "invocations app/h").await?, 2);
    let began = Instant::now();
    let good = component("(i32.const 16)");
    world.apply(&manifest("app", "go"), &[("code", good)]).await?;
    let root = world.report("cloud").await?.apps[0].revision;
    let there = async || {
        let report = world.report("cloud.east.cell1").await?;
        Ok(report.apps.iter().any(|app| app.revision == root).then_some(()))
    };
    eventually("the new revision at the edge", there).await?;
    println!("a new revision was known two tiers down after {:?}", began.elapsed());
    publish(edge, "app.go").await?;
    let ran = async || {
        let count = world.count("cloud.east.cell1", "invocations app/h").await?;
        Ok((count > 2).then_some(()))
    };
    eventually("the new revision to run", ran).await?;
    assert_eq!(world.count("cloud.east.cell1", "failures app/h").await?, 2);
    assert_eq!(world.report("cloud.east.cell1").await?.dead_letters, 1);
    client::control(world.bus("cloud"), "apps.delete", "app").await?;
    let gone = async || Ok(world.report("cloud.east.cell1").await?.apps.is_empty().then_some(()));
    eventually("the app to leave the edge", gone).await
}

/// The real node, run in this process over the site's server.
#[tokio::test]
async fn what_handlers_see_of_a_node_is_a_host() -> Result<()> {
    let mut world = World::start_with(&["cloud"], []).await?;
    world.apply(conformance::MANIFEST, &[("code", component("(i32.const 16)"))]).await?;
    world.tree.kill_node("cloud")?;
    let settings = node::Settings::load(&world.tree.dir().join("cloud").join(node::CONFIG_FILE))?;
    let (node, _subscriptions, mut tasks) = node::start(settings, Default::default()).await?;
    let app = node.deploy.known("suite").context("the app is remembered")?;
    let target = app.target("h").context("the handler is there")?.clone();
    let deadline = Instant::now() + PATIENCE;
    let settings = node.host.settings(&target)?;
    let (invocation, attempt) = ("i".into(), 1);
    let (trace, by, budget) = Default::default();
    let caller = Caller { target, invocation, attempt, trace, deadline, settings, by, budget };
    conformance::check(&*node.host, &caller).await;
    check_bounds(&*node.host, &caller).await;
    let counts = node.metrics.snapshot().counts;
    assert_eq!(
        ["publishes", "calls", "writes"].map(|what| counts[&format!("limited {what}")]),
        [1; 3]
    );
    tasks.shutdown().await;
    node.store.close().await;
    Ok(())
}

/// What one invocation may ask of its node has an end.
async fn check_bounds(host: &dyn Host, caller: &Caller) {
    let mut target = caller.target.as_ref().clone();
    (target.limits.publishes, target.limits.calls, target.limits.writes) = (1, 1, 1);
    let target = std::sync::Arc::new(target);
    let caller = Caller { target, budget: Default::default(), ..caller.clone() };
    let event = || Publication {
        id: bus::event::unique_id(),
        subject: "bounded".into(),
        content_type: String::new(),
        body: "{}".into(),
        metadata: vec![],
    };
    host.publish(&caller, event()).await.expect("the first is published");
    let second = host.publish(&caller, event()).await;
    assert!(matches!(second, Err(HostError::TooMuch(_))), "{second:?}");
    let _ = host.call(&caller, "nobody", "".into()).await;
    let second = host.call(&caller, "nobody", "".into()).await;
    assert!(matches!(second, Err(HostError::TooMuch(_))), "{second:?}");
    host.put_blob(&caller, "one".into()).await.expect("the first is stored");
    let second = host.put_blob(&caller, "two".into()).await;
    assert!(matches!(second, Err(HostError::TooMuch(_))), "{second:?}");
}

#[tokio::test]
async fn the_tier_above_on_the_bus_is_a_tier_above() -> Result<()> {
    let world = World::start_with(&EDGE, []).await?;
    world.apply(conformance::MANIFEST, &[("code", component("(i32.const 16)"))]).await?;
    let answer = client::ask(world.bus("cloud"), Kind::Ctl, "apps.get", "suite".to_owned()).await?;
    let app = client::json(&answer)?;
    let above = node::BusAbove::new(world.bus("cloud.east").clone());
    ::handlers::deploy::conformance::check(&above, &app).await;
    Ok(())
}
