//! Sites that join a tree one by one, as on machines of their own: each in a folder of its own,
//! each run by `edgescale run`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use bus::{Bus, Headers, Kind, Subject};
use edgescale::context::Context;
use edgescale::node::client;
use edgescale::node::report::{Brief, Report};
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{World, binary, eventually, tools};

/// Folders of sites, and those that run.
struct Sites {
    folder: TempDir,
    running: Vec<(String, Child)>,
}

impl Sites {
    fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, running: vec![] })
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("--dir").arg(self.dir(name)).arg("--tools").arg(tools()).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    fn output(&self, name: &str, arguments: &[&str], stdin: &str) -> Result<Output> {
        let mut command = self.command(name, &[&["--json"], arguments].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("no standard input")?.write_all(stdin.as_bytes())?;
        Ok(child.wait_with_output()?)
    }

    /// Runs a command that must succeed, and reads its JSON.
    fn json(&self, name: &str, arguments: &[&str], stdin: &str) -> Result<Value> {
        let output = self.output(name, arguments, stdin)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {complaint}");
        serde_json::from_slice(&output.stdout).with_context(|| format!("{arguments:?}: no JSON"))
    }

    /// Runs a command that must fail, and returns its complaint.
    fn complaint(&self, name: &str, arguments: &[&str], stdin: &str) -> Result<String> {
        let output = self.output(name, arguments, stdin)?;
        ensure!(!output.status.success(), "{arguments:?} succeeded");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn start(&mut self, name: &str) -> Result<()> {
        let log = File::create(self.dir(name).join("run.log"))?;
        let child = self.command(name, &["run"]).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.running.push((name.to_owned(), child));
        Ok(())
    }

    fn stop(&mut self, name: &str) -> Result<()> {
        let at = self.running.iter().position(|(running, _)| running == name);
        let (_, mut child) = self.running.remove(at.context("it does not run")?);
        let pid = child.id().to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "kill failed");
        child.wait()?;
        Ok(())
    }

    /// Invites a child and joins as it; the folder is named like the site.
    fn join(&self, parent: &str, name: &str) -> Result<String> {
        let invited = self.json(parent, &["tree", "invite", name], "")?;
        let token = invited["token"].as_str().context("no token")?.to_owned();
        let join = ["tree", "join", "--ports", "auto", "--no-run"];
        let joined = self.json(name, &join, &format!("{token}\n"))?;
        assert_eq!(joined["site"], invited["site"]);
        Ok(token)
    }

    async fn bus(&self, name: &str) -> Result<Bus> {
        let probe = async || Ok(Some(Context::load(&self.dir(name))?.site(None)?.connect().await?));
        eventually(&format!("the server of {name}"), probe).await
    }

    async fn report(&self, name: &str) -> Result<Report> {
        let bus = self.bus(name).await?;
        eventually(&format!("the node of {name}"), async || Ok(client::report(&bus).await.ok()))
            .await
    }

    fn log(&self, name: &str, file: &str) -> String {
        std::fs::read_to_string(self.dir(name).join(file)).unwrap_or_default()
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        for (name, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                let dir = self.folder.path().join(name.as_str());
                for file in ["run.log", "node.log", "nats.log"] {
                    let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
                    eprintln!("--- {name} {file}\n{text}");
                }
            }
        }
    }
}

async fn children(bus: &Bus) -> Result<Vec<Brief>> {
    let tree: Brief = client::json(&client::control(bus, "tree", "").await?)?;
    Ok(tree.children)
}

async fn seen(bus: &Bus, path: &str, up: bool) -> Result<()> {
    eventually(
        &format!("{path} below {}, {}", bus.site(), if up { "up" } else { "gone" }),
        async || {
            let children = children(bus).await?;
            let child = children.iter().find(|child| child.path.as_str() == path);
            let is_up = child.is_some_and(|child| child.link.as_ref().is_some_and(|link| link.up));
            Ok((is_up == up && (up || child.is_none())).then_some(()))
        },
    )
    .await
}

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
    sites.json("cloud", &["tree", "rm", "west"], "")?;
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
    assert!(config.contains("max_payload: 1048576") && !config.contains(seed.trim()), "{config}");
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
