//! Schedules and changed rows on a real tree: they start handlers where these are placed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Result;
use bus::Kind;
use edgescale::node::client;
use serde_json::json;

use super::handlers::component;
use super::world::{World, eventually};

fn manifest(placement: &str) -> String {
    format!(
        "[app]\nname = \"clock\"\n[[handler]]\nname = \"tick\"\ncomponent = \"{{code}}\"\n\
         [[handler.trigger]]\ncron = \"* * * * * *\"\nzone = \"Asia/Kolkata\"\n{placement}"
    )
}

#[tokio::test]
async fn a_schedule_runs_at_one_site_of_its_placement() -> Result<()> {
    let world = World::start().await?;
    let edge = manifest("[handler.placement]\nmin_tier = \"edge\"\nmax_tier = \"edge\"\n");
    let began = Instant::now();
    world.apply(&edge, &[("code", component("(i32.const 16)"))]).await?;
    let runs = async |site: &str| world.count(site, "invocations clock/tick").await;
    let ran = async || {
        let counts = [runs("cloud.east.cell1").await?, runs("cloud.east.cell2").await?];
        Ok((counts.iter().sum::<u64>() >= 3).then_some(counts))
    };
    let counts = eventually("three runs at the edge", ran).await?;
    assert_eq!(counts.iter().min(), Some(&0), "one of two: {counts:?}");
    assert!(counts.iter().sum::<u64>() <= began.elapsed().as_secs() + 1, "{counts:?}");
    assert_eq!(runs("cloud").await? + runs("cloud.east").await?, 0);

    // A new revision moves it: to the root, which then runs it itself.
    let root = manifest("[handler.placement]\nmin_tier = \"cloud\"\n");
    world.apply(&root, &[("code", component("(i32.const 16)"))]).await?;
    let moved = async || Ok((runs("cloud").await? >= 2).then_some(()));
    eventually("two runs at the root", moved).await?;
    client::control(world.bus("cloud"), "apps.delete", "clock").await?;
    Ok(())
}

#[tokio::test]
async fn a_changed_row_starts_a_handler_where_it_is_placed() -> Result<()> {
    let world = World::start_with(&["cloud", "cloud.east"], []).await?;
    let manifest = "[app]\nname = \"feed\"\n[[handler]]\nname = \"tell\"\n\
                    component = \"{code}\"\n[[handler.trigger]]\ntable = \"rows\"\n\
                    [handler.placement]\nmin_tier = \"cloud\"\n\
                    [[table]]\nname = \"rows\"\nkey = [\"a\"]\n\
                    columns = [{ name = \"a\", type = \"utf8\" }]\n";
    world.apply(manifest, &[("code", component("(i32.const 16)"))]).await?;
    let east = world.bus("cloud.east");
    let written = AtomicU64::new(0);
    // The first rows may be there before the table is followed.
    let told = async || {
        let name = format!("row {}", written.fetch_add(1, Ordering::Relaxed));
        let row = json!({ "table": "feed_rows", "rows": [{ "a": name }], "level": "local-sync" });
        client::ask(east, Kind::St, "put", row.to_string()).await?;
        Ok((world.count("cloud", "invocations feed/tell").await? > 0).then_some(()))
    };
    eventually("a row written below to be told at the root", told).await?;
    assert_eq!(world.count("cloud.east", "invocations feed/tell").await?, 0);
    Ok(())
}
