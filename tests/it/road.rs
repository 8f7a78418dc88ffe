//! The whole road on real parts, with the link between region and cloud cut on the way.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use ::handlers::deploy::table_name;
use ::handlers::stream::{Open, Pace, State, Status};
use anyhow::Result;
use bus::message::SITE_HEADER;
use bus::{Headers, Kind, Subject};
use edgescale::cli::talk::{open_stream, wait_for_end};
use edgescale::node::client;
use edgescale::tree::DEMO_SITES;
use serde_json::Value;

use crate::proxy::Proxy;
use crate::world::{World, clip, doorcam, eventually};

const FRAMES: u64 = 132;

async fn open(world: &World, source: &Path, pace: Pace) -> Result<Status> {
    let source = source.display().to_string();
    let open = Open { stream: "front".into(), source, pace };
    open_stream(world.bus("cloud.east.cell1"), "doorcam", &open).await
}

async fn rows_at(world: &World, site: &str) -> Result<Vec<Value>> {
    client::rows(world.bus(site), &table_name("doorcam", "motion")).await
}

#[tokio::test]
async fn a_video_goes_the_whole_road_though_the_uplink_is_cut() -> Result<()> {
    let (Some(clip), Some(_)) = (clip(), doorcam()) else { return Ok(()) };
    let proxy = Proxy::new();
    let world = World::start_with(&DEMO_SITES, [("cloud.east.cell1", proxy.via())]).await?;
    world.deploy_doorcam().await?;
    let edge = world.bus("cloud.east.cell1");
    let stream = open(&world, &clip, Pace::Realtime).await?;

    let begun = async || {
        let handled = world.report("cloud.east").await?.metrics.counts;
        Ok(handled.get("invocations doorcam/summary").copied())
    };
    eventually("the first event to be handled at the region", begun).await?;
    proxy.cut();
    let away = async || {
        let link = world.report("cloud.east.cell1").await?.brief.link;
        Ok(link.filter(|link| !link.up))
    };
    eventually("the edge to notice that the region is away", away).await?;

    // The edge goes on alone.
    let ended = wait_for_end(edge, "doorcam", &stream.id).await?;
    assert_eq!((ended.state, ended.frames, ended.errors), (State::Ended, FRAMES, 0));
    let published = world.count("cloud.east.cell1", "events published").await?;
    let counted = world.count("cloud.east", "invocations doorcam/summary").await?;
    assert!(counted < published, "{counted} of {published} events passed before the cut");
    assert!(client::changes_waiting(edge).await? > 0, "rows wait at the edge");
    assert_eq!(rows_at(&world, "cloud.east.cell1").await?.len() as u64, FRAMES);

    let healed = Instant::now();
    proxy.heal();
    // To its end: while one still runs, the region may send a call further up.
    let summed = async || {
        let times = world.report("cloud.east").await?.metrics.times;
        let count = times.get("run doorcam/summary").map_or(0, |times| times.count);
        Ok((count >= published).then_some(()))
    };
    eventually("every event to be handled at the region", summed).await?;
    let arrived = async || {
        let rows = rows_at(&world, "cloud").await?;
        Ok((rows.len() as u64 >= FRAMES).then_some(rows))
    };
    let at_root = eventually("every row to be at the root", arrived).await?;
    println!("everything had caught up {:?} after the link was back", healed.elapsed());
    assert_eq!(at_root, rows_at(&world, "cloud.east.cell1").await?);

    // A reader that never saw the table, a call that nobody there can answer, a foreign JPEG.
    assert_eq!(rows_at(&world, "cloud.east.cell2").await?, at_root);
    let reader = world.bus("cloud.east.cell2");
    let subject = Subject::new(Kind::Call, reader.site(), "doorcam.summary").to_string();
    let answer = reader.request(&subject, &Headers::new(), "{}", client::TIMEOUT).await?;
    assert_eq!(answer.headers[SITE_HEADER], "cloud.east");
    let body: Value = client::json(&answer)?;
    assert_eq!(body["events"], published, "each event counts once: {body}");
    let key = at_root[0]["jpeg"].as_str().unwrap_or_default();
    let jpeg = client::blob(reader, key).await?;
    assert_eq!((&jpeg[..3], &jpeg[jpeg.len() - 2..]), (&b"\xff\xd8\xff"[..], &b"\xff\xd9"[..]));

    // Code went only where it was wanted, and to the root, which has tried it.
    let code = async |site: &str| -> Result<Vec<String>> {
        let report = world.report(site).await?;
        let handlers = report.apps.into_iter().flat_map(|app| app.handlers);
        Ok(handlers.filter(|h| h.state == "ready").map(|h| h.name).collect())
    };
    assert_eq!(code("cloud.east.cell1").await?, ["motion"]);
    assert_eq!(code("cloud.east").await?, ["summary"]);
    assert_eq!(code("cloud.east.cell2").await?, Vec::<String>::new());
    assert_eq!(code("cloud").await?, ["motion", "summary"]);
    Ok(())
}

#[tokio::test]
async fn a_killed_node_loses_no_row_it_had_acknowledged() -> Result<()> {
    let (Some(clip), Some(_)) = (clip(), doorcam()) else { return Ok(()) };
    let mut world = World::start().await?;
    world.deploy_doorcam().await?;
    open(&world, &clip, Pace::Realtime).await?;
    let some = async || {
        let report = world.report("cloud.east.cell1").await?;
        Ok(report.streams.first().map(|stream| stream.handled).filter(|handled| *handled >= 20))
    };
    let handled = eventually("some frames to be handled", some).await?;
    world.tree.kill_node("cloud.east.cell1")?;
    world.tree.restart_node("cloud.east.cell1").await?;
    let rows = rows_at(&world, "cloud.east.cell1").await?;
    assert!(rows.len() as u64 >= handled, "{} rows of {handled} handled frames", rows.len());
    let arrived = async || Ok((rows_at(&world, "cloud").await? == rows).then_some(()));
    eventually("the root to have the same rows", arrived).await?;
    Ok(())
}

/// Half a second of test picture as MPEG-TS, or `None` where FFmpeg cannot make one.
fn transport_stream(size: &str) -> Option<Vec<u8>> {
    let source = format!("testsrc=size={size}:rate=20");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &source, "-frames:v", "10"])
        .args(["-c:v", "libx264", "-pix_fmt", "yuv420p", "-f", "mpegts", "-"])
        .output();
    output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
}

#[tokio::test]
async fn a_frame_of_another_size_starts_the_comparison_anew() -> Result<()> {
    let Some(_) = doorcam() else { return Ok(()) };
    let (Some(small), Some(large)) = (transport_stream("320x240"), transport_stream("402x318"))
    else {
        aloud::skipped!("no ffmpeg with libx264 to make a stream whose size changes");
        return Ok(());
    };
    let world = World::start_with(&["cloud", "cloud.east", "cloud.east.cell1"], []).await?;
    world.deploy_doorcam().await?;
    let file = world.tree.dir().join("two-sizes.ts");
    std::fs::write(&file, [small, large].concat())?;
    let stream = open(&world, &file, Pace::Fast).await?;
    let ended = wait_for_end(world.bus("cloud.east.cell1"), "doorcam", &stream.id).await?;
    assert_eq!((ended.state, ended.errors), (State::Ended, 0), "{:?}", ended.reason);
    assert_eq!((ended.width, ended.height), (402, 318));
    assert!(ended.frames > 10 && ended.handled == ended.frames, "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_no_video_is_named_and_hurts_nobody() -> Result<()> {
    let (Some(_), Some(_)) = (clip(), doorcam()) else { return Ok(()) };
    let world = World::start_with(&["cloud", "cloud.east", "cloud.east.cell1"], []).await?;
    world.deploy_doorcam().await?;
    let garbage = world.tree.dir().join("garbage.mp4");
    std::fs::write(&garbage, vec![0x5a; 100_000])?;
    for source in [garbage, "/nowhere/at-all.mp4".into()] {
        let stream = open(&world, &source, Pace::Fast).await?;
        let bus = world.bus("cloud.east.cell1");
        let ended = wait_for_end(bus, "doorcam", &stream.id).await?;
        assert_eq!(ended.state, State::Failed);
        let reason = ended.reason.unwrap_or_default();
        assert!(reason.contains(&source.display().to_string()), "{reason}");
    }
    let bad = Open { stream: "back".into(), source: "x".into(), pace: Pace::Fast };
    let error = open_stream(world.bus("cloud.east.cell1"), "doorcam", &bad).await;
    let error = format!("{:#}", error.expect_err("no handler takes that stream"));
    assert!(error.contains("stream \"back\""), "{error}");
    assert!(world.report("cloud.east.cell1").await?.ready);
    Ok(())
}
