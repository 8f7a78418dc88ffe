//! Compiled code that comes down the tree, from a site that compiles for those below it.

use ::handlers::Digest;
use ::handlers::execute::Machine;
use anyhow::Result;
use bus::pki::UserKey;
use edgescale::node;
use edgescale::tree::DEMO_SITES;

use crate::handlers::{component, dead_letter, manifest, publish};
use crate::world::{World, eventually};

const EDGE: &str = "cloud.east.cell1";

/// Changes what a node is told, and starts it again.
async fn configure(
    world: &mut World,
    site: &str,
    change: impl FnOnce(&mut node::code::Settings),
) -> Result<()> {
    let file = world.tree.dir().join(site).join(node::CONFIG_FILE);
    let mut settings = node::Settings::load(&file)?;
    change(&mut settings.code);
    settings.save(&file)?;
    world.tree.kill_node(site)?;
    world.tree.restart_node(site).await
}

/// The log of a site's node.
fn log(world: &World, site: &str) -> String {
    std::fs::read_to_string(world.tree.dir().join(site).join("node.log")).unwrap_or_default()
}

/// Registers an app, waits until its code is compiled for all, and has it run at the edge.
async fn run(world: &World, name: &str, code: Vec<u8>, targets: &[Machine]) -> Result<()> {
    let digest = Digest::of(&code);
    world.apply(&manifest(name, "go"), &[("code", code)]).await?;
    let made = world.tree.dir().join("cloud/data/apps/compiled");
    for machine in targets {
        let offer = made.join(format!("{digest}-{}.json", machine.name()));
        eventually("the code to be compiled", async || Ok(offer.exists().then_some(()))).await?;
    }
    publish(world.bus(EDGE), &format!("{name}.go")).await?;
    let ran = async || {
        let count = world.count(EDGE, &format!("invocations {name}/h")).await?;
        Ok((count >= 1).then_some(()))
    };
    eventually("the handler to run at the edge", ran).await
}

#[tokio::test]
async fn an_edge_takes_what_the_root_compiled_if_it_trusts_it() -> Result<()> {
    let Some(here) = Machine::here() else {
        aloud::skipped!("nothing is compiled for this machine by others");
        return Ok(());
    };
    let mut world = World::start_with(&DEMO_SITES, []).await?;
    let targets = Machine::ALL.to_vec();
    let key = UserKey::load_or_generate(&world.tree.dir().join("cloud/node.nk"))?.public;
    configure(&mut world, "cloud", |code| code.targets = targets.clone()).await?;
    configure(&mut world, EDGE, |code| code.trust = vec![key.clone()]).await?;
    let said = log(&world, "cloud");
    assert!(said.contains(&format!("x86_64, aarch64, and signed by {key}")), "{said}");

    // The site between them has no part in it, and the bytes pass through it.
    run(&world, "trusted", component("(i32.const 16)"), &targets).await?;
    let said = log(&world, EDGE);
    assert!(said.contains("compiled code was taken from cloud"), "{said}");

    let stranger = UserKey::generate()?.public;
    configure(&mut world, EDGE, |code| code.trust = vec![stranger]).await?;
    run(&world, "strange", component("nop (i32.const 16)"), &[here]).await?;
    let said = log(&world, EDGE);
    let why = format!("compiled code of cloud is refused, it is made here: {key} signed it");
    assert!(said.contains(&why) && said.contains("[code] trust"), "{said}");
    Ok(())
}

#[tokio::test]
async fn an_edge_that_compiles_nothing_waits_for_what_is_compiled_above() -> Result<()> {
    let Some(here) = Machine::here() else {
        aloud::skipped!("nothing is compiled for this machine by others");
        return Ok(());
    };
    let mut world = World::start_with(&DEMO_SITES, []).await?;
    let key = UserKey::load_or_generate(&world.tree.dir().join("cloud/node.nk"))?.public;
    configure(&mut world, "cloud", |code| code.targets = vec![here]).await?;
    configure(&mut world, EDGE, |code| code.compile = false).await?;
    let compiled = component("(i32.const 16)");
    world.apply(&manifest("lean", "go"), &[("code", compiled.clone())]).await?;
    publish(world.bus(EDGE), "lean.go").await?;
    dead_letter(&world, EDGE, "no key of a site that compiles is under [code] trust").await?;

    configure(&mut world, EDGE, |code| code.trust = vec![key]).await?;
    run(&world, "lean", compiled, &[here]).await?;
    let said = log(&world, EDGE);
    assert!(said.contains("compiled code was taken from cloud"), "{said}");
    Ok(())
}

/// Why a node that is told so does not start.
async fn refusal(change: impl FnOnce(&mut node::code::Settings)) -> Result<String> {
    let world = World::start_with(&["cloud"], []).await?;
    let file = world.tree.dir().join("cloud").join(node::CONFIG_FILE);
    let mut settings = node::Settings::load(&file)?;
    change(&mut settings.code);
    let refused = node::start(settings, Default::default()).await;
    Ok(refused.err().map(|error| format!("{error:#}")).unwrap_or_default())
}

#[tokio::test]
async fn what_a_node_is_told_of_code_is_looked_at_before_it_serves() -> Result<()> {
    let why = refusal(|code| {
        code.compile = false;
        code.targets = vec![Machine::Aarch64];
    });
    let why = why.await?;
    assert!(why.contains("[code] targets") && why.contains("compile = true"), "{why}");
    let why = refusal(|code| code.trust = vec!["AAAA".into()]).await?;
    assert!(why.contains("[code] trust") && why.contains("no public nkey"), "{why}");
    Ok(())
}
