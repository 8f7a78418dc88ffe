//! A site with so many below it that they do not fit into one message.

use std::time::Duration;

use anyhow::{Result, ensure};
use bus::route::policy::Devices;
use bus::{Headers, Kind, PAYLOAD_BYTES_MAX, Subject, TierPath};
use edgescale::node::client;
use edgescale::node::report::{Brief, LinkReport};

use crate::handlers::component;
use crate::world::{World, eventually};

const CHILDREN: usize = 1_000;

/// What a child with one child of its own would say, both like `own`.
fn heartbeat(own: &Brief, at: usize, devices: Devices) -> Result<Brief> {
    let below = |parent: &TierPath, name: &str| -> Result<Brief> {
        let link = LinkReport { parent: parent.clone(), up: true, rtt_us: 900, bytes_per_s: None };
        Ok(Brief { path: parent.child(name)?, link: Some(link), ..own.clone() })
    };
    let mut child = below(&own.path, &format!("c{at}"))?;
    let mut eye = below(&child.path, "eye")?;
    eye.offers.devices = devices;
    child.children.push(eye);
    Ok(child)
}

/// All are counted, what only one has is found, and who asks for all of them gets all.
#[tokio::test]
async fn a_site_with_two_thousand_below_it_is_heard_and_found() -> Result<()> {
    let world = World::start_with(&["cloud", "cloud.east"], []).await?;
    let picky = "[app]\nname = \"see\"\n[[handler]]\nname = \"h\"\ncomponent = \"{code}\"\n\
               placement = { needs = [\"fpga\"] }\n[[handler.trigger]]\ncall = \"go\"\n";
    world.apply(picky, &[("code", component("(i32.const 16)"))]).await?;
    let (cloud, east) = (world.bus("cloud"), world.bus("cloud.east"));
    let own = world.report("cloud.east").await?.brief;
    let say = async |at: usize, devices: Devices| -> Result<()> {
        let subject = format!("ctl.cloud.east._.site.c{at}.hello");
        let said = serde_json::to_vec(&heartbeat(&own, at, devices)?)?;
        east.request(&subject, &Headers::new(), said, client::TIMEOUT).await?;
        Ok(())
    };
    let all = 2 * CHILDREN + 2;
    let known = async || {
        for at in 0..CHILDREN {
            say(at, if at == 500 { Devices::FPGA } else { Devices::CPU }).await?;
        }
        let answer = client::control(cloud, "tree", "").await?;
        ensure!(answer.payload.len() <= PAYLOAD_BYTES_MAX, "{} bytes", answer.payload.len());
        let told: Brief = client::json(&answer)?;
        ensure!(told.size() == all, "{} of {all} are counted", told.size());
        Ok(Some(told.below().len()))
    };
    let listed = eventually("every site to be counted", known).await?;
    println!("{listed} of {} are listed at the root", all - 1);
    ensure!(listed < all - 1, "nothing was left out: this shows nothing");

    // It is one of those that the root was told of.
    let subject = Subject::new(Kind::Call, cloud.site(), "see.go").to_string();
    let found = async || {
        say(500, Devices::FPGA).await?;
        let answer = cloud.request(&subject, &Headers::new(), "", Duration::from_secs(1)).await;
        let sent = world.count("cloud", "calls sent down").await?;
        ensure!(sent > 0, "none was sent: {answer:?}");
        Ok(Some(()))
    };
    eventually("a call to be sent to the one device", found).await?;
    ensure!(client::tree(cloud).await?.below().len() == all - 1, "not all are listed");
    let link = world.report("cloud.east").await?.brief.link;
    ensure!(link.is_some_and(|link| link.up), "the link is said to be down");
    Ok(())
}
