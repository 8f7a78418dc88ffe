//! Tenants of one tree: each as though it were alone, whatever another tries.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bus::event::publish_acked;
use bus::{Bus, Credentials, Event, Headers};
use edgescale::node::client;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::world::{World, eventually};

const SITES: [&str; 2] = ["cloud", "cloud.east"];
const SHORT: Duration = Duration::from_millis(500);

async fn owner(world: &World, site: &str, verb: &str, body: Value) -> Result<Value> {
    let name = format!("tenant.{verb}");
    client::json(&client::control(world.bus(site), &name, body.to_string()).await?)
}

/// Takes a tenant in at every site, and starts its nodes.
async fn add(world: &mut World, name: &str) -> Result<()> {
    for site in SITES {
        owner(world, site, "add", json!({"tenant": name})).await?;
    }
    world.tree.follow_tenants()
}

fn key_file(world: &World, site: &str, name: &str) -> PathBuf {
    world.tree.dir().join(site).join("tenants").join(name).join("client.nk")
}

async fn connect_with(world: &World, site: &str, seed: &str) -> Result<Bus> {
    let site = world.context.site(Some(site))?;
    let credentials = Credentials { seed: seed.trim().to_owned() };
    Ok(Bus::connect(&site.server, &site.path, &credentials, "tenant").await?)
}

/// A client of a tenant, once the tenant's node answers.
async fn connect(world: &World, site: &str, name: &str) -> Result<Bus> {
    let seed = std::fs::read_to_string(key_file(world, site, name))?;
    let bus = connect_with(world, site, &seed).await?;
    let answers = async || Ok(Some(client::report(&bus).await?).filter(|report| report.ready));
    eventually(&format!("the node of {name} at {site}"), answers).await?;
    Ok(bus)
}

fn server_log(world: &World, site: &str) -> Result<String> {
    Ok(std::fs::read_to_string(world.tree.dir().join(site).join("nats.log"))?)
}

const HELLO: &str = "[app]\nname = \"hello\"\nversion = \"1\"\n[[handler]]\nname = \"answer\"\n\
     command = \"{answer}\"\n[[handler.trigger]]\ncall = \"answer\"\n";

#[tokio::test]
async fn a_tenant_is_as_though_it_were_alone() -> Result<()> {
    let mut world = World::start_with(&SITES, []).await?;
    add(&mut world, "acme").await?;
    add(&mut world, "bolt").await?;
    let acme = connect(&world, "cloud.east", "acme").await?;
    let bolt = connect(&world, "cloud.east", "bolt").await?;

    // An app of one tenant is known to it alone, at both sites.
    let root = connect(&world, "cloud", "acme").await?;
    let registry = bus::Registry::open(&root).await;
    assert!(registry.is_ok(), "a tenant uploads code as anybody does: {:?}", registry.err());
    let manifest = HELLO.replace("{answer}", &put(&root).await?);
    edgescale::upload::apply(&root, &manifest).await?;
    let known = async || {
        let answer = client::control(&acme, "apps.get", "hello").await?;
        Ok(Some(answer))
    };
    eventually("the app at the tenant's own edge", known).await?;
    for other in [&bolt, world.bus("cloud.east")] {
        let refusal = client::control(other, "apps.get", "hello").await.expect_err("refused");
        assert!(format!("{refusal:#}").contains("no app \"hello\""), "{refusal:#}");
    }

    attack(&world, &acme, &bolt).await
}

/// Uploads a program; returns its digest.
async fn put(root: &Bus) -> Result<String> {
    let code = b"#!/bin/sh\nexit 0\n".to_vec();
    let digest = ::handlers::Digest::of(&code);
    bus::Registry::open(root).await?.put_code(digest.as_str(), code.into()).await?;
    Ok(digest.as_str().to_owned())
}

/// What one tenant's client tries against another, and against the site.
async fn attack(world: &World, acme: &Bus, bolt: &Bus) -> Result<()> {
    let (sender, mut heard) = tokio::sync::mpsc::channel::<String>(1_000);
    let hear = move |message: bus::Request| {
        let sender = sender.clone();
        async move {
            let _ = sender.try_send(message.subject);
        }
    };
    let _listening = bolt.subscribe(">", hear).await?;
    bolt.flush().await?;
    // Both tenants have a site of this name, and never meet: an event of the one is in its log.
    let event = Event::new("hello.secret", "cloud.east", "{}")?;
    let subject = "ev.cloud.east._.hello.secret";
    let first = publish_acked(acme, subject, &event, SHORT * 10).await?;
    acme.publish("tel.cloud.east._.secret", &Headers::new(), "secret").await?;
    acme.flush().await?;
    let forged = Event::new("hello.secret", "cloud.east", "{}")?;
    publish_acked(bolt, subject, &forged, SHORT * 10).await?;
    let second = publish_acked(acme, subject, &event_of(2)?, SHORT * 10).await?;
    assert_eq!(second, first + 1, "another tenant's event is in the log");

    // The streams of a node, its own tenant's as little as another's.
    for stream in ["EV", "DLQ", "LARGE"] {
        for verb in ["DELETE", "PURGE"] {
            let subject = format!("$JS.API.STREAM.{verb}.{stream}");
            let answer = bolt.request(&subject, &Headers::new(), "", SHORT).await;
            assert!(answer.is_err(), "{subject} was answered: {answer:?}");
            let said = async || {
                let log = server_log(world, "cloud.east")?;
                let line = log.lines().find(|line| line.contains(&subject)).map(str::to_owned);
                Ok(line.filter(|line| line.contains("Publish Violation")))
            };
            eventually(&format!("{subject} in the server's log"), said).await?;
        }
    }
    let third = publish_acked(acme, subject, &event_of(3)?, SHORT * 10).await?;
    assert_eq!(third, second + 1, "the log is another one");

    // Taking in, shutting out and new keys are the owner's.
    for verb in ["add", "rm", "rotate", "ls"] {
        let body = json!({"tenant": "acme"}).to_string();
        let refusal = client::control(bolt, &format!("tenant.{verb}"), body).await;
        let refusal = format!("{:#}", refusal.expect_err("refused"));
        assert!(refusal.contains(&format!("tenant.{verb} was refused")), "{refusal}");
        let logs = client::control(bolt, "logs", "").await?;
        let logs = String::from_utf8_lossy(&logs.payload).into_owned();
        assert!(logs.contains(&format!("tenant.{verb} was refused")), "{logs}");
    }
    while let Ok(subject) = heard.try_recv() {
        assert!(!subject.starts_with("tel.cloud.east._.secret"), "{subject} was heard");
    }
    Ok(())
}

fn event_of(number: u32) -> Result<Event> {
    let mut event = Event::new("hello.secret", "cloud.east", "{}")?;
    event.id = format!("event-{number}");
    Ok(event)
}

#[tokio::test]
async fn a_new_key_drops_nobody_and_a_tenant_that_left_is_gone() -> Result<()> {
    let mut world = World::start_with(&SITES, []).await?;
    // A site whose parent does not know the tenant cannot take it in.
    let refused = owner(&world, "cloud.east", "add", json!({"tenant": "acme"})).await;
    let refused = format!("{:#}", refused.expect_err("refused"));
    assert!(refused.contains("cloud has no tenant \"acme\"; add it there first"), "{refused}");
    add(&mut world, "acme").await?;
    let before = connect(&world, "cloud.east", "acme").await?;
    let file = key_file(&world, "cloud.east", "acme");
    let old = std::fs::read_to_string(&file)?;
    let grace = json!({"tenant": "acme", "grace_s": 3600});
    owner(&world, "cloud.east", "rotate", grace).await?;
    let new = std::fs::read_to_string(&file)?;
    assert_ne!(old, new);
    let _with_old = connect_with(&world, "cloud.east", &old).await?;
    let with_new = connect_with(&world, "cloud.east", &new).await?;
    client::report(&with_new).await?;
    assert_eq!(before.connects(), 1, "a client was dropped");

    // Without grace the old key is refused at once; the one before it is still good.
    let grace = json!({"tenant": "acme", "grace_s": 0});
    owner(&world, "cloud.east", "rotate", grace).await?;
    assert!(connect_with(&world, "cloud.east", &new).await.is_err(), "an old key was let in");
    connect_with(&world, "cloud.east", &old).await?;
    let list = owner(&world, "cloud.east", "ls", Value::Null).await?;
    assert_eq!(list[0]["tenant"], "tenant");
    assert_eq!(list[1]["former"].as_array().map(Vec::len), Some(1), "{list}");
    assert!(server_log(&world, "cloud.east")?.contains("authentication error"));

    // No secret is in a log, in a list of processes, or in what is answered.
    let newest = std::fs::read_to_string(&file)?;
    for seed in [&old, &new, &newest] {
        let seed = seed.trim();
        for log in ["nats.log", "node.log", "tenants/acme/node.log"] {
            let text = std::fs::read_to_string(world.tree.dir().join("cloud.east").join(log))?;
            assert!(!text.contains(seed), "{log} holds a seed");
        }
        assert!(!list.to_string().contains(seed));
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&line).contains(seed), "{:?}", entry.path());
        }
    }

    // Gone with all it kept: one that comes later under its name finds nothing.
    let event = Event::new("hello.secret", "cloud.east", "{}")?;
    let subject = "ev.cloud.east._.hello.secret";
    let last = connect(&world, "cloud.east", "acme").await?;
    publish_acked(&last, subject, &event, SHORT * 10).await?;
    for site in ["cloud.east", "cloud"] {
        owner(&world, site, "rm", json!({"tenant": "acme"})).await?;
    }
    world.tree.follow_tenants()?;
    assert!(!file.parent().context("a folder")?.exists());
    assert!(connect_with(&world, "cloud.east", &newest).await.is_err(), "it was let in again");
    add(&mut world, "acme").await?;
    let later = connect(&world, "cloud.east", "acme").await?;
    let seq = publish_acked(&later, subject, &event, SHORT * 10).await?;
    assert_eq!(seq, 1, "the log of the former tenant is still there");
    Ok(())
}

const HEARD: &str = "[app]\nname = \"hello\"\nversion = \"1\"\n[[handler]]\nname = \"h\"\n\
     component = \"CODE\"\n[[handler.trigger]]\nevent = \"front.>\"\n";

#[tokio::test]
async fn an_mqtt_client_starts_its_own_tenants_handler() -> Result<()> {
    if Command::new("mosquitto_pub").arg("--help").output().is_err() {
        aloud::skipped!("no mosquitto_pub; run ./tools.sh test");
        return Ok(());
    }
    let mut world = World::start_with(&SITES, []).await?;
    let mut tenants = vec![];
    for name in ["acme", "bolt"] {
        add(&mut world, name).await?;
        let root = connect(&world, "cloud", name).await?;
        let code = crate::handlers::component("(i32.const 16)");
        let digest = ::handlers::Digest::of(&code);
        bus::Registry::open(&root).await?.put_code(digest.as_str(), code.into()).await?;
        edgescale::upload::apply(&root, &HEARD.replace("CODE", digest.as_str())).await?;
        tenants.push((name, connect(&world, "cloud.east", name).await?));
    }
    let door = world.context.site(Some("east"))?.mqtt.clone();
    let (host, port) = door.split_once(':').context("the site has an MQTT door")?;
    let publish = |user: &str, file: PathBuf| -> Result<bool> {
        let password = std::fs::read_to_string(file)?;
        let sent = Command::new("mosquitto_pub")
            .args(["-h", host, "-p", port, "-u", user, "-P", password.trim()])
            .args(["-q", "1", "-t", "ev/hello/front/x", "-m", "{}"])
            .output()?;
        Ok(sent.status.success())
    };
    let password = |tenant: &str| key_file(&world, "cloud.east", tenant).with_file_name("mqtt.nk");
    let ran = async |bus: &Bus| -> Result<u64> {
        let counts = client::report(bus).await?.metrics.counts;
        Ok(counts.get("invocations hello/h").copied().unwrap_or(0))
    };
    // Each in turn: had another's handler heard it, its count would be ahead of its own events.
    for round in 1..=2 {
        for (at, (name, bus)) in tenants.iter().enumerate() {
            let user = bus::tree::mqtt_user(name, 0);
            assert!(publish(&user, password(name))?, "{user} was not let in");
            let once = async || Ok((ran(bus).await? >= round).then_some(()));
            eventually(&format!("event {round} of {name}"), once).await?;
            assert_eq!(ran(bus).await?, round, "{name} heard another's");
            let (_, other) = &tenants[1 - at];
            let expected = if at == 0 { round - 1 } else { round };
            assert_eq!(ran(other).await?, expected, "{name} was heard by another");
        }
    }
    assert!(!publish("mqtt-acme", password("bolt"))?, "another's password was accepted");
    // The owner's node knows no such app; nothing has come to it.
    let report = client::report(world.bus("cloud.east")).await?;
    assert_eq!(report.metrics.counts.get("events delivered").copied().unwrap_or(0), 0);
    Ok(())
}

/// A client that stays connected, and says each time that it has to connect.
struct Subscriber {
    child: Child,
    said: NamedTempFile,
}

impl Subscriber {
    fn start(place: &[&str], topic: &str) -> Result<Self> {
        let said = NamedTempFile::new()?;
        let mut command = Command::new("mosquitto_sub");
        command.args(place).args(["-d", "-q", "1", "-i", "stays", "-t", topic]);
        let out = said.reopen()?;
        command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
        Ok(Self { child: command.spawn()?, said })
    }

    fn said(&self, text: &str) -> Result<usize> {
        Ok(std::fs::read_to_string(self.said.path())?.matches(text).count())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_rotation_drops_no_mqtt_client() -> Result<()> {
    let found = |program: &str| Command::new(program).arg("--help").output().is_ok();
    if !found("mosquitto_pub") || !found("mosquitto_sub") {
        aloud::skipped!("no mosquitto_pub or mosquitto_sub; run ./tools.sh test");
        return Ok(());
    }
    let world = World::start_with(&SITES[..1], []).await?;
    owner(&world, "cloud", "add", json!({"tenant": "acme"})).await?;
    let door = world.context.site(None)?.mqtt.clone();
    let (host, port) = door.split_once(':').context("the site has an MQTT door")?;
    // Who logs in by what was good at a time.
    let present = async || -> Result<[String; 2]> {
        let list = owner(&world, "cloud", "ls", Value::Null).await?;
        let user = list[1]["mqtt_user"].as_str().context("no name")?.to_owned();
        let file = key_file(&world, "cloud", "acme").with_file_name("mqtt.nk");
        Ok([user, std::fs::read_to_string(file)?.trim().to_owned()])
    };
    let publish = |[user, password]: &[String; 2], text: &str| -> Result<bool> {
        let sent = Command::new("mosquitto_pub")
            .args(["-h", host, "-p", port, "-u", user, "-P", password, "-q", "1"])
            .args(["-t", "ev/cloud/_/hello/front", "-m", text])
            .output()?;
        Ok(sent.status.success())
    };
    let first = present().await?;
    let place = ["-h", host, "-p", port, "-u", &first[0], "-P", &first[1]];
    let stays = Subscriber::start(&place, "ev/cloud/_/hello/#")?;
    let hears = async |text: &str| {
        eventually(text, async || Ok((stays.said(text)? > 0).then_some(()))).await
    };
    // It writes down what it says with each message that it gets.
    eventually("the first message", async || {
        publish(&first, "begun")?;
        Ok((stays.said("begun")? > 0).then_some(()))
    })
    .await?;

    let rotate = |grace_s: u64| json!({"tenant": "acme", "grace_s": grace_s});
    owner(&world, "cloud", "rotate", rotate(3_600)).await?;
    let second = present().await?;
    assert!(first[0] != second[0] && first[1] != second[1], "{first:?} {second:?}");
    assert!(publish(&second, "by-the-new-one")? && publish(&first, "by-the-old-one")?);
    hears("by-the-new-one").await?;
    hears("by-the-old-one").await?;
    // Each password belongs to its own name.
    assert!(!publish(&[first[0].clone(), second[1].clone()], "mixed")?, "it was let in");

    // One whose time is over is refused, and the others go on.
    owner(&world, "cloud", "rotate", rotate(1)).await?;
    let third = present().await?;
    eventually("the second to be refused", async || Ok((!publish(&second, "late")?).then_some(())))
        .await?;
    assert!(publish(&third, "by-the-third")? && publish(&first, "by-the-first")?);
    hears("by-the-first").await?;
    assert_eq!(stays.said("sending CONNECT")?, 1, "the client was dropped");
    Ok(())
}

#[tokio::test]
async fn an_old_key_is_refused_when_its_time_is_over() -> Result<()> {
    let mut world = World::start_with(&SITES, []).await?;
    add(&mut world, "acme").await?;
    let held = connect(&world, "cloud", "acme").await?;
    let file = key_file(&world, "cloud", "acme");
    let old = std::fs::read_to_string(&file)?;
    owner(&world, "cloud", "rotate", json!({"tenant": "acme", "grace_s": 5})).await?;
    connect_with(&world, "cloud", &old).await?;
    eventually("the old key to be refused", async || {
        Ok(connect_with(&world, "cloud", &old).await.err().map(|_| ()))
    })
    .await?;
    let list = owner(&world, "cloud", "ls", Value::Null).await?;
    assert_eq!(list[1]["former"].as_array().map(Vec::len), Some(0), "{list}");
    // Whoever was connected with it is not any more, and the new key is good.
    eventually("the client of the old key to be cut off", async || {
        Ok(client::report(&held).await.err().map(|_| ()))
    })
    .await?;
    let new = std::fs::read_to_string(&file)?;
    client::report(&connect_with(&world, "cloud", &new).await?).await?;
    Ok(())
}
