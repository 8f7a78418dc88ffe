//! Handlers that call handlers, at the bounds of how many run at once.

use anyhow::{Context as _, Result};
use bus::{Headers, Kind, Subject};

use super::develop::succeeds;
use super::gateway::{bearer, curl, has_curl, place};
use super::world::{PATIENCE, World, tools};

/// One invocation of the app at a time, and one of `again`, which calls itself.
const MANIFEST: &str = "[app]\nname = \"round\"\nconcurrency = 1\n\
     [[handler]]\nname = \"front\"\npython = \"{code}\"\nentry = \"app.front\"\n\
     [[handler.trigger]]\ncall = \"front\"\n\
     [[handler]]\nname = \"back\"\npython = \"{code}\"\nentry = \"app.back\"\n\
     [[handler.trigger]]\ncall = \"back\"\n\
     [[handler]]\nname = \"again\"\npython = \"{code}\"\nentry = \"app.again\"\n\
     [handler.limits]\nconcurrency = 1\n[[handler.trigger]]\ncall = \"again\"\n";

const CODE: &str = "import edgescale\n\
     def front(event, context):\n    return edgescale.call('back').decode()\n\
     def back(event, context):\n    return 'from behind'\n\
     def again(event, context):\n    return edgescale.call('again').decode()\n";

const CYCLE: &str = "round/again -> round/again: the handler would wait for itself";

fn has_python() -> bool {
    let found = tools().join("py/awslambdaric").exists();
    if !found {
        aloud::skipped!("no awslambdaric; run ./tools.sh test");
    }
    found
}

#[tokio::test]
async fn a_call_within_an_app_takes_no_second_place_of_it() -> Result<()> {
    if !has_python() {
        return Ok(());
    }
    let world = World::start_with(&["cloud"], []).await?;
    world.apply(MANIFEST, &[("code", CODE.into())]).await?;
    let bus = world.bus("cloud");
    let ask = async |function: &str| {
        let subject = Subject::new(Kind::Call, bus.site(), format!("round.{function}"));
        bus.request(&subject.to_string(), &Headers::new(), "{}", PATIENCE).await
    };
    assert_eq!(&ask("front").await?.payload[..], b"\"\\\"from behind\\\"\"");
    let refused = ask("again").await.err().context("it called itself")?.to_string();
    assert!(refused.contains(CYCLE), "{refused}");
    // Four at once have one place between them, and each of them calls.
    let calls = (0..4).map(|_| ask("front"));
    futures::future::try_join_all(calls).await?;
    Ok(())
}

/// The door, the call and the call within it never go over NATS.
#[tokio::test]
async fn calls_within_a_node_need_no_server() -> Result<()> {
    if !has_python() || !has_curl() {
        return Ok(());
    }
    let mut world = World::start_with(&["cloud"], []).await?;
    world.apply(MANIFEST, &[("code", CODE.into())]).await?;
    let door = place(&world, "cloud")?;
    let (token, url) = (bearer(door)?, format!("{}/call/round/front", door.url));
    for server in ["runs", "is gone"] {
        if server == "is gone" {
            world.tree.stop_server("cloud")?;
        }
        let got = curl(&["--header", &token, "--data", "{}", &url], b"")?;
        let text = String::from_utf8_lossy(&got.body);
        assert!(got.status == 200 && text.contains("from behind"), "its server {server}: {text}");
    }
    Ok(())
}

#[test]
fn nor_in_a_test_without_a_tree() -> Result<()> {
    if !has_python() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("tests"))?;
    let steps = format!(
        r#"[{{ "call": "front", "contains": "from behind" }},
            {{ "call": "again", "error": "{CYCLE}" }}]"#
    );
    let files = [
        ("app.toml", MANIFEST.replace("{code}", "app.py")),
        ("app.py", CODE.into()),
        ("tests/round.json", steps),
    ];
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text)?;
    }
    succeeds(dir.path(), &["test", "."])?;
    Ok(())
}
