//! Files that are made of others, at every moment and with whatever is left of them.

use std::collections::BTreeMap;

use super::*;

/// A log, what it must show, and what it may.
struct Log {
    disk: MemDisk,
    life: u64,
    /// What was acknowledged, by number.
    known: BTreeMap<u64, Vec<u8>>,
    /// What was let go: it may be there or not.
    gone: u64,
}

/// No two lives write the same; sizes differ, so that what is left of one ends anywhere in another.
fn text(life: u64, i: u64) -> Vec<u8> {
    format!("{i} of {life} {}", "x".repeat((i * 37 + life * 61) as usize % 90)).into_bytes()
}

fn number(entry: &[u8]) -> u64 {
    let text = std::str::from_utf8(entry).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

impl Log {
    /// Opens the log, checks what it has, and writes some files full or until the power is gone.
    async fn live(&mut self) -> Result<()> {
        let recovered = Wal::recover(&self.disk, OnRot::Refuse)?;
        let found: Vec<u64> = recovered.entries.iter().map(|e| number(e)).collect();
        assert!(found.windows(2).all(|two| two[0] + 1 == two[1]), "in order: {found:?}");
        let (first, last) = (found.first().copied(), found.last().copied());
        let missing = self.known.keys().find(|i| **i > self.gone && !found.contains(*i));
        assert_eq!(missing, None, "acknowledged and lost; found {first:?} to {last:?}");
        for entry in &recovered.entries {
            let i = number(entry);
            let was = self.known.insert(i, entry.to_vec());
            assert!(was.is_none_or(|was| was == *entry), "entry {i} is another");
        }
        self.life += 1;
        let mut i = last.map_or(0, |last| last + 1);
        let snapshot = text(self.life, i).into();
        let wal = Wal::start(Arc::new(self.disk.clone()), &recovered, i, snapshot)?;
        self.known.insert(i, text(self.life, i));
        for turn in 0..3 {
            for _ in 0..3 + turn {
                i += 1;
                wal.append(i, vec![text(self.life, i).into()]);
                wal.wait(i).await?;
                self.known.insert(i, text(self.life, i));
            }
            i += 1;
            wal.rotate(i, text(self.life, i).into());
            wal.wait(i).await?;
            self.known.insert(i, text(self.life, i));
            self.gone = i - 2;
            wal.remove_through(i - 2)?;
        }
        wal.close();
        Ok(())
    }
}

#[test]
fn the_power_may_go_at_any_moment() {
    let mut dice = Dice(crate::entropy() | 1);
    println!("seed {}", dice.0);
    by_seed(dice.0, async {
        let mut moments = 0;
        for moment in 0.. {
            let mut was_off = false;
            for _ in 0..4 {
                let disk = MemDisk::default();
                let mut log = Log { disk, life: 0, known: BTreeMap::new(), gone: 0 };
                log.live().await.unwrap();
                assert_eq!(log.disk.list().unwrap().len(), 3, "two files and a spare");
                for power in [moment, dice.below(80), u64::MAX, u64::MAX] {
                    log.disk.power_for(power);
                    let lived = log.live().await;
                    assert!(lived.is_ok() || log.disk.is_off(), "{lived:?}");
                    was_off |= power == moment && log.disk.is_off();
                    log.disk = log.disk.crash_by(|n| dice.below(n));
                }
            }
            if !was_off {
                break;
            }
            moments = moment;
        }
        assert!(moments > 50, "a life of {moments} changes is none");
    });
}

#[tokio::test]
async fn a_spare_becomes_the_next_file() {
    let disk = MemDisk::default();
    let mut log = Log { disk, life: 0, known: BTreeMap::new(), gone: 0 };
    log.live().await.unwrap();
    let names = |disk: &MemDisk| disk.list().unwrap();
    let before = names(&log.disk);
    let spares =
        |disk: &MemDisk| names(disk).iter().filter(|name| name.ends_with(".spare")).count();
    assert_eq!(spares(&log.disk), 1, "{before:?}");
    let recovered = Wal::recover(&log.disk, OnRot::Refuse).unwrap();
    let start = |snapshot: &[u8]| {
        Wal::start(Arc::new(log.disk.clone()), &recovered, 99, snapshot.into()).unwrap()
    };
    let wal = start(b"99");
    assert_eq!(names(&log.disk).len(), before.len(), "made of a spare");
    let (newest, bytes) = (log_files(&log.disk).pop().unwrap(), wal.files_after(99)[0].bytes);
    assert!(log.disk.read(&newest).unwrap().len() as u64 > bytes, "which had more in it");
    drop(wal);
    // A disk that is full gets them back.
    let wal = start(b"99");
    wal.remove_through(98).unwrap();
    assert_eq!(spares(&log.disk), 2, "no more are kept");
    log.disk.trouble(Trouble::Append);
    wal.append(100, vec![b"100"[..].into()]);
    assert!(wal.wait(100).await.is_err());
    log.disk.trouble(Trouble::None);
    let mut watch = wal.durable();
    watch.wait_for(|d| d.failed.is_none() && d.seq == 100).await.unwrap();
    assert_eq!(spares(&log.disk), 0);
}

#[tokio::test]
async fn a_file_that_is_large_is_no_spare() {
    let disk = MemDisk::default();
    let recovered = Wal::recover(&disk, OnRot::Refuse).unwrap();
    let wal = Wal::start(Arc::new(disk.clone()), &recovered, 0, entry(0)).unwrap();
    let large = vec![1; spares::SPARE_BYTES_MAX as usize];
    wal.append(1, vec![large.into()]);
    wal.rotate(2, entry(2));
    wal.rotate(3, entry(3));
    wal.wait(3).await.unwrap();
    wal.remove_through(3).unwrap();
    assert_eq!(disk.list().unwrap(), ["0000000000000002.spare", "0000000000000003.wal"]);
}

/// The bytes of a file of so many groups, and where each begins; the last is where it ends.
fn file(number: u64, groups: &[Vec<u8>], salt: u64) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut tip) = format::file_header(number, 0, salt);
    let mut starts = vec![bytes.len()];
    for group in groups {
        bytes.extend(format::group(&mut tip, [&**group].into_iter()));
        starts.push(bytes.len());
    }
    (bytes, starts)
}

fn groups() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..150), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A file that was several others shows its own groups, whatever of them lies behind its end or
    /// in a write that was not completed; and damage in front of a sound group is rot.
    #[test]
    fn files_made_of_others_are_told_from_them(
        lives in prop::collection::vec((groups(), any::<u64>()), 2..5),
        lost in any::<u64>(),
        flip in any::<prop::sample::Index>(),
    ) {
        let (mut bytes, mut before, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (groups, salt)) in lives.iter().enumerate() {
            let (own, own_starts) = file(number as u64, groups, *salt);
            before = bytes.clone();
            bytes.resize(bytes.len().max(own.len()), 0);
            bytes[..own.len()].copy_from_slice(&own);
            starts = own_starts;
        }
        before.resize(bytes.len(), 0);
        let (groups, _) = lives.last().unwrap();
        let number = lives.len() as u64 - 1;
        let all = Bytes::from(bytes.clone());
        let whole = format::parse(number, &all);
        prop_assert_eq!(&whole.entries, groups);
        prop_assert_ne!(whole.end, End::Rotten);
        prop_assert_eq!(format::salvage(&all), groups.clone());
        prop_assert_eq!(format::parse(number + 1, &all).end, End::Rotten, "another's header");

        let mut torn = bytes.clone();
        let (last, end) = (starts[groups.len() - 1], starts[groups.len()]);
        for (i, at) in (last..end).step_by(32).enumerate() {
            if lost >> (i % 64) & 1 == 1 {
                let to = end.min(at + 32);
                torn[at..to].copy_from_slice(&before[at..to]);
            }
        }
        let n = if torn == bytes { groups.len() } else { groups.len() - 1 };
        let left = format::parse(number, &torn.into());
        prop_assert_eq!(&left.entries, &groups[..n]);
        prop_assert_ne!(left.end, End::Rotten, "an unfinished write is none");

        let mut rotten = bytes;
        let at = flip.index(last.max(1));
        rotten[at] ^= 1 << (lost % 8);
        let parsed = format::parse(number, &rotten.into());
        prop_assert_eq!(parsed.end, End::Rotten, "byte {}", at);
    }
}

/// What was written by the programs before is read.
#[test]
fn files_of_the_earlier_formats_are_read() {
    let salt = 7u64;
    let mark = crc32c::crc32c(&salt.to_le_bytes()).to_le_bytes();
    for (magic, mark) in [(b"ESWAL002", *b"ESGR"), (b"ESWAL003", mark)] {
        let mut bytes = magic.to_vec();
        for field in [salt, 5, 9] {
            bytes.extend(field.to_le_bytes());
        }
        let mut chain = crc32c::crc32c(&bytes);
        bytes.extend(chain.to_le_bytes());
        for payload in [&b"\x03\0\0\0one"[..], b"", b"\x03\0\0\0two"] {
            let mut head = (payload.len() as u32).to_le_bytes().to_vec();
            head.extend(chain.to_le_bytes());
            chain = crc32c::crc32c(&[&salt.to_le_bytes()[..], &head, payload].concat());
            bytes.extend([&mark[..], &head, &chain.to_le_bytes(), payload].concat());
        }
        let parsed = format::parse(5, &[&bytes[..], &[0; 50]].concat().into());
        assert_eq!((parsed.first_seq, parsed.end), (9, End::Whole));
        assert_eq!(parsed.entries, [&b"one"[..], b"two"]);
        assert_eq!(format::salvage(&bytes.into()), parsed.entries);
    }
}
