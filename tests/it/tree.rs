//! Sites that join a tree one by one, as on machines of their own: each in a folder of its own,
//! each run by `edgescale run`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bus::server::Server;
use bus::site::SiteFolder;
use bus::{Bus, Credentials, Headers, Kind, Subject};
use edgescale::node::client;
use edgescale::node::report::Brief;
use edgescale::upload;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::sites::{Sites, children, seen};
use crate::world::{World, eventually, tools};

#[tokio::test]
async fn sites_join_by_a_token_and_leave_when_told() -> Result<()> {
    let mut sites = Sites::new()?;
    sites.json("cloud", &["tree", "init", "cloud", "--ports", "auto"], "")?;
    sites.start("cloud")?;
    let cloud = sites.bus("cloud").await?;
    sites.report("cloud").await?;

    let east_token = sites.join("cloud", "east")?;
    sites.start("east")?;
    seen(&cloud, "cloud.east", true).await?;
    let east_uptime = children(&cloud).await?[0].uptime_s;

    // The token is spent: refused by name, and noted at the parent.
    let join = ["tree", "join", "--ports", "auto", "--no-run"];
    let complaint = sites.complaint("thief", &join, &east_token)?;
    assert!(complaint.contains("the invitation was used already"), "{complaint}");
    let logs = sites.json("cloud", &["logs"], "")?.to_string();
    assert!(logs.contains("127.0.0.1: join refused: the invitation was used already"), "{logs}");
    let complaint = sites.complaint("thief", &join, "es-join-nonsense")?;
    assert!(complaint.contains("copy the whole line"), "{complaint}");

    // A second child: neither clients nor the first child are disturbed by the reload.
    let west_token = sites.join("cloud", "west")?;
    sites.start("west")?;
    seen(&cloud, "cloud.west", true).await?;
    assert_eq!(cloud.connects(), 1, "a client of the parent was dropped");
    assert_eq!(sites.log("cloud", "nats.log").matches("Leafnode connection closed").count(), 0);
    let east = &children(&cloud).await?[0];
    assert!(east.path.as_str() == "cloud.east" && east.uptime_s >= east_uptime);
    no_secret_is_shown(&sites, &[east_token, west_token])?;

    // A child that is removed is cut off and kept out, and goes on by itself.
    let complaint = sites.complaint("cloud", &["tree", "rm", "cloud.east.x"], "")?;
    assert!(complaint.contains("is no child of cloud; its own parent removes it"), "{complaint}");
    sites.json("cloud", &["tree", "rm", "cloud.west"], "")?;
    seen(&cloud, "cloud.west", false).await?;
    eventually("the removed key to be refused", async || {
        Ok(sites.log("cloud", "nats.log").contains("authentication error").then_some(()))
    })
    .await?;
    let west = sites.bus("west").await?;
    eventually("the removed site to see that its parent is away", async || {
        let link = client::report(&west).await?.brief.link;
        Ok(link.filter(|link| !link.up).map(|_| ()))
    })
    .await?;
    assert!(children(&cloud).await?.iter().all(|child| child.path.as_str() != "cloud.west"));
    assert_eq!(cloud.connects(), 1, "a client of the parent was dropped");

    // A site starts and serves while its parent is away, and finds it again.
    sites.stop("east")?;
    sites.stop("cloud")?;
    sites.start("east")?;
    let report = sites.report("east").await?;
    assert!(report.brief.link.is_some_and(|link| !link.up));
    let east = sites.bus("east").await?;
    let subject = Subject::new(Kind::Call, east.site(), "ghost.call").to_string();
    let asked = east.request(&subject, &Headers::new(), "{}", client::TIMEOUT).await;
    let text = asked.expect_err("nobody can know that app").to_string();
    assert!(text.contains("parent cloud does not answer"), "{text}");
    sites.start("cloud")?;
    let cloud = sites.bus("cloud").await?;
    seen(&cloud, "cloud.east", true).await?;

    // What ends by itself is started again.
    let pid = client::report(&east).await?.pid;
    ensure!(Command::new("kill").args(["-KILL", &pid.to_string()]).status()?.success());
    eventually("the node to be started again", async || {
        Ok((client::report(&east).await?.pid != pid).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_tenants_node_answers_when_it_has_been_taken_in() -> Result<()> {
    let mut sites = Sites::new()?;
    sites.json("cloud", &["tree", "init", "cloud", "--ports", "auto"], "")?;
    sites.start("cloud")?;
    let cloud = sites.bus("cloud").await?;
    sites.report("cloud").await?;
    sites.join("cloud", "east")?;
    sites.start("east")?;
    seen(&cloud, "cloud.east", true).await?;

    let complaint = sites.complaint("cloud", &["tenant", "add", "No Such"], "")?;
    assert_eq!(complaint.matches("a tenant's name is").count(), 1, "{complaint}");
    let added = sites.json("cloud", &["tenant", "add", "acme"], "")?;
    for (at, site) in ["cloud", "east"].into_iter().enumerate() {
        assert_eq!(added[at]["answers"], true, "{added}");
        let tenants = sites.json(site, &["--tenant", "acme", "tree"], "")?;
        assert_eq!(tenants["path"], added[at]["site"], "{tenants}");
    }
    let complaint = sites.complaint("cloud", &["tenant", "add", "acme"], "")?;
    let reason = "cloud, cloud.east: there is a tenant \"acme\" already";
    assert!(complaint.contains(reason), "{complaint}");
    Ok(())
}

/// Neither the lists of processes nor any log shows a key or a token.
fn no_secret_is_shown(sites: &Sites, tokens: &[String]) -> Result<()> {
    let mut secrets = tokens.to_vec();
    for site in ["cloud", "east", "west"] {
        for key in ["node.nk", "client.nk", "sys.nk", "link.nk"] {
            secrets.extend(std::fs::read_to_string(sites.dir(site).join(key)));
        }
    }
    assert!(secrets.len() >= 13, "{}", secrets.len());
    let mut shown = vec![];
    for entry in std::fs::read_dir("/proc")?.flatten() {
        for file in ["cmdline", "environ"] {
            shown.push(entry.path().join(file));
        }
    }
    for site in ["cloud", "east", "west"] {
        shown.extend(["run.log", "node.log", "nats.log"].map(|log| sites.dir(site).join(log)));
    }
    for place in shown {
        let text = String::from_utf8_lossy(&std::fs::read(&place).unwrap_or_default()).into_owned();
        let leaked = secrets.iter().any(|secret| text.contains(secret.trim()));
        assert!(!leaked, "{} shows a secret", place.display());
    }
    let config = sites.json("east", &["tree", "config"], "")?.to_string();
    let seed = std::fs::read_to_string(Path::new(&sites.dir("east")).join("link.nk"))?;
    assert!(config.contains("max_payload: 589824") && !config.contains(seed.trim()), "{config}");
    Ok(())
}

#[tokio::test]
async fn a_tree_of_eight_tiers_starts_and_its_root_answers_the_deepest() -> Result<()> {
    let mut path = String::from("t1");
    let mut paths = vec![path.clone()];
    for depth in 2..=8 {
        path += &format!(".t{depth}");
        paths.push(path.clone());
    }
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let world = World::start_with(&paths, []).await?;
    let deepest = world.bus(&path);
    let subject = Subject::new(Kind::Call, deepest.site(), "ghost.call").to_string();
    eventually("the root's refusal", async || {
        let asked = deepest.request(&subject, &Headers::new(), "{}", client::TIMEOUT).await;
        let text = asked.expect_err("nobody knows that app").to_string();
        ensure!(text.contains("no app \"ghost\" is registered (at t1)"), "{text}");
        Ok(Some(()))
    })
    .await
}

const COUNTING: &str = r#"
[app]
name = "works"
version = "1"
[[handler]]
name = "h"
component = "CODE"
[[handler.trigger]]
event = "go"
[handler.placement]
min_tier = "cloud"
[[table]]
name = "visits"
key = ["name"]
columns = [
  { name = "name", type = "utf8" },
  { name = "count", type = "int64", merge = "counter" },
]
"#;

/// Counts a visit at a site and sends an event, each acknowledged by that site.
async fn visit(bus: &Bus) -> Result<()> {
    let body = json!({"table": "works_visits", "key": {"name": "x"}, "by": {"count": 1}});
    client::ask(bus, Kind::St, "increment", body.to_string()).await?;
    let event = bus::Event::new("works.go", bus.site().as_str(), "{}")?;
    let subject = Subject::new(Kind::Ev, bus.site(), "works.go").to_string();
    bus::event::publish_acked(bus, &subject, &event, client::TIMEOUT).await?;
    Ok(())
}

#[tokio::test]
async fn a_site_that_moves_takes_everything_along() -> Result<()> {
    let mut sites = Sites::new()?;
    sites.json("cloud", &["tree", "init", "cloud", "--ports", "auto"], "")?;
    sites.start("cloud")?;
    let cloud = sites.bus("cloud").await?;
    sites.report("cloud").await?;
    for name in ["east", "west"] {
        sites.join("cloud", name)?;
        sites.start(name)?;
        seen(&cloud, &format!("cloud.{name}"), true).await?;
    }
    let (east, west) = (sites.bus("east").await?, sites.bus("west").await?);
    sites.join("east", "cell")?;
    sites.start("cell")?;
    seen(&east, "cloud.east.cell", true).await?;

    let code = crate::handlers::component("(i32.const 16)");
    let digest = ::handlers::Digest::of(&code);
    bus::Registry::open(&cloud).await?.put_code(digest.as_str(), code.into()).await?;
    upload::apply(&cloud, &COUNTING.replace("CODE", digest.as_str())).await?;
    let cell = sites.bus("cell").await?;
    let handled = async |wanted: u64| {
        let count =
            client::report(&cloud).await?.metrics.counts.get("invocations works/h").copied();
        Ok((count.unwrap_or(0) >= wanted).then_some(()))
    };
    eventually("the first visit", async || Ok(visit(&cell).await.ok())).await?;
    eventually("the first event at the root", async || handled(1).await).await?;

    // The parent is lost; what is written now waits at the site, and moves with it.
    sites.stop("east")?;
    for _ in 0..20 {
        visit(&cell).await?;
    }
    let invited = sites.json("west", &["tree", "invite", "cell"], "")?;
    let token = invited["token"].as_str().context("no token")?.to_owned();
    let moved = sites.json("cell", &["tree", "move"], &token)?;
    assert_eq!(moved, json!({"site": "cloud.west.cell", "before": "cloud.east.cell"}));
    seen(&west, "cloud.west.cell", true).await?;
    eventually("every event at the root", async || handled(21).await).await?;
    let visits = async |bus: &Bus| -> Result<i64> {
        let rows = client::rows(bus, "works_visits").await?;
        Ok(rows.first().and_then(|row| row["count"].as_i64()).unwrap_or(0))
    };
    eventually("every visit at the root", async || Ok((visits(&cloud).await? == 21).then_some(())))
        .await?;
    let cell = sites.bus("cell").await?;
    assert_eq!((cell.site().as_str(), visits(&cell).await?), ("cloud.west.cell", 21));
    visit(&cell).await?;
    eventually("a visit after the move", async || Ok((visits(&cloud).await? == 22).then_some(())))
        .await?;
    eventually("an event after the move", async || handled(22).await).await?;
    let report = client::report(&cloud).await?;
    assert_eq!(report.metrics.counts["invocations works/h"], 22, "an event came twice");
    assert_eq!(report.dead_letters + client::report(&west).await?.dead_letters, 0);

    // The old parent does not miss it, and lets nobody in under the old key.
    sites.start("east")?;
    sites.report("east").await?;
    let east = sites.bus("east").await?;
    sites.json("east", &["tree", "rm", "cell"], "")?;
    assert!(children(&east).await?.is_empty());
    Ok(())
}

/// The count of the handler at the root.
async fn handled(cloud: &Bus) -> Result<u64> {
    let counts = client::report(cloud).await?.metrics.counts;
    Ok(counts.get("invocations works/h").copied().unwrap_or(0))
}

async fn visits(bus: &Bus) -> Result<i64> {
    let rows = client::rows(bus, "works_visits").await?;
    Ok(rows.first().and_then(|row| row["count"].as_i64()).unwrap_or(0))
}

#[tokio::test]
async fn what_is_below_a_site_that_moves_follows_with_all_it_holds() -> Result<()> {
    let mut sites = Sites::new()?;
    sites.json("cloud", &["tree", "init", "cloud", "--ports", "auto"], "")?;
    sites.start("cloud")?;
    let cloud = sites.bus("cloud").await?;
    sites.report("cloud").await?;
    for (parent, name) in [("cloud", "east"), ("cloud", "west"), ("east", "mid"), ("mid", "cell")] {
        sites.join(parent, name)?;
        sites.start(name)?;
        sites.report(name).await?;
    }
    let all = async || Ok((client::report(&cloud).await?.brief.size() == 5).then_some(()));
    eventually("all sites at the root", all).await?;
    let added = sites.json("cloud", &["tenant", "add", "acme"], "")?;
    assert_eq!(added.as_array().map(Vec::len), Some(5), "{added}");

    let code = crate::handlers::component("(i32.const 16)");
    let digest = ::handlers::Digest::of(&code);
    bus::Registry::open(&cloud).await?.put_code(digest.as_str(), code.into()).await?;
    upload::apply(&cloud, &COUNTING.replace("CODE", digest.as_str())).await?;
    let (mid, cell) = (sites.bus("mid").await?, sites.bus("cell").await?);
    eventually("a visit at the cell", async || Ok(visit(&cell).await.ok())).await?;
    eventually("a visit above it", async || Ok(visit(&mid).await.ok())).await?;
    eventually("both at the root", async || Ok((handled(&cloud).await? == 2).then_some(())))
        .await?;
    let table = json!({"table": "works_visits"}).to_string();
    let blob: Value = client::json(&client::ask(&cell, Kind::St, "export", table).await?)?;
    let blob = blob["blob"].as_str().context("no blob")?.to_owned();
    assert!(blob.starts_with("cloud.east.mid.cell/"), "{blob}");

    // The parent is lost. What is written now waits at both sites, and moves with them.
    sites.stop("east")?;
    for _ in 0..10 {
        visit(&cell).await?;
        visit(&mid).await?;
    }
    let invited = sites.json("west", &["tree", "invite", "mid"], "")?;
    let token = invited["token"].as_str().context("no token")?.to_owned();
    // Whoever is away while it happens follows when it is back, and a move that was written down
    // is carried out whoever dies meanwhile.
    sites.kill("cell")?;
    let moved = sites.json("mid", &["tree", "move"], &token)?;
    assert_eq!(moved, json!({"site": "cloud.west.mid", "before": "cloud.east.mid"}));
    sites.kill("mid")?;
    sites.start("mid")?;
    let west = sites.bus("west").await?;
    seen(&west, "cloud.west.mid", true).await?;
    sites.start("cell")?;
    eventually("the cell to follow", async || {
        let record = SiteFolder::open(&sites.dir("cell"))?.record;
        Ok((record.site.as_str() == "cloud.west.mid.cell").then_some(()))
    })
    .await?;
    sites.kill("cell")?;
    sites.start("cell")?;
    let mid = sites.bus("mid").await?;
    seen(&mid, "cloud.west.mid.cell", true).await?;

    eventually(
        "every event at the root",
        async || Ok((handled(&cloud).await? >= 22).then_some(())),
    )
    .await?;
    eventually("every visit", async || Ok((visits(&cloud).await? == 22).then_some(()))).await?;
    let cell = sites.bus("cell").await?;
    assert_eq!((cell.site().as_str(), visits(&cell).await?), ("cloud.west.mid.cell", 22));
    visit(&cell).await?;
    eventually("one after the move", async || Ok((handled(&cloud).await? >= 23).then_some(())))
        .await?;
    assert_eq!(handled(&cloud).await?, 23, "an event came twice");
    for name in ["cloud", "west", "mid", "cell"] {
        assert_eq!(sites.report(name).await?.dead_letters, 0, "{name}");
    }
    // A blob has the name of the site that took it, as it was then.
    let bytes = eventually("the blob", async || Ok(client::blob(&cloud, &blob).await.ok())).await?;
    assert!(bytes.starts_with(b"PAR1"));
    // The tenant has moved along.
    eventually("the tenant's tree", async || {
        let tree = sites.json("cloud", &["--tenant", "acme", "tree"], "")?;
        let tree: Brief = serde_json::from_value(tree)?;
        let paths: Vec<&str> = tree.below().iter().map(|brief| brief.path.as_str()).collect();
        Ok(paths.contains(&"cloud.west.mid.cell").then_some(()))
    })
    .await
}

/// What `doctor` found of the server at a site.
fn settings_of(sites: &Sites, name: &str) -> Result<String> {
    let checks: Vec<Value> = serde_json::from_slice(&sites.output(name, &["doctor"], "")?.stdout)?;
    let settings = checks.iter().find(|check| check["name"] == "server's settings");
    Ok(settings.context("no such check")?["found"].as_str().unwrap_or_default().to_owned())
}

/// Makes a root whose server somebody else runs, or nobody; its ports, the server's first.
fn with_own_server(sites: &Sites) -> Result<Vec<u16>> {
    let ports = bus::server::free_ports(4)?;
    let list: Vec<String> = ports.iter().map(u16::to_string).collect();
    let url = format!("nats://127.0.0.1:{}", ports[0]);
    let init = ["tree", "init", "cloud", "--ports", &list.join(","), "--server", &url];
    sites.json("cloud", &init, "")?;
    Ok(ports)
}

#[tokio::test]
async fn an_operator_runs_the_server_himself() -> Result<()> {
    let mut sites = Sites::new()?;
    let ports = with_own_server(&sites)?;
    // His own file says where the server listens, and takes the rest from the site's.
    let (own, log) = (sites.dir("own.conf"), sites.dir("own.log"));
    let config = sites.json("cloud", &["tree", "config", "--secrets"], "")?;
    let printed = config["config"].as_str().context("no configuration")?;
    assert_eq!(printed, sites.log("cloud", "nats.conf"));
    assert!(!printed.contains("http:") && !printed.contains("\nlisten:"), "{printed}");
    let listen = format!("listen: \"127.0.0.1:{}\"\nhttp: \"127.0.0.1:{}\"\n", ports[0], ports[1]);
    let right = format!("{listen}include \"cloud/nats.conf\"\n");
    let binary = bus::server::find(None, &tools())?;
    std::fs::write(&own, &right)?;
    let server = Server::start(&binary, &own, &log, ports[0])?;
    sites.start("cloud")?;
    let cloud = sites.bus("cloud").await?;
    sites.report("cloud").await?;
    assert_eq!(settings_of(&sites, "cloud")?, "as the tree needs them");
    assert!(!sites.dir("cloud").join("nats.log").exists(), "a server was started");
    sites.join("cloud", "east")?;
    sites.start("east")?;
    seen(&cloud, "cloud.east", true).await?;

    // Wrong limits are refused, and named, while the node runs; with the right ones everything is
    // back.
    drop(server);
    let with_east = sites.log("cloud", "nats.conf");
    let wrong = with_east.replace("max_payload: 589824", "max_payload: 65536");
    let (head, links) = wrong.split_once("leafnodes {").context("no links")?;
    let links = links.replace("verify: true", "verify: false");
    let wrong = format!("{head}leafnodes {{\n  compression: off{links}");
    std::fs::write(&own, format!("{listen}{wrong}"))?;
    let server = Server::start(&binary, &own, &log, ports[0])?;
    let found = eventually("the link that is not compressed", async || {
        let found = settings_of(&sites, "cloud")?;
        ensure!(found.contains("1 of 1 links are not compressed"), "{found}");
        Ok(Some(found))
    })
    .await?;
    assert!(found.contains("max_payload is 65536, needed is 589824"), "{found}");
    assert!(found.contains("without a look at their certificates"), "{found}");
    let said = eventually("the node to say what it lacks", async || {
        let log = sites.log("cloud", "node.log");
        let line = log.lines().find(|line| line.contains("has max_payload 65536, where every"));
        Ok(line.map(str::to_owned))
    })
    .await?;
    // As it is printed there, anywhere on the machine.
    let output = Command::new(crate::world::binary()).args(mend(&said)?).output()?;
    let config = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(config.contains("max_payload: 589824"), "{said}: {config}");
    drop(server);
    std::fs::write(&own, &right)?;
    let _server = Server::start(&binary, &own, &log, ports[0])?;
    let cloud = sites.bus("cloud").await?;
    sites.report("cloud").await?;
    seen(&cloud, "cloud.east", true).await
}

/// The command that a refusal names, without the program.
fn mend(reason: &str) -> Result<Vec<&str>> {
    let command = reason.split('`').find_map(|part| part.strip_prefix("edgescale "));
    Ok(command.context("no command is named")?.split(' ').collect())
}

/// While what it runs ends again and again, it spends its time waiting to start it once more.
#[tokio::test]
async fn a_site_whose_server_is_away_stops_when_told() -> Result<()> {
    let mut sites = Sites::new()?;
    with_own_server(&sites)?;
    for starts in [1, 2, 3] {
        sites.start("cloud")?;
        eventually("the node to have ended some times", async || {
            let log = sites.log("cloud", "run.log");
            Ok((log.matches("starting it again").count() >= starts).then_some(()))
        })
        .await?;
        sites.stop("cloud")?;
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_fit_is_refused_with_the_mend() -> Result<()> {
    let sites = Sites::new()?;
    sites.json("cloud", &["tree", "init", "cloud", "--ports", "auto"], "")?;
    let folder = SiteFolder::open(&sites.dir("cloud"))?;
    let (file, log) = (folder.file("own.conf"), folder.file("own.log"));
    let text = std::fs::read_to_string(folder.file("nats.conf"))?;
    let text = text.replace("max_payload: 589824", "max_payload: 8388608");
    let text = text.replace("ping_interval: \"5s\"", "ping_interval: \"2m\"");
    let text: Vec<&str> = text.lines().filter(|line| !line.contains("\"up.*.>\"")).collect();
    std::fs::write(&file, text.join("\n"))?;
    let binary = bus::server::find(None, &tools())?;
    let server = Server::start(&binary, &file, &log, folder.record.ports.client)?;
    let refused = async |url: &str| {
        let credentials = Credentials { seed: folder.key("node.nk")?.seed };
        let connected = Bus::connect(url, &folder.record.site, &credentials, "test").await;
        connected.err().map(|e| e.to_string()).context("the server was accepted")
    };
    let reason = refused(&folder.server_url()).await?;
    assert!(reason.contains("has max_payload 8388608, where every site"), "{reason}");
    // The mend that is named is a command.
    let config = sites.json("cloud", &mend(&reason)?, "")?.to_string();
    assert!(config.contains("max_payload: 589824"), "{config}");
    let complaint = sites.complaint("cloud", &["tree", "config", "cloud.east"], "")?;
    assert!(complaint.contains("holds cloud, not cloud.east"), "{complaint}");
    let output = sites.output("cloud", &["doctor"], "")?;
    assert_eq!(output.status.code(), Some(2));
    let checks: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let settings = checks.iter().find(|check| check["name"] == "server's settings");
    let found = settings.context("no such check")?["found"].to_string();
    assert!(found.contains("max_payload is 8388608, needed is 589824"), "{found}");
    assert!(found.contains("ping_interval is 120 s, needed is 5 s"), "{found}");
    assert!(found.contains("does not map up.*.>"), "{found}");
    drop(server);

    // An old server, by what it says at its door.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("nats://{}", listener.local_addr()?);
    let old = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let info = r#"{"server_id":"X","version":"2.9.10","max_payload":589824,"jetstream":true}"#;
        stream.write_all(format!("INFO {info}\r\n").as_bytes()).await?;
        let mut heard = vec![0; 4096];
        while stream.read(&mut heard).await? > 0 {
            stream.write_all(b"PONG\r\n").await?;
        }
        std::io::Result::Ok(())
    });
    let reason = refused(&url).await?;
    assert!(reason.contains("nats-server 2.9.10 is too old: 2.12 or newer"), "{reason}");
    old.abort();
    Ok(())
}

#[tokio::test]
async fn a_site_of_up_does_not_move_and_says_why() -> Result<()> {
    let world = World::start_with(&["cloud", "cloud.east", "cloud.west"], []).await?;
    let invited = client::control(world.bus("cloud.west"), "tree.invite", r#"{"name":"east"}"#);
    let invited: Value = client::json(&invited.await?)?;
    let token = invited["token"].as_str().context("no token")?;
    let dir = world.tree.dir().join("cloud.east");
    let mut command = Command::new(crate::world::binary());
    command.arg("--dir").arg(&dir).args(["tree", "move", token]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("part of a tree of `edgescale up`"),
        "{text}"
    );
    assert!(text.contains("write a free port as `join`"), "{text}");
    assert_eq!(SiteFolder::open(&dir)?.record.site.as_str(), "cloud.east");
    Ok(())
}

/// As a server does that was configured before calls went straight to who serves them.
#[tokio::test]
async fn a_call_that_may_not_go_straight_goes_by_the_parent() -> Result<()> {
    use crate::delivery::{TREE, app, call, call_component, handler};
    let world = World::start_with(&TREE, []).await?;
    let top = handler("top", "echo", "call = \"top\"", "placement = { min_tier = \"cloud\" }");
    world.apply(&app("app", &[top]), &[("echo", call_component(""))]).await?;
    let edge = world.bus(TREE[2]);
    let route = async || {
        let answer = call(edge, "app.top", &[]).await?;
        anyhow::Ok(answer.headers[bus::message::ROUTE_HEADER].clone())
    };
    let by = async |wanted: &str| {
        let route = route().await?;
        ensure!(route == wanted, "by {route}");
        Ok(Some(()))
    };
    eventually("a call that goes straight", async || by("cloud.east.cell1,cloud").await).await?;

    let dir = world.tree.dir().join("cloud.east");
    let folder = SiteFolder::open(&dir)?;
    let text = std::fs::read_to_string(dir.join("nats.conf"))?;
    let narrow = text.replace("\"call.cloud._.>\", ", "");
    ensure!(narrow != text, "{text}");
    std::fs::write(dir.join("nats.conf"), narrow)?;
    let key = folder.key("sys.nk")?;
    bus::server::reload(&folder.server_url(), &key).await?;
    bus::server::drop_links(&folder.server_url(), &key).await?;
    let whole = "cloud.east.cell1,cloud.east,cloud";
    eventually("the same by way of the parent", async || by(whole).await).await?;
    for _ in 0..20 {
        // The link was cut a moment ago: the parent may count as away for a while.
        let route = eventually("an answer", async || route().await.map(Some)).await?;
        ensure!(route == whole, "by {route}");
    }
    Ok(())
}
