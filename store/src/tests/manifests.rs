//! Manifests that do not read, or that list what is not there; and segments that are given up.

use super::*;
use crate::engine::{Mended, salvage_on};
use crate::record::{Body, Extent};
use crate::segment::hex;

/// Nothing is merged but what a test wants.
fn config(site: &str) -> Config {
    Config { segments_max: 100, ..Config::new("", site) }
}

impl Machine {
    async fn open_at(&self, site: &str) -> Result<EdgeStore> {
        self.open(config(site)).await
    }

    async fn mend(&self, site: &str, give_up: &[String]) -> Result<Mended> {
        let disk = Arc::new(self.disk.clone());
        let ground = Ground { disk, objects: self.objects.clone(), id: self.id, lock: None };
        salvage_on(config(site), ground, give_up).await
    }

    async fn names(&self, folder: &str) -> Vec<String> {
        self.objects.list(folder).await.unwrap()
    }

    async fn bytes(&self, name: &str) -> Bytes {
        self.objects.read(name).await.unwrap().unwrap()
    }

    async fn replace(&self, name: &str, bytes: impl Into<Bytes>) {
        self.objects.remove(name).await.unwrap();
        self.objects.create(name, bytes.into()).await.unwrap();
    }
}

/// All rows of both tables, as JSON. A site below the root says what is there.
async fn all(store: &EdgeStore) -> String {
    let options = ReadOptions { local_only: true, ..ReadOptions::default() };
    let mut all = String::new();
    for table in ["stats", "motion"] {
        let scanned = store.scan_with(table, Scan::default(), options).await.unwrap();
        all += &serde_json::Value::from_iter(scanned.rows.iter().map(row_to_json)).to_string();
    }
    all
}

/// Counts, deletes, sets, and rows that are written again, in some segments each; the partition has
/// a name too long for a folder. Returns what a reader sees.
async fn fill(store: &EdgeStore, camera: &str) -> String {
    store.create_table(&stats()).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    for part in 0..4 {
        let rows: Vec<Row> = (0..20)
            .map(|k| row! {"k": k, "a": part, "hi": part * k, "tags": [format!("tag {part}")]})
            .collect();
        store.put("stats", &rows).await.unwrap();
        store.increment("stats", &row! {"k": part}, &[("n".into(), 7)]).await.unwrap();
        store.delete("stats", &[row! {"k": 10 + part}]).await.unwrap();
        let at = row! {"camera": camera, "at": part, "score": 0.5};
        store.put("motion", &[at]).await.unwrap();
        store.flush().await.unwrap();
    }
    all(store).await
}

async fn some() -> (Machine, String) {
    let machine = Machine::new(1);
    let store = machine.open_at("cloud").await.unwrap();
    let seen = fill(&store, &"a camera ".repeat(9)).await;
    store.close().await;
    (machine, seen)
}

/// The newest manifest of a table.
async fn newest(machine: &Machine, table: &str) -> String {
    let names = machine.names(&format!("t/{table}")).await;
    names.into_iter().rfind(|name| name.contains("/m/")).unwrap()
}

/// Opens, finds the damage named, mends it, and finds all rows.
async fn is_mended(machine: &Machine, seen: &str, name: &str, what: &str) {
    let before = machine.names("t").await;
    let error = machine.open_at("cloud").await.err().unwrap_or_else(|| panic!("{what}: it opens"));
    let text = error.to_string();
    assert!(error.code() == "corrupt" && text.contains(name), "{what}: {text}");
    assert!(text.contains("`edgescale store salvage`"), "{what}: {text}");
    assert_eq!(machine.names("t").await, before, "{what}: nothing is touched");
    let mended = machine.mend("cloud", &[]).await.unwrap();
    let [remade] = &mended.manifests[..] else { panic!("{what}: {mended:?}") };
    assert!(remade.manifest == name && text.contains(&remade.reason), "{what}: {remade:?}");
    assert!(remade.gone.is_empty() && remade.set_aside.is_empty(), "{what}: {remade:?}");
    let store = machine.open_at("cloud").await.unwrap();
    assert_eq!(all(&store).await, seen, "{what}");
    assert!(store.status().damaged_segments.is_empty(), "{what}");
    store.put("stats", &[row! {"k": 99}]).await.unwrap();
    store.flush().await.unwrap();
    store.close().await;
    assert_eq!(machine.mend("cloud", &[]).await.unwrap(), Mended::default(), "{what}: once");
    let store = machine.open_at("cloud").await.unwrap();
    assert!(store.get("stats", &row! {"k": 99}).await.unwrap().is_some(), "{what}");
}

#[tokio::test]
async fn a_manifest_that_is_damaged_anywhere_is_named_and_made_again() {
    let fields = ["format", "number", "writer", "spec", "key", "columns", "partition", "segments"];
    let of_segments = ["name", "rows", "bytes", "crc32c", "min_key", "max_key", "max_seq", "tail"];
    for table in ["stats", "motion"] {
        for field in fields.iter().chain(&of_segments) {
            let (machine, seen) = some().await;
            let name = newest(&machine, table).await;
            let mut bytes = machine.bytes(&name).await.to_vec();
            let text = format!("\"{field}\": ");
            let at = bytes.windows(text.len()).rposition(|part| part == text.as_bytes()).unwrap();
            bytes[at + text.len() + 1] ^= 4;
            machine.replace(&name, bytes).await;
            is_mended(&machine, &seen, &name, &format!("{table}: {field}")).await;
        }
    }
    for at in [0, 7, 8, 9] {
        let (machine, seen) = some().await;
        let name = newest(&machine, "stats").await;
        let mut bytes = machine.bytes(&name).await.to_vec();
        bytes[at] ^= 1;
        machine.replace(&name, bytes).await;
        is_mended(&machine, &seen, &name, &format!("byte {at}")).await;
    }
}

#[tokio::test]
async fn a_manifest_that_is_cut_or_empty_or_in_the_wrong_place_is_made_again() {
    let cuts: [fn(usize) -> usize; 7] =
        [|_| 0, |_| 1, |_| 8, |_| 9, |_| 10, |len| len / 2, |len| len - 1];
    for (at, cut) in cuts.iter().enumerate() {
        for zeros in [false, true] {
            let (machine, seen) = some().await;
            let name = newest(&machine, "stats").await;
            let mut bytes = machine.bytes(&name).await.to_vec();
            let whole = bytes.len();
            bytes.truncate(cut(whole));
            if zeros {
                bytes.resize(whole, 0);
            }
            machine.replace(&name, bytes).await;
            is_mended(&machine, &seen, &name, &format!("cut {at}, zeros behind: {zeros}")).await;
        }
    }
    let (machine, seen) = some().await;
    let name = newest(&machine, "stats").await;
    let other = machine.bytes(&newest(&machine, "motion").await).await;
    machine.replace(&name, other).await;
    is_mended(&machine, &seen, &name, "that of another table").await;
}

/// Also of a partition whose folder does not tell its name.
#[tokio::test]
async fn manifests_that_are_all_gone_or_damaged_are_made_again() {
    for table in ["stats", "motion"] {
        let (machine, seen) = some().await;
        let folder = newest(&machine, table).await.rsplit_once('/').unwrap().0.to_owned();
        for name in machine.names(&folder).await {
            machine.objects.remove(&name).await.unwrap();
        }
        is_mended(&machine, &seen, &folder, &format!("{table}: gone")).await;
        let (machine, seen) = some().await;
        for name in machine.names(&folder).await {
            machine.replace(&name, "00000000\n{}").await;
        }
        let name = newest(&machine, table).await;
        is_mended(&machine, &seen, &name, &format!("{table}: damaged")).await;
    }
}

/// Nobody is asked where nothing is lost; the next opening finds a manifest that reads.
#[tokio::test]
async fn the_manifest_before_serves_where_the_log_has_the_rest() {
    // Its log stays, since no parent has what is in it.
    let machine = Machine::new(1);
    let store = machine.open_at("cloud.east").await.unwrap();
    let seen = fill(&store, "front").await;
    store.close().await;
    let name = newest(&machine, "stats").await;
    machine.replace(&name, "what a disk left of it").await;
    for opening in 0..3 {
        let store = machine.open_at("cloud.east").await.unwrap();
        assert_eq!(all(&store).await, seen, "opening {opening}");
        assert!(newest(&machine, "stats").await > name);
        if opening == 1 {
            store.flush().await.unwrap();
        }
        store.close().await;
    }
}

/// What a manifest lists may be merged into what the one that does not read lists.
#[tokio::test]
async fn the_manifest_before_does_not_serve_where_its_segments_are_gone() {
    let machine = Machine::new(1);
    let merging = || Config { segments_max: 1, ..Config::new("", "cloud.east") };
    let store = machine.open(merging()).await.unwrap();
    let seen = fill(&store, "front").await;
    store.close().await;
    let name = newest(&machine, "stats").await;
    machine.replace(&name, "what a disk left of it").await;
    let error = machine.open(merging()).await.err().unwrap().to_string();
    assert!(error.contains(&name), "{error}");
    let mended = machine.mend("cloud.east", &[]).await.unwrap();
    assert!(mended.manifests.len() == 1 && !mended.manifests[0].gone.is_empty(), "{mended:?}");
    let store = machine.open(merging()).await.unwrap();
    assert_eq!(all(&store).await, seen);
}

#[tokio::test]
async fn a_manifest_of_a_newer_program_is_left_as_it_is() {
    let (machine, seen) = some().await;
    let name = newest(&machine, "stats").await;
    let sound = machine.bytes(&name).await;
    let body = String::from_utf8(sound[9..].to_vec()).unwrap();
    let body = body.replacen("\"format\": 1", "\"format\": 2", 1);
    let newer = format!("{:08x}\n{body}", crc32c::crc32c(body.as_bytes()));
    machine.replace(&name, newer).await;
    let before = machine.names("t").await;
    for error in [
        machine.open_at("cloud").await.err().unwrap(),
        machine.mend("cloud", &[]).await.err().unwrap(),
    ] {
        let text = error.to_string();
        assert!(text.contains(&name) && text.contains("format 2 is not known"), "{text}");
        assert!(!text.contains("salvage"), "{text}");
    }
    assert_eq!(machine.names("t").await, before);
    machine.replace(&name, sound).await;
    assert_eq!(all(&machine.open_at("cloud").await.unwrap()).await, seen);
}

#[tokio::test]
async fn files_that_are_no_manifests_are_not_taken_for_one() {
    let (machine, seen) = some().await;
    let name = newest(&machine, "stats").await;
    for other in [format!("{name}.bak"), name.replace("/m/", "/m/x")] {
        machine.objects.create(&other, "mine".into()).await.unwrap();
    }
    assert_eq!(all(&machine.open_at("cloud").await.unwrap()).await, seen);
}

/// A machine with two segments in the partition of a camera; what the newer one is called.
async fn with_segments(site: &str) -> (Machine, String) {
    let machine = Machine::new(1);
    let store = machine.open_at(site).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    for from in [0, 100] {
        let rows: Vec<Row> = (from..from + 100).map(|at| row! {"camera": "c", "at": at}).collect();
        store.put("motion", &rows).await.unwrap();
        store.put("stats", &[row! {"k": from}]).await.unwrap();
        store.flush().await.unwrap();
    }
    store.close().await;
    let folder = format!("t/motion/{}/s", hex(b"c\0\0"));
    let newer = machine.names(&folder).await.pop().unwrap();
    (machine, newer)
}

async fn count(store: &EdgeStore) -> Result<usize> {
    let options = ReadOptions { local_only: true, ..ReadOptions::default() };
    Ok(store.scan_with("motion", Scan::default(), options).await?.rows.len())
}

#[tokio::test]
async fn a_segment_that_is_not_there_is_named_before_anybody_needs_it() {
    let (machine, name) = with_segments("cloud").await;
    machine.objects.remove(&name).await.unwrap();
    let store = machine.open_at("cloud").await.unwrap();
    let damaged = store.status().damaged_segments;
    assert_eq!((damaged.len(), &damaged[0].object, damaged[0].rows), (1, &name, 100));
    assert!(damaged[0].reason.contains("does not exist"), "{damaged:?}");
    assert!(count(&store).await.unwrap_err().to_string().contains(&name));
    assert_eq!(store.scan("stats", Scan::default()).await.unwrap().rows.len(), 2);
}

#[tokio::test]
async fn a_segment_is_given_up_by_name_and_its_keys_are_told() {
    for is_gone in [false, true] {
        let (machine, name) = with_segments("cloud").await;
        let mut bytes = machine.bytes(&name).await.to_vec();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 1;
        match is_gone {
            true => machine.objects.remove(&name).await.unwrap(),
            false => machine.replace(&name, bytes.clone()).await,
        }
        let mended = machine.mend("cloud", std::slice::from_ref(&name)).await.unwrap();
        let [given_up] = &mended.given_up[..] else { panic!("{mended:?}") };
        assert_eq!((&given_up.object, &*given_up.table, given_up.rows), (&name, "motion", 100));
        let key = |at: i64| serde_json::json!({"camera": "c", "at": at});
        assert_eq!(given_up.first, key(100));
        assert_eq!(given_up.last, key(199));
        match &given_up.kept_as {
            Some(kept) => assert_eq!(machine.bytes(kept).await, bytes),
            None => assert!(is_gone),
        }
        assert!(!machine.names("t").await.contains(&name));
        for _ in 0..2 {
            let store = machine.open_at("cloud").await.unwrap();
            assert_eq!(count(&store).await.unwrap(), 100);
            assert!(store.status().damaged_segments.is_empty());
            let again = row! {"camera": "c", "at": 150, "score": 1.0};
            store.put("motion", &[again]).await.unwrap();
            store.delete("motion", &[row! {"camera": "c", "at": 150}]).await.unwrap();
            store.flush().await.unwrap();
            store.close().await;
        }
    }
}

#[tokio::test]
async fn a_segment_that_reads_is_not_given_up() {
    let (machine, name) = with_segments("cloud").await;
    let before = machine.names("t").await;
    for (object, reason) in [(name.as_str(), "reads, so it stays"), ("t/x", "no manifest lists")] {
        let error = machine.mend("cloud", &[object.to_owned()]).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(machine.names("t").await, before);
    assert_eq!(count(&machine.open_at("cloud").await.unwrap()).await.unwrap(), 200);
}

/// A site below asks above for what it lacks, and counts on nothing that it has lost.
#[tokio::test]
async fn what_is_given_up_below_the_root_is_asked_of_the_parent_again() {
    let site = "cloud.east";
    let (machine, name) = with_segments(site).await;
    let store = machine.open_at(site).await.unwrap();
    for table in ["motion", "stats"] {
        let hold = Body::Hold { table: table.into(), extent: Extent::Whole, parent: 9, seq: 1 };
        let seq = store.inner.engine.note(hold).unwrap();
        store.inner.engine.wal.wait(seq).await.unwrap();
    }
    store.close().await;
    machine.objects.remove(&name).await.unwrap();
    machine.mend(site, &[name]).await.unwrap();
    let counted = machine.names("t/stats/all/s").await.pop().unwrap();
    machine.objects.remove(&counted).await.unwrap();
    let error = machine.mend(site, std::slice::from_ref(&counted)).await.unwrap_err().to_string();
    assert!(error.contains(&counted) && error.contains("empty store"), "{error}");
    let store = machine.open_at(site).await.unwrap();
    let state = store.inner.engine.read();
    let holds = |table: &str| state.tables[table].holds(&Extent::Whole);
    assert!(!holds("motion") && holds("stats"));
    assert!(state.tables["motion"].followed.is_none());
}
