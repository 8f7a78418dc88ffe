//! What a site that was taken over cannot do: its parent's server decides.

use std::time::{Duration, Instant};

use anyhow::Result;
use bus::event::publish_acked;
use bus::{Event, Headers};
use edgescale::node::client;

use crate::world::{PATIENCE, World, eventually};

const SHORT: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_child_cannot_imitate_or_reach_its_sibling() -> Result<()> {
    let world = World::start().await?;
    let attacker = world.bus("cloud.east.cell1");
    let before = world.report("cloud.east").await?.metrics;
    let event = Event::new("doorcam.motion", "cloud.east.cell2", "{}")?;
    for subject in [
        "sync.cloud.east.cell2._.ev.doorcam.motion",
        "ev.cloud.east._.doorcam.motion",
        "ev.cloud._.doorcam.motion",
        "ev.cloud.east.cell2._.doorcam.motion",
    ] {
        let stored = publish_acked(attacker, subject, &event, SHORT).await;
        assert!(stored.is_err(), "{subject} was stored: {stored:?}");
    }
    for subject in [
        "call.cloud.east.cell2._.doorcam.summary",
        "ctl.cloud.east.cell2._.status",
        "ctl.cloud.east._.status",
        "ctl.cloud._.apps.apply",
        "ctl.cloud.east._.apps.delete",
        "st.cloud.east.cell2._.scan",
        "sync.cloud.east.cell2._.st.tables",
        "sm.cloud.east.cell2._.doorcam.open",
    ] {
        let answer = attacker.request(subject, &Headers::new(), "{}", SHORT).await;
        assert!(answer.is_err(), "{subject} was answered: {answer:?}");
    }
    // Speaking for somebody else in a heartbeat is refused by name.
    let forged = serde_json::to_string(&world.report("cloud.east.cell2").await?.brief)?;
    let subject = "ctl.cloud.east._.site.cell1.hello";
    let answer = attacker.request(subject, &Headers::new(), forged, SHORT).await;
    let refusal = answer.expect_err("a forged heartbeat").to_string();
    assert!(refusal.contains("speaks for cloud.east.cell2"), "{refusal}");
    let after = world.report("cloud.east").await?.metrics;
    assert_eq!(before.counts, after.counts, "something arrived");
    Ok(())
}

#[tokio::test]
async fn an_event_under_a_siblings_name_is_put_aside() -> Result<()> {
    let world = World::start().await?;
    let forged = Event::new("doorcam.motion", "cloud.east.cell2", "{}")?;
    let subject = "sync.cloud.east.cell1._.ev.doorcam.motion";
    publish_acked(world.bus("cloud.east.cell1"), subject, &forged, SHORT).await?;
    let dead = async || Ok((world.report("cloud.east").await?.dead_letters == 1).then_some(()));
    eventually("the forged event to be a dead letter", dead).await?;
    let logs = client::control(world.bus("cloud.east"), "logs", "").await?;
    let logs = String::from_utf8_lossy(&logs.payload).into_owned();
    assert!(logs.contains("cloud.east.cell1 speaks for cloud.east.cell2"), "{logs}");
    Ok(())
}

#[tokio::test]
async fn a_child_hears_nothing_of_its_sibling() -> Result<()> {
    let world = World::start().await?;
    let (sender, mut heard) = tokio::sync::mpsc::channel::<String>(1_000);
    let hear = move |message: bus::Request| {
        let sender = sender.clone();
        async move {
            let _ = sender.try_send(message.subject);
        }
    };
    let listening = world.bus("cloud.east.cell1").subscribe(">", hear).await?;
    world.bus("cloud.east.cell1").flush().await?;
    for site in ["cloud.east.cell2", "cloud.east", "cloud"] {
        let bus = world.bus(site);
        let kinds = ["ev", "tel", "call", "st", "sync"];
        let plain = kinds.map(|kind| format!("{kind}.{site}._.app.secret"));
        let climbing = ["ev", "st"].map(|what| format!("sync.{site}._.{what}.app.secret"));
        for subject in plain.into_iter().chain(climbing) {
            bus.publish(&subject, &Headers::new(), "secret").await?;
        }
        bus.flush().await?;
    }
    // Something that must arrive, sent last: once it is here, so would the others be.
    let down = "ev.cloud.east.cell1._.app.last";
    let mut subjects: Vec<String> = vec![];
    let deadline = Instant::now() + PATIENCE;
    while !subjects.iter().any(|subject| subject == down) {
        assert!(Instant::now() < deadline, "{down} never came; heard {subjects:?}");
        world.bus("cloud.east").publish(down, &Headers::new(), "for you").await?;
        while let Ok(Some(subject)) = tokio::time::timeout(SHORT, heard.recv()).await {
            subjects.push(subject);
        }
    }
    let leaked: Vec<_> = subjects.iter().filter(|subject| subject.contains("secret")).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
    drop(listening);
    Ok(())
}

#[tokio::test]
async fn strangers_get_no_connection_and_secrets_are_the_owners() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let world = World::start_with(&["cloud", "cloud.east"], []).await?;
    let stranger = bus::pki::UserKey::generate()?;
    let site = world.context.site(Some("cloud"))?;
    let credentials = bus::Credentials { seed: stranger.seed };
    let connected = bus::Bus::connect(&site.server, &site.path, &credentials, "stranger").await;
    assert!(connected.is_err(), "an unknown key was let in");
    for site in ["cloud", "cloud.east"] {
        for file in ["nats.conf", "node.nk", "client.nk", "sys.nk", "listen.key", "authority.key"] {
            let path = world.tree.dir().join(site).join(file);
            let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
    }
    // The tree still works.
    let ready = async || Ok(world.report("cloud.east").await?.ready.then_some(()));
    eventually("the tree to be well", ready).await
}
