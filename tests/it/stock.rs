//! The stock `nats` client: every verb that the guide names, on a whole tree.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use bus::Headers;
use edgescale::node::client;
use edgescale::upload::StockCli;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::handlers::{component, manifest};
use crate::world::{World, binary, eventually, tools};

const EDGE: [&str; 2] = ["cloud", "cloud.east"];

#[tokio::test]
async fn the_stock_cli_does_it_all() -> Result<()> {
    let Some(binary) = found() else { return Ok(()) };
    let world = World::start_with(&EDGE, []).await?;
    let site = world.context.site(Some("cloud"))?;
    let cli = StockCli { binary, site };

    let code = component("(i32.const 16)");
    let digest = ::handlers::Digest::of(&code);
    let file = world.tree.dir().join("code.wasm");
    std::fs::write(&file, &code)?;
    cli.put_code(&digest, &file)?;
    let copy = world.tree.dir().join("copy.wasm");
    let output = copy.to_str().context("the folder's name is UTF-8")?;
    let get = ["obj", "get", "code", digest.as_str(), "-O", output, "-f", "--no-progress"];
    cli.run(&get, "")?;
    assert_eq!(std::fs::read(&copy)?, code);
    assert!(cli.run(&["obj", "ls", "code"], "")?.contains(digest.as_str()));
    let text = manifest("byhand", "go").replace("{code}", digest.as_str());
    let answer = cli.apply(&text)?;
    assert_eq!(answer["app"], "byhand", "{answer}");
    let refused = cli.apply(&text.replace("[app]", "[apq]"))?;
    assert!(
        refused["error"]["message"].as_str().is_some_and(|m| m.contains("line 1")),
        "{refused}"
    );

    // The other way: the bucket, and what became of the entry in `apps-status`.
    let status = async |app: &str, wanted: &str| -> Result<Value> {
        let found = async || {
            let text = cli.run(&["kv", "get", "apps-status", app, "--raw"], "")?;
            let status: Value = serde_json::from_str(text.trim())?;
            Ok((status["state"] == wanted).then_some(status))
        };
        eventually(&format!("app {app} to be {wanted}"), found).await
    };
    let other = text.replace("byhand", "bykv");
    let watching = Listening::start(&cli, &["kv", "watch", "apps-status"])?;
    watching.hears("byhand").await?;
    cli.run(&["kv", "put", "apps", "bykv", &other], "")?;
    status("bykv", "active").await?;
    watching.hears("bykv").await?;
    cli.run(&["kv", "put", "apps", "broken", "[app]\nname = 7\n"], "")?;
    let refused = status("broken", "refused").await?;
    assert!(refused["error"].as_str().is_some_and(|e| e.contains("line 2")), "{refused}");

    let listening = Listening::start(&cli, &["sub", "ev.cloud._.>"])?;
    let ran = async || {
        cli.run(&["pub", "ev.byhand.go", "{}"], "")?;
        let heard = listening.text()?.contains("Received on \"ev.cloud._.byhand.go\"");
        let count = world.count("cloud", "invocations byhand/h").await?;
        Ok((heard && count >= 1).then_some(count))
    };
    let ran = eventually("an event of the stock CLI to be heard and handled", ran).await?;

    // What serves, and what has come of it.
    let listed = cli.run(&["micro", "ls"], "")?;
    assert!(listed.contains("EdgeScale node of cloud.east"), "{listed}");
    let instances: Value = serde_json::from_str(&cli.run(&["micro", "ls", "--json"], "")?)?;
    let is_root = |instance: &&Value| instance["metadata"]["path"] == "cloud";
    let instances = instances.as_array().context("a list")?;
    assert_eq!(instances.len(), 2, "{instances:?}");
    let root = instances.iter().find(is_root).context("the root is not listed")?;
    assert_eq!(root["description"], "EdgeScale node of cloud");
    let (name, id) = (root["name"].as_str(), root["id"].as_str());
    let (name, id) = (name.context("no name")?, id.context("no id")?);
    let info = cli.run(&["micro", "info", name, id], "")?;
    assert!(info.contains("byhand_h Endpoint Statistics"), "{info}");
    let info: Value = serde_json::from_str(&cli.run(&["micro", "info", name, id, "--json"], "")?)?;
    assert_eq!(info["info"]["metadata"]["handlers"], "byhand/h,bykv/h", "{info}");
    let endpoint = |of: &Value| -> Result<Value> {
        let all = of["endpoints"].as_array().context("no endpoints")?;
        let found = all.iter().find(|endpoint| endpoint["name"] == "byhand_h");
        Ok(found.with_context(|| format!("not among {all:?}"))?.clone())
    };
    assert_eq!(endpoint(&info["info"])?["subject"], "ev.cloud._.byhand.go");
    let stats = cli.run(&["micro", "stats", name, id, "--json"], "")?;
    let stats = endpoint(&serde_json::from_str::<Value>(&stats)?[0])?;
    assert!(stats["num_requests"].as_u64() >= Some(ran), "{stats}");
    assert!(stats["average_processing_time"].as_u64() > Some(0), "{stats}");
    assert!(cli.run(&["micro", "stats", name], "")?.contains("bykv_h"));

    // Without the site's folder: as a context among the user's own.
    let own = world.tree.dir().join("config/nats/context");
    std::fs::create_dir_all(&own)?;
    std::fs::copy(site.nats_context(), own.join("home.json"))?;
    let nats = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(&cli.binary);
        command.env("XDG_CONFIG_HOME", world.tree.dir().join("config"));
        let output = command.args(arguments).stdin(Stdio::null()).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {complaint}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    nats(&["context", "select", "home"])?;
    assert!(nats(&["context", "ls"])?.contains("EdgeScale site cloud"));
    let tree = nats(&["req", "here.ctl.tree", "", "--raw"])?;
    assert!(tree.contains("\"path\":\"cloud.east\""), "{tree}");
    without_a_folder(&world)
}

/// `edgescale` goes where the stock client would: to the selected context, or the one that is
/// named.
fn without_a_folder(world: &World) -> Result<()> {
    let empty = tempfile::tempdir()?;
    let run = |context: Option<&str>| -> Result<Output> {
        let mut command = Command::new(binary());
        command.env("XDG_CONFIG_HOME", world.tree.dir().join("config")).env_remove("NATS_CONTEXT");
        command.envs(context.map(|name| ("NATS_CONTEXT", name)));
        command.arg("--dir").arg(empty.path()).args(["--json", "tree"]).stdin(Stdio::null());
        Ok(command.output()?)
    };
    for context in [None, Some("home")] {
        let output = run(context)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{context:?}: {complaint}");
        let tree: Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!(tree["path"], "cloud", "{context:?}");
    }
    let output = run(Some("work"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && complaint.contains("context/work.json"), "{complaint}");
    Ok(())
}

/// What a node says of itself, as somebody hears it who only listens.
#[tokio::test]
async fn whoever_listens_hears_numbers_and_what_becomes_of_apps_links_and_sites() -> Result<()> {
    let Some(binary) = found() else { return Ok(()) };
    let mut world = World::start_with(&EDGE, []).await?;
    let context = world.context.clone();
    let cli = StockCli { binary, site: context.site(Some("cloud"))? };
    let listening = Listening::start(&cli, &["sub", "tel.>"])?;

    let text = manifest("told", "go");
    let code = component("(i32.const 16)");
    // Whoever begins to listen hears nothing of what was before.
    let begun = async || {
        world.bus("cloud").publish("tel.cloud._.hello", &Headers::new(), "{}").await?;
        Ok(listening.text()?.contains("tel.cloud._.hello").then_some(()))
    };
    eventually("the first message", begun).await?;
    world.apply(&text, &[("code", code.clone())]).await?;
    let first = listening.life("", "cloud", "app.added").await?;
    assert_eq!((&first["name"], &first["site"]), (&json!("told"), &json!("cloud")));
    world.apply(&text.replace("max_deliver = 2", "max_deliver = 3"), &[("code", code)]).await?;
    let revised = listening.life("", "cloud", "app.revised").await?;
    assert!(revised["revision"].as_u64() > first["revision"].as_u64(), "{first} {revised}");
    client::control(world.bus("cloud"), "apps.delete", "told").await?;
    listening.life("", "cloud", "app.removed").await?;

    let numbers = listening.said("", "tel.cloud.east._.metrics").await?;
    assert_eq!((&numbers["site"], &numbers["link"]["up"]), (&json!("cloud.east"), &json!(true)));
    assert!(numbers["rss_bytes"].as_u64() > Some(0) && numbers["metrics"]["counts"].is_object());
    let numbers = listening.said("", "tel.cloud._.metrics").await?;
    assert_eq!((&numbers["sites_below"], &numbers["link"]), (&json!(1), &Value::Null));

    world.tree.stop_node("cloud.east")?;
    listening.life("", "cloud.east", "node.stopping").await?;
    let away = listening.life("", "cloud", "site.away").await?;
    assert_eq!(away["name"], "cloud.east");
    world.tree.restart_node("cloud.east").await?;
    let (stopping, away) = ("life.node.stopping", "life.site.away");
    listening.life(stopping, "cloud.east", "node.started").await?;
    assert_eq!(listening.life(stopping, "cloud.east", "link.up").await?["name"], "cloud");
    assert_eq!(listening.life(away, "cloud", "site.up").await?["name"], "cloud.east");
    Ok(())
}

fn found() -> Option<PathBuf> {
    let found = StockCli::find(&tools());
    if found.is_none() {
        aloud::skipped!("no nats CLI; where Go is, ./tools.sh test installs it");
    }
    found
}

/// The CLI at a command that does not end by itself.
struct Listening {
    child: Child,
    said: NamedTempFile,
}

impl Listening {
    fn start(cli: &StockCli<'_>, arguments: &[&str]) -> Result<Self> {
        let said = NamedTempFile::new()?;
        let mut command = Command::new(&cli.binary);
        command.arg("--context").arg(cli.site.nats_context()).args(arguments);
        let out = said.reopen()?;
        command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
        Ok(Self { child: command.spawn()?, said })
    }

    fn text(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.said.path())?)
    }

    async fn hears(&self, wanted: &str) -> Result<()> {
        eventually(wanted, async || Ok(self.text()?.contains(wanted).then_some(()))).await
    }

    /// The first message on a subject, after the first mention of something.
    async fn said(&self, after: &str, subject: &str) -> Result<Value> {
        let line = format!("Received on \"{subject}\"\n");
        let said = async || {
            let text = self.text()?;
            let later = text.split_once(after).and_then(|(_, later)| later.split_once(&line));
            let Some((_, rest)) = later else { return Ok(None) };
            Ok(serde_json::from_str(rest.lines().next().unwrap_or_default()).ok())
        };
        eventually(subject, said).await
    }

    async fn life(&self, after: &str, site: &str, what: &str) -> Result<Value> {
        self.said(after, &format!("tel.{site}._.life.{what}")).await
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
