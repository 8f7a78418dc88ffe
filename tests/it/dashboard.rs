//! The page of a node: what it shows, and to whom.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::gateway::{bearer, check_problem, curl, has_curl, place};
use crate::handlers::{component, dead_letter, manifest, publish};
use crate::world::{World, binary, eventually, tools};

const TWO: [&str; 2] = ["cloud", "cloud.east"];

/// A tree in which a handler has failed twice, at the edge.
async fn world() -> Result<World> {
    let world = World::start_with(&TWO, []).await?;
    world.apply(&manifest("doorcam", "front.>"), &[("code", component("unreachable"))]).await?;
    publish(world.bus("cloud.east"), "doorcam.front.x").await?;
    dead_letter(&world, "cloud.east", "doorcam.front.x after 2 attempts").await?;
    Ok(world)
}

/// What `edgescale dashboard` prints.
fn address(world: &World) -> Result<String> {
    let mut command = Command::new(binary());
    command.arg("--dir").arg(world.tree.dir()).arg("--tools").arg(tools());
    let output = command.arg("dashboard").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[tokio::test]
async fn the_page_shows_the_tree_to_who_has_the_token() -> Result<()> {
    if !has_curl() {
        return Ok(());
    }
    let mut world = world().await?;
    let door = place(&world, "cloud")?.clone();
    let token = bearer(&door)?;
    let word = token.rsplit(' ').next().context("a token")?;
    assert_eq!(address(&world)?, format!("{}/#{word}", door.url));

    let page = curl(&[&format!("{}/", door.url)], b"")?;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let text = String::from_utf8(page.body)?;
    assert!(!text.contains("cloud") && !text.contains(word), "the page tells of the site");

    let state = format!("{}/_/state", door.url);
    let wrong = "Authorization: Bearer wrong";
    check_problem(&curl(&[&state], b"")?, 401, "not-granted", "token");
    check_problem(&curl(&["--header", wrong, &state], b"")?, 401, "not-granted", "token");
    let query = |query: &str| curl(&["--header", &token, &format!("{state}{query}")], b"");
    check_problem(&query("?site=cloud.west")?, 404, "not-found", "cloud.west is not known");
    check_problem(&query("?site=a..b")?, 400, "bad-request", "site: ");
    let post = curl(&["--header", &token, "--data", "", &state], b"")?;
    check_problem(&post, 405, "bad-request", "use GET");

    let look = |site: &str| -> Result<Value> {
        let got = query(site)?;
        ensure!(got.status == 200, "{}: {}", got.status, String::from_utf8_lossy(&got.body));
        Ok(serde_json::from_slice(&got.body)?)
    };
    let east = "?site=cloud.east";
    let whole = async || {
        let state = look(east)?;
        let site = |at: usize| (&state["sites"][at]["site"], &state["sites"][at]["up"]);
        let (cloud, edge) = (json!("cloud"), json!("cloud.east"));
        let both = site(0) == (&cloud, &json!(true)) && site(1) == (&edge, &json!(true));
        // The link is measured a little after the site is heard.
        let is_whole = both && state["sites"][1]["link_rtt_us"].is_u64();
        Ok(is_whole.then_some(state))
    };
    let state = eventually("both sites and the link on the page", whole).await?;
    assert_eq!(state["sites"][1]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(state["chosen"]["brief"]["path"], "cloud.east");
    let counts = &state["chosen"]["metrics"]["counts"];
    assert_eq!(
        (&counts["invocations doorcam/h"], &counts["failures doorcam/h"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(state["chosen"]["apps"][0]["handlers"][0]["name"], "h");
    let lines = state["lines"].as_array().context("lines")?;
    assert!(lines.iter().all(|line| line["site"] == "cloud.east"), "{lines:?}");
    let tells =
        |line: &Value| line["text"].as_str().is_some_and(|text| text.contains("dead letter"));
    assert!(lines.iter().any(tells), "{lines:?}");

    // Of a site that is away the rest is shown all the same.
    world.tree.kill_node("cloud.east")?;
    let without = async || {
        let state = look(east)?;
        Ok((state["sites"][1]["up"] == json!(false)).then_some(state))
    };
    let state = eventually("the page to tell of the site that is away", without).await?;
    assert_eq!((&state["chosen"], &state["lines"]), (&Value::Null, &json!([])));
    assert_eq!(look("")?["chosen"]["brief"]["path"], "cloud");
    Ok(())
}

#[tokio::test]
async fn a_browser_shows_the_page() -> Result<()> {
    let Ok(found) = Command::new("chromium").arg("--version").output() else {
        aloud::skipped!("no chromium; the page was not seen by a browser");
        return Ok(());
    };
    ensure!(found.status.success(), "chromium does not start");
    let world = world().await?;
    let profile = tempfile::tempdir()?;
    let dump = |url: String| -> Result<String> {
        let output = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server"])
            .args(["--virtual-time-budget=6000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    let shown = async || {
        let page = dump(address(&world)?)?;
        let all = ["cloud.east", "doorcam/h", "cpu0", "as of "];
        Ok(all.iter().all(|text| page.contains(&format!(">{text}"))).then_some(()))
    };
    eventually("the page to show the tree", shown).await?;
    let stranger = dump(format!("{}/#wrong", place(&world, "cloud")?.url))?;
    assert!(stranger.contains("this token is not the site's"), "{stranger}");
    assert!(!stranger.contains("cloud.east"), "{stranger}");
    Ok(())
}
