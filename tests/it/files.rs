//! Files of tables and of blobs, from the shell and back: nothing is lost on the way, and what the
//! disk has changed is not given out.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use bus::Kind;
use edgescale::node::client;
use serde_json::{Value, json};

use crate::world::{World, binary, eventually, tools};

const SITES: [&str; 2] = ["cloud", "cloud.east"];

/// What the command line prints, and whether it did what it was told.
fn shell(world: &World, arguments: &[&str]) -> Result<(bool, Vec<u8>)> {
    let mut command = Command::new(binary());
    command.arg("--dir").arg(world.tree.dir()).arg("--tools").arg(tools());
    let output = command.args(arguments).output()?;
    let said = if output.status.success() { output.stdout } else { output.stderr };
    Ok((output.status.success(), said))
}

fn done(world: &World, arguments: &[&str]) -> Result<String> {
    let (done, said) = shell(world, arguments)?;
    let said = String::from_utf8(said)?;
    ensure!(done, "{arguments:?}: {said}");
    Ok(said)
}

async fn create(world: &World, name: &str) -> Result<()> {
    let table = json!({"name": name, "key": ["name"], "columns": [
        {"name": "name", "kind": "utf8"}, {"name": "count", "kind": "int64", "merge": "counter"},
        {"name": "tags", "kind": "utf8", "merge": "set"},
        {"name": "best", "kind": "float64", "merge": "max"},
        {"name": "score", "kind": "float64"}, {"name": "at", "kind": "timestamp-us"}]});
    client::ask(world.bus("cloud"), Kind::St, "create", table.to_string()).await.map(|_| ())
}

#[tokio::test]
async fn a_table_moves_through_files_with_counters_and_with_what_json_cannot_write() -> Result<()> {
    let world = World::start_with(&SITES, []).await?;
    create(&world, "hello_visits").await?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    // The guide's own example.
    done(&world, &["store", "put", "hello/visits", r#"{"name":"Ada"}"#, r#"{"name":"Grace"}"#])?;
    done(&world, &["store", "increment", "hello/visits", r#"{"name":"Ada"}"#, r#"{"count":2}"#])?;
    let csv = path("strange.csv");
    std::fs::write(
        &csv,
        "name,count,tags,best,score,at\n\
         a,3,\"[\"\"x\"\",\"\"y\"\"]\",inf,NaN,1999-01-01T00:00:00Z\n\
         b,-4,,-inf,-inf,\n",
    )?;
    done(&world, &["--at", "east", "store", "import", "hello/visits", &csv])?;
    let before = path("before.csv");
    done(&world, &["--at", "east", "store", "export", "hello/visits", &before])?;
    let text = std::fs::read_to_string(&before)?;
    assert!(text.contains("NaN") && text.contains("-inf,-inf"), "{text}");
    for (number, end) in ["parquet", "arrow", "csv"].into_iter().enumerate() {
        let (table, stored) = (format!("hello/copy{number}"), format!("hello_copy{number}"));
        create(&world, &stored).await?;
        let file = path(&format!("visits.{end}"));
        let said = done(&world, &["--at", "east", "store", "export", "hello/visits", &file])?;
        assert_eq!(said.trim(), format!("4 rows of hello/visits are in {file}"));
        let after = path("after.csv");
        for _ in 0..2 {
            done(&world, &["store", "import", &table, &file])?;
            done(&world, &["store", "export", &table, &after])?;
            assert_eq!(std::fs::read_to_string(&after)?, text, "{end}");
        }
    }
    Ok(())
}

/// A page at a time, each told of; no blob is made on the way.
#[tokio::test]
async fn a_large_table_is_exported_page_by_page() -> Result<()> {
    const ROWS: usize = 6_000;
    let world = World::start_with(&SITES, []).await?;
    create(&world, "works_notes").await?;
    let folder = tempfile::tempdir()?;
    let (given, taken) = (folder.path().join("given.csv"), folder.path().join("taken.csv"));
    let long = "x".repeat(2_000);
    let line = |i: usize| format!("{i:05}-{long},{i},,,{i}.5,\n");
    let text: String = (0..ROWS).map(line).collect();
    std::fs::write(&given, format!("name,count,tags,best,score,at\n{text}"))?;
    for site in SITES.iter().rev() {
        let bus = world.bus(site);
        assert_eq!(client::import(bus, "works_notes", &given, &|_, _| {}).await?, ROWS as u64);
        let climbed = async || Ok((client::changes_waiting(bus).await? == 0).then_some(()));
        if site.contains('.') {
            eventually("the rows to climb", climbed).await?;
        }
    }
    for site in SITES {
        let told = Mutex::new(vec![]);
        let tell = |done: u64, total: u64| told.lock().expect("one thread").push((done, total));
        let found = client::export(world.bus(site), "works_notes", &taken, &tell).await?;
        assert_eq!(found, client::Exported { rows: ROWS as u64, complete: true });
        let told = told.into_inner()?;
        assert!(told.len() >= 4 && told.is_sorted(), "{told:?}");
        assert!(told.iter().all(|(done, total)| done <= total), "{told:?}");
        assert_eq!(told.last().map(|(done, _)| *done), Some(ROWS as u64));
        let text = std::fs::read_to_string(&taken)?;
        assert_eq!(text.lines().count(), ROWS + 1, "{site}");
        let counts: Vec<&str> = text.lines().skip(1).filter_map(|l| l.split(',').nth(1)).collect();
        let wanted: Vec<String> = (0..ROWS).map(|i| i.to_string()).collect();
        assert!(counts == wanted, "{site}: what two sites imported counts once");
    }
    let made = files_below(world.tree.dir(), ".export.");
    assert_eq!(made, Vec::<PathBuf>::new());
    Ok(())
}

#[tokio::test]
async fn a_blob_of_many_messages_goes_in_and_out_and_its_damage_shows() -> Result<()> {
    let world = World::start_with(&SITES, []).await?;
    let folder = tempfile::tempdir()?;
    let (given, taken) = (folder.path().join("given"), folder.path().join("taken"));
    let blob: Vec<u8> = (0..5_000_000_u32).map(|i| (i * 7 / 3) as u8).collect();
    std::fs::write(&given, &blob)?;
    let (given, taken) = (given.display().to_string(), taken.display().to_string());
    let said = done(&world, &["--at", "east", "--json", "store", "put-blob", &given])?;
    let key = serde_json::from_str::<Value>(&said)?["key"].as_str().context("a key")?.to_owned();
    assert_eq!(key, store::BlobKey::of("cloud.east", &blob).to_string());
    for site in ["cloud", "east"] {
        let out = ["--at", site, "store", "blob", &key, "--out", &taken];
        done(&world, &out)?;
        assert!(std::fs::read(&taken)? == blob, "{site}");
        let more = ["--offset", "3000000", "--length", "1500000"];
        done(&world, &[&out[..], &more].concat())?;
        assert!(std::fs::read(&taken)? == blob[3_000_000..4_500_000], "{site}");
    }
    for len in [0, 1, 524_287, 524_288, 524_289] {
        std::fs::write(&given, &blob[..len])?;
        let key = done(&world, &["store", "put-blob", &given])?;
        assert_eq!(key.trim(), store::BlobKey::of("cloud", &blob[..len]).to_string());
    }
    std::fs::File::create(&given)?.set_len((256 << 20) + 1)?;
    let (put, said) = shell(&world, &["store", "put-blob", &given])?;
    let said = String::from_utf8(said)?;
    assert!(!put && said.contains("a blob has at most 268435456"), "{said}");

    let digest = key.split_once("sha256-").context("a digest")?.1;
    let stored = files_below(world.tree.dir(), digest);
    assert_eq!(stored.len(), 2, "the blob and its copy: {stored:?}");
    for file in stored {
        let mut bytes = std::fs::read(&file)?;
        bytes[4_000_000] ^= 4;
        std::fs::write(&file, bytes)?;
    }
    for site in ["cloud", "east"] {
        let part = ["--at", site, "store", "blob", &key, "--offset", "3999999", "--length", "2"];
        for arguments in [&part[..], &part[..5]] {
            let (read, said) = shell(&world, arguments)?;
            let said = String::from_utf8_lossy(&said);
            assert!(!read && said.contains(&key), "{site}: {said}");
            assert!(said.contains("are not what was stored"), "{site}: {said}");
        }
        let sound = ["--at", site, "store", "blob", &key, "--offset", "9", "--length", "9"];
        let (read, said) = shell(&world, &sound)?;
        assert!(read && said == blob[9..18], "{site}");
    }
    Ok(())
}

/// The files below a folder with `part` in their names.
fn files_below(folder: &Path, part: &str) -> Vec<PathBuf> {
    let (mut files, mut folders) = (vec![], vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        // What a running tree has just removed is not there any more.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false if entry.file_name().to_string_lossy().contains(part) => files.push(path),
                false => {}
            }
        }
    }
    files
}
