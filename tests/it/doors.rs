//! The doors of the server itself: MQTT for devices, NATS over WebSocket for browsers.

use std::process::{Command, Output};

use anyhow::{Context as _, Result};

use crate::handlers::{component, manifest};
use crate::world::{World, eventually, root, tools};

const EDGE: [&str; 2] = ["cloud", "cloud.east"];

fn say(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[tokio::test]
async fn an_mqtt_message_at_an_edge_starts_a_handler() -> Result<()> {
    if Command::new("mosquitto_pub").arg("--help").output().is_err() {
        aloud::skipped!("no mosquitto_pub; run ./tools.sh test");
        return Ok(());
    }
    let world = World::start_with(&EDGE, []).await?;
    world.apply(&manifest("doorcam", "front.>"), &[("code", component("(i32.const 16)"))]).await?;
    let site = world.context.site(Some("east"))?;
    let (host, port) = site.mqtt.split_once(':').context("the site has an MQTT door")?;
    let password = world.tree.dir().join("cloud.east").join(bus::site::MQTT_FILE);
    let password = std::fs::read_to_string(password)?;
    let publish = |user: &str, password: &str, topic: &str, qos: &str| {
        Command::new("mosquitto_pub")
            .args(["-h", host, "-p", port, "-u", user, "-P", password.trim()])
            .args(["-q", qos, "-t", topic, "-m", "{}"])
            .output()
    };
    let ran = async |wanted: u64| {
        let count = async || {
            let count = world.count("cloud.east", "invocations doorcam/h").await?;
            Ok((count >= wanted).then_some(count))
        };
        eventually(&format!("{wanted} events to be handled"), count).await
    };
    for (n, qos) in ["0", "1"].into_iter().enumerate() {
        let sent = publish(bus::tree::MQTT_USER, &password, "ev/doorcam/front/x", qos)?;
        assert!(sent.status.success(), "{}", say(&sent));
        assert_eq!(ran(n as u64 + 1).await?, n as u64 + 1, "QoS {qos}");
    }
    let sent = publish(bus::tree::MQTT_USER, "wrong", "ev/doorcam/front/x", "1")?;
    assert!(!sent.status.success(), "a wrong password was accepted");
    // Rights end at events of this site: whatever the server answers, nothing is called.
    publish(bus::tree::MQTT_USER, &password, "ctl/cloud/east/_/apps/apply", "0")?;
    publish(bus::tree::MQTT_USER, &password, "ev/cloud/_/doorcam/front/x", "0")?;
    let sent = publish(bus::tree::MQTT_USER, &password, "ev/doorcam/front/y", "1")?;
    assert!(sent.status.success(), "{}", say(&sent));
    assert_eq!(ran(3).await?, 3);
    assert_eq!(world.count("cloud", "events delivered").await?, 0);
    Ok(())
}

/// What a browser would do: the stock client for JavaScript over a WebSocket, with a key.
const BROWSER: &str = r#"
const { readFileSync } = require("node:fs");
const [url, key, core] = process.argv.slice(2);
const { wsconnect, nkeyAuthenticator } = require(core);

async function main() {
  const seed = new TextEncoder().encode(readFileSync(key, "utf8").trim());
  const nc = await wsconnect({
    servers: url,
    authenticator: nkeyAuthenticator(seed),
    inboxPrefix: "rp.cloud.east._",
    reconnect: false,
    timeout: 30000,
  });
  const stored = await nc.request("ev.doorcam.front.x", "{}", { timeout: 30000 });
  console.log("stored", stored.json().stream);
  const status = await nc.request("ctl.cloud.east._.status", "", { timeout: 30000 });
  console.log("answered", status.json().brief.path);
  await nc.drain();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
"#;

#[tokio::test]
async fn a_browser_publishes_and_asks_over_a_websocket() -> Result<()> {
    let core = tools().join("natsjs/node_modules/@nats-io/nats-core/lib/mod.js");
    if !core.exists() {
        aloud::skipped!("no {}; run ./tools.sh test", core.display());
        return Ok(());
    }
    let world = World::start_with(&EDGE, []).await?;
    let site = world.context.site(Some("east"))?;
    let script = world.tree.dir().join("browser.cjs");
    std::fs::write(&script, BROWSER)?;
    let own = tools().join("bin/node");
    let node = if own.exists() { own } else { "node".into() };
    let run = |key: &std::path::Path| {
        Command::new(&node)
            .arg("--experimental-websocket")
            .args([script.as_os_str(), site.websocket.as_ref(), key.as_os_str(), core.as_os_str()])
            .current_dir(root())
            .output()
    };
    let output = run(&site.nkey)?;
    let text = say(&output);
    assert!(text.contains("stored EV") && text.contains("answered cloud.east"), "{text}");
    let stranger = world.tree.dir().join("stranger.nk");
    std::fs::write(&stranger, bus::pki::UserKey::generate()?.seed)?;
    assert!(!run(&stranger)?.status.success(), "a stranger's key was accepted");
    Ok(())
}
