//! What partitions cost that nobody reads or writes: memory, and nothing else.

use std::io;
use std::sync::atomic::AtomicU64;

use super::*;
use crate::runtime::seeded;
use crate::wal::disk::{Disk, DiskFile};

/// A disk that counts what it is asked for.
#[derive(Clone, Default)]
struct Counted {
    disk: MemDisk,
    calls: Arc<AtomicU64>,
}

struct CountedFile {
    file: Box<dyn DiskFile>,
    calls: Arc<AtomicU64>,
}

impl Counted {
    fn disk(&self) -> &MemDisk {
        self.calls.fetch_add(1, Ordering::Relaxed);
        &self.disk
    }

    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(CountedFile { file, calls: self.calls.clone() })
    }
}

impl Disk for Counted {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk().list()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.disk().read(name)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(self.disk().create(name)?))
    }

    fn reuse(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(self.disk().reuse(name)?))
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        self.disk().truncate(name, len)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk().rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk().remove(name)
    }
}

impl CountedFile {
    fn file(&mut self) -> &mut dyn DiskFile {
        self.calls.fetch_add(1, Ordering::Relaxed);
        &mut *self.file
    }
}

impl DiskFile for CountedFile {
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file().write(at, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file().sync()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file().cut(len)
    }
}

/// A store whose every request is counted.
struct Watched {
    store: EdgeStore,
    disk: Counted,
    objects: Arc<Faulty>,
}

impl Watched {
    /// With so many partitions that have lived: each was written twice and flushed once.
    async fn with(partitions: usize) -> Self {
        let (disk, objects) = (Counted::default(), Arc::new(Faulty::new(1)));
        let ground = Ground {
            disk: Arc::new(disk.clone()),
            objects: Objects::shared(objects.clone()),
            id: 1,
            lock: None,
        };
        let store = EdgeStore::open_on(Config::new("", "cloud"), ground).await.unwrap();
        let mut spec = motion();
        spec.ttl = Some(serde_json::from_str(r#"{"seconds":3600,"column":"at"}"#).unwrap());
        store.create_table(&spec).await.unwrap();
        for round in 0..2 {
            let camera = |n: usize| row! {"camera": format!("c{n}"), "at": now_us() + round};
            let rows: Vec<Row> = (0..partitions).map(camera).collect();
            store.put("motion", &rows).await.unwrap();
            if round == 0 {
                store.flush().await.unwrap();
            }
        }
        rest().await;
        Watched { store, disk, objects }
    }

    /// Requests to the disk and for objects so far.
    fn calls(&self) -> (u64, u64) {
        (self.disk.calls.load(Ordering::Relaxed), self.objects.calls())
    }

    /// The requests of one write to a partition of its own, and of its flush.
    async fn cost_of_another(&self) -> (u64, u64) {
        let before = self.calls();
        let row = row! {"camera": "busy", "at": now_us()};
        self.store.put("motion", &[row]).await.unwrap();
        // Those with changes are flushed as well, once.
        self.store.flush().await.unwrap();
        rest().await;
        let after = self.calls();
        (after.0 - before.0, after.1 - before.1)
    }
}

fn now_us() -> i64 {
    runtime::wall_ms() as i64 * 1_000
}

/// Until the log is sealed, and everything else is done.
async fn rest() {
    runtime::sleep(Duration::from_secs(1)).await;
}

#[test]
fn idle_partitions_cost_no_disk_call_no_object_call_and_no_timer() {
    seeded::by_seed(1, async {
        let watched = Watched::with(300).await;
        assert_eq!(watched.store.tables()[0].partitions, 300);
        let (calls, turns) = (watched.calls(), seeded::trace().turns);
        assert_eq!(seeded::timers(), 0, "somebody waits for a moment");
        // In which the rows outlive their time.
        let week = Duration::from_secs(7 * 24 * 3_600);
        runtime::sleep(week).await;
        assert_eq!(watched.calls(), calls, "of the disk, for objects");
        assert_eq!(seeded::trace().turns - turns, 1, "of this test alone");
    });
}

#[test]
fn a_partition_that_is_written_costs_the_same_beside_many_that_are_not() {
    let cost = |partitions: usize| {
        seeded::by_seed(1, async move {
            let watched = Watched::with(partitions).await;
            watched.store.flush().await.unwrap();
            watched.cost_of_another().await
        })
    };
    let (few, many) = (cost(1), cost(300));
    assert_eq!(few.1, many.1, "requests for objects");
    assert!(many.0 <= few.0 + 4, "{} and {} requests to the disk", few.0, many.0);
}
