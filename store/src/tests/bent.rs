//! What a store reads from its disk, bent behind checksums that are made right again: else they
//! find all damage, and what reads behind is never reached.
//!
//! `EDGESCALE_FUZZ_SECONDS` says for how long (a part of a second unless said), and
//! `EDGESCALE_FUZZ_SEED` from which seed, as it does elsewhere.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::key;
use crate::record::{self, Entry};
use crate::row::RowState;
use crate::spec::ColumnKind;
use crate::wal::tests::file_of;

/// How long a target runs when nothing is said.
const USUAL: Duration = Duration::from_millis(400);
/// Inputs that it gets however slow the machine is.
const INPUTS_MIN: usize = 40;
const INPUT_BYTES_MAX: usize = 16 << 10;

/// Runs a target on bent inputs, printing the seed.
pub fn bend(corpus: &[Vec<u8>], mut target: impl FnMut(&[u8])) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let limit = number("EDGESCALE_FUZZ_SECONDS").map_or(USUAL, Duration::from_secs);
    let seed = number("EDGESCALE_FUZZ_SEED").unwrap_or_else(|| crate::entropy() >> 16);
    println!("seed {seed}");
    let (mut dice, started, mut runs) = (Dice(seed | 1), Instant::now(), 0);
    corpus.iter().for_each(|input| target(input));
    while runs < INPUTS_MIN || started.elapsed() < limit {
        let mut input = dice.of(corpus);
        for _ in 0..=dice.below(4) {
            mutate(&mut dice, &mut input, corpus);
        }
        input.truncate(INPUT_BYTES_MAX);
        runs += 1;
        target(&input);
    }
    println!("{runs} inputs");
}

fn mutate(dice: &mut Dice, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let mut part = |bytes: &[u8]| {
        let from = dice.below(bytes.len() as u64 + 1) as usize;
        from..from + dice.below((bytes.len() - from).min(32) as u64 + 1) as usize
    };
    let own = part(input);
    let other = &corpus[part(&vec![0; corpus.len()]).start.min(corpus.len() - 1)];
    let other = other[part(other)].to_vec();
    let at = dice.below(input.len() as u64 + 1) as usize;
    match dice.below(7) {
        0 if at < input.len() => input[at] ^= 1 << dice.below(8),
        1 if at < input.len() => input[at] = dice.of(&[0, 1, 0x7f, 0x80, 0xfe, 0xff, b'"', b'0']),
        2 => drop(input.drain(own)),
        3 => {
            let part = input[own].to_vec();
            input.splice(at..at, part);
        }
        4 => drop(input.splice(at..at, other)),
        5 => {
            let numbers = ["0", "-1", "18446744073709551615", "1e999", "null", "[]", "ff"];
            input.splice(at..at, dice.of(&numbers).bytes());
        }
        _ => input.truncate(at),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap()
}

/// Opens a store on what is bent, looks at everything in it, and writes.
async fn use_of(machine: &Machine) -> Result<()> {
    let store = machine.open(Config { segments_max: 1, ..Config::new("", "cloud") }).await?;
    for table in store.tables() {
        store.scan(&table.spec.name, Scan::default()).await?;
    }
    store.put("stats", &[row! {"k": 1, "a": 2}]).await?;
    store.flush().await?;
    store.close().await;
    Ok(())
}

/// A store with rows in segments and in its log, closed.
async fn some_store() -> Machine {
    let machine = Machine::new(3);
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    for k in 0..6 {
        store.put("stats", &[row! {"k": k, "a": k, "hi": k, "tags": ["x"]}]).await.unwrap();
        store.increment("stats", &row! {"k": k}, &[("n".into(), k)]).await.unwrap();
        store.put("motion", &[row! {"camera": "c", "at": k, "score": 0.5}]).await.unwrap();
        store.delete("stats", &[row! {"k": k - 2}]).await.unwrap();
        if k == 3 {
            store.flush().await.unwrap();
        }
    }
    store.close().await;
    machine
}

#[test]
fn manifests() {
    let runtime = runtime();
    let machine = runtime.block_on(some_store());
    let names = runtime.block_on(machine.objects.list("t")).unwrap();
    let bytes: Vec<(String, Bytes)> = names
        .into_iter()
        .map(|name| {
            let bytes = runtime.block_on(machine.objects.read(&name)).unwrap().unwrap();
            (name, bytes)
        })
        .collect();
    let manifests = bytes.iter().filter(|(name, _)| name.contains("/m/"));
    let corpus: Vec<Vec<u8>> = manifests.map(|(_, bytes)| bytes[9..].to_vec()).collect();
    let (mut opened, mut refused) = (0, 0);
    bend(&corpus, |body| {
        let mut bent = format!("{:08x}\n", crc32c::crc32c(body)).into_bytes();
        bent.extend(body);
        let bent = Bytes::from(bent);
        let objects = Objects::shared(Arc::new(InMemory::new()));
        runtime.block_on(async {
            // In the place of the newest one of its table.
            let table =
                if String::from_utf8_lossy(body).contains("camera") { "motion" } else { "stats" };
            let is_its = |name: &str| name.contains(table) && name.contains("/m/");
            let newest = bytes.iter().rposition(|(name, _)| is_its(name));
            for (i, (name, bytes)) in bytes.iter().enumerate() {
                let bytes = if Some(i) == newest { bent.clone() } else { bytes.clone() };
                objects.create(name, bytes).await.unwrap();
            }
            let disk = machine.disk.crash(|| Fate::Lost);
            match use_of(&Machine { disk, objects, id: 3 }).await {
                Ok(()) => opened += 1,
                Err(_) => refused += 1,
            }
        });
    });
    println!("{opened} opened, {refused} refused");
    assert!(opened > 0 && refused > 0);
}

#[test]
fn entries_of_the_log() {
    let runtime = runtime();
    let machine = runtime.block_on(some_store());
    let entries = crate::wal::Wal::recover(&machine.disk, crate::wal::OnRot::Refuse);
    let entries: Vec<Vec<u8>> =
        entries.unwrap().entries.iter().map(|entry| entry.to_vec()).collect();
    let (mut opened, mut refused, mut next) = (0, 0, 0);
    bend(&entries, |entry| {
        next += 1;
        let mut all = entries.clone();
        let at = next % (all.len() + 1);
        all.insert(at, entry.to_vec());
        let (name, bytes) = file_of(&all);
        let disk = MemDisk::with_file(&name, &bytes);
        let bent = Machine { disk, ..Machine::new(3) };
        match runtime.block_on(use_of(&bent)) {
            Ok(()) => opened += 1,
            Err(_) => refused += 1,
        }
    });
    println!("{opened} opened, {refused} refused");
    assert!(opened > 0 && refused > 0);
}

/// An entry or a row that is read is the same when it is written and read again.
#[test]
fn rows_and_entries() {
    let runtime = runtime();
    let machine = runtime.block_on(some_store());
    let recovered = crate::wal::Wal::recover(&machine.disk, crate::wal::OnRot::Refuse).unwrap();
    let mut corpus: Vec<Vec<u8>> = recovered.entries.iter().map(|entry| entry.to_vec()).collect();
    let read = |bytes: &Vec<u8>| record::decode::<Entry>("entry", bytes).unwrap();
    let bodies: Vec<Entry> = corpus.iter().map(read).collect();
    for entry in bodies {
        if let record::Body::Rows(batch) = entry.body {
            corpus.extend(batch.rows.iter().map(|(_, row)| record::encode(row)));
        }
    }
    bend(&corpus, |bytes| {
        if let Ok(entry) = record::decode::<Entry>("entry", bytes) {
            let written = record::encode(&entry);
            let again: Entry = record::decode("entry", &written).unwrap();
            assert_eq!(record::encode(&again), written);
        }
        if let Some(rows) = record::plain::PlainRows::read(bytes) {
            let entry: Entry = record::decode("entry", bytes).expect("what is plain is an entry");
            assert_eq!(entry.seq, rows.seq);
            rows.iter().for_each(drop);
        }
        if let Ok(row) = record::decode::<RowState>("row", bytes) {
            let written = record::encode(&row);
            assert_eq!(record::decode::<RowState>("row", &written).unwrap(), row);
        }
    });
}

/// What is read of a key of any kind is the key again; what is passed over was one.
#[test]
fn keys() {
    use ColumnKind::*;
    let kinds = [Bool, Int64, Int32, TimestampUs, Float64, Float32, Utf8, Binary, Json];
    let values: [Value; 9] = [
        Value::Bool(true),
        Value::Int(-5),
        Value::Int(i64::MAX),
        Value::Time(7),
        Value::Float(-0.0),
        Value::Float(f64::INFINITY),
        Value::from("a\0é"),
        Value::Bytes(vec![0, 0xff, 0]),
        Value::from(""),
    ];
    let mut corpus = vec![Vec::new()];
    for value in &values {
        let mut bytes = corpus.last().unwrap().clone();
        key::encode(value, &mut bytes).unwrap();
        corpus.push(bytes);
        let mut alone = Vec::new();
        key::encode(value, &mut alone).unwrap();
        corpus.push(alone);
    }
    bend(&corpus, |bytes| {
        for kind in kinds {
            let (mut rest, mut passed) = (bytes, bytes);
            let (read, skipped) = (key::decode(kind, &mut rest), key::skip(kind, &mut passed));
            assert_eq!(read.is_ok(), skipped.is_ok(), "{kind:?} {bytes:?}");
            let Ok(value) = read else { continue };
            assert_eq!(rest, passed, "{kind:?} {bytes:?}");
            let mut again = Vec::new();
            // There are bytes of numbers that are none.
            if key::encode(&value, &mut again).is_ok() {
                assert_eq!(again, bytes[..bytes.len() - rest.len()], "{kind:?}");
            }
        }
    });
}
