//! What is damaged is named and set aside, and nothing else waits for it.

use super::*;
use crate::engine::{Salvaged, salvage_on};
use crate::segment::hex;
use crate::wal::disk::Disk;

/// What becomes of a segment.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Flipped,
    Cut,
    Gone,
}

/// Flushes early, keeps next to nothing decoded, and lets little gather in memory.
fn small() -> Config {
    let (flush_bytes, memory_bytes) = (100_000, 400_000);
    Config {
        flush_bytes,
        memory_bytes,
        cache_bytes: 1,
        segments_max: 3,
        ..Config::new("", "cloud")
    }
}

fn frames(camera: &str, keys: std::ops::Range<i64>) -> Vec<Row> {
    keys.map(|at| row! {"camera": camera, "at": at, "jpeg": format!("{camera} {at}")}).collect()
}

/// A machine with two tables, of which one has segments in two partitions.
async fn with_segments() -> Machine {
    let machine = Machine::new(1);
    let store = machine.open(small()).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    for from in [0, 100] {
        for camera in ["back", "front"] {
            store.put("motion", &frames(camera, from..from + 100)).await.unwrap();
        }
        store.flush().await.unwrap();
    }
    store.close().await;
    machine
}

/// Harms the newest segment of a partition; returns its name and what it was.
async fn harm(machine: &Machine, camera: &str, harm: Harm) -> (String, Bytes) {
    let folder = format!("t/motion/{}/s", hex(&[camera.as_bytes(), &[0, 0]].concat()));
    let name = machine.objects.list(&folder).await.unwrap().pop().unwrap();
    let sound = machine.objects.read(&name).await.unwrap().unwrap();
    machine.objects.remove(&name).await.unwrap();
    let mut bytes = sound.to_vec();
    match harm {
        Harm::Flipped => bytes[sound.len() / 3] ^= 4,
        Harm::Cut => bytes.truncate(sound.len() / 2),
        Harm::Gone => return (name, sound),
    }
    machine.objects.create(&name, bytes.into()).await.unwrap();
    (name, sound)
}

async fn rows_of(store: &EdgeStore, camera: &str) -> Result<usize> {
    let asked = scan(serde_json::json!({"prefix": {"camera": camera}}));
    Ok(store.scan("motion", asked).await?.rows.len())
}

fn most_segments(store: &EdgeStore) -> usize {
    let state = store.inner.engine.read();
    let partitions = state.tables["motion"].partitions.values();
    partitions.map(|partition| partition.segments.len()).max().unwrap_or(0)
}

#[tokio::test]
async fn a_segment_that_does_not_read_holds_up_no_flush_and_no_write() {
    for kind in [Harm::Flipped, Harm::Cut, Harm::Gone] {
        let machine = with_segments().await;
        let (name, sound) = harm(&machine, "front", kind).await;
        let mut store = machine.open(small()).await.unwrap();
        // Ten times what memory takes, and a little to the damaged partition with every flush.
        for n in 0..400i64 {
            let large = row! {"k": n, "b": "x".repeat(10_000)};
            store.put("stats", &[large]).await.unwrap();
            for camera in ["back", "front"] {
                store.put("motion", &frames(camera, 1_000 + n..1_001 + n)).await.unwrap();
            }
        }
        store.flush().await.unwrap();
        assert_eq!(store.status().flush_failures, 0, "{kind:?}");
        assert!(store.tables().iter().all(|table| table.memory_rows == 0));
        assert_eq!(store.inner.engine.wal.files_after(0).len(), 1, "the log is let go");
        assert!(most_segments(&store) <= 8, "others are merged");
        for round in 0..2 {
            let error = rows_of(&store, "front").await.unwrap_err();
            assert!(error.code() == "corrupt" && error.to_string().contains(&name), "{error}");
            let damaged = store.status().damaged_segments;
            assert_eq!((damaged.len(), &*damaged[0].table), (1, "motion"));
            assert_eq!((&damaged[0].object, damaged[0].rows), (&name, 100));
            assert!(error.to_string().contains(&damaged[0].reason), "{error}");
            assert_eq!(rows_of(&store, "back").await.unwrap(), 600);
            let key = row! {"camera": "front", "at": 1_399};
            assert!(store.get("motion", &key).await.unwrap().is_some(), "it lies elsewhere");
            let stats = scan(serde_json::json!({"columns": ["k"]}));
            assert_eq!(store.scan("stats", stats).await.unwrap().rows.len(), 400);
            if round == 0 {
                store.close().await;
                store = machine.open(small()).await.unwrap();
            }
        }
        // Put back, it is as if nothing had been.
        machine.objects.remove(&name).await.unwrap();
        machine.objects.create(&name, sound).await.unwrap();
        assert_eq!(rows_of(&store, "front").await.unwrap(), 600, "{kind:?}");
        assert!(store.status().damaged_segments.is_empty());
        store.flush().await.unwrap();
        assert_eq!(rows_of(&store, "front").await.unwrap(), 600);
    }
}

/// One that is near its limits merges and rewrites all that it can.
#[tokio::test]
async fn a_full_partition_makes_room_beside_a_segment_that_does_not_read() {
    let machine = with_segments().await;
    let (name, _) = harm(&machine, "front", Harm::Flipped).await;
    let store = machine.open(small()).await.unwrap();
    let mut full = motion();
    full.revision += 1;
    full.limits.partition_bytes_max = Some(crate::LIMIT_BYTES.start().to_owned());
    store.create_table(&full).await.unwrap();
    let gone: Vec<Row> = (100..200).map(|at| row! {"camera": "front", "at": at}).collect();
    store.delete("motion", &gone).await.unwrap();
    store.flush().await.unwrap();
    assert!(rows_of(&store, "front").await.unwrap_err().to_string().contains(&name));
}

impl Machine {
    async fn salvage(&self) -> Result<Vec<Salvaged>> {
        let disk = Arc::new(self.disk.clone());
        let ground = Ground { disk, objects: self.objects.clone(), id: self.id, lock: None };
        Ok(salvage_on(Config::new("", "cloud"), ground, &[]).await?.files)
    }

    /// Another one with this log file.
    fn with_log(name: &str, bytes: &[u8]) -> Self {
        Machine { disk: MemDisk::with_file(name, bytes), ..Machine::new(1) }
    }
}

fn only_log_file(disk: &MemDisk) -> (String, Vec<u8>) {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.ends_with(".wal"));
    assert_eq!(names.len(), 1, "{names:?}");
    let bytes = disk.read(&names[0]).unwrap();
    (names.remove(0), bytes)
}

async fn all(machine: &Machine) -> Result<(EdgeStore, Vec<Row>)> {
    let store = machine.open(Config::new("", "cloud")).await?;
    let rows = match store.scan("stats", Scan::default()).await {
        Ok(scanned) => scanned.rows,
        Err(Error::UnknownTable(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok((store, rows))
}

/// A log file of so many rows. Each is larger than a page, so that it is there once.
async fn log_of(rows: usize) -> (String, Vec<u8>) {
    let machine = Machine::new(1);
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    for k in 0..rows {
        let text = format!("row {k};{}", "x".repeat(5_000));
        store.put("stats", &[row! {"k": k, "b": text}]).await.unwrap();
    }
    store.close().await;
    only_log_file(&machine.disk)
}

fn place_of(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|part| part == text.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_flipped_bit_costs_one_write_at_most_when_the_log_is_salvaged() {
    const ROWS: usize = 12;
    let (name, bytes) = log_of(ROWS).await;
    let (mut refused, mut lost) = (0, 0);
    for at in (0..150).chain((150..bytes.len()).step_by(397)) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let machine = Machine::with_log(&name, &damaged);
        let Err(error) = machine.open(Config::new("", "cloud")).await else {
            assert_eq!(all(&machine).await.unwrap().1.len(), ROWS, "byte {at}: cut off in silence");
            continue;
        };
        refused += 1;
        assert_eq!(error.code(), "corrupt");
        assert!(error.to_string().contains("`edgescale store salvage`"), "{error}");
        let salvaged = machine.salvage().await.unwrap();
        assert_eq!(salvaged.len(), 1);
        assert_eq!(machine.disk.read(&salvaged[0].file).unwrap(), damaged, "evidence is kept");
        let (store, rows) = all(&machine).await.unwrap();
        assert_eq!(store.status().rotten_files, std::slice::from_ref(&name), "it is shown");
        store.close().await;
        assert_eq!(machine.salvage().await.unwrap(), [], "once is enough");
        match salvaged[0].left_out {
            0 => assert!(rows.len() + 1 >= ROWS, "byte {at}: {} rows", rows.len()),
            count => assert_eq!((count, rows.len()), (ROWS, 0), "byte {at}: of the table"),
        }
        lost += usize::from(rows.len() + 1 == ROWS);
    }
    assert!(refused > 36 && lost > ROWS, "{refused}, {lost}: the header alone has 36 bytes");
}

/// Where the table itself was hit, its rows mean nothing.
#[tokio::test]
async fn rows_of_a_table_that_is_lost_do_not_keep_a_store_from_opening() {
    let (name, mut bytes) = log_of(5).await;
    // Its definition has the first of these names; a small group may be there twice.
    let at = place_of(&bytes, "tags");
    let part = bytes[at..at + 16].to_vec();
    for copy in [at, at + 4096] {
        if bytes[copy..copy + 16] == part[..] {
            bytes[copy] ^= 1;
        }
    }
    let machine = Machine::with_log(&name, &bytes);
    assert_eq!(machine.open(Config::new("", "cloud")).await.err().unwrap().code(), "corrupt");
    let salvaged = machine.salvage().await.unwrap();
    assert_eq!((salvaged.len(), salvaged[0].left_out), (1, 5));
    let (store, rows) = all(&machine).await.unwrap();
    assert!(rows.is_empty() && store.tables().is_empty());
    store.create_table(&stats()).await.unwrap();
    store.put("stats", &[row! {"k": 1}]).await.unwrap();
}

#[tokio::test]
async fn what_is_set_aside_twice_is_there_twice() {
    let (name, bytes) = log_of(8).await;
    let machine = Machine::with_log(&name, &bytes);
    let mut files = Vec::new();
    for text in ["row 3;", "row 5;"] {
        let mut damaged = machine.disk.read(&name).unwrap();
        let sound = damaged.clone();
        let at = place_of(&damaged, text);
        damaged[at] ^= 1;
        // Of this file alone: each salvage leaves others beside it.
        machine.disk.damage(|bytes| {
            if *bytes == sound {
                bytes.clone_from(&damaged);
            }
        });
        files.extend(machine.salvage().await.unwrap());
    }
    let names: Vec<&str> = files.iter().map(|salvaged| &*salvaged.file).collect();
    assert_eq!(names, [format!("{name}.rotten"), format!("{name}.2.rotten")]);
    assert!(files[0].kept > files[1].kept);
}

/// Flips, cuts and doubles bytes of everything that a store reads from its disk and objects: it may
/// refuse, but must not panic, and what it shows it must have been given.
#[tokio::test]
async fn damaged_files_never_panic_a_store() {
    let machine = Machine::new(3);
    let config = Config::new("", "cloud");
    let store = machine.open(config.clone()).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    for k in 0..30 {
        store.put("stats", &[row! {"k": k, "a": k, "tags": ["x"]}]).await.unwrap();
        if k % 10 == 5 {
            store.flush().await.unwrap();
        }
    }
    store.close().await;
    let names = machine.objects.list("t").await.unwrap();
    let mut random = crate::entropy() | 1;
    println!("seed {random}");
    let mut next = move |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as usize % n.max(1)
    };
    let mut damage = |bytes: &mut Vec<u8>| match next(3) {
        0 => bytes.truncate(next(bytes.len())),
        1 => {
            let (from, to) = (next(bytes.len()), next(bytes.len()));
            let part = bytes[from.min(to)..from.max(to)].to_vec();
            bytes.splice(from..from, part);
        }
        _ => {
            for _ in 0..=next(3) {
                let at = next(bytes.len());
                bytes[at] ^= 1 << next(8);
            }
        }
    };
    let mut refused = 0;
    for round in 0..300 {
        let objects = Objects::shared(Arc::new(InMemory::new()));
        for (i, name) in names.iter().enumerate() {
            let mut bytes = machine.objects.read(name).await.unwrap().unwrap().to_vec();
            if round % (names.len() + 1) == i {
                damage(&mut bytes);
            }
            objects.create(name, bytes.into()).await.unwrap();
        }
        let disk = machine.disk.crash(|| Fate::Lost);
        if round % (names.len() + 1) == names.len() {
            disk.damage(&mut damage);
        }
        let damaged = Machine { disk, objects, id: 3 };
        let Ok(store) = damaged.open(config.clone()).await else {
            refused += 1;
            continue;
        };
        let Ok(found) = store.scan("stats", Scan::default()).await else {
            refused += 1;
            continue;
        };
        for row in &found.rows {
            assert_eq!(row["a"], row["k"], "a value nobody wrote");
        }
    }
    assert!(refused > 50, "damage was noticed only {refused} times");
}
