//! A picture that goes to the devices of another site, and what those make of it that comes back.

use anyhow::{Result, ensure};
use bus::message::SITE_HEADER;
use bus::{Headers, Kind, Subject};
use edgescale::node::{CONFIG_FILE, client};

use crate::delivery::{app, handler};
use crate::world::{World, eventually};

const SITES: [&str; 3] = ["cloud", "cloud.east", "cloud.east.cell1"];
const REGION: &str = SITES[1];
const EDGE: &str = SITES[2];
const COMPONENT: &str = include_str!("../../handlers/src/execute/tests/pictures.wat");

/// How many frames the devices of a site have worked on for handlers.
async fn frames(world: &World, site: &str) -> Result<u64> {
    let counts = world.report(site).await?.metrics.counts;
    Ok(counts.iter().filter(|(name, _)| name.starts_with("frames on ")).map(|(_, n)| n).sum())
}

#[tokio::test]
async fn an_edge_without_a_device_has_a_frame_worked_on_where_there_is_one() -> Result<()> {
    let mut world = World::start_with(&SITES, []).await?;
    world.tree.stop_node(EDGE)?;
    let file = world.tree.dir().join(EDGE).join(CONFIG_FILE);
    let settings = std::fs::read_to_string(&file)?;
    let withheld = settings.replace("withhold = []", "withhold = [\"cpu\"]");
    ensure!(withheld != settings, "{settings}");
    std::fs::write(&file, withheld)?;
    world.tree.restart_node(EDGE).await?;

    let needs = "placement = { needs = [\"cpu\"], max_tier = \"region\" }";
    let handlers = [
        handler("carry", "code", "call = \"carry\"", "placement = { max_tier = \"edge\" }"),
        handler("look", "code", "call = \"look\"", needs),
    ];
    let manifest = app("cam", &handlers) + "[grants]\ndevices = [\"cpu\"]\n";
    world.apply(&manifest, &[("code", wat::parse_str(COMPONENT)?)]).await?;

    let edge = world.bus(EDGE);
    let ask = async |body: &'static str| {
        let subject = Subject::new(Kind::Call, edge.site(), "cam.carry").to_string();
        edge.request(&subject, &Headers::new(), body, client::TIMEOUT).await
    };
    let turned =
        eventually("the picture to come back", async || Ok(Some(ask("abcd....efgh....").await?)));
    let turned = turned.await?;
    assert_eq!(&turned.payload[..], b"dcbahgfe");
    assert_eq!(turned.headers[SITE_HEADER], EDGE, "who carries is at the edge");
    for site in SITES {
        let looked = world.count(site, "invocations cam/look").await?;
        let frames = frames(&world, site).await?;
        assert_eq!((looked > 0, frames > 0), (site == REGION, site == REGION), "{site}");
    }
    let refused = ask("no picture").await.expect_err("ten bytes are none").to_string();
    assert!(refused.contains("a frame of 4 x 2 of gray8 takes 16 bytes, 10 given"), "{refused}");
    Ok(())
}
