//! What a site that was taken over cannot do: its parent's server decides.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bus::event::{TO_HEADER, publish_acked};
use bus::{Event, Headers};
use edgescale::node::client;
use edgescale::node::report::Brief;
use serde_json::json;

use crate::leaf::Leaf;
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
        "st.cloud.east._.status",
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
    let mut forged = world.report("cloud.east.cell1").await?.brief;
    let mut below = Brief { path: "cloud.east.cell1.a".parse()?, ..forged.clone() };
    below.children.push(world.report("cloud.east.cell2").await?.brief);
    forged.children.push(below);
    let forged = serde_json::to_string(&forged)?;
    let answer = attacker.request(subject, &Headers::new(), forged, SHORT).await;
    let refusal = answer.expect_err("a forged heartbeat").to_string();
    assert!(refusal.contains("speaks for sites that are not below it"), "{refusal}");
    let after = world.report("cloud.east").await?.metrics;
    assert_eq!(before.counts, after.counts, "something arrived");
    // What is due comes from the root, and not as a call.
    let tick = json!({"name": "doorcam._cron.h.0", "id": "1", "schedule": "* * * * *",
                      "scheduled": "2026-01-01T00:00:00Z"});
    for subject in ["call.cloud.east._.doorcam._cron.h.0", "ctl.cloud.east._.cron.take"] {
        let answer = attacker.request(subject, &Headers::new(), tick.to_string(), SHORT).await;
        assert!(answer.is_err(), "{subject} was answered: {answer:?}");
    }
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
        let keys = ["node.nk", "client.nk", "sys.nk", "listen.key", "authority.key"];
        for file in keys.into_iter().chain(["nats.conf", "nats-context.json"]) {
            let path = world.tree.dir().join(site).join(file);
            let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
    }
    // The tree still works.
    let ready = async || Ok(world.report("cloud.east").await?.ready.then_some(()));
    eventually("the tree to be well", ready).await
}

/// A child says that it had its sibling's place before it was moved: what is for the sibling would
/// come to it.
#[tokio::test]
async fn nobody_takes_his_siblings_place_by_saying_that_he_had_it() -> Result<()> {
    let mut world = World::start().await?;
    let mut brief = world.report("cloud.east.cell1").await?.brief;
    brief.former = vec!["cloud.east.cell2".parse()?, "cloud.east".parse()?];
    world.tree.kill_node("cloud.east.cell1")?;
    let (attacker, body) = (world.bus("cloud.east.cell1").clone(), serde_json::to_string(&brief)?);
    let claim = tokio::spawn(async move {
        loop {
            let subject = "ctl.cloud.east._.site.cell1.hello";
            let _ = attacker.request(subject, &Headers::new(), body.clone(), SHORT).await;
            tokio::time::sleep(SHORT).await;
        }
    });
    let believed = async || {
        let tree = client::control(world.bus("cloud.east"), "tree", "").await?;
        let tree: Brief = client::json(&tree)?;
        Ok(tree.children.iter().any(|child| !child.former.is_empty()).then_some(()))
    };
    eventually("the claim to be heard", believed).await?;
    // The view is made anew each second.
    for _ in 0..4 {
        let mut event = Event::new("ghost.told", "cloud.east", "{}")?;
        event.headers.insert(TO_HEADER.into(), "cloud.east.cell2".into());
        let subject = "ev.cloud.east._.ghost.told";
        publish_acked(world.bus("cloud.east"), subject, &event, PATIENCE).await?;
        tokio::time::sleep(SHORT).await;
    }
    // Of an app that nobody knows, they are put aside where they were to go.
    let there = async || {
        let dead = world.report("cloud.east.cell2").await?.dead_letters;
        ensure!(dead == 4, "{dead} arrived");
        Ok(Some(()))
    };
    eventually("every event at the site that it was for", there).await?;
    claim.abort();
    Ok(())
}

/// A log drops an event that has the id of another. Nobody can tell in advance which id a plain
/// event of his sibling will get, or a letter that is tried again.
#[tokio::test]
async fn ids_cannot_be_taken_in_advance() -> Result<()> {
    let world = World::start().await?;
    let code = crate::handlers::component("(i32.const 16)");
    let text = crate::handlers::manifest("row", "go");
    let text = text.replace(
        "[handler.limits]",
        "[handler.placement]\nmin_tier = \"region\"\n\
                             max_tier = \"region\"\n[handler.limits]",
    );
    world.apply(&text, &[("code", code)]).await?;
    let attacker = world.bus("cloud.east.cell1");
    for seq in 1..20 {
        for id in [
            format!("cloud.east.cell2/cloud-east-cell2-{seq}"),
            format!("cloud.east/cloud-east-{seq}"),
            format!("cloud.east/redrive/{seq}"),
        ] {
            let headers = Headers::from([("Nats-Msg-Id".to_owned(), id)]);
            let subject = "sync.cloud.east.cell1._.ev.ghost.go";
            attacker.request(subject, &headers, "{}", PATIENCE).await?;
        }
    }
    for _ in 0..3 {
        let plain = "ev.cloud.east.cell2._.row.go";
        world.bus("cloud.east.cell2").request(plain, &Headers::new(), "{}", PATIENCE).await?;
    }
    let ran = async || {
        let ran = world.count("cloud.east", "invocations row/h").await?;
        ensure!(ran == 3, "{ran} ran");
        Ok(Some(()))
    };
    eventually("every event of the sibling", ran).await
}

/// What the stranger sends.
const STRANGE: &str = r#"{"stranger":true}"#;

/// Everything that a site's keys do not allow, sent to its parent's server by hand: the site's own
/// server, which would hold some of it back, is left out.
#[tokio::test]
async fn a_stranger_with_a_sites_keys_can_do_only_what_the_site_may() -> Result<()> {
    let mut world = World::start().await?;
    let east = world.tree.dir().join("cloud.east");
    let cell = world.tree.dir().join("cloud.east.cell1");
    let parent = bus::site::SiteFolder::open(&east)?.leaf_addresses().0;
    world.tree.kill_node("cloud.east.cell1")?;
    world.tree.stop_server("cloud.east.cell1")?;

    let (sender, mut heard) = tokio::sync::mpsc::channel::<String>(10_000);
    let hear = move |message: bus::Request| {
        let sender = sender.clone();
        async move {
            // Others have heartbeats, too.
            let is_strangers = message.payload.as_ref() == STRANGE.as_bytes();
            if is_strangers || message.subject.ends_with("._.last") {
                let _ = sender.try_send(message.subject);
            }
        }
    };
    let listening = world.bus("cloud.east").subscribe(">", hear).await?;
    world.bus("cloud.east").flush().await?;
    let before = client::report(world.bus("cloud.east")).await?;

    let forbidden = [
        // A sibling's events, and events without a name of their own.
        "sync.cloud.east.cell2._.ev.doorcam.motion",
        "ev.cloud.east._.doorcam.motion",
        "ev.cloud.east.cell2._.doorcam.motion",
        // Calls into a sibling, past the parent, and control without the right.
        "call.cloud.east.cell2._.doorcam.summary",
        "ctl.cloud.east._.apps.apply",
        "ctl.cloud.east._.apps.delete",
        "ctl.cloud.east._.tree.invite",
        "ctl.cloud.east._.tree.remove",
        "ctl.cloud.east._.site.cell2.hello",
        "st.cloud.east.cell2._.put",
        "st.cloud.east._.rm-blob",
        "ctl.cloud.east._.cron.take",
        "rp.cloud.east.cell2._.x",
        // The parent's streams, and forged acknowledgements for its flow control.
        "$JS.API.STREAM.DELETE.EV",
        "$JS.cloud-east.API.STREAM.DELETE.EV",
        "$JS.cloud-east.API.STREAM.PURGE.EV",
        "$JS.cloud.API.STREAM.DELETE.KV_apps",
        "$JS.FC.EV.RUN.AAAA",
        "$KV.apps.evil",
        "$SYS.REQ.SERVER.PING",
        // Subjects with wildcards and without sense.
        ">",
        "*",
        "sync.cloud.east.*._.ev.x.y",
        "sync.cloud.east.>",
        "ctl..apps",
        "\u{1}\u{7f}.cloud",
    ];
    // The server ends a link over which something forbidden is said.
    for subject in forbidden {
        let mut leaf = Leaf::connect(&cell, &parent).await?;
        let _ = leaf.publish(subject, STRANGE).await;
        let _ = tokio::time::timeout(PATIENCE, leaf.pong()).await?;
    }
    // Sniffing: asking for everything gets what is the site's own.
    let mut leaf = Leaf::connect(&cell, &parent).await?;
    for subject in [">", "sync.cloud.east.>", "rp.>", "ev.cloud.east.cell2.>", "$JS.>", "$SYS.>"] {
        leaf.send(format!("LS+ {subject}\r\n").as_bytes()).await?;
    }
    let mut said = leaf.pong().await.unwrap_or_default();
    for subject in ["ev.cloud.east.cell2._.app.secret", "sync.cloud.east._.st.up"] {
        world.bus("cloud.east").publish(subject, &Headers::new(), "secret").await?;
    }
    world.bus("cloud.east").flush().await?;
    said.extend(leaf.pong().await.unwrap_or_default());
    assert!(!said.iter().any(|line| line.contains("secret")), "{said:?}");

    answers_cannot_be_forged(&world, &cell, &parent).await?;

    // What is allowed, sent last: once it is here, so would the rest be.
    let mut leaf = Leaf::connect(&cell, &parent).await?;
    leaf.publish("tel.cloud.east.cell1._.last", "{}").await?;
    leaf.pong().await?;
    let mut subjects: Vec<String> = vec![];
    while !subjects.iter().any(|subject| subject == "tel.cloud.east.cell1._.last") {
        let next = tokio::time::timeout(PATIENCE, heard.recv()).await;
        subjects.push(next.context("the allowed message never came")?.context("closed")?);
    }
    let arrived: Vec<_> =
        forbidden.iter().filter(|subject| subjects.iter().any(|heard| heard == *subject)).collect();
    assert!(arrived.is_empty(), "{arrived:?} arrived");
    let log = std::fs::read_to_string(east.join("nats.log"))?;
    let is_sound =
        |subject: &&&str| !subject.contains(['*', '>', '\u{1}']) && !subject.contains("..");
    for seen in forbidden.iter().filter(is_sound) {
        // A server says of its own domain's interface that it is the one without.
        let seen = seen.replace("$JS.cloud-east.API", "$JS.API");
        let tells = |line: &str| line.contains("Violation") && line.contains(&seen);
        assert!(log.lines().any(tells), "{seen} is not in the log: {log}");
    }

    // Acknowledgements pass every link: nobody may be able to name a reader of the log.
    let readers = world.bus("cloud.east");
    let names = readers.request("$JS.API.CONSUMER.NAMES.EV", &Headers::new(), "", PATIENCE).await?;
    let names: serde_json::Value = serde_json::from_slice(&names.payload)?;
    let names = names["consumers"].as_array().context("no readers")?;
    assert!(names.len() == 2, "{names:?}");
    assert!(
        names.iter().all(|name| name.as_str().is_some_and(|name| name.len() > 32)),
        "{names:?}"
    );

    // A request may carry any bytes in its name and headers: it is refused, or nothing.
    let long = "a".repeat(3_000);
    for name in ["..", "x", "a.b.c.d.e.f.g", "doorcam.\u{7f}", &long, "ü.ß"] {
        leaf.publish(&format!("call.cloud.east._.{name}"), "{}").await?;
    }
    let large = format!("NATS/1.0\r\nA: {}\r\n\r\n", "a".repeat(500_000));
    let odd =
        ["NATS/1.0\r\n:\r\n\r\n", "NATS/9.9 999\r\nA\r\n\r\n", "\r\n\r\n", "NATS/1.0", &large];
    for headers in odd {
        let (length, total) = (headers.len(), headers.len() + 2);
        let line =
            format!("HMSG call.cloud.east._.doorcam.x {length} {total}\r\n{headers}{{}}\r\n");
        leaf.send(line.as_bytes()).await?;
        if leaf.pong().await.is_err() {
            leaf = Leaf::connect(&cell, &parent).await?;
        }
    }
    lies_end_the_link_and_no_more(&cell, &parent, &east.join("nats.log")).await?;

    // Nothing has changed, and the site itself is let in again.
    let after = client::report(world.bus("cloud.east")).await?;
    assert_eq!(before.pid, after.pid, "the parent's node ended");
    assert_eq!(before.dead_letters, after.dead_letters);
    assert!(after.apps.is_empty(), "an app was registered");
    drop(listening);
    world.tree.restart_server("cloud.east.cell1")?;
    world.tree.restart_node("cloud.east.cell1").await
}

/// A subject of 100 KB, one with spaces, a header of 600 KB, and a length that lies: each is in the
/// server's log.
async fn lies_end_the_link_and_no_more(cell: &Path, parent: &str, log: &Path) -> Result<()> {
    let (huge, own) = ("a".repeat(100_000), "tel.cloud.east.cell1._");
    let header = format!("NATS/1.0\r\nA: {}\r\n\r\n", "a".repeat(600_000));
    let (length, whole) = (header.len(), header.len() + 2);
    let lies = [
        (format!("LMSG {own}.{huge} 2\r\n{{}}\r\n"), "maximum control line exceeded".to_owned()),
        // What stands behind a space is where the answer is to go.
        (
            "LMSG ctl.cloud.east._.apps apply 2\r\n{}\r\n".to_owned(),
            "Violation on \"ctl.cloud.east._.apps\"".to_owned(),
        ),
        (format!("LMSG {own}.a b c d 2\r\n{{}}\r\n"), "Missing Reply Indicator: 'b'".to_owned()),
        (
            format!("HMSG {own}.x {length} {whole}\r\n{header}{{}}\r\n"),
            format!("maximum payload exceeded: {whole} vs"),
        ),
        (format!("LMSG {own}.x 99999999\r\n"), "maximum payload exceeded: 99999999".to_owned()),
        (format!("LMSG {own}.x -1\r\n"), format!("Missing Size: '[{own}.x -1]'")),
        (format!("HMSG {own}.x 99 2\r\n{{}}\r\n"), "Header Size larger".to_owned()),
        ("INFO {\"max_payload\":99999999}\r\nGIBBERISH\r\n".to_owned(), "parser ERROR".to_owned()),
    ];
    for (lie, told) in lies {
        let mut leaf = Leaf::connect(cell, parent).await?;
        let _ = leaf.send(lie.as_bytes()).await;
        let _ = tokio::time::timeout(SHORT, leaf.pong()).await;
        eventually(&format!("{told:?} in the log"), async || {
            Ok(std::fs::read_to_string(log)?.contains(&told).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// A child may answer what its parent asks it, and so sees where answers go. From some of these
/// addresses nothing follows for others.
async fn answers_cannot_be_forged(world: &World, cell: &Path, parent: &str) -> Result<()> {
    let mut leaf = Leaf::connect(cell, parent).await?;
    leaf.send(b"LS+ call.cloud.east.cell1.>\r\n").await?;
    leaf.pong().await?;
    for _ in 0..3 {
        let asked = "call.cloud.east.cell1._.app.x";
        let _ = world.bus("cloud.east").request(asked, &Headers::new(), "{}", SHORT).await;
    }
    let said = leaf.pong().await?;
    let to = said.iter().filter_map(|line| line.split(' ').find(|word| word.starts_with("rp.")));
    let tokens: Vec<&str> = to.filter_map(|to| to.rsplit('.').next()).collect();
    assert!(tokens.len() >= 3, "{said:?}");
    let alike = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    for pair in tokens.windows(2) {
        assert!(pair[0].len() >= 22 && alike(pair[0], pair[1]) < 8, "{tokens:?}");
    }
    Ok(())
}
