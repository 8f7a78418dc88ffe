//! Sites of a test, each in a folder of its own and run by `edgescale run`, as on machines of their
//! own.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bus::Bus;
use edgescale::context::Context;
use edgescale::node::client;
use edgescale::node::report::{Brief, Report};
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{PATIENCE, binary, eventually, tools};

/// Folders of sites, and those that run.
pub struct Sites {
    folder: TempDir,
    running: Vec<(String, Child)>,
}

impl Sites {
    pub fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, running: vec![] })
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("--dir").arg(self.dir(name)).arg("--tools").arg(tools()).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    pub fn output(&self, name: &str, arguments: &[&str], stdin: &str) -> Result<Output> {
        let mut command = self.command(name, &[&["--json"], arguments].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("no standard input")?.write_all(stdin.as_bytes())?;
        Ok(child.wait_with_output()?)
    }

    /// Runs a command that must succeed, and reads its JSON.
    pub fn json(&self, name: &str, arguments: &[&str], stdin: &str) -> Result<Value> {
        let output = self.output(name, arguments, stdin)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {complaint}");
        serde_json::from_slice(&output.stdout).with_context(|| format!("{arguments:?}: no JSON"))
    }

    /// Runs a command that must fail, and returns its complaint.
    pub fn complaint(&self, name: &str, arguments: &[&str], stdin: &str) -> Result<String> {
        let output = self.output(name, arguments, stdin)?;
        ensure!(!output.status.success(), "{arguments:?} succeeded");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    pub fn start(&mut self, name: &str) -> Result<()> {
        let log = File::create(self.dir(name).join("run.log"))?;
        let child = self.command(name, &["run"]).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.running.push((name.to_owned(), child));
        Ok(())
    }

    pub fn stop(&mut self, name: &str) -> Result<()> {
        let at = self.running.iter().position(|(running, _)| running == name);
        let (_, mut child) = self.running.remove(at.context("it does not run")?);
        let pid = child.id().to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "kill failed");
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                bail!("{name} did not stop in {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Kills everything of a site at once: its runner, its server, its nodes.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        let at = self.running.iter().position(|(running, _)| running == name);
        let (_, mut child) = self.running.remove(at.context("it does not run")?);
        let below = children_of(child.id())?;
        child.kill()?;
        child.wait()?;
        for pid in below {
            // It may have ended with the one that started it.
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).output()?;
        }
        Ok(())
    }

    /// The process that runs a site.
    pub fn pid(&self, name: &str) -> Result<u32> {
        let found = self.running.iter().find(|(running, _)| running == name);
        Ok(found.context("it does not run")?.1.id())
    }

    /// Invites a child and joins as it; the folder is named like the site.
    pub fn join(&self, parent: &str, name: &str) -> Result<String> {
        self.join_with(parent, name, "1")
    }

    /// The same for a site of these servers.
    pub fn join_with(&self, parent: &str, name: &str, servers: &str) -> Result<String> {
        let invited = self.json(parent, &["tree", "invite", name], "")?;
        let token = invited["token"].as_str().context("no token")?.to_owned();
        let join = ["tree", "join", "--ports", "auto", "--no-run", "--servers", servers];
        let joined = self.json(name, &join, &format!("{token}\n"))?;
        assert_eq!(joined["site"], invited["site"]);
        Ok(token)
    }

    pub async fn bus(&self, name: &str) -> Result<Bus> {
        let probe = async || Ok(Some(Context::load(&self.dir(name))?.site(None)?.connect().await?));
        eventually(&format!("the server of {name}"), probe).await
    }

    pub async fn report(&self, name: &str) -> Result<Report> {
        let bus = self.bus(name).await?;
        eventually(&format!("the node of {name}"), async || Ok(client::report(&bus).await.ok()))
            .await
    }

    pub fn log(&self, name: &str, file: &str) -> String {
        std::fs::read_to_string(self.dir(name).join(file)).unwrap_or_default()
    }
}

/// The processes that a process has started and that run.
pub fn children_of(parent: u32) -> Result<Vec<u32>> {
    let mut children = vec![];
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((head, rest)) = stat.rsplit_once(')') else { continue };
        let is_child = rest.split_whitespace().nth(1) == Some(&parent.to_string());
        if is_child && let Some(pid) = head.split(' ').next().and_then(|pid| pid.parse().ok()) {
            children.push(pid);
        }
    }
    Ok(children)
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

pub async fn children(bus: &Bus) -> Result<Vec<Brief>> {
    let tree: Brief = client::json(&client::control(bus, "tree", "").await?)?;
    Ok(tree.children)
}

pub async fn seen(bus: &Bus, path: &str, up: bool) -> Result<()> {
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
