//! What partitions cost that nobody reads or writes: memory, and nothing else.

use std::io;
use std::sync::atomic::AtomicU64;

use super::*;
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

/// A store whose every step is counted, with a clock that is moved by hand.
struct Watched {
    store: EdgeStore,
    disk: Counted,
    objects: Arc<Faulty>,
    clock: Arc<AtomicU64>,
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
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let now = clock.clone();
        let wall_clock: WallClock = Arc::new(move || now.load(Ordering::Relaxed));
        let config = Config { wall_clock, ..Config::new("", "cloud") };
        let store = EdgeStore::open_on(config, ground).await.unwrap();
        let mut spec = motion();
        spec.ttl = Some(serde_json::from_str(r#"{"seconds":3600,"column":"at"}"#).unwrap());
        store.create_table(&spec).await.unwrap();
        for round in 0..2 {
            let camera = |n: usize| row! {"camera": format!("c{n}"), "at": 1_000_000_000 + round};
            let rows: Vec<Row> = (0..partitions).map(camera).collect();
            store.put("motion", &rows).await.unwrap();
            if round == 0 {
                store.flush().await.unwrap();
            }
        }
        let watched = Watched { store, disk, objects, clock };
        watched.rest().await;
        watched
    }

    /// Waits until the log has been quiet for long, and everybody has had a turn.
    async fn rest(&self) {
        let quiet = || std::thread::sleep(Duration::from_millis(300));
        tokio::task::spawn_blocking(quiet).await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    /// True if its task still runs: asking for a timer would have ended it.
    fn is_well(&self) -> bool {
        crate::lock(&self.store.inner.flusher).as_ref().is_some_and(|task| !task.is_finished())
    }

    /// Requests to the disk and for objects so far.
    fn calls(&self) -> (u64, u64) {
        (self.disk.calls.load(Ordering::Relaxed), self.objects.calls())
    }

    /// The requests of one write to a partition of its own, and of its flush.
    async fn cost_of_another(&self) -> (u64, u64) {
        let before = self.calls();
        let row = row! {"camera": "busy", "at": 1_000_000_000};
        self.store.put("motion", &[row]).await.unwrap();
        // Those with changes are flushed as well, once.
        self.store.flush().await.unwrap();
        self.rest().await;
        let after = self.calls();
        (after.0 - before.0, after.1 - before.1)
    }
}

/// A runtime without a clock: whoever asks it for a timer panics. Counts how often it falls asleep.
fn without_timers<F: Future>(sleeps: &Arc<AtomicU64>, future: F) -> F::Output {
    let sleeps = sleeps.clone();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.on_thread_park(move || {
        sleeps.fetch_add(1, Ordering::Relaxed);
    });
    runtime.build().unwrap().block_on(future)
}

#[test]
fn idle_partitions_cost_no_disk_call_no_object_call_and_no_timer() {
    let sleeps = Arc::new(AtomicU64::new(0));
    let slept = sleeps.clone();
    without_timers(&sleeps, async move {
        let watched = Watched::with(300).await;
        assert_eq!(watched.store.tables()[0].partitions, 300);
        let (before, slept_before) = (watched.calls(), slept.load(Ordering::Relaxed));
        // A week, in which the rows outlive their time.
        for _ in 0..7 * 24 {
            watched.clock.fetch_add(3_600_000, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
        watched.rest().await;
        assert_eq!(watched.calls(), before, "of the disk, for objects");
        let woken = slept.load(Ordering::Relaxed) - slept_before;
        assert!(woken <= 2, "woken {woken} times, once by this test");
        assert!(watched.is_well(), "a timer was asked for");
    });
}

#[test]
fn a_partition_that_is_written_costs_the_same_beside_many_that_are_not() {
    let cost = |partitions: usize| {
        without_timers(&Arc::default(), async move {
            let watched = Watched::with(partitions).await;
            watched.store.flush().await.unwrap();
            watched.cost_of_another().await
        })
    };
    let (few, many) = (cost(1), cost(300));
    assert_eq!(few.1, many.1, "requests for objects");
    assert!(many.0 <= few.0 + 4, "{} and {} requests to the disk", few.0, many.0);
}
