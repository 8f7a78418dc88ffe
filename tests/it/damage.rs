//! A store that is damaged on its disk: what names it, and what mends it, from the shell.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use bus::Kind;
use edgescale::node::client;
use serde_json::{Value, json};

use crate::sites::Sites;
use crate::world::eventually;

const TABLE: &str = r#"{"name":"shop_orders","key":["k"],"columns":[{"name":"k","kind":"int64"},
    {"name":"text","kind":"utf8"},{"name":"tags","kind":"utf8","merge":"set"}]}"#;
const SITE: &str = "cloud";

/// Flips a bit of a file where a text stands, or in its middle.
fn flip(file: &Path, text: &str) -> Result<()> {
    let mut bytes = std::fs::read(file)?;
    let found = bytes.windows(text.len().max(1)).position(|part| part == text.as_bytes());
    let at = found.unwrap_or(bytes.len() / 2);
    bytes[at] ^= 1;
    Ok(std::fs::write(file, bytes)?)
}

/// The one file of a folder with such an ending, of which `text` is a part.
fn file_in(folder: &Path, ending: &str, text: &str) -> Result<PathBuf> {
    let files = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let mut found = files.filter(|file| {
        let bytes = std::fs::read(file).unwrap_or_default();
        let has_text = text.is_empty() || bytes.windows(text.len()).any(|w| w == text.as_bytes());
        file.to_string_lossy().ends_with(ending) && has_text
    });
    found.next().with_context(|| format!("no *{ending} with {text:?} in {}", folder.display()))
}

/// What `edgescale doctor` says of the store; it fails where something is missing.
fn doctor(sites: &Sites) -> Result<Value> {
    let output = sites.output(SITE, &["doctor"], "")?;
    let checks: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    checks.into_iter().find(|check| check["name"] == "store").context("the store is not checked")
}

fn says(check: &Value, field: &str, text: &str) -> bool {
    check[field].as_str().is_some_and(|said| said.contains(text))
}

/// Puts rows, each with a text of its own and so many bytes.
async fn put(sites: &Sites, keys: std::ops::Range<i64>, bytes: usize) -> Result<()> {
    let bus = sites.bus(SITE).await?;
    for k in keys {
        let row = json!({"k": k, "text": format!("order {k};{}", "-".repeat(bytes))});
        let body = json!({"table": "shop_orders", "rows": [row]}).to_string();
        client::ask(&bus, Kind::St, "put", body).await?;
    }
    Ok(())
}

fn keys(scanned: &Value) -> Vec<i64> {
    let rows = scanned["rows"].as_array().map_or(&[][..], Vec::as_slice);
    rows.iter().filter_map(|row| row["k"].as_i64()).collect()
}

#[tokio::test]
async fn what_is_damaged_is_named_and_mended_from_the_shell() -> Result<()> {
    let mut sites = Sites::new()?;
    sites.json(SITE, &["tree", "init", SITE, "--ports", "auto"], "")?;
    sites.start(SITE)?;
    sites.report(SITE).await?;
    assert_eq!(doctor(&sites)?["verdict"], "ok");
    client::ask(&sites.bus(SITE).await?, Kind::St, "create", TABLE).await?;
    // Each larger than a page of the log: what is smaller may be there twice.
    put(&sites, 0..20, 5_000).await?;
    let store = |arguments: &[&str]| sites.json(SITE, &[&["store"], arguments].concat(), "");
    store(&["patch", "shop/orders", r#"{"k":1,"tags":["new","late"]}"#])?;
    store(&["discard", "shop/orders", r#"{"k":1,"tags":["late"]}"#])?;
    let row = store(&["get", "shop/orders", r#"{"k":1}"#, "--local", "--deadline-ms", "500"])?;
    assert_eq!(row["row"]["tags"], json!(["new"]));
    let complaint = sites.complaint(SITE, &["store", "salvage"], "")?;
    assert!(complaint.contains("stop the node"), "{complaint}");
    sites.stop(SITE)?;
    the_log(&mut sites).await?;
    let segment = a_segment(&mut sites).await?;
    sites.stop(SITE)?;
    a_manifest(&mut sites).await?;
    sites.stop(SITE)?;
    given_up(&mut sites, &segment).await
}

/// One bit of the log keeps the node from starting, until the file is set aside.
async fn the_log(sites: &mut Sites) -> Result<()> {
    let log = sites.dir(SITE).join("data/store/wal");
    flip(&file_in(&log, ".wal", "order 7;")?, "order 7;")?;
    sites.start(SITE)?;
    let named = async || {
        let check = doctor(sites)?;
        let is_named = check["verdict"] == "missing" && says(&check, "found", "damaged at byte");
        Ok((is_named && says(&check, "mend", "edgescale store salvage")).then_some(()))
    };
    eventually("doctor to name the damage and the mend", named).await?;
    let told = async || {
        let text = sites.log(SITE, "node.log");
        Ok(text.contains("`edgescale store salvage`").then_some(()))
    };
    eventually("the node to say why it does not start", told).await?;
    // The node is started over and over meanwhile, and has the store open for moments.
    let salvage = async || Ok(Some(sites.json(SITE, &["store", "salvage"], "")?));
    let mended = eventually("the log to be mended", salvage).await?;
    let salvaged = &mended["set_aside"][0];
    let file = salvaged["file"].as_str().context("no file was set aside")?;
    assert!(file.ends_with(".wal.rotten") && salvaged["left_out"] == 0, "{mended}");
    sites.report(SITE).await?;
    let scan = ["store", "scan", "shop/orders", "--limit", "10"];
    let first = sites.json(SITE, &scan, "")?;
    let next = first["next"].to_string();
    let rest = sites.json(SITE, &[&scan[..], &["--after", &next]].concat(), "")?;
    let found = [keys(&first), keys(&rest)].concat();
    assert_eq!(found, (0..20).filter(|k| *k != 7).collect::<Vec<_>>());
    let check = doctor(sites)?;
    assert!(check["verdict"] == "optional" && says(&check, "found", "set aside"), "{check}");
    std::fs::remove_file(log.join(file))?;
    Ok(())
}

/// A segment that does not read is named; writes and other reads go on, and a copy mends it. Which
/// it was.
async fn a_segment(sites: &mut Sites) -> Result<PathBuf> {
    // Enough to be flushed when the node stops.
    put(sites, 100..130, 50_000).await?;
    sites.stop(SITE)?;
    let folder = sites.dir(SITE).join("data/store/objects/t/shop_orders/all/s");
    let segment = file_in(&folder, ".parquet", "")?;
    let sound = std::fs::read(&segment)?;
    flip(&segment, "no such text")?;
    sites.start(SITE)?;
    sites.report(SITE).await?;
    let name = segment.file_name().context("a name")?.to_string_lossy().into_owned();
    let complaint = sites.complaint(SITE, &["store", "scan", "shop/orders"], "")?;
    assert!(complaint.contains(&name), "{complaint}");
    let check = doctor(sites)?;
    ensure!(check["verdict"] == "optional" && says(&check, "found", &name), "{check}");
    put(sites, 200..201, 10).await?;
    let get = ["store", "get", "shop/orders", r#"{"k":200}"#];
    assert_eq!(sites.json(SITE, &get, "")?["row"]["k"], 200, "it lies elsewhere");
    std::fs::write(&segment, sound)?;
    let all = sites.json(SITE, &["store", "scan", "shop/orders", "--columns", "k"], "")?;
    assert_eq!(keys(&all).len(), 19 + 30 + 1);
    Ok(segment)
}

/// A manifest that does not read keeps the node from starting, until one is made of what is there.
async fn a_manifest(sites: &mut Sites) -> Result<()> {
    let folder = sites.dir(SITE).join("data/store/objects/t/shop_orders/all/m");
    let manifest = file_in(&folder, "", "\"segments\"")?;
    flip(&manifest, "\"segments\"")?;
    let name = manifest.file_name().context("a name")?.to_string_lossy().into_owned();
    let check = doctor(sites)?;
    ensure!(check["verdict"] == "missing" && says(&check, "found", &name), "{check}");
    ensure!(says(&check, "mend", "edgescale store salvage"), "{check}");
    let mended = sites.json(SITE, &["store", "salvage"], "")?;
    ensure!(says(&mended["manifests"][0], "manifest", &name), "{mended}");
    sites.start(SITE)?;
    sites.report(SITE).await?;
    let all = sites.json(SITE, &["store", "scan", "shop/orders", "--columns", "k"], "")?;
    assert_eq!(keys(&all).len(), 19 + 30 + 1);
    assert_eq!(doctor(sites)?["verdict"], "ok");
    Ok(())
}

/// A segment that nobody can put back goes, and what it had is named.
async fn given_up(sites: &mut Sites, segment: &Path) -> Result<()> {
    flip(segment, "no such text")?;
    let file = segment.file_name().context("a name")?.to_string_lossy().into_owned();
    let object = format!("t/shop_orders/all/s/{file}");
    let mended = sites.json(SITE, &["store", "salvage", "--give-up", &object], "")?;
    let lost = &mended["given_up"][0];
    let ends = (&lost["first"]["k"], &lost["last"]["k"]);
    ensure!(ends == (&json!(0), &json!(129)) && lost["table"] == "shop_orders", "{mended}");
    sites.start(SITE)?;
    sites.report(SITE).await?;
    let all = sites.json(SITE, &["store", "scan", "shop/orders", "--columns", "k"], "")?;
    assert_eq!(keys(&all), [200]);
    assert_eq!(doctor(sites)?["verdict"], "ok");
    Ok(())
}
