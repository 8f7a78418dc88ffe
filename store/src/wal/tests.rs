//! The log on a disk that forgets.

mod forgetful;
mod orders;
mod turns;

use std::io;

use proptest::prelude::*;

use super::*;
use crate::runtime::seeded::by_seed;
use crate::tests::Dice;

pub use forgetful::{Fate, MemDisk, Trouble};

fn entry(i: u64) -> Arc<[u8]> {
    format!("entry {i} {}", "x".repeat(i as usize % 7)).into_bytes().into()
}

/// A log with one group per entry: snapshot 0, then entries 1..=n.
async fn written(n: u64) -> MemDisk {
    let disk = MemDisk::default();
    let recovered = Wal::recover(&disk, OnRot::Refuse).unwrap();
    let wal = Wal::start(Arc::new(disk.clone()), &recovered, 0, entry(0)).unwrap();
    for i in 1..=n {
        wal.append(i, vec![entry(i)]);
        wal.wait(i).await.unwrap();
    }
    wal.close();
    disk
}

/// A file of these entries, as a log that ended well has left it.
pub fn file_of(entries: &[Vec<u8>]) -> (String, Vec<u8>) {
    let (mut bytes, mut tip) = format::file_header(1, 0, 7);
    for entry in entries {
        bytes.extend(format::group(&mut tip, [&**entry].into_iter()));
    }
    (file_name(1), bytes)
}

fn only_file(disk: &MemDisk) -> (String, Vec<u8>) {
    let names = log_files(disk);
    assert_eq!(names.len(), 1);
    (names[0].clone(), disk.read(&names[0]).unwrap())
}

fn log_files(disk: &MemDisk) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.ends_with(".wal"));
    names
}

fn entries_to(n: u64) -> Vec<Vec<u8>> {
    (0..=n).map(|i| entry(i).to_vec()).collect()
}

#[tokio::test]
async fn entries_come_back_after_a_close() {
    let recovered = Wal::recover(&written(5).await, OnRot::Refuse).unwrap();
    assert_eq!(recovered.entries, entries_to(5));
    assert_eq!(recovered.torn_bytes, 0);
}

#[test]
fn what_was_acknowledged_survives_any_loss_of_unsynced_bytes() {
    let mut dice = Dice(crate::entropy() | 1);
    println!("seed {}", dice.0);
    by_seed(dice.0, async {
        for _ in 0..20 {
            let disk = MemDisk::default();
            let recovered = Wal::recover(&disk, OnRot::Refuse).unwrap();
            let wal = Wal::start(Arc::new(disk.clone()), &recovered, 0, entry(0)).unwrap();
            for i in 1..=20u64 {
                wal.append(i, vec![entry(i)]);
                if i % 3 == 0 {
                    wal.wait(i).await.unwrap();
                    let crashed = disk.crash_by(|n| dice.below(n));
                    let recovered = Wal::recover(&crashed, OnRot::Refuse).unwrap();
                    assert!(recovered.entries.len() as u64 > i, "{i}");
                    assert_eq!(recovered.entries, entries_to(recovered.entries.len() as u64 - 1));
                }
            }
        }
    });
}

#[tokio::test]
async fn a_file_cut_at_any_byte_yields_a_prefix() {
    let (name, bytes) = only_file(&written(5).await);
    assert!(bytes.len() > 2 * format::PAGE_BYTES, "the last groups are there twice");
    let mut last = 0;
    for (len, zeros) in (0..=bytes.len()).flat_map(|len| [(len, 0), (len, 60)]) {
        let cut = MemDisk::with_file(&name, &[&bytes[..len], &vec![0; zeros]].concat());
        let recovered = Wal::recover(&cut, OnRot::Refuse).unwrap();
        assert!(recovered.torn_bytes as usize <= len, "zeros are no part of a write");
        let n = recovered.entries.len();
        assert_eq!(recovered.entries, entries_to(5)[..n]);
        assert!(n >= last, "cutting less must not lose more");
        last = n;
        let again = Wal::recover(&cut, OnRot::Refuse).unwrap();
        assert_eq!((again.entries, again.torn_bytes), (recovered.entries, 0), "mended once");
    }
    assert_eq!(last, 6);
}

/// What is there once is reported; what is there twice is read from where it is sound.
#[tokio::test]
async fn a_flipped_bit_is_reported_not_skipped() {
    let first = format::FILE_HEADER_BYTES + format::GROUP_HEADER_BYTES + 4 + entry(0).len();
    for (n, is_twice) in [(5, true), (6, false)] {
        let (name, bytes) = only_file(&written(n).await);
        let groups_bytes = format::parse(1, &bytes.clone().into()).sound_bytes;
        let sealed = groups_bytes - format::GROUP_HEADER_BYTES;
        let mut reported = 0;
        for at in 0..sealed {
            let mut rotten = [&bytes[..], &[0; 60]].concat();
            rotten[at] ^= 1 << (at % 8);
            match Wal::recover(&MemDisk::with_file(&name, &rotten), OnRot::Refuse) {
                Ok(recovered) => assert_eq!(recovered.entries, entries_to(n), "byte {at}"),
                Err(Error::Corrupt { object, .. }) if object.contains(&name) => reported += 1,
                Err(other) => panic!("{other}"),
            }
        }
        let once = if is_twice { first } else { first + sealed - format::PAGE_BYTES };
        assert_eq!(reported, once, "of {n} groups");
    }
}

#[tokio::test]
async fn salvage_keeps_both_sides_of_the_damage() {
    let (name, mut bytes) = only_file(&written(6).await);
    let third = entry(3);
    let at = bytes.windows(third.len()).position(|w| w == &*third).unwrap();
    bytes[at] ^= 1;
    let disk = MemDisk::with_file(&name, &bytes);
    let recovered = Wal::recover(&disk, OnRot::Salvage).unwrap();
    let mut expected = entries_to(6);
    expected.remove(3);
    assert_eq!(recovered.entries, expected);
    assert_eq!(recovered.rotten, std::slice::from_ref(&name));
    assert_eq!(disk.read(&format!("{name}.rotten")).unwrap(), bytes, "evidence is kept");
    let again = Wal::recover(&disk, OnRot::Refuse).unwrap();
    assert_eq!(again.entries, expected);
}

/// An earlier program wrote `ESWAL001`: nothing in it is taken for an unfinished write, nothing is
/// salvaged, and the file stays.
#[tokio::test]
async fn a_log_of_the_older_format_is_refused_by_name() {
    let (name, mut bytes) = only_file(&written(3).await);
    bytes[..8].copy_from_slice(b"ESWAL001");
    for on_rot in [OnRot::Refuse, OnRot::Salvage] {
        let disk = MemDisk::with_file(&name, &bytes);
        let error = Wal::recover(&disk, on_rot).unwrap_err();
        assert_eq!(error.code(), "corrupt");
        let text = error.to_string();
        assert!(text.contains(&name) && text.contains("format 1"), "{text}");
        assert!(text.contains("export its tables"), "{text}");
        assert_eq!(only_file(&disk), (name.clone(), bytes.clone()));
    }
}

#[tokio::test]
async fn files_go_only_when_everything_in_them_may() {
    let disk = MemDisk::default();
    let recovered = Wal::recover(&disk, OnRot::Refuse).unwrap();
    let wal = Wal::start(Arc::new(disk.clone()), &recovered, 0, entry(0)).unwrap();
    wal.append(1, vec![entry(1)]);
    wal.rotate(2, entry(2));
    wal.append(3, vec![entry(3)]);
    wal.rotate(4, entry(4));
    wal.wait(4).await.unwrap();
    wal.remove_through(0).unwrap();
    assert_eq!(disk.list().unwrap().len(), 3);
    wal.remove_through(2).unwrap();
    assert_eq!(log_files(&disk).len(), 2);
    let read_after = |seq| -> Vec<Bytes> {
        wal.files_after(seq).iter().flat_map(|f| wal.read_file(f).unwrap()).collect()
    };
    assert_eq!(read_after(2), [entry(2), entry(3), entry(4)].map(|e| e.to_vec()));
    assert_eq!(read_after(4), [entry(4).to_vec()]);
    wal.remove_through(9).unwrap();
    assert_eq!(log_files(&disk).len(), 1, "the newest file stays");
    wal.close();
    let recovered = Wal::recover(&disk, OnRot::Refuse).unwrap();
    let files: Vec<_> = recovered.files.iter().map(|f| (f.number, f.first_seq)).collect();
    assert_eq!(files, [(3, 4)]);
}

#[tokio::test]
async fn a_disk_that_refuses_acknowledges_nothing_until_it_takes_writes_again() {
    for trouble in [Trouble::Append, Trouble::Sync, Trouble::Everything] {
        let disk = MemDisk::default();
        let recovered = Wal::recover(&disk, OnRot::Refuse).unwrap();
        let wal = Wal::start(Arc::new(disk.clone()), &recovered, 0, entry(0)).unwrap();
        wal.append(1, vec![entry(1)]);
        wal.wait(1).await.unwrap();
        disk.trouble(trouble);
        let mut watch = wal.durable();
        wal.append(2, vec![entry(2)]);
        assert!(matches!(wal.wait(2).await, Err(Error::Unknown(_))), "{trouble:?}");
        watch.wait_for(|d| d.failed.is_some()).await.unwrap();
        wal.append(3, vec![entry(3)]);
        wal.rotate(4, entry(4));
        assert!(wal.wait(4).await.is_err());
        let crashed = disk.crash(|| Fate::Kept);
        crashed.trouble(Trouble::None);
        let recovered = Wal::recover(&crashed, OnRot::Refuse).unwrap();
        assert!(recovered.entries.len() >= 2, "what was acknowledged is there");
        disk.trouble(Trouble::None);
        watch.wait_for(|d| d.failed.is_none()).await.unwrap();
        wal.append(5, vec![entry(5)]);
        wal.wait(5).await.unwrap();
        let crashed = disk.crash(|| Fate::Lost);
        let recovered = Wal::recover(&crashed, OnRot::Refuse).unwrap();
        assert_eq!(recovered.entries, entries_to(5), "{trouble:?}: all, once and in order");
        assert_eq!(recovered.torn_bytes, 0);
    }
}

#[tokio::test]
async fn a_log_closes_though_its_disk_refuses() {
    let disk = MemDisk::default();
    let recovered = Wal::recover(&disk, OnRot::Refuse).unwrap();
    let wal = Wal::start(Arc::new(disk.clone()), &recovered, 0, entry(0)).unwrap();
    disk.trouble(Trouble::Sync);
    wal.append(1, vec![entry(1)]);
    assert!(wal.wait(1).await.is_err());
    wal.close();
    assert!(wal.wait(2).await.is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let parsed = format::parse(1, &bytes);
        prop_assert!(parsed.sound_bytes <= bytes.len());
        format::salvage(&bytes);
    }

    #[test]
    fn arbitrary_bytes_behind_a_header_never_panic(
        tail in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (mut bytes, mut tip) = format::file_header(1, 2, 3);
        bytes.extend(format::group(&mut tip, [&b"one"[..]].into_iter()));
        let sound = bytes.len();
        bytes.extend(tail);
        let parsed = format::parse(1, &bytes.into());
        prop_assert!(parsed.sound_bytes >= sound);
        prop_assert_eq!(&parsed.entries[0], &b"one"[..]);
    }
}

/// What every disk must do; run by each implementation.
fn check_disk(disk: &dyn Disk) {
    let missing = |result: io::Result<()>| {
        let error = result.expect_err("a file that is not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    };
    assert_eq!(disk.list().unwrap(), Vec::<String>::new());
    missing(disk.read("a").map(|_| ()));
    missing(disk.truncate("a", 0));
    missing(disk.rename("a", "b"));
    missing(disk.remove("a"));
    missing(disk.reuse("a").map(|_| ()));
    let mut file = disk.create("a").unwrap();
    file.write(0, b"one, ").unwrap();
    file.sync().unwrap();
    file.write(5, b"two").unwrap();
    let read = disk.read("a").unwrap();
    let zeros = read.strip_prefix(b"one, two").expect("what is written can be read");
    assert!(zeros.iter().all(|b| *b == 0));
    file.cut(5).unwrap();
    file.write(5, b"three").unwrap();
    file.write(0, b"One").unwrap();
    file.cut(10).unwrap();
    assert_eq!(disk.read("a").unwrap(), b"One, three");
    disk.truncate("a", 3).unwrap();
    assert_eq!(disk.read("a").unwrap(), b"One");
    let mut other = disk.create("c").unwrap();
    disk.rename("a", "b").unwrap();
    let mut names = disk.list().unwrap();
    names.sort();
    assert_eq!(names, ["b", "c"]);
    assert_eq!(disk.read("b").unwrap(), b"One");
    other.write(0, &[7; 20_000]).unwrap();
    other.cut(20_000).unwrap();
    let mut again = disk.reuse("c").unwrap();
    disk.rename("c", "b").unwrap();
    for (i, at, bytes) in [(1, 4_096, 4_096), (0, 0, 4_096), (2, 8_192, 8_192), (3, 0, 100)] {
        again.write(at, &vec![i; bytes]).unwrap();
        again.sync().unwrap();
    }
    let read = disk.read("b").unwrap();
    let is = |i: u8, bytes: std::ops::Range<usize>| read[bytes].iter().all(|b| *b == i);
    assert!(is(3, 0..100) && is(0, 100..4_096) && is(1, 4_096..8_192) && is(2, 8_192..16_384));
    assert!(is(7, 16_384..20_000), "what was there is there");
    again.write(16_384, &[8; 8_192]).unwrap();
    let read = disk.read("b").unwrap();
    assert!(read[16_384..24_576].iter().all(|b| *b == 8), "and it grows beyond that");
    assert!(read[24_576..].iter().all(|b| *b == 0));
    again.cut(13_206).unwrap();
    again.write(16_384, b"end").unwrap();
    let read = disk.read("b").unwrap();
    assert!(read[13_206..16_384].iter().all(|b| *b == 0) && read[16_384..].starts_with(b"end"));
    assert_eq!(disk.list().unwrap(), ["b"]);
    drop(disk.create("b").unwrap());
    assert_eq!(disk.read("b").unwrap(), b"");
    disk.remove("b").unwrap();
    assert_eq!(disk.list().unwrap(), Vec::<String>::new());
}

#[test]
fn disks_are_disks() {
    let folder = tempfile::tempdir().unwrap();
    check_disk(&disk::Folder::open(folder.path().join("log")).unwrap());
    check_disk(&MemDisk::default());
}
