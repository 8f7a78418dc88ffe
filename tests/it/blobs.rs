//! Blobs are removed at the site that took them, by who may, and code of apps is not.

use std::process::Command;

use ::handlers::Digest;
use anyhow::{Context as _, Result, ensure};
use bus::Kind;
use edgescale::node::client;
use edgescale::tree::DEMO_SITES;
use serde_json::{Value, json};

use crate::handlers::{component, manifest, publish};
use crate::world::{World, binary, eventually, tools};

const EDGE: &str = "cloud.east.cell1";

/// What the command line prints, and whether it did what it was told.
fn shell(world: &World, arguments: &[&str]) -> Result<(bool, String)> {
    let mut command = Command::new(binary());
    command.arg("--dir").arg(world.tree.dir()).arg("--tools").arg(tools());
    let output = command.args(arguments).output()?;
    let said = if output.status.success() { output.stdout } else { output.stderr };
    Ok((output.status.success(), String::from_utf8(said)?))
}

#[tokio::test]
async fn a_blob_is_removed_from_the_shell_and_code_of_an_app_is_not() -> Result<()> {
    let world = World::start_with(&DEMO_SITES, []).await?;
    let code = component("(i32.const 16)");
    let digest = Digest::of(&code);
    world.apply(&manifest("works", "go"), &[("code", code)]).await?;
    publish(world.bus(EDGE), "works.go").await?;
    let ran = async || {
        let count = world.count(EDGE, "invocations works/h").await?;
        Ok((count >= 1).then_some(()))
    };
    eventually("the handler to run at the edge", ran).await?;
    let key = format!("cloud/{digest}");
    for site in ["cloud", "cell1"] {
        let (done, said) = shell(&world, &["--at", site, "store", "rm-blob", &key])?;
        assert!(!done && said.contains("it is code of app \"works\""), "{site}: {said}");
    }
    assert!(!client::blob(world.bus("cloud"), &key).await?.is_empty());

    let table = json!({"name": "works_notes", "key": ["id"],
                       "columns": [{"name": "id", "kind": "int64"}]});
    let edge = world.bus(EDGE);
    client::ask(edge, Kind::St, "create", table.to_string()).await?;
    let export = json!({"table": "works_notes"}).to_string();
    let made: Value = client::json(&client::ask(edge, Kind::St, "export", export).await?)?;
    let blob = made["blob"].as_str().context("no blob")?.to_owned();
    let (done, said) = shell(&world, &["--at", "cell2", "store", "rm-blob", &blob])?;
    ensure!(done, "{said}");
    assert_eq!(
        said.trim(),
        format!("the copy of {blob} here is removed; cloud.east.cell1 keeps the blob")
    );
    assert!(!client::blob(edge, &blob).await?.is_empty());
    let (done, said) = shell(&world, &["store", "rm-blob", &blob])?;
    ensure!(done, "{said}");
    assert_eq!(said.trim(), format!("{blob} is removed"));
    let gone = client::blob(edge, &blob).await.unwrap_err().to_string();
    assert!(gone.contains(&format!("no blob {blob}")), "{gone}");
    let (done, said) = shell(&world, &["--json", "store", "rm-blob", &blob, &blob])?;
    ensure!(done, "{said}");
    let removed = json!({"blob": blob, "removed": "blob"});
    assert_eq!(serde_json::from_str::<Value>(&said)?, json!([removed, removed]));
    let (done, said) = shell(&world, &["store", "rm-blob", "cloud/sha256-12"])?;
    assert!(!done && said.contains("is not <site>/sha256-<hex>"), "{said}");

    // Without the app, its code is a blob like any other.
    client::control(world.bus("cloud"), "apps.delete", "works").await?;
    let freed = async || Ok(shell(&world, &["store", "rm-blob", &key])?.0.then_some(()));
    eventually("the code to go", freed).await
}
